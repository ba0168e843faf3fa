// Who leads, for callers: what this node believes, waiting for a leader, handing leadership over.

import { must } from '../base/assert.ts';
import { KommanderError, withoutEffect } from '../base/errors.ts';
import { Lane, type NodeId } from '../ports/transport.ts';
import { transferLeadership as startTransfer, successors } from '../raft/raft.ts';
import type { SoftState } from '../raft/ready.ts';
import { type ReplicaId, Role } from '../raft/types.ts';
import { type Host, nowMs } from './host.ts';
import { flushOutbox, queueItem } from './outbox.ts';
import type { Partition } from './partition.ts';
import { noLeader } from './proposal-errors.ts';
import { rerouteQueue } from './proposals.ts';
import { markDirty } from './ready-loop.ts';
import type { Wait } from './wait.ts';

/** Somebody waits for any leader, or for a certain one. */
export interface LeaderWait {
  readonly wait: Wait<NodeId>;
  readonly wanted: NodeId | undefined;
}

/** Whether this node leads the partition as far as it knows. A replica that takes no part any more leads nothing. */
export function isLeading(host: Host, partition: Partition): boolean {
  return partition.raft.role === Role.leader && takesPart(host, partition);
}

/** The partition's leader as far as this node knows. A replica that takes no part any more knows nothing. */
export function leaderNode(host: Host, partition: Partition): NodeId | undefined {
  const { leader } = partition.raft;
  if (!takesPart(host, partition)) return undefined;
  return leader === undefined ? undefined : host.nodeIds.get(leader);
}

function takesPart(host: Host, partition: Partition): boolean {
  if (partition.stopped !== undefined) return false;
  return host.state === 'running' || host.state === 'closing';
}

/**
 * Asks somebody to lead each partition that this node leads and, since its disk failed, will not lead any longer: an
 * election timeout of silence would tell the others the same, later. Whoever is asked campaigns as after any transfer,
 * and wins only with what a quorum has.
 */
export function handOverAll(host: Host): void {
  for (const partition of host.partitions.values()) {
    if (!isLeading(host, partition)) continue;
    const { raft } = partition;
    // The former number of a member that is being readmitted votes for a while, and is no node's.
    const successor = successors(raft).find((id) => host.nodeIds.has(id));
    if (successor === undefined) continue;
    const peer = must(host.nodeIds.get(successor), 'it was looked for');
    const message = {
      type: 'timeoutNow',
      from: raft.id,
      to: successor,
      term: raft.currentTerm,
    } as const;
    // Behind the entries that are on their way: without them another voter may have more, and refuse its vote.
    queueItem(host, peer, Lane.bulk, { kind: 'raft', partitionId: partition.id, message });
    host.observe({
      level: 'warn',
      name: 'leadership-given-away',
      fields: { partitionId: partition.id, isDiskBroken: true },
    });
  }
  flushOutbox(host);
}

/** Role or leader changed. */
export function noteSoftState(host: Host, partition: Partition, { role }: SoftState): void {
  const leader = leaderNode(host, partition);
  const term = partition.raft.currentTerm;
  const fields = { partitionId: partition.id, leader, term, role };
  // A campaign that leads nowhere changes the role, and the leader stays unknown.
  if (leader === partition.reportedLeader) {
    host.observe({ level: 'debug', name: 'role-changed', fields });
  } else {
    partition.reportedLeader = leader;
    host.observe({ level: 'info', name: 'leader-changed', fields });
    host.events.emit('leaderChanged', { partitionId: partition.id, leader, term });
  }
  if (leader === undefined) return;
  rerouteQueue(host, partition);
  settleLeaderWaits(partition, leader);
  if (partition.readsQueued.length > 0) markDirty(host, partition);
}

function settleLeaderWaits(partition: Partition, leader: NodeId): void {
  if (partition.leaderWaits.length === 0) return;
  const isMet = ({ wanted }: LeaderWait): boolean => wanted === undefined || wanted === leader;
  const met = partition.leaderWaits.filter(isMet);
  partition.leaderWaits = partition.leaderWaits.filter((waiting) => !isMet(waiting));
  for (const { wait } of met) wait.succeed(leader);
}

