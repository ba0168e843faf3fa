// `npm run mutate`: puts the seeded bugs of `test/mutations/` into a copy of the project, one at a time, and reports which
// test and which profile of the simulator notices. First the copy without any of them must pass, so that a failure
// means something. A bug that nobody notices is a missing check, or needs a proof that it changes nothing.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { catalogue, unseeded } from '../test/mutations/catalogue.ts';
import type { Mutation } from '../test/mutations/mutation.ts';
import { fail, note, root } from './bootstrap.mjs';
import {
  copyProject,
  hasSimulator,
  type RunEnd,
  runSimulator,
  runTests,
  type SimulatorEnd,
  withMutation,
} from './mutation-runs.ts';
import {
  asCode,
  escaped,
  type Findings,
  findingsOf,
  mutationsPage,
  notRun,
} from './mutations-page.ts';

const usage = `npm run mutate -- [options]
  --only ID,ID        these mutations only
  --jobs N            so many at one time, each in a copy of its own (default: processors - 1)
  --seeds N           seeds that the simulator tries (default: 200)
  --skip-tests        the simulator only
  --skip-simulator    the tests only
  --write             put what was found into docs/internals/mutations.md; what was not run stays as it is there`;

/** A run of a mutant may take so many times as long as without the mutation, and this in any case. */
const patienceFactor = 8;
const patienceMsMin = 60_000;
/** The run without a mutation may take as long as this. */
const baselineMsMax = 1_800_000;

interface Options {
  readonly mutations: readonly Mutation[];
  readonly jobs: number;
  readonly seeds: number;
  readonly withTests: boolean;
  readonly withSimulator: boolean;
  readonly write: boolean;
}

/** Milliseconds that a test file, or a profile of the simulator, took without a mutation. */
type Baseline = ReadonlyMap<string, number>;

/** What became of one mutation. Undefined: that part was not run. */
interface Outcome {
  readonly mutation: Mutation;
  readonly tests: { readonly file: string; readonly end: RunEnd } | undefined;
  readonly simulator: SimulatorEnd | undefined;
}

const pageFile = path.join(root, 'docs/internals/mutations.md');

