// Reading closed SQLite stores around damages: nothing is written into them, whether their node was closed or killed; every
// kind of damage is found with its place; and no flipped bit passes for what was written.

import assert from 'node:assert/strict';
import { cp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import { seededRandom } from '../../src/base/random.ts';
import { encodeRuns } from '../../src/ports/run.ts';
import { differences } from '../../src/server/wal-build.ts';
import { membersOf } from '../../src/testing/wal-model.ts';
import { encodeBase } from '../../src/wal/record.ts';
import { sqliteWal } from '../../src/wal/sqlite.ts';
import { readSqliteStore } from '../../src/wal/sqlite-reader.ts';
import { gapsMax, runSteps } from '../../src/wal/sqlite-steps.ts';
import { databaseName, journalName } from '../../src/wal/sqlite-store.ts';
import { type StoreSurvey, surveyStore } from '../../src/wal/store-survey.ts';
import { flipBlob, flipFile, tamper } from '../support/sqlite-files.ts';
import {
  batchOf,
  damageFile,
  entriesFrom,
  fillStore,
  fingerprint,
  newDirectory,
  useOwnTemporaryDirectory,
  writeThreePartitions,
} from '../support/stored-directory.ts';

async function survey(path: string): Promise<StoreSurvey> {
  const reader = await readSqliteStore(path);
  try {
    return await surveyStore(reader.finds(), { digest: true });
  } finally {
    await reader.close();
  }
}

/** `partition first…last lost`, for each damage. */
function places({ damages }: StoreSurvey): string[] {
  return damages.map(
    ({ partitionId, index, lastIndex, lost }) =>
      `${partitionId ?? '-'} ${index ?? '-'}…${lastIndex ?? '-'} ${lost}`,
  );
}

async function threePartitions(t: TestContext): Promise<string> {
  const path = join(await newDirectory(t), 'store');
  await fillStore(path, writeThreePartitions, 'sqlite');
  return path;
}

/** The files of a store that is open, with all that was written, as they are when its process dies. */
async function killedStore(t: TestContext): Promise<string> {
  const directory = await newDirectory(t);
  const [open, killed] = [join(directory, 'open'), join(directory, 'killed')];
  const wal = sqliteWal({ path: open });
  await wal.open();
  for (let index = 1; index <= 20; index++)
    await wal.write(batchOf({ entries: entriesFrom(index, 1, 1) }, true));
  await cp(open, killed, { recursive: true });
  await wal.close();
  return killed;
}

function runPlace(first: number, partitionId = 1) {
  const where = `partition_id = ${partitionId} AND first_index = ${first}`;
  return { table: 'runs', column: 'run', where };
}

function record(column: 'hard_state' | 'compaction') {
  return { table: 'partitions', column, where: 'partition_id = 2' };
}

test('a whole store is found as it was written, and nothing of it changes', async (t) => {
  const path = await threePartitions(t);
  assert.ok(!(await readdir(path)).includes(journalName));
  const before = await fingerprint(path);
  const found = await survey(path);
  assert.deepEqual(await fingerprint(path), before);
  assert.deepEqual(found.damages, []);
  assert.deepEqual([...found.facts], [['genesis', Uint8Array.of(1, 2, 3)]]);
  const [one, two, three] = found.partitions;
  assert.deepEqual([one?.base?.index, one?.hardState?.votedFor, one?.entryCount], [12, 1, 15]);
  assert.deepEqual([two?.compactedIndex, two?.firstIndex, two?.lastIndex], [7, 8, 9]);
  assert.deepEqual([three?.firstIndex, three?.lastIndex, three?.entryCount], [1, 400, 400]);
});

test('what a killed node has only in its journal is found, and neither file changes', async (t) => {
  const path = await killedStore(t);
  await useOwnTemporaryDirectory(t);
  assert.ok((await stat(join(path, journalName))).size > 0);
  const before = await fingerprint(path);
  const { damages, partitions } = await survey(path);
  assert.deepEqual([damages, partitions[0]?.lastIndex], [[], 20]);
  assert.deepEqual(await fingerprint(path), before);
  assert.deepEqual(await readdir(tmpdir()), []);
});

const rowDamages: readonly {
  readonly name: string;
  readonly places: readonly string[];
  readonly damage: (path: string) => Promise<void>;
}[] = [
  {
    name: 'a payload',
    places: ['1 6…10 entries'],
    damage: (path) => flipBlob(path, runPlace(6), -1),
  },
  {
    name: 'the header of a run',
    places: ['1 6…10 entries'],
    damage: (path) => flipBlob(path, runPlace(6), 24),
  },
  {
    name: 'the count of the last run, whose end the row of the partition knows',
    places: ['1 11…15 entries'],
    damage: (path) => flipBlob(path, runPlace(11), 24),
  },
  {
    name: 'several places',
    places: ['1 1…5 entries', '1 11…15 entries', '3 5…8 entries', '3 397…400 entries'],
    async damage(path) {
      for (const index of [1, 11]) await flipBlob(path, runPlace(index), -1);
      for (const index of [5, 397]) await flipBlob(path, runPlace(index, 3), 40);
    },
  },
  {
    name: 'a missing run in the middle',
    places: ['1 6…10 entries'],
    damage: (path) => tamper(path, `DELETE FROM runs WHERE ${runPlace(6).where}`),
  },
  {
    name: 'the missing last run',
    places: ['1 11…15 entries'],
    damage: (path) => tamper(path, `DELETE FROM runs WHERE ${runPlace(11).where}`),
  },
  {
    name: 'all runs of a partition are missing',
    places: ['2 8…9 entries'],
    damage: (path) => tamper(path, 'DELETE FROM runs WHERE partition_id = 2'),
  },
  {
    name: 'a run under the index of another one',
    places: ['1 6…10 entries'],
    damage: (path) => tamper(path, `UPDATE runs SET first_index = 7 WHERE ${runPlace(6).where}`),
  },
  {
    name: 'a run under an index that no store writes',
    places: ['1 6…10 entries'],
    damage: (path) =>
      tamper(path, `UPDATE runs SET first_index = 9223372036854775807 WHERE ${runPlace(6).where}`),
  },
  {
    name: 'a run in the place of another one',
    places: ['1 3…4 anything', '1 11…15 entries'],
    async damage(path) {
      const [run = new Uint8Array(0)] = encodeRuns(entriesFrom(3, 1, 2));
      const change = `UPDATE runs SET first_index = 3, run = ? WHERE ${runPlace(11).where}`;
      await tamper(path, change, run);
    },
  },
  {
    name: 'a run below the compaction mark',
    places: ['2 5…6 anything'],
    async damage(path) {
      const [run = new Uint8Array(0)] = encodeRuns(entriesFrom(5, 1, 2));
      await tamper(path, 'INSERT INTO runs VALUES (0, 2, 5, ?)', run);
    },
  },
  {
    name: 'a log that ends behind the end that the row of the partition knows',
    places: ['1 13…15 anything'],
    damage: (path) => tamper(path, 'UPDATE partitions SET last_index = 12 WHERE partition_id = 1'),
  },
  {
    name: 'a base below the compaction mark',
    places: ['2 6…6 anything'],
    damage: (path) => {
      const confState = membersOf([1]);
      const base = encodeBase({ index: 6, term: 1, confState, data: undefined });
      return tamper(path, 'UPDATE bases SET base = ? WHERE partition_id = 2', base);
    },
  },
  {
    name: 'the hard state',
    places: ['2 -…- anything'],
    damage: (path) => flipBlob(path, record('hard_state'), 10),
  },
  {
    name: 'the base',
    places: ['2 -…- anything'],
    damage: (path) =>
      flipBlob(path, { table: 'bases', column: 'base', where: 'partition_id = 2' }, 10),
  },
  {
    name: 'the compaction mark',
    places: ['2 -…- anything', '2 1…7 entries'],
    damage: (path) => flipBlob(path, record('compaction'), 10),
  },
  {
    name: 'a fact of the node',
    places: ['- -…- anything'],
    damage: (path) =>
      flipBlob(path, { table: 'facts', column: 'value', where: "name = 'genesis'" }, -1),
  },
  {
    name: 'the batch mark',
    places: ['- -…- anything'],
    damage: (path) => flipBlob(path, { table: 'batch', column: 'mark', where: 'id = 1' }, 10),
  },
  {
    name: 'no batch mark',
    places: ['- -…- anything'],
    damage: (path) => tamper(path, 'DELETE FROM batch'),
  },
  {
    name: 'no row of a partition',
    places: ['2 -…- anything', '2 1…7 entries'],
    damage: (path) => tamper(path, 'DELETE FROM partitions WHERE partition_id = 2'),
  },
  {
    name: 'a partition with an impossible number',
    places: ['- -…- anything', '2 -…- anything', '2 1…7 entries'],
    damage: (path) =>
      tamper(path, 'UPDATE partitions SET partition_id = -5 WHERE partition_id = 2'),
  },
  {
    name: 'tables of another version',
    places: ['- -…- anything'],
    damage: (path) => tamper(path, 'PRAGMA user_version = 9'),
  },
];

for (const { name, places: expected, damage } of rowDamages) {
  test(`a damage in a SQLite store is found with its place, and the rest is read: ${name}`, async (t) => {
    const path = await threePartitions(t);
    await damage(path);
    const before = await fingerprint(path);
    const found = await survey(path);
    assert.deepEqual(places(found), expected);
    assert.ok(found.damages.every(({ file }) => file === undefined || file === databaseName));
    assert.deepEqual(await fingerprint(path), before);
    if (name !== 'several places' && name !== 'tables of another version')
      assert.equal(found.partitions.at(-1)?.lastIndex, 400);
  });
}

/** The size of a page, and where in the database file the page of `text` begins. */
async function pageOf(path: string, text: string): Promise<number> {
  const bytes = await readFile(join(path, databaseName));
  const at = bytes.indexOf(text);
  assert.ok(at >= 0, `the database holds "${text}"`);
  return at - (at % bytes.readUInt16BE(16));
}

test('a page of runs that SQLite refuses is stepped over, and told with the entries that it held', async (t) => {
  const path = await threePartitions(t);
  await flipFile(join(path, databaseName), await pageOf(path, 'entry 200 '), 0xff);
  const before = await fingerprint(path);
  const found = await survey(path);
  assert.deepEqual(await fingerprint(path), before);
  // What the page was is not known for sure.
  assert.equal(found.damages[0]?.lost, 'anything');
  assert.match(found.damages[0]?.what ?? '', /malformed/);
  const gaps = found.damages.filter(({ partitionId }) => partitionId !== undefined);
  const [{ partitionId, index = 0, lastIndex = 0 } = {}, ...others] = gaps;
  assert.deepEqual([partitionId, others], [3, []]);
  assert.ok(index <= 200 && lastIndex >= 200 && lastIndex - index < 60, `${index} … ${lastIndex}`);
  const [one, , three] = found.partitions;
  assert.deepEqual([one?.entryCount, three?.lastIndex], [15, 400]);
  assert.equal(three?.entryCount, 400 - (lastIndex - index + 1));
});

test('a walk over rows that leads nowhere ends', () => {
  let walkCount = 0;
  // Each row is there, behind it nothing can be read, and no number grows.
  const database = {
    prepare: (sql: string) => ({
      setReadBigInts() {},
      *iterate() {
        yield { id: 1n, partition_id: 1n };
        if (sql.endsWith('LIMIT 1')) return;
        walkCount += 1;
        throw Object.assign(new Error('malformed'), { errcode: 11 });
      },
    }),
  } as unknown as DatabaseSync;
  const gaps = [...runSteps({ path: 'nowhere', database })].filter(({ kind }) => kind === 'gap');
  assert.deepEqual([gaps.length, walkCount], [gapsMax, gapsMax]);
});

test('a damaged name of a fact is a damage', async (t) => {
  const path = await threePartitions(t);
  // The row in the table, not the one in the index of names, which has no value behind the name.
  const file = join(path, databaseName);
  const at = (await readFile(file)).indexOf(Buffer.from([...Buffer.from('genesis'), 1, 4]));
  assert.ok(at > 0);
  await flipFile(file, at, 1);
  const found = await survey(path);
  assert.deepEqual([...found.facts.keys()], ['fenesis']);
  assert.ok(found.damageCount > 0);
});

test('a database that is none, is cut, or is gone is a damage in plain words', async (t) => {
  const path = await threePartitions(t);
  const file = join(path, databaseName);
  const whole = await readFile(file);
  await writeFile(file, 'this was a letter');
  assert.match((await survey(path)).damages[0]?.what ?? '', /^file is not a database$/);
  // The number of the schema's format, at byte 44 of the header.
  await writeFile(file, whole);
  await flipFile(file, 47, 0x40);
  assert.match((await survey(path)).damages[0]?.what ?? '', /^unsupported file format$/);
  await writeFile(file, whole);
  await truncate(file, whole.byteLength - 8_192);
  const cut = await survey(path);
  assert.equal(cut.damages[0]?.lost, 'anything');
  await writeFile(file, '');
  // Without a journal it may be one to which nothing was ever written.
  assert.deepEqual(await survey(path), {
    ...{ facts: new Map(), partitions: [], damages: [], damageCount: 0 },
  });
  await writeFile(join(path, journalName), whole.subarray(0, 4_096));
  const gone = await survey(path);
  assert.deepEqual([gone.damages.length, gone.damages[0]?.lost], [1, 'anything']);
  assert.match(gone.damages[0]?.what ?? '', /not its journal/);
});

test('a store of which a node was killed before it had made its tables is whole and empty', async (t) => {
  const path = await threePartitions(t);
  await rm(join(path, databaseName));
  await tamper(path, 'PRAGMA journal_mode = WAL');
  const { damages, partitions } = await survey(path);
  assert.deepEqual([damages, partitions], [[], []]);
});

test('a journal that is damaged in the middle is told at every look, and a torn end is none', async (t) => {
  const path = await killedStore(t);
  const journal = join(path, journalName);
  const bytes = await readFile(journal);
  const torn = bytes.lastIndexOf('entry 20 ');
  await truncate(journal, torn);
  const found = await survey(path);
  assert.deepEqual([found.damages, found.partitions[0]?.lastIndex], [[], 19]);

  await damageFile(path, journalName, 'entry 7 ');
  for (const isOpened of [false, true]) {
    if (isOpened) {
      // An attempt to open it keeps the journal aside.
      const wal = sqliteWal({ path });
      await assert.rejects(wal.open(), (error) => isKommanderError(error, 'WAL_CORRUPT'));
      await wal.close();
    }
    const before = await fingerprint(path);
    const { damages, partitions } = await survey(path);
    assert.deepEqual(await fingerprint(path), before);
    assert.match(damages[0]?.what ?? '', /acknowledged batches \d+ … \d+ are lost/);
    assert.deepEqual([damages.length, damages[0]?.lost], [1, 'anything']);
    assert.equal(damages[0]?.file, journalName);
    assert.equal(partitions[0]?.lastIndex, 6);
  }
});

test('a flipped bit anywhere in a database is a damage, or changes nothing of what is read', async (t) => {
  const path = await threePartitions(t);
  const clean = await survey(path);
  const file = join(path, databaseName);
  const { size } = await stat(file);
  const random = seededRandom(77);
  let damagedCount = 0;
  for (let round = 0; round < 150; round++) {
    const [at, bit] = [random.below(size), 1 << random.below(8)];
    await flipFile(file, at, bit);
    const found = await survey(path);
    if (found.damageCount > 0) damagedCount += 1;
    else assert.deepEqual(differences(clean, found), [], `bit ${bit} of byte ${at}`);
    await flipFile(file, at, bit);
  }
  assert.ok(damagedCount > 50, `${damagedCount} of the bits were in use`);
  assert.deepEqual(differences(clean, await survey(path)), []);
});

test('one partition of a SQLite store is read without the others', async (t) => {
  const path = await threePartitions(t);
  const reader = await readSqliteStore(path);
  const kinds: string[] = [];
  for await (const find of reader.finds(2)) {
    assert.ok(find.kind === 'fact' || ('partitionId' in find && find.partitionId === 2));
    kinds.push(find.kind);
  }
  await reader.close();
  assert.deepEqual(kinds, ['fact', 'hardState', 'compaction', 'base', 'run']);
});
