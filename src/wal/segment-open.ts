// Opening the segments of a store: their summaries are taken in order, from footers where they can be believed, else
// from the records; what was torn at the end is cut, what is damaged before the end is WAL_CORRUPT. What this writes is
// only the cut: zeros over records that nobody was promised, so that no later opening takes them for new ones.

import { crc32 } from 'node:zlib';
import { must } from '../base/assert.ts';
import { ByteReader, MalformedBytesError } from '../base/bytes.ts';
import type { LogBase, PartitionId, StoredPartition } from '../ports/wal.ts';
import { emptyHardState, type HardState, type LogIndex, type TermRun } from '../raft/types.ts';
import { corrupt, decoded, missing } from './damage.ts';
import type { Files, StoredFile } from './files.ts';
import { type CompactionMark, decodeBase, decodeMeta } from './record.ts';
import { addRun, noRuns, type PlacedRuns } from './segment-runs.ts';
import { type ChainEnd, leftoversIn, lostBatch, scanSegment } from './segment-scan.ts';
import {
  decodeFooter,
  type PartitionSummary,
  placeOf,
  readTrailer,
  type SegmentEnd,
  type SegmentSummary,
  type SummaryBase,
  type SummaryRun,
  trailerBytes,
} from './segment-summary.ts';
import { emptyPartition } from './stored-partition.ts';

/** Names of segments. */
export const namePattern: RegExp = /^(\d{10})\.segment$/;

/** Of the segment that a new store begins with. */
export const firstNumber = 1;

export function segmentName(number: number): string {
  return `${String(number).padStart(10, '0')}.segment`;
}

/** A segment that holds records. */
export interface FoundSegment extends SegmentEnd {
  readonly number: number;
  readonly byteLength: number;
  readonly summary: SegmentSummary;
  /** Where records can be added; undefined when a footer closes the segment. */
  readonly endOffset: number | undefined;
}

/** What a partition has, and in which segments. */
export interface FoundPartition {
  readonly stored: StoredPartition;
  readonly runs: PlacedRuns;
  /** Numbers of the segments with the newest records; undefined where there is none. */
  readonly hardStateAt: number | undefined;
  readonly base: PlacedBase | undefined;
  readonly compactionAt: number | undefined;
}

/** The newest record of a base. */
export interface PlacedBase extends SummaryBase {
  readonly segmentNumber: number;
}

export interface PlacedFact {
  /** The record of the value. */
  readonly record: Uint8Array;
  readonly segmentNumber: number;
}

export interface FoundStore {
  /** Oldest first, without gaps. */
  readonly segments: readonly FoundSegment[];
  /** A segment without records behind them that can be used next. */
  readonly prepared: { readonly number: number; readonly byteLength: number } | undefined;
  /** Ascending by id. */
  readonly partitions: readonly FoundPartition[];
  readonly facts: ReadonlyMap<string, PlacedFact>;
}

/** Reads what the files hold. @throws WAL_CORRUPT */
export async function findStore(files: Files): Promise<FoundStore> {
  const listed = await listSegments(files);
  const { segments, empty } = await readSegments(files, listed);
  const partitions = new Map<PartitionId, GatheredPartition>();
  const facts = new Map<string, PlacedFact>();
  for (const segment of segments) gather(partitions, facts, segment);
  const found: FoundPartition[] = [];
  for (const partition of partitions.values()) found.push(await finish(files, partition));
  found.sort((a, b) => a.stored.partitionId - b.stored.partitionId);
  return { segments, prepared: empty, partitions: found, facts };
}

interface ListedSegment {
  readonly number: number;
  readonly name: string;
  readonly byteLength: number;
}

async function listSegments(files: Files): Promise<readonly ListedSegment[]> {
  const listed: ListedSegment[] = [];
  for (const { name, byteLength } of await files.list()) {
    const match = namePattern.exec(name);
    if (match !== null) listed.push({ number: Number(match[1]), name, byteLength });
  }
  listed.sort((a, b) => a.number - b.number);
  for (let i = 1; i < listed.length; i++) {
    const number = must(listed[i - 1], 'there is one before').number + 1;
    if (listed[i]?.number !== number)
      throw corrupt('a file is missing', { file: segmentName(number) });
  }
  return listed;
}

