// What the partitions of a simulated node have: a machine in memory, one with a store on the seat, or no machine at all.
// And what becomes of it: a process may die, or a store fail, in the middle of a machine's work.

import { must } from '../../base/assert.ts';
import type { NodeListeners } from '../../host/api.ts';
import type { Partition } from '../../host/partition.ts';
import type { CommittedEntry, StateMachine } from '../../ports/state-machine.ts';
import type { PartitionId } from '../../ports/wal.ts';
import { membersOf } from '../../raft/membership.ts';
import type { ConfState, LogIndex } from '../../raft/types.ts';
import { lastPlace } from './applied-order.ts';
import type { MachineWork } from './machine-on-disk.ts';
import { type MachineStore, newMachineStore } from './machine-store.ts';
import { oneOf, streamOf } from './options.ts';
import { partitionRecord } from './safety.ts';
import { ViolationError } from './violation.ts';
import { watchedLog } from './watched-log.ts';
import { type MachineFate, watchedMachine } from './watched-machine.ts';
import type { Life, World } from './world.ts';

/** What befalls the first machine that is at some work, and may meet it. */
export interface MachineTrouble {
  readonly work: MachineWork;
  readonly fate: Exclude<MachineFate, 'goesOn'>;
  /** Steps of that work, of whatever machine, that pass before. */
  stepsBefore: number;
  /** Called when the process of a machine dies there. */
  readonly die: (life: Life) => void;
}

/** The machine of a partition in a new process. */
export function machineOf(world: World, life: Life, partitionId: PartitionId): StateMachine {
  const { settings, coverage, invariant } = world;
  const { nodeId } = life.seat;
  const of = `${nodeId} ${life.number} ${partitionId}`;
  const random = streamOf(settings.seed, `machine ${of}`);
  const { order } = partitionRecord(world.safety, partitionId);
  const store = storeOf(world, life, partitionId);
  const watched = watchedMachine({
    inner: world.makeMachine(partitionId),
    order,
    clock: life.clock,
    delayMs: () => (settings.applyMsMax === 0 ? 0 : random.below(settings.applyMsMax + 1)),
    giving: oneOf(streamOf(settings.seed, `giving ${of}`), ['whole', 'inPieces', 'concurrently']),
    store,
    random: streamOf(settings.seed, `store ${of}`),
    fate: (work) => fateOf(world, life, { partitionId, work, isOnDisk: store !== undefined }),
    opened: (index) => noteOpened(world, life, partitionId, index),
    gives(index) {
      const { lastApplied = index } = life.host?.partitions.get(partitionId) ?? {};
      if (index > lastApplied) coverage.snapshotAhead += 1;
    },
    snapshotPadding: settings.snapshotPadding,
    invariant: invariant === undefined ? undefined : (inner) => invariant(inner, partitionId),
    entriesRestored: (count) => {
      coverage.restoredEntries += count;
    },
    nextMoment: () => world.nextMoment++,
  });
  life.machines.set(partitionId, watched);
  return watched.machine;
}

function storeOf(
  { settings }: World,
  life: Life,
  partitionId: PartitionId,
): MachineStore | undefined {
  const { machines, seed } = settings;
  const isMixedOnDisk =
    machines === 'mixed' && streamOf(seed, `machine of ${partitionId}`).below(2) === 0;
  if (machines !== 'onDisk' && !isMixedOnDisk) return undefined;
  const { machineStores } = life.seat;
  const store = machineStores.get(partitionId) ?? newMachineStore();
  machineStores.set(partitionId, store);
  return store;
}

function fateOf(
  world: World,
  life: Life,
  at: {
    readonly partitionId: PartitionId;
    readonly work: MachineWork;
    readonly isOnDisk: boolean;
  },
): MachineFate {
  const { partitionId, work, isOnDisk } = at;
  // What is in memory cannot be read wrongly.
  const trouble = world.machineTroubles.find(
    (planned) => planned.work === work && (planned.fate === 'dies' || isOnDisk),
  );
  if (trouble === undefined || life.clock.isDead) return 'goesOn';
  trouble.stepsBefore -= 1;
  if (trouble.stepsBefore >= 0) return 'goesOn';
  const { fate } = trouble;
  world.machineTroubles.splice(world.machineTroubles.indexOf(trouble), 1);
  world.log.note('machine-trouble', { nodeId: life.seat.nodeId, partitionId }, { work, fate });
  if (fate === 'fails') life.failedMachines.add(partitionId);
  else trouble.die(life);
  return fate;
}

