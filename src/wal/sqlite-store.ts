// The SQLite database of a log store, as the worker thread has it: its tables, and the few verbs that the engine needs.
// One batch is one transaction. What is synced when, and when the journal (`-wal`) moves to the tables, is decided here.
// Which rows a batch changes is decided in `sqlite.ts`.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { assert, must, unreachable } from '../base/assert.ts';
import { MalformedBytesError } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import { decodeRun, encodeRuns, readRunHeader, runHeaderBytes } from '../ports/run.ts';
import { corrupt, decoded } from './damage.ts';
import { importSqlite } from './node-sqlite.ts';
import { encodeBatchMark } from './record.ts';
import { OperationKind, type SqliteOperation } from './sqlite-operations.ts';

export const databaseName = 'log.sqlite';
export const journalName: string = `${databaseName}-wal`;
/** Grows with every change of the tables; the directory's mark has it as well. */
export const schemaVersion = 1;

/**
 * The journal moves to the tables when it is longer than so many bytes: by one batch at most. It then begins again at the
 * first byte of its file, which keeps this length: a disk syncs what it overwrites sooner than what makes a file grow.
 */
export const journalBytesMax = 16_777_216;

/** The tables, as `docs/internals/log-format.md` explains them. */
const schema = `
  CREATE TABLE batch (id INTEGER PRIMARY KEY CHECK (id = 1), mark BLOB NOT NULL) STRICT;
  CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
  CREATE TABLE partitions (
    partition_id INTEGER PRIMARY KEY,
    last_index INTEGER NOT NULL,
    hard_state BLOB,
    compaction BLOB
  ) STRICT;
  CREATE TABLE bases (partition_id INTEGER PRIMARY KEY, base BLOB NOT NULL) STRICT;
  CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    partition_id INTEGER NOT NULL,
    first_index INTEGER NOT NULL,
    run BLOB NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX partition_ids ON partitions (partition_id);
  CREATE UNIQUE INDEX base_ids ON bases (partition_id);
  PRAGMA user_version = ${schemaVersion};
`;

export interface SqliteStore {
  readonly database: DatabaseSync;
  readonly statements: Statements;
  readonly path: string;
  /** What `PRAGMA synchronous` says. */
  isSynchronous: boolean;
}

interface Statements {
  readonly insertRun: StatementSync;
  readonly selectRun: StatementSync;
  readonly updateRun: StatementSync;
  readonly deleteRun: StatementSync;
  readonly putPartition: StatementSync;
  readonly putBase: StatementSync;
  readonly putFact: StatementSync;
  readonly deleteFact: StatementSync;
  readonly putMark: StatementSync;
}

/**
 * Opens the database in directory `path`, and makes it when there is none. Nothing that it recovered is written anywhere
 * yet: the journal is still as it was found.
 *
 * @throws WAL_LOCKED, WAL_CORRUPT, WAL_FAILED, DISK_FULL
 */
export async function openDatabase(path: string): Promise<SqliteStore> {
  const { DatabaseSync } = await importSqlite();
  checkFiles(path);
  const database = sqliteCall(path, () => new DatabaseSync(join(path, databaseName)));
  try {
    return sqliteCall(path, () => {
      // Before the journal is touched: the lock is then kept for good, and no shared memory is needed.
      database.exec('PRAGMA locking_mode = EXCLUSIVE');
      const { journal_mode: mode } = database.prepare('PRAGMA journal_mode = WAL').get() ?? {};
      assert(mode === 'wal', 'SQLite writes ahead');
      database.exec(`
        PRAGMA synchronous = FULL;
        PRAGMA fullfsync = ON;
        PRAGMA wal_autocheckpoint = 0;
        PRAGMA journal_size_limit = ${journalBytesMax};
      `);
      makeTables(path, database);
      return {
        database,
        statements: prepareStatements(database),
        path,
        isSynchronous: true,
      };
    });
  } catch (error) {
    closeQuietly(database);
    throw error;
  }
}

/**
 * Stores all operations or none.
 *
 * @param sync whether they, and all before them, survive a power loss when this returns
 * @throws DISK_FULL nothing was stored
 * @throws WAL_FAILED the outcome is unknown
 */
export function writeOperations(
  store: SqliteStore,
  operations: Iterable<SqliteOperation>,
  sync: boolean,
): void {
  sqliteCall(store.path, () => {
    // What the journal could not be relieved of must not make it longer and longer.
    if (isCheckpointDue(store)) checkpoint(store);
    setSynchronous(store, sync);
    const { database } = store;
    try {
      database.exec('BEGIN IMMEDIATE');
      for (const operation of operations) carryOut(store.statements, operation);
      database.exec('COMMIT');
    } catch (error) {
      // A transaction without an end would take in the next batch.
      if (database.isTransaction) database.exec('ROLLBACK');
      throw error;
    }
  });
}

