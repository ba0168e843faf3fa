// §5.5 of the paper and 3.8 of the dissertation: what a replica must remember over a crash, and that nothing else needs
// to survive. A crash loses every write that was not synced.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { campaign } from '../../src/raft/raft.ts';
import type { ReplicaId } from '../../src/raft/types.ts';
import {
  act,
  type CoreCluster,
  compact,
  crash,
  deliver,
  elect,
  inBothModes,
  intercept,
  leadersOf,
  ledCluster,
  logTexts,
  newCluster,
  pass,
  proposeTexts,
  replicaOf,
  restart,
  settle,
  stateOf,
  type TurnEnd,
  turn,
  warmUp,
  work,
  workDisk,
} from '../support/core-cluster.ts';
import {
  ackOf,
  appendOf,
  entryOf,
  heartbeatOf,
  voteOf,
  voteRequestOf,
} from '../support/core-messages.ts';

const start = { index: 1, term: 1 };

function textsOf(cluster: CoreCluster, id: ReplicaId): readonly string[] {
  return replicaOf(cluster, id).machine.texts;
}

describe('§5.5, thesis 3.8', () => {
  inBothModes((name, mode) => {
    it(`a voter that crashed refuses a second candidate of the same term, with ${name}`, () => {
      const cluster = newCluster({ voters: [1, 2, 3], ...mode });
      deliver(cluster, voteRequestOf({ from: 2, to: 1, term: 2 }, start));
      work(cluster, 1);
      assert.equal(intercept(cluster, 'requestVoteResponse')[0]?.rejected, false);
      crash(cluster, 1);
      restart(cluster, 1);
      deliver(cluster, voteRequestOf({ from: 3, to: 1, term: 2 }, { index: 9, term: 1 }));
      work(cluster, 1);
      assert.equal(intercept(cluster, 'requestVoteResponse')[0]?.rejected, true);
      assert.equal(stateOf(cluster, 1).votedFor, 2);
    });

    it(`a vote in a term that was stored before is kept as well, with ${name}`, () => {
      const cluster = newCluster({ voters: [1, 2, 3], ...mode });
      deliver(cluster, voteOf({ from: 2, to: 1, term: 5 }, { rejected: true }));
      work(cluster, 1);
      assert.equal(replicaOf(cluster, 1).disk.durable.hardState.term, 5);
      deliver(cluster, voteRequestOf({ from: 2, to: 1, term: 5 }, start));
      work(cluster, 1);
      assert.equal(intercept(cluster, 'requestVoteResponse')[0]?.rejected, false);
      crash(cluster, 1);
      restart(cluster, 1);
      deliver(cluster, voteRequestOf({ from: 3, to: 1, term: 5 }, { index: 9, term: 1 }));
      work(cluster, 1);
      assert.equal(intercept(cluster, 'requestVoteResponse')[0]?.rejected, true);
    });

    it(`a candidate that crashed does not vote for another one in the same term, with ${name}`, () => {
      const cluster = newCluster({ voters: [1, 2, 3], ...mode });
      act(cluster, 1, campaign);
      work(cluster, 1);
      crash(cluster, 1);
      restart(cluster, 1);
      deliver(cluster, voteRequestOf({ from: 3, to: 1, term: 2 }, { index: 9, term: 1 }));
      work(cluster, 1);
      assert.equal(intercept(cluster, 'requestVoteResponse')[0]?.rejected, true);
    });

    it(`entries that were acknowledged are there after a power loss, with ${name}`, () => {
      const cluster = ledCluster(mode);
      proposeTexts(cluster, 1, 'a', 'b');
      settle(cluster);
      for (const id of [1, 2, 3]) crash(cluster, id);
      for (const id of [1, 2, 3]) restart(cluster, id);
      for (const id of [1, 2, 3]) assert.deepEqual(logTexts(cluster, id), ['a', 'b']);
      pass(cluster, 60);
      for (const id of [1, 2, 3]) assert.deepEqual(textsOf(cluster, id), ['a', 'b']);
    });

    it(`role, leader and the leader's knowledge of the others do not survive, with ${name}`, () => {
      const cluster = ledCluster(mode);
      crash(cluster, 1);
      restart(cluster, 1);
      const { role, leader, progress } = stateOf(cluster, 1);
      assert.deepEqual({ role, leader }, { role: 'follower', leader: undefined });
      for (const [id, { matchIndex }] of progress) if (id !== 1) assert.equal(matchIndex, 0);
    });

    it(`a leader that crashed is replaced, and follows when it returns, with ${name}`, () => {
      const cluster = ledCluster(mode);
      proposeTexts(cluster, 1, 'a');
      settle(cluster);
      crash(cluster, 1);
      pass(cluster, 45);
      const [leader] = leadersOf(cluster);
      assert.ok(leader !== undefined);
      proposeTexts(cluster, leader, 'b');
      restart(cluster, 1);
      pass(cluster, 6);
      assert.equal(stateOf(cluster, 1).leader, leader);
      assert.deepEqual(textsOf(cluster, 1), ['a', 'b']);
    });

    it(`the stored commit index is only a convenience: it is learnt again, with ${name}`, () => {
      const cluster = ledCluster(mode);
      proposeTexts(cluster, 1, 'a');
      settle(cluster);
      for (const id of [1, 2, 3]) {
        const { disk } = replicaOf(cluster, id);
        crash(cluster, id);
        const hardState = { ...disk.durable.hardState, commitIndex: 1 };
        disk.durable = { ...disk.durable, hardState };
        disk.written = disk.durable;
        restart(cluster, id);
        assert.deepEqual(textsOf(cluster, id), []);
      }
      pass(cluster, 60);
      for (const id of [1, 2, 3]) assert.deepEqual(textsOf(cluster, id), ['a']);
    });

    it(`committed entries are applied once after a restart, behind the snapshot, with ${name}`, () => {
      const cluster = ledCluster(mode);
      proposeTexts(cluster, 1, 'a', 'b');
      settle(cluster);
      compact(cluster, 1);
      proposeTexts(cluster, 1, 'c');
      pass(cluster, 4);
      crash(cluster, 1);
      restart(cluster, 1);
      assert.deepEqual(textsOf(cluster, 1), ['a', 'b'], 'from the snapshot');
      pass(cluster, 60);
      assert.deepEqual(textsOf(cluster, 1), ['a', 'b', 'c']);
    });

    it(`a request that arrives again after the crash is answered again, with ${name}`, () => {
      const cluster = newCluster({ voters: [1, 2, 3], ...mode });
      const append = appendOf(
        { from: 2, to: 1, term: 2 },
        { previous: start, entries: [entryOf(2, 2)] },
      );
      for (let life = 0; life < 3; life++) {
        deliver(cluster, append);
        work(cluster, 1);
        const [answer] = intercept(cluster, 'appendEntriesResponse');
        assert.deepEqual([answer?.rejected, answer?.index], [false, 2]);
        assert.equal(stateOf(cluster, 1).log.lastIndex, 2);
        crash(cluster, 1);
        restart(cluster, 1);
      }
    });
  });

  it('a vote whose write was lost was not given', () => {
    const cluster = newCluster({ voters: [1, 2, 3], asyncStorageWrites: true });
    deliver(cluster, voteRequestOf({ from: 2, to: 1, term: 2 }, start));
    turn(cluster, 1);
    crash(cluster, 1);
    restart(cluster, 1);
    assert.deepEqual(cluster.sent, []);
    deliver(cluster, voteRequestOf({ from: 3, to: 1, term: 2 }, start));
    work(cluster, 1);
    assert.equal(intercept(cluster, 'requestVoteResponse')[0]?.rejected, false);
  });

  it('an entry whose write was lost was not acknowledged', () => {
    const cluster = ledCluster({ asyncStorageWrites: true });
    replicaOf(cluster, 2).isDiskStalled = true;
    replicaOf(cluster, 3).isDiskStalled = true;
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    assert.equal(stateOf(cluster, 1).log.commitIndex, 2, 'only the leader has stored it');
    crash(cluster, 2);
    restart(cluster, 2);
    assert.deepEqual(logTexts(cluster, 2), []);
  });

  it('an acknowledgement leaves only with the write that it is about', () => {
    const cluster = newCluster({ voters: [1, 2, 3], asyncStorageWrites: true });
    const previous = { index: 2, term: 2 };
    const route = { from: 2, to: 1, term: 2 };
    deliver(cluster, appendOf(route, { previous: start, entries: [entryOf(2, 2)] }));
    work(cluster, 1);
    // A write that only moves the commit index is on its way when more entries arrive.
    deliver(cluster, { type: 'heartbeat', ...route, leaderCommit: 2, readRound: undefined });
    turn(cluster, 1);
    deliver(cluster, appendOf(route, { previous, entries: [entryOf(3, 2)] }));
    intercept(cluster, 'appendEntriesResponse');
    workDisk(cluster, 1);
    assert.deepEqual(intercept(cluster, 'appendEntriesResponse'), []);
    work(cluster, 1);
    assert.equal(intercept(cluster, 'appendEntriesResponse')[0]?.index, 3);
  });

  it('a candidate that a crash made forget its campaign does not lead that term with a shorter log', () => {
    const cluster = newCluster({ voters: [1, 2, 3], asyncStorageWrites: true });
    const route = { from: 2, to: 1, term: 1 };
    replicaOf(cluster, 1).isDiskStalled = true;
    deliver(cluster, appendOf(route, { previous: start, entries: [entryOf(2, 1), entryOf(3, 1)] }));
    act(cluster, 1, campaign);
    work(cluster, 1);
    // Its request left, and replica 2 voted for a log that ends at 3; then 1 loses entries, term and vote.
    crash(cluster, 1);
    replicaOf(cluster, 1).isDiskStalled = false;
    restart(cluster, 1);
    assert.equal(stateOf(cluster, 1).log.lastIndex, 1);
    act(cluster, 1, campaign);
    work(cluster, 1);
    assert.equal(stateOf(cluster, 1).currentTerm, 2, 'the same term again');
    deliver(cluster, voteOf({ from: 2, to: 1, term: 2 }, { last: { index: 3, term: 1 } }));
    assert.equal(stateOf(cluster, 1).role, 'candidate');
  });

  it('a leader’s own entries count only once they are durable', () => {
    const cluster = newCluster({ voters: [1], asyncStorageWrites: true });
    elect(cluster, 1);
    replicaOf(cluster, 1).isDiskStalled = true;
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    assert.equal(stateOf(cluster, 1).log.commitIndex, 2);
    workDisk(cluster, 1);
    assert.equal(stateOf(cluster, 1).log.commitIndex, 3);
  });

  const ends: readonly TurnEnd[] = ['taken', 'stored', 'sent'];
  for (const end of ends) {
    it(`a crash after a turn was ${end} loses no committed entry, at the leader or at a follower`, () => {
      for (const victim of [1, 2]) {
        for (let turns = 0; turns < 6; turns++) {
          const cluster = ledCluster();
          proposeTexts(cluster, 1, 'a');
          settle(cluster);
          proposeTexts(cluster, 1, 'b');
          // The victim dies in the middle of one of its next turns.
          for (let i = 0; i < turns; i++) {
            for (const id of [1, 2, 3]) if (id !== victim) turn(cluster, id);
            turn(cluster, victim);
            for (const message of cluster.network.splice(0)) deliver(cluster, message);
          }
          turn(cluster, victim, end);
          crash(cluster, victim);
          pass(cluster, 45);
          restart(cluster, victim);
          pass(cluster, 45);
          const [texts] = [1, 2, 3].map((id) => textsOf(cluster, id));
          assert.equal(texts?.[0], 'a');
          for (const id of [1, 2, 3]) assert.deepEqual(textsOf(cluster, id), texts);
        }
      }
    });
  }

  it('what was applied is committed, whatever the stored commit index says', () => {
    const cluster = ledCluster();
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    compact(cluster, 1, 2);
    const { disk } = replicaOf(cluster, 1);
    crash(cluster, 1);
    disk.durable = { ...disk.durable, hardState: { ...disk.durable.hardState, commitIndex: 1 } };
    disk.written = disk.durable;
    restart(cluster, 1);
    assert.equal(stateOf(cluster, 1).log.commitIndex, 3);
  });

  it('a restart waits for entries that the store has not at hand, without asking again and again', () => {
    const cluster = ledCluster();
    proposeTexts(cluster, 1, 'a', 'b');
    pass(cluster, 4);
    crash(cluster, 2);
    replicaOf(cluster, 2).isDiskCold = true;
    restart(cluster, 2);
    deliver(cluster, heartbeatOf({ from: 1, to: 2, term: 2 }, 4));
    let turns = 0;
    while (turns < 10 && turn(cluster, 2)) turns += 1;
    assert.ok(turns < 3, 'a host would otherwise never sleep');
    assert.deepEqual(textsOf(cluster, 2), []);
    warmUp(cluster, 2);
    settle(cluster);
    assert.deepEqual(textsOf(cluster, 2), ['a', 'b']);
  });

  it('an acknowledgement of before a crash does not count for the leader of a later term', () => {
    const cluster = ledCluster();
    proposeTexts(cluster, 1, 'a');
    work(cluster, 1);
    crash(cluster, 1);
    restart(cluster, 1);
    cluster.isLost = () => true;
    act(cluster, 1, campaign);
    work(cluster, 1);
    deliver(cluster, voteOf({ from: 2, to: 1, term: 3 }));
    deliver(cluster, ackOf({ from: 2, to: 1, term: 2 }, 3));
    assert.equal(stateOf(cluster, 1).progress.get(2)?.matchIndex, 0);
  });
});
