// Who holds replicas, as callers change it: learners, promotion, removal, replacement by joint consensus, and what the
// caller of a change is told. The rules of the core are proved in `test/paper/membership.test.ts`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MembershipChange } from '../../src/host/api.ts';
import { codeOf, electionMs, nodeCluster, text } from '../support/node-cluster.ts';

const add = (nodeId: string): MembershipChange => ({ kind: 'addVoter', nodeId });
const learn = (nodeId: string): MembershipChange => ({ kind: 'addLearner', nodeId });
const remove = (nodeId: string): MembershipChange => ({ kind: 'remove', nodeId });

test('a voter becomes a learner, a learner is removed, and a removed node comes back and is promoted', async () => {
  await using cluster = nodeCluster({ nodes: 4 });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const a = cluster.node('a');
  const learned = await cluster.drive(a.changeMembership(1, [learn('d')]));
  assert.deepEqual([learned.voters, learned.learners], [['a', 'b', 'c'], ['d']]);
  const removed = await cluster.drive(a.changeMembership(1, [remove('d')]));
  assert.deepEqual([removed.voters, removed.learners], [['a', 'b', 'c'], []]);
  await cluster.drive(a.replicate(1, 'put', text('without d')));
  assert.equal(cluster.journal('d').entries.length, 0);
  await cluster.drive(a.changeMembership(1, [learn('d')]));
  const promoted = await cluster.drive(a.changeMembership(1, [add('d')]));
  assert.deepEqual([promoted.voters, promoted.learners], [['a', 'b', 'c', 'd'], []]);
  await cluster.converge();
  assert.deepEqual(
    cluster.journal('d').entries.map((entry) => entry.text),
    ['without d'],
  );
});

test('several changes are one step: the new members alone decide when it is answered', async () => {
  await using cluster = nodeCluster({ nodes: 5 });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { voters } = await cluster.drive(
    cluster.node('a').changeMembership(1, [remove('d'), remove('e'), learn('c')]),
  );
  assert.deepEqual(voters, ['a', 'b']);
  for (const nodeId of ['c', 'd', 'e']) await cluster.crash(nodeId);
  const { result } = await cluster.drive(cluster.node('b').replicate(1, 'put', text('two')));
  assert.match(String(result), /:two$/);
});

test('a leader that removes itself is answered, steps down, and refuses what it cannot know', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const a = cluster.node('a');
  const { voters } = await cluster.drive(a.changeMembership(1, [remove('a')]));
  assert.deepEqual(voters, ['b', 'c']);
  await cluster.until(
    () => cluster.node('b').leaderOf(1) !== undefined && cluster.node('b').leaderOf(1) !== 'a',
    'another node leads',
  );
  assert.equal(a.isLeader(1), false);
  const calls = [() => a.replicate(1, 'put', text('x')), () => a.read(1), () => a.waitForLeader(1)];
  for (const call of calls) {
    const error = await cluster.driveFailure(call());
    assert.equal(codeOf(error), 'NO_REPLICA');
    assert.match(error.message, /ask b, c/);
  }
  await cluster.drive(cluster.node('b').replicate(1, 'put', text('without a')));
});

