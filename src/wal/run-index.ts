// Where the runs of one partition begin, in memory: all that an engine needs to know which stored runs a truncation,
// a compaction or a read touches. Eight bytes a run; a run ends where the next one begins, the last one at the
// partition's last index.

import { assert } from '../base/assert.ts';
import type { LogIndex } from '../raft/types.ts';

/** How many removed positions may stand before the live ones until they are cut away. */
const deadCountMax = 1_024;

export interface RunIndex {
  /** Ascending; positions below `head` are dead. */
  firstIndexes: LogIndex[];
  head: number;
}

export function emptyRunIndex(): RunIndex {
  return { firstIndexes: [], head: 0 };
}

/** Adds a run behind all others. */
export function pushRun(runs: RunIndex, firstIndex: LogIndex): void {
  assert(firstIndex > (lastRun(runs) ?? 0), 'runs ascend');
  runs.firstIndexes.push(firstIndex);
}

/** First index of the last run. */
export function lastRun(runs: RunIndex): LogIndex | undefined {
  return runs.firstIndexes.length > runs.head ? runs.firstIndexes.at(-1) : undefined;
}

/** First index of the run that holds `index`, when runs reach that far. */
export function runOf(runs: RunIndex, index: LogIndex): LogIndex | undefined {
  const { firstIndexes, head } = runs;
  let low = head;
  let high = firstIndexes.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((firstIndexes[middle] as LogIndex) <= index) low = middle + 1;
    else high = middle;
  }
  return low > head ? firstIndexes[low - 1] : undefined;
}

/** Removes the runs that begin at or above `firstIndex` (0: all); returns where they began. */
export function popRuns(runs: RunIndex, firstIndex: LogIndex): LogIndex[] {
  const { firstIndexes } = runs;
  let end = firstIndexes.length;
  while (end > runs.head && (firstIndexes[end - 1] as LogIndex) >= firstIndex) end -= 1;
  return firstIndexes.splice(end);
}

/** Removes the runs that end at or below `throughIndex`; returns where they began. */
export function shiftRuns(
  runs: RunIndex,
  range: { readonly throughIndex: LogIndex; readonly lastIndex: LogIndex },
): LogIndex[] {
  const { firstIndexes } = runs;
  const from = runs.head;
  while (runs.head < firstIndexes.length) {
    const runEnd = firstIndexes[runs.head + 1] ?? range.lastIndex + 1;
    if (runEnd > range.throughIndex + 1) break;
    runs.head += 1;
  }
  const removed = firstIndexes.slice(from, runs.head);
  if (runs.head > deadCountMax && runs.head * 2 > firstIndexes.length) {
    firstIndexes.splice(0, runs.head);
    runs.head = 0;
  }
  return removed;
}
