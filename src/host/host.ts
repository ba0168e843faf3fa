// The state of a node, one struct: its dependencies, its partitions, its outbox, its store. The other files of this
// folder hold functions over it, one concern each; `node.ts` opens it and gives it its public face.

import type { KommanderError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
import { isFormerOf, type SystemState } from '../cluster/system-state.ts';
import type { HybridClock } from '../ports/clock.ts';
import type { Discovery } from '../ports/discovery.ts';
import type { Observer } from '../ports/observer.ts';
import type { Endpoint, NodeId, Transport } from '../ports/transport.ts';
import type { PartitionId, Wal } from '../ports/wal.ts';
import type { ReplicaId } from '../raft/types.ts';
import type { CheckpointSchedule } from './checkpoints.ts';
import type { EventHub } from './events.ts';
import type { Genesis } from './genesis.ts';
import type { NodeSettings } from './options.ts';
import type { Outbox } from './outbox.ts';
import type { Partition } from './partition.ts';
import type { SendAllowance } from './snapshot-pieces.ts';
import type { SnapshotReceive } from './snapshot-receiving.ts';
import type { SnapshotSend } from './snapshot-sending.ts';
import type { SnapshotServe } from './snapshot-serving.ts';
import type { StorageWriter } from './storage-writer.ts';

export type NodeState = 'forming' | 'refused' | 'running' | 'closing' | 'closed' | 'failed';

export interface Host {
  readonly settings: NodeSettings;
  readonly hybridClock: HybridClock;
  readonly random: Random;
  readonly wal: Wal;
  readonly transport: Transport;
  readonly discovery: Discovery;
  readonly observe: Observer;
  readonly events: EventHub;
  readonly genesis: Genesis;
  readonly incarnation: number;
  /** Drawn anew at every start: tells two processes with one directory apart. */
  readonly startId: string;
  /** Node ids and their present numbers in every group. A readmission changes them (`genesis.ts`). */
  readonly replicaIds: Map<NodeId, ReplicaId>;
  readonly nodeIds: Map<ReplicaId, NodeId>;
  /** By partition id, ascending. */
  readonly partitions: ReadonlyMap<PartitionId, Partition>;
  /** Roster and partition map: the genesis record until partition 0 has applied its replicated copy. */
  system: SystemState;
  isSystemKnown: boolean;
  state: NodeState;
  /** Closing has come to its end: state machines get nothing more. */
  isDrained: boolean;
  /** Why, in the states `refused` and `failed`. */
  failure: KommanderError | undefined;
  endpoint: Endpoint;
  readonly reachable: Set<NodeId>;
  /** Where peers are reached, as far as it is known (`endpoints.ts`). */
  readonly endpoints: Map<NodeId, Endpoint>;

  /** Partitions whose core may have something to hand out. */
  readonly dirty: Set<Partition>;
  /** Partitions that have committed entries to apply. */
  readonly toApply: Set<Partition>;
  isTurnScheduled: boolean;
  readonly outbox: Outbox;
  readonly writer: StorageWriter;
  /** By partition and peer, in the order in which they are sent. */
  readonly snapshotSends: Map<string, SnapshotSend>;
  /** What other leaders ask for, by partition and peer. */
  readonly snapshotServes: Map<string, SnapshotServe>;
  readonly snapshotAllowance: SendAllowance;
  /** Of pieces of snapshots that were sent. */
  readonly idlePieceBuffers: Uint8Array[];
  readonly snapshotReceives: Set<SnapshotReceive>;
  /** Snapshots of this node that are being written, and those that wait for their turn. */
  readonly snapshotWrites: { count: number; readonly waiting: (() => void)[] };
  /** What is under way for them; closing waits for it. */
  readonly snapshotWork: Set<Promise<void>>;
  /** Somebody takes a backup: one at a time. */
  isBackingUp: boolean;
  readonly checkpoints: CheckpointSchedule;

  /** Begins at a timestamp, so that no two lives of a node use the same numbers. */
  nextRequestId: number;
  tickCount: number;
  /** Files of evidence that were begun. */
  evidenceCount: number;
  /** When the running timer is due, on the monotonic clock. */
  timerDueMs: number;
  timerLatenessMsMax: number;
  stopTimer: () => void;
  /** The running or finished `close`. */
  closing: Promise<void> | undefined;
}

/** Whose `replicas` are, ascending. A number that a member had before its readmission is the member's. */
export function nodesOf(host: Host, replicas: readonly ReplicaId[]): NodeId[] {
  const isOf = (present: ReplicaId, replica: ReplicaId): boolean =>
    replica === present || isFormerOf(present, replica);
  return [...host.replicaIds]
    .filter(([, present]) => replicas.some((replica) => isOf(present, replica)))
    .map(([nodeId]) => nodeId)
    .sort();
}

export function nowMs(host: Host): number {
  return host.settings.clock.monotonicMs();
}

/** Election timeouts until a state that could not be written is written again. */
const retryElectionTimeouts = 10;

/** When a state that the disk or its machine refused now may be tried again, on the monotonic clock. */
export function retryAtMs(host: Host): number {
  const { tickMs, electionTicks } = host.settings;
  return nowMs(host) + retryElectionTimeouts * tickMs * electionTicks;
}
