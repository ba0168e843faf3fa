// Disks that are full, fail or are slow, below real processes: a small file system in memory, and `strace`, which makes
// system calls fail or wait. Both need rights that not every machine gives; then a test is skipped and says why, unless
// KOMMANDER_DISK_FAULTS=required asks for it to fail.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** Ends the test as skipped, or as failed where it must run. @returns whether it is to go on */
function isPermitted(t: TestContext, outcome: { readonly problem: string | undefined }): boolean {
  if (outcome.problem === undefined) return true;
  if (process.env.KOMMANDER_DISK_FAULTS === 'required') assert.fail(outcome.problem);
  t.skip(outcome.problem);
  return false;
}

export interface SmallDisk {
  readonly path: string;
  /** Somebody else takes all but `freeBytes`. */
  fill(freeBytes: number): void;
  /** What somebody else took is free again. */
  makeRoom(): void;
}

/** A file system of `mebibytes`, for the time of the test; undefined when the test is skipped. */
export function smallDisk(t: TestContext, mebibytes: number): SmallDisk | undefined {
  const path = mkdtempSync(join(tmpdir(), 'kommander-disk-'));
  const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', path]);
  if (mount.status !== 0) rmSync(path, { recursive: true });
  const reason = mount.error?.message ?? String(mount.stderr).trim();
  const problem = mount.status === 0 ? undefined : `no file system can be mounted: ${reason}`;
  if (!isPermitted(t, { problem })) return undefined;
  t.after(() => {
    spawnSync('umount', ['--lazy', path]);
    rmSync(path, { recursive: true });
  });
  const other = join(path, 'other');
  return {
    path,
    fill(freeBytes) {
      const { bavail, bsize } = statfsSync(path);
      writeFileSync(other, new Uint8Array(Math.max(0, bavail * bsize - freeBytes)));
    },
    makeRoom: () => rmSync(other),
  };
}

/** What `strace` does to the calls that sync a file, in all threads of a process. */
export type SyncFault = { readonly error: 'EIO' } | { readonly delayMs: number } | 'count';

export interface Tracer {
  /** Lets go of the process. @returns what it saw of the calls, as `strace -c` counts them */
  end(): Promise<{ readonly syncCount: number }>;
}

const syncCalls = 'fsync,fdatasync';

/** Takes hold of a process that runs; undefined when the test is skipped. */
export async function traceSyncs(
  t: TestContext,
  pid: number | undefined,
  fault: SyncFault,
): Promise<Tracer | undefined> {
  const directory = mkdtempSync(join(tmpdir(), 'kommander-trace-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const output = join(directory, 'calls');
  const flags = ['-f', '-e', `trace=${syncCalls}`, '-o', output, '-p', `${pid}`];
  if (fault !== 'count') flags.push('-e', `inject=${syncCalls}:${actionOf(fault)}`);
  const child = spawn('strace', flags, { stdio: ['ignore', 'ignore', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  const problem = await attachProblem(child);
  if (!isPermitted(t, { problem })) return undefined;
  return {
    async end() {
      const exited = once(child, 'exit');
      child.kill('SIGINT');
      await exited;
      const calls = readFileSync(output, 'utf8').match(/\b(?:fsync|fdatasync)\(/g) ?? [];
      return { syncCount: calls.length };
    },
  };
}

function actionOf(fault: Exclude<SyncFault, 'count'>): string {
  return 'error' in fault ? `error=${fault.error}` : `delay_exit=${fault.delayMs * 1_000}`;
}

/** Why `strace` did not take hold of the process, or undefined when it did. */
function attachProblem(child: ChildProcess): Promise<string | undefined> {
  return new Promise((resolve) => {
    let said = '';
    child.on('error', (error) => resolve(`strace does not run: ${error.message}`));
    child.on('exit', () => resolve(`strace ended: ${said.trim()}`));
    child.stderr?.on('data', (text) => {
      said += text;
      if (/Process \d+ attached/.test(said)) resolve(undefined);
    });
  });
}