/** Where the joined records end although more stand behind them. */
interface Break {
  readonly segment: ListedSegment;
  readonly offset: number;
  /** Number of the batch that should be there. */
  readonly batch: number;
}

async function readSegments(
  files: Files,
  listed: readonly ListedSegment[],
): Promise<{ readonly segments: FoundSegment[]; readonly empty: FoundStore['prepared'] }> {
  const segments: FoundSegment[] = [];
  let before: ChainEnd = { crc: undefined, batch: undefined };
  let broken: Break | undefined;
  const doubtful: {
    readonly segment: ListedSegment;
    readonly from: number;
    readonly end: number;
  }[] = [];
  let empty: FoundStore['prepared'];
  const surplus: ListedSegment[] = [];
  for (const segment of listed) {
    const file = await files.open(segment.name, { create: false });
    try {
      const sealed = broken === undefined ? await readSealed(file, segment, before) : undefined;
      if (sealed !== undefined) {
        segments.push(sealed);
        before = { crc: sealed.lastCrc, batch: sealed.lastBatch };
        continue;
      }
      const bytes = await file.read({ position: 0, byteLength: segment.byteLength });
      const scanned = broken === undefined ? scanSegment(bytes, { ...segment, before }) : undefined;
      const offset = scanned?.endOffset ?? 0;
      if (scanned !== undefined && offset > 0) {
        const { number, byteLength } = segment;
        segments.push({ number, byteLength, ...scanned });
        before = { crc: scanned.lastCrc, batch: scanned.lastBatch };
      } else if (empty === undefined) {
        empty = { number: segment.number, byteLength: segment.byteLength };
        // Nothing is written behind a segment without records. The oldest one has none in front that would tell.
        broken ??= { segment, offset, batch: (before.batch ?? 0) + 1 };
      } else {
        surplus.push(segment);
      }
      const { syncedBatch, endOffset } = leftoversIn(bytes, offset, segment.number);
      if (endOffset === offset) continue;
      broken ??= { segment, offset, batch: (before.batch ?? 0) + 1 };
      doubtful.push({ segment, from: offset, end: endOffset });
      if (syncedBatch < broken.batch) continue;
      throw await damageAt(files, broken);
    } finally {
      await file.close();
    }
  }
  checkEnd(listed, segments, empty);
  for (const torn of doubtful) await cut(files, torn);
  // The youngest first: there is never a gap.
  for (const { name } of surplus.reverse()) {
    await files.remove(name);
    await files.syncNames();
  }
  return { segments, empty };
}

/** The next file is there before a footer is written, and older files go only when a younger one has records. */
function checkEnd(
  listed: readonly ListedSegment[],
  segments: readonly FoundSegment[],
  empty: FoundStore['prepared'],
): void {
  const last = segments.at(-1);
  if (last !== undefined && last.endOffset === undefined && empty === undefined)
    throw corrupt('a file is missing', { file: segmentName(last.number + 1) });
  const [oldest] = listed;
  if (last === undefined && oldest !== undefined && oldest.number > firstNumber)
    throw corrupt('the records are gone', { file: oldest.name });
}

async function damageAt(files: Files, { segment, offset }: Break): Promise<Error> {
  const { number, name, byteLength } = segment;
  const file = await files.open(name, { create: false });
  try {
    return lostBatch(await file.read({ position: 0, byteLength }), { number, name, offset });
  } finally {
    await file.close();
  }
}

const zerosBytesMax = 1_048_576;

