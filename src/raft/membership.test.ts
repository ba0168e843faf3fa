// Changes of the configuration: random sequences of them, and the rules that must hold after each one.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ConfChangeKind, type SingleChange, Transition } from './conf-change.ts';
import {
  ConfChangeError,
  changedConfState,
  changeSimple,
  checkConfState,
  enterJoint,
  isJoint,
  isMember,
  isVoter,
  leaveJoint,
  membersOf,
  votersOf,
} from './membership.ts';
import { type ConfState, emptyConfState, type ReplicaId } from './types.ts';

const add = (replica: ReplicaId): SingleChange => ({ kind: ConfChangeKind.addVoter, replica });
const learn = (replica: ReplicaId): SingleChange => ({ kind: ConfChangeKind.addLearner, replica });
const remove = (replica: ReplicaId): SingleChange => ({ kind: ConfChangeKind.remove, replica });

const singleChange = fc.record({
  kind: fc.constantFrom(...Object.values(ConfChangeKind)),
  replica: fc.integer({ min: 0, max: 6 }),
});
const changes = fc.array(singleChange, { maxLength: 5 });

const operation = fc.oneof(
  fc.record({ verb: fc.constant('simple' as const), changes }),
  fc.record({ verb: fc.constant('enter' as const), changes, autoLeave: fc.boolean() }),
  fc.record({ verb: fc.constant('leave' as const) }),
);
type Operation = typeof operation extends fc.Arbitrary<infer Value> ? Value : never;

function perform(conf: ConfState, op: Operation): ConfState {
  switch (op.verb) {
    case 'simple':
      return changeSimple(conf, op.changes);
    case 'enter':
      return enterJoint(conf, op.changes, op.autoLeave);
    case 'leave':
      return leaveJoint(conf);
  }
}

/** The configuration after `op`, or the same one when it is refused. */
function performOrStay(conf: ConfState, op: Operation): ConfState {
  try {
    return perform(conf, op);
  } catch (error) {
    if (error instanceof ConfChangeError) return conf;
    throw error;
  }
}

/** Runs `check` on every pair of consecutive configurations of random histories that begin with one voter. */
function forEveryStep(check: (before: ConfState, after: ConfState, op: Operation) => void): void {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 12 }), (operations) => {
      let conf = changeSimple(emptyConfState, [add(1)]);
      for (const op of operations) {
        const next = performOrStay(conf, op);
        check(conf, next, op);
        conf = next;
      }
    }),
  );
}

/** All sets of members that decide: a majority of each half that has voters. */
function quorumsOf(conf: ConfState): ReplicaId[][] {
  let subsets: ReplicaId[][] = [[]];
  for (const id of votersOf(conf)) subsets = [...subsets, ...subsets.map((set) => [...set, id])];
  return subsets.filter((subset) =>
    [conf.voters, conf.votersOutgoing]
      .filter((half) => half.length > 0)
      .every((half) => half.filter((id) => subset.includes(id)).length * 2 > half.length),
  );
}

describe('every sequence of configuration changes', () => {
  it('keeps voters and learners apart, and next learners among the outgoing voters only', () => {
    forEveryStep((_, conf) => {
      checkConfState(conf);
      const voters = new Set([...conf.voters, ...conf.votersOutgoing]);
      assert.ok(conf.learners.every((id) => !voters.has(id)));
      assert.ok(conf.learnersNext.every((id) => conf.votersOutgoing.includes(id)));
      assert.ok(conf.learnersNext.every((id) => !conf.voters.includes(id)));
    });
  });

  it('makes every quorum of a configuration meet every quorum of the next one (thesis 4.1, 4.3)', () => {
    forEveryStep((before, after) => {
      for (const old of quorumsOf(before)) {
        for (const young of quorumsOf(after)) {
          assert.ok(
            old.some((id) => young.includes(id)),
            `${old} and ${young} share nobody`,
          );
        }
      }
    });
  });

  it('always leaves a voter, and never lists replica 0', () => {
    forEveryStep((_, conf) => {
      assert.ok(conf.voters.length > 0);
      assert.ok(!isMember(conf, 0));
    });
  });

  it('changes at most one voter at a time outside of joint configurations', () => {
    forEveryStep((before, after, op) => {
      if (op.verb !== 'simple') return;
      const left = before.voters.filter((id) => !after.voters.includes(id));
      const came = after.voters.filter((id) => !before.voters.includes(id));
      assert.ok(left.length + came.length <= 1);
    });
  });

  it('keeps every outgoing voter a member until the joint configuration is left', () => {
    forEveryStep((before, after, op) => {
      if (op.verb !== 'enter' || after === before) return;
      assert.deepEqual(after.votersOutgoing, before.voters);
      assert.ok(before.voters.every((id) => isVoter(after, id)));
    });
  });

  it('does not change its argument', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 8 }), operation, (operations, last) => {
        const conf = operations.reduce(performOrStay, changeSimple(emptyConfState, [add(1)]));
        const copy = structuredClone(conf);
        performOrStay(conf, last);
        assert.deepEqual(conf, copy);
      }),
    );
  });

  it('lists all members and all voters once, ascending', () => {
    forEveryStep((_, conf) => {
      const members = [...conf.voters, ...conf.votersOutgoing, ...conf.learners];
      assert.deepEqual(
        membersOf(conf),
        [...new Set(members)].sort((a, b) => a - b),
      );
      const voters = [...conf.voters, ...conf.votersOutgoing];
      assert.deepEqual(
        votersOf(conf),
        [...new Set(voters)].sort((a, b) => a - b),
      );
      assert.ok(membersOf(conf).every((id) => isMember(conf, id)));
    });
  });
});

