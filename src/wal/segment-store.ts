// The open store of the segment engine: one struct, and the verbs that change files. Segments are a queue: records are
// added to the last one, the first one goes once nothing of it is needed. They are never removed out of order, because
// what a segment says (entries replaced, a log dropped) holds for all older ones. Only a copy of a run may outlive what
// replaced its end (`liveEnd` in `segment-open.ts`).

import { assert, must } from '../base/assert.ts';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import type { PartitionId, StoredPartition } from '../ports/wal.ts';
import { type Files, isOutOfSpace, type StoredFile } from './files.ts';
import {
  type FoundStore,
  firstNumber,
  type PlacedBase,
  type PlacedFact,
  segmentName,
} from './segment-open.ts';
import { noRuns, type PlacedRun, type PlacedRuns, runAt, runCount } from './segment-runs.ts';
import {
  emptySummary,
  encodeFooter,
  footerBytesLikely,
  type SegmentSummary,
  trailerBytes,
} from './segment-summary.ts';
import { emptyPartition } from './stored-partition.ts';

const spareName = 'spare';
const draftName = 'spare.draft';
const zerosBytesMax = 1_048_576;
/** Sealed segments whose files stay open for reading. */
const openFilesMax = 64;

export interface Segment {
  readonly number: number;
  readonly byteLength: number;
  /** Open, or about to be. */
  file: Promise<StoredFile> | undefined;
  /** Bytes of the runs in it that are needed. */
  liveBytes: number;
  /** Reads that are under way. */
  readerCount: number;
  /** Called when the last read has ended. */
  idle: (() => void) | undefined;
  /** Of the segment that is written, and of one without a footer. */
  summary: SegmentSummary | undefined;
}

export interface SegmentPartition {
  stored: StoredPartition;
  readonly runs: PlacedRuns;
  /** Numbers of the segments with the newest records. */
  hardStateAt: number | undefined;
  base: PlacedBase | undefined;
  compactionAt: number | undefined;
}

export interface SegmentStore {
  readonly files: Files;
  readonly path: string;
  readonly segmentBytes: number;
  readonly partitions: Map<PartitionId, SegmentPartition>;
  readonly facts: Map<string, PlacedFact>;
  /** Oldest first, without gaps in their numbers. The last one is written when `isSealed` is not set. */
  readonly segments: Segment[];
  isSealed: boolean;
  /** Where the next record begins in the last segment. */
  endOffset: number;
  lastCrc: number;
  lastBatch: number;
  /** Invariant: syncedBatch <= lastBatch */
  syncedBatch: number;
  /** The segment behind the last one. */
  prepared: Segment | undefined;
  preparing: Promise<void> | undefined;
  /** Changes of the directory, one at a time. */
  housekeeping: Promise<void>;
  /** Segments whose files are open, the least recently used one first. */
  readonly openFiles: Set<Segment>;
}

export function newStore(
  files: Files,
  found: FoundStore,
  options: { readonly path: string; readonly segmentBytes: number },
): SegmentStore {
  const last = found.segments.at(-1);
  const store: SegmentStore = {
    files,
    ...options,
    partitions: new Map(),
    facts: new Map(found.facts),
    segments: found.segments.map(({ number, byteLength, summary, endOffset }) =>
      segmentOf(number, byteLength, endOffset === undefined ? undefined : summary),
    ),
    isSealed: last?.endOffset === undefined,
    endOffset: last?.endOffset ?? 0,
    lastCrc: last?.lastCrc ?? 0,
    lastBatch: last?.lastBatch ?? 0,
    syncedBatch: last?.lastBatch ?? 0,
    prepared: undefined,
    preparing: undefined,
    housekeeping: Promise.resolve(),
    openFiles: new Set(),
  };
  if (found.prepared !== undefined && found.prepared.number === nextNumber(store)) {
    store.prepared = segmentOf(found.prepared.number, found.prepared.byteLength, undefined);
  }
  for (const { stored, runs, hardStateAt, base, compactionAt } of found.partitions) {
    store.partitions.set(stored.partitionId, {
      stored,
      runs,
      hardStateAt,
      base,
      compactionAt,
    });
    for (let i = 0; i < runCount(runs); i++) noteLive(store, runAt(runs, i) as PlacedRun);
  }
  return store;
}

export function partitionOf(store: SegmentStore, partitionId: PartitionId): SegmentPartition {
  const known = store.partitions.get(partitionId);
  if (known !== undefined) return known;
  const made: SegmentPartition = {
    stored: emptyPartition(partitionId),
    runs: noRuns(),
    hardStateAt: undefined,
    base: undefined,
    compactionAt: undefined,
  };
  store.partitions.set(partitionId, made);
  return made;
}

