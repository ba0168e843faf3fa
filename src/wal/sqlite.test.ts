// The SQLite store keeps the contract of the port; beyond it, what only this engine can get wrong: rows and syncs per
// batch, the journal, damaged or missing rows and pages, full and failing disks, the life of its thread, locks.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import {
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isKommanderError } from '../base/errors.ts';
import { decodeRun, encodeRuns } from '../ports/run.ts';
import type { PartitionWrite, Wal, WalBatch } from '../ports/wal.ts';
import { type Entry, EntryKind } from '../raft/types.ts';
import { walContract } from '../testing/wal-contract.ts';
import { factsOf, laidOut, membersOf, numbered } from '../testing/wal-model.ts';
import { importSqlite } from './node-sqlite.ts';
import { encodeBatchMark } from './record.ts';
import { sqliteWal } from './sqlite.ts';
import { keptJournalName } from './sqlite-evidence.ts';
import { databaseName, journalBytesMax, journalName } from './sqlite-store.ts';

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

async function opened(path: string): Promise<Wal> {
  const wal = sqliteWal({ path });
  await wal.open();
  return wal;
}

/** A closed store with entries 1 … 15 of partition 1 in three runs. */
async function writeThreeRuns(path: string): Promise<void> {
  const wal = await opened(path);
  for (const term of [1, 2, 3])
    await wal.write(batchOf({ entries: entriesFrom(term * 5 - 4, term, 5) }));
  await wal.close();
}

type Rows = readonly Readonly<Record<string, unknown>>[];

/** Asks a closed store. */
async function query(path: string, sql: string): Promise<Rows> {
  const { DatabaseSync } = await importSqlite();
  const database = new DatabaseSync(join(path, databaseName));
  try {
    return database
      .prepare(sql)
      .all()
      .map((row) => ({ ...row }));
  } finally {
    database.close();
  }
}

/** Changes a closed store behind its back. */
async function tamper(
  path: string,
  sql: string,
  ...values: (Uint8Array | number)[]
): Promise<void> {
  const { DatabaseSync } = await importSqlite();
  const database = new DatabaseSync(join(path, databaseName));
  try {
    database.prepare(sql).run(...values);
  } finally {
    database.close();
  }
}

/** Flips a bit of a blob in a closed store. */
async function flipBlob(
  path: string,
  place: { readonly table: string; readonly column: string; readonly where: string },
  position: number,
): Promise<void> {
  const { table, column, where } = place;
  const [row] = await query(path, `SELECT ${column} AS bytes FROM ${table} WHERE ${where}`);
  assert.ok(row?.bytes instanceof Uint8Array);
  const bytes = row.bytes.slice();
  const at = position < 0 ? bytes.byteLength + position : position;
  bytes[at] = (bytes[at] as number) ^ 0x10;
  await tamper(path, `UPDATE ${table} SET ${column} = ? WHERE ${where}`, bytes);
}

