// Where randomness enters: the seed of a node that was given none, and names that must never come twice. Everything
// else draws from a stream that a seed repeats (`base/random.ts`).

import { randomBytes, randomInt } from 'node:crypto';

/** A seed that no other start is likely to have. */
export function drawSeed(): number {
  return randomInt(2 ** 47);
}

/** 16 random bytes in hexadecimal: a name that never comes twice. */
export function drawNonce(): string {
  return randomBytes(16).toString('hex');
}
