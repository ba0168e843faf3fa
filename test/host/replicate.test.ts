// Writes as callers see them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nodeCluster, text } from '../support/node-cluster.ts';

test('a write is applied on every replica, and its caller gets what apply returned', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  const leader = await cluster.leader();
  const result = await cluster.drive(cluster.node(leader).replicate(1, 'put', text('x')));
  assert.equal(result.result, `${result.index}:x`);
  await cluster.converge();
  for (const nodeId of cluster.nodeIds) {
    assert.deepEqual(
      cluster.journal(nodeId).entries.map((entry) => entry.text),
      ['x'],
    );
  }
});

test('writes that are appended while earlier ones wait for their commit get places of their own', async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 60_000 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (const follower of ['b', 'c']) cluster.seat(follower).disk.hold();
  const texts = ['first', 'second', 'third'];
  const writes: Promise<{ readonly index: number }>[] = [];
  for (const one of texts) {
    writes.push(cluster.node('a').replicate(1, 'put', text(one)));
    await cluster.time.settle();
  }
  for (const follower of ['b', 'c']) cluster.seat(follower).disk.release();
  const places = (await cluster.drive(Promise.all(writes))).map(({ index }) => index);
  const entries = cluster.journal('a').entries.slice(-texts.length);
  assert.deepEqual(
    entries.map((entry) => [entry.index, entry.text]),
    texts.map((one, at) => [places[at], one]),
  );
});

test('a write whose leader is deposed is answered as committed when the next leader commits it', async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 600_000 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.converge();
  // Its followers get the entry, and their acknowledgements do not arrive.
  for (const follower of ['b', 'c']) cluster.network.setLink(follower, 'a', 'drop');
  const write = cluster.node('a').replicate(1, 'put', text('x'));
  await cluster.time.settle();
  cluster.isolate(['a']);
  const isLed = (nodeId: string): boolean => cluster.node(nodeId).isLeader(1);
  await cluster.until(() => ['b', 'c'].some(isLed), 'another node leads');
  await cluster.until(() => cluster.node('a').leaderOf(1) === undefined, 'a has given up');
  cluster.network.heal();
  const { index } = await cluster.drive(write);
  const entry = cluster.journal('b').entries.find((one) => one.text === 'x');
  assert.equal(entry?.index, index);
});

test('a write of one partition does not wait for news after the disk was busy with another one', async () => {
  await using cluster = nodeCluster({ nodes: 1, partitions: 2 });
  await cluster.openAll();
  await cluster.leader(1);
  await cluster.leader(2);
  const { disk } = cluster.seat('a');
  disk.hold();
  const first = cluster.node('a').replicate(1, 'put', text('x'));
  await cluster.time.settle();
  const second = cluster.node('a').replicate(2, 'put', text('y'));
  await cluster.time.settle();
  disk.release();
  // Without a tick: nothing but the disk's answer moves it on.
  await cluster.time.settle();
  await cluster.drive(first, 1);
  await cluster.drive(second, 1);
});

test('a write that was passed on to a leader whose replica stops is refused as not written, and may be tried again', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.seat('a').disk.hold();
  cluster
    .node('a')
    .replicate(1, 'put', text('busy'))
    .catch(() => {});
  await cluster.time.settle();
  const forwarded = cluster.node('b').replicate(1, 'put', text('x'));
  await cluster.time.settle();
  cluster.seat('a').disk.fail();
  cluster.seat('a').disk.release();
  const error = await cluster.driveFailure(forwarded);
  assert.ok(['PROPOSAL_DROPPED', 'OUTCOME_UNKNOWN'].includes(error.code ?? ''), error.code);
});

test('writes that were passed on to an old leader are answered when the connection to it is lost', async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 600_000 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.network.setLink('a', 'b', 'drop');
  const toOld = cluster.node('b').replicate(1, 'put', text('to the old leader'));
  await cluster.run(1);
  cluster.isolate(['a']);
  await cluster.until(
    () => cluster.node('b').leaderOf(1) !== undefined && cluster.node('b').leaderOf(1) !== 'a',
    'there is another leader',
  );
  if (cluster.node('b').isLeader(1)) {
    await cluster.drive(cluster.node('b').transferLeadership(1, 'c'));
  }
  const toNew = cluster.node('b').replicate(1, 'put', text('to the new leader'));
  await cluster.crash('a');
  const error = await cluster.driveFailure(toOld, 1_000);
  assert.equal(error.code, 'OUTCOME_UNKNOWN');
  await cluster.drive(toNew);
});
