// What keeps the disk from filling with segments that are needed for a little. When more is dead than alive, what lives
// in the oldest segment is written again at the end of the stream, a portion with each batch that is written anyway,
// and the segment goes. So a partition that lags, or is never written, does not pin the disk.

import { must } from '../base/assert.ts';
import { isKommanderError } from '../base/errors.ts';
import { decodeRun } from '../ports/run.ts';
import type { PartitionId, WalEvents } from '../ports/wal.ts';
import { decoded } from './damage.ts';
import { decodeBase, encodeCompactionMark, encodeHardState } from './record.ts';
import { segmentName } from './segment-open.ts';
import { encodeFact, recordBytes, StreamKind, type StreamRecord } from './segment-record.ts';
import { positionOf, runAt, runCount } from './segment-runs.ts';
import { readFrom, releaseOldest, type Segment, type SegmentStore } from './segment-store.ts';

/** Segments of garbage that are kept in any case. */
const deadSegmentsMax = 2;
/** Bytes that are moved with one batch: so many, or as many again as the batch has. */
const movedBytesMin = 65_536;
const movedBytesMax = 1_048_576;

/** A run or a base of the victim. */
interface Survivor {
  readonly kind: typeof StreamKind.run | typeof StreamKind.base;
  readonly partitionId: PartitionId;
  /** First index of the run, or the base's. */
  readonly index: number;
  readonly offset: number;
  readonly byteLength: number;
}

interface Move {
  readonly survivor: Survivor;
  readonly bytes: Uint8Array;
}

export interface Cleaner {
  /** The oldest segment while it is being emptied. */
  victim: Segment | undefined;
  /** What was alive in it when it was looked through, and is not read yet: runs from the last to the first, which goes next. */
  waiting: Survivor[];
  /** The last of those waiting, when it is damaged: a copy would hide that. The victim stays until nobody needs it. */
  damaged: Survivor | undefined;
  /** What was read. */
  moves: Move[];
  /** Something is being read. */
  reading: Promise<void> | undefined;
  /** The batch with the last of what was moved: once it is synced, the victim goes. */
  emptyAtBatch: number | undefined;
}

export function newCleaner(): Cleaner {
  return {
    victim: undefined,
    waiting: [],
    damaged: undefined,
    moves: [],
    reading: undefined,
    emptyAtBatch: undefined,
  };
}

export interface CleanerEvents extends WalEvents {
  /** A read or a change of the directory failed. */
  failed(cause: unknown): void;
}

/** Goes on after a batch. */
export function clean(store: SegmentStore, cleaner: Cleaner, events: CleanerEvents): void {
  const { emptyAtBatch } = cleaner;
  if (emptyAtBatch !== undefined && emptyAtBatch <= store.syncedBatch) {
    releaseOldest(store).catch((cause: unknown) => events.failed(cause));
    cleaner.victim = undefined;
    cleaner.emptyAtBatch = undefined;
  }
  if (cleaner.victim === undefined) {
    if (!isWorthCleaning(store)) return;
    const victim = must(store.segments[0], 'a store that is worth cleaning has segments');
    cleaner.victim = victim;
    cleaner.waiting = survivorsOf(store, victim.number);
  }
  const isIdle = cleaner.reading === undefined && cleaner.moves.length === 0;
  if (!isIdle || cleaner.waiting.length === 0 || isHeldUp(store, cleaner)) return;
  cleaner.reading = readPortion(store, cleaner, events)
    .catch((cause: unknown) => events.failed(cause))
    .finally(() => {
      cleaner.reading = undefined;
    });
}

/** Whether what is damaged is still needed. */
function isHeldUp(store: SegmentStore, cleaner: Cleaner): boolean {
  const { damaged, victim } = cleaner;
  if (damaged === undefined || victim === undefined) return false;
  if (isAlive(store, damaged, victim.number)) return true;
  cleaner.damaged = undefined;
  return false;
}

function isWorthCleaning({ segments, segmentBytes }: SegmentStore): boolean {
  const [oldest] = segments;
  if (oldest === undefined || segments.length < 2) return false;
  if (oldest.liveBytes === 0) return true;
  let live = 0;
  let total = 0;
  for (const segment of segments) {
    live += segment.liveBytes;
    total += segment.byteLength;
  }
  return total - live > live + (deadSegmentsMax + 1) * segmentBytes;
}

function survivorsOf(store: SegmentStore, segmentNumber: number): Survivor[] {
  const survivors: Survivor[] = [];
  for (const [partitionId, { runs, base }] of store.partitions) {
    if (base?.segmentNumber === segmentNumber) {
      survivors.push({ kind: StreamKind.base, partitionId, ...base });
    }
    for (let position = 0; position < runCount(runs); position++) {
      if (runs.segmentNumbers[runs.head + position] !== segmentNumber) continue;
      const { firstIndex: index, ...place } = must(runAt(runs, position), 'it is counted');
      survivors.push({ kind: StreamKind.run, partitionId, index, ...place });
    }
  }
  // They are taken from the end: copies in the order of the log are added to the summaries of segments, not put in between.
  return survivors.reverse();
}

