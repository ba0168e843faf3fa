// State machines that keep their state on a disk themselves (`appliedIndex`): what they are given after a restart, when
// they are asked for a snapshot, and what becomes of the log below.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { utf8Bytes, utf8Text } from '../../src/base/bytes.ts';
import { KommanderError } from '../../src/base/errors.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { NodeOptions } from '../../src/host/api.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import type { WalEvents } from '../../src/ports/wal.ts';
import { electionMs, type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';

/** What one machine has on its disk: the texts of all entries, and the index of the last one. */
interface Stored {
  readonly index: number;
  readonly texts: readonly string[];
}

const nothing: Stored = { index: 0, texts: [] };

/** A disk for the machine of one node. */
interface MachineDisk {
  synced: Stored;
  /** What is written; a power loss takes it. */
  written: Stored;
  /** Entries after which it syncs by itself. */
  syncEvery: number;
  snapshotCount: number;
  restoreCount: number;
  /** Indexes that it was given, over all lives. */
  readonly given: number[];
}

function machineDisk(): MachineDisk {
  return {
    synced: nothing,
    written: nothing,
    syncEvery: 1,
    snapshotCount: 0,
    restoreCount: 0,
    given: [],
  };
}

function machineOn(disk: MachineDisk): StateMachine {
  return {
    apply(entries) {
      for (const { index, data } of entries) {
        disk.given.push(index);
        assert.ok(index > disk.written.index, `entry ${index} after ${disk.written.index}`);
        disk.written = { index, texts: [...disk.written.texts, utf8Text(data)] };
        if (disk.written.texts.length % disk.syncEvery === 0) disk.synced = disk.written;
      }
    },
    appliedIndex: () => disk.synced.index,
    snapshot() {
      disk.snapshotCount += 1;
      return [utf8Bytes(JSON.stringify(disk.written))];
    },
    async restore(data) {
      disk.restoreCount += 1;
      // As `docs/guides/state-machines.md` allows: an index of 0 until it is done.
      disk.written = nothing;
      disk.synced = nothing;
      disk.written = JSON.parse(utf8Text(await data.bytes())) as Stored;
      disk.synced = disk.written;
    },
  };
}

interface OnDisk {
  readonly cluster: NodeCluster;
  readonly disks: ReadonlyMap<string, MachineDisk>;
  readonly disk: (nodeId: string) => MachineDisk;
  /** The machine's power goes with its node's. */
  readonly losePower: (nodeId: string) => Promise<void>;
}

function onDisk(settings: Partial<NodeOptions> = {}): OnDisk {
  const disks = new Map(['a', 'b', 'c'].map((nodeId) => [nodeId, machineDisk()]));
  const disk = (nodeId: string): MachineDisk =>
    disks.get(nodeId) ?? assert.fail(`there is no node ${nodeId}`);
  const cluster = nodeCluster({
    settings: { trailingEntries: 0, ...settings },
    machine: (nodeId) => machineOn(disk(nodeId)),
  });
  return {
    cluster,
    disks,
    disk,
    async losePower(nodeId) {
      await cluster.crash(nodeId);
      const own = disk(nodeId);
      own.written = own.synced;
    },
  };
}

async function write(cluster: NodeCluster, nodeId: string, count = 1): Promise<void> {
  for (let i = 0; i < count; i++) {
    await cluster.drive(cluster.node(nodeId).replicate(1, 'put', text(`${i}`)));
  }
}

async function checkpoint(cluster: NodeCluster, nodeId: string): Promise<void> {
  await cluster.drive(cluster.node(nodeId).checkpoint(1));
  await cluster.run(20);
}

function compacted(cluster: NodeCluster, nodeId: string): number {
  return cluster.node(nodeId).status().partitions[1]?.compactedIndex ?? 0;
}

test('a checkpoint compacts the log without a snapshot, and a restart gives nothing again', async () => {
  const { cluster, disk } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  await write(cluster, 'a', 10);
  await checkpoint(cluster, 'a');
  await write(cluster, 'a', 5);
  await cluster.converge();
  assert.ok(compacted(cluster, 'b') > 10);
  await cluster.close('b');
  await cluster.open('b');
  await cluster.leader();
  await write(cluster, 'a', 1);
  await cluster.converge();
  for (const { given, snapshotCount, restoreCount, written } of [disk('a'), disk('b')]) {
    assert.equal(new Set(given).size, given.length, 'no entry twice');
    assert.equal(written.texts.length, 16);
    assert.deepEqual([snapshotCount, restoreCount], [0, 0]);
  }
});

test('after a power loss it is given exactly what its disk does not have', async () => {
  const { cluster, disk, losePower } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  disk('b').syncEvery = 7;
  await write(cluster, 'a', 25);
  await cluster.converge();
  const { index } = disk('b').synced;
  await losePower('b');
  const before = disk('b').given.length;
  await cluster.open('b');
  await cluster.converge();
  const again = disk('b').given.slice(before);
  assert.equal(again.length, 25 - 21);
  assert.ok(again.every((given) => given > index));
  assert.deepEqual(disk('b').written, disk('a').written);
});

test('the log is compacted no further than what the machine has for certain', async () => {
  const { cluster, disk, losePower } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  disk('b').syncEvery = 10;
  await write(cluster, 'a', 15);
  await cluster.converge();
  await checkpoint(cluster, 'a');
  assert.equal(compacted(cluster, 'b'), disk('b').synced.index);
  assert.ok(compacted(cluster, 'a') > compacted(cluster, 'b'), 'a has everything');
  await losePower('b');
  await cluster.open('b');
  await cluster.converge();
  assert.deepEqual(disk('b').written, disk('a').written);
});

test('what a machine that has nothing for certain was given is not compacted', async () => {
  const { cluster, disk } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (const own of [disk('a'), disk('b'), disk('c')]) own.syncEvery = 1_000;
  await write(cluster, 'a', 5);
  await checkpoint(cluster, 'a');
  assert.equal(compacted(cluster, 'a'), 0);
});

test('members that changed behind what the machine has keep their place: the next checkpoint compacts', async () => {
  const { cluster, disk, losePower } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (const own of [disk('a'), disk('b')]) own.syncEvery = 4;
  await write(cluster, 'a', 5);
  const removal = [{ kind: 'remove', nodeId: 'c' }] as const;
  await cluster.drive(cluster.node('a').changeMembership(1, removal));
  await write(cluster, 'a', 1);
  await checkpoint(cluster, 'a');
  assert.equal(compacted(cluster, 'a'), 0, 'the members at its entry are not known any more');
  await write(cluster, 'a', 2);
  await checkpoint(cluster, 'a');
  assert.ok(compacted(cluster, 'a') > 0);
  for (const nodeId of ['a', 'b']) {
    await losePower(nodeId);
    await cluster.open(nodeId);
  }
  await cluster.until(() => ['a', 'b'].some((id) => cluster.node(id).isLeader(1)), 'one leads');
  assert.deepEqual(cluster.node('a').status().partitions[1]?.confState.voters, [1, 2]);
});

test('a replica that is far behind makes its leader take one snapshot, and a restart of it restores nothing', async () => {
  const { cluster, disk } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  await write(cluster, 'a', 10);
  await checkpoint(cluster, 'a');
  await cluster.open('c');
  await cluster.converge();
  assert.equal(disk('a').snapshotCount, 1);
  assert.equal(disk('b').snapshotCount, 0);
  assert.equal(disk('c').restoreCount, 1);
  assert.deepEqual(disk('c').written, disk('a').written);
  await cluster.restart('c');
  await cluster.restart('a');
  await cluster.leader();
  await write(cluster, 'b', 1);
  await cluster.converge();
  assert.equal(disk('c').restoreCount, 1);
  assert.equal(disk('a').restoreCount, 0);
  assert.deepEqual(disk('c').written, disk('a').written);
});

test('a snapshot for a peer that is older than a later checkpoint is taken anew', async () => {
  const { cluster, disk } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (let round = 1; round <= 3; round++) {
    await cluster.crash('c');
    await write(cluster, 'a', 5);
    await checkpoint(cluster, 'a');
    await cluster.open('c');
    await cluster.converge();
    assert.equal(disk('c').restoreCount, round);
  }
  assert.equal(disk('a').snapshotCount, 3);
  const names = (await cluster.seat('a').disk.files.list()).filter(({ name }) =>
    name.startsWith('p1-'),
  );
  assert.equal(names.length, 1, 'and the older ones are gone');
});

test('a machine whose disk does not have what the log has let go of keeps its node from opening', async () => {
  const { cluster, disk } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  await write(cluster, 'a', 5);
  await checkpoint(cluster, 'a');
  await cluster.crash('b');
  Object.assign(disk('b'), { synced: nothing, written: nothing });
  const error = await cluster.driveFailure(cluster.open('b'));
  assert.equal(error.code, 'APPLY_FAILED');
  assert.match(error.message, /its store was lost/);
});

test('a restore that was broken off by a crash is done again at the next start', async () => {
  const { cluster, disk } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  await write(cluster, 'a', 10);
  await checkpoint(cluster, 'a');
  await cluster.open('c');
  await cluster.until(() => disk('c').restoreCount === 1, 'c restores');
  await cluster.run(20);
  await cluster.crash('c');
  // The machine never came to the end of it.
  Object.assign(disk('c'), { synced: nothing, written: nothing });
  await cluster.open('c');
  assert.equal(disk('c').restoreCount, 2);
  await cluster.converge();
  assert.deepEqual(disk('c').written, disk('a').written);
});

test('a restore begins when the log is ready to begin behind it, so that a crash leaves one of the two states', async () => {
  const { cluster, disk } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  await write(cluster, 'a', 5);
  await checkpoint(cluster, 'a');
  assert.ok(compacted(cluster, 'c') > 0, 'c cannot begin without what its machine has');
  await cluster.crash('c');
  await write(cluster, 'a', 10);
  await checkpoint(cluster, 'a');
  await cluster.open('c');
  cluster.seat('c').disk.latencyMs = 20;
  await cluster.until(() => disk('c').restoreCount === 1, 'c restores');
  await cluster.crash('c');
  // The machine has let go of what it had, and never came to the end of it.
  Object.assign(disk('c'), { synced: nothing, written: nothing });
  await cluster.open('c');
  await cluster.converge();
  assert.deepEqual(disk('c').written, disk('a').written);
});

test('a snapshot of a machine that has more than its log knows to be committed gives no entry twice', async () => {
  const { cluster, disk } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  await write(cluster, 'a', 5);
  await checkpoint(cluster, 'a');
  await write(cluster, 'a', 10);
  await cluster.crash('a');
  await cluster.crash('b');
  // Without c, which needs a snapshot first, a commits nothing: it learns of no entry that its machine has already.
  await cluster.open('a');
  const { lastApplied = 0 } = cluster.node('a').status().partitions[1] ?? {};
  assert.ok(lastApplied < disk('a').synced.index, 'the commit index was not stored');
  await cluster.open('c');
  await cluster.until(() => disk('c').restoreCount === 1, 'c restores');
  await cluster.converge();
  await write(cluster, 'a', 1);
  await cluster.converge();
  assert.equal(disk('c').written.texts.length, 16);
  assert.deepEqual(disk('c').written, disk('a').written);
  await cluster.restart('c');
  await cluster.leader();
  await write(cluster, 'a', 1);
  await cluster.converge();
  assert.deepEqual(disk('c').written, disk('a').written);
});

test('a snapshot for a peer that did not fit on the disk is not taken again at once', async () => {
  const { cluster, disk } = onDisk();
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  await write(cluster, 'a', 5);
  await checkpoint(cluster, 'a');
  cluster.seat('a').disk.snapshotState = 'full';
  await cluster.open('c');
  await cluster.until(() => disk('a').snapshotCount === 1, 'a takes one');
  await cluster.run(100 * electionMs);
  assert.ok(disk('a').snapshotCount <= 11, `${disk('a').snapshotCount} snapshots`);
  assert.ok(disk('a').snapshotCount > 5, `${disk('a').snapshotCount} snapshots`);
  cluster.seat('a').disk.snapshotState = 'good';
  await cluster.converge();
  assert.deepEqual(disk('c').written, disk('a').written);
});

test('a replica that stops while its machine says how far it is compacts nothing any more', async () => {
  let answer: ((index: number) => void) | undefined;
  let isHeld = false;
  const disk = machineDisk();
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { trailingEntries: 0 },
    machine: () => ({
      ...machineOn(disk),
      appliedIndex: () =>
        isHeld ? new Promise<number>((resolve) => (answer = resolve)) : disk.synced.index,
    }),
  });
  const seat = cluster.seat('a');
  let damaged: WalEvents['damaged'] | undefined;
  await cluster.open('a', {
    get wal() {
      assert.ok(seat.clock !== undefined);
      const inner = seat.disk.attach(seat.clock);
      const open: typeof inner.open = (events) => {
        damaged = events?.damaged.bind(events);
        return inner.open(events);
      };
      return { ...inner, open };
    },
  });
  await write(cluster, 'a', 10);
  isHeld = true;
  const checkpointed = cluster.driveFailure(cluster.node('a').checkpoint(1));
  await cluster.until(() => answer !== undefined, 'the machine is asked');
  damaged?.(1, new KommanderError('by the test', { code: 'WAL_CORRUPT' }));
  await checkpointed;
  const count = seat.disk.batches.length;
  answer?.(disk.synced.index);
  await cluster.run(50);
  const later = seat.disk.batches.slice(count).flatMap(({ writes }) => writes);
  assert.deepEqual(
    later.filter(({ partitionId }) => partitionId === 1),
    [],
  );
});

