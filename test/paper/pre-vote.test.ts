// Dissertation 9.6: a replica asks whether it would be elected before it enters a new term, so that one that was cut
// off does not depose a healthy leader when it comes back.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { campaign } from '../../src/raft/raft.ts';
import {
  act,
  deliver,
  heal,
  inBothModes,
  intercept,
  leadersOf,
  ledCluster,
  newCluster,
  partition,
  pass,
  proposeTexts,
  settle,
  stateOf,
  tickOne,
  work,
} from '../support/core-cluster.ts';
import { clusterWithLog, heartbeatOf, voteOf, voteRequestOf } from '../support/core-messages.ts';

const start = { index: 1, term: 1 };

describe('thesis 9.6', () => {
  inBothModes((name, mode) => {
    it(`a replica that was cut off comes back in the same term and deposes nobody, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, preVote: true, checkQuorum: true });
      partition(cluster, [3]);
      pass(cluster, 100);
      assert.equal(stateOf(cluster, 3).currentTerm, 2);
      heal(cluster);
      pass(cluster, 20);
      assert.deepEqual(leadersOf(cluster), [1]);
      assert.equal(stateOf(cluster, 1).currentTerm, 2);
    });
  });

  it('asking changes neither the term nor the vote, on either side', () => {
    const cluster = newCluster({ voters: [1, 2, 3], preVote: true });
    act(cluster, 1, campaign);
    work(cluster, 1);
    const { role, currentTerm, votedFor } = stateOf(cluster, 1);
    assert.deepEqual(
      { role, currentTerm, votedFor },
      { role: 'preCandidate', currentTerm: 1, votedFor: undefined },
    );
    for (const request of intercept(cluster, 'requestVote')) {
      assert.equal(request.term, 2, 'the term that it would campaign in');
      deliver(cluster, request);
    }
    assert.equal(stateOf(cluster, 2).currentTerm, 1);
    assert.equal(stateOf(cluster, 2).votedFor, undefined);
  });

  it('a pre-vote does not restart the election timer of the voter', () => {
    const cluster = newCluster({ voters: [1, 2, 3], preVote: true });
    tickOne(cluster, 1, 5);
    deliver(cluster, voteRequestOf({ from: 2, to: 1, term: 2 }, start, { preVote: true }));
    assert.equal(stateOf(cluster, 1).electionElapsed, 5);
  });

  it('several candidates may get the pre-vote of one voter', () => {
    const cluster = newCluster({ voters: [1, 2, 3], preVote: true });
    for (const from of [2, 3]) {
      deliver(cluster, voteRequestOf({ from, to: 1, term: 2 }, start, { preVote: true }));
    }
    work(cluster, 1);
    const answers = intercept(cluster, 'requestVoteResponse');
    assert.deepEqual(
      answers.map(({ rejected }) => rejected),
      [false, false],
    );
  });

  it('a majority of pre-votes begins the campaign, fewer do not', () => {
    const cluster = newCluster({ voters: [1, 2, 3, 4, 5], preVote: true });
    cluster.isLost = () => true;
    act(cluster, 1, campaign);
    work(cluster, 1);
    deliver(cluster, voteOf({ from: 2, to: 1, term: 2 }, { preVote: true }));
    assert.equal(stateOf(cluster, 1).role, 'preCandidate');
    deliver(cluster, voteOf({ from: 3, to: 1, term: 2 }, { preVote: true }));
    assert.equal(stateOf(cluster, 1).role, 'candidate');
    assert.equal(stateOf(cluster, 1).currentTerm, 2);
  });

  it('pre-votes do not count as votes', () => {
    const cluster = newCluster({ voters: [1, 2, 3], preVote: true });
    cluster.isLost = () => true;
    act(cluster, 1, campaign);
    work(cluster, 1);
    for (let i = 0; i < 2; i++)
      deliver(cluster, voteOf({ from: 2, to: 1, term: 2 }, { preVote: true }));
    work(cluster, 1);
    deliver(cluster, voteOf({ from: 3, to: 1, term: 2 }, { preVote: true }));
    assert.equal(stateOf(cluster, 1).role, 'candidate');
  });

  it('a pre-vote is refused to a log that is behind', () => {
    const cluster = clusterWithLog([1, 1, 2]);
    deliver(
      cluster,
      voteRequestOf({ from: 3, to: 1, term: 9 }, { index: 3, term: 2 }, { preVote: true }),
    );
    work(cluster, 1);
    const [answer] = intercept(cluster, 'requestVoteResponse');
    assert.equal(answer?.rejected, true);
    assert.equal(answer.term, 2, "the voter's own term");
  });

  it('whoever hears a leader gives no pre-vote', () => {
    const cluster = ledCluster({ preVote: true, checkQuorum: true });
    act(cluster, 3, campaign);
    settle(cluster);
    pass(cluster, 4);
    assert.deepEqual(leadersOf(cluster), [1]);
    assert.equal(stateOf(cluster, 1).currentTerm, 2);
  });

  it('a pre-candidate that hears its leader follows again', () => {
    const cluster = newCluster({ voters: [1, 2, 3], preVote: true });
    act(cluster, 1, campaign);
    deliver(cluster, heartbeatOf({ from: 2, to: 1, term: 1 }));
    assert.equal(stateOf(cluster, 1).role, 'follower');
    assert.equal(stateOf(cluster, 1).leader, 2);
  });

  it('a pre-candidate that is refused in a later term adopts it', () => {
    const cluster = newCluster({ voters: [1, 2, 3], preVote: true });
    act(cluster, 1, campaign);
    deliver(cluster, voteOf({ from: 2, to: 1, term: 7 }, { preVote: true, rejected: true }));
    assert.equal(stateOf(cluster, 1).currentTerm, 7);
    assert.equal(stateOf(cluster, 1).role, 'follower');
  });

  it('a replica with a higher term and a longer silence is freed by the answer to the next message', () => {
    const cluster = ledCluster({ preVote: true, checkQuorum: true });
    // 3 reached a later term without ever winning; the others do not know of it.
    partition(cluster, [3]);
    stateOf(cluster, 3).leader = undefined;
    deliver(cluster, voteOf({ from: 2, to: 3, term: 6 }, { rejected: true }));
    heal(cluster);
    pass(cluster, 80);
    proposeTexts(cluster, leadersOf(cluster)[0] ?? 1, 'a');
    pass(cluster, 10);
    assert.equal(leadersOf(cluster).length, 1);
    assert.equal(stateOf(cluster, 3).leader, leadersOf(cluster)[0]);
  });

  it('a lone voter needs no rounds', () => {
    const cluster = newCluster({ voters: [1], preVote: true });
    act(cluster, 1, campaign);
    settle(cluster);
    assert.deepEqual(leadersOf(cluster), [1]);
  });
});
