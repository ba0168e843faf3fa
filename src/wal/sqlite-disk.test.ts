// The SQLite store on disks that are full or fail, and how much of a disk its journal takes.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { batchOf, entriesFrom, inDirectory, opened } from '../../test/support/sqlite-files.ts';
import { isKommanderError } from '../base/errors.ts';
import type { WalBatch } from '../ports/wal.ts';
import { EntryKind } from '../raft/types.ts';
import { factsOf, laidOut, numbered } from '../testing/wal-model.ts';
import { sqliteWal } from './sqlite.ts';
import {
  closeDatabase,
  databaseName,
  journalBytesMax,
  journalName,
  openDatabase,
} from './sqlite-store.ts';

test('the journal does not grow with the log', async () => {
  await inDirectory(async (path) => {
    const wal = await opened(path);
    const journal = join(path, journalName);
    const payload = { kind: EntryKind.normal, bytes: new Uint8Array(1_000_000).fill(3) };
    let longest = 0;
    for (let index = 1; index <= 48; index++) {
      const entries = numbered(laidOut([payload]), { index, term: 1 });
      await wal.write(batchOf({ entries }));
      longest = Math.max(longest, statSync(journal).size);
    }
    const read = await wal.read({ partitionId: 1, fromIndex: 48, endIndex: 49, bytesMax: 1 });
    assert.equal(read.length, 1);
    await wal.close();
    assert.ok(longest > journalBytesMax, 'the bound is reached');
    assert.ok(longest < journalBytesMax + 1_100_000, `longer by one batch at most, was ${longest}`);
    assert.deepEqual(await readdir(path), ['KOMMANDER', 'LOCK', databaseName]);
  });
});

test('a sync reaches what the drive keeps, also where that takes another system call', async () => {
  await inDirectory(async (path) => {
    const store = await openDatabase(path);
    const settingOf = (name: string): unknown =>
      Object.values(store.database.prepare(`PRAGMA ${name}`).get() ?? {})[0];
    assert.deepEqual([settingOf('synchronous'), settingOf('fullfsync')], [2, 1]);
    closeDatabase(store);
  });
});

/** A file system of so many bytes for the time of a test; undefined where none can be mounted. */
function smallDisk(t: TestContext, path: string, kibibytes: number): boolean {
  const { status, stderr } = spawnSync(
    'mount',
    ['-t', 'tmpfs', '-o', `size=${kibibytes}k`, 'tmpfs', path],
    { encoding: 'utf8' },
  );
  if (status === 0) return true;
  t.skip(`no file system can be mounted here: ${stderr}`);
  return false;
}

test('a batch that the disk has no room for is refused whole, and can be handed over again', async (t) => {
  await inDirectory(async (path) => {
    if (!smallDisk(t, path, 2_048)) return;
    try {
      const store = join(path, 'store');
      const wal = await opened(store);
      await wal.write(batchOf({ entries: entriesFrom(1, 1, 5) }, true));
      await writeFile(join(path, 'other'), new Uint8Array(1_000_000));
      const payload = { kind: EntryKind.normal, bytes: new Uint8Array(1_500_000).fill(9) };
      // Removes, cuts and adds, in two partitions: all of it must be taken back.
      const large = numbered(laidOut([payload]), { index: 4, term: 2 });
      const batch: WalBatch = {
        ...batchOf({}, true),
        writes: [
          ...batchOf({ entries: large }).writes,
          ...batchOf({ partitionId: 2, entries: entriesFrom(1, 2, 1) }).writes,
        ],
      };
      const range = { partitionId: 1, fromIndex: 1, endIndex: 6, bytesMax: 1_000 };
      for (let attempt = 0; attempt < 3; attempt++) {
        const writing = wal.write(batch);
        const isFull = (error: unknown): boolean => isKommanderError(error, 'DISK_FULL');
        await assert.rejects(writing, isFull);
        const read = await wal.read(range);
        assert.deepEqual(read.map(factsOf), entriesFrom(1, 1, 5).map(factsOf));
      }
      const appended = batchOf({ entries: numbered(laidOut([payload]), { index: 6, term: 1 }) });
      await assert.rejects(wal.write(appended), (error) => isKommanderError(error, 'DISK_FULL'));
      assert.equal(wal.stats().writeCount, 1);
      // What is small still fits.
      await wal.write(batchOf({ entries: entriesFrom(6, 1, 1) }, true));
      const reading = (async () => {
        const writing = wal.write(batch);
        const read = wal.read({ ...range, endIndex: 4 });
        await assert.rejects(writing, (error) => isKommanderError(error, 'DISK_FULL'));
        return read;
      })();
      assert.equal((await reading).length, 3, 'a read among refused writes sees what is stored');
      await rm(join(path, 'other'));
      await smallDiskGrows(path);
      await wal.write(batch);
      await wal.close();
      const { partitions } = await wal.open();
      assert.deepEqual(
        partitions.map(({ partitionId, lastIndex }) => [partitionId, lastIndex]),
        [
          [1, 4],
          [2, 1],
        ],
      );
      await wal.close();
    } finally {
      spawnSync('umount', ['--lazy', path]);
    }
  });
});

