// Reading a closed SQLite store around its damages (`store-reader.ts`): row by row. The rows of a partition's runs are
// listed first, because the table has them in the order in which they were written, whichever partition they are of. Pages
// have no checksums: what a damaged one hides is told by the partition's last index and by SQLite, which looks whether its
// pages fit together.

import { MalformedBytesError } from '../base/bytes.ts';
import { isKommanderError } from '../base/errors.ts';
import { decodeRun } from '../ports/run.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { Entry, LogIndex } from '../raft/types.ts';
import { decoded } from './damage.ts';
import {
  decodeBase,
  decodeBatchMark,
  decodeCompactionMark,
  decodeHardState,
  decodeMeta,
} from './record.ts';
import { provenBatch } from './sqlite-evidence.ts';
import { openMirror } from './sqlite-mirror.ts';
import { partitionIdOf } from './sqlite-scan.ts';
import {
  runSteps,
  type SqliteRow,
  type SqliteSource,
  type SqliteStep,
  stepsOf,
} from './sqlite-steps.ts';
import { blob, databaseName, journalName, schemaVersion } from './sqlite-store.ts';
import {
  damagedRun,
  type StoreDamage,
  type StoreFind,
  type StoreReader,
  wholeDamage,
} from './store-reader.ts';

/** What SQLite finds wrong with its pages is told up to so many times. */
const pageFindingsMax = 100;

/**
 * Opens the closed store in directory `path` for reading. Nobody may open it for writing meanwhile.
 *
 * @throws WAL_FAILED the directory cannot be read, or there is no room for a copy of the database
 */
export async function readSqliteStore(path: string): Promise<StoreReader> {
  const { database, isHeadless, close } = await openMirror(path);
  return {
    async *finds(only) {
      if (database !== undefined) yield* findsOf({ path, database }, only);
      else if (isHeadless) yield lost('the file is empty or gone, but not its journal');
    },
    close,
  };
}

/** What the row of a partition says of its log. */
interface LogBounds {
  compactedIndex: LogIndex;
  lastIndex: LogIndex;
}

function* findsOf(source: SqliteSource, only: PartitionId | undefined): Generator<StoreFind> {
  const schema = schemaOf(source);
  if (schema !== 'known') {
    if (schema !== 'none') yield schema;
    return;
  }
  yield* batchFinds(source);
  yield* rowFinds(stepsOf(source, 'SELECT name, value FROM facts'), factFinds);
  const bounds = new Map<PartitionId, LogBounds>();
  const isWanted = (partitionId: PartitionId): boolean =>
    only === undefined || partitionId === only;
  for (const sql of [
    'SELECT partition_id, last_index, hard_state, compaction FROM partitions ORDER BY partition_id',
    'SELECT partition_id, base FROM bases ORDER BY partition_id',
  ])
    yield* rowFinds(stepsOf(source, sql), (row) => {
      const partitionId = partitionIdOf(row);
      if (!isWanted(partitionId)) return [];
      return 'base' in row ? [baseOf(partitionId, row)] : partitionFinds(partitionId, row, bounds);
    });
  const rowIds = new Map<PartitionId, number[]>();
  yield* rowFinds(runSteps(source), (row) => {
    const partitionId = partitionIdOf(row);
    const known = rowIds.get(partitionId);
    if (known === undefined) rowIds.set(partitionId, [Number(row.id)]);
    else known.push(Number(row.id));
    return [];
  });
  const ids = [...new Set([...bounds.keys(), ...rowIds.keys()])].filter(isWanted);
  for (const partitionId of ids.sort((a, b) => a - b)) {
    const place = { partitionId, rowIds: rowIds.get(partitionId) ?? [] };
    yield* logFinds(source, place, bounds.get(partitionId));
  }
  // Last, because all pages are read: who only wants some entries does not wait for it.
  for (const step of stepsOf(source, `PRAGMA quick_check(${pageFindingsMax})`)) {
    if (step.kind === 'gap') yield lost(step.what);
    else if (step.row.quick_check !== 'ok') yield lost(String(step.row.quick_check));
  }
}

/** Nobody knows what of the database is not there. */
function lost(what: string, file: string = databaseName): StoreFind {
  return { kind: 'damage', damage: wholeDamage(what, file) };
}

/** Whether there are tables as this program makes them; `none`: a node was killed before it had made them. */
function schemaOf(source: SqliteSource): 'known' | 'none' | StoreFind {
  const sql =
    'SELECT user_version AS version, (SELECT count(*) FROM sqlite_schema) AS count FROM pragma_user_version';
  const [step] = stepsOf(source, sql);
  if (step?.kind !== 'row') return lost(step?.what ?? 'it has no version');
  const { version, count } = step.row;
  if (version === BigInt(schemaVersion)) return 'known';
  if (version === 0n && count === 0n) return 'none';
  return lost(`it has ${String(count)} tables of version ${String(version)}`);
}

/** What the journal proves to have been acknowledged must be there. */
function* batchFinds(source: SqliteSource): Generator<StoreFind> {
  let isFound = false;
  yield* rowFinds(stepsOf(source, 'SELECT mark FROM batch'), function* (row) {
    isFound = true;
    const { identity, batchNumber } = decoded({ record: 'batch mark in table batch' }, () =>
      decodeBatchMark(blob(row.mark)),
    );
    const proven = provenBatch(source.path, identity);
    if (proven <= batchNumber) return;
    const batches = `acknowledged batches ${batchNumber + 1} … ${proven} are lost`;
    yield lost(`${batches}: the journal is damaged in the middle`, journalName);
  });
  if (!isFound) yield lost('the row of table batch is missing');
}

