// The store in memory keeps the contract of the port: closing and opening the same object is its restart.
// Rules that only a store on a disk can break (damage, locks) are not asked of it.

import { test } from 'node:test';
import { walContract } from '../testing/wal-contract.ts';
import { memoryWal } from './memory.ts';

walContract({ test }, async () => {
  const wal = memoryWal();
  return { wal: () => wal, remove: async () => {} };
});
