// The public shapes of a node: its options, its methods, what it reports. Data and interfaces only; `node.ts` builds
// the thing. `index.ts` re-exports them.

import type { Clock, Timestamp } from '../ports/clock.ts';
import type { Discovery } from '../ports/discovery.ts';
import type { Observer } from '../ports/observer.ts';
import type { CommittedEntry, StateMachine } from '../ports/state-machine.ts';
import type { Endpoint, NodeId, Transport } from '../ports/transport.ts';
import type { PartitionId, Wal, WalStats } from '../ports/wal.ts';
import type { ConfState, LogIndex, ReplicaId, Role, Term } from '../raft/types.ts';

/** One entry to write. */
export interface ProposalInput {
  /** 1 to 255 bytes of UTF-8 that the application chooses; must not begin with `_`. */
  readonly type: string;
  /** 0 … `entryBytesMax` bytes; kept by reference until the promise settles, do not change it. */
  readonly data: Uint8Array;
}

export interface CommitResult {
  /** Inclusive log position of the entry; of the last one when several were written. */
  readonly index: LogIndex;
  readonly term: Term;
  readonly timestamp: Timestamp;
  /** What `apply` returned for the entry on this node. For several entries: an array, one result per entry. */
  readonly result: unknown;
}

export interface WaitOptions {
  /** Stops the wait with ABORTED. A write that was already handed over may still commit. */
  readonly signal?: AbortSignal;
  /** Milliseconds, 1 … 2^31 - 1. Default: `proposalTimeoutMs` of the node. */
  readonly timeoutMs?: number;
}

export interface ReplicateOptions extends WaitOptions {
  /** When this node does not lead: pass the write on to the leader (default true), or refuse with NOT_LEADER. */
  readonly forward?: boolean;
}

export interface ReadOptions extends WaitOptions {
  /**
   * `linearizable` (default): sees every write that was acknowledged before the call (ReadIndex, thesis 6.4).
   * `local`: whatever this node has applied.
   */
  readonly consistency?: 'linearizable' | 'local';
  /** As in `replicate`. */
  readonly forward?: boolean;
}

/** One node's part in a change of a partition's members. `addVoter` also promotes a learner, `addLearner` demotes a voter. */
export interface MembershipChange {
  readonly kind: 'addVoter' | 'addLearner' | 'remove';
  readonly nodeId: NodeId;
}

/** Who holds replicas of a partition after a change of its members. Node ids, ascending. */
export interface MembershipResult {
  /** Inclusive log position of the change. */
  readonly index: LogIndex;
  readonly term: Term;
  readonly voters: readonly NodeId[];
  readonly learners: readonly NodeId[];
}

/** A member that was readmitted. */
export interface ReadmissionResult {
  readonly nodeId: NodeId;
  /** Its number in every group since then. */
  readonly replicaId: ReplicaId;
}

/** Positions at which the local state machine may be read. */
export interface ReadResult {
  /** Everything up to here, inclusive, is applied locally. */
  readonly index: LogIndex;
  readonly term: Term;
}

/** What keeps a replica's log from being shorter than it is. */
export type LogKeeper =
  /** A hold on this node: the one that begins lowest. */
  | { readonly reason: 'hold'; readonly owner: string; readonly fromIndex: LogIndex }
  /** There is no state machine, and this member lacks entries; only the leader knows which one. */
  | { readonly reason: 'slowestReplica'; readonly nodeId: NodeId | undefined }
  /**
   * `noSnapshot`: the state machine needs the whole log at a restart. `noCheckpoint`: there was none yet.
   * `snapshotTransfer`: a replica that is sent a snapshot will need the entries behind it. `trailingEntries`: what the
   * option of this name keeps. `nextCheckpoint`: nothing but that it is not made yet.
   */
  | {
      readonly reason:
        | 'noSnapshot'
        | 'noCheckpoint'
        | 'snapshotTransfer'
        | 'trailingEntries'
        | 'nextCheckpoint';
    };

