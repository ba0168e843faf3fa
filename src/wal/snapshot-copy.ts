// The snapshots of a closed store, read to check them or to copy them into another one: every byte is checked as it is read,
// and nothing is written where they come from.

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { isKommanderError } from '../base/errors.ts';
import type { SnapshotFacts, SnapshotReader, SnapshotStore } from '../ports/snapshot-store.ts';
import { isMissing } from './files.ts';
import { closedDirectoryFiles } from './node-files.ts';
import { fileSnapshots, finishedEnd, finishedFacts } from './snapshot-files.ts';

const directoryName = 'snapshots';
const pieceBytesMax = 262_144;

/**
 * Copies the finished snapshots of the store in `sourcePath` into `target`. They are durable once this has resolved.
 *
 * @throws SNAPSHOT_CORRUPT one is damaged
 * @throws WAL_FAILED, DISK_FULL
 */
export async function copySnapshots(sourcePath: string, target: SnapshotStore): Promise<void> {
  if (!(await isThere(join(sourcePath, directoryName)))) return;
  const files = closedDirectoryFiles(sourcePath, directoryName);
  const source = fileSnapshots(files);
  for (const { name, isFinished } of await source.list()) {
    if (!isFinished) continue;
    const reader = await source.open(name, await finishedFacts(files, name));
    try {
      const writer = await target.create(name);
      for await (const piece of piecesOf(reader)) await writer.append(piece);
      await writer.finish();
    } finally {
      await reader.close();
    }
  }
}

/**
 * What is wrong with a finished snapshot of the closed store in `sourcePath`, in words; undefined: it is whole, to its last byte.
 *
 * @throws WAL_FAILED it cannot be read
 */
export async function snapshotProblem(
  sourcePath: string,
  { name, ...expected }: SnapshotFacts & { readonly name: string },
): Promise<string | undefined> {
  try {
    const snapshots = fileSnapshots(closedDirectoryFiles(sourcePath, directoryName));
    const reader = await snapshots.open(name, expected);
    try {
      let checksum = 0;
      for await (const piece of piecesOf(reader)) checksum = crc32(piece, checksum);
      if (checksum === expected.checksum) return undefined;
      return `the checksum of the whole is ${checksum}, expected ${expected.checksum}`;
    } finally {
      await reader.close();
    }
  } catch (error) {
    if (isKommanderError(error, 'SNAPSHOT_CORRUPT')) return String(error.details.reason);
    throw error;
  }
}

async function* piecesOf(reader: SnapshotReader): AsyncGenerator<Uint8Array> {
  for (let offset = 0; ; ) {
    const piece = await reader.read(offset, pieceBytesMax);
    if (piece.byteLength === 0) return;
    offset += piece.byteLength;
    yield piece;
  }
}

/** Where a snapshot lies in its store's directory. */
export function snapshotFileOf(name: string): string {
  return `${directoryName}/${name}${finishedEnd}`;
}

async function isThere(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}
