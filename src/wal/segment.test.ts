// The segment engine: the contract of log stores, on files of the file system and with segments so small that they are
// sealed, recycled and emptied all the time.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { must } from '../base/assert.ts';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import { seededRandom } from '../base/random.ts';
import type { PartitionId, PartitionWrite, Wal, WalBatch } from '../ports/wal.ts';
import { EntryKind, type LogIndex } from '../raft/types.ts';
import {
  type FileStep,
  type FilesOwner,
  type SimulatedFiles,
  simulatedFiles,
} from '../testing/simulation/simulated-files.ts';
import { walContract } from '../testing/wal-contract.ts';
import {
  contentsOf,
  copyModel,
  emptyModel,
  factsOf,
  laidOut,
  lastIndexOf,
  membersOf,
  numbered,
  randomBatch,
  type WalModel,
  writeToModel,
} from '../testing/wal-model.ts';
import type { Files } from './files.ts';
import { segmentWal } from './segment.ts';
import { readTrailer, trailerBytes } from './segment-summary.ts';

for (const segmentBytes of [undefined, 65_536]) {
  describe(`segment engine, segments of ${segmentBytes ?? 'the default'} bytes`, () => {
    walContract({ test }, async () => {
      const path = await mkdtemp(join(tmpdir(), 'kommander-segment-'));
      return {
        wal: () => segmentWal({ path, ...(segmentBytes === undefined ? {} : { segmentBytes }) }),
        remove: () => rm(path, { recursive: true, force: true }),
      };
    });
  });
}

const segmentBytes = 65_536;

/** A process that never dies. */
const survivor = { isDead: false, before: async () => {}, after: async () => {} };

function openWal(files: SimulatedFiles): Wal {
  return segmentWal({ path: 'simulated', segmentBytes, files: files.attach(survivor) });
}

/** Writes random batches, closes unless `isKilled`; returns the files and what is in them. */
async function written(options: {
  readonly batchCount: number;
  readonly payloadBytesMax: number;
  readonly isKilled?: boolean;
}): Promise<{ readonly files: SimulatedFiles; readonly models: readonly WalModel[] }> {
  const random = seededRandom(7);
  const files = simulatedFiles(random);
  const wal = openWal(files);
  await wal.open();
  const models = [emptyModel()];
  for (let i = 0; i < options.batchCount; i++) {
    const model = copyModel(must(models.at(-1), 'there is one'));
    const batch = { ...randomBatch(random, model, options.payloadBytesMax), sync: true };
    writeToModel(model, batch);
    models.push(model);
    await wal.write(batch);
  }
  if (options.isKilled !== true) await wal.close();
  return { files, models };
}

/** Opens the store and reads all of it. @returns what went wrong, if it is WAL_CORRUPT */
async function readAll(files: SimulatedFiles, expected: WalModel): Promise<unknown> {
  const wal = openWal(files);
  try {
    assert.deepEqual(await wal.open(), contentsOf(expected));
    for (const [partitionId, partition] of expected.partitions) {
      const fromIndex = partition.compactedIndex + 1;
      const endIndex = lastIndexOf(partition) + 1;
      if (fromIndex === endIndex) continue;
      const range = { partitionId, fromIndex, endIndex, bytesMax: Number.POSITIVE_INFINITY };
      assert.deepEqual((await wal.read(range)).map(factsOf), partition.entries.map(factsOf));
    }
    return undefined;
  } catch (error) {
    if (isKommanderError(error, 'WAL_CORRUPT')) return error;
    throw error;
  } finally {
    await wal.close();
  }
}

/** The same files again, so that each damage meets what was written. */
function copied(files: SimulatedFiles): SimulatedFiles {
  const copy = simulatedFiles(seededRandom(1));
  copy.restore(files.contents());
  return copy;
}

