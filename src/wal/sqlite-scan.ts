// What `open` reads of a SQLite log store: every table once. Records and the last run of a partition are checked in full,
// other runs by their headers (`gathered-partition.ts`), and the two against each other: SQLite's pages have no checksums,
// so a damaged page may lose rows without a word. That the pages fit together is checked by SQLite itself.

import { decodeRun } from '../ports/run.ts';
import type { PartitionId, StoredPartition } from '../ports/wal.ts';
import { corrupt, decoded, missing } from './damage.ts';
import {
  checkedPartition,
  type GatheredPartition,
  gatherPartition,
  takeRun,
} from './gathered-partition.ts';
import {
  type BatchMark,
  decodeBase,
  decodeBatchMark,
  decodeCompactionMark,
  decodeHardState,
  decodeMeta,
} from './record.ts';
import { addRow, noSqliteRuns, type SqliteRuns } from './sqlite-runs.ts';
import { blob, databaseName, type SqliteStore, sqliteCall } from './sqlite-store.ts';

export interface ScannedSqlitePartition {
  readonly stored: StoredPartition;
  readonly runs: SqliteRuns;
}

export interface ScannedSqliteStore {
  /** Ascending by id. */
  readonly partitions: readonly ScannedSqlitePartition[];
  readonly meta: ReadonlyMap<string, Uint8Array>;
  /** Of the last run; 0 when there is none. */
  readonly lastRowId: number;
}

interface GatheredRows {
  readonly partition: GatheredPartition;
  /** What the row of the partition says. */
  readonly lastIndex: number;
  readonly rows: SqliteRuns;
}

type Row = Readonly<Record<string, unknown>>;

const partitionsInOrder =
  'SELECT partition_id, last_index, hard_state, compaction FROM partitions ORDER BY partition_id';
const runsInOrder = 'SELECT id, partition_id, first_index, run FROM runs ORDER BY id';

/**
 * Reads the store.
 *
 * @throws WAL_CORRUPT a record is damaged, a run is missing or not where it belongs, or SQLite finds its file damaged
 */
export function scanSqlite(store: SqliteStore): ScannedSqliteStore {
  try {
    return sqliteCall(store.path, () => scan(store));
  } catch (error) {
    // A number that no store of ours writes.
    const isStrange = error instanceof Error && 'cause' in error && isOutOfRange(error.cause);
    throw isStrange ? corrupt(String(error.cause), { file: databaseName }) : error;
  }
}

/**
 * The mark of the last batch that was recovered.
 *
 * @throws WAL_CORRUPT it is damaged or missing
 */
export function readBatchMark({ path, database }: SqliteStore): BatchMark {
  return sqliteCall(path, () => {
    const batch = database.prepare('SELECT mark FROM batch').get();
    if (batch === undefined)
      throw corrupt('the row is missing', { record: 'batch mark', file: databaseName });
    return decoded({ record: 'batch mark', file: databaseName }, () =>
      decodeBatchMark(blob(batch.mark)),
    );
  });
}

function scan({ database }: SqliteStore): ScannedSqliteStore {
  const rows = (sql: string): Iterable<Row> => database.prepare(sql).iterate();
  const gathered = new Map<PartitionId, GatheredRows>();
  for (const row of rows(partitionsInOrder)) {
    const partitionId = partitionIdOf(row);
    gathered.set(partitionId, gatheredRows(partitionId, row));
  }
  for (const row of rows('SELECT partition_id, base FROM bases')) {
    const { partition } = owner(gathered, partitionIdOf(row));
    const where = { partitionId: partition.stored.partitionId, record: 'base', file: databaseName };
    partition.stored = {
      ...partition.stored,
      base: decoded(where, () => decodeBase(blob(row.base))),
    };
  }
  const lastRowId = takeRuns(gathered, rows(runsInOrder));
  const meta = new Map<string, Uint8Array>();
  for (const row of rows('SELECT name, value FROM facts')) {
    const { name } = row;
    if (typeof name !== 'string') throw corrupt('fact without a name', { file: databaseName });
    const where = { record: `fact ${name}`, file: databaseName };
    meta.set(
      name,
      decoded(where, () => decodeMeta(blob(row.value))),
    );
  }
  const partitions = [...gathered.values()].map(scannedPartition);
  const runOf = database.prepare('SELECT run FROM runs WHERE id = ?');
  for (const { stored, runs } of partitions) checkLastRun(stored, runs, (id) => runOf.get(id)?.run);
  checkPages(rows('PRAGMA integrity_check(1)'));
  return { partitions, meta, lastRowId };
}

