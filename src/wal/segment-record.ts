// The records of the segment engine's stream. A segment file is a row of records, each at a multiple of 8 bytes and
// bound to the one before by its checksum; the records of one batch end with one that says so. Layout, little-endian:
//
//   0  u32  CRC-32 of bytes 4 … 39 and the body (of a run: its header)   16  u32  CRC-32 of the record before
//   4  u8   format version (1)                                           20  u32  partition
//   5  u8   kind            6  u8  flags           7  u8  zero           24  u53  batch number
//   8  u32  segment number                        12  u32 body bytes     32  u53  last batch that was known to be synced

import { crc32 } from 'node:zlib';
import { assert } from '../base/assert.ts';
import {
  ByteReader,
  MalformedBytesError,
  tryReadUint53,
  utf8Bytes,
  utf8Text,
  writeUint32,
  writeUint53,
} from '../base/bytes.ts';
import { runHeaderBytes } from '../ports/run.ts';
import type { PartitionId } from '../ports/wal.ts';

const recordHeaderBytes = 40;
const recordAlignment = 8;
const formatVersion = 1;
/** Behind the largest partition id. */
export const partitionIdEnd = 0x8000_0000;

export const StreamKind = {
  /** Nothing but its header: the store was closed in good order. */
  closed: 1,
  hardState: 2,
  base: 3,
  compaction: 4,
  /** The body is the length of the name (u32), the name, and the record of the value unless the fact is removed. */
  fact: 5,
  run: 6,
} as const;
export type StreamKind = (typeof StreamKind)[keyof typeof StreamKind];

const flagLast = 1;
const flagDropsLog = 2;
const flagMoved = 4;
const flagsKnown = 7;

/** A record that is going to be written. */
export interface StreamRecord {
  readonly kind: StreamKind;
  readonly partitionId: PartitionId;
  readonly body: Uint8Array;
  /** Of a base: the stored entries go. */
  readonly dropsLog?: boolean;
  /**
   * Of a run: it is a copy of one in an older segment and takes its place, byte for byte. Entries that were replaced at
   * the end of that one are in it again, and are as dead as before.
   */
  readonly isMoved?: boolean;
}

/** Where in the stream a record stands. */
export interface StreamPlace {
  readonly segmentNumber: number;
  readonly batchNumber: number;
  readonly syncedBatch: number;
}

/** A record that was read. Its body is not checked beyond what the record's own checksum covers. */
export interface ReadRecord extends StreamPlace {
  readonly kind: StreamKind;
  readonly partitionId: PartitionId;
  readonly dropsLog: boolean;
  readonly isMoved: boolean;
  readonly isLast: boolean;
  readonly crc: number;
  readonly previousCrc: number;
  readonly bodyOffset: number;
  readonly bodyBytes: number;
  /** Where the next record begins. */
  readonly endOffset: number;
}

/** Bytes that a record with such a body takes, the gap behind it included. */
export function recordBytes(bodyBytes: number): number {
  return aligned(recordHeaderBytes + bodyBytes);
}

function aligned(byteCount: number): number {
  return Math.ceil(byteCount / recordAlignment) * recordAlignment;
}

/** Bodies from here on are written from where they are instead of being copied. */
const copiedBytesMax = 16_384;

/** Encoded records: what is to be written, and the checksum that the next record carries. */
export interface EncodedBatch {
  readonly parts: readonly Uint8Array[];
  readonly byteLength: number;
  readonly lastCrc: number;
  /** Where the body of each record begins, counted from the first byte of the batch. */
  readonly bodyOffsets: readonly number[];
}

/** The records of one batch, in order, as one piece of the stream. */
export function encodeBatchRecords(
  records: readonly StreamRecord[],
  place: StreamPlace,
  previousCrc: number,
): EncodedBatch {
  assert(place.syncedBatch < place.batchNumber, 'a batch knows of syncs before it');
  let copiedBytes = 0;
  for (const { body } of records) {
    const isCopied = body.byteLength < copiedBytesMax;
    copiedBytes += recordBytes(isCopied ? body.byteLength : 0) + recordAlignment;
  }
  const staging = new Uint8Array(copiedBytes);
  const parts: Uint8Array[] = [];
  const bodyOffsets: number[] = [];
  let crc = previousCrc;
  let at = 0;
  let partStart = 0;
  let byteLength = 0;
  for (let i = 0; i < records.length; i++) {
    const record = records[i] as StreamRecord;
    const { body } = record;
    writeHeader(staging, at, { record, place, previousCrc: crc, isLast: i === records.length - 1 });
    crc = sealHeader(staging, at, record);
    bodyOffsets.push(byteLength + recordHeaderBytes);
    byteLength += recordBytes(body.byteLength);
    at += recordHeaderBytes;
    if (body.byteLength < copiedBytesMax) {
      staging.set(body, at);
      at += aligned(body.byteLength);
      continue;
    }
    parts.push(staging.subarray(partStart, at), body);
    partStart = at;
    at += aligned(body.byteLength) - body.byteLength;
  }
  if (at > partStart) parts.push(staging.subarray(partStart, at));
  return { parts, byteLength, lastCrc: crc, bodyOffsets };
}

