// The SQLite store keeps the contract of the port; beyond it, what only this engine can get wrong: its tables, buffers
// between threads, the life of its thread, versions. Damage and full disks: `sqlite-damage.test.ts`, `sqlite-disk.test.ts`.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  batchOf,
  entriesFrom,
  inDirectory,
  newDirectory,
  opened,
  query,
  rejectsOpen,
  writeThreeRuns,
} from '../../test/support/sqlite-files.ts';
import { isKommanderError } from '../base/errors.ts';
import { decodeRun, encodeRuns } from '../ports/run.ts';
import { walContract } from '../testing/wal-contract.ts';
import { factsOf, membersOf } from '../testing/wal-model.ts';
import { sqliteWal } from './sqlite.ts';
import { databaseName } from './sqlite-store.ts';

const enginePath = JSON.stringify(fileURLToPath(new URL('sqlite.ts', import.meta.url)));
// A store opens with a thread and two checkpoints: fewer seeds than the engines that open in no time.
walContract(
  { test },
  async () => {
    const path = await newDirectory();
    return {
      wal: () => sqliteWal({ path }),
      remove: () => rm(path, { recursive: true, force: true }),
    };
  },
  { seeds: [1, 2, 3, 4, 5, 6] },
);

test('the tables are as they are documented, with one row per run and one per partition', async () => {
  await inDirectory(async (path) => {
    const wal = await opened(path);
    const entries = [...entriesFrom(1, 1, 2), ...entriesFrom(3, 2, 1)];
    const hardState = { term: 2, votedFor: 1, commitIndex: 1 };
    const base = { index: 1, term: 1, confState: membersOf([1]), data: undefined };
    await wal.write(batchOf({ entries, hardState }, true));
    await wal.write({
      ...batchOf({ base, compactThroughIndex: 1 }),
      meta: new Map([['node-id', Uint8Array.of(0x61)]]),
    });
    await wal.close();
    const schema = await query(path, 'SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL');
    assert.deepEqual(
      schema.map(({ sql }) => String(sql).replaceAll(/\s+/g, ' ')),
      [
        'CREATE TABLE batch (id INTEGER PRIMARY KEY CHECK (id = 1), mark BLOB NOT NULL) STRICT',
        'CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT',
        'CREATE TABLE partitions ( partition_id INTEGER PRIMARY KEY, last_index INTEGER NOT NULL, hard_state BLOB, compaction BLOB ) STRICT',
        'CREATE TABLE bases (partition_id INTEGER PRIMARY KEY, base BLOB NOT NULL) STRICT',
        'CREATE TABLE runs ( id INTEGER PRIMARY KEY, partition_id INTEGER NOT NULL, first_index INTEGER NOT NULL, run BLOB NOT NULL ) STRICT',
        'CREATE UNIQUE INDEX partition_ids ON partitions (partition_id)',
        'CREATE UNIQUE INDEX base_ids ON bases (partition_id)',
      ],
    );
    const [first, second] = encodeRuns(entries).map((run) => Buffer.from(run).toString('hex'));
    assert.deepEqual(
      await query(path, 'SELECT id, partition_id, first_index, lower(hex(run)) AS run FROM runs'),
      [
        { id: 1, partition_id: 1, first_index: 1, run: first },
        { id: 2, partition_id: 1, first_index: 3, run: second },
      ],
    );
    assert.deepEqual(
      await query(
        path,
        'SELECT partition_id, last_index, lower(hex(hard_state)) AS h, lower(hex(compaction)) AS c FROM partitions',
      ),
      [
        {
          partition_id: 1,
          last_index: 3,
          h: '01010000af45af7d0200000000000000010000000000000001',
          c: '010300005ada798e01000000000000000100000000000000',
        },
      ],
    );
    assert.deepEqual(await query(path, 'SELECT name, lower(hex(value)) AS v FROM facts'), [
      { name: 'node-id', v: '0104000043beb7e861' },
    ]);
    assert.deepEqual(await query(path, 'PRAGMA user_version'), [{ user_version: 1 }]);
  });
});

test('compaction removes the rows of runs that it has passed, and truncation those it replaces', async () => {
  await inDirectory(async (path) => {
    await writeThreeRuns(path);
    const wal = await opened(path);
    const base = { index: 12, term: 3, confState: membersOf([1]), data: undefined };
    await wal.write(batchOf({ base, compactThroughIndex: 12 }));
    await wal.write(batchOf({ entries: entriesFrom(14, 9, 3) }));
    await wal.write(batchOf({ entries: entriesFrom(17, 9, 3) }));
    await wal.write(batchOf({ entries: entriesFrom(15, 10, 1) }));
    await wal.close();
    assert.deepEqual(
      await query(path, 'SELECT first_index FROM runs ORDER BY id'),
      [11, 14, 15].map((first_index) => ({ first_index })),
    );
  });
});

