// One partition on this node: the core's state and what the host keeps around it (callers that wait, entries on their
// way to the state machine, snapshots on their way in). Data; the verbs are in the files that are named after them.

import type { KommanderError } from '../base/errors.ts';
import { seededRandom } from '../base/random.ts';
import type { StateMachine } from '../ports/state-machine.ts';
import type { NodeId } from '../ports/transport.ts';
import type { LogBase, PartitionId, StoredPartition, Wal } from '../ports/wal.ts';
import { openRaft } from '../raft/raft.ts';
import type { RaftState } from '../raft/state.ts';
import type { TraceEvent } from '../raft/trace.ts';
import type { HardState, LogIndex, ReplicaId, Snapshot } from '../raft/types.ts';
import type { ApplyUnit } from './applier.ts';
import { type CheckpointCounts, newCheckpointCounts } from './checkpoints.ts';
import { recordingBytesFor } from './evidence.ts';
import type { LeaderWait } from './leadership.ts';
import { type LogPages, logPages } from './log-pages.ts';
import type { MembershipWait } from './membership.ts';
import type { NodeSettings } from './options.ts';
import type { Proposal } from './proposals.ts';
import type { ReadRound, ReadWait } from './reads.ts';
import { newRetention, type Retention } from './retention.ts';
import type { SnapshotDescriptor } from './snapshot-descriptor.ts';
import type { SnapshotReceive } from './snapshot-receiving.ts';
import type { SnapshotWait } from './snapshots.ts';

export interface Partition {
  readonly id: PartitionId;
  /** Another one only when an emptied node is readmitted: as another replica, before it has done anything. */
  raft: RaftState;
  /** Opens a core on what was stored at the start. */
  readonly openCore: (replicaId: ReplicaId) => RaftState;
  readonly pages: LogPages;
  readonly machine: StateMachine | undefined;

  /** Proposals that the leader has not appended yet, oldest first. */
  queue: Proposal[];
  /** Appended proposals of this node that are not applied yet, ascending by first index. */
  pending: Proposal[];
  /** Proposals that were passed on to the leader and not answered yet, by request id. */
  readonly forwards: Map<number, Proposal>;
  /** Entries and bytes of all proposals above. */
  outstandingEntries: number;
  outstandingBytes: number;

  /** Reads that have not asked for an index yet. */
  readsQueued: ReadWait[];
  /** Questions on their way, by context. */
  readonly readRounds: Map<number, ReadRound>;
  /** Reads that know their index and wait until it is applied. */
  readsToApply: { readonly index: LogIndex; readonly reads: readonly ReadWait[] }[];
  /** As with requests, no two lives of a node use the same numbers. */
  nextReadContext: number;
  /** Reads in the three places above. */
  readCount: number;

  leaderWaits: LeaderWait[];
  /** Changes of the members that were proposed here and are not done yet. */
  membershipWaits: MembershipWait[];
  /** What was committed when this leader last looked after readmissions; undefined while it follows. */
  readmissionCommitIndex: LogIndex | undefined;
  /** The leader of the last `leaderChanged` event. */
  reportedLeader: NodeId | undefined;

  readonly applyUnits: ApplyUnit[];
  isApplying: boolean;
  /** A snapshot takes the place of the machine's state. */
  isRestoring: boolean;
  /** What the state machine has, inclusive. */
  lastApplied: LogIndex;
  /** Entries up to here, inclusive, were committed before this start: they are delivered as restored. */
  readonly restoreThroughIndex: LogIndex;
  isRestored: boolean;

  /** The hard state whose term and vote were given to the store last. */
  promised: HardState;
  /** A hard state that only moved the commit index: it is stored in a quiet moment. */
  lazyHardState: HardState | undefined;
  /** Storage requests that are not done yet. */
  queuedRequests: number;
  /** The last entry that the state machine was given; at a start, what its own store has. */
  machineIndex: LogIndex;

  /** The latest snapshot that is stored, which slow followers get. */
  snapshot: Snapshot | undefined;
  /** The finished snapshots of this partition in the store. */
  readonly snapshotNames: Set<string>;
  /** Those that are being sent or restored; one that has several users stands here as often. */
  readonly snapshotHolds: string[];
  /** Index of the last base that was given to the store. */
  baseIndex: LogIndex;
  /** The snapshots that bases name: of the durable base, then of those that wait to be written. */
  readonly baseNames: (string | undefined)[];
  /** Settles when the snapshot that is being taken is stored or given up. */
  snapshotting: Promise<void> | undefined;
  /** A checkpoint came meanwhile. */
  isCheckpointDue: boolean;
  /** None is taken for a peer before then, on the monotonic clock: the last one did not fit on the disk. */
  peerSnapshotNotBeforeMs: number;
  /** A backup waits for a stored snapshot. */
  snapshotWait: SnapshotWait | undefined;
  /** The snapshot that is being received. */
  snapshotReceive: SnapshotReceive | undefined;
  /** No other one is received before then, on the monotonic clock: the disk did not take the last one. */
  receiveNotBeforeMs: number;
  /** The unfinished received one in the store. */
  snapshotDraft: string | undefined;
  /** Resolved when nothing is being written of one that is received; never rejected. */
  receiving: Promise<void>;
  readonly retention: Retention;
  readonly checkpoints: CheckpointCounts;
  /** Unfinished proposals that are checkpoints: they are not held up by the limits on others. */
  checkpointProposals: number;
  /** Why this replica stopped. */
  stopped: KommanderError | undefined;
}

