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
