// `npm run sim`: runs seeds of the simulator and says which ones break a rule. Everything that a run does follows from
// its seed and profile, so that the command in a report repeats it. The last line is `seeds N, steps M, violations V`.

import { fork } from 'node:child_process';
import { createWriteStream, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { encodeEvidence } from '../src/host/evidence-file.ts';
import {
  addCoverage,
  type Coverage,
  type CoverageState,
  coverageText,
  newCoverage,
} from '../src/testing/simulation/coverage.ts';
import { keyValueProof } from '../src/testing/simulation/key-value-proof.ts';
import { type ProfileName, profiles } from '../src/testing/simulation/profiles.ts';
import { shrink } from '../src/testing/simulation/shrink.ts';
import { type SimulationResult, simulate } from '../src/testing/simulation/simulate.ts';
import { fail, note } from './bootstrap.mjs';

const usage = `npm run sim -- [options]
  --profile NAME   ${Object.keys(profiles).join(', ')} (default quick)
  --seed S         the first seed (default 1)
  --seeds N        how many (default 100; 1 when a seed is given)
  --minutes M      ends after so many minutes of real time; without --seeds, seeds go on until then
  --jobs J         processes that work at once (default 1)
  --duration MS    virtual milliseconds of trouble
  --faults LIST    only these faults of the plan, by number: 3,17,40; or "none"
  --operations N   operations of a client at most
  --shrink         makes a failing run smaller, and prints the command for it
  --trace FILE     writes all events of the run of one seed as NDJSON
  --evidence DIR   writes what the replicas of a broken partition did last, for "kommander replay FILE"
  --coverage       prints how often interesting states were reached
  --keep-going     goes on after the first violation`;

const args = parsed(
  () =>
    parseArgs({
      options: {
        profile: { type: 'string', default: 'quick' },
        seed: { type: 'string' },
        seeds: { type: 'string' },
        minutes: { type: 'string' },
        jobs: { type: 'string', default: '1' },
        duration: { type: 'string' },
        faults: { type: 'string' },
        operations: { type: 'string' },
        shrink: { type: 'boolean', default: false },
        trace: { type: 'string' },
        evidence: { type: 'string' },
        coverage: { type: 'boolean', default: false },
        'keep-going': { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values,
);

/** What a worker says of a seed. */
interface SeedOutcome {
  readonly seed: number;
  readonly stepCount: number;
  readonly isHistoryChecked: boolean | undefined;
  readonly coverage: Coverage;
  readonly report: string | undefined;
}

const profile = profileOf(args.profile);
const firstSeed = args.seed === undefined ? 1 : whole('seed', args.seed, 0);
const seedCount = seedCountOf();
const endMs =
  args.minutes === undefined
    ? Number.POSITIVE_INFINITY
    : performance.now() + whole('minutes', args.minutes) * 60_000;

/** Which seed runs here now. */
let presentSeed = firstSeed;

process.on('unhandledRejection', (error) => {
  process.stdout.write(`violation at seed ${presentSeed}: Nobody fails unheard\n`);
  process.stderr.write(`${error instanceof Error ? error.stack : JSON.stringify(error)}\n`);
  process.stdout.write(`repeat it: ${commandOf(presentSeed)}\n`);
  process.stdout.write('seeds 1, steps 0, violations 1\n');
  process.exit(1);
});

if (args.help) process.stdout.write(`${usage}\n`);
else if (process.send !== undefined) work();
else if (args.trace !== undefined && seedCount > 1) fail('--trace is for one seed: give --seed');
else await lead().catch((error: unknown) => fail(messageOf(error)));

/** @returns the arguments; a word that is none ends the command */
function parsed<Values>(parse: () => Values): Values {
  try {
    return parse();
  } catch (error) {
    return fail(`${messageOf(error)}\n${usage}`);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : JSON.stringify(error);
}

function seedCountOf(): number {
  if (args.seeds !== undefined) return whole('seeds', args.seeds);
  if (args.minutes !== undefined) return Number.POSITIVE_INFINITY;
  return args.seed === undefined ? 100 : 1;
}

/** Hands seeds out, in their order, and counts. */
async function lead(): Promise<void> {
  const jobs = whole('jobs', args.jobs);
  const sum = newCoverage();
  let nextSeed = firstSeed;
  let doneCount = 0;
  let stepCount = 0;
  let undecidedCount = 0;
  const failed: number[] = [];

  const take = (): number | undefined => {
    const isOver = nextSeed >= firstSeed + seedCount || performance.now() >= endMs;
    const isStopped = failed.length > 0 && !args['keep-going'];
    if (isOver || isStopped) return undefined;
    nextSeed += 1;
    return nextSeed - 1;
  };
  const noteOutcome = (outcome: SeedOutcome): void => {
    doneCount += 1;
    stepCount += outcome.stepCount;
    if (outcome.isHistoryChecked === false) undecidedCount += 1;
    addCoverage(sum, outcome.coverage);
    if (outcome.report === undefined) return;
    failed.push(outcome.seed);
    process.stdout.write(`${outcome.report}\nrepeat it: ${commandOf(outcome.seed)}\n`);
  };

  await Promise.all(
    Array.from({ length: jobs }, () =>
      jobs === 1 ? workHere(take, noteOutcome) : workElsewhere(take, noteOutcome),
    ),
  );

  const missed = isLong(doneCount) ? promisesMissed(sum) : [];
  if (args.coverage) process.stdout.write(`${coverageText(sum, profiles[profile].promises)}\n`);
  if (undecidedCount > 0) note(`${undecidedCount} histories were too hard to check in time`);
  if (args.shrink && failed[0] !== undefined) await shrinkAndTell(Math.min(...failed));
  if (missed.length > 0) note(`the profile ${profile} never reached: ${missed.join(', ')}`);
  process.stdout.write(`seeds ${doneCount}, steps ${stepCount}, violations ${failed.length}\n`);
  process.exitCode = failed.length > 0 || missed.length > 0 ? 1 : 0;
}

/** A run that is long enough to hold a profile to what it promises. */
function isLong(doneCount: number): boolean {
  return doneCount >= 500;
}

function promisesMissed(sum: Coverage): CoverageState[] {
  return profiles[profile].promises.filter((state) => sum[state] === 0);
}

async function workHere(
  take: () => number | undefined,
  done: (outcome: SeedOutcome) => void,
): Promise<void> {
  for (let seed = take(); seed !== undefined; seed = take()) done(await runSeed(seed));
}

function workElsewhere(
  take: () => number | undefined,
  done: (outcome: SeedOutcome) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2));
    let isIdle = true;
    const handOut = (): void => {
      const seed = take();
      isIdle = seed === undefined;
      if (seed === undefined) child.disconnect();
      else child.send({ seed });
    };
    child.on('message', (outcome: SeedOutcome) => {
      done(outcome);
      handOut();
    });
    child.on('error', reject);
    child.on('exit', (code) => {
      if (isIdle) resolve();
      else reject(new Error(`a worker ended with ${code} in the middle of a seed`));
    });
    handOut();
  });
}

function work(): void {
  process.on('message', ({ seed }: { readonly seed: number }) => {
    runSeed(seed).then(
      (outcome) => process.send?.(outcome),
      (error: unknown) => {
        process.stderr.write(`seed ${seed}: ${String(error)}\n`);
        process.exit(1);
      },
    );
  });
}

async function runSeed(seed: number): Promise<SeedOutcome> {
  presentSeed = seed;
  const trace = args.trace === undefined ? undefined : createWriteStream(args.trace);
  const result = await simulate({
    ...keyValueProof(seed, profile, overrides()),
    ...(trace === undefined
      ? {}
      : { record: { write: (line: string) => void trace.write(`${line}\n`) } }),
  });
  if (trace !== undefined) await new Promise<void>((resolve) => trace.end(resolve));
  if (result.digest !== undefined) note(`digest ${result.digest}`);
  if (args.evidence !== undefined) keepEvidence(args.evidence, result);
  const { stepCount, isHistoryChecked, coverage, report } = result;
  return { seed, stepCount, isHistoryChecked, coverage, report };
}

function keepEvidence(directory: string, { seed, evidence }: SimulationResult): void {
  if (evidence.length > 0) mkdirSync(directory, { recursive: true });
  for (const bundle of evidence) {
    const name = `seed-${seed}-partition-${bundle.partitionId}-${bundle.nodeId}.ndjson`;
    writeFileSync(path.join(directory, name), encodeEvidence(bundle));
    note(`wrote ${path.join(directory, name)}`);
  }
}

function overrides(): Parameters<typeof keyValueProof>[2] {
  return {
    ...(args.duration === undefined ? {} : { durationMs: whole('duration', args.duration) }),
    ...(args.operations === undefined
      ? {}
      : { operationsMax: whole('operations', args.operations) }),
    ...(args.faults === undefined ? {} : { onlyFaults: listOf(args.faults) }),
  };
}

async function shrinkAndTell(seed: number): Promise<void> {
  note(`making the run of seed ${seed} smaller`);
  const smaller = await shrink(
    (over) => keyValueProof(seed, profile, { ...overrides(), ...over }),
    note,
  );
  process.stdout.write(`${smaller.report}\nrepeat it: ${commandOf(seed, smaller)}\n`);
}

function commandOf(
  seed: number,
  smaller: {
    readonly durationMs?: number;
    readonly onlyFaults?: readonly number[];
    readonly operationsMax?: number;
  } = {},
): string {
  const durationMs = smaller.durationMs ?? args.duration;
  const faults = smaller.onlyFaults?.join(',') ?? args.faults;
  const operations = smaller.operationsMax ?? args.operations;
  return [
    `npm run sim -- --profile ${profile} --seed ${seed}`,
    ...(durationMs === undefined ? [] : [`--duration ${durationMs}`]),
    ...(faults === undefined ? [] : [`--faults ${faults === '' ? 'none' : faults}`]),
    ...(operations === undefined ? [] : [`--operations ${operations}`]),
  ].join(' ');
}

function profileOf(name: string): ProfileName {
  if (Object.hasOwn(profiles, name)) return name as ProfileName;
  return fail(`there is no profile "${name}": choose ${Object.keys(profiles).join(', ')}`);
}

function listOf(text: string): number[] {
  return text === 'none' ? [] : text.split(',').map((part) => whole('faults', part, 0));
}

function whole(option: string, text: string, min = 1): number {
  const value = Number(text);
  if (text !== '' && Number.isSafeInteger(value) && value >= min) return value;
  return fail(`--${option} is "${text}"; it is a whole number from ${min} on\n${usage}`);
}
