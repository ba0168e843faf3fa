// Stores on a real disk for the tests of the tools: made, damaged and looked at behind the back of whoever uses them.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { PartitionWrite, Wal, WalBatch } from '../../src/ports/wal.ts';
import { type Entry, EntryKind } from '../../src/raft/types.ts';
import {
  contentsOf,
  laidOut,
  membersOf,
  numbered,
  type WalModel,
  writeToModel,
} from '../../src/testing/wal-model.ts';
import { importRocksDb, type RocksDbOperation } from '../../src/wal/rocksdb-library.ts';
import { durableEngines } from './durable-engines.ts';

/** A directory that is gone after the test. */
export async function newDirectory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'kommander-tools-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** For the time of the test, `tmpdir()` is a directory in which no other test file makes anything. */
export async function useOwnTemporaryDirectory(t: TestContext): Promise<void> {
  const before = process.env.TMPDIR;
  process.env.TMPDIR = await newDirectory(t);
  t.after(() => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  });
}

/** Every file below `path` with its content's hash, its size and when it was changed. */
export async function fingerprint(path: string): Promise<readonly string[]> {
  const lines: string[] = [];
  for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    const { mtimeMs, ctimeMs, size, mode, nlink } = await stat(file);
    const bytes = entry.isFile() ? await readFile(file) : new Uint8Array(0);
    const hash = createHash('sha256').update(bytes).digest('hex');
    lines.push(`${file} ${hash} ${size} ${mtimeMs} ${ctimeMs} ${mode} ${nlink}`);
  }
  const own = await stat(path);
  return [`${path} ${own.mtimeMs} ${own.ctimeMs}`, ...lines.sort()];
}

/** Entries whose payloads say which they are. */
export function entriesFrom(index: number, term: number, count: number): Entry[] {
  const payloads = Array.from({ length: count }, (_, i) => ({
    kind: EntryKind.normal,
    bytes: Uint8Array.from(Buffer.from(`entry ${index + i} ${'.'.repeat(100)}`)),
  }));
  return numbered(laidOut(payloads), { index, term });
}

export function batchOf(write: Partial<PartitionWrite>, sync = false): WalBatch {
  const part: PartitionWrite = {
    partitionId: 1,
    hardState: undefined,
    base: undefined,
    resetLog: false,
    entries: [],
    compactThroughIndex: undefined,
    ...write,
  };
  return { writes: [part], meta: new Map(), sync };
}

/** Takes away what only a node can write: to the tools random bytes are no genesis record, and say nothing of a state. */
export function withoutNodeWords(model: WalModel): readonly WalBatch[] {
  const meta = new Map(['genesis', 'incarnation'].map((name) => [name, undefined]));
  const bases = contentsOf(model)
    .partitions.filter(({ base }) => base.data !== undefined)
    .map(({ partitionId, base }) =>
      batchOf({ partitionId, base: { ...base, data: undefined } }, true),
    );
  const batches = [{ writes: [], meta, sync: true }, ...bases];
  for (const batch of batches) writeToModel(model, batch);
  return batches;
}

/** Opens, writes and closes. */
export async function fillStore(
  path: string,
  fill: (wal: Wal) => Promise<void>,
  engine = 'rocksdb',
): Promise<void> {
  const wal = openerOf(engine)(path);
  await wal.open();
  await fill(wal);
  await wal.close();
}

/** How stores of a durable engine are made. */
export function openerOf(engine: string): (path: string) => Wal {
  const opener = durableEngines[engine];
  assert.ok(opener !== undefined, `${engine} is a durable engine`);
  return opener;
}

/** Three partitions: 1 with runs 1-5, 6-10, 11-15 and a base, 2 that begins at 7, 3 with hundreds of runs. */
export async function writeThreePartitions(wal: Wal): Promise<void> {
  const confState = membersOf([1, 2, 3]);
  const hardState = { term: 3, votedFor: 1, commitIndex: 12 };
  for (const term of [1, 2, 3])
    await wal.write(batchOf({ hardState, entries: entriesFrom(term * 5 - 4, term, 5) }, true));
  await wal.write(batchOf({ base: { index: 12, term: 3, confState, data: undefined } }));
  const base = { index: 7, term: 1, confState, data: Uint8Array.of(9, 9) };
  await wal.write(batchOf({ partitionId: 2, base, hardState, entries: entriesFrom(8, 1, 2) }));
  await wal.write(batchOf({ partitionId: 3, hardState }));
  for (let index = 1; index <= 400; index += 4)
    await wal.write(batchOf({ partitionId: 3, entries: entriesFrom(index, 2, 4) }));
  await wal.write({ writes: [], meta: new Map([['genesis', Uint8Array.of(1, 2, 3)]]), sync: true });
}

/** Changes rows of a closed store. */
export async function tamper(
  path: string,
  ...operations: readonly RocksDbOperation[]
): Promise<void> {
  const handle = await (await importRocksDb()).open(path);
  await handle.write(operations, { sync: true });
  await handle.close();
}

/** The value under `key` of a closed store, with one bit flipped; negative positions count from the end. */
export async function flipped(
  path: string,
  key: Uint8Array,
  position: number,
): Promise<Uint8Array> {
  const handle = await (await importRocksDb()).open(path);
  const end = new Uint8Array([...key, 0]);
  const scan = handle.scan({ from: key, end, chunkBytes: 1_000_000 });
  const [row] = await scan.next();
  await scan.close();
  await handle.close();
  assert.ok(row !== undefined, 'the row is there');
  const value = row.value.slice();
  const at = position < 0 ? value.byteLength + position : position;
  value[at] = (value[at] as number) ^ 0x10;
  return value;
}

/** Flips a bit in the first file with this ending that holds `text`, inside of it. */
export async function damageFile(path: string, ending: string, text: string): Promise<string> {
  for (const name of (await readdir(path)).filter((each) => each.endsWith(ending))) {
    const bytes = await readFile(join(path, name));
    const at = bytes.indexOf(text);
    if (at < 0) continue;
    bytes[at] = (bytes[at] as number) ^ 0x20;
    await writeFile(join(path, name), bytes);
    return name;
  }
  throw new Error(`no *${ending} in ${path} holds "${text}"`);
}
