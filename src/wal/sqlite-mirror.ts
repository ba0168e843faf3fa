// Opening the database of a closed SQLite store without changing a byte of its directory. With a journal, SQLite cannot do
// that: reading makes a shared-memory file, closing moves the journal to the tables and removes it. So what a killed node
// left behind is read in a copy outside of the store. A store that was closed in good order has no journal: SQLite reads it
// in place, as a database that nobody can change (`immutable`). With a journal that would pass over all that stands in it.

import { constants, copyFile, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { KommanderError } from '../base/errors.ts';
import { isMissing } from './files.ts';
import { makeMirrorDirectory } from './mirror-directory.ts';
import { importSqlite } from './node-sqlite.ts';
import { databaseName, journalName, sqliteCall } from './sqlite-store.ts';

export interface SqliteMirror {
  /** Undefined: the store has no database, or an empty one. */
  readonly database: DatabaseSync | undefined;
  /** Whether there is a journal without its database. */
  readonly isHeadless: boolean;
  readonly close: () => Promise<void>;
}

/**
 * Opens the database of the closed store in `path` for reading.
 *
 * @throws WAL_FAILED it cannot be read, or there is no room for a copy
 */
export async function openMirror(path: string): Promise<SqliteMirror> {
  const [databaseBytes, journalBytes] = await Promise.all(
    [databaseName, journalName].map((name) => byteLengthOf(path, name)),
  );
  if (databaseBytes === 0)
    return { database: undefined, isHeadless: journalBytes !== 0, async close() {} };
  const { DatabaseSync } = await importSqlite();
  if (journalBytes === 0) {
    const url = pathToFileURL(resolve(path, databaseName));
    url.searchParams.set('immutable', '1');
    const database = sqliteCall(path, () => new DatabaseSync(url, { readOnly: true }));
    return {
      database,
      isHeadless: false,
      async close() {
        database.close();
      },
    };
  }
  const { path: copy, remove } = await makeMirrorDirectory();
  try {
    await copyFiles(path, copy);
    const database = sqliteCall(path, () => new DatabaseSync(join(copy, databaseName)));
    return {
      database,
      isHeadless: false,
      async close() {
        database.close();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function copyFiles(from: string, to: string): Promise<void> {
  try {
    for (const name of [databaseName, journalName])
      await copyFile(join(from, name), join(to, name), constants.COPYFILE_FICLONE);
  } catch (error) {
    throw unreadable(from, error);
  }
}

async function byteLengthOf(path: string, name: string): Promise<number> {
  try {
    return (await stat(join(path, name))).size;
  } catch (error) {
    if (isMissing(error)) return 0;
    throw unreadable(path, error);
  }
}

function unreadable(path: string, cause: unknown): KommanderError {
  return new KommanderError(
    `the log store ${path} cannot be read or copied to ${tmpdir()}: ${String(cause)}`,
    { code: 'WAL_FAILED', details: { path }, cause },
  );
}
