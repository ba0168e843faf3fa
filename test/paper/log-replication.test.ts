// §5.3 of the paper: how entries get from the leader to everybody, and how logs that differ become equal again.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { campaign } from '../../src/raft/raft.ts';
import type { PeerMessage, ReplicaId, Term } from '../../src/raft/types.ts';
import {
  act,
  type CoreCluster,
  deliver,
  deliverAll,
  elect,
  heal,
  inBothModes,
  intercept,
  ledCluster,
  logTexts,
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
  entriesBehind,
  entryOf,
  giveLog,
  heartbeatOf,
  logTerms,
} from '../support/core-messages.ts';

const start = { index: 1, term: 1 };

function textsOf(cluster: CoreCluster, id: ReplicaId): readonly string[] {
  return replicaOf(cluster, id).machine.texts;
}

/** What replica 1 answers. */
function answersOf(cluster: CoreCluster) {
  work(cluster, 1);
  return intercept(cluster, 'appendEntriesResponse', { from: 1 });
}

describe('§5.3', () => {
  inBothModes((name, mode) => {
    it(`an entry is committed once a majority stores it, and applied everywhere, with ${name}`, () => {
      const cluster = ledCluster(mode);
      proposeTexts(cluster, 1, 'a', 'b');
      settle(cluster);
      assert.deepEqual(textsOf(cluster, 1), ['a', 'b']);
      pass(cluster, 2);
      for (const id of [2, 3]) assert.deepEqual(textsOf(cluster, id), ['a', 'b']);
    });

    it(`nothing is committed while only a minority stores it, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, voters: [1, 2, 3, 4, 5] });
      partition(cluster, [1, 2]);
      proposeTexts(cluster, 1, 'a');
      settle(cluster);
      assert.deepEqual(logTexts(cluster, 2), ['a']);
      assert.deepEqual(textsOf(cluster, 1), []);
      heal(cluster);
      pass(cluster, 4);
      assert.deepEqual(textsOf(cluster, 1), ['a']);
    });

    it(`all replicas apply the same entries in the same order, with ${name}`, () => {
      const cluster = ledCluster(mode);
      const texts = Array.from({ length: 50 }, (_, at) => `v${at}`);
      for (const text of texts) proposeTexts(cluster, 1, text);
      pass(cluster, 4);
      for (const id of [1, 2, 3]) assert.deepEqual(textsOf(cluster, id), texts);
    });

    it(`messages that arrive twice change nothing the second time, with ${name}`, () => {
      const cluster = ledCluster(mode);
      proposeTexts(cluster, 1, 'a');
      for (let round = 0; round < 20; round++) {
        for (const id of [1, 2, 3]) work(cluster, id);
        cluster.network = cluster.network.flatMap((message) => [message, message]).slice(0, 200);
        deliverAll(cluster);
        if (round === 3) proposeTexts(cluster, 1, 'b');
      }
      for (const id of [1, 2, 3]) tickOne(cluster, id, 2);
      settle(cluster);
      for (const id of [1, 2, 3]) assert.deepEqual(textsOf(cluster, id), ['a', 'b']);
    });

    it(`messages that arrive in the reverse order only cost time, with ${name}`, () => {
      const cluster = ledCluster(mode);
      const texts = Array.from({ length: 12 }, (_, at) => `v${at}`);
      for (const text of texts) proposeTexts(cluster, 1, text);
      for (let round = 0; round < 60; round++) {
        for (const id of [1, 2, 3]) work(cluster, id);
        cluster.network.reverse();
        deliverAll(cluster);
        if (round % 4 === 0) tickOne(cluster, 1, 2);
      }
      settle(cluster);
      for (const id of [1, 2, 3]) assert.deepEqual(textsOf(cluster, id), texts);
    });
  });

  it('every append names the entry before its own', () => {
    const cluster = ledCluster();
    proposeTexts(cluster, 1, 'a');
    proposeTexts(cluster, 1, 'b');
    work(cluster, 1);
    const appends = intercept(cluster, 'appendEntries', { to: 2 });
    assert.deepEqual(
      appends.map(({ prevLogIndex, prevLogTerm, entries }) => [
        prevLogIndex,
        prevLogTerm,
        entries[0]?.index,
      ]),
      [
        [2, 2, 3],
        [3, 2, 4],
      ],
    );
  });

  it('an append behind an entry that is not there is refused: the log has no holes', () => {
    const cluster = clusterWithLog([1, 1]);
    const entries = [entryOf(6, 1)];
    deliver(
      cluster,
      appendOf({ from: 2, to: 1, term: 1 }, { previous: { index: 5, term: 1 }, entries }),
    );
    const [answer] = answersOf(cluster);
    assert.ok(answer?.rejected);
    assert.equal(answer.index, 5);
    assert.deepEqual(logTerms(cluster, 1), [1, 1]);
  });

  it('an append behind an entry of another term is refused', () => {
    const cluster = clusterWithLog([1, 1]);
    const entries = [entryOf(4, 2)];
    deliver(
      cluster,
      appendOf({ from: 2, to: 1, term: 2 }, { previous: { index: 3, term: 2 }, entries }),
    );
    assert.ok(answersOf(cluster)[0]?.rejected);
    assert.deepEqual(logTerms(cluster, 1), [1, 1]);
  });

  it('an entry that conflicts is removed with everything behind it', () => {
    const cluster = clusterWithLog([1, 2, 2, 2]);
    const entries = [entryOf(3, 3)];
    deliver(
      cluster,
      appendOf({ from: 3, to: 1, term: 3 }, { previous: { index: 2, term: 1 }, entries }),
    );
    assert.deepEqual(logTerms(cluster, 1), [1, 3]);
  });

  it('entries that are there already stay, and so does what follows them', () => {
    const cluster = clusterWithLog([1, 1, 1, 1]);
    const late = appendOf(
      { from: 2, to: 1, term: 1 },
      { previous: start, entries: entriesBehind(1, [1, 1]) },
    );
    deliver(cluster, late);
    assert.deepEqual(logTerms(cluster, 1), [1, 1, 1, 1]);
    assert.equal(answersOf(cluster)[0]?.index, 3, 'only what the message holds is acknowledged');
  });

  it('an empty append does not cut the log', () => {
    const cluster = clusterWithLog([1, 1, 1]);
    deliver(cluster, appendOf({ from: 2, to: 1, term: 1 }, { previous: start }));
    assert.deepEqual(logTerms(cluster, 1), [1, 1, 1]);
  });

  it('a follower commits no further than the append that it matched', () => {
    const cluster = clusterWithLog([1, 1, 1]);
    const previous = { index: 2, term: 1 };
    deliver(cluster, appendOf({ from: 3, to: 1, term: 2 }, { previous, leaderCommit: 9 }));
    // Entries 3 and 4 may not be the leader's.
    assert.equal(stateOf(cluster, 1).log.commitIndex, 2);
  });

  it('an append below the commit index is answered with what is committed', () => {
    const cluster = clusterWithLog([1, 1, 1], { leaderCommit: 4 });
    deliver(cluster, appendOf({ from: 2, to: 1, term: 1 }, { previous: start }));
    const [answer] = answersOf(cluster);
    assert.deepEqual([answer?.rejected, answer?.index], [false, 4]);
  });

  it('heartbeats commit only what the receiver is known to have', () => {
    const cluster = ledCluster();
    partition(cluster, [3]);
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    heal(cluster);
    tickOne(cluster, 1, 2);
    work(cluster, 1);
    const commits = intercept(cluster, 'heartbeat').map(({ to, leaderCommit }) => [
      to,
      leaderCommit,
    ]);
    assert.deepEqual(commits, [
      [2, 3],
      [3, 2],
    ]);
  });

  it('a heartbeat moves the commit index of a follower', () => {
    const cluster = clusterWithLog([1, 1, 1]);
    deliver(cluster, heartbeatOf({ from: 2, to: 1, term: 1 }, 3));
    assert.equal(stateOf(cluster, 1).log.commitIndex, 3);
    deliver(cluster, heartbeatOf({ from: 2, to: 1, term: 1 }, 2));
    assert.equal(stateOf(cluster, 1).log.commitIndex, 3, 'it never moves back');
  });

  it('an acknowledgement beyond the end of the log counts for nothing', () => {
    const cluster = ledCluster();
    partition(cluster, [1]);
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    deliver(cluster, ackOf({ from: 2, to: 1, term: 2 }, 99));
    assert.equal(stateOf(cluster, 1).log.commitIndex, 2);
    assert.equal(stateOf(cluster, 1).progress.get(2)?.matchIndex, 2);
  });

  it('an acknowledgement of less than is known moves nothing back', () => {
    const cluster = ledCluster();
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    deliver(cluster, ackOf({ from: 2, to: 1, term: 2 }, 1));
    assert.equal(stateOf(cluster, 1).progress.get(2)?.matchIndex, 3);
  });

  it('entries are committed in order, however acknowledgements arrive', () => {
    const cluster = ledCluster();
    for (const text of ['a', 'b', 'c']) proposeTexts(cluster, 1, text);
    for (const id of [1]) work(cluster, id);
    const appends = intercept(cluster, 'appendEntries', { to: 2 });
    intercept(cluster, 'appendEntries', { to: 3 });
    // The last one first: it has nothing to stand on.
    for (const append of appends.toReversed()) deliver(cluster, append);
    work(cluster, 2);
    for (const answer of intercept(cluster, 'appendEntriesResponse')) {
      if (!answer.rejected) assert.equal(answer.index, 3, 'only the first one fitted');
    }
    assert.equal(stateOf(cluster, 1).log.commitIndex, 2);
  });

  it('a slow or dead minority does not hold a commit up', () => {
    const cluster = ledCluster({ voters: [1, 2, 3, 4, 5] });
    partition(cluster, [4, 5]);
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    assert.deepEqual(textsOf(cluster, 1), ['a']);
  });

  it('the leader tries again without end until a follower has everything', () => {
    const cluster = ledCluster();
    partition(cluster, [3]);
    for (let i = 0; i < 10; i++) {
      proposeTexts(cluster, 1, `v${i}`);
      for (const id of [1, 2]) tickOne(cluster, id, 2);
      settle(cluster);
    }
    heal(cluster);
    pass(cluster, 6);
    assert.equal(textsOf(cluster, 3).length, 10);
  });

  it('a leader never replaces an entry of its own log', () => {
    const cluster = ledCluster();
    proposeTexts(cluster, 1, 'a');
    const before = logTexts(cluster, 1);
    // It would be an entry of another leader of the same term, which there cannot be.
    const foreign = appendOf(
      { from: 2, to: 1, term: 2 },
      { previous: start, entries: [entryOf(2, 2)] },
    );
    assert.throws(() => deliver(cluster, foreign), /a term has one leader/);
    assert.deepEqual(logTexts(cluster, 1), before);
  });
});

/** Figure 7: the leader of term 8 and followers that missed, or made, all kinds of things. */
const figure7: readonly [string, readonly Term[]][] = [
  ['a: an entry is missing', [1, 1, 1, 4, 4, 5, 5, 6, 6]],
  ['b: most entries are missing', [1, 1, 1, 4]],
  ['c: one entry too many', [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6]],
  ['d: entries of a term that nobody else knows', [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7]],
  ['e: too few and too many', [1, 1, 1, 4, 4, 4, 4]],
  ['f: terms that were never committed', [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]],
];

describe('Figure 7', () => {
  const leaderTerms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
  for (const [name, terms] of figure7) {
    inBothModes((mode, options) => {
      it(`a follower's log becomes the leader's (${name}), with ${mode}`, () => {
        const cluster = newCluster({ voters: [1, 2, 3], ...options });
        giveLog(cluster, 1, leaderTerms, { term: 7 });
        giveLog(cluster, 2, terms, { term: 7 });
        giveLog(cluster, 3, leaderTerms.slice(0, 9), { term: 7 });
        elect(cluster, 1);
        pass(cluster, 4);
        assert.deepEqual(logTerms(cluster, 1), [...leaderTerms, 8]);
        assert.deepEqual(logTerms(cluster, 2), [...leaderTerms, 8]);
        assert.deepEqual(logTexts(cluster, 2), logTexts(cluster, 1));
      });
    });
  }

  it('the point where logs agree is found by skipping terms, not entry by entry', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    const many = (count: number, term: Term) => new Array<Term>(count).fill(term);
    giveLog(cluster, 1, [...many(200, 1), ...many(200, 4)], { term: 5 });
    giveLog(cluster, 2, [...many(200, 1), ...many(300, 2), ...many(300, 3)], { term: 5 });
    giveLog(cluster, 3, [...many(200, 1), ...many(200, 4)], { term: 5 });
    const before = cluster.sent.length;
    elect(cluster, 1);
    pass(cluster, 2);
    assert.deepEqual(logTerms(cluster, 2), logTerms(cluster, 1));
    const refusals = cluster.sent
      .slice(before)
      .filter((message) => message.type === 'appendEntriesResponse' && message.rejected);
    assert.ok(refusals.length <= 3, `${refusals.length} refusals for 600 entries that differ`);
  });
});

/** One scenario with everything that can be lost; `lostAt` is the position of the message that is. */
function scenario(
  mode: { readonly asyncStorageWrites: boolean },
  lostAt: number,
): { readonly cluster: CoreCluster; readonly sentCount: number } {
  const cluster = newCluster({ voters: [1, 2, 3], ...mode, checkQuorum: true, preVote: true });
  let sentCount = 0;
  cluster.isLost = () => sentCount++ === lostAt;
  act(cluster, 1, campaign);
  settle(cluster);
  for (const text of ['a', 'b', 'c']) {
    for (const id of [1, 2, 3]) {
      if (stateOf(cluster, id).role === 'leader') proposeTexts(cluster, id, text);
    }
    settle(cluster);
  }
  return { cluster, sentCount };
}

describe('any one message may be lost', () => {
  inBothModes((name, mode) => {
    it(`and everybody has everything soon after, without new proposals, with ${name}`, () => {
      const { sentCount } = scenario(mode, Number.POSITIVE_INFINITY);
      assert.ok(sentCount > 20, 'there is something to lose');
      for (let lostAt = 0; lostAt < sentCount; lostAt++) {
        const { cluster } = scenario(mode, lostAt);
        const lost: PeerMessage | undefined = cluster.sent[lostAt];
        pass(cluster, 45);
        const logs = [1, 2, 3].map((id) => stateOf(cluster, id).log);
        const [first] = logs;
        const what = `lost ${lostAt}: ${lost?.type} from ${lost?.from} to ${lost?.to}`;
        assert.ok(first !== undefined && first.lastIndex > 1, what);
        for (const log of logs) {
          assert.equal(log.lastIndex, first.lastIndex, what);
          assert.equal(log.appliedIndex, first.lastIndex, what);
        }
      }
    });
  });
});
