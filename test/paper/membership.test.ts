// §6 of the paper and chapter 4 of the dissertation: changing the members while the group works. Changes take effect
// when they are applied, one at a time; several at once go through a joint configuration.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Transition } from '../../src/raft/conf-change.ts';
import { campaign, readIndex, transferLeadership } from '../../src/raft/raft.ts';
import type { ReplicaId } from '../../src/raft/types.ts';
import {
  act,
  addLearner,
  addVoter,
  type CoreCluster,
  compact,
  crash,
  deliver,
  deliverAll,
  elect,
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
  turn,
  work,
} from '../support/core-cluster.ts';
import { ackOf, clusterWithLog, voteOf, voteRequestOf } from '../support/core-messages.ts';

function confOf(cluster: CoreCluster, id: ReplicaId) {
  return stateOf(cluster, id).confState;
}

function refusalsOf(cluster: CoreCluster, id: ReplicaId): string[] {
  return replicaOf(cluster, id).events.flatMap((event) =>
    event.type === 'confChangeRefused' ? [event.reason] : [],
  );
}

describe('thesis 4.1: one server at a time', () => {
  inBothModes((name, mode) => {
    it(`a voter is added, gets the log and counts, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, strangers: [4] });
      proposeTexts(cluster, 1, 'a');
      proposeChange(cluster, 1, [addVoter(4)]);
      pass(cluster, 6);
      for (const id of [1, 2, 3, 4]) assert.deepEqual(confOf(cluster, id).voters, [1, 2, 3, 4]);
      assert.deepEqual(replicaOf(cluster, 4).machine.texts, ['a']);
      // Three of four are needed now.
      partition(cluster, [1, 2]);
      proposeTexts(cluster, 1, 'b');
      settle(cluster);
      assert.ok(!replicaOf(cluster, 1).machine.texts.includes('b'));
    });

    it(`a voter is removed and does not count any more, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, voters: [1, 2, 3] });
      partition(cluster, [3]);
      proposeChange(cluster, 1, [remove(3)]);
      settle(cluster);
      assert.deepEqual(confOf(cluster, 1).voters, [1, 2]);
      assert.equal(stateOf(cluster, 1).progress.has(3), false);
      proposeTexts(cluster, 1, 'a');
      settle(cluster);
      assert.deepEqual(replicaOf(cluster, 1).machine.texts, ['a']);
    });
  });

  it('a change takes effect when it is applied, not when it is proposed', () => {
    const cluster = ledCluster({ strangers: [4] });
    proposeChange(cluster, 1, [addVoter(4)]);
    assert.deepEqual(confOf(cluster, 1).voters, [1, 2, 3]);
    settle(cluster);
    assert.deepEqual(confOf(cluster, 1).voters, [1, 2, 3, 4]);
  });

  it('a second change is refused until the first is applied, and its place holds an empty entry', () => {
    const cluster = ledCluster({ strangers: [4, 5] });
    proposeChange(cluster, 1, [addVoter(4)]);
    proposeChange(cluster, 1, [addVoter(5)]);
    settle(cluster);
    pass(cluster, 4);
    assert.deepEqual(confOf(cluster, 1).voters, [1, 2, 3, 4]);
    assert.match(refusalsOf(cluster, 1).join(), /may not be applied yet/);
    assert.equal(stateOf(cluster, 1).log.lastIndex, 4);
    proposeChange(cluster, 1, [addVoter(5)]);
    pass(cluster, 4);
    assert.deepEqual(confOf(cluster, 1).voters, [1, 2, 3, 4, 5]);
  });

  it('a new leader takes no change before everything it inherited is applied', () => {
    const cluster = ledCluster({ strangers: [4], asyncStorageWrites: true });
    proposeChange(cluster, 1, [addVoter(4)]);
    work(cluster, 1);
    for (const append of intercept(cluster, 'appendEntries')) deliver(cluster, append);
    for (const id of [2, 3]) work(cluster, id);
    cluster.network = [];
    crash(cluster, 1);
    act(cluster, 2, campaign);
    for (let i = 0; i < 2; i++) {
      for (const id of [2, 3]) work(cluster, id);
      for (const type of ['requestVote', 'requestVoteResponse'] as const) {
        for (const message of intercept(cluster, type)) deliver(cluster, message);
      }
    }
    assert.equal(stateOf(cluster, 2).role, 'leader');
    // The change of the old leader may commit later: a second one would be two at a time.
    proposeChange(cluster, 2, [remove(3)]);
    settle(cluster);
    assert.match(refusalsOf(cluster, 2).join(), /may not be applied yet/);
    assert.deepEqual(confOf(cluster, 2).voters, [1, 2, 3, 4]);
  });

  it('changes that nobody could apply become empty entries: they would stop every replica', () => {
    const cluster = ledCluster();
    const impossible = [
      { changes: [remove(1), remove(2), remove(3)], transition: Transition.auto },
      { changes: [], transition: Transition.auto },
    ];
    for (const { changes, transition } of impossible) {
      proposeChange(cluster, 1, changes, transition);
      settle(cluster);
    }
    assert.deepEqual(refusalsOf(cluster, 1), [
      'removed all voters',
      "can't leave a non-joint config",
    ]);
    assert.deepEqual(confOf(cluster, 1).voters, [1, 2, 3]);
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    assert.deepEqual(replicaOf(cluster, 1).machine.texts, ['a']);
  });

  it('a change that was dropped for lack of room does not block the next one', () => {
    const cluster = ledCluster({ uncommittedBytesMax: 4 });
    partition(cluster, [1]);
    assert.equal(proposeTexts(cluster, 1, 'full'), 'appended');
    assert.equal(proposeChange(cluster, 1, [remove(3)]), 'dropped');
    heal(cluster);
    pass(cluster, 4);
    assert.equal(proposeChange(cluster, 1, [remove(3)]), 'appended');
    settle(cluster);
    assert.deepEqual(confOf(cluster, 1).voters, [1, 2]);
  });

  it('only a leader takes a change', () => {
    const cluster = ledCluster();
    assert.equal(proposeChange(cluster, 2, [remove(3)]), 'dropped');
  });

  it('a removal commits what is on a majority only without the removed voter', () => {
    const cluster = ledCluster({ voters: [1, 2, 3, 4] });
    // 4 is dead, and 3 gets the removal (entry 3) but not the text behind it (entry 4).
    cluster.isLost = (message) =>
      message.from === 4 ||
      message.to === 4 ||
      (message.type === 'appendEntries' &&
        message.to === 3 &&
        message.entries.some(({ index }) => index === 4));
    proposeChange(cluster, 1, [remove(4)]);
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    assert.equal(stateOf(cluster, 3).log.lastIndex, 3);
    assert.deepEqual(confOf(cluster, 1).voters, [1, 2, 3]);
    assert.deepEqual(replicaOf(cluster, 1).machine.texts, ['a'], 'on 1 and 2: two of three');
  });
});