test('a journal that cannot move to the tables makes batches wait for room, and does not grow', async (t) => {
  await inDirectory(async (path) => {
    if (!smallDisk(t, path, 24_576)) return;
    try {
      const store = join(path, 'store');
      const wal = await opened(store);
      const payload = { kind: EntryKind.normal, bytes: new Uint8Array(1_000_000).fill(3) };
      const write = (index: number): Promise<void> =>
        wal.write(batchOf({ entries: numbered(laidOut([payload]), { index, term: 1 }) }, true));
      let lastIndex = 0;
      const isFull = (error: unknown): boolean => isKommanderError(error, 'DISK_FULL');
      await assert.rejects(async () => {
        for (;;) {
          await write(lastIndex + 1);
          lastIndex += 1;
        }
      }, isFull);
      assert.ok(lastIndex >= 16, 'the journal was long enough to move');
      for (let attempt = 0; attempt < 3; attempt++)
        await assert.rejects(write(lastIndex + 1), isFull);
      assert.ok(statSync(join(store, journalName)).size < journalBytesMax + 1_100_000);
      await smallDiskGrows(path);
      await write(lastIndex + 1);
      await wal.close();
      assert.equal((await wal.open()).partitions[0]?.lastIndex, lastIndex + 1);
      await wal.close();
    } finally {
      spawnSync('umount', ['--lazy', path]);
    }
  });
});

async function smallDiskGrows(path: string): Promise<void> {
  const { status } = spawnSync('mount', ['-o', 'remount,size=64m', path]);
  assert.equal(status, 0);
}

const enginePath = JSON.stringify(fileURLToPath(new URL('sqlite.ts', import.meta.url)));
const runPath = JSON.stringify(fileURLToPath(new URL('../ports/run.ts', import.meta.url)));

/** A program, given a directory, that opens a store and has `write`, which says how a batch with one entry ended. */
function programOf(body: string): string {
  return `
    import { sqliteWal } from ${enginePath};
    import { layOutRun } from ${runPath};
    const wal = sqliteWal({ path: process.argv[1] });
    await wal.open();
    const outcome = (promise) => promise.then(() => 'done', (error) => error.code);
    const write = (index, byteLength, sync = true) => outcome(wal.write({
      writes: [{
        partitionId: 1, hardState: undefined, base: undefined, resetLog: false, compactThroughIndex: undefined,
        entries: layOutRun([{ kind: 0, byteLength, write() {} }]).map((entry) => ({ ...entry, index, term: 1 })),
      }],
      meta: new Map(),
      sync,
    }));
    const read = () => outcome(wal.read({ partitionId: 1, fromIndex: 1, endIndex: 2, bytesMax: 1 }));
    ${body}
  `;
}

test('after a failed write the store is failed for good: nothing is tried again', async () => {
  await inDirectory(async (path) => {
    const program = programOf(`
      console.log(await write(1, 10), await write(2, 2_000_000), await write(2, 10), await read());
      console.log(wal.stats().syncCount);
      await wal.close();
      console.log(await outcome(wal.open()));
    `);
    // Writing beyond the limit of a process is an error that says nothing of room: EFBIG. 1 MiB in units of 512 bytes.
    const script = 'ulimit -f 2048 && exec "$0" --input-type=module -e "$1" "$2"';
    const { status, stdout, stderr } = spawnSync(
      'sh',
      ['-c', script, process.execPath, program, path],
      { encoding: 'utf8' },
    );
    assert.equal(status, 0, stderr);
    assert.equal(stdout, 'done WAL_FAILED WAL_FAILED WAL_FAILED\n1\nWAL_FAILED\n');
    const wal = sqliteWal({ path });
    assert.equal((await wal.open()).partitions[0]?.lastIndex, 1);
    await wal.close();
  });
});

