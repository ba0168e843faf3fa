// Snapshots as files, one each: for every engine, on a disk or in memory. A file is written under a name of its own and
// gets its right one when it is whole and synced, so that a whole name means a whole snapshot, also after a power loss.

import { crc32 } from 'node:zlib';
import { assert } from '../base/assert.ts';
import { MalformedBytesError } from '../base/bytes.ts';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import type {
  SnapshotFacts,
  SnapshotReader,
  SnapshotStore,
  SnapshotWriter,
  StoredSnapshot,
} from '../ports/snapshot-store.ts';
import { type Files, isMissing, isOutOfSpace, type StoredFile } from './files.ts';
import {
  blockBytes,
  blockHeadBytes,
  blockPosition,
  bytesInBlock,
  checkHead,
  decodeBlock,
  decodeFoot,
  encodeBlockHead,
  encodeFoot,
  encodeHead,
  fileBytes,
  footBytes,
  headBytes,
} from './snapshot-format.ts';

/** How files of finished snapshots end. */
export const finishedEnd = '.snapshot';
const draftEnd = '.draft';
/**
 * Bytes between two syncs of a snapshot that is being written: what a power loss may take of an unfinished one, and what
 * the log's own sync may have to wait for.
 */
const unsyncedBytesMax = 8_388_608;

/**
 * Snapshots in `files`, which hold nothing else. They are claimed with the first use.
 *
 * @param checkRoom throws DISK_FULL when there is no room for so many bytes more
 */
export function fileSnapshots(
  files: Files,
  checkRoom: (byteLength: number) => void = () => {},
): SnapshotStore {
  let claiming: Promise<void> | undefined;

  async function claim(): Promise<void> {
    claiming ??= files.claim();
    try {
      await claiming;
    } catch (error) {
      claiming = undefined;
      throw error;
    }
  }

  return {
    create: (name) =>
      translated(name, async () => {
        checkName(name);
        await claim();
        await files.remove(name + draftEnd);
        const file = await files.open(name + draftEnd, { create: true });
        try {
          await file.write([encodeHead()], 0);
        } catch (error) {
          await file.close();
          await files.remove(name + draftEnd);
          throw error;
        }
        return writerOf({ files, name, file, checkRoom, byteLength: 0, checksum: 0 });
      }),
    resume: (name) =>
      translated(name, async () => {
        checkName(name);
        await claim();
        const file = await tryOpen(files, name + draftEnd);
        if (file === undefined) return undefined;
        let whole: SnapshotFacts | undefined;
        try {
          whole = await wholeBlocks(file);
        } finally {
          if (whole === undefined) await file.close();
        }
        return whole === undefined
          ? undefined
          : writerOf({ files, name, file, checkRoom, ...whole });
      }),
    open: (name, expected) =>
      translated(name, async () => {
        checkName(name);
        await claim();
        const file = await tryOpen(files, name + finishedEnd);
        if (file === undefined) throw damaged(name, 'it is missing');
        try {
          await checkWhole(name, file, expected);
        } catch (error) {
          await file.close();
          throw error;
        }
        return readerOf(name, file, expected.byteLength);
      }),
    list: () =>
      translated('', async () => {
        await claim();
        return (await files.list()).flatMap(({ name }) => storedSnapshot(name));
      }),
    remove: (name) =>
      translated(name, async () => {
        checkName(name);
        await claim();
        // In this order: it may be begun anew while the bytes of the finished one go.
        await files.remove(name + draftEnd);
        await files.remove(name + finishedEnd);
      }),
  };
}

/**
 * What the foot of a finished snapshot says of it.
 *
 * @throws SNAPSHOT_CORRUPT
 */
export function finishedFacts(files: Files, name: string): Promise<SnapshotFacts> {
  return translated(name, async () => {
    const file = await tryOpen(files, name + finishedEnd);
    if (file === undefined) throw damaged(name, 'it is missing');
    try {
      const position = Math.max(0, file.byteLength - footBytes);
      const foot = await file.read({ position, byteLength: footBytes });
      return checked(name, 0, () => decodeFoot(foot));
    } finally {
      await file.close();
    }
  });
}

