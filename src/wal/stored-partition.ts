// What a batch does to one partition's log, decided before anything is stored: the rules of the port (`ports/wal.ts`)
// as one pure function over `StoredPartition`. Every engine asks here first and then only moves bytes, so that a
// batch that breaks a rule changes nothing, and all engines agree on what is stored.

import { assert, must } from '../base/assert.ts';
import { KommanderError } from '../base/errors.ts';
import type {
  LogBase,
  PartitionId,
  PartitionWrite,
  ReadRange,
  StoredPartition,
  WalBatch,
} from '../ports/wal.ts';
import {
  assertIndex,
  type Entry,
  emptyConfState,
  emptyHardState,
  type LogIndex,
  type Term,
  type TermRun,
} from '../raft/types.ts';

/** The base of a log that begins at index 1. */
const emptyBase: LogBase = { index: 0, term: 0, confState: emptyConfState, data: undefined };

const partitionIdEnd = 0x8000_0000;

/** A partition of which nothing is stored. */
export function emptyPartition(partitionId: PartitionId): StoredPartition {
  assert(Number.isInteger(partitionId), 'a partition id is an integer');
  assert(partitionId >= 0 && partitionId < partitionIdEnd, 'a partition id is 0 … 2^31 - 1');
  return {
    partitionId,
    hardState: emptyHardState,
    base: emptyBase,
    compactedIndex: 0,
    compactedTerm: 0,
    lastIndex: 0,
    termRuns: [],
  };
}

/** Whether the write removes all stored entries, so that the log begins behind the write's base. */
export function dropsLog(stored: StoredPartition, write: PartitionWrite): boolean {
  if (write.base === undefined) return false;
  return write.resetLog || write.base.index > stored.lastIndex;
}

/** Whether the write stores nothing at all. */
export function isEmptyWrite(write: PartitionWrite): boolean {
  return (
    write.hardState === undefined &&
    write.base === undefined &&
    write.entries.length === 0 &&
    write.compactThroughIndex === undefined
  );
}

/**
 * What is stored after each part of a batch, in the batch's order. Nothing is changed.
 *
 * @throws AssertionError a part breaks a rule of the port
 */
export function afterBatch(
  storedOf: (partitionId: PartitionId) => StoredPartition | undefined,
  batch: WalBatch,
): StoredPartition[] {
  const pending = new Map<PartitionId, StoredPartition>();
  return batch.writes.map((write) => {
    const { partitionId } = write;
    const before = pending.get(partitionId) ?? storedOf(partitionId) ?? emptyPartition(partitionId);
    const after = afterWrite(before, write);
    pending.set(partitionId, after);
    return after;
  });
}

/**
 * Checks that a range can be read.
 *
 * @throws INVALID_ARGUMENT it is empty or not wholly stored (any more): `details` has what is stored
 */
export function checkReadRange(stored: StoredPartition | undefined, range: ReadRange): void {
  const compactedIndex = stored?.compactedIndex ?? 0;
  const lastIndex = stored?.lastIndex ?? 0;
  const { partitionId, fromIndex, endIndex } = range;
  if (fromIndex > compactedIndex && fromIndex < endIndex && endIndex <= lastIndex + 1) return;
  throw new KommanderError(
    `entries ${fromIndex} … ${endIndex - 1} of partition ${partitionId} are not stored: ` +
      `it has ${compactedIndex + 1} … ${lastIndex}`,
    {
      code: 'INVALID_ARGUMENT',
      details: { argument: 'range', partitionId, fromIndex, endIndex, compactedIndex, lastIndex },
    },
  );
}

/**
 * What is stored of a partition after `write`, in the order hard state, base, entries, compaction.
 *
 * @throws AssertionError the write breaks a rule of the port
 */
