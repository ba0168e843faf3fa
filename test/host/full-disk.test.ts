// A disk that is full for a while: what was accepted stays first in line and is written when there is room, what would
// have to wait for the disk is refused at once, reads and heartbeats go on, and whoever has room leads.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import type { WalBatch } from '../../src/ports/wal.ts';
import {
  codeOf,
  electionMs,
  type NodeCluster,
  nodeCluster,
  text,
} from '../support/node-cluster.ts';

const patient = { timeoutMs: 60_000 } as const;

function outcomeOf(call: Promise<unknown>): Promise<string> {
  return call.then(() => 'written', codeOf);
}

function namesOf(cluster: NodeCluster, nodeId: string): string[] {
  return cluster.seat(nodeId).observed.map(({ name }) => name);
}

function textsOf(cluster: NodeCluster, nodeId: string): string[] {
  return cluster.journal(nodeId).entries.map((entry) => entry.text);
}

function entryCountOf(batch: WalBatch | undefined): number {
  return (batch?.writes ?? []).reduce((sum, { entries }) => sum + entries.length, 0);
}

async function fillDisk(cluster: NodeCluster, nodeId: string): Promise<void> {
  cluster.seat(nodeId).disk.fill();
  await cluster.until(() => cluster.node(nodeId).status().diskFull, `${nodeId} knows it is full`);
}

/** A lone leader whose disk is full; the write that met the end of it waits. */
async function loneFull(cluster: NodeCluster): Promise<{ readonly first: Promise<string> }> {
  await cluster.openAll();
  await cluster.leader();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('before')));
  cluster.seat('a').disk.fill();
  const first = outcomeOf(cluster.node('a').replicate(1, 'put', text('first'), patient));
  await cluster.until(() => cluster.node('a').status().diskFull, 'the disk is known to be full');
  return { first };
}

test('a full disk refuses writes at once, serves reads, and goes on without a restart when there is room', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  const { first } = await loneFull(cluster);
  const node = cluster.node('a');
  const { term } = node.status().partitions[1] ?? {};
  for (const call of [
    node.replicate(1, 'put', text('second')),
    node.replicate(1, [{ type: 'put', data: text('third') }]),
    node.checkpoint(1),
    node.changeMembership(1, [{ kind: 'addLearner', nodeId: 'a' }]),
  ]) {
    const error = await cluster.driveFailure(call, 1);
    assert.ok(isKommanderError(error, 'DISK_FULL'), codeOf(error));
    assert.equal(error.mayHaveCommitted, false);
    assert.equal(error.retryable, true);
    assert.equal(error.details.nodeId, 'a');
  }
  await cluster.run(20 * electionMs);
  assert.equal((await cluster.drive(node.read(1))).term, term, 'it stays leader');
  assert.deepEqual(textsOf(cluster, 'a'), ['before']);
  cluster.seat('a').disk.makeRoom();
  assert.equal(await cluster.drive(first), 'written');
  assert.equal(node.status().diskFull, false);
  await cluster.drive(node.replicate(1, 'put', text('after')));
  assert.deepEqual(textsOf(cluster, 'a'), ['before', 'first', 'after']);
  const told = namesOf(cluster, 'a').filter((name) => name.startsWith('disk-'));
  assert.deepEqual(told, ['disk-full', 'disk-has-room'], 'once each');
  await cluster.restart('a');
  await cluster.leader();
  assert.deepEqual(textsOf(cluster, 'a'), ['before', 'first', 'after']);
});

test('what a full disk refused is handed over again, first in line, after a pause', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  const { first } = await loneFull(cluster);
  const { disk } = cluster.seat('a');
  const refused = disk.batches.at(-1);
  assert.equal(entryCountOf(refused), 1);
  const before = disk.refusedCount;
  await cluster.run(10 * electionMs);
  assert.equal(disk.refusedCount - before, 10, 'once in ten ticks');
  assert.deepEqual(disk.batches.at(-1)?.writes, refused?.writes);
  disk.makeRoom();
  await cluster.drive(first);
  assert.ok(disk.batches.some((batch) => batch !== refused && entryCountOf(batch) === 1));
});

test('what comes while a write is refused is stored behind it', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { disk } = cluster.seat('c');
  disk.hold();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('first')));
  await cluster.run(5);
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('second')));
  await cluster.run(5);
  disk.fill();
  disk.release();
  await cluster.until(() => cluster.node('c').status().diskFull, 'the disk is known to be full');
  disk.makeRoom();
  await cluster.converge();
  assert.deepEqual(textsOf(cluster, 'c'), ['first', 'second']);
});

