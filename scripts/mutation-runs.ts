// Runs of tests and of the simulator in a copy of the project, for `mutate.ts`: each in a process group of its own, ended
// at the first failure or when it takes much too long. What was started or made here is gone when this process ends.

import { type ChildProcess, spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { type Mutation, mutatedFiles } from '../test/mutations/mutation.ts';
import { nodePath, root } from './bootstrap.mjs';

/** How a run ended, and after how many milliseconds. `sign` is what the first failure printed. */
export type RunEnd =
  | { readonly kind: 'passed'; readonly ms: number }
  | { readonly kind: 'failed'; readonly ms: number; readonly sign: string }
  | { readonly kind: 'timeout'; readonly ms: number };

/** A simulator's run that found something: in the `seedCount`-th seed that it tried. */
export type SimulatorEnd = RunEnd & { readonly seedCount?: number };

/** What a copy of the project does not need. */
const left = new Set(['.git', 'node_modules', 'dist', '.kommander']);
const simulator = 'scripts/sim.ts';
/** Virtual milliseconds of trouble in a seed. */
const seedMs = 20_000;
const firstSeed = 1;

const folders = new Set<string>();
const children = new Set<ChildProcess>();

process.on('exit', () => {
  for (const child of children) endGroup(child);
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));
process.on('SIGHUP', () => process.exit(129));

/** Whether this project has a simulator. */
export function hasSimulator(): boolean {
  return existsSync(path.join(root, simulator));
}

/** Makes a copy of the project in a new temporary folder, and returns the folder. */
export function copyProject(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'kommander-mutate-'));
  folders.add(folder);
  const copied = (file: string): boolean => !left.has(path.relative(root, file));
  cpSync(root, folder, { recursive: true, filter: copied });
  symlinkSync(realpathSync(path.join(root, 'node_modules')), path.join(folder, 'node_modules'));
  return folder;
}

/** Applies `mutation` to the copy in `folder` while `use` runs. */
export async function withMutation<Result>(
  folder: string,
  mutation: Mutation,
  use: () => Promise<Result>,
): Promise<Result> {
  // Of the copy, not of the project: that may be worked on meanwhile.
  const source = (file: string): string => readFileSync(path.join(folder, file), 'utf8');
  const mutated = mutatedFiles(mutation, source);
  const originals = new Map([...mutated.keys()].map((file) => [file, source(file)]));
  for (const [file, text] of mutated) writeFileSync(path.join(folder, file), text);
  try {
    return await use();
  } finally {
    for (const [file, text] of originals) writeFileSync(path.join(folder, file), text);
  }
}

/** Runs one test file in `folder`; it ends with the first test that fails. */
export function runTests(folder: string, file: string, timeoutMs: number): Promise<RunEnd> {
  const args = ['--import=./test/support/property-seed.ts', '--test-reporter=tap', file];
  return run(folder, args, timeoutMs, failedTest);
}

/** Name of the test that failed, if a line of TAP says so. Inner tests come before those that hold them. */
function failedTest(line: string): string | undefined {
  const [, name] = /^\s*not ok \d+ - (.*)$/.exec(line) ?? [];
  return name?.replace(/(?<!\\) # .*$/, '').replaceAll(/\\([#\\])/g, '$1');
}

/** Runs the simulator in `folder`; it ends with the first violation. */
export async function runSimulator(
  folder: string,
  options: { readonly profile: string; readonly seeds: number; readonly timeoutMs: number },
): Promise<SimulatorEnd> {
  const { profile, seeds, timeoutMs } = options;
  const args = [
    ...['--profile', profile, '--seeds', `${seeds}`, '--seed', `${firstSeed}`],
    ...['--duration', `${seedMs}`],
  ];
  const end = await run(folder, [simulator, ...args], timeoutMs, violation);
  const [, seed] = end.kind === 'failed' ? (/at seed (\d+)/.exec(end.sign) ?? []) : [];
  return seed === undefined ? end : { ...end, seedCount: Number(seed) - firstSeed + 1 };
}

function violation(line: string): string | undefined {
  return /violation at seed \d+: .*/.exec(line)?.[0];
}

/**
 * Runs Node in `folder`.
 *
 * @param signOf what a line of output says of a failure; the run is over with the first such line
 */
function run(
  folder: string,
  args: readonly string[],
  timeoutMs: number,
  signOf: (line: string) => string | undefined,
): Promise<RunEnd> {
  const startMs = performance.now();
  const elapsedMs = (): number => Math.round(performance.now() - startMs);
  // A group of its own, so that what it starts ends with it.
  const child = spawn(nodePath(), args, {
    cwd: folder,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  return new Promise((resolve, reject) => {
    let lastLine = '';
    let end: RunEnd | undefined;
    const finish = (reached: RunEnd): void => {
      end ??= reached;
      endGroup(child);
    };
    const timer = setTimeout(() => finish({ kind: 'timeout', ms: elapsedMs() }), timeoutMs);
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        if (line.trim() !== '') lastLine = line.trim();
        const sign = signOf(line);
        if (sign !== undefined) finish({ kind: 'failed', ms: elapsedMs(), sign });
      });
    }
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      endGroup(child);
      children.delete(child);
      const how = `ended with ${code ?? signal}: ${lastLine}`;
      const byItself: RunEnd =
        code === 0
          ? { kind: 'passed', ms: elapsedMs() }
          : { kind: 'failed', ms: elapsedMs(), sign: how };
      resolve(end ?? byItself);
    });
  });
}

/** Ends a child and all that it started, if anything of it is left. */
function endGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    // The group is gone.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
