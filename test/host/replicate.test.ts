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
