// When checkpoints are made without anybody asking. Every replica counts what it applied since the last checkpoint, so
// that whoever comes to lead knows when the next one is due; the leader alone proposes it, and the entry serves all
// replicas. A node has few under way at one time, and the partitions have their turns in the order in which they came due.

import { KommanderError } from '../base/errors.ts';
import { entryBytesOf } from '../raft/log.ts';
import { type Entry, type LogIndex, Role } from '../raft/types.ts';
import type { CommitResult } from './api.ts';
import { type Host, nowMs, retryAtMs } from './host.ts';
import type { Partition } from './partition.ts';
import { checkpointProposal, submitProposal } from './proposals.ts';
import { descriptorOf } from './snapshots.ts';
import { Wait } from './wait.ts';

/** Checkpoints of different partitions that a node begins at one time: each may hold a whole state in memory. */
const underWayMax = 2;
/** Election timeouts until one whose outcome is not known makes room for others. */
const patienceElectionTimeouts = 60;

/** What was applied since the last checkpoint of a partition. */
export interface CheckpointCounts {
  /** The last checkpoint that was applied here, or the snapshot that took its place; 0: none. */
  index: LogIndex;
  /** Entries behind it that are applied. */
  entries: number;
  /** What these weigh in the log, as `entryBytes` counts. */
  bytes: number;
  /** The state machine is giving its state. */
  isTaking: boolean;
  /** This node's proposal of one is not decided yet. */
  isProposed: boolean;
  /** Not tried again before then, on the monotonic clock. */
  notBeforeMs: number;
}

/** Of a node. */
export interface CheckpointSchedule {
  /** Partitions that have enough for a checkpoint, whoever leads them; who waits longest is first. */
  readonly due: Set<Partition>;
  /** Those whose checkpoint this node has proposed, or takes. */
  readonly underWay: Set<Partition>;
}

export function newCheckpointCounts(baseIndex: LogIndex): CheckpointCounts {
  return {
    index: baseIndex,
    entries: 0,
    bytes: 0,
    isTaking: false,
    isProposed: false,
    notBeforeMs: 0,
  };
}

export function newCheckpointSchedule(): CheckpointSchedule {
  return { due: new Set(), underWay: new Set() };
}

/** Entries were applied. After a restart they come again, and so the counts are what they were. */
export function countApplied(host: Host, partition: Partition, entries: readonly Entry[]): void {
  const { checkpoints } = partition;
  checkpoints.entries += entries.length;
  checkpoints.bytes += entryBytesOf(entries);
  if (isDue(host, partition)) host.checkpoints.due.add(partition);
}

function isDue(host: Host, partition: Partition): boolean {
  const { checkpointBytes, checkpointEntries } = host.settings;
  const { entries, bytes } = partition.checkpoints;
  // What has no snapshot is never compacted: a checkpoint would be an entry more.
  if (partition.machine !== undefined && partition.machine.snapshot === undefined) return false;
  const isLong =
    (checkpointEntries > 0 && entries >= checkpointEntries) ||
    (checkpointBytes > 0 && bytes >= checkpointBytes);
  // A snapshot never costs more than the writes that made it due.
  return isLong && bytes >= (descriptorOf(partition.snapshot?.data)?.stored?.byteLength ?? 0);
}

/** The state machine begins to give its state for a checkpoint, whoever proposed it. */
export function beginCheckpoint(host: Host, partition: Partition): void {
  partition.checkpoints.isTaking = true;
  host.checkpoints.underWay.add(partition);
}

/** A checkpoint was applied, or a snapshot took the place of everything up to `index`. */
export function noteCheckpoint(host: Host, partition: Partition, index: LogIndex): void {
  const { checkpoints } = partition;
  checkpoints.index = Math.max(checkpoints.index, index);
  checkpoints.entries = 0;
  checkpoints.bytes = 0;
  checkpoints.isTaking = false;
  host.checkpoints.due.delete(partition);
  if (!isAtWork(partition)) host.checkpoints.underWay.delete(partition);
}

/** The state is being given, or what was given is still being written. */
function isAtWork({ checkpoints, snapshotting }: Partition): boolean {
  return checkpoints.isTaking || snapshotting !== undefined;
}

/** Proposes the checkpoints whose turn has come. Called at every tick. */
export function proposeDueCheckpoints(host: Host): void {
  const { due, underWay } = host.checkpoints;
  for (const partition of underWay) {
    // A replica that stopped, or does not lead any more, decides nothing that others should wait for.
    const isLost = partition.raft.role !== Role.leader || !partition.checkpoints.isProposed;
    if (partition.stopped !== undefined || (isLost && !isAtWork(partition))) {
      underWay.delete(partition);
    }
  }
  if (host.state !== 'running') return;
  // One that fails goes to the end of the line, and is not looked at again in this tick.
  for (const partition of [...due]) {
    if (underWay.size >= underWayMax) return;
    if (partition.stopped !== undefined) due.delete(partition);
    else if (mayPropose(host, partition)) proposeCheckpoint(host, partition);
  }
}

function mayPropose(host: Host, partition: Partition): boolean {
  const { raft, checkpoints } = partition;
  if (raft.role !== Role.leader || raft.transferee !== undefined) return false;
  if (isAtWork(partition)) return false;
  return !host.checkpoints.underWay.has(partition) && nowMs(host) >= checkpoints.notBeforeMs;
}

function proposeCheckpoint(host: Host, partition: Partition): void {
  const { underWay } = host.checkpoints;
  const { tickMs, electionTicks } = host.settings;
  const { entries, bytes } = partition.checkpoints;
  const partitionId = partition.id;
  const made = ({ index }: CommitResult): void => {
    partition.checkpoints.isProposed = false;
    const fields = { partitionId, index, entries, bytes };
    host.observe({ level: 'info', name: 'checkpoint-made', fields });
  };
  const failed = (error: Error): void => {
    partition.checkpoints.isProposed = false;
    // It was applied, and the state takes longer than the patience.
    if (partition.checkpoints.isTaking) return;
    underWay.delete(partition);
    postpone(host, partition);
    const fields = { partitionId, reason: error.message };
    host.observe({ level: 'warn', name: 'checkpoint-failed', fields });
  };
  const deadlineMs = nowMs(host) + patienceElectionTimeouts * tickMs * electionTicks;
  const wait = new Wait(made, failed, { deadlineMs, signal: undefined });
  underWay.add(partition);
  partition.checkpoints.isProposed = true;
  try {
    submitProposal(host, partition, checkpointProposal(wait));
  } catch (error) {
    if (!(error instanceof KommanderError)) throw error;
    wait.fail(error);
  }
}

/** Others that are due go first. */
function postpone(host: Host, partition: Partition): void {
  const { due } = host.checkpoints;
  partition.checkpoints.notBeforeMs = retryAtMs(host);
  if (due.delete(partition)) due.add(partition);
}