/** How long a replica's log is, and why. */
export interface LogStatus {
  /** Entries that are stored: those above `compactedIndex`. */
  readonly entries: number;
  /** The last checkpoint that was applied here, or the snapshot that took its place; 0: none. */
  readonly checkpointIndex: LogIndex;
  /** Applied behind it; when these pass the options, the leader makes the next one. */
  readonly entriesSinceCheckpoint: number;
  readonly bytesSinceCheckpoint: number;
  readonly holds: readonly { readonly owner: string; readonly fromIndex: LogIndex }[];
  readonly keptBy: LogKeeper;
}

/** Keeps the log of one replica from being compacted until it is released or the process ends. */
export interface LogHold extends Disposable {
  readonly partitionId: PartitionId;
  readonly owner: string;
  /** The first entry that is kept. */
  readonly fromIndex: LogIndex;
  /**
   * Keeps the log from another entry on: usually a later one, when the owner is done with those before it.
   *
   * @throws INVALID_ARGUMENT the entry is compacted already, or the hold was released; the hold stays as it is
   */
  moveTo(fromIndex: LogIndex): void;
  /** Idempotent. What the last checkpoint allowed to compact is compacted now. */
  release(): void;
}

export interface PartitionStatus {
  readonly partitionId: PartitionId;
  readonly role: Role;
  readonly term: Term;
  readonly leader: NodeId | undefined;
  readonly commitIndex: LogIndex;
  readonly lastApplied: LogIndex;
  readonly lastIndex: LogIndex;
  /** Log entries up to here, inclusive, are compacted. */
  readonly compactedIndex: LogIndex;
  readonly confState: ConfState;
  readonly log: LogStatus;
  readonly queuedProposals: number;
  /** Why the replica stopped, when it did. */
  readonly stopped: string | undefined;
}

export interface NodeStatus {
  readonly nodeId: NodeId;
  readonly clusterId: string;
  readonly incarnation: number;
  /**
   * `forming` until all first members have accepted the genesis record. `refused`: its directory is empty and the
   * cluster knows another one; it takes no part until it is readmitted.
   */
  readonly state: 'forming' | 'refused' | 'running' | 'closing' | 'closed' | 'failed';
  readonly endpoint: Endpoint;
  readonly roster: readonly {
    readonly nodeId: NodeId;
    /** Where it is reached; undefined until discovery has found it. */
    readonly endpoint: Endpoint | undefined;
    readonly reachable: boolean;
    /** Its number in every group; another one after each readmission. */
    readonly replicaId: ReplicaId;
    /** It came with a directory that the cluster does not know, and takes no part. */
    readonly refused: boolean;
    /** Partitions of this node in which it votes. */
    readonly voterOf: readonly PartitionId[];
    readonly learnerOf: readonly PartitionId[];
    /** Partitions in which its readmission is not done yet. */
    readonly readmittingIn: readonly PartitionId[];
  }[];
  readonly partitions: readonly PartitionStatus[];
  readonly wal: WalStats;
  /** The log store has no room: what this node would have to store is refused until there is. */
  readonly diskFull: boolean;
  /** Largest lateness of the node's own timer since it opened, in milliseconds. */
  readonly timerLatenessMsMax: number;
}

/** Events and what their listeners get. Listeners are called after the fact and never block the core. */
export interface NodeEvents {
  restoreStarted: { readonly partitionId: PartitionId };
  entryRestored: { readonly entry: CommittedEntry };
  restoreFinished: { readonly partitionId: PartitionId; readonly lastApplied: LogIndex };
  entryReplicated: { readonly entry: CommittedEntry };
  replicationError: { readonly partitionId: PartitionId; readonly error: Error };
  leaderChanged: {
    readonly partitionId: PartitionId;
    readonly leader: NodeId | undefined;
    readonly term: Term;
  };
  membershipChanged: { readonly partitionId: PartitionId; readonly confState: ConfState };
}

/** One listener per event. */
export type NodeListeners = {
  readonly [Name in keyof NodeEvents]?: (event: NodeEvents[Name]) => void;
};

export interface KommanderNode extends AsyncDisposable {
  readonly nodeId: NodeId;

