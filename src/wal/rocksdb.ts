// The durable log store on RocksDB: one key per run, the partition's records beside them (`rocksdb-keys.ts`), one
// atomic write per batch, which is the only thing that is ever synced. In memory it keeps where every run begins.
// Truncation inside a run writes the run again, shorter, in the same batch; compaction inside a run only moves the
// mark, and the run goes when the mark has passed it. `open` checks headers and order of all runs, `read` checksums.
//
// A batch is refused while the disk has little room. Should RocksDB meet the end of the disk all the same, it writes
// nothing more, however much room there is: then the store is opened again below the feet of its user.

import { assert, must } from '../base/assert.ts';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import { encodeRuns, readRunHeader } from '../ports/run.ts';
import type {
  PartitionId,
  PartitionWrite,
  ReadRange,
  StoredPartition,
  Wal,
  WalBatch,
  WalContents,
} from '../ports/wal.ts';
import { type Entry, type LogIndex, payloadBytesOf } from '../raft/types.ts';
import { missing } from './damage.ts';
import type { Files } from './files.ts';
import type { ScannedPartition } from './gathered-partition.ts';
import { directoryFiles } from './node-files.ts';
import {
  encodeBase,
  encodeBatchMark,
  encodeCompactionMark,
  encodeHardState,
  encodeMeta,
} from './record.ts';
import { fileDirectory, type RocksDbDirectory } from './rocksdb-directory.ts';
import { decodedRun, readEntries, readValue } from './rocksdb-entries.ts';
import { batchMarkKey, KeyKind, metaKey, partitionKey, runKey } from './rocksdb-keys.ts';
import {
  importRocksDb,
  type RocksDbHandle,
  type RocksDbLibrary,
  type RocksDbOperation,
} from './rocksdb-library.ts';
import { scanStore } from './rocksdb-scan.ts';
import { emptyRunIndex, popRuns, pushRun, type RunIndex, runOf, shiftRuns } from './run-index.ts';
import { fileSnapshots } from './snapshot-files.ts';
import { storeShell } from './store-shell.ts';
import { checkReadRange, dropsLog, emptyPartition, isEmptyWrite } from './stored-partition.ts';

export type { RocksDbDirectory } from './rocksdb-directory.ts';
export type {
  RocksDbHandle,
  RocksDbLibrary,
  RocksDbOperation,
  RocksDbRange,
  RocksDbRow,
  RocksDbScan,
} from './rocksdb-library.ts';

export interface RocksDbWalOptions {
  /** Directory of the store. It is made when it is missing; one process may have it open at a time. */
  readonly path: string;
  /**
   * Bytes of the disk that batches and snapshots leave free, for the tables that RocksDB writes by itself and for opening
   * the store again; one that would not is DISK_FULL. Default: 134,217,728, twice as much as RocksDB gathers for one table.
   */
  readonly reserveBytes?: number;
  /** Default: the package `@nxtedition/rocksdb`, loaded at `open`. */
  readonly library?: RocksDbLibrary;
  /** Default: the directory `path` of the file system. */
  readonly directory?: RocksDbDirectory;
  /** Where snapshots lie. Default: the directory `snapshots` in `path`. */
  readonly snapshotFiles?: Files;
}

const reserveBytesByDefault = 134_217_728;

interface RocksDbPartition {
  stored: StoredPartition;
  /** Runs of `stored.compactedIndex + 1 … stored.lastIndex`; the first one may begin lower. */
  readonly runs: RunIndex;
}

interface OpenStore {
  handle: RocksDbHandle;
  partitions: Map<PartitionId, RocksDbPartition>;
  /** Number of the last batch that was written. */
  lastBatch: number;
  /** Number of the last batch that is known to be synced. Invariant: syncedBatch <= lastBatch */
  syncedBatch: number;
  /** `lastBatch` when RocksDB was opened: what was written before is in its tables. */
  openedBatch: number;
  interruption: Interruption | undefined;
  /** A batch for which the index in memory is ahead of the store. */
  putting: Promise<number | undefined> | undefined;
  /** Reads that use the handle. */
  readonly reading: Set<Promise<unknown>>;
}

/** RocksDB met the end of the disk: it goes on reading, and writes nothing more until it is opened again. */
interface Interruption {
  /** The batch that was refused. */
  readonly batchNumber: number;
  /** The store is closed, so that it can be opened again: reads wait. */
  isClosed: boolean;
  readonly ended: Promise<void>;
  readonly end: () => void;
}

/**
 * Makes a log store on RocksDB; `open` opens it.
 *
 * A sync runs on the calling thread (the binding has no other way), one for a batch of all partitions.
 * After a failed write the store is WAL_FAILED for good: only a new one on the same directory can go on. A batch for
 * which there is no room is DISK_FULL and was not written.
 *
 * @throws INVALID_OPTION `reserveBytes` is no number of bytes
 * @throws MISSING_DEPENDENCY (from `open`) `@nxtedition/rocksdb` is not installed
 */