/** Counts where a machine's store and the log of its node stand to each other at a start. */
function noteOpened(world: World, life: Life, partitionId: PartitionId, index: LogIndex): void {
  const { seat } = life;
  const { coverage, safety } = world;
  const stored = seat.durable.partitions.get(partitionId);
  const store = must(seat.machineStores.get(partitionId), 'the machine has a store');
  if (stored === undefined) return;
  const knownIndex = Math.max(stored.hardState.commitIndex, stored.base.index);
  if (index > knownIndex) coverage.machineAhead += 1;
  if (index < lastPlace(partitionRecord(safety, partitionId).order, knownIndex).index) {
    coverage.machineBehind += 1;
  }
  if (store.isEmptied) coverage.restoreInterrupted += 1;
  store.isEmptied = false;
}

/** Hears what a node without machines tells of its logs. */
export function logListeners(world: World, life: Life): NodeListeners {
  const { seat, logs } = life;
  const told = ({ entry }: { readonly entry: CommittedEntry }): void => {
    const log = logs.get(entry.partitionId);
    if (log === undefined || life.clock.isDead) return;
    if (entry.restored) world.coverage.restoredEntries += 1;
    try {
      log.told(entry, world.nextMoment++);
    } catch (error) {
      // The node takes it for a listener's own failure.
      if (!(error instanceof ViolationError)) throw error;
      world.violation ??= error;
    }
  };
  return {
    restoreStarted({ partitionId }) {
      if (partitionId === 0) return;
      const log = watchedLog(partitionRecord(world.safety, partitionId).order);
      log.begin(seat.durable.partitions.get(partitionId)?.base.index ?? 0);
      logs.set(partitionId, log);
    },
    entryRestored: told,
    entryReplicated: told,
  };
}

/** Members that a configuration does not have: should they come back, the log may begin behind what they know. */
export function noteMembers(world: World, partitionId: PartitionId, confState: ConfState): void {
  const members = new Set(membersOf(confState));
  for (const { nodeId, replicaId } of world.seats.values()) {
    if (!members.has(replicaId)) world.formerMembers.add(`${partitionId} ${nodeId}`);
  }
}

/** A log without a machine begins anew, behind a checkpoint: what is between is lost to its listeners. */
export function noteJump(
  world: World,
  life: Life,
  partitionId: PartitionId,
  index: LogIndex,
): void {
  const log = life.logs.get(partitionId);
  if (log === undefined) return;
  log.jump(index);
  world.coverage.logOnlySkipped += 1;
  const { nodeId, durableBefore } = life.seat;
  const isAllowed =
    world.settings.nodeSettings.logOnlyCompaction === 'checkpoint' ||
    durableBefore !== undefined ||
    world.formerMembers.has(`${partitionId} ${nodeId}`);
  if (isAllowed) return;
  world.violation ??= new ViolationError(
    'A log without a machine is compacted no further than all its members have stored it, unless told otherwise',
    `${nodeId}, a member all the time, was told to go on behind entry ${index}`,
    partitionId,
  );
}

/** Counts what becomes of a log without a machine. */
export function noteLogOnly({ coverage }: World, life: Life, partition: Partition): void {
  const log = life.logs.get(partition.id);
  if (log === undefined) return;
  const { compactedIndex } = partition.raft.log;
  const isJump = compactedIndex === life.restoredIndexes.get(partition.id);
  const isShorter = compactedIndex > (log.compactedIndex ?? compactedIndex);
  if (isShorter && !isJump) coverage.logOnlyCompacted += 1;
  log.compactedIndex = compactedIndex;
  const isHeld = partition.retention.limitedBy === 'slowestReplica';
  if (isHeld && !log.isHeld) coverage.logOnlyHeld += 1;
  log.isHeld = isHeld;
}