test('members are the same after a restart and after a checkpoint', async () => {
  await using cluster = nodeCluster({ settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').changeMembership(1, [learn('c')]));
  await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.converge();
  for (const nodeId of cluster.nodeIds) {
    await cluster.restart(nodeId);
    await cluster.leader();
    const status = cluster.node(nodeId).status().partitions[1];
    assert.deepEqual(status?.confState.voters, [1, 2]);
    assert.deepEqual(status?.confState.learners, [3]);
  }
});

test('a change that cannot be begun is refused with its reason, and nothing is changed', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const a = cluster.node('a');
  const refusal = async (changes: readonly MembershipChange[], nodeId = 'a'): Promise<string> =>
    codeOf(await cluster.driveFailure(cluster.node(nodeId).changeMembership(1, changes)));
  assert.equal(await refusal([]), 'INVALID_ARGUMENT');
  assert.equal(await refusal([remove('b'), learn('b')]), 'INVALID_ARGUMENT');
  assert.equal(await refusal([null as unknown as MembershipChange]), 'INVALID_ARGUMENT');
  assert.equal(
    await refusal([{ kind: 'promote', nodeId: 'b' } as unknown as MembershipChange]),
    'INVALID_ARGUMENT',
  );
  assert.equal(await refusal([add('nobody')]), 'UNKNOWN_NODE');
  assert.equal(await refusal([remove('c')], 'b'), 'NOT_LEADER');
  assert.equal(await refusal([remove('a'), remove('b'), remove('c')]), 'MEMBERSHIP_REFUSED');
  const first = a.changeMembership(1, [learn('c')]);
  const second = await cluster.driveFailure(a.changeMembership(1, [remove('b')]));
  assert.equal(codeOf(second), 'MEMBERSHIP_REFUSED');
  assert.match(second.message, /may not be applied yet/);
  assert.deepEqual((await cluster.drive(first)).voters, ['a', 'b']);
});

test('a change without a quorum times out and may still happen; another leader may replace it', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.isolate(['a']);
  const a = cluster.node('a');
  const short = a.changeMembership(1, [remove('c')], { timeoutMs: electionMs / 2 });
  const error = await cluster.driveFailure(short);
  assert.equal(codeOf(error), 'PROPOSAL_TIMEOUT');
  const lasting = cluster.driveFailure(
    a.changeMembership(1, [remove('c')], { timeoutMs: 60_000 }),
    90_000,
  );
  assert.equal(codeOf(await lasting), 'MEMBERSHIP_REFUSED');
  await cluster.until(
    () => cluster.node('b').leaderOf(1) === 'b' || cluster.node('c').leaderOf(1) === 'c',
    'another leads',
  );
  cluster.network.heal();
  await cluster.leader();
  await cluster.converge();
  assert.deepEqual(a.status().partitions[1]?.confState.voters, [1, 2, 3]);
});

test('the caller of a change that another leader replaced hears that it was lost', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.isolate(['a']);
  const waiting = cluster.node('a').changeMembership(1, [remove('c')], { timeoutMs: 60_000 });
  waiting.catch(() => {});
  await cluster.run(5 * electionMs);
  cluster.network.heal();
  assert.equal(codeOf(await cluster.driveFailure(waiting)), 'PROPOSAL_LOST');
});

test('a follower that forgets its leader obeys it again with its next message', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const b = cluster.node('b');
  b.forgetLeader(1);
  assert.equal(b.leaderOf(1), undefined);
  await cluster.until(() => b.leaderOf(1) === 'a', 'the leader is known again');
  cluster.node('a').forgetLeader(1);
  assert.equal(cluster.node('a').isLeader(1), true);
  assert.throws(() => b.forgetLeader(7), { code: 'UNKNOWN_PARTITION' });
});

test('followers that have forgotten a leader elect another one that asks', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.isolate(['a']);
  const before = cluster.time.monotonicMs();
  cluster.node('b').forgetLeader(1);
  cluster.node('c').forgetLeader(1);
  await cluster.until(
    () => ['b', 'c'].includes(String(cluster.node('b').leaderOf(1))),
    'another leads',
  );
  assert.ok(cluster.time.monotonicMs() - before <= 3 * electionMs);
});

test('a restart does not forget a change of the members: the old voters alone elect nobody any more', async () => {
  await using cluster = nodeCluster({ nodes: 5 });
  await cluster.openAll();
  await cluster.makeLeader('b');
  // c is behind, and a and b crash before any quiet moment in which commit indexes are stored.
  cluster.isolate(['c']);
  const change = cluster.node('b').changeMembership(1, [remove('b'), remove('c')]);
  assert.deepEqual((await cluster.drive(change)).voters, ['a', 'd', 'e']);
  await cluster.until(
    () =>
      ['a', 'd', 'e'].every((nodeId) => {
        const conf = cluster.node(nodeId).status().partitions[1]?.confState;
        return conf?.voters.join() === '1,4,5' && conf.votersOutgoing.length === 0;
      }),
    'the change is applied by those who stay',
  );
  await cluster.crash('a');
  await cluster.crash('b');
  cluster.network.heal();
  cluster.isolate(['d', 'e']);
  await cluster.open('a');
  await cluster.open('b');
  await cluster.until(
    () => ['d', 'e'].some((nodeId) => cluster.node(nodeId).isLeader(1)),
    'the new voters have a leader',
  );
  const leader = ['d', 'e'].find((nodeId) => cluster.node(nodeId).isLeader(1)) ?? 'd';
  await cluster.drive(cluster.node(leader).replicate(1, 'put', text('by the new voters')));
  for (let i = 0; i < 20; i++) {
    await cluster.run(electionMs);
    const led = ['a', 'b', 'c'].filter((nodeId) => cluster.node(nodeId).isLeader(1));
    assert.deepEqual(led, [], 'nobody leads by the votes of the old members');
  }
});
