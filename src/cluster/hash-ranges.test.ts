// The map from keys to partitions: total, even, and the same for ever. The golden hashes are those of the `xxhsum -H0`
// program.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { utf8Bytes } from '../base/bytes.ts';
import {
  brokenRuleOf,
  evenRanges,
  hashEnd,
  hashOfBytes,
  jumpHash,
  partitionOfHash,
  partitionOfKey,
  prefixOf,
} from './hash-ranges.ts';

const hashes = fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(0, 1, 0x7fff_ffff, 0xffff_ffff));
const counts = fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 65_535 }));

test('the hash of a key is xxHash32 with seed 0, for ever', () => {
  const golden: [string, number][] = [
    ['', 0x02cc_5d05],
    ['a', 0x550d_7456],
    ['ab', 0x4999_fc53],
    ['abc', 0x32d1_53ff],
    ['abcd', 0xa364_3705],
    ['abcde', 0x9738_f19b],
    ['0123456789abcdef', 0xc2c4_5b69],
    ['Nobody inspects the spammish repetition', 0xe229_3b2f],
    ['Grüße/世界', 0xbf4b_e026],
    ['x'.repeat(1_000), 0x73bc_d817],
  ];
  for (const [text, hash] of golden) {
    assert.equal(hashOfBytes(utf8Bytes(text)).toString(16), hash.toString(16), text);
  }
  const everyByte = Uint8Array.from({ length: 1_023 }, (_, at) => at);
  assert.equal(hashOfBytes(everyByte).toString(16), 'd836879f');
});

test('the hash of a view does not depend on what surrounds it', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.nat(9), (bytes, offset) => {
      const surrounded = new Uint8Array(bytes.byteLength + 20).fill(0xee);
      surrounded.set(bytes, offset);
      const view = surrounded.subarray(offset, offset + bytes.byteLength);
      assert.equal(hashOfBytes(view), hashOfBytes(bytes));
    }),
  );
});

test('a single changed bit changes half of the hash on average', () => {
  let changedBits = 0;
  let trials = 0;
  for (let sample = 0; sample < 200; sample++) {
    const bytes = utf8Bytes(`key-${sample}-${'x'.repeat(sample % 24)}`);
    for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
      const flipped = bytes.slice();
      flipped[bit >>> 3] = (flipped[bit >>> 3] as number) ^ (1 << (bit & 7));
      const difference = hashOfBytes(bytes) ^ hashOfBytes(flipped);
      changedBits += (difference >>> 0).toString(2).replaceAll('0', '').length;
      trials += 1;
    }
  }
  const average = changedBits / trials;
  assert.ok(Math.abs(average - 16) < 0.25, `${average} of 32 bits`);
});

test('even ranges cover every hash exactly once and differ in size by one at most', () => {
  fc.assert(
    fc.property(counts, (partitionCount) => {
      const ranges = evenRanges(partitionCount);
      assert.equal(brokenRuleOf(ranges), undefined);
      assert.equal(ranges.length, partitionCount);
      const sizes = ranges.map((range) => range.endHash - range.fromHash);
      assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 1);
      assert.deepEqual([ranges[0]?.partitionId, ranges.at(-1)?.partitionId], [1, partitionCount]);
    }),
    { numRuns: 50 },
  );
});

test('the owner of a hash is the one partition whose range holds it', () => {
  const divisions = fc
    .uniqueArray(fc.integer({ min: 1, max: hashEnd - 1 }), { maxLength: 40 })
    .map((cuts) => {
      const bounds = [0, ...cuts.sort((a, b) => a - b), hashEnd];
      return bounds.slice(1).map((endHash, position) => ({
        partitionId: 1_000 - position,
        fromHash: bounds[position] as number,
        endHash,
      }));
    });
  fc.assert(
    fc.property(divisions, hashes, (ranges, hash) => {
      const holders = ranges.filter((range) => range.fromHash <= hash && hash < range.endHash);
      assert.deepEqual(
        [partitionOfHash(ranges, hash)],
        holders.map((range) => range.partitionId),
      );
      for (const range of ranges) {
        assert.equal(partitionOfHash(ranges, range.fromHash), range.partitionId);
        assert.equal(partitionOfHash(ranges, range.endHash - 1), range.partitionId);
      }
    }),
  );
});