const options = readOptions();
const startMs = performance.now();
const outcomes = await judgeAll(options);
const page = existsSync(pageFile) ? readFileSync(pageFile, 'utf8') : '';
updatePage(options, outcomes, page);
process.exitCode = conclude(outcomes);

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean', default: false },
      only: { type: 'string' },
      jobs: { type: 'string', default: `${Math.max(1, availableParallelism() - 1)}` },
      seeds: { type: 'string', default: '200' },
      'skip-tests': { type: 'boolean', default: false },
      'skip-simulator': { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${usage}\n`);
    process.exit(0);
  }
  const ids = values.only?.split(',');
  const unknown = ids?.filter((id) => !catalogue.some((mutation) => mutation.id === id)) ?? [];
  if (unknown.length > 0) fail(`the catalogue has no ${unknown.join(', ')}`);
  const withSimulator = !values['skip-simulator'] && hasSimulator();
  if (!values['skip-simulator'] && !withSimulator) note('mutate: there is no simulator yet');
  const isAskedFor = ({ id }: Mutation): boolean => ids?.includes(id) ?? true;
  const isRun = (mutation: Mutation): boolean =>
    !values['skip-tests'] || (withSimulator && profileOf(mutation) !== undefined);
  return {
    mutations: catalogue.filter((mutation) => isAskedFor(mutation) && isRun(mutation)),
    jobs: count('jobs', values.jobs),
    seeds: count('seeds', values.seeds),
    withTests: !values['skip-tests'],
    withSimulator,
    write: values.write,
  };
}

function count(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) fail(`--${name} is a whole number from 1 on`);
  return value;
}

/** Runs everything that was asked for, so many mutations at one time. */
async function judgeAll(settings: Options): Promise<readonly Outcome[]> {
  const { mutations, jobs } = settings;
  const folder = copyProject();
  const baseline = await measureBaseline(settings, folder);
  const judged: Outcome[] = [];
  const waiting = [...mutations];
  const work = async (own: string): Promise<void> => {
    for (let mutation = waiting.shift(); mutation !== undefined; mutation = waiting.shift()) {
      const outcome = await judge(settings, own, mutation, baseline);
      judged.push(outcome);
      const found = foundBy(outcome, settings);
      const told = [
        outcome.tests === undefined ? [] : found.tests,
        outcome.simulator === undefined ? [] : found.simulator,
      ].flat();
      const place = `${judged.length}/${mutations.length}`;
      process.stdout.write(`${place} ${mutation.id}: ${told.join('; ')}\n`);
    }
  };
  const copies = Array.from({ length: Math.min(jobs, mutations.length) }, (_, position) =>
    position === 0 ? folder : copyProject(),
  );
  await Promise.all(copies.map(work));
  return mutations.map((mutation) => {
    const outcome = judged.find((one) => one.mutation === mutation);
    return outcome ?? fail(`${mutation.id} was not judged`);
  });
}

/** Runs what the mutations name, without any of them: all of it must pass. */
async function measureBaseline(settings: Options, folder: string): Promise<Baseline> {
  const { mutations, withTests, withSimulator } = settings;
  const files = withTests ? mutations.flatMap(({ tests }) => tests) : [];
  const profiles = withSimulator ? mutations.flatMap((mutation) => profileOf(mutation) ?? []) : [];
  note(
    `mutate: without a mutation: ${new Set(files).size} test files, ${new Set(profiles).size} profiles`,
  );
  const baseline = new Map<string, number>();
  for (const name of new Set([...files, ...profiles])) {
    const end = name.endsWith('.ts')
      ? await runTests(folder, name, baselineMsMax)
      : await simulate(settings, folder, name, baselineMsMax);
    if (end.kind === 'timeout') fail(`${name} does not come to an end without a mutation`);
    if (end.kind === 'failed') fail(`${name} fails without a mutation: ${end.sign}`);
    baseline.set(name, end.ms);
  }
  return baseline;
}

function profileOf({ simulator }: Mutation): string | undefined {
  return typeof simulator === 'string' ? simulator : undefined;
}

function simulate(
  { seeds }: Options,
  folder: string,
  profile: string,
  timeoutMs: number,
): Promise<SimulatorEnd> {
  return runSimulator(folder, { profile, seeds, timeoutMs });
}

/** Applies one mutation and runs its test files, up to the first that fails, and its profile of the simulator. */
async function judge(
  settings: Options,
  folder: string,
  mutation: Mutation,
  baseline: Baseline,
): Promise<Outcome> {
  const patience = (name: string): number =>
    Math.max(patienceMsMin, patienceFactor * (baseline.get(name) ?? 0));
  return withMutation(folder, mutation, async () => {
    let tests: Outcome['tests'];
    for (const file of settings.withTests ? mutation.tests : []) {
      tests = { file, end: await runTests(folder, file, patience(file)) };
      if (tests.end.kind !== 'passed') break;
    }
    const profile = settings.withSimulator ? profileOf(mutation) : undefined;
    const simulator =
      profile === undefined
        ? undefined
        : await simulate(settings, folder, profile, patience(profile));
    return { mutation, tests, simulator };
  });
}

/** The cells of the page for one outcome. */
function foundBy({ mutation, tests, simulator }: Outcome, { seeds }: Options): Findings {
  return { tests: testCell(mutation, tests), simulator: simulatorCell(mutation, simulator, seeds) };
}

function testCell({ equivalent }: Mutation, tests: Outcome['tests']): string {
  if (tests === undefined) return notRun;
  const { file, end } = tests;
  switch (end.kind) {
    case 'passed':
      return equivalent === undefined ? '**survives**' : escaped(`equivalent: ${equivalent}`);
    case 'failed':
      return `${asCode(end.sign)}<br>${asCode(file)}`;
    case 'timeout':
      return `timeout<br>${asCode(file)}`;
  }
}

function simulatorCell(mutation: Mutation, end: SimulatorEnd | undefined, seeds: number): string {
  if (typeof mutation.simulator !== 'string') return escaped(`— ${mutation.simulator.blind}`);
  if (end === undefined) return notRun;
  const profile = asCode(mutation.simulator);
  switch (end.kind) {
    case 'passed':
      return `not within ${seeded(seeds)} of ${profile}`;
    case 'failed':
      return end.seedCount === undefined
        ? `${profile}: ${asCode(end.sign)}`
        : `${profile}, ${seeded(end.seedCount)}`;
    case 'timeout':
      return `${profile}: timeout`;
  }
}

function seeded(seedCount: number): string {
  return seedCount === 1 ? '1 seed' : `${seedCount} seeds`;
}

/** Writes the page, or says what it should say instead. */
function updatePage(settings: Options, results: readonly Outcome[], before: string): void {
  const old = findingsOf(before);
  const findings = new Map(old);
  const news: string[] = [];
  for (const outcome of results) {
    const { id } = outcome.mutation;
    const found = foundBy(outcome, settings);
    const known = old.get(id) ?? { tests: notRun, simulator: notRun };
    const merged = {
      tests: found.tests === notRun ? known.tests : found.tests,
      simulator: found.simulator === notRun ? known.simulator : found.simulator,
    };
    findings.set(id, merged);
    if (merged.tests !== known.tests || merged.simulator !== known.simulator) news.push(id);
  }
  const page = mutationsPage(catalogue, unseeded, findings);
  const name = path.relative(root, pageFile);
  if (settings.write) writeFileSync(pageFile, page);
  if (settings.write) note(`mutate: wrote ${name}`);
  else if (news.length > 0) note(`mutate: ${name} says otherwise of ${news.join(', ')}`);
}

/** The last line. @returns the exit code */
function conclude(results: readonly Outcome[]): number {
  const isKilled = ({ tests, simulator }: Outcome): boolean =>
    [tests?.end, simulator].some((end) => end !== undefined && end.kind !== 'passed');
  const survivors = results.filter((outcome) => !isKilled(outcome));
  for (const { mutation } of survivors) note(`mutate: ${mutation.id} survives: ${mutation.says}`);
  const seconds = Math.round((performance.now() - startMs) / 1_000);
  note(`mutate: took ${seconds} s`);
  const killedCount = results.length - survivors.length;
  process.stdout.write(
    `mutations ${results.length}, killed ${killedCount}, survivors ${survivors.length}\n`,
  );
  return survivors.every(({ mutation }) => mutation.equivalent !== undefined) ? 0 : 1;
}
