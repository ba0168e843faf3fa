// What a follower does when the connection to its leader is lost: it campaigns soon, and disturbs nobody who lives.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  crash,
  leadersOf,
  ledCluster,
  newCluster,
  partition,
  pass,
  settle,
  stateOf,
} from '../../test/support/core-cluster.ts';
import { must } from '../base/assert.ts';
import { reportUnreachable } from './raft.ts';

const electionTicks = 20;

test('a follower whose connection to the leader broke campaigns long before an election timeout', () => {
  const cluster = ledCluster({ electionTicks, preVote: true, checkQuorum: true, seed: 7 });
  crash(cluster, 1);
  for (const id of [2, 3]) reportUnreachable(stateOf(cluster, id), 1);
  pass(cluster, Math.ceil(electionTicks / 4) + 1);
  settle(cluster);
  const roles = [2, 3].map((id) => stateOf(cluster, id).role).sort();
  assert.deepEqual(roles, ['follower', 'leader']);
});

test('a follower that alone lost its connection deposes nobody', () => {
  const cluster = ledCluster({ electionTicks, preVote: true, checkQuorum: true, seed: 7 });
  const term = stateOf(cluster, 1).currentTerm;
  partition(cluster, [2]);
  reportUnreachable(stateOf(cluster, 2), 1);
  pass(cluster, electionTicks);
  assert.equal(stateOf(cluster, 1).role, 'leader');
  assert.equal(stateOf(cluster, 1).currentTerm, term);
  assert.equal(stateOf(cluster, 2).currentTerm, term, 'a pre-vote changes no term');
  assert.equal(stateOf(cluster, 3).leader, 1);
});

test('a suspicion ends with the next message of the leader', () => {
  const cluster = ledCluster({ electionTicks, preVote: true, checkQuorum: true, seed: 7 });
  reportUnreachable(stateOf(cluster, 2), 1);
  assert.equal(stateOf(cluster, 2).leader, undefined);
  pass(cluster, 2);
  settle(cluster);
  assert.equal(stateOf(cluster, 2).leader, 1);
  assert.equal(stateOf(cluster, 1).role, 'leader');
});

test('with lease reads, or without pre-votes, a lost connection makes nobody disloyal', () => {
  for (const options of [{ reads: 'lease' as const }, { preVote: false }]) {
    const cluster = newCluster({
      voters: [1, 2, 3],
      electionTicks,
      checkQuorum: true,
      preVote: true,
      ...options,
    });
    pass(cluster, 4 * electionTicks);
    const leader = must(leadersOf(cluster)[0], 'somebody was elected');
    const follower = leader === 2 ? 3 : 2;
    reportUnreachable(stateOf(cluster, follower), leader);
    assert.equal(stateOf(cluster, follower).leader, leader);
  }
});