describe('damage in segments', () => {
  test('a flipped bit anywhere in what was written is found, or hits bytes that mean nothing', async () => {
    const { files, models } = await written({ batchCount: 12, payloadBytesMax: 24 });
    const model = must(models.at(-1), 'there is one');
    const bytes = must(files.contents().get('0000000001.segment'), 'there is a segment');
    const usedBytes = bytes.findLastIndex((byte) => byte !== 0) + 1;
    const found = new Set<string>();
    let foundCount = 0;
    for (let offset = 0; offset < usedBytes; offset++) {
      const damaged = copied(files);
      damaged.flipBit({ name: '0000000001.segment', offset, bit: offset % 8 });
      const error = await readAll(damaged, model);
      if (error === undefined) continue;
      assert.ok(error instanceof KommanderError);
      assert.equal(error.details.file, '0000000001.segment');
      foundCount += 1;
      if (error.details.partitionId !== undefined) found.add(String(error.details.record));
    }
    // What is not found is the gap between records: up to seven bytes each.
    assert.ok(foundCount > usedBytes * 0.9, `${foundCount} of ${usedBytes}`);
    assert.deepEqual([...found].sort(), ['base', 'compaction mark', 'hard state', 'run']);
  });

  test('a flipped bit in a sealed segment is found when it is opened or read, and one in its footer does no harm', async () => {
    const files = simulatedFiles(seededRandom(1));
    const wal = openWal(files);
    await wal.open();
    const model = emptyModel();
    for (let index = 1; index < 400; index += 10) {
      const batch = batchOf(appended(1, index, 10));
      await wal.write(batch);
      writeToModel(model, batch);
    }
    await wal.close();
    const name = '0000000001.segment';
    const bytes = must(files.contents().get(name), 'it is there');
    const trailer = readTrailer(bytes.slice(-trailerBytes), Number.parseInt(name, 10));
    assert.ok(trailer !== undefined, 'it is sealed');
    for (const offset of [trailer.offset + 3, bytes.byteLength - 5]) {
      const damaged = copied(files);
      damaged.flipBit({ name, offset, bit: 3 });
      assert.equal(await readAll(damaged, model), undefined);
    }
    const random = seededRandom(3);
    let foundCount = 0;
    for (let count = 0; count < 300; count++) {
      const damaged = copied(files);
      damaged.flipBit({ name, offset: random.below(trailer.offset), bit: random.below(8) });
      const error = await readAll(damaged, model);
      if (error === undefined) continue;
      assert.ok(error instanceof KommanderError);
      const { partitionId, index, file } = error.details;
      assert.ok(partitionId === 1 && Number(index) >= 1 && file === name, error.message);
      foundCount += 1;
    }
    // The rest hit headers of records, of which the footer has all that is needed.
    assert.ok(foundCount > 250, `${foundCount} of 300`);
  });

  test('a missing file in the middle is found', async () => {
    const { files, models } = await written({ batchCount: 60, payloadBytesMax: 2_000 });
    const contents = new Map(files.contents());
    const names = [...contents.keys()].filter((name) => /\d\.segment$/.test(name)).sort();
    contents.delete(must(names.at(-2), 'there is one'));
    const damaged = simulatedFiles(seededRandom(1));
    damaged.restore(contents);
    assert.match(String(await readAll(damaged, must(models.at(-1), 'there is one'))), /missing/);
  });

  /** Files up to the youngest that has a footer. */
  function upToSealed(files: SimulatedFiles): Map<string, Uint8Array> {
    const contents = new Map(files.contents());
    const names = [...contents.keys()].filter((name) => /\d\.segment$/.test(name)).sort();
    for (const name of names.reverse()) {
      const bytes = must(contents.get(name), 'it is listed');
      const number = Number.parseInt(name, 10);
      if (readTrailer(bytes.subarray(-trailerBytes), number) !== undefined) return contents;
      contents.delete(name);
    }
    throw new Error('none is sealed');
  }

  test('a missing file behind a sealed one is found', async () => {
    const { files } = await written({ batchCount: 60, payloadBytesMax: 2_000 });
    const damaged = simulatedFiles(seededRandom(1));
    damaged.restore(upToSealed(files));
    await assert.rejects(openWal(damaged).open(), { code: 'WAL_CORRUPT' });
  });

  test('a batch that is too long for the file behind a sealed one, and finds no room, leaves it there', async () => {
    const { files } = await written({ batchCount: 60, payloadBytesMax: 2_000 });
    const contents = upToSealed(files);
    const sealed = must([...contents.keys()].sort().at(-1), 'there is one');
    const behind = `${String(Number.parseInt(sealed, 10) + 1).padStart(10, '0')}.segment`;
    contents.set(behind, new Uint8Array(segmentBytes));
    const ended = simulatedFiles(seededRandom(1));
    ended.restore(contents);
    const disk = fullAtTimes('bytes');
    const wal = segmentWal({ path: 'simulated', segmentBytes, files: ended.attach(disk) });
    await wal.open();
    disk.isFull = true;
    const meta = new Map([['long', new Uint8Array(2 * segmentBytes)]]);
    await assert.rejects(wal.write({ writes: [], meta, sync: true }), { code: 'DISK_FULL' });
    disk.isFull = false;
    await wal.close();
    await wal.open();
    await wal.write({ writes: [], meta, sync: true });
    await wal.close();
    assert.equal((await wal.open()).meta.get('long')?.byteLength, 2 * segmentBytes);
    await wal.close();
  });

  test('a store that lost all its records does not pass for a new one when older files are gone', async () => {
    const lost = simulatedFiles(seededRandom(1));
    lost.restore(new Map([['0000000007.segment', new Uint8Array(segmentBytes)]]));
    await assert.rejects(openWal(lost).open(), { code: 'WAL_CORRUPT' });
  });

  test('of two empty files the younger goes, so that replacing the other one leaves no gap', async () => {
    const { files, models } = await written({ batchCount: 4, payloadBytesMax: 24 });
    const doubled = simulatedFiles(seededRandom(1));
    const empty = new Uint8Array(segmentBytes);
    doubled.restore(
      new Map([...files.contents(), ['0000000002.segment', empty], ['0000000003.segment', empty]]),
    );
    assert.equal(await readAll(doubled, must(models.at(-1), 'there is one')), undefined);
    const names = [...doubled.contents().keys()].sort();
    assert.deepEqual(names, ['0000000001.segment', '0000000002.segment']);
  });

  test('a torn last batch is cut, and the store goes on behind the one before', async () => {
    const { files, models } = await written({ batchCount: 8, payloadBytesMax: 24, isKilled: true });
    const bytes = must(files.contents().get('0000000001.segment'), 'there is a segment');
    const usedBytes = bytes.findLastIndex((byte) => byte !== 0);
    const torn = copied(files);
    torn.flipBit({ name: '0000000001.segment', offset: usedBytes, bit: 0 });
    const before = copyModel(must(models.at(-2), 'there is one'));
    assert.equal(await readAll(torn, before), undefined);
    const wal = openWal(torn);
    await wal.open();
    const batch = { ...randomBatch(seededRandom(5), before), sync: true };
    writeToModel(before, batch);
    await wal.write(batch);
    await wal.close();
    assert.equal(await readAll(torn, before), undefined);
  });
});

