// Beyond the contract of log stores: the form of the file, damage wherever it is, and what a crash leaves at any moment.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../base/random.ts';
import type { SnapshotFacts } from '../ports/snapshot-store.ts';
import { type DiskFiles, diskFiles } from '../testing/simulation/disk-files.ts';
import { systemClock } from '../time/system-clock.ts';
import type { Files, StoredFile } from './files.ts';
import { memoryFiles } from './memory-files.ts';
import { fileSnapshots } from './snapshot-files.ts';
import { blockBytes, encodeFoot } from './snapshot-format.ts';

function sample(byteLength: number): Uint8Array {
  return new Uint8Array(byteLength).map((_, i) => (i * 7 + (i >> 8)) % 251);
}

async function stored(files: Files, bytes: Uint8Array): Promise<SnapshotFacts> {
  const writer = await fileSnapshots(files).create('s');
  await writer.append(bytes);
  return writer.finish();
}

async function fileBytesOf(files: Files, name: string): Promise<Uint8Array> {
  const file = await files.open(name, { create: false });
  const bytes = await file.read({ position: 0, byteLength: file.byteLength });
  await file.close();
  return bytes;
}

async function flip(files: Files, name: string, position: number): Promise<void> {
  const file = await files.open(name, { create: false });
  const [byte = 0] = await file.read({ position, byteLength: 1 });
  await file.write([Uint8Array.of(byte ^ 0x10)], position);
  await file.close();
}

async function readAll(files: Files, facts: SnapshotFacts): Promise<Uint8Array> {
  const reader = await fileSnapshots(files).open('s', facts);
  const bytes = new Uint8Array(facts.byteLength);
  for (let at = 0; at < bytes.byteLength; ) {
    const part = await reader.read(at, blockBytes);
    bytes.set(part, at);
    at += part.byteLength;
  }
  await reader.close();
  return bytes;
}

test('golden bytes: the file of a snapshot, version 1', async () => {
  const files = memoryFiles();
  await stored(files, Uint8Array.from(Buffer.from('state')));
  assert.deepEqual(await files.list(), [{ name: 's.snapshot', byteLength: 37 }]);
  assert.equal(
    Buffer.from(await fileBytesOf(files, 's.snapshot')).toString('hex'),
    // Version 1, blocks of 256 KiB.
    '01000000' +
      '00000400' +
      // Block 0: five bytes, their checksum.
      '05000000' +
      'fbd293a3' +
      '7374617465' +
      // Five bytes in all, their checksum, that of the foot.
      '0500000000000000' +
      'fbd293a3' +
      '0ceaaf29',
  );
});

test('a flipped bit is found wherever it is, when the place is read', async () => {
  const bytes = sample(blockBytes + 10);
  const files = memoryFiles();
  const facts = await stored(files, bytes);
  const { length } = await fileBytesOf(files, 's.snapshot');
  const second = 8 + 8 + blockBytes;
  // Head, head of a block, content, the same of the last block, foot.
  const places = [0, 1, 4, 8, 12, 16, 5_000, second - 1, second, second + 4, second + 8];
  for (const place of [...places, length - 16, length - 8, length - 4, length - 1]) {
    await flip(files, 's.snapshot', place);
    await assert.rejects(readAll(files, facts), { code: 'SNAPSHOT_CORRUPT' }, `byte ${place}`);
    await flip(files, 's.snapshot', place);
  }
  assert.equal(Buffer.compare(await readAll(files, facts), bytes), 0);
});

test('a damaged block says which one it is, and the others are read', async () => {
  const files = memoryFiles();
  const facts = await stored(files, sample(3 * blockBytes));
  await flip(files, 's.snapshot', 8 + 8 + blockBytes + 8 + 100);
  const reader = await fileSnapshots(files).open('s', facts);
  assert.equal((await reader.read(0, blockBytes)).byteLength, blockBytes);
  await assert.rejects(reader.read(blockBytes, blockBytes), (error: { details?: unknown }) => {
    assert.deepEqual(error.details, {
      snapshot: 's',
      block: 1,
      reason: (error.details as { reason: string }).reason,
    });
    return true;
  });
  assert.equal((await reader.read(2 * blockBytes, blockBytes)).byteLength, blockBytes);
});

