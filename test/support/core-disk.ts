// The disk of one replica in memory. What was written but not synced is a list of writes: a crash keeps a prefix of
// them, as a log store does that appends in order. The core reads what was written, durable or not.

import { assert } from '../../src/base/assert.ts';
import { entryBytes } from '../../src/raft/log.ts';
import {
  type ConfState,
  type Entry,
  emptyConfState,
  emptyHardState,
  type HardState,
  type LogIndex,
  type Snapshot,
  type Term,
  type TermRun,
} from '../../src/raft/types.ts';

/** What a disk holds. */
export interface DiskImage {
  readonly hardState: HardState;
  /** What a restart begins with; index 0: nothing but the first members. At least `compacted.index`. */
  readonly snapshot: Snapshot;
  readonly compacted: { readonly index: LogIndex; readonly term: Term };
  /** Contiguous, from `compacted.index + 1` on. */
  readonly entries: readonly Entry[];
}

export interface DiskWrite {
  readonly hardState: HardState | undefined;
  readonly snapshot: Snapshot | undefined;
  readonly entries: readonly Entry[];
}

export interface Disk {
  durable: DiskImage;
  /** Written and not synced, oldest first. */
  unsynced: DiskWrite[];
  /** Invariant: `durable` with `unsynced` carried out. */
  written: DiskImage;
}

/**
 * The disk of one of a group's first members. The group begins behind a snapshot of index 1 and term 1, because its
 * first members stand in no entry: who joins later must not read the log from its beginning.
 */
export function firstDisk(confState: ConfState): Disk {
  const start = { index: 1, term: 1 };
  return diskWith({
    hardState: { term: 1, votedFor: undefined, commitIndex: 1 },
    snapshot: { ...start, confState, data: new Uint8Array(0) },
    compacted: start,
    entries: [],
  });
}

/** The disk of a replica that knows nothing yet. */
export function emptyDisk(): Disk {
  const start = { index: 0, term: 0 };
  return diskWith({
    hardState: emptyHardState,
    snapshot: { ...start, confState: emptyConfState, data: new Uint8Array(0) },
    compacted: start,
    entries: [],
  });
}

function diskWith(image: DiskImage): Disk {
  return { durable: image, unsynced: [], written: image };
}

export function lastIndexOf(image: DiskImage): LogIndex {
  return image.compacted.index + image.entries.length;
}

export function termRunsOf(image: DiskImage): TermRun[] {
  const runs: TermRun[] = [];
  for (const { index, term } of image.entries) {
    if (runs.at(-1)?.term !== term) runs.push({ firstIndex: index, term });
  }
  return runs;
}

export function writeTo(disk: Disk, write: DiskWrite): void {
  disk.unsynced.push(write);
  disk.written = imageAfter(disk.written, write);
}

export function syncDisk(disk: Disk): void {
  disk.durable = disk.written;
  disk.unsynced = [];
}

/** The power fails: of the unsynced writes only the first `survivingCount` are there afterwards. */
export function loseUnsynced(disk: Disk, survivingCount: number): void {
  for (const write of disk.unsynced.slice(0, survivingCount)) {
    disk.durable = imageAfter(disk.durable, write);
  }
  disk.unsynced = [];
  disk.written = disk.durable;
}

/** A snapshot of the state machine is stored, and the log up to `throughIndex` is dropped. */
export function compactDisk(disk: Disk, snapshot: Snapshot, throughIndex: LogIndex): void {
  assert(throughIndex <= snapshot.index, 'what is dropped is in the snapshot');
  syncDisk(disk);
  const { compacted, entries } = disk.durable;
  const droppedCount = throughIndex - compacted.index;
  assert(droppedCount >= 0, 'a log is compacted forward');
  const last = entries[droppedCount - 1];
  disk.durable = {
    ...disk.durable,
    snapshot,
    compacted: last === undefined ? compacted : { index: last.index, term: last.term },
    entries: entries.slice(droppedCount),
  };
  disk.written = disk.durable;
}

/** Entries `fromIndex … endIndex - 1`, as many as fit in `bytesMax`, one at least. */
export function readFrom(
  image: DiskImage,
  range: { readonly fromIndex: LogIndex; readonly endIndex: LogIndex; readonly bytesMax: number },
): readonly Entry[] {
  const { fromIndex, endIndex, bytesMax } = range;
  assert(fromIndex > image.compacted.index, 'compacted entries are not read');
  assert(endIndex <= lastIndexOf(image) + 1, 'only stored entries are read');
  const found: Entry[] = [];
  let bytes = 0;
  const end = endIndex - image.compacted.index - 1;
  for (let at = fromIndex - image.compacted.index - 1; at < end; at++) {
    const entry = image.entries[at] as Entry;
    bytes += entryBytes(entry);
    if (found.length > 0 && bytes > bytesMax) break;
    found.push(entry);
  }
  return found;
}

function imageAfter(image: DiskImage, write: DiskWrite): DiskImage {
  const hardState = write.hardState ?? image.hardState;
  let { snapshot, compacted, entries } = image;
  if (write.snapshot !== undefined) {
    snapshot = write.snapshot;
    compacted = { index: snapshot.index, term: snapshot.term };
    entries = [];
  }
  const [first] = write.entries;
  if (first !== undefined) {
    assert(first.index > compacted.index, 'compacted entries are not written again');
    assert(first.index <= compacted.index + entries.length + 1, 'a log has no holes');
    entries = [...entries.slice(0, first.index - compacted.index - 1), ...write.entries];
  }
  return { hardState, snapshot, compacted, entries };
}
