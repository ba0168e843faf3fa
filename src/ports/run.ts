// A run: a contiguous range of entries of one partition and one term in encoded form, the unit that is stored and
// sent (DESIGN §6). It is encoded once, by the leader; the same bytes go to its own log and to every follower, and a
// follower stores the bytes that it received. Layout, little-endian:
//
//   0  u8   format version (1)      4  u32  CRC-32 of bytes 8 … end     16  u53  term         28  u32  body bytes
//   1  3 B  zero                    8  u53  index of the first entry    24  u32  entries      32  body
//
// The body is one record per entry: kind (u8), payload length (varint), payload.

import { crc32 } from 'node:zlib';
import { assert } from '../base/assert.ts';
import {
  ByteReader,
  MalformedBytesError,
  varintBytes,
  writeUint32,
  writeVarint,
} from '../base/bytes.ts';
import {
  type Entry,
  EntryKind,
  type LogIndex,
  type ProposedEntry,
  type Term,
} from '../raft/types.ts';

export const runHeaderBytes = 32;
const runFormatVersion = 1;
const crcStart = 8;

/** What the header of a run says. */
export interface RunHeader {
  readonly firstIndex: LogIndex;
  readonly term: Term;
  readonly entryCount: number;
  /** Header and body. */
  readonly totalBytes: number;
}

/** A payload that is going to be an entry: written by `write` into the run's buffer. */
export interface RunPayload {
  readonly kind: EntryKind;
  readonly byteLength: number;
  /** Writes exactly `byteLength` bytes at `offset`. */
  write(target: Uint8Array, offset: number): void;
}

/**
 * Lays payloads out as the body of one run. The header stays blank until the core has given index and term and
 * `encodeRuns` seals it.
 */
export function layOutRun(payloads: readonly RunPayload[]): ProposedEntry[] {
  let totalBytes = runHeaderBytes;
  for (const payload of payloads) totalBytes += recordBytes(payload.byteLength);
  const bytes = new Uint8Array(totalBytes);
  let at = runHeaderBytes;
  return payloads.map((payload) => {
    bytes[at] = payload.kind;
    const start = writeVarint(bytes, at + 1, payload.byteLength);
    payload.write(bytes, start);
    at = start + payload.byteLength;
    return { kind: payload.kind, bytes, start, end: at };
  });
}

/**
 * The encoded form of contiguous `entries`: one run per stretch of one term. Entries that already are a whole run
 * (laid out together, or received or read together) are not copied.
 */
export function encodeRuns(entries: readonly Entry[]): Uint8Array[] {
  const runs: Uint8Array[] = [];
  for (let from = 0; from < entries.length; ) {
    const whole = wholeRunAt(entries, from);
    const end = whole === undefined ? loosePartEnd(entries, from) : whole.end;
    runs.push(whole === undefined ? copyRun(entries, from, end) : whole.bytes);
    from = end;
  }
  return runs;
}

/**
 * Reads and checks one run.
 *
 * @param bytes exactly one run; the entries keep views of it
 * @throws MalformedBytesError wrong version, length or checksum
 */
export function decodeRun(bytes: Uint8Array): Entry[] {
  const header = readRunHeader(bytes);
  if (header.totalBytes !== bytes.byteLength) {
    throw new MalformedBytesError(`run of ${header.totalBytes} bytes in ${bytes.byteLength}`);
  }
  const expected = new ByteReader(bytes, 4).uint32();
  const actual = crc32(bytes.subarray(crcStart));
  if (expected !== actual)
    throw new MalformedBytesError(`run checksum is ${actual}, expected ${expected}`);
  const reader = new ByteReader(bytes, runHeaderBytes);
  const entries = new Array<Entry>(header.entryCount);
  for (let i = 0; i < header.entryCount; i++) {
    const kind = reader.uint8();
    if (kind !== EntryKind.normal && kind !== EntryKind.confChange)
      throw new MalformedBytesError(`entry kind ${kind}`);
    const length = reader.varint();
    const start = reader.at;
    reader.skip(length);
    entries[i] = {
      index: header.firstIndex + i,
      term: header.term,
      kind,
      bytes,
      start,
      end: reader.at,
    };
  }
  if (reader.remaining !== 0)
    throw new MalformedBytesError(`${reader.remaining} bytes behind the last entry`);
  return entries;
}