/** Waits for a leader; at once when there is one that fits. @throws QUEUE_FULL */
export function submitLeaderWait(host: Host, partition: Partition, waiting: LeaderWait): void {
  const leader = leaderNode(host, partition);
  if (leader !== undefined && (waiting.wanted ?? leader) === leader) {
    waiting.wait.succeed(leader);
    return;
  }
  const { queuedEntriesMax } = host.settings;
  if (partition.leaderWaits.length >= queuedEntriesMax) {
    throw new KommanderError(
      `${queuedEntriesMax} callers wait for a leader of partition ${partition.id} already; try again after a pause`,
      { code: 'QUEUE_FULL', details: { partitionId: partition.id, queuedEntriesMax } },
    );
  }
  partition.leaderWaits.push(waiting);
}

/**
 * Begins to hand leadership to `to`; `wait` ends when it leads.
 *
 * @throws NO_LEADER, UNKNOWN_NODE, TRANSFER_REFUSED
 */
export function submitTransfer(
  host: Host,
  partition: Partition,
  to: NodeId,
  wait: Wait<NodeId>,
): void {
  const replicaId = host.replicaIds.get(to);
  if (replicaId === undefined) {
    throw new KommanderError(
      `no member is called "${to}"; the members are ${[...host.replicaIds.keys()].join(', ')}`,
      { code: 'UNKNOWN_NODE', details: { nodeId: to } },
    );
  }
  if (leaderNode(host, partition) === undefined) throw noLeader(partition);
  const { raft } = partition;
  if (!raft.confState.voters.includes(replicaId)) throw refused(partition, to, 'it is no voter');
  if (raft.role === Role.leader && to !== host.settings.nodeId) {
    if (!host.reachable.has(to) || !isHeardOf(host, partition, replicaId)) {
      throw refused(partition, to, 'it is not reachable');
    }
  }
  submitLeaderWait(host, partition, { wait, wanted: to });
  if (wait.isSettled) return;
  startTransfer(raft, replicaId);
  markDirty(host, partition);
}

/** Whether the leader has heard from the replica lately; just after a quorum check nobody has had time to answer. */
function isHeardOf(host: Host, { raft }: Partition, replicaId: ReplicaId): boolean {
  const isJustChecked = raft.electionElapsed <= 2 * host.settings.heartbeatTicks;
  return isJustChecked || raft.progress.get(replicaId)?.isRecentlyActive === true;
}

function refused(partition: Partition, to: NodeId, reason: string): KommanderError {
  return new KommanderError(
    `leadership of partition ${partition.id} cannot go to "${to}": ${reason}; choose another node or try again`,
    { code: 'TRANSFER_REFUSED', details: { partitionId: partition.id, to, reason } },
  );
}

/** Answers who waits for what is known by now, and ends waits whose time is over. */
export function expireLeaderWaits(host: Host, partition: Partition): void {
  if (partition.leaderWaits.length === 0) return;
  // A leader that was forgotten and heard of again within one turn is no change, so nobody was told of it.
  const leader = leaderNode(host, partition);
  if (leader !== undefined) settleLeaderWaits(partition, leader);
  const now = nowMs(host);
  for (const { wait, wanted } of partition.leaderWaits) {
    if (wait.deadlineMs > now) continue;
    wait.fail(wanted === undefined ? noLeader(partition) : transferTimeout(partition, wanted));
  }
  partition.leaderWaits = partition.leaderWaits.filter(({ wait }) => !wait.isSettled);
}

function transferTimeout(partition: Partition, to: NodeId): KommanderError {
  return new KommanderError(
    `"${to}" did not take over partition ${partition.id} in time; it may still take over: see leaderOf, then try again`,
    { code: 'TRANSFER_TIMEOUT', details: { partitionId: partition.id, to } },
  );
}

/** Ends all waits for a leader; whatever `error` says of writes, a wait writes nothing. */
export function failLeaderWaits(partition: Partition, error: KommanderError): void {
  const waits = partition.leaderWaits;
  partition.leaderWaits = [];
  for (const { wait } of waits) wait.fail(withoutEffect(error));
}
