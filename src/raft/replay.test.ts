// A recording is done again on a fresh core, which must report the same events and end in exactly the state of the
// recorded one: over random schedules, with rings so small that they wrap many times, in both storage modes.
//
// KOMMANDER_CORE_SEED=17 node --test src/raft/replay.test.ts   repeats one seed

import assert from 'node:assert/strict';
import process from 'node:process';
import { describe, it } from 'node:test';
import {
  type CoreCluster,
  inBothModes,
  ledCluster,
  pass,
  proposeTexts,
  type Replica,
  replicaOf,
  settle,
} from '../../test/support/core-cluster.ts';
import { randomRun } from '../../test/support/core-schedule.ts';
import { must } from '../base/assert.ts';
import { describeEvent } from './describe.ts';
import { reportUnreachable, step, tick } from './raft.ts';
import { type CoreRecord, recordOf } from './recording-reader.ts';
import { replay } from './replay.ts';
import type { TraceEvent } from './trace.ts';

const only = process.env.KOMMANDER_CORE_SEED;
const seeds = only === undefined ? Array.from({ length: 30 }, (_, i) => i + 1) : [Number(only)];
const stepsBetweenChecks = 200;

describe('a replay reports what the recorded core reported, and ends in its state', () => {
  inBothModes((mode, { asyncStorageWrites }) => {
    for (const recordingBytesMax of [1_000, 20_000]) {
      it(`over random schedules with ${mode} and ${recordingBytesMax} bytes`, () => {
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
  });
});

/** @returns 1 when the recording has lost its beginning */
function check(replica: Replica, seed: number): number {
  const events: TraceEvent[] = [];
  const outcome = replay(recordFrom(replica), (each) => events.push(...each.events));
  const where = `KOMMANDER_CORE_SEED=${seed}, replica ${replica.id}: ${outcome.error}`;
  assert.equal(outcome.kind, 'ended', where);
  assert.deepEqual(outcome.differences, [], where);
  const recorded = events.length === 0 ? [] : replica.events.slice(-events.length);
  assert.deepEqual(events.map(textOf), recorded.map(textOf), where);
  return replica.state.recording?.older === undefined ? 0 : 1;
}

function textOf(event: TraceEvent): string {
  return `${event.type} ${describeEvent(event, String)}`;
}

/** The record as it is after it was written to a file. */
function recordFrom({ state }: Replica): CoreRecord {
  return JSON.parse(JSON.stringify(must(recordOf(state), 'the core is recorded'))) as CoreRecord;
}

/** The recording of a leader that has worked a little. */
function busyLeader(): Replica {
  const cluster = ledCluster({
    recordingBytesMax: 100_000,
    asyncStorageWrites: true,
    preVote: true,
  });
  proposeTexts(cluster, 1, 'some', 'texts');
  settle(cluster);
  pass(cluster, 5);
  return replicaOf(cluster, 1);
}

describe('a replay tells how it ended', () => {
  it('a broken rule comes again, in the same input and with the same words', () => {
    const leader = busyLeader();
    const { currentTerm: term } = leader.state;
    const impossible = { type: 'heartbeat', from: 2, to: 1, term, leaderCommit: 1 } as const;
    assert.throws(() => step(leader.state, { ...impossible, readRound: undefined }), /one leader/);
    const record = recordFrom(leader);
    const outcome = replay(record, () => {});
    assert.equal(outcome.kind, 'failed');
    assert.equal(outcome.error?.message, 'broken rule: Invariant: a term has one leader');
    assert.deepEqual(outcome.differences, []);
    const recorded = record.cycles.map(({ times, steps }) => times * steps.length);
    assert.equal(
      outcome.stepCount,
      recorded.reduce((sum, count) => sum + count),
    );
  });

  it('nothing follows what failed', () => {
    const leader = busyLeader();
    const { currentTerm: term } = leader.state;
    const impossible = { type: 'heartbeat', from: 2, to: 1, term, leaderCommit: 1 } as const;
    assert.throws(() => step(leader.state, { ...impossible, readRound: undefined }), /one leader/);
    tick(leader.state);
    const inputs: string[] = [];
    replay(recordFrom(leader), ({ input }) => inputs.push(input.kind));
    assert.equal(inputs.at(-1), 'step');
  });

  it('the fields in which the state differs are named', () => {
    const record = recordFrom(busyLeader());
    const end = { ...record.end, currentTerm: 9, log: { ...record.end.log, commitIndex: 1 } };
    const outcome = replay({ ...record, end }, () => {});
    assert.equal(outcome.kind, 'ended');
    assert.deepEqual(outcome.differences, ['currentTerm', 'log.commitIndex']);
  });

  it('a core that asks for other answers than the recorded one has gone another way', () => {
    const cluster = ledCluster({ recordingBytesMax: 100_000, preVote: true });
    const follower = replicaOf(cluster, 2);
    reportUnreachable(follower.state, 1);
    const record = recordFrom(follower);
    const last = must(record.cycles.at(-1)?.steps.at(-1), 'there is a last input');
    assert.equal(last.input.kind, 'reportUnreachable');
    assert.equal(last.answers?.[0]?.kind, 'drawn');
    const cycles = record.cycles.slice(0, -1);
    const drawn = { kind: 'drawn', value: 1 } as const;
    const cases: [CoreRecord['cycles'][number]['steps'][number], RegExp][] = [
      [{ input: last.input }, /asks for "drawn", and the recorded one asked for no more/],
      [{ input: last.input, answers: [drawn, drawn] }, /did not ask for 1 recorded answer/],
      [
        { input: last.input, answers: [{ kind: 'snapshot', snapshot: undefined }] },
        /asks for "drawn", and the recorded one got "snapshot"/,
      ],
    ];
    for (const [changed, message] of cases) {
      const altered = { ...record, cycles: [...cycles, { times: 1, steps: [changed] }] };
      const outcome = replay(altered, () => {});
      assert.equal(outcome.kind, 'diverged');
      assert.match(outcome.error?.message ?? '', message);
    }
  });
});
