// Real processes, the same for every durable engine: a writer is killed with SIGKILL at a random moment, again and again
// on one directory, and what it had acknowledged must be there, whole and in order; a store that one process has open is
// locked for others. KOMMANDER_KILL_ROUNDS and KOMMANDER_SEED set rounds and seed; `scripts/soak-wal.ts` runs many rounds.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { must } from '../src/base/assert.ts';
import { isKommanderError } from '../src/base/errors.ts';
import { seededRandom } from '../src/base/random.ts';
import type { Wal } from '../src/ports/wal.ts';
import {
  contentsOf,
  emptyModel,
  factsOf,
  lastIndexOf,
  type WalModel,
  writeToModel,
} from '../src/testing/wal-model.ts';
import { walWriterBatch, walWriterPartitions } from './fixtures/wal-writer.ts';
import { durableEngines } from './support/durable-engines.ts';

const rounds = Number(process.env.KOMMANDER_KILL_ROUNDS ?? 10);
const seed = Number(process.env.KOMMANDER_SEED ?? 20_261_123);
const writerPath = fileURLToPath(new URL('fixtures/wal-writer.ts', import.meta.url));

interface Place {
  readonly engine: string;
  readonly path: string;
}

function storeAt({ engine, path }: Place): Wal {
  return must(durableEngines[engine], 'the engine is in the table')(path);
}

/** Runs the writer from `firstBatch` on, kills it `lifeMs` after its first batch; the last batch that it acknowledged. */
async function runWriter(
  { engine, path }: Place,
  life: { readonly firstBatch: number; readonly lifeMs: number },
): Promise<number> {
  const child = spawn(
    process.execPath,
    [writerPath, engine, path, `${seed}`, `${life.firstBatch}`],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const closed = new Promise((resolve) => child.once('close', resolve));
  let output = '';
  const begun = new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (text: string) => {
      output += text;
      resolve();
    });
    child.once('exit', () => reject(new Error('the writer ended by itself')));
  });
  try {
    await begun;
    await setTimeout(life.lifeMs);
  } finally {
    child.kill('SIGKILL');
  }
  await closed;
  // The kill may have cut the last line.
  const lines = output.split('\n').slice(0, -1);
  return Number(must(lines.at(-1), 'the writer acknowledged a batch'));
}

/**
 * Opens the store and compares it with what the acknowledged batches, or one more, leave behind; the last batch in it.
 * The model has what was written before `firstBatch`, and is brought up to the store.
 */
async function checkStore(
  place: Place,
  model: WalModel,
  written: { readonly firstBatch: number; readonly acknowledged: number },
): Promise<number> {
  const { firstBatch, acknowledged } = written;
  const wal = storeAt(place);
  try {
    const { partitions, meta } = await wal.open();
    const stored = Number(Buffer.from(must(meta.get('batch'), 'the counter is stored')).toString());
    assert.ok(stored >= acknowledged, `batch ${acknowledged} was acknowledged, has ${stored}`);
    assert.ok(stored <= acknowledged + 1, 'one batch at most was on its way');
    for (let batch = firstBatch; batch <= stored; batch++)
      writeToModel(model, walWriterBatch(seed, batch));
    assert.deepEqual({ partitions, meta }, contentsOf(model));
    assert.equal(partitions.length, walWriterPartitions);
    for (const [partitionId, partition] of model.partitions) {
      const range = { partitionId, fromIndex: partition.compactedIndex + 1 };
      const endIndex = lastIndexOf(partition) + 1;
      const read = await wal.read({ ...range, endIndex, bytesMax: Number.POSITIVE_INFINITY });
      assert.deepEqual(read.map(factsOf), partition.entries.map(factsOf));
    }
    return stored;
  } finally {
    await wal.close();
  }
}

async function inDirectory(engine: string, body: (place: Place) => Promise<void>): Promise<void> {
  const path = await mkdtemp(join(tmpdir(), `kommander-kill-${engine}-`));
  try {
    await body({ engine, path });
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

for (const engine of Object.keys(durableEngines)) {
  test(`${engine}: what a killed process had acknowledged is there (${rounds} rounds, seed ${seed})`, async (context) => {
    const random = seededRandom(seed);
    await inDirectory(engine, async (place) => {
      const model = emptyModel();
      let firstBatch = 0;
      for (let round = 0; round < rounds; round++) {
        const lifeMs = random.below(120);
        const acknowledged = await runWriter(place, { firstBatch, lifeMs });
        const stored = await checkStore(place, model, { firstBatch, acknowledged });
        context.diagnostic(`round ${round}: ${acknowledged} acknowledged, ${stored} stored`);
        firstBatch = stored + 1;
      }
    });
  });

  test(`${engine}: a store that another process has open is locked, until that process is gone`, async () => {
    await inDirectory(engine, async (place) => {
      const child = spawn(process.execPath, [writerPath, engine, place.path, `${seed}`, '0'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const closed = new Promise((resolve) => child.once('close', resolve));
      try {
        await new Promise((resolve, reject) => {
          child.stdout.once('data', resolve);
          child.once('exit', reject);
        });
        const wal = storeAt(place);
        await assert.rejects(wal.open(), (error) => isKommanderError(error, 'WAL_LOCKED'));
        await wal.close();
      } finally {
        child.kill('SIGKILL');
      }
      await closed;
      const wal = storeAt(place);
      assert.equal((await wal.open()).partitions.length, walWriterPartitions);
      await wal.close();
    });
  });
}
