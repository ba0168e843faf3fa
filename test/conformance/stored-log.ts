// The log store of one played replica, in memory: what was written is durable at once. The core reads it through the
// `LogStorage` port only, so that entries trimmed from the core's own memory come from here.

import { assert } from '../../src/base/assert.ts';
import { entryBytes } from '../../src/raft/log.ts';
import {
  type Entry,
  emptyHardState,
  type HardState,
  type LogIndex,
  type Snapshot,
  type Term,
} from '../../src/raft/types.ts';
import { DirectiveError } from './arguments.ts';

export interface StoredLog {
  hardState: HardState;
  /** The last position before `entries`: everything up to it is in a snapshot. */
  compacted: { readonly index: LogIndex; readonly term: Term };
  /** Contiguous; the first one follows `compacted`. */
  entries: readonly Entry[];
}

export function newStoredLog(): StoredLog {
  return { hardState: emptyHardState, compacted: { index: 0, term: 0 }, entries: [] };
}

export function lastStoredIndex(log: StoredLog): LogIndex {
  return log.compacted.index + log.entries.length;
}

/** Replaces whatever follows the first of `entries`. */
export function storeEntries(log: StoredLog, entries: readonly Entry[]): void {
  const [first] = entries;
  if (first === undefined) return;
  assert(first.index > log.compacted.index, 'compacted entries are not written again');
  assert(first.index <= lastStoredIndex(log) + 1, 'a log has no holes');
  log.entries = [...log.entries.slice(0, first.index - log.compacted.index - 1), ...entries];
}

/** The log begins anew behind the snapshot. */
export function storeSnapshot(log: StoredLog, snapshot: Snapshot): void {
  assert(snapshot.index > log.compacted.index, 'a snapshot is newer than what it replaces');
  log.compacted = { index: snapshot.index, term: snapshot.term };
  log.entries = [];
}

/** Drops entries up to `index`, inclusive. */
export function compactStored(log: StoredLog, index: LogIndex): void {
  if (index <= log.compacted.index) {
    throw new DirectiveError('requested index is unavailable due to compaction');
  }
  const count = index - log.compacted.index;
  const last = log.entries[count - 1];
  if (last === undefined)
    throw new DirectiveError(`cannot compact beyond the last entry: ${index}`);
  log.compacted = { index, term: last.term };
  log.entries = log.entries.slice(count);
}

/** Entries from `fromIndex` up to `endIndex`, exclusive: as many as fit in `bytesMax`, at least one. */
export function readEntries(
  log: StoredLog,
  range: { readonly fromIndex: LogIndex; readonly endIndex: LogIndex; readonly bytesMax: number },
): readonly Entry[] {
  const { fromIndex, endIndex, bytesMax } = range;
  assert(fromIndex > log.compacted.index, 'compacted entries are not read');
  assert(endIndex <= lastStoredIndex(log) + 1, 'only stored entries are read');
  const from = fromIndex - log.compacted.index - 1;
  const wanted = log.entries.slice(from, endIndex - log.compacted.index - 1);
  let bytes = 0;
  const tooLarge = wanted.findIndex((entry, at) => {
    bytes += entryBytes(entry);
    return at > 0 && bytes > bytesMax;
  });
  assert(wanted.length > 0, 'an empty range is not read');
  return tooLarge === -1 ? wanted : wanted.slice(0, tooLarge);
}
