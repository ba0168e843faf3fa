// One replica's log as the core sees it. The whole log is known by its terms (kept as runs, so that "the term at
// index" never touches the disk); its youngest part is also in memory, the *tail*. Below the tail, entries come from
// `LogStorage`, which may say "not at hand".
//
//   compactedIndex < … < tailFirstIndex ≤ … ≤ stableIndex ≤ handedIndex ≤ lastIndex
//                                              (durable)    (given to the store)
//
// Invariants: appliedIndex ≤ applyingIndex ≤ commitIndex ≤ lastIndex; compactedIndex ≤ appliedIndex except while a
// snapshot is being installed; nothing at or below commitIndex is ever replaced (§5.3, §5.4).

import { assert, must } from '../base/assert.ts';
import {
  assertIndex,
  type Entry,
  EntryKind,
  type LogIndex,
  payloadBytesOf,
  type Snapshot,
  type Term,
  type TermRun,
} from './types.ts';

/** The stable log, as far as the host has it at hand. */
export interface LogStorage {
  /**
   * Stored entries `fromIndex … endIndex - 1`, at least one and then as many as fit in `bytesMax` of `entryBytes`.
   *
   * @returns undefined when they are not in memory: the host fetches them and calls `storageReady`
   */
  entries(fromIndex: LogIndex, endIndex: LogIndex, bytesMax: number): readonly Entry[] | undefined;
  /** The latest snapshot, or undefined when there is none at hand. */
  snapshot(): Snapshot | undefined;
}

/** What an entry weighs beside its payload, so that a flood of empty entries meets the limits too. */
export const entryOverheadBytes = 16;

export function entryBytes(entry: Entry): number {
  return entry.end - entry.start + entryOverheadBytes;
}

export function entryBytesOf(entries: readonly Entry[]): number {
  let bytes = entries.length * entryOverheadBytes;
  for (const entry of entries) bytes += entry.end - entry.start;
  return bytes;
}

/** A position in the log. */
export interface LogPosition {
  readonly index: LogIndex;
  readonly term: Term;
}

export interface RaftLog {
  readonly storage: LogStorage;
  /** Limit on entries that are being applied and not yet reported applied. */
  readonly applyingBytesMax: number;
  /** Entries up to here, inclusive, are settled in the snapshot or were never there. */
  compactedIndex: LogIndex;
  compactedTerm: Term;
  /** Terms of `compactedIndex + 1 … lastIndex`. Invariant: ascending in both fields. */
  termRuns: TermRun[];
  lastIndex: LogIndex;
  /** No entry above is a configuration change; this one may be. Invariant: confChangeIndex <= lastIndex */
  confChangeIndex: LogIndex;
  /** Entries `tailFirstIndex … lastIndex`. */
  tail: Entry[];
  tailFirstIndex: LogIndex;
  /** Payload bytes of the tail. */
  tailBytes: number;
  /** Durable on this replica up to here, inclusive. */
  stableIndex: LogIndex;
  /** Given to the store up to here, inclusive. */
  handedIndex: LogIndex;
  /** A snapshot that is to be installed before anything else. */
  pendingSnapshot: Snapshot | undefined;
  isPendingSnapshotHanded: boolean;
  /** Inclusive; never moves back (Figure 2). */
  commitIndex: LogIndex;
  /** Handed to the state machine up to here, inclusive. */
  applyingIndex: LogIndex;
  /** Applied up to here, inclusive. */
  appliedIndex: LogIndex;
  /** Bytes between the last two. */
  applyingBytes: number;
  isApplyingPaused: boolean;
  /** The store did not have the next entries to apply at hand: there is nothing to apply until it says otherwise. */
  isStoreAwaited: boolean;
}

export interface LogStart {
  readonly storage: LogStorage;
  readonly applyingBytesMax: number;
  readonly compacted: LogPosition;
  readonly lastIndex: LogIndex;
  readonly termRuns: readonly TermRun[];
  readonly commitIndex: LogIndex;
  readonly appliedIndex: LogIndex;
}

