// The durable log store on SQLite, which is part of Node.js: one row per run, one transaction per batch, one sync per
// synced batch, all in a worker thread (`sqlite-worker.ts`). This side knows what is stored and which row holds which run,
// and decides which rows a batch changes; the tables are in `sqlite-store.ts`. Truncation inside a run has the worker store
// it again, shorter; compaction inside a run only moves the mark, and the row goes when the mark has passed it.

import { assert, must } from '../base/assert.ts';
import { isKommanderError } from '../base/errors.ts';
import { decodeRun, encodeRuns, readRunHeader } from '../ports/run.ts';
import type {
  PartitionId,
  PartitionWrite,
  ReadRange,
  StoredPartition,
  Wal,
  WalBatch,
  WalContents,
} from '../ports/wal.ts';
import { type Entry, type LogIndex, payloadBytes } from '../raft/types.ts';
import { decoded, missing } from './damage.ts';
import { directoryFiles } from './node-files.ts';
import {
  encodeBase,
  encodeBatchMark,
  encodeCompactionMark,
  encodeHardState,
  encodeMeta,
} from './record.ts';
import { fileSnapshots } from './snapshot-files.ts';
import { openConnection, type SqliteConnection } from './sqlite-connection.ts';
import { OperationKind, packOperations, type SqliteOperation } from './sqlite-operations.ts';
import {
  addRow,
  copyRuns,
  noSqliteRuns,
  placeOf,
  removeRowsFrom,
  removeRowsThrough,
  type SqliteRuns,
} from './sqlite-runs.ts';
import { databaseName, schemaVersion } from './sqlite-store.ts';
import { claimStoreDirectory, type StoreFormat } from './store-directory.ts';
import { lockStore, type StoreLock } from './store-lock.ts';
import { type StoreEvents, storeShell } from './store-shell.ts';
import { checkReadRange, dropsLog, emptyPartition, isEmptyWrite } from './stored-partition.ts';

export interface SqliteWalOptions {
  /** Directory of the store. It is made when it is missing; one process may have it open at a time. */
  readonly path: string;
}

/** What the mark of the directory says. */
export const sqliteFormat: StoreFormat = { engine: 'sqlite', version: schemaVersion };
/** Beside this file, in the sources as in the published package. */
const workerProgram: URL = new URL(
  import.meta.url.endsWith('.ts') ? 'sqlite-worker.ts' : 'sqlite-worker.js',
  import.meta.url,
);

/** Reads that the worker has at one time: a write waits for so many at most. The others wait here. */
const readsAtOnceMax = 4;
/** Rows that one request asks for. */
const rowsPerReadMax = 512;

interface SqlitePartition {
  stored: StoredPartition;
  /** Runs of `stored.compactedIndex + 1 … stored.lastIndex`; the first one may begin lower. */
  runs: SqliteRuns;
  /** Grows whenever runs leave the log. */
  removalCount: number;
}

interface OpenStore {
  readonly connection: SqliteConnection;
  readonly lock: StoreLock;
  readonly turns: Turns;
  readonly identity: string;
  readonly partitions: Map<PartitionId, SqlitePartition>;
  lastRowId: number;
  /** Number of the last batch that was written. */
  lastBatch: number;
  /** Number of the last batch that is known to be synced. Invariant: syncedBatch <= lastBatch */
  syncedBatch: number;
  /** Batches that the disk had no room for. */
  undoneCount: number;
}

/**
 * Makes a log store on SQLite; `open` opens it.
 *
 * SQLite runs in a thread of its own, which ends with `close`. A batch for which the disk has no room is DISK_FULL and was
 * not written; after any other failed write the store is WAL_FAILED for good: only a new one on the same directory can go
 * on.
 */
export function sqliteWal({ path }: SqliteWalOptions): Wal {
  return storeShell<OpenStore>({
    path,
    snapshots: fileSnapshots(directoryFiles(path, 'snapshots')),
    open: (events) => openStore(path, events),
    stored: ({ partitions }, partitionId) => partitions.get(partitionId)?.stored,
    write,
    async read(store, range) {
      checkReadRange(store.partitions.get(range.partitionId)?.stored, range);
      return store.turns.take(() => readUndisturbed(store, range));
    },
    async close({ connection, lock }, isSound) {
      try {
        await connection.close();
      } catch (error) {
        // A store that failed before has told so already.
        if (isSound) throw error;
      } finally {
        lock.release();
      }
    },
  });
}

