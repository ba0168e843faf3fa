// What a caller may ask for, and what is refused: every argument, every bound of the queue, every way to stop waiting.

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import type { ProposalInput } from '../../src/host/api.ts';
import { electionMs, nodeCluster, text } from '../support/node-cluster.ts';

const empty = new Uint8Array(0);

test('data may have any length from none to the limit, and comes out as it went in', async () => {
  const applied: Uint8Array[] = [];
  await using cluster = nodeCluster({
    nodes: 3,
    machine: (nodeId) => ({
      apply: (entries) => {
        if (nodeId === 'c') applied.push(...entries.map((entry) => entry.data.slice()));
      },
    }),
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const large = new Uint8Array(1_048_576).map((_, position) => position % 251);
  const exact = new Uint8Array(1_048_576 + 4_096).fill(7);
  for (const data of [empty, large, exact]) {
    await cluster.drive(cluster.node('b').replicate(1, 'put', data));
  }
  await cluster.converge();
  assert.deepEqual(applied, [empty, large, exact]);
});

test('data above the limit is refused before anything is written', async () => {
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { entryBytesMax: 100, appendBytesMax: 1_024 },
  });
  await cluster.openAll();
  await cluster.leader();
  const node = cluster.node('a');
  const error = await cluster.driveFailure(node.replicate(1, 'put', new Uint8Array(101)));
  assert.ok(isKommanderError(error, 'ENTRY_TOO_LARGE'));
  assert.equal(error.details.bytesMax, 100);
  assert.equal(error.mayHaveCommitted, false);
  await cluster.drive(node.replicate(1, 'put', new Uint8Array(100)));
  // A batch as a whole has to fit one append.
  const batch = Array.from({ length: 11 }, () => ({ type: 'put', data: new Uint8Array(100) }));
  const tooLarge = await cluster.driveFailure(node.replicate(1, batch));
  assert.equal(tooLarge.code, 'ENTRY_TOO_LARGE');
});

test('a bad argument is refused with its name', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  const node = cluster.node('a');
  const put = (type: unknown, data: unknown, options = {}): Promise<unknown> =>
    node.replicate(1, type as string, data as Uint8Array, options);
  const calls: readonly [string, () => Promise<unknown>][] = [
    ['type', () => put('', empty)],
    ['type', () => put(5, empty)],
    ['type', () => put(undefined, empty)],
    ['type', () => put('x'.repeat(256), empty)],
    ['type', () => put('ü'.repeat(128), empty)],
    ['data', () => put('put', 'text')],
    ['data', () => put('put', undefined)],
    ['entries', () => node.replicate(1, [])],
    ['type', () => node.replicate(1, [{ type: '', data: empty }])],
    ['data', () => node.replicate(1, [{ type: 'x' } as ProposalInput])],
    ['timeoutMs', () => put('put', empty, { timeoutMs: 0 })],
    ['timeoutMs', () => put('put', empty, { timeoutMs: Number.NaN })],
    ['timeoutMs', () => put('put', empty, { timeoutMs: 2 ** 31 })],
    ['timeoutMs', () => node.read(1, { timeoutMs: -1 })],
    ['timeoutMs', () => node.waitForLeader(1, { timeoutMs: 0 })],
    ['consistency', () => node.read(1, { consistency: 'lease' as 'local' })],
  ];
  for (const [argument, call] of calls) {
    const error = await cluster.driveFailure(call());
    assert.ok(isKommanderError(error, 'INVALID_ARGUMENT'), String(error));
    assert.equal(error.details.argument, argument);
  }
  await cluster.drive(put('x'.repeat(255), empty));
  await cluster.drive(put('ü'.repeat(127), empty));
});

test('types that begin with "_" belong to the library', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  const node = cluster.node('a');
  for (const call of [
    () => node.replicate(1, '_put', empty),
    () => node.replicate(1, '_checkpoint', empty),
    () =>
      node.replicate(1, [
        { type: 'fine', data: empty },
        { type: '_', data: empty },
      ]),
  ]) {
    assert.equal((await cluster.driveFailure(call())).code, 'RESERVED_TYPE');
  }
});