export function rocksdbWal(options: RocksDbWalOptions): Wal {
  const {
    path,
    reserveBytes = reserveBytesByDefault,
    directory = fileDirectory(path),
    snapshotFiles = directoryFiles(path, 'snapshots'),
  } = options;
  if (!Number.isSafeInteger(reserveBytes) || reserveBytes < 0) {
    throw new KommanderError(`option reserveBytes is ${reserveBytes}; it is a number of bytes`, {
      code: 'INVALID_OPTION',
      details: { option: 'reserveBytes' },
    });
  }
  /** @throws DISK_FULL */
  function checkRoom(neededBytes: number): void {
    const freeBytes = directory.freeBytes();
    if (freeBytes < neededBytes) throw noRoom(path, { freeBytes, neededBytes });
  }

  /** Opens the store again. @throws DISK_FULL there is not enough room for that yet */
  async function resume(store: OpenStore, interruption: Interruption): Promise<void> {
    // The logs go once their tables are written, which are a little larger at worst.
    checkRoom(Math.ceil((await directory.logBytes()) * 1.25));
    if (!interruption.isClosed) {
      interruption.isClosed = true;
      await Promise.allSettled([...store.reading]);
      await store.handle.close();
    }
    const before = store.lastBatch;
    const { handle, partitions, lastBatch, syncedBatch } = (await openStore(options, directory))
      .store;
    Object.assign(store, { handle, partitions, lastBatch, syncedBatch, openedBatch: lastBatch });
    interruption.isClosed = false;
    // What was written is there, without a sync as well, and what was refused is not: otherwise nothing that was said is
    // to be believed.
    assert(lastBatch >= before, 'what was written is there');
    assert(lastBatch < interruption.batchNumber, 'what was refused is not there');
    store.interruption = undefined;
    interruption.end();
  }

  return storeShell<OpenStore>({
    path,
    snapshots: fileSnapshots(snapshotFiles, (byteLength) => checkRoom(reserveBytes + byteLength)),
    open: () => openStore(options, directory),
    stored: ({ partitions }, partitionId) => partitions.get(partitionId)?.stored,
    async makeReady(store, batch) {
      checkRoom(reserveBytes + contentBytes(batch));
      if (store.interruption !== undefined) await resume(store, store.interruption);
    },
    async write(store, batch, after) {
      store.putting = put(store, batch, after);
      try {
        return await store.putting;
      } finally {
        store.putting = undefined;
      }
    },
    read,
    letGo: ({ interruption }) => interruption?.end(),
    close,
  });
}

/** From the first change on, every failure is final: the index in memory may be ahead of the store. */
async function put(
  store: OpenStore,
  batch: WalBatch,
  after: readonly StoredPartition[],
): Promise<number | undefined> {
  const batchNumber = store.lastBatch + 1;
  const operations = [batchMark(store, batchNumber)];
  for (let i = 0; i < batch.writes.length; i++) {
    const part = batch.writes[i] as PartitionWrite;
    if (isEmptyWrite(part)) continue;
    const partition = partitionOf(store, part.partitionId);
    const straddledIndex = straddledRun(partition, part);
    if (straddledIndex !== undefined)
      operations.push(await shortenedRun(store, operations, { part, straddledIndex }));
    planWrite(partition, { part, after: after[i] as StoredPartition, operations });
  }
  for (const [name, value] of batch.meta) {
    operations.push({
      key: metaKey(name),
      value: value === undefined ? undefined : encodeMeta(value),
    });
  }
  // A synced batch without content still is a barrier: what was written before it must get its sync.
  if (operations.length === 1 && !batch.sync) return undefined;
  try {
    await store.handle.write(operations, { sync: batch.sync });
  } catch (error) {
    if (isKommanderError(error, 'DISK_FULL')) await interrupt(store, batchNumber);
    throw error;
  }
  store.lastBatch = batchNumber;
  if (batch.sync) store.syncedBatch = batchNumber;
  return bytesOf(operations);
}

/** RocksDB refused the batch and all that follow. The index in memory goes back to what is stored: reads go on. */
async function interrupt(store: OpenStore, batchNumber: number): Promise<void> {
  try {
    const { partitions, lastBatch } = await scanStore(store.handle);
    assert(lastBatch === store.lastBatch, 'a refused batch cannot be read');
    store.partitions = indexOf(partitions);
  } catch (cause) {
    throw new Error(`what a full disk has left cannot be read: ${String(cause)}`, { cause });
  }
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  store.interruption = { batchNumber, isClosed: false, ended, end };
}

