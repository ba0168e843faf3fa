import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { walContract } from '../testing/wal-contract.ts';
import { sqliteWal } from './sqlite.ts';

walContract({ test }, async () => {
  const path = await mkdtemp(join(tmpdir(), 'kommander-wal-'));
  return {
    wal: () => sqliteWal({ path }),
    remove: () => rm(path, { recursive: true, force: true }),
  };
});
