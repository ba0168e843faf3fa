// What logs that were kept aside prove: every whole mark counts, wherever in the file it lies, and nothing else does.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { encodeBatchMark } from './record.ts';
import { dropKeptLogs, forgetKeptLogs, keepLogsAside, provenBatch } from './recovery-evidence.ts';
import { batchMarkKey } from './rocksdb-keys.ts';

const identity = '3f1c2a90-0000-4000-8000-000000000001';

function markBytes(batchNumber: number): Uint8Array {
  const mark = encodeBatchMark({ identity, batchNumber, syncedBatch: batchNumber - 1 });
  return new Uint8Array([...batchMarkKey, mark.byteLength, ...mark]);
}

async function inDirectory(body: (path: string) => Promise<void>): Promise<void> {
  const path = await mkdtemp(join(tmpdir(), 'kommander-evidence-'));
  try {
    await body(path);
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

async function writeAside(path: string, bytes: Uint8Array): Promise<void> {
  await mkdir(join(path, 'recovering'), { recursive: true });
  await writeFile(join(path, 'recovering', '000004.log'), bytes);
}

test('a mark is found at any place of a log, also where pieces of the log meet', async () => {
  await inDirectory(async (path) => {
    const bytes = new Uint8Array(4_194_304 * 2 + 500);
    const mark = markBytes(8);
    const border = 4_194_304;
    const places = [0, 1, border - 200, border, bytes.byteLength - mark.byteLength];
    for (let back = 1; back < mark.byteLength + 20; back += 9) places.push(border - back);
    for (let back = 1; back < mark.byteLength * 2; back += 9) places.push(2 * border - back);
    for (const place of places) {
      bytes.fill(0);
      bytes.set(mark, place);
      await writeAside(path, bytes);
      assert.equal(await provenBatch(path, identity), 7, `mark at ${place}`);
    }
  });
});

test('the highest mark counts; damaged ones, cut ones and those of others do not', async () => {
  await inDirectory(async (path) => {
    const damaged = markBytes(100);
    damaged[30] = (damaged[30] as number) ^ 1;
    const log = [
      ...markBytes(3),
      ...damaged,
      ...markBytes(9),
      ...batchMarkKey,
      ...markBytes(5),
      ...markBytes(200).subarray(0, 60),
    ];
    await writeAside(path, Uint8Array.from(log));
    assert.equal(await provenBatch(path, identity), 8);
    assert.equal(await provenBatch(path, 'another store'), 0);
  });
});

test('without logs nothing is proven', async () => {
  await inDirectory(async (path) => {
    assert.deepEqual(await keepLogsAside(path), []);
    assert.equal(await provenBatch(path, identity), 0);
    await forgetKeptLogs(path);
  });
});

test('logs stay aside until they are forgotten, also when the store removes its own', async () => {
  await inDirectory(async (path) => {
    await writeFile(join(path, '000004.log'), markBytes(4));
    await writeFile(join(path, 'CURRENT'), 'not a log');
    assert.deepEqual(await keepLogsAside(path), ['000004.log']);
    await rm(join(path, '000004.log'));
    await writeFile(join(path, '000007.log'), markBytes(2));
    assert.deepEqual(await keepLogsAside(path), ['000007.log']);
    assert.deepEqual(await keepLogsAside(path), []);
    assert.equal(await provenBatch(path, identity), 3);
    await dropKeptLogs(path, ['000004.log']);
    assert.equal(await provenBatch(path, identity), 1);
    assert.equal((await readFile(join(path, '000007.log'))).byteLength, markBytes(2).byteLength);
    await forgetKeptLogs(path);
    assert.deepEqual((await readdir(path)).sort(), ['000007.log', 'CURRENT']);
  });
});
