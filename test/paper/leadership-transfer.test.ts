// Dissertation 3.10: a leader hands leadership over on request. It stops taking proposals, brings the chosen voter up
// to date, and tells it to campaign at once; if nothing comes of it, it goes on.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { campaign, transferLeadership } from '../../src/raft/raft.ts';
import type { ReplicaId } from '../../src/raft/types.ts';
import {
  act,
  type CoreCluster,
  compact,
  deliver,
  heal,
  inBothModes,
  intercept,
  leadersOf,
  ledCluster,
  partition,
  pass,
  proposeChange,
  proposeTexts,
  remove,
  replicaOf,
  settle,
  stateOf,
  tickOne,
  work,
} from '../support/core-cluster.ts';

function transfer(cluster: CoreCluster, to: ReplicaId, at: ReplicaId = 1): void {
  act(cluster, at, (state) => transferLeadership(state, to));
}

describe('thesis 3.10', () => {
  inBothModes((name, mode) => {
    it(`leadership goes to the chosen voter within one round, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, checkQuorum: true, preVote: true });
      transfer(cluster, 3);
      settle(cluster);
      assert.deepEqual(leadersOf(cluster), [3]);
    });

    it(`a voter that lags is brought up to date first, with ${name}`, () => {
      const cluster = ledCluster(mode);
      partition(cluster, [3]);
      proposeTexts(cluster, 1, 'a', 'b');
      settle(cluster);
      heal(cluster);
      transfer(cluster, 3);
      pass(cluster, 4);
      assert.deepEqual(leadersOf(cluster), [3]);
      assert.deepEqual(replicaOf(cluster, 3).machine.texts, ['a', 'b']);
    });

    it(`a voter that needs a snapshot gets it first, with ${name}`, () => {
      const cluster = ledCluster(mode);
      partition(cluster, [3]);
      proposeTexts(cluster, 1, 'a', 'b');
      settle(cluster);
      compact(cluster, 1);
      heal(cluster);
      transfer(cluster, 3);
      pass(cluster, 6);
      assert.deepEqual(leadersOf(cluster), [3]);
    });
  });

  it('a follower passes the wish on to the leader', () => {
    const cluster = ledCluster();
    transfer(cluster, 3, 2);
    settle(cluster);
    assert.deepEqual(leadersOf(cluster), [3]);
  });

  it('while leadership is handed over no proposal is taken', () => {
    const cluster = ledCluster();
    cluster.isLost = ({ type }) => type === 'timeoutNow';
    transfer(cluster, 3);
    assert.equal(proposeTexts(cluster, 1, 'a'), 'dropped');
    assert.equal(proposeChange(cluster, 1, [remove(2)]), 'dropped');
  });

  it('a transfer that came to nothing is given up after an election timeout, and proposals are taken again', () => {
    const cluster = ledCluster();
    cluster.isLost = ({ type }) => type === 'timeoutNow';
    transfer(cluster, 3);
    pass(cluster, 9);
    assert.equal(stateOf(cluster, 1).transferee, 3);
    pass(cluster, 1);
    assert.equal(stateOf(cluster, 1).transferee, undefined);
    assert.equal(proposeTexts(cluster, 1, 'a'), 'appended');
  });

  it('the same wish again does not prolong the transfer', () => {
    const cluster = ledCluster();
    cluster.isLost = ({ type }) => type === 'timeoutNow';
    for (let i = 0; i < 10; i++) {
      transfer(cluster, 3);
      pass(cluster, 1);
    }
    assert.equal(stateOf(cluster, 1).transferee, undefined);
  });

  it('another wish replaces the first one', () => {
    const cluster = ledCluster();
    partition(cluster, [3]);
    transfer(cluster, 3);
    transfer(cluster, 2);
    settle(cluster);
    assert.deepEqual(leadersOf(cluster), [2]);
  });

  it('a transfer to the leader itself only ends the one that is going on', () => {
    const cluster = ledCluster();
    cluster.isLost = ({ type }) => type === 'timeoutNow';
    transfer(cluster, 3);
    transfer(cluster, 1);
    assert.equal(stateOf(cluster, 1).transferee, undefined);
    assert.equal(proposeTexts(cluster, 1, 'a'), 'appended');
  });

  it('learners and strangers do not become leaders', () => {
    const cluster = ledCluster({ learners: [4] });
    for (const to of [4, 9]) {
      transfer(cluster, to);
      assert.equal(stateOf(cluster, 1).transferee, undefined);
    }
  });

  it('a voter that is removed meanwhile does not become leader', () => {
    const cluster = ledCluster({ voters: [1, 2, 3] });
    proposeChange(cluster, 1, [remove(3)]);
    cluster.isLost = ({ type }) => type === 'timeoutNow';
    transfer(cluster, 3);
    settle(cluster);
    assert.equal(stateOf(cluster, 1).transferee, undefined);
  });

  it('the chosen voter campaigns without a pre-vote and in spite of those who hear their leader', () => {
    const cluster = ledCluster({ preVote: true, checkQuorum: true });
    transfer(cluster, 2);
    work(cluster, 1);
    for (const message of intercept(cluster, 'timeoutNow')) deliver(cluster, message);
    work(cluster, 2);
    const requests = intercept(cluster, 'requestVote');
    assert.equal(requests.length, 2);
    assert.ok(requests.every(({ preVote, leadershipTransfer }) => !preVote && leadershipTransfer));
  });

  it('only a follower obeys, and only its leader’s term', () => {
    const cluster = ledCluster();
    const late = { type: 'timeoutNow', from: 1, to: 3, term: 1 } as const;
    deliver(cluster, late);
    assert.equal(stateOf(cluster, 3).role, 'follower');
    deliver(cluster, { ...late, to: 1, term: 2 });
    assert.equal(stateOf(cluster, 1).role, 'leader');
  });

  it('a leader that was deposed in between forgets the transfer', () => {
    const cluster = ledCluster();
    cluster.isLost = ({ type }) => type === 'timeoutNow';
    transfer(cluster, 3);
    heal(cluster);
    act(cluster, 2, campaign);
    settle(cluster);
    assert.equal(stateOf(cluster, 1).transferee, undefined);
  });

  it('a lost append on the way to the chosen voter only delays the transfer', () => {
    const cluster = ledCluster();
    partition(cluster, [3]);
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    heal(cluster);
    transfer(cluster, 3);
    work(cluster, 1);
    cluster.network = [];
    tickOne(cluster, 1, 2);
    settle(cluster);
    assert.deepEqual(leadersOf(cluster), [3]);
  });
});