/** The log of a replica that starts: everything that is stored is stable, and nothing is in memory. */
export function openLog(start: LogStart): RaftLog {
  assert(start.compacted.index <= start.appliedIndex, 'what was compacted was applied');
  assert(start.appliedIndex <= start.commitIndex, 'only committed entries were applied');
  assert(start.commitIndex <= start.lastIndex, 'what was committed is stored');
  const { index, term } = start.compacted;
  return {
    storage: start.storage,
    applyingBytesMax: start.applyingBytesMax,
    compactedIndex: index,
    compactedTerm: term,
    termRuns: [...start.termRuns],
    lastIndex: start.lastIndex,
    // What the entries are is not known before they are read.
    confChangeIndex: start.lastIndex,
    tail: [],
    tailFirstIndex: start.lastIndex + 1,
    tailBytes: 0,
    stableIndex: start.lastIndex,
    handedIndex: start.lastIndex,
    pendingSnapshot: undefined,
    isPendingSnapshotHanded: false,
    commitIndex: start.commitIndex,
    applyingIndex: start.appliedIndex,
    appliedIndex: start.appliedIndex,
    applyingBytes: 0,
    isApplyingPaused: false,
    isStoreAwaited: false,
  };
}

export function firstIndex(log: RaftLog): LogIndex {
  return log.compactedIndex + 1;
}

/** The term at `index`, or undefined when it is compacted or beyond the log. */
export function termAt(log: RaftLog, index: LogIndex): Term | undefined {
  if (index > log.lastIndex || index < log.compactedIndex) return undefined;
  if (index === log.compactedIndex) return log.compactedTerm;
  return must(log.termRuns[runAt(log, index)], 'every entry of the log has a term').term;
}

export function lastTerm(log: RaftLog): Term {
  return must(termAt(log, log.lastIndex), 'the last term is known');
}

export function matches(log: RaftLog, position: LogPosition): boolean {
  return termAt(log, position.index) === position.term;
}

/** Whether a log that ends at `other` is at least as up to date as this one (§5.4.1): term first, then index. */
export function isUpToDate(log: RaftLog, other: LogPosition): boolean {
  const term = lastTerm(log);
  return other.term > term || (other.term === term && other.index >= log.lastIndex);
}

/** Whether this log is at least as up to date as one that ends at `other` (§5.4.1). */
export function covers(log: RaftLog, other: LogPosition): boolean {
  const term = lastTerm(log);
  return term > other.term || (term === other.term && log.lastIndex >= other.index);
}

/**
 * The highest index at or below `position.index` whose term is at most `position.term`: above it the two logs cannot
 * agree (§5.3, "the protocol can be optimized"). Skips whole terms, not single entries.
 *
 * @returns term 0 when the index is compacted: what was there is unknown, so a match is possible
 */
export function conflictHint(log: RaftLog, position: LogPosition): LogPosition {
  let { index } = position;
  if (index > log.lastIndex || index < log.compactedIndex) return { index, term: 0 };
  while (index > log.compactedIndex) {
    const run = must(log.termRuns[runAt(log, index)], 'every entry of the log has a term');
    if (run.term <= position.term) return { index, term: run.term };
    index = run.firstIndex - 1;
  }
  if (log.compactedTerm <= position.term) return { index, term: log.compactedTerm };
  return { index: Math.max(0, index - 1), term: 0 };
}

/**
 * Appends entries that follow `lastIndex`, or replace everything from their first index on.
 * They are contiguous, and nothing committed is replaced.
 */
export function appendToLog(log: RaftLog, entries: readonly Entry[]): void {
  const first = entries[0];
  if (first === undefined) return;
  assert(first.index > log.commitIndex, 'Invariant: a committed entry is never replaced');
  assert(first.index <= log.lastIndex + 1, 'the log has no holes');
  if (first.index <= log.lastIndex) truncateFrom(log, first.index);
  let term = log.termRuns.at(-1)?.term;
  for (const entry of entries) {
    assert(entry.index === log.lastIndex + 1, 'entries are contiguous');
    log.tail.push(entry);
    log.tailBytes += entry.end - entry.start;
    log.lastIndex = entry.index;
    if (entry.kind === EntryKind.confChange) log.confChangeIndex = entry.index;
    if (entry.term === term) continue;
    beginTerm(log, entry);
    term = entry.term;
  }
}