test('a partition that does not exist is refused by every method', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  const node = cluster.node('a');
  for (const partitionId of [2, -1, 1.5, Number.NaN]) {
    for (const call of [
      () => node.replicate(partitionId, 'put', empty),
      () => node.checkpoint(partitionId),
      () => node.read(partitionId),
      () => node.waitForLeader(partitionId),
      () => node.transferLeadership(partitionId, 'a'),
    ]) {
      assert.equal((await cluster.driveFailure(call())).code, 'UNKNOWN_PARTITION');
    }
    assert.throws(() => node.isLeader(partitionId), { code: 'UNKNOWN_PARTITION' });
    assert.throws(() => node.leaderOf(partitionId), { code: 'UNKNOWN_PARTITION' });
  }
});

test('the queue is bounded in entries, and what it refuses is not written', async () => {
  await using cluster = nodeCluster({ nodes: 1, settings: { queuedEntriesMax: 10 } });
  await cluster.openAll();
  await cluster.leader();
  cluster.seat('a').disk.hold();
  const node = cluster.node('a');
  const writes = Array.from({ length: 10 }, (_, i) => node.replicate(1, 'put', text(`${i}`)));
  const error = await cluster.driveFailure(node.replicate(1, 'put', text('one too many')));
  assert.ok(isKommanderError(error, 'QUEUE_FULL'));
  assert.equal(error.retryable, true);
  assert.equal(error.mayHaveCommitted, false);
  cluster.seat('a').disk.release();
  await cluster.drive(Promise.all(writes));
  await cluster.drive(node.replicate(1, 'put', text('room again')));
  assert.equal(cluster.journal('a').entries.length, 11);
  assert.equal(node.status().partitions[1]?.queuedProposals, 0);
});

test('the queue is bounded in bytes', async () => {
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { entryBytesMax: 1_024, queuedBytesMax: 4_096 },
  });
  await cluster.openAll();
  await cluster.leader();
  cluster.seat('a').disk.hold();
  const node = cluster.node('a');
  const kilobyte = new Uint8Array(1_000);
  const writes = Array.from({ length: 4 }, () => node.replicate(1, 'put', kilobyte));
  assert.equal((await cluster.driveFailure(node.replicate(1, 'put', kilobyte))).code, 'QUEUE_FULL');
  cluster.seat('a').disk.release();
  await cluster.drive(Promise.all(writes));
  await cluster.drive(node.replicate(1, 'put', kilobyte));
});

