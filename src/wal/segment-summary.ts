// What one segment changes in the partitions and facts of the store, as the net effect of its records. It grows while
// the segment is written, stands in the segment's footer when it is full, and is gathered from the records of one that
// has no footer: opening the store takes the summaries in the order of their segments, whichever way they came.
//
// Body of a footer: everything below as varints, lists with their length first, but the checksums u32. The last 32 bytes of
// the file say where it is: offset of the body u32, its bytes u32, segment number u32, CRC-32 of the body u32, CRC-32
// of the last record u32, number of the last batch u53, CRC-32 of all that u32.

import { crc32 } from 'node:zlib';
import { unreachable } from '../base/assert.ts';
import {
  ByteReader,
  ByteWriter,
  MalformedBytesError,
  tryReadUint53,
  writeUint32,
  writeUint53,
} from '../base/bytes.ts';
import { readRunHeader } from '../ports/run.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { HardState, LogIndex, Term } from '../raft/types.ts';
import {
  type CompactionMark,
  decodeBase,
  decodeCompactionMark,
  decodeHardState,
  encodeHardState,
} from './record.ts';
import { decodeFact, partitionIdEnd, type ReadRecord, StreamKind } from './segment-record.ts';

/** A run in the segment. */
export interface SummaryRun {
  readonly firstIndex: LogIndex;
  readonly term: Term;
  readonly entryCount: number;
  readonly offset: number;
  readonly byteLength: number;
}

/** The record of a base in the segment. */
export interface SummaryBase {
  readonly index: LogIndex;
  readonly term: Term;
  readonly offset: number;
  readonly byteLength: number;
}

export interface PartitionSummary {
  hardState: HardState | undefined;
  base: SummaryBase | undefined;
  /** The log was dropped at this base: what older segments have of it is gone. */
  dropped: CompactionMark | undefined;
  compaction: CompactionMark | undefined;
  /** Entries of older segments from here on were replaced; 0 when none were. */
  cutIndex: LogIndex;
  /** Copies of runs that older segments have, ascending. */
  moved: SummaryRun[];
  /** Ascending. */
  runs: SummaryRun[];
}

export interface SegmentSummary {
  readonly partitions: Map<PartitionId, PartitionSummary>;
  /** By name: the record of the value, or undefined when the fact was removed. */
  readonly facts: Map<string, Uint8Array | undefined>;
  runCount: number;
}

/** What the records behind a segment must join. */
export interface SegmentEnd {
  readonly lastCrc: number;
  readonly lastBatch: number;
}

export function emptySummary(): SegmentSummary {
  return { partitions: new Map(), facts: new Map(), runCount: 0 };
}

/**
 * Takes the next record of the segment.
 *
 * @throws MalformedBytesError what it holds is none of what its kind says
 */
export function noteRecord(
  summary: SegmentSummary,
  record: Pick<ReadRecord, 'kind' | 'partitionId' | 'dropsLog' | 'isMoved' | 'bodyOffset'>,
  body: Uint8Array,
): void {
  const { kind, partitionId } = record;
  if (kind === StreamKind.closed) return;
  if (kind === StreamKind.fact) {
    const { name, value } = decodeFact(body);
    summary.facts.set(name, value);
    return;
  }
  const partition = summaryOf(summary, partitionId);
  switch (kind) {
    case StreamKind.hardState:
      partition.hardState = decodeHardState(body);
      return;
    case StreamKind.base:
      noteBase(partition, record, body);
      return;
    case StreamKind.compaction:
      partition.compaction = decodeCompactionMark(body);
      return;
    case StreamKind.run:
      summary.runCount += 1;
      noteRun(partition, record, body);
      return;
    default:
      unreachable(kind);
  }
}

function summaryOf(summary: SegmentSummary, partitionId: PartitionId): PartitionSummary {
  const known = summary.partitions.get(partitionId);
  if (known !== undefined) return known;
  const made: PartitionSummary = {
    hardState: undefined,
    base: undefined,
    dropped: undefined,
    compaction: undefined,
    cutIndex: 0,
    moved: [],
    runs: [],
  };
  summary.partitions.set(partitionId, made);
  return made;
}

