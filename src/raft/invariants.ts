// What must hold of one replica after every step. Tests and the simulator check all of it; the functions that change
// the state assert the cheap part of it themselves, in production too. Rules over the whole cluster (election safety,
// log matching, …) need to see all replicas and are checked by the simulator.

import { assert, must } from '../base/assert.ts';
import { checkLog, termAt } from './log.ts';
import { checkConfState, isVoter, membersOf } from './membership.ts';
import type { RaftState } from './state.ts';
import { Role } from './types.ts';

/** @throws AssertionError with the rule that is broken */
export function checkInvariants(state: RaftState): void {
  checkLog(state.log);
  checkConfState(state.confState);
  checkRole(state);
  checkProgress(state);
  if (state.log.termRuns.length > 0) {
    const term = must(termAt(state.log, state.log.lastIndex), 'the last term is known');
    assert(term <= state.currentTerm, 'Invariant: no entry is of a future term');
  }
  assert(state.prevHardState.term <= state.currentTerm, 'Invariant: the term never moves back');
  assert(
    state.prevHardState.commitIndex <= state.log.commitIndex,
    'Invariant: the commit index never moves back',
  );
}

function checkRole(state: RaftState): void {
  if (state.role === Role.leader) {
    assert(state.leader === state.id, 'Invariant: a leader knows that it leads');
    assert(state.log.pendingSnapshot === undefined, 'Invariant: a leader installs no snapshot');
    assert(state.votedFor === state.id, 'Invariant: a leader voted for itself');
  } else {
    assert(state.leader !== state.id, 'Invariant: only a leader believes that it leads');
    assert(state.transferee === undefined, 'Invariant: only a leader hands leadership over');
    assert(state.reads.rounds.length === 0, 'Invariant: only a leader has read rounds');
  }
  if (state.role === Role.candidate) {
    assert(state.votedFor === state.id, 'Invariant: a candidate voted for itself');
  }
  if (state.role === Role.candidate || state.role === Role.preCandidate) {
    assert(state.leader === undefined, 'Invariant: a candidate follows nobody');
  }
}

function checkProgress(state: RaftState): void {
  const members = membersOf(state.confState);
  assert(
    members.length === state.progress.size && members.every((id) => state.progress.has(id)),
    'Invariant: progress is kept of exactly the members',
  );
  for (const [id, progress] of state.progress) {
    assert(progress.matchIndex < progress.nextIndex, 'Invariant: matchIndex < nextIndex');
    assert(
      progress.isLearner === !isVoter(state.confState, id),
      'Invariant: a member votes or is a learner',
    );
    assert(
      (progress.snapshotIndex !== undefined) === (progress.state === 'snapshot'),
      'Invariant: a snapshot is on the way exactly in state snapshot',
    );
    if (state.role !== Role.leader) continue;
    assert(
      progress.matchIndex <= state.log.lastIndex,
      'Invariant: nobody has more than the leader',
    );
  }
}
