// Random schedules over the core: lost, repeated and reordered messages, crashes that lose unsynced writes, restarts,
// changes of the membership, transfers, snapshots. The safety rules are checked after every step (see
// `core-safety.ts`); at the end everything is healed, and the group must go on within a bound.
//
// KOMMANDER_CORE_SEED=17 node --test test/paper/random.test.ts   repeats one seed
// KOMMANDER_CORE_SEEDS=5000                                      runs that many

import assert from 'node:assert/strict';
import process from 'node:process';
import { describe, it } from 'node:test';
import { randomRun } from '../support/core-schedule.ts';

const only = process.env.KOMMANDER_CORE_SEED;
const seedCount = Number(process.env.KOMMANDER_CORE_SEEDS ?? 150);
const seeds =
  only === undefined ? Array.from({ length: seedCount }, (_, i) => i + 1) : [Number(only)];

describe('Figure 3: whatever fails, the safety rules hold, and a healed group goes on', () => {
  for (const replicaCount of [3, 5]) {
    for (const asyncStorageWrites of [false, true]) {
      const mode = asyncStorageWrites ? 'asynchronous' : 'synchronous';
      it(`with ${replicaCount} replicas and ${mode} storage`, () => {
        let committed = 0;
        for (const seed of seeds) {
          try {
            committed += randomRun({ seed, replicaCount, asyncStorageWrites }).committedCount;
          } catch (error) {
            const again = `KOMMANDER_CORE_SEED=${seed} node --test test/paper/random.test.ts`;
            throw new Error(`seed ${seed} fails; again: ${again}`, { cause: error });
          }
        }
        assert.ok(committed > seeds.length * 10, 'the schedules leave room for work');
      });
    }
  }
});
