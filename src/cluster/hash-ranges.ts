// Which partition owns a key: the key's 32-bit hash falls into exactly one of the partition map's ranges. The hash is
// xxHash32 with seed 0, after its public specification; it decides where data lives, so it can never change. Jump
// hashing (Lamping and Veach 2014) is here for callers that place things of their own.

import { assert, must } from '../base/assert.ts';
import { utf8Bytes } from '../base/bytes.ts';
import type { PartitionId } from '../ports/wal.ts';

/** Hashes are integers, 0 … 2^32 - 1. */
export const hashEnd = 0x1_0000_0000;
/** Partitions that a map can hold. */
export const partitionCountMax = 65_535;

/** The hashes that one partition owns. */
export interface HashRange {
  readonly partitionId: PartitionId;
  /** Inclusive. */
  readonly fromHash: number;
  /** Exclusive, up to 2^32. */
  readonly endHash: number;
}

/**
 * What of a key decides its partition: all of it, or the part before its first `/`, so that `a/b` and `a/c` are
 * neighbours of `a`.
 */
export type KeyRouting = 'key' | 'prefix';

/**
 * Divides all hashes evenly among partitions 1 … `partitionCount`, in that order.
 *
 * @param partitionCount 1 … 65535
 */
export function evenRanges(partitionCount: number): readonly HashRange[] {
  assert(Number.isSafeInteger(partitionCount), 'partitions are counted in whole numbers');
  assert(partitionCount >= 1, 'somebody owns every key');
  assert(partitionCount <= partitionCountMax, 'a map holds up to 65535 partitions');
  const ranges = Array.from({ length: partitionCount }, (_, position) => ({
    partitionId: position + 1,
    fromHash: Math.floor((position * hashEnd) / partitionCount),
    endHash: Math.floor(((position + 1) * hashEnd) / partitionCount),
  }));
  assert(brokenRuleOf(ranges) === undefined, 'Invariant: the ranges divide all hashes');
  return ranges;
}

/** Which rule `ranges` break, in words; undefined when they are in order and cover every hash exactly once. */
export function brokenRuleOf(ranges: readonly HashRange[]): string | undefined {
  let endHash = 0;
  for (const { partitionId, ...range } of ranges) {
    if (partitionId < 1 || partitionId > partitionCountMax) return 'a range has a partition';
    if (range.fromHash !== endHash) return 'a range begins where the one before it ends';
    if (range.endHash <= range.fromHash) return 'a range is not empty';
    endHash = range.endHash;
  }
  return endHash === hashEnd ? undefined : 'the ranges cover every hash';
}

/**
 * The owner of a hash.
 *
 * @param ranges in order, and covering every hash (`brokenRuleOf`)
 */
export function partitionOfHash(ranges: readonly HashRange[], hash: number): PartitionId {
  assert(hash >= 0, 'a hash is not negative');
  assert(hash < hashEnd, 'a hash has 32 bits');
  let low = 0;
  let high = ranges.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if ((ranges[middle] as HashRange).fromHash <= hash) low = middle;
    else high = middle - 1;
  }
  const range = must(ranges[low], 'a map has a range');
  assert(range.fromHash <= hash, 'the range holds the hash');
  assert(hash < range.endHash, 'the range holds the hash');
  return range.partitionId;
}

/** The owner of a key. A text counts as its UTF-8 bytes. */
export function partitionOfKey(
  ranges: readonly HashRange[],
  key: string | Uint8Array,
  routing: KeyRouting = 'key',
): PartitionId {
  const bytes = typeof key === 'string' ? utf8Bytes(key) : key;
  return partitionOfHash(ranges, hashOfBytes(routing === 'prefix' ? prefixOf(bytes) : bytes));
}

/** The part of a key before its first `/`; all of it when there is none. */
export function prefixOf(key: Uint8Array): Uint8Array {
  const slash = key.indexOf(0x2f);
  return slash === -1 ? key : key.subarray(0, slash);
}

const prime1 = 0x9e37_79b1;
const prime2 = 0x85eb_ca77;
const prime3 = 0xc2b2_ae3d;
const prime4 = 0x27d4_eb2f;
const prime5 = 0x1656_67b1;

/** xxHash32 with seed 0: an integer, 0 … 2^32 - 1. */
export function hashOfBytes(bytes: Uint8Array): number {
  const { byteLength } = bytes;
  let at = 0;
  let hash = prime5;
  if (byteLength >= 16) {
    let lane1 = prime1 + prime2;
    let lane2 = prime2;
    let lane3 = 0;
    let lane4 = -prime1;
    for (; at + 16 <= byteLength; at += 16) {
      lane1 = mixLane(lane1, word(bytes, at));
      lane2 = mixLane(lane2, word(bytes, at + 4));
      lane3 = mixLane(lane3, word(bytes, at + 8));
      lane4 = mixLane(lane4, word(bytes, at + 12));
    }
    hash =
      rotateLeft(lane1, 1) + rotateLeft(lane2, 7) + rotateLeft(lane3, 12) + rotateLeft(lane4, 18);
  }
  hash = (hash + byteLength) | 0;
  for (; at + 4 <= byteLength; at += 4) {
    hash = Math.imul(rotateLeft(hash + Math.imul(word(bytes, at), prime3), 17), prime4);
  }
  for (; at < byteLength; at++) {
    hash = Math.imul(rotateLeft(hash + Math.imul(bytes[at] as number, prime5), 11), prime1);
  }
  hash = Math.imul(hash ^ (hash >>> 15), prime2);
  hash = Math.imul(hash ^ (hash >>> 13), prime3);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function mixLane(lane: number, input: number): number {
  return Math.imul(rotateLeft(lane + Math.imul(input, prime2), 13), prime1);
}

/** The little-endian word at `at`, as a signed integer. */
function word(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] as number) |
    ((bytes[at + 1] as number) << 8) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24)
  );
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

const jumpFactor = 2_862_933_555_777_941_757n;

/**
 * Jump consistent hashing: when the number of buckets grows, a key either stays or moves to a new bucket.
 *
 * @param key 64 bits that are already well mixed or not: they seed a generator
 * @param bucketCount 1 … 2^31 - 1
 * @returns 0 … `bucketCount` - 1
 */
export function jumpHash(key: bigint, bucketCount: number): number {
  assert(Number.isSafeInteger(bucketCount), 'buckets are counted in whole numbers');
  assert(bucketCount >= 1, 'a key needs a bucket');
  assert(bucketCount <= 0x7fff_ffff, 'a bucket number has 31 bits');
  let state = BigInt.asUintN(64, key);
  let bucket = 0;
  for (let next = 0; next < bucketCount; ) {
    bucket = next;
    state = BigInt.asUintN(64, state * jumpFactor + 1n);
    next = Math.floor((bucket + 1) * (0x8000_0000 / (Number(state >> 33n) + 1)));
  }
  return bucket;
}