  /**
   * Replicates `data` in a partition and waits until it is committed and applied on this node. While no leader is known
   * the write waits for one, within its time.
   *
   * @param partitionId 0 … partition count; 0 is the system partition
   * @throws NOT_LEADER, NO_LEADER, QUEUE_FULL, DISK_FULL, PROPOSAL_DROPPED, PROPOSAL_LOST nothing was written; retry
   * @throws PROPOSAL_TIMEOUT, OUTCOME_UNKNOWN, ABORTED the write may still commit: retry only what may happen twice
   * @throws INVALID_ARGUMENT, ENTRY_TOO_LARGE, RESERVED_TYPE, UNKNOWN_PARTITION nothing was written; correct the call
   * @throws NODE_CLOSED, REPLICA_STOPPED, APPLY_FAILED, WAL_FAILED, NODE_WIPED, NODE_REPLACED this node takes no part
   * @see paper §5.3, §8; dissertation 6.3
   */
  replicate(
    partitionId: PartitionId,
    type: string,
    data: Uint8Array,
    options?: ReplicateOptions,
  ): Promise<CommitResult>;
  /** Replicates several entries as one proposal: they get consecutive indexes and one promise. */
  replicate(
    partitionId: PartitionId,
    entries: readonly ProposalInput[],
    options?: ReplicateOptions,
  ): Promise<CommitResult>;

  /**
   * Marks everything up to the checkpoint's own entry as settled: replicas whose state machine has `snapshot` store
   * their state there and compact the log below it; a restart begins at it. The library makes checkpoints by itself: see
   * the options `checkpointBytes` and `checkpointEntries`.
   *
   * @returns the checkpoint's position
   * @throws as `replicate`
   */
  checkpoint(partitionId: PartitionId, options?: ReplicateOptions): Promise<CommitResult>;

  /**
   * Keeps entries from `fromIndex` on in this node's log: nothing at or above the lowest hold of a partition is
   * compacted here. Holds are kept in memory: a restart forgets them, and other nodes do not know them. A replica that
   * is so far behind that it is sent a snapshot begins behind that, whatever is held.
   *
   * @param owner 1 to 128 characters; `status()` lists holds by it
   * @throws INVALID_ARGUMENT (the entry is compacted already), TOO_MANY_HOLDS (64 in a partition), UNKNOWN_PARTITION
   * @throws NODE_CLOSED, WAL_FAILED, NODE_WIPED
   */
  retain(partitionId: PartitionId, fromIndex: LogIndex, owner: string): LogHold;

  /** Whether this node leads the partition as far as it knows. Free, synchronous; no proof (use `read`). */
  isLeader(partitionId: PartitionId): boolean;
  /** The partition's leader as far as this node knows. */
  leaderOf(partitionId: PartitionId): NodeId | undefined;
  /**
   * Resolves with the leader as soon as one is known.
   *
   * @throws ABORTED, NO_LEADER (the timeout passed), NODE_CLOSED
   */
  waitForLeader(partitionId: PartitionId, options?: WaitOptions): Promise<NodeId>;

  /**
   * Resolves when the local state machine may be read with the wanted consistency.
   *
   * @throws READ_TIMEOUT, NO_LEADER, NOT_LEADER, QUEUE_FULL, ABORTED, UNKNOWN_PARTITION, NODE_CLOSED
   */
  read(partitionId: PartitionId, options?: ReadOptions): Promise<ReadResult>;

  /**
   * Moves leadership to `to` and resolves when it leads.
   *
   * @throws TRANSFER_REFUSED, TRANSFER_TIMEOUT, UNKNOWN_NODE, NO_LEADER, ABORTED, NODE_CLOSED
   * @see dissertation 3.10
   */
  transferLeadership(partitionId: PartitionId, to: NodeId, options?: WaitOptions): Promise<void>;