async function readPortion(
  store: SegmentStore,
  cleaner: Cleaner,
  events: WalEvents,
): Promise<void> {
  const { number } = must(cleaner.victim, 'something is being emptied');
  let bytes = 0;
  while (cleaner.waiting.length > 0 && bytes < movedBytesMax) {
    const survivor = must(cleaner.waiting.pop(), 'there is one');
    if (!isAlive(store, survivor, number)) continue;
    const { partitionId, offset, byteLength } = survivor;
    const read = await readFrom(store, number, { position: offset, byteLength });
    try {
      checkSurvivor(survivor, read, segmentName(number));
    } catch (error) {
      if (!isKommanderError(error, 'WAL_CORRUPT')) throw error;
      cleaner.waiting.push(survivor);
      cleaner.damaged = survivor;
      events.damaged(partitionId, error);
      return;
    }
    cleaner.moves.push({ survivor, bytes: read });
    bytes += byteLength;
  }
}

/** Damage must not travel: a copy has a record around it whose checksum is right. @throws WAL_CORRUPT */
function checkSurvivor(survivor: Survivor, bytes: Uint8Array, file: string): void {
  const { kind, partitionId, index, offset } = survivor;
  const isRun = kind === StreamKind.run;
  const where = { partitionId, index, record: isRun ? 'run' : 'base', file, offset };
  decoded(where, () => (isRun ? decodeRun(bytes) : decodeBase(bytes)));
}

/** Live records that go with a batch, before it in the stream. */
export interface PlannedMoves {
  readonly records: readonly StreamRecord[];
  /** How many of the cleaner's moves are done, or were not needed any more. */
  readonly doneCount: number;
  /** Nothing of the victim is needed once they are written. */
  readonly isLast: boolean;
}

const noMoves: PlannedMoves = { records: [], doneCount: 0, isLast: false };

/** The portion for a batch of `batchBytes`. Nothing is changed: the batch may find no room. */
export function planMoves(store: SegmentStore, cleaner: Cleaner, batchBytes: number): PlannedMoves {
  const { victim } = cleaner;
  if (victim === undefined || cleaner.reading !== undefined) return noMoves;
  if (cleaner.emptyAtBatch !== undefined) return noMoves;
  const budget = Math.min(Math.max(movedBytesMin, batchBytes), movedBytesMax);
  const records: StreamRecord[] = [];
  let bytes = 0;
  let doneCount = 0;
  const add = (record: StreamRecord): void => {
    records.push(record);
    bytes += recordBytes(record.body.byteLength);
  };
  for (const { survivor, bytes: body } of cleaner.moves) {
    if (bytes >= budget) return { records, doneCount, isLast: false };
    doneCount += 1;
    const { kind, partitionId } = survivor;
    if (!isAlive(store, survivor, victim.number)) continue;
    add({ kind, partitionId, body, isMoved: kind === StreamKind.run });
  }
  if (cleaner.waiting.length > 0) return { records, doneCount, isLast: false };
  for (const record of pinnedRecords(store, victim.number)) {
    if (bytes >= budget) return { records, doneCount, isLast: false };
    add(record);
  }
  return { records, doneCount, isLast: true };
}

/** They were written, with the batch that is now the last one. */
export function noteMoved(store: SegmentStore, cleaner: Cleaner, planned: PlannedMoves): void {
  cleaner.moves.splice(0, planned.doneCount);
  if (planned.isLast) cleaner.emptyAtBatch = store.lastBatch;
}

function isAlive(store: SegmentStore, survivor: Survivor, segmentNumber: number): boolean {
  const { kind, partitionId, index, offset } = survivor;
  const partition = must(store.partitions.get(partitionId), 'partitions stay');
  const { runs } = partition;
  const place = kind === StreamKind.base ? partition.base : runAt(runs, positionOf(runs, index));
  return place?.segmentNumber === segmentNumber && place.offset === offset;
}

/** The newest hard states, marks and facts that only this segment has. */
function* pinnedRecords(store: SegmentStore, segmentNumber: number): Iterable<StreamRecord> {
  for (const [name, { record, segmentNumber: at }] of store.facts) {
    if (at !== segmentNumber) continue;
    yield { kind: StreamKind.fact, partitionId: 0, body: encodeFact(name, record) };
  }
  for (const [partitionId, { stored, hardStateAt, compactionAt }] of store.partitions) {
    if (hardStateAt === segmentNumber) {
      yield { kind: StreamKind.hardState, partitionId, body: encodeHardState(stored.hardState) };
    }
    if (compactionAt === segmentNumber) {
      const mark = { index: stored.compactedIndex, term: stored.compactedTerm };
      yield { kind: StreamKind.compaction, partitionId, body: encodeCompactionMark(mark) };
    }
  }
}
