// Checkpoints that nobody asks for: when they are due, who makes them, how many at a time, and what becomes of one that
// fails. All under virtual time.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogStatus } from '../../src/host/api.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import { electionMs, type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';

function logOf(cluster: NodeCluster, nodeId: string, partitionId = 1): LogStatus {
  const status = cluster.node(nodeId).status().partitions[partitionId];
  assert.ok(status, 'the partition is there');
  return status.log;
}

function compactedIndex(cluster: NodeCluster, nodeId: string, partitionId = 1): number {
  return cluster.node(nodeId).status().partitions[partitionId]?.compactedIndex ?? 0;
}

/** Automatic checkpoints that a node has reported: made, or failed. */
function reported(cluster: NodeCluster, nodeId: string, name = 'checkpoint-made'): number[] {
  return cluster
    .seat(nodeId)
    .observed.filter((event) => event.name === name)
    .map(({ fields }) => Number(fields.partitionId));
}

function madeByAll(cluster: NodeCluster): number[] {
  return cluster.nodeIds.flatMap((nodeId) => reported(cluster, nodeId));
}

async function write(
  cluster: NodeCluster,
  count: number,
  { partitionId = 1, data = 'x' }: { readonly partitionId?: number; readonly data?: string } = {},
): Promise<void> {
  const leader = await cluster.leader(partitionId);
  for (let i = 0; i < count; i++) {
    await cluster.drive(cluster.node(leader).replicate(partitionId, 'put', text(data)));
  }
}

/** A state of a given size. */
function sizedMachine(bytes: number): StateMachine {
  return {
    apply: () => undefined,
    snapshot: () => new Uint8Array(bytes),
    restore: () => {},
  };
}

test('a log that has grown by the number of entries gets one checkpoint, which compacts it everywhere', async () => {
  await using cluster = nodeCluster({ settings: { checkpointEntries: 50, trailingEntries: 10 } });
  await cluster.openAll();
  await write(cluster, 45);
  await cluster.run(20 * electionMs);
  assert.deepEqual(madeByAll(cluster), [], 'it is not due yet');
  await write(cluster, 10);
  await cluster.until(() => madeByAll(cluster).length > 0, 'a checkpoint is made');
  await cluster.converge();
  await cluster.run(20 * electionMs);
  assert.deepEqual(madeByAll(cluster), [1], 'one entry serves all replicas, and nothing follows');
  for (const nodeId of cluster.nodeIds) {
    const { checkpointIndex, entries } = logOf(cluster, nodeId);
    assert.ok(checkpointIndex > 50);
    assert.equal(compactedIndex(cluster, nodeId), checkpointIndex - 10);
    assert.ok(entries <= 20, `${entries} entries`);
  }
});

test('what was written before a checkpoint does not count for the next one', async () => {
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { checkpointEntries: 50 },
    machine: () => sizedMachine(100),
  });
  await cluster.openAll();
  await write(cluster, 60);
  await cluster.until(() => madeByAll(cluster).length === 1, 'a checkpoint is made');
  for (let i = 0; i < 4; i++) {
    await write(cluster, 10);
    await cluster.run(2 * electionMs);
  }
  assert.equal(madeByAll(cluster).length, 1);
  assert.equal(logOf(cluster, 'a').entriesSinceCheckpoint, 40);
});

test('a log that has grown by the number of bytes gets a checkpoint', async () => {
  await using cluster = nodeCluster({ settings: { checkpointBytes: 50_000 } });
  await cluster.openAll();
  await write(cluster, 4, { data: 'x'.repeat(10_000) });
  await cluster.run(5 * electionMs);
  assert.deepEqual(madeByAll(cluster), []);
  await write(cluster, 1, { data: 'x'.repeat(10_000) });
  await cluster.until(() => madeByAll(cluster).length > 0, 'a checkpoint is made');
});

test('each of the two bounds is off when it is 0', async () => {
  const settings = { checkpointBytes: 0, checkpointEntries: 0 };
  await using cluster = nodeCluster({ nodes: 1, settings });
  await cluster.openAll();
  await write(cluster, 300, { data: 'x'.repeat(1_000) });
  await cluster.run(20 * electionMs);
  assert.deepEqual(madeByAll(cluster), []);
  assert.ok(logOf(cluster, 'a').bytesSinceCheckpoint > 300_000);
});