describe('thesis 4.2.1: catching up new servers', () => {
  it('a learner gets the log, but its acknowledgements do not count', () => {
    const cluster = ledCluster({ strangers: [4, 5] });
    proposeChange(cluster, 1, [addLearner(4)]);
    pass(cluster, 4);
    proposeChange(cluster, 1, [addLearner(5)]);
    pass(cluster, 4);
    partition(cluster, [2, 3]);
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    assert.equal(stateOf(cluster, 4).log.lastIndex, stateOf(cluster, 1).log.lastIndex);
    assert.deepEqual(replicaOf(cluster, 1).machine.texts, []);
  });

  it('a learner that caught up is promoted without a gap in availability', () => {
    const cluster = ledCluster({ strangers: [4] });
    for (let i = 0; i < 20; i++) proposeTexts(cluster, 1, `v${i}`);
    settle(cluster);
    compact(cluster, 1);
    proposeChange(cluster, 1, [addLearner(4)]);
    pass(cluster, 6);
    assert.equal(replicaOf(cluster, 4).machine.texts.length, 20);
    proposeChange(cluster, 1, [addVoter(4)]);
    settle(cluster);
    partition(cluster, [2]);
    proposeTexts(cluster, 1, 'last');
    settle(cluster);
    assert.ok(replicaOf(cluster, 4).machine.texts.length >= 20);
    assert.ok(replicaOf(cluster, 1).machine.texts.includes('last'));
  });

  it('a newcomer takes a snapshot from before its own addition, and the rest from the log', () => {
    const cluster = ledCluster({ strangers: [4] });
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    compact(cluster, 1);
    proposeChange(cluster, 1, [addVoter(4)]);
    pass(cluster, 6);
    assert.deepEqual(confOf(cluster, 4).voters, [1, 2, 3, 4]);
    assert.deepEqual(replicaOf(cluster, 4).machine.texts, ['a']);
  });

  it('a new member counts as heard from at first: it does not depose the leader that added it', () => {
    const cluster = ledCluster({ voters: [1], strangers: [2], checkQuorum: true });
    partition(cluster, [2]);
    while (stateOf(cluster, 1).electionElapsed !== 9) tickOne(cluster, 1);
    proposeChange(cluster, 1, [addVoter(2)]);
    settle(cluster);
    assert.deepEqual(confOf(cluster, 1).voters, [1, 2]);
    tickOne(cluster, 1);
    assert.equal(stateOf(cluster, 1).role, 'leader', 'it had no time to answer');
    tickOne(cluster, 1, 10);
    assert.equal(stateOf(cluster, 1).role, 'follower', 'now it had');
  });
});

