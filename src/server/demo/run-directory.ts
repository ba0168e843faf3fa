// Where a run of the demo keeps its data: a fresh directory for every run. The last one stays to be looked at; those of
// earlier runs are removed when a new one begins, so that the disk does not fill.

import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';

const namePattern = /^demo-\d{14}-(\d+)$/;

/**
 * Removes the directories of runs whose process has ended, and makes a new one.
 *
 * @param parent made when it is not there
 * @param wallMs milliseconds since 1970
 * @returns its absolute path
 */
export function makeRunDirectory(parent: string, wallMs: number): string {
  mkdirSync(parent, { recursive: true });
  for (const name of readdirSync(parent)) {
    const processId = Number(namePattern.exec(name)?.[1]);
    if (!Number.isInteger(processId) || isRunning(processId)) continue;
    rmSync(join(parent, name), { recursive: true, force: true });
  }
  const stamp = new Date(wallMs).toISOString().replaceAll(/\D/g, '').slice(0, 14);
  const directory = resolve(parent, `demo-${stamp}-${process.pid}`);
  mkdirSync(directory, { recursive: true });
  return directory;
}

function isRunning(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ESRCH') return false;
    return true;
  }
}
