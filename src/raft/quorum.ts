// Quorum arithmetic, pure: what a majority of voters, or both majorities of a joint configuration, have stored or
// voted. §5.2, §5.3; dissertation 4.3 for joint configurations. Learners never appear here.

import { assert } from '../base/assert.ts';
import type { LogIndex, ReplicaId } from './types.ts';

export type VoteResult = 'won' | 'lost' | 'pending';

/** The voters of a configuration; `votersOutgoing` is empty unless it is joint. */
export interface VoterSets {
  readonly voters: readonly ReplicaId[];
  readonly votersOutgoing: readonly ReplicaId[];
}

/** Size of the smallest majority of `voterCount` (1 or more) voters: two majorities always share a voter. */
export function quorumSize(voterCount: number): number {
  assert(voterCount > 0, 'a quorum needs a voter');
  return Math.floor(voterCount / 2) + 1;
}

/**
 * The highest index that a quorum has stored: in a joint configuration a quorum of each half.
 *
 * @param matchIndexOf what a voter has stored; 0 when nothing is known
 * @returns Infinity when there are no voters at all: an empty half never holds the other one back
 */
export function quorumIndex(sets: VoterSets, matchIndexOf: (id: ReplicaId) => LogIndex): LogIndex {
  const incoming = majorityIndex(sets.voters, matchIndexOf);
  if (sets.votersOutgoing.length === 0) return incoming;
  return Math.min(incoming, majorityIndex(sets.votersOutgoing, matchIndexOf));
}

/** The outcome of a vote: in a joint configuration both halves must agree. */
export function voteResult(sets: VoterSets, votes: ReadonlyMap<ReplicaId, boolean>): VoteResult {
  const incoming = majorityVote(sets.voters, votes);
  const outgoing = majorityVote(sets.votersOutgoing, votes);
  if (incoming === outgoing) return incoming;
  if (incoming === 'lost' || outgoing === 'lost') return 'lost';
  return 'pending';
}

function majorityIndex(
  voters: readonly ReplicaId[],
  matchIndexOf: (id: ReplicaId) => LogIndex,
): LogIndex {
  if (voters.length === 0) return Number.POSITIVE_INFINITY;
  const sorted = voters.map(matchIndexOf);
  // Ascending by insertion: a group has few voters, and this runs once per acknowledgement.
  for (let i = 1; i < sorted.length; i++) {
    const value = sorted[i] as LogIndex;
    let at = i - 1;
    while (at >= 0 && (sorted[at] as LogIndex) > value) {
      sorted[at + 1] = sorted[at] as LogIndex;
      at -= 1;
    }
    sorted[at + 1] = value;
  }
  return sorted[voters.length - quorumSize(voters.length)] as LogIndex;
}

function majorityVote(
  voters: readonly ReplicaId[],
  votes: ReadonlyMap<ReplicaId, boolean>,
): VoteResult {
  if (voters.length === 0) return 'won';
  let granted = 0;
  let missing = 0;
  for (const voter of voters) {
    const vote = votes.get(voter);
    if (vote === undefined) missing += 1;
    else if (vote) granted += 1;
  }
  const needed = quorumSize(voters.length);
  if (granted >= needed) return 'won';
  return granted + missing >= needed ? 'pending' : 'lost';
}
