import { test } from 'node:test';
import { walContract } from '../testing/wal-contract.ts';
import { memoryWal } from './memory.ts';

walContract({ test }, async () => {
  const wal = memoryWal();
  return { wal: () => wal, remove: async () => {} };
});
