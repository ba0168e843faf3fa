// §7 of the paper: compaction, and replicas that need entries which the leader has no more. A peer never stays in the
// snapshot state for good: every way in which a snapshot can fail leads back to probing.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { reportSnapshot, reportUnreachable } from '../../src/raft/raft.ts';
import { emptyConfState } from '../../src/raft/types.ts';
import {
  act,
  type CoreCluster,
  compact,
  crash,
  deliver,
  deliverAll,
  elect,
  heal,
  inBothModes,
  intercept,
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
  trim,
  turn,
  work,
} from '../support/core-cluster.ts';
import { ackOf, appendOf, clusterWithLog, entryOf, snapshotOf } from '../support/core-messages.ts';

const three = { ...emptyConfState, voters: [1, 2, 3] };

/** Leader 1 has compacted what replica 3 lacks. */
function clusterWithLaggard(mode: { readonly asyncStorageWrites: boolean }): CoreCluster {
  const cluster = ledCluster(mode);
  partition(cluster, [3]);
  proposeTexts(cluster, 1, 'a', 'b');
  settle(cluster);
  compact(cluster, 1);
  proposeTexts(cluster, 1, 'c');
  settle(cluster);
  heal(cluster);
  return cluster;
}

/** Leader 1 has just sent replica 3 a snapshot, which is taken off the network. */
function sendSnapshot(cluster: CoreCluster) {
  for (let i = 0; i < 8; i++) {
    tickOne(cluster, 1, 2);
    for (const id of [1, 2, 3]) work(cluster, id);
    const [snapshot] = intercept(cluster, 'installSnapshot');
    if (snapshot !== undefined) {
      cluster.network = [];
      return snapshot;
    }
    deliverAll(cluster);
  }
  throw new Error('no snapshot was sent');
}

function progressOf(cluster: CoreCluster) {
  const progress = stateOf(cluster, 1).progress.get(3);
  assert.ok(progress !== undefined);
  return progress;
}