/** What is found in the rows; a row that means nothing may have been anything. */
function* rowFinds(
  steps: Iterable<SqliteStep>,
  findsIn: (row: SqliteRow) => Iterable<StoreFind>,
): Generator<StoreFind> {
  for (const step of steps) {
    if (step.kind === 'gap') {
      yield lost(step.what);
      continue;
    }
    try {
      yield* findsIn(step.row);
    } catch (error) {
      if (!isKommanderError(error, 'WAL_CORRUPT')) throw error;
      yield lost(error.message);
    }
  }
}

function factFinds({ name, value }: SqliteRow): StoreFind[] {
  const read = (): StoreFind => ({
    kind: 'fact',
    name: String(name),
    value: decodeMeta(blob(value)),
  });
  return [recordFind(undefined, `fact "${String(name)}" in table facts`, read)];
}

function baseOf(partitionId: PartitionId, row: SqliteRow): StoreFind {
  const read = (): StoreFind => ({ kind: 'base', partitionId, base: decodeBase(blob(row.base)) });
  return recordFind(partitionId, 'base in table bases', read);
}

/** Notes in `bounds` where the log lies. */
function* partitionFinds(
  partitionId: PartitionId,
  row: SqliteRow,
  bounds: Map<PartitionId, LogBounds>,
): Generator<StoreFind> {
  const own: LogBounds = { compactedIndex: 0, lastIndex: Number(row.last_index) };
  bounds.set(partitionId, own);
  if (row.hard_state !== null)
    yield recordFind(partitionId, 'hard state in table partitions', () => {
      const hardState = decodeHardState(blob(row.hard_state));
      return { kind: 'hardState', partitionId, hardState };
    });
  if (row.compaction !== null)
    yield recordFind(partitionId, 'compaction mark in table partitions', () => {
      const mark = decodeCompactionMark(blob(row.compaction));
      own.compactedIndex = mark.index;
      return { kind: 'compaction', partitionId, mark };
    });
}

function recordFind(
  partitionId: PartitionId | undefined,
  record: string,
  read: () => StoreFind,
): StoreFind {
  try {
    return decoded({}, read);
  } catch (error) {
    if (!isKommanderError(error, 'WAL_CORRUPT')) throw error;
    const damage = wholeDamage(`the ${record} is damaged: ${error.message}`, databaseName);
    return { kind: 'damage', damage: { ...damage, partitionId } };
  }
}

/** The runs of a partition, and whether they end where its row says. */
function* logFinds(
  source: SqliteSource,
  log: { readonly partitionId: PartitionId; readonly rowIds: readonly number[] },
  bounds: LogBounds | undefined,
): Generator<StoreFind> {
  const { partitionId, rowIds } = log;
  const place = { partitionId, file: databaseName };
  if (bounds === undefined) {
    const what = 'its row in table partitions is missing';
    yield { kind: 'damage', damage: { ...wholeDamage(what, databaseName), partitionId } };
  }
  let lastIndex = bounds?.compactedIndex ?? 0;
  for (const [position, rowId] of rowIds.entries()) {
    const find = runOf(source, partitionId, rowId);
    if (find.kind === 'run') {
      yield find;
      lastIndex = Math.max(lastIndex, (find.entries.at(-1) as Entry).index);
      continue;
    }
    // How far a damaged run reaches is told by the next one, or by the end of the log.
    const isLast = position === rowIds.length - 1;
    const reach = find.damage.lastIndex ?? (isLast ? bounds?.lastIndex : undefined);
    yield { kind: 'damage', damage: { ...find.damage, lastIndex: reach } };
    lastIndex = Math.max(lastIndex, reach ?? 0);
  }
  if (bounds === undefined || lastIndex === bounds.lastIndex) return;
  yield lastIndex < bounds.lastIndex
    ? {
        kind: 'damage',
        damage: {
          ...{ ...place, index: lastIndex + 1, lastIndex: bounds.lastIndex },
          ...{ what: 'the entries are missing', lost: 'entries' },
        },
      }
    : {
        kind: 'damage',
        damage: {
          ...{ ...place, index: bounds.lastIndex + 1, lastIndex },
          ...{ what: `the log should end at ${bounds.lastIndex}`, lost: 'anything' },
        },
      };
}

function runOf(
  source: SqliteSource,
  partitionId: PartitionId,
  rowId: number,
): Extract<StoreFind, { kind: 'run' | 'damage' }> {
  const [step] = stepsOf(source, 'SELECT first_index, run FROM runs WHERE id = ?', rowId);
  const row = `row ${rowId} of table runs`;
  const unplaced = (what: string): { kind: 'damage'; damage: StoreDamage } => ({
    kind: 'damage',
    damage: { ...wholeDamage(`${row}: ${what}`, databaseName), partitionId, lost: 'entries' },
  });
  if (step?.kind !== 'row') return unplaced(step?.what ?? 'it is missing');
  const { first_index: firstIndex, run: bytes } = step.row;
  if (!(bytes instanceof Uint8Array)) return unplaced('the run is no blob');
  try {
    const entries = decodeRun(bytes);
    // The run's checksum covers the index in it: the one in the column is wrong.
    if (BigInt(entries[0]?.index ?? 0) !== firstIndex)
      return unplaced(`a run of index ${entries[0]?.index} under index ${String(firstIndex)}`);
    return { kind: 'run', partitionId, entries, byteLength: bytes.byteLength };
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    const what = `${row}: ${error.message}`;
    const run = { partitionId, firstIndex: Number(firstIndex), bytes, file: databaseName, what };
    return { kind: 'damage', damage: damagedRun(run) };
  }
}
