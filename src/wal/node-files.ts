// The files of a store in a directory of the file system. A write goes to the page cache on the calling thread, which
// takes microseconds. So does a sync while the disk is quick: the thread pool costs 0.06 to 0.1 ms a call, half of what
// a good disk takes. When syncs become slow they wait in the pool, so that the node can say so and give leadership away.

import * as fs from 'node:fs';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hrtime } from 'node:process';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { FileEntry, Files, StoredFile } from './files.ts';
import { claimStoreDirectory, type StoreFormat, syncDirectory } from './store-directory.ts';
import { lockStore, type StoreLock } from './store-lock.ts';

/** Parts of one system call. */
const partsMax = 512;
/** Longer writes are handed to the thread pool. */
const inlineBytesMax = 1_048_576;

/** Syncs that take longer than this, in the mean of the last few, leave the calling thread. */
const inlineSyncMsMax = 1;
/** How much the last sync counts in the mean. */
const lastSyncWeight = 1 / 8;

const fdatasync = promisify(fs.fdatasync);
const writev = promisify(fs.writev);
const readAt = promisify(fs.read);
const closeFile = promisify(fs.close);
const openFile = promisify(fs.open);

/** @throws WAL_VERSION, WAL_FAILED, WAL_LOCKED from `claim` */
export function nodeFiles(path: string, format: StoreFormat): Files {
  let lock: StoreLock | undefined;
  const pace: SyncPace = { meanMs: 0 };
  return {
    async claim() {
      await claimStoreDirectory(path, format);
      lock = await lockStore(path);
    },
    async release() {
      lock?.release();
      lock = undefined;
    },
    ...filesIn(path, (fd) => syncFile(fd, pace)),
  };
}

/**
 * The files in directory `name` of the store at `storePath`: whoever has the store has them. Their syncs have much to do,
 * and wait in the thread pool.
 */
export function directoryFiles(storePath: string, name: string): Files {
  const path = join(storePath, name);
  return {
    async claim() {
      if ((await mkdir(path, { recursive: true, mode: 0o700 })) !== undefined) {
        await syncDirectory(storePath);
      }
    },
    async release() {},
    ...filesIn(path, (fd) => fdatasync(fd)),
  };
}

/** The same files of a closed store, for reading only: nothing is made, and what cannot be written can be read. */
export function closedDirectoryFiles(storePath: string, name: string): Files {
  return {
    async claim() {},
    async release() {},
    ...filesIn(join(storePath, name), async () => {}, fs.constants.O_RDONLY),
  };
}

function filesIn(
  path: string,
  sync: (fd: number) => Promise<void>,
  access: number = fs.constants.O_RDWR,
): Omit<Files, 'claim' | 'release'> {
  return {
    async list() {
      const found: FileEntry[] = [];
      for (const entry of await readdir(path, { withFileTypes: true })) {
        if (!entry.isFile()) continue;
        const { size } = await stat(join(path, entry.name));
        found.push({ name: entry.name, byteLength: size });
      }
      return found;
    },
    async open(name, { create }) {
      const flags = access | (create ? fs.constants.O_CREAT | fs.constants.O_EXCL : 0);
      return openStoredFile(join(path, name), flags, sync);
    },
    rename: (from, to) => rename(join(path, from), join(path, to)),
    remove: (name) => rm(join(path, name), { force: true }),
    syncNames: () => syncDirectory(path),
  };
}

/** How long the syncs of a store take. */
interface SyncPace {
  meanMs: number;
}

async function syncFile(fd: number, pace: SyncPace): Promise<void> {
  const isInline = pace.meanMs <= inlineSyncMsMax;
  // What was handed to sockets before leaves first: frames to the followers travel while this disk works.
  if (isInline) await setImmediate();
  const startNs = hrtime.bigint();
  if (isInline) fs.fdatasyncSync(fd);
  else await fdatasync(fd);
  const tookMs = Number(hrtime.bigint() - startNs) / 1e6;
  pace.meanMs += (tookMs - pace.meanMs) * lastSyncWeight;
}

async function openStoredFile(
  path: string,
  flags: number,
  sync: (fd: number) => Promise<void>,
): Promise<StoredFile> {
  const fd = await openFile(path, flags, 0o600);
  const { size } = fs.fstatSync(fd);
  return {
    byteLength: size,
    async write(parts, position) {
      let at = position;
      for (let from = 0; from < parts.length; from += partsMax) {
        at = await writeAll(fd, parts.slice(from, from + partsMax), at);
      }
    },
    sync: () => sync(fd),
    read: (range, buffer) => readAll(fd, range, buffer),
    close: () => closeFile(fd),
  };
}

/** @returns the position behind the last byte */
async function writeAll(
  fd: number,
  parts: readonly Uint8Array[],
  position: number,
): Promise<number> {
  let at = position;
  let left = parts.filter((part) => part.byteLength > 0);
  while (left.length > 0) {
    const byteLength = left.reduce((sum, part) => sum + part.byteLength, 0);
    const written =
      byteLength <= inlineBytesMax
        ? fs.writevSync(fd, left, at)
        : (await writev(fd, left, at)).bytesWritten;
    at += written;
    left = withoutFirst(left, written);
  }
  return at;
}

function withoutFirst(parts: readonly Uint8Array[], byteCount: number): Uint8Array[] {
  const left: Uint8Array[] = [];
  let skip = byteCount;
  for (const part of parts) {
    if (skip < part.byteLength) left.push(part.subarray(skip));
    skip = Math.max(0, skip - part.byteLength);
  }
  return left;
}

async function readAll(
  fd: number,
  { position, byteLength }: { readonly position: number; readonly byteLength: number },
  buffer: Uint8Array | undefined,
): Promise<Uint8Array> {
  const isUsable = buffer !== undefined && buffer.byteLength >= byteLength;
  const bytes = isUsable ? buffer.subarray(0, byteLength) : new Uint8Array(byteLength);
  let count = 0;
  while (count < byteLength) {
    const { bytesRead } = await readAt(fd, bytes, count, byteLength - count, position + count);
    if (bytesRead === 0) return bytes.subarray(0, count);
    count += bytesRead;
  }
  return bytes;
}