describe('§7', () => {
  inBothModes((name, mode) => {
    it(`a follower that lacks compacted entries gets the snapshot and then the log, with ${name}`, () => {
      const cluster = clusterWithLaggard(mode);
      pass(cluster, 8);
      assert.deepEqual(replicaOf(cluster, 3).machine.texts, ['a', 'b', 'c']);
      assert.equal(stateOf(cluster, 3).log.compactedIndex, 4);
      assert.equal(progressOf(cluster).state, 'replicate');
    });

    it(`an installed snapshot is there after a power loss, with ${name}`, () => {
      const cluster = clusterWithLaggard(mode);
      pass(cluster, 8);
      crash(cluster, 3);
      restart(cluster, 3);
      assert.deepEqual(replicaOf(cluster, 3).machine.texts, ['a', 'b']);
      pass(cluster, 60);
      assert.deepEqual(replicaOf(cluster, 3).machine.texts, ['a', 'b', 'c']);
    });

    it(`a crash before the snapshot was durable only costs another one, with ${name}`, () => {
      const cluster = clusterWithLaggard(mode);
      const snapshot = sendSnapshot(cluster);
      deliver(cluster, snapshot);
      turn(cluster, 3, 'taken');
      crash(cluster, 3);
      restart(cluster, 3);
      assert.equal(stateOf(cluster, 3).log.lastIndex, 2);
      pass(cluster, 60);
      assert.deepEqual(replicaOf(cluster, 3).machine.texts, ['a', 'b', 'c']);
    });

    it(`a snapshot brings its members along, with ${name}`, () => {
      const cluster = newCluster({ voters: [1, 2, 3], strangers: [4], ...mode });
      const confState = { ...emptyConfState, voters: [1, 2, 4], learners: [3] };
      const position = { index: 9, term: 2 };
      deliver(cluster, snapshotOf({ from: 1, to: 4, term: 2 }, { position, confState }));
      settle(cluster);
      assert.deepEqual(stateOf(cluster, 4).confState, confState);
      crash(cluster, 4);
      restart(cluster, 4);
      assert.deepEqual(stateOf(cluster, 4).confState, confState);
    });

    it(`nothing is acknowledged before the snapshot is durable, with ${name}`, () => {
      const cluster = clusterWithLaggard(mode);
      const snapshot = sendSnapshot(cluster);
      replicaOf(cluster, 3).isDiskStalled = true;
      deliver(cluster, snapshot);
      for (let i = 0; i < 4; i++) {
        for (const id of [1, 2, 3]) work(cluster, id);
        deliverAll(cluster);
      }
      assert.equal(progressOf(cluster).matchIndex, 2);
      replicaOf(cluster, 3).isDiskStalled = false;
      pass(cluster, 4);
      assert.equal(progressOf(cluster).matchIndex, 5);
    });
  });

  it('a snapshot replaces a log that differs', () => {
    const cluster = clusterWithLog([1, 1, 2, 2, 2]);
    const position = { index: 5, term: 3 };
    const message = snapshotOf(
      { from: 2, to: 1, term: 3 },
      { position, confState: three, texts: ['x'] },
    );
    deliver(cluster, message);
    work(cluster, 1);
    const { log } = stateOf(cluster, 1);
    assert.deepEqual([log.lastIndex, log.commitIndex, log.appliedIndex], [5, 5, 5]);
    assert.equal(intercept(cluster, 'appendEntriesResponse', { from: 1 }).at(-1)?.index, 5);
  });

  it('a snapshot of a prefix of the log keeps what follows', () => {
    const cluster = clusterWithLog([1, 1, 1, 1]);
    const position = { index: 3, term: 1 };
    deliver(cluster, snapshotOf({ from: 2, to: 1, term: 1 }, { position, confState: three }));
    const { log } = stateOf(cluster, 1);
    assert.deepEqual([log.lastIndex, log.commitIndex], [5, 3]);
  });

  it('a snapshot that is older than what is committed changes nothing', () => {
    const cluster = clusterWithLog([1, 1, 1], { leaderCommit: 4 });
    const position = { index: 3, term: 1 };
    const texts = ['old'];
    deliver(
      cluster,
      snapshotOf({ from: 2, to: 1, term: 1 }, { position, confState: three, texts }),
    );
    work(cluster, 1);
    assert.equal(stateOf(cluster, 1).log.commitIndex, 4);
    assert.ok(!replicaOf(cluster, 1).machine.texts.includes('old'));
    assert.equal(intercept(cluster, 'appendEntriesResponse', { from: 1 }).at(-1)?.index, 4);
  });

  it('a snapshot that is older than the one that the log begins with changes nothing', () => {
    const cluster = ledCluster();
    proposeTexts(cluster, 1, 'a', 'b');
    pass(cluster, 4);
    compact(cluster, 2);
    const position = { index: 3, term: 2 };
    deliver(cluster, snapshotOf({ from: 1, to: 2, term: 2 }, { position, confState: three }));
    settle(cluster);
    assert.equal(stateOf(cluster, 2).log.compactedIndex, 4);
    assert.deepEqual(replicaOf(cluster, 2).machine.texts, ['a', 'b']);
  });

  it('the snapshot of a deposed leader changes nothing', () => {
    const cluster = clusterWithLog([1, 1], { term: 5 });
    const position = { index: 50, term: 4 };
    deliver(cluster, snapshotOf({ from: 3, to: 1, term: 4 }, { position, confState: three }));
    settle(cluster);
    assert.equal(stateOf(cluster, 1).log.lastIndex, 3);
  });

  it('appends that arrive while a snapshot is being installed wait for it', () => {
    const cluster = newCluster({ voters: [1, 2, 3], asyncStorageWrites: true });
    const route = { from: 2, to: 1, term: 2 };
    const position = { index: 5, term: 2 };
    deliver(cluster, snapshotOf(route, { position, confState: three, texts: ['s'] }));
    replicaOf(cluster, 1).isDiskStalled = true;
    work(cluster, 1);
    const entries = [entryOf(6, 2, 'after')];
    deliver(cluster, appendOf(route, { previous: position, entries, leaderCommit: 6 }));
    work(cluster, 1);
    assert.deepEqual(replicaOf(cluster, 1).machine.texts, []);
    assert.deepEqual(intercept(cluster, 'appendEntriesResponse'), []);
    replicaOf(cluster, 1).isDiskStalled = false;
    work(cluster, 1);
    assert.deepEqual(replicaOf(cluster, 1).machine.texts, ['s', 'after']);
  });

  it('while it installs a snapshot a replica does not campaign', () => {
    const cluster = newCluster({ voters: [1, 2, 3], asyncStorageWrites: true });
    const position = { index: 5, term: 2 };
    deliver(cluster, snapshotOf({ from: 2, to: 1, term: 2 }, { position, confState: three }));
    tickOne(cluster, 1, 50);
    assert.equal(stateOf(cluster, 1).role, 'follower');
  });

  it('what was compacted is not applied again, and the log goes on behind it', () => {
    const cluster = ledCluster();
    for (let i = 0; i < 10; i++) {
      proposeTexts(cluster, 1, `v${i}`);
      settle(cluster);
      compact(cluster, 1);
      trim(cluster, 1);
    }
    const { log } = stateOf(cluster, 1);
    assert.equal(log.compactedIndex, log.lastIndex);
    assert.equal(replicaOf(cluster, 1).machine.texts.length, 10);
    elect(cluster, 1 + 1);
    assert.equal(stateOf(cluster, 2).log.commitIndex, 13);
  });

  it('only what is applied and stored is compacted', () => {
    const cluster = ledCluster();
    partition(cluster, [1]);
    proposeTexts(cluster, 1, 'a');
    settle(cluster);
    assert.throws(() => compact(cluster, 1, 3), /what is dropped is in the snapshot|only applied/);
  });
});