/** Nobody was promised what stands there. */
async function cut(
  files: Files,
  torn: { readonly segment: ListedSegment; readonly from: number; readonly end: number },
): Promise<void> {
  const file = await files.open(torn.segment.name, { create: false });
  try {
    for (let at = torn.from; at < torn.end; at += zerosBytesMax) {
      await file.write([new Uint8Array(Math.min(zerosBytesMax, torn.end - at))], at);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Bytes of a record's header that say what it joins. */
const joinBytes = { from: 8, end: 20 } as const;

/**
 * The segment by its footer: when that is whole, and when the first record joins what is before. A footer is written
 * only once all records before it are synced.
 */
async function readSealed(
  file: StoredFile,
  segment: ListedSegment,
  before: ChainEnd,
): Promise<FoundSegment | undefined> {
  const { number, byteLength } = segment;
  if (byteLength < trailerBytes) return undefined;
  const position = byteLength - trailerBytes;
  const trailer = readTrailer(await file.read({ position, byteLength: trailerBytes }), number);
  if (trailer === undefined || trailer.offset + trailer.byteLength > position) return undefined;
  const head = new ByteReader(
    await file.read({ position: 0, byteLength: joinBytes.end }),
    joinBytes.from,
  );
  const isOfSegment = head.uint32() === number;
  head.skip(4);
  if (!isOfSegment || (before.crc !== undefined && head.uint32() !== before.crc)) return undefined;
  const body = await file.read({ position: trailer.offset, byteLength: trailer.byteLength });
  if (crc32(body) !== trailer.crc) return undefined;
  const { lastCrc, lastBatch } = trailer;
  try {
    const summary = decodeFooter(body, trailer.offset);
    return { number, byteLength, summary, endOffset: undefined, lastCrc, lastBatch };
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}

export interface GatheredRun extends SummaryRun {
  readonly segmentNumber: number;
}

/** A partition while the segments come in. */
export interface GatheredPartition {
  readonly partitionId: PartitionId;
  hardState: HardState;
  hardStateAt: number | undefined;
  base: PlacedBase | undefined;
  compaction: CompactionMark;
  compactionAt: number | undefined;
  /** Ascending; with gaps while copies of runs whose segments are gone are still to come. */
  runs: GatheredRun[];
}

/** Takes what the next segment changes. */
export function gather(
  partitions: Map<PartitionId, GatheredPartition>,
  facts: Map<string, PlacedFact>,
  { number, summary }: Pick<FoundSegment, 'number' | 'summary'>,
): void {
  for (const [name, record] of summary.facts) {
    if (record === undefined) facts.delete(name);
    else facts.set(name, { record: record.slice(), segmentNumber: number });
  }
  for (const [partitionId, changes] of summary.partitions) {
    const known = partitions.get(partitionId);
    const partition = known ?? nothingOf(partitionId);
    if (known === undefined) partitions.set(partitionId, partition);
    change(partition, changes, number);
  }
}

function nothingOf(partitionId: PartitionId): GatheredPartition {
  return {
    partitionId,
    hardState: emptyHardState,
    hardStateAt: undefined,
    base: undefined,
    compaction: { index: 0, term: 0 },
    compactionAt: undefined,
    runs: [],
  };
}

function change(
  partition: GatheredPartition,
  changes: PartitionSummary,
  segmentNumber: number,
): void {
  const { hardState, base, dropped, compaction, cutIndex, moved, runs } = changes;
  if (hardState !== undefined) {
    partition.hardState = hardState;
    partition.hardStateAt = segmentNumber;
  }
  if (base !== undefined) partition.base = { ...base, segmentNumber };
  if (dropped !== undefined) partition.runs = [];
  const mark = compaction ?? dropped;
  if (mark !== undefined) {
    partition.compaction = mark;
    partition.compactionAt = segmentNumber;
  }
  if (cutIndex > 0) partition.runs.length = placeOf(partition.runs, cutIndex);
  if (moved.length > 0) partition.runs = withMoved(partition.runs, moved, segmentNumber);
  for (const run of runs) partition.runs.push({ ...run, segmentNumber });
}

/** Both in order; a copy takes the place of what begins where it does. In one pass: there may be many of both. */
function withMoved(
  runs: readonly GatheredRun[],
  moved: readonly SummaryRun[],
  segmentNumber: number,
): GatheredRun[] {
  const merged: GatheredRun[] = [];
  let at = 0;
  for (const run of moved) {
    for (; at < runs.length; at++) {
      const kept = runs[at] as GatheredRun;
      if (kept.firstIndex >= run.firstIndex) break;
      merged.push(kept);
    }
    if (runs[at]?.firstIndex === run.firstIndex) at += 1;
    merged.push({ ...run, segmentNumber });
  }
  for (; at < runs.length; at++) merged.push(runs[at] as GatheredRun);
  return merged;
}

async function finish(files: Files, partition: GatheredPartition): Promise<FoundPartition> {
  const { partitionId, hardState, hardStateAt, compaction, compactionAt } = partition;
  const { runs, lastIndex, termRuns } = joinedRuns(partition);
  const empty = emptyPartition(partitionId);
  const base =
    partition.base === undefined ? empty.base : await readBase(files, partitionId, partition.base);
  if (base.index < compaction.index) {
    throw corrupt('base below the compaction mark', { partitionId, index: base.index });
  }
  if (base.index > lastIndex) throw missing(partitionId, lastIndex + 1);
  return {
    stored: {
      partitionId,
      hardState,
      base,
      compactedIndex: compaction.index,
      compactedTerm: compaction.term,
      lastIndex,
      termRuns,
    },
    runs,
    hardStateAt,
    base: partition.base,
    compactionAt,
  };
}

/**
 * The index behind the run's last entry that was not replaced; 0 when nothing of it is above the compaction mark.
 *
 * Entries are replaced where the next run begins. That one is gone when it was compacted, and a copy of this one may still
 * be there, with what was replaced at its end: then its term is below the mark's, which no run has that goes on above it.
 */
export function liveEnd(
  run: GatheredRun,
  around: { readonly next: GatheredRun | undefined; readonly compaction: CompactionMark },
): LogIndex {
  const { next, compaction } = around;
  if (run.firstIndex <= compaction.index && run.term < compaction.term) return 0;
  const ownEnd = run.firstIndex + run.entryCount;
  return Math.min(ownEnd, next?.firstIndex ?? ownEnd);
}

/** The runs above the compaction mark, which must follow each other. */
function joinedRuns({ partitionId, compaction, runs }: GatheredPartition): {
  readonly runs: PlacedRuns;
  readonly lastIndex: LogIndex;
  readonly termRuns: readonly TermRun[];
} {
  const placed = noRuns();
  const termRuns: TermRun[] = [];
  let lastIndex = compaction.index;
  let lastTerm = compaction.term;
  for (let i = 0; i < runs.length; i++) {
    const run = runs[i] as GatheredRun;
    const endIndex = liveEnd(run, { next: runs[i + 1], compaction });
    if (endIndex <= compaction.index + 1) continue;
    if (run.firstIndex > lastIndex + 1) throw missing(partitionId, lastIndex + 1);
    if (run.term < lastTerm) {
      throw corrupt(`term falls to ${run.term}`, { partitionId, index: run.firstIndex });
    }
    if (run.term !== termRuns.at(-1)?.term) {
      const firstIndex = Math.max(run.firstIndex, compaction.index + 1);
      termRuns.push({ firstIndex, term: run.term });
    }
    addRun(placed, run);
    lastIndex = endIndex - 1;
    lastTerm = run.term;
  }
  return { runs: placed, lastIndex, termRuns };
}

/** The base from its record. @throws WAL_CORRUPT */
async function readBase(
  files: Files,
  partitionId: PartitionId,
  base: PlacedBase,
): Promise<LogBase> {
  const { segmentNumber, offset, byteLength, index } = base;
  const name = segmentName(segmentNumber);
  const file = await files.open(name, { create: false });
  try {
    const bytes = await file.read({ position: offset, byteLength });
    const where = { partitionId, index, record: 'base', file: name, offset };
    const read = decoded(where, () => decodeBase(bytes));
    if (read.index !== index) throw corrupt(`base of index ${read.index}`, where);
    return read;
  } finally {
    await file.close();
  }
}

/** The value of a fact. @throws WAL_CORRUPT */
export function factValue(name: string, { record, segmentNumber }: PlacedFact): Uint8Array {
  const file = segmentName(segmentNumber);
  return decoded({ record: `fact ${name}`, file }, () => decodeMeta(record));
}
