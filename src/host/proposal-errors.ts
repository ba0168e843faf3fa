// What a caller is told whose write was not taken, did not take effect, or whose outcome is not known: one sentence each,
// with what to do. Which of them is true is decided in `proposals.ts`.

import { KommanderError } from '../base/errors.ts';
import { membersOf } from '../raft/membership.ts';
import type { LogIndex } from '../raft/types.ts';
import { type Host, nodesOf } from './host.ts';
import { leaderNode } from './leadership.ts';
import type { Partition } from './partition.ts';

export function notLeader(host: Host, partition: Partition): KommanderError {
  const leader = leaderNode(host, partition);
  return new KommanderError(
    `this node does not lead partition ${partition.id}; ${leader === undefined ? 'no leader is known now' : `ask "${leader}"`}`,
    { code: 'NOT_LEADER', details: { partitionId: partition.id, leader } },
  );
}

export function noLeader(partition: Partition): KommanderError {
  return new KommanderError(
    `partition ${partition.id} has no known leader now; nothing was written, try again`,
    { code: 'NO_LEADER', details: { partitionId: partition.id } },
  );
}

/** This node holds no replica: it was removed, or is being added and does not know it yet. */
export function noReplica(host: Host, partition: Partition): KommanderError {
  const members = nodesOf(host, membersOf(partition.raft.confState));
  return new KommanderError(
    `this node holds no replica of partition ${partition.id}; ask ${members.join(', ')}`,
    { code: 'NO_REPLICA', details: { partitionId: partition.id, members } },
  );
}

export function dropped(partition: Partition): KommanderError {
  return new KommanderError(
    `the leader of partition ${partition.id} is giving its place up; nothing was written, try again`,
    { code: 'PROPOSAL_DROPPED', details: { partitionId: partition.id } },
  );
}

/** This node would have to store the write, and cannot. */
export function diskFull(host: Host, partition: Partition): KommanderError {
  const { nodeId } = host.settings;
  return new KommanderError(
    `the disk of "${nodeId}", which leads partition ${partition.id}, is full; nothing was written, make room there, then try again`,
    { code: 'DISK_FULL', details: { partitionId: partition.id, nodeId } },
  );
}

/** It never left the queue: it has not been written. */
export function neverTaken(host: Host, partition: Partition): KommanderError {
  if (leaderNode(host, partition) === undefined) return noLeader(partition);
  return new KommanderError(
    `the leader of partition ${partition.id} could not take the write in time (its disk or a quorum is slow); nothing was written, try again`,
    { code: 'PROPOSAL_DROPPED', details: { partitionId: partition.id } },
  );
}

export function lost(partition: Partition, index: LogIndex): KommanderError {
  return new KommanderError(
    `another leader of partition ${partition.id} replaced the entry at index ${index} before it was committed; it had no effect, try again`,
    { code: 'PROPOSAL_LOST', details: { partitionId: partition.id, index } },
  );
}

export function timedOut(partition: Partition): KommanderError {
  return new KommanderError(
    `no quorum of partition ${partition.id} answered in time; the write may still commit`,
    { code: 'PROPOSAL_TIMEOUT', details: { partitionId: partition.id } },
  );
}

/** The entries of a batch travel one after the other, and another leader may have got the first ones only. */
export function cutShort(partition: Partition): KommanderError {
  return outcomeUnknown(partition, 'another leader committed only the first entries of the batch');
}

export function outcomeUnknown(partition: Partition, why: string): KommanderError {
  return new KommanderError(
    `the outcome of a write in partition ${partition.id} is not known: ${why}; it may have committed`,
    { code: 'OUTCOME_UNKNOWN', details: { partitionId: partition.id } },
  );
}
