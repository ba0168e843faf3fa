// Dissertation 10.2: the leader writes to its disk in parallel with its followers, proposals are batched, appends are
// pipelined. And the limits on all of it: every queue of the core is bounded, and the bound is reached here.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { reportUnreachable, takeReady, trimLog } from '../../src/raft/raft.ts';
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
  partition,
  pass,
  proposeTexts,
  replicaOf,
  settle,
  stateOf,
  tickOne,
  trim,
  turn,
  warmUp,
  work,
  workApply,
  workDisk,
} from '../support/core-cluster.ts';
import { ackOf } from '../support/core-messages.ts';

function appendsTo(cluster: CoreCluster, to: number) {
  work(cluster, 1);
  return intercept(cluster, 'appendEntries', { to });
}

describe('thesis 10.2.1: writing in parallel', () => {
  it('the leader sends entries before it has stored them', () => {
    const cluster = ledCluster({ asyncStorageWrites: true });
    replicaOf(cluster, 1).isDiskStalled = true;
    proposeTexts(cluster, 1, 'a');
    assert.equal(appendsTo(cluster, 2)[0]?.entries.length, 1);
    assert.equal(replicaOf(cluster, 1).appendWork.length, 1);
  });

  it('an entry may be committed before the leader itself has stored it', () => {
    const cluster = ledCluster({ asyncStorageWrites: true });
    replicaOf(cluster, 1).isDiskStalled = true;
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    assert.equal(stateOf(cluster, 1).log.commitIndex, 3);
    assert.equal(stateOf(cluster, 1).progress.get(1)?.matchIndex, 2);
  });

  it('with two voters the leader’s own disk is needed', () => {
    const cluster = ledCluster({ voters: [1, 2], asyncStorageWrites: true });
    replicaOf(cluster, 1).isDiskStalled = true;
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    assert.equal(stateOf(cluster, 1).log.commitIndex, 2);
    replicaOf(cluster, 1).isDiskStalled = false;
    settle(cluster);
    assert.equal(stateOf(cluster, 1).log.commitIndex, 3);
  });

  it('a heartbeat is answered although the disk hangs; an append is not', () => {
    const cluster = ledCluster({ asyncStorageWrites: true });
    replicaOf(cluster, 2).isDiskStalled = true;
    proposeTexts(cluster, 1, 'a');
    tickOne(cluster, 1, 2);
    work(cluster, 1);
    deliverAll(cluster);
    work(cluster, 2);
    assert.equal(intercept(cluster, 'heartbeatResponse', { from: 2 }).length, 1);
    assert.equal(intercept(cluster, 'appendEntriesResponse', { from: 2 }).length, 0);
  });

  it('requests to the store are carried out one by one, and each answers for itself', () => {
    const cluster = ledCluster({ asyncStorageWrites: true });
    replicaOf(cluster, 1).isDiskStalled = true;
    proposeTexts(cluster, 1, 'a');
    turn(cluster, 1);
    proposeTexts(cluster, 1, 'b');
    turn(cluster, 1);
    assert.equal(replicaOf(cluster, 1).appendWork.length, 2);
    workDisk(cluster, 1);
    assert.equal(stateOf(cluster, 1).progress.get(1)?.matchIndex, 3);
    assert.equal(stateOf(cluster, 1).log.stableIndex, 3);
    workDisk(cluster, 1);
    assert.equal(stateOf(cluster, 1).progress.get(1)?.matchIndex, 4);
  });

  it('what a Ready gave out never changes afterwards', () => {
    const cluster = ledCluster({ asyncStorageWrites: true });
    const ready = act(cluster, 1, takeReady);
    const before = JSON.stringify(ready);
    proposeTexts(cluster, 1, 'a');
    tickOne(cluster, 1, 2);
    assert.equal(JSON.stringify(ready), before);
    assert.equal(ready.messages.length, 0);
  });

  it('nothing is given out twice', () => {
    const cluster = ledCluster({ asyncStorageWrites: true });
    proposeTexts(cluster, 1, 'a');
    const first = act(cluster, 1, takeReady);
    assert.equal(first.entries.length, 1);
    const second = act(cluster, 1, takeReady);
    assert.deepEqual([second.entries, second.messages, second.storageAppend], [[], [], undefined]);
  });

  inBothModes((name, mode) => {
    it(`the state machine may lag: entries are handed over in order and never twice, with ${name}`, () => {
      const cluster = ledCluster({ ...mode, applyingBytesMax: 40 });
      for (let i = 0; i < 20; i++) proposeTexts(cluster, 1, `v${i}`);
      pass(cluster, 4);
      for (const id of [1, 2, 3]) {
        assert.deepEqual(
          replicaOf(cluster, id).machine.texts,
          Array.from({ length: 20 }, (_, at) => `v${at}`),
        );
      }
    });
  });
});