describe('the disk of a segment store', () => {
  test('does not fill: segments that are needed for little are emptied, and their files used again', async () => {
    const random = seededRandom(11);
    const files = simulatedFiles(random);
    const wal = openWal(files);
    await wal.open();
    const model = emptyModel();
    const write = async (batch: WalBatch): Promise<void> => {
      await wal.write(batch);
      writeToModel(model, batch);
    };
    // A partition that is written once and never compacted lies in the oldest segment.
    const hardState = { term: 1, votedFor: 2, commitIndex: 0 };
    await write({
      ...batchOf({ ...appended(1, 1, 20), hardState }, { ...nothing, partitionId: 3, hardState }),
      meta: new Map([['whose', new Uint8Array([1, 2, 3])]]),
    });
    let fileCountMax = 0;
    for (let index = 1; index < 4_000; index += 10) {
      const compacts = index > 100 ? index - 50 : undefined;
      await write(batchOf(appended(2, index, 10), compacted(2, compacts)));
      fileCountMax = Math.max(fileCountMax, files.contents().size);
    }
    await wal.close();
    assert.ok(wal.stats().bytesWritten > 20 * segmentBytes, 'many segments were written');
    assert.ok(fileCountMax <= 9, `${fileCountMax} files`);
    assert.equal(await readAll(files, model), undefined);
  });

  test('keeps no copy of replaced entries alive: a log that is compacted behind them ends where it ended', async () => {
    let movedCount = 0;
    for (let between = 0; between < 60; between++) {
      const files = simulatedFiles(seededRandom(1));
      const wal = openWal(files);
      await wal.open();
      const model = emptyModel();
      const write = async (batch: WalBatch): Promise<void> => {
        await wal.write(batch);
        writeToModel(model, batch);
        // The cleaner reads meanwhile.
        for (let turns = 0; turns < 3; turns++) await setImmediate();
      };
      let nextIndex = 1;
      const fill = async (count: number): Promise<void> => {
        for (let i = 0; i < count; i++, nextIndex += 20)
          await write(batchOf(appended(2, nextIndex, 20), compacted(2, nextIndex + 19)));
      };
      await write(batchOf(appended(1, 1, 10)));
      await fill(16);
      // In a younger segment than the run whose end it replaces.
      await write(batchOf(appended(1, 5, 1, 2)));
      await fill(between);
      await write(batchOf(compacted(1, 5, 2)));
      await fill(2);
      await wal.close();
      if (!files.contents().has('0000000001.segment')) movedCount += 1;
      assert.equal(await readAll(files, model), undefined, `${between} batches in between`);
    }
    assert.ok(movedCount > 30, `${movedCount} times the first segment was emptied`);
  });

  for (const what of ['bytes', 'names'] as const) {
    test(`has no room for ${what}: a batch that needs another segment is refused, nothing is lost, and it goes on when there is room`, async () => {
      const files = simulatedFiles(seededRandom(1));
      const disk = fullAtTimes(what);
      const wal = segmentWal({ path: 'simulated', segmentBytes, files: files.attach(disk) });
      await wal.open();
      const model = emptyModel();
      let index = 1;
      const next = async (): Promise<void> => {
        const batch = batchOf(appended(1, index, 10));
        await wal.write(batch);
        writeToModel(model, batch);
        index += 10;
      };
      await next();
      disk.isFull = true;
      let refused = 0;
      for (let count = 0; count < 100; count++) {
        await next().catch((error: unknown) => {
          assert.ok(isKommanderError(error, 'DISK_FULL'), String(error));
          refused += 1;
        });
      }
      assert.ok(refused > 50, `${refused} refused`);
      disk.isFull = false;
      for (let count = 0; count < 20; count++) await next();
      await wal.close();
      assert.equal(await readAll(files, model), undefined);
    });
  }

  test('is full: what the cleaner has to move does not take the room of a batch', async () => {
    const files = simulatedFiles(seededRandom(1));
    const disk = fullAtTimes('bytes');
    const wal = segmentWal({ path: 'simulated', segmentBytes, files: files.attach(disk) });
    await wal.open();
    const lastIndex = 2_000;
    // Most of the first segment stays needed, by a partition that lags.
    await wal.write(batchOf(appended(1, 1, 120)));
    // Before the last segment is half full, when the next one would be laid out.
    for (let index = 1; index < lastIndex; index += 20)
      await wal.write(batchOf(appended(2, index, 20)));
    while (bytesUsed(files) > 0.3 * segmentBytes) await wal.write(batchOf(appended(3, 1, 20)));
    disk.isFull = true;
    while (bytesUsed(files) < 0.6 * segmentBytes) await wal.write(batchOf(appended(3, 1, 20)));
    await wal.write(batchOf(compacted(2, lastIndex)));
    for (let turns = 0; turns < 3; turns++) await setImmediate();
    await wal.write(batchOf({ ...nothing, partitionId: 3, hardState: voted(1) }));
    await assert.rejects(wal.write(batchOf(appended(3, 1, 120))), (error) =>
      isKommanderError(error, 'DISK_FULL'),
    );
    disk.isFull = false;
    for (let count = 0; count < 5; count++) await wal.write(batchOf(appended(3, 1, 20)));
    await wal.close();
    assert.ok(!files.contents().has(firstSegment), 'it was emptied when there was room');
  });
});