function writeHeader(
  target: Uint8Array,
  at: number,
  header: {
    readonly record: StreamRecord;
    readonly place: StreamPlace;
    readonly previousCrc: number;
    readonly isLast: boolean;
  },
): void {
  const { record, place, previousCrc, isLast } = header;
  target[at + 4] = formatVersion;
  target[at + 5] = record.kind;
  target[at + 6] =
    (isLast ? flagLast : 0) |
    (record.dropsLog === true ? flagDropsLog : 0) |
    (record.isMoved === true ? flagMoved : 0);
  writeUint32(target, at + 8, place.segmentNumber);
  writeUint32(target, at + 12, record.body.byteLength);
  writeUint32(target, at + 16, previousCrc);
  writeUint32(target, at + 20, record.partitionId);
  writeUint53(target, at + 24, place.batchNumber);
  writeUint53(target, at + 32, place.syncedBatch);
}

function sealHeader(target: Uint8Array, at: number, { kind, body }: StreamRecord): number {
  const covered = kind === StreamKind.run ? body.subarray(0, runHeaderBytes) : body;
  const crc = crc32(covered, crc32(target.subarray(at + 4, at + recordHeaderBytes)));
  writeUint32(target, at, crc);
  return crc;
}

/**
 * Reads the record at `offset`, if a whole one of segment `segmentNumber` stands there.
 *
 * @returns undefined when the bytes are none, in whatever way
 */
export function tryReadRecord(
  segment: Uint8Array,
  offset: number,
  segmentNumber: number,
): ReadRecord | undefined {
  if (offset + recordHeaderBytes > segment.byteLength) return undefined;
  if (segment[offset + 4] !== formatVersion) return undefined;
  const kind = segment[offset + 5] as StreamKind;
  const flags = segment[offset + 6] as number;
  if (kind < StreamKind.closed || kind > StreamKind.run || flags > flagsKnown) return undefined;
  const reader = new ByteReader(segment, offset);
  const crc = reader.uint32();
  reader.skip(4);
  if (reader.uint32() !== segmentNumber) return undefined;
  const bodyBytes = reader.uint32();
  const bodyOffset = offset + recordHeaderBytes;
  if (bodyOffset + bodyBytes > segment.byteLength) return undefined;
  if (kind === StreamKind.run && bodyBytes < runHeaderBytes) return undefined;
  const coveredEnd = bodyOffset + (kind === StreamKind.run ? runHeaderBytes : bodyBytes);
  if (crc32(segment.subarray(offset + 4, coveredEnd)) !== crc) return undefined;
  const previousCrc = reader.uint32();
  const partitionId = reader.uint32();
  const batchNumber = tryReadUint53(segment, offset + 24);
  const syncedBatch = tryReadUint53(segment, offset + 32);
  if (partitionId >= partitionIdEnd || batchNumber === undefined) return undefined;
  if (syncedBatch === undefined || syncedBatch >= batchNumber) return undefined;
  return {
    kind,
    dropsLog: (flags & flagDropsLog) !== 0,
    isMoved: (flags & flagMoved) !== 0,
    isLast: (flags & flagLast) !== 0,
    crc,
    segmentNumber,
    previousCrc,
    partitionId,
    batchNumber,
    syncedBatch,
    bodyOffset,
    bodyBytes,
    endOffset: offset + recordBytes(bodyBytes),
  };
}

/** Body of a fact; `value` is its record, undefined when the fact is removed. */
export function encodeFact(name: string, value: Uint8Array | undefined): Uint8Array {
  const text = utf8Bytes(name);
  const body = new Uint8Array(4 + text.byteLength + (value?.byteLength ?? 0));
  writeUint32(body, 0, text.byteLength);
  body.set(text, 4);
  if (value !== undefined) body.set(value, 4 + text.byteLength);
  return body;
}

/** @throws MalformedBytesError */
export function decodeFact(body: Uint8Array): {
  readonly name: string;
  readonly value: Uint8Array | undefined;
} {
  const reader = new ByteReader(body);
  const length = reader.uint32();
  if (length > reader.remaining) throw new MalformedBytesError(`name of ${length} bytes`);
  const name = utf8Text(reader.view(length));
  return { name, value: reader.remaining === 0 ? undefined : reader.view(reader.remaining) };
}