async function write(
  store: OpenStore,
  batch: WalBatch,
  after: readonly StoredPartition[],
): Promise<number | undefined> {
  const { restore } = savedIndex(store, batch);
  try {
    const operations = planBatch(store, batch, after);
    // A synced batch without content still is a barrier: what was written before it must get its sync.
    if (operations.length === 0 && !batch.sync) return undefined;
    operations.push(batchMark(store));
    const byteLength = await writeTo(store.connection, operations, batch.sync);
    store.lastBatch += 1;
    if (batch.sync) store.syncedBatch = store.lastBatch;
    return byteLength;
  } catch (error) {
    if (!isKommanderError(error, 'DISK_FULL')) throw error;
    restore();
    store.undoneCount += 1;
    throw error;
  }
}

async function openStore(
  path: string,
  events: StoreEvents,
): Promise<{ store: OpenStore; contents: WalContents }> {
  await claimStoreDirectory(path, sqliteFormat);
  // SQLite locks its database as well. But no tool could take that lock without changing files, and so keep nodes out.
  const lock = await lockStore(path);
  let isOpen = false;
  const connection = openConnection(workerProgram, (error) => {
    if (isOpen) events.failed(error);
  });
  try {
    const {
      partitions: scanned,
      meta,
      mark,
      lastRowId,
    } = await connection.ask({ verb: 'open', path });
    isOpen = true;
    const partitions = new Map<PartitionId, SqlitePartition>();
    for (const { stored, runs } of scanned)
      partitions.set(stored.partitionId, {
        stored,
        runs,
        removalCount: 0,
      });
    const { identity, batchNumber } = mark;
    // What was recovered the worker has synced before it answered.
    const batches = { lastBatch: batchNumber, syncedBatch: batchNumber, undoneCount: 0 };
    const turns = newTurns(readsAtOnceMax);
    const store = { connection, lock, identity, partitions, lastRowId, turns, ...batches };
    return { store, contents: { partitions: scanned.map(({ stored }) => stored), meta } };
  } catch (error) {
    await Promise.allSettled([connection.close()]);
    lock.release();
    throw error;
  }
}

/** @returns bytes of runs, records and names */
async function writeTo(
  connection: SqliteConnection,
  operations: readonly SqliteOperation[],
  sync: boolean,
): Promise<number> {
  const packed = packOperations(operations);
  const { byteLength } = packed.bytes;
  const transfer = [packed.numbers.buffer, packed.bytes.buffer];
  await connection.ask({ verb: 'write', operations: packed, sync }, transfer);
  return byteLength;
}

/** What the index in memory says of the partitions of a batch before it is changed. */
function savedIndex(store: OpenStore, batch: WalBatch): { readonly restore: () => void } {
  const { lastRowId } = store;
  const saved = new Map<PartitionId, (() => void) | undefined>();
  for (const part of batch.writes) {
    const partition = store.partitions.get(part.partitionId);
    saved.set(
      part.partitionId,
      partition === undefined ? undefined : savedPartition(partition, batch),
    );
  }
  return {
    restore() {
      store.lastRowId = lastRowId;
      for (const [partitionId, restore] of saved) {
        if (restore === undefined) store.partitions.delete(partitionId);
        else restore();
      }
    },
  };
}

function savedPartition(partition: SqlitePartition, batch: WalBatch): () => void {
  const { stored, runs } = partition;
  const { partitionId } = stored;
  const parts = batch.writes.filter((part) => part.partitionId === partitionId);
  // The common case only adds runs: their count is enough to remove them again.
  const isRemoving = parts.some((part) => removesRuns(stored, part)) || parts.length > 1;
  const runCount = runs.firstIndexes.length;
  const copy = isRemoving ? copyRuns(runs) : undefined;
  return () => {
    partition.stored = stored;
    partition.runs = copy ?? runs;
    partition.runs.firstIndexes.length = runCount;
    partition.runs.rowIds.length = runCount;
  };
}

