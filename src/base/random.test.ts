// The seeded source of randomness: equal seeds repeat a run exactly on every machine, so the streams are golden.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { seededRandom } from './random.ts';

function take(seed: number, count: number, bound = 0x1_0000_0000): number[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, () => random.below(bound));
}

const seeds = fc.maxSafeInteger();

describe('the seeded random source', () => {
  it('repeats a stream for its seed, and mixes both kinds of draws the same way', () => {
    fc.assert(
      fc.property(seeds, fc.array(fc.boolean(), { maxLength: 40 }), (seed, draws) => {
        const [a, b] = [seededRandom(seed), seededRandom(seed)];
        for (const isUnit of draws) {
          assert.equal(isUnit ? a.unit() : a.below(97), isUnit ? b.unit() : b.below(97));
        }
      }),
    );
  });

  it('gives the streams that it has always given', () => {
    assert.deepEqual(take(0, 4), [1_789_933_344, 44_971_166, 2_521_387_044, 3_848_737_593]);
    assert.deepEqual(take(42, 4), [660_444_221, 3_652_823_732, 77_672_526, 910_233_633]);
    assert.deepEqual(take(-1, 2), [4_076_303_445, 944_738_407]);
    assert.deepEqual(take(Number.MAX_SAFE_INTEGER, 2), [219_981_187, 3_356_140]);
  });

  it('gives neighbouring seeds, and seeds that differ only above 32 bits, different streams', () => {
    fc.assert(
      fc.property(seeds, fc.constantFrom(1, 0x1_0000_0000), (seed, distance) => {
        const other = Number.isSafeInteger(seed + distance) ? seed + distance : seed - distance;
        assert.notDeepEqual(take(seed, 8), take(other, 8));
      }),
      {
        examples: [
          [-1, 1],
          [0, 0x1_0000_0000],
          [0xffff_ffff, 1],
        ],
      },
    );
  });

  it('stays inside its bounds', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 1, max: 0x1_0000_0000 }), (seed, bound) => {
        const random = seededRandom(seed);
        for (let i = 0; i < 20; i++) {
          const value = random.below(bound);
          assert.ok(Number.isInteger(value) && value >= 0 && value < bound);
          const unit = random.unit();
          assert.ok(unit >= 0 && unit < 1);
        }
      }),
    );
  });

  it('reaches every value about equally often', () => {
    for (const seed of [1, 2, 3]) {
      const counts = new Array<number>(10).fill(0);
      for (const value of take(seed, 20_000, 10)) counts[value] = (counts[value] ?? 0) + 1;
      // 2,000 each are expected with a standard deviation of 42.
      for (const count of counts)
        assert.ok(Math.abs(count - 2_000) < 300, `seed ${seed}: ${counts}`);
    }
  });

  it('does not repeat itself soon', () => {
    const values = take(7, 10_000);
    // Two equal ones among 10,000 of 2^32 are likely by chance in one of 86 streams; this one has none.
    assert.equal(new Set(values).size, values.length);
  });

  it('refuses seeds that are no safe integers, and bounds outside of 1 … 2^32', () => {
    for (const seed of [0.5, Number.NaN, 2 ** 53]) {
      assert.throws(() => seededRandom(seed), /a seed is a safe integer/);
    }
    const random = seededRandom(1);
    assert.throws(() => random.below(0), /a bound is positive/);
    assert.throws(() => random.below(2 ** 32 + 1), /a bound fits 32 bits/);
  });
});
