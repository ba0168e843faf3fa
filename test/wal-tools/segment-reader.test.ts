// Reading closed segment stores around damages: everything is found, nothing is written, and no flipped bit passes for what
// was written.

import assert from 'node:assert/strict';
import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import { seededRandom } from '../../src/base/random.ts';
import { differences } from '../../src/server/wal-build.ts';
import { convertStore } from '../../src/server/wal-convert.ts';
import {
  contentsOf,
  emptyModel,
  factsOf,
  membersOf,
  randomBatch,
  type WalModel,
  writeToModel,
} from '../../src/testing/wal-model.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { rocksdbWal } from '../../src/wal/rocksdb.ts';
import { segmentWal } from '../../src/wal/segment.ts';
import { readSegmentStore } from '../../src/wal/segment-reader.ts';
import { readTrailer, trailerBytes } from '../../src/wal/segment-summary.ts';
import { copyStore } from '../../src/wal/store-copy.ts';
import { type StoreSurvey, surveyStore } from '../../src/wal/store-survey.ts';
import {
  batchOf,
  entriesFrom,
  fingerprint,
  newDirectory,
  withoutNodeWords,
} from '../support/stored-directory.ts';

async function survey(path: string): Promise<StoreSurvey> {
  const reader = await readSegmentStore(path);
  return surveyStore(reader.finds(), { digest: true });
}

/** Random batches in segments so small that there are several, of which old ones were emptied and used again. */
async function fillRandom(path: string, seed: number): Promise<WalModel> {
  const random = seededRandom(seed);
  const model = emptyModel();
  const wal = segmentWal({ path, segmentBytes: 65_536 });
  await wal.open();
  for (let count = 0; count < 150; count++) {
    const batch = { ...randomBatch(random, model, 2_000), sync: true };
    writeToModel(model, batch);
    await wal.write(batch);
  }
  await wal.close();
  return model;
}

async function segmentsOf(path: string): Promise<string[]> {
  return (await readdir(path)).filter((name) => name.endsWith('.segment')).sort();
}

for (const seed of [1, 2, 3, 4]) {
  test(`all that random batches left in segments is found and copied (seed ${seed})`, async (t) => {
    const path = await newDirectory(t);
    const model = await fillRandom(path, seed);
    assert.ok((await segmentsOf(path)).length > 1);
    const before = await fingerprint(path);
    const reader = await readSegmentStore(path);
    const copy = memoryWal();
    await copy.open();
    await copyStore(reader.finds(), copy);
    await reader.close();
    assert.deepEqual(await fingerprint(path), before);
    await copy.close();
    assert.deepEqual(await copy.open(), contentsOf(model));
    for (const [partitionId, { entries, compactedIndex }] of model.partitions) {
      if (entries.length === 0) continue;
      const fromIndex = compactedIndex + 1;
      const endIndex = fromIndex + entries.length;
      const read = await copy.read({ partitionId, fromIndex, endIndex, bytesMax: 1e9 });
      assert.deepEqual(read.map(factsOf), entries.map(factsOf));
    }
  });
}

test('a flipped bit anywhere in a segment is a damage, or changes nothing of what is read', async (t) => {
  const path = await newDirectory(t);
  await fillRandom(path, 5);
  const clean = await survey(path);
  assert.deepEqual(clean.damages, []);
  const random = seededRandom(99);
  const names = await segmentsOf(path);
  let damagedCount = 0;
  for (let round = 0; round < 150; round++) {
    const file = join(path, names[random.below(names.length)] ?? '');
    const bytes = await readFile(file);
    const at = random.below(bytes.byteLength);
    const bit = 1 << random.below(8);
    bytes[at] = (bytes[at] as number) ^ bit;
    await writeFile(file, bytes);
    const found = await survey(path);
    if (found.damageCount > 0) damagedCount += 1;
    else assert.deepEqual(differences(clean, found), [], `byte ${at} of ${file}`);
    bytes[at] = bytes[at] ^ bit;
    await writeFile(file, bytes);
  }
  assert.ok(damagedCount > 20, `${damagedCount} of the bits were in use`);
  assert.deepEqual(differences(clean, await survey(path)), []);
});

