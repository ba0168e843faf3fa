// The durable engines by the names in their stores' marks, and how the tools open a store of any of them: closed, locked
// against being opened by a node, and only for reading.

import { KommanderError } from '../base/errors.ts';
import type { PartitionId, Wal } from '../ports/wal.ts';
import { rocksdbWal } from '../wal/rocksdb.ts';
import { rocksdbFormat } from '../wal/rocksdb-directory.ts';
import { readRocksDbStore } from '../wal/rocksdb-reader.ts';
import { segmentFormat, segmentWal } from '../wal/segment.ts';
import { readSegmentStore } from '../wal/segment-reader.ts';
import { sqliteFormat, sqliteWal } from '../wal/sqlite.ts';
import { readSqliteStore } from '../wal/sqlite-reader.ts';
import { readStoreFormat, type StoreFormat } from '../wal/store-directory.ts';
import { lockStoreForReading } from '../wal/store-lock.ts';
import type { StoreFind, StoreReader } from '../wal/store-reader.ts';

export interface WalEngine {
  readonly format: StoreFormat;
  open(path: string): Wal;
  read(path: string): Promise<StoreReader>;
}

const walEngines: readonly WalEngine[] = [
  { format: rocksdbFormat, open: (path) => rocksdbWal({ path }), read: readRocksDbStore },
  { format: segmentFormat, open: (path) => segmentWal({ path }), read: readSegmentStore },
  { format: sqliteFormat, open: (path) => sqliteWal({ path }), read: readSqliteStore },
];

/** @throws INVALID_OPTION there is no such engine */
export function engineNamed(name: string): WalEngine {
  const engine = walEngines.find(({ format }) => format.engine === name);
  if (engine !== undefined) return engine;
  const names = walEngines.map(({ format }) => format.engine).join(', ');
  throw new KommanderError(`--engine: "${name}" is not valid: expected one of ${names}`, {
    code: 'INVALID_OPTION',
    details: { option: 'engine', value: name },
  });
}

/** A store that no node can open until it is closed. */
export interface ClosedStore {
  readonly path: string;
  readonly engine: WalEngine;
  finds(only?: PartitionId): AsyncIterable<StoreFind>;
  close(): Promise<void>;
}

/**
 * Opens the store in directory `path` for reading.
 *
 * @throws WAL_LOCKED a node has it open
 * @throws WAL_VERSION it is no store, or one of an engine or a version that this program does not know
 * @throws WAL_FAILED it cannot be read
 */
export async function openClosedStore(path: string): Promise<ClosedStore> {
  const { engine: name, version } = await readStoreFormat(path);
  const engine = walEngines.find(({ format }) => format.engine === name);
  if (engine?.format.version !== version) {
    throw new KommanderError(
      `${path} holds a log store of engine ${name}, version ${version}: use the program that wrote it`,
      { code: 'WAL_VERSION', details: { path, found: `engine ${name}, version ${version}` } },
    );
  }
  const lock = await lockStoreForReading(path);
  try {
    const reader = await engine.read(path);
    return {
      path,
      engine,
      finds: (only) => reader.finds(only),
      async close() {
        await reader.close();
        lock.release();
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}