/** Whether the journal is so long that it should move to the tables. */
export function isCheckpointDue({ path }: SqliteStore): boolean {
  // The first commit behind a checkpoint cuts a longer file to this length.
  return byteLengthOf(join(path, journalName)) > journalBytesMax;
}

/**
 * Moves the journal to the tables and syncs both; the journal begins again at its first byte.
 *
 * @throws DISK_FULL the journal goes on as it is
 * @throws WAL_FAILED
 */
export function checkpoint(store: SqliteStore): void {
  const { database, path } = store;
  sqliteCall(path, () => {
    setSynchronous(store, true);
    const result = database.prepare('PRAGMA wal_checkpoint(RESTART)').get() ?? {};
    assert(result.busy === 0, 'nobody else has the store open');
    assert(result.log === result.checkpointed, 'the whole journal is moved');
    // The first transaction of a journal syncs its header, one more sync than a batch should wait for: let it be this one.
    // It has to write something; rows that stay as they are would not be written.
    setSynchronous(store, false);
    database.exec(`PRAGMA user_version = ${schemaVersion}`);
  });
}

/**
 * The runs of rows `rowIds`, in order, until their payloads surely fill `bytesMax`; one at least.
 *
 * @returns `undefined` at the place of the first row that is not there, and nothing behind it
 * @throws WAL_CORRUPT, WAL_FAILED
 */
export function readRuns(
  store: SqliteStore,
  range: { readonly rowIds: readonly number[]; readonly bytesMax: number },
): (Uint8Array | undefined)[] {
  return sqliteCall(store.path, () => {
    const runs: (Uint8Array | undefined)[] = [];
    let readBytes = 0;
    let payloadBytes = 0;
    for (const rowId of range.rowIds) {
      const row = store.statements.selectRun.get(rowId);
      const run = row === undefined ? undefined : blob(row.run);
      runs.push(run);
      if (run === undefined) break;
      readBytes += run.byteLength;
      // The first run may begin below what is asked for.
      if (runs.length > 1) payloadBytes += payloadBytesAtLeast(run);
      if (payloadBytes > range.bytesMax || readBytes >= replyBytesMax) break;
    }
    return runs;
  });
}

/** Idempotent. What the journal has moves to the tables first. */
export function closeDatabase(store: SqliteStore): void {
  sqliteCall(store.path, () => {
    if (store.database.isOpen) store.database.close();
  });
}

/** Does something with SQLite; what it says becomes a typed error. */
export function sqliteCall<T>(path: string, call: () => T): T {
  try {
    return call();
  } catch (cause) {
    if (cause instanceof KommanderError) throw cause;
    throw sqliteError(path, cause);
  }
}

/** The bytes of a column. @throws WAL_CORRUPT it is no blob */
export function blob(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw corrupt('a column is no blob', { file: databaseName });
}

/** Bytes of runs in one answer; a longer run is one by itself. */
const replyBytesMax = 8_388_608;
/** Kind and length of a payload below 2^56 bytes. */
const recordHeadBytesMax = 9;

/** Codes of SQLite without their extension. */
const ResultCode = {
  error: 1,
  busy: 5,
  corrupt: 11,
  full: 13,
  tooBig: 18,
  notDatabase: 26,
} as const;

/** What a failure of SQLite means for the store in directory `path`. */
export function sqliteError(path: string, cause: unknown): KommanderError {
  const resultCode = resultCodeOf(cause);
  const file = join(path, databaseName);
  const options = { details: { path, file: databaseName }, cause };
  switch (resultCode) {
    case ResultCode.busy:
      return new KommanderError(
        `the log store ${path} is open elsewhere: stop the other process or choose another directory`,
        { ...options, code: 'WAL_LOCKED' },
      );
    // Our statements are right: a table or a column of theirs is not there.
    case ResultCode.error:
    case ResultCode.corrupt:
    case ResultCode.notDatabase:
      return new KommanderError(`the log store is damaged in file ${file}: ${String(cause)}`, {
        ...options,
        code: 'WAL_CORRUPT',
      });
    case ResultCode.full:
      return new KommanderError(
        `there is no room for the log store ${path}: make some on its disk (${String(cause)})`,
        { ...options, code: 'DISK_FULL' },
      );
    default:
      return new KommanderError(`the log store ${path} failed: ${String(cause)}`, {
        ...options,
        code: 'WAL_FAILED',
      });
  }
}

/** Whether reading with statements that are right fails like this only when the database is damaged, schema included. */
export function isDamagedDatabase(cause: unknown): boolean {
  const { error, corrupt: torn, tooBig, notDatabase } = ResultCode;
  const code = resultCodeOf(cause);
  return code === error || code === torn || code === tooBig || code === notDatabase;
}

function resultCodeOf(cause: unknown): number | undefined {
  if (!(cause instanceof Error) || !('errcode' in cause)) return undefined;
  return typeof cause.errcode === 'number' ? cause.errcode & 0xff : undefined;
}