describe('thesis 4.2.2: removing the current leader', () => {
  inBothModes((name, mode) => {
    it(`a leader that removed itself steps down when that is applied, and the rest goes on, with ${name}`, () => {
      const cluster = ledCluster(mode);
      proposeChange(cluster, 1, [remove(1)]);
      settle(cluster);
      assert.equal(stateOf(cluster, 1).role, 'follower');
      pass(cluster, 60);
      const [leader] = leadersOf(cluster);
      assert.ok(leader === 2 || leader === 3);
      assert.deepEqual(confOf(cluster, leader).voters, [2, 3]);
    });
  });

  it('without the option it goes on leading, and does not count itself', () => {
    const cluster = ledCluster({ stepDownOnRemoval: false });
    proposeChange(cluster, 1, [remove(1)]);
    settle(cluster);
    assert.equal(stateOf(cluster, 1).role, 'leader');
    assert.equal(proposeTexts(cluster, 1, 'a'), 'dropped');
  });

  it('a leader that became a learner steps down too', () => {
    const cluster = ledCluster();
    proposeChange(cluster, 1, [addLearner(1)]);
    settle(cluster);
    assert.equal(stateOf(cluster, 1).role, 'follower');
    tickOne(cluster, 1, 100);
    assert.equal(stateOf(cluster, 1).role, 'follower');
  });

  it('who stays learns from a vote answer that the removal is committed, and leads alone', () => {
    const cluster = ledCluster();
    // 2 gets entries 3 (into the joint configuration) and 4 (out of it), but not that 4 is committed.
    cluster.isLost = (message) =>
      message.to === 2 &&
      ((message.type === 'appendEntries' && message.entries.some(({ index }) => index > 4)) ||
        ('leaderCommit' in message && message.leaderCommit > 3));
    proposeChange(cluster, 1, [remove(1), remove(3)]);
    while (stateOf(cluster, 1).log.lastIndex < 4) {
      for (const id of [1, 2, 3]) turn(cluster, id);
      deliverAll(cluster);
    }
    proposeTexts(cluster, 1, 'on those who go');
    settle(cluster);
    for (const id of [1, 3]) assert.equal(stateOf(cluster, id).log.lastIndex, 5);
    assert.equal(stateOf(cluster, 1).role, 'follower', 'it applied its own removal');
    assert.deepEqual(
      [stateOf(cluster, 2).log.lastIndex, stateOf(cluster, 2).log.commitIndex],
      [4, 3],
    );
    // It needs the votes of logs that are longer than its own, and whose owners do not campaign any more.
    heal(cluster);
    pass(cluster, 60);
    assert.deepEqual(leadersOf(cluster), [2]);
    assert.deepEqual(confOf(cluster, 2).voters, [2]);
  });

  it('a candidate takes over what a voter knows to be committed, as far as its own log has it', () => {
    const cluster = clusterWithLog([1, 1, 1]);
    cluster.isLost = () => true;
    act(cluster, 1, campaign);
    const refusal = (index: number, term: number) =>
      voteOf({ from: 2, to: 1, term: 2 }, { rejected: true, committed: { index, term } });
    deliver(cluster, refusal(3, 2));
    assert.equal(stateOf(cluster, 1).log.commitIndex, 1, 'another entry 3');
    deliver(cluster, refusal(9, 1));
    assert.equal(stateOf(cluster, 1).log.commitIndex, 1, 'an entry that it lacks');
    deliver(cluster, refusal(3, 1));
    assert.equal(stateOf(cluster, 1).log.commitIndex, 3);
  });
});

