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
  writeUint53,
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
/** Kind and length of an empty payload. */
const recordBytesMin = 2;

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
  const { firstIndex, term, entryCount, totalBytes } = readRunHeader(bytes);
  if (totalBytes !== bytes.byteLength)
    throw new MalformedBytesError(`run of ${totalBytes} bytes in ${bytes.byteLength}`);
  const expected = new ByteReader(bytes, 4).uint32();
  const actual = crc32(bytes.subarray(crcStart));
  if (expected !== actual)
    throw new MalformedBytesError(`run checksum is ${actual}, expected ${expected}`);
  const entries: Entry[] = [];
  let at = runHeaderBytes;
  for (let i = 0; i < entryCount; i++) {
    const kind = bytes[at] as EntryKind;
    if (kind !== EntryKind.normal && kind !== EntryKind.confChange)
      throw new MalformedBytesError(`entry kind ${kind} at ${at}`);
    // Most payloads are shorter than 128 bytes; their length is one byte.
    let length = bytes[at + 1] as number;
    let start = at + 2;
    if (!(length < 0x80)) {
      const reader = new ByteReader(bytes, at + 1);
      length = reader.varint();
      start = reader.at;
    }
    at = start + length;
    if (at > totalBytes) throw new MalformedBytesError(`entry ends at ${at} of ${totalBytes}`);
    entries.push({ index: firstIndex + i, term, kind, bytes, start, end: at });
  }
  if (at !== totalBytes)
    throw new MalformedBytesError(`${totalBytes - at} bytes behind the last entry`);
  return entries;
}

/**
 * Reads a run's header without checking the checksum.
 *
 * @param bytes a run, or its first `runHeaderBytes`
 * @throws MalformedBytesError
 */
export function readRunHeader(bytes: Uint8Array): RunHeader {
  const reader = new ByteReader(bytes);
  const versionWord = reader.uint32();
  if (versionWord !== runFormatVersion)
    throw new MalformedBytesError(`run format version ${versionWord}`);
  reader.skip(4);
  const firstIndex = reader.uint53();
  const term = reader.uint53();
  const entryCount = reader.uint32();
  const bodyBytes = reader.uint32();
  // A forged count must not make the reader allocate more than it was sent.
  if (entryCount === 0 || entryCount * recordBytesMin > bodyBytes)
    throw new MalformedBytesError(`run of ${entryCount} entries in ${bodyBytes} bytes`);
  if (firstIndex === 0) throw new MalformedBytesError('run that begins at index 0');
  if (!Number.isSafeInteger(firstIndex + entryCount))
    throw new MalformedBytesError(`run that ends behind index ${Number.MAX_SAFE_INTEGER}`);
  return { firstIndex, term, entryCount, totalBytes: runHeaderBytes + bodyBytes };
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
  if (isBlankRun(entries, from, end)) sealRun(bytes, first, end - from);
  return isSealedRun(bytes, first, end - from) ? { bytes, end } : undefined;
}

/** Whether entries that share a buffer lie in it as `layOutRun` puts them, below a header that is still blank. */
function isBlankRun(entries: readonly Entry[], from: number, end: number): boolean {
  const { bytes } = entries[from] as Entry;
  for (let at = 0; at < runHeaderBytes; at++) {
    if (bytes[at] !== 0) return false;
  }
  let recordAt = runHeaderBytes;
  for (let i = from; i < end; i++) {
    const entry = entries[i] as Entry;
    if (recordStart(entry) !== recordAt || !hasRecord(entry)) return false;
    recordAt = entry.end;
  }
  return true;
}

function isSealedRun(bytes: Uint8Array, first: Entry, entryCount: number): boolean {
  const reader = new ByteReader(bytes);
  if (reader.uint32() !== runFormatVersion) return false;
  reader.skip(4);
  return (
    looseUint53(reader) === first.index &&
    looseUint53(reader) === first.term &&
    reader.uint32() === entryCount &&
    reader.uint32() === bytes.byteLength - runHeaderBytes
  );
}

/** The bytes may be anybody's: what is no safe integer equals no index and no term. */
function looseUint53(reader: ByteReader): number {
  const low = reader.uint32();
  return reader.uint32() * 0x1_0000_0000 + low;
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
  for (let i = from; i < end; ) {
    const stretchEnd = recordsEnd(entries, i, end);
    if (stretchEnd === i) {
      at = writeRecord(bytes, at, entries[i] as Entry);
      i += 1;
    } else {
      const first = entries[i] as Entry;
      const records = first.bytes.subarray(
        recordStart(first),
        (entries[stretchEnd - 1] as Entry).end,
      );
      bytes.set(records, at);
      at += records.byteLength;
      i = stretchEnd;
    }
  }
  assert(at === totalBytes, 'the records fill the run');
  sealRun(bytes, entries[from] as Entry, end - from);
  return bytes;
}

/** End of the entries from `from` on that lie one behind the other as records in one buffer: one copy moves them. */
function recordsEnd(entries: readonly Entry[], from: number, end: number): number {
  let at = from;
  while (at < end) {
    const entry = entries[at] as Entry;
    if (!hasRecord(entry)) break;
    const previous = entries[at - 1] as Entry;
    if (at > from && (entry.bytes !== previous.bytes || recordStart(entry) !== previous.end)) break;
    at += 1;
  }
  return at;
}

/** Whether kind and length stand before the payload as a record has them. */
function hasRecord(entry: Entry): boolean {
  const { bytes, start } = entry;
  const at = recordStart(entry);
  if (at < runHeaderBytes || bytes[at] !== entry.kind) return false;
  let rest = entry.end - start;
  for (let byteAt = at + 1; byteAt < start; byteAt++) {
    const more = byteAt + 1 < start ? 0x80 : 0;
    if (bytes[byteAt] !== ((rest % 0x80) | more)) return false;
    rest = Math.floor(rest / 0x80);
  }
  return true;
}

function writeRecord(target: Uint8Array, offset: number, entry: Entry): number {
  target[offset] = entry.kind;
  const start = writeVarint(target, offset + 1, entry.end - entry.start);
  target.set(entry.bytes.subarray(entry.start, entry.end), start);
  return start + entry.end - entry.start;
}

function sealRun(bytes: Uint8Array, first: Entry, entryCount: number): void {
  assert(entryCount > 0, 'a run holds an entry');
  assert(first.index > 0, 'a log begins at index 1');
  bytes[0] = runFormatVersion;
  writeUint53(bytes, 8, first.index);
  writeUint53(bytes, 16, first.term);
  writeUint32(bytes, 24, entryCount);
  writeUint32(bytes, 28, bytes.byteLength - runHeaderBytes);
  writeUint32(bytes, 4, crc32(bytes.subarray(crcStart)));
}