async function tryOpen(files: Files, fileName: string): Promise<StoredFile | undefined> {
  try {
    return await files.open(fileName, { create: false });
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function storedSnapshot(fileName: string): StoredSnapshot[] {
  for (const [end, isFinished] of [
    [finishedEnd, true],
    [draftEnd, false],
  ] as const) {
    if (fileName.endsWith(end)) return [{ name: fileName.slice(0, -end.length), isFinished }];
  }
  return [];
}

function checkName(name: string): void {
  assert(/^[a-z0-9-]{1,128}$/.test(name), 'a snapshot has a name that any file system takes');
}

interface Draft extends SnapshotFacts {
  readonly files: Files;
  readonly name: string;
  readonly file: StoredFile;
  readonly checkRoom: (byteLength: number) => void;
}

/** A draft that ends with a whole block; `checksum` is that of its bytes so far. */
function writerOf(draft: Draft): SnapshotWriter {
  const { files, name, file, checkRoom } = draft;
  const block = new Uint8Array(blockBytes);
  let blockNumber = draft.byteLength / blockBytes;
  let filledBytes = 0;
  let unsyncedBytes = 0;
  let { byteLength, checksum } = draft;
  let isNameSynced = false;
  let isEnded = false;
  assert(Number.isInteger(blockNumber), 'a draft is gone on with behind a whole block');

  async function writeBlock(): Promise<void> {
    checkRoom(blockHeadBytes + filledBytes);
    const content = block.subarray(0, filledBytes);
    await file.write([encodeBlockHead(blockNumber, content), content], blockPosition(blockNumber));
    blockNumber += 1;
    filledBytes = 0;
    unsyncedBytes += content.byteLength;
    if (unsyncedBytes < unsyncedBytesMax) return;
    await file.sync();
    // Now there is something to go on with, if its name is there.
    if (!isNameSynced) await files.syncNames();
    isNameSynced = true;
    unsyncedBytes = 0;
  }

  async function end(): Promise<void> {
    assert(!isEnded, 'a snapshot that is written has one end');
    isEnded = true;
    await file.close();
  }

  return {
    get byteLength() {
      return byteLength;
    },
    append: (bytes) =>
      translated(name, async () => {
        assert(!isEnded, 'nothing is appended behind the end');
        for (let at = 0; at < bytes.byteLength; ) {
          const part = bytes.subarray(at, at + blockBytes - filledBytes);
          block.set(part, filledBytes);
          filledBytes += part.byteLength;
          at += part.byteLength;
          if (filledBytes === blockBytes) await writeBlock();
        }
        checksum = crc32(bytes, checksum);
        byteLength += bytes.byteLength;
      }),
    finish: () =>
      translated(name, async () => {
        assert(!isEnded, 'a snapshot is finished once');
        if (filledBytes > 0) await writeBlock();
        const facts = { byteLength, checksum };
        await file.write([encodeFoot(facts)], fileBytes(byteLength) - footBytes);
        await file.sync();
        await end();
        await files.rename(name + draftEnd, name + finishedEnd);
        await files.syncNames();
        return facts;
      }),
    suspend: () => translated(name, end),
    discard: () =>
      translated(name, async () => {
        if (!isEnded) await end();
        await files.remove(name + draftEnd);
      }),
  };
}

/** How far an unfinished file is whole, and the checksum of its bytes; undefined when not even its head is. */
async function wholeBlocks(file: StoredFile): Promise<SnapshotFacts | undefined> {
  try {
    checkHead(await file.read({ position: 0, byteLength: headBytes }));
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
  let checksum = 0;
  for (let number = 0; ; number++) {
    const position = blockPosition(number);
    const isThere = position + blockHeadBytes + blockBytes <= file.byteLength;
    if (!isThere) return { byteLength: number * blockBytes, checksum };
    const bytes = await file.read({ position, byteLength: blockHeadBytes + blockBytes });
    try {
      checksum = crc32(decodeBlock(number, bytes, blockBytes), checksum);
    } catch (error) {
      if (error instanceof MalformedBytesError)
        return { byteLength: number * blockBytes, checksum };
      throw error;
    }
  }
}

async function checkWhole(name: string, file: StoredFile, expected: SnapshotFacts): Promise<void> {
  const wholeBytes = fileBytes(expected.byteLength);
  if (file.byteLength !== wholeBytes) {
    throw damaged(name, `it has ${file.byteLength} bytes, expected ${wholeBytes}`);
  }
  const head = await file.read({ position: 0, byteLength: headBytes });
  const foot = await file.read({ position: wholeBytes - footBytes, byteLength: footBytes });
  const facts = checked(name, 0, () => {
    checkHead(head);
    return decodeFoot(foot);
  });
  if (facts.byteLength === expected.byteLength && facts.checksum === expected.checksum) return;
  throw damaged(name, 'its foot is that of another snapshot');
}

function readerOf(name: string, file: StoredFile, byteLength: number): SnapshotReader {
  let isClosed = false;
  return {
    read: (offset, byteLengthMax, buffer) =>
      translated(name, async () => {
        assert(offset >= 0, 'an offset is not negative');
        assert(byteLengthMax > 0, 'a read wants something');
        if (offset >= byteLength) return new Uint8Array(0);
        const number = Math.floor(offset / blockBytes);
        const expectedBytes = bytesInBlock(number, byteLength);
        const range = {
          position: blockPosition(number),
          byteLength: blockHeadBytes + expectedBytes,
        };
        const bytes = await file.read(range, buffer);
        const content = checked(name, number, () => decodeBlock(number, bytes, expectedBytes));
        const from = offset - number * blockBytes;
        return content.subarray(from, from + byteLengthMax);
      }),
    async close() {
      if (isClosed) return;
      isClosed = true;
      await translated(name, () => file.close());
    },
  };
}

function checked<T>(name: string, block: number, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    throw damaged(name, `block ${block}: ${error.message}`, block);
  }
}

function damaged(name: string, reason: string, block?: number): KommanderError {
  return new KommanderError(
    `the stored snapshot ${name} is damaged: ${reason}. Restore the directory or replace the node`,
    { code: 'SNAPSHOT_CORRUPT', details: { snapshot: name, block, reason } },
  );
}

/** What the files throw becomes a typed error. */
async function translated<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    // A broken rule of the port is the caller's.
    if (isKommanderError(cause) || (cause instanceof Error && cause.name === 'AssertionError'))
      throw cause;
    const isFull = isOutOfSpace(cause);
    const todo = isFull ? 'make room' : 'check the disk';
    throw new KommanderError(`the snapshot ${name} failed: ${String(cause)}; ${todo}`, {
      code: isFull ? 'DISK_FULL' : 'WAL_FAILED',
      details: { snapshot: name },
      cause,
    });
  }
}
