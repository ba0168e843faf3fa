// What becomes of a backup: the new cluster and what is in it, and what is refused.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { appendFile, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { NodeOptions } from '../../src/host/api.ts';
import { openBackup } from '../../src/host/backup-directory.ts';
import { restoreBackup } from '../../src/host/backup-restore.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import type { Wal } from '../../src/ports/wal.ts';
import { systemClock } from '../../src/time/system-clock.ts';
import {
  backedUp,
  membersOf,
  opened,
  resealed,
  restored,
  restoreInto,
  textsOf,
  write,
} from '../support/backups.ts';
import { nodeCluster, text } from '../support/node-cluster.ts';

for (const nodes of [1, 3, 5]) {
  test(`everything that was acknowledged before a backup of three nodes is in a new cluster of ${nodes}`, async (t) => {
    await using old = await opened({ partitions: 2 });
    for (const name of ['x', 'y']) await write(old, name, 1);
    await write(old, 'z', 2);
    const { directory, manifest } = await backedUp(t, old, 'b');
    await write(old, 'later', 1);

    await using fresh = await restored(directory, { nodes, partitions: 2 });
    await fresh.leader(1);
    await fresh.leader(2);
    for (const nodeId of fresh.nodeIds) {
      assert.deepEqual(textsOf(fresh, nodeId, 1), ['x', 'y']);
      assert.deepEqual(textsOf(fresh, nodeId, 2), ['z']);
      const { partitions } = fresh.node(nodeId).status();
      for (const { partition, index } of manifest.partitions) {
        assert.equal(partitions[partition]?.compactedIndex, index);
      }
    }
    await write(fresh, 'new', 1);
    await fresh.converge(1);
    const [oldStatus, newStatus] = [old.node('a').status(), fresh.node('a').status()];
    assert.notEqual(newStatus.clusterId, oldStatus.clusterId);
    for (const nodeId of fresh.nodeIds) {
      assert.deepEqual(textsOf(fresh, nodeId, 1), ['x', 'y', 'new']);
      assert.equal(fresh.node(nodeId).status().clusterId, newStatus.clusterId);
      assert.deepEqual(fresh.node(nodeId).partitionIds(), [0, 1, 2]);
      assert.deepEqual(
        fresh
          .node(nodeId)
          .status()
          .roster.map((member) => member.nodeId),
        fresh.nodeIds,
      );
    }
  });
}

test('a restored node comes back after a crash, before and after it took part', async (t) => {
  await using old = await opened();
  await write(old, 'x');
  const { directory } = await backedUp(t, old, 'a');
  await using fresh = await restored(directory, {});
  await fresh.crash('b');
  await write(fresh, 'new');
  await fresh.restart('b');
  await fresh.converge();
  for (const nodeId of fresh.nodeIds) assert.deepEqual(textsOf(fresh, nodeId), ['x', 'new']);
});

test('timestamps of a restored cluster go on behind those of the old one', async (t) => {
  await using old = await opened();
  await old.run(60_000);
  await write(old, 'x');
  const { directory, manifest } = await backedUp(t, old, 'a');
  // The new cluster's clocks begin a minute earlier.
  await using fresh = await restored(directory, { nodes: 1 });
  await fresh.leader();
  const { timestamp } = await fresh.drive(fresh.node('a').replicate(1, 'put', text('new')));
  assert.ok(timestamp > manifest.timestamp);
  for (const partition of manifest.partitions) assert.ok(timestamp > partition.timestamp);
});

test('a partition without a state machine is copied as its log; changes of old members are not', async (t) => {
  const settings: Partial<NodeOptions> = {};
  await using old = await opened({ machine: undefined, settings });
  await write(old, 'x');
  const leader = await old.leader();
  const [removed] = old.followers(leader);
  assert.ok(removed !== undefined);
  const change = [{ kind: 'remove', nodeId: removed }] as const;
  await old.drive(old.node(leader).changeMembership(1, change));
  await write(old, 'y');
  const { directory, manifest } = await backedUp(t, old, leader);
  assert.deepEqual(
    manifest.partitions.map(({ kind }) => kind),
    ['state', 'log'],
  );

  const heard: string[] = [];
  const listeners = {
    entryRestored: ({ entry }: { readonly entry: { readonly data: Uint8Array } }) =>
      void heard.push(Buffer.from(entry.data).toString()),
  };
  await using fresh = await restored(directory, { machine: undefined, settings: { listeners } });
  assert.deepEqual(heard, ['x', 'y', 'x', 'y', 'x', 'y']);
  await fresh.leader();
  for (const nodeId of fresh.nodeIds) {
    const [, partition] = fresh.node(nodeId).status().partitions;
    assert.equal(partition?.confState.voters.length, 3);
    assert.ok((partition?.commitIndex ?? 0) >= (manifest.partitions[1]?.index ?? Infinity));
  }
  await write(fresh, 'new');
});

