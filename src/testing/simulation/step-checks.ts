// What is checked after every step of a simulated run: the replicas of the processes in which something happened, and
// whether a process or a replica has failed that should not.

import { isKommanderError } from '../../base/errors.ts';
import type { Partition } from '../../host/partition.ts';
import { lastTerm, termAt } from '../../raft/log.ts';
import { quorumIndex } from '../../raft/quorum.ts';
import type { RaftState } from '../../raft/state.ts';
import { Role } from '../../raft/types.ts';
import { noteLogOnly } from './machines.ts';
import { noteRefused } from './operator.ts';
import { checkReplica, newReplicaWatch, partitionRecord, type ReplicaWatch } from './safety.ts';
import { ViolationError } from './violation.ts';
import {
  afterMachineFailure,
  isRot,
  type Life,
  loseSeat,
  noteRotten,
  openLives,
  replaceFailed,
  type World,
} from './world.ts';

/** @throws ViolationError */
export function checkTouched(world: World): void {
  world.stepCount += 1;
  if (world.violation !== undefined) throw world.violation;
  if (world.touched.size === 0) return;
  for (const life of world.touched) if (!life.clock.isDead) checkLife(world, life);
  world.touched.clear();
}

function checkLife(world: World, life: Life): void {
  const { host } = life;
  if (host === undefined) return;
  if (host.state === 'failed') {
    replaceFailed(world, life);
    return;
  }
  if (host.state === 'refused') {
    noteRefused(world, life);
    return;
  }
  for (const partition of host.partitions.values()) {
    const { id, raft, stopped } = partition;
    if (partition.retention.holds.size > 0) checkHolds(life, partition);
    noteLogOnly(world, life, partition);
    if (stopped !== undefined) {
      noteStopped(world, life, id, stopped);
      return;
    }
    let watch = life.watches.get(id);
    if (watch === undefined) {
      watch = newReplicaWatch(life.seat.nodeId, life.number, raft);
      life.watches.set(id, watch);
    }
    const wasLeader = watch.role === Role.leader && watch.term === raft.currentTerm;
    if (!checkReplica(world.safety, id, watch, raft)) continue;
    if (raft.role === Role.leader) {
      noteLeaderStates(world, life, { partitionId: id, raft, watch, wasLeader });
    }
  }
}

/** Only a snapshot of the leader takes entries that are held: the replica was too far behind to have use for them. */
function checkHolds({ seat, restoredIndexes }: Life, { id, raft, retention }: Partition): void {
  const { compactedIndex } = raft.log;
  if (compactedIndex === restoredIndexes.get(id)) return;
  for (const { owner, fromIndex } of retention.holds) {
    if (fromIndex > compactedIndex) continue;
    throw new ViolationError(
      'Holds: nothing at or above the lowest hold of a partition is compacted',
      `${seat.nodeId} has compacted up to ${compactedIndex}, and "${owner}" holds from ${fromIndex}`,
      id,
    );
  }
}

/** A replica stops only for a reason that the run has given it. */
function noteStopped(world: World, life: Life, partitionId: number, stopped: Error): void {
  const cause = stopped.cause;
  if (cause instanceof ViolationError) throw cause;
  const isDamage = isKommanderError(cause, 'WAL_CORRUPT') && life.seat.expected === 'damaged';
  if (isDamage) {
    world.coverage.damageFound += 1;
    loseSeat(world, life.seat);
    return;
  }
  if (isRot(life.seat, cause)) {
    noteRotten(world, life.seat);
    return;
  }
  if (isKommanderError(stopped, 'APPLY_FAILED') && life.failedMachines.has(partitionId)) {
    afterMachineFailure(world, life.seat);
    return;
  }
  throw new ViolationError(
    'A replica stops only when its disk or its state machine fails',
    `${life.seat.nodeId}: ${stopped.message}\n${cause instanceof Error ? cause.stack : ''}`,
    partitionId,
    stopped,
  );
}

/** Counts the states that a leader may be in and that matter. */
function noteLeaderStates(
  world: World,
  life: Life,
  seen: {
    readonly partitionId: number;
    readonly raft: RaftState;
    readonly watch: ReplicaWatch;
    readonly wasLeader: boolean;
  },
): void {
  const { partitionId, raft, watch, wasLeader } = seen;
  const { coverage } = world;
  const { log, progress, currentTerm } = raft;
  const onQuorum = quorumIndex(raft.confState, (id) => progress.get(id)?.matchIndex ?? 0);
  const isInherited = (termAt(log, onQuorum) ?? currentTerm) < currentTerm;
  if (isInherited && onQuorum > watch.electedCommitIndex) {
    coverage.oldTermOnQuorum += 1;
    tellMoment(world, 'fragile', partitionId, life);
  }
  if (wasLeader) return;
  tellMoment(world, 'elected', partitionId, life);
  const record = partitionRecord(world.safety, partitionId);
  for (const other of openLives(world)) {
    if (other === life) continue;
    const theirs = other.host?.partitions.get(partitionId)?.raft;
    if (theirs === undefined) continue;
    if (theirs.role === Role.leader && theirs.currentTerm < currentTerm) coverage.staleLeader += 1;
    const isOther = lastTerm(theirs.log) < lastTerm(log);
    const isLonger = theirs.log.lastIndex >= log.lastIndex;
    if (isLonger && isOther && theirs.log.lastIndex > record.highestCommit) {
      coverage.electedAgainstDivergence += 1;
    }
  }
}

function tellMoment(
  world: World,
  moment: 'elected' | 'fragile',
  partitionId: number,
  { seat }: Life,
): void {
  for (const listener of [...world.momentListeners]) listener(moment, partitionId, seat.nodeId);
}
