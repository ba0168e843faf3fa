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
  /** The whole state after the last applied entry, in bytes that never change. Without it no log can be compacted. */
  snapshot?(): Uint8Array | Promise<Uint8Array>;
  /** Replaces the whole state. `data` is shared: never change it. Required when `snapshot` is there. */
  restore?(data: Uint8Array): void | Promise<void>;
}