test('a state machine that cannot give its state gets the whole log again', async (t) => {
  const given = new Map<string, string[]>();
  const machine = (nodeId: string): StateMachine => {
    const texts: string[] = [];
    given.set(nodeId, texts);
    return {
      apply(entries) {
        texts.push(...entries.map(({ data }) => Buffer.from(data).toString()));
      },
    };
  };
  await using old = await opened({ nodes: 1, machine });
  for (let i = 0; i < 5; i++) await write(old, `${i}`);
  const { directory } = await backedUp(t, old, 'a');
  given.clear();
  await using fresh = await restored(directory, { nodes: 3, machine });
  await fresh.leader();
  for (const nodeId of fresh.nodeIds) assert.deepEqual(given.get(nodeId), '01234'.split(''));
});

test('a backup that is damaged, not whole or of a newer version is refused before anything is written', async (t) => {
  await using cluster = await opened({ nodes: 1, partitions: 2 });
  await write(cluster, 'x');
  const { directory } = await backedUp(t, cluster, 'a');
  const manifestPath = join(directory, 'manifest.json');
  const statePath = join(directory, 'partition-1.state');
  const [manifest, state] = [await readFile(manifestPath, 'utf8'), await readFile(statePath)];
  const target = nodeCluster({ nodes: 1, seed: 2, partitions: 2 });
  const refused = async (message: RegExp, from = directory): Promise<void> => {
    await assert.rejects(restoreInto(target, 'a', from), { code: 'BACKUP_CORRUPT', message });
    assert.equal(target.seat('a').disk.writeCount, 0);
    await writeFile(manifestPath, manifest).catch(() => {});
    await writeFile(statePath, state).catch(() => {});
  };
  await writeFile(statePath, state.with(0, 0x58));
  await refused(/the bytes of partition-1\.state are not those/);
  await appendFile(statePath, 'x');
  await refused(/partition-1\.state has \d+ bytes, expected \d+/);
  await rm(statePath);
  await refused(/there is no .*partition-1\.state/);
  await rm(manifestPath);
  await refused(/there is no .*manifest\.json/);
  await refused(/there is no .*manifest\.json/, manifestPath);
  const changes: readonly (readonly [string | RegExp, string, RegExp])[] = [
    ['"version":1', '"version":2', /it has version 2/],
    ['kommander backup', 'something else', /of another kind/],
    [/"sha256":"[0-9a-f]*"/, '"sha256":7', /bad "sha256"/],
    ['"kind":"state"', '"kind":"table"', /of the kind "table"/],
    ['"index":', '"index":-', /bad "index"/],
    ['"partition":2', '"partition":1', /not in order/],
    ['"partition":2', '"partition":3', /partitions of its partition map/],
    ['partition-2.state', '../partition-2.state', /names the file/],
    [/"parts":\[[^\]]*\]/, '"parts":[]', /the parts of a snapshot are not the whole/],
    [/"parts":\[[^\]]*\]/, '"parts":7', /bad "parts"/],
    ['{', '', /no JSON/],
  ];
  for (const [find, replace, message] of changes) {
    await writeFile(manifestPath, resealed(manifest.replace(find, replace)));
    await refused(message);
  }
  for (let at = 0; at < manifest.length; at += 3) {
    const changed = Buffer.from(manifest);
    changed[at] = (changed[at] as number) ^ 1;
    await writeFile(manifestPath, changed);
    await refused(/its manifest|it has version/);
  }
  await rename(directory, `${directory}.draft`);
  await refused(/interrupted/, `${directory}.draft`);
});

