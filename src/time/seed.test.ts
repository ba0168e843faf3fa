// Nodes whose seeds are alike would campaign at the same moment, for ever (HAZARDS 5).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../base/random.ts';
import { drawSeed } from './seed.ts';

test('seeds are safe integers, differ, and open different streams', () => {
  const seeds = Array.from({ length: 100 }, drawSeed);
  assert.equal(new Set(seeds).size, seeds.length);
  assert.ok(seeds.every((seed) => Number.isSafeInteger(seed) && seed >= 0));
  const first = seeds.map((seed) => seededRandom(seed).below(2 ** 32));
  assert.ok(new Set(first).size > 95, 'the streams begin differently');
});