test('a log without a pause between its writes is checkpointed again and again, and stays short', async () => {
  await using cluster = nodeCluster({
    settings: {
      checkpointEntries: 200,
      trailingEntries: 0,
      queuedEntriesMax: 20,
      uncommittedBytesMax: 1_048_576,
    },
    machine: () => sizedMachine(100),
  });
  await cluster.openAll();
  const leader = await cluster.leader();
  for (const seat of cluster.seats.values()) seat.disk.latencyMs = 2;
  let isOver = false;
  const writer = async (): Promise<void> => {
    while (!isOver) {
      await cluster
        .node(leader)
        .replicate(1, 'put', text('x'))
        .catch((error: unknown) => {
          assert.equal((error as { code?: string }).code, 'QUEUE_FULL');
          return new Promise<void>((resolve) => {
            cluster.seat(leader).clock?.setTimer(1, resolve);
          });
        });
    }
  };
  const writers = Promise.all(Array.from({ length: 40 }, writer));
  let longest = 0;
  let fullCount = 0;
  for (let i = 0; i < 300; i++) {
    await cluster.run(10);
    longest = Math.max(longest, logOf(cluster, leader).entries);
    const waiting = cluster.node(leader).status().partitions[1]?.queuedProposals ?? 0;
    if (waiting >= 20) fullCount += 1;
  }
  isOver = true;
  await cluster.drive(writers);
  assert.ok(fullCount > 100, `the queue was full ${fullCount} times`);
  assert.ok(reported(cluster, leader).length >= 10, `${reported(cluster, leader).length} made`);
  assert.ok(longest < 600, `the log had ${longest} entries`);
});

test('a checkpoint needs no room in a full queue, but a flood of them meets the bound', async () => {
  await using cluster = nodeCluster({ settings: { queuedEntriesMax: 3 } });
  await cluster.openAll();
  const leader = await cluster.leader();
  const node = cluster.node(leader);
  for (const seat of cluster.seats.values()) seat.disk.hold();
  const writes = Array.from({ length: 3 }, () => node.replicate(1, 'put', text('x')));
  const full = await cluster.driveFailure(node.replicate(1, 'put', text('x')));
  assert.equal(full.code, 'QUEUE_FULL');
  const checkpoints = Array.from({ length: 16 }, () => node.checkpoint(1));
  const flood = await cluster.driveFailure(node.checkpoint(1));
  assert.equal(flood.code, 'QUEUE_FULL');
  for (const seat of cluster.seats.values()) seat.disk.release();
  await cluster.drive(Promise.all([...writes, ...checkpoints]));
  await cluster.drive(node.checkpoint(1));
});

test('a snapshot is not made before the log weighs as much as the state', async () => {
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { checkpointEntries: 10 },
    machine: () => sizedMachine(20_000),
  });
  await cluster.openAll();
  await write(cluster, 10);
  await cluster.until(() => reported(cluster, 'a').length === 1, 'the first one is made');
  await write(cluster, 15, { data: 'x'.repeat(1_000) });
  await cluster.run(20 * electionMs);
  assert.equal(reported(cluster, 'a').length, 1);
  await write(cluster, 5, { data: 'x'.repeat(1_000) });
  await cluster.until(() => reported(cluster, 'a').length === 2, 'the second one is made');
});

test('after a restart the counts are what they were', async () => {
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { checkpointEntries: 50 },
    machine: () => sizedMachine(100),
  });
  await cluster.openAll();
  await write(cluster, 60);
  await cluster.until(() => reported(cluster, 'a').length === 1, 'a checkpoint is made');
  await write(cluster, 30);
  const before = logOf(cluster, 'a');
  await cluster.close('a');
  await cluster.open('a');
  const after = logOf(cluster, 'a');
  assert.equal(after.checkpointIndex, before.checkpointIndex);
  assert.equal(after.entriesSinceCheckpoint, before.entriesSinceCheckpoint);
  assert.equal(after.bytesSinceCheckpoint, before.bytesSinceCheckpoint);
  await write(cluster, 20);
  await cluster.until(() => reported(cluster, 'a').length === 2, 'the next one is made');
});

