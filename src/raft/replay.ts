// Does again what was recorded: a fresh core in the state of the beginning gets every input, and the answers that the
// recorded one got, one after the other. The core is deterministic: it must decide the same and end in the same state,
// also in the middle of an input that breaks a rule.

import { type CoreAnswer, type CoreInput, perform } from './core-input.ts';
import { coreStateOf, differencesOf, restoreCore } from './core-state.ts';
import { entriesOf, filledSnapshot } from './hollow.ts';
import type { CoreRecord, RecordedStep } from './recording-reader.ts';
import type { RaftConfig, RaftState } from './state.ts';
import type { TraceEvent } from './trace.ts';
import { emptyConfState, emptyHardState } from './types.ts';

/** One input, done again. */
export interface ReplayedStep {
  /** Of all inputs, repetitions included; the first is 1. */
  readonly number: number;
  /** Position of its cycle in the record, and which of the cycle's `times` this is, from 0. */
  readonly cycle: number;
  readonly round: number;
  readonly input: CoreInput;
  readonly answers: readonly CoreAnswer[];
  /** What the core reported while it worked on the input. */
  readonly events: readonly TraceEvent[];
  /** What it changed, of the facts that an operator knows. */
  readonly changes: readonly CoreChange[];
}

export type CoreFact = number | string | undefined;

export interface CoreChange {
  readonly name: string;
  readonly before: CoreFact;
  readonly after: CoreFact;
}

export interface ReplayOutcome {
  /**
   * `ended`: all inputs were done. `failed`: the core threw `error` in the last step. `diverged`: it asked for other
   * answers than the recorded one got, and the replay cannot go on.
   */
  readonly kind: 'ended' | 'failed' | 'diverged';
  readonly error: Error | undefined;
  /** Inputs that were done, the one that failed included. */
  readonly stepCount: number;
  /** Fields of the state in which the replay did not end as the record did. */
  readonly differences: readonly string[];
  readonly facts: Readonly<Record<string, CoreFact>>;
}

/** The core asks for something that the recorded one did not ask for, or not then. */
class DivergedError extends Error {
  override readonly name = 'DivergedError';
}

/** Does again all that is recorded. `visit` is called after each input, also after one that failed. */
export function replay(record: CoreRecord, visit: (step: ReplayedStep) => void): ReplayOutcome {
  const run = openRun(record);
  let number = 0;
  let error: Error | undefined;
  for (const [cycle, { times, steps }] of record.cycles.entries()) {
    for (let round = 0; round < times && error === undefined; round++) {
      for (const step of steps) {
        number += 1;
        const before = factsOf(run.state);
        error = failureOf(run, step);
        const { input, answers = [] } = step;
        const changes = changesBetween(before, factsOf(run.state));
        visit({ number, cycle, round, input, answers, events: run.events, changes });
        if (error !== undefined) break;
      }
    }
  }
  return {
    kind: kindOf(error),
    error,
    stepCount: number,
    differences: differencesOf(coreStateOf(run.state), record.end),
    facts: factsOf(run.state),
  };
}

function kindOf(error: Error | undefined): ReplayOutcome['kind'] {
  if (error === undefined) return 'ended';
  return error instanceof DivergedError ? 'diverged' : 'failed';
}

interface Run {
  readonly state: RaftState;
  /** What the core will ask for during the present input. */
  answers: CoreAnswer[];
  events: TraceEvent[];
}

function openRun(record: CoreRecord): Run {
  const config: RaftConfig = {
    ...record.config,
    // The state is restored as it was; nothing begins here.
    initial: {
      hardState: emptyHardState,
      confState: emptyConfState,
      compacted: { index: 0, term: 0 },
      ...{ lastIndex: 0, termRuns: [], appliedIndex: 0 },
    },
    random: {
      below: () => answer(run, 'drawn').value,
      unit: () => answer(run, 'drawn').value,
    },
    storage: {
      entries() {
        const { entries } = answer(run, 'entries');
        return entries === undefined ? undefined : entriesOf(entries);
      },
      snapshot() {
        const { snapshot } = answer(run, 'snapshot');
        return snapshot === undefined ? undefined : filledSnapshot(snapshot);
      },
    },
    trace: (event) => run.events.push(event),
  };
  const run: Run = { state: restoreCore(config, record.begin), answers: [], events: [] };
  return run;
}

function answer<Kind extends CoreAnswer['kind']>(
  run: Run,
  kind: Kind,
): Extract<CoreAnswer, { readonly kind: Kind }> {
  const next = run.answers.shift();
  if (next?.kind === kind) return next as Extract<CoreAnswer, { readonly kind: Kind }>;
  const recorded = next === undefined ? 'asked for no more' : `got "${next.kind}"`;
  throw new DivergedError(`the core asks for "${kind}", and the recorded one ${recorded}`);
}

function failureOf(run: Run, { input, answers = [] }: RecordedStep): Error | undefined {
  run.answers = [...answers];
  run.events = [];
  try {
    perform(run.state, input);
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
  if (run.answers.length === 0) return undefined;
  return new DivergedError(`the core did not ask for ${run.answers.length} recorded answers`);
}

function factsOf(state: RaftState): Readonly<Record<string, CoreFact>> {
  const { log } = state;
  return {
    term: state.currentTerm,
    votedFor: state.votedFor,
    role: state.role,
    leader: state.leader,
    compactedIndex: log.compactedIndex,
    lastIndex: log.lastIndex,
    stableIndex: log.stableIndex,
    commitIndex: log.commitIndex,
    appliedIndex: log.appliedIndex,
  };
}

function changesBetween(
  before: Readonly<Record<string, CoreFact>>,
  after: Readonly<Record<string, CoreFact>>,
): CoreChange[] {
  return Object.keys(before)
    .filter((name) => before[name] !== after[name])
    .map((name) => ({ name, before: before[name], after: after[name] }));
}
