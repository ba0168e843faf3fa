// Damage to a closed SQLite store is found and told apart from a torn tail: in rows, in pages, in the journal.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import {
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { smallDisk } from '../../test/support/disk-faults.ts';
import {
  batchOf,
  entriesFrom,
  flipBlob,
  flipFile,
  inDirectory,
  opened,
  query,
  rejectsOpen,
  tamper,
  writeThreeRuns,
} from '../../test/support/sqlite-files.ts';
import { isKommanderError } from '../base/errors.ts';
import { encodeRuns } from '../ports/run.ts';
import { EntryKind } from '../raft/types.ts';
import { factsOf, laidOut, membersOf, numbered } from '../testing/wal-model.ts';
import { encodeBase, encodeBatchMark } from './record.ts';
import { sqliteWal } from './sqlite.ts';
import { keptJournalName } from './sqlite-evidence.ts';
import { databaseName, journalName } from './sqlite-store.ts';

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

test('a run that is damaged while the store is open is found by every read of it, and fails nothing else', async () => {
  await inDirectory(async (path) => {
    let wal = await opened(path);
    // Each term is a run of its own; together they are more than SQLite keeps in memory.
    const payload = { kind: EntryKind.normal, bytes: new Uint8Array(300) };
    const entries = Array.from({ length: 10_000 }, (_, i) =>
      numbered(laidOut([payload]), { index: i + 1, term: i + 1 }),
    ).flat();
    await wal.write(batchOf({ entries }));
    await wal.close();
    wal = await opened(path);
    const file = await open(join(path, databaseName), 'r+');
    const at = (await file.readFile()).indexOf(encodeRuns(entries)[101] ?? '');
    assert.ok(at > 0);
    await file.write(Uint8Array.of(9), 0, 1, at);
    await file.close();
    for (const fromIndex of [102, 101, 90]) {
      const range = { partitionId: 1, fromIndex, endIndex: 110, bytesMax: 100_000 };
      await assert.rejects(wal.read(range), (error) => {
        assert.ok(isKommanderError(error, 'WAL_CORRUPT'), String(error));
        assert.equal(error.details.index, 102);
        return true;
      });
    }
    const after = { partitionId: 1, fromIndex: 103, endIndex: 110, bytesMax: 100_000 };
    assert.equal((await wal.read(after)).length, 7);
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
    name: 'the last run has another term',
    says: /partitionId 1, index 11, record run, file log.sqlite: run checksum/,
    damage: (path) =>
      flipBlob(path, { table: 'runs', column: 'run', where: 'first_index = 11' }, 16),
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
    name: 'a page has lost its last partition, of which nothing but a vote was known',
    says: /log\.sqlite/,
    damage: async (path) => {
      // From five rows to four.
      const [root] = await query(
        path,
        "SELECT rootpage FROM sqlite_schema WHERE name = 'partitions'",
      );
      await flipFile(join(path, databaseName), (Number(root?.rootpage) - 1) * 4_096 + 4, 0x01);
    },
  },
  {
    name: 'a node-wide fact has another name',
    says: /log\.sqlite/,
    damage: async (path) => {
      const file = join(path, databaseName);
      const from = await rootOf(path, 'facts');
      await flipFile(file, (await readFile(file)).indexOf('genesis', from), 0x01);
    },
  },
  {
    name: 'a partition of which nothing but a vote is known has the number of another one',
    says: /log\.sqlite/,
    damage: (path) => flipNumberOfLast(path, 'partitions', 0x01),
  },
  {
    name: 'the only base has the number of another partition',
    says: /log\.sqlite/,
    damage: async (path) => {
      for (const table of ['bases', 'partitions', 'runs'])
        await tamper(path, `DELETE FROM ${table} WHERE partition_id = 2`);
      // Partition 3 then has a base inside of its log, and partition 1 has none.
      await tamper(
        path,
        'UPDATE bases SET base = ?',
        encodeBase({ index: 2, term: 1, confState: membersOf([1]), data: undefined }),
      );
      await flipNumberOfLast(path, 'bases', 0x02);
    },
  },
  {
    name: 'a column is called differently',
    says: /fact without a name/,
    damage: async (path) => {
      const file = join(path, databaseName);
      await flipFile(file, (await readFile(file)).indexOf('name TEXT'), 0x20);
    },
  },
  {
    name: 'a table has other columns',
    says: /no such column/,
    damage: async (path) => {
      const file = join(path, databaseName);
      await flipFile(file, (await readFile(file)).indexOf('value BLOB'), 0x01);
    },
  },
];

/** Where a table's only page begins in the file. */
async function rootOf(path: string, table: string): Promise<number> {
  const [root] = await query(path, `SELECT rootpage FROM sqlite_schema WHERE name = '${table}'`);
  return (Number(root?.rootpage) - 1) * 4_096;
}

/** Flips a bit in the number of the last row of a small table. */
async function flipNumberOfLast(path: string, table: string, bit: number): Promise<void> {
  const file = join(path, databaseName);
  const page = (await readFile(file)).subarray(await rootOf(path, table));
  // The places of the rows stand behind the header of eight bytes, two bytes each; a row begins with its length.
  const place = page.readUInt16BE(8 + 2 * (page.readUInt16BE(3) - 1));
  await flipFile(file, (await rootOf(path, table)) + place + 1, bit);
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
      for (const partitionId of [9, 10]) await wal.write(batchOf({ partitionId, hardState }));
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

test('what the journal proves is kept when the tables are damaged as well', async () => {
  await inDirectory(async (path) => {
    const alive = join(path, 'alive');
    const killed = join(path, 'killed');
    const wal = await opened(alive);
    const fact = Uint8Array.from(Buffer.from('the first members'));
    await wal.write({ writes: [], meta: new Map([['genesis', fact]]), sync: true });
    await wal.close();
    // What was there at the open is in the tables, the rest in the journal.
    await wal.open();
    for (let index = 1; index <= 90; index++)
      await wal.write(batchOf({ entries: entriesFrom(index, 1, 1) }, true));
    await copyStore(alive, killed);
    await wal.close();
    await damageJournal(killed, 20);
    const database = join(killed, databaseName);
    const at = (await readFile(database)).indexOf(fact);
    await flipFile(database, at, 0x20);
    await rejectsOpen(killed, 'WAL_CORRUPT');
    // Somebody mends the fact: the journal, which is in the tables by now, was damaged all the same.
    await flipFile(database, at, 0x20);
    const error = await rejectsOpen(killed, 'WAL_CORRUPT');
    assert.match(error.message, /lost acknowledged batches \d+ … 91/);
  });
});

test('a damaged journal is kept without room for a copy of it', async (t) => {
  const disk = smallDisk(t, 8);
  if (disk === undefined) return;
  const killed = await writeAndKill(disk.path, { synced: 90, last: 90 });
  await damageJournal(killed, 20);
  const journalBytes = (await stat(join(killed, journalName))).size;
  disk.fill(journalBytes - 8_192);
  for (let attempt = 0; attempt < 2; attempt++) {
    const error = await rejectsOpen(killed, 'WAL_CORRUPT');
    assert.match(error.message, /lost acknowledged batches 21 … 90/);
  }
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
