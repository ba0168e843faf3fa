// What reaches the disk, when, and what happens while it does not: one sync per turn, answers only for what is durable,
// and a node that stops rather than guess.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError, KommanderError } from '../../src/base/errors.ts';
import type { NodeEvents } from '../../src/host/api.ts';
import type { WalEvents } from '../../src/ports/wal.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { codeOf, electionMs, nodeCluster, text } from '../support/node-cluster.ts';

test('writes of all partitions that are made in one turn share one sync', async () => {
  await using cluster = nodeCluster({ nodes: 1, partitions: 8 });
  await cluster.openAll();
  for (let partitionId = 1; partitionId <= 8; partitionId++) await cluster.leader(partitionId);
  await cluster.time.settle();
  const { disk } = cluster.seat('a');
  const before = disk.syncCount;
  const writes: Promise<unknown>[] = [];
  for (let partitionId = 1; partitionId <= 8; partitionId++) {
    for (let i = 0; i < 100; i++) {
      writes.push(cluster.node('a').replicate(partitionId, 'put', text(`${i}`)));
    }
  }
  await cluster.drive(Promise.all(writes));
  assert.equal(disk.syncCount - before, 1);
});

test('what arrives while the disk works rides in the next write', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  const { disk } = cluster.seat('a');
  const before = disk.syncCount;
  disk.hold();
  const writes = [cluster.node('a').replicate(1, 'put', text('first'))];
  await cluster.time.settle();
  for (let i = 0; i < 500; i++) {
    writes.push(cluster.node('a').replicate(1, 'put', text(`${i}`)));
    if (i % 50 === 0) await cluster.time.settle();
  }
  disk.release();
  await cluster.drive(Promise.all(writes));
  assert.equal(disk.syncCount - before, 2);
});