test('writes that wait for the disk when it turns out to be full are refused', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  const { disk } = cluster.seat('a');
  disk.hold();
  const node = cluster.node('a');
  const first = outcomeOf(node.replicate(1, 'put', text('first'), patient));
  await cluster.time.settle();
  const queued = [1, 2, 3].map((i) => outcomeOf(node.replicate(1, 'put', text(`${i}`), patient)));
  await cluster.run(10);
  disk.fill();
  disk.release();
  const outcomes = await cluster.drive(Promise.all(queued), 5);
  assert.deepEqual(outcomes, ['DISK_FULL', 'DISK_FULL', 'DISK_FULL']);
  disk.makeRoom();
  assert.equal(await cluster.drive(first), 'written');
  assert.deepEqual(textsOf(cluster, 'a'), ['first']);
});

test('a leader whose disk is full gives leadership to a node that has room, and catches up when it has some', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.seat('a').disk.fill();
  // The followers have room: the write commits although the leader cannot store it.
  const first = outcomeOf(cluster.node('a').replicate(1, 'put', text('first'), patient));
  await cluster.until(() => cluster.node('a').status().diskFull, 'the disk is known to be full');
  assert.equal(
    await cluster.drive(outcomeOf(cluster.node('b').replicate(1, 'put', text('passed on')))),
    'DISK_FULL',
    'the leader says so to whom passes a write on',
  );
  await cluster.until(
    () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
    'another node leads',
  );
  assert.ok(namesOf(cluster, 'a').includes('leadership-given-away'));
  // Passed on to the new leader; this node learns the outcome when it can store the entry.
  const second = outcomeOf(cluster.node('a').replicate(1, 'put', text('second'), patient));
  await cluster.until(() => textsOf(cluster, 'b').length === 2, 'the others have both');
  await cluster.run(20 * electionMs);
  assert.equal(cluster.node('a').isLeader(1), false);
  assert.deepEqual(textsOf(cluster, 'a'), []);
  cluster.seat('a').disk.makeRoom();
  assert.deepEqual(await cluster.drive(Promise.all([first, second])), ['written', 'written']);
  await cluster.converge();
  assert.deepEqual(textsOf(cluster, 'a'), ['first', 'second']);
});

test('a leader offers leadership to one after the other until one that has room takes it', async () => {
  for (const full of ['b', 'c', 'd', 'e']) {
    await using cluster = nodeCluster({ nodes: 5 });
    await cluster.openAll();
    await cluster.makeLeader('a');
    await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
    await cluster.converge();
    // All have the same entries; what is left to write is the commit index.
    for (const nodeId of ['a', full]) await fillDisk(cluster, nodeId);
    await cluster.until(
      () => ['b', 'c', 'd', 'e'].some((nodeId) => cluster.node(nodeId).isLeader(1)),
      'another node leads',
    );
    assert.equal(cluster.node(full).isLeader(1), false);
    const leader = await cluster.leader();
    await cluster.drive(cluster.node(leader).replicate(1, 'put', text('y')));
  }
});

test('when all disks are full the leader stays, serves reads and refuses writes', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (const nodeId of cluster.nodeIds) cluster.seat(nodeId).disk.fill();
  const first = outcomeOf(cluster.node('a').replicate(1, 'put', text('first'), patient));
  for (const nodeId of cluster.nodeIds) {
    await cluster.until(() => cluster.node(nodeId).status().diskFull, `${nodeId} is full`);
  }
  const { term } = cluster.node('a').status().partitions[1] ?? {};
  for (let i = 0; i < 30; i++) {
    await cluster.run(electionMs);
    assert.equal(cluster.node('a').isLeader(1), true);
    for (const nodeId of cluster.nodeIds) await cluster.drive(cluster.node(nodeId).read(1));
    assert.equal(
      await cluster.drive(outcomeOf(cluster.node('c').replicate(1, 'put', text('x')))),
      'DISK_FULL',
    );
  }
  assert.equal(cluster.node('a').status().partitions[1]?.term, term);
  for (const nodeId of cluster.nodeIds) cluster.seat(nodeId).disk.makeRoom();
  assert.equal(await cluster.drive(first), 'written');
  await cluster.converge();
  for (const nodeId of cluster.nodeIds) assert.deepEqual(textsOf(cluster, nodeId), ['first']);
});

