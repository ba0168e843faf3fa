// A seeded source of randomness: every random decision of a node is drawn from one of these, so that a seed repeats
// a run exactly. The generator is xoshiro128** (Blackman and Vigna), seeded through splitmix32.

import { assert } from './assert.ts';

/** A stream of pseudo-random numbers; equal seeds give equal streams. */
export interface Random {
  /** An integer in [0, `bound`). `bound` is 1 … 2^32. */
  below(bound: number): number;
  /** A float in [0, 1). */
  unit(): number;
}

/** Opens a stream. `seed` is any safe integer. */
export function seededRandom(seed: number): Random {
  assert(Number.isSafeInteger(seed), 'a seed is a safe integer');
  // The upper half is spread out, so that neither neighbours (-1 and 0) nor equal halves meet in one stream.
  const nextSeed = splitmix32(seed ^ Math.imul(Math.floor(seed / 0x1_0000_0000), 0x9e37_79b1));
  let a = nextSeed();
  let b = nextSeed();
  let c = nextSeed();
  let d = nextSeed();

  function next(): number {
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotateLeft(d, 11);
    return result;
  }

  return {
    below(bound) {
      assert(bound >= 1, 'a bound is positive');
      assert(bound <= 0x1_0000_0000, 'a bound fits 32 bits');
      return Math.floor((next() / 0x1_0000_0000) * bound);
    },
    unit: () => next() / 0x1_0000_0000,
  };
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

function splitmix32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return z ^ (z >>> 15);
  };
}