test('a write that is alone costs each node one sync', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.run(500);
  const before = cluster.nodeIds.map((nodeId) => cluster.seat(nodeId).disk.syncCount);
  for (let i = 0; i < 10; i++) {
    await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${i}`)));
    await cluster.run(50);
  }
  const syncs = cluster.nodeIds.map(
    (nodeId, position) => cluster.seat(nodeId).disk.syncCount - (before[position] ?? 0),
  );
  assert.deepEqual(syncs, [10, 10, 10]);
});

test('a commit index alone causes no sync, and an idle node does not write at all', async () => {
  await using cluster = nodeCluster({ partitions: 4 });
  await cluster.openAll();
  for (const partitionId of [0, 1, 2, 3, 4]) await cluster.leader(partitionId);
  await cluster.run(100);
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.converge();
  const synced = cluster.nodeIds.map((nodeId) => cluster.seat(nodeId).disk.syncCount);
  await cluster.run(1_000);
  assert.deepEqual(
    cluster.nodeIds.map((nodeId) => cluster.seat(nodeId).disk.syncCount),
    synced,
  );
  const written = cluster.nodeIds.map((nodeId) => cluster.seat(nodeId).disk.writeCount);
  await cluster.run(60_000);
  assert.deepEqual(
    cluster.nodeIds.map((nodeId) => cluster.seat(nodeId).disk.writeCount),
    written,
  );
});

test('nothing is acknowledged before a quorum has it on disk', async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 60_000 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('begin')));
  await cluster.converge();
  for (const nodeId of cluster.nodeIds) cluster.seat(nodeId).disk.hold();
  let isAnswered = false;
  const write = cluster.node('a').replicate(1, 'put', text('x'));
  write.then(
    () => {
      isAnswered = true;
    },
    () => {},
  );
  await cluster.run(electionMs / 2);
  assert.equal(isAnswered, false);
  assert.equal(cluster.node('a').status().partitions[1]?.lastApplied, 3);
  // A quorum loses what it had not synced: the write is gone, and nobody was told otherwise.
  await cluster.crash('a');
  await cluster.crash('b');
  await cluster.crash('c');
  for (const nodeId of cluster.nodeIds) await cluster.open(nodeId);
  await cluster.leader();
  await cluster.drive(cluster.node('b').replicate(1, 'put', text('after')));
  await cluster.converge();
  assert.deepEqual(
    cluster.journal('a').entries.map((entry) => entry.text),
    ['begin', 'after'],
  );
  assert.equal(isAnswered, false);
});

test("a leader commits by its followers' disks while its own is slow, and applies what it has stored", async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 60_000 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('begin')));
  cluster.seat('a').disk.hold();
  const write = cluster.node('a').replicate(1, 'put', text('x'));
  await cluster.run(electionMs / 2);
  await cluster.until(() => cluster.journal('b').entries.length === 2, 'the followers apply it');
  assert.equal(cluster.journal('a').entries.length, 1);
  cluster.seat('a').disk.release();
  await cluster.drive(write);
});

test('a vote is given only when it is on disk', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('a');
  for (const nodeId of ['b', 'c']) cluster.seat(nodeId).disk.hold();
  await cluster.run(20 * electionMs);
  assert.equal(cluster.node('b').isLeader(1), false);
  assert.equal(cluster.node('c').isLeader(1), false);
  for (const nodeId of ['b', 'c']) cluster.seat(nodeId).disk.release();
  await cluster.leader();
});

test('a failed write stops the node, answers everybody with WAL_FAILED, and others take over', async () => {
  const errors: NodeEvents['replicationError'][] = [];
  await using cluster = nodeCluster({ partitions: 2 });
  await cluster.openAll();
  await cluster.makeLeader('a', 1);
  await cluster.makeLeader('a', 2);
  const node = cluster.node('a');
  node.on('replicationError', (event) => errors.push(event));
  cluster.seat('a').disk.fail();
  const calls = [
    node.replicate(1, 'put', text('x')),
    node.replicate(2, 'put', text('y')),
    node.checkpoint(2),
  ];
  for (const error of await Promise.all(calls.map((call) => cluster.driveFailure(call)))) {
    assert.ok(isKommanderError(error, 'WAL_FAILED'));
    assert.equal(error.mayHaveCommitted, true);
    assert.equal((error.cause as Error).message, 'the disk is broken');
  }
  assert.equal(node.status().state, 'failed');
  assert.equal(node.isLeader(1), false);
  assert.deepEqual(
    errors.map((event) => event.partitionId),
    [0, 1, 2],
  );
  const writes = cluster.seat('a').disk.writeCount;
  assert.equal((await cluster.driveFailure(node.read(1))).code, 'WAL_FAILED');
  cluster.seat('a').node = undefined;
  await cluster.leader(1);
  await cluster.leader(2);
  await cluster.drive(cluster.node('b').replicate(1, 'put', text('z')));
  assert.equal(cluster.seat('a').disk.writeCount, writes, 'a failed write is never tried again');
});

test('a leader whose disk fails asks another node to lead, so that nobody waits for an election timeout', async () => {
  await using cluster = nodeCluster({ partitions: 2 });
  await cluster.openAll();
  for (const partitionId of [1, 2]) await cluster.makeLeader('a', partitionId);
  const { disk, observed } = cluster.seat('a');
  disk.fail();
  const call = cluster.node('a').replicate(1, 'put', text('x'));
  assert.equal((await cluster.driveFailure(call)).code, 'WAL_FAILED');
  await cluster.run(electionMs / 2);
  for (const partitionId of [1, 2]) {
    const leads = ['b', 'c'].filter((nodeId) => cluster.node(nodeId).isLeader(partitionId));
    assert.equal(leads.length, 1, `partition ${partitionId} has a leader`);
  }
  const given = observed.filter(({ name }) => name === 'leadership-given-away');
  assert.deepEqual(
    given.map(({ fields }) => fields.partitionId).filter((id) => id !== 0),
    [1, 2],
  );
});

test('a store that throws instead of rejecting stops the node all the same', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  let isBroken = false;
  const wal = memoryWal();
  await cluster.open('a', {
    wal: {
      ...wal,
      write(batch) {
        if (isBroken) throw new Error('synchronous');
        return wal.write(batch);
      },
    },
  });
  await cluster.leader();
  isBroken = true;
  const error = await cluster.driveFailure(cluster.node('a').replicate(1, 'put', text('x')));
  assert.equal(error.code, 'WAL_FAILED');
});

test('damage that the store comes upon by itself stops the replica, and only that one', async () => {
  await using cluster = nodeCluster({ partitions: 2 });
  const wal = memoryWal();
  let events: WalEvents | undefined;
  await cluster.open('a', {
    wal: {
      ...wal,
      open(heard) {
        events = heard;
        return wal.open();
      },
    },
  });
  await Promise.all([cluster.open('b'), cluster.open('c')]);
  for (const partitionId of [1, 2]) await cluster.makeLeader('a', partitionId);
  const { node, observed } = cluster.seat('a');
  const waiting = cluster.node('a').replicate(1, 'put', text('x'));
  events?.damaged(1, new KommanderError('a record is damaged', { code: 'WAL_CORRUPT' }));
  const error = await cluster.driveFailure(waiting);
  assert.equal(error.code, 'REPLICA_STOPPED');
  assert.ok(isKommanderError(error.cause, 'WAL_CORRUPT'));
  assert.equal(observed.filter(({ name }) => name === 'replica-stopped').length, 1);
  assert.equal(node?.status().state, 'running');
  await cluster.drive(cluster.node('a').replicate(2, 'put', text('y')));
  await cluster.until(
    () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
    'another node leads what was damaged',
    5 * electionMs,
  );
});

test('damage that the store comes upon while the node opens is why it does not', async () => {
  for (const when of ['write', 'read'] as const) {
    await using cluster = nodeCluster({ nodes: 1 });
    const wal = memoryWal();
    await cluster.open('a', { wal });
    for (const partitionId of [0, 1]) await cluster.leader(partitionId);
    await cluster.run(electionMs);
    await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
    await cluster.close('a');
    let events: WalEvents | undefined;
    const found = (): void =>
      events?.damaged(1, new KommanderError('a record is damaged', { code: 'WAL_CORRUPT' }));
    const opening = cluster.open('a', {
      wal: {
        ...wal,
        open(heard) {
          events = heard;
          return wal.open();
        },
        write(batch) {
          if (when === 'write') found();
          return wal.write(batch);
        },
        read(range) {
          if (when === 'read' && range.partitionId === 0) found();
          return wal.read(range);
        },
      },
    });
    const error = await cluster.driveFailure(opening, 5 * electionMs);
    assert.equal(error.code, 'WAL_CORRUPT', when);
  }
});

test('a leader whose disk does not answer gives leadership away although its heartbeats flow', async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 60_000 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.seat('a').disk.hold();
  const write = cluster.node('a').replicate(1, 'put', text('x'));
  await cluster.until(
    () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
    'another node leads',
    5 * electionMs,
  );
  assert.ok(cluster.seat('a').observed.some(({ name }) => name === 'leadership-given-away'));
  await cluster.drive(cluster.node('b').replicate(1, 'put', text('y')));
  cluster.seat('a').disk.release();
  await cluster.drive(write);
  await cluster.converge();
});

test('a stall is reported once for each partition that is led, and not for one that has stopped', async () => {
  await using cluster = nodeCluster({
    partitions: 2,
    settings: { proposalTimeoutMs: 60_000 },
    machine: (nodeId, partitionId) => ({
      apply() {
        if (nodeId === 'a' && partitionId === 2) throw new Error('broken');
      },
    }),
  });
  await cluster.openAll();
  for (const partitionId of [1, 2]) await cluster.makeLeader('a', partitionId);
  await cluster.driveFailure(cluster.node('a').replicate(2, 'put', text('x')));
  // Nobody is told to take over, so that this node leads until it steps down.
  cluster.network.dropWhen(({ frame }) =>
    frame.items.some((item) => item.kind === 'raft' && item.message.type === 'timeoutNow'),
  );
  // Just after a quorum check no successor is known, and the leader would step down at once.
  await cluster.run(electionMs / 2);
  const { disk, observed } = cluster.seat('a');
  disk.hold();
  const write = cluster
    .node('a')
    .replicate(1, 'put', text('x'))
    .then(() => 'ok', codeOf);
  await cluster.run(3 * electionMs);
  const given = observed.filter(({ name }) => name === 'leadership-given-away');
  const reported = given.map(({ fields }) => fields.partitionId);
  assert.ok(reported.includes(1));
  assert.ok(!reported.includes(2), 'a stopped replica leads nothing');
  assert.equal(new Set(reported).size, reported.length, 'once each');
  disk.release();
  await cluster.drive(write);
});

test('a node that is alone does not give leadership away, to whom should it', async () => {
  await using cluster = nodeCluster({ nodes: 1, settings: { proposalTimeoutMs: 60_000 } });
  await cluster.openAll();
  await cluster.leader();
  const { term } = cluster.node('a').status().partitions[1] ?? { term: 0 };
  cluster.seat('a').disk.hold();
  const write = cluster.node('a').replicate(1, 'put', text('x'));
  await cluster.run(5 * electionMs);
  cluster.time.stall(5 * electionMs);
  await cluster.run(50);
  cluster.seat('a').disk.release();
  await cluster.drive(write, 50);
  assert.equal(cluster.node('a').status().partitions[1]?.term, term);
});

test('entries that cannot be read stop the replica', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  for (let i = 0; i < 5; i++) await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.close('a');
  cluster.seat('a').disk.failReads();
  const error = await cluster.driveFailure(cluster.open('a'));
  assert.equal(error.code, 'WAL_CORRUPT');
});

test('a restart reads the store in pages', async () => {
  await using cluster = nodeCluster({ nodes: 1, settings: { entryBytesMax: 262_144 } });
  await cluster.openAll();
  await cluster.leader();
  for (let i = 0; i < 40; i++) {
    const data = text(`${i} `.padEnd(200_000, '.'));
    await cluster.drive(cluster.node('a').replicate(1, 'put', data));
  }
  await cluster.close('a');
  const before = cluster.seat('a').disk.readCount;
  await cluster.open('a');
  const reads = cluster.seat('a').disk.readCount - before;
  assert.ok(reads >= 8 && reads <= 40, `${reads} reads of at most 1 MiB for 8 MB`);
  assert.deepEqual(
    cluster.journal('a').entries.map((entry) => Number.parseInt(entry.text, 10)),
    Array.from({ length: 40 }, (_, i) => i),
  );
});

test('what a restart has read is not kept in memory', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  for (let i = 0; i < 5; i++) {
    await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${i}`)));
  }
  await cluster.close('b');
  await cluster.close('a');
  await cluster.open('a');
  const before = cluster.seat('a').disk.readCount;
  assert.ok(before > 0);
  await cluster.open('c');
  await cluster.converge();
  assert.ok(cluster.seat('a').disk.readCount > before, 'the follower is served from the store');
});

