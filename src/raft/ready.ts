// What the core hands to the host: one `Ready` per turn. The host stores, sends and applies; the core only says what.
// Asynchronous mode: storage work is a request that carries the messages which become sendable once it is durable
// (thesis 10.2.1: the leader writes in parallel with its followers). Synchronous mode: the host stores everything of
// the `Ready`, sends its messages, applies, and calls `advance`.

import type {
  Entry,
  HardState,
  LogIndex,
  Message,
  PeerMessage,
  ReplicaId,
  Role,
  Snapshot,
  StorageApplied,
} from './types.ts';

/** Facts that need not be durable. */
export interface SoftState {
  readonly leader: ReplicaId | undefined;
  readonly role: Role;
}

/** A linearizable read may be served once the state machine has applied up to `index`, inclusive. */
export interface ReadState {
  readonly context: number;
  readonly index: LogIndex;
}

/** Work for the log store. Requests are carried out in the order in which they were handed over. */
export interface StorageAppend {
  /** Replaces the stored hard state. */
  readonly hardState: HardState | undefined;
  /** Contiguous; stored entries at or above the first one's index are removed first. */
  readonly entries: readonly Entry[];
  /** Replaces the log: it begins behind the snapshot. To be stored before `entries`. */
  readonly snapshot: Snapshot | undefined;
  /** Whether the request must survive a power loss before the responses are given out. */
  readonly mustSync: boolean;
  /** See `Ready.mustKeepCommit`. */
  readonly mustKeepCommit: boolean;
  /** To be sent (or, when addressed to this replica or local, stepped) once the request is durable, in this order. */
  readonly responses: readonly Message[];
}

/** Work for the state machine. Requests are carried out in order. */
export interface StorageApply {
  readonly entries: readonly Entry[];
  /** To be stepped once the entries are applied. */
  readonly response: StorageApplied;
}

export interface Ready {
  /** Present when it changed. */
  readonly softState: SoftState | undefined;
  /** Present when it changed. */
  readonly hardState: HardState | undefined;
  /** Entries to store. */
  readonly entries: readonly Entry[];
  /** Snapshot to install before everything else. */
  readonly snapshot: Snapshot | undefined;
  /** Entries to apply: stored by a quorum, never lost or reordered. */
  readonly committedEntries: readonly Entry[];
  /** To be sent: at once in asynchronous mode, after `entries` and `hardState` are durable in synchronous mode. */
  readonly messages: readonly PeerMessage[];
  readonly readStates: readonly ReadState[];
  /** Whether `hardState` and `entries` must survive a power loss before the messages are sent. A `snapshot` always must. */
  readonly mustSync: boolean;
  /**
   * Whether the commit index in `hardState` must survive as well. It is a convenience everywhere but where it passes a
   * configuration change: a replica that forgot that one was committed would go on by the members of before, and after
   * the next change these might decide without those who decide by then.
   */
  readonly mustKeepCommit: boolean;
  /** Asynchronous mode only. */
  readonly storageAppend: StorageAppend | undefined;
  /** Asynchronous mode only. */
  readonly storageApply: StorageApply | undefined;
}