function removesRuns(stored: StoredPartition, part: PartitionWrite): boolean {
  const [first] = part.entries;
  return (
    part.compactThroughIndex !== undefined ||
    dropsLog(stored, part) ||
    (first !== undefined && first.index <= stored.lastIndex)
  );
}

/** Turns a batch into operations, and moves the index in memory to what it is afterwards. */
function planBatch(
  store: OpenStore,
  batch: WalBatch,
  after: readonly StoredPartition[],
): SqliteOperation[] {
  const operations: SqliteOperation[] = [];
  const rows = new Map<PartitionId, PartitionRow>();
  for (const [i, part] of batch.writes.entries()) {
    if (isEmptyWrite(part)) continue;
    const partition = partitionOf(store, part.partitionId);
    const row = rows.get(part.partitionId) ?? { hardState: undefined, compaction: undefined };
    rows.set(part.partitionId, row);
    planWrite(store, partition, { part, after: after[i] as StoredPartition, operations, row });
  }
  for (const [partitionId, { hardState, compaction }] of rows) {
    const { lastIndex } = partitionOf(store, partitionId).stored;
    const kind = OperationKind.putPartition;
    operations.push({ kind, partitionId, lastIndex, hardState, compaction });
  }
  for (const [name, value] of batch.meta) {
    const bytes = value === undefined ? undefined : encodeMeta(value);
    operations.push({ kind: OperationKind.putFact, name, value: bytes });
  }
  return operations;
}

/** What a batch changes in the row of a partition. */
interface PartitionRow {
  hardState: Uint8Array | undefined;
  compaction: Uint8Array | undefined;
}

function planWrite(
  store: OpenStore,
  partition: SqlitePartition,
  plan: {
    readonly part: PartitionWrite;
    readonly after: StoredPartition;
    readonly operations: SqliteOperation[];
    readonly row: PartitionRow;
  },
): void {
  const { part, after, operations, row } = plan;
  const { stored: before, runs } = partition;
  const { partitionId, base } = part;
  const remove = (rowIds: readonly number[]): void => {
    if (rowIds.length > 0) partition.removalCount += 1;
    for (const rowId of rowIds) operations.push({ kind: OperationKind.deleteRun, rowId });
  };
  if (part.hardState !== undefined) row.hardState = encodeHardState(part.hardState);
  if (base !== undefined) {
    operations.push({ kind: OperationKind.putBase, partitionId, base: encodeBase(base) });
    if (dropsLog(before, part)) remove(removeRowsFrom(runs, 0));
  }
  const [first] = part.entries;
  if (first !== undefined) {
    const straddled = straddledRow(partition, part, first.index);
    // A run that begins below the mark goes as well when the write leaves nothing of it above the mark.
    const isWhole = first.index === before.compactedIndex + 1;
    remove(removeRowsFrom(runs, isWhole ? 0 : first.index));
    if (straddled !== undefined) {
      partition.removalCount += 1;
      const kind = OperationKind.cutRun;
      operations.push({ kind, rowId: straddled, endIndex: first.index });
    }
    const endIndex = addRuns(store, runs, { part, operations });
    assert(endIndex === after.lastIndex + 1, 'the runs hold all entries');
  }
  // A log that is reset to where it began may have another term there.
  if (
    after.compactedIndex !== before.compactedIndex ||
    after.compactedTerm !== before.compactedTerm
  ) {
    const { compactedIndex: index, compactedTerm: term, lastIndex } = after;
    remove(removeRowsThrough(runs, { throughIndex: index, lastIndex }));
    row.compaction = encodeCompactionMark({ index, term });
  }
  partition.stored = after;
}

/** Row of the run that the write cuts in two: stored entries of it stay, others are replaced. */
function straddledRow(
  { stored, runs }: SqlitePartition,
  part: PartitionWrite,
  firstIndex: LogIndex,
): number | undefined {
  if (firstIndex > stored.lastIndex || dropsLog(stored, part)) return undefined;
  if (firstIndex === stored.compactedIndex + 1) return undefined;
  const place = placeOf(runs, firstIndex);
  return runs.firstIndexes[place] === firstIndex ? undefined : runs.rowIds[place];
}

