// Filling a new store with what stands in another one: whatever the port can store arrives, and nothing of a damaged store
// does; and what is not finished is no store.

import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { must } from '../../src/base/assert.ts';
import { isKommanderError } from '../../src/base/errors.ts';
import { seededRandom } from '../../src/base/random.ts';
import { encodeDescriptor } from '../../src/host/snapshot-descriptor.ts';
import type { SnapshotFacts } from '../../src/ports/snapshot-store.ts';
import type { Wal } from '../../src/ports/wal.ts';
import { emptyConfState } from '../../src/raft/types.ts';
import { buildStore, differences, placeStore } from '../../src/server/wal-build.ts';
import { convertStore } from '../../src/server/wal-convert.ts';
import { engineNamed, openClosedStore } from '../../src/server/wal-engines.ts';
import {
  contentsOf,
  emptyModel,
  factsOf,
  randomBatch,
  type WalModel,
  writeToModel,
} from '../../src/testing/wal-model.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { rocksdbWal } from '../../src/wal/rocksdb.ts';
import { readRocksDbStore } from '../../src/wal/rocksdb-reader.ts';
import { copyStore } from '../../src/wal/store-copy.ts';
import type { StoreFind } from '../../src/wal/store-reader.ts';
import { type StoreSurvey, surveyStore } from '../../src/wal/store-survey.ts';
import { durableEngines } from '../support/durable-engines.ts';
import {
  batchOf,
  entriesFrom,
  fillStore,
  fingerprint,
  newDirectory,
  openerOf,
  withoutNodeWords,
} from '../support/stored-directory.ts';

/** The model of a store that random batches were written to. */
async function fillRandom(path: string, engine: string, seed: number): Promise<WalModel> {
  const random = seededRandom(seed);
  const model = emptyModel();
  const fill = async (wal: Wal): Promise<void> => {
    for (let count = 0; count < 60; count++) {
      const batch = randomBatch(random, model);
      writeToModel(model, batch);
      await wal.write(batch);
    }
  };
  await fillStore(path, fill, engine);
  return model;
}

async function checkEntries(wal: Wal, model: WalModel): Promise<void> {
  for (const [partitionId, { entries, compactedIndex }] of model.partitions) {
    if (entries.length === 0) continue;
    const fromIndex = compactedIndex + 1;
    const endIndex = fromIndex + entries.length;
    const read = await wal.read({ partitionId, fromIndex, endIndex, bytesMax: 1e9 });
    assert.deepEqual(read.map(factsOf), entries.map(factsOf));
  }
}

for (const engine of Object.keys(durableEngines)) {
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    test(`a copy has all that a ${engine} store of random batches has (seed ${seed})`, async (t) => {
      const path = await newDirectory(t);
      const model = await fillRandom(path, engine, seed);
      const before = await fingerprint(path);
      const store = await openClosedStore(path);
      const copy = memoryWal();
      await copy.open();
      await copyStore(store.finds(), copy);
      await store.close();
      assert.deepEqual(await fingerprint(path), before);
      await copy.close();
      assert.deepEqual(await copy.open(), contentsOf(model));
      await checkEntries(copy, model);
    });
  }

  for (const target of Object.keys(durableEngines)) {
    test(`convert carries the log and its snapshots from ${engine} to ${target}`, async (t) => {
      const directory = await newDirectory(t);
      const [from, to] = [join(directory, 'from'), join(directory, 'to')];
      const model = await fillRandom(from, engine, 7);
      const bytes = new Uint8Array(600_000).map((_, at) => at % 251);
      const plain = withoutNodeWords(model);
      let facts: SnapshotFacts | undefined;
      const fill = async (wal: Wal): Promise<void> => {
        for (const batch of plain) await wal.write(batch);
        const writer = await wal.snapshots.create('p1-7');
        await writer.append(bytes);
        facts = await writer.finish();
        const unfinished = await wal.snapshots.create('p1-8');
        await unfinished.append(bytes);
        await unfinished.suspend();
      };
      await fillStore(from, fill, engine);
      const before = await fingerprint(from);
      await convertStore({ from, to }, target, () => {});
      assert.deepEqual(await fingerprint(from), before);
      const made = openerOf(target)(to);
      assert.deepEqual(await made.open(), contentsOf(model));
      await checkEntries(made, model);
      assert.deepEqual(await made.snapshots.list(), [{ name: 'p1-7', isFinished: true }]);
      const reader = await made.snapshots.open('p1-7', must(facts, 'the snapshot is finished'));
      let read = Buffer.alloc(0);
      for (;;) {
        const piece = await reader.read(read.byteLength, bytes.byteLength);
        if (piece.byteLength === 0) break;
        read = Buffer.concat([read, piece]);
      }
      await reader.close();
      assert.ok(read.equals(bytes));
      await made.close();
    });
  }
}