test('a state with a part that this version does not know is refused', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  const { directory } = await backedUp(t, cluster, 'a');
  const path = join(directory, 'manifest.json');
  const manifest = await readFile(path, 'utf8');
  await writeFile(path, resealed(manifest.replace('"name":"machine"', '"name":"sessions"')));
  await assert.rejects(restoreInto(nodeCluster({ nodes: 1 }), 'a', directory), {
    code: 'WAL_VERSION',
    message: /"sessions"/,
  });
});

test('a log with a gap, or with another end than the manifest says, is refused', async (t) => {
  await using cluster = await opened({ nodes: 1, machine: undefined });
  for (let i = 0; i < 3; i++) await write(cluster, `${i}`);
  const { directory, manifest } = await backedUp(t, cluster, 'a');
  const path = join(directory, 'manifest.json');
  const whole = await readFile(path, 'utf8');
  const end = manifest.partitions[1]?.index ?? 0;
  for (const [find, replace] of [
    ['"baseIndex":0', '"baseIndex":1'],
    ['"baseTerm":0', '"baseTerm":9'],
    [`"index":${end},"term"`, `"index":${end + 1},"term"`],
    ['"baseIndex":0', '"baseIndex":99'],
  ] as const) {
    const at = whole.indexOf('"partition":1');
    const changed = whole.slice(0, at) + whole.slice(at).replace(find, replace);
    assert.notEqual(changed, whole);
    await writeFile(path, resealed(changed));
    const target = nodeCluster({ nodes: 1, machine: undefined });
    await assert.rejects(restoreInto(target, 'a', directory), { code: 'BACKUP_CORRUPT' }, replace);
  }
});

test('a store is filled once, and only a durable one, for a member', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  const { directory } = await backedUp(t, cluster, 'a');
  const target = nodeCluster({ nodes: 1 });
  await restoreInto(target, 'a', directory);
  await assert.rejects(restoreInto(target, 'a', directory), {
    code: 'INVALID_OPTION',
    message: /empty store/,
  });
  const wal = { ...target.seat('a').disk.attach(systemClock), durable: false };
  await assert.rejects(restoreInto(target, 'a', directory, { wal }), {
    code: 'INVALID_OPTION',
    message: /durable/,
  });
  const members = membersOf(target);
  const options = { directory, wal, members, nodeId: 'b' };
  await assert.rejects(restoreBackup(options), { code: 'INVALID_OPTION', message: /"b"/ });
});

test('no node opens a store whose restore was interrupted', async (t) => {
  await using cluster = await opened({ nodes: 1, partitions: 2 });
  await write(cluster, 'x');
  const { directory } = await backedUp(t, cluster, 'a');
  for (let writes = 1; ; writes++) {
    const target = nodeCluster({ nodes: 1, partitions: 2 });
    const { disk } = target.seat('a');
    const wal = disk.attach(systemClock);
    let count = 0;
    const failing: Wal = {
      ...wal,
      async write(batch) {
        count += 1;
        if (count > writes) throw new Error('by the test');
        await wal.write(batch);
      },
    };
    const failure = await restoreInto(target, 'a', directory, { wal: failing }).catch(
      (error: unknown) => error,
    );
    if (!(failure instanceof Error)) {
      assert.ok(writes > 1, 'there is something to interrupt');
      break;
    }
    await disk.crash();
    await assert.rejects(target.open('a'), { code: 'WAL_CORRUPT', message: /interrupted/ });
  }
});

test('nodes that were filled from different backups, or from none, form no cluster', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  await write(cluster, 'x');
  const first = await backedUp(t, cluster, 'a');
  const second = await backedUp(t, cluster, 'a');
  const fresh = nodeCluster({ nodes: 3 });
  const ids = await Promise.all([
    restoreInto(fresh, 'a', first.directory),
    restoreInto(fresh, 'b', second.directory),
  ]);
  assert.notEqual(ids[0]?.clusterId, ids[1]?.clusterId);
  await fresh.openAll();
  await fresh.run(5_000);
  for (const nodeId of fresh.nodeIds) {
    assert.equal(fresh.node(nodeId).status().state, 'forming', nodeId);
  }
  await fresh[Symbol.asyncDispose]();
});

test('the hash of a manifest is that of its bytes', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  const { directory, manifest } = await backedUp(t, cluster, 'a');
  const one = await openBackup(directory);
  assert.deepEqual(one.manifest, manifest);
  const bytes = await readFile(join(directory, 'manifest.json'));
  assert.equal(one.manifestHash, createHash('sha256').update(bytes).digest('hex'));
});
