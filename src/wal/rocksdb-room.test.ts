// The RocksDB store when its disk has no room: what is refused before anything happens, and what becomes of a store that
// met the end of its disk in a write, which RocksDB answers by writing nothing any more.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { KommanderError } from '../base/errors.ts';
import type { Wal, WalBatch } from '../ports/wal.ts';
import { EntryKind } from '../raft/types.ts';
import { laidOut, membersOf, numbered } from '../testing/wal-model.ts';
import { rocksdbWal } from './rocksdb.ts';
import { fileDirectory } from './rocksdb-directory.ts';
import { batchMarkKey } from './rocksdb-keys.ts';
import {
  importRocksDb,
  type RocksDbHandle,
  type RocksDbLibrary,
  type RocksDbOperation,
} from './rocksdb-library.ts';

const mebibyte = 1_048_576;

/** A store below which the room and the library's answers are up to the test. */
interface Room {
  freeBytes: number;
  logBytes: number;
  /** What the next write of the library does instead of writing. */
  instead:
    | ((handle: RocksDbHandle, operations: readonly RocksDbOperation[]) => Promise<void>)
    | undefined;
  /** What the next open of the library throws. */
  openError: KommanderError | undefined;
  /** What happens to the store before its next open returns. */
  afterOpen: ((handle: RocksDbHandle) => Promise<void>) | undefined;
  openCount: number;
  readonly wal: (reserveBytes?: number) => Wal;
}