test('the queue of a follower is bounded too: what it passed on counts until it is answered', async () => {
  await using cluster = nodeCluster({ settings: { queuedEntriesMax: 5 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.network.setLink('a', 'b', 'drop');
  const node = cluster.node('b');
  const writes = Array.from({ length: 5 }, (_, i) => node.replicate(1, 'put', text(`${i}`)));
  assert.equal((await cluster.driveFailure(node.replicate(1, 'put', empty))).code, 'QUEUE_FULL');
  cluster.network.heal();
  await cluster.drive(Promise.allSettled(writes));
  assert.equal(node.status().partitions[1]?.queuedProposals, 0);
});

test('one batch always fits an empty queue', async () => {
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { queuedEntriesMax: 3, entryBytesMax: 1_024, queuedBytesMax: 1_024 },
  });
  await cluster.openAll();
  await cluster.leader();
  const node = cluster.node('a');
  const batch = Array.from({ length: 5 }, () => ({ type: 'put', data: new Uint8Array(1_024) }));
  const { result } = await cluster.drive(node.replicate(1, batch));
  assert.equal((result as unknown[]).length, 5);
  await cluster.drive(node.replicate(1, 'put', new Uint8Array(1_024)));
});

test('the uncommitted tail is bounded: what does not fit waits and is written later', async () => {
  await using cluster = nodeCluster({
    settings: { appendBytesMax: 1_024, uncommittedBytesMax: 4_096, inflightBytesMax: 1_024 },
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.isolate(['a']);
  const before = cluster.node('a').status().partitions[1]?.lastIndex ?? 0;
  const writes = Array.from({ length: 20 }, (_, i) =>
    cluster.node('a').replicate(1, 'put', text(`${i}`.padEnd(500, '.'))),
  );
  await cluster.run(electionMs / 4);
  const appended = (cluster.node('a').status().partitions[1]?.lastIndex ?? 0) - before;
  assert.ok(appended >= 6 && appended <= 8, `${appended} appended`);
  cluster.network.heal();
  await cluster.drive(Promise.all(writes));
});

test('an aborted call never begins; an aborted wait in the queue is never written', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  const node = cluster.node('a');
  const aborted = AbortSignal.abort(new Error('enough'));
  const error = await cluster.driveFailure(node.replicate(1, 'put', empty, { signal: aborted }));
  assert.equal(error.code, 'ABORTED');
  assert.equal((error.cause as Error).message, 'enough');
  cluster.seat('a').disk.hold();
  const busy = node.replicate(1, 'put', text('busy'));
  await cluster.time.settle();
  const controller = new AbortController();
  const queued = node.replicate(1, 'put', text('queued'), { signal: controller.signal });
  await cluster.time.settle();
  controller.abort();
  assert.equal((await cluster.driveFailure(queued)).code, 'ABORTED');
  cluster.seat('a').disk.release();
  await cluster.drive(busy);
  await cluster.drive(node.replicate(1, 'put', text('after')));
  assert.deepEqual(
    cluster.journal('a').entries.map((entry) => entry.text),
    ['busy', 'after'],
  );
  assert.equal(node.status().partitions[1]?.queuedProposals, 0);
});

test('an aborted write that was already handed over may still commit', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const controller = new AbortController();
  cluster.isolate(['a']);
  const pending = cluster
    .node('a')
    .replicate(1, 'put', text('pending'), { signal: controller.signal });
  await cluster.time.settle();
  controller.abort();
  const error = await cluster.driveFailure(pending);
  assert.ok(isKommanderError(error, 'ABORTED'));
  assert.equal(error.mayHaveCommitted, true);
  cluster.network.heal();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('after')));
  assert.deepEqual(
    cluster.journal('a').entries.map((entry) => entry.text),
    ['pending', 'after'],
  );
  await cluster.run(20);
  assert.equal(cluster.node('a').status().partitions[1]?.queuedProposals, 0);
});

test('an abort that comes during a handover is not passed on to the new leader', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  // The successor never hears of its luck: the handover goes on for an election timeout.
  cluster.network.dropWhen(({ frame }) =>
    frame.items.some((item) => item.kind === 'raft' && item.message.type === 'timeoutNow'),
  );
  const transfer = cluster.node('a').transferLeadership(1, 'b');
  await cluster.time.settle();
  const controller = new AbortController();
  const queued = cluster
    .node('a')
    .replicate(1, 'put', text('queued'), { signal: controller.signal });
  await cluster.time.settle();
  controller.abort();
  assert.equal((await cluster.driveFailure(queued)).code, 'ABORTED');
  cluster.network.dropWhen(undefined);
  await cluster.driveFailure(transfer);
  await cluster.makeLeader('b');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('after')));
  assert.deepEqual(
    cluster.journal('a').entries.map((entry) => entry.text),
    ['after'],
  );
});

test('a call that has ended, however it ended, listens to its signal no more', async () => {
  await using cluster = nodeCluster({ nodes: 1, settings: { queuedEntriesMax: 1 } });
  await cluster.openAll();
  const node = cluster.node('a');
  const { signal } = new AbortController();
  const listeners = (): number => getEventListeners(signal, 'abort').length;
  await cluster.driveFailure(node.replicate(1, 'put', empty, { signal, forward: false }));
  assert.equal(listeners(), 0, 'refused: does not lead');
  await cluster.leader();
  await cluster.drive(node.replicate(1, 'put', empty, { signal }));
  assert.equal(listeners(), 0, 'done');
  cluster.seat('a').disk.hold();
  const first = node.replicate(1, 'put', empty);
  await cluster.driveFailure(node.replicate(1, 'put', empty, { signal }));
  assert.equal(listeners(), 0, 'refused: queue full');
  cluster.seat('a').disk.release();
  await cluster.drive(first);
  await cluster.drive(node.read(1, { signal }));
  await cluster.drive(node.waitForLeader(1, { signal }));
  assert.equal(listeners(), 0, 'read and waited');
});
