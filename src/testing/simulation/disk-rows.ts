// What a simulated store holds: rows in key order, and a log of batches in bytes, as RocksDB has them. A batch is one
// record of the log with a checksum; recovery takes records until the first one that is not whole.

import { crc32 } from 'node:zlib';
import { must } from '../../base/assert.ts';
import { ByteReader, ByteWriter, MalformedBytesError } from '../../base/bytes.ts';
import type { RocksDbOperation, RocksDbRow } from '../../wal/rocksdb-library.ts';

/** Length and checksum. */
const recordHeaderBytes = 8;

/** Rows by key; keys are compared byte by byte. */
export interface RowStore {
  /** The keys as text of one character a byte, ascending. */
  readonly keys: string[];
  readonly rows: Map<string, RocksDbRow>;
}

export function newRowStore(): RowStore {
  return { keys: [], rows: new Map() };
}

export function copyRowStore({ keys, rows }: RowStore): RowStore {
  return { keys: [...keys], rows: new Map(rows) };
}

export function applyOperations(store: RowStore, operations: readonly RocksDbOperation[]): void {
  for (const { key, value } of operations) {
    const name = keyName(key);
    const isKnown = store.rows.has(name);
    if (value === undefined) {
      if (!isKnown) continue;
      store.rows.delete(name);
      store.keys.splice(placeOf(store.keys, name), 1);
    } else {
      store.rows.set(name, { key, value });
      if (!isKnown) store.keys.splice(placeOf(store.keys, name), 0, name);
    }
  }
}

/** The rows from `from` up to, not including, `end`. */
export function rowsBetween(store: RowStore, from: Uint8Array, end: Uint8Array): RocksDbRow[] {
  const first = placeOf(store.keys, keyName(from));
  const last = placeOf(store.keys, keyName(end));
  return store.keys
    .slice(first, last)
    .map((name) => must(store.rows.get(name), 'every key has a row'));
}

/** The place of the first key that is not below `name`. */
function placeOf(keys: readonly string[], name: string): number {
  // Most new keys are the last ones of a partition, and a store has few partitions: still a search is quick.
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as string) < name) low = middle + 1;
    else high = middle;
  }
  return low;
}

function keyName(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}

/** One batch as a record of the log. */
export function encodeBatch(operations: readonly RocksDbOperation[]): Uint8Array {
  const body = new ByteWriter(256);
  for (const { key, value } of operations) {
    body.uint8(value === undefined ? 0 : 1);
    body.varint(key.byteLength);
    body.raw(key);
    if (value === undefined) continue;
    body.varint(value.byteLength);
    body.raw(value);
  }
  const bytes = body.finish();
  const record = new ByteWriter(recordHeaderBytes + bytes.byteLength);
  record.uint32(bytes.byteLength);
  record.uint32(crc32(bytes));
  record.raw(bytes);
  return record.finish();
}

/** The batches of a log up to the first record that is not whole, and whether there is more behind them. */
export function decodeLog(log: Uint8Array): {
  readonly batches: readonly (readonly RocksDbOperation[])[];
  readonly isTorn: boolean;
} {
  const batches: RocksDbOperation[][] = [];
  let at = 0;
  while (at < log.byteLength) {
    const record = recordAt(log, at);
    if (record === undefined) return { batches, isTorn: true };
    batches.push(decodeBatch(record));
    at += recordHeaderBytes + record.byteLength;
  }
  return { batches, isTorn: false };
}

function recordAt(log: Uint8Array, at: number): Uint8Array | undefined {
  if (at + recordHeaderBytes > log.byteLength) return undefined;
  const header = new ByteReader(log.subarray(at, at + recordHeaderBytes));
  const byteLength = header.uint32();
  const checksum = header.uint32();
  const from = at + recordHeaderBytes;
  if (byteLength === 0 || from + byteLength > log.byteLength) return undefined;
  const body = log.subarray(from, from + byteLength);
  return crc32(body) === checksum ? body : undefined;
}

function decodeBatch(body: Uint8Array): RocksDbOperation[] {
  const reader = new ByteReader(body);
  const operations: RocksDbOperation[] = [];
  while (reader.remaining > 0) {
    const kind = reader.uint8();
    if (kind > 1) throw new MalformedBytesError(`operation ${kind}`);
    const key = reader.view(reader.varint());
    const value = kind === 0 ? undefined : reader.view(reader.varint());
    operations.push({ key, value });
  }
  return operations;
}

/** `parts` one behind the other. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}
