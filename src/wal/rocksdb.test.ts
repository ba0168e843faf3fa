// The RocksDB store keeps the contract of the port; beyond it, what only this engine can get wrong: rows and syncs per
// batch, failed writes, damaged or missing rows. Its directory: `rocksdb-directory.test.ts`.

import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import { encodeRuns } from '../ports/run.ts';
import type { PartitionWrite, WalBatch } from '../ports/wal.ts';
import { type Entry, EntryKind } from '../raft/types.ts';
import { walContract } from '../testing/wal-contract.ts';
import { factsOf, laidOut, membersOf, numbered } from '../testing/wal-model.ts';
import { encodeBatchMark } from './record.ts';
import { rocksdbWal } from './rocksdb.ts';
import { batchMarkKey, KeyKind, metaKey, partitionKey, runKey } from './rocksdb-keys.ts';
import {
  importRocksDb,
  type RocksDbHandle,
  type RocksDbLibrary,
  type RocksDbOperation,
} from './rocksdb-library.ts';

walContract({ test }, async () => {
  const path = await newDirectory();
  return {
    wal: () => rocksdbWal({ path }),
    remove: () => rm(path, { recursive: true, force: true }),
  };
});

function newDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'kommander-wal-'));
}

async function inDirectory(body: (path: string) => Promise<void>): Promise<void> {
  const path = await newDirectory();
  try {
    await body(path);
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

function entriesFrom(index: number, term: number, count: number): Entry[] {
  const payloads = Array.from({ length: count }, (_, i) => ({
    kind: EntryKind.normal,
    bytes: Uint8Array.from(Buffer.from(`entry ${index + i}`)),
  }));
  return numbered(laidOut(payloads), { index, term });
}

function batchOf(write: Partial<PartitionWrite>, sync = false): WalBatch {
  const part: PartitionWrite = {
    partitionId: 1,
    hardState: undefined,
    base: undefined,
    resetLog: false,
    entries: [],
    compactThroughIndex: undefined,
    ...write,
  };
  return { writes: [part], meta: new Map(), sync };
}

/** A closed store with entries 1 … 15 of partition 1 in three runs. */
async function writeThreeRuns(path: string): Promise<void> {
  const wal = rocksdbWal({ path });
  await wal.open();
  for (const term of [1, 2, 3])
    await wal.write(batchOf({ entries: entriesFrom(term * 5 - 4, term, 5) }));
  await wal.close();
}

/** Changes a closed store behind its back. */
async function tamper(path: string, ...operations: readonly RocksDbOperation[]): Promise<void> {
  const handle = await (await importRocksDb()).open(path);
  await handle.write(operations, { sync: true });
  await handle.close();
}

/** The value under `key` of a closed store, with one bit flipped. */
async function flipped(path: string, key: Uint8Array, position: number): Promise<Uint8Array> {
  const handle = await (await importRocksDb()).open(path);
  const end = new Uint8Array([...key, 0]);
  const scan = handle.scan({ from: key, end, chunkBytes: 1_000_000 });
  const [row] = await scan.next();
  await scan.close();
  await handle.close();
  assert.ok(row !== undefined);
  const value = row.value.slice();
  const at = position < 0 ? value.byteLength + position : position;
  value[at] = (value[at] as number) ^ 0x10;
  return value;
}

async function rejectsOpen(path: string, code: 'WAL_CORRUPT'): Promise<Error> {
  const wal = rocksdbWal({ path });
  let thrown: unknown;
  try {
    await wal.open();
  } catch (error) {
    thrown = error;
  }
  await wal.close();
  assert.ok(isKommanderError(thrown, code), `${code}: ${String(thrown)}`);
  return thrown;
}

/** The real library with some of its verbs replaced. */
async function libraryWith(
  change: (handle: RocksDbHandle) => Partial<RocksDbHandle>,
): Promise<RocksDbLibrary> {
  const library = await importRocksDb();
  return {
    async open(path) {
      const handle = await library.open(path);
      return { ...handle, ...change(handle) };
    },
  };
}

test('a store of several runs has one row per run, and one per record', async () => {
  await inDirectory(async (path) => {
    const rows: RocksDbOperation[] = [];
    const library = await libraryWith((handle) => ({
      write(operations, options) {
        rows.push(...operations);
        return handle.write(operations, options);
      },
    }));
    const wal = rocksdbWal({ path, library });
    await wal.open();
    const entries = [...entriesFrom(1, 1, 30), ...entriesFrom(31, 2, 30)];
    const hardState = { term: 2, votedFor: 1, commitIndex: 0 };
    await wal.write(batchOf({ entries, hardState }));
    await wal.close();
    assert.deepEqual(
      rows.map(({ key }) => Buffer.from(key).toString('hex')),
      [
        '006b6f6d6d616e646572', // mark of the batch
        '0200000001',
        '05000000010000000000000001',
        '0500000001000000000000001f',
      ],
    );
    assert.deepEqual(
      rows.slice(2).map(({ value }) => value),
      encodeRuns(entries),
    );
  });
});

test('a batch is one write, synced exactly when it says so', async () => {
  await inDirectory(async (path) => {
    const syncs: boolean[] = [];
    const library = await libraryWith((handle) => ({
      write(operations, options) {
        syncs.push(options.sync);
        return handle.write(operations, options);
      },
    }));
    const wal = rocksdbWal({ path, library });
    await wal.open();
    await wal.write(batchOf({ entries: entriesFrom(1, 1, 9) }, true));
    await wal.write(batchOf({ entries: entriesFrom(5, 2, 9) }, false));
    await wal.write({ writes: [], meta: new Map(), sync: true });
    await wal.write({ writes: [], meta: new Map(), sync: false });
    assert.deepEqual(syncs, [true, false, true]);
    await wal.close();
  });
});

test('after a failed write the store is failed for good: nothing is tried again', async () => {
  await inDirectory(async (path) => {
    let callCount = 0;
    const library = await libraryWith((handle) => ({
      async write(operations, options) {
        callCount += 1;
        if (callCount === 2) throw new Error('IO error: No space left on device');
        return handle.write(operations, options);
      },
    }));
    const wal = rocksdbWal({ path, library });
    await wal.open();
    await wal.write(batchOf({ entries: entriesFrom(1, 1, 3) }, true));
    const isFailed = (error: unknown): boolean => isKommanderError(error, 'WAL_FAILED');
    await assert.rejects(wal.write(batchOf({ entries: entriesFrom(4, 1, 3) }, true)), isFailed);
    await assert.rejects(wal.write(batchOf({ entries: entriesFrom(4, 1, 3) }, true)), isFailed);
    const range = { partitionId: 1, fromIndex: 1, endIndex: 2, bytesMax: 1 };
    await assert.rejects(wal.read(range), isFailed);
    assert.equal(callCount, 2);
    assert.equal(wal.stats().syncCount, 1);
    await wal.close();
    await assert.rejects(wal.open(), isFailed);
    const again = rocksdbWal({ path });
    assert.equal((await again.open()).partitions[0]?.lastIndex, 3);
    await again.close();
  });
});

test('a library that cannot read makes the store fail, not lie', async () => {
  await inDirectory(async (path) => {
    await writeThreeRuns(path);
    let reads = 0;
    const library = await libraryWith((handle) => ({
      scan(range) {
        const scan = handle.scan(range);
        return {
          async next() {
            reads += 1;
            if (reads > 2) throw new Error('IO error: Input/output error');
            return scan.next();
          },
          close: () => scan.close(),
        };
      },
    }));
    const wal = rocksdbWal({ path, library });
    await wal.open();
    const range = { partitionId: 1, fromIndex: 1, endIndex: 9, bytesMax: 1_000 };
    await assert.rejects(wal.read(range), (error) => isKommanderError(error, 'WAL_FAILED'));
    await wal.close();
  });
});

test('a missing package is named together with the command that installs it', async () => {
  await inDirectory(async (path) => {
    const name = '@nxtedition/not-there';
    const library: RocksDbLibrary = {
      open: async (at) => (await importRocksDb(() => import(name))).open(at),
    };
    const wal = rocksdbWal({ path, library });
    await assert.rejects(
      wal.open(),
      (error) =>
        isKommanderError(error, 'MISSING_DEPENDENCY') &&
        error.message.includes('npm install @nxtedition/rocksdb'),
    );
    await wal.close();
  });
});

test('a damaged payload is found when it is read, with partition and index', async () => {
  await inDirectory(async (path) => {
    await writeThreeRuns(path);
    await tamper(path, { key: runKey(1, 6), value: await flipped(path, runKey(1, 6), -1) });
    const wal = rocksdbWal({ path });
    await wal.open();
    const intact = await wal.read({ partitionId: 1, fromIndex: 1, endIndex: 6, bytesMax: 1_000 });
    assert.deepEqual(intact.map(factsOf), entriesFrom(1, 1, 5).map(factsOf));
    const range = { partitionId: 1, fromIndex: 1, endIndex: 16, bytesMax: 1_000 };
    await assert.rejects(wal.read(range), (error) => {
      assert.ok(isKommanderError(error, 'WAL_CORRUPT'));
      assert.equal(error.details.partitionId, 1);
      assert.equal(error.details.index, 6);
      return true;
    });
    const after = { partitionId: 1, fromIndex: 11, endIndex: 16, bytesMax: 1_000 };
    assert.equal((await wal.read(after)).length, 5);
    await wal.close();
  });
});

const damages: readonly {
  readonly name: string;
  readonly says: RegExp;
  readonly operations: (path: string) => Promise<RocksDbOperation[]>;
}[] = [
  {
    name: 'a run in the middle is missing',
    says: /partitionId 1, index 6/,
    operations: async () => [{ key: runKey(1, 6), value: undefined }],
  },
  {
    name: 'the first run is missing',
    says: /partitionId 1, index 1/,
    operations: async () => [{ key: runKey(1, 1), value: undefined }],
  },
  {
    name: 'the last run is missing although the base needs it',
    says: /partitionId 1, index 11/,
    operations: async () => [{ key: runKey(1, 11), value: undefined }],
  },
  {
    name: "a run's header is damaged",
    says: /partitionId 1, index \d+/,
    operations: async (path) => [
      { key: runKey(1, 6), value: await flipped(path, runKey(1, 6), 24) },
    ],
  },
  {
    name: 'a run lies under the key of another one',
    says: /partitionId 1, index 6/,
    operations: async () => [{ key: runKey(1, 6), value: encodeRuns(entriesFrom(7, 2, 4))[0] }],
  },
  {
    name: 'a run is longer than its header says',
    says: /partitionId 1, index 6/,
    operations: async () => {
      const [run = new Uint8Array(0)] = encodeRuns(entriesFrom(6, 2, 5));
      return [{ key: runKey(1, 6), value: new Uint8Array([...run, 0]) }];
    },
  },
  {
    name: 'terms fall from one run to the next',
    says: /partitionId 1, index 6/,
    operations: async () => [{ key: runKey(1, 6), value: encodeRuns(entriesFrom(6, 0, 5))[0] }],
  },
  {
    name: 'a run lies wholly below the compaction mark',
    says: /partitionId 2, index 5/,
    operations: async () => [{ key: runKey(2, 5), value: encodeRuns(entriesFrom(5, 1, 2))[0] }],
  },
  {
    name: 'the hard state is damaged',
    says: /partitionId 1, record hard state/,
    operations: async (path) => {
      const key = partitionKey(KeyKind.hardState, 1);
      return [{ key, value: await flipped(path, key, 10) }];
    },
  },
  {
    name: 'the base is damaged',
    says: /partitionId 1, record base/,
    operations: async (path) => {
      const key = partitionKey(KeyKind.base, 1);
      return [{ key, value: await flipped(path, key, 10) }];
    },
  },
  {
    name: 'the compaction mark is damaged',
    says: /partitionId 2, record compaction mark/,
    operations: async (path) => {
      const key = partitionKey(KeyKind.compaction, 2);
      return [{ key, value: await flipped(path, key, 10) }];
    },
  },
  {
    name: 'the compaction mark is missing',
    says: /partitionId 2/,
    operations: async () => [{ key: partitionKey(KeyKind.compaction, 2), value: undefined }],
  },
  {
    name: 'a node-wide fact is damaged',
    says: /record fact genesis/,
    operations: async (path) => [
      { key: metaKey('genesis'), value: await flipped(path, metaKey('genesis'), -1) },
    ],
  },
  {
    name: 'there is a row of an unknown kind',
    says: /unknown key/,
    operations: async () => [{ key: Uint8Array.of(9, 9), value: Uint8Array.of(1) }],
  },
];

for (const { name, says, operations } of damages) {
  test(`a store is refused when ${name}`, async () => {
    await inDirectory(async (path) => {
      await writeThreeRuns(path);
      const wal = rocksdbWal({ path });
      await wal.open();
      const confState = membersOf([1]);
      const hardState = { term: 3, votedFor: 1, commitIndex: 12 };
      await wal.write(
        batchOf({ hardState, base: { index: 12, term: 3, confState, data: undefined } }),
      );
      const base = { index: 7, term: 1, confState, data: undefined };
      await wal.write(batchOf({ partitionId: 2, base, entries: entriesFrom(8, 1, 2) }));
      const meta = new Map([['genesis', Uint8Array.of(1, 2, 3)]]);
      await wal.write({ writes: [], meta, sync: false });
      await wal.close();
      await tamper(path, ...(await operations(path)));
      assert.match((await rejectsOpen(path, 'WAL_CORRUPT')).message, says);
    });
  });
}

/** RocksDB's own log of a closed store: the file that holds what was written since it was opened. */
async function logOf(path: string): Promise<string> {
  const names = (await readdir(path)).filter((name) => name.endsWith('.log'));
  assert.equal(names.length, 1);
  return join(path, names[0] ?? '');
}

/** Entries 1 … `synced` in synced batches of one entry, then up to `last` in batches that are not synced. */
async function writeSingles(
  path: string,
  counts: { readonly synced: number; readonly last: number },
): Promise<void> {
  const wal = rocksdbWal({ path });
  await wal.open();
  for (let index = 1; index <= counts.last; index++)
    await wal.write(batchOf({ entries: entriesFrom(index, 1, 1) }, index <= counts.synced));
  await wal.close();
}

/** The same, as it is before the store is closed: what a process leaves that is killed. */
async function writeAndKill(
  path: string,
  counts: { readonly synced: number; readonly last: number },
): Promise<string> {
  const wal = rocksdbWal({ path: join(path, 'alive') });
  await wal.open();
  for (let index = 1; index <= counts.last; index++)
    await wal.write(batchOf({ entries: entriesFrom(index, 1, 1) }, index <= counts.synced));
  const killed = join(path, 'killed');
  await cp(join(path, 'alive'), killed, { recursive: true });
  await wal.close();
  return killed;
}

/** Flips a bit in the payload of entry `index`, which only the log holds. */
async function damageLog(path: string, index: number): Promise<void> {
  const log = await logOf(path);
  const bytes = await readFile(log);
  const at = bytes.indexOf(`entry ${index}`);
  assert.ok(at > 0);
  bytes[at] = (bytes[at] as number) ^ 0x20;
  await writeFile(log, bytes);
}

test('damage in the middle of the log is reported at every open, not cut like a torn tail', async () => {
  await inDirectory(async (path) => {
    const killed = await writeAndKill(path, { synced: 90, last: 90 });
    await damageLog(killed, 20);
    for (let attempt = 0; attempt < 3; attempt++) {
      const error = await rejectsOpen(killed, 'WAL_CORRUPT');
      assert.match(error.message, /lost acknowledged batches 20 … 89/);
    }
  });
});

test('damage to the last batch of a store that was closed is no torn end', async () => {
  await inDirectory(async (path) => {
    for (const counts of [
      { synced: 10, last: 10 },
      { synced: 10, last: 11 },
    ]) {
      const directory = join(path, `${counts.last}`);
      await writeSingles(directory, counts);
      await damageLog(directory, 10);
      for (let attempt = 0; attempt < 2; attempt++) {
        const error = await rejectsOpen(directory, 'WAL_CORRUPT');
        assert.match(error.message, /lost acknowledged batches 10 … 10/);
      }
    }
  });
});

test('a store that cannot write its last mark is closed all the same', async () => {
  await inDirectory(async (path) => {
    for (const [name, failure] of [
      ['full', new KommanderError('no space left', { code: 'DISK_FULL' })],
      ['broken', new Error('IO error: Input/output error')],
    ] as const) {
      let writeCount = 0;
      const library = await libraryWith((handle) => ({
        async write(operations, options) {
          writeCount += 1;
          if (writeCount === 2) throw failure;
          await handle.write(operations, options);
        },
      }));
      const wal = rocksdbWal({ path: join(path, name), library });
      await wal.open();
      await wal.write(batchOf({ entries: entriesFrom(1, 1, 1) }, true));
      if (name === 'full') await wal.close();
      else await assert.rejects(wal.close(), (error) => isKommanderError(error, 'WAL_FAILED'));
      assert.equal(writeCount, 2);
      const again = rocksdbWal({ path: join(path, name) });
      assert.equal((await again.open()).partitions[0]?.lastIndex, 1);
      await again.close();
    }
  });
});

test('a log that ends anywhere in its last batch loses that batch and nothing else', async () => {
  await inDirectory(async (path) => {
    for (const cutBytes of [1, 40, 120]) {
      const directory = await writeAndKill(join(path, `${cutBytes}`), { synced: 10, last: 10 });
      const log = await logOf(directory);
      await truncate(log, (await stat(log)).size - cutBytes);
      const wal = rocksdbWal({ path: directory });
      assert.equal((await wal.open()).partitions[0]?.lastIndex, 9);
      await wal.write(batchOf({ entries: entriesFrom(10, 2, 2) }, true));
      await wal.close();
      assert.equal((await wal.open()).partitions[0]?.lastIndex, 11);
      await wal.close();
      assert.ok(!(await readdir(directory)).includes('recovering'));
    }
  });
});

test('batches that were never synced may be lost from any point on', async () => {
  await inDirectory(async (path) => {
    await writeSingles(path, { synced: 10, last: 20 });
    await damageLog(path, 12);
    const wal = rocksdbWal({ path });
    assert.equal((await wal.open()).partitions[0]?.lastIndex, 11);
    await wal.close();
  });
});

test('the mark of another store in a payload proves nothing', async () => {
  await inDirectory(async (path) => {
    const identity = 'f00d0000-0000-4000-8000-000000000000';
    const mark = encodeBatchMark({ identity, batchNumber: 1_000, syncedBatch: 999 });
    const bytes = new Uint8Array([...batchMarkKey, mark.byteLength, ...mark]);
    const payload = laidOut([{ kind: EntryKind.normal, bytes }]);
    const wal = rocksdbWal({ path });
    await wal.open();
    await wal.write(batchOf({ entries: numbered(payload, { index: 1, term: 1 }) }, true));
    await wal.close();
    assert.equal((await wal.open()).partitions[0]?.lastIndex, 1);
    await wal.close();
  });
});

test('a damaged file of RocksDB is a damaged store', async () => {
  await inDirectory(async (path) => {
    await writeSingles(path, { synced: 1, last: 100 });
    // Opening moves what the log holds to a table.
    const wal = rocksdbWal({ path });
    await wal.open();
    await wal.close();
    const [table = ''] = (await readdir(path)).filter((name) => name.endsWith('.sst'));
    const bytes = await readFile(join(path, table));
    const at = bytes.indexOf('entry 50');
    bytes[at] = (bytes[at] as number) ^ 0x20;
    await writeFile(join(path, table), bytes);
    await rejectsOpen(path, 'WAL_CORRUPT');
  });
});

test('a store that has lost the file that leads to its tables is not made anew over them', async () => {
  await inDirectory(async (path) => {
    await writeSingles(path, { synced: 10, last: 10 });
    for (const place of ['logs', 'tables']) {
      const current = await readFile(join(path, 'CURRENT'));
      const before = (await readdir(path)).filter((name) => name !== 'CURRENT');
      await rm(join(path, 'CURRENT'));
      for (let attempt = 0; attempt < 3; attempt++) {
        const error = await rejectsOpen(path, 'WAL_CORRUPT');
        assert.match(error.message, /file CURRENT/);
      }
      assert.deepEqual(await readdir(path), before, 'nothing was touched');
      await writeFile(join(path, 'CURRENT'), current);
      const wal = rocksdbWal({ path });
      assert.equal((await wal.open()).partitions[0]?.lastIndex, 10, `with all in ${place}`);
      await wal.close();
    }
  });
});

test('a store that has lost its log is not opened without what was in it', async () => {
  await inDirectory(async (path) => {
    await writeSingles(path, { synced: 10, last: 10 });
    // In its second session as in its first one, in which nothing is in tables.
    for (const place of ['the first log', 'a later one']) {
      const [log = '', ...others] = (await readdir(path)).filter((name) => name.endsWith('.log'));
      assert.deepEqual(others, []);
      const bytes = await readFile(join(path, log));
      await rm(join(path, log));
      const before = await readdir(path);
      for (let attempt = 0; attempt < 2; attempt++) {
        const error = await rejectsOpen(path, 'WAL_CORRUPT');
        assert.match(error.message, /\.log/);
      }
      assert.deepEqual(await readdir(path), before, 'nothing was touched');
      await writeFile(join(path, log), bytes);
      const wal = rocksdbWal({ path });
      assert.equal((await wal.open()).partitions[0]?.lastIndex, 10, place);
      await wal.close();
    }
  });
});

test('compaction removes the rows of runs that it has passed, and truncation those it replaces', async () => {
  await inDirectory(async (path) => {
    await writeThreeRuns(path);
    const wal = rocksdbWal({ path });
    await wal.open();
    const base = { index: 12, term: 3, confState: membersOf([1]), data: undefined };
    await wal.write(batchOf({ base, compactThroughIndex: 12 }));
    await wal.write(batchOf({ entries: entriesFrom(14, 9, 3) }));
    await wal.write(batchOf({ entries: entriesFrom(17, 9, 3) }));
    await wal.write(batchOf({ entries: entriesFrom(15, 10, 1) }));
    await wal.close();
    const handle = await (await importRocksDb()).open(path);
    const scan = handle.scan({ from: runKey(1, 0), end: runKey(2, 0), chunkBytes: 1_000_000 });
    const keys = (await scan.next()).map(({ key }) => Buffer.from(key).readUInt32BE(9));
    await scan.close();
    await handle.close();
    assert.deepEqual(keys, [11, 14, 15]);
  });
});
