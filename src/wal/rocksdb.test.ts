import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { walContract } from '../testing/wal-contract.ts';
import { rocksdbWal } from './rocksdb.ts';

walContract({ test }, async () => {
  const path = await mkdtemp(join(tmpdir(), 'kommander-wal-'));
  return {
    wal: () => rocksdbWal({ path }),
    remove: () => rm(path, { recursive: true, force: true }),
  };
});