test('what was read for a follower is kept for others that are as far behind, and not for long', async () => {
  for (const pauseMs of [0, 3 * electionMs]) {
    await using cluster = nodeCluster({ nodes: 5 });
    await cluster.openAll();
    await cluster.makeLeader('a');
    for (const nodeId of ['d', 'e']) await cluster.crash(nodeId);
    for (let i = 0; i < 5; i++) {
      await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${i}`)));
    }
    // What it has written itself is in its memory.
    await cluster.restart('a');
    await cluster.makeLeader('a');
    const { disk } = cluster.seat('a');
    await cluster.open('d');
    await cluster.converge();
    const { readCount } = disk;
    await cluster.run(pauseMs);
    await cluster.open('e');
    await cluster.converge();
    assert.equal(disk.readCount > readCount, pauseMs > 0, `after ${pauseMs} ms`);
  }
});

test('a follower that is far behind is served from the store', async () => {
  await using cluster = nodeCluster({ settings: { entryBytesMax: 262_144 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  // Far more than what is kept in memory.
  for (let i = 0; i < 60; i++) {
    const data = text(`${i} `.padEnd(200_000, '.'));
    await cluster.drive(cluster.node('a').replicate(1, 'put', data));
  }
  const before = cluster.seat('a').disk.readCount;
  await cluster.open('c');
  await cluster.converge();
  assert.ok(cluster.seat('a').disk.readCount > before);
  assert.equal(cluster.journal('c').restoreCount, 0);
  assert.deepEqual(cluster.journal('c').entries, cluster.journal('a').entries);
});

test('a replica whose pages of old entries were replaced by a new leader serves the new ones', async () => {
  await using cluster = nodeCluster({
    nodes: 5,
    settings: { proposalTimeoutMs: 60, entryBytesMax: 262_144 },
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { index } = await cluster.drive(cluster.node('a').replicate(1, 'put', text('begin')));
  await cluster.converge();
  await cluster.crash('e');
  // Entries that only a stores, and nobody commits.
  cluster.isolate(['a']);
  const lost = Array.from({ length: 20 }, (_, i) =>
    cluster.driveFailure(cluster.node('a').replicate(1, 'put', text(`lost ${i}`))),
  );
  await Promise.all(lost);
  for (const nodeId of ['a', 'b', 'c', 'd']) await cluster.crash(nodeId);
  cluster.network.heal();
  // After its restart a has them on disk only. It leads, reads them for its followers, and none of them arrives.
  cluster.network.dropWhen(({ frame }) =>
    frame.items.some(
      (item) =>
        item.kind === 'raft' &&
        item.partitionId === 1 &&
        item.message.type === 'appendEntries' &&
        (item.message.entries[0]?.index ?? Number.POSITIVE_INFINITY) <= index + 20,
    ),
  );
  for (const nodeId of ['b', 'c']) await cluster.open(nodeId);
  const before = cluster.seat('a').disk.readCount;
  await cluster.open('a');
  assert.equal(await cluster.leader(), 'a');
  await cluster.run(30);
  assert.ok(cluster.seat('a').disk.readCount > before, 'they were read');
  cluster.isolate(['a']);
  cluster.network.dropWhen(undefined);
  await cluster.open('d');
  const isLed = (nodeId: string): boolean => cluster.node(nodeId).isLeader(1);
  await cluster.until(() => ['b', 'c', 'd'].some(isLed), 'another node leads');
  const other = ['b', 'c', 'd'].find(isLed) ?? 'b';
  // More than is kept in memory, so that a, who stores them in place of its own, forgets them again.
  for (let i = 0; i < 30; i++) {
    const data = text(`kept ${i} `.padEnd(200_000, '.'));
    await cluster.drive(cluster.node(other).replicate(1, 'put', data, { timeoutMs: 10_000 }));
  }
  cluster.network.heal();
  await cluster.converge();
  await cluster.makeLeader('a');
  await cluster.open('e');
  await cluster.converge();
  for (const nodeId of cluster.nodeIds) {
    assert.equal(cluster.node(nodeId).status().partitions[1]?.stopped, undefined);
    assert.deepEqual(
      cluster.journal(nodeId).entries.map((entry) => entry.text.split(' .')[0]),
      ['begin', ...Array.from({ length: 30 }, (_, i) => `kept ${i}`)],
    );
  }
});