test('a damaged store is not copied', async () => {
  async function* finds(): AsyncGenerator<StoreFind> {
    const place = { partitionId: 1, index: 3, lastIndex: 3, file: undefined };
    yield { kind: 'damage', damage: { ...place, what: 'a test', lost: 'entries' } };
  }
  const copy = memoryWal();
  await copy.open();
  await assert.rejects(copyStore(finds(), copy), (error) => isKommanderError(error, 'WAL_CORRUPT'));
});

async function surveyed(path: string): Promise<StoreSurvey> {
  const reader = await readRocksDbStore(path);
  try {
    return await surveyStore(reader.finds(), { digest: true });
  } finally {
    await reader.close();
  }
}

test('stores that differ in anything are told apart', async (t) => {
  const path = await newDirectory(t);
  const hardState = { term: 2, votedFor: 1, commitIndex: 3 };
  const fill =
    (change: { term?: number; votedFor?: number; count?: number; fact?: number }) =>
    async (name: string): Promise<StoreSurvey> => {
      const { term = 2, votedFor = 1, count = 5, fact = 1 } = change;
      await fillStore(join(path, name), async (wal) => {
        await wal.write(batchOf({ hardState: { ...hardState, votedFor } }));
        await wal.write(batchOf({ entries: entriesFrom(1, term, count) }));
        await wal.write({ writes: [], meta: new Map([['x', Uint8Array.of(fact)]]), sync: true });
      });
      return surveyed(join(path, name));
    };
  const expected = await fill({})('one');
  assert.deepEqual(differences(expected, await fill({})('same')), []);
  const changes = [{ term: 1 }, { votedFor: 2 }, { count: 6 }, { fact: 2 }];
  for (const [at, change] of changes.entries()) {
    const found = await fill(change)(`other-${at}`);
    assert.equal(differences(expected, found).length, 1, JSON.stringify(change));
  }
});

test('a store is one only when all is written and compared: until then it is refused, and a failure leaves nothing', async (t) => {
  const path = await newDirectory(t);
  const [source, draft, target] = ['source', 'draft', 'target'].map((name) => join(path, name)) as [
    string,
    string,
    string,
  ];
  await fillStore(source, async (wal) => {
    for (let index = 1; index <= 50; index += 5)
      await wal.write(batchOf({ entries: entriesFrom(index, 1, 5) }, true));
  });
  const expected = await surveyed(source);
  const engine = engineNamed('rocksdb');
  const reader = await readRocksDbStore(source);
  const refusals: string[] = [];
  async function* watched(): AsyncGenerator<StoreFind> {
    for await (const find of reader.finds()) {
      yield find;
      const wal = rocksdbWal({ path: draft });
      await assert.rejects(wal.open(), (error) => {
        assert.ok(isKommanderError(error, 'WAL_VERSION'));
        refusals.push(error.message);
        return true;
      });
      await wal.close();
      await assert.rejects(openClosedStore(draft), (error) =>
        isKommanderError(error, 'WAL_VERSION'),
      );
    }
  }
  const check = (found: StoreSurvey): string[] => differences(expected, found);
  await buildStore({ engine, draft, source, finds: watched(), check });
  assert.ok(refusals.length >= 10);
  assert.match(refusals[0] ?? '', /cut short: remove it/);

  // A second run finds the first one's directory.
  const again = buildStore({ engine, draft, source, finds: reader.finds(), check });
  await assert.rejects(again, (error) => isKommanderError(error, 'INVALID_ARGUMENT'));
  await placeStore(draft, target);
  assert.deepEqual(differences(expected, await surveyed(target)), []);

  async function* failing(): AsyncGenerator<StoreFind> {
    yield* reader.finds();
    throw new Error('the power is gone');
  }
  await assert.rejects(
    buildStore({ engine, draft, source, finds: failing(), check }),
    /power is gone/,
  );
  const wrong = buildStore({
    engine,
    draft,
    source,
    finds: reader.finds(),
    check: () => ['it differs'],
  });
  await assert.rejects(wrong, (error) => isKommanderError(error, 'WAL_FAILED'));
  // Its snapshots are read again as well.
  const descriptor = encodeDescriptor({
    stored: { name: 'p1-i5-t1-own', byteLength: 3, checksum: 7 },
    ...{ clock: 1, machineIndex: 5, parts: [{ name: 'machine', byteLength: 3 }] },
  });
  async function* withState(): AsyncGenerator<StoreFind> {
    const base = { index: 5, term: 1, confState: emptyConfState, data: descriptor };
    yield { kind: 'base', partitionId: 1, base };
    yield* reader.finds();
  }
  await assert.rejects(
    buildStore({
      ...{ engine, draft, source, finds: withState() },
      check: ({ damageCount }) => (damageCount === 1 ? ['a snapshot is missing'] : []),
    }),
    (error) => isKommanderError(error, 'WAL_FAILED') && /snapshot is missing/.test(error.message),
  );
  await reader.close();
  assert.deepEqual((await readdir(path)).sort(), ['source', 'target']);
});
