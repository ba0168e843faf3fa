// §5.2 of the paper: who becomes leader, who votes for whom, and when a campaign begins. Also what etcd/raft and the
// dissertation add: priorities (none in the paper), forgotten leaders, check-quorum (thesis 6.2).

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { campaign, forgetLeader, restartElectionTimer, stepDown } from '../../src/raft/raft.ts';
import type { ReplicaId } from '../../src/raft/types.ts';
import {
  act,
  type CoreCluster,
  crash,
  deliver,
  deliverAll,
  elect,
  inBothModes,
  intercept,
  leadersOf,
  ledCluster,
  newCluster,
  partition,
  pass,
  replicaOf,
  settle,
  stateOf,
  tickOne,
  upReplicas,
  work,
  workDisk,
} from '../support/core-cluster.ts';
import { appendOf, heartbeatOf, voteOf, voteRequestOf } from '../support/core-messages.ts';

const start = { index: 1, term: 1 };

function upTo(count: number): ReplicaId[] {
  return Array.from({ length: count }, (_, at) => at + 1);
}

/** Ticks one replica until it campaigns. @returns how many ticks it took */
function ticksToCampaign(cluster: CoreCluster, id: ReplicaId): number {
  const before = cluster.sent.length;
  for (let ticks = 1; ticks <= 100; ticks++) {
    tickOne(cluster, id);
    work(cluster, id);
    if (cluster.sent.slice(before).some(({ type }) => type === 'requestVote')) return ticks;
  }
  throw new Error('no campaign within 100 ticks');
}

