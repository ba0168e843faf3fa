// What the tests of the SQLite engine share: stores in directories of their own, small logs, and hands on closed stores.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isKommanderError } from '../../src/base/errors.ts';
import type { PartitionWrite, Wal, WalBatch } from '../../src/ports/wal.ts';
import { type Entry, EntryKind } from '../../src/raft/types.ts';
import { laidOut, numbered } from '../../src/testing/wal-model.ts';
import { importSqlite } from '../../src/wal/node-sqlite.ts';
import { sqliteWal } from '../../src/wal/sqlite.ts';
import { databaseName } from '../../src/wal/sqlite-store.ts';

export function newDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'kommander-wal-'));
}

export async function inDirectory(body: (path: string) => Promise<void>): Promise<void> {
  const path = await newDirectory();
  try {
    await body(path);
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

export function entriesFrom(index: number, term: number, count: number): Entry[] {
  const payloads = Array.from({ length: count }, (_, i) => ({
    kind: EntryKind.normal,
    bytes: Uint8Array.from(Buffer.from(`entry ${index + i}`)),
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

export async function opened(path: string): Promise<Wal> {
  const wal = sqliteWal({ path });
  await wal.open();
  return wal;
}

/** A closed store with entries 1 … 15 of partition 1 in three runs. */
export async function writeThreeRuns(path: string): Promise<void> {
  const wal = await opened(path);
  for (const term of [1, 2, 3])
    await wal.write(batchOf({ entries: entriesFrom(term * 5 - 4, term, 5) }));
  await wal.close();
}

export type Rows = readonly Readonly<Record<string, unknown>>[];

/** Asks a closed store. */
export async function query(path: string, sql: string): Promise<Rows> {
  const { DatabaseSync } = await importSqlite();
  const database = new DatabaseSync(join(path, databaseName));
  try {
    return database
      .prepare(sql)
      .all()
      .map((row) => ({ ...row }));
  } finally {
    database.close();
  }
}

/** Changes a closed store behind its back. */
export async function tamper(
  path: string,
  sql: string,
  ...values: (Uint8Array | number)[]
): Promise<void> {
  const { DatabaseSync } = await importSqlite();
  const database = new DatabaseSync(join(path, databaseName));
  try {
    database.prepare(sql).run(...values);
  } finally {
    database.close();
  }
}

/** Flips a bit of a blob in a closed store. */
export async function flipBlob(
  path: string,
  place: { readonly table: string; readonly column: string; readonly where: string },
  position: number,
): Promise<void> {
  const { table, column, where } = place;
  const [row] = await query(path, `SELECT ${column} AS bytes FROM ${table} WHERE ${where}`);
  assert.ok(row?.bytes instanceof Uint8Array);
  const bytes = row.bytes.slice();
  const at = position < 0 ? bytes.byteLength + position : position;
  bytes[at] = (bytes[at] as number) ^ 0x10;
  await tamper(path, `UPDATE ${table} SET ${column} = ? WHERE ${where}`, bytes);
}

export async function rejectsOpen(
  path: string,
  code: 'WAL_CORRUPT' | 'WAL_VERSION',
): Promise<Error> {
  const wal = sqliteWal({ path });
  let thrown: unknown;
  try {
    await wal.open();
  } catch (error) {
    thrown = error;
  }
  await wal.close();
  assert.ok(isKommanderError(thrown, code), `${code}: ${String(thrown)}`);
  return thrown;
}

/** Flips bits of one byte of a file. */
export async function flipFile(file: string, at: number, bit: number): Promise<void> {
  const bytes = await readFile(file);
  bytes[at] = (bytes[at] as number) ^ bit;
  await writeFile(file, bytes);
}