function segmentOf(
  number: number,
  byteLength: number,
  summary: SegmentSummary | undefined,
): Segment {
  const idle = { readerCount: 0, idle: undefined, file: undefined };
  return { number, byteLength, liveBytes: 0, summary, ...idle };
}

function nextNumber(store: SegmentStore): number {
  const last = store.segments.at(-1);
  return last === undefined ? firstNumber : last.number + 1;
}

function segmentAt(store: SegmentStore, number: number): Segment {
  const first = must(store.segments[0], 'a place is in a segment').number;
  return must(store.segments[number - first], 'segments that are needed are kept');
}

export function noteLive(store: SegmentStore, run: PlacedRun): void {
  segmentAt(store, run.segmentNumber).liveBytes += run.byteLength;
}

export function noteDead(store: SegmentStore, runs: readonly PlacedRun[]): void {
  for (const { segmentNumber, byteLength } of runs) {
    segmentAt(store, segmentNumber).liveBytes -= byteLength;
  }
}

/** The segment's file, opened when it is not. */
export function fileOf(store: SegmentStore, segment: Segment): Promise<StoredFile> {
  store.openFiles.delete(segment);
  store.openFiles.add(segment);
  segment.file ??= store.files.open(segmentName(segment.number), { create: false });
  return segment.file;
}

/** Closes files that were not used for long. */
async function closeOldest(store: SegmentStore): Promise<void> {
  const last = store.segments.at(-1);
  for (const segment of store.openFiles) {
    if (store.openFiles.size <= openFilesMax) return;
    if (segment.readerCount === 0 && segment !== last) await closeFile(store, segment);
  }
}

export async function closeFile(store: SegmentStore, segment: Segment): Promise<void> {
  store.openFiles.delete(segment);
  const { file } = segment;
  segment.file = undefined;
  // One that could not be opened needs no closing; whoever wanted it was told.
  const opened = await file?.catch(() => undefined);
  await opened?.close();
}

/** Reads from a segment, which stays where it is meanwhile. */
export async function readFrom(
  store: SegmentStore,
  segmentNumber: number,
  range: { readonly position: number; readonly byteLength: number },
): Promise<Uint8Array> {
  const segment = segmentAt(store, segmentNumber);
  segment.readerCount += 1;
  try {
    const file = await fileOf(store, segment);
    return await file.read(range);
  } finally {
    segment.readerCount -= 1;
    if (segment.readerCount === 0) segment.idle?.();
    if (store.openFiles.size > openFilesMax) await closeOldest(store);
  }
}

/** Does `task` when the changes of the directory before it are done. */
function keepHouse(store: SegmentStore, task: () => Promise<void>): Promise<void> {
  const done = store.housekeeping.then(task);
  store.housekeeping = done.catch(() => {});
  return done;
}

/**
 * Sees to it that the last segment has room for `byteLength` bytes of records.
 *
 * @throws DISK_FULL the stream ends where it ended
 */
export async function makeRoom(store: SegmentStore, byteLength: number): Promise<void> {
  const last = store.segments.at(-1);
  if (last !== undefined && !store.isSealed && fits(store, last, byteLength)) return;
  const fresh = emptySummary();
  const needed = byteLength + footerBytesLikely(fresh) + byteLength / 2;
  await prepare(store, Math.max(store.segmentBytes, needed));
  if (last !== undefined && !store.isSealed) await seal(store, last);
  const next = must(store.prepared, 'it was prepared');
  next.summary = fresh;
  store.prepared = undefined;
  store.segments.push(next);
  store.isSealed = false;
  store.endOffset = 0;
}

function fits(store: SegmentStore, last: Segment, byteLength: number): boolean {
  const summary = must(last.summary, 'what is written has a summary');
  const footerBytes = footerBytesLikely(summary) + byteLength / 2;
  return store.endOffset + byteLength + footerBytes <= last.byteLength;
}

/**
 * Begins to prepare the next segment when the last one is half full, so that nobody waits for it. `fail` hears of what a
 * second try must not hide; when the disk is full, whoever needs the segment tries again, and hears of it.
 */
export function prepareAhead(store: SegmentStore, fail: (cause: unknown) => void): void {
  const last = must(store.segments.at(-1), 'something was written');
  if (store.endOffset * 2 < last.byteLength || store.prepared !== undefined) return;
  if (store.preparing !== undefined) return;
  prepare(store, store.segmentBytes).catch((error: unknown) => {
    if (!isKommanderError(error, 'DISK_FULL')) fail(error);
  });
}

