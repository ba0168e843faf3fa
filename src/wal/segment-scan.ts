// Reading a segment that has no footer: its records one by one, as far as they are whole and join. Where they end, either
// nothing was written, or what was written is torn, or it is damaged; the records behind the place tell which, because
// every record says which batch was synced before it.

import { crc32 } from 'node:zlib';
import { ByteReader, MalformedBytesError } from '../base/bytes.ts';
import { readRunHeader } from '../ports/run.ts';
import type { LogIndex } from '../raft/types.ts';
import { corrupt, decoded, type RecordPlace } from './damage.ts';
import { type ReadRecord, StreamKind, tryReadRecord } from './segment-record.ts';
import {
  emptySummary,
  noteRecord,
  type SegmentEnd,
  type SegmentSummary,
} from './segment-summary.ts';

const alignment = 8;

export interface ScannedSegment extends SegmentEnd {
  readonly summary: SegmentSummary;
  /** Behind the last record of the last whole batch. */
  readonly endOffset: number;
}

/** What a segment must join. `crc` is undefined for the oldest one: what was before it is gone. */
export interface ChainEnd {
  readonly crc: number | undefined;
  readonly batch: number | undefined;
}

/**
 * Reads whole batches until the first one that is not whole or does not join.
 *
 * @throws WAL_CORRUPT a whole record means nothing
 */
export function scanSegment(
  bytes: Uint8Array,
  segment: { readonly number: number; readonly name: string; readonly before: ChainEnd },
): ScannedSegment {
  const { number, name, before } = segment;
  const summary = emptySummary();
  let lastCrc = before.crc ?? 0;
  let lastBatch = before.batch ?? 0;
  let endOffset = 0;
  let expectedCrc = before.crc;
  let expectedBatch = before.batch === undefined ? undefined : before.batch + 1;
  let pending: ReadRecord[] = [];
  for (let offset = 0; ; ) {
    const record = tryReadRecord(bytes, offset, number);
    if (record === undefined) break;
    if (expectedCrc !== undefined && record.previousCrc !== expectedCrc) break;
    if (expectedBatch !== undefined && record.batchNumber !== expectedBatch) break;
    if (record.kind === StreamKind.run && !isWholeRun(bodyOf(bytes, record))) break;
    pending.push(record);
    expectedCrc = record.crc;
    expectedBatch = record.batchNumber;
    offset = record.endOffset;
    if (!record.isLast) continue;
    for (const done of pending) {
      decoded(placeOf(bytes, done, name), () => noteRecord(summary, done, bodyOf(bytes, done)));
    }
    pending = [];
    lastCrc = record.crc;
    lastBatch = record.batchNumber;
    endOffset = offset;
    expectedBatch = lastBatch + 1;
  }
  return { summary, endOffset, lastCrc, lastBatch };
}

function bodyOf(bytes: Uint8Array, { bodyOffset, bodyBytes }: ReadRecord): Uint8Array {
  return bytes.subarray(bodyOffset, bodyOffset + bodyBytes);
}

/** Whether the body of the run is what its header says; the header was checked with its record. */
function isWholeRun(run: Uint8Array): boolean {
  return new ByteReader(run, 4).uint32() === crc32(run.subarray(8));
}

/** What is left of records behind a place. */
export interface Leftovers {
  /** The highest batch that a record says was synced; 0 when none says anything. */
  readonly syncedBatch: number;
  /** Behind the last record of any kind; the place itself when there is none. */
  readonly endOffset: number;
}

/** Searches records that are whole in themselves, at every place where one could begin. */
export function leftoversIn(
  bytes: Uint8Array,
  fromOffset: number,
  segmentNumber: number,
): Leftovers {
  let syncedBatch = 0;
  let endOffset = fromOffset;
  for (let offset = fromOffset; offset < bytes.byteLength; offset += alignment) {
    const record = tryReadRecord(bytes, offset, segmentNumber);
    if (record === undefined) continue;
    syncedBatch = Math.max(syncedBatch, record.syncedBatch);
    endOffset = Math.max(endOffset, record.endOffset);
  }
  return { syncedBatch, endOffset };
}

/** The error for a batch that was acknowledged and cannot be read. */
export function lostBatch(
  bytes: Uint8Array,
  place: { readonly name: string; readonly number: number; readonly offset: number },
): Error {
  const { name, offset } = place;
  const damaged = firstDamage(bytes, place);
  return corrupt('a batch that was acknowledged cannot be read', {
    ...damaged,
    file: name,
    offset,
  });
}

/** The first record of the batch that is not whole: as far as its header can be believed. */
function firstDamage(
  bytes: Uint8Array,
  place: { readonly name: string; readonly number: number; readonly offset: number },
): RecordPlace {
  let { offset } = place;
  for (;;) {
    const record = tryReadRecord(bytes, offset, place.number);
    if (record === undefined) return headerSays(bytes, offset);
    const isDamaged = record.kind === StreamKind.run && !isWholeRun(bodyOf(bytes, record));
    if (isDamaged) return placeOf(bytes, record, place.name);
    offset = record.endOffset;
  }
}

const partitionOffset = 20;
const kindOffset = 5;
const headerBytes = 40;

function headerSays(bytes: Uint8Array, offset: number): RecordPlace {
  if (offset + headerBytes > bytes.byteLength) return {};
  const kind = bytes[offset + kindOffset] as StreamKind;
  if (kind < StreamKind.hardState || kind > StreamKind.run || kind === StreamKind.fact) return {};
  return {
    partitionId: new ByteReader(bytes, offset + partitionOffset).uint32(),
    record: kindNames[kind],
  };
}

const kindNames = {
  [StreamKind.closed]: 'end of a session',
  [StreamKind.hardState]: 'hard state',
  [StreamKind.base]: 'base',
  [StreamKind.compaction]: 'compaction mark',
  [StreamKind.fact]: 'fact',
  [StreamKind.run]: 'run',
} as const;

function placeOf(bytes: Uint8Array, record: ReadRecord, file: string): RecordPlace {
  const { kind, partitionId, bodyOffset: offset } = record;
  const place = { record: kindNames[kind], file, offset };
  if (kind === StreamKind.fact || kind === StreamKind.closed) return place;
  if (kind !== StreamKind.run) return { partitionId, ...place };
  return { partitionId, ...indexOf(bodyOf(bytes, record)), ...place };
}

/** Of a run's first entry, unless its header means nothing. */
function indexOf(run: Uint8Array): { readonly index?: LogIndex } {
  try {
    return { index: readRunHeader(run).firstIndex };
  } catch (error) {
    if (error instanceof MalformedBytesError) return {};
    throw error;
  }
}