/** The index of the first entry that the log does not have with the same term, or undefined when it has all. */
export function findConflict(log: RaftLog, entries: readonly Entry[]): LogIndex | undefined {
  for (const entry of entries) {
    if (termAt(log, entry.index) !== entry.term) return entry.index;
  }
  return undefined;
}

/** Moves the commit index forward to `index`; never back. */
export function commitTo(log: RaftLog, index: LogIndex): void {
  if (index <= log.commitIndex) return;
  assert(index <= log.lastIndex, 'only entries of the log are committed');
  log.commitIndex = index;
}

/**
 * Entries `fromIndex … endIndex - 1`, as many as fit in `bytesMax`, at least one.
 *
 * @returns undefined when they are not in memory
 */
export function entriesBetween(
  log: RaftLog,
  fromIndex: LogIndex,
  endIndex: LogIndex,
  bytesMax: number,
): readonly Entry[] | undefined {
  assert(fromIndex > log.compactedIndex, 'compacted entries are not asked for');
  assert(endIndex <= log.lastIndex + 1, 'only entries of the log are asked for');
  if (fromIndex >= endIndex) return [];
  if (fromIndex >= log.tailFirstIndex) return tailBetween(log, fromIndex, endIndex, bytesMax);
  const stored = log.storage.entries(fromIndex, Math.min(endIndex, log.tailFirstIndex), bytesMax);
  if (stored === undefined || stored.length === 0) return undefined;
  const nextIndex = fromIndex + stored.length;
  const bytesLeft = bytesMax - entryBytesOf(stored);
  if (nextIndex < log.tailFirstIndex || nextIndex >= endIndex || bytesLeft <= 0) return stored;
  const rest = tailBetween(log, nextIndex, endIndex, bytesLeft);
  // The tail gives one entry at least; here it has to fit.
  return entryBytesOf(rest) <= bytesLeft ? [...stored, ...rest] : stored;
}

/** Entries that are not yet given to the store. */
export function unstoredEntries(log: RaftLog): readonly Entry[] {
  if (log.handedIndex === log.lastIndex) return [];
  return tailBetween(log, log.handedIndex + 1, log.lastIndex + 1, Number.POSITIVE_INFINITY);
}

export function hasUnstableEntries(log: RaftLog): boolean {
  return log.stableIndex < log.lastIndex;
}

/** Notes that the store was given everything there is. */
export function noteHanded(log: RaftLog): void {
  log.handedIndex = log.lastIndex;
  if (log.pendingSnapshot !== undefined) log.isPendingSnapshotHanded = true;
}

/** Takes the store's word that the entry at `position`, and so everything below, is durable. */
export function noteStable(log: RaftLog, position: LogPosition): void {
  // The entry may have been replaced while it was being written; then the word is about a log that is gone.
  if (position.index <= log.stableIndex || !matches(log, position)) return;
  assert(position.index <= log.handedIndex, 'only what was handed over is durable');
  log.stableIndex = position.index;
}

/**
 * The last index that may be handed to the state machine.
 *
 * @param allowUnstable synchronous mode: the host stores the entries before it applies them
 */
function appliableIndex(log: RaftLog, allowUnstable: boolean): LogIndex {
  return allowUnstable ? log.commitIndex : Math.min(log.commitIndex, log.stableIndex);
}

export function hasCommittedEntries(log: RaftLog, allowUnstable: boolean): boolean {
  if (log.isApplyingPaused || log.isStoreAwaited) return false;
  if (log.pendingSnapshot !== undefined) return false;
  return log.applyingIndex < appliableIndex(log, allowUnstable);
}

/** The next page of entries to apply; empty when there are none, they are not at hand, or applying is behind. */
export function committedEntries(log: RaftLog, allowUnstable: boolean): readonly Entry[] {
  if (!hasCommittedEntries(log, allowUnstable)) return [];
  const endIndex = appliableIndex(log, allowUnstable) + 1;
  const bytesMax = log.applyingBytesMax - log.applyingBytes;
  const entries = entriesBetween(log, log.applyingIndex + 1, endIndex, bytesMax);
  if (entries !== undefined) return entries;
  log.isStoreAwaited = true;
  return [];
}

/** Entries that the store did not have at hand are there now. */
export function noteStoreReady(log: RaftLog): void {
  log.isStoreAwaited = false;
}

