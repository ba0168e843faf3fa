// Evidence, done again and put into words: what each input was and what the core decided. Inputs that came again and
// again with nothing new are told once. Whether the failure came again is judged here.

import {
  describeAnswer,
  describeChange,
  describeEvent,
  describeFact,
  describeInput,
} from '../raft/describe.ts';
import { hollowMessage } from '../raft/hollow.ts';
import { type ReplayedStep, type ReplayOutcome, replay } from '../raft/replay.ts';
import type { TraceEvent } from '../raft/trace.ts';
import type { ReplicaId } from '../raft/types.ts';
import type { EvidenceBundle } from './evidence.ts';

/** An input of the core, done again. */
export interface EvidenceStep {
  readonly input: string;
  /** What the core was told and what it did, in turn: one line each. */
  readonly decisions: readonly string[];
  /** The same as plain JSON values. */
  readonly data: Readonly<Record<string, unknown>>;
}

/** Inputs in a row that came `times` times with the same decisions. */
export interface EvidenceRound {
  /** The number of the first input; the first of all is 1. */
  readonly number: number;
  readonly times: number;
  readonly steps: readonly EvidenceStep[];
}

export interface EvidenceOutcome {
  /**
   * `reproduced`: the recorded failure came again. `clean`: none was recorded and none came. `notReproduced`: it did not
   * come. `otherFailure`: the core failed where the recorded one did not, or otherwise. `diverged`: the core went another
   * way than the recorded one, so that the recording does not fit it any more.
   */
  readonly kind: 'reproduced' | 'clean' | 'notReproduced' | 'otherFailure' | 'diverged';
  /** What the replay ended with. */
  readonly error: Error | undefined;
  readonly inputCount: number;
  /** Fields of the core's state in which the replay ended otherwise than the recorded core. */
  readonly differences: readonly string[];
  /** Where the core stands in the end: term, role, leader, indexes, in words. */
  readonly end: Readonly<Record<string, string>>;
}

/** Does again what `bundle` has recorded; `visit` is called for every round. */
export function replayEvidence(
  bundle: EvidenceBundle,
  visit: (round: EvidenceRound) => void,
): EvidenceOutcome {
  const nameOf = namesOf(bundle);
  let present: ReplayedStep[] = [];
  let last: (EvidenceRound & { readonly cycle: number; readonly text: string }) | undefined;

  function endRound(): void {
    const [first] = present;
    if (first === undefined) return;
    const steps = present.map((step) => evidenceStep(step, nameOf));
    const text = steps.map(({ input, decisions }) => [input, ...decisions].join('\n')).join('\n');
    present = [];
    if (last !== undefined && last.cycle === first.cycle && last.text === text) {
      last = { ...last, times: last.times + 1 };
      return;
    }
    if (last !== undefined) visit(last);
    last = { number: first.number, times: 1, steps, cycle: first.cycle, text };
  }

  const outcome = replay(bundle.record, (step) => {
    const [first] = present;
    if (first?.cycle !== step.cycle || first.round !== step.round) endRound();
    present.push(step);
  });
  endRound();
  if (last !== undefined) visit(last);
  const { error, stepCount, differences, facts } = outcome;
  const kind = judge(bundle, outcome);
  const end = Object.fromEntries(
    Object.entries(facts).map(([name, fact]) => [name, describeFact(name, fact, nameOf)]),
  );
  return { kind, error, inputCount: stepCount, differences, end };
}

function judge({ failure }: EvidenceBundle, outcome: ReplayOutcome): EvidenceOutcome['kind'] {
  switch (outcome.kind) {
    case 'diverged':
      return 'diverged';
    case 'ended':
      return failure === undefined ? 'clean' : 'notReproduced';
    case 'failed': {
      const { error } = outcome;
      const isSame = error?.name === failure?.name && error?.message === failure?.message;
      return isSame ? 'reproduced' : 'otherFailure';
    }
  }
}

/** Replicas by the names of their nodes. */
function namesOf({ replicaIds }: EvidenceBundle): (id: ReplicaId) => string {
  const names = new Map(Object.entries(replicaIds).map(([nodeId, id]) => [id, nodeId]));
  return (id) => names.get(id) ?? `replica ${id}`;
}

function evidenceStep(step: ReplayedStep, nameOf: (id: ReplicaId) => string): EvidenceStep {
  const { input, answers, events, changes } = step;
  const decisions = [
    ...answers.map((answer) => describeAnswer(answer, nameOf)),
    ...events.map((event) => describeEvent(event, nameOf)),
    ...changes.map((change) => describeChange(change, nameOf)),
  ].filter((line) => line !== undefined);
  const plain = events.filter(({ type }) => type !== 'received').map(plainEvent);
  return {
    input: describeInput(input, nameOf),
    decisions,
    data: { input, answers, events: plain, changes },
  };
}

function plainEvent(event: TraceEvent): object {
  return 'message' in event ? { ...event, message: hollowMessage(event.message) } : event;
}
