// Makes a failing run smaller: fewer faults, fewer operations, less time, as long as the same rule is broken. Faults have
// streams of randomness of their own, so that leaving some out leaves the others what they were.

import type { StateMachine } from '../../ports/state-machine.ts';
import { lastPart, planFaults } from './fault-plan.ts';
import { type AnySimulationOptions, type SimulationOptions, settingsOf } from './options.ts';
import { type SimulationResult, simulate } from './simulate.ts';

/** What is left of a run. */
export interface SmallerRun {
  readonly onlyFaults: readonly number[];
  readonly operationsMax?: number;
  readonly durationMs: number;
  readonly report: string;
  readonly runCount: number;
}

type Smaller = Pick<SmallerRun, 'onlyFaults' | 'operationsMax' | 'durationMs'>;

/** Runs that are tried at most. */
const runsMax = 300;

/**
 * Tries smaller and smaller runs.
 *
 * @param optionsWith makes the options of the run, anew for every try, with what is given replaced
 * @param tell hears of progress
 * @throws Error the run does not fail
 */
export async function shrink<Input, Output, Machine extends StateMachine>(
  optionsWith: (smaller: Partial<Smaller>) => SimulationOptions<Input, Output, Machine>,
  tell: (text: string) => void = () => {},
): Promise<SmallerRun> {
  let runCount = 0;
  const whole = optionsWith({});
  const run = (smaller: Partial<Smaller>): Promise<SimulationResult> => {
    runCount += 1;
    return simulate(optionsWith(smaller));
  };
  const first = await run({});
  const { violation } = first;
  if (violation === undefined || first.report === undefined) {
    throw new Error(`seed ${first.seed} breaks no rule: there is nothing to make smaller`);
  }
  const settings = settingsOf(whole as unknown as AnySimulationOptions);
  let best: Smaller = {
    onlyFaults: planFaults(settings, whole.onlyFaults).map(({ number }) => number),
    durationMs: settings.durationMs,
    ...(whole.operationsMax === undefined ? {} : { operationsMax: whole.operationsMax }),
  };
  let { report } = first;
  const fails = async (smaller: Smaller): Promise<boolean> => {
    if (runCount >= runsMax) return false;
    const result = await run(smaller);
    if (result.violation?.rule !== violation.rule || result.report === undefined) return false;
    best = smaller;
    report = result.report;
    tell(
      `${smaller.onlyFaults.length} faults, ${smaller.durationMs} ms, ${smaller.operationsMax ?? 'any number of'} operations a client: still fails`,
    );
    return true;
  };
  await shrinkTime(first, () => best, fails);
  await shrinkFaults(() => best, fails);
  await shrinkOperations(() => best, fails);
  await shrinkFaults(() => best, fails);
  return { ...best, report, runCount };
}

type Try = (smaller: Smaller) => Promise<boolean>;

/** Nothing that comes after the violation can have caused it, unless it was found at the end. */
async function shrinkTime(first: SimulationResult, best: () => Smaller, fails: Try): Promise<void> {
  const foundMs = Math.ceil(first.virtualMs);
  // The plan ends before the run does: faults up to here must still be in it.
  const durationMs = Math.ceil((foundMs + 1) / lastPart);
  if (durationMs < best().durationMs) await fails({ ...best(), durationMs });
  for (let halfMs = Math.ceil(best().durationMs / 2); halfMs > 500; ) {
    if (!(await fails({ ...best(), durationMs: halfMs }))) break;
    halfMs = Math.ceil(halfMs / 2);
  }
}

/** Leaves out halves, quarters, … of the faults (delta debugging). */
async function shrinkFaults(best: () => Smaller, fails: Try): Promise<void> {
  for (let parts = 2; best().onlyFaults.length > 0; ) {
    const faults = best().onlyFaults;
    const size = Math.ceil(faults.length / parts);
    let isSmaller = false;
    for (let at = 0; at < faults.length && !isSmaller; at += size) {
      const onlyFaults = [...faults.slice(0, at), ...faults.slice(at + size)];
      isSmaller = await fails({ ...best(), onlyFaults });
    }
    if (isSmaller) {
      parts = Math.max(2, parts - 1);
    } else {
      if (size === 1) return;
      parts = Math.min(2 * parts, faults.length);
    }
  }
}

async function shrinkOperations(best: () => Smaller, fails: Try): Promise<void> {
  for (const operationsMax of [1, 2, 4, 8, 16, 32, 64, 128]) {
    if (operationsMax >= (best().operationsMax ?? Number.POSITIVE_INFINITY)) return;
    if (await fails({ ...best(), operationsMax })) return;
  }
}
