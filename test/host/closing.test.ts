// Closing a node: nobody is left in the dark, and the others go on at once.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Discovery } from '../../src/ports/discovery.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { codeOf, electionMs, nodeCluster, text } from '../support/node-cluster.ts';

test('a closing leader hands its partitions over, and the others go on without an election timeout', async () => {
  await using cluster = nodeCluster({ partitions: 3 });
  await cluster.openAll();
  for (const partitionId of [0, 1, 2, 3]) await cluster.makeLeader('a', partitionId);
  const begunMs = cluster.time.monotonicMs();
  await cluster.drive(cluster.node('a').close());
  assert.ok(cluster.time.monotonicMs() - begunMs < electionMs);
  for (const partitionId of [0, 1, 2, 3]) {
    assert.notEqual(cluster.node('b').leaderOf(partitionId), 'a');
    assert.notEqual(cluster.node('b').leaderOf(partitionId), undefined);
  }
  assert.equal(cluster.node('a').status().state, 'closed');
});

test('a leader hands over at every moment of its quorum check', async () => {
  for (let ticks = 0; ticks < 12; ticks++) {
    await using cluster = nodeCluster({ seed: ticks + 1 });
    await cluster.openAll();
    await cluster.makeLeader('a');
    // The followers' answers are a tick away: just after a check nobody has been heard of yet.
    await cluster.run(10 * ticks);
    cluster.network.dropWhen(({ frame }) =>
      frame.items.some((item) => item.kind === 'raft' && item.message.type === 'heartbeatResponse'),
    );
    await cluster.run(10);
    const closing = cluster.node('a').close();
    cluster.network.dropWhen(undefined);
    await cluster.drive(closing);
    assert.notEqual(cluster.node('b').leaderOf(1), 'a', `after ${ticks} ticks`);
    assert.notEqual(cluster.node('b').leaderOf(1), undefined, `after ${ticks} ticks`);
  }
});

test('a leader closes in time while others keep passing writes on to it, and each of them is answered', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (const seat of cluster.seats.values()) seat.disk.latencyMs = 1;
  let isOver = false;
  const codes = new Map<string, number>();
  const writer = async (name: string): Promise<void> => {
    for (let i = 0; !isOver; i++) {
      const code = await cluster
        .node('b')
        .replicate(1, 'put', text(`${name} ${i}`))
        .then(
          () => 'ok',
          (error: unknown) => codeOf(error),
        );
      codes.set(code, (codes.get(code) ?? 0) + 1);
      if (code !== 'ok') await new Promise<void>((resolve) => cluster.time.setTimer(1, resolve));
    }
  };
  const writers = Promise.all(['v', 'w', 'x', 'y'].map(writer));
  await cluster.run(20);
  const begunMs = cluster.time.monotonicMs();
  await cluster.drive(cluster.node('a').close());
  assert.ok(cluster.time.monotonicMs() - begunMs < electionMs, 'the load does not hold it up');
  await cluster.run(20);
  isOver = true;
  await cluster.drive(writers);
  assert.ok((codes.get('ok') ?? 0) > 10);
  assert.equal(codes.get('NODE_CLOSED'), undefined, 'the node that was asked is open');
});

test('closing twice is closing once, and disposing is closing', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  const node = cluster.node('a');
  await cluster.drive(Promise.all([node.close(), node.close(), node[Symbol.asyncDispose]()]));
  assert.equal(node.status().state, 'closed');
  await cluster.drive(node.close());
});

test('calls after close get NODE_CLOSED, and a closed node leads nothing', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  const node = cluster.node('a');
  await cluster.drive(node.close());
  const calls = [
    () => node.replicate(1, 'put', text('x')),
    () => node.replicate(1, [{ type: 'put', data: text('x') }]),
    () => node.checkpoint(1),
    () => node.read(1),
    () => node.read(1, { consistency: 'local' }),
    () => node.waitForLeader(1),
    () => node.transferLeadership(1, 'a'),
  ];
  for (const call of calls) assert.equal((await cluster.driveFailure(call())).code, 'NODE_CLOSED');
  assert.equal(node.isLeader(1), false);
  assert.equal(node.leaderOf(1), undefined);
});

test('writes on their way are finished before a node is closed', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const writes = Array.from({ length: 50 }, (_, i) =>
    cluster.node(i % 2 === 0 ? 'a' : 'b').replicate(1, 'put', text(`${i}`)),
  );
  const closing = cluster.node('a').close();
  const outcomes = await cluster.drive(Promise.allSettled(writes));
  await cluster.drive(closing);
  for (const [position, outcome] of outcomes.entries()) {
    if (position % 2 === 0) assert.equal(outcome.status, 'fulfilled');
    else if (outcome.status === 'rejected')
      assert.equal(codeOf(outcome.reason), 'PROPOSAL_DROPPED');
  }
});

