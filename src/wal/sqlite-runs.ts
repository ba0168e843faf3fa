// Where the runs of one partition lie in the SQLite store, in memory: first index and row of each, sixteen bytes a run. A
// run ends where the next one begins, the last one at the partition's last index. A batch changes the lists before it is
// stored; when the disk has no room for it, they go back.

import { assert } from '../base/assert.ts';
import type { LogIndex } from '../raft/types.ts';

/** How many removed positions may stand before the live ones until they are cut away. */
const deadCountMax = 1_024;

export interface SqliteRuns {
  /** Ascending; positions below `head` are dead, in both lists. */
  firstIndexes: LogIndex[];
  /** Ascending as well: rows are numbered in the order in which they are written. */
  rowIds: number[];
  head: number;
}

export function noSqliteRuns(): SqliteRuns {
  return { firstIndexes: [], rowIds: [], head: 0 };
}

/** Adds a run behind all others. */
export function addRow(
  runs: SqliteRuns,
  run: { readonly firstIndex: LogIndex; readonly rowId: number },
): void {
  if (runs.firstIndexes.length > runs.head) {
    assert(run.firstIndex > (runs.firstIndexes.at(-1) as LogIndex), 'runs ascend');
    assert(run.rowId > (runs.rowIds.at(-1) as number), 'rows ascend');
  }
  runs.firstIndexes.push(run.firstIndex);
  runs.rowIds.push(run.rowId);
}

/** Place in the lists of the last run that begins at or below `index`; -1 when none does. */
export function placeOf(runs: SqliteRuns, index: LogIndex): number {
  const { firstIndexes, head } = runs;
  let low = head;
  let high = firstIndexes.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((firstIndexes[middle] as LogIndex) <= index) low = middle + 1;
    else high = middle;
  }
  return low > head ? low - 1 : -1;
}

/** Removes the runs that begin at or above `firstIndex` (0: all); returns their rows. */
export function removeRowsFrom(runs: SqliteRuns, firstIndex: LogIndex): number[] {
  const place = placeOf(runs, firstIndex - 1);
  const from = place < 0 ? runs.head : place + 1;
  runs.firstIndexes.length = from;
  return runs.rowIds.splice(from);
}

/** Removes the runs that end at or below `throughIndex`; returns their rows. */
export function removeRowsThrough(
  runs: SqliteRuns,
  range: { readonly throughIndex: LogIndex; readonly lastIndex: LogIndex },
): number[] {
  const { firstIndexes, rowIds } = runs;
  const from = runs.head;
  while (runs.head < firstIndexes.length) {
    const endIndex = firstIndexes[runs.head + 1] ?? range.lastIndex + 1;
    if (endIndex > range.throughIndex + 1) break;
    runs.head += 1;
  }
  const removed = rowIds.slice(from, runs.head);
  if (runs.head > deadCountMax && runs.head * 2 > firstIndexes.length) {
    firstIndexes.splice(0, runs.head);
    rowIds.splice(0, runs.head);
    runs.head = 0;
  }
  return removed;
}

/** A copy that later changes do not reach. */
export function copyRuns(runs: SqliteRuns): SqliteRuns {
  return { firstIndexes: runs.firstIndexes.slice(), rowIds: runs.rowIds.slice(), head: runs.head };
}
