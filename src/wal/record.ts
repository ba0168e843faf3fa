// The records that durable engines keep beside the runs: hard state, base, compaction mark, node-wide facts, batch
// marks. Where
// and under which key a record lies is the engine's affair. Layout, little-endian:
//
//   0  u8  format version (1)     2  2 B  zero                              8  body
//   1  u8  kind                   4  u32  CRC-32 of bytes 8 … end

import { crc32 } from 'node:zlib';
import { assert } from '../base/assert.ts';
import { ByteReader, ByteWriter, MalformedBytesError, writeUint32 } from '../base/bytes.ts';
import type { LogBase } from '../ports/wal.ts';
import type { ConfState, HardState, LogIndex, ReplicaId, Term } from '../raft/types.ts';

const formatVersion = 1;
const headerBytes = 8;

const RecordKind = { hardState: 1, base: 2, compaction: 3, meta: 4, batch: 5 } as const;
type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

/** Entries up to `index` were removed; the last of them had `term`. */
export interface CompactionMark {
  readonly index: LogIndex;
  readonly term: Term;
}

/** What a store says of its batches, in each of them. */
export interface BatchMark {
  /** Name of the store, at most `identityBytesMax` bytes. */
  readonly identity: string;
  /** Counts the batches of the store. */
  readonly batchNumber: number;
  /** The last batch that was known to be synced when this one was written. */
  readonly syncedBatch: number;
}

const identityBytesMax = 64;
/** Bytes of an encoded batch mark. */
export const batchMarkBytesMax: number = headerBytes + 16 + 1 + identityBytesMax;

/** Body: batch number u53, synced batch u53, identity (varint length, UTF-8). */
export function encodeBatchMark(mark: BatchMark): Uint8Array {
  assert(mark.syncedBatch < mark.batchNumber, 'a batch knows of syncs before it');
  const writer = openRecord(RecordKind.batch, batchMarkBytesMax);
  writer.uint53(mark.batchNumber);
  writer.uint53(mark.syncedBatch);
  writer.text(mark.identity);
  assert(writer.length <= batchMarkBytesMax, 'the name of a store is short');
  return sealRecord(writer);
}

/** @throws MalformedBytesError */
export function decodeBatchMark(bytes: Uint8Array): BatchMark {
  const reader = openBody(bytes, RecordKind.batch);
  const batchNumber = reader.uint53();
  const syncedBatch = reader.uint53();
  const identity = reader.text();
  checkEnd(reader);
  if (syncedBatch >= batchNumber)
    throw new MalformedBytesError(`batch ${batchNumber} knows that ${syncedBatch} is synced`);
  if (bytes.byteLength > batchMarkBytesMax)
    throw new MalformedBytesError(`batch mark of ${bytes.byteLength} bytes`);
  return { identity, batchNumber, syncedBatch };
}

/** Body: term u53, commit index u53, voted for varint (0: nobody). */
export function encodeHardState(hardState: HardState): Uint8Array {
  const writer = openRecord(RecordKind.hardState);
  writer.uint53(hardState.term);
  writer.uint53(hardState.commitIndex);
  assert(hardState.votedFor !== 0, 'replica ids begin at 1');
  writer.varint(hardState.votedFor ?? 0);
  return sealRecord(writer);
}

/** @throws MalformedBytesError */
export function decodeHardState(bytes: Uint8Array): HardState {
  const reader = openBody(bytes, RecordKind.hardState);
  const term = reader.uint53();
  const commitIndex = reader.uint53();
  const votedFor = reader.varint();
  checkEnd(reader);
  return { term, votedFor: votedFor === 0 ? undefined : votedFor, commitIndex };
}

