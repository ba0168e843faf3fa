// Which change of a group's members a readmission needs next.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFormerOf, nextReplicaId } from '../cluster/system-state.ts';
import { changedConfState, isJoint, leaveJoint } from '../raft/membership.ts';
import { type ConfState, emptyConfState, type ReplicaId } from '../raft/types.ts';
import { formerReplicas, nextReadmissionStep } from './readmission-step.ts';

const confOf = (voters: readonly ReplicaId[], learners: readonly ReplicaId[] = []): ConfState => ({
  ...emptyConfState,
  voters,
  learners,
});

/** All configurations on the way, joint ones left, until nothing is to be done. */
function wayOf(
  begin: ConfState,
  present: readonly ReplicaId[],
  isCaughtUp: (replica: ReplicaId) => boolean = () => true,
): string[] {
  const way: string[] = [];
  let conf = begin;
  for (let step = 0; step < 20; step++) {
    const change = nextReadmissionStep(conf, present, isCaughtUp);
    if (change === undefined) return way;
    const changed = changedConfState(conf, change);
    conf = isJoint(changed) ? leaveJoint(changed) : changed;
    way.push(`${conf.voters.join(' ')} / ${conf.learners.join(' ')}`);
  }
  return assert.fail('it comes to an end');
}

test('a voter loses its vote, comes back as a learner, and votes when it has caught up', () => {
  assert.deepEqual(wayOf(confOf([1, 2, 3]), [1, 2, 1_027]), ['1 2 / 3 1027', '1 2 1027 / ']);
  assert.deepEqual(
    wayOf(confOf([1, 2, 3]), [1, 2, 1_027], () => false),
    ['1 2 / 3 1027'],
  );
});

test('a learner is replaced by a learner, and a node without a replica gets none', () => {
  assert.deepEqual(wayOf(confOf([1, 2], [3]), [1, 2, 1_027]), ['1 2 / 1027']);
  assert.deepEqual(wayOf(confOf([1, 2]), [1, 2, 1_027]), []);
  assert.deepEqual(wayOf(confOf([1, 2, 3]), [1, 2, 3]), []);
});

test('whatever was left of earlier readmissions, a voter votes in the end, and once', () => {
  const beginnings: readonly ConfState[] = [
    confOf([1, 2, 3]),
    confOf([1, 2, 3], [1_027]),
    confOf([1, 2], [3, 1_027]),
    confOf([1, 2, 1_027], [3]),
    confOf([1, 2, 1_027]),
    confOf([1, 2], [3, 1_027, 2_051]),
    confOf([1, 2, 2_051], [3]),
  ];
  for (const conf of beginnings) {
    const way = wayOf(conf, [1, 2, 2_051]);
    assert.equal(way.at(-1), '1 2 2051 / ', JSON.stringify(conf));
  }
});

test('several members are readmitted one after the other', () => {
  const way = wayOf(confOf([1, 2, 3, 4, 5]), [1_025, 2, 3, 4, 1_029]);
  assert.equal(way.at(-1), '2 3 4 1025 1029 / ');
});

test('nothing is proposed in a joint configuration', () => {
  const joint = { ...confOf([1, 2]), votersOutgoing: [1, 2, 3] };
  assert.equal(
    nextReadmissionStep(joint, [1, 2, 1_027], () => true),
    undefined,
  );
});

test('a number says whose it is, and which of two is the later', () => {
  assert.equal(isFormerOf(nextReplicaId(3), 3), true);
  assert.equal(isFormerOf(nextReplicaId(nextReplicaId(3)), 3), true);
  assert.equal(isFormerOf(3, 3), false);
  assert.equal(isFormerOf(3, nextReplicaId(3)), false);
  assert.equal(isFormerOf(nextReplicaId(3), 4), false);
  assert.equal(isFormerOf(nextReplicaId(1_024), 1), false);
  assert.deepEqual(formerReplicas(confOf([1, 2, 3], [1_027]), 2_051), [3, 1_027]);
});