/**
 * Reads a run's header without checking the checksum.
 *
 * @throws MalformedBytesError
 */
export function readRunHeader(bytes: Uint8Array): RunHeader {
  const reader = new ByteReader(bytes);
  const version = reader.uint8();
  if (version !== runFormatVersion) throw new MalformedBytesError(`run format version ${version}`);
  reader.skip(crcStart - 1);
  const firstIndex = reader.uint53();
  const term = reader.uint53();
  const entryCount = reader.uint32();
  const totalBytes = runHeaderBytes + reader.uint32();
  // A record takes two bytes at least, so a forged count cannot make the reader allocate more than it was sent.
  if (entryCount === 0 || entryCount > totalBytes)
    throw new MalformedBytesError(`run of ${entryCount} entries`);
  if (firstIndex === 0) throw new MalformedBytesError('run that begins at index 0');
  return { firstIndex, term, entryCount, totalBytes };
}

function recordBytes(payloadBytes: number): number {
  return 1 + varintBytes(payloadBytes) + payloadBytes;
}

function recordStart(entry: Entry): number {
  return entry.start - varintBytes(entry.end - entry.start) - 1;
}

/** The buffer that holds exactly the entries `from … end - 1` as a run, if there is one. */
function wholeRunAt(
  entries: readonly Entry[],
  from: number,
): { bytes: Uint8Array; end: number } | undefined {
  const first = entries[from] as Entry;
  const { bytes } = first;
  if (bytes.byteLength < runHeaderBytes || recordStart(first) !== runHeaderBytes) return undefined;
  let end = from + 1;
  while (end < entries.length && (entries[end] as Entry).bytes === bytes) end += 1;
  const last = entries[end - 1] as Entry;
  if (last.end !== bytes.byteLength || last.term !== first.term) return undefined;
  if (bytes[0] === 0) sealRun(bytes, first, end - from);
  const header = readRunHeader(bytes);
  if (header.firstIndex !== first.index || header.term !== first.term) return undefined;
  return header.entryCount === end - from ? { bytes, end } : undefined;
}

/** End of the longest stretch of one term from `from` on that is not itself a whole run. */
function loosePartEnd(entries: readonly Entry[], from: number): number {
  const { term } = entries[from] as Entry;
  let end = from + 1;
  while (end < entries.length) {
    const entry = entries[end] as Entry;
    if (entry.term !== term) break;
    if (entry.bytes !== (entries[end - 1] as Entry).bytes && wholeRunAt(entries, end) !== undefined)
      break;
    end += 1;
  }
  return end;
}

function copyRun(entries: readonly Entry[], from: number, end: number): Uint8Array {
  let totalBytes = runHeaderBytes;
  for (let i = from; i < end; i++) {
    const entry = entries[i] as Entry;
    totalBytes += recordBytes(entry.end - entry.start);
  }
  const bytes = new Uint8Array(totalBytes);
  let at = runHeaderBytes;
  for (let i = from; i < end; i++) {
    const entry = entries[i] as Entry;
    bytes[at] = entry.kind;
    at = writeVarint(bytes, at + 1, entry.end - entry.start);
    bytes.set(entry.bytes.subarray(entry.start, entry.end), at);
    at += entry.end - entry.start;
  }
  sealRun(bytes, entries[from] as Entry, end - from);
  return bytes;
}

function sealRun(bytes: Uint8Array, first: Entry, entryCount: number): void {
  assert(entryCount > 0, 'a run holds an entry');
  bytes[0] = runFormatVersion;
  writeUint53(bytes, 8, first.index);
  writeUint53(bytes, 16, first.term);
  writeUint32(bytes, 24, entryCount);
  writeUint32(bytes, 28, bytes.byteLength - runHeaderBytes);
  writeUint32(bytes, 4, crc32(bytes.subarray(crcStart)));
}

function writeUint53(target: Uint8Array, offset: number, value: number): void {
  writeUint32(target, offset, value % 0x1_0000_0000);
  writeUint32(target, offset + 4, Math.floor(value / 0x1_0000_0000));
}