/** @throws DISK_FULL */
async function prepare(store: SegmentStore, byteLength: number): Promise<void> {
  if (store.preparing !== undefined) await store.preparing.catch(() => {});
  // A second file of the same number would take the place of the first, which may have records by then.
  assert(store.preparing === undefined, 'one file is prepared at a time');
  const { prepared } = store;
  if (prepared !== undefined && prepared.byteLength >= byteLength) return;
  const preparing = keepHouse(store, async () => {
    try {
      await nameNext(store, byteLength);
    } catch (cause) {
      throw isOutOfSpace(cause) ? diskFull(store, byteLength, cause) : cause;
    }
    await store.files.syncNames();
    store.prepared = segmentOf(nextNumber(store), byteLength, undefined);
  });
  store.preparing = preparing.finally(() => {
    store.preparing = undefined;
  });
  await store.preparing;
}

/** Gives the next segment's name to a file of so many zeros or old records. Can be done again when it failed. */
async function nameNext(store: SegmentStore, byteLength: number): Promise<void> {
  const { files, prepared } = store;
  const isRecycled = byteLength === store.segmentBytes && (await hasSpare(store));
  if (!isRecycled) await fillDraft(store, byteLength);
  if (prepared !== undefined) {
    store.prepared = undefined;
    await closeFile(store, prepared);
  }
  // In the place of one that is too short: behind a footer there is a file at every moment.
  await files.rename(isRecycled ? spareName : draftName, segmentName(nextNumber(store)));
}

async function hasSpare(store: SegmentStore): Promise<boolean> {
  const listed = await store.files.list();
  return listed.some(
    ({ name, byteLength }) => name === spareName && byteLength === store.segmentBytes,
  );
}

/** Zeros, so that the file's blocks are there before they are needed: only a full disk fails here. */
async function fillDraft(store: SegmentStore, byteLength: number): Promise<void> {
  await store.files.remove(draftName);
  try {
    const file = await store.files.open(draftName, { create: true });
    try {
      const zeros = new Uint8Array(Math.min(zerosBytesMax, byteLength));
      for (let at = 0; at < byteLength; at += zerosBytesMax) {
        await file.write([zeros.subarray(0, Math.min(zerosBytesMax, byteLength - at))], at);
      }
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (cause) {
    // What was taken is given back, for others need it too. Whoever tries again begins with that.
    await store.files.remove(draftName).catch(() => {});
    throw cause;
  }
}

function diskFull(store: SegmentStore, byteLength: number, cause: unknown): KommanderError {
  const { path } = store;
  return new KommanderError(
    `the disk of the log store ${path} has no room for the next segment of ${byteLength} bytes: make room, and it goes on`,
    { code: 'DISK_FULL', details: { path, byteLength }, cause },
  );
}

/** Ends the last segment. What its footer speaks of is synced before the footer is written: it will be believed. */
async function seal(store: SegmentStore, last: Segment): Promise<void> {
  const file = await fileOf(store, last);
  if (store.syncedBatch < store.lastBatch) {
    await file.sync();
    store.syncedBatch = store.lastBatch;
  }
  const summary = must(last.summary, 'what is written has a summary');
  const { endOffset: offset, lastCrc, lastBatch } = store;
  const place = { segmentNumber: last.number, offset, lastCrc, lastBatch };
  const { body, trailer } = encodeFooter(summary, place);
  // Without a footer the records are read: it makes the opening quick, no more.
  if (offset + body.byteLength + trailerBytes > last.byteLength) return;
  await file.write([body], offset);
  await file.write([trailer], last.byteLength - trailerBytes);
  last.summary = undefined;
}

/** The oldest segment goes: nothing in it is needed, and what took its place is synced. */
export function releaseOldest(store: SegmentStore): Promise<void> {
  const [oldest] = store.segments;
  assert(oldest !== undefined && oldest !== store.segments.at(-1), 'the last segment is written');
  assert(oldest.liveBytes === 0, 'what is needed was moved');
  store.segments.shift();
  return keepHouse(store, async () => {
    while (oldest.readerCount > 0) {
      await new Promise<void>((resolve) => {
        oldest.idle = resolve;
      });
    }
    await closeFile(store, oldest);
    const isKept = oldest.byteLength === store.segmentBytes && !(await hasSpare(store));
    if (isKept) await store.files.rename(segmentName(oldest.number), spareName);
    else await store.files.remove(segmentName(oldest.number));
    // Before a younger one goes: a gap would look like a lost file, and what was replaced would come back.
    await store.files.syncNames();
  });
}