test('the buffers of entries stay with those who hold them', async () => {
  await inDirectory(async (path) => {
    const wal = await opened(path);
    // Two runs that lie in one large buffer, as a frame from a leader does.
    const frame = new Uint8Array(100_000);
    let at = 50_000;
    const views = [...encodeRuns(entriesFrom(1, 1, 3)), ...encodeRuns(entriesFrom(4, 2, 3))].map(
      (run) => {
        frame.set(run, at);
        at += run.byteLength;
        return frame.subarray(at - run.byteLength, at);
      },
    );
    const before = frame.slice();
    const entries = views.flatMap((view) => decodeRun(view));
    const data = new Uint8Array(1_000).fill(7);
    const fact = new Uint8Array([1, 2, 3]);
    const base = { index: 2, term: 1, confState: membersOf([1]), data };
    const batch = batchOf({ entries }, true);
    await wal.write({ ...batch, meta: new Map([['fact', fact]]) });
    await wal.write(batchOf({ base }, true));
    assert.deepEqual(frame, before);
    assert.equal(data.byteLength, 1_000);
    assert.equal(fact.byteLength, 3);
    const read = await wal.read({ partitionId: 1, fromIndex: 1, endIndex: 7, bytesMax: 1_000 });
    assert.deepEqual(read.map(factsOf), entries.map(factsOf));
    await wal.close();
  });
});

test('reads that come together are answered each for itself, and a write among them as well', async () => {
  await inDirectory(async (path) => {
    await writeThreeRuns(path);
    const wal = await opened(path);
    // Far more than the worker gets at one time.
    const reads = Array.from({ length: 60 }, (_, i) =>
      wal.read({ partitionId: 1, fromIndex: (i % 15) + 1, endIndex: 16, bytesMax: 10_000 }),
    );
    const writing = wal.write(batchOf({ entries: entriesFrom(16, 3, 4) }, true));
    const lengths = (await Promise.all(reads)).map((entries) => entries.length);
    assert.deepEqual(
      lengths,
      reads.map((_, i) => 15 - (i % 15)),
    );
    await writing;
    await wal.close();
  });
});

test('a log of more rows than one request asks for is read whole', async () => {
  await inDirectory(async (path) => {
    const wal = await opened(path);
    for (let index = 1; index <= 1_200; index++)
      await wal.write(batchOf({ entries: entriesFrom(index, 1, 1) }));
    const range = { partitionId: 1, fromIndex: 1, endIndex: 1_201 };
    const read = await wal.read({ ...range, bytesMax: Number.POSITIVE_INFINITY });
    assert.deepEqual(
      read.map(({ index }) => index),
      Array.from({ length: 1_200 }, (_, i) => i + 1),
    );
    await wal.close();
  });
});

test('a store that is open but idle does not keep its process, nor does a closed one', async () => {
  await inDirectory(async (path) => {
    for (const end of ['', 'await wal.close();']) {
      const program = `
        import { sqliteWal } from ${enginePath};
        const wal = sqliteWal({ path: process.argv[1] });
        await wal.open();
        ${end}
        console.log('last line');
      `;
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        ['--input-type=module', '-e', program, path],
        { encoding: 'utf8', timeout: 60_000 },
      );
      assert.equal(stdout, 'last line\n');
      assert.equal(stderr, '', 'nobody is told that SQLite is experimental');
      assert.equal(status, 0);
    }
  });
});

test('a store of another engine or of a newer version is refused', async () => {
  await inDirectory(async (path) => {
    await writeThreeRuns(path);
    const mark = join(path, 'KOMMANDER');
    const text = await readFile(mark, 'utf8');
    assert.equal(text, 'kommander log store\nengine sqlite\nversion 1\n');
    for (const other of [text.replace('sqlite', 'rocksdb'), text.replace('1', '2')]) {
      await writeFile(mark, other);
      await rejectsOpen(path, 'WAL_VERSION');
    }
    await writeFile(mark, text);
    const wal = sqliteWal({ path });
    assert.equal((await wal.open()).partitions[0]?.lastIndex, 15);
    await wal.close();
  });
});

test('a store whose making was cut short is made again', async () => {
  await inDirectory(async (path) => {
    await writeFile(join(path, 'KOMMANDER.draft'), 'komm');
    const wal = await opened(path);
    await wal.close();
    await writeFile(join(path, databaseName), '');
    assert.deepEqual((await wal.open()).partitions, []);
    await wal.close();
  });
});

test('a database that cannot be a file is a typed error', async () => {
  await inDirectory(async (path) => {
    await writeThreeRuns(path);
    await rm(join(path, databaseName));
    await mkdir(join(path, databaseName));
    const wal = sqliteWal({ path });
    await assert.rejects(wal.open(), (error) => isKommanderError(error, 'WAL_FAILED'));
    await wal.close();
  });
});
