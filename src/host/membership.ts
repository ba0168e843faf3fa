// Changes of a partition's members for callers (dissertation 4.1 to 4.3): one at a time, proposed on the leader, several
// nodes in one step by joint consensus. A caller waits until the new members alone decide. What may be proposed when is
// decided by the core; here is who asked and what became of it.

import { KommanderError } from '../base/errors.ts';
import type { NodeId } from '../ports/transport.ts';
import {
  type ConfChange,
  ConfChangeKind,
  type SingleChange,
  Transition,
} from '../raft/conf-change.ts';
import { termAt } from '../raft/log.ts';
import { isJoint } from '../raft/membership.ts';
import { confChangeRefusal, proposeConfChange } from '../raft/raft.ts';
import { type LogIndex, Role, type Term } from '../raft/types.ts';
import type { MembershipChange, MembershipResult } from './api.ts';
import { type Host, nodesOf, nowMs } from './host.ts';
import { leaderNode } from './leadership.ts';
import type { Partition } from './partition.ts';
import {
  diskFull,
  lost,
  noLeader,
  notLeader,
  outcomeUnknown,
  timedOut,
} from './proposal-errors.ts';
import { formerReplicas } from './readmission-step.ts';
import { markDirty } from './ready-loop.ts';
import { isDiskFull } from './storage-writer.ts';
import type { Wait } from './wait.ts';

/** Somebody waits for a change that was appended at a known place. */
export interface MembershipWait {
  readonly wait: Wait<MembershipResult>;
  readonly index: LogIndex;
  readonly term: Term;
  /** It took effect; a joint configuration may have to be left yet. */
  isApplied: boolean;
}

/** Callers of one partition that wait at one time: one for the running change, the others for those of earlier terms. */
const membershipWaitsMax = 16;
const kinds = {
  addVoter: ConfChangeKind.addVoter,
  addLearner: ConfChangeKind.addLearner,
  remove: ConfChangeKind.remove,
} as const;

/**
 * Begins a change; `wait` ends when the new members alone decide.
 *
 * @throws INVALID_ARGUMENT, UNKNOWN_NODE, NOT_LEADER, NO_LEADER, DISK_FULL, MEMBERSHIP_REFUSED; nothing was proposed
 */
export function submitMembershipChange(
  host: Host,
  partition: Partition,
  changes: readonly MembershipChange[],
  wait: Wait<MembershipResult>,
): void {
  const { raft } = partition;
  const change = confChangeOf(host, partition, changes);
  if (leaderNode(host, partition) === undefined) throw noLeader(partition);
  if (raft.role !== Role.leader) throw notLeader(host, partition);
  if (isDiskFull(host)) throw diskFull(host, partition);
  const reason = confChangeRefusal(raft, change);
  if (reason !== undefined) throw refused(partition, reason);
  if (partition.membershipWaits.length >= membershipWaitsMax) {
    throw refused(
      partition,
      `${membershipWaitsMax} changes of earlier leaders are not decided yet`,
    );
  }
  const index = raft.log.lastIndex + 1;
  if (proposeConfChange(raft, change) === 'dropped') {
    throw refused(partition, 'leadership is being handed over, or too much waits for its commit');
  }
  wait.mayTakeEffect = true;
  partition.membershipWaits.push({ wait, index, term: raft.currentTerm, isApplied: false });
  markDirty(host, partition);
}

function confChangeOf(
  host: Host,
  { raft }: Partition,
  changes: readonly MembershipChange[],
): ConfChange {
  if (!Array.isArray(changes) || changes.length === 0) throw badChanges('no list of changes');
  const seen = new Set<NodeId>();
  const singles = changes.flatMap((change: MembershipChange | null): SingleChange[] => {
    if (typeof change !== 'object' || change === null) throw badChanges(String(change));
    const { kind, nodeId } = change;
    if (!Object.hasOwn(kinds, kind)) {
      throw badChanges(`the kind "${kind}"; it is ${Object.keys(kinds).join(', ')}`);
    }
    const replica = host.replicaIds.get(nodeId);
    if (replica === undefined) {
      throw new KommanderError(
        `no member is called "${nodeId}"; the members are ${[...host.replicaIds.keys()].join(', ')}`,
        { code: 'UNKNOWN_NODE', details: { nodeId } },
      );
    }
    if (seen.has(nodeId)) throw badChanges(`two changes of "${nodeId}"`);
    seen.add(nodeId);
    // Whoever says what a member is to be ends a readmission that is under way here.
    const removals = formerReplicas(raft.confState, replica).map((former) => ({
      kind: ConfChangeKind.remove,
      replica: former,
    }));
    return [...removals, { kind: kinds[kind], replica }];
  });
  return { transition: Transition.auto, changes: singles, context: new Uint8Array(0) };
}

/** Something was applied: changes that it decided are answered. */
export function settleMembershipWaits(host: Host, partition: Partition): void {
  if (partition.membershipWaits.length === 0) return;
  for (const waiting of partition.membershipWaits) settle(host, partition, waiting);
  partition.membershipWaits = partition.membershipWaits.filter(({ wait }) => !wait.isSettled);
}

function settle(host: Host, partition: Partition, waiting: MembershipWait): void {
  const { wait, index, term } = waiting;
  if (partition.lastApplied < index) return;
  if (!waiting.isApplied) {
    const appliedTerm = termAt(partition.raft.log, index);
    if (appliedTerm === undefined) {
      wait.fail(outcomeUnknown(partition, 'a snapshot took the place of its entry'));
      return;
    }
    if (appliedTerm !== term) {
      wait.fail(lost(partition, index));
      return;
    }
    waiting.isApplied = true;
  }
  const { confState } = partition.raft;
  if (isJoint(confState)) return;
  const { voters, learners } = confState;
  wait.succeed({ index, term, voters: nodesOf(host, voters), learners: nodesOf(host, learners) });
}

/** Ends waits whose time is over. */
export function expireMembershipWaits(host: Host, partition: Partition): void {
  if (partition.membershipWaits.length === 0) return;
  const now = nowMs(host);
  for (const { wait } of partition.membershipWaits) {
    if (wait.deadlineMs <= now) wait.fail(timedOut(partition));
  }
  partition.membershipWaits = partition.membershipWaits.filter(({ wait }) => !wait.isSettled);
}

/** Ends all waits. A change that has taken effect is not undone by that. */
export function failMembershipWaits(partition: Partition, error: KommanderError): void {
  const waits = partition.membershipWaits;
  partition.membershipWaits = [];
  for (const { wait } of waits) wait.fail(error);
}

function refused(partition: Partition, reason: string): KommanderError {
  return new KommanderError(
    `the members of partition ${partition.id} cannot be changed now: ${reason}; nothing was changed`,
    { code: 'MEMBERSHIP_REFUSED', details: { partitionId: partition.id, reason } },
  );
}

function badChanges(what: string): KommanderError {
  return new KommanderError(
    `the argument changes is not valid: ${what}; give { kind, nodeId } for each node that changes`,
    { code: 'INVALID_ARGUMENT', details: { argument: 'changes' } },
  );
}