describe('§5.2', () => {
  it('replicas begin as followers of nobody', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    for (const { state } of upReplicas(cluster)) {
      assert.equal(state.role, 'follower');
      assert.equal(state.leader, undefined);
    }
  });

  it('a follower that hears nothing for an election timeout enters a new term, votes for itself and asks all', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    ticksToCampaign(cluster, 1);
    const { role, currentTerm, votedFor } = stateOf(cluster, 1);
    assert.deepEqual(
      { role, currentTerm, votedFor },
      { role: 'candidate', currentTerm: 2, votedFor: 1 },
    );
    assert.deepEqual(
      intercept(cluster, 'requestVote').map(({ to }) => to),
      [2, 3],
    );
  });

  it('a replica stays a follower as long as it hears a leader', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    for (let i = 0; i < 100; i++) {
      tickOne(cluster, 1);
      deliver(cluster, heartbeatOf({ from: 2, to: 1, term: 2 }));
    }
    assert.equal(stateOf(cluster, 1).role, 'follower');
    assert.equal(stateOf(cluster, 1).currentTerm, 2);
  });

  it('a refused append of the present leader counts as a sign of life', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    const refused = appendOf({ from: 2, to: 1, term: 2 }, { previous: { index: 50, term: 2 } });
    for (let i = 0; i < 100; i++) {
      tickOne(cluster, 1);
      deliver(cluster, refused);
      work(cluster, 1);
    }
    assert.equal(stateOf(cluster, 1).role, 'follower');
  });

  it('a new leader speaks at once, so that nobody else campaigns', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    act(cluster, 1, campaign);
    settle(cluster);
    assert.deepEqual(leadersOf(cluster), [1]);
    for (const id of [2, 3]) assert.equal(stateOf(cluster, id).leader, 1);
  });

  for (const count of upTo(9)) {
    it(`of ${count} voters exactly a majority elects a leader`, () => {
      const needed = Math.floor(count / 2) + 1;
      for (const granted of [needed - 1, needed]) {
        const cluster = newCluster({ voters: upTo(count) });
        cluster.isLost = () => true;
        act(cluster, 1, campaign);
        work(cluster, 1);
        for (let from = 2; from <= granted; from++) {
          deliver(cluster, voteOf({ from, to: 1, term: 2 }));
        }
        const isElected = granted >= needed;
        if (granted > 0) assert.equal(stateOf(cluster, 1).role === 'leader', isElected);
      }
    });
  }

  it('two disjoint groups of voters are never both a quorum', () => {
    for (const count of upTo(9)) {
      const half = Math.floor(count / 2);
      const cluster = newCluster({ voters: upTo(count) });
      partition(cluster, upTo(half));
      for (const id of [1, half + 1]) if (id <= count) act(cluster, id, campaign);
      settle(cluster);
      const leaders = leadersOf(cluster);
      assert.ok(
        leaders.every((id) => id > half),
        `${count} voters: no leader in the minority`,
      );
    }
  });

  it('a lone voter elects itself, with learners beside it too', () => {
    for (const learners of [[], [2, 3]]) {
      const cluster = newCluster({ voters: [1], learners });
      elect(cluster, 1);
      assert.equal(stateOf(cluster, 1).log.commitIndex, 2);
    }
  });

  it('a replica without members elects nobody', () => {
    const cluster = newCluster({ voters: [], strangers: [1] });
    act(cluster, 1, campaign);
    tickOne(cluster, 1, 100);
    settle(cluster);
    assert.equal(stateOf(cluster, 1).role, 'follower');
    assert.equal(stateOf(cluster, 1).currentTerm, 0);
  });

  it('a learner does not campaign', () => {
    const cluster = newCluster({ voters: [1, 2], learners: [3] });
    tickOne(cluster, 3, 100);
    act(cluster, 3, campaign);
    assert.equal(stateOf(cluster, 3).role, 'follower');
  });

  it("a learner's vote does not count", () => {
    const cluster = newCluster({ voters: [1, 2, 3], learners: [4, 5] });
    cluster.isLost = () => true;
    act(cluster, 1, campaign);
    work(cluster, 1);
    for (const from of [4, 5]) deliver(cluster, voteOf({ from, to: 1, term: 2 }));
    assert.equal(stateOf(cluster, 1).role, 'candidate');
  });

  it('a vote is given once in a term, to whoever asks first', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    deliver(cluster, voteRequestOf({ from: 2, to: 1, term: 2 }, start));
    deliver(cluster, voteRequestOf({ from: 3, to: 1, term: 2 }, start));
    work(cluster, 1);
    const answers = intercept(cluster, 'requestVoteResponse');
    assert.deepEqual(
      answers.map(({ to, rejected }) => [to, rejected]),
      [
        [2, false],
        [3, true],
      ],
    );
  });

  it('the same candidate that asks again gets the same vote', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    for (let i = 0; i < 2; i++) deliver(cluster, voteRequestOf({ from: 2, to: 1, term: 2 }, start));
    work(cluster, 1);
    const answers = intercept(cluster, 'requestVoteResponse');
    assert.deepEqual(
      answers.map(({ rejected }) => rejected),
      [false, false],
    );
  });

  it('a candidate that gives up within its term keeps its vote', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    act(cluster, 1, campaign);
    deliver(cluster, heartbeatOf({ from: 2, to: 1, term: 2 }));
    assert.equal(stateOf(cluster, 1).role, 'follower');
    assert.equal(stateOf(cluster, 1).votedFor, 1);
    deliver(cluster, voteRequestOf({ from: 3, to: 1, term: 2 }, { index: 9, term: 1 }));
    assert.equal(stateOf(cluster, 1).votedFor, 1);
  });

  it('a candidate follows the leader that its term has', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    act(cluster, 1, campaign);
    deliver(cluster, appendOf({ from: 2, to: 1, term: 2 }, { previous: start }));
    assert.equal(stateOf(cluster, 1).role, 'follower');
    assert.equal(stateOf(cluster, 1).leader, 2);
  });

  it('a candidate goes on in spite of a leader of an earlier term', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    act(cluster, 1, campaign);
    deliver(cluster, appendOf({ from: 2, to: 1, term: 1 }, { previous: start }));
    assert.equal(stateOf(cluster, 1).role, 'candidate');
  });

  it('a candidate that a majority refuses follows again', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    act(cluster, 1, campaign);
    work(cluster, 1);
    for (const from of [2, 3])
      deliver(cluster, voteOf({ from, to: 1, term: 2 }, { rejected: true }));
    assert.equal(stateOf(cluster, 1).role, 'follower');
  });

  it("a voter's first answer counts, whatever it says later", () => {
    const cluster = newCluster({ voters: [1, 2, 3, 4, 5] });
    cluster.isLost = () => true;
    act(cluster, 1, campaign);
    work(cluster, 1);
    deliver(cluster, voteOf({ from: 2, to: 1, term: 2 }, { rejected: true }));
    deliver(cluster, voteOf({ from: 2, to: 1, term: 2 }));
    deliver(cluster, voteOf({ from: 3, to: 1, term: 2 }));
    assert.equal(stateOf(cluster, 1).role, 'candidate', 'own vote, one grant, one refusal');
    deliver(cluster, voteOf({ from: 3, to: 1, term: 2 }));
    assert.equal(stateOf(cluster, 1).role, 'candidate', 'a repeated vote counts once');
  });

  it('a split vote ends with a campaign in the next term', () => {
    const cluster = newCluster({ voters: [1, 2, 3, 4] });
    act(cluster, 1, campaign);
    act(cluster, 2, campaign);
    for (const id of [1, 2]) work(cluster, id);
    for (const request of intercept(cluster, 'requestVote')) {
      if (request.from === request.to - 2) deliver(cluster, request);
    }
    settle(cluster);
    assert.deepEqual(leadersOf(cluster), [], 'two votes each');
    pass(cluster, 60);
    const [leader] = leadersOf(cluster);
    assert.ok(leader !== undefined && stateOf(cluster, leader).currentTerm > 2);
  });

  for (const preVote of [false, true]) {
    const kind = preVote ? 'pre-votes' : 'campaigns';
    it(`the election timeout is drawn anew for each of ${kind}, from one to two timeouts`, () => {
      const cluster = newCluster({ voters: [1, 2, 3], preVote });
      const drawn = Array.from({ length: 60 }, () => ticksToCampaign(cluster, 1));
      assert.ok(
        drawn.every((ticks) => ticks >= 10 && ticks < 20),
        `drawn: ${drawn}`,
      );
      assert.ok(new Set(drawn).size >= 6, `drawn: ${drawn}`);
    });
  }

  it('replicas of one group draw different timeouts', () => {
    const cluster = newCluster({ voters: upTo(9) });
    const drawn = upTo(9).map((id) => ticksToCampaign(cluster, id));
    assert.ok(new Set(drawn).size >= 4, `drawn: ${drawn}`);
  });

  it('giving a vote restarts the election timer, refusing one does not', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    deliver(cluster, voteRequestOf({ from: 2, to: 1, term: 2 }, start));
    tickOne(cluster, 1, 5);
    deliver(cluster, voteRequestOf({ from: 3, to: 1, term: 2 }, start));
    assert.equal(stateOf(cluster, 1).electionElapsed, 5);
    deliver(cluster, voteRequestOf({ from: 2, to: 1, term: 2 }, start));
    assert.equal(stateOf(cluster, 1).electionElapsed, 0);
  });

  it("the candidate's time begins again when the vote is durable", () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    deliver(cluster, voteRequestOf({ from: 2, to: 1, term: 2 }, start));
    tickOne(cluster, 1, 9);
    act(cluster, 1, restartElectionTimer);
    tickOne(cluster, 1, 9);
    assert.equal(stateOf(cluster, 1).role, 'follower');
  });

  it('a vote is durable before it is given', () => {
    const cluster = newCluster({ voters: [1, 2, 3], asyncStorageWrites: true });
    replicaOf(cluster, 1).isDiskStalled = true;
    deliver(cluster, voteRequestOf({ from: 2, to: 1, term: 2 }, start));
    work(cluster, 1);
    assert.deepEqual(cluster.sent, []);
    workDisk(cluster, 1);
    assert.equal(replicaOf(cluster, 1).disk.durable.hardState.votedFor, 2);
    assert.deepEqual(
      cluster.sent.map(({ type, to }) => [type, to]),
      [['requestVoteResponse', 2]],
    );
  });

  it('a candidate leads only after its own vote is durable, whoever else voted for it', () => {
    const cluster = newCluster({ voters: [1, 2, 3], asyncStorageWrites: true });
    replicaOf(cluster, 1).isDiskStalled = true;
    act(cluster, 1, campaign);
    settle(cluster);
    assert.equal(stateOf(cluster, 1).role, 'candidate');
    assert.equal(stateOf(cluster, 1).votes.size, 2);
    replicaOf(cluster, 1).isDiskStalled = false;
    settle(cluster);
    assert.equal(stateOf(cluster, 1).role, 'leader');
  });

  it('a crash in the campaign does not lead to a second leadership of the same term', () => {
    const cluster = newCluster({ voters: [1, 2, 3], asyncStorageWrites: true });
    replicaOf(cluster, 1).isDiskStalled = true;
    act(cluster, 1, campaign);
    settle(cluster);
    crash(cluster, 1);
    // Nothing that needs a leader of term 2 was sent before.
    assert.deepEqual(
      cluster.sent.filter(({ type }) => type === 'appendEntries' || type === 'heartbeat'),
      [],
    );
  });

  it('a vote does not count for a log that is behind the voter', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    cluster.isLost = () => true;
    act(cluster, 1, campaign);
    work(cluster, 1);
    // Given to this replica's log as it was before a crash took its end.
    deliver(cluster, voteOf({ from: 2, to: 1, term: 2 }, { last: { index: 4, term: 1 } }));
    assert.equal(stateOf(cluster, 1).role, 'candidate');
    deliver(cluster, voteOf({ from: 3, to: 1, term: 2 }));
    assert.equal(stateOf(cluster, 1).role, 'leader');
  });
});

