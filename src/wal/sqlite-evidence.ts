// SQLite recovers its journal up to the first damaged frame and does not say whether that was a torn tail, which nobody
// was promised, or damage in the middle. Every transaction changes the batch mark, whose page is then in the journal: a
// mark there that names a later synced batch than the recovered one proves that acknowledged batches are gone. SQLite
// changes the journal only when something is written or the store is closed, so it is searched before that.

import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  openSync,
  readSync,
  renameSync,
} from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { MalformedBytesError, utf8Bytes } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import { type BatchMark, batchMarkBytesMax, decodeBatchMark } from './record.ts';
import { journalName } from './sqlite-store.ts';

/** The journal of a store that lost something: closing the store removes the original. */
export const keptJournalName: string = `${journalName}.damaged`;

const chunkBytes = 4_194_304;
/** Header of the record and two batch numbers. */
const bytesBeforeIdentity = 24;

/**
 * Checks that the store has recovered all that its journal proves to have been synced. The journal must still be as
 * `openDatabase` found it.
 *
 * @throws WAL_CORRUPT, now and at every later open
 */
export function checkNothingLost(path: string, recovered: BatchMark): void {
  const { identity, batchNumber } = recovered;
  const proven = provenBatch(path, identity);
  if (proven <= batchNumber) return;
  keepJournal(path);
  throw new KommanderError(
    `the log store ${path} lost acknowledged batches ${batchNumber + 1} … ${proven}: its journal ` +
      `${journalName} is damaged in the middle. Restore the directory or replace the node`,
    {
      code: 'WAL_CORRUPT',
      details: { path, file: journalName, recovered: batchNumber, proven },
    },
  );
}

/** The highest batch that the journals in directory `path` prove to have been synced; 0 when they prove none. */
export function provenBatch(path: string, identity: string): number {
  const files = [journalName, keptJournalName].map((name) => join(path, name)).filter(existsSync);
  return Math.max(0, ...files.map((file) => provenIn(file, identity)));
}

/**
 * Nobody may take the recovered part for the whole at the next open, when the journal itself is gone. SQLite does not
 * change the journal before it removes it, so a second name keeps it, and takes no room.
 */
function keepJournal(path: string): void {
  const kept = join(path, keptJournalName);
  if (existsSync(kept)) return;
  const journal = join(path, journalName);
  try {
    linkSync(journal, kept);
  } catch {
    // Some file systems have no links. A copy has its name when it is whole; when it fails as well, its error says why.
    copyFileSync(journal, `${kept}.draft`);
    syncPath(`${kept}.draft`);
    renameSync(`${kept}.draft`, kept);
  }
  // Windows cannot open directories; NTFS writes their changes ahead.
  if (process.platform !== 'win32') syncPath(path);
}

function syncPath(file: string): void {
  const descriptor = openSync(file, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function provenIn(file: string, identity: string): number {
  const name = utf8Bytes(identity);
  const needle = Buffer.from([name.byteLength, ...name]);
  let proven = 0;
  for (const bytes of chunksOf(file)) {
    for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + 1)) {
      const start = Math.max(0, at - bytesBeforeIdentity);
      const mark = markAt(bytes.subarray(start, at + needle.byteLength));
      if (mark !== undefined) proven = Math.max(proven, mark.syncedBatch);
    }
  }
  return proven;
}

/** The bytes of a file in pieces, each with the end of the one before. */
function* chunksOf(file: string): Generator<Buffer> {
  const descriptor = openSync(file, 'r');
  try {
    const buffer = Buffer.allocUnsafe(chunkBytes + batchMarkBytesMax);
    let keptBytes = 0;
    for (;;) {
      const readBytes = readSync(descriptor, buffer, keptBytes, chunkBytes, null);
      if (readBytes === 0) return;
      const end = keptBytes + readBytes;
      yield buffer.subarray(0, end);
      keptBytes = Math.min(end, batchMarkBytesMax);
      buffer.copyWithin(0, end - keptBytes, end);
    }
  } finally {
    closeSync(descriptor);
  }
}

function markAt(bytes: Uint8Array): BatchMark | undefined {
  try {
    return decodeBatchMark(bytes);
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}
