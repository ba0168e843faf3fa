// How much of a log is kept: holds with owners, the slowest replica of a partition without a state machine, and what
// the status says about it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogStatus } from '../../src/host/api.ts';
import { type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';

async function write(cluster: NodeCluster, count: number): Promise<void> {
  const leader = await cluster.leader();
  for (let i = 0; i < count; i++) {
    await cluster.drive(cluster.node(leader).replicate(1, 'put', text(`${i}`)));
  }
}

async function checkpoint(cluster: NodeCluster): Promise<number> {
  const leader = await cluster.leader();
  const { index } = await cluster.drive(cluster.node(leader).checkpoint(1));
  await cluster.converge();
  await cluster.time.settle();
  return index;
}

function logOf(cluster: NodeCluster, nodeId: string): LogStatus {
  const status = cluster.node(nodeId).status().partitions[1];
  assert.ok(status, 'the partition is there');
  return status.log;
}

function compactedIndex(cluster: NodeCluster, nodeId: string): number {
  return cluster.node(nodeId).status().partitions[1]?.compactedIndex ?? 0;
}

test('nothing at or above the lowest hold is compacted, and a hold is of its node alone', async () => {
  await using cluster = nodeCluster({ settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await write(cluster, 40);
  await cluster.converge();
  const node = cluster.node('b');
  using _later = node.retain(1, 30, 'backup');
  using _first = node.retain(1, 20, 'reader');
  await checkpoint(cluster);
  assert.equal(compactedIndex(cluster, 'b'), 19);
  assert.ok(compactedIndex(cluster, 'a') >= 40);
  assert.ok(compactedIndex(cluster, 'c') >= 40);
  assert.deepEqual(logOf(cluster, 'b').holds, [
    { owner: 'backup', fromIndex: 30 },
    { owner: 'reader', fromIndex: 20 },
  ]);
  assert.deepEqual(logOf(cluster, 'b').keptBy, { reason: 'hold', owner: 'reader', fromIndex: 20 });
  assert.deepEqual(logOf(cluster, 'a').holds, []);
});

test('what a hold kept is compacted as soon as it is released or moved', async () => {
  await using cluster = nodeCluster({ settings: { trailingEntries: 5 } });
  await cluster.openAll();
  await write(cluster, 40);
  await cluster.converge();
  const node = cluster.node('a');
  const reader = node.retain(1, 10, 'reader');
  const backup = node.retain(1, 25, 'backup');
  const index = await checkpoint(cluster);
  assert.equal(compactedIndex(cluster, 'a'), 9);
  reader.moveTo(20);
  assert.equal(reader.fromIndex, 20);
  assert.equal(compactedIndex(cluster, 'a'), 19);
  reader.moveTo(30);
  assert.equal(compactedIndex(cluster, 'a'), 24, 'the other one holds on');
  backup.release();
  assert.equal(compactedIndex(cluster, 'a'), 29);
  reader[Symbol.dispose]();
  reader.release();
  assert.equal(compactedIndex(cluster, 'a'), index - 5);
  assert.deepEqual(logOf(cluster, 'a').keptBy, { reason: 'trailingEntries' });
  await cluster.run(20);
  // What the store was told is what the core believes.
  await cluster.restart('a');
  assert.equal(compactedIndex(cluster, 'a'), index - 5);
  await write(cluster, 1);
  await cluster.converge();
});

test('a hold may begin at an entry that is not written yet, and may move back to what is still there', async () => {
  await using cluster = nodeCluster({ nodes: 1, settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await write(cluster, 10);
  const hold = cluster.node('a').retain(1, 1_000, 'reader');
  hold.moveTo(5);
  await checkpoint(cluster);
  assert.equal(compactedIndex(cluster, 'a'), 4);
  assert.throws(() => hold.moveTo(4), { code: 'INVALID_ARGUMENT', message: /begins at 5/ });
  assert.equal(hold.fromIndex, 5);
});

test('a hold that cannot be is refused in words', async () => {
  await using cluster = nodeCluster({ nodes: 1, settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await write(cluster, 10);
  await checkpoint(cluster);
  const node = cluster.node('a');
  const compacted = compactedIndex(cluster, 'a');
  assert.ok(compacted > 0);
  for (const bad of [0, -1, 1.5, Number.NaN, compacted]) {
    assert.throws(() => node.retain(1, bad, 'reader'), { code: 'INVALID_ARGUMENT' }, String(bad));
  }
  for (const owner of ['', 'x'.repeat(129), 7 as unknown as string]) {
    assert.throws(() => node.retain(1, 1_000, owner), { code: 'INVALID_ARGUMENT' });
  }
  assert.throws(() => node.retain(9, 1_000, 'reader'), { code: 'UNKNOWN_PARTITION' });
  assert.deepEqual(logOf(cluster, 'a').holds, []);
  const hold = node.retain(1, 1_000, 'x'.repeat(128));
  hold.release();
  assert.throws(() => hold.moveTo(2_000), { code: 'INVALID_ARGUMENT', message: /was released/ });
});

test('a partition has a bounded number of holds', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  const node = cluster.node('a');
  const holds = Array.from({ length: 64 }, (_, at) => node.retain(1, 1, `reader ${at}`));
  assert.throws(() => node.retain(1, 1, 'one more'), { code: 'TOO_MANY_HOLDS' });
  holds[0]?.release();
  node.retain(1, 1, 'one more').release();
  await cluster.close('a');
  assert.throws(() => node.retain(1, 1, 'late'), { code: 'NODE_CLOSED' });
  for (const hold of holds) hold.release();
});

test('a hold that moves on and on beside a disk that stands still does not fill the queue of the store', async () => {
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { trailingEntries: 0, inflightMessagesMax: 1 },
  });
  await cluster.openAll();
  await write(cluster, 60);
  const hold = cluster.node('a').retain(1, 2, 'reader');
  const index = await checkpoint(cluster);
  const { disk } = cluster.seat('a');
  disk.hold();
  for (let fromIndex = 3; fromIndex <= 50; fromIndex++) hold.moveTo(fromIndex);
  // One that is being written may be among the sixteen or beside them.
  const compacted = compactedIndex(cluster, 'a');
  assert.ok(compacted >= 17 && compacted <= 19, `compacted up to ${compacted}`);
  disk.release();
  await cluster.run(20);
  hold.release();
  assert.equal(compactedIndex(cluster, 'a'), index);
});

test('a restart forgets holds, and the next checkpoint compacts what they kept', async () => {
  await using cluster = nodeCluster({ nodes: 1, settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await write(cluster, 20);
  cluster.node('a').retain(1, 5, 'reader');
  await checkpoint(cluster);
  await cluster.restart('a');
  assert.equal(compactedIndex(cluster, 'a'), 4);
  assert.deepEqual(logOf(cluster, 'a').keptBy, { reason: 'nextCheckpoint' });
  await write(cluster, 1);
  await checkpoint(cluster);
  assert.ok(compactedIndex(cluster, 'a') > 20);
});

test('the status says that there was no checkpoint yet', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await write(cluster, 3);
  const { keptBy, entries, entriesSinceCheckpoint, checkpointIndex } = logOf(cluster, 'a');
  assert.deepEqual(keptBy, { reason: 'noCheckpoint' });
  assert.equal(entries, 4, 'with the first one of the leader');
  assert.equal(entriesSinceCheckpoint, 4);
  assert.equal(checkpointIndex, 0);
});

test('a log without a machine is compacted no further than every member has stored it', async () => {
  await using cluster = nodeCluster({ machine: undefined, settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await write(cluster, 10);
  await cluster.converge();
  const stored = cluster.node('c').status().partitions[1]?.lastIndex ?? 0;
  await cluster.crash('c');
  await write(cluster, 30);
  await checkpoint(cluster);
  for (const nodeId of ['a', 'b']) {
    assert.ok(compactedIndex(cluster, nodeId) > 0, 'what all have is compacted');
    assert.ok(compactedIndex(cluster, nodeId) <= stored, 'what one lacks is kept');
  }
  assert.deepEqual(logOf(cluster, 'a').keptBy, { reason: 'slowestReplica', nodeId: 'c' });
  assert.deepEqual(logOf(cluster, 'b').keptBy, { reason: 'slowestReplica', nodeId: undefined });
  const seen: number[] = [];
  await cluster.open('c', {
    listeners: { entryReplicated: ({ entry }) => void seen.push(entry.partitionId) },
  });
  await cluster.converge();
  assert.ok(seen.filter((partitionId) => partitionId === 1).length >= 30, 'it sees every entry');
  await write(cluster, 1);
  await cluster.run(50);
  await checkpoint(cluster);
  assert.ok(compactedIndex(cluster, 'a') > stored + 20);
});

test('a learner counts: it would lose the entries like anybody else', async () => {
  await using cluster = nodeCluster({ machine: undefined, settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').changeMembership(1, [{ kind: 'addLearner', nodeId: 'c' }]));
  await cluster.converge();
  const stored = cluster.node('c').status().partitions[1]?.lastIndex ?? 0;
  await cluster.crash('c');
  await write(cluster, 20);
  await checkpoint(cluster);
  assert.ok(compactedIndex(cluster, 'a') <= stored);
});

for (const how of ['a member that is further behind', 'a member that was added later'] as const) {
  test(`where a log without a machine begins later, ${how} goes on behind the base`, async () => {
    await using cluster = nodeCluster({
      machine: undefined,
      settings: { trailingEntries: 0, logOnlyCompaction: 'checkpoint' },
    });
    await cluster.openAll();
    await cluster.makeLeader('a');
    if (how === 'a member that was added later') {
      await cluster.drive(cluster.node('a').changeMembership(1, [{ kind: 'remove', nodeId: 'c' }]));
    }
    await cluster.crash('c');
    await write(cluster, 20);
    const index = await checkpoint(cluster);
    assert.ok(compactedIndex(cluster, 'a') >= index - 1);
    // A leader that has been restarted has its base still.
    await cluster.restart('a');
    await cluster.makeLeader('a');
    const seen: number[] = [];
    await cluster.open('c', {
      listeners: {
        entryReplicated({ entry }) {
          if (entry.partitionId === 1) seen.push(entry.index);
        },
      },
    });
    if (how === 'a member that was added later') {
      await cluster.drive(
        cluster.node('a').changeMembership(1, [{ kind: 'addVoter', nodeId: 'c' }]),
      );
    }
    await write(cluster, 3);
    await cluster.converge();
    assert.equal(seen.length, 3, 'it sees what was written since, and nothing of before');
    assert.ok((seen[0] ?? 0) > index);
    await cluster.restart('c');
    await write(cluster, 1);
    await cluster.converge();
  });
}

test('a log that was written without a machine does not get one when its beginning is gone', async () => {
  await using cluster = nodeCluster({
    nodes: 1,
    machine: undefined,
    settings: { trailingEntries: 0 },
  });
  await cluster.openAll();
  await write(cluster, 10);
  await checkpoint(cluster);
  await cluster.crash('a');
  const machine = { apply: () => undefined };
  const error = await cluster.driveFailure(cluster.open('a', { stateMachine: () => machine }));
  assert.equal(error.code, 'INVALID_OPTION');
  assert.match(error.message, /without one/);
});

test('a checkpoint that is passed on to the leader says what every member has stored', async () => {
  await using cluster = nodeCluster({ machine: undefined, settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await write(cluster, 10);
  await cluster.converge();
  await cluster.run(50);
  await cluster.drive(cluster.node('b').checkpoint(1));
  await cluster.converge();
  await cluster.time.settle();
  for (const nodeId of cluster.nodeIds) assert.ok(compactedIndex(cluster, nodeId) >= 10, nodeId);
});