describe('priority', () => {
  it('a lower one waits for whole timeouts more', () => {
    const optionsOf = { 1: { priority: 3 }, 2: { priority: 2 }, 3: { priority: 1 } };
    const cluster = newCluster({ voters: [1, 2, 3], optionsOf });
    assert.ok(ticksToCampaign(cluster, 1) < 20);
    const second = ticksToCampaign(cluster, 2);
    assert.ok(second >= 20 && second < 30, `${second}`);
    const third = ticksToCampaign(cluster, 3);
    assert.ok(third >= 30 && third < 40, `${third}`);
  });

  it('zero never campaigns by itself, but votes and counts', () => {
    const cluster = newCluster({ voters: [1, 2], optionsOf: { 2: { priority: 0 } } });
    tickOne(cluster, 2, 200);
    assert.equal(stateOf(cluster, 2).role, 'follower');
    elect(cluster, 1);
    assert.equal(stateOf(cluster, 1).log.commitIndex, 2);
  });
});

describe('forgetting a leader', () => {
  it('frees a follower to vote for another one in the same term of stickiness', () => {
    const cluster = ledCluster({ checkQuorum: true });
    partition(cluster, [1]);
    act(cluster, 2, campaign);
    settle(cluster);
    assert.deepEqual(leadersOf(cluster), [1], 'replica 3 still hears its leader');
    act(cluster, 3, forgetLeader);
    act(cluster, 2, campaign);
    settle(cluster);
    assert.ok(leadersOf(cluster).includes(2));
  });

  it('lasts until the next message of the leader', () => {
    const cluster = ledCluster();
    act(cluster, 3, forgetLeader);
    assert.equal(stateOf(cluster, 3).leader, undefined);
    pass(cluster, 2);
    assert.equal(stateOf(cluster, 3).leader, 1);
  });

  it('is no business of a leader', () => {
    const cluster = ledCluster();
    act(cluster, 1, forgetLeader);
    assert.equal(stateOf(cluster, 1).leader, 1);
  });
});