/** Notes that entries were handed to the state machine: up to `last.index`, inclusive, of `last.bytes` together. */
export function noteApplying(
  log: RaftLog,
  last: { readonly index: LogIndex; readonly bytes: number },
  allowUnstable: boolean,
): void {
  assert(last.index <= log.commitIndex, 'only committed entries are applied');
  log.applyingIndex = last.index;
  log.applyingBytes += last.bytes;
  // A page that was cut short was cut by the limit: the next entry waits until some of these are applied.
  log.isApplyingPaused =
    log.applyingBytes >= log.applyingBytesMax || last.index < appliableIndex(log, allowUnstable);
}

/** Notes that the state machine has applied up to `index`, which freed `bytes` of the applying limit. */
export function noteApplied(log: RaftLog, index: LogIndex, bytes: number): void {
  assert(index <= log.commitIndex, 'only committed entries are applied');
  assert(index >= log.appliedIndex, 'the applied index does not move back');
  log.appliedIndex = index;
  log.applyingIndex = Math.max(log.applyingIndex, index);
  log.applyingBytes = Math.max(0, log.applyingBytes - bytes);
  log.isApplyingPaused = log.applyingBytes >= log.applyingBytesMax;
}

/** Replaces the whole log by a snapshot. Its entries are gone; the log goes on behind it. */
export function restoreLog(log: RaftLog, snapshot: Snapshot): void {
  assert(
    snapshot.index > log.commitIndex,
    'Invariant: a snapshot never takes back what is committed',
  );
  log.compactedIndex = snapshot.index;
  log.compactedTerm = snapshot.term;
  log.termRuns = [];
  log.tail = [];
  log.tailBytes = 0;
  log.tailFirstIndex = snapshot.index + 1;
  log.lastIndex = snapshot.index;
  log.confChangeIndex = Math.min(log.confChangeIndex, snapshot.index);
  log.stableIndex = snapshot.index;
  log.handedIndex = snapshot.index;
  log.commitIndex = snapshot.index;
  log.pendingSnapshot = snapshot;
  log.isPendingSnapshotHanded = false;
  log.isStoreAwaited = false;
}

/** Takes the store's word that the snapshot at `index` is installed. */
export function noteSnapshotStable(log: RaftLog, index: LogIndex): void {
  if (log.pendingSnapshot?.index !== index) return;
  log.pendingSnapshot = undefined;
  log.isPendingSnapshotHanded = false;
}

/** Forgets entries up to `index`, inclusive: the store does not have them any more. */
export function compactTo(log: RaftLog, index: LogIndex): void {
  if (index <= log.compactedIndex) return;
  assert(index <= log.appliedIndex, 'only applied entries are compacted');
  assert(index <= log.stableIndex, 'only stable entries are compacted');
  const term = must(termAt(log, index), 'the entry is in the log');
  const keptFrom = runAt(log, index + 1);
  const kept = log.termRuns.slice(index === log.lastIndex ? log.termRuns.length : keptFrom);
  const first = kept[0];
  if (first !== undefined) kept[0] = { firstIndex: index + 1, term: first.term };
  log.termRuns = kept;
  log.compactedIndex = index;
  log.compactedTerm = term;
  trimTail(log, index);
}

/** Drops in-memory copies up to `throughIndex`, as far as they are stable: the store has them when they are needed. */
export function trimTail(log: RaftLog, throughIndex: LogIndex): void {
  const index = Math.min(throughIndex, log.stableIndex);
  if (index < log.tailFirstIndex) return;
  log.tailBytes -= payloadBytesOf(log.tail.splice(0, index + 1 - log.tailFirstIndex));
  log.tailFirstIndex = index + 1;
}

/** Whether a configuration change may be among the committed entries that are not yet applied. */
export function mayHoldUnappliedConfChange(
  log: RaftLog,
  isConfChange: (entry: Entry) => boolean,
): boolean {
  if (log.appliedIndex >= log.commitIndex) return false;
  // What is not in memory is not read for this: the answer is needed again after the next entries are applied.
  if (log.appliedIndex + 1 < log.tailFirstIndex) {
    const page = entriesBetween(
      log,
      log.appliedIndex + 1,
      log.commitIndex + 1,
      Number.POSITIVE_INFINITY,
    );
    return (
      page === undefined ||
      page.some(isConfChange) ||
      page.length < log.commitIndex - log.appliedIndex
    );
  }
  const end = log.commitIndex + 1 - log.tailFirstIndex;
  for (let at = log.appliedIndex + 1 - log.tailFirstIndex; at < end; at++) {
    if (isConfChange(must(log.tail[at], 'the tail is contiguous'))) return true;
  }
  return false;
}