test('ranges with a gap, an overlap, an empty one, a missing end or no partition are refused', () => {
  const range = (fromHash: number, endHash: number) => ({ partitionId: 1, fromHash, endHash });
  for (const ranges of [
    [],
    [range(0, 10)],
    [range(1, hashEnd)],
    [range(0, 10), range(11, hashEnd)],
    [range(0, 10), range(9, hashEnd)],
    [range(0, 0), range(0, hashEnd)],
    [range(0, hashEnd + 1)],
    [{ ...range(0, hashEnd), partitionId: 0 }],
    [{ ...range(0, hashEnd), partitionId: 65_536 }],
  ]) {
    assert.notEqual(brokenRuleOf(ranges), undefined, JSON.stringify(ranges));
  }
});

test('no map has less than one partition or more than 65535', () => {
  for (const count of [0, -1, 1.5, 65_536, Number.NaN]) {
    assert.throws(() => evenRanges(count), { name: 'AssertionError' }, String(count));
  }
  assert.equal(evenRanges(65_535).length, 65_535);
});

test('something that is no hash has no owner', () => {
  const ranges = evenRanges(3);
  for (const hash of [-1, hashEnd, Number.NaN]) {
    assert.throws(() => partitionOfHash(ranges, hash), { name: 'AssertionError' }, String(hash));
  }
});

test('sequential keys spread evenly: the fullest of 16 partitions has less than 3 % too many', () => {
  const ranges = evenRanges(16);
  const keyCount = 200_000;
  const owned = new Array<number>(17).fill(0);
  for (let key = 0; key < keyCount; key++) {
    const partitionId = partitionOfKey(ranges, `user-${key}`);
    owned[partitionId] = (owned[partitionId] as number) + 1;
  }
  const fullest = Math.max(...owned) / (keyCount / 16);
  assert.ok(fullest < 1.03, `the fullest partition has ${fullest} times its share`);
  assert.equal(owned[0], 0, 'the system partition owns no key');
});

test('keys keep their partition for ever, as text and as bytes', () => {
  const ranges = evenRanges(8);
  const owners = ['alpha', 'beta', 'gamma', 'user-1', 'user-2', ''].map((key) => {
    assert.equal(partitionOfKey(ranges, key), partitionOfKey(ranges, utf8Bytes(key)));
    return partitionOfKey(ranges, key);
  });
  assert.deepEqual(owners, [3, 5, 7, 6, 8, 1]);
});

test('with prefix routing everything before the first slash decides', () => {
  const ranges = evenRanges(1_000);
  const owner = partitionOfKey(ranges, 'a');
  for (const key of ['a/b', 'a/c', 'a/', 'a/b/c', 'a']) {
    assert.equal(partitionOfKey(ranges, key, 'prefix'), owner, key);
  }
  assert.notEqual(partitionOfKey(ranges, 'a/b'), partitionOfKey(ranges, 'a/c'));
  assert.equal(partitionOfKey(ranges, '/b', 'prefix'), partitionOfKey(ranges, ''));
  assert.deepEqual(prefixOf(utf8Bytes('no-slash')), utf8Bytes('no-slash'));
});

test('jump hashing gives the published values', () => {
  assert.equal(jumpHash(1n, 1), 0);
  assert.equal(jumpHash(42n, 57), 43);
  assert.equal(jumpHash(0xdead10ccn, 1), 0);
  assert.equal(jumpHash(0xdead10ccn, 666), 361);
  assert.equal(jumpHash(256n, 1_024), 520);
});

test('with one bucket more a key stays or moves to the new bucket', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), counts, (key, bucketCount) => {
      const before = jumpHash(key, bucketCount);
      const after = jumpHash(key, bucketCount + 1);
      assert.ok(before >= 0 && before < bucketCount);
      assert.ok(after === before || after === bucketCount);
    }),
  );
});

test('jump hashing fills its buckets evenly', () => {
  const filled = new Array<number>(10).fill(0);
  for (let key = 0n; key < 50_000n; key++) {
    const bucket = jumpHash(key, 10);
    filled[bucket] = (filled[bucket] as number) + 1;
  }
  for (const count of filled) assert.ok(Math.abs(count - 5_000) < 250, String(filled));
});

test('jump hashing wants at least one bucket', () => {
  for (const count of [0, -1, 1.5, 2 ** 31]) {
    assert.throws(() => jumpHash(1n, count), { name: 'AssertionError' }, String(count));
  }
});
