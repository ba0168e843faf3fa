// Reading closed RocksDB stores around damages: nothing is written into them, every kind of damage is found with its place,
// and what is behind a damage is read all the same.

import assert from 'node:assert/strict';
import { cp, readdir, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import { encodeRuns } from '../../src/ports/run.ts';
import { membersOf } from '../../src/testing/wal-model.ts';
import { rocksdbWal } from '../../src/wal/rocksdb.ts';
import { KeyKind, metaKey, partitionKey, runKey } from '../../src/wal/rocksdb-keys.ts';
import type { RocksDbOperation } from '../../src/wal/rocksdb-library.ts';
import { readRocksDbStore } from '../../src/wal/rocksdb-reader.ts';
import type { StoreFind } from '../../src/wal/store-reader.ts';
import { damagesMax, type StoreSurvey, surveyStore } from '../../src/wal/store-survey.ts';
import {
  batchOf,
  damageFile,
  entriesFrom,
  fillStore,
  fingerprint,
  flipped,
  newDirectory,
  tamper,
  useOwnTemporaryDirectory,
  writeThreePartitions,
} from '../support/stored-directory.ts';

async function survey(path: string): Promise<StoreSurvey> {
  const reader = await readRocksDbStore(path);
  try {
    return await surveyStore(reader.finds());
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

function fillThree(path: string): Promise<void> {
  return fillStore(path, writeThreePartitions);
}

/** What the log holds is moved to tables, as it is at every open. */
async function reopen(path: string): Promise<void> {
  await fillStore(path, async () => {});
}

test('a whole store is found as it was written', async (t) => {
  const path = await newDirectory(t);
  await fillThree(path);
  const found = await survey(path);
  assert.deepEqual(found.damages, []);
  assert.deepEqual([...found.facts], [['genesis', Uint8Array.of(1, 2, 3)]]);
  const [one, two, three] = found.partitions;
  assert.deepEqual(one?.termRuns, [
    { firstIndex: 1, term: 1 },
    { firstIndex: 6, term: 2 },
    { firstIndex: 11, term: 3 },
  ]);
  assert.deepEqual([one?.base?.index, one?.hardState?.votedFor, one?.entryCount], [12, 1, 15]);
  assert.deepEqual([two?.compactedIndex, two?.firstIndex, two?.lastIndex], [7, 8, 9]);
  assert.equal(two?.dataBytes, 2);
  assert.deepEqual([three?.firstIndex, three?.lastIndex, three?.entryCount], [1, 400, 400]);
});

const rowDamages: readonly {
  readonly name: string;
  readonly places: readonly string[];
  readonly operations: (path: string) => Promise<RocksDbOperation[]>;
}[] = [
  {
    name: 'a payload',
    places: ['1 6…10 entries'],
    operations: async (path) => [
      { key: runKey(1, 6), value: await flipped(path, runKey(1, 6), -1) },
    ],
  },
  {
    name: 'the header of a run',
    places: ['1 6…10 entries'],
    operations: async (path) => [
      { key: runKey(1, 6), value: await flipped(path, runKey(1, 6), 24) },
    ],
  },
  {
    name: 'a payload of the last run, whose length is still known',
    places: ['1 11…15 entries'],
    operations: async (path) => [
      { key: runKey(1, 11), value: await flipped(path, runKey(1, 11), -1) },
    ],
  },
  {
    name: 'the count of the last run, whose length is unknown then',
    places: ['1 11…- entries'],
    operations: async (path) => [
      { key: runKey(1, 11), value: await flipped(path, runKey(1, 11), 24) },
    ],
  },
  {
    name: 'several places',
    places: ['1 1…5 entries', '1 11…15 entries', '3 5…8 entries', '3 397…400 entries'],
    operations: async (path) => [
      { key: runKey(1, 1), value: await flipped(path, runKey(1, 1), -1) },
      { key: runKey(1, 11), value: await flipped(path, runKey(1, 11), -1) },
      { key: runKey(3, 5), value: await flipped(path, runKey(3, 5), 40) },
      { key: runKey(3, 397), value: await flipped(path, runKey(3, 397), 40) },
    ],
  },
  {
    name: 'a missing run in the middle',
    places: ['1 6…10 entries'],
    operations: async () => [{ key: runKey(1, 6), value: undefined }],
  },
  {
    name: 'the missing last run, which the base needs',
    places: ['1 11…- entries'],
    operations: async () => [{ key: runKey(1, 11), value: undefined }],
  },
  {
    name: 'a run under the key of another one',
    places: ['1 6…10 entries'],
    operations: async () => [{ key: runKey(1, 6), value: encodeRuns(entriesFrom(7, 2, 4))[0] }],
  },
  {
    name: 'a run that overlaps the one before it',
    places: ['1 3…4 anything'],
    operations: async () => [{ key: runKey(1, 3), value: encodeRuns(entriesFrom(3, 1, 2))[0] }],
  },
  {
    name: 'a term that falls',
    places: ['1 6…10 anything'],
    operations: async () => [{ key: runKey(1, 6), value: encodeRuns(entriesFrom(6, 0, 5))[0] }],
  },
  {
    name: 'a run below the compaction mark',
    places: ['2 5…6 anything'],
    operations: async () => [{ key: runKey(2, 5), value: encodeRuns(entriesFrom(5, 1, 2))[0] }],
  },
  {
    name: 'a base below the compaction mark',
    places: ['2 7…7 anything'],
    operations: async (path) => [
      { key: partitionKey(KeyKind.compaction, 2), value: await movedMark(path) },
    ],
  },
  ...(['hardState', 'base', 'compaction'] as const).map((record) => ({
    name: `the ${record} record`,
    places: record === 'compaction' ? ['2 -…- anything', '2 1…7 entries'] : ['2 -…- anything'],
    operations: async (path: string) => {
      const key = partitionKey(KeyKind[record], 2);
      return [{ key, value: await flipped(path, key, 10) }];
    },
  })),
  {
    name: 'a fact of the node',
    places: ['- -…- anything'],
    operations: async (path) => [
      { key: metaKey('genesis'), value: await flipped(path, metaKey('genesis'), -1) },
    ],
  },
  {
    name: 'a row of an unknown kind',
    places: ['- -…- anything'],
    operations: async () => [{ key: Uint8Array.of(9, 9), value: Uint8Array.of(1) }],
  },
];

/** The mark of a store whose log was compacted up to 8. */
async function movedMark(path: string): Promise<Uint8Array> {
  const other = `${path}-other`;
  await fillStore(other, async (wal) => {
    const base = { index: 8, term: 1, confState: membersOf([1]), data: undefined };
    await wal.write(batchOf({ partitionId: 2, base }, true));
  });
  const value = await flipped(other, partitionKey(KeyKind.compaction, 2), 0);
  value[0] = (value[0] as number) ^ 0x10;
  await rm(other, { recursive: true });
  return value;
}

for (const { name, places: expected, operations } of rowDamages) {
  test(`a damage is found with its place, and the rest is read: ${name}`, async (t) => {
    const path = await newDirectory(t);
    await fillThree(path);
    await tamper(path, ...(await operations(path)));
    const before = await fingerprint(path);
    const found = await survey(path);
    assert.deepEqual(places(found), expected);
    assert.deepEqual(await fingerprint(path), before);
    assert.equal(
      found.partitions.find(({ partitionId }) => partitionId === 3)?.lastIndex,
      name === 'several places' ? 396 : 400,
    );
  });
}

test('blocks of a table that RocksDB refuses are stepped over, each told with its entries and its file', async (t) => {
  const path = await newDirectory(t);
  await fillThree(path);
  await reopen(path);
  const table = await damageFile(path, '.sst', 'entry 100 ');
  await damageFile(path, '.sst', 'entry 300 ');
  const before = await fingerprint(path);
  const found = await survey(path);
  assert.deepEqual(await fingerprint(path), before);
  assert.equal(found.damageCount, 2);
  const [one, other] = found.damages;
  for (const [damage, index] of [
    [one, 100],
    [other, 300],
  ] as const) {
    assert.ok(damage?.partitionId === 3 && damage.lost === 'entries' && damage.file === table);
    assert.ok((damage.index ?? 0) <= index && (damage.lastIndex ?? 0) >= index);
    assert.ok((damage.lastIndex ?? 0) - (damage.index ?? 0) < 60, 'no more than a block is lost');
    assert.doesNotMatch(damage.what, /kommander-reading/);
  }
  const lost = found.damages.reduce(
    (sum, { index = 0, lastIndex = 0 }) => sum + lastIndex - index + 1,
    0,
  );
  const [, , three] = found.partitions;
  assert.deepEqual([three?.lastIndex, three?.entryCount], [400, 400 - lost]);
});

test('a block that reaches over the end of a partition may have held its last entries', async (t) => {
  const path = await newDirectory(t);
  await fillStore(path, async (wal) => {
    for (const partitionId of [1, 2, 3]) {
      for (let index = 1; index <= 200; index += 4)
        await wal.write(batchOf({ partitionId, entries: entriesFrom(index, 1, 4) }, true));
      const hardState = { term: 1, votedFor: 1, commitIndex: 100 };
      await wal.write(batchOf({ partitionId, hardState }));
    }
  });
  await reopen(path);
  // The last run of partition 1 stands in one block with the first ones of partition 2.
  await damageFile(path, '.sst', 'entry 200 ');
  const found = await survey(path);
  const [one, two, three] = found.partitions;
  assert.deepEqual(places(found), [
    `1 ${(one?.lastIndex ?? 0) + 1}…- entries`,
    `2 1…${(two?.firstIndex ?? 0) - 1} entries`,
  ]);
  assert.ok((one?.lastIndex ?? 0) < 200 && (two?.firstIndex ?? 0) > 1);
  assert.deepEqual([two?.lastIndex, three?.entryCount], [200, 200]);
});

test('a block with records of partitions leaves nobody sure of a vote', async (t) => {
  const path = await newDirectory(t);
  await fillThree(path);
  await reopen(path);
  await damageFile(path, '.sst', 'kommander');
  const found = await survey(path);
  assert.equal(places(found)[0], '- -…- anything');
  assert.equal(found.partitions.at(-1)?.lastIndex, 400);
});

test('a log that is damaged in the middle is told at every look, and a torn end is none', async (t) => {
  const directory = await newDirectory(t);
  const path = join(directory, 'killed');
  await fillStore(join(directory, 'alive'), async (wal) => {
    for (let index = 1; index <= 20; index++)
      await wal.write(batchOf({ entries: entriesFrom(index, 1, 1) }, true));
    await cp(join(directory, 'alive'), path, { recursive: true });
  });
  const [log = ''] = (await readdir(path)).filter((name) => name.endsWith('.log'));
  await truncate(join(path, log), (await stat(join(path, log))).size - 40);
  const torn = await fingerprint(path);
  const found = await survey(path);
  assert.deepEqual([found.damages, found.partitions[0]?.lastIndex], [[], 19]);
  assert.deepEqual(await fingerprint(path), torn);

  await damageFile(path, '.log', 'entry 7 ');
  for (const isOpened of [false, true]) {
    if (isOpened) {
      // An attempt to open it moves the log aside.
      const wal = rocksdbWal({ path });
      await assert.rejects(wal.open(), (error) => isKommanderError(error, 'WAL_CORRUPT'));
      await wal.close();
    }
    const before = await fingerprint(path);
    const { damages, partitions } = await survey(path);
    assert.deepEqual(await fingerprint(path), before);
    assert.match(damages[0]?.what ?? '', /batches 7 … 19 are lost/);
    assert.deepEqual([damages.length, damages[0]?.lost, damages[0]?.file], [1, 'anything', log]);
    assert.equal(partitions[0]?.lastIndex, 6);
  }
});

test('a store without the file that says which others count is damaged, not empty', async (t) => {
  const path = await newDirectory(t);
  await fillThree(path);
  await rm(join(path, 'CURRENT'));
  const found = await survey(path);
  assert.deepEqual([found.damages[0]?.file, found.partitions], ['CURRENT', []]);
});

test('a store without its log is damaged, and what is in its tables is read', async (t) => {
  const path = await newDirectory(t);
  await fillThree(path);
  await reopen(path);
  const whole = await survey(path);
  for (const name of await readdir(path)) if (name.endsWith('.log')) await rm(join(path, name));
  const found = await survey(path);
  assert.deepEqual(places(found), ['- -…- anything']);
  assert.deepEqual(found.partitions, whole.partitions);
});

test('a store that RocksDB does not open at all is one damage with the file', async (t) => {
  const path = await newDirectory(t);
  await fillThree(path);
  await reopen(path);
  const [table = ''] = (await readdir(path)).filter((name) => name.endsWith('.sst'));
  await truncate(join(path, table), 100);
  const found = await survey(path);
  assert.deepEqual(places(found), ['- -…- anything']);
  assert.equal(found.damages[0]?.file, table);
});

test('one partition is read without the others', async (t) => {
  const path = await newDirectory(t);
  await fillThree(path);
  const reader = await readRocksDbStore(path);
  const kinds: string[] = [];
  for await (const find of reader.finds(2)) {
    assert.ok(find.kind === 'fact' || ('partitionId' in find && find.partitionId === 2));
    kinds.push(find.kind);
  }
  await reader.close();
  assert.deepEqual(kinds, ['fact', 'hardState', 'base', 'compaction', 'run']);
});

test('a reader leaves nothing behind', async (t) => {
  const path = await newDirectory(t);
  await fillThree(path);
  await useOwnTemporaryDirectory(t);
  const reader = await readRocksDbStore(path);
  const [own = ''] = await readdir(tmpdir());
  assert.ok((await readdir(join(tmpdir(), own))).includes('CURRENT'));
  await reader.close();
  assert.deepEqual(await readdir(tmpdir()), []);
});

test('the list of damages is bounded, and their number is known', async () => {
  const count = damagesMax + 5;
  async function* finds(): AsyncGenerator<StoreFind> {
    for (let at = 0; at < count; at++) {
      yield {
        kind: 'damage',
        damage: {
          partitionId: undefined,
          index: undefined,
          lastIndex: undefined,
          file: undefined,
          what: `damage ${at}`,
          lost: 'anything',
        },
      };
    }
  }
  const found = await surveyStore(finds());
  assert.deepEqual([found.damageCount, found.damages.length], [count, damagesMax]);
});