function noteBase(
  partition: PartitionSummary,
  { bodyOffset, dropsLog }: Pick<ReadRecord, 'bodyOffset' | 'dropsLog'>,
  body: Uint8Array,
): void {
  const { index, term } = decodeBase(body);
  partition.base = { index, term, offset: bodyOffset, byteLength: body.byteLength };
  if (!dropsLog) return;
  partition.dropped = { index, term };
  partition.compaction = undefined;
  partition.cutIndex = 0;
  partition.moved = [];
  partition.runs = [];
}

function noteRun(
  partition: PartitionSummary,
  { bodyOffset, isMoved }: Pick<ReadRecord, 'bodyOffset' | 'isMoved'>,
  body: Uint8Array,
): void {
  const { firstIndex, term, entryCount } = readRunHeader(body);
  const run = { firstIndex, term, entryCount, offset: bodyOffset, byteLength: body.byteLength };
  const below = ({ firstIndex: other }: SummaryRun): boolean => other < firstIndex;
  if (isMoved) {
    const place = placeOf(partition.moved, firstIndex);
    const isReplacing = partition.moved[place]?.firstIndex === firstIndex;
    partition.moved.splice(place, isReplacing ? 1 : 0, run);
    return;
  }
  const last = partition.runs.at(-1);
  if (last !== undefined && last.firstIndex >= firstIndex) {
    partition.runs = partition.runs.filter(below);
  }
  if (partition.runs.length === 0) {
    partition.cutIndex = firstIndex;
    partition.moved = partition.moved.filter(below);
  }
  partition.runs.push(run);
}

/** The place of the first run that does not begin below `index`. */
export function placeOf(runs: readonly SummaryRun[], index: LogIndex): number {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((runs[middle] as SummaryRun).firstIndex < index) low = middle + 1;
    else high = middle;
  }
  return low;
}

export const trailerBytes = 32;
const trailerSealedBytes = 28;

/** Bytes to leave for footer and trailer. A footer that turns out larger is left out. */
export function footerBytesLikely(summary: SegmentSummary): number {
  let factBytes = 0;
  for (const [name, value] of summary.facts) {
    factBytes += 16 + 3 * name.length + (value?.byteLength ?? 0);
  }
  return 64 + trailerBytes + factBytes + 128 * summary.partitions.size + 20 * summary.runCount;
}

/** The footer, and the trailer that leads to it. `offset` is where the footer will stand. */
export function encodeFooter(
  summary: SegmentSummary,
  place: SegmentEnd & { readonly segmentNumber: number; readonly offset: number },
): { readonly body: Uint8Array; readonly trailer: Uint8Array } {
  const writer = new ByteWriter(4_096);
  writer.varint(summary.runCount);
  writer.varint(summary.facts.size);
  for (const [name, value] of summary.facts) {
    writer.text(name);
    writer.varint(value === undefined ? 0 : 1 + value.byteLength);
    if (value !== undefined) writer.raw(value);
  }
  writer.varint(summary.partitions.size);
  for (const [partitionId, partition] of summary.partitions) {
    writer.varint(partitionId);
    writePartition(writer, partition);
  }
  const body = writer.finish();
  const trailer = new Uint8Array(trailerBytes);
  writeUint32(trailer, 0, place.offset);
  writeUint32(trailer, 4, body.byteLength);
  writeUint32(trailer, 8, place.segmentNumber);
  writeUint32(trailer, 12, crc32(body));
  writeUint32(trailer, 16, place.lastCrc);
  writeUint53(trailer, 20, place.lastBatch);
  writeUint32(trailer, trailerSealedBytes, crc32(trailer.subarray(0, trailerSealedBytes)));
  return { body, trailer };
}

/** Where the footer stands, if these are the last bytes of a segment that has one. */
export function readTrailer(
  trailer: Uint8Array,
  segmentNumber: number,
):
  | (SegmentEnd & { readonly offset: number; readonly byteLength: number; readonly crc: number })
  | undefined {
  if (trailer.byteLength !== trailerBytes) return undefined;
  const reader = new ByteReader(trailer);
  const offset = reader.uint32();
  const byteLength = reader.uint32();
  const number = reader.uint32();
  const crc = reader.uint32();
  const lastCrc = reader.uint32();
  const sealed = crc32(trailer.subarray(0, trailerSealedBytes));
  reader.skip(8);
  if (reader.uint32() !== sealed || number !== segmentNumber) return undefined;
  const lastBatch = tryReadUint53(trailer, 20);
  return lastBatch === undefined ? undefined : { offset, byteLength, crc, lastCrc, lastBatch };
}