test('two blocks that changed places are damage', async () => {
  const files = memoryFiles();
  const facts = await stored(files, sample(2 * blockBytes));
  const file = await files.open('s.snapshot', { create: false });
  const step = 8 + blockBytes;
  const first = await file.read({ position: 8, byteLength: step });
  const second = await file.read({ position: 8 + step, byteLength: step });
  await file.write([second, first], 8);
  await assert.rejects(readAll(files, facts), { code: 'SNAPSHOT_CORRUPT' });
});

test('a file that is cut off, or has more behind it, is refused', async () => {
  const files = memoryFiles();
  const facts = await stored(files, sample(1_000));
  const file = await files.open('s.snapshot', { create: false });
  await file.write([new Uint8Array(1)], file.byteLength);
  await assert.rejects(fileSnapshots(files).open('s', facts), { code: 'SNAPSHOT_CORRUPT' });
  const shorter = { byteLength: 999, checksum: facts.checksum };
  await file.write([encodeFoot(shorter)], 8 + 8 + 999);
  await assert.rejects(fileSnapshots(files).open('s', shorter), { code: 'SNAPSHOT_CORRUPT' });
});

test('an unfinished snapshot is gone on with up to the first block that is not whole', async () => {
  const bytes = sample(4 * blockBytes);
  for (const [damagedBlock, wholeBytes] of [
    [0, 0],
    [2, 2 * blockBytes],
  ] as const) {
    const files = memoryFiles();
    const writer = await fileSnapshots(files).create('s');
    await writer.append(bytes.subarray(0, 3 * blockBytes + 5));
    await writer.suspend();
    await flip(files, 's.draft', 8 + damagedBlock * (8 + blockBytes) + 50);
    const resumed = await fileSnapshots(files).resume('s');
    assert.equal(resumed?.byteLength, wholeBytes);
    await resumed?.append(bytes.subarray(wholeBytes));
    const facts = await resumed?.finish();
    assert.ok(facts !== undefined);
    assert.equal(Buffer.compare(await readAll(files, facts), bytes), 0);
  }
  const files = memoryFiles();
  const writer = await fileSnapshots(files).create('s');
  await writer.suspend();
  await flip(files, 's.draft', 0);
  assert.equal(await fileSnapshots(files).resume('s'), undefined, 'of another version');
});

/** Files whose process dies at the operation with that number: neither it nor anything after it ends. */
function mortal(
  files: Files,
  diesAt: number,
): { readonly files: Files; readonly died: Promise<void> } {
  const { promise: died, resolve } = Promise.withResolvers<void>();
  let count = 0;
  const alive = async <T>(operation: () => Promise<T>): Promise<T> => {
    if (count++ >= diesAt) {
      resolve();
      return new Promise<never>(() => {});
    }
    return operation();
  };
  const fileOf = (file: StoredFile): StoredFile => ({
    byteLength: file.byteLength,
    write: (parts, position) => alive(() => file.write(parts, position)),
    sync: () => alive(() => file.sync()),
    read: (range) => alive(() => file.read(range)),
    close: () => alive(() => file.close()),
  });
  return {
    died,
    files: {
      claim: () => files.claim(),
      release: () => files.release(),
      list: () => alive(() => files.list()),
      open: (name, options) => alive(async () => fileOf(await files.open(name, options))),
      rename: (from, to) => alive(() => files.rename(from, to)),
      remove: (name) => alive(() => files.remove(name)),
      syncNames: () => alive(() => files.syncNames()),
    },
  };
}

function newDisk(seed: number): DiskFiles {
  return diskFiles({
    random: seededRandom(seed),
    state: () => 'good',
    syncMsMax: () => 0,
    unsynced: 'chance',
  });
}

test('after a power loss at any moment a snapshot is whole, or none and gone on with', async () => {
  const bytes = sample(2 * blockBytes + 1_000);
  let finishedCount = 0;
  let resumedCount = 0;
  for (let seed = 1; seed <= 20; seed++) {
    for (let diesAt = 0; ; diesAt++) {
      const disk = newDisk(seed * 1_000 + diesAt);
      const { files, died } = mortal(disk.attach(systemClock), diesAt);
      const facts = await Promise.race([stored(files, bytes), died]);
      disk.losePower();
      const after = disk.attach(systemClock);
      const listed = await fileSnapshots(after).list();
      const isFinished = listed.some((snapshot) => snapshot.isFinished);
      // What was promised is there.
      if (facts !== undefined) assert.ok(isFinished);
      if (isFinished) {
        finishedCount += 1;
        const whole = { byteLength: bytes.byteLength, checksum: 0x91f3_f6eb };
        assert.equal(Buffer.compare(await readAll(after, whole), bytes), 0);
      } else {
        const writer = await fileSnapshots(after).resume('s');
        if (writer !== undefined && writer.byteLength > 0) resumedCount += 1;
        await writer?.append(bytes.subarray(writer.byteLength));
        const resumed = await writer?.finish();
        if (resumed !== undefined)
          assert.equal(Buffer.compare(await readAll(after, resumed), bytes), 0);
      }
      if (facts !== undefined) break;
    }
  }
  assert.ok(finishedCount > 20, `${finishedCount} times it was whole although nobody was told`);
  assert.ok(resumedCount > 10, `${resumedCount} times a part of it was there`);
});

