// §5.4 of the paper: who may lead, and what counts as committed, so that no committed entry is ever lost. The rules
// of Figure 3 are checked after every step of every test here (see `core-safety.ts`).

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { campaign } from '../../src/raft/raft.ts';
import type { Term } from '../../src/raft/types.ts';
import {
  act,
  type CoreCluster,
  crash,
  deliver,
  deliverAll,
  elect,
  heal,
  inBothModes,
  intercept,
  leadersOf,
  ledCluster,
  newCluster,
  partition,
  pass,
  proposeTexts,
  replicaOf,
  settle,
  stateOf,
  tickOne,
  work,
} from '../support/core-cluster.ts';
import {
  ackOf,
  appendOf,
  clusterWithLog,
  entryOf,
  giveLog,
  logTerms,
  voteOf,
  voteRequestOf,
} from '../support/core-messages.ts';

/** Whether a voter with a log of these terms votes for a candidate whose log ends at `index` and `term`. */
function votes(terms: readonly Term[], index: number, term: Term): boolean {
  const cluster = clusterWithLog(terms);
  const request = voteRequestOf({ from: 3, to: 1, term: 9 }, { index, term });
  deliver(cluster, request);
  work(cluster, 1);
  const [answer] = intercept(cluster, 'requestVoteResponse');
  return answer?.rejected === false;
}

describe('§5.4.1', () => {
  it('a vote is refused to a log that ends in an earlier term, however long it is', () => {
    assert.equal(votes([1, 1, 3], 50, 2), false);
  });

  it('a vote is refused to a shorter log that ends in the same term', () => {
    assert.equal(votes([1, 1, 3], 3, 3), false);
  });

  it('a vote is given to a log that ends in a later term, however short it is', () => {
    assert.equal(votes([1, 1, 3, 3, 3], 2, 4), true);
  });

  it('a vote is given to an equal log and to a longer one of the same term', () => {
    assert.equal(votes([1, 1, 3], 4, 3), true);
    assert.equal(votes([1, 1, 3], 5, 3), true);
  });

  inBothModes((name, mode) => {
    it(`every later leader has what was committed, whoever it is, with ${name}`, () => {
      for (const candidate of [2, 3, 4, 5]) {
        const cluster = ledCluster({ ...mode, voters: [1, 2, 3, 4, 5] });
        partition(cluster, [4, 5]);
        proposeTexts(cluster, 1, 'kept');
        settle(cluster);
        assert.deepEqual(replicaOf(cluster, 1).machine.texts, ['kept']);
        heal(cluster);
        crash(cluster, 1);
        act(cluster, candidate, campaign);
        settle(cluster);
        pass(cluster, 60);
        const [leader] = leadersOf(cluster);
        assert.ok(leader === 2 || leader === 3, 'only who has the entry is elected');
        for (const id of [2, 3, 4, 5]) {
          assert.deepEqual(replicaOf(cluster, id).machine.texts, ['kept']);
        }
      }
    });
  });
});

describe('§5.4.2', () => {
  it('a leader does not commit an older term’s entry by counting', () => {
    const cluster = newCluster({ voters: [1, 2, 3, 4, 5] });
    giveLog(cluster, 1, [2], { term: 3 });
    cluster.isLost = () => true;
    act(cluster, 1, campaign);
    work(cluster, 1);
    for (const from of [2, 3]) deliver(cluster, voteOf({ from, to: 1, term: 4 }));
    work(cluster, 1);
    const { log } = stateOf(cluster, 1);
    for (const from of [2, 3, 4, 5]) deliver(cluster, ackOf({ from, to: 1, term: 4 }, 2));
    assert.equal(log.commitIndex, 1, 'all five have entry 2, of term 2');
    for (const from of [2, 3]) deliver(cluster, ackOf({ from, to: 1, term: 4 }, 3));
    assert.equal(log.commitIndex, 3, 'entry 3, of its own term, commits entry 2 with it');
  });

  inBothModes((name, mode) => {
    it(`Figure 8 (a) to (d): an old entry on a majority is not committed and may be replaced, with ${name}`, () => {
      const cluster = figure8(mode);
      spreadOldEntry(cluster);
      // (d) 1 crashes; 5 leads with its entry of term 3, and the old entry is gone.
      crash(cluster, 1);
      heal(cluster);
      act(cluster, 5, campaign);
      settle(cluster);
      assert.deepEqual(leadersOf(cluster), [], 'in term 4 two have voted for 1');
      elect(cluster, 5);
      pass(cluster, 4);
      for (const id of [2, 3, 4, 5]) assert.deepEqual(logTerms(cluster, id), [3, 5]);
    });

    it(`Figure 8 (e): once the leader's own entry is on a majority the old one is safe, with ${name}`, () => {
      const cluster = figure8(mode);
      spreadOldEntry(cluster);
      cluster.isLost = ({ from, to }) => from > 3 || to > 3;
      pass(cluster, 4);
      assert.equal(stateOf(cluster, 1).log.commitIndex, 3);
      crash(cluster, 1);
      heal(cluster);
      act(cluster, 5, campaign);
      pass(cluster, 60);
      const [leader] = leadersOf(cluster);
      assert.ok(leader === 2 || leader === 3);
      for (const id of [2, 3, 4, 5]) assert.deepEqual(logTerms(cluster, id).slice(0, 2), [2, 4]);
    });
  });

  it('a new leader appends an entry of its own term at once', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    giveLog(cluster, 1, [2, 2], { term: 2 });
    elect(cluster, 1);
    assert.deepEqual(logTerms(cluster, 1), [2, 2, 3]);
  });

  inBothModes((name, mode) => {
    it(`what a leader inherited is committed with its first own entry, with ${name}`, () => {
      const cluster = newCluster({ voters: [1, 2, 3], ...mode });
      giveLog(cluster, 1, [2, 2], { term: 2 });
      assert.equal(stateOf(cluster, 1).log.commitIndex, 1);
      elect(cluster, 1);
      assert.equal(stateOf(cluster, 1).log.commitIndex, 4);
    });
  });
});