describe('a joint configuration', () => {
  const three = changeSimple(changeSimple(changeSimple(emptyConfState, [add(1)]), [add(2)]), [
    add(3),
  ]);

  it('reaches every configuration that simple changes of the same list would describe', () => {
    fc.assert(
      fc.property(changes, fc.boolean(), (list, autoLeave) => {
        const op = { verb: 'enter' as const, changes: list, autoLeave };
        const joint = performOrStay(three, op);
        if (joint === three) return;
        const settled = leaveJoint(joint);
        // The last word about a replica counts; `update` says nothing.
        for (const { replica } of list) {
          const last = list.findLast(
            (change) => change.replica === replica && change.kind !== ConfChangeKind.update,
          );
          if (replica === 0 || last === undefined) continue;
          assert.equal(settled.voters.includes(replica), last.kind === ConfChangeKind.addVoter);
          assert.equal(settled.learners.includes(replica), last.kind === ConfChangeKind.addLearner);
        }
      }),
    );
  });

  it('makes a demoted voter a learner only when it is left', () => {
    const joint = enterJoint(three, [learn(3), add(4)], false);
    assert.deepEqual(joint.learners, []);
    assert.deepEqual(joint.learnersNext, [3]);
    assert.ok(isVoter(joint, 3));
    assert.deepEqual(leaveJoint(joint).learners, [3]);
  });

  it('is not entered twice, not changed, and not left when there is none', () => {
    const joint = enterJoint(three, [remove(1), add(4)], true);
    assert.ok(isJoint(joint));
    assert.throws(() => enterJoint(joint, [], true), /config is already joint/);
    assert.throws(() => changeSimple(joint, [add(5)]), /can't apply simple config change in joint/);
    assert.throws(() => leaveJoint(three), /can't leave a non-joint config/);
    assert.throws(() => enterJoint(emptyConfState, [add(1)], true), /zero-voter config/);
  });

  it('is refused when it would leave no voter', () => {
    assert.throws(() => enterJoint(three, [1, 2, 3].map(remove), true), /removed all voters/);
    assert.throws(
      () => changeSimple(changeSimple(emptyConfState, [add(1)]), [remove(1)]),
      /removed/,
    );
  });

  it('is chosen by the transition: one change is simple, several are joint, an empty one leaves', () => {
    const context = new Uint8Array(0);
    const { auto, jointImplicit, jointExplicit } = Transition;
    const simple = changedConfState(three, { transition: auto, changes: [add(4)], context });
    assert.deepEqual(simple.voters, [1, 2, 3, 4]);
    assert.ok(!isJoint(simple));
    for (const [transition, list, autoLeave] of [
      [auto, [add(4), add(5)], true],
      [jointImplicit, [add(4)], true],
      [jointExplicit, [add(4)], false],
    ] as const) {
      const joint = changedConfState(three, { transition, changes: list, context });
      assert.deepEqual(joint.votersOutgoing, [1, 2, 3]);
      assert.equal(joint.autoLeave, autoLeave);
      const left = changedConfState(joint, { transition: auto, changes: [], context });
      assert.ok(!isJoint(left));
      assert.ok(!left.autoLeave);
    }
  });
});
