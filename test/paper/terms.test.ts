// §5.1 and §5.5 of the paper: terms are the clock of a group. Whoever hears of a later one adopts it, and nothing of
// an earlier one has an effect.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { campaign } from '../../src/raft/raft.ts';
import {
  act,
  crash,
  deliver,
  elect,
  heal,
  inBothModes,
  intercept,
  leadersOf,
  ledCluster,
  logTexts,
  newCluster,
  partition,
  pass,
  proposeTexts,
  restart,
  settle,
  stateOf,
  work,
} from '../support/core-cluster.ts';
import {
  ackOf,
  appendOf,
  entryOf,
  heartbeatOf,
  voteOf,
  voteRequestOf,
} from '../support/core-messages.ts';

describe('§5.1', () => {
  it('a message of an earlier term does not move the term back', () => {
    const cluster = ledCluster();
    deliver(cluster, heartbeatOf({ from: 3, to: 2, term: 1 }));
    assert.equal(stateOf(cluster, 2).currentTerm, 2);
    assert.equal(stateOf(cluster, 2).leader, 1);
  });

  it('an append of an earlier term leaves the log as it is', () => {
    const cluster = ledCluster();
    const { lastIndex } = stateOf(cluster, 2).log;
    const entries = [entryOf(2, 1, 'stale')];
    const stale = appendOf(
      { from: 3, to: 2, term: 1 },
      { previous: { index: 1, term: 1 }, entries },
    );
    deliver(cluster, stale);
    settle(cluster);
    assert.equal(stateOf(cluster, 2).log.lastIndex, lastIndex);
    assert.deepEqual(logTexts(cluster, 2), []);
  });

  it('a follower adopts a later term from any message', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    deliver(cluster, heartbeatOf({ from: 2, to: 1, term: 7 }));
    assert.equal(stateOf(cluster, 1).currentTerm, 7);
    deliver(cluster, voteRequestOf({ from: 3, to: 1, term: 9 }, { index: 1, term: 1 }));
    assert.equal(stateOf(cluster, 1).currentTerm, 9);
  });

  it('a leader that hears of a later term follows at once', () => {
    const cluster = ledCluster();
    deliver(cluster, ackOf({ from: 2, to: 1, term: 5 }, 0));
    assert.equal(stateOf(cluster, 1).role, 'follower');
    assert.equal(stateOf(cluster, 1).currentTerm, 5);
    assert.equal(stateOf(cluster, 1).leader, undefined);
  });

  it('a candidate that hears of a later term follows at once', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    act(cluster, 1, campaign);
    deliver(cluster, voteOf({ from: 2, to: 1, term: 4 }, { rejected: true }));
    assert.equal(stateOf(cluster, 1).role, 'follower');
    assert.equal(stateOf(cluster, 1).currentTerm, 4);
  });

  it('adopting a later term clears the vote of the earlier one', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    act(cluster, 1, campaign);
    assert.equal(stateOf(cluster, 1).votedFor, 1);
    deliver(cluster, heartbeatOf({ from: 2, to: 1, term: 3 }));
    assert.equal(stateOf(cluster, 1).votedFor, undefined);
  });

  inBothModes((name, mode) => {
    it(`a deposed leader that comes back learns of it and follows, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, checkQuorum: true });
      partition(cluster, [1]);
      pass(cluster, 45);
      const [leader] = leadersOf(cluster).filter((id) => id !== 1);
      assert.ok(leader !== undefined, 'the majority elected another one');
      heal(cluster);
      pass(cluster, 5);
      assert.equal(stateOf(cluster, 1).leader, leader);
      assert.equal(stateOf(cluster, 1).currentTerm, stateOf(cluster, leader).currentTerm);
    });
  });

  it('a leader of an earlier term is told of the present one by the answer to its append', () => {
    const cluster = newCluster({ voters: [1, 2, 3], preVote: true });
    elect(cluster, 1);
    partition(cluster, [1]);
    elect(cluster, 2);
    assert.deepEqual(leadersOf(cluster), [1, 2], 'of different terms');
    heal(cluster);
    proposeTexts(cluster, 1, 'lost');
    settle(cluster);
    assert.equal(stateOf(cluster, 1).role, 'follower');
  });

  it('a candidate of an earlier term is told of the present one by the refusal', () => {
    const cluster = ledCluster({ checkQuorum: true });
    deliver(cluster, voteRequestOf({ from: 3, to: 1, term: 1 }, { index: 9, term: 1 }));
    settle(cluster);
    const refusal = cluster.sent.findLast(({ type }) => type === 'requestVoteResponse');
    assert.ok(refusal?.type === 'requestVoteResponse' && refusal.rejected);
    assert.equal(refusal.term, 2);
  });

  it('a leader of a later term counts nothing that it was told as a leader of an earlier one', () => {
    const cluster = ledCluster();
    proposeTexts(cluster, 1, 'a', 'b');
    settle(cluster);
    assert.equal(stateOf(cluster, 1).progress.get(2)?.matchIndex, 4);
    elect(cluster, 2);
    cluster.isLost = ({ type }) => type === 'appendEntriesResponse';
    elect(cluster, 1);
    for (const id of [2, 3]) assert.equal(stateOf(cluster, 1).progress.get(id)?.matchIndex, 0);
  });

  it('a late answer of an earlier term changes nothing for a leader of a later one', () => {
    const cluster = ledCluster();
    partition(cluster, [1, 3]);
    proposeTexts(cluster, 1, 'a');
    deliver(cluster, ackOf({ from: 2, to: 1, term: 1 }, stateOf(cluster, 1).log.lastIndex));
    assert.notEqual(
      stateOf(cluster, 1).progress.get(2)?.matchIndex,
      stateOf(cluster, 1).log.lastIndex,
    );
  });

  inBothModes((name, mode) => {
    it(`a term survives a restart, with ${name}`, () => {
      const cluster = ledCluster(mode);
      crash(cluster, 2);
      restart(cluster, 2);
      assert.equal(stateOf(cluster, 2).currentTerm, 2);
    });
  });

  it('a term has at most one leader even when two campaigned in it', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    act(cluster, 1, campaign);
    act(cluster, 2, campaign);
    settle(cluster);
    assert.ok(leadersOf(cluster).length <= 1);
    const votes = [1, 2, 3].map((id) => stateOf(cluster, id).votedFor);
    assert.deepEqual(votes.slice(0, 2), [1, 2], 'each voted for itself, and for nobody else');
  });

  it('votes count only in the term they were given in', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    act(cluster, 1, campaign);
    letAnswer(cluster);
    const stale = intercept(cluster, 'requestVoteResponse', { to: 1 });
    assert.equal(stale.length, 2);
    // A second campaign, in a later term: the votes of the first do not count in it.
    act(cluster, 1, campaign);
    for (const vote of stale) deliver(cluster, vote);
    assert.equal(stateOf(cluster, 1).role, 'candidate');
  });
});

/** The requests are answered, and the answers stay on the network. */
function letAnswer(cluster: ReturnType<typeof newCluster>): void {
  cluster.isLost = () => false;
  for (let i = 0; i < 3; i++) {
    for (const id of [1, 2, 3]) work(cluster, id);
    for (const request of intercept(cluster, 'requestVote')) deliver(cluster, request);
  }
}