describe('§5.4.3', () => {
  it('an append that would replace a committed entry stops the replica', () => {
    const cluster = clusterWithLog([1, 1, 1], { leaderCommit: 3 });
    const entries = [entryOf(3, 2)];
    const wrong = appendOf(
      { from: 3, to: 1, term: 2 },
      { previous: { index: 2, term: 1 }, entries },
    );
    // Below the commit index it is old news and is answered; what is committed stays.
    deliver(cluster, wrong);
    assert.deepEqual(logTerms(cluster, 1), [1, 1, 1]);
    const beyond = { ...wrong, prevLogIndex: 1, prevLogTerm: 1, entries: [entryOf(2, 2)] };
    deliver(cluster, beyond);
    assert.deepEqual(logTerms(cluster, 1), [1, 1, 1]);
  });

  it('a commit index beyond the log stops the replica: it lost what it had acknowledged', () => {
    const cluster = clusterWithLog([1, 1]);
    const lying = {
      type: 'heartbeat',
      from: 2,
      to: 1,
      term: 1,
      leaderCommit: 9,
      readRound: undefined,
    };
    assert.throws(() => deliver(cluster, lying as never), /only entries of the log are committed/);
  });

  inBothModes((name, mode) => {
    it(`no two replicas apply different entries at one index, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, voters: [1, 2, 3] });
      partition(cluster, [1]);
      proposeTexts(cluster, 1, 'never committed');
      settle(cluster);
      elect(cluster, 2);
      proposeTexts(cluster, 2, 'committed');
      settle(cluster);
      heal(cluster);
      pass(cluster, 6);
      for (const id of [1, 2, 3]) {
        assert.deepEqual(replicaOf(cluster, id).machine.texts, ['committed']);
      }
    });
  });

  it('a leader whose disk lags commits what its followers store, and applies it when it has it too', () => {
    const cluster = ledCluster({ asyncStorageWrites: true });
    replicaOf(cluster, 1).isDiskStalled = true;
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    assert.equal(stateOf(cluster, 1).log.commitIndex, 3);
    assert.deepEqual(replicaOf(cluster, 1).machine.texts, []);
    tickOne(cluster, 1, 2);
    settle(cluster);
    assert.deepEqual(replicaOf(cluster, 2).machine.texts, ['a']);
    replicaOf(cluster, 1).isDiskStalled = false;
    settle(cluster);
    assert.deepEqual(replicaOf(cluster, 1).machine.texts, ['a']);
  });
});

/**
 * (a) entry 2 of term 2 is on 1 and 2; (b) 5 has another one, of term 3; (c) 1 leads term 4 with the votes of 2 and 3.
 * 4 and 5 are cut off.
 */
function figure8(mode: { readonly asyncStorageWrites: boolean }): CoreCluster {
  const cluster = newCluster({ voters: [1, 2, 3, 4, 5], ...mode });
  for (const id of [1, 2]) giveLog(cluster, id, [2], { term: 3 });
  giveLog(cluster, 5, [3], { term: 3 });
  cluster.isLost = ({ from, to }) => from > 3 || to > 3;
  act(cluster, 1, campaign);
  while (stateOf(cluster, 1).role !== 'leader') {
    for (const id of [1, 2, 3]) work(cluster, id);
    deliverAll(cluster);
  }
  assert.equal(stateOf(cluster, 1).currentTerm, 4);
  return cluster;
}

/** (c) 1 gives entry 2, and not yet its own entry 3, to replica 3. */
function spreadOldEntry(cluster: CoreCluster): void {
  for (let i = 0; i < 10; i++) {
    for (const id of [1, 2, 3]) work(cluster, id);
    for (const append of intercept(cluster, 'appendEntries')) {
      deliver(cluster, { ...append, entries: append.entries.filter(({ term }) => term < 4) });
    }
    deliverAll(cluster);
  }
  assert.deepEqual(logTerms(cluster, 3), [2]);
  const { log, progress } = stateOf(cluster, 1);
  assert.equal(progress.get(2)?.matchIndex, 2);
  assert.equal(progress.get(3)?.matchIndex, 2);
  assert.equal(log.commitIndex, 1, 'on a majority, but of an older term');
}
