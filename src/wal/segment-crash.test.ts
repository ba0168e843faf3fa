// Power losses at every step of the segment engine: before a write, between write and sync, after the sync before the
// answer, among the changes of the directory; unsynced sectors lost, kept and torn; on a disk that is full at times, and
// whose steps take long enough for others to come between. What was acknowledged is there, what is there was written, and
// batches are whole. Segments are small, so that they are sealed, recycled and emptied.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { isKommanderError } from '../base/errors.ts';
import { type Random, seededRandom } from '../base/random.ts';
import type { Wal, WalBatch, WalContents } from '../ports/wal.ts';
import {
  type FilesOwner,
  type SimulatedFiles,
  simulatedFiles,
} from '../testing/simulation/simulated-files.ts';
import {
  contentsOf,
  copyModel,
  emptyModel,
  factsOf,
  lastIndexOf,
  randomBatch,
  type WalModel,
  writeToModel,
} from '../testing/wal-model.ts';
import { segmentWal } from './segment.ts';

const segmentBytes = 65_536;
const seeds = Array.from({ length: 100 }, (_, i) => i + 1);
const livesPerSeed = 6;
const batchesMax = 60;

/** A process that dies at its `lastStep`-th step. */
function owner(
  random: Random,
  lastStep: number,
): FilesOwner & { readonly stepCount: number; died: Promise<void> } {
  let stepCount = 0;
  let isFull = false;
  let isDead = false;
  const { promise: died, resolve: die } = Promise.withResolvers<void>();
  const step = async (): Promise<void> => {
    stepCount += 1;
    if (stepCount >= lastStep) {
      isDead = true;
      die();
    }
    for (let turns = random.below(4); turns > 0 && !isDead; turns--) await setImmediate();
    if (isDead) await new Promise<never>(() => {});
  };
  return {
    get isDead() {
      return isDead;
    },
    get stepCount() {
      return stepCount;
    },
    died,
    async before(_kind, growthBytes) {
      await step();
      if (growthBytes === 0) return;
      if (random.below(isFull ? 3 : 6) === 0) isFull = !isFull;
      if (isFull) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
    },
    after: step,
  };
}

describe('segment engine after a power loss', () => {
  for (const seed of seeds) {
    test(`has what was acknowledged, and nothing else than what was written (seed ${seed})`, async () => {
      const random = seededRandom(seed);
      const files = simulatedFiles(random);
      let models: WalModel[] = [emptyModel()];
      for (let life = 0; life < livesPerSeed; life++) {
        const stepsMax = life === livesPerSeed - 1 ? Number.POSITIVE_INFINITY : random.below(400);
        models = await live(files, { seed: random.below(1_000_000), stepsMax, models });
        if (random.below(4) > 0) files.losePower();
      }
    });
  }
});

/** Opens, checks, writes until it dies. @returns what may be there afterwards, the oldest first */
async function live(
  files: SimulatedFiles,
  life: {
    readonly seed: number;
    readonly stepsMax: number;
    readonly models: readonly WalModel[];
  },
): Promise<WalModel[]> {
  const random = seededRandom(life.seed);
  const process = owner(seededRandom(life.seed + 1), life.stepsMax);
  const wal = segmentWal({ path: 'simulated', segmentBytes, files: files.attach(process) });
  let possible = [...life.models];
  const run = async (): Promise<void> => {
    const contents = await wal.open();
    const found = possible.findLast((model) => isSame(contents, model));
    assert.ok(found !== undefined, 'what is there is what was there after one of the batches');
    await checkEntries(wal, found);
    possible = [found];
    let model = found;
    for (let count = 0; count < batchesMax; count++) {
      const batch = randomBatch(random, model, random.below(8) === 0 ? 4_000 : 400);
      const next = copyModel(model);
      writeToModel(next, batch);
      possible.push(next);
      if (!(await isWritten(wal, batch))) {
        possible.pop();
        continue;
      }
      model = next;
      if (batch.sync) possible = [model];
      if (random.below(20) === 0) await checkEntries(wal, model);
    }
    await wal.close();
    possible = [model];
  };
  await Promise.race([run(), process.died]);
  return possible;
}

/** False when there was no room for it. */
async function isWritten(wal: Wal, batch: WalBatch): Promise<boolean> {
  try {
    await wal.write(batch);
    return true;
  } catch (error) {
    if (isKommanderError(error, 'DISK_FULL')) return false;
    throw error;
  }
}

function isSame(contents: WalContents, model: WalModel): boolean {
  try {
    assert.deepEqual(contents, contentsOf(model));
    return true;
  } catch {
    return false;
  }
}

async function checkEntries(wal: Wal, model: WalModel): Promise<void> {
  for (const [partitionId, partition] of model.partitions) {
    const fromIndex = partition.compactedIndex + 1;
    const endIndex = lastIndexOf(partition) + 1;
    if (fromIndex === endIndex) continue;
    const range = { partitionId, fromIndex, endIndex, bytesMax: Number.POSITIVE_INFINITY };
    assert.deepEqual((await wal.read(range)).map(factsOf), partition.entries.map(factsOf));
  }
}