async function read(store: OpenStore, range: ReadRange): Promise<readonly Entry[]> {
  if (store.interruption?.isClosed === true) {
    await store.interruption.ended;
    if (store.interruption !== undefined) throw new Error('the store was not opened again');
  }
  const task = readBesideWrite(store, range);
  store.reading.add(task);
  try {
    return await task;
  } finally {
    store.reading.delete(task);
  }
}

/** What seems to be missing while a batch is written is looked for again when it is. */
async function readBesideWrite(store: OpenStore, range: ReadRange): Promise<Entry[]> {
  const { putting } = store;
  try {
    return await readNow(store, range);
  } catch (error) {
    if (putting === undefined || !isKommanderError(error, 'WAL_CORRUPT')) throw error;
  }
  await Promise.allSettled([putting]);
  return readNow(store, range);
}

async function readNow({ handle, partitions }: OpenStore, range: ReadRange): Promise<Entry[]> {
  const partition = partitions.get(range.partitionId);
  checkReadRange(partition?.stored, range);
  const { runs } = must(partition, 'a checked range is of a stored partition');
  return readEntries(handle, runs, range);
}

async function close(store: OpenStore, isSound: boolean): Promise<void> {
  const { interruption, syncedBatch, openedBatch, handle } = store;
  if (interruption?.isClosed === true) return;
  try {
    if (isSound && interruption === undefined && syncedBatch > openedBatch)
      await proveLastBatch(store);
  } finally {
    await handle.close();
  }
}

