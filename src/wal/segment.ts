// The log store on segment files of our own, in plain TypeScript: one stream for all partitions of the node, one write and
// one sync for a batch, an index in memory that is built when the store is opened. What the files hold is decided in
// `segment-record.ts` and `segment-summary.ts`, how they are read again in `segment-open.ts`.

import { must, unreachable } from '../base/assert.ts';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import { decodeRun, encodeRuns, readRunHeader } from '../ports/run.ts';
import type {
  PartitionWrite,
  ReadRange,
  StoredPartition,
  Wal,
  WalBatch,
  WalContents,
} from '../ports/wal.ts';
import { type Entry, type LogIndex, payloadBytes } from '../raft/types.ts';
import { corrupt, decoded, missing } from './damage.ts';
import type { Files } from './files.ts';
import { directoryFiles, nodeFiles } from './node-files.ts';
import {
  decodeBase,
  encodeBase,
  encodeCompactionMark,
  encodeHardState,
  encodeMeta,
} from './record.ts';
import { type Cleaner, clean, newCleaner, noteMoved, planMoves } from './segment-cleaner.ts';
import { factValue, findStore, segmentName } from './segment-open.ts';
import {
  decodeFact,
  type EncodedBatch,
  encodeBatchRecords,
  encodeFact,
  recordBytes,
  StreamKind,
  type StreamRecord,
} from './segment-record.ts';
import {
  addRun,
  type PlacedRun,
  type PlacedRuns,
  positionOf,
  putRun,
  removeFrom,
  removeThrough,
  runAt,
} from './segment-runs.ts';
import {
  closeFile,
  fileOf,
  makeRoom,
  newStore,
  noteDead,
  noteLive,
  partitionOf,
  prepareAhead,
  readFrom,
  type SegmentPartition,
  type SegmentStore,
} from './segment-store.ts';
import { noteRecord } from './segment-summary.ts';
import { fileSnapshots } from './snapshot-files.ts';
import type { StoreFormat } from './store-directory.ts';
import { type StoreEvents, storeShell } from './store-shell.ts';
import { checkReadRange, dropsLog, emptyPartition, isEmptyWrite } from './stored-partition.ts';

export interface SegmentWalOptions {
  /** Directory of the store. It is made when it is missing; one process may have it open at a time. */
  readonly path: string;
  /** Bytes of a segment file: 65,536 … 1 GiB, default 16 MiB. A longer batch gets a longer file. */
  readonly segmentBytes?: number;
  /** Default: the directory `path` of the file system. */
  readonly files?: Files;
  /** Where snapshots lie. Default: the directory `snapshots` in `path`. */
  readonly snapshotFiles?: Files;
}

const segmentBytesDefault = 16_777_216;
const segmentBytesMin = 65_536;
const segmentBytesMax = 1_073_741_824;
export const segmentFormat: StoreFormat = { engine: 'segment', version: 1 };
/** Runs of one partition that lie so near to each other are read in one piece. */
const gapBytesMax = 4_096;
const pieceBytesMax = 1_048_576;
/** Runs that are read at one time. */
const runsMax = 64;

/**
 * Makes a log store on segment files; `open` opens it.
 *
 * A write and a short sync are done on the thread that asks, a longer sync in the thread pool (`node-files.ts`). On a disk
 * without room a write is DISK_FULL and changes nothing; after any other failure the store is WAL_FAILED for good.
 *
 * @throws INVALID_OPTION
 */
export function segmentWal(options: SegmentWalOptions): Wal {
  const { path, segmentBytes = segmentBytesDefault } = options;
  checkSegmentBytes(segmentBytes);
  const files = options.files ?? nodeFiles(path, segmentFormat);
  return storeShell<OpenStore>({
    path,
    snapshots: fileSnapshots(options.snapshotFiles ?? directoryFiles(path, 'snapshots')),
    async open(events) {
      const { segments, contents } = await openSegments(files, { path, segmentBytes });
      return { store: { segments, cleaner: newCleaner(), events }, contents };
    },
    stored: ({ segments }, partitionId) => segments.partitions.get(partitionId)?.stored,
    write,
    read: ({ segments }, range) => readEntries(segments, range),
    async close({ segments, cleaner }, isSound) {
      await cleaner.reading;
      await segments.preparing?.catch(() => {});
      await segments.housekeeping;
      try {
        if (isSound) await endInOrder(segments);
      } finally {
        // What counts is synced: nothing is lost when a file does not close.
        await Promise.allSettled(segments.segments.map((segment) => closeFile(segments, segment)));
        await files.release();
      }
    },
  });
}

