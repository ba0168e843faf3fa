// Mistakes of operators and applications that would cost data or a replica if nobody noticed them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { nodeCluster, text } from '../support/node-cluster.ts';

test("a member's directory is not opened as another member's", async () => {
  await using cluster = nodeCluster();
  const wal = memoryWal();
  await cluster.open('a');
  await cluster.open('b', { wal });
  await cluster.open('c');
  await cluster.leader();
  await cluster.close('b');
  await cluster.close('c');
  const error = await cluster.driveFailure(cluster.open('c', { wal }));
  assert.ok(isKommanderError(error, 'INVALID_OPTION'));
  assert.equal(error.details.option, 'nodeId');
  assert.match(error.message, /"b"/);
  await cluster.open('b', { wal });
});

test('what snapshot() gives is a Uint8Array, or the replica stops before anything is stored', async () => {
  for (const given of [undefined, null, 'state', 5, Promise.resolve(undefined)]) {
    await using cluster = nodeCluster({
      nodes: 1,
      machine: () =>
        ({
          apply: () => undefined,
          snapshot: () => given,
          restore: () => {},
        }) as unknown as StateMachine,
    });
    await cluster.openAll();
    await cluster.leader();
    const node = cluster.node('a');
    await cluster.drive(node.replicate(1, 'put', text('x')));
    const error = await cluster.driveFailure(node.checkpoint(1));
    assert.equal(error.code, 'APPLY_FAILED', typeof given);
    assert.equal(node.status().partitions[1]?.compactedIndex, 0);
    assert.equal(node.status().state, 'running');
  }
});

test('a state machine is an object with apply(), not a promise of one', async () => {
  for (const made of [5, {}, Promise.resolve({ apply: () => {} }), { apply: 'me' }]) {
    await using cluster = nodeCluster({ nodes: 1 });
    const stateMachine = (): StateMachine => made as unknown as StateMachine;
    const error = await cluster.driveFailure(cluster.open('a', { stateMachine }));
    assert.ok(isKommanderError(error, 'INVALID_OPTION'), String(error));
    assert.equal(error.details.option, 'stateMachine');
  }
});

test('data that is transferred away before it was taken fails its own write and no other', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  const node = cluster.node('a');
  const early = new Uint8Array(8);
  early.buffer.transfer();
  assert.equal(
    (await cluster.driveFailure(node.replicate(1, 'put', early))).code,
    'INVALID_ARGUMENT',
  );
  const late = new Uint8Array(8);
  const writes = [
    node.replicate(1, 'put', text('before')),
    cluster.driveFailure(node.replicate(1, 'put', late)),
    node.replicate(1, 'put', text('behind')),
  ] as const;
  late.buffer.transfer();
  const [before, lost, behind] = await cluster.drive(Promise.all(writes));
  assert.ok(isKommanderError(lost, 'INVALID_ARGUMENT'));
  assert.equal(behind.index, before.index + 1);
  assert.equal(node.status().partitions[1]?.queuedProposals, 0);
});

test('a refusal of a leader that has just lost its place is no refusal of the caller', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  // b still believes in a when its write arrives there.
  cluster.network.dropWhen(({ from, to }) => from === 'c' && to === 'b');
  await cluster.drive(cluster.node('a').transferLeadership(1, 'c'));
  const b = cluster.node('b');
  assert.equal(b.leaderOf(1), 'a', 'b has not heard of it');
  const error = await cluster.driveFailure(b.replicate(1, 'put', text('x')));
  assert.ok(isKommanderError(error, 'PROPOSAL_DROPPED'));
  assert.equal(error.retryable, true);
  assert.equal(error.mayHaveCommitted, false);
  cluster.network.heal();
  cluster.network.dropWhen(undefined);
  await cluster.until(() => b.leaderOf(1) === 'c', 'b has heard of the new leader');
  await cluster.drive(b.replicate(1, 'put', text('x')));
});