test('writes that cannot be finished are answered when the node closes', async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 60_000 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.isolate(['a']);
  const write = cluster.node('a').replicate(1, 'put', text('x'));
  const read = cluster.node('a').read(1);
  const wait = cluster.node('a').transferLeadership(1, 'b', { timeoutMs: 60_000 });
  const closing = cluster.node('a').close();
  const failures = await Promise.all([write, read, wait].map((one) => cluster.driveFailure(one)));
  for (const error of failures) assert.equal(error.code, 'NODE_CLOSED');
  await cluster.drive(closing, 5_000);
});

test('a node that is still forming its cluster can be closed', async () => {
  await using cluster = nodeCluster();
  const node = await cluster.open('a');
  assert.equal(node.status().state, 'forming');
  await cluster.drive(node.close());
  assert.equal(node.status().state, 'closed');
});

test('a node that failed can be closed', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const node = cluster.node('a');
  cluster.seat('a').disk.fail();
  const error = await cluster.driveFailure(node.replicate(1, 'put', text('x')));
  assert.equal(error.code, 'WAL_FAILED');
  assert.equal(node.status().state, 'failed');
  await cluster.drive(node.close());
  assert.equal(node.status().state, 'closed');
});

test('a close that waits for the disk ends when the disk fails', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { disk } = cluster.seat('a');
  disk.hold();
  const write = cluster.driveFailure(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.time.settle();
  const closing = cluster.node('a').close();
  await cluster.run(5_000);
  disk.fail();
  disk.release();
  await cluster.drive(closing);
  await write;
});

/** A state machine on `b` whose calls of `apply` end when the test says so. */
function slowMachine(): {
  readonly machine: (nodeId: string) => StateMachine;
  readonly atWork: { resolve(): void; reject(error: Error): void }[];
} {
  const atWork: { resolve(): void; reject(error: Error): void }[] = [];
  const work = (): Promise<void> =>
    new Promise((resolve, reject) => {
      atWork.push({ resolve, reject });
    });
  return { machine: (nodeId) => ({ apply: () => (nodeId === 'b' ? work() : undefined) }), atWork };
}

test('a node is closed when its state machine has finished what it was at, and gets nothing more', async () => {
  const { machine, atWork } = slowMachine();
  await using cluster = nodeCluster({ machine });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.until(() => atWork.length === 1, 'b applies');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('y')));
  await cluster.run(20);
  let isClosed = false;
  const closing = cluster
    .node('b')
    .close()
    .then(() => {
      isClosed = true;
    });
  await cluster.run(1_000);
  assert.equal(isClosed, false, 'the state machine is at work');
  atWork[0]?.resolve();
  await cluster.drive(closing, 20);
  await cluster.run(1_000);
  assert.equal(atWork.length, 1, 'the second entry is left to the next start');
});

test('a state machine that does not come to an end holds a close up for a while only, and fails unheard', async () => {
  const { machine, atWork } = slowMachine();
  await using cluster = nodeCluster({ machine });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.until(() => atWork.length === 1, 'b applies');
  const b = cluster.node('b');
  const heard: string[] = [];
  b.on('replicationError', ({ error }) => heard.push(codeOf(error)));
  b.on('entryReplicated', ({ entry }) => heard.push(entry.type));
  await cluster.drive(b.close(), 3_000);
  atWork[0]?.reject(new Error('the database is closed'));
  await cluster.run(20);
  assert.deepEqual(heard, []);
  assert.equal(b.status().partitions[1]?.stopped, undefined);
});

test('a node whose disk failed also waits for its state machine when it is closed', async () => {
  const { machine, atWork } = slowMachine();
  await using cluster = nodeCluster({ machine });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.until(() => atWork.length === 1, 'b applies');
  cluster.seat('b').disk.fail();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('y')));
  const b = cluster.node('b');
  await cluster.until(() => b.status().state === 'failed', 'the disk failed');
  let isClosed = false;
  const closing = b.close().then(() => {
    isClosed = true;
  });
  await cluster.run(500);
  assert.equal(isClosed, false, 'the state machine is at work');
  atWork[0]?.resolve();
  await cluster.drive(closing, 20);
});

test('a discovery that cannot be closed does not keep the store and the port from being released', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  const discovery: Discovery = {
    open: async () => {},
    close: async () => {
      throw new Error('the registry is down');
    },
  };
  const node = await cluster.open('a', { discovery });
  const error = await cluster.driveFailure(node.close());
  assert.equal(error.message, 'the registry is down');
  assert.equal(node.status().state, 'closed');
  cluster.seat('a').node = undefined;
  // Store and port are free: another node opens with both.
  await cluster.close((await cluster.open('a')).nodeId);
});

test('a disk that never answers does not hold a close up for ever', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.seat('a').disk.hold();
  const write = cluster.driveFailure(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.time.settle();
  await cluster.drive(cluster.node('a').close(), 10_000);
  assert.equal((await write).code, 'NODE_CLOSED');
});

test('a store that does not close is reported by close, in time', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  const wal = { ...memoryWal(), close: () => new Promise<never>(() => {}) };
  const node = await cluster.open('a', { wal });
  const error = await cluster.driveFailure(node.close(), 10_000);
  assert.equal(error.code, 'WAL_FAILED');
  assert.equal(node.status().state, 'closed');
});