describe('thesis 4.2.3: disruptive servers', () => {
  it('a removed server that campaigns does not disturb those who hear their leader', () => {
    const cluster = ledCluster({ checkQuorum: true });
    partition(cluster, [3]);
    proposeChange(cluster, 1, [remove(3)]);
    settle(cluster);
    heal(cluster);
    const { currentTerm } = stateOf(cluster, 1);
    pass(cluster, 200);
    assert.ok(stateOf(cluster, 3).currentTerm > currentTerm, 'it went on campaigning');
    assert.deepEqual(leadersOf(cluster), [1]);
    assert.equal(stateOf(cluster, 2).currentTerm, currentTerm);
  });

  it('answers of replicas that are no members are refused', () => {
    const cluster = ledCluster({ strangers: [9] });
    assert.equal(deliver(cluster, ackOf({ from: 9, to: 1, term: 2 }, 2)), 'unknownPeer');
    assert.equal(deliver(cluster, ackOf({ from: 9, to: 1, term: 77 }, 2)), 'unknownPeer');
    assert.equal(stateOf(cluster, 1).currentTerm, 2);
  });

  it('a replica that comes back after its removal begins anew: nothing that it once acknowledged counts', () => {
    const cluster = ledCluster();
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    proposeChange(cluster, 1, [remove(3)]);
    settle(cluster);
    assert.equal(deliver(cluster, ackOf({ from: 3, to: 1, term: 2 }, 3)), 'unknownPeer');
    partition(cluster, [3]);
    proposeChange(cluster, 1, [addVoter(3)]);
    settle(cluster);
    const progress = stateOf(cluster, 1).progress.get(3);
    assert.deepEqual([progress?.state, progress?.matchIndex], ['probe', 0]);
  });

  it('whoever hears a leader ignores a candidate, unless the leader itself hands over', () => {
    const cluster = ledCluster({ checkQuorum: true });
    const request = voteRequestOf({ from: 3, to: 2, term: 9 }, { index: 9, term: 2 });
    deliver(cluster, request);
    assert.equal(stateOf(cluster, 2).currentTerm, 2);
    deliver(cluster, { ...request, leadershipTransfer: true });
    assert.equal(stateOf(cluster, 2).currentTerm, 9);
    assert.equal(stateOf(cluster, 2).votedFor, 3);
  });
});