for (const answer of [-1, 1.5, '7', undefined]) {
  test(`a machine that says ${JSON.stringify(answer)} for its index keeps its node from opening`, async () => {
    const machine = { ...machineOn(machineDisk()), appliedIndex: () => answer as number };
    await using cluster = nodeCluster({ nodes: 1, machine: () => machine });
    const error = await cluster.driveFailure(cluster.open('a'));
    assert.equal(error.code, 'APPLY_FAILED');
    assert.match(error.message, /appliedIndex\(\)/);
  });
}

for (const missing of ['snapshot', 'restore'] as const) {
  test(`a machine with an index and no ${missing} is refused: no other replica could be helped`, async () => {
    const { [missing]: _, ...machine } = machineOn(machineDisk()) as Required<StateMachine>;
    await using cluster = nodeCluster({ nodes: 1, machine: () => machine });
    const error = await cluster.driveFailure(cluster.open('a'));
    assert.equal(error.code, 'INVALID_OPTION');
  });
}

for (let seed = 1; seed <= 8; seed++) {
  test(`machines on disks stay equal over power losses, checkpoints and snapshots (seed ${seed})`, async () => {
    const random = seededRandom(seed);
    const { cluster, disk, losePower } = onDisk({ trailingEntries: random.below(4) });
    await using _ = cluster;
    await cluster.openAll();
    const ids = ['a', 'b', 'c'];
    for (const nodeId of ids) disk(nodeId).syncEvery = 1 + random.below(6);
    for (let round = 0; round < 12; round++) {
      const leader = await cluster.leader();
      const victim = ids[random.below(3)] ?? 'a';
      await write(cluster, leader, 1 + random.below(8));
      if (random.below(2) === 0) await checkpoint(cluster, leader);
      await losePower(victim);
      if (victim !== leader) {
        await write(cluster, leader, random.below(8));
        if (random.below(2) === 0) await checkpoint(cluster, leader);
      }
      await cluster.run(random.below(electionMs));
      await cluster.open(victim);
    }
    await cluster.leader();
    await cluster.converge();
    for (const nodeId of ids) assert.deepEqual(disk(nodeId).written, disk('a').written, nodeId);
  });
}
