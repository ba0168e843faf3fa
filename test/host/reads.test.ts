// Linearizable and local reads: what they see, whom they ask, and when they give up.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import { electionMs, type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';

async function opened(settings = {}): Promise<NodeCluster> {
  const cluster = nodeCluster({ settings });
  await cluster.openAll();
  await cluster.makeLeader('a');
  return cluster;
}

test('a linearizable read sees every write that was acknowledged before, on every node', async () => {
  await using cluster = await opened();
  for (let i = 0; i < 10; i++) {
    const writer = cluster.nodeIds[i % 3] ?? 'a';
    const { index } = await cluster.drive(cluster.node(writer).replicate(1, 'put', text(`${i}`)));
    for (const reader of cluster.nodeIds) {
      const read = await cluster.drive(cluster.node(reader).read(1));
      assert.ok(read.index >= index);
      assert.equal(cluster.journal(reader).entries.at(-1)?.text, `${i}`);
    }
  }
});

test('a follower that is behind makes a linearizable read wait, and serves a local one', async () => {
  await using cluster = await opened();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('old')));
  await cluster.converge();
  cluster.network.dropWhen(({ to, lane }) => to === 'b' && lane === 'bulk');
  const { index } = await cluster.drive(cluster.node('a').replicate(1, 'put', text('new')));
  const local = await cluster.drive(cluster.node('b').read(1, { consistency: 'local' }));
  assert.ok(local.index < index);
  let isRead = false;
  const read = cluster.node('b').read(1);
  void read.then(() => {
    isRead = true;
  });
  await cluster.run(50);
  assert.equal(isRead, false);
  cluster.network.dropWhen(undefined);
  assert.ok((await cluster.drive(read)).index >= index);
});

test('a local read waits while the state is replaced by a snapshot: half of one was never committed', async () => {
  let finishRestore: (() => void) | undefined;
  await using cluster = nodeCluster({
    settings: { trailingEntries: 0 },
    machine: (nodeId) => ({
      apply: () => {},
      snapshot: () => new Uint8Array(8),
      restore: () =>
        nodeId === 'b'
          ? new Promise<void>((resolve) => {
              finishRestore = resolve;
            })
          : undefined,
    }),
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('old')));
  await cluster.converge();
  cluster.isolate(['b']);
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('new')));
  const { index } = await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.run(20);
  cluster.network.heal();
  await cluster.until(() => finishRestore !== undefined, 'b restores');
  let isRead = false;
  const read = cluster.node('b').read(1, { consistency: 'local' });
  void read.then(() => {
    isRead = true;
  });
  await cluster.run(20);
  assert.equal(isRead, false);
  const hasty = cluster.node('b').read(1, { consistency: 'local', timeoutMs: 20 });
  const error = await cluster.driveFailure(hasty);
  assert.ok(isKommanderError(error, 'READ_TIMEOUT'));
  assert.match(error.message, /takes in a snapshot/);
  finishRestore?.();
  assert.ok((await cluster.drive(read)).index >= index);
});

test('a leader that was cut off serves no linearizable read', async () => {
  await using cluster = await opened({ proposalTimeoutMs: 2_000 });
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('old')));
  await cluster.converge();
  cluster.isolate(['a']);
  const read = cluster.node('a').read(1);
  await cluster.until(
    () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
    'another node leads',
  );
  const leader = cluster.node('b').isLeader(1) ? 'b' : 'c';
  await cluster.drive(cluster.node(leader).replicate(1, 'put', text('new')));
  const error = await cluster.driveFailure(read);
  assert.ok(isKommanderError(error, 'NO_LEADER'));
  assert.equal(error.retryable, true);
  assert.equal(error.mayHaveCommitted, false);
  assert.equal((await cluster.driveFailure(cluster.node('a').read(1))).code, 'NO_LEADER');
  await cluster.drive(cluster.node('a').read(1, { consistency: 'local' }));
});

test('a read that began on a leader that was cut off is finished by the next leader', async () => {
  await using cluster = await opened({ proposalTimeoutMs: 60_000 });
  cluster.isolate(['a']);
  const read = cluster.node('a').read(1);
  await cluster.until(
    () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
    'another node leads',
  );
  const leader = cluster.node('b').isLeader(1) ? 'b' : 'c';
  const write = await cluster.drive(cluster.node(leader).replicate(1, 'put', text('new')));
  cluster.network.heal();
  assert.ok((await cluster.drive(read)).index >= write.index);
});

