// Which directories a RocksDB store takes, and how it makes its own.

import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isKommanderError } from '../base/errors.ts';
import { rocksdbWal } from './rocksdb.ts';

async function inDirectory(body: (path: string) => Promise<void>): Promise<void> {
  const path = await mkdtemp(join(tmpdir(), 'kommander-wal-'));
  try {
    await body(path);
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

async function rejectsOpen(path: string, code: 'WAL_VERSION'): Promise<void> {
  const wal = rocksdbWal({ path });
  let thrown: unknown;
  try {
    await wal.open();
  } catch (error) {
    thrown = error;
  }
  await wal.close();
  assert.ok(isKommanderError(thrown, code), `${code}: ${String(thrown)}`);
}

test('the directory is made with its parents, for its owner only', async () => {
  await inDirectory(async (path) => {
    const nested = join(path, 'a', 'b');
    const wal = rocksdbWal({ path: nested });
    await wal.open();
    await wal.close();
    assert.equal((await stat(nested)).mode & 0o777, 0o700);
    assert.equal((await stat(join(path, 'a'))).mode & 0o777, 0o700);
  });
});

test('a directory of something else is refused and left alone', async () => {
  await inDirectory(async (path) => {
    await writeFile(join(path, 'letter.txt'), 'dear');
    await rejectsOpen(path, 'WAL_VERSION');
    assert.deepEqual(await readdir(path), ['letter.txt']);
  });
});

test('a store of another engine or of a newer version is refused', async () => {
  await inDirectory(async (path) => {
    const wal = rocksdbWal({ path });
    await wal.open();
    await wal.write({
      writes: [],
      meta: new Map([['node-id', Uint8Array.of(1)]]),
      sync: true,
    });
    await wal.close();
    const mark = join(path, 'KOMMANDER');
    const text = await readFile(mark, 'utf8');
    assert.equal(text, 'kommander log store\nengine rocksdb\nversion 1\n');
    for (const other of [text.replace('rocksdb', 'segment'), text.replace('1', '2')]) {
      await writeFile(mark, other);
      await rejectsOpen(path, 'WAL_VERSION');
    }
    await writeFile(mark, text);
    assert.equal((await wal.open()).meta.size, 1);
    await wal.close();
  });
});

test('a directory whose making was cut short is made again', async () => {
  await inDirectory(async (path) => {
    await writeFile(join(path, 'KOMMANDER.draft'), 'komm');
    const wal = rocksdbWal({ path });
    assert.deepEqual((await wal.open()).partitions, []);
    await wal.close();
  });
});

test('a path that cannot be a directory is a typed error', async () => {
  await inDirectory(async (path) => {
    await writeFile(join(path, 'file'), '');
    const wal = rocksdbWal({ path: join(path, 'file') });
    await assert.rejects(wal.open(), (error) => isKommanderError(error, 'WAL_FAILED'));
    await wal.close();
  });
});
