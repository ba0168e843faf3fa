// Backups of nodes that run, and what becomes of them: what is in one, what is refused, and the new cluster.

import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { NodeOptions } from '../../src/host/api.ts';
import { openBackup, saveBackup } from '../../src/host/backup-directory.ts';
import { type BackupManifest, FrameKind, frameOf } from '../../src/host/backup-format.ts';
import { type RestoreResult, restoreBackup } from '../../src/host/backup-restore.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import type { Wal } from '../../src/ports/wal.ts';
import { systemClock } from '../../src/time/system-clock.ts';
import { codeOf, type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'kommander-backup-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

async function write(cluster: NodeCluster, name: string, partitionId = 1): Promise<void> {
  const leader = await cluster.leader(partitionId);
  await cluster.drive(cluster.node(leader).replicate(partitionId, 'put', text(name)));
}

async function opened(options: Parameters<typeof nodeCluster>[0] = {}): Promise<NodeCluster> {
  const cluster = nodeCluster(options);
  await cluster.openAll();
  return cluster;
}

/** All pieces of a backup of `nodeId`. */
function piecesOf(cluster: NodeCluster, nodeId: string): Promise<readonly Uint8Array[]> {
  return cluster.drive(collected(cluster.node(nodeId).backup()));
}

/** The failure of a backup of `nodeId`. */
async function failureOf(cluster: NodeCluster, nodeId: string): Promise<string> {
  return codeOf(await cluster.driveFailure(collected(cluster.node(nodeId).backup())));
}

async function collected(backup: AsyncIterable<Uint8Array>): Promise<readonly Uint8Array[]> {
  const pieces: Uint8Array[] = [];
  for await (const piece of backup) pieces.push(piece);
  return pieces;
}

async function* streamOf(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array, undefined> {
  yield* pieces;
}

async function backedUp(
  t: TestContext,
  cluster: NodeCluster,
  nodeId: string,
): Promise<{ readonly directory: string; readonly manifest: BackupManifest }> {
  const directory = join(await folder(t), 'backup');
  const manifest = await saveBackup(streamOf(await piecesOf(cluster, nodeId)), directory);
  return { directory, manifest };
}

function membersOf(cluster: NodeCluster): Record<string, string> {
  return Object.fromEntries(
    [...cluster.seats.values()].map(({ nodeId, endpoint }) => [nodeId, endpoint]),
  );
}

function restoreInto(
  cluster: NodeCluster,
  nodeId: string,
  directory: string,
  over: { readonly wal?: Wal } = {},
): Promise<RestoreResult> {
  const wal = over.wal ?? cluster.seat(nodeId).disk.attach(systemClock);
  return restoreBackup({ directory, wal, nodeId, members: membersOf(cluster) });
}

/** A new cluster whose first members were all prepared from one backup. */
async function restored(
  directory: string,
  options: Parameters<typeof nodeCluster>[0],
): Promise<NodeCluster> {
  const cluster = nodeCluster({ seed: 2, ...options });
  for (const nodeId of cluster.nodeIds) await restoreInto(cluster, nodeId, directory);
  await cluster.openAll();
  return cluster;
}

function textsOf(cluster: NodeCluster, nodeId: string, partitionId = 1): readonly string[] {
  return cluster.journal(nodeId, partitionId).entries.map((entry) => entry.text);
}

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

test('a node that cannot hear from a leader gives no backup: it may lack what was acknowledged', async () => {
  await using cluster = await opened();
  await cluster.makeLeader('a');
  await cluster.converge();
  cluster.isolate(['c']);
  await write(cluster, 'x');
  const failure = await failureOf(cluster, 'c');
  assert.ok(['READ_TIMEOUT', 'NO_LEADER'].includes(failure), failure);
});

test('what was acknowledged elsewhere is in the backup of a follower that was behind', async (t) => {
  await using cluster = await opened();
  await cluster.makeLeader('a');
  cluster.isolate(['c']);
  await write(cluster, 'x');
  for (const other of ['a', 'b']) {
    cluster.network.setLink(other, 'c', 'up');
    cluster.network.setLink('c', other, 'up');
  }
  const { directory } = await backedUp(t, cluster, 'c');
  await using fresh = await restored(directory, { nodes: 1 });
  assert.deepEqual(textsOf(fresh, 'a'), ['x']);
});

test('one backup at a time; whoever stops taking pieces ends it', async () => {
  await using cluster = await opened({ nodes: 1 });
  await write(cluster, 'x');
  const first = cluster.node('a').backup()[Symbol.asyncIterator]();
  await cluster.drive(first.next());
  assert.equal(await failureOf(cluster, 'a'), 'QUEUE_FULL');
  await cluster.drive(Promise.resolve(first.return?.()));
  assert.ok((await piecesOf(cluster, 'a')).length > 0);
});

test('an idle partition gives the snapshot that it has; one that was written to takes another', async () => {
  let snapshots = 0;
  const machine = (): StateMachine => ({
    apply: () => undefined,
    snapshot: () => {
      snapshots += 1;
      return text('state');
    },
    restore: () => {},
  });
  await using cluster = await opened({ nodes: 1, machine });
  await write(cluster, 'x');
  await piecesOf(cluster, 'a');
  await piecesOf(cluster, 'a');
  assert.equal(snapshots, 1);
  await write(cluster, 'y');
  await piecesOf(cluster, 'a');
  assert.equal(snapshots, 2);
});

async function snapshotFiles(cluster: NodeCluster): Promise<readonly string[]> {
  const names = (await cluster.seat('a').disk.files.list()).map(({ name }) => name);
  return names.filter((name) => name.startsWith('p1-'));
}

test('a backup outlives snapshots that are taken meanwhile', async (t) => {
  await using cluster = await opened({ nodes: 1, settings: { trailingEntries: 0 } });
  await write(cluster, 'x');
  const backup = cluster.node('a').backup()[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  const isAt = (file: string): boolean =>
    pieces.some((piece) => Buffer.from(piece).toString() === file);
  const take = async (): Promise<boolean> => {
    const next = await cluster.drive(backup.next());
    if (next.done !== true) pieces.push(next.value);
    return next.done !== true;
  };
  while (!isAt('partition-1.state')) assert.ok(await take());
  await write(cluster, 'y');
  await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.time.settle();
  assert.equal((await snapshotFiles(cluster)).length, 2, 'the one that is copied stays');
  while (await take());
  const directory = join(await folder(t), 'backup');
  await saveBackup(streamOf(pieces), directory);
  await using fresh = await restored(directory, { nodes: 1 });
  assert.deepEqual(textsOf(fresh, 'a'), ['x']);
  assert.equal((await snapshotFiles(cluster)).length, 1, 'nobody needs the other one any more');
});

test('the log of a partition without a machine is not compacted while it is copied', async (t) => {
  await using cluster = await opened({
    nodes: 1,
    machine: undefined,
    settings: { trailingEntries: 0 },
  });
  for (let i = 0; i < 5; i++) await write(cluster, `${i}`);
  const node = cluster.node('a');
  const compactedIndex = (): number | undefined => node.status().partitions[1]?.compactedIndex;
  const backup = node.backup()[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  let isCompacting = false;
  for (;;) {
    const next = await cluster.drive(backup.next());
    if (next.done === true) break;
    pieces.push(next.value);
    if (Buffer.from(next.value).toString() !== 'partition-1.log') continue;
    isCompacting = true;
    await cluster.drive(node.checkpoint(1));
    await cluster.time.settle();
    assert.equal(compactedIndex(), 0);
  }
  assert.ok(isCompacting);
  const directory = join(await folder(t), 'backup');
  await saveBackup(streamOf(pieces), directory);
  await cluster.drive(node.checkpoint(1));
  await cluster.time.settle();
  assert.ok((compactedIndex() ?? 0) > 0, 'the hold was released');
  // And a log that begins later is copied from there on.
  await write(cluster, 'last');
  const later = await backedUp(t, cluster, 'a');
  await using fresh = await restored(later.directory, { nodes: 3, machine: undefined });
  await write(fresh, 'new');
  for (const nodeId of fresh.nodeIds) {
    assert.ok((fresh.node(nodeId).status().partitions[1]?.compactedIndex ?? 0) > 0, nodeId);
  }
});

test('a disk without room for the snapshot, an abort, a node that closes: the backup says so', async () => {
  await using cluster = await opened({ nodes: 1 });
  await write(cluster, 'x');
  cluster.seat('a').disk.snapshotState = 'full';
  assert.equal(await failureOf(cluster, 'a'), 'DISK_FULL');
  cluster.seat('a').disk.snapshotState = 'good';
  const abort = new AbortController();
  const aborted = cluster.node('a').backup({ signal: abort.signal })[Symbol.asyncIterator]();
  await cluster.drive(aborted.next());
  abort.abort();
  const rest = async (): Promise<void> => {
    while ((await aborted.next()).done !== true);
  };
  assert.equal(codeOf(await cluster.driveFailure(rest())), 'ABORTED');
  const closing = cluster.node('a').backup()[Symbol.asyncIterator]();
  await cluster.drive(closing.next());
  const { node } = cluster.seat('a');
  await cluster.close('a');
  const closed = async (): Promise<void> => {
    while ((await closing.next()).done !== true);
  };
  assert.equal(codeOf(await cluster.driveFailure(closed())), 'NODE_CLOSED');
  assert.ok(node !== undefined);
  const late = collected(node.backup());
  assert.equal(codeOf(await cluster.driveFailure(late)), 'NODE_CLOSED');
});

test('a state machine that cannot give its state stops its replica and ends the backup', async () => {
  const machine = (): StateMachine => ({
    apply: () => undefined,
    snapshot() {
      throw new Error('by the test');
    },
    restore: () => {},
  });
  await using cluster = await opened({ nodes: 1, machine });
  await write(cluster, 'x');
  assert.equal(await failureOf(cluster, 'a'), 'APPLY_FAILED');
  assert.equal(await failureOf(cluster, 'a'), 'APPLY_FAILED');
});

test('a stream that is cut off anywhere, changed or lengthened is no backup and leaves nothing', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  await write(cluster, 'some text that can be damaged');
  const bytes = Buffer.concat(await piecesOf(cluster, 'a'));
  const path = await folder(t);
  const refused = async (stream: readonly Uint8Array[], what: string): Promise<void> => {
    const error = await saveBackup(streamOf(stream), join(path, 'backup')).catch(
      (reason: unknown) => reason,
    );
    assert.equal(codeOf(error), 'BACKUP_CORRUPT', what);
    assert.deepEqual(await readdir(path), [], what);
  };
  for (let end = 0; end < bytes.byteLength; end += 37) {
    await refused([bytes.subarray(0, end)], `cut at ${end}`);
  }
  const at = bytes.indexOf('that can be');
  const changed = Buffer.from(bytes);
  changed[at] = 0x58;
  await refused([changed], 'a changed byte');
  await refused([...frameOf(FrameKind.bytes, text('x')), bytes], 'bytes of no file');
  await refused([...frameOf(FrameKind.file, text('../x')), bytes], 'a file elsewhere');
  const extra = [...frameOf(FrameKind.file, text('partition-7.log')), bytes];
  await refused(extra, 'a file that the manifest does not name');
  const twice = [...frameOf(FrameKind.file, text('partition-0.state')), bytes];
  await refused(twice, 'a file that comes twice');
  await refused([Uint8Array.of(9, 0, 0, 0, 0)], 'a frame of an unknown kind');
  await refused([Uint8Array.of(FrameKind.file, 65, 0, 0, 0)], 'a name that is too long');
  await refused([Uint8Array.of(FrameKind.bytes, 1, 0, 0, 4)], 'a frame that is too long');
  await refused([...frameOf(FrameKind.manifest, text('{}'))], 'a manifest that is none');
  const mute = [...frameOf(FrameKind.failure, text('no JSON'))];
  await refused(mute, 'a failure that says nothing');
});

test('a stream comes in pieces of any length, and what its node tells becomes an error', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  await write(cluster, 'x');
  const bytes = Buffer.concat(await piecesOf(cluster, 'a'));
  const directory = join(await folder(t), 'backup');
  await saveBackup(streamOf([...bytes].map((byte) => Uint8Array.of(byte))), directory);
  assert.deepEqual((await readdir(directory)).sort(), [
    'manifest.json',
    'partition-0.state',
    'partition-1.state',
  ]);
  const told = JSON.stringify({ code: 'DISK_FULL', message: 'no room', details: {} });
  const failed = saveBackup(
    streamOf([...frameOf(FrameKind.failure, text(told))]),
    `${directory}-2`,
  );
  await assert.rejects(failed, { code: 'DISK_FULL', message: 'no room' });
});

test('until it is whole, a backup has the name of a draft', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  const pieces = await piecesOf(cluster, 'a');
  const path = await folder(t);
  const seen = new Set<string>();
  async function* watched(): AsyncGenerator<Uint8Array, undefined> {
    for (const piece of pieces) {
      for (const name of await readdir(path)) seen.add(name);
      yield piece;
    }
  }
  await saveBackup(watched(), join(path, 'backup'));
  assert.deepEqual([...seen], ['backup.draft']);
  assert.deepEqual(await readdir(path), ['backup']);
});

test('a backup is not written over another one, nor over what an interrupted one left', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  const { directory } = await backedUp(t, cluster, 'a');
  await assert.rejects(saveBackup(streamOf([]), directory), {
    code: 'INVALID_ARGUMENT',
    message: /there already/,
  });
  await rename(directory, `${directory}.draft`);
  await assert.rejects(saveBackup(streamOf([]), directory), {
    code: 'INVALID_ARGUMENT',
    message: /interrupted/,
  });
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
    await writeFile(manifestPath, manifest.replace(find, replace));
    await refused(message);
  }
  await rename(directory, `${directory}.draft`);
  await refused(/interrupted/, `${directory}.draft`);
});

test('a state with a part that this version does not know is refused', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  const { directory } = await backedUp(t, cluster, 'a');
  const path = join(directory, 'manifest.json');
  const manifest = await readFile(path, 'utf8');
  await writeFile(path, manifest.replace('"name":"machine"', '"name":"sessions"'));
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
    await writeFile(path, changed);
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
  await appendFile(join(directory, 'manifest.json'), ' ');
  assert.notEqual((await openBackup(directory)).manifestHash, one.manifestHash);
});