describe('§6, thesis 4.3: arbitrary changes by joint consensus', () => {
  inBothModes((name, mode) => {
    it(`several changes go through a joint configuration, which the leader leaves by itself, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, strangers: [4, 5] });
      proposeChange(cluster, 1, [addVoter(4), addVoter(5), remove(2)]);
      settle(cluster);
      pass(cluster, 6);
      for (const id of [1, 3, 4, 5]) {
        assert.deepEqual(confOf(cluster, id).voters, [1, 3, 4, 5]);
        assert.deepEqual(confOf(cluster, id).votersOutgoing, []);
      }
      const joint = replicaOf(cluster, 1).events.filter(
        (event) => event.type === 'confChanged' && event.confState.votersOutgoing.length > 0,
      );
      assert.equal(joint.length, 1);
    });

    it(`all voters may be replaced at once while the group goes on, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, strangers: [4, 5, 6] });
      proposeTexts(cluster, 1, 'a');
      const changes = [4, 5, 6].map(addVoter).concat([1, 2, 3].map(remove));
      proposeChange(cluster, 1, changes);
      pass(cluster, 80);
      const [leader] = leadersOf(cluster);
      assert.ok(leader !== undefined && leader >= 4);
      proposeTexts(cluster, leader, 'b');
      pass(cluster, 4);
      for (const id of [4, 5, 6])
        assert.deepEqual(replicaOf(cluster, id).machine.texts, ['a', 'b']);
    });
  });

  it('in a joint configuration a commit needs a majority of both halves', () => {
    for (const cut of [
      [2, 3],
      [4, 5],
    ]) {
      const cluster = ledCluster({ strangers: [4, 5] });
      proposeChange(
        cluster,
        1,
        [addVoter(4), addVoter(5), remove(2), remove(3)],
        Transition.jointExplicit,
      );
      pass(cluster, 6);
      assert.deepEqual(confOf(cluster, 1).votersOutgoing, [1, 2, 3]);
      partition(cluster, cut);
      proposeTexts(cluster, 1, 'a');
      settle(cluster);
      assert.deepEqual(replicaOf(cluster, 1).machine.texts, []);
      heal(cluster);
      pass(cluster, 6);
      assert.deepEqual(replicaOf(cluster, 1).machine.texts, ['a']);
    }
  });

  it('in a joint configuration an election needs a majority of both halves', () => {
    for (const cut of [
      [2, 3],
      [4, 5],
    ]) {
      const cluster = ledCluster({ strangers: [4, 5] });
      proposeChange(
        cluster,
        1,
        [addVoter(4), addVoter(5), remove(2), remove(3)],
        Transition.jointExplicit,
      );
      pass(cluster, 6);
      partition(cluster, cut);
      act(cluster, 1, (state) => transferLeadership(state, 1));
      crash(cluster, 1);
      const others = [2, 3, 4, 5].filter((id) => !cut.includes(id));
      for (const id of others) act(cluster, id, campaign);
      settle(cluster);
      pass(cluster, 80);
      assert.deepEqual(leadersOf(cluster), []);
    }
  });

  it('an explicit joint configuration lasts until it is left', () => {
    const cluster = ledCluster({ strangers: [4] });
    proposeChange(cluster, 1, [addVoter(4), remove(3)], Transition.jointExplicit);
    pass(cluster, 30);
    assert.deepEqual(confOf(cluster, 1).votersOutgoing, [1, 2, 3]);
    proposeChange(cluster, 1, [addVoter(3)]);
    settle(cluster);
    assert.deepEqual(confOf(cluster, 1).voters, [1, 2, 4], 'no other change meanwhile');
    proposeChange(cluster, 1, []);
    pass(cluster, 4);
    assert.deepEqual(confOf(cluster, 1).votersOutgoing, []);
  });

  it('a joint configuration is left by the next leader when the first one dies', () => {
    const cluster = ledCluster({ strangers: [4] });
    proposeChange(cluster, 1, [addVoter(4), remove(3)]);
    work(cluster, 1);
    for (const append of intercept(cluster, 'appendEntries')) deliver(cluster, append);
    for (const id of [2, 3]) work(cluster, id);
    cluster.network = [];
    crash(cluster, 1);
    pass(cluster, 120);
    const [leader] = leadersOf(cluster);
    assert.ok(leader !== undefined);
    assert.deepEqual(confOf(cluster, leader).votersOutgoing, []);
    assert.deepEqual(confOf(cluster, leader).voters, [1, 2, 4]);
  });

  it('a joint configuration is left after a transfer that came to nothing, without new proposals', () => {
    const cluster = ledCluster({ strangers: [4] });
    proposeChange(cluster, 1, [addVoter(4), remove(3)]);
    // While the change is on its way, leadership is offered to somebody who cannot be reached.
    act(cluster, 1, (state) => transferLeadership(state, 3));
    cluster.isLost = ({ type }) => type === 'timeoutNow';
    settle(cluster);
    assert.ok(confOf(cluster, 1).votersOutgoing.length > 0, 'the leave was refused meanwhile');
    pass(cluster, 30);
    assert.deepEqual(confOf(cluster, 1).votersOutgoing, []);
  });

  it('a voter that is demoted becomes a learner only when the joint configuration is left', () => {
    const cluster = ledCluster({ strangers: [4] });
    proposeChange(cluster, 1, [addLearner(3), addVoter(4)], Transition.jointExplicit);
    settle(cluster);
    assert.deepEqual(confOf(cluster, 1).learners, []);
    assert.deepEqual(confOf(cluster, 1).learnersNext, [3]);
    proposeChange(cluster, 1, []);
    settle(cluster);
    assert.deepEqual(confOf(cluster, 1).learners, [3]);
  });

  it('a replica with a committed change that it has not applied does not campaign', () => {
    const cluster = ledCluster({ strangers: [4], asyncStorageWrites: true });
    proposeChange(cluster, 1, [addVoter(4)]);
    // Replica 2 learns that the change is committed, and cannot apply it: its disk hangs.
    work(cluster, 1);
    for (const append of intercept(cluster, 'appendEntries')) deliver(cluster, append);
    for (const id of [2, 3]) work(cluster, id);
    replicaOf(cluster, 2).isDiskCold = true;
    settleWithoutApply(cluster, 2);
    const { log } = stateOf(cluster, 2);
    assert.ok(log.commitIndex > log.appliedIndex);
    act(cluster, 2, campaign);
    assert.equal(stateOf(cluster, 2).role, 'follower');
  });
});