function gatheredRows(partitionId: PartitionId, row: Row): GatheredRows {
  const partition = gatherPartition(partitionId);
  if (row.hard_state !== null) {
    const where = { partitionId, record: 'hard state', file: databaseName };
    const hardState = decoded(where, () => decodeHardState(blob(row.hard_state)));
    partition.stored = { ...partition.stored, hardState };
  }
  if (row.compaction !== null) {
    const where = { partitionId, record: 'compaction mark', file: databaseName };
    const { index, term } = decoded(where, () => decodeCompactionMark(blob(row.compaction)));
    partition.stored = { ...partition.stored, compactedIndex: index, compactedTerm: term };
    partition.lastIndex = index;
  }
  return { partition, lastIndex: Number(row.last_index), rows: noSqliteRuns() };
}

/** @returns the last row */
function takeRuns(gathered: ReadonlyMap<PartitionId, GatheredRows>, rows: Iterable<Row>): number {
  let rowId: number | undefined;
  for (const row of rows) {
    const previous = rowId;
    rowId = Number(row.id);
    if (previous !== undefined && rowId <= previous)
      throw corrupt(`row ${rowId} of table runs behind row ${previous}`, { file: databaseName });
    const { partition, rows: ofPartition } = owner(gathered, partitionIdOf(row));
    const firstIndex = Number(row.first_index);
    takeRun(partition, firstIndex, blob(row.run));
    addRow(ofPartition, { firstIndex, rowId });
  }
  return rowId ?? 0;
}

function scannedPartition({ partition, lastIndex, rows }: GatheredRows): ScannedSqlitePartition {
  const { stored } = checkedPartition(partition);
  const { partitionId } = stored;
  if (stored.lastIndex < lastIndex) throw missing(partitionId, stored.lastIndex + 1);
  if (stored.lastIndex > lastIndex)
    throw corrupt(`the log should end at ${lastIndex}`, { partitionId, index: stored.lastIndex });
  return { stored, runs: rows };
}

/**
 * Elections compare the terms of last entries. A damaged header may have another one, and no later run contradicts it:
 * only the run's checksum does.
 */
function checkLastRun(
  { partitionId }: StoredPartition,
  { firstIndexes, rowIds }: SqliteRuns,
  runOf: (rowId: number) => unknown,
): void {
  const [index, rowId] = [firstIndexes.at(-1), rowIds.at(-1)];
  if (index === undefined || rowId === undefined) return;
  const where = { partitionId, index, record: 'run', file: databaseName };
  decoded(where, () => decodeRun(blob(runOf(rowId))));
}

/** @throws WAL_CORRUPT no partition has this number */
export function partitionIdOf(row: Row): PartitionId {
  const partitionId = Number(row.partition_id);
  const isId = Number.isInteger(partitionId) && partitionId >= 0 && partitionId <= 0x7fff_ffff;
  if (!isId) throw corrupt(`partition ${partitionId}`, { file: databaseName });
  return partitionId;
}

function owner(
  gathered: ReadonlyMap<PartitionId, GatheredRows>,
  partitionId: PartitionId,
): GatheredRows {
  const found = gathered.get(partitionId);
  if (found === undefined)
    throw corrupt('the row of the partition is missing', { partitionId, file: databaseName });
  return found;
}

/** The names of facts and the numbers of partitions have no checksum: they must be those that their indexes have. */
function checkPages(rows: Iterable<Row>): void {
  for (const { integrity_check: finding } of rows) {
    if (finding !== 'ok') throw corrupt(String(finding), { file: databaseName });
  }
}

function isOutOfRange(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'ERR_OUT_OF_RANGE';
}