/** Adds the entries of a write behind the runs that are left. */
function addRuns(
  store: OpenStore,
  runs: SqliteRuns,
  plan: { readonly part: PartitionWrite; readonly operations: SqliteOperation[] },
): LogIndex {
  const { partitionId, entries } = plan.part;
  let firstIndex = (entries[0] as Entry).index;
  for (const run of encodeRuns(entries)) {
    store.lastRowId += 1;
    const rowId = store.lastRowId;
    plan.operations.push({ kind: OperationKind.putRun, rowId, partitionId, firstIndex, run });
    addRow(runs, { firstIndex, rowId });
    firstIndex += readRunHeader(run).entryCount;
  }
  return firstIndex;
}

function partitionOf(store: OpenStore, partitionId: PartitionId): SqlitePartition {
  const known = store.partitions.get(partitionId);
  if (known !== undefined) return known;
  const made = { stored: emptyPartition(partitionId), runs: noSqliteRuns(), removalCount: 0 };
  store.partitions.set(partitionId, made);
  return made;
}

function batchMark({ identity, lastBatch, syncedBatch }: OpenStore): SqliteOperation {
  const mark = encodeBatchMark({ identity, batchNumber: lastBatch + 1, syncedBatch });
  return { kind: OperationKind.putMark, mark };
}

/** Reads what is stored once all batches before are; what a full disk took back is read again as it was. */
async function readUndisturbed(store: OpenStore, range: ReadRange): Promise<Entry[]> {
  for (;;) {
    const { undoneCount } = store;
    const [outcome] = await Promise.allSettled([readEntries(store, range)]);
    if (undoneCount !== store.undoneCount) continue;
    if (outcome.status === 'rejected') throw outcome.reason;
    return outcome.value;
  }
}

/**
 * Reads from the run that holds `fromIndex` on; believes only what is contiguous. The worker answers in order, so that a
 * request finds the rows that the index names when it is sent. A log that changes between two requests ends the read.
 */
async function readEntries(store: OpenStore, range: ReadRange): Promise<Entry[]> {
  const { partitionId, fromIndex, endIndex, bytesMax } = range;
  const known = store.partitions.get(partitionId);
  checkReadRange(known?.stored, range);
  const partition = must(known, 'a checked range is of a stored partition');
  const { removalCount } = partition;
  const entries: Entry[] = [];
  let bytes = 0;
  let nextIndex = fromIndex;
  while (nextIndex < endIndex && partition.removalCount === removalCount) {
    const rowIds = rowsOf(partition.runs, { fromIndex: nextIndex, endIndex });
    if (rowIds.length === 0) throw missing(partitionId, nextIndex);
    const request = { verb: 'read', rowIds, bytesMax: bytesMax - bytes } as const;
    for (const run of await store.connection.ask(request)) {
      if (run === undefined) throw missing(partitionId, nextIndex);
      const where = { partitionId, index: nextIndex, record: 'run', file: databaseName };
      for (const entry of decoded(where, () => decodeRun(run))) {
        if (entry.index < nextIndex) continue;
        if (entry.index === endIndex) return entries;
        if (entry.index > nextIndex) throw missing(partitionId, nextIndex);
        bytes += payloadBytes(entry);
        if (bytes > bytesMax && entries.length > 0) return entries;
        entries.push(entry);
        nextIndex += 1;
      }
    }
  }
  return entries;
}

/** Rows of the runs that hold a range, as many as one request asks for. */
function rowsOf(
  runs: SqliteRuns,
  range: { readonly fromIndex: LogIndex; readonly endIndex: LogIndex },
): readonly number[] {
  const place = placeOf(runs, range.fromIndex);
  if (place < 0) return [];
  const placeEnd = placeOf(runs, range.endIndex - 1) + 1;
  return runs.rowIds.slice(place, Math.min(placeEnd, place + rowsPerReadMax));
}

interface Turns {
  /** Runs the task when fewer than the maximum run, first come, first served. */
  take<T>(task: () => Promise<T>): Promise<T>;
}

function newTurns(countMax: number): Turns {
  let count = 0;
  const waiting: (() => void)[] = [];
  return {
    async take(task) {
      if (count < countMax) count += 1;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        return await task();
      } finally {
        // The turn is handed on, or given back.
        const next = waiting.shift();
        if (next === undefined) count -= 1;
        else next();
      }
    },
  };
}