async function inRoom(body: (room: Room) => Promise<void>): Promise<void> {
  const path = await mkdtemp(join(tmpdir(), 'kommander-room-'));
  const real = await importRocksDb();
  const library: RocksDbLibrary = {
    async open(directory) {
      const { openError } = room;
      room.openError = undefined;
      if (openError !== undefined) throw openError;
      room.openCount += 1;
      const handle = await real.open(directory);
      const { afterOpen } = room;
      room.afterOpen = undefined;
      await afterOpen?.(handle);
      return {
        ...handle,
        async write(operations, options) {
          const { instead } = room;
          room.instead = undefined;
          if (instead !== undefined) await instead(handle, operations);
          else await handle.write(operations, options);
        },
      };
    },
  };
  const room: Room = {
    freeBytes: 1_000 * mebibyte,
    logBytes: 0,
    instead: undefined,
    openError: undefined,
    afterOpen: undefined,
    openCount: 0,
    wal: (reserveBytes) =>
      rocksdbWal({
        path,
        library,
        directory: {
          ...fileDirectory(path),
          freeBytes: () => room.freeBytes,
          logBytes: async () => room.logBytes,
        },
        ...(reserveBytes === undefined ? {} : { reserveBytes }),
      }),
  };
  try {
    await body(room);
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

function diskFull(): KommanderError {
  return new KommanderError('no space left', { code: 'DISK_FULL' });
}

function entries(index: number, count: number, bytes = 10): WalBatch {
  const payloads = Array.from({ length: count }, () => ({
    kind: EntryKind.normal,
    bytes: new Uint8Array(bytes),
  }));
  return batchOf({ entries: numbered(laidOut(payloads), { index, term: 1 }) });
}

function batchOf(parts: Partial<WalBatch['writes'][number]>): WalBatch {
  return {
    writes: [
      {
        partitionId: 1,
        hardState: undefined,
        base: undefined,
        resetLog: false,
        entries: [],
        compactThroughIndex: undefined,
        ...parts,
      },
    ],
    meta: new Map(),
    sync: true,
  };
}

const all = { partitionId: 1, fromIndex: 1, bytesMax: Number.POSITIVE_INFINITY } as const;

test('a batch that would not leave the reserve free is refused, and nothing happens', async () => {
  await inRoom(async (room) => {
    const wal = room.wal();
    await wal.open();
    await wal.write(entries(1, 5));
    const data = new Uint8Array(mebibyte);
    const base = { index: 3, term: 1, confState: membersOf([1]), data };
    for (const [batch, needed] of [
      [entries(6, 2, mebibyte), 2],
      [batchOf({ base }), 1],
      [{ ...entries(6, 0), meta: new Map([['fact', data]]) }, 1],
    ] as const) {
      room.freeBytes = (128 + needed) * mebibyte - 1;
      const before = wal.stats();
      await assert.rejects(wal.write(batch), { code: 'DISK_FULL' });
      assert.deepEqual(wal.stats(), before);
      room.freeBytes = (128 + needed + 1) * mebibyte;
      await wal.write(batch);
    }
    assert.equal((await wal.read({ ...all, endIndex: 8 })).length, 7);
    assert.equal(room.openCount, 1);
    await wal.close();
  });
});

test('a snapshot that would not leave the reserve free is refused, and batches go on', async () => {
  await inRoom(async (room) => {
    const wal = room.wal();
    await wal.open();
    const writer = await wal.snapshots.create('s');
    await writer.append(new Uint8Array(mebibyte));
    room.freeBytes = 128 * mebibyte + 200_000;
    await assert.rejects(writer.append(new Uint8Array(mebibyte)), { code: 'DISK_FULL' });
    await wal.write(entries(1, 5));
    await writer.discard();
    assert.deepEqual(await wal.snapshots.list(), []);
    await wal.close();
  });
});

test('the reserve is an option, and what is no number of bytes is refused', async () => {
  await inRoom(async (room) => {
    room.freeBytes = 100;
    const wal = room.wal(0);
    await wal.open();
    await wal.write(entries(1, 5));
    await wal.close();
    for (const reserveBytes of [-1, 1.5, Number.NaN]) {
      assert.throws(() => room.wal(reserveBytes), { code: 'INVALID_OPTION' });
    }
  });
});

test('a store that met the end of its disk is opened again once there is room, and has what was acknowledged', async () => {
  await inRoom(async (room) => {
    const wal = room.wal(0);
    await wal.open();
    await wal.write(entries(1, 5));
    room.instead = async () => {
      throw diskFull();
    };
    // A batch that cuts a run in two and ends beyond: nothing of it may be seen afterwards.
    await assert.rejects(wal.write(entries(3, 20)), { code: 'DISK_FULL' });
    room.logBytes = mebibyte;
    room.freeBytes = mebibyte;
    await assert.rejects(wal.write(entries(3, 20)), { code: 'DISK_FULL' });
    assert.equal(room.openCount, 1, 'it stays open for reads until there is room for its logs');
    assert.equal((await wal.read({ ...all, endIndex: 6 })).length, 5);
    await assert.rejects(wal.read({ ...all, endIndex: 7 }), { code: 'INVALID_ARGUMENT' });
    room.freeBytes = 2 * mebibyte;
    // Another batch than the one that was refused.
    await wal.write(entries(6, 2));
    assert.equal(room.openCount, 2);
    assert.equal((await wal.read({ ...all, endIndex: 8 })).length, 7);
    await wal.close();
    assert.equal((await wal.open()).partitions[0]?.lastIndex, 7);
    await wal.close();
  });
});

test('a store that cannot be opened again yet lets reads wait, and is tried again with the next write', async () => {
  await inRoom(async (room) => {
    const wal = room.wal(0);
    await wal.open();
    await wal.write(entries(1, 5));
    room.instead = async () => {
      throw diskFull();
    };
    await assert.rejects(wal.write(entries(6, 1)), { code: 'DISK_FULL' });
    for (let attempt = 0; attempt < 2; attempt++) {
      room.openError = diskFull();
      await assert.rejects(wal.write(entries(6, 1)), { code: 'DISK_FULL' });
    }
    const reading = wal.read({ ...all, endIndex: 6 });
    await wal.write(entries(6, 1));
    assert.equal((await reading).length, 5);
    await wal.close();
  });
});

test('a store that has lost its place is closed without it, and its readers are told', async () => {
  await inRoom(async (room) => {
    const wal = room.wal(0);
    await wal.open();
    await wal.write(entries(1, 5));
    room.instead = async () => {
      throw diskFull();
    };
    await assert.rejects(wal.write(entries(6, 1)), { code: 'DISK_FULL' });
    room.openError = diskFull();
    await assert.rejects(wal.write(entries(6, 1)), { code: 'DISK_FULL' });
    const reading = assert.rejects(wal.read({ ...all, endIndex: 6 }), { code: 'NODE_CLOSED' });
    await wal.close();
    await reading;
    await assert.rejects(wal.write(entries(6, 1)), { code: 'NODE_CLOSED' });
    assert.equal((await wal.open()).partitions[0]?.lastIndex, 5);
    await wal.write(entries(6, 1));
    await wal.close();
  });
});

test('a store in which a refused batch turns up all the same is failed for good, whenever it does', async () => {
  for (const isSeenAtOnce of [true, false]) {
    await inRoom(async (room) => {
      const wal = room.wal(0);
      await wal.open();
      await wal.write(entries(1, 5));
      room.instead = async (handle, operations) => {
        if (isSeenAtOnce) await handle.write(operations, { sync: true });
        else room.afterOpen = (opened) => opened.write(operations, { sync: true });
        throw diskFull();
      };
      const outcome = { code: isSeenAtOnce ? 'WAL_FAILED' : 'DISK_FULL' };
      await assert.rejects(wal.write(entries(6, 1)), outcome);
      await assert.rejects(wal.write(entries(6, 1)), { code: 'WAL_FAILED' });
      await wal.close();
    });
  }
});

test('a store that has lost what was synced when it is opened again is failed for good', async () => {
  await inRoom(async (room) => {
    const wal = room.wal(0);
    await wal.open();
    let mark: RocksDbOperation | undefined;
    room.instead = async (handle, operations) => {
      mark = operations.find(({ key }) => Buffer.from(key).equals(batchMarkKey));
      await handle.write(operations, { sync: true });
    };
    await wal.write(entries(1, 1));
    await wal.write(entries(2, 1));
    room.instead = async () => {
      throw diskFull();
    };
    await assert.rejects(wal.write(entries(3, 1)), { code: 'DISK_FULL' });
    room.afterOpen = (opened) => opened.write(mark === undefined ? [] : [mark], { sync: true });
    await assert.rejects(wal.write(entries(3, 1)), { code: 'WAL_FAILED' });
    await wal.close();
  });
});

test('a store that comes back with another end than it had tells the readers that wait, lets go and can be closed', async () => {
  await inRoom(async (room) => {
    const wal = room.wal(0);
    await wal.open();
    let mark: RocksDbOperation | undefined;
    room.instead = async (handle, operations) => {
      mark = operations.find(({ key }) => Buffer.from(key).equals(batchMarkKey));
      await handle.write(operations, { sync: true });
    };
    await wal.write(entries(1, 1));
    await wal.write({ ...entries(2, 1), sync: false });
    room.instead = async () => {
      throw diskFull();
    };
    await assert.rejects(wal.write(entries(3, 1)), { code: 'DISK_FULL' });
    let reading: Promise<unknown> = Promise.resolve();
    room.afterOpen = async (opened) => {
      reading = assert.rejects(wal.read({ ...all, endIndex: 3 }), { code: 'WAL_FAILED' });
      // The batch without a sync is gone: whoever wrote it believes that it is in the log.
      await opened.write(mark === undefined ? [] : [mark], { sync: true });
    };
    await assert.rejects(wal.write(entries(3, 1)), { code: 'WAL_FAILED' });
    await reading;
    await wal.close();
    const next = room.wal(0);
    await next.open();
    await next.close();
  });
});

test('a failure while the store is opened again is final', async () => {
  await inRoom(async (room) => {
    const wal = room.wal(0);
    await wal.open();
    await wal.write(entries(1, 5));
    room.instead = async () => {
      throw diskFull();
    };
    await assert.rejects(wal.write(entries(6, 1)), { code: 'DISK_FULL' });
    room.openError = new KommanderError('a damaged record', { code: 'WAL_CORRUPT' });
    await assert.rejects(wal.write(entries(6, 1)), { code: 'WAL_FAILED' });
    await assert.rejects(wal.write(entries(6, 1)), { code: 'WAL_FAILED' });
    await assert.rejects(wal.read({ ...all, endIndex: 6 }), { code: 'WAL_FAILED' });
    await wal.close();
  });
});

test('a file system that cannot say how much room there is fails the store', async () => {
  await inRoom(async (room) => {
    const wal = room.wal();
    await wal.open();
    Object.defineProperty(room, 'freeBytes', {
      get() {
        throw new Error('no such device');
      },
    });
    await assert.rejects(wal.write(entries(1, 1)), { code: 'WAL_FAILED' });
    await wal.close();
  });
});

/** A library whose writes fail with what RocksDB says. */
function failingWith(message: string): Promise<RocksDbLibrary> {
  class RocksLevel {
    readonly identity = 'none';
    async open(): Promise<void> {}
    async close(): Promise<void> {}
    batch() {
      const batch = {
        put: () => batch,
        del: () => batch,
        async write(): Promise<void> {
          throw new Error(message);
        },
        async close(): Promise<void> {},
      };
      return batch;
    }
    iterator() {
      return { nextv: async () => [], async close() {} };
    }
  }
  return importRocksDb(async () => ({ RocksLevel }));
}

test('only what could not be written for want of room is a full disk: a sync that fails says nothing of what was', async () => {
  for (const [message, isFull] of [
    ['IO error: No space left on device: While appending to file: /sync/4.log: No space …', true],
    ['IO error: Disk quota exceeded: While appending to file: /data/4.log', true],
    ['IO error: No space left on device: While fdatasync: /data/4.log: No space left …', false],
    ['IO error: No space left on device: While fsync: /data/9.sst', false],
    ['IO error: Input/output error: While appending to file: /data/4.log', false],
  ] as const) {
    const library = await failingWith(message);
    const handle = await library.open('/data');
    const writing = handle.write([], { sync: true });
    const error: unknown = await writing.then(
      () => undefined,
      (failure: unknown) => failure,
    );
    assert.equal(error instanceof KommanderError && error.code === 'DISK_FULL', isFull, message);
  }
});