  /**
   * Changes which nodes of the cluster hold replicas of a partition: voters, learners (they get the log and do not
   * vote), or none. Several changes are one step (joint consensus): the old and the new voters both decide until it is
   * done. To be called on the leader. Resolves when the new members alone decide.
   *
   * @throws INVALID_ARGUMENT, UNKNOWN_NODE nothing was changed; correct the call
   * @throws NOT_LEADER, NO_LEADER, NO_REPLICA, MEMBERSHIP_REFUSED, DISK_FULL, PROPOSAL_LOST nothing was changed; retry
   * @throws PROPOSAL_TIMEOUT, OUTCOME_UNKNOWN, ABORTED the change may still happen: see `status()`
   * @see dissertation 4.1 to 4.3
   */
  changeMembership(
    partitionId: PartitionId,
    changes: readonly MembershipChange[],
    options?: WaitOptions,
  ): Promise<MembershipResult>;
  /**
   * Readmits a member whose disk was emptied: with its new directory it becomes another replica, which in every partition
   * comes in as a learner in place of the former one, catches up, and votes if that one did. To be called on any other
   * node while the member runs with its empty directory. Resolves when the readmission is committed; the partitions'
   * leaders do the rest, and `status().roster` says how far they are. Calling again changes nothing.
   *
   * @throws UNKNOWN_NODE, READMISSION_REFUSED nothing was changed
   * @throws as `replicate`
   */
  readmit(nodeId: NodeId, options?: WaitOptions): Promise<ReadmissionResult>;
  /**
   * This node's replica, when it follows, gives its leader up without waiting for the election timeout, so that it can
   * vote for another one at once. The leader stays leader and is obeyed again with its next message. For operators and
   * tests who know more than the timeout does: a leader that is being shut down or cut off.
   *
   * @throws UNKNOWN_PARTITION, NODE_CLOSED, REPLICA_STOPPED, APPLY_FAILED, WAL_FAILED, NODE_WIPED
   */
  forgetLeader(partitionId: PartitionId): void;

  /**
   * A copy of all partitions of this node while it runs, as a stream for `saveBackup`: each as it was behind one committed
   * entry. Every entry that was acknowledged, by any node, before the first piece was asked for is in it. A state machine
   * with `snapshot` gives its state, which becomes its latest snapshot as at a checkpoint; of others the log is copied. One
   * at a time; whoever stops taking pieces ends it.
   *
   * @throws QUEUE_FULL one is under way
   * @throws NO_LEADER, READ_TIMEOUT, NO_REPLICA a partition cannot be copied now; errors come with the pieces
   * @throws DISK_FULL, WAL_FAILED, WAL_CORRUPT, NODE_CLOSED, REPLICA_STOPPED, APPLY_FAILED, ABORTED
   */
  backup(options?: { readonly signal?: AbortSignal }): AsyncIterable<Uint8Array>;

  /** The partition (1 … n) that owns `key`, by the hash ranges of the partition map. */
  partitionOf(key: string | Uint8Array): PartitionId;
  /** Ids of all partitions of this node, ascending; 0 is the first. */
  partitionIds(): readonly PartitionId[];

  status(): NodeStatus;
  on<Name extends keyof NodeEvents>(name: Name, listener: (event: NodeEvents[Name]) => void): void;
  off<Name extends keyof NodeEvents>(name: Name, listener: (event: NodeEvents[Name]) => void): void;

  /**
   * Hands leadership over, finishes what was accepted as far as it can, and releases everything. Idempotent.
   */
  close(): Promise<void>;
}