async function openStore(
  options: RocksDbWalOptions,
  directory: RocksDbDirectory,
): Promise<{ store: OpenStore; contents: WalContents }> {
  const { path } = options;
  const library = options.library ?? (await importRocksDb());
  await directory.claim();
  const handle = await openHandle(library, path, directory);
  try {
    const { partitions: scanned, meta, lastBatch } = await scanStore(handle);
    await checkNothingLost(path, directory, { identity: handle.identity, lastBatch });
    const partitions = indexOf(scanned);
    // What RocksDB has recovered it has written to synced files before it opens.
    const batches = { lastBatch, syncedBatch: lastBatch, openedBatch: lastBatch };
    const idle = { interruption: undefined, putting: undefined, reading: new Set<never>() };
    const store: OpenStore = { handle, partitions, ...batches, ...idle };
    return { store, contents: { partitions: scanned.map(({ stored }) => stored), meta } };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function indexOf(scanned: readonly ScannedPartition[]): Map<PartitionId, RocksDbPartition> {
  return new Map(scanned.map(({ stored, runs }) => [stored.partitionId, { stored, runs }]));
}

async function openHandle(
  library: RocksDbLibrary,
  path: string,
  directory: RocksDbDirectory,
): Promise<RocksDbHandle> {
  const keptLogs = await directory.keepLogsAside();
  try {
    return await library.open(path);
  } catch (error) {
    if (isKommanderError(error, 'WAL_LOCKED')) await directory.dropKeptLogs(keptLogs);
    throw error;
  }
}

function noRoom(
  path: string,
  room: { readonly freeBytes: number; readonly neededBytes: number },
): KommanderError {
  const { freeBytes, neededBytes } = room;
  return new KommanderError(
    `the disk of the log store ${path} has ${freeBytes} bytes free, and ${neededBytes} are needed, its reserve included; make room`,
    { code: 'DISK_FULL', details: { path, freeBytes, neededBytes } },
  );
}

/** What a batch has to be stored, nearly. */
function contentBytes({ writes, meta }: WalBatch): number {
  let bytes = 0;
  for (const { entries, base } of writes) {
    bytes += payloadBytesOf(entries) + (base?.data?.byteLength ?? 0);
  }
  for (const value of meta.values()) bytes += value?.byteLength ?? 0;
  return bytes;
}

/** The logs stay aside when something is lost: the next `open` must find out as well. */
async function checkNothingLost(
  path: string,
  directory: RocksDbDirectory,
  recovered: { readonly identity: string; readonly lastBatch: number },
): Promise<void> {
  const proven = await directory.provenBatch(recovered.identity);
  if (proven > recovered.lastBatch) {
    throw new KommanderError(
      `the log store ${path} lost acknowledged batches ${recovered.lastBatch + 1} … ${proven}: ` +
        'its log is damaged in the middle. Restore the directory or replace the node',
      { code: 'WAL_CORRUPT', details: { path, recovered: recovered.lastBatch, proven } },
    );
  }
  await directory.forgetKeptLogs();
}

/**
 * Says that the last batch was synced, which no batch has said yet: damage to it would pass for a torn end. It is not synced
 * itself: without it, the store is what a killed process leaves.
 */
async function proveLastBatch(store: OpenStore): Promise<void> {
  const { handle, lastBatch, syncedBatch } = store;
  if (syncedBatch < lastBatch) return;
  try {
    await handle.write([batchMark(store, lastBatch + 1)], { sync: false });
  } catch (error) {
    if (!isKommanderError(error, 'DISK_FULL')) throw error;
  }
}

function batchMark(store: OpenStore, batchNumber: number): RocksDbOperation {
  const { syncedBatch, handle } = store;
  const value = encodeBatchMark({ identity: handle.identity, batchNumber, syncedBatch });
  return { key: batchMarkKey, value };
}

function bytesOf(operations: readonly RocksDbOperation[]): number {
  let bytes = 0;
  for (const { key, value } of operations) bytes += key.byteLength + (value?.byteLength ?? 0);
  return bytes;
}

function partitionOf(store: OpenStore, partitionId: PartitionId): RocksDbPartition {
  const known = store.partitions.get(partitionId);
  if (known !== undefined) return known;
  const made = { stored: emptyPartition(partitionId), runs: emptyRunIndex() };
  store.partitions.set(partitionId, made);
  return made;
}

/** First index of the run that the write cuts in two: stored entries of it stay, others are replaced. */
function straddledRun(partition: RocksDbPartition, part: PartitionWrite): LogIndex | undefined {
  const [first] = part.entries;
  if (first === undefined || first.index > partition.stored.lastIndex) return undefined;
  if (first.index === partition.stored.compactedIndex + 1) return undefined;
  if (dropsLog(partition.stored, part)) return undefined;
  const runIndex = runOf(partition.runs, first.index);
  return runIndex === first.index ? undefined : runIndex;
}

/** The straddled run again, without the entries that the write replaces. */
async function shortenedRun(
  store: OpenStore,
  pending: readonly RocksDbOperation[],
  cut: { readonly part: PartitionWrite; readonly straddledIndex: LogIndex },
): Promise<RocksDbOperation> {
  const { partitionId, entries } = cut.part;
  const key = runKey(partitionId, cut.straddledIndex);
  // A batch may append to a partition twice: the run may be one that is not stored yet.
  const bytes =
    pending.findLast((operation) => sameBytes(operation.key, key))?.value ??
    (await readValue(store.handle, key));
  if (bytes === undefined) throw missing(partitionId, cut.straddledIndex);
  const run = decodedRun(bytes, { partitionId, index: cut.straddledIndex });
  const endIndex = (entries[0] as Entry).index;
  const [value] = encodeRuns(run.filter((entry) => entry.index < endIndex));
  return { key, value: must(value, 'a straddled run begins below the cut') };
}

/** Turns one part of a batch into operations, and moves the partition to what it is afterwards. */
function planWrite(
  partition: RocksDbPartition,
  plan: {
    readonly part: PartitionWrite;
    readonly after: StoredPartition;
    readonly operations: RocksDbOperation[];
  },
): void {
  const { part, after, operations } = plan;
  const { stored: before, runs } = partition;
  const { partitionId, base } = part;
  const remove = (indexes: readonly LogIndex[]): void => {
    for (const index of indexes)
      operations.push({ key: runKey(partitionId, index), value: undefined });
  };
  if (part.hardState !== undefined) {
    const key = partitionKey(KeyKind.hardState, partitionId);
    operations.push({ key, value: encodeHardState(part.hardState) });
  }
  if (base !== undefined) {
    operations.push({
      key: partitionKey(KeyKind.base, partitionId),
      value: encodeBase(base),
    });
    if (dropsLog(before, part)) remove(popRuns(runs, 0));
  }
  const [first] = part.entries;
  if (first !== undefined) {
    // A run that begins below the mark goes as well when the write leaves nothing of it above the mark.
    const isWhole = first.index === before.compactedIndex + 1;
    remove(popRuns(runs, isWhole ? 0 : first.index));
    let index = first.index;
    for (const run of encodeRuns(part.entries)) {
      operations.push({ key: runKey(partitionId, index), value: run });
      pushRun(runs, index);
      index += readRunHeader(run).entryCount;
    }
    assert(index === after.lastIndex + 1, 'the runs hold all entries');
  }
  // A log that is reset to where it began may have another term there.
  if (
    after.compactedIndex !== before.compactedIndex ||
    after.compactedTerm !== before.compactedTerm
  ) {
    remove(shiftRuns(runs, { throughIndex: after.compactedIndex, lastIndex: after.lastIndex }));
    operations.push({
      key: partitionKey(KeyKind.compaction, partitionId),
      value: encodeCompactionMark({ index: after.compactedIndex, term: after.compactedTerm }),
    });
  }
  partition.stored = after;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i]);
}