/**
 * Reads a footer whose checksum was checked.
 *
 * @param recordsEnd where the records end: no length that the footer names reaches beyond
 * @throws MalformedBytesError
 */
export function decodeFooter(body: Uint8Array, recordsEnd: number): SegmentSummary {
  const reader = new ByteReader(body);
  const summary = emptySummary();
  summary.runCount = reader.varint();
  for (let left = reader.varint(); left > 0; left--) {
    const name = reader.text();
    const length = reader.varint();
    summary.facts.set(name, length === 0 ? undefined : reader.view(length - 1).slice());
  }
  for (let left = reader.varint(); left > 0; left--) {
    const partitionId = reader.varint();
    if (partitionId >= partitionIdEnd) throw new MalformedBytesError(`partition ${partitionId}`);
    summary.partitions.set(partitionId, readPartition(reader, recordsEnd));
  }
  if (reader.remaining !== 0) throw new MalformedBytesError('bytes behind the footer');
  return summary;
}

const hasHardState = 1;
const hasBase = 2;
const hasDropped = 4;
const hasCompaction = 8;

function writePartition(writer: ByteWriter, partition: PartitionSummary): void {
  const { hardState, base, dropped, compaction } = partition;
  writer.varint(
    (hardState === undefined ? 0 : hasHardState) |
      (base === undefined ? 0 : hasBase) |
      (dropped === undefined ? 0 : hasDropped) |
      (compaction === undefined ? 0 : hasCompaction),
  );
  if (hardState !== undefined) {
    const record = encodeHardState(hardState);
    writer.varint(record.byteLength);
    writer.raw(record);
  }
  if (base !== undefined) {
    for (const value of [base.index, base.term, base.offset, base.byteLength]) writer.varint(value);
  }
  for (const mark of [dropped, compaction]) {
    if (mark === undefined) continue;
    writer.varint(mark.index);
    writer.varint(mark.term);
  }
  writer.varint(partition.cutIndex);
  writeRuns(writer, partition.moved);
  writeRuns(writer, partition.runs);
}

function readPartition(reader: ByteReader, recordsEnd: number): PartitionSummary {
  const flags = reader.varint();
  const hardState =
    (flags & hasHardState) === 0 ? undefined : decodeHardState(reader.view(reader.varint()));
  const base = (flags & hasBase) === 0 ? undefined : readBase(reader, recordsEnd);
  const dropped = (flags & hasDropped) === 0 ? undefined : readMark(reader);
  const compaction = (flags & hasCompaction) === 0 ? undefined : readMark(reader);
  const cutIndex = reader.varint();
  const moved = readRuns(reader, recordsEnd);
  const runs = readRuns(reader, recordsEnd);
  return { hardState, base, dropped, compaction, cutIndex, moved, runs };
}

function readBase(reader: ByteReader, recordsEnd: number): SummaryBase {
  const index = reader.varint();
  const term = reader.varint();
  return { index, term, ...readPlace(reader, recordsEnd) };
}

/** Where a record's body is: whoever reads it believes the length. */
function readPlace(
  reader: ByteReader,
  recordsEnd: number,
): { readonly offset: number; readonly byteLength: number } {
  const offset = reader.varint();
  const byteLength = reader.varint();
  if (offset + byteLength > recordsEnd)
    throw new MalformedBytesError(`${byteLength} bytes at ${offset} of ${recordsEnd}`);
  return { offset, byteLength };
}

function readMark(reader: ByteReader): CompactionMark {
  const index = reader.varint();
  return { index, term: reader.varint() };
}

function writeRuns(writer: ByteWriter, runs: readonly SummaryRun[]): void {
  writer.varint(runs.length);
  for (const { firstIndex, term, entryCount, offset, byteLength } of runs) {
    for (const value of [firstIndex, term, entryCount, offset, byteLength]) writer.varint(value);
  }
}

function readRuns(reader: ByteReader, recordsEnd: number): SummaryRun[] {
  const runs: SummaryRun[] = [];
  for (let left = reader.varint(); left > 0; left--) {
    const firstIndex = reader.varint();
    const term = reader.varint();
    const entryCount = reader.varint();
    runs.push({ firstIndex, term, entryCount, ...readPlace(reader, recordsEnd) });
  }
  return runs;
}
