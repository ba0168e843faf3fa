// Handing leadership over (dissertation 3.10): the leader stops taking proposals, brings the chosen voter up to date
// and tells it to campaign at once. When nothing came of it within an election timeout, the leader goes on.

import { assert, must } from '../base/assert.ts';
import { sendAppendTo } from './replication.ts';
import { send } from './send.ts';
import type { RaftState } from './state.ts';
import { trace } from './trace.ts';
import { type ReplicaId, Role } from './types.ts';

/** The leader begins to hand over. Ignored for learners, strangers and itself. */
export function startTransfer(state: RaftState, transferee: ReplicaId): void {
  assert(state.role === Role.leader, 'only a leader hands leadership over');
  const progress = state.progress.get(transferee);
  if (progress === undefined || progress.isLearner) return;
  if (state.transferee === transferee) return;
  abortTransfer(state);
  if (transferee === state.id) return;
  trace(state, { type: 'transferStarted', transferee });
  // The whole transfer has one election timeout, beside the quorum check's, which nobody's wishes may put off.
  state.transferElapsed = 0;
  state.transferee = transferee;
  if (progress.matchIndex === state.log.lastIndex) timeoutNowTo(state, transferee);
  else sendAppendTo(state, transferee);
}

export function abortTransfer(state: RaftState): void {
  if (state.transferee === undefined) return;
  trace(state, { type: 'transferAborted', transferee: state.transferee });
  state.transferee = undefined;
}

export function timeoutNowTo(state: RaftState, to: ReplicaId): void {
  must(state.progress.get(to), 'leadership goes to a member');
  // From now on somebody may be elected in spite of the promises that a lease rests on.
  state.reads.isLeaseForfeited = true;
  send(state, { type: 'timeoutNow', from: state.id, to, term: state.currentTerm });
}
