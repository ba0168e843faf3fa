// Reads of a RocksDB store beside a write: the index in memory knows of a batch before RocksDB has it.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { WalBatch } from '../ports/wal.ts';
import { EntryKind } from '../raft/types.ts';
import { laidOut, numbered } from '../testing/wal-model.ts';
import { rocksdbWal } from './rocksdb.ts';
import { importRocksDb, type RocksDbLibrary } from './rocksdb-library.ts';

function batchOf(index: number, term: number, count: number): WalBatch {
  const payload = { kind: EntryKind.normal, bytes: new Uint8Array(10) };
  const entries = numbered(laidOut(Array(count).fill(payload)), { index, term });
  const rest = { hardState: undefined, base: undefined, compactThroughIndex: undefined };
  const writes = [{ ...rest, partitionId: 1, resetLog: false, entries }];
  return { writes, meta: new Map(), sync: true };
}

test('a log that is whole before and after a write is never damaged while it is written', async () => {
  const path = await mkdtemp(join(tmpdir(), 'kommander-wal-'));
  const real = await importRocksDb();
  const begun = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  let writeCount = 0;
  const library: RocksDbLibrary = {
    async open(directory) {
      const handle = await real.open(directory);
      return {
        ...handle,
        async write(operations, options) {
          writeCount += 1;
          if (writeCount === 3) {
            begun.resolve();
            await held.promise;
          }
          await handle.write(operations, options);
        },
      };
    },
  };
  const wal = rocksdbWal({ path, library });
  await wal.open();
  await wal.write(batchOf(1, 1, 4));
  await wal.write(batchOf(5, 1, 6));
  // It cuts the first run in two, replaces what is behind, and is longer.
  const writing = wal.write(batchOf(3, 2, 9));
  await begun.promise;
  const ranges: (readonly [number, number])[] = [];
  for (let index = 1; index <= 11; index++) ranges.push([index, 12], [1, index + 1]);
  const reading = ranges.map(async ([fromIndex, endIndex]) => {
    const read = await wal.read({ partitionId: 1, fromIndex, endIndex, bytesMax: 10_000 });
    return [read[0]?.index, (read.at(-1)?.index ?? 0) + 1];
  });
  held.resolve();
  assert.deepEqual(await Promise.all(reading), ranges);
  await writing;
  await wal.close();
  await rm(path, { recursive: true });
});