/** Body: index u53, term u53, four lists of replica ids, flags u8 (1: auto leave, 2: data follows), data. */
export function encodeBase(base: LogBase): Uint8Array {
  const { confState } = base;
  const writer = openRecord(RecordKind.base, 64 + (base.data?.byteLength ?? 0));
  writer.uint53(base.index);
  writer.uint53(base.term);
  writeReplicas(writer, confState.voters);
  writeReplicas(writer, confState.votersOutgoing);
  writeReplicas(writer, confState.learners);
  writeReplicas(writer, confState.learnersNext);
  writer.uint8((confState.autoLeave ? 1 : 0) | (base.data === undefined ? 0 : 2));
  if (base.data !== undefined) writer.raw(base.data);
  return sealRecord(writer);
}

/**
 * Reads a base; `data` is a view of `bytes`.
 *
 * @throws MalformedBytesError
 */
export function decodeBase(bytes: Uint8Array): LogBase {
  const reader = openBody(bytes, RecordKind.base);
  const index = reader.uint53();
  const term = reader.uint53();
  const voters = readReplicas(reader);
  const votersOutgoing = readReplicas(reader);
  const learners = readReplicas(reader);
  const learnersNext = readReplicas(reader);
  const flags = reader.uint8();
  if (flags > 3) throw new MalformedBytesError(`base with flags ${flags}`);
  const data = (flags & 2) === 0 ? undefined : reader.view(reader.remaining);
  checkEnd(reader);
  const autoLeave = (flags & 1) !== 0;
  const confState: ConfState = { voters, votersOutgoing, learners, learnersNext, autoLeave };
  return { index, term, confState, data };
}

/** Body: index u53, term u53. */
export function encodeCompactionMark(mark: CompactionMark): Uint8Array {
  const writer = openRecord(RecordKind.compaction);
  writer.uint53(mark.index);
  writer.uint53(mark.term);
  return sealRecord(writer);
}

/** @throws MalformedBytesError */
export function decodeCompactionMark(bytes: Uint8Array): CompactionMark {
  const reader = openBody(bytes, RecordKind.compaction);
  const mark = { index: reader.uint53(), term: reader.uint53() };
  checkEnd(reader);
  return mark;
}

/** Body: the value. */
export function encodeMeta(value: Uint8Array): Uint8Array {
  const writer = openRecord(RecordKind.meta, headerBytes + value.byteLength);
  writer.raw(value);
  return sealRecord(writer);
}

/** @throws MalformedBytesError */
export function decodeMeta(bytes: Uint8Array): Uint8Array {
  const reader = openBody(bytes, RecordKind.meta);
  return reader.view(reader.remaining);
}

function openRecord(kind: RecordKind, capacity = 40): ByteWriter {
  const writer = new ByteWriter(capacity);
  writer.uint8(formatVersion);
  writer.uint8(kind);
  writer.uint8(0);
  writer.uint8(0);
  writer.uint32(0);
  return writer;
}

function sealRecord(writer: ByteWriter): Uint8Array {
  const bytes = writer.finish();
  writeUint32(bytes, 4, crc32(bytes.subarray(headerBytes)));
  return bytes;
}

function openBody(bytes: Uint8Array, kind: RecordKind): ByteReader {
  const reader = new ByteReader(bytes);
  const expected = formatVersion | (kind << 8);
  const head = reader.uint32();
  if (head !== expected)
    throw new MalformedBytesError(`record head is ${head}, expected ${expected}`);
  const checksum = reader.uint32();
  const actual = crc32(bytes.subarray(headerBytes));
  if (checksum !== actual)
    throw new MalformedBytesError(`record checksum is ${actual}, expected ${checksum}`);
  return reader;
}

function checkEnd(reader: ByteReader): void {
  if (reader.remaining !== 0)
    throw new MalformedBytesError(`${reader.remaining} bytes behind the record`);
}

function writeReplicas(writer: ByteWriter, replicas: readonly ReplicaId[]): void {
  writer.varint(replicas.length);
  for (const replica of replicas) writer.varint(replica);
}

function readReplicas(reader: ByteReader): ReplicaId[] {
  const count = reader.varint();
  if (count > reader.remaining) throw new MalformedBytesError(`list of ${count} replicas`);
  const replicas: ReplicaId[] = [];
  for (let i = 0; i < count; i++) replicas.push(reader.varint());
  return replicas;
}
