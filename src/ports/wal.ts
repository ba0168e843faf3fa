// The durable log store of a node, shared by all of its partitions. An engine implements `Wal`; `testing/wal-contract.ts`
// says in tests what it must do. Who may call: the ready loop, one `write` at a time.

import type { KommanderError } from '../base/errors.ts';
import type { ConfState, Entry, HardState, LogIndex, Term, TermRun } from '../raft/types.ts';
import type { SnapshotStore } from './snapshot-store.ts';

/** 0 is the system partition. An integer, 0 … 2^31 - 1. */
export type PartitionId = number;

/** Where a partition's log begins: everything up to `index` is settled in the snapshot or was never there. */
export interface LogBase {
  /** Inclusive; 0 when the log begins at index 1. */
  readonly index: LogIndex;
  readonly term: Term;
  readonly confState: ConfState;
  /**
   * Says where the state at `index` is, a few hundred bytes: a snapshot of `Wal.snapshots`, or the state machine's own
   * store. Undefined when there is none (a new group, a partition without a state machine).
   */
  readonly data: Uint8Array | undefined;
}

/** What the store has of one partition. */
export interface StoredPartition {
  readonly partitionId: PartitionId;
  readonly hardState: HardState;
  readonly base: LogBase;
  /** Entries up to here were removed; `base.index >= compactedIndex`. Entries between may still serve slow followers. */
  readonly compactedIndex: LogIndex;
  /** Term of the entry at `compactedIndex`. */
  readonly compactedTerm: Term;
  /** Last stored entry; equals `compactedIndex` when there is none. */
  readonly lastIndex: LogIndex;
  /** Terms of `compactedIndex + 1 … lastIndex`, ascending. Empty when no entry is stored. */
  readonly termRuns: readonly TermRun[];
}

/** One partition's part of a batch. The parts of a batch are carried out in their order. */
export interface PartitionWrite {
  readonly partitionId: PartitionId;
  readonly hardState: HardState | undefined;
  /**
   * Replaces the base. When its index is beyond the stored log, or `resetLog` says so, the stored entries are removed
   * and the log begins behind the base.
   */
  readonly base: LogBase | undefined;
  /** The base came from the leader (`installSnapshot`): stored entries are not to be believed. */
  readonly resetLog: boolean;
  /**
   * Contiguous. Stored entries at or above the first one's index are removed first (they conflict). The first index is
   * at most one above the last stored index.
   */
  readonly entries: readonly Entry[];
  /** Removes stored entries up to here, inclusive. At most the base's index. */
  readonly compactThroughIndex: LogIndex | undefined;
}

export interface WalBatch {
  readonly writes: readonly PartitionWrite[];
  /** Node-wide facts, kept by key and opaque to the store (genesis, incarnation, clock). `undefined` removes. */
  readonly meta: ReadonlyMap<string, Uint8Array | undefined>;
  /** Whether the batch must survive a power loss once `write` has resolved. */
  readonly sync: boolean;
}

export interface WalContents {
  readonly partitions: readonly StoredPartition[];
  readonly meta: ReadonlyMap<string, Uint8Array>;
}

/** Figures since `open`. */
export interface WalStats {
  readonly writeCount: number;
  readonly syncCount: number;
  readonly entryCount: number;
  readonly bytesWritten: number;
}

/** What a store tells without being asked. */
export interface WalEvents {
  /**
   * Came upon a damaged record of a partition while it tidied up; `error` is WAL_CORRUPT with the place. The store goes
   * on, and keeps the record where it is.
   */
  damaged(partitionId: PartitionId, error: KommanderError): void;
}

export interface Wal {
  /** Whether what was written is still there when the process is gone. */
  readonly durable: boolean;
  /** The states that bases name. To be used while the store is open. */
  readonly snapshots: SnapshotStore;
  /**
   * Opens the store and says what is in it.
   *
   * @throws WAL_LOCKED  another process has it open
   * @throws WAL_CORRUPT a record in the middle is damaged
   * @throws WAL_VERSION written by another engine or a newer version
   * @throws DISK_FULL   there is no room to open it; nothing is lost
   */
  open(events?: WalEvents): Promise<WalContents>;
  /**
   * Stores a batch: all of it or nothing, over all its partitions. The buffers of its entries are not changed by
   * anybody afterwards; those of its facts may be used again once the promise has resolved. One call at a time.
   *
   * @throws DISK_FULL nothing was written and the store goes on: the same batch may be handed over again
   * @throws WAL_FAILED the outcome is unknown; the store refuses everything from then on
   * @throws NODE_CLOSED the store is not open
   * @throws AssertionError the batch breaks a rule of this port; nothing was changed
   */
  write(batch: WalBatch): Promise<void>;
  /**
   * Reads entries `fromIndex … endIndex - 1`, at least one and then as many as fit in `bytesMax` of payload.
   * The range is stored (the caller knows `compactedIndex` and `lastIndex`).
   *
   * Sees the store as it is when it is called, also while a batch is written.
   *
   * @throws WAL_CORRUPT a record is damaged or missing
   * @throws INVALID_ARGUMENT the range is empty or not wholly stored (any more)
   * @throws NODE_CLOSED the store is not open
   */
  read(range: ReadRange): Promise<readonly Entry[]>;
  stats(): WalStats;
  /** Idempotent. Writes that were handed over before are finished first. */
  close(): Promise<void>;
}

export interface ReadRange {
  readonly partitionId: PartitionId;
  /** Inclusive. */
  readonly fromIndex: LogIndex;
  /** Exclusive. */
  readonly endIndex: LogIndex;
  readonly bytesMax: number;
}