test('whoever comes to lead makes the checkpoint that is due', async () => {
  await using cluster = nodeCluster({ settings: { checkpointEntries: 50 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await write(cluster, 40);
  await cluster.converge();
  await cluster.crash('a');
  const leader = await cluster.leader();
  await write(cluster, 12);
  await cluster.until(() => madeByAll(cluster).length > 0, 'a checkpoint is made');
  assert.deepEqual(reported(cluster, leader), [1]);
});

test('many partitions that are due have their turns two at a time, in order', async () => {
  const partitions = 9;
  const finish: (() => void)[] = [];
  const taking: number[] = [];
  await using cluster = nodeCluster({
    nodes: 1,
    partitions,
    settings: { checkpointEntries: 20 },
    machine: (_nodeId, partitionId) => ({
      apply: () => undefined,
      snapshot() {
        taking.push(partitionId);
        return new Promise((resolve) => finish.push(() => resolve(text('state'))));
      },
      restore: () => {},
    }),
  });
  await cluster.openAll();
  for (let id = 1; id <= partitions; id++) await cluster.leader(id);
  await Promise.all(
    // With the first entry of its leader each has exactly enough.
    Array.from({ length: partitions }, (_, at) => write(cluster, 19, { partitionId: at + 1 })),
  );
  for (let taken = 0; taken < partitions; taken += 2) {
    await cluster.run(20 * electionMs);
    assert.equal(taking.length, Math.min(taken + 2, partitions));
    for (const end of finish.splice(0)) end();
  }
  await cluster.run(20 * electionMs);
  assert.deepEqual(
    taking.sort((left, right) => left - right),
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
    'each has had its turn, once',
  );
});

test('a checkpoint keeps its turn until its snapshot is written, also when entries go on being applied', async () => {
  const partitions = 4;
  const finish = new Map<number, () => void>();
  const counts = new Map<number, number>();
  await using cluster = nodeCluster({
    nodes: 1,
    partitions,
    settings: { checkpointEntries: 20 },
    machine: (_nodeId, partitionId) => ({
      concurrentSnapshots: true,
      apply: () => undefined,
      async *snapshot() {
        counts.set(partitionId, (counts.get(partitionId) ?? 0) + 1);
        yield text('first part');
        await new Promise<void>((resolve) => finish.set(partitionId, resolve));
        yield text('second part');
      },
      restore: () => {},
    }),
  });
  await cluster.openAll();
  for (let id = 1; id <= partitions; id++) await write(cluster, 19, { partitionId: id });
  await cluster.run(20 * electionMs);
  assert.equal(finish.size, 2, 'two have their turns');
  // They are written meanwhile, and come due again.
  const [busy = 0] = finish.keys();
  await write(cluster, 30, { partitionId: busy });
  await cluster.run(20 * electionMs);
  assert.equal(finish.size, 2);
  assert.equal(counts.get(busy), 1, 'none begins while a snapshot is being taken');
  for (const end of [...finish.values()]) end();
  await cluster.until(() => finish.size === partitions, 'the others have theirs');
  for (let i = 0; i < 5; i++) {
    for (const end of [...finish.values()]) end();
    await cluster.run(5 * electionMs);
  }
  assert.equal(counts.get(busy), 2, 'what came due meanwhile has its turn later');
});

test('one that fails is tried again after a pause, and others go first', async () => {
  await using cluster = nodeCluster({ partitions: 2, settings: { checkpointEntries: 20 } });
  await cluster.openAll();
  await cluster.makeLeader('a', 1);
  await cluster.makeLeader('a', 2);
  await write(cluster, 15);
  // Without followers nothing is committed; the leader steps down, and its checkpoint fails.
  cluster.isolate(['a']);
  const writes = Array.from({ length: 10 }, () =>
    cluster.node('a').replicate(1, 'put', text('lost'), { timeoutMs: 50 * electionMs }),
  );
  void Promise.allSettled(writes);
  await cluster.run(30 * electionMs);
  cluster.network.heal();
  await cluster.makeLeader('a', 1);
  await write(cluster, 20);
  await cluster.until(() => madeByAll(cluster).length > 0, 'it is made after all');
  await cluster.converge();
  const proposals = cluster.nodeIds.flatMap((nodeId) => [
    ...reported(cluster, nodeId),
    ...reported(cluster, nodeId, 'checkpoint-failed'),
  ]);
  assert.ok(proposals.length <= 4, `${proposals.length} attempts`);
});

test('a checkpoint that is refused is tried again after a pause, and not at every tick', async () => {
  const finish: (() => void)[] = [];
  await using cluster = nodeCluster({
    nodes: 1,
    partitions: 3,
    settings: { checkpointEntries: 20, queuedEntriesMax: 2 },
    machine: (_nodeId, partitionId) => ({
      apply: () => undefined,
      snapshot: () =>
        partitionId === 3
          ? text('state')
          : new Promise((resolve) => finish.push(() => resolve(text('state')))),
      restore: () => {},
    }),
  });
  await cluster.openAll();
  for (const partitionId of [1, 2]) await write(cluster, 19, { partitionId });
  await cluster.until(() => finish.length === 2, 'the first two have all the turns');
  await write(cluster, 19, { partitionId: 3 });
  const node = cluster.node('a');
  cluster.seat('a').disk.hold();
  const limits = { timeoutMs: 100 * electionMs };
  const calls = [
    ...Array.from({ length: 2 }, () => node.replicate(3, 'put', text('x'), limits)),
    // The room of their kind is gone, too.
    ...Array.from({ length: 16 }, () => node.checkpoint(3, limits)),
  ];
  await cluster.run(5 * electionMs);
  for (const end of finish) end();
  await cluster.run(25 * electionMs);
  assert.equal(reported(cluster, 'a', 'checkpoint-failed').length, 3);
  cluster.seat('a').disk.release();
  await cluster.drive(Promise.all(calls));
});

test('a state machine without snapshot() gets no checkpoints that would be of no use', async () => {
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { checkpointEntries: 10 },
    machine: () => ({ apply: () => undefined }),
  });
  await cluster.openAll();
  await write(cluster, 40);
  await cluster.run(20 * electionMs);
  assert.deepEqual(reported(cluster, 'a'), []);
  assert.deepEqual(logOf(cluster, 'a').keptBy, { reason: 'noSnapshot' });
});

test("partition 0's log does not grow for ever either, and keeps the roster and the partition map", async () => {
  await using cluster = nodeCluster({
    partitions: 3,
    settings: { checkpointEntries: 20, trailingEntries: 0 },
  });
  await cluster.openAll();
  const owners = ['p', 'q', 'r'].map((key) => cluster.node('a').partitionOf(key));
  await write(cluster, 70, { partitionId: 0 });
  await cluster.until(() => madeByAll(cluster).length > 0, 'a checkpoint is made');
  await cluster.converge(0);
  await cluster.time.settle();
  for (const nodeId of cluster.nodeIds) {
    assert.ok(compactedIndex(cluster, nodeId, 0) >= 40, nodeId);
    await cluster.restart(nodeId);
    await cluster.leader(0);
    const node = cluster.node(nodeId);
    assert.deepEqual(
      node.status().roster.map((member) => member.nodeId),
      ['a', 'b', 'c'],
    );
    assert.deepEqual(
      ['p', 'q', 'r'].map((key) => node.partitionOf(key)),
      owners,
    );
  }
});

test('a replica that stopped keeps no turn', async () => {
  await using cluster = nodeCluster({
    nodes: 1,
    partitions: 3,
    settings: { checkpointEntries: 10 },
    machine: (_nodeId, partitionId) => ({
      apply: () => undefined,
      snapshot() {
        if (partitionId < 3) throw new Error('out of memory');
        return text('state');
      },
      restore: () => {},
    }),
  });
  await cluster.openAll();
  for (const partitionId of [1, 2]) {
    await write(cluster, 9, { partitionId });
    await cluster.driveFailure(cluster.node('a').checkpoint(partitionId));
  }
  await write(cluster, 12, { partitionId: 3 });
  await cluster.until(() => reported(cluster, 'a').includes(3), 'the third one has its turn');
});