describe('thesis 6.2', () => {
  inBothModes((name, mode) => {
    it(`a leader that a majority does not answer steps down within two timeouts, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, checkQuorum: true });
      partition(cluster, [1]);
      tickOne(cluster, 1, 20);
      assert.equal(stateOf(cluster, 1).role, 'follower');
    });
  });

  it('a leader that a majority answers goes on without the rest', () => {
    const cluster = ledCluster({ checkQuorum: true });
    partition(cluster, [3]);
    for (let i = 0; i < 60; i++) {
      tickOne(cluster, 1);
      settle(cluster);
    }
    assert.equal(stateOf(cluster, 1).role, 'leader');
  });

  inBothModes((name, mode) => {
    it(`a leader whose host cannot work gives up at once, and somebody else leads, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, checkQuorum: true, preVote: true });
      act(cluster, 1, stepDown);
      assert.equal(stateOf(cluster, 1).role, 'follower');
      assert.equal(stateOf(cluster, 1).votedFor, 1, 'its vote of this term stays given');
      replicaOf(cluster, 1).isDiskStalled = true;
      for (let i = 0; i < 60; i++) {
        for (const id of [2, 3]) tickOne(cluster, id);
        settle(cluster);
      }
      assert.equal(leadersOf(cluster).length, 1);
      assert.notEqual(leadersOf(cluster)[0], 1);
    });
  });

  it('answers of learners do not keep a leader in office', () => {
    const cluster = ledCluster({ voters: [1, 2, 3], learners: [4, 5], checkQuorum: true });
    partition(cluster, [2, 3]);
    for (let i = 0; i < 25; i++) {
      tickOne(cluster, 1);
      settle(cluster);
    }
    assert.equal(stateOf(cluster, 1).role, 'follower');
  });

  it('wishes for a transfer do not put the check off', () => {
    const cluster = ledCluster({ checkQuorum: true });
    partition(cluster, [1]);
    for (let i = 0; i < 20; i++) {
      const transferee = 2 + (i % 2);
      const wish = { type: 'transferLeadership', from: 2, to: 1, term: 2, transferee } as const;
      if (stateOf(cluster, 1).role === 'leader') deliver(cluster, wish);
      tickOne(cluster, 1);
    }
    assert.equal(stateOf(cluster, 1).role, 'follower');
  });

  it('a leader counts a peer as heard from only since the last check', () => {
    const cluster = ledCluster({ checkQuorum: true });
    pass(cluster, 30);
    deliverAll(cluster);
    partition(cluster, [1]);
    tickOne(cluster, 1, 20);
    assert.equal(stateOf(cluster, 1).role, 'follower');
  });
});
