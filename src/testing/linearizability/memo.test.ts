// The memo forgets nothing, mistakes nothing for something else, and knows what can do all that another can.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../base/random.ts';
import { type Configuration, type Memo, memoBytes, mix, openMemo, tryRemember } from './memo.ts';

/** With these operations placed, of 96 that must be and 64 that may be left out. */
function configuration(
  state: number,
  required: readonly number[],
  optional: readonly number[] = [],
): Configuration {
  const bits = (count: number, numbers: readonly number[]) => {
    const words = new Uint32Array(count);
    for (const each of numbers) words[each >>> 5] = (words[each >>> 5] ?? 0) | (1 << (each & 31));
    return words;
  };
  let firstMissing = 0;
  while (required.includes(firstMissing)) firstMissing += 1;
  return {
    hash: required.reduce((hash, each) => hash ^ mix(each + 1), 0),
    state,
    required: bits(3, required),
    firstWord: firstMissing >>> 5,
    lastWord: required.length === 0 ? -1 : Math.max(...required) >>> 5,
    optional: bits(2, optional),
  };
}

function isNew(memo: Memo, ...parts: Parameters<typeof configuration>): boolean {
  return tryRemember(memo, configuration(...parts));
}

test('a configuration is new once', () => {
  const memo = openMemo();
  assert.ok(isNew(memo, 0, []));
  assert.ok(!isNew(memo, 0, []));
  assert.ok(isNew(memo, 0, [5, 70]));
  assert.ok(!isNew(memo, 0, [70, 5]));
});

test('another state or another required operation makes another configuration', () => {
  const memo = openMemo();
  assert.ok(isNew(memo, 0, [1]));
  assert.ok(isNew(memo, 1, [1]));
  assert.ok(isNew(memo, 0, [1, 2]));
  assert.ok(isNew(memo, 0, [2]));
  assert.ok(isNew(memo, 0, [33]));
});

test('of two that differ in optional operations, the one that used more is not new', () => {
  const memo = openMemo();
  assert.ok(isNew(memo, 0, [1], [3, 40]));
  assert.ok(!isNew(memo, 0, [1], [3, 40, 63]));
  assert.ok(isNew(memo, 0, [1], [3, 63]));
  assert.ok(isNew(memo, 0, [1], [3]));
  assert.ok(!isNew(memo, 0, [1], [3, 5]));
  assert.ok(isNew(memo, 0, [1]));
  assert.ok(!isNew(memo, 0, [1], [9]));
});

test('sets that are full for one word or for two are different', () => {
  const full = (count: number) => Array.from({ length: count }, (_, at) => at);
  const memo = openMemo();
  for (const count of [0, 31, 32, 33, 63, 64, 65]) assert.ok(isNew(memo, 0, full(count)));
  for (const count of [0, 31, 32, 33, 63, 64, 65]) assert.ok(!isNew(memo, 0, full(count)));
});

test('equal hashes do not make different configurations equal', () => {
  const memo = openMemo();
  assert.ok(tryRemember(memo, { ...configuration(0, [1]), hash: 7 }));
  assert.ok(tryRemember(memo, { ...configuration(0, [2]), hash: 7 }));
  assert.ok(!tryRemember(memo, { ...configuration(0, [1]), hash: 7 }));
  const full = Array.from({ length: 32 }, (_, at) => at);
  assert.ok(tryRemember(memo, { ...configuration(0, []), hash: 7 }));
  assert.ok(tryRemember(memo, { ...configuration(0, full), hash: 7 }));
});

test('states are compared, not only what is made of them', () => {
  const memo = openMemo();
  assert.ok(tryRemember(memo, { ...configuration(0, [1]), hash: 0 }));
  // What state 1 adds to a hash, so that both come to the same.
  assert.ok(tryRemember(memo, { ...configuration(1, [1]), hash: 0x9e37_79b1 | 0 }));
  assert.ok(!tryRemember(memo, { ...configuration(1, [1]), hash: 0x9e37_79b1 | 0 }));
});

test('it grows and forgets nothing', () => {
  const random = seededRandom(1);
  const memo = openMemo();
  const drawn = Array.from({ length: 5_000 }, () => {
    const required = Array.from({ length: random.below(20) }, () => random.below(96));
    return configuration(random.below(50), [...new Set(required)]);
  });
  const bytesBefore = memoBytes(memo);
  const newOnes = drawn.filter((each) => tryRemember(memo, each));
  assert.equal(memo.count, newOnes.length);
  assert.ok(newOnes.length > 4_000);
  assert.ok(memoBytes(memo) > bytesBefore + newOnes.length * 24);
  assert.ok(drawn.every((each) => !tryRemember(memo, each)));
  assert.equal(memo.count, newOnes.length);
});
