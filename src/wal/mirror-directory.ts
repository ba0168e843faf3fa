// A directory of a tool's own, outside of the store that it reads, in the system's directory for temporary files. What lies in
// it may be as large as the store, so it goes with the tool, also when somebody ends that with a signal.

import { existsSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface MirrorDirectory {
  readonly path: string;
  readonly remove: () => Promise<void>;
}

const triesMax = 10;

/** Makes an empty one, for its owner only. */
export async function makeMirrorDirectory(): Promise<MirrorDirectory> {
  const path = await mkdtemp(join(tmpdir(), 'kommander-reading-'));
  const end = (signal: NodeJS.Signals): void => {
    // Threads of RocksDB may remove and make files meanwhile, which ends a removal early.
    for (let tries = 0; tries < triesMax && existsSync(path); tries++) tryRemove(path);
    // Nobody listens any more: the process ends as it would have without this.
    process.kill(process.pid, signal);
  };
  for (const signal of signals) process.once(signal, end);
  return {
    path,
    async remove() {
      for (const signal of signals) process.off(signal, end);
      await rm(path, { recursive: true, force: true });
    },
  };
}

function tryRemove(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOTEMPTY')) throw error;
  }
}