/** Dependencies and settings of a node. `options.ts` checks them and fills in the defaults. */
export interface NodeOptions {
  /** 1 to 64 characters of `A-Z a-z 0-9 . _ -`; unique in the cluster and the same after every restart. */
  readonly nodeId: NodeId;
  /** `host:port` to listen on. Port 0 takes a free one. */
  readonly listen: Endpoint;
  /**
   * Where peers reach this node, when that is neither what the member list says nor where it listens: they are told at
   * every connection, and discovery announces it.
   */
  readonly advertise?: Endpoint;
  /**
   * All first members, this node included: the same list on every node. They form the cluster together, once, as soon as
   * they reach each other. Either `{ id: endpoint }`, or a list of ids, whose endpoints `discovery` finds.
   * Default: the nodes of `staticDiscovery({ id: endpoint })`; none of a discovery that finds nodes. A node with a stored
   * state knows its members and needs no list.
   */
  readonly members?: Readonly<Record<NodeId, Endpoint>> | readonly NodeId[];
  /** Application partitions, 1 … 65535 (default 1). Partition 0 is always there. The same on every first member. */
  readonly partitions?: number;
  readonly wal: Wal;
  readonly transport: Transport;
  readonly discovery: Discovery;
  /** Makes the state machine of a partition (1 … n). Default: a log without a machine. */
  readonly stateMachine?: (partitionId: PartitionId) => StateMachine;
  /** Default: the system's clock. */
  readonly clock?: Clock;
  /** Seed of this node's randomness (default: drawn from the system). */
  readonly seed?: number;
  /** Takes structured events. Default: silent. */
  readonly logger?: Observer;
  /** Listeners that are there from the start: what is restored is reported before `openNode` resolves. */
  readonly listeners?: NodeListeners;
  /**
   * Where a replica that stops on a broken rule leaves a file of evidence for a bug report: its last inputs, without the
   * application's data. Made when it is needed; the 16 youngest files are kept. Default: no files.
   */
  readonly evidenceDirectory?: string;

  /** Milliseconds between two ticks, 5 … 10_000 (default 50). */
  readonly tickMs?: number;
  /** Ticks between heartbeats, 1 … 1_000 (default 1). */
  readonly heartbeatTicks?: number;
  /** Ticks without a leader before an election, at least 3 × `heartbeatTicks` (default 20). */
  readonly electionTicks?: number;
  /**
   * How soon this node campaigns, 0 … 3 (default 3). Each step below 3 waits one `electionTicks` longer than the others; 0
   * never campaigns by itself, it leads only what is handed over to it.
   */
  readonly electionPriority?: number;
  /** Bytes of one entry's data, 1 … 16 MiB (default 1 MiB + 4 KiB). */
  readonly entryBytesMax?: number;
  /** Entry bytes in one append message, 1 KiB … 16 MiB (default 1 MiB). */
  readonly appendBytesMax?: number;
  /** Append messages on the way to one follower, 1 … 10_000 (default 64). */
  readonly inflightMessagesMax?: number;
  /** Entry bytes on the way to one follower, at least `appendBytesMax` (default 16 MiB). */
  readonly inflightBytesMax?: number;
  /** Bytes of this term's entries that the leader has appended and not applied yet (default 64 MiB). */
  readonly uncommittedBytesMax?: number;
  /** Proposals waiting in one partition, in entries; also reads, and waits for a leader, each (default 65_536). */
  readonly queuedEntriesMax?: number;
  /** Proposals waiting in one partition, in bytes of data (default 64 MiB). */
  readonly queuedBytesMax?: number;
  /** Milliseconds until a write that did not commit is answered with PROPOSAL_TIMEOUT (default 5_000). */
  readonly proposalTimeoutMs?: number;
  /** Entries kept behind a checkpoint for slow followers (default 4_096). */
  readonly trailingEntries?: number;
  /** Snapshots that this node sends at one time, 1 … 1_000 (default 4). Others wait for their turn. */
  readonly snapshotSendsMax?: number;
  /** Bytes of snapshots that this node sends in a second, all together, 64 KiB … 1 TiB (default 64 MiB). */
  readonly snapshotBytesPerSecond?: number;
  /**
   * Who reads and sends the snapshots of the partitions that this node leads. `leader` (default): this node. `followers`:
   * another member that has the same bytes, so that the leader is spared; where none has, this node after all.
   */
  readonly snapshotsFrom?: 'leader' | 'followers';
  /**
   * The leader of a partition makes a checkpoint when so many bytes of log were applied since the last one, and at least
   * as many as its snapshot has: 0 … 1 TiB (default 64 MiB); 0: bytes make none.
   */
  readonly checkpointBytes?: number;
  /** The same in entries, 0 … 1_000_000_000 (default 250_000); 0: their number makes none. */
  readonly checkpointEntries?: number;
  /**
   * How far a checkpoint compacts a partition without a state machine. `slowest` (default): as far as every member has
   * stored it. `checkpoint`: as any other; a member that is further behind loses the entries in between.
   */
  readonly logOnlyCompaction?: 'slowest' | 'checkpoint';
}
