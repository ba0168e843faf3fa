// What the RocksDB engine does with the files of its directory beside the library: who owns it, and the logs that
// prove what must be there. A port of its own, so that the simulator's disk can stand in for a real one.

import { statfsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { corrupt } from './damage.ts';
import {
  dropKeptLogs,
  forgetKeptLogs,
  keepLogsAside,
  logBytes,
  provenBatch,
} from './recovery-evidence.ts';
import { claimStoreDirectory, type StoreFormat } from './store-directory.ts';

export interface RocksDbDirectory {
  /** Makes the directory, or checks that it is this engine's. @throws WAL_VERSION, WAL_CORRUPT, DISK_FULL, WAL_FAILED */
  claim(): Promise<void>;
  /** Keeps the logs of the closed store aside; returns the names of those that were not yet. */
  keepLogsAside(): Promise<readonly string[]>;
  /** Takes back what one call of `keepLogsAside` kept: the store turned out to be in use. */
  dropKeptLogs(names: readonly string[]): Promise<void>;
  /** The highest batch of the store that the logs kept aside prove to have been synced; 0 when they prove none. */
  provenBatch(identity: string): Promise<number>;
  /** Nothing is lost: the logs kept aside may go. */
  forgetKeptLogs(): Promise<void>;
  /** Bytes that this process may still write to the disk, as far as the file system knows. */
  freeBytes(): number;
  /** Bytes of the logs that an `open` would write into tables. */
  logBytes(): Promise<number>;
}

export const rocksdbFormat: StoreFormat = { engine: 'rocksdb', version: 1 };

/** A directory of the file system. */
export function fileDirectory(path: string): RocksDbDirectory {
  return {
    async claim() {
      await claimStoreDirectory(path, rocksdbFormat);
      // RocksDB would begin a new store, and take away the tables of the old one at the open after that.
      if (isHeadless(await readdir(path)))
        throw corrupt('the file is gone, but not the tables and logs of its store', {
          file: 'CURRENT',
        });
      // RocksDB would go on without what was in it.
      if (await hasLostLog(path)) throw corrupt('the file is gone', { file: lostLogName });
    },
    keepLogsAside: () => keepLogsAside(path),
    dropKeptLogs: (names) => dropKeptLogs(path, names),
    provenBatch: (identity) => provenBatch(path, identity),
    forgetKeptLogs: () => forgetKeptLogs(path),
    freeBytes() {
      // Two microseconds; in the thread pool it would be fifty.
      const { bavail, bsize } = statfsSync(path);
      return bavail * bsize;
    },
    logBytes: () => logBytes(path),
  };
}

/** Whether a directory with these files has a table or a log although nothing says which of them count. */
export function isHeadless(names: readonly string[]): boolean {
  return !names.includes('CURRENT') && names.some((name) => /\.(?:sst|log)$/.test(name));
}

/** How a log is called that is gone, with its number. */
export const lostLogName = '*.log';

/**
 * Whether the store in `path` has no log. RocksDB makes one before `CURRENT` leads to another manifest than the first, and
 * the next one before it removes one.
 */
export async function hasLostLog(path: string): Promise<boolean> {
  const names = await readdir(path);
  if (!names.includes('CURRENT') || names.some((name) => name.endsWith('.log'))) return false;
  const current = await readFile(join(path, 'CURRENT'), 'utf8');
  return /^MANIFEST-\d+\n$/.test(current) && current !== 'MANIFEST-000001\n';
}
