// What surrounds every durable engine, with an engine whose answers the test gives: who is told what when opening, closing
// and failing meet.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memoryFiles } from './memory-files.ts';
import { fileSnapshots } from './snapshot-files.ts';
import { type StoreEngine, storeShell } from './store-shell.ts';

const contents = { partitions: [], meta: new Map() };

function engineWith(parts: Partial<StoreEngine<number>>): StoreEngine<number> {
  return {
    path: 'nowhere',
    snapshots: fileSnapshots(memoryFiles()),
    open: async () => ({ store: 1, contents }),
    stored: () => undefined,
    write: async () => undefined,
    read: async () => [],
    close: async () => {},
    ...parts,
  };
}

test('a store that is opened again at once, after a failed open that was being closed, counts as open', async () => {
  let openCount = 0;
  let closeCount = 0;
  const wal = storeShell(
    engineWith({
      async open() {
        openCount += 1;
        await Promise.resolve();
        if (openCount === 1) throw new Error('not yet');
        return { store: openCount, contents };
      },
      async close() {
        closeCount += 1;
      },
    }),
  );
  const opening = wal.open().catch(() => wal.open());
  const closing = wal.close();
  await opening;
  await closing;
  await assert.rejects(wal.open(), { code: 'WAL_LOCKED' });
  await wal.close();
  assert.equal(closeCount, 1, 'what was opened is closed');
});