/** What a read-index request may wait for at one time in the core. */
const pendingReadsMax = 4_096;
/** Entry bytes that are on their way to the state machine at one time. */
const applyingBytesMax = 4_194_304;
/** Snapshots without an answer are given up after this many election timeouts. */
const snapshotElectionTimeouts = 15;

export function openPartition(options: {
  readonly stored: StoredPartition;
  /** What the stored base says. */
  readonly descriptor: SnapshotDescriptor | undefined;
  readonly replicaId: ReplicaId;
  readonly settings: NodeSettings;
  readonly wal: Wal;
  readonly machine: StateMachine | undefined;
  readonly pageLoaded: () => void;
  readonly pageFailed: (error: unknown) => void;
  /** A peer needs a snapshot, and there is none. */
  readonly snapshotMissed: () => void;
  readonly firstReadContext: number;
  readonly seed: number;
  readonly trace: ((event: TraceEvent) => void) | undefined;
}): Partition {
  const { stored, descriptor, replicaId, settings } = options;
  const { base } = stored;
  const pages = logPages({
    partitionId: stored.partitionId,
    wal: options.wal,
    loaded: options.pageLoaded,
    failed: options.pageFailed,
  });
  const commitIndex = Math.min(
    Math.max(stored.hardState.commitIndex, base.index),
    stored.lastIndex,
  );
  const openCore = (id: ReplicaId): RaftState =>
    openRaft({
      id,
      initial: {
        hardState: { ...stored.hardState, commitIndex },
        confState: base.confState,
        compacted: { index: stored.compactedIndex, term: stored.compactedTerm },
        lastIndex: stored.lastIndex,
        termRuns: stored.termRuns,
        appliedIndex: base.index,
      },
      storage: {
        entries: pages.entries,
        snapshot() {
          if (partition.snapshot === undefined) options.snapshotMissed();
          return partition.snapshot;
        },
      },
      random: seededRandom(options.seed),
      electionTicks: settings.electionTicks,
      heartbeatTicks: settings.heartbeatTicks,
      snapshotTicks: settings.electionTicks * snapshotElectionTimeouts,
      asyncStorageWrites: true,
      appendBytesMax: settings.appendBytesMax,
      applyingBytesMax,
      uncommittedBytesMax: settings.uncommittedBytesMax,
      inflightMessagesMax: settings.inflightMessagesMax,
      inflightBytesMax: settings.inflightBytesMax,
      pendingReadsMax,
      checkQuorum: true,
      preVote: true,
      reads: 'safe',
      clockDriftBound: 0,
      confChangeValidation: true,
      stepDownOnRemoval: true,
      priority: settings.electionPriority,
      trace: options.trace,
      recordingBytesMax: recordingBytesFor(settings.partitions + 1),
    });
  const partition: Partition = {
    id: stored.partitionId,
    raft: openCore(replicaId),
    openCore,
    pages,
    machine: options.machine,
    queue: [],
    pending: [],
    forwards: new Map(),
    outstandingEntries: 0,
    outstandingBytes: 0,
    readsQueued: [],
    readRounds: new Map(),
    readsToApply: [],
    nextReadContext: options.firstReadContext,
    readCount: 0,
    leaderWaits: [],
    membershipWaits: [],
    readmissionCommitIndex: undefined,
    reportedLeader: undefined,
    applyUnits: [],
    isApplying: false,
    isRestoring: false,
    lastApplied: base.index,
    restoreThroughIndex: commitIndex,
    isRestored: commitIndex === base.index,
    promised: stored.hardState,
    lazyHardState: undefined,
    queuedRequests: 0,
    machineIndex: 0,
    snapshot: baseSnapshot(base, descriptor, options.machine),
    snapshotNames: new Set(),
    snapshotHolds: [],
    baseIndex: base.index,
    baseNames: [descriptor?.stored?.name],
    snapshotting: undefined,
    isCheckpointDue: false,
    peerSnapshotNotBeforeMs: 0,
    snapshotWait: undefined,
    retention: newRetention(stored.compactedIndex),
    checkpoints: newCheckpointCounts(base.index),
    checkpointProposals: 0,
    snapshotReceive: undefined,
    receiveNotBeforeMs: 0,
    snapshotDraft: undefined,
    receiving: Promise.resolve(),
    stopped: undefined,
  };
  return partition;
}

/** What peers get of the stored base; undefined when there is nothing, or only the machine's own store has it. */
function baseSnapshot(
  base: LogBase,
  descriptor: SnapshotDescriptor | undefined,
  machine: StateMachine | undefined,
): Snapshot | undefined {
  if (descriptor?.stored !== undefined) return snapshotOf(base);
  if (machine !== undefined || base.index === 0) return undefined;
  return snapshotOf({ ...base, data: undefined });
}

const noData: Uint8Array = new Uint8Array(0);

/** What a replica gets whose entries are gone. A log without a machine goes on behind its base, and has no state there. */
export function snapshotOf({ index, term, confState, data = noData }: LogBase): Snapshot {
  return { index, term, confState, data };
}
