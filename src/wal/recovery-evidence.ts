// RocksDB recovers to the last point before the first damaged record of its log, and removes the log: whether that was
// a torn tail, which nobody was promised, or damage in the middle, it does not say. So the logs are kept aside while it
// opens. Every batch begins with a mark that says which batch was synced before it; a mark that names a later batch
// than the recovered one proves that acknowledged batches are gone.

import { copyFile, link, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MalformedBytesError } from '../base/bytes.ts';
import { type BatchMark, batchMarkBytesMax, decodeBatchMark } from './record.ts';
import { batchMarkKey } from './rocksdb-keys.ts';

const asideName = 'recovering';
const logEnding = '.log';
const chunkBytes = 4_194_304;

/** Bytes of the logs in `path`. */
export async function logBytes(path: string): Promise<number> {
  let bytes = 0;
  for (const name of await logsIn(path)) bytes += (await stat(join(path, name))).size;
  return bytes;
}

async function logsIn(path: string): Promise<string[]> {
  return (await readdir(path)).filter((name) => name.endsWith(logEnding));
}

/** Keeps the logs of the closed store in `path` aside; returns the names of the files that it made. */
export async function keepLogsAside(path: string): Promise<string[]> {
  const logs = await logsIn(path);
  if (logs.length === 0) return [];
  const aside = join(path, asideName);
  await mkdir(aside, { recursive: true, mode: 0o700 });
  const kept = new Set(await readdir(aside));
  const made: string[] = [];
  for (const name of logs) {
    if (kept.has(name)) continue;
    await linkOrCopy(join(path, name), join(aside, name));
    made.push(name);
  }
  return made;
}

/** Removes what one call of `keepLogsAside` made, when the store turned out to be in use. */
export async function dropKeptLogs(path: string, names: readonly string[]): Promise<void> {
  for (const name of names) await rm(join(path, asideName, name), { force: true });
}

/** Removes all that was kept aside, once it is known that nothing is lost. */
export async function forgetKeptLogs(path: string): Promise<void> {
  await rm(join(path, asideName), { recursive: true, force: true });
}

/** The highest batch of store `identity` that the logs kept aside prove to have been synced; 0 when they prove none. */
export async function provenBatch(path: string, identity: string): Promise<number> {
  return (await provingLog(path, identity)).batchNumber;
}

/** The same, and the name of the log that proves it. */
export async function provingLog(
  path: string,
  identity: string,
): Promise<{ readonly batchNumber: number; readonly file: string | undefined }> {
  const aside = join(path, asideName);
  let proven: { batchNumber: number; file: string | undefined } = {
    batchNumber: 0,
    file: undefined,
  };
  for (const name of await namesIn(aside)) {
    for await (const mark of marksOf(join(aside, name))) {
      if (mark.identity === identity && mark.syncedBatch > proven.batchNumber)
        proven = { batchNumber: mark.syncedBatch, file: name };
    }
  }
  return proven;
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch {
    // Some file systems have no links. When the copy fails as well, its error says why.
    await copyFile(from, to);
  }
}

/**
 * Every whole mark in a log, found by its key: the log's own format is not needed. Marks that a log splits between two
 * of its blocks are missed; the batches around them have others.
 */
async function* marksOf(file: string): AsyncGenerator<BatchMark> {
  const handle = await open(file, 'r');
  try {
    const tailBytes = batchMarkKey.byteLength + 1 + batchMarkBytesMax;
    const buffer = Buffer.allocUnsafe(chunkBytes + tailBytes);
    let keptBytes = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, keptBytes, chunkBytes);
      const bytes = buffer.subarray(0, keptBytes + bytesRead);
      // A mark that reaches beyond the chunk is looked at again with the next one.
      const searchEnd = bytesRead === 0 ? bytes.byteLength : bytes.byteLength - tailBytes;
      yield* marksIn(bytes, searchEnd);
      if (bytesRead === 0) return;
      keptBytes = Math.min(bytes.byteLength, tailBytes);
      buffer.copyWithin(0, bytes.byteLength - keptBytes, bytes.byteLength);
    }
  } finally {
    await handle.close();
  }
}

/** Every whole mark that begins before `searchEnd`. */
export function* marksIn(bytes: Buffer, searchEnd: number): Generator<BatchMark> {
  const needle = Buffer.from(batchMarkKey);
  let at = bytes.indexOf(needle);
  while (at >= 0 && at < searchEnd) {
    const mark = markAt(bytes, at + needle.byteLength);
    if (mark !== undefined) yield mark;
    at = bytes.indexOf(needle, at + needle.byteLength);
  }
}

/** RocksDB writes a value's length, one byte for a short one, before the value. */
function markAt(bytes: Buffer, offset: number): BatchMark | undefined {
  const length = bytes[offset] ?? 0;
  try {
    return decodeBatchMark(bytes.subarray(offset + 1, offset + 1 + length));
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}