describe('§7: the snapshot state is left', () => {
  it('nothing else is sent while a snapshot is on the way', () => {
    const cluster = clusterWithLaggard({ asyncStorageWrites: false });
    sendSnapshot(cluster);
    assert.equal(progressOf(cluster).state, 'snapshot');
    proposeTexts(cluster, 1, 'd');
    work(cluster, 1);
    assert.deepEqual(intercept(cluster, 'appendEntries', { to: 3 }), []);
  });

  it('when the replica confirms it', () => {
    const cluster = clusterWithLaggard({ asyncStorageWrites: false });
    deliver(cluster, sendSnapshot(cluster));
    settle(cluster);
    assert.equal(progressOf(cluster).state, 'replicate');
    assert.equal(progressOf(cluster).nextIndex, 6, 'it goes on behind the snapshot');
  });

  it('when the sending failed', () => {
    const cluster = clusterWithLaggard({ asyncStorageWrites: false });
    sendSnapshot(cluster);
    act(cluster, 1, (state) => reportSnapshot(state, 3, false));
    assert.equal(progressOf(cluster).state, 'probe');
    pass(cluster, 8);
    assert.equal(progressOf(cluster).state, 'replicate');
  });

  it('when the connection was lost', () => {
    const cluster = clusterWithLaggard({ asyncStorageWrites: false });
    sendSnapshot(cluster);
    act(cluster, 1, (state) => reportUnreachable(state, 3));
    assert.equal(progressOf(cluster).state, 'probe');
    pass(cluster, 8);
    assert.equal(progressOf(cluster).state, 'replicate');
  });

  it('when it was sent and the answer got lost', () => {
    const cluster = clusterWithLaggard({ asyncStorageWrites: false });
    deliver(cluster, sendSnapshot(cluster));
    work(cluster, 3);
    intercept(cluster, 'appendEntriesResponse', { from: 3 });
    act(cluster, 1, (state) => reportSnapshot(state, 3, true));
    assert.equal(progressOf(cluster).state, 'probe');
    pass(cluster, 4);
    assert.equal(progressOf(cluster).state, 'replicate');
  });

  it('when nothing is heard of it for too long', () => {
    const cluster = clusterWithLaggard({ asyncStorageWrites: false });
    sendSnapshot(cluster);
    tickOne(cluster, 1, 29 - progressOf(cluster).snapshotTicks);
    assert.equal(progressOf(cluster).state, 'snapshot');
    tickOne(cluster, 1, 1);
    assert.equal(progressOf(cluster).state, 'probe');
    pass(cluster, 8);
    assert.deepEqual(replicaOf(cluster, 3).machine.texts, ['a', 'b', 'c']);
  });

  it('when the receiver crashed with it', () => {
    const cluster = clusterWithLaggard({ asyncStorageWrites: true });
    deliver(cluster, sendSnapshot(cluster));
    crash(cluster, 3);
    restart(cluster, 3);
    pass(cluster, 40);
    assert.deepEqual(replicaOf(cluster, 3).machine.texts, ['a', 'b', 'c']);
  });

  it('when the replica caught up in another way', () => {
    const cluster = clusterWithLaggard({ asyncStorageWrites: false });
    sendSnapshot(cluster);
    deliver(cluster, ackOf({ from: 3, to: 1, term: 2 }, 5));
    assert.equal(progressOf(cluster).state, 'replicate');
  });

  it('and none is sent to a replica that has not been heard from for a while', () => {
    const cluster = ledCluster({ checkQuorum: true });
    partition(cluster, [3]);
    proposeTexts(cluster, 1, 'a', 'b');
    settle(cluster);
    compact(cluster, 1);
    for (let i = 0; i < 25; i++) {
      tickOne(cluster, 1);
      settle(cluster);
    }
    act(cluster, 1, (state) => reportUnreachable(state, 3));
    proposeTexts(cluster, 1, 'c');
    settle(cluster);
    assert.ok(!cluster.sent.some(({ type }) => type === 'installSnapshot'));
    heal(cluster);
    pass(cluster, 30);
    assert.deepEqual(replicaOf(cluster, 3).machine.texts, ['a', 'b', 'c']);
  });
});