interface OpenStore {
  readonly segments: SegmentStore;
  readonly cleaner: Cleaner;
  readonly events: StoreEvents;
}

async function write(
  { segments, cleaner, events }: OpenStore,
  batch: WalBatch,
  after: readonly StoredPartition[],
): Promise<number | undefined> {
  const records = recordsOf(segments, batch, after);
  let byteLength: number | undefined;
  if (records.length > 0) {
    byteLength = await append(segments, cleaner, records);
    noteStored(segments, after);
    prepareAhead(segments, (cause) => events.failed(cause));
  }
  if (batch.sync) {
    await sync(segments);
    byteLength ??= 0;
  }
  clean(segments, cleaner, events);
  return byteLength;
}

function checkSegmentBytes(segmentBytes: number): void {
  const isValid =
    Number.isSafeInteger(segmentBytes) &&
    segmentBytes >= segmentBytesMin &&
    segmentBytes <= segmentBytesMax;
  if (isValid) return;
  throw new KommanderError(
    `option segmentBytes is ${segmentBytes}; it is a whole number from ${segmentBytesMin} to ${segmentBytesMax}`,
    { code: 'INVALID_OPTION', details: { option: 'segmentBytes' } },
  );
}

async function openSegments(
  files: Files,
  options: { readonly path: string; readonly segmentBytes: number },
): Promise<{ readonly segments: SegmentStore; readonly contents: WalContents }> {
  await files.claim();
  try {
    const found = await findStore(files);
    const meta = new Map<string, Uint8Array>();
    for (const [name, fact] of found.facts) meta.set(name, factValue(name, fact));
    const store = newStore(files, found, options);
    // A process that was killed left in the page cache what it had not synced. From here on it counts as synced.
    await sync(store);
    await files.syncNames();
    const partitions = found.partitions.map(({ stored }) => stored);
    return { segments: store, contents: { partitions, meta } };
  } catch (error) {
    await files.release();
    throw error;
  }
}

function noteStored(store: SegmentStore, after: readonly StoredPartition[]): void {
  // A batch may have several parts of one partition: the last one says what is stored.
  const last = new Map(after.map((stored) => [stored.partitionId, stored]));
  for (const stored of last.values()) {
    const { partitionId, compactedIndex: throughIndex, lastIndex } = stored;
    const partition = store.partitions.get(partitionId);
    // A part without content makes no partition.
    if (partition === undefined) continue;
    partition.stored = stored;
    noteDead(store, removeThrough(partition.runs, { throughIndex, lastIndex }));
  }
}

/** The records of a batch, in its order. */
function recordsOf(
  store: SegmentStore,
  batch: WalBatch,
  after: readonly StoredPartition[],
): StreamRecord[] {
  const records: StreamRecord[] = [];
  const pending = new Map<number, StoredPartition>();
  for (let i = 0; i < batch.writes.length; i++) {
    const part = batch.writes[i] as PartitionWrite;
    if (isEmptyWrite(part)) continue;
    const { partitionId, hardState, base } = part;
    const before =
      pending.get(partitionId) ??
      store.partitions.get(partitionId)?.stored ??
      emptyPartition(partitionId);
    const then = after[i] as StoredPartition;
    pending.set(partitionId, then);
    if (hardState !== undefined) {
      records.push({ kind: StreamKind.hardState, partitionId, body: encodeHardState(hardState) });
    }
    if (base !== undefined) {
      const body = encodeBase(base);
      records.push({ kind: StreamKind.base, partitionId, body, dropsLog: dropsLog(before, part) });
    }
    if (part.entries.length > 0) {
      for (const body of encodeRuns(part.entries)) {
        records.push({ kind: StreamKind.run, partitionId, body });
      }
    }
    if (part.compactThroughIndex !== undefined && then.compactedIndex !== before.compactedIndex) {
      const mark = { index: then.compactedIndex, term: then.compactedTerm };
      records.push({ kind: StreamKind.compaction, partitionId, body: encodeCompactionMark(mark) });
    }
  }
  for (const [name, value] of batch.meta) {
    const record = value === undefined ? undefined : encodeMeta(value);
    records.push({ kind: StreamKind.fact, partitionId: 0, body: encodeFact(name, record) });
  }
  return records;
}