export function afterWrite(stored: StoredPartition, write: PartitionWrite): StoredPartition {
  let next = stored;
  if (write.hardState !== undefined) next = { ...next, hardState: write.hardState };
  assert(!write.resetLog || write.base !== undefined, 'a log is reset to a base');
  if (write.base !== undefined) {
    next = dropsLog(next, write) ? afterReset(next, write.base) : afterBase(next, write.base);
  }
  if (write.entries.length > 0) next = afterAppend(next, write.entries);
  if (write.compactThroughIndex !== undefined)
    next = afterCompaction(next, write.compactThroughIndex);
  return next;
}

/** Term of the entry at `index`, which is `compactedIndex` or stored. */
function storedTerm(stored: StoredPartition, index: LogIndex): Term {
  assert(index >= stored.compactedIndex, 'terms of removed entries are not known');
  assert(index <= stored.lastIndex, 'the log has this entry');
  if (index === stored.compactedIndex) return stored.compactedTerm;
  const run = stored.termRuns.findLast((candidate) => candidate.firstIndex <= index);
  return must(run, 'the term runs cover every stored entry').term;
}

function afterReset(stored: StoredPartition, base: LogBase): StoredPartition {
  assertIndex(base.index);
  return {
    ...stored,
    base,
    compactedIndex: base.index,
    compactedTerm: base.term,
    lastIndex: base.index,
    termRuns: [],
  };
}

function afterBase(stored: StoredPartition, base: LogBase): StoredPartition {
  assert(base.index >= stored.base.index, 'a base moves forward unless the log is reset');
  assert(
    storedTerm(stored, base.index) === base.term,
    'a base inside the log has the term of its entry',
  );
  return { ...stored, base };
}

function afterAppend(stored: StoredPartition, entries: readonly Entry[]): StoredPartition {
  const first = entries[0] as Entry;
  assert(first.index <= stored.lastIndex + 1, 'a log has no gap');
  assert(first.index > stored.base.index, 'entries up to the base are settled');
  const termRuns = termRunsAfter(stored, entries);
  return { ...stored, termRuns, lastIndex: (entries.at(-1) as Entry).index };
}

function termRunsAfter(stored: StoredPartition, entries: readonly Entry[]): readonly TermRun[] {
  const first = entries[0] as Entry;
  assert(first.term >= storedTerm(stored, first.index - 1), 'terms never fall along the log');
  checkContiguous(entries);
  const tail = stored.termRuns.at(-1);
  const last = entries[entries.length - 1] as Entry;
  // The common case: the entries lengthen the last run, and the old list still holds.
  if (tail !== undefined && tail.firstIndex < first.index && tail.term === last.term)
    return stored.termRuns;
  const runs = stored.termRuns.filter((run) => run.firstIndex < first.index);
  for (const entry of entries) {
    // The first stored entry opens a run even when the removed entry before it had the same term.
    if (runs.at(-1)?.term !== entry.term) runs.push({ firstIndex: entry.index, term: entry.term });
  }
  return runs;
}

function checkContiguous(entries: readonly Entry[]): void {
  let previous = entries[0] as Entry;
  assertIndex(previous.index);
  for (let i = 1; i < entries.length; i++) {
    const entry = entries[i] as Entry;
    assert(entry.index === previous.index + 1, 'appended entries are contiguous');
    assert(entry.term >= previous.term, 'terms never fall along the log');
    previous = entry;
  }
}

function afterCompaction(stored: StoredPartition, throughIndex: LogIndex): StoredPartition {
  assert(throughIndex <= stored.base.index, 'only what the base covers is removed');
  if (throughIndex <= stored.compactedIndex) return stored;
  const firstIndex = throughIndex + 1;
  const kept = stored.termRuns.filter((_, position) => {
    const endIndex = stored.termRuns[position + 1]?.firstIndex ?? stored.lastIndex + 1;
    return endIndex > firstIndex;
  });
  const head = kept[0];
  if (head !== undefined && head.firstIndex < firstIndex) kept[0] = { ...head, firstIndex };
  return {
    ...stored,
    compactedIndex: throughIndex,
    compactedTerm: storedTerm(stored, throughIndex),
    termRuns: kept,
  };
}
