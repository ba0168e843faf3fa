// Linearizable reads (dissertation 6.4) for callers: all reads that wait in one turn share one question to the leader,
// and each may go on once the index that came back is applied here. A question that gets no answer is asked again.

import { KommanderError, withoutEffect } from '../base/errors.ts';
import { readIndex } from '../raft/raft.ts';
import type { ReadState } from '../raft/ready.ts';
import type { LogIndex } from '../raft/types.ts';
import type { ReadResult } from './api.ts';
import { type Host, nowMs } from './host.ts';
import { leaderNode } from './leadership.ts';
import type { Partition } from './partition.ts';
import { noLeader } from './proposal-errors.ts';
import { markDirty } from './ready-loop.ts';
import type { Wait } from './wait.ts';

export type ReadWait = Wait<ReadResult>;

/** A question on its way, and who waits for it. */
export interface ReadRound {
  readonly reads: readonly ReadWait[];
  readonly askedAtTick: number;
}

/** Questions of one partition on their way at one time; further reads wait and share the next one. */
const readRoundsMax = 4;

/** Adds a read; it waits while nobody is known to lead. @throws QUEUE_FULL */
export function submitRead(host: Host, partition: Partition, read: ReadWait): void {
  if (partition.readCount >= host.settings.queuedEntriesMax) throw tooManyReads(host, partition);
  partition.readCount += 1;
  partition.readsQueued.push(read);
  markDirty(host, partition);
}

/**
 * Adds a read of whatever is applied here. While a snapshot takes the place of the state, the machine may have half of
 * it, which no entry ever led to: the read waits. @throws QUEUE_FULL
 */
export function submitLocalRead(host: Host, partition: Partition, read: ReadWait): void {
  if (partition.readCount >= host.settings.queuedEntriesMax) throw tooManyReads(host, partition);
  partition.readCount += 1;
  partition.readsToApply.push({ index: partition.lastApplied, reads: [read] });
  releaseReads(partition);
}

/** Asks for an index on behalf of all reads that wait. */
export function askForReads(host: Host, partition: Partition): void {
  if (partition.readsQueued.length === 0 || partition.readRounds.size >= readRoundsMax) return;
  const context = partition.nextReadContext;
  // No leader now, or too many questions: the next leader, or the next tick, lets them be asked again.
  if (readIndex(partition.raft, context) === 'dropped') return;
  partition.nextReadContext += 1;
  partition.readRounds.set(context, {
    reads: partition.readsQueued,
    askedAtTick: host.tickCount,
  });
  partition.readsQueued = [];
}

/** The leader's answer. */
export function noteReadState(host: Host, partition: Partition, state: ReadState): void {
  const round = partition.readRounds.get(state.context);
  if (round === undefined) return;
  partition.readRounds.delete(state.context);
  partition.readsToApply.push({ index: state.index, reads: round.reads });
  releaseReads(partition);
  if (partition.readsQueued.length > 0) markDirty(host, partition);
}

/** Lets reads go on whose index is applied, unless the state is being replaced. */
export function releaseReads(partition: Partition): void {
  if (partition.readsToApply.length === 0 || partition.isRestoring) return;
  const { lastApplied } = partition;
  const isReady = ({ index }: { readonly index: LogIndex }): boolean => index <= lastApplied;
  for (const { reads } of partition.readsToApply.filter(isReady)) {
    partition.readCount -= reads.length;
    for (const read of reads) read.succeed(readResult(partition));
  }
  partition.readsToApply = partition.readsToApply.filter((waiting) => !isReady(waiting));
}

function readResult(partition: Partition): ReadResult {
  return { index: partition.lastApplied, term: partition.raft.currentTerm };
}

/** Fails reads whose time is over, and asks again where an answer is overdue. */
export function sweepReads(host: Host, partition: Partition): void {
  const { readsQueued, readRounds, readsToApply } = partition;
  if (readsQueued.length + readRounds.size + readsToApply.length === 0) return;
  const now = nowMs(host);
  const isLed = leaderNode(host, partition) !== undefined;
  const late = isLed ? readTimeout(partition) : noLeader(partition);
  const expire = (read: ReadWait, why = late): boolean => {
    if (read.deadlineMs <= now) read.fail(why);
    return !read.isSettled;
  };
  const retryTicks = Math.ceil(host.settings.electionTicks / 2);
  const again: ReadWait[] = [];
  for (const [context, round] of readRounds) {
    if (host.tickCount - round.askedAtTick < retryTicks) continue;
    readRounds.delete(context);
    again.push(...round.reads);
  }
  const queued = [...again, ...readsQueued];
  partition.readsQueued = queued.filter((read) => expire(read));
  partition.readCount -= queued.length - partition.readsQueued.length;
  const behind = notApplied(partition);
  for (const { reads } of readsToApply) for (const read of reads) expire(read, behind);
  for (const { reads } of readRounds.values()) for (const read of reads) expire(read);
  if (partition.readsQueued.length > 0) markDirty(host, partition);
}

export function failReads(partition: Partition, error: KommanderError): void {
  const waiting = [
    partition.readsQueued,
    ...[...partition.readRounds.values()].map((round) => round.reads),
    ...partition.readsToApply.map(({ reads }) => reads),
  ];
  partition.readsQueued = [];
  partition.readRounds.clear();
  partition.readsToApply = [];
  partition.readCount = 0;
  for (const reads of waiting) for (const read of reads) read.fail(withoutEffect(error));
}

function tooManyReads(host: Host, partition: Partition): KommanderError {
  const { queuedEntriesMax } = host.settings;
  return new KommanderError(
    `partition ${partition.id} has ${partition.readCount} reads waiting; try again after a pause`,
    { code: 'QUEUE_FULL', details: { partitionId: partition.id, queuedEntriesMax } },
  );
}

function readTimeout(partition: Partition): KommanderError {
  return new KommanderError(
    `no quorum of partition ${partition.id} confirmed the read in time; try again`,
    { code: 'READ_TIMEOUT', details: { partitionId: partition.id } },
  );
}

/** Whoever leads has answered, or was not asked: it is this node that is late. */
function notApplied(partition: Partition): KommanderError {
  return new KommanderError(
    `this node has not applied partition ${partition.id} far enough in time: its state machine is slow, or takes in a snapshot; try again, or read on another node`,
    { code: 'READ_TIMEOUT', details: { partitionId: partition.id } },
  );
}