describe('thesis 10.2.2: batching and pipelining', () => {
  it('several proposals of one turn travel and are stored together', () => {
    const cluster = ledCluster();
    proposeTexts(cluster, 1, 'a', 'b', 'c');
    const [append] = appendsTo(cluster, 2);
    assert.equal(append?.entries.length, 3);
  });

  it('the next append leaves before the last one is acknowledged', () => {
    const cluster = ledCluster();
    for (const text of ['a', 'b', 'c']) proposeTexts(cluster, 1, text);
    assert.deepEqual(
      appendsTo(cluster, 2).map(({ prevLogIndex }) => prevLogIndex),
      [2, 3, 4],
    );
  });

  it('a probe sends one append at a time', () => {
    const cluster = ledCluster();
    act(cluster, 1, (state) => reportUnreachable(state, 2));
    for (const text of ['a', 'b', 'c']) proposeTexts(cluster, 1, text);
    assert.equal(appendsTo(cluster, 2).length, 1);
  });

  it('an answer to a probe opens the pipeline again', () => {
    const cluster = ledCluster();
    act(cluster, 1, (state) => reportUnreachable(state, 2));
    for (const text of ['a', 'b', 'c']) proposeTexts(cluster, 1, text);
    settle(cluster);
    assert.equal(stateOf(cluster, 1).progress.get(2)?.state, 'replicate');
    assert.equal(stateOf(cluster, 2).log.lastIndex, 5);
  });

  it('an append holds as many bytes as it may, and one entry at least', () => {
    const cluster = ledCluster({ appendBytesMax: 60, inflightBytesMax: 1_000 });
    proposeTexts(cluster, 1, 'x'.repeat(20), 'y'.repeat(20), 'z'.repeat(500), 'w');
    assert.deepEqual(
      appendsTo(cluster, 2).map(({ entries }) => entries.length),
      [1],
    );
    settle(cluster);
    // One message a proposal; the others follow the answers.
    assert.equal(stateOf(cluster, 3).log.lastIndex, 6);
    const sizes = cluster.sent.flatMap((m) =>
      m.type === 'appendEntries' ? [m.entries.length] : [],
    );
    assert.ok(Math.max(...sizes) === 1);
  });

  it('no more than so many appends are on their way, and acknowledgements let the next ones go', () => {
    const cluster = ledCluster({ inflightMessagesMax: 3 });
    for (let i = 0; i < 10; i++) proposeTexts(cluster, 1, `v${i}`);
    const first = appendsTo(cluster, 2);
    assert.equal(first.length, 3);
    assert.equal(appendsTo(cluster, 2).length, 0);
    deliver(cluster, ackOf({ from: 2, to: 1, term: 2 }, 4));
    const next = appendsTo(cluster, 2).filter(({ entries }) => entries.length > 0);
    assert.ok(next.length >= 1 && next.length <= 3);
    assert.equal(next[0]?.prevLogIndex, 5);
  });

  it('no more than so many bytes are on their way', () => {
    const cluster = ledCluster({ appendBytesMax: 10, inflightBytesMax: 25 });
    for (let i = 0; i < 10; i++) proposeTexts(cluster, 1, `0123456789`);
    assert.equal(appendsTo(cluster, 2).length, 3, '10, 20, and the one that fills it');
  });

  it('a full window whose messages were all lost is found out by a heartbeat', () => {
    const cluster = ledCluster({ inflightMessagesMax: 2 });
    for (let i = 0; i < 5; i++) proposeTexts(cluster, 1, `v${i}`);
    assert.equal(appendsTo(cluster, 2).length, 2);
    pass(cluster, 8);
    assert.equal(stateOf(cluster, 2).log.lastIndex, 7);
  });

  it('entries that are not at hand are sent when they are', () => {
    const cluster = ledCluster();
    partition(cluster, [3]);
    for (let i = 0; i < 5; i++) proposeTexts(cluster, 1, `v${i}`);
    settle(cluster);
    trim(cluster, 1);
    replicaOf(cluster, 1).isDiskCold = true;
    heal(cluster);
    pass(cluster, 4);
    assert.equal(stateOf(cluster, 3).log.lastIndex, 2);
    warmUp(cluster, 1);
    settle(cluster);
    assert.equal(stateOf(cluster, 3).log.lastIndex, 7);
  });
});

