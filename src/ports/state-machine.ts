// The application's side: what a partition's committed entries do. `apply` is called in log order, in batches, never
// concurrently for one partition, on every replica.

import type { LogIndex, Term } from '../raft/types.ts';
import type { Timestamp } from './clock.ts';
import type { PartitionId } from './wal.ts';

/** A committed entry as the application sees it. */
export interface CommittedEntry {
  readonly partitionId: PartitionId;
  readonly index: LogIndex;
  readonly term: Term;
  readonly timestamp: Timestamp;
  /** The type that the proposer chose. */
  readonly type: string;
  /** A view into a shared buffer: copy what is kept for long, never change it. */
  readonly data: Uint8Array;
  /**
   * True for entries that this node's store knew to be committed when it was opened. The last ones before a crash may
   * come without it: they are committed again before they are delivered. Nothing may depend on it but reporting.
   */
  readonly restored: boolean;
}

/**
 * A state as bytes: all of them, or pieces of any length one after the other. A piece is not changed before the next one
 * is asked for; bytes that are given as a whole never change.
 */
export type SnapshotBytes = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** A state that is to be restored. It can be read once, in pieces (`for await`) or as a whole. */
export interface SnapshotData extends AsyncIterable<Uint8Array> {
  readonly byteLength: number;
  /** All bytes in one buffer, which is the caller's. For states that fit into memory twice. */
  bytes(): Promise<Uint8Array>;
}

export interface StateMachine {
  /**
   * Applies entries in order.
   *
   * @returns one result per entry (or nothing): what `replicate` resolves with on this node. It must not depend on
   * anything but the entries and the state. When it throws or rejects, the replica stops (APPLY_FAILED).
   */
  apply(
    entries: readonly CommittedEntry[],
  ): readonly unknown[] | void | Promise<readonly unknown[] | void>;
  /**
   * The whole state after the last applied entry. Without it no log can be compacted. Nothing is applied until the last
   * piece was taken, unless the bytes come as a whole or `concurrentSnapshots` is set. What was begun may not be read to
   * its end: then the iterator's `return` is called.
   */
  snapshot?(): SnapshotBytes | Promise<SnapshotBytes>;
  /**
   * The pieces that `snapshot` gives show the state of the moment at which the first one was given, whatever is applied
   * from then on. So applying goes on while the others are taken. (`restore` is not called meanwhile.)
   */
  readonly concurrentSnapshots?: boolean;
  /** Replaces the whole state. Required when `snapshot` is there. */
  restore?(data: SnapshotData): void | Promise<void>;
  /**
   * For machines that keep their state on a disk themselves: the last entry whose effect is there and survives a power
   * loss; 0 for none. Entries up to it are not given again after a restart, and no snapshot is restored; one is made only
   * for a replica that needs it. Asked at the start and at checkpoints, which compact the log up to what it says. `snapshot`
   * and `restore` are required.
   *
   * After a crash the state must be that of one entry, at least the last one that was named: all effects of entries up to
   * it, none of later ones. While `restore` runs, and after it was interrupted, it names an entry that the state on the
   * disk really has (0 if none).
   */
  appliedIndex?(): LogIndex | Promise<LogIndex>;
}