/** Batches of one run of partition 1, each with 5 entries, and one hard state in the middle. */
async function fillRuns(path: string): Promise<void> {
  const wal = segmentWal({ path, segmentBytes: 65_536 });
  await wal.open();
  for (let index = 1; index <= 1_000; index += 5) {
    const hardState = { term: 1, votedFor: 1, commitIndex: 3 };
    const entries = entriesFrom(index, 1, 5);
    await wal.write(batchOf(index === 501 ? { hardState, entries } : { entries }, true));
  }
  await wal.close();
}

async function flip(path: string, text: string, offset = 0): Promise<string> {
  for (const name of await segmentsOf(path)) {
    const bytes = await readFile(join(path, name));
    const at = bytes.indexOf(text);
    if (at < 0) continue;
    bytes[at + offset] = (bytes[at + offset] as number) ^ 4;
    await writeFile(join(path, name), bytes);
    return name;
  }
  throw new Error(`no segment holds "${text}"`);
}

test('damaged payloads are damages of those entries, each with its file, and all else is read', async (t) => {
  const path = await newDirectory(t);
  await fillRuns(path);
  const files = [
    await flip(path, 'entry 13 '),
    await flip(path, 'entry 600 '),
    await flip(path, 'entry 999 '),
  ];
  const before = await fingerprint(path);
  const { damages, partitions } = await survey(path);
  assert.deepEqual(await fingerprint(path), before);
  assert.deepEqual(
    damages.map(({ partitionId, index, lastIndex, lost, file }) => ({
      ...{ partitionId, index, lastIndex, lost, file },
    })),
    [11, 596, 996].map((index, at) => ({
      ...{ partitionId: 1, index, lastIndex: index + 4, lost: 'entries', file: files[at] },
    })),
  );
  assert.equal(partitions[0]?.entryCount, 985);
  assert.equal(partitions[0]?.hardState?.commitIndex, 3);
});

test('a record that is not whole, and a file that is missing, may have held anything', async (t) => {
  const path = await newDirectory(t);
  await fillRuns(path);
  // 72 bytes before the first payload's text are the record's header, the run's and the first entry's kind and length.
  const file = await flip(path, 'entry 51 ', -60);
  const one = await survey(path);
  assert.equal(one.damages[0]?.lost, 'anything');
  assert.equal(one.damages[0]?.file, file);
  assert.match(one.damages[0]?.what ?? '', /batch 11, which was acknowledged/);
  assert.deepEqual(
    one.damages.slice(1).map(({ index, lastIndex }) => [index, lastIndex]),
    [[51, 55]],
  );
  assert.equal(one.partitions[0]?.lastIndex, 1_000);

  const [, second = ''] = await segmentsOf(path);
  await rm(join(path, second));
  const other = await survey(path);
  assert.ok(other.damages.some((damage) => damage.file === second && damage.lost === 'anything'));
  assert.equal(other.partitions[0]?.lastIndex, 1_000);
});

test('an oldest file of which nothing is left is damage: it may have held a vote', async (t) => {
  const path = await newDirectory(t);
  const wal = segmentWal({ path, segmentBytes: 65_536 });
  await wal.open();
  const vote = { term: 7, votedFor: 2, commitIndex: 0 };
  await wal.write(batchOf({ partitionId: 2, hardState: vote }, true));
  const confState = membersOf([1, 2, 3]);
  for (let index = 1; (await segmentsOf(path)).length < 2; index += 5) {
    const base = { index: index - 1, term: 1, confState, data: undefined };
    const entries = entriesFrom(index, 1, 5);
    await wal.write(batchOf({ base, resetLog: true, entries }, true));
  }
  for (let count = 0; count < 50; count++)
    await wal.write(batchOf({ partitionId: 3, hardState: { ...vote, term: count + 1 } }, true));
  const base = { index: 5_000, term: 1, confState, data: undefined };
  await wal.write(batchOf({ base, resetLog: true, entries: entriesFrom(5_001, 1, 300) }, true));
  await wal.close();
  const [name = '', ...others] = await segmentsOf(path);
  assert.ok(others.length > 0);
  const bytes = await readFile(join(path, name));
  for (const content of [new Uint8Array(bytes.byteLength), new Uint8Array(0)]) {
    await writeFile(join(path, name), content);
    const { damages } = await survey(path);
    assert.deepEqual([damages[0]?.lost, damages[0]?.file], ['anything', name]);
    const damaged = segmentWal({ path, segmentBytes: 65_536 });
    await assert.rejects(damaged.open(), (error) => {
      assert.ok(isKommanderError(error, 'WAL_CORRUPT'), String(error));
      assert.equal(error.details.file, name);
      return true;
    });
  }
  await writeFile(join(path, name), bytes);
  const whole = await survey(path);
  assert.deepEqual(whole.damages, []);
  assert.deepEqual(whole.partitions.find((each) => each.partitionId === 2)?.hardState, vote);
});