/** @returns bytes written @throws DISK_FULL before anything was changed */
async function append(
  store: SegmentStore,
  cleaner: Cleaner,
  batch: readonly StreamRecord[],
): Promise<number> {
  const batchBytes = bytesOf(batch);
  const moves = planMoves(store, cleaner, batchBytes);
  const movedBytes = bytesOf(moves.records);
  const isMoving = movedBytes === 0 || (await hasRoom(store, movedBytes + batchBytes));
  await makeRoom(store, batchBytes);
  const records = isMoving && movedBytes > 0 ? [...moves.records, ...batch] : batch;
  const encoded = await appendRecords(store, records);
  if (isMoving) noteMoved(store, cleaner, moves);
  return encoded.byteLength;
}

/** What could wait must not be why a batch is refused. */
async function hasRoom(store: SegmentStore, byteLength: number): Promise<boolean> {
  try {
    await makeRoom(store, byteLength);
    return true;
  } catch (error) {
    if (isKommanderError(error, 'DISK_FULL')) return false;
    throw error;
  }
}

/** Writes records as the next batch. There is room for them. */
async function appendRecords(
  store: SegmentStore,
  records: readonly StreamRecord[],
): Promise<EncodedBatch> {
  const segment = must(store.segments.at(-1), 'there is room in a segment');
  const { endOffset, lastCrc, lastBatch, syncedBatch } = store;
  const place = { segmentNumber: segment.number, batchNumber: lastBatch + 1, syncedBatch };
  const encoded = encodeBatchRecords(records, place, lastCrc);
  const file = await fileOf(store, segment);
  await file.write(encoded.parts, endOffset);
  store.endOffset = endOffset + encoded.byteLength;
  store.lastCrc = encoded.lastCrc;
  store.lastBatch = place.batchNumber;
  const summary = must(segment.summary, 'what is written has a summary');
  for (let i = 0; i < records.length; i++) {
    const record = records[i] as StreamRecord;
    const offset = endOffset + (encoded.bodyOffsets[i] as number);
    const { kind, partitionId, body, dropsLog = false, isMoved = false } = record;
    noteRecord(summary, { kind, partitionId, dropsLog, isMoved, bodyOffset: offset }, body);
    noteRecordPlace(store, record, { segmentNumber: segment.number, offset });
  }
  return encoded;
}

function bytesOf(records: readonly StreamRecord[]): number {
  let bytes = 0;
  for (const { body } of records) bytes += recordBytes(body.byteLength);
  return bytes;
}

/** Moves the index in memory to what is in the file now. */
function noteRecordPlace(
  store: SegmentStore,
  record: StreamRecord,
  place: { readonly segmentNumber: number; readonly offset: number },
): void {
  const { kind, partitionId, body } = record;
  const { segmentNumber } = place;
  if (kind === StreamKind.closed) return;
  if (kind === StreamKind.fact) {
    const { name, value } = decodeFact(body);
    if (value === undefined) store.facts.delete(name);
    else store.facts.set(name, { record: value, segmentNumber });
    return;
  }
  const partition = partitionOf(store, partitionId);
  switch (kind) {
    case StreamKind.hardState:
      partition.hardStateAt = segmentNumber;
      return;
    case StreamKind.compaction:
      partition.compactionAt = segmentNumber;
      return;
    case StreamKind.base: {
      const { index, term } = decodeBase(body);
      partition.base = { index, term, byteLength: body.byteLength, ...place };
      if (record.dropsLog !== true) return;
      partition.compactionAt = segmentNumber;
      noteDead(store, removeFrom(partition.runs, 0));
      return;
    }
    case StreamKind.run:
      noteRunPlace(store, partition, record, place);
      return;
    default:
      unreachable(kind);
  }
}

function noteRunPlace(
  store: SegmentStore,
  { runs }: SegmentPartition,
  { body, isMoved }: StreamRecord,
  place: { readonly segmentNumber: number; readonly offset: number },
): void {
  const { firstIndex } = readRunHeader(body);
  const run: PlacedRun = { firstIndex, byteLength: body.byteLength, ...place };
  noteLive(store, run);
  if (isMoved === true) {
    noteDead(store, [must(putRun(runs, run), 'a copy is made of a run that is needed')]);
    return;
  }
  noteDead(store, removeFrom(runs, firstIndex));
  addRun(runs, run);
}

async function sync(store: SegmentStore): Promise<void> {
  const last = store.segments.at(-1);
  if (last === undefined) return;
  await (await fileOf(store, last)).sync();
  store.syncedBatch = store.lastBatch;
}

