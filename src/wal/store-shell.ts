// What the engines that keep files have in common, whatever is in them: a store is open once, has one write at a time and
// reads beside it, is WAL_FAILED for good after a failure, and ends what was handed over before it closes.

import { assert, must } from '../base/assert.ts';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import type { SnapshotStore } from '../ports/snapshot-store.ts';
import type {
  PartitionId,
  ReadRange,
  StoredPartition,
  Wal,
  WalBatch,
  WalContents,
  WalEvents,
  WalStats,
} from '../ports/wal.ts';
import type { Entry } from '../raft/types.ts';
import { isOutOfSpace } from './files.ts';
import { afterBatch } from './stored-partition.ts';

/** What a store tells between calls. */
export interface StoreEvents extends WalEvents {
  /** The store is WAL_FAILED from now on. */
  failed(cause: unknown): void;
}

/** An engine. `Store` is what it has open; what its calls throw makes the store WAL_FAILED, unless they say otherwise. */
export interface StoreEngine<Store> {
  readonly path: string;
  readonly snapshots: SnapshotStore;
  /** What it throws leaves nothing open, and it may be called again. A KommanderError is given out as it is. */
  open(events: StoreEvents): Promise<{ readonly store: Store; readonly contents: WalContents }>;
  stored(store: Store, partitionId: PartitionId): StoredPartition | undefined;
  /** Sees to it that there is room for the batch. @throws DISK_FULL */
  makeReady?(store: Store, batch: WalBatch): Promise<void>;
  /**
   * Writes a batch that breaks no rule.
   *
   * @param after what is stored of the partition of each part, once that part is carried out
   * @returns bytes written; undefined when there was nothing to do
   * @throws DISK_FULL nothing was changed, and the store goes on
   */
  write(
    store: Store,
    batch: WalBatch,
    after: readonly StoredPartition[],
  ): Promise<number | undefined>;
  /** @throws WAL_CORRUPT, INVALID_ARGUMENT: the store goes on */
  read(store: Store, range: ReadRange): Promise<readonly Entry[]>;
  /** The store failed, or is going to be closed: reads that wait for something go on, and may throw anything. */
  letGo?(store: Store): void;
  /**
   * Nothing is written or read any more.
   *
   * @param isSound the store has not failed
   */
  close(store: Store, isSound: boolean): Promise<void>;
}

const noStats: WalStats = { writeCount: 0, syncCount: 0, entryCount: 0, bytesWritten: 0 };

/** The log store that keeps its files with `engine`. */
export function storeShell<Store>(engine: StoreEngine<Store>): Wal {
  const { path, snapshots } = engine;
  let opening: Promise<{ readonly store: Store; readonly contents: WalContents }> | undefined;
  let closing: Promise<void> | undefined;
  let store: Store | undefined;
  let failure: KommanderError | undefined;
  let writing: Promise<void> | undefined;
  const reading = new Set<Promise<unknown>>();
  let stats = noStats;

  function checkOpen(): Store {
    if (failure !== undefined) throw failure;
    if (store !== undefined) return store;
    throw new KommanderError(`the log store ${path} is not open`, { code: 'NODE_CLOSED' });
  }

  function fail(cause: unknown): KommanderError {
    if (failure === undefined) {
      failure = new KommanderError(`the log store ${path} failed: ${String(cause)}`, {
        code: 'WAL_FAILED',
        details: { path },
        cause,
      });
      if (store !== undefined) engine.letGo?.(store);
    }
    return failure;
  }

  async function open(events?: WalEvents): Promise<WalContents> {
    if (failure !== undefined) throw failure;
    if (opening !== undefined)
      throw new KommanderError(`the log store ${path} is already open`, { code: 'WAL_LOCKED' });
    opening = engine.open({
      failed: fail,
      damaged: (partitionId, error) => events?.damaged(partitionId, error),
    });
    try {
      const opened = await opening;
      store = opened.store;
      stats = noStats;
      return opened.contents;
    } catch (error) {
      opening = undefined;
      throw isKommanderError(error) ? error : failedToOpen(path, error);
    }
  }

  async function write(batch: WalBatch): Promise<void> {
    const current = checkOpen();
    assert(writing === undefined, 'one write at a time');
    writing = commit(current, batch);
    try {
      await writing;
    } finally {
      writing = undefined;
    }
  }

  async function commit(current: Store, batch: WalBatch): Promise<void> {
    await attempt(async () => engine.makeReady?.(current, batch));
    const after = afterBatch((id) => engine.stored(current, id), batch);
    const byteLength = await attempt(() => engine.write(current, batch, after));
    if (byteLength !== undefined) stats = countedIn(stats, batch, byteLength);
  }

  async function attempt<Result>(task: () => Promise<Result>): Promise<Result> {
    try {
      return await task();
    } catch (error) {
      throw isKommanderError(error, 'DISK_FULL') ? error : fail(error);
    }
  }

  async function read(range: ReadRange): Promise<readonly Entry[]> {
    const current = checkOpen();
    const task = engine.read(current, range);
    reading.add(task);
    try {
      return await task;
    } catch (error) {
      // It was let go.
      if (store !== current || failure !== undefined) checkOpen();
      const isTold =
        isKommanderError(error, 'WAL_CORRUPT') || isKommanderError(error, 'INVALID_ARGUMENT');
      throw isTold ? error : fail(error);
    } finally {
      reading.delete(task);
    }
  }

  async function release(): Promise<void> {
    const before = opening;
    await Promise.allSettled([before]);
    // Nothing was opened: whoever tries again already is not to be disturbed.
    if (opening !== before) return;
    const last = must(store, 'what was opened is there');
    store = undefined;
    try {
      engine.letGo?.(last);
      await Promise.allSettled([writing, ...reading]);
      await engine.close(last, failure === undefined);
    } catch (error) {
      throw isKommanderError(error) ? error : fail(error);
    } finally {
      opening = undefined;
    }
  }

  async function close(): Promise<void> {
    // Nothing to wait for: an open that follows at once is not to be disturbed.
    if (opening === undefined && closing === undefined) return;
    closing ??= release();
    try {
      await closing;
    } finally {
      closing = undefined;
    }
  }

  return { durable: true, snapshots, open, write, read, stats: () => stats, close };
}

function failedToOpen(path: string, cause: unknown): KommanderError {
  return new KommanderError(`the log store ${path} cannot be opened: ${String(cause)}`, {
    code: isOutOfSpace(cause) ? 'DISK_FULL' : 'WAL_FAILED',
    details: { path },
    cause,
  });
}

function countedIn(stats: WalStats, { writes, sync }: WalBatch, byteLength: number): WalStats {
  const entryCount = writes.reduce((sum, { entries }) => sum + entries.length, 0);
  return {
    writeCount: stats.writeCount + 1,
    syncCount: stats.syncCount + (sync ? 1 : 0),
    entryCount: stats.entryCount + entryCount,
    bytesWritten: stats.bytesWritten + byteLength,
  };
}