/** SQLite takes an empty database for a new one and removes its journal; but a new one has none. */
function checkFiles(path: string): void {
  const databaseBytes = byteLengthOf(join(path, databaseName));
  if (databaseBytes === 0 && byteLengthOf(join(path, journalName)) > 0)
    throw corrupt('the file is empty or gone, but not its journal', { file: databaseName });
}

function byteLengthOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

function makeTables(path: string, database: DatabaseSync): void {
  const { user_version: version } = database.prepare('PRAGMA user_version').get() ?? {};
  if (version === schemaVersion) return;
  const { count } = database.prepare('SELECT count(*) AS count FROM sqlite_schema').get() ?? {};
  if (version !== 0 || count !== 0)
    throw corrupt(`it has ${String(count)} tables of version ${String(version)}`, {
      file: join(path, databaseName),
    });
  const { name } = database.prepare('SELECT lower(hex(randomblob(16))) AS name').get() ?? {};
  assert(typeof name === 'string', 'SQLite draws a name for the store');
  const mark = encodeBatchMark({ identity: name, batchNumber: 1, syncedBatch: 0 });
  database.exec(`BEGIN IMMEDIATE; ${schema}`);
  database.prepare('INSERT INTO batch VALUES (1, ?)').run(mark);
  database.exec('COMMIT');
}

function prepareStatements(database: DatabaseSync): Statements {
  return {
    insertRun: database.prepare('INSERT INTO runs VALUES (?, ?, ?, ?)'),
    selectRun: database.prepare('SELECT run FROM runs WHERE id = ?'),
    updateRun: database.prepare('UPDATE runs SET run = ? WHERE id = ?'),
    deleteRun: database.prepare('DELETE FROM runs WHERE id = ?'),
    putPartition: database.prepare(`
      INSERT INTO partitions VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        last_index = excluded.last_index,
        hard_state = coalesce(excluded.hard_state, hard_state),
        compaction = coalesce(excluded.compaction, compaction)
    `),
    putBase: database.prepare('INSERT OR REPLACE INTO bases VALUES (?, ?)'),
    putFact: database.prepare('INSERT OR REPLACE INTO facts VALUES (?, ?)'),
    deleteFact: database.prepare('DELETE FROM facts WHERE name = ?'),
    putMark: database.prepare('UPDATE batch SET mark = ? WHERE id = 1'),
  };
}

function carryOut(statements: Statements, operation: SqliteOperation): void {
  switch (operation.kind) {
    case OperationKind.putRun: {
      const { rowId, partitionId, firstIndex, run } = operation;
      statements.insertRun.run(rowId, partitionId, firstIndex, run);
      return;
    }
    case OperationKind.cutRun:
      cutRun(statements, operation);
      return;
    case OperationKind.deleteRun:
      changeOne(statements.deleteRun.run(operation.rowId));
      return;
    case OperationKind.putPartition: {
      const { partitionId, lastIndex, hardState, compaction } = operation;
      statements.putPartition.run(partitionId, lastIndex, hardState ?? null, compaction ?? null);
      return;
    }
    case OperationKind.putBase:
      statements.putBase.run(operation.partitionId, operation.base);
      return;
    case OperationKind.putFact: {
      const { name, value } = operation;
      if (value === undefined) statements.deleteFact.run(name);
      else statements.putFact.run(name, value);
      return;
    }
    case OperationKind.putMark:
      changeOne(statements.putMark.run(operation.mark));
      return;
    default:
      unreachable(operation);
  }
}

/** Stores a run again without its entries from `endIndex` on. */
function cutRun(
  statements: Statements,
  cut: { readonly rowId: number; readonly endIndex: number },
): void {
  const row = must(statements.selectRun.get(cut.rowId), 'a run that is cut is stored');
  const run = decoded({ record: 'run', index: cut.endIndex }, () => decodeRun(blob(row.run)));
  const [shorter] = encodeRuns(run.filter((entry) => entry.index < cut.endIndex));
  const bytes = must(shorter, 'a run that is cut begins below the cut');
  changeOne(statements.updateRun.run(bytes, cut.rowId));
}

function changeOne({ changes }: { readonly changes: number | bigint }): void {
  assert(changes === 1, 'the row is there');
}

function payloadBytesAtLeast(run: Uint8Array): number {
  try {
    const { entryCount } = readRunHeader(run);
    return Math.max(0, run.byteLength - runHeaderBytes - entryCount * recordHeadBytesMax);
  } catch (error) {
    // Who asked for the run decodes it, and says where it is damaged.
    if (error instanceof MalformedBytesError) return 0;
    throw error;
  }
}

function setSynchronous(store: SqliteStore, isSynchronous: boolean): void {
  if (store.isSynchronous === isSynchronous) return;
  // NORMAL syncs only what the order of things needs: the journal before it moves to the tables.
  store.database.exec(`PRAGMA synchronous = ${isSynchronous ? 'FULL' : 'NORMAL'}`);
  store.isSynchronous = isSynchronous;
}

function closeQuietly(database: DatabaseSync): void {
  try {
    database.close();
  } catch {
    // The first error is the one that counts.
  }
}
