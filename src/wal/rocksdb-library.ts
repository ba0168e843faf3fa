// The few verbs that the RocksDB engine needs, and `@nxtedition/rocksdb` behind them. The package is optional: it is
// loaded when a store is opened, not when this file is. How RocksDB is tuned for a log is decided here.

import { setImmediate } from 'node:timers/promises';
import { KommanderError } from '../base/errors.ts';
import type { RocksBinding, RocksIterator, RocksLevel } from './rocksdb-binding.ts';

/** A library that can open RocksDB stores. Tests put failing ones in its place. */
export interface RocksDbLibrary {
  /**
   * Opens the store in directory `path`, which exists; an empty one becomes a new store.
   *
   * @throws WAL_LOCKED, WAL_CORRUPT, WAL_FAILED; DISK_FULL nothing is lost, and it can be opened once there is room
   */
  open(path: string): Promise<RocksDbHandle>;
}

export interface RocksDbHandle {
  /** A name that no other store has, drawn when the store was made. */
  readonly identity: string;
  /**
   * Atomic. When `sync` is set it resolves once the operations survive a power loss; else it syncs nothing.
   *
   * @throws DISK_FULL nothing was written; the handle goes on reading, but writes nothing any more, however much room
   * there is: the store is to be closed and opened again
   */
  write(
    operations: readonly RocksDbOperation[],
    options: { readonly sync: boolean },
  ): Promise<void>;
  /** Reads rows in key order, from the store as it is at the time of the call. */
  scan(range: RocksDbRange): RocksDbScan;
  close(): Promise<void>;
}

export interface RocksDbOperation {
  readonly key: Uint8Array;
  /** `undefined` deletes the key. */
  readonly value: Uint8Array | undefined;
}

export interface RocksDbRange {
  /** Inclusive. */
  readonly from: Uint8Array;
  /** Exclusive. */
  readonly end: Uint8Array;
  /** One call of `next` reads about so many bytes, and one row at least. */
  readonly chunkBytes: number;
}

export interface RocksDbRow {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

export interface RocksDbScan {
  /**
   * The next rows; none at the end.
   *
   * @throws WAL_CORRUPT, WAL_FAILED
   */
  next(): Promise<readonly RocksDbRow[]>;
  close(): Promise<void>;
}

/** Not a literal: the package has no types, and whoever compiles against ours must not need them. */
const packageName: string = '@nxtedition/rocksdb';
const installCommand = `npm install ${packageName}`;
const scanRowsMax = 256;

const openOptions = {
  keyEncoding: 'buffer',
  valueEncoding: 'buffer',
  createIfMissing: true,
  // Entries are written once, read rarely and removed soon: compressing them costs more than it saves.
  compression: false,
  // The logs are searched for batch marks, which compression would hide (`recovery-evidence.ts`).
  walCompression: false,
  // The core and the page cache hold what is hot; a block cache would hold it a third time.
  cacheSize: 0,
  // One flush and one compaction at a time: the threads of a node belong to its work.
  parallelism: 1,
} as const;

/**
 * Loads `@nxtedition/rocksdb`.
 *
 * @throws MISSING_DEPENDENCY it is not installed, or has no build for this platform
 */
export async function importRocksDb(
  load: () => Promise<RocksBinding> = () => import(packageName),
): Promise<RocksDbLibrary> {
  try {
    const module = await load();
    return { open: (path) => openHandle(new module.RocksLevel(path, openOptions)) };
  } catch (cause) {
    throw new KommanderError(
      `the RocksDB log store needs the package @nxtedition/rocksdb: ${installCommand}`,
      { code: 'MISSING_DEPENDENCY', details: { install: installCommand }, cause },
    );
  }
}

async function openHandle(store: RocksLevel): Promise<RocksDbHandle> {
  try {
    await store.open();
  } catch (error) {
    throw storeError(error);
  }
  return {
    identity: store.identity,
    async write(operations, options) {
      // The binding writes and syncs on this thread. What was handed to sockets before leaves first: frames to the
      // followers travel while this disk works.
      await setImmediate();
      const batch = store.batch();
      for (const { key, value } of operations) {
        if (value === undefined) batch.del(key);
        else batch.put(key, value);
      }
      try {
        await batch.write(options);
      } catch (error) {
        throw isWithoutRoom(error) ? storeError(error) : error;
      }
    },
    scan: (range) =>
      openScan(
        store.iterator({ gte: range.from, lt: range.end, highWaterMarkBytes: range.chunkBytes }),
      ),
    async close() {
      try {
        await store.close();
      } catch (error) {
        // RocksDB has let go of the store all the same: it only says that it could not finish what the full disk refused.
        if (!isUnfinished(error)) throw error;
      }
    },
  };
}

function openScan(iterator: RocksIterator): RocksDbScan {
  return {
    async next() {
      try {
        const rows = await iterator.nextv(scanRowsMax);
        return rows.map(([key, value]) => ({ key, value: plain(value) }));
      } catch (error) {
        throw storeError(error);
      }
    },
    close: () => iterator.close(),
  };
}

/** The bytes as a plain array instead of a `Buffer`: what the rest of the program is compiled for. */
function plain(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** abstract-level wraps what RocksDB said: the cause has the code. */
function storeError(error: unknown): KommanderError {
  const cause = causeOf(error);
  const message = textOf(cause);
  if (isWithoutRoom(error)) {
    return new KommanderError(`the log store has no room: ${message}; make room, then try again`, {
      code: 'DISK_FULL',
      cause,
    });
  }
  switch (codeOf(cause)) {
    case 'LEVEL_LOCKED':
      return new KommanderError(`the log store is open elsewhere: ${message}`, {
        code: 'WAL_LOCKED',
        cause,
      });
    case 'LEVEL_CORRUPTION':
      return new KommanderError(`the log store is damaged: ${message}`, {
        code: 'WAL_CORRUPT',
        cause,
      });
    default:
      return new KommanderError(`the log store cannot be read: ${message}`, {
        code: 'WAL_FAILED',
        cause,
      });
  }
}

function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? error.cause : error;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Whether the disk, or the quota on it, had no room for what was to be written. RocksDB says so in words only. When a sync
 * says it, nobody knows what was written: that is a failed disk, not a full one.
 */
function isWithoutRoom(error: unknown): boolean {
  const text = textOf(causeOf(error));
  return /No space left on device|Disk quota exceeded/.test(text) && !/While \w*sync/i.test(text);
}

/** What RocksDB answers to the close of a store after a write that failed. */
function isUnfinished(error: unknown): boolean {
  return isWithoutRoom(error) || textOf(causeOf(error)).includes('Seen error');
}

function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
