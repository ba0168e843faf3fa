// A backup as a directory: `manifest.json` and one file per partition. It is written beside its place, under a name that
// says so, and gets its name when every file is synced and is the one that the manifest describes: so a whole name means
// a whole backup, whatever was interrupted. Reading checks everything again.

import { createHash } from 'node:crypto';
import { type FileHandle, lstat, mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { utf8Text } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import {
  type BackupManifest,
  type BackupPartition,
  corruptBackup,
  decodeFailure,
  decodeManifest,
  FrameKind,
  framesOf,
  isFileName,
  manifestBytesMax,
} from './backup-format.ts';

const manifestName = 'manifest.json';
const pieceBytesMax = 262_144;

/** A directory whose manifest was read. */
export interface BackupDirectory {
  readonly path: string;
  readonly manifest: BackupManifest;
  /** SHA-256 of the manifest's bytes: equal for copies of one backup, and for nothing else. */
  readonly manifestHash: string;
}

interface FileSums {
  readonly byteLength: number;
  readonly sha256: string;
}

/**
 * Writes the stream of `node.backup()` to a new directory. While it is written, and when a crash interrupts it, the
 * directory is called `<directory>.draft`; a failure removes it.
 *
 * @throws INVALID_ARGUMENT the directory, or a draft of it, is there, or it cannot be written
 * @throws DISK_FULL        there is no room for it
 * @throws BACKUP_CORRUPT   the stream ended too soon, or what came is not what was sent
 * @throws whatever the stream throws or tells
 */
export async function saveBackup(
  stream: AsyncIterable<Uint8Array>,
  directory: string,
): Promise<BackupManifest> {
  const path = resolve(directory);
  const draft = `${path}.draft`;
  try {
    await checkAbsent(path, 'it is there already: choose another one');
    await checkAbsent(draft, 'it is what an interrupted backup left: remove it');
    await mkdir(dirname(path), { recursive: true });
    await mkdir(draft, { mode: 0o700 });
    return await fill(stream, { draft, path });
  } catch (error) {
    throw isSystemError(error) ? notWritten(path, error) : error;
  }
}

async function fill(
  stream: AsyncIterable<Uint8Array>,
  { draft, path }: { readonly draft: string; readonly path: string },
): Promise<BackupManifest> {
  try {
    const manifest = await receive(stream, draft);
    await syncDirectory(draft);
    await rename(draft, path);
    await syncDirectory(dirname(path));
    return manifest;
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error && 'code' in error;
}

function notWritten(path: string, cause: NodeJS.ErrnoException): KommanderError {
  const isFull = cause.code === 'ENOSPC' || cause.code === 'EDQUOT';
  const details = { argument: 'directory', path };
  return new KommanderError(
    `the backup cannot be written to ${path}: ${cause.message}; nothing of it is kept`,
    { code: isFull ? 'DISK_FULL' : 'INVALID_ARGUMENT', details, cause },
  );
}

async function checkAbsent(path: string, problem: string): Promise<void> {
  try {
    await lstat(path);
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return;
    throw error;
  }
  throw new KommanderError(`the backup cannot be written to ${path}: ${problem}`, {
    code: 'INVALID_ARGUMENT',
    details: { argument: 'directory', path },
  });
}

async function receive(stream: AsyncIterable<Uint8Array>, draft: string): Promise<BackupManifest> {
  const received = new Map<string, FileSums>();
  let present: OpenFile | undefined;
  try {
    for await (const { kind, bytes } of framesOf(stream)) {
      if (kind === FrameKind.failure) throw decodeFailure(bytes);
      if (kind === FrameKind.bytes) {
        if (present === undefined) throw corruptBackup('the stream has bytes of no file');
        await present.append(bytes);
        continue;
      }
      if (present !== undefined) received.set(present.name, await present.finish());
      present = undefined;
      if (kind === FrameKind.manifest) {
        const manifest = decodeManifest(bytes);
        checkReceived(manifest, received);
        await writeManifest(join(draft, manifestName), bytes);
        return manifest;
      }
      const name = utf8Text(bytes);
      if (!isFileName(name) || received.has(name)) {
        throw corruptBackup(`the stream has the file "${name}"`);
      }
      present = await createFile(draft, name);
    }
  } finally {
    await present?.close();
  }
  throw corruptBackup('the stream ended before its manifest');
}

interface OpenFile {
  readonly name: string;
  append(bytes: Uint8Array): Promise<void>;
  /** Syncs and closes it. */
  finish(): Promise<FileSums>;
  close(): Promise<void>;
}

async function createFile(directory: string, name: string): Promise<OpenFile> {
  const file = await open(join(directory, name), 'wx', 0o600);
  const hash = createHash('sha256');
  let byteLength = 0;
  return {
    name,
    async append(bytes) {
      hash.update(bytes);
      await file.writeFile(bytes);
      byteLength += bytes.byteLength;
    },
    async finish() {
      await file.sync();
      await file.close();
      return { byteLength, sha256: hash.digest('hex') };
    },
    close: () => file.close(),
  };
}

function checkReceived(manifest: BackupManifest, received: ReadonlyMap<string, FileSums>): void {
  for (const partition of manifest.partitions) {
    const sums = received.get(partition.file);
    if (sums === undefined) throw corruptBackup(`${partition.file} did not come`);
    checkSums(partition, sums);
  }
  if (received.size !== manifest.partitions.length) {
    throw corruptBackup('files came that its manifest does not name');
  }
}

function checkSums(expected: BackupPartition, sums: FileSums): void {
  if (sums.byteLength === expected.byteLength && sums.sha256 === expected.sha256) return;
  const { file, byteLength } = expected;
  throw corruptBackup(
    sums.byteLength === byteLength
      ? `the bytes of ${file} are not those that its manifest describes`
      : `${file} has ${sums.byteLength} bytes, expected ${byteLength}`,
    { file, partitionId: expected.partition },
  );
}

async function writeManifest(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open directories; NTFS writes their changes ahead.
  if (process.platform === 'win32') return;
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * Reads the manifest of a backup. Its files are checked when they are read.
 *
 * @throws BACKUP_CORRUPT   there is none, or it is damaged
 * @throws INVALID_ARGUMENT it cannot be opened
 */
export async function openBackup(directory: string): Promise<BackupDirectory> {
  const path = resolve(directory);
  if (basename(path).endsWith('.draft')) {
    throw corruptBackup(`${path} is what an interrupted backup left`);
  }
  const file = await openPart(join(path, manifestName));
  try {
    const { size } = await file.stat();
    if (size > manifestBytesMax) throw corruptBackup(`its manifest has ${size} bytes`);
    const bytes = await file.readFile();
    const manifestHash = createHash('sha256').update(bytes).digest('hex');
    return { path, manifest: decodeManifest(bytes), manifestHash };
  } finally {
    await file.close();
  }
}

async function openPart(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (!isSystemError(error)) throw error;
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR')
      throw corruptBackup(`there is no ${path}`, { file: basename(path) });
    throw new KommanderError(`the backup cannot be read: ${error.message}`, {
      code: 'INVALID_ARGUMENT',
      details: { argument: 'directory', path },
      cause: error,
    });
  }
}

/**
 * The bytes of a partition's copy, in pieces. Nothing is to be believed of them before the last one was given.
 *
 * @throws BACKUP_CORRUPT behind the last piece: the file is missing, or not the one that the manifest describes
 */
export async function* piecesOfCopy(
  { path }: BackupDirectory,
  partition: BackupPartition,
): AsyncGenerator<Uint8Array, undefined> {
  const file = await openPart(join(path, partition.file));
  try {
    const hash = createHash('sha256');
    let byteLength = 0;
    for (;;) {
      const buffer = new Uint8Array(pieceBytesMax);
      const { bytesRead } = await file.read(buffer, 0, pieceBytesMax, byteLength);
      if (bytesRead === 0) break;
      const piece = buffer.subarray(0, bytesRead);
      hash.update(piece);
      byteLength += bytesRead;
      yield piece;
    }
    checkSums(partition, { byteLength, sha256: hash.digest('hex') });
  } finally {
    await file.close();
  }
}
