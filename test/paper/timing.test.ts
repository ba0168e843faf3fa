// §5.6 of the paper: broadcastTime ≪ electionTimeout. Time is counted in ticks; nothing but ticks moves it.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  deliver,
  heal,
  intercept,
  leadersOf,
  ledCluster,
  newCluster,
  partition,
  pass,
  settle,
  stateOf,
  tickOne,
  work,
} from '../support/core-cluster.ts';
import { heartbeatOf } from '../support/core-messages.ts';

describe('§5.6', () => {
  it('an idle leader sends heartbeats at every heartbeat interval, and nothing else', () => {
    const cluster = ledCluster();
    const before = cluster.sent.length;
    tickOne(cluster, 1, 10);
    work(cluster, 1);
    const sent = cluster.sent.slice(before);
    assert.equal(sent.length, 10, 'five intervals of two ticks, two peers');
    assert.ok(sent.every(({ type }) => type === 'heartbeat'));
  });

  it('a group that hears its leader keeps it for ever', () => {
    const cluster = ledCluster();
    pass(cluster, 500);
    assert.deepEqual(leadersOf(cluster), [1]);
    assert.equal(stateOf(cluster, 1).currentTerm, 2);
  });

  it('a group whose leader is gone has another one within a few election timeouts', () => {
    for (let seed = 1; seed <= 30; seed++) {
      const cluster = ledCluster({ voters: [1, 2, 3, 4, 5], seed });
      partition(cluster, [1]);
      pass(cluster, 60);
      const others = leadersOf(cluster).filter((id) => id !== 1);
      assert.equal(others.length, 1, `seed ${seed}`);
    }
  });

  it('however much a replica does, without ticks no timeout runs out', () => {
    const cluster = newCluster({ voters: [1, 2, 3] });
    for (let i = 0; i < 500; i++) {
      settle(cluster);
      deliver(cluster, heartbeatOf({ from: 2, to: 1, term: 1 }));
    }
    assert.equal(stateOf(cluster, 1).role, 'follower');
    assert.equal(stateOf(cluster, 3).role, 'follower');
  });

  it('a minority that is cut off elects nobody', () => {
    const cluster = newCluster({ voters: [1, 2, 3, 4, 5] });
    partition(cluster, [1, 2]);
    pass(cluster, 200);
    assert.ok(leadersOf(cluster).every((id) => id > 2));
    heal(cluster);
    pass(cluster, 60);
    assert.equal(leadersOf(cluster).length, 1);
  });

  it('the heartbeat interval is less than the election timeout', () => {
    assert.throws(
      () => newCluster({ voters: [1], heartbeatTicks: 10, electionTicks: 10 }),
      /electionTicks > heartbeatTicks/,
    );
  });

  it('a heartbeat of every interval reaches everybody, also those that lag', () => {
    const cluster = ledCluster({ learners: [4] });
    tickOne(cluster, 1, 2);
    work(cluster, 1);
    assert.deepEqual(
      intercept(cluster, 'heartbeat').map(({ to }) => to),
      [2, 3, 4],
    );
  });
});