/** Replica `id` hears that everything is committed, and hands nothing to its state machine. */
function settleWithoutApply(cluster: CoreCluster, id: ReplicaId): void {
  const { lastIndex } = stateOf(cluster, id).log;
  const { currentTerm } = stateOf(cluster, id);
  const type = 'heartbeat';
  const commit = { leaderCommit: lastIndex, readRound: undefined };
  // The leader commits before it says so.
  const others = cluster.network.filter(({ to }) => to === 1);
  cluster.network = [];
  for (const message of others) deliver(cluster, message);
  deliver(cluster, { type, from: 1, to: id, term: currentTerm, ...commit });
}

describe('thesis 4.4: availability during changes', () => {
  it('a read that waits for a removed voter is answered when it is gone', () => {
    const cluster = ledCluster({ voters: [1, 2] });
    cluster.isLost = ({ type }) => type === 'heartbeat' || type === 'heartbeatResponse';
    act(cluster, 1, (state) => readIndex(state, 5));
    settle(cluster);
    assert.deepEqual(replicaOf(cluster, 1).readStates, []);
    proposeChange(cluster, 1, [remove(2)]);
    settle(cluster);
    assert.deepEqual(
      replicaOf(cluster, 1).readStates.map(({ context }) => context),
      [5],
    );
  });

  it('a group survives the loss of a voter, its removal, and a new one in its place', () => {
    const cluster = ledCluster({ strangers: [4] });
    crash(cluster, 3);
    proposeChange(cluster, 1, [remove(3)]);
    settle(cluster);
    proposeChange(cluster, 1, [addVoter(4)]);
    pass(cluster, 6);
    partition(cluster, [2]);
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    assert.deepEqual(replicaOf(cluster, 1).machine.texts, ['a']);
    elect(cluster, 4);
  });
});
