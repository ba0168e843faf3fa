// The snapshots of a closed store on their way into another one: every byte is checked as it is read, and nothing is written
// where they come from.

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { SnapshotStore } from '../ports/snapshot-store.ts';
import { isMissing } from './files.ts';
import { directoryFiles } from './node-files.ts';
import { fileSnapshots, finishedFacts } from './snapshot-files.ts';

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
  const files = directoryFiles(sourcePath, directoryName);
  const source = fileSnapshots(files);
  for (const { name, isFinished } of await source.list()) {
    if (!isFinished) continue;
    const reader = await source.open(name, await finishedFacts(files, name));
    try {
      const writer = await target.create(name);
      for (;;) {
        const bytes = await reader.read(writer.byteLength, pieceBytesMax);
        if (bytes.byteLength === 0) break;
        await writer.append(bytes);
      }
      await writer.finish();
    } finally {
      await reader.close();
    }
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}
