// One simulated cluster: its seats (a disk and whoever runs on it), the time, the network, what is known of it from
// outside. Data, and the verbs that begin and end the lives of nodes; what happens in between is in the other files.

import { inspect } from 'node:util';
import { must } from '../../base/assert.ts';
import { isKommanderError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import { staticDiscovery } from '../../discovery/static.ts';
import type { KommanderNode } from '../../host/api.ts';
import type { Host } from '../../host/host.ts';
import { nodeOf } from '../../host/node.ts';
import { openHost } from '../../host/opening.ts';
import type { ObservedEvent } from '../../ports/observer.ts';
import type { StateMachine } from '../../ports/state-machine.ts';
import type { Endpoint, NodeId } from '../../ports/transport.ts';
import type { PartitionId } from '../../ports/wal.ts';
import { isJoint } from '../../raft/membership.ts';
import type { TraceEvent } from '../../raft/trace.ts';
import { type LogIndex, type ReplicaId, Role } from '../../raft/types.ts';
import type { VirtualClock } from '../virtual-clock.ts';
import type { Coverage } from './coverage.ts';
import type { CrashKind, SimulatedDisk } from './disk.ts';
import { type DurableView, newDurableView, watchedWal } from './durable-view.ts';
import type { EventLog } from './event-log.ts';
import { crashStates, type MachineStore } from './machine-store.ts';
import { logListeners, type MachineTrouble, machineOf, noteJump, noteMembers } from './machines.ts';
import type { LinkQuality, SimulatedNetwork } from './network.ts';
import { type SimulationSettings, streamOf } from './options.ts';
import { type ProcessClock, processClock } from './process-clock.ts';
import { checkDurableQuorum, type ReplicaWatch, type Safety } from './safety.ts';
import { ViolationError } from './violation.ts';
import type { WatchedLog } from './watched-log.ts';
import type { WatchedMachine } from './watched-machine.ts';

/** One place in the cluster: its disk stays, the processes on it come and go. */
export interface Seat {
  readonly nodeId: NodeId;
  readonly disk: SimulatedDisk;
  /** How far its wall clock is from the true one. */
  readonly wallOffsetMs: number;
  /** Seconds that it counts in a true second. */
  readonly rate: number;
  /** What its disk holds for certain. */
  durable: DurableView;
  /** What it held before it was emptied, and as which replica: acknowledged in good faith, and gone. */
  durableBefore: { readonly replicaId: ReplicaId; readonly view: DurableView } | undefined;
  life: Life | undefined;
  livesCount: number;
  /** The disk was emptied or a record on it rotted, and its operator gave it up: the node takes no further part. */
  isLost: boolean;
  /** The present disk was emptied or damaged, and nobody has noticed yet; or it is being readmitted (`operator.ts`). */
  expected: 'wiped' | 'damaged' | 'readmission' | undefined;
  /** Its number in every group. */
  replicaId: ReplicaId;
  /** What state machines keep there themselves. */
  readonly machineStores: Map<PartitionId, MachineStore>;
}

/** One process on a seat. */
export interface Life {
  readonly seat: Seat;
  readonly number: number;
  readonly clock: ProcessClock;
  readonly machines: Map<PartitionId, WatchedMachine>;
  /** Partitions without a machine. */
  readonly logs: Map<PartitionId, WatchedLog>;
  /** Partitions whose machine's store failed. */
  readonly failedMachines: Set<PartitionId>;
  readonly watches: Map<PartitionId, ReplicaWatch>;
  /** Where the last snapshot of a leader made a log begin. */
  readonly restoredIndexes: Map<PartitionId, LogIndex>;
  /** Resolved when the process is gone. */
  readonly end: Promise<void>;
  readonly ended: () => void;
  /** Writes of its disk that had failed before it began. */
  readonly diskFailuresBefore: number;
  /** Writes and opens that its disk had had no room for. */
  readonly diskRefusalsBefore: number;
  /** There once it is open. */
  host: Host | undefined;
  node: KommanderNode | undefined;
}

/**
 * `elected`: it leads a new term. `fragile`: a quorum has entries that it inherited, and none of its own term yet
 * (Figure 8).
 */
export type MomentListener = (
  moment: 'elected' | 'fragile',
  partitionId: PartitionId,
  nodeId: NodeId,
) => void;

export interface World {
  readonly settings: SimulationSettings;
  readonly time: VirtualClock;
  readonly log: EventLog;
  readonly coverage: Coverage;
  readonly network: SimulatedNetwork;
  readonly safety: Safety;
  readonly seats: ReadonlyMap<NodeId, Seat>;
  readonly members: Readonly<Record<NodeId, Endpoint>>;
  readonly random: Random;
  readonly makeMachine: (partitionId: PartitionId) => StateMachine;
  readonly invariant:
    | ((machine: StateMachine, partitionId: PartitionId) => string | undefined)
    | undefined;
  /** How links are while no fault concerns them. */
  baseQuality: LinkQuality;
  /** Voters that were asked for: any of them may still come to decide. */
  readonly wantedVoters: {
    readonly partitionId: PartitionId;
    readonly voters: readonly NodeId[];
  }[];
  /** What is planned for machines at their work; at most as many as there are such faults in the plan. */
  machineTroubles: MachineTrouble[];
  /** Partition and node: somebody was in a configuration of the partition that the node was not in. */
  readonly formerMembers: Set<string>;
  /** The members have just changed: these machines lose power and come back, apart from the others. */
  readonly disturb: (nodeIds: readonly NodeId[]) => void;
  /** Called at the end of the step in which a leader came to a moment at which much can go wrong. */
  readonly momentListeners: Set<MomentListener>;
  /** Processes in which something happened since the last check. */
  readonly touched: Set<Life>;
  /** Numbers the moments at which clients call and are answered. */
  nextMoment: number;
  /** Faults and clients have ended. */
  isOver: boolean;
  /** The first broken rule. */
  violation: ViolationError | undefined;
  stepCount: number;
}

export function seatOf(world: World, nodeId: NodeId): Seat {
  return must(world.seats.get(nodeId), `there is a seat ${nodeId}`);
}

/** Processes that are open. */
export function openLives(world: World): Life[] {
  const lives: Life[] = [];
  for (const { life } of world.seats.values()) if (life?.host !== undefined) lives.push(life);
  return lives;
}

/** Begins a process on a seat that has none. */
export function beginLife(world: World, seat: Seat): void {
  if (seat.life !== undefined || seat.isLost) return;
  seat.livesCount += 1;
  const { promise: end, resolve: ended } = Promise.withResolvers<void>();
  const clock = processClock({
    time: world.time,
    touched: () => world.touched.add(life),
    wallOffsetMs: seat.wallOffsetMs,
    rate: seat.rate,
  });
  const life: Life = {
    seat,
    number: seat.livesCount,
    clock,
    machines: new Map(),
    logs: new Map(),
    failedMachines: new Set(),
    watches: new Map(),
    restoredIndexes: new Map(),
    end,
    ended,
    diskFailuresBefore: seat.disk.failureCount,
    diskRefusalsBefore: seat.disk.refusedCount,
    host: undefined,
    node: undefined,
  };
  seat.life = life;
  world.log.note('open', { nodeId: seat.nodeId }, { life: life.number });
  openLife(world, life).catch((error: unknown) => {
    if (!clock.isDead) noteOpenFailed(world, life, error);
  });
}

async function openLife(world: World, life: Life): Promise<void> {
  const { seat, clock } = life;
  const { nodeId, disk } = seat;
  const host = await openHost(
    {
      nodeId,
      listen: must(world.members[nodeId], 'every seat has an endpoint'),
      members: world.members,
      partitions: world.settings.partitions,
      wal: watchedWal(disk.wal(clock), seat.durable),
      transport: world.network.transport(nodeId, clock),
      discovery: staticDiscovery(world.members),
      ...(world.settings.machines === 'none'
        ? { listeners: logListeners(world, life) }
        : { stateMachine: (partitionId) => machineOf(world, life, partitionId) }),
      clock,
      seed: streamOf(world.settings.seed, `node ${nodeId} ${life.number}`).below(0x7fff_ffff),
      logger: (event) => observed(world, life, event),
      ...world.settings.nodeSettings,
    },
    (partitionId, event) => traced(world, life, partitionId, event),
  );
  if (clock.isDead) return;
  if (disk.takeTornFound()) world.coverage.tornTail += 1;
  life.host = host;
  life.node = nodeOf(host);
}

function noteOpenFailed(world: World, life: Life, error: unknown): void {
  const { seat } = life;
  const { nodeId } = seat;
  world.log.note('open-failed', { nodeId }, { error: String(error) });
  endLife(world, life, 'kill');
  if (isKommanderError(error, 'WAL_CORRUPT') && seat.expected === 'damaged') {
    world.coverage.damageFound += 1;
    loseSeat(world, seat);
    return;
  }
  if (isRot(seat, error)) {
    noteRotten(world, seat);
    return;
  }
  if (isKommanderError(error, 'WAL_FAILED') && hasDiskFailed(life)) {
    afterDiskFailure(world, seat);
    return;
  }
  if (isKommanderError(error, 'DISK_FULL') && seat.disk.refusedCount > life.diskRefusalsBefore) {
    world.coverage.openRefused += 1;
    beginLater(world, seat, 100 + world.random.below(2_000));
    return;
  }
  const cause = error instanceof Error ? error.cause : undefined;
  if (cause instanceof ViolationError) {
    world.violation ??= cause;
    return;
  }
  if (isKommanderError(error, 'APPLY_FAILED') && life.failedMachines.size > 0) {
    afterMachineFailure(world, seat);
    return;
  }
  const because = cause instanceof Error ? `\n${cause.stack ?? cause.message}` : '';
  world.violation ??= new ViolationError(
    'A node opens on its own disk after whatever happened to it',
    `${nodeId} did not: ${String(error)}${because}`,
    undefined,
    error,
  );
}

/** Ends a process at once. */
export function endLife(world: World, life: Life, kind: CrashKind): void {
  const { seat, clock } = life;
  if (seat.life !== life) return;
  const { nodeId } = seat;
  const isInJoint = [...(life.host?.partitions.values() ?? [])].some(({ raft }) =>
    isJoint(raft.confState),
  );
  if (isInJoint) world.coverage.jointAtCrash += 1;
  clock.kill();
  seat.life = undefined;
  world.network.died(nodeId, kind);
  const fate = seat.disk.crash(kind);
  const random = streamOf(world.settings.seed, `stores ${nodeId} ${life.number}`);
  for (const store of seat.machineStores.values()) crashStates(store, random, kind);
  // What was not synced may be there at the next start: then it counts.
  seat.durable.unsynced = [];
  if (fate === 'lost' || fate === 'torn') world.coverage.unsyncedLost += 1;
  if (fate === 'kept' && kind === 'power') world.coverage.unsyncedKept += 1;
  life.ended();
  world.log.note('end', { nodeId }, { life: life.number, kind, fate });
}

export function beginLater(world: World, seat: Seat, delayMs: number): void {
  world.time.setTimer(delayMs, () => beginLife(world, seat));
}

/** The seat's data is gone for good. */
export function loseSeat(world: World, seat: Seat): void {
  if (seat.life !== undefined) endLife(world, seat.life, 'kill');
  seat.isLost = true;
  world.log.note('lost', { nodeId: seat.nodeId }, { expected: seat.expected });
}

/** Whether it says of a snapshot that rotted on this seat that it is damaged. */
export function isRot({ disk }: Seat, error: unknown): boolean {
  if (!isKommanderError(error, 'WAL_CORRUPT')) return false;
  return disk.rotten().some((name) => name === error.details.snapshot);
}

/** Its node cannot go on without that snapshot: its operator gives it up. */
export function noteRotten(world: World, seat: Seat): void {
  world.coverage.rotRestored += 1;
  loseSeat(world, seat);
}

/** A machine's store that failed once works again when its process is begun anew. */
export function afterMachineFailure(world: World, seat: Seat): void {
  world.coverage.machineFailed += 1;
  if (seat.life !== undefined) endLife(world, seat.life, 'kill');
  beginLater(world, seat, 100 + world.random.below(2_000));
}

/** A node that stopped writing is ended and begun again, as its operator would. */
export function replaceFailed(world: World, life: Life): void {
  const { seat, host } = life;
  const failure = host?.failure;
  endLife(world, life, 'kill');
  if (failure?.code === 'WAL_FAILED' && hasDiskFailed(life)) {
    afterDiskFailure(world, seat);
    return;
  }
  throw new ViolationError(
    'A node fails only when its disk does',
    `${seat.nodeId} failed: ${failure?.message}`,
    undefined,
    failure,
  );
}

function hasDiskFailed({ seat, diskFailuresBefore }: Life): boolean {
  return seat.disk.failureCount > diskFailuresBefore;
}

/** A disk that fails is replaced by a good copy. */
function afterDiskFailure(world: World, seat: Seat): void {
  world.coverage.writeFailed += 1;
  if (seat.disk.state === 'failing') seat.disk.state = 'good';
  beginLater(world, seat, 100 + world.random.below(2_000));
}

/** Whatever a caller meets is a KommanderError. */
export function checkTyped(world: World, error: unknown): void {
  if (!isKommanderError(error)) world.violation ??= notTyped(error);
}

export function notTyped(error: unknown): ViolationError {
  const what = error instanceof Error ? (error.stack ?? error.message) : inspect(error);
  const rule = 'Every failure that a caller meets is a KommanderError';
  return new ViolationError(rule, what, undefined, error);
}

export function newSeat(
  parts: Pick<Seat, 'nodeId' | 'replicaId' | 'disk' | 'wallOffsetMs' | 'rate'>,
): Seat {
  return {
    ...parts,
    durable: newDurableView(),
    durableBefore: undefined,
    life: undefined,
    livesCount: 0,
    isLost: false,
    expected: undefined,
    machineStores: new Map(),
  };
}

function observed(world: World, life: Life, { name, level, fields }: ObservedEvent): void {
  if (life.clock.isDead) return;
  const { nodeId } = life.seat;
  const { partitionId, error, ...rest } = fields;
  const facts = error === undefined ? rest : { ...rest, error: textOf(error) };
  const where = typeof partitionId === 'number' ? { nodeId, partitionId } : { nodeId };
  if (level !== 'debug' || world.log.isRecording) world.log.note(name, where, facts);
  if (name === 'disk-has-room') {
    world.coverage.diskFull += 1;
    world.coverage.storeReopened += life.seat.disk.takeReopenCount();
  }
  if (name === 'checkpoint-made') world.coverage.automaticCheckpoint += 1;
  if (name === 'compaction-held') world.coverage.compactionHeld += 1;
  if (name === 'snapshot-served') world.coverage.snapshotFromMember += 1;
  if (name === 'snapshot-not-read') noteNotRead(world, life, fields);
  if (name === 'snapshot-refused') {
    world.violation ??= new ViolationError(
      'A snapshot arrives as it was announced: whoever finds it damaged sends nothing of it',
      `${nodeId} refused one: ${textOf(facts.error)}`,
      Number(partitionId),
    );
  }
  if (name === 'timer-late') world.coverage.timerLate += 1;
  if (name === 'cluster-formed') life.seat.replicaId = Number(fields.replicaId);
  if (name === 'leadership-given-away' && Number(fields.stalledMs) > 0) {
    world.coverage.diskStall += 1;
  }
}

/** The sender of a snapshot, or a member that was to send it for the leader, finds it damaged. */
function noteNotRead(world: World, life: Life, fields: ObservedEvent['fields']): void {
  const { partitionId, snapshot, error } = fields;
  if (!isKommanderError(error, 'SNAPSHOT_CORRUPT')) return;
  if (!life.seat.disk.rotten().some((name) => name === snapshot)) {
    world.violation ??= new ViolationError(
      'A stored snapshot that did not rot can be read',
      `${life.seat.nodeId}: ${error.message}`,
      Number(partitionId),
    );
    return;
  }
  const raft = life.host?.partitions.get(Number(partitionId))?.raft;
  if (raft?.role === Role.leader) world.coverage.rotSent += 1;
  else world.coverage.rotServed += 1;
}

function textOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : JSON.stringify(error);
}

