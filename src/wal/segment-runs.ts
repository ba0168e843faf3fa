// Where the runs of one partition lie in the segments, in memory: four numbers a run. A run ends where the next one
// begins, the last one at the partition's last index.

import { assert } from '../base/assert.ts';
import type { LogIndex } from '../raft/types.ts';

/** How many removed positions may stand before the live ones until they are cut away. */
const deadCountMax = 1_024;

/** A run in a segment. */
export interface PlacedRun {
  readonly firstIndex: LogIndex;
  readonly segmentNumber: number;
  /** Of the run's first byte in the file. */
  readonly offset: number;
  readonly byteLength: number;
}

export interface PlacedRuns {
  /** Ascending; positions below `head` are dead, in all four lists. */
  readonly firstIndexes: LogIndex[];
  readonly segmentNumbers: number[];
  readonly offsets: number[];
  readonly byteLengths: number[];
  head: number;
}

export function noRuns(): PlacedRuns {
  return { firstIndexes: [], segmentNumbers: [], offsets: [], byteLengths: [], head: 0 };
}

export function runCount(runs: PlacedRuns): number {
  return runs.firstIndexes.length - runs.head;
}

/** The run at `position`, counted from 0 for the oldest one. */
export function runAt(runs: PlacedRuns, position: number): PlacedRun | undefined {
  const at = runs.head + position;
  if (position < 0 || at >= runs.firstIndexes.length) return undefined;
  return {
    firstIndex: runs.firstIndexes[at] as LogIndex,
    segmentNumber: runs.segmentNumbers[at] as number,
    offset: runs.offsets[at] as number,
    byteLength: runs.byteLengths[at] as number,
  };
}

/** Position of the last run that begins at or below `index`; -1 when none does. */
export function positionOf(runs: PlacedRuns, index: LogIndex): number {
  const { firstIndexes, head } = runs;
  let low = head;
  let high = firstIndexes.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((firstIndexes[middle] as LogIndex) <= index) low = middle + 1;
    else high = middle;
  }
  return low - head - 1;
}

/** Adds a run behind all others. */
export function addRun(runs: PlacedRuns, run: PlacedRun): void {
  const last = runs.firstIndexes.length > runs.head ? runs.firstIndexes.at(-1) : undefined;
  assert(run.firstIndex > (last ?? 0), 'runs ascend');
  runs.firstIndexes.push(run.firstIndex);
  runs.segmentNumbers.push(run.segmentNumber);
  runs.offsets.push(run.offset);
  runs.byteLengths.push(run.byteLength);
}

/** Puts a run where the one with its first index is, or between its neighbours when there is none. */
export function putRun(runs: PlacedRuns, run: PlacedRun): PlacedRun | undefined {
  const position = positionOf(runs, run.firstIndex);
  const at = runs.head + position;
  const replaced = runAt(runs, position);
  const isReplacing = replaced?.firstIndex === run.firstIndex;
  const count = isReplacing ? 1 : 0;
  const from = isReplacing ? at : at + 1;
  runs.firstIndexes.splice(from, count, run.firstIndex);
  runs.segmentNumbers.splice(from, count, run.segmentNumber);
  runs.offsets.splice(from, count, run.offset);
  runs.byteLengths.splice(from, count, run.byteLength);
  return isReplacing ? replaced : undefined;
}

/** Removes the runs that begin at or above `firstIndex` (0: all); returns them. */
export function removeFrom(runs: PlacedRuns, firstIndex: LogIndex): PlacedRun[] {
  const removed: PlacedRun[] = [];
  for (let position = positionOf(runs, firstIndex - 1) + 1; ; position++) {
    const run = runAt(runs, position);
    if (run === undefined) break;
    removed.push(run);
  }
  const end = runs.firstIndexes.length - removed.length;
  runs.firstIndexes.length = end;
  runs.segmentNumbers.length = end;
  runs.offsets.length = end;
  runs.byteLengths.length = end;
  return removed;
}

/** Removes the runs that end at or below `throughIndex`; returns them. */
export function removeThrough(
  runs: PlacedRuns,
  range: { readonly throughIndex: LogIndex; readonly lastIndex: LogIndex },
): PlacedRun[] {
  const removed: PlacedRun[] = [];
  for (;;) {
    const run = runAt(runs, 0);
    if (run === undefined) break;
    const endIndex = runAt(runs, 1)?.firstIndex ?? range.lastIndex + 1;
    if (endIndex > range.throughIndex + 1) break;
    removed.push(run);
    runs.head += 1;
  }
  if (runs.head > deadCountMax && runs.head * 2 > runs.firstIndexes.length) {
    runs.firstIndexes.splice(0, runs.head);
    runs.segmentNumbers.splice(0, runs.head);
    runs.offsets.splice(0, runs.head);
    runs.byteLengths.splice(0, runs.head);
    runs.head = 0;
  }
  return removed;
}