test('a torn end is no damage', async (t) => {
  const path = await newDirectory(t);
  const wal = segmentWal({ path, segmentBytes: 65_536 });
  await wal.open();
  for (let index = 1; index <= 50; index += 5)
    await wal.write(batchOf({ entries: entriesFrom(index, 1, 5) }, true));
  // Not closed: its files as they are when the process dies.
  const [name = ''] = await segmentsOf(path);
  const bytes = await readFile(join(path, name));
  await truncate(join(path, name), bytes.indexOf('entry 48 '));
  const { damages, partitions } = await survey(path);
  assert.deepEqual([damages, partitions[0]?.lastIndex], [[], 45]);
});

test('records that were written over what is left of a footer are found', async (t) => {
  const path = await newDirectory(t);
  const wal = segmentWal({ path, segmentBytes: 65_536 });
  await wal.open();
  await wal.write(batchOf({ entries: entriesFrom(1, 1, 300) }, true));
  await wal.write(batchOf({ partitionId: 2, entries: entriesFrom(1, 1, 300) }, true));
  await wal.close();
  // A power loss before the second batch was synced: of the footer only the last block was on the disk.
  const [first = '', second = ''] = await segmentsOf(path);
  const bytes = await readFile(join(path, first));
  const { offset = 0, byteLength = 0 } = readTrailer(bytes.subarray(-trailerBytes), 1) ?? {};
  await writeFile(join(path, first), bytes.fill(0, offset, offset + byteLength));
  await writeFile(join(path, second), new Uint8Array(65_536));
  await wal.open();
  await wal.write(batchOf({ entries: entriesFrom(301, 1, 5) }, true));
  await wal.close();
  const { damages, partitions } = await survey(path);
  assert.deepEqual([damages, partitions[0]?.lastIndex], [[], 305]);
});

test('files that are missing at the end are damages, where something proves that they were there', async (t) => {
  const path = await newDirectory(t);
  await fillRuns(path);
  const names = await segmentsOf(path);
  const [first = '', second = ''] = names;
  for (const name of names.slice(1)) await rm(join(path, name));
  assert.deepEqual(
    (await survey(path)).damages.map(({ file, lost }) => [file, lost]),
    [[second, 'anything']],
  );
  await rm(join(path, first));
  const last = second.replace('2', '7');
  await writeFile(join(path, last), new Uint8Array(65_536));
  assert.deepEqual(
    (await survey(path)).damages.map(({ file, lost }) => [file, lost]),
    [[last, 'anything']],
  );
});

test('a store goes from engine to engine and back, and is what it was', async (t) => {
  const directory = await newDirectory(t);
  const [first, second, third] = ['one', 'two', 'three'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  const model = await fillRandom(first, 7);
  const plain = withoutNodeWords(model);
  const wal = segmentWal({ path: first, segmentBytes: 65_536 });
  await wal.open();
  for (const batch of plain) await wal.write(batch);
  await wal.close();
  await convertStore({ from: first, to: second }, 'rocksdb', () => {});
  await convertStore({ from: second, to: third }, 'segment', () => {});
  for (const each of [rocksdbWal({ path: second }), segmentWal({ path: third })]) {
    assert.deepEqual(await each.open(), contentsOf(model));
    await each.close();
  }
});
