// One process at a time has a store open. Node.js has no file locks of its own; SQLite takes one that the operating
// system drops when the process dies, whichever way, and that holds between containers that share a directory.

import { access } from 'node:fs/promises';
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
    if (!isBusy(cause)) throw notLocked(path, cause);
    throw new KommanderError(
      `the log store ${path} is open elsewhere: stop the other process or choose another directory`,
      { code: 'WAL_LOCKED', details: { path }, cause },
    );
  }
}

/**
 * Sees to it that no process opens the store in directory `path` until it is released, without writing anything: readers
 * share the lock file, and every engine takes it for itself alone (RocksDB's own lock covers the same bytes).
 *
 * @throws WAL_LOCKED a process has the store open
 * @throws WAL_FAILED the lock file cannot be read
 */
export async function lockStoreForReading(path: string): Promise<StoreLock> {
  const file = join(path, lockName);
  // Every engine makes the file before it does anything else: without it, nobody has the store open.
  if (!(await isThere(file))) return { release: () => {} };
  const { DatabaseSync } = await importSqlite();
  try {
    const database = new DatabaseSync(file, { readOnly: true });
    try {
      database.exec('BEGIN');
      database.prepare('SELECT count(*) FROM sqlite_schema').get();
    } catch (error) {
      database.close();
      throw error;
    }
    return { release: () => database.close() };
  } catch (cause) {
    if (!isBusy(cause)) throw notLocked(path, cause);
    throw new KommanderError(
      `the log store ${path} is open: stop the node that uses it, then try again`,
      { code: 'WAL_LOCKED', details: { path }, cause },
    );
  }
}

async function isThere(file: string): Promise<boolean> {
  try {
    await access(file);
    return true;
  } catch {
    return false;
  }
}

function isBusy(cause: unknown): boolean {
  return cause instanceof Error && 'errcode' in cause && cause.errcode === busyCode;
}

function notLocked(path: string, cause: unknown): KommanderError {
  return new KommanderError(`the log store ${path} cannot be locked: ${String(cause)}`, {
    code: 'WAL_FAILED',
    details: { path },
    cause,
  });
}