async function rejectsOpen(path: string, code: 'WAL_CORRUPT' | 'WAL_VERSION'): Promise<Error> {
  const wal = sqliteWal({ path });
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

test('a damaged payload is found when it is read, with partition, index and file', async () => {
  await inDirectory(async (path) => {
    await writeThreeRuns(path);
    await flipBlob(path, { table: 'runs', column: 'run', where: 'first_index = 6' }, -1);
    const wal = await opened(path);
    const intact = await wal.read({ partitionId: 1, fromIndex: 1, endIndex: 6, bytesMax: 1_000 });
    assert.deepEqual(intact.map(factsOf), entriesFrom(1, 1, 5).map(factsOf));
    const range = { partitionId: 1, fromIndex: 1, endIndex: 16, bytesMax: 1_000 };
    await assert.rejects(wal.read(range), (error) => {
      assert.ok(isKommanderError(error, 'WAL_CORRUPT'));
      assert.equal(error.details.partitionId, 1);
      assert.equal(error.details.index, 6);
      assert.equal(error.details.file, 'log.sqlite');
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
  readonly damage: (path: string) => Promise<void>;
}[] = [
  {
    name: 'a run in the middle is missing',
    says: /partitionId 1, index 6/,
    damage: (path) => tamper(path, 'DELETE FROM runs WHERE first_index = 6'),
  },
  {
    name: 'the first run is missing',
    says: /partitionId 1, index 1/,
    damage: (path) => tamper(path, 'DELETE FROM runs WHERE partition_id = 1 AND first_index = 1'),
  },
  {
    name: 'the last run is missing, which nobody knew to be committed',
    says: /partitionId 3, index 4/,
    damage: (path) => tamper(path, 'DELETE FROM runs WHERE partition_id = 3 AND first_index = 4'),
  },
  {
    name: 'a run belongs to another partition',
    says: /partitionId 1, index \d+/,
    damage: (path) => tamper(path, 'UPDATE runs SET partition_id = 1 WHERE partition_id = 3'),
  },
  {
    name: 'a run has the index of another one',
    says: /partitionId 1, index 7/,
    damage: (path) => tamper(path, 'UPDATE runs SET first_index = 7 WHERE first_index = 6'),
  },
  {
    name: "a run's header is damaged",
    says: /partitionId 1, index \d+/,
    damage: (path) =>
      flipBlob(path, { table: 'runs', column: 'run', where: 'first_index = 6' }, 24),
  },
  {
    name: 'a run is longer than its header says',
    says: /partitionId 1, index 6/,
    damage: (path) => {
      const [run = new Uint8Array(0)] = encodeRuns(entriesFrom(6, 2, 5));
      return tamper(
        path,
        'UPDATE runs SET run = ? WHERE first_index = 6',
        new Uint8Array([...run, 0]),
      );
    },
  },
  {
    name: 'a run lies wholly below the compaction mark',
    says: /partitionId 2, index 5/,
    damage: (path) => {
      const [run = new Uint8Array(0)] = encodeRuns(entriesFrom(5, 1, 2));
      return tamper(path, 'INSERT INTO runs VALUES (0, 2, 5, ?)', run);
    },
  },
  {
    name: 'the last index of a partition is damaged',
    says: /partitionId 3, index 6/,
    damage: (path) => tamper(path, 'UPDATE partitions SET last_index = 5 WHERE partition_id = 3'),
  },
  {
    name: 'the row of a partition is missing',
    says: /partitionId 1/,
    damage: (path) => tamper(path, 'DELETE FROM partitions WHERE partition_id = 1'),
  },
  {
    name: 'a partition has an impossible number',
    says: /partition -5/,
    damage: (path) =>
      tamper(path, 'UPDATE partitions SET partition_id = -5 WHERE partition_id = 1'),
  },
  {
    name: 'a number is no number that a store writes',
    says: /9223372036854775807/,
    damage: (path) =>
      tamper(path, 'UPDATE runs SET first_index = 9223372036854775807 WHERE first_index = 6'),
  },
  {
    name: 'the hard state is damaged',
    says: /partitionId 1, record hard state/,
    damage: (path) =>
      flipBlob(path, { table: 'partitions', column: 'hard_state', where: 'partition_id = 1' }, 10),
  },
  {
    name: 'the base is damaged',
    says: /partitionId 1, record base/,
    damage: (path) =>
      flipBlob(path, { table: 'bases', column: 'base', where: 'partition_id = 1' }, 10),
  },
  {
    name: 'the compaction mark is damaged',
    says: /partitionId 2, record compaction mark/,
    damage: (path) =>
      flipBlob(path, { table: 'partitions', column: 'compaction', where: 'partition_id = 2' }, 10),
  },
  {
    name: 'the compaction mark is missing',
    says: /partitionId 2/,
    damage: (path) =>
      tamper(path, 'UPDATE partitions SET compaction = NULL WHERE partition_id = 2'),
  },
  {
    name: 'a node-wide fact is damaged',
    says: /record fact genesis/,
    damage: (path) =>
      flipBlob(path, { table: 'facts', column: 'value', where: "name = 'genesis'" }, -1),
  },
  {
    name: 'the batch mark is damaged',
    says: /record batch mark/,
    damage: (path) => flipBlob(path, { table: 'batch', column: 'mark', where: 'id = 1' }, 10),
  },
  {
    name: 'the batch mark is missing',
    says: /record batch mark/,
    damage: (path) => tamper(path, 'DELETE FROM batch'),
  },
  {
    name: 'the file says that it has no tables yet',
    says: /has \d tables of version 0/,
    damage: (path) => tamper(path, 'PRAGMA user_version = 0'),
  },
  {
    name: 'the file is something else',
    says: /damaged in file/,
    damage: (path) => writeFile(join(path, databaseName), 'dear diary '.repeat(1_000)),
  },
  {
    name: 'the file ends too early',
    says: /log\.sqlite/,
    damage: (path) => truncate(join(path, databaseName), 3 * 4_096),
  },
  {
    name: 'a page says that it has fewer rows',
    says: /partitionId \d, index \d+|log\.sqlite/,
    damage: async (path) => {
      // The header of a leaf page has its count of rows at offset 3, big-endian.
      const [root] = await query(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'runs'");
      await flipFile(join(path, databaseName), (Number(root?.rootpage) - 1) * 4_096 + 4, 0x01);
    },
  },
  {
    name: 'a page of partitions, of which only votes are known, says that it has fewer rows',
    says: /log\.sqlite/,
    damage: async (path) => {
      const [root] = await query(
        path,
        "SELECT rootpage FROM sqlite_schema WHERE name = 'partitions'",
      );
      await flipFile(join(path, databaseName), (Number(root?.rootpage) - 1) * 4_096 + 4, 0x04);
    },
  },
];

async function flipFile(file: string, at: number, bit: number): Promise<void> {
  const bytes = await readFile(file);
  bytes[at] = (bytes[at] as number) ^ bit;
  await writeFile(file, bytes);
}

for (const { name, says, damage } of damages) {
  test(`a store is refused when ${name}`, async () => {
    await inDirectory(async (path) => {
      await writeThreeRuns(path);
      const wal = await opened(path);
      const confState = membersOf([1]);
      const hardState = { term: 3, votedFor: 1, commitIndex: 12 };
      await wal.write(
        batchOf({ hardState, base: { index: 12, term: 3, confState, data: undefined } }),
      );
      const base = { index: 7, term: 1, confState, data: undefined };
      await wal.write(batchOf({ partitionId: 2, base, entries: entriesFrom(8, 1, 2) }));
      await wal.write(batchOf({ partitionId: 2, base, compactThroughIndex: 7 }));
      for (const index of [1, 4])
        await wal.write(batchOf({ partitionId: 3, entries: entriesFrom(index, 1, 3) }));
      await wal.write(batchOf({ partitionId: 9, hardState }));
      const meta = new Map([['genesis', Uint8Array.of(1, 2, 3)]]);
      await wal.write({ writes: [], meta, sync: false });
      await wal.close();
      await damage(path);
      assert.match((await rejectsOpen(path, 'WAL_CORRUPT')).message, says);
    });
  });
}

/**
 * Entries 1 … `synced` in synced batches of one entry, then up to `last` in batches that are not synced; then the files as
 * they are at that moment, in another directory: what a process leaves that is killed.
 */
async function writeAndKill(
  path: string,
  counts: { readonly synced: number; readonly last: number },
): Promise<string> {
  const wal = await opened(join(path, 'alive'));
  for (let index = 1; index <= counts.last; index++)
    await wal.write(batchOf({ entries: entriesFrom(index, 1, 1) }, index <= counts.synced));
  const killed = join(path, 'killed');
  await copyStore(join(path, 'alive'), killed);
  await wal.close();
  return killed;
}

async function copyStore(from: string, to: string): Promise<void> {
  await mkdir(to, { mode: 0o700 });
  for (const name of await readdir(from)) await copyFile(join(from, name), join(to, name));
}

/** Flips a bit in the first copy of entry `index`'s payload in the journal. */
async function damageJournal(path: string, index: number): Promise<void> {
  const file = join(path, journalName);
  const at = (await readFile(file)).indexOf(`entry ${index}`);
  assert.ok(at > 0);
  await flipFile(file, at, 0x20);
}

test('damage in the middle of the journal is reported at every open, not cut like a torn tail', async () => {
  await inDirectory(async (path) => {
    const killed = await writeAndKill(path, { synced: 90, last: 90 });
    await damageJournal(killed, 20);
    for (let attempt = 0; attempt < 3; attempt++) {
      // The store has been made by its first batch.
      const error = await rejectsOpen(killed, 'WAL_CORRUPT');
      assert.match(error.message, /lost acknowledged batches 21 … 90/);
    }
    assert.ok(existsSync(join(killed, keptJournalName)));
  });
});

test('a damaged header of the journal does not make it an empty one', async () => {
  await inDirectory(async (path) => {
    const killed = await writeAndKill(path, { synced: 10, last: 10 });
    await flipFile(join(killed, journalName), 16, 0x01);
    for (let attempt = 0; attempt < 2; attempt++) await rejectsOpen(killed, 'WAL_CORRUPT');
  });
});

test('a database that is gone is not made anew over its journal', async () => {
  await inDirectory(async (path) => {
    for (const damage of [truncate, rm]) {
      const directory = join(path, damage.name);
      await mkdir(directory);
      const killed = await writeAndKill(directory, { synced: 10, last: 10 });
      await damage(join(killed, databaseName));
      for (let attempt = 0; attempt < 2; attempt++) await rejectsOpen(killed, 'WAL_CORRUPT');
    }
  });
});

test('a journal that ends anywhere in its last batch loses that batch and nothing else', async () => {
  await inDirectory(async (path) => {
    for (const cutBytes of [1, 4_000, 9_000]) {
      const directory = join(path, `${cutBytes}`);
      await mkdir(directory);
      const killed = await writeAndKill(directory, { synced: 10, last: 10 });
      const journal = join(killed, journalName);
      await truncate(journal, (await stat(journal)).size - cutBytes);
      const wal = sqliteWal({ path: killed });
      assert.equal((await wal.open()).partitions[0]?.lastIndex, 9);
      await wal.write(batchOf({ entries: entriesFrom(10, 2, 2) }, true));
      await wal.close();
      assert.equal((await wal.open()).partitions[0]?.lastIndex, 11);
      await wal.close();
    }
  });
});

test('batches that were never synced may be lost from any point on', async () => {
  await inDirectory(async (path) => {
    const killed = await writeAndKill(path, { synced: 10, last: 20 });
    await damageJournal(killed, 12);
    const wal = sqliteWal({ path: killed });
    assert.equal((await wal.open()).partitions[0]?.lastIndex, 11);
    await wal.close();
  });
});

test('the mark of another store in a payload proves nothing', async () => {
  await inDirectory(async (path) => {
    const identity = 'f00d0000000040008000000000000000';
    const bytes = encodeBatchMark({ identity, batchNumber: 1_000, syncedBatch: 999 });
    const alive = await opened(join(path, 'alive'));
    const payload = laidOut([{ kind: EntryKind.normal, bytes }]);
    await alive.write(batchOf({ entries: numbered(payload, { index: 1, term: 1 }) }, true));
    await copyStore(join(path, 'alive'), join(path, 'killed'));
    await alive.close();
    const wal = sqliteWal({ path: join(path, 'killed') });
    assert.equal((await wal.open()).partitions[0]?.lastIndex, 1);
    await wal.close();
  });
});

test('what a store has recovered is synced before anybody is told of it', async () => {
  await inDirectory(async (path) => {
    const killed = await writeAndKill(path, { synced: 3, last: 6 });
    const wal = sqliteWal({ path: killed });
    assert.equal((await wal.open()).partitions[0]?.lastIndex, 6);
    // Everything is in the tables by now: without its journal the store is still whole.
    await copyStore(killed, join(path, 'later'));
    await rm(join(path, 'later', journalName), { force: true });
    await wal.close();
    const later = sqliteWal({ path: join(path, 'later') });
    assert.equal((await later.open()).partitions[0]?.lastIndex, 6);
    await later.close();
  });
});

test('the journal does not grow with the log', async () => {
  await inDirectory(async (path) => {
    const wal = await opened(path);
    const journal = join(path, journalName);
    const payload = { kind: EntryKind.normal, bytes: new Uint8Array(1_000_000).fill(3) };
    let longest = 0;
    for (let index = 1; index <= 48; index++) {
      const entries = numbered(laidOut([payload]), { index, term: 1 });
      await wal.write(batchOf({ entries }));
      longest = Math.max(longest, statSync(journal).size);
    }
    const read = await wal.read({ partitionId: 1, fromIndex: 48, endIndex: 49, bytesMax: 1 });
    assert.equal(read.length, 1);
    await wal.close();
    assert.ok(longest > journalBytesMax, 'the bound is reached');
    assert.ok(longest < journalBytesMax + 1_100_000, `longer by one batch at most, was ${longest}`);
    assert.deepEqual(await readdir(path), ['KOMMANDER', databaseName]);
  });
});

/** A file system of so many bytes for the time of a test; undefined where none can be mounted. */
function smallDisk(t: TestContext, path: string, kibibytes: number): boolean {
  const { status, stderr } = spawnSync(
    'mount',
    ['-t', 'tmpfs', '-o', `size=${kibibytes}k`, 'tmpfs', path],
    { encoding: 'utf8' },
  );
  if (status === 0) return true;
  t.skip(`no file system can be mounted here: ${stderr}`);
  return false;
}

test('a batch that the disk has no room for is refused whole, and can be handed over again', async (t) => {
  await inDirectory(async (path) => {
    if (!smallDisk(t, path, 2_048)) return;
    try {
      const store = join(path, 'store');
      const wal = await opened(store);
      await wal.write(batchOf({ entries: entriesFrom(1, 1, 5) }, true));
      await writeFile(join(path, 'other'), new Uint8Array(1_000_000));
      const payload = { kind: EntryKind.normal, bytes: new Uint8Array(1_500_000).fill(9) };
      // Removes, cuts and adds, in two partitions: all of it must be taken back.
      const large = numbered(laidOut([payload]), { index: 4, term: 2 });
      const batch: WalBatch = {
        ...batchOf({}, true),
        writes: [
          ...batchOf({ entries: large }).writes,
          ...batchOf({ partitionId: 2, entries: entriesFrom(1, 2, 1) }).writes,
        ],
      };
      const range = { partitionId: 1, fromIndex: 1, endIndex: 6, bytesMax: 1_000 };
      for (let attempt = 0; attempt < 3; attempt++) {
        const writing = wal.write(batch);
        const isFull = (error: unknown): boolean => isKommanderError(error, 'DISK_FULL');
        await assert.rejects(writing, isFull);
        const read = await wal.read(range);
        assert.deepEqual(read.map(factsOf), entriesFrom(1, 1, 5).map(factsOf));
      }
      assert.equal(wal.stats().writeCount, 1);
      // What is small still fits.
      await wal.write(batchOf({ entries: entriesFrom(6, 1, 1) }, true));
      const reading = (async () => {
        const writing = wal.write(batch);
        const read = wal.read({ ...range, endIndex: 4 });
        await assert.rejects(writing, (error) => isKommanderError(error, 'DISK_FULL'));
        return read;
      })();
      assert.equal((await reading).length, 3, 'a read among refused writes sees what is stored');
      await rm(join(path, 'other'));
      await smallDiskGrows(path);
      await wal.write(batch);
      await wal.close();
      const { partitions } = await wal.open();
      assert.deepEqual(
        partitions.map(({ partitionId, lastIndex }) => [partitionId, lastIndex]),
        [
          [1, 4],
          [2, 1],
        ],
      );
      await wal.close();
    } finally {
      spawnSync('umount', ['--lazy', path]);
    }
  });
});

async function smallDiskGrows(path: string): Promise<void> {
  const { status } = spawnSync('mount', ['-o', 'remount,size=64m', path]);
  assert.equal(status, 0);
}

/** Runs `program`, an ES module, in a process whose files cannot grow beyond `kibibytes`. */
function runLimited(program: string, path: string, kibibytes: number): string {
  const script = `ulimit -f ${kibibytes * 2} && exec "$0" --input-type=module -e "$1" "$2"`;
  const { status, stdout, stderr } = spawnSync(
    'sh',
    ['-c', script, process.execPath, program, path],
    {
      encoding: 'utf8',
    },
  );
  assert.equal(status, 0, stderr);
  return stdout;
}

const enginePath = JSON.stringify(fileURLToPath(new URL('sqlite.ts', import.meta.url)));
const runPath = JSON.stringify(fileURLToPath(new URL('../ports/run.ts', import.meta.url)));

test('after a failed write the store is failed for good: nothing is tried again', async () => {
  await inDirectory(async (path) => {
    const program = `
      import { sqliteWal } from ${enginePath};
      import { layOutRun } from ${runPath};
      const wal = sqliteWal({ path: process.argv[1] });
      await wal.open();
      const batchOf = (index, byteLength) => ({
        writes: [{
          partitionId: 1, hardState: undefined, base: undefined, resetLog: false, compactThroughIndex: undefined,
          entries: layOutRun([{ kind: 0, byteLength, write() {} }]).map((entry) => ({ ...entry, index, term: 1 })),
        }],
        meta: new Map(),
        sync: true,
      });
      const outcome = (promise) => promise.then(() => 'done', (error) => error.code);
      console.log(await outcome(wal.write(batchOf(1, 10))));
      console.log(await outcome(wal.write(batchOf(2, 2_000_000))));
      console.log(await outcome(wal.write(batchOf(2, 10))));
      console.log(await outcome(wal.read({ partitionId: 1, fromIndex: 1, endIndex: 2, bytesMax: 1 })));
      console.log(wal.stats().syncCount);
      await wal.close();
      console.log(await outcome(wal.open()));
    `;
    // Writing beyond the limit of a process is an error that says nothing of room: EFBIG.
    const said = runLimited(program, path, 1_024);
    assert.deepEqual(said.trim().split('\n'), [
      'done',
      'WAL_FAILED',
      'WAL_FAILED',
      'WAL_FAILED',
      '1',
      'WAL_FAILED',
    ]);
    const wal = sqliteWal({ path });
    assert.equal((await wal.open()).partitions[0]?.lastIndex, 1);
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