test('a snapshot is synced as it grows, so that no sync has much to do', async () => {
  const inner = memoryFiles();
  let unsyncedBytes = 0;
  let unsyncedBytesMax = 0;
  const files: Files = {
    ...inner,
    async open(name, options) {
      const file = await inner.open(name, options);
      return {
        ...file,
        async write(parts, position) {
          for (const { byteLength } of parts) unsyncedBytes += byteLength;
          unsyncedBytesMax = Math.max(unsyncedBytesMax, unsyncedBytes);
          await file.write(parts, position);
        },
        async sync() {
          unsyncedBytes = 0;
        },
      };
    },
  };
  const writer = await fileSnapshots(files).create('s');
  const piece = sample(1_000_000);
  for (let i = 0; i < 20; i++) await writer.append(piece);
  await writer.finish();
  assert.ok(unsyncedBytesMax < 8_388_608 + 2 * blockBytes, `${unsyncedBytesMax} bytes`);
});

test('a full disk is DISK_FULL, a failing one WAL_FAILED, and what was begun can be discarded', async () => {
  let state: 'good' | 'full' | 'failing' = 'good';
  const disk = diskFiles({
    random: seededRandom(1),
    state: () => state,
    syncMsMax: () => 0,
    unsynced: 'lost',
  });
  const snapshots = fileSnapshots(disk.attach(systemClock));
  for (const [now, code] of [
    ['full', 'DISK_FULL'],
    ['failing', 'WAL_FAILED'],
  ] as const) {
    const writer = await snapshots.create('s');
    state = now;
    await assert.rejects(
      async () => {
        await writer.append(sample(blockBytes));
        await writer.finish();
      },
      { code },
    );
    await writer.discard();
    state = 'good';
    assert.deepEqual(await snapshots.list(), []);
  }
});

test('a name that not every file system takes is a broken rule', async () => {
  const snapshots = fileSnapshots(memoryFiles());
  for (const name of ['', 'A', '../x', 'x'.repeat(129)]) {
    await assert.rejects(snapshots.create(name), /broken rule/, name);
  }
});

test('an unfinished snapshot that cannot be read is let go of', async () => {
  const inner = memoryFiles();
  let openCount = 0;
  let doReadsFail = false;
  const files: Files = {
    ...inner,
    async open(name, options) {
      const file = await inner.open(name, options);
      openCount += 1;
      return {
        ...file,
        async read(range) {
          if (doReadsFail) throw Object.assign(new Error('EIO'), { code: 'EIO' });
          return file.read(range);
        },
        async close() {
          openCount -= 1;
          await file.close();
        },
      };
    },
  };
  const store = fileSnapshots(files);
  const begun = await store.create('s');
  await begun.append(sample(blockBytes));
  await begun.suspend();
  doReadsFail = true;
  await assert.rejects(store.resume('s'), { code: 'WAL_FAILED' });
  assert.equal(openCount, 0);
});

test('a snapshot may be begun anew while a large one of its name is still being removed', async () => {
  const inner = memoryFiles();
  const bytes = sample(10);
  await stored(inner, bytes);
  let letGo = (): void => {};
  const files: Files = {
    ...inner,
    async remove(name) {
      await inner.remove(name);
      // The name is gone at once; its bytes take a while.
      if (name === 's.snapshot') await new Promise<void>((resolve) => (letGo = resolve));
    },
  };
  const store = fileSnapshots(files);
  const removing = store.remove('s');
  const writer = await store.create('s');
  await writer.append(bytes);
  letGo();
  await removing;
  const facts = await writer.finish();
  assert.equal(Buffer.compare(await readAll(inner, facts), bytes), 0);
});
