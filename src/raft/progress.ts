// What a leader believes of one replica's log, and how fast it may send (§5.3; dissertation 10.2.1). Three states:
//
//   probe      the matching index is unknown: one message at a time, `nextIndex` moves on an answer
//   replicate  the logs match up to `matchIndex`: messages are pipelined, `nextIndex` moves when they are sent
//   snapshot   the entries it needs are compacted: nothing is sent until the snapshot's outcome is known

import { assert } from '../base/assert.ts';
import {
  addInflight,
  clearInflights,
  freeInflightsThrough,
  type Inflights,
  isFull,
  newInflights,
} from './inflights.ts';
import type { LogIndex } from './types.ts';

export type ProgressState = 'probe' | 'replicate' | 'snapshot';

export interface Progress {
  state: ProgressState;
  /** Inclusive; what the replica is known to have stored. Invariant: matchIndex < nextIndex. */
  matchIndex: LogIndex;
  /** First entry of the next append. */
  nextIndex: LogIndex;
  /** Index of the snapshot on the way. Present exactly in state `snapshot`. */
  snapshotIndex: LogIndex | undefined;
  /** Ticks spent in state `snapshot`. */
  snapshotTicks: number;
  /** Highest commit index that was sent and not refused. Invariant: below nextIndex unless it was sent to be clamped. */
  sentCommitIndex: LogIndex;
  /** Whether it was heard from since the last quorum check. */
  isRecentlyActive: boolean;
  /** No append is sent until it answers anything. */
  isPaused: boolean;
  isLearner: boolean;
  readonly inflights: Inflights;
}

export function newProgress(options: {
  readonly nextIndex: LogIndex;
  readonly isLearner: boolean;
  readonly isRecentlyActive: boolean;
  readonly inflightMessagesMax: number;
  readonly inflightBytesMax: number;
}): Progress {
  return {
    state: 'probe',
    matchIndex: 0,
    nextIndex: options.nextIndex,
    snapshotIndex: undefined,
    snapshotTicks: 0,
    sentCommitIndex: 0,
    isRecentlyActive: options.isRecentlyActive,
    isPaused: false,
    isLearner: options.isLearner,
    inflights: newInflights({
      messagesMax: options.inflightMessagesMax,
      bytesMax: options.inflightBytesMax,
    }),
  };
}

/** Forgets everything that was learnt under an earlier term; membership stays. */
export function resetProgress(progress: Progress, nextIndex: LogIndex): void {
  enter(progress, 'probe');
  progress.matchIndex = 0;
  progress.nextIndex = nextIndex;
  progress.sentCommitIndex = 0;
  progress.isRecentlyActive = false;
}

export function becomeProbe(progress: Progress): void {
  // After a snapshot the first probe goes behind it: most likely the replica has it by now.
  const behindSnapshot = (progress.snapshotIndex ?? 0) + 1;
  enter(progress, 'probe');
  progress.nextIndex = Math.max(progress.matchIndex + 1, behindSnapshot);
  progress.sentCommitIndex = Math.min(progress.sentCommitIndex, progress.nextIndex - 1);
}

export function becomeReplicate(progress: Progress): void {
  enter(progress, 'replicate');
  progress.nextIndex = progress.matchIndex + 1;
}

export function becomeSnapshot(progress: Progress, snapshotIndex: LogIndex): void {
  enter(progress, 'snapshot');
  progress.snapshotIndex = snapshotIndex;
  progress.nextIndex = snapshotIndex + 1;
  progress.sentCommitIndex = snapshotIndex;
}

/** The snapshot did not arrive: probe from what is known, after the next sign of life. */
export function abandonSnapshot(progress: Progress): void {
  assert(progress.state === 'snapshot', 'only a snapshot that is on the way is abandoned');
  progress.snapshotIndex = undefined;
  becomeProbe(progress);
  progress.isPaused = true;
}

/** Whether appends with entries must wait. */
export function isHeldBack(progress: Progress): boolean {
  return progress.state === 'snapshot' || progress.isPaused;
}

/** Notes an append of `entryCount` entries with `bytes` of payload that begins at `nextIndex`. */
export function noteAppendSent(progress: Progress, entryCount: number, bytes: number): void {
  assert(progress.state !== 'snapshot', 'nothing is appended while a snapshot is on the way');
  if (progress.state === 'probe') {
    if (entryCount > 0) progress.isPaused = true;
    return;
  }
  if (entryCount > 0) {
    progress.nextIndex += entryCount;
    addInflight(progress.inflights, progress.nextIndex - 1, bytes);
  }
  // A message that fills the window, or an empty one sent through a full window, is a probe: wait for its answer.
  progress.isPaused = isFull(progress.inflights);
}

/**
 * Takes an acknowledgement of everything up to `index`.
 *
 * @returns whether it told something new
 */
export function tryAdvanceMatch(progress: Progress, index: LogIndex): boolean {
  if (index <= progress.matchIndex) return false;
  progress.matchIndex = index;
  progress.nextIndex = Math.max(progress.nextIndex, index + 1);
  progress.isPaused = false;
  return true;
}

export function freeAcknowledged(progress: Progress): void {
  freeInflightsThrough(progress.inflights, progress.matchIndex);
}

/**
 * Takes a refusal of the append that began behind `refusedIndex`.
 *
 * @param hintIndex up to where the logs can still agree
 * @returns false when the refusal is out of date: an older message that was overtaken
 */
export function tryRetreat(
  progress: Progress,
  refusal: { readonly refusedIndex: LogIndex; readonly hintIndex: LogIndex },
): boolean {
  const { refusedIndex, hintIndex } = refusal;
  if (progress.state === 'replicate') {
    if (refusedIndex <= progress.matchIndex) return false;
    progress.nextIndex = progress.matchIndex + 1;
  } else {
    // A probe sends one message at a time, so only the answer to that one counts.
    if (progress.nextIndex - 1 !== refusedIndex) return false;
    progress.nextIndex = Math.max(Math.min(refusedIndex, hintIndex + 1), progress.matchIndex + 1);
    progress.isPaused = false;
  }
  progress.sentCommitIndex = Math.min(progress.sentCommitIndex, progress.nextIndex - 1);
  return true;
}

/** Whether telling the replica of `commitIndex` now can move its commit index further than what it was told. */
export function canBumpCommit(progress: Progress, commitIndex: LogIndex): boolean {
  return (
    commitIndex > progress.sentCommitIndex && progress.sentCommitIndex < progress.nextIndex - 1
  );
}

export function noteCommitSent(progress: Progress, commitIndex: LogIndex): void {
  progress.sentCommitIndex = commitIndex;
}

function enter(progress: Progress, state: ProgressState): void {
  progress.state = state;
  progress.isPaused = false;
  progress.snapshotIndex = undefined;
  progress.snapshotTicks = 0;
  clearInflights(progress.inflights);
}
