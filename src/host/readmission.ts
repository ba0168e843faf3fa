// Readmitting a member whose disk was emptied (HAZARDS 52). The disk forgot what the replica had promised, so the member
// comes back as another replica, with a number of its own: nothing that the former one acknowledged or voted counts for
// it. That it was readmitted is a committed fact of partition 0; each partition's leader then does its part, one change
// of the members at a time (`readmission-step.ts`), whoever leads and whatever crashes meanwhile.

import { KommanderError } from '../base/errors.ts';
import {
  encodeReadmission,
  nextReplicaId,
  type Readmission,
  type RosterMember,
} from '../cluster/system-state.ts';
import type { NodeId } from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import { confChangeRefusal, proposeConfChange } from '../raft/raft.ts';
import { type LogIndex, type ReplicaId, Role } from '../raft/types.ts';
import type { ReadmissionResult } from './api.ts';
import type { Host } from './host.ts';
import type { Partition } from './partition.ts';
import { OutgoingPayload, typeBytes } from './payload.ts';
import { formerReplicas, nextReadmissionStep } from './readmission-step.ts';
import { markDirty } from './ready-loop.ts';
import { systemTypes } from './system-entries.ts';

/**
 * What has to be committed in partition 0, or undefined when the member's present directory was readmitted before.
 *
 * @throws INVALID_ARGUMENT, UNKNOWN_NODE, READMISSION_REFUSED
 */
export function readmissionOf(host: Host, nodeId: NodeId): Readmission | undefined {
  const member = memberOf(host, nodeId);
  if (nodeId === host.settings.nodeId)
    throw refused(nodeId, 'a node cannot readmit itself; ask another one');
  const stranger = host.genesis.strangers.get(nodeId);
  if (stranger === undefined) {
    if (member.nonce !== undefined) return undefined;
    throw refused(
      nodeId,
      'no emptied directory of it has shown itself to this node; start it with the empty directory, then try again',
    );
  }
  if (!stranger.isEmpty) {
    throw refused(
      nodeId,
      'its directory is an older one with data in it; empty it and start it again',
    );
  }
  // The new directory was readmitted, and the node was not told yet.
  if (member.nonce === stranger.nonce) return undefined;
  return { nodeId, replicaId: nextReplicaId(member.replicaId), nonce: stranger.nonce };
}

export function readmissionPayload(readmission: Readmission): OutgoingPayload {
  return new OutgoingPayload(typeBytes(systemTypes.readmission), encodeReadmission(readmission));
}

/** The member after its readmission. @throws READMISSION_REFUSED it was readmitted with yet another directory */
export function readmissionResult(
  host: Host,
  nodeId: NodeId,
  readmission: Readmission | undefined,
): ReadmissionResult {
  const { replicaId, nonce } = memberOf(host, nodeId);
  if (readmission !== undefined && nonce !== readmission.nonce) {
    throw refused(
      nodeId,
      'somebody else readmitted it with another directory meanwhile; see status()',
    );
  }
  return { nodeId, replicaId };
}

function memberOf(host: Host, nodeId: NodeId): RosterMember {
  const { members } = host.system;
  const member = members.find((each) => each.nodeId === nodeId);
  if (member !== undefined) return member;
  const names = members.map((each) => each.nodeId).join(', ');
  throw new KommanderError(`no member is called "${nodeId}"; the members are ${names}`, {
    code: 'UNKNOWN_NODE',
    details: { nodeId },
  });
}

/** A leader does the next step of readmissions in its partition. Called once in an election timeout. */
export function carryOutReadmissions(host: Host, partition: Partition): void {
  const { raft } = partition;
  const committedBefore = partition.readmissionCommitIndex;
  partition.readmissionCommitIndex = raft.role === Role.leader ? raft.log.commitIndex : undefined;
  if (committedBefore === undefined || partition.readmissionCommitIndex === undefined) return;
  const isCaughtUp = (replica: ReplicaId): boolean =>
    hasCaughtUp(host, partition, replica, committedBefore);
  const change = nextReadmissionStep(raft.confState, host.replicaIds.values(), isCaughtUp);
  if (change === undefined || confChangeRefusal(raft, change) !== undefined) return;
  // What is dropped while leadership moves is proposed again by whoever leads then.
  proposeConfChange(raft, change);
  markDirty(host, partition);
}

/**
 * A learner that takes in within an election timeout what is committed in one would not hold writes up as a voter
 * (dissertation 4.2.1); one that is away would.
 */
function hasCaughtUp(
  host: Host,
  { raft }: Partition,
  replica: ReplicaId,
  committedBefore: LogIndex,
): boolean {
  const progress = raft.progress.get(replica);
  const nodeId = host.nodeIds.get(replica);
  if (progress === undefined || nodeId === undefined || !host.reachable.has(nodeId)) return false;
  return progress.state === 'replicate' && progress.matchIndex >= committedBefore;
}

/** In which partitions a member has which part, as far as this node knows. */
export interface MemberParts {
  readonly voterOf: readonly PartitionId[];
  readonly learnerOf: readonly PartitionId[];
  readonly readmittingIn: readonly PartitionId[];
}

export function partsOf(host: Host, nodeId: NodeId): MemberParts {
  const replicaId = host.replicaIds.get(nodeId) ?? 0;
  const isIn = (list: (partition: Partition) => readonly ReplicaId[]): PartitionId[] =>
    [...host.partitions.values()]
      .filter((each) => list(each).includes(replicaId))
      .map(({ id }) => id);
  return {
    voterOf: isIn(({ raft }) => raft.confState.voters),
    learnerOf: isIn(({ raft }) => raft.confState.learners),
    readmittingIn: [...host.partitions.values()]
      .filter(({ raft }) => formerReplicas(raft.confState, replicaId).length > 0)
      .map(({ id }) => id),
  };
}

function refused(nodeId: NodeId, reason: string): KommanderError {
  return new KommanderError(`"${nodeId}" was not readmitted: ${reason}`, {
    code: 'READMISSION_REFUSED',
    details: { nodeId, reason },
  });
}
