// The directory of a durable log store: made with rights for its owner only, and marked with the engine and format
// that wrote it, so that no engine ever takes another one's files for an empty store.

import { mkdir, open, readdir, readFile, rename } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { KommanderError } from '../base/errors.ts';
import { isOutOfSpace } from './files.ts';

const markName = 'KOMMANDER';
const draftName = 'KOMMANDER.draft';
const unfinishedName = 'KOMMANDER.unfinished';

/** Who wrote a store. */
export interface StoreFormat {
  readonly engine: string;
  /** Grows with every change that older programs cannot read. */
  readonly version: number;
}

/**
 * Makes `path` the store's directory, or checks that it already is.
 *
 * @throws WAL_VERSION another engine's or another version's store, or a directory of something else
 * @throws DISK_FULL there is no room for the mark
 * @throws WAL_FAILED the directory cannot be made, read or synced
 */
export async function claimStoreDirectory(path: string, format: StoreFormat): Promise<void> {
  const text = `kommander log store\nengine ${format.engine}\nversion ${format.version}\n`;
  try {
    const firstMade = await mkdir(path, { recursive: true, mode: 0o700 });
    const names = await readdir(path);
    if (names.includes(markName)) {
      checkMark(path, { found: await readFile(join(path, markName), 'utf8'), expected: text });
      return;
    }
    if (names.includes(unfinishedName)) throw unfinished(path);
    if (names.some((name) => name !== draftName)) throw wrongVersion(path, 'no log store');
    await writeMark(path, text);
    if (firstMade !== undefined) await syncParents(path, firstMade);
  } catch (cause) {
    if (cause instanceof KommanderError) throw cause;
    throw new KommanderError(`the directory ${path} cannot be used: ${String(cause)}`, {
      code: isOutOfSpace(cause) ? 'DISK_FULL' : 'WAL_FAILED',
      details: { path },
      cause,
    });
  }
}

/**
 * Who wrote the store in `path`. Reads only.
 *
 * @throws WAL_VERSION there is no log store, or one whose making was cut short
 * @throws WAL_FAILED it cannot be read
 */
export async function readStoreFormat(path: string): Promise<StoreFormat> {
  const text = await readMark(path).catch((cause: unknown) => {
    if (cause instanceof KommanderError) throw cause;
    throw new KommanderError(`the directory ${path} cannot be read: ${String(cause)}`, {
      code: 'WAL_FAILED',
      details: { path },
      cause,
    });
  });
  const match = /^kommander log store\nengine ([a-z]+)\nversion (\d{1,9})\n$/.exec(text);
  const [, engine, version] = match ?? [];
  if (engine === undefined) throw wrongVersion(path, 'a mark that says nothing');
  return { engine, version: Number(version) };
}

async function readMark(path: string): Promise<string> {
  const names = await readdir(path);
  if (names.includes(unfinishedName)) throw unfinished(path);
  if (!names.includes(markName)) throw wrongVersion(path, 'no log store');
  return await readFile(join(path, markName), 'utf8');
}

/** Takes the mark away from a store that is being filled: until `publishMark`, nobody takes it for one. */
export async function withholdMark(path: string): Promise<void> {
  await rename(join(path, markName), join(path, unfinishedName));
  await syncDirectory(path);
}

/** The store is whole: it survives a power loss together with its mark. */
export async function publishMark(path: string): Promise<void> {
  await rename(join(path, unfinishedName), join(path, markName));
  await syncDirectory(path);
}

function unfinished(path: string): KommanderError {
  return new KommanderError(
    `${path} holds a log store whose making was cut short: remove it and run the command that makes it again`,
    { code: 'WAL_VERSION', details: { path, found: 'an unfinished log store' } },
  );
}

function checkMark(
  path: string,
  mark: { readonly found: string; readonly expected: string },
): void {
  if (mark.found !== mark.expected)
    throw wrongVersion(path, mark.found.trim().split('\n').join(', '));
}

function wrongVersion(path: string, found: string): KommanderError {
  return new KommanderError(`${path} holds ${found}: open it with the program that wrote it`, {
    code: 'WAL_VERSION',
    details: { path, found },
  });
}

/** The mark appears whole or not at all. */
async function writeMark(path: string, text: string): Promise<void> {
  const draft = join(path, draftName);
  const file = await open(draft, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, join(path, markName));
  await syncDirectory(path);
}

/** A new directory survives a power loss once the one above it is synced, up to the first that was there before. */
async function syncParents(path: string, firstMade: string): Promise<void> {
  const top = dirname(resolve(firstMade));
  for (let at = dirname(resolve(path)); ; at = dirname(at)) {
    await syncDirectory(at);
    if (at === top || at === dirname(at)) return;
  }
}

/** Makes what was made, renamed and removed in a directory survive a power loss. */
export async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open directories; NTFS writes their changes ahead.
  if (process.platform === 'win32') return;
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
