// What the core reports while it decides: structured events instead of text. The host logs from them, tests print
// from them, and a replay of recorded inputs (`replay.ts`) shows them. Nothing is built when nobody listens.

import type { RaftState } from './state.ts';
import type { ConfState, LogIndex, Message, ReplicaId, Role, Term } from './types.ts';

export type TraceEvent =
  | { readonly type: 'roleChanged'; readonly role: Role; readonly term: Term }
  | { readonly type: 'leaderChanged'; readonly leader: ReplicaId | undefined; readonly term: Term }
  | { readonly type: 'voteCast'; readonly candidate: ReplicaId; readonly term: Term }
  | { readonly type: 'received'; readonly message: Message }
  | { readonly type: 'ignored'; readonly message: Message; readonly reason: IgnoreReason }
  | { readonly type: 'sent'; readonly message: Message }
  | { readonly type: 'committed'; readonly commitIndex: LogIndex }
  | { readonly type: 'proposalDropped'; readonly reason: DropReason }
  | { readonly type: 'confChangeRefused'; readonly reason: string }
  | { readonly type: 'confChanged'; readonly confState: ConfState }
  | { readonly type: 'campaignSkipped'; readonly reason: string }
  | { readonly type: 'snapshotRestored'; readonly index: LogIndex }
  | { readonly type: 'snapshotIgnored'; readonly index: LogIndex; readonly reason: string }
  | { readonly type: 'transferStarted' | 'transferAborted'; readonly transferee: ReplicaId }
  | { readonly type: 'forgetLeaderRefused' };

export type IgnoreReason =
  | 'olderTerm'
  | 'leaseHeld'
  | 'unknownPeer'
  | 'noLeader'
  | 'notForThisRole'
  | 'tooManyReads'
  | 'impossibleAck'
  | 'staleVote';

export type DropReason = 'notLeader' | 'notMember' | 'transferring' | 'uncommittedFull';

/** Reports an event if anybody listens. Callers on hot paths check `state.config.trace` first. */
export function trace(state: RaftState, event: TraceEvent): void {
  state.config.trace?.(event);
}
