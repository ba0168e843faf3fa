// The keys of the RocksDB log store. Integers are big-endian, so that a partition's runs lie in order, and its records
// before them:
//
//   0 + "kommander"      mark of the last batch  3 + partition u32                       base
//   1 + name             node-wide fact          4 + partition u32                       compaction mark
//   2 + partition u32    hard state              5 + partition u32 + first index u64     run

import { MalformedBytesError, utf8Bytes, utf8Text } from '../base/bytes.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { LogIndex } from '../raft/types.ts';

export const KeyKind = { batch: 0, meta: 1, hardState: 2, base: 3, compaction: 4, run: 5 } as const;
export type KeyKind = (typeof KeyKind)[keyof typeof KeyKind];

/** What a key says. */
export type ParsedKey =
  | { readonly kind: typeof KeyKind.batch }
  | { readonly kind: typeof KeyKind.meta; readonly name: string }
  | {
      readonly kind: typeof KeyKind.hardState | typeof KeyKind.base | typeof KeyKind.compaction;
      readonly partitionId: PartitionId;
    }
  | {
      readonly kind: typeof KeyKind.run;
      readonly partitionId: PartitionId;
      readonly firstIndex: LogIndex;
    };

/** Behind the largest partition id. */
const partitionIdEnd = 0x8000_0000;
const partitionKeyBytes = 5;
const runKeyBytes = 13;

/** Below and above every key. */
export const keysFrom: Uint8Array = Uint8Array.of(0);
export const keysEnd: Uint8Array = Uint8Array.of(0xff);

/** Key of the mark that every batch begins with. */
export const batchMarkKey: Uint8Array = Uint8Array.of(KeyKind.batch, ...utf8Bytes('kommander'));

/** @throws MalformedBytesError not a key of this store */
export function parseKey(key: Uint8Array): ParsedKey {
  const kind = key[0];
  if (kind === KeyKind.batch && isBatchMarkKey(key)) return { kind };
  if (kind === KeyKind.meta) return { kind, name: utf8Text(key.subarray(1)) };
  if (kind === KeyKind.run && key.byteLength === runKeyBytes) {
    const firstIndex = readUint32BigEndian(key, 5) * 0x1_0000_0000 + readUint32BigEndian(key, 9);
    if (!Number.isSafeInteger(firstIndex)) throw unknownKey(key);
    return { kind, partitionId: partitionIn(key), firstIndex };
  }
  const isRecord =
    kind === KeyKind.hardState || kind === KeyKind.base || kind === KeyKind.compaction;
  if (isRecord && key.byteLength === partitionKeyBytes)
    return { kind, partitionId: partitionIn(key) };
  throw unknownKey(key);
}

function isBatchMarkKey(key: Uint8Array): boolean {
  return (
    key.byteLength === batchMarkKey.byteLength && key.every((byte, i) => byte === batchMarkKey[i])
  );
}

function partitionIn(key: Uint8Array): PartitionId {
  const partitionId = readUint32BigEndian(key, 1);
  if (partitionId >= partitionIdEnd) throw unknownKey(key);
  return partitionId;
}

function unknownKey(key: Uint8Array): MalformedBytesError {
  return new MalformedBytesError(`unknown key ${[...key.subarray(0, 32)].join(' ')}`);
}

/** Key of a node-wide fact. */
export function metaKey(name: string): Uint8Array {
  const text = utf8Bytes(name);
  const key = new Uint8Array(1 + text.byteLength);
  key[0] = KeyKind.meta;
  key.set(text, 1);
  return key;
}

/** Key of a partition's record of `kind`. */
export function partitionKey(kind: KeyKind, partitionId: PartitionId): Uint8Array {
  const key = new Uint8Array(partitionKeyBytes);
  key[0] = kind;
  writeUint32BigEndian(key, 1, partitionId);
  return key;
}

/** Key of the run that begins at `firstIndex`. */
export function runKey(partitionId: PartitionId, firstIndex: LogIndex): Uint8Array {
  const key = new Uint8Array(runKeyBytes);
  key[0] = KeyKind.run;
  writeUint32BigEndian(key, 1, partitionId);
  writeUint32BigEndian(key, 5, Math.floor(firstIndex / 0x1_0000_0000));
  writeUint32BigEndian(key, 9, firstIndex % 0x1_0000_0000);
  return key;
}

function writeUint32BigEndian(target: Uint8Array, offset: number, value: number): void {
  target[offset] = value >>> 24;
  target[offset + 1] = value >>> 16;
  target[offset + 2] = value >>> 8;
  target[offset + 3] = value;
}

function readUint32BigEndian(bytes: Uint8Array, offset: number): number {
  const [a = 0, b = 0, c = 0, d = 0] = bytes.subarray(offset, offset + 4);
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}
