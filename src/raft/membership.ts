// How one configuration becomes the next (dissertation 4.1 and 4.3), pure: simple changes of at most one voter, and
// joint consensus for everything else. Who may propose a change, and when, is decided in `replication.ts`.

import { assert } from '../base/assert.ts';
import {
  type ConfChange,
  ConfChangeKind,
  isLeaveJoint,
  type SingleChange,
  Transition,
} from './conf-change.ts';
import type { ConfState, ReplicaId } from './types.ts';

/** The change is not possible in this configuration. The message says why. */
export class ConfChangeError extends Error {
  override readonly name = 'ConfChangeError';
}

export function isJoint(conf: ConfState): boolean {
  return conf.votersOutgoing.length > 0;
}

/** Whether `id` votes in either half. */
export function isVoter(conf: ConfState, id: ReplicaId): boolean {
  return conf.voters.includes(id) || conf.votersOutgoing.includes(id);
}

/** Whether `id` gets entries: as a voter or as a learner. */
export function isMember(conf: ConfState, id: ReplicaId): boolean {
  return isVoter(conf, id) || conf.learners.includes(id);
}

/** All members, ascending. */
export function membersOf(conf: ConfState): ReplicaId[] {
  return ascending(new Set([...conf.voters, ...conf.votersOutgoing, ...conf.learners]));
}

/** All replicas that vote in either half, ascending. */
export function votersOf(conf: ConfState): ReplicaId[] {
  return ascending(new Set([...conf.voters, ...conf.votersOutgoing]));
}

/**
 * The configuration after `change`.
 *
 * @throws ConfChangeError
 */
export function changedConfState(conf: ConfState, change: ConfChange): ConfState {
  if (isLeaveJoint(change)) return leaveJoint(conf);
  if (change.transition === Transition.auto && change.changes.length <= 1) {
    return changeSimple(conf, change.changes);
  }
  const autoLeave = change.transition !== Transition.jointExplicit;
  return enterJoint(conf, change.changes, autoLeave);
}

/**
 * Changes at most one voter; learners freely.
 *
 * @throws ConfChangeError
 */
export function changeSimple(conf: ConfState, changes: readonly SingleChange[]): ConfState {
  if (isJoint(conf)) {
    throw new ConfChangeError("can't apply simple config change in joint config");
  }
  const draft = draftOf(conf);
  applyChanges(draft, changes);
  if (symmetricDifference(conf.voters, draft.voters) > 1) {
    throw new ConfChangeError('more than one voter changed without entering joint config');
  }
  return settled(draft);
}

/**
 * Makes the present voters the outgoing half and applies `changes` to the incoming one.
 *
 * @throws ConfChangeError
 */
export function enterJoint(
  conf: ConfState,
  changes: readonly SingleChange[],
  autoLeave: boolean,
): ConfState {
  if (isJoint(conf)) throw new ConfChangeError('config is already joint');
  if (conf.voters.length === 0) throw new ConfChangeError("can't make a zero-voter config joint");
  const draft = draftOf(conf);
  draft.votersOutgoing = new Set(conf.voters);
  draft.autoLeave = autoLeave;
  applyChanges(draft, changes);
  return settled(draft);
}

/**
 * Drops the outgoing half. Its voters that were demoted become learners now and not earlier: as learners of the
 * incoming half and voters of the outgoing one they would count twice.
 *
 * @throws ConfChangeError
 */
export function leaveJoint(conf: ConfState): ConfState {
  if (!isJoint(conf)) throw new ConfChangeError("can't leave a non-joint config");
  const draft = draftOf(conf);
  for (const id of draft.learnersNext) draft.learners.add(id);
  draft.learnersNext.clear();
  draft.votersOutgoing.clear();
  draft.autoLeave = false;
  return settled(draft);
}

/** Checks what must hold in every configuration. */
export function checkConfState(conf: ConfState): void {
  for (const list of [conf.voters, conf.votersOutgoing, conf.learners, conf.learnersNext]) {
    for (let i = 1; i < list.length; i++) {
      assert((list[i - 1] as number) < (list[i] as number), 'members are listed once, ascending');
    }
  }
  for (const id of conf.learners) assert(!isVoter(conf, id), 'a learner does not vote');
  for (const id of conf.learnersNext) {
    assert(conf.votersOutgoing.includes(id), 'a next learner is an outgoing voter');
    assert(!conf.voters.includes(id), 'a next learner is no incoming voter');
  }
  if (!isJoint(conf)) {
    assert(conf.learnersNext.length === 0, 'only a joint configuration has next learners');
    assert(!conf.autoLeave, 'only a joint configuration is left');
  }
}

interface Draft {
  readonly voters: Set<ReplicaId>;
  votersOutgoing: Set<ReplicaId>;
  readonly learners: Set<ReplicaId>;
  readonly learnersNext: Set<ReplicaId>;
  autoLeave: boolean;
}

function draftOf(conf: ConfState): Draft {
  return {
    voters: new Set(conf.voters),
    votersOutgoing: new Set(conf.votersOutgoing),
    learners: new Set(conf.learners),
    learnersNext: new Set(conf.learnersNext),
    autoLeave: conf.autoLeave,
  };
}

function applyChanges(draft: Draft, changes: readonly SingleChange[]): void {
  for (const { kind, replica } of changes) {
    // Replica 0 marks a change that the application withdrew after it was proposed.
    if (replica !== 0) applyChange(draft, kind, replica);
  }
  if (draft.voters.size === 0) throw new ConfChangeError('removed all voters');
}

function applyChange(draft: Draft, kind: ConfChangeKind, replica: ReplicaId): void {
  if (kind === ConfChangeKind.update) return;
  draft.voters.delete(replica);
  draft.learners.delete(replica);
  draft.learnersNext.delete(replica);
  if (kind === ConfChangeKind.addVoter) draft.voters.add(replica);
  if (kind === ConfChangeKind.addLearner) {
    const next = draft.votersOutgoing.has(replica) ? draft.learnersNext : draft.learners;
    next.add(replica);
  }
}

function settled(draft: Draft): ConfState {
  const conf: ConfState = {
    voters: ascending(draft.voters),
    votersOutgoing: ascending(draft.votersOutgoing),
    learners: ascending(draft.learners),
    learnersNext: ascending(draft.learnersNext),
    autoLeave: draft.autoLeave,
  };
  checkConfState(conf);
  return conf;
}

function symmetricDifference(before: readonly ReplicaId[], after: ReadonlySet<ReplicaId>): number {
  let kept = 0;
  for (const id of before) if (after.has(id)) kept += 1;
  return before.length - kept + (after.size - kept);
}

function ascending(ids: ReadonlySet<ReplicaId>): ReplicaId[] {
  return [...ids].sort((a, b) => a - b);
}