/** Runs a program below `strace`; undefined when the test is skipped. */
function traced(
  t: TestContext,
  program: string,
  path: string,
  ...flags: readonly string[]
): { readonly stdout: string; readonly syncCounts: readonly number[] } | undefined {
  const output = `${path}.calls`;
  const { error, stdout } = spawnSync(
    'strace',
    ['-f', '-e', 'trace=fsync,fdatasync', ...flags, '-o', output, process.execPath].concat([
      '--input-type=module',
      '-e',
      program,
      path,
    ]),
    { encoding: 'utf8' },
  );
  if (error !== undefined) {
    t.skip(`strace does not run: ${error.message}`);
    return undefined;
  }
  const counts = new Map<string, number>();
  for (const [, thread = ''] of readFileSync(output, 'utf8').matchAll(/^(\d+) +fd?a?t?a?sync\(/gm))
    counts.set(thread, (counts.get(thread) ?? 0) + 1);
  // The thread of the store syncs more than the pool, which makes the directory.
  return { stdout, syncCounts: [...counts.values()].sort((a, b) => b - a) };
}

test('a synced batch is one sync of the disk, and any other is none', async (t) => {
  await inDirectory(async (path) => {
    const countOf = (name: string, body: string): number | undefined => {
      const result = traced(
        t,
        programOf(`${body} process.kill(process.pid, 'SIGKILL');`),
        join(path, name),
      );
      return result?.syncCounts.reduce((sum, count) => sum + count, 0);
    };
    const none = countOf('none', '');
    if (none === undefined) return;
    const synced = countOf('synced', 'for (let i = 1; i <= 30; i++) await write(i, 100);');
    const others = countOf(
      'others',
      'for (let i = 1; i <= 30; i++) await write(i, 100, false); await wal.write({ writes: [], meta: new Map(), sync: true });',
    );
    assert.deepEqual({ synced, others }, { synced: none + 30, others: none + 1 });
  });
});

test('a sync that fails once is not believed when the next one succeeds', async (t) => {
  await inDirectory(async (path) => {
    const end = "process.kill(process.pid, 'SIGKILL');";
    const opening = traced(t, programOf(end), join(path, 'opening'));
    if (opening === undefined) return;
    const [openingSyncs = 0] = opening.syncCounts;
    const body =
      'for (const i of [1, 2, 3, 3]) console.log(await write(i, 100)); console.log(await read());';
    const fault = `inject=fsync:error=EIO:when=${openingSyncs + 3}`;
    const failing = traced(t, programOf(body + end), join(path, 'failing'), '-e', fault);
    assert.equal(failing?.stdout, 'done\ndone\nWAL_FAILED\nWAL_FAILED\nWAL_FAILED\n');
  });
});

test('when a sync behind an answer fails, the next batch is not acknowledged, and no sync is tried again', async (t) => {
  await inDirectory(async (path) => {
    const end = "process.kill(process.pid, 'SIGKILL');";
    const opening = traced(t, programOf(end), join(path, 'opening'));
    if (opening === undefined) return;
    const [openingSyncs = 0] = opening.syncCounts;
    // The batch that makes the journal too long is answered before the journal moves, and the next one is sent at once.
    const body = `
      import { statSync } from 'node:fs';
      const journal = process.argv[1] + '/${journalName}';
      let index = 1;
      while (statSync(journal).size <= ${journalBytesMax}) await write(index++, 1_000_000, false);
      console.log(await write(index, 100), await write(index, 100), await read());
    `;
    const fault = `inject=fsync:error=EIO:when=${openingSyncs + 1}`;
    const failing = traced(t, programOf(body + end), join(path, 'failing'), '-e', fault);
    assert.equal(failing?.stdout, 'WAL_FAILED WAL_FAILED WAL_FAILED\n');
    assert.equal(failing?.syncCounts[0], openingSyncs + 1);
  });
});
