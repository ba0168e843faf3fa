// The faults of a run, drawn from the seed before it begins: when each one comes and of what kind. Each has a stream of
// randomness of its own for everything else, so that leaving one out (when a failing run is made smaller) changes
// nothing about the others.

import type { Random } from '../../base/random.ts';
import { oneOf, type SimulationSettings, streamOf } from './options.ts';
import { type FaultKind, faultKinds } from './profiles.ts';

export interface PlannedFault {
  /** Its place in the plan. */
  readonly number: number;
  readonly atMs: number;
  readonly kind: FaultKind;
  readonly random: Random;
}

/** Milliseconds in which the cluster forms before the first fault, at most: some seeds disturb that too. */
const quietMsMax = 1_000;
/** The last part of a run is quiet, so that what is under way shows its effect. */
export const lastPart = 0.95;

export function planFaults(
  settings: SimulationSettings,
  only: readonly number[] | undefined,
): PlannedFault[] {
  const { seed, profile, durationMs } = settings;
  const random = streamOf(seed, 'faults');
  const weights = drawWeights(random, profile.weights, profile.offPercent);
  const total = weights.reduce((sum, [, weight]) => sum + weight, 0);
  const faults: PlannedFault[] = [];
  if (total === 0) return faults;
  const gapMs = oneOf(random, profile.gapMs);
  for (let atMs = random.below(quietMsMax); atMs < durationMs * lastPart; ) {
    const number = faults.length;
    const kind = pick(weights, random.below(total));
    faults.push({ number, atMs, kind, random: streamOf(seed, `fault ${number}`) });
    atMs += 1 + random.below(2 * gapMs);
  }
  return only === undefined ? faults : faults.filter(({ number }) => only.includes(number));
}

type Weights = readonly (readonly [FaultKind, number])[];

function drawWeights(
  random: Random,
  weights: Readonly<Partial<Record<FaultKind, number>>>,
  offPercent: number,
): Weights {
  return (Object.keys(faultKinds) as FaultKind[])
    .filter((kind) => (weights[kind] ?? 0) > 0)
    .map((kind) => [kind, random.below(100) < offPercent ? 0 : (weights[kind] ?? 0)] as const);
}

function pick(weights: Weights, at: number): FaultKind {
  let rest = at;
  for (const [kind, weight] of weights) {
    if (rest < weight) return kind;
    rest -= weight;
  }
  throw new RangeError('a place beyond all weights');
}