describe('a segment store that meets damage', () => {
  test('while it empties a segment leaves the record where it is, says so, and goes on', async () => {
    const files = simulatedFiles(seededRandom(1));
    const wal = openWal(files);
    const damages: { readonly partitionId: PartitionId; readonly error: KommanderError }[] = [];
    await wal.open({ damaged: (partitionId, error) => damages.push({ partitionId, error }) });
    await wal.write(batchOf(appended(1, 1, 10)));
    files.flipBit({ name: firstSegment, offset: 1_000, bit: 0 });
    await fillForCleaner(wal, 200);
    const [damage] = damages;
    assert.equal(damages.length, 1);
    assert.equal(damage?.partitionId, 1);
    assert.ok(isKommanderError(damage.error, 'WAL_CORRUPT'), String(damage.error));
    assert.equal(damage.error.details.index, 1);
    assert.equal(damage.error.details.file, firstSegment);
    assert.ok(files.contents().has(firstSegment), 'a damaged record is kept');
    const range = { partitionId: 1, fromIndex: 1, endIndex: 11, bytesMax: 1 };
    await assert.rejects(wal.read(range), (error) => isKommanderError(error, 'WAL_CORRUPT'));
    // Nobody needs it any more.
    await wal.write(batchOf(compacted(1, 10)));
    for (let count = 0; count < 20; count++) {
      await wal.write(batchOf({ ...nothing, partitionId: 3, hardState: voted(count + 1) }));
      await setImmediate();
    }
    assert.ok(!files.contents().has(firstSegment), 'the segment went');
    assert.equal(damages.length, 1);
    await wal.close();
  });

  test('or cannot open a file gives the directory free when it is closed', async () => {
    const files = simulatedFiles(seededRandom(1));
    const attached = files.attach(survivor);
    let canOpen = true;
    const open: Files['open'] = async (name, options) => {
      if (canOpen) return attached.open(name, options);
      throw Object.assign(new Error('EMFILE'), { code: 'EMFILE' });
    };
    const wal = segmentWal({ path: 'simulated', segmentBytes, files: { ...attached, open } });
    await wal.open();
    await fillForCleaner(wal, 8);
    await wal.close();
    await wal.open();
    canOpen = false;
    const range = { partitionId: 2, fromIndex: 1, endIndex: 2, bytesMax: 1 };
    await assert.rejects(wal.read(range), (error) => isKommanderError(error, 'WAL_FAILED'));
    await wal.close();
    const next = openWal(files);
    await next.open();
    await next.close();
  });
});