test('a follower whose disk is full takes no entries, neither votes nor campaigns, and keeps its queue short', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { disk } = cluster.seat('c');
  disk.fill();
  for (let i = 0; i < 100; i++) {
    await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${i}`)));
  }
  await cluster.until(() => cluster.node('c').status().diskFull, 'the disk is known to be full');
  await cluster.crash('a');
  await cluster.run(50 * electionMs);
  assert.equal(cluster.node('b').isLeader(1), false, 'one of three is no quorum');
  assert.equal(cluster.node('c').isLeader(1), false);
  const waiting = disk.batches.at(-1)?.writes.length ?? 0;
  assert.ok(waiting < 10, `${waiting} requests wait`);
  disk.makeRoom();
  const leader = await cluster.leader();
  assert.equal(leader, 'b', 'c lacks what is committed');
  await cluster.converge();
  assert.equal(textsOf(cluster, 'c').length, 100);
});

test('a disk that does not answer for hours lets no queue grow without bound', async () => {
  await using cluster = nodeCluster({ settings: { inflightMessagesMax: 1 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { disk } = cluster.seat('c');
  disk.hold();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('first')));
  // Every heartbeat answer lets the leader try an append, which the follower could only answer once its disk has.
  await cluster.run(60 * electionMs);
  const before = disk.batches.length;
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('second')));
  disk.release();
  await cluster.converge();
  const counts = disk.batches
    .slice(before - 1)
    .map(({ writes }) => writes.filter(({ partitionId }) => partitionId === 1).length);
  assert.ok(Math.max(...counts) >= 10, `the queue was used: ${counts}`);
  assert.ok(Math.max(...counts) <= 16, `16 windows of 1 message: ${counts}`);
});

test('a node does not open on a full disk, and opens with everything once there is room', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('kept')));
  await cluster.close('a');
  cluster.seat('a').disk.fill();
  for (let i = 0; i < 2; i++) {
    assert.equal(codeOf(await cluster.driveFailure(cluster.open('a'))), 'DISK_FULL');
  }
  cluster.seat('a').disk.makeRoom();
  await cluster.open('a');
  await cluster.leader();
  assert.deepEqual(textsOf(cluster, 'a'), ['kept']);
});

test('a cluster that forms while a disk is full keeps the genesis for when there is room', async () => {
  await using cluster = nodeCluster();
  for (const nodeId of ['a', 'c']) await cluster.open(nodeId);
  const { disk } = cluster.seat('c');
  disk.fill();
  await cluster.open('b');
  await cluster.until(() => cluster.node('c').status().diskFull, 'c meets its full disk');
  const isGenesis = ({ meta }: WalBatch): boolean => meta.has('genesis');
  await cluster.run(10 * electionMs);
  assert.ok(disk.batches.at(-1) !== undefined && isGenesis(disk.batches.at(-1) as WalBatch));
  disk.makeRoom();
  const before = disk.batches.length;
  await cluster.until(() => !cluster.node('c').status().diskFull, 'c has room');
  assert.equal(disk.batches.slice(before).filter(isGenesis).length, 1, 'once');
  await cluster.leader();
});

test('a commit index that a full disk refused is stored when there is room', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  for (const partitionId of [0, 1]) {
    await cluster.leader(partitionId);
    await cluster.converge(partitionId);
  }
  const { index } = await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  const { disk } = cluster.seat('a');
  disk.fill();
  // Nothing but the commit index is left to write.
  await cluster.until(() => cluster.node('a').status().diskFull, 'the disk is known to be full');
  await cluster.run(10 * electionMs);
  disk.makeRoom();
  const before = disk.batches.length;
  await cluster.run(10 * electionMs);
  assert.equal(cluster.node('a').status().diskFull, false, 'it is noticed without a write');
  const commits = disk.batches
    .slice(before)
    .flatMap(({ writes }) => writes)
    .filter(({ partitionId, hardState }) => partitionId === 1 && hardState?.commitIndex === index);
  assert.equal(commits.length, 1);
});

test('a node whose disk is full closes', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  const { first } = await loneFull(cluster);
  await cluster.close('a');
  assert.equal(await first, 'NODE_CLOSED');
  cluster.seat('a').disk.makeRoom();
  await cluster.open('a');
  await cluster.leader();
  assert.equal(textsOf(cluster, 'a')[0], 'before');
});
