// One process at a time has a store open. Node.js has no file locks of its own; SQLite takes one that the operating
// system drops when the process dies, whichever way, and that holds between containers that share a directory.

import { join } from 'node:path';
import { KommanderError } from '../base/errors.ts';
import { importSqlite } from './node-sqlite.ts';

const lockName = 'LOCK';
/** SQLITE_BUSY: somebody else has the lock. */
const busyCode = 5;

export interface StoreLock {
  release(): void;
}

/**
 * Takes the lock of the store in directory `path`.
 *
 * @throws WAL_LOCKED another process, or another store of this one, has it
 * @throws WAL_FAILED the lock file cannot be made or locked
 */
export async function lockStore(path: string): Promise<StoreLock> {
  const { DatabaseSync } = await importSqlite();
  try {
    const database = new DatabaseSync(join(path, lockName));
    try {
      database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
    } catch (error) {
      database.close();
      throw error;
    }
    return { release: () => database.close() };
  } catch (cause) {
    const isBusy = cause instanceof Error && 'errcode' in cause && cause.errcode === busyCode;
    throw new KommanderError(
      isBusy
        ? `the log store ${path} is open elsewhere: stop the other process or choose another directory`
        : `the log store ${path} cannot be locked: ${String(cause)}`,
      { code: isBusy ? 'WAL_LOCKED' : 'WAL_FAILED', details: { path }, cause },
    );
  }
}
