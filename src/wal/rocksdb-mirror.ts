// A RocksDB store can only be opened for writing: it recovers, writes tables and removes logs. So readers open a mirror,
// a directory of their own outside of the store: links to the tables, which RocksDB never changes, and copies of the rest.

import { constants, copyFile, mkdir, readdir, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { makeMirrorDirectory } from './mirror-directory.ts';
import { hasLostLog, isHeadless } from './rocksdb-directory.ts';

const tableEnding = /\.(?:sst|blob)$/;
/** What RocksDB reads besides its tables. */
const copied = /^(?:CURRENT|IDENTITY|MANIFEST-\d+|OPTIONS-\d+|\d+\.log)$/;
const asideName = 'recovering';

export interface RocksDbMirror {
  readonly path: string;
  /** Whether there is a table or a log although nothing says which of them count. */
  readonly isHeadless: boolean;
  /** Whether there should be a log, and is none. */
  readonly hasLostLog: boolean;
  readonly remove: () => Promise<void>;
}

/** Mirrors the closed store in `source`, which is only read. */
export async function mirrorStore(source: string): Promise<RocksDbMirror> {
  const { path, remove } = await makeMirrorDirectory();
  try {
    const names = await readdir(source);
    for (const name of names) {
      const from = resolve(source, name);
      if (tableEnding.test(name)) await linkOrCopy(from, join(path, name));
      else if (copied.test(name)) await copy(from, join(path, name));
    }
    if (names.includes(asideName)) await mirrorLogsAside(source, path);
    return {
      path,
      isHeadless: isHeadless(names),
      hasLostLog: await hasLostLog(path),
      remove,
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** The logs that an earlier `open` kept aside still prove what must be there. */
async function mirrorLogsAside(source: string, path: string): Promise<void> {
  await mkdir(join(path, asideName));
  for (const name of await readdir(join(source, asideName)))
    await linkOrCopy(resolve(source, asideName, name), join(path, asideName, name));
}

/** A hard link would change the original's count of links. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await symlink(from, to);
  } catch {
    // Windows asks for a right that few have. When the copy fails as well, its error says why.
    await copy(from, to);
  }
}

function copy(from: string, to: string): Promise<void> {
  return copyFile(from, to, constants.COPYFILE_FICLONE);
}
