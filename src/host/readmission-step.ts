// How a readmitted member comes back into one group (dissertation 4.2.1, 4.3), pure: which change of the group's members
// is next. Its former number loses its vote and the new one becomes a learner in one joint step; once the learner has
// caught up it becomes a voter, and the former number goes. In between the former number stays as a learner that nobody
// hears of: that, and nothing else, says that its successor is to vote. So any leader goes on where another one stopped.

import { isFormerOf } from '../cluster/system-state.ts';
import { type ConfChange, ConfChangeKind, Transition } from '../raft/conf-change.ts';
import { isJoint, membersOf } from '../raft/membership.ts';
import type { ConfState, ReplicaId } from '../raft/types.ts';

/** The numbers in `conf` that the member with the number `present` had before, ascending. */
export function formerReplicas(conf: ConfState, present: ReplicaId): ReplicaId[] {
  return membersOf(conf).filter((replica) => isFormerOf(present, replica));
}

/**
 * The next change of a group, or undefined when nothing is to be done now.
 *
 * @param present     the number that each member has now
 * @param isCaughtUp  whether a learner has what the leader has committed
 */
export function nextReadmissionStep(
  conf: ConfState,
  present: Iterable<ReplicaId>,
  isCaughtUp: (replica: ReplicaId) => boolean,
): ConfChange | undefined {
  if (isJoint(conf)) return undefined;
  for (const replica of present) {
    for (const former of formerReplicas(conf, replica)) {
      const changes = stepOf(conf, { former, replica }, isCaughtUp);
      if (changes.length === 0) continue;
      return { transition: Transition.auto, changes, context: new Uint8Array(0) };
    }
  }
  return undefined;
}

function stepOf(
  conf: ConfState,
  { former, replica }: { readonly former: ReplicaId; readonly replica: ReplicaId },
  isCaughtUp: (replica: ReplicaId) => boolean,
): ConfChange['changes'] {
  const { addVoter, addLearner, remove } = ConfChangeKind;
  const removal = { kind: remove, replica: former };
  if (conf.voters.includes(replica)) return [removal];
  const isLearner = conf.learners.includes(replica);
  if (conf.voters.includes(former)) {
    const demotion = { kind: addLearner, replica: former };
    return isLearner ? [demotion] : [demotion, { kind: addLearner, replica }];
  }
  // A former learner is replaced at once: its successor is not to vote.
  if (!isLearner) return [removal, { kind: addLearner, replica }];
  return isCaughtUp(replica) ? [removal, { kind: addVoter, replica }] : [];
}