const firstSegment = '0000000001.segment';

/** A disk that has no room for more `bytes`, or for another name, while it is full. */
function fullAtTimes(what: 'bytes' | 'names'): FilesOwner & { isFull: boolean } {
  const disk = {
    ...survivor,
    isFull: false,
    async before(step: FileStep, growth: number): Promise<void> {
      const isRefused = what === 'bytes' ? growth > 0 : step === 'names';
      if (disk.isFull && isRefused) throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
    },
  };
  return disk;
}

/** Batches of partition 2, of which little stays needed; every other one leaves as much in a partition of its own. */
async function fillForCleaner(wal: Wal, batchCount: number): Promise<void> {
  for (let i = 0; i < batchCount; i++) {
    const index = 1 + 20 * i;
    await wal.write(
      batchOf(
        appended(2, index, 20),
        compacted(2, i < 8 ? undefined : index - 1),
        i % 2 === 0 ? appended(10 + i, 1, 20) : { ...nothing, partitionId: 2 },
      ),
    );
    // The cleaner reads meanwhile.
    for (let turns = 0; turns < 3; turns++) await setImmediate();
  }
}

/** Bytes of the last segment that are not zero any more. */
function bytesUsed(files: SimulatedFiles): number {
  const used = [...files.contents()]
    .filter(([name, bytes]) => name.endsWith('.segment') && bytes.some((byte) => byte !== 0))
    .sort(([a], [b]) => a.localeCompare(b));
  return must(used.at(-1), 'something was written')[1].findLastIndex((byte) => byte !== 0) + 1;
}

function voted(term: number): { term: number; votedFor: number; commitIndex: number } {
  return { term, votedFor: 1, commitIndex: 0 };
}

function batchOf(...writes: readonly PartitionWrite[]): WalBatch {
  return { writes, meta: new Map(), sync: true };
}

function appended(
  partitionId: PartitionId,
  firstIndex: LogIndex,
  count: number,
  term = 1,
): PartitionWrite {
  const payloads = Array.from({ length: count }, (_, i) => ({
    kind: EntryKind.normal,
    bytes: new Uint8Array(400).fill(firstIndex + i),
  }));
  const entries = numbered(laidOut(payloads), { index: firstIndex, term });
  return { ...nothing, partitionId, entries };
}

function compacted(
  partitionId: PartitionId,
  throughIndex: LogIndex | undefined,
  term = 1,
): PartitionWrite {
  if (throughIndex === undefined) return { ...nothing, partitionId };
  const base = { index: throughIndex, term, confState: membersOf([1]), data: undefined };
  return { ...nothing, partitionId, base, compactThroughIndex: throughIndex };
}

const nothing = {
  hardState: undefined,
  base: undefined,
  resetLog: false,
  entries: [],
  compactThroughIndex: undefined,
} as const;
