// Where benchmarks with several processes keep their stores: a directory of each run, below the current one, which is on
// a disk where the system's temporary directory may be in memory.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const parent = join('.kommander', 'bench');

/** Runs `work` with a directory that is removed at the end, also when the process is told to end. */
export async function withStoreRoot<T>(
  benchmark: string,
  work: (root: string) => Promise<T>,
): Promise<T> {
  mkdirSync(parent, { recursive: true });
  removeOrphans(benchmark);
  const root = mkdtempSync(join(parent, `${benchmark}-${process.pid}-`));
  const removeRoot = (): void => rmSync(root, { recursive: true, force: true });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      removeRoot();
      process.exit(1);
    });
  }
  try {
    return await work(root);
  } finally {
    removeRoot();
    if (existsSync(parent) && readdirSync(parent).length === 0) rmdirSync(parent);
  }
}

/** What runs that were killed have left behind. */
function removeOrphans(benchmark: string): void {
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(`${benchmark}-`)) continue;
    const pid = Number(/^(\d+)-/.exec(name.slice(benchmark.length + 1))?.[1] ?? process.pid);
    if (!isRunning(pid)) rmSync(join(parent, name), { recursive: true, force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    // No such process; one of another user is none that started this benchmark here.
    return false;
  }
}
