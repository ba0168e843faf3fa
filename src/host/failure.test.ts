// A replica whose core meets a broken rule stops alone: with the evidence, with an answer for everybody who waits, and
// without the other partitions of the node.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { impostorOf } from '../../test/support/impostor.ts';
import { nodeCluster, text } from '../../test/support/node-cluster.ts';
import { isKommanderError } from '../base/errors.ts';

test('two leaders of one term stop the replica that sees both, and nothing else', async () => {
  await using cluster = nodeCluster({ partitions: 2 });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const node = cluster.node('a');
  const errors: unknown[] = [];
  node.on('replicationError', ({ partitionId, error }) => errors.push([partitionId, error]));
  await using impostor = await impostorOf(cluster, 'c');
  cluster.network.setLink('a', 'b', 'drop');
  const pending = cluster.driveFailure(node.replicate(1, 'put', text('waits')));
  impostor.claimLeadership('a');
  const answer = await pending;
  assert.ok(isKommanderError(answer, 'REPLICA_STOPPED'), String(answer));
  assert.equal(answer.mayHaveCommitted, true);
  assert.match(String(answer.cause), /a term has one leader/);
  const later = await cluster.driveFailure(node.replicate(1, 'put', text('refused')));
  assert.equal(later.code, 'REPLICA_STOPPED');
  assert.equal(errors.length, 1);
  assert.match(node.status().partitions[1]?.stopped ?? '', /partition 1 stopped/);
  cluster.network.heal();
  await cluster.drive(node.replicate(2, 'put', text('goes on')));
});