test('a leader that stood still serves no read from before', async () => {
  await using cluster = await opened({ proposalTimeoutMs: 60_000 });
  const { clock } = cluster.seat('a');
  clock?.pause();
  // The call reaches the process just before it stands still.
  const read = cluster.node('a').read(1);
  await cluster.until(() => cluster.node('b').leaderOf(1) !== 'a', 'b gave up');
  await cluster.until(
    () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
    'another node leads',
  );
  const leader = cluster.node('b').isLeader(1) ? 'b' : 'c';
  const write = await cluster.drive(cluster.node(leader).replicate(1, 'put', text('new')));
  clock?.resume();
  const late = cluster.node('a').read(1);
  const [first, second] = await cluster.drive(Promise.all([read, late]));
  assert.ok(first.index >= write.index);
  assert.ok(second.index >= write.index);
  assert.equal(cluster.journal('a').entries.at(-1)?.text, 'new');
});

test('a new leader serves no read before an entry of its own term is committed', async () => {
  await using cluster = await opened();
  const write = await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.converge();
  await cluster.crash('a');
  // The next leader's own entry is lost again and again.
  cluster.network.dropWhen(({ lane }) => lane === 'bulk');
  await cluster.until(
    () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
    'another node leads',
  );
  const leader = cluster.node('b').isLeader(1) ? 'b' : 'c';
  let isRead = false;
  const read = cluster.node(leader).read(1);
  void read.then(() => {
    isRead = true;
  });
  await cluster.run(50);
  assert.equal(isRead, false);
  cluster.network.dropWhen(undefined);
  assert.ok((await cluster.drive(read)).index > write.index);
});

test('a read is asked again when a message of it is lost', async () => {
  await using cluster = await opened();
  for (const type of ['readIndex', 'readIndexResponse', 'heartbeat', 'heartbeatResponse']) {
    let lostCount = 0;
    cluster.network.dropWhen(
      ({ frame }) =>
        frame.items.some(
          (item) => item.kind === 'raft' && item.partitionId === 1 && item.message.type === type,
        ) && ++lostCount <= 1,
    );
    await cluster.drive(cluster.node('b').read(1), 2 * electionMs);
    assert.ok(lostCount >= 1, `${type} was lost`);
  }
});

test('many reads share few questions', async () => {
  await using cluster = await opened();
  let questionCount = 0;
  cluster.network.dropWhen(({ frame }) => {
    for (const item of frame.items)
      if (item.kind === 'raft' && item.message.type === 'readIndex') questionCount += 1;
    return false;
  });
  await cluster.drive(Promise.all(Array.from({ length: 1_000 }, () => cluster.node('b').read(1))));
  assert.ok(questionCount >= 1 && questionCount <= 4, `${questionCount} questions`);
});

test('a read that must not be passed on is refused by a follower', async () => {
  await using cluster = await opened();
  const error = await cluster.driveFailure(cluster.node('b').read(1, { forward: false }));
  assert.ok(isKommanderError(error, 'NOT_LEADER'));
  assert.equal(error.details.leader, 'a');
  await cluster.drive(cluster.node('a').read(1, { forward: false }));
});

test('a read waits no longer than it was told to, and may be aborted', async () => {
  await using cluster = await opened();
  cluster.isolate(['b']);
  const begunMs = cluster.time.monotonicMs();
  const error = await cluster.driveFailure(cluster.node('b').read(1, { timeoutMs: 30 }));
  assert.equal(error.code, 'READ_TIMEOUT');
  assert.ok(cluster.time.monotonicMs() - begunMs <= 50);
  const controller = new AbortController();
  const read = cluster.node('b').read(1, { signal: controller.signal });
  await cluster.run(5);
  controller.abort();
  assert.equal((await cluster.driveFailure(read)).code, 'ABORTED');
});

test('the reads that may wait are bounded', async () => {
  await using cluster = nodeCluster({ settings: { queuedEntriesMax: 10 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.isolate(['b']);
  const node = cluster.node('b');
  const reads = Array.from({ length: 10 }, () => node.read(1));
  assert.equal((await cluster.driveFailure(node.read(1))).code, 'QUEUE_FULL');
  cluster.network.heal();
  await cluster.drive(Promise.all(reads));
  await cluster.drive(node.read(1));
});
