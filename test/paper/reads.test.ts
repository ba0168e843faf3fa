// §8 of the paper and chapter 6 of the dissertation: reads that are linearizable without a log entry. 6.4: the leader
// proves by a round of heartbeats that it still leads; 6.4.1: for a while after such a round a lease proves it.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  campaign,
  expireLease,
  forgetLeader,
  readIndex,
  stepDown,
  transferLeadership,
} from '../../src/raft/raft.ts';
import type { ReplicaId } from '../../src/raft/types.ts';
import {
  act,
  type ClusterOptions,
  type CoreCluster,
  crash,
  deliver,
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
  restart,
  settle,
  stateOf,
  tickOne,
  turn,
  work,
  workDisk,
} from '../support/core-cluster.ts';
import { heartbeatOf, voteOf, voteRequestOf } from '../support/core-messages.ts';

function ask(cluster: CoreCluster, id: ReplicaId, context: number): 'pending' | 'dropped' {
  return act(cluster, id, (state) => readIndex(state, context));
}

function answersOf(cluster: CoreCluster, id: ReplicaId): [number, number][] {
  work(cluster, id);
  return replicaOf(cluster, id).readStates.map(({ context, index }) => [context, index]);
}

describe('§8, thesis 6.4: the read index', () => {
  inBothModes((name, mode) => {
    it(`a read is answered after a round of heartbeats, with the commit index of before, with ${name}`, () => {
      const cluster = ledCluster(mode);
      proposeTexts(cluster, 1, 'a');
      settle(cluster);
      assert.equal(ask(cluster, 1, 7), 'pending');
      assert.deepEqual(answersOf(cluster, 1), []);
      settle(cluster);
      assert.deepEqual(answersOf(cluster, 1), [[7, 3]]);
    });

    it(`a follower asks its leader, and so does a learner, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, learners: [4] });
      for (const id of [2, 4]) {
        ask(cluster, id, id);
        settle(cluster);
        assert.deepEqual(answersOf(cluster, id), [[id, 2]]);
      }
    });

    it(`a leader that lost its majority answers no read, with ${name}`, () => {
      const cluster = ledCluster(mode);
      partition(cluster, [1]);
      ask(cluster, 1, 7);
      elect(cluster, 2);
      proposeTexts(cluster, 2, 'newer');
      settle(cluster);
      tickOne(cluster, 1, 4);
      assert.deepEqual(answersOf(cluster, 1), []);
      heal(cluster);
      pass(cluster, 4);
      assert.deepEqual(answersOf(cluster, 1), [], 'not later either: it does not lead any more');
    });
  });

  it('a new leader answers no read before an entry of its own term is committed', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    cluster.isLost = ({ type }) => type === 'appendEntries';
    act(cluster, 1, campaign);
    settle(cluster);
    assert.equal(ask(cluster, 1, 7), 'pending');
    settle(cluster);
    tickOne(cluster, 1, 2);
    settle(cluster);
    assert.deepEqual(answersOf(cluster, 1), []);
    heal(cluster);
    pass(cluster, 2);
    assert.deepEqual(answersOf(cluster, 1), [[7, 2]]);
  });

  it('an answer to a heartbeat of before the question counts for nothing', () => {
    const cluster = ledCluster();
    tickOne(cluster, 1, 2);
    for (const id of [1]) work(cluster, id);
    for (const heartbeat of intercept(cluster, 'heartbeat')) deliver(cluster, heartbeat);
    for (const id of [2, 3]) work(cluster, id);
    const older = intercept(cluster, 'heartbeatResponse');
    ask(cluster, 1, 7);
    work(cluster, 1);
    for (const answer of older) deliver(cluster, answer);
    assert.deepEqual(answersOf(cluster, 1), []);
    settle(cluster);
    assert.deepEqual(answersOf(cluster, 1), [[7, 2]]);
  });

  it('an answer to an older round does not confirm a younger one', () => {
    const cluster = ledCluster();
    ask(cluster, 1, 7);
    work(cluster, 1);
    for (const heartbeat of intercept(cluster, 'heartbeat')) deliver(cluster, heartbeat);
    for (const id of [2, 3]) work(cluster, id);
    const older = intercept(cluster, 'heartbeatResponse');
    proposeTexts(cluster, 1, 'a');
    ask(cluster, 1, 8);
    for (const answer of older) deliver(cluster, answer);
    assert.deepEqual(
      answersOf(cluster, 1).map(([context]) => context),
      [7],
    );
  });

  it('an answer to a younger round confirms the older ones, each with its own index', () => {
    const cluster = ledCluster();
    ask(cluster, 1, 7);
    work(cluster, 1);
    intercept(cluster, 'heartbeat');
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    ask(cluster, 1, 8);
    settle(cluster);
    assert.deepEqual(answersOf(cluster, 1), [
      [7, 2],
      [8, 3],
    ]);
  });

  it('a lost heartbeat only delays a read until the next one', () => {
    const cluster = ledCluster();
    ask(cluster, 1, 7);
    work(cluster, 1);
    intercept(cluster, 'heartbeat');
    pass(cluster, 2);
    assert.deepEqual(answersOf(cluster, 1), [[7, 2]]);
  });

  it('an echo of a round that was never begun counts for nothing', () => {
    const cluster = ledCluster();
    cluster.isLost = () => true;
    ask(cluster, 1, 7);
    for (const from of [2, 3]) {
      deliver(cluster, { type: 'heartbeatResponse', from, to: 1, term: 2, readRound: 99 });
    }
    assert.deepEqual(answersOf(cluster, 1), []);
  });

  it('answers of learners confirm nothing', () => {
    const cluster = ledCluster({ voters: [1, 2, 3], learners: [4, 5] });
    partition(cluster, [2, 3]);
    ask(cluster, 1, 7);
    settle(cluster);
    assert.deepEqual(answersOf(cluster, 1), []);
  });

  it('a lone voter answers at once, but not before it committed in its term', () => {
    const cluster = newCluster({ voters: [1], asyncStorageWrites: true });
    act(cluster, 1, campaign);
    turn(cluster, 1);
    workDisk(cluster, 1);
    assert.deepEqual(leadersOf(cluster), [1]);
    replicaOf(cluster, 1).isDiskStalled = true;
    ask(cluster, 1, 7);
    assert.deepEqual(answersOf(cluster, 1), []);
    replicaOf(cluster, 1).isDiskStalled = false;
    settle(cluster);
    assert.deepEqual(answersOf(cluster, 1), [[7, 2]]);
    ask(cluster, 1, 8);
    assert.deepEqual(answersOf(cluster, 1).at(-1), [8, 2]);
  });

  it('without a known leader a question is refused', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    assert.equal(ask(cluster, 1, 7), 'dropped');
    act(cluster, 1, campaign);
    assert.equal(ask(cluster, 1, 8), 'dropped');
  });

  it('questions that wait for a leader that stepped down are not answered', () => {
    const cluster = ledCluster();
    ask(cluster, 1, 7);
    work(cluster, 1);
    act(cluster, 1, stepDown);
    settle(cluster);
    assert.deepEqual(answersOf(cluster, 1), []);
    elect(cluster, 1);
    pass(cluster, 4);
    assert.deepEqual(answersOf(cluster, 1), []);
  });

  it('at most so many questions wait: the next one is refused, also when one round carries many', () => {
    const cluster = newCluster({ voters: [1, 2, 3], pendingReadsMax: 3 });
    cluster.isLost = ({ type }) => type === 'appendEntries';
    act(cluster, 1, campaign);
    settle(cluster);
    for (const context of [1, 2, 3]) assert.equal(ask(cluster, 1, context), 'pending');
    assert.equal(ask(cluster, 1, 4), 'dropped');
    // The first commit puts all three into one round, which is not answered.
    cluster.isLost = ({ type }) => type === 'heartbeatResponse';
    tickOne(cluster, 1, 10);
    deliver(cluster, { type: 'heartbeatResponse', from: 2, to: 1, term: 2, readRound: undefined });
    settle(cluster);
    assert.equal(stateOf(cluster, 1).reads.rounds.length, 1);
    assert.equal(ask(cluster, 1, 5), 'dropped');
    heal(cluster);
    pass(cluster, 2);
    assert.equal(answersOf(cluster, 1).length, 3);
    assert.equal(ask(cluster, 1, 6), 'pending');
  });
});

const leaseOptions = { reads: 'lease', checkQuorum: true } as const;

/** Leader 1 holds a lease that was confirmed just now. */
function leasedCluster(options: Partial<ClusterOptions> = {}): CoreCluster {
  const cluster = ledCluster({ ...leaseOptions, ...options });
  pass(cluster, 4);
  partition(cluster, [1]);
  assert.deepEqual(readNow(cluster, 1), true, 'the lease is there');
  return cluster;
}

let lastContext = 1_000;

/** Whether a question is answered without a message. */
function readNow(cluster: CoreCluster, id: ReplicaId): boolean {
  lastContext += 1;
  const context = lastContext;
  if (ask(cluster, id, context) === 'dropped') return false;
  work(cluster, id);
  return replicaOf(cluster, id).readStates.some((read) => read.context === context);
}

describe('thesis 6.4.1: leases', () => {
  it('a lease goes on without reads, heartbeat by heartbeat', () => {
    const cluster = ledCluster(leaseOptions);
    pass(cluster, 100);
    partition(cluster, [1]);
    assert.equal(readNow(cluster, 1), true);
  });

  it('a lease goes on when answers take longer than a heartbeat interval', () => {
    const cluster = ledCluster(leaseOptions);
    for (let i = 0; i < 40; i++) {
      for (const id of [1, 2, 3]) tickOne(cluster, id);
      // Everything arrives three ticks late.
      const due = cluster.network.splice(0);
      for (const id of [1, 2, 3]) work(cluster, id);
      if (i % 3 === 0) for (const message of due) deliver(cluster, message);
      else cluster.network.unshift(...due);
    }
    assert.deepEqual(leadersOf(cluster), [1]);
    assert.equal(readNow(cluster, 1), true);
  });

  it('a lease ends one tick before a follower may vote for somebody else', () => {
    const cluster = leasedCluster();
    let ticks = 0;
    while (readNow(cluster, 1) && ticks < 50) {
      tickOne(cluster, 1);
      ticks += 1;
    }
    assert.ok(ticks <= 9, `${ticks} ticks of 10`);
    assert.ok(ticks >= 7, `${ticks} ticks of 10`);
  });

  it('a lease counts from when the heartbeats were sent, however late their answers come', () => {
    const cluster = ledCluster(leaseOptions);
    pass(cluster, 4);
    tickOne(cluster, 1, 2);
    work(cluster, 1);
    for (const heartbeat of intercept(cluster, 'heartbeat')) deliver(cluster, heartbeat);
    for (const id of [2, 3]) work(cluster, id);
    const answers = intercept(cluster, 'heartbeatResponse');
    assert.equal(answers.length, 2);
    partition(cluster, [1]);
    tickOne(cluster, 1, 6);
    for (const answer of answers) deliver(cluster, answer);
    assert.equal(readNow(cluster, 1), true, 'six ticks of nine are over');
    tickOne(cluster, 1, 3);
    assert.deepEqual(leadersOf(cluster), [1]);
    assert.equal(readNow(cluster, 1), false);
  });

  it('a lease is shorter by the bound on clock drift', () => {
    const cluster = leasedCluster({ clockDriftBound: 0.5 });
    tickOne(cluster, 1, 4);
    assert.equal(readNow(cluster, 1), false);
  });

  it('a paused leader has no lease until a round that began afterwards is confirmed', () => {
    const cluster = leasedCluster();
    act(cluster, 1, expireLease);
    assert.equal(readNow(cluster, 1), false);
    heal(cluster);
    pass(cluster, 4);
    partition(cluster, [1]);
    assert.equal(readNow(cluster, 1), true);
  });

  it('an answer that waited through the pause does not bring the lease back', () => {
    const cluster = ledCluster(leaseOptions);
    pass(cluster, 3);
    tickOne(cluster, 1, 1);
    work(cluster, 1);
    for (const heartbeat of intercept(cluster, 'heartbeat')) deliver(cluster, heartbeat);
    for (const id of [2, 3]) work(cluster, id);
    const answers = intercept(cluster, 'heartbeatResponse');
    assert.ok(answers.length > 0);
    act(cluster, 1, expireLease);
    for (const answer of answers) deliver(cluster, answer);
    partition(cluster, [1]);
    assert.equal(readNow(cluster, 1), false);
  });

  it('a leader that offered leadership to somebody has no lease in this term any more', () => {
    const cluster = ledCluster(leaseOptions);
    pass(cluster, 4);
    act(cluster, 1, (state) => transferLeadership(state, 2));
    partition(cluster, [1]);
    assert.equal(readNow(cluster, 1), false);
    heal(cluster);
    cluster.isLost = ({ type }) => type === 'timeoutNow' || type === 'requestVote';
    cluster.network = [];
    pass(cluster, 30);
    if (stateOf(cluster, 1).role === 'leader') {
      partition(cluster, [1]);
      assert.equal(readNow(cluster, 1), false);
    }
  });

  it('a new leader has no lease before a round of its own is confirmed', () => {
    const cluster = ledCluster(leaseOptions);
    act(cluster, 1, (state) => transferLeadership(state, 2));
    settle(cluster);
    assert.deepEqual(leadersOf(cluster), [2]);
    partition(cluster, [2]);
    assert.equal(readNow(cluster, 2), false);
  });

  it('a follower does not help to depose the leader whose message it took', () => {
    const cluster = ledCluster(leaseOptions);
    const request = voteRequestOf({ from: 3, to: 2, term: 9 }, { index: 9, term: 2 });
    deliver(cluster, heartbeatOf({ from: 1, to: 2, term: 2 }));
    tickOne(cluster, 2, 9);
    deliver(cluster, request);
    assert.equal(stateOf(cluster, 2).currentTerm, 2);
    tickOne(cluster, 2, 1);
    deliver(cluster, request);
    assert.equal(stateOf(cluster, 2).currentTerm, 9);
  });

  it('a later term that it hears of does not free it from the promise', () => {
    const cluster = ledCluster(leaseOptions);
    deliver(cluster, heartbeatOf({ from: 1, to: 2, term: 2 }));
    // A late refusal, of a replica that was cut off and campaigned alone.
    deliver(cluster, voteOf({ from: 3, to: 2, term: 8 }, { rejected: true }));
    assert.equal(stateOf(cluster, 2).currentTerm, 8);
    for (const term of [8, 9]) {
      deliver(cluster, voteRequestOf({ from: 3, to: 2, term }, { index: 9, term: 2 }));
      work(cluster, 2);
      assert.equal(stateOf(cluster, 2).votedFor, undefined, `term ${term}`);
    }
  });

  it('a follower that was restarted keeps a promise that it may have given', () => {
    const cluster = ledCluster(leaseOptions);
    crash(cluster, 2);
    restart(cluster, 2);
    const request = voteRequestOf({ from: 3, to: 2, term: 9 }, { index: 9, term: 2 });
    tickOne(cluster, 2, 9);
    deliver(cluster, request);
    assert.equal(stateOf(cluster, 2).currentTerm, 2);
    tickOne(cluster, 2, 1);
    deliver(cluster, request);
    assert.equal(stateOf(cluster, 2).votedFor, 3);
  });

  it('a follower does not campaign itself while the leader may rely on it', () => {
    const cluster = ledCluster(leaseOptions);
    deliver(cluster, heartbeatOf({ from: 1, to: 2, term: 2 }));
    act(cluster, 2, campaign);
    assert.equal(stateOf(cluster, 2).role, 'follower');
    tickOne(cluster, 2, 30);
    assert.equal(stateOf(cluster, 2).currentTerm > 2, true, 'later it does');
  });

  it('a follower does not forget its leader', () => {
    const cluster = ledCluster(leaseOptions);
    act(cluster, 2, forgetLeader);
    assert.equal(stateOf(cluster, 2).leader, 1);
  });

  it('a lease read never misses what a newer leader committed, whoever is cut off when', () => {
    for (let cutAfter = 0; cutAfter < 6; cutAfter++) {
      const cluster = ledCluster({ ...leaseOptions, seed: cutAfter + 1 });
      pass(cluster, cutAfter);
      partition(cluster, [1]);
      for (let tick = 0; tick < 60; tick++) {
        // Followers tick first: their clocks are ahead by the most that is possible.
        for (const id of [2, 3, 1]) {
          tickOne(cluster, id);
          settle(cluster);
          for (const leader of leadersOf(cluster)) {
            if (leader !== 1) proposeTexts(cluster, leader, `t${tick}`);
          }
          settle(cluster);
          const committed = cluster.safety.highestCommitIndex;
          if (stateOf(cluster, 1).role === 'leader' && readNow(cluster, 1)) {
            assert.ok((replicaOf(cluster, 1).readStates.at(-1)?.index ?? 0) >= committed);
          }
        }
      }
      assert.ok(leadersOf(cluster).some((id) => id !== 1));
    }
  });

  it('lease reads demand the quorum check', () => {
    assert.throws(
      () => newCluster({ voters: [1], reads: 'lease', checkQuorum: false }),
      /lease reads need check-quorum/,
    );
  });

  it('rounds that nobody answers do not pile up', () => {
    const cluster = ledCluster({ ...leaseOptions, electionTicks: 100, snapshotTicks: 200 });
    partition(cluster, [1]);
    let most = 0;
    for (let i = 0; i < 199; i++) {
      tickOne(cluster, 1);
      most = Math.max(most, stateOf(cluster, 1).reads.rounds.length);
    }
    assert.ok(most > 10 && most <= 50, `${most} rounds: one for each heartbeat of a lease`);
  });
});
