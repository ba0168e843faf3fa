// Everything that can be done to a core, as data: one kind for each verb of `raft.ts` that changes the state, named
// like it, as plain JSON values without payloads. What is recorded and what is replayed speak this language, so a verb
// that has no kind here cannot be recorded; a test compares the two lists.

import { decodeConfChange } from './conf-change.ts';
import {
  bytesOf,
  type EntryRun,
  filledInstallSnapshot,
  filledMessage,
  type HollowInstallSnapshot,
  type HollowMessage,
  type HollowSnapshot,
  type ProposedRun,
  proposedEntriesOf,
} from './hollow.ts';
import {
  advance,
  applyConfChange,
  campaign,
  compactLog,
  expireLease,
  forgetLeader,
  noteSnapshotProgress,
  propose,
  proposeConfChange,
  readIndex,
  refuseSnapshot,
  reportSnapshot,
  reportUnreachable,
  restartElectionTimer,
  step,
  stepDown,
  storageReady,
  takeReady,
  tick,
  transferLeadership,
  trimLog,
} from './raft.ts';
import type { RaftState } from './state.ts';
import type { LogIndex, ReplicaId } from './types.ts';

export type CoreInput =
  | { readonly kind: PlainVerb }
  | { readonly kind: 'propose'; readonly entries: readonly ProposedRun[] }
  | { readonly kind: 'proposeConfChange'; readonly confChange: string }
  | { readonly kind: 'step'; readonly message: HollowMessage }
  | { readonly kind: 'applyConfChange'; readonly confChange: string; readonly index: LogIndex }
  | { readonly kind: 'transferLeadership'; readonly transferee: ReplicaId }
  | { readonly kind: 'readIndex'; readonly context: number }
  | { readonly kind: 'reportUnreachable' | 'noteSnapshotProgress'; readonly peer: ReplicaId }
  | { readonly kind: 'reportSnapshot'; readonly peer: ReplicaId; readonly succeeded: boolean }
  | { readonly kind: 'refuseSnapshot'; readonly message: HollowInstallSnapshot }
  | { readonly kind: 'compactLog' | 'trimLog'; readonly index: LogIndex };

/** Verbs that take nothing but the state. */
export type PlainVerb =
  | 'tick'
  | 'takeReady'
  | 'advance'
  | 'campaign'
  | 'forgetLeader'
  | 'stepDown'
  | 'restartElectionTimer'
  | 'expireLease'
  | 'storageReady';

/** What the core was told, in the order in which it asked: drawn numbers, and the store's answers. */
export type CoreAnswer =
  | { readonly kind: 'drawn'; readonly value: number }
  /** `undefined`: not at hand. */
  | { readonly kind: 'entries'; readonly entries: readonly EntryRun[] | undefined }
  | { readonly kind: 'snapshot'; readonly snapshot: HollowSnapshot | undefined };

const plainVerbs: Readonly<Record<PlainVerb, (state: RaftState) => unknown>> = {
  tick,
  takeReady,
  advance,
  campaign,
  forgetLeader,
  stepDown,
  restartElectionTimer,
  expireLease,
  storageReady,
};

/** Does to `state` what `input` says. @throws what the verb throws */
export function perform(state: RaftState, input: CoreInput): void {
  switch (input.kind) {
    case 'step':
      step(state, filledMessage(input.message));
      return;
    case 'propose':
      propose(state, proposedEntriesOf(input.entries));
      return;
    case 'proposeConfChange':
      proposeConfChange(state, decodeConfChange(bytesOf(input.confChange)));
      return;
    case 'applyConfChange':
      applyConfChange(state, decodeConfChange(bytesOf(input.confChange)), input.index);
      return;
    case 'transferLeadership':
      return transferLeadership(state, input.transferee);
    case 'readIndex':
      readIndex(state, input.context);
      return;
    case 'reportUnreachable':
      return reportUnreachable(state, input.peer);
    case 'noteSnapshotProgress':
      return noteSnapshotProgress(state, input.peer);
    case 'reportSnapshot':
      return reportSnapshot(state, input.peer, input.succeeded);
    case 'refuseSnapshot':
      return refuseSnapshot(state, filledInstallSnapshot(input.message));
    case 'compactLog':
      return compactLog(state, input.index);
    case 'trimLog':
      return trimLog(state, input.index);
    default:
      plainVerbs[input.kind](state);
  }
}
