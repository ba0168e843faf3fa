// The form of a hybrid timestamp: milliseconds since 2020-01-01T00:00:00Z times 4096, plus a counter of 12 bits, in one
// safe integer. 41 bits of milliseconds last until 2089-09-06. Numbers, texts and bytes all sort as time does.

import { assert } from '../base/assert.ts';
import { MalformedBytesError } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import type { Timestamp } from '../ports/clock.ts';
import type { NodeId } from '../ports/transport.ts';

/** Where timestamps begin: 2020-01-01T00:00:00Z, in milliseconds since 1970. */
export const timestampEpochMs = 1_577_836_800_000;
/** Timestamps of one millisecond. */
export const timestampsPerMs = 4_096;
/** Bytes of a timestamp in binary form. */
const timestampBytes = 8;

assert(timestampEpochMs === Date.UTC(2020, 0, 1), 'the epoch is the beginning of 2020');

/** Whether `value` is a timestamp: a safe integer, 0 or more. */
export function isTimestamp(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

/**
 * The first timestamp of a millisecond.
 *
 * @param wallMs whole milliseconds since 1970, between the beginning of 2020 and 2089-09-06
 */
export function timestampAt(wallMs: number): Timestamp {
  const timestamp = (wallMs - timestampEpochMs) * timestampsPerMs;
  assert(isTimestamp(timestamp), 'a timestamp lies between 2020 and 2089');
  return timestamp;
}

/** The timestamp `durationMs` (whole milliseconds) later: for deadlines and reserves. */
export function timestampAfter(timestamp: Timestamp, durationMs: number): Timestamp {
  const later = timestamp + durationMs * timestampsPerMs;
  assert(isTimestamp(later), 'a timestamp lies between 2020 and 2089');
  return later;
}

/** Milliseconds since 1970 of a timestamp's physical part. */
export function timestampWallMs(timestamp: Timestamp): number {
  return timestampEpochMs + Math.floor(timestamp / timestampsPerMs);
}

/** A timestamp's place within its millisecond, 0 … 4095. */
export function timestampCounter(timestamp: Timestamp): number {
  return timestamp % timestampsPerMs;
}

/** A timestamp and who made it. Two nodes may make equal timestamps; one node never does. */
export interface NodeTimestamp {
  readonly timestamp: Timestamp;
  readonly nodeId: NodeId;
}

/** A total order over the timestamps of all nodes that agrees with causality: by time, then by node id. */
export function compareTimestamps(a: NodeTimestamp, b: NodeTimestamp): -1 | 0 | 1 {
  if (a.timestamp !== b.timestamp) return a.timestamp < b.timestamp ? -1 : 1;
  if (a.nodeId !== b.nodeId) return a.nodeId < b.nodeId ? -1 : 1;
  return 0;
}

/** ISO 8601 in UTC and four digits of counter, `2026-11-23T09:03:11.123Z.0042`: 29 characters that sort as time. */
export function formatTimestamp(timestamp: Timestamp): string {
  assert(isTimestamp(timestamp), 'a timestamp is a safe integer');
  const counter = String(timestampCounter(timestamp)).padStart(4, '0');
  return `${new Date(timestampWallMs(timestamp)).toISOString()}.${counter}`;
}

/**
 * Reads what `formatTimestamp` wrote.
 *
 * @throws INVALID_ARGUMENT it is not such a text
 */
export function parseTimestamp(text: string): Timestamp {
  const isoLength = text.length - 5;
  const wallMs = Date.parse(text.slice(0, isoLength));
  const timestamp =
    (wallMs - timestampEpochMs) * timestampsPerMs + Number(text.slice(isoLength + 1));
  // Only the exact form round-trips; this also refuses days and counters that do not exist.
  if (isTimestamp(timestamp) && formatTimestamp(timestamp) === text) return timestamp;
  throw new KommanderError(
    `"${text.slice(0, 64)}" is no timestamp: write it like 2026-11-23T09:03:11.123Z.0042`,
    { code: 'INVALID_ARGUMENT', details: { argument: 'timestamp' } },
  );
}

/** Eight bytes, big-endian, so that the bytes sort as time. */
export function encodeTimestamp(timestamp: Timestamp): Uint8Array {
  assert(isTimestamp(timestamp), 'a timestamp is a safe integer');
  const bytes = new Uint8Array(timestampBytes);
  let rest = timestamp;
  for (let at = timestampBytes - 1; rest > 0; at--) {
    bytes[at] = rest % 0x100;
    rest = Math.floor(rest / 0x100);
  }
  return bytes;
}

/**
 * Reads what `encodeTimestamp` wrote.
 *
 * @throws MalformedBytesError it is not eight bytes, or the number is above 2^53 - 1
 */
export function decodeTimestamp(bytes: Uint8Array): Timestamp {
  if (bytes.byteLength !== timestampBytes) {
    throw new MalformedBytesError(`a timestamp has 8 bytes, got ${bytes.byteLength}`);
  }
  let timestamp = 0;
  for (const byte of bytes) timestamp = timestamp * 0x100 + byte;
  if (!isTimestamp(timestamp)) throw new MalformedBytesError('timestamp above 2^53 - 1');
  return timestamp;
}