function traced(world: World, life: Life, partitionId: PartitionId, event: TraceEvent): void {
  const { log, coverage } = world;
  const where = { nodeId: life.seat.nodeId, partitionId };
  switch (event.type) {
    case 'sent':
    case 'received':
      return;
    case 'snapshotRestored':
      coverage.snapshotInstalled += 1;
      life.restoredIndexes.set(partitionId, event.index);
      if (isTransferring(world, partitionId)) coverage.snapshotDuringTransfer += 1;
      noteJump(world, life, partitionId, event.index);
      break;
    case 'transferAborted': {
      const raft = life.host?.partitions.get(partitionId)?.raft;
      // It also ends when it succeeds, or when leadership is lost otherwise.
      if (raft !== undefined && raft.transferElapsed >= raft.config.electionTicks) {
        coverage.transferAborted += 1;
      }
      break;
    }
    case 'committed': {
      const raft = life.host?.partitions.get(partitionId)?.raft;
      if (raft !== undefined) checkDurableQuorum(world.safety, partitionId, where.nodeId, raft);
      break;
    }
    case 'confChanged':
      if (isJoint(event.confState)) coverage.jointConfiguration += 1;
      noteMembers(world, partitionId, event.confState);
      break;
    case 'ignored':
      if (!log.isRecording) return;
      log.note('core-ignored', where, { message: event.message.type, reason: event.reason });
      return;
    default:
      break;
  }
  const { type, ...facts } = event;
  log.note(`core-${type}`, where, facts);
}

function isTransferring(world: World, partitionId: PartitionId): boolean {
  return openLives(world).some(
    ({ host }) => host?.partitions.get(partitionId)?.raft.transferee !== undefined,
  );
}