describe('limits', () => {
  it('the uncommitted tail takes so many bytes, then proposals are refused, then taken again', () => {
    const cluster = ledCluster({ uncommittedBytesMax: 20 });
    partition(cluster, [1]);
    assert.equal(proposeTexts(cluster, 1, 'x'.repeat(12)), 'appended');
    assert.equal(proposeTexts(cluster, 1, 'x'.repeat(12)), 'dropped');
    assert.equal(proposeTexts(cluster, 1, 'x'.repeat(8)), 'appended');
    assert.equal(proposeTexts(cluster, 1, 'x'), 'dropped');
    heal(cluster);
    pass(cluster, 4);
    assert.equal(stateOf(cluster, 1).uncommittedBytes, 0);
    assert.equal(proposeTexts(cluster, 1, 'x'.repeat(12)), 'appended');
  });

  it('one proposal fits an empty tail, however large it is', () => {
    const cluster = ledCluster({ uncommittedBytesMax: 20 });
    assert.equal(proposeTexts(cluster, 1, 'x'.repeat(500)), 'appended');
    assert.equal(proposeTexts(cluster, 1, 'x'), 'dropped');
  });

  it('a proposal that is refused leaves nothing behind: the next one gets its index', () => {
    const cluster = ledCluster({ uncommittedBytesMax: 4 });
    partition(cluster, [1]);
    proposeTexts(cluster, 1, 'full');
    const { lastIndex } = stateOf(cluster, 1).log;
    assert.equal(proposeTexts(cluster, 1, 'a', 'b'), 'dropped');
    assert.equal(stateOf(cluster, 1).log.lastIndex, lastIndex);
  });

  it('the tail is counted anew in a new term', () => {
    const cluster = ledCluster({ uncommittedBytesMax: 4 });
    partition(cluster, [1]);
    proposeTexts(cluster, 1, 'full');
    elect(cluster, 2);
    heal(cluster);
    pass(cluster, 4);
    assert.equal(proposeTexts(cluster, 2, 'full'), 'appended');
  });

  it('so many bytes are being applied at one time, and one entry at least', () => {
    const cluster = ledCluster({ asyncStorageWrites: true, applyingBytesMax: 100 });
    const before = replicaOf(cluster, 1).machine.index;
    for (let i = 0; i < 5; i++) proposeTexts(cluster, 1, 'x'.repeat(34));
    for (let round = 0; round < 6; round++) {
      for (const id of [2, 3]) work(cluster, id);
      turn(cluster, 1);
      workDisk(cluster, 1);
      deliverAll(cluster);
      turn(cluster, 1);
    }
    // 34 bytes and 16 of overhead: two entries.
    const { applyWork } = replicaOf(cluster, 1);
    assert.deepEqual(
      applyWork.map(({ entries }) => entries.length),
      [2],
    );
    workApply(cluster, 1);
    turn(cluster, 1);
    assert.equal(applyWork[0]?.entries.length, 2);
    settle(cluster);
    assert.equal(replicaOf(cluster, 1).machine.index, before + 5);
  });

  it('a follower takes no proposals', () => {
    const cluster = ledCluster();
    assert.equal(proposeTexts(cluster, 2, 'a'), 'dropped');
    assert.equal(stateOf(cluster, 2).log.lastIndex, 2);
  });

  it('memory is given back only for entries that are stored and handed over to be applied', () => {
    const cluster = ledCluster({ asyncStorageWrites: true });
    replicaOf(cluster, 1).isDiskStalled = true;
    proposeTexts(cluster, 1, 'a', 'b');
    settle(cluster);
    act(cluster, 1, (state) => trimLog(state, 4));
    assert.equal(stateOf(cluster, 1).log.tail.length, 2);
    replicaOf(cluster, 1).isDiskStalled = false;
    settle(cluster);
    act(cluster, 1, (state) => trimLog(state, 4));
    assert.equal(stateOf(cluster, 1).log.tail.length, 0);
    assert.equal(stateOf(cluster, 1).log.tailBytes, 0);
  });
});
