// A recording is done again on a fresh core, which must end in exactly the state of the recorded one: over random
// schedules, with rings so small that they wrap many times, in both storage modes.
//
// KOMMANDER_CORE_SEED=17 node --test src/raft/replay.test.ts   repeats one seed

import assert from 'node:assert/strict';
import process from 'node:process';
import { describe, it } from 'node:test';
import type { CoreCluster, Replica } from '../../test/support/core-cluster.ts';
import { randomRun } from '../../test/support/core-schedule.ts';
import { must } from '../base/assert.ts';
import { recordOf } from './recording-reader.ts';
import { replay } from './replay.ts';

const only = process.env.KOMMANDER_CORE_SEED;
const seeds = only === undefined ? Array.from({ length: 40 }, (_, i) => i + 1) : [Number(only)];
const stepsBetweenChecks = 200;

describe('a replay of what was recorded ends in the state of the core', () => {
  for (const asyncStorageWrites of [false, true]) {
    for (const recordingBytesMax of [1_000, 20_000]) {
      const mode = asyncStorageWrites ? 'asynchronous' : 'synchronous';
      it(`with ${mode} storage and ${recordingBytesMax} bytes`, () => {
        let wrappedCount = 0;
        for (const seed of seeds) {
          let stepCount = 0;
          const afterStep = (cluster: CoreCluster): void => {
            stepCount += 1;
            if (stepCount % stepsBetweenChecks !== 0) return;
            for (const replica of cluster.replicas.values()) wrappedCount += check(replica, seed);
          };
          randomRun({ seed, replicaCount: 3, asyncStorageWrites, recordingBytesMax, afterStep });
        }
        assert.ok(wrappedCount > seeds.length, 'rings have wrapped');
      });
    }
  }
});

/** @returns 1 when the recording has lost its beginning */
function check(replica: Replica, seed: number): number {
  const record = must(recordOf(replica.state), 'the core is recorded');
  const outcome = replay(record, () => {});
  const where = `KOMMANDER_CORE_SEED=${seed}: replica ${replica.id} ${outcome.error}`;
  assert.equal(outcome.kind, 'ended', where);
  assert.deepEqual(outcome.differences, [], where);
  return replica.state.recording?.older === undefined ? 0 : 1;
}