export function checkLog(log: RaftLog): void {
  assertIndex(log.lastIndex);
  assertIndex(log.commitIndex);
  assert(log.appliedIndex <= log.applyingIndex, 'Invariant: appliedIndex <= applyingIndex');
  assert(log.applyingIndex <= log.commitIndex, 'Invariant: applyingIndex <= commitIndex');
  assert(log.commitIndex <= log.lastIndex, 'Invariant: commitIndex <= lastIndex');
  assert(log.compactedIndex <= log.lastIndex, 'Invariant: compactedIndex <= lastIndex');
  assert(log.confChangeIndex <= log.lastIndex, 'Invariant: confChangeIndex <= lastIndex');
  assert(log.stableIndex <= log.handedIndex, 'Invariant: stableIndex <= handedIndex');
  assert(log.handedIndex <= log.lastIndex, 'Invariant: handedIndex <= lastIndex');
  assert(
    log.tailFirstIndex + log.tail.length === log.lastIndex + 1,
    'Invariant: the tail reaches to lastIndex',
  );
  assert(log.tailFirstIndex <= log.stableIndex + 1, 'Invariant: what is not stable is in memory');
  let previous: TermRun = { firstIndex: log.compactedIndex, term: log.compactedTerm };
  for (const run of log.termRuns) {
    assert(run.term >= previous.term, 'Invariant: terms never decrease along the log');
    assert(run.firstIndex > previous.firstIndex, 'Invariant: runs of a term do not overlap');
    previous = run;
  }
  assert(previous.firstIndex <= log.lastIndex, 'Invariant: every run of a term has an entry');
}

/** Position of the run that holds `index` (compactedIndex < index ≤ lastIndex). Most questions are about the end. */
function runAt(log: RaftLog, index: LogIndex): number {
  const runs = log.termRuns;
  let low = 0;
  let high = runs.length - 1;
  if (high >= 0 && (runs[high] as TermRun).firstIndex <= index) return high;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if ((runs[middle] as TermRun).firstIndex <= index) low = middle;
    else high = middle - 1;
  }
  return low;
}

function beginTerm(log: RaftLog, entry: Entry): void {
  const last = log.termRuns.at(-1)?.term ?? 0;
  assert(entry.term > last, 'Invariant: terms never decrease along the log');
  log.termRuns.push({ firstIndex: entry.index, term: entry.term });
}

function truncateFrom(log: RaftLog, index: LogIndex): void {
  assert(index > log.commitIndex, 'Invariant: a committed entry is never removed');
  const kept = Math.max(0, index - log.tailFirstIndex);
  log.tailBytes -= payloadBytesOf(log.tail.splice(kept));
  log.tailFirstIndex = Math.min(log.tailFirstIndex, index);
  while ((log.termRuns.at(-1)?.firstIndex ?? 0) >= index) log.termRuns.pop();
  log.lastIndex = index - 1;
  log.confChangeIndex = Math.min(log.confChangeIndex, index - 1);
  log.stableIndex = Math.min(log.stableIndex, index - 1);
  log.handedIndex = Math.min(log.handedIndex, index - 1);
}

function tailBetween(
  log: RaftLog,
  fromIndex: LogIndex,
  endIndex: LogIndex,
  bytesMax: number,
): readonly Entry[] {
  const start = fromIndex - log.tailFirstIndex;
  const end = endIndex - log.tailFirstIndex;
  // Most often all that is in memory would fit: then nothing is counted.
  const tailBytes = log.tailBytes + log.tail.length * entryOverheadBytes;
  if (tailBytes <= bytesMax) return log.tail.slice(start, end);
  let bytes = entryBytes(log.tail[start] as Entry);
  let at = start + 1;
  for (; at < end; at++) {
    bytes += entryBytes(log.tail[at] as Entry);
    if (bytes > bytesMax) break;
  }
  return log.tail.slice(start, at);
}