/** Says that all of it was synced: what is damaged later on cannot pass for torn. */
async function endInOrder(store: SegmentStore): Promise<void> {
  if (store.segments.length === 0) return;
  if (store.syncedBatch < store.lastBatch) await sync(store);
  if (store.isSealed) return;
  const end: StreamRecord = { kind: StreamKind.closed, partitionId: 0, body: new Uint8Array(0) };
  const segment = must(store.segments.at(-1), 'there is a segment');
  if (store.endOffset + recordBytes(0) > segment.byteLength) return;
  await appendRecords(store, [end]);
  await sync(store);
}

/** Reads from the run that holds `fromIndex` on. */
async function readEntries(store: SegmentStore, range: ReadRange): Promise<Entry[]> {
  const { partitionId, endIndex, bytesMax } = range;
  const partition = store.partitions.get(partitionId);
  checkReadRange(partition?.stored, range);
  const { runs } = must(partition, 'a checked range is of a stored partition');
  const entries: Entry[] = [];
  let bytes = 0;
  let nextIndex = range.fromIndex;
  while (nextIndex < endIndex) {
    const wanted = runsFrom(runs, { nextIndex, endIndex, bytesMax: bytesMax - bytes });
    if (wanted.length === 0) throw missing(partitionId, nextIndex);
    const read = await Promise.all(piecesOf(wanted).map((piece) => readPiece(store, piece)));
    for (const { run, bytes: runBytes } of read.flat()) {
      for (const entry of decodedEntries(partitionId, run, runBytes)) {
        if (entry.index < nextIndex) continue;
        if (entry.index === endIndex) return entries;
        // Behind the place where a later run begins, what this one has was replaced.
        if (entry.index >= run.endIndex) break;
        if (entry.index > nextIndex) throw missing(partitionId, nextIndex);
        bytes += payloadBytes(entry);
        if (bytes > bytesMax && entries.length > 0) return entries;
        entries.push(entry);
        nextIndex += 1;
      }
      if (nextIndex < Math.min(run.endIndex, endIndex)) throw missing(partitionId, nextIndex);
    }
  }
  return entries;
}

/** A run, and the index at which the next one begins. */
interface WantedRun extends PlacedRun {
  readonly endIndex: LogIndex;
}

/** Runs from the one that holds `nextIndex` on, about as many as are needed. Copied: the lists may change. */
function runsFrom(
  runs: PlacedRuns,
  need: { readonly nextIndex: LogIndex; readonly endIndex: LogIndex; readonly bytesMax: number },
): WantedRun[] {
  const wanted: WantedRun[] = [];
  let bytes = 0;
  for (let position = positionOf(runs, need.nextIndex); ; position++) {
    const run = runAt(runs, position);
    if (run === undefined || run.firstIndex >= need.endIndex) return wanted;
    const endIndex = runAt(runs, position + 1)?.firstIndex ?? need.endIndex;
    wanted.push({ ...run, endIndex });
    bytes += run.byteLength;
    if (bytes > need.bytesMax || wanted.length >= runsMax) return wanted;
  }
}

/** Puts runs together that lie near to each other. */
function piecesOf(wanted: readonly WantedRun[]): WantedRun[][] {
  const pieces: WantedRun[][] = [];
  for (const run of wanted) {
    const piece = pieces.at(-1);
    const first = piece?.[0];
    const last = piece?.at(-1);
    const isNear =
      first !== undefined &&
      last !== undefined &&
      last.segmentNumber === run.segmentNumber &&
      run.offset >= last.offset + last.byteLength &&
      run.offset <= last.offset + last.byteLength + gapBytesMax &&
      run.offset + run.byteLength <= first.offset + pieceBytesMax;
    if (isNear) piece?.push(run);
    else pieces.push([run]);
  }
  return pieces;
}

async function readPiece(
  store: SegmentStore,
  piece: readonly WantedRun[],
): Promise<{ readonly run: WantedRun; readonly bytes: Uint8Array }[]> {
  const first = must(piece[0], 'a piece has a run');
  const last = must(piece.at(-1), 'a piece has a run');
  const byteLength = last.offset + last.byteLength - first.offset;
  const bytes = await readFrom(store, first.segmentNumber, { position: first.offset, byteLength });
  return piece.map((run) => {
    const from = run.offset - first.offset;
    return { run, bytes: bytes.subarray(from, from + run.byteLength) };
  });
}

function decodedEntries(partitionId: number, run: WantedRun, bytes: Uint8Array): Entry[] {
  const { firstIndex: index, segmentNumber, offset } = run;
  const where = { partitionId, index, record: 'run', file: segmentName(segmentNumber), offset };
  const entries = decoded(where, () => decodeRun(bytes));
  if (entries[0]?.index !== index) throw corrupt(`run of index ${entries[0]?.index}`, where);
  return entries;
}
