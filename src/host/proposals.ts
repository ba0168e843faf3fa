// Writes on their way: from the caller into the leader's log, and from the applied entry back to the caller. A proposal
// is in one of three places: the queue (not appended anywhere yet), the forwards (passed on to the leader), or pending
// (appended at a known index and term). What is applied at that index decides: the same term, and it took effect;
// another term, and it never will (§5.3, log matching).

import { must } from '../base/assert.ts';
import { utf8Text } from '../base/bytes.ts';
import { type ErrorCode, KommanderError, withoutEffect } from '../base/errors.ts';
import { decodeReadmission } from '../cluster/system-state.ts';
import { layOutRun } from '../ports/run.ts';
import {
  Lane,
  type NodeId,
  type ProposeItem,
  type ProposeResponseItem,
} from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import { propose } from '../raft/raft.ts';
import { type Entry, type LogIndex, Role, type Term } from '../raft/types.ts';
import type { CommitResult } from './api.ts';
import { type Host, nowMs } from './host.ts';
import { leaderNode } from './leadership.ts';
import { flushOutbox, queueItem } from './outbox.ts';
import type { Partition } from './partition.ts';
import {
  encodePayload,
  OutgoingPayload,
  outgoingPayloadFrom,
  payloadTimestamp,
  typeBytes,
} from './payload.ts';
import {
  cutShort,
  diskFull,
  dropped,
  lost,
  neverTaken,
  notLeader,
  outcomeUnknown,
  timedOut,
} from './proposal-errors.ts';
import { markDirty } from './ready-loop.ts';
import { stampedCheckpoint } from './retention.ts';
import { isDiskFull } from './storage-writer.ts';
import { isCheckpointType, reservedPrefix, systemTypes } from './system-entries.ts';
import type { Wait } from './wait.ts';

export interface Proposal {
  readonly payloads: readonly OutgoingPayload[];
  readonly bytes: number;
  /** A batch resolves with an array of results. */
  readonly isBatch: boolean;
  /** Whether another node may append it. */
  readonly mayForward: boolean;
  /** The caller on this node, or the node that passed it on. */
  readonly origin:
    | { readonly kind: 'local'; readonly wait: Wait<CommitResult> }
    | { readonly kind: 'peer'; readonly peer: NodeId; readonly requestId: number };
  /** The leader that it was passed on to last. */
  forwardedTo: NodeId | undefined;
  /** Where it was appended. */
  position: { readonly firstIndex: LogIndex; readonly term: Term } | undefined;
  /** Results so far, while it is applied in pieces. */
  results: unknown[] | undefined;
}

/** Unfinished checkpoints of one partition that need no room in its queue. */
const checkpointProposalsMax = 16;
const noData = new Uint8Array(0);

/** A checkpoint that is answered when this node has applied it. The leader fills it in. */
export function checkpointProposal(wait: Wait<CommitResult>, mayForward = false): Proposal {
  const payload = new OutgoingPayload(typeBytes(systemTypes.checkpoint), noData);
  return {
    payloads: [payload],
    bytes: payload.byteLength,
    isBatch: false,
    mayForward,
    origin: { kind: 'local', wait },
    forwardedTo: undefined,
    position: undefined,
    results: undefined,
  };
}

/** Whether it is a checkpoint, which always comes alone. */
function isCheckpointProposal({ payloads }: Proposal): boolean {
  const [first] = payloads;
  return first !== undefined && isCheckpointType(first);
}

/**
 * Takes a write: into the queue when this node leads or nobody is known to, on to the leader otherwise.
 *
 * @throws NOT_LEADER, DISK_FULL, QUEUE_FULL; the proposal was not taken
 */
export function submitProposal(host: Host, partition: Partition, proposal: Proposal): void {
  const isLeader = partition.raft.role === Role.leader;
  const leader = leaderNode(host, partition);
  if (!isLeader && !proposal.mayForward) throw notLeader(host, partition);
  // Another leader's disk may have room; this one's has not.
  if (isLeader && isDiskFull(host)) throw diskFull(host, partition);
  const { queuedEntriesMax, queuedBytesMax } = host.settings;
  const entries = partition.outstandingEntries + proposal.payloads.length;
  const bytes = partition.outstandingBytes + proposal.bytes;
  const isFull = entries > queuedEntriesMax || bytes > queuedBytesMax;
  const isCheckpoint = isCheckpointProposal(proposal);
  // A partition that is written without a pause has its queue full all the time, and its log would grow for ever.
  const isExempt = isCheckpoint && partition.checkpointProposals < checkpointProposalsMax;
  // One proposal always fits an empty queue: otherwise a legal batch could never be written.
  if (isFull && !isExempt && partition.outstandingEntries > 0) {
    throw new KommanderError(
      `partition ${partition.id} has ${partition.outstandingEntries} writes (${partition.outstandingBytes} bytes) waiting; nothing was written, try again after a pause`,
      {
        code: 'QUEUE_FULL',
        details: { partitionId: partition.id, queuedEntriesMax, queuedBytesMax },
      },
    );
  }
  partition.outstandingEntries = entries;
  partition.outstandingBytes = bytes;
  if (isCheckpoint) partition.checkpointProposals += 1;
  // While nobody is known to lead, the write waits like one whose leader was lost.
  // What waits already goes first.
  const mustQueue = isLeader || leader === undefined || partition.queue.length > 0;
  if (mustQueue) partition.queue.push(proposal);
  else forward(host, partition, proposal, leader);
  markDirty(host, partition);
}

/** Appends what is queued to the leader's log, in runs of bounded size, as far as the uncommitted tail has room. */
export function drainProposals(host: Host, partition: Partition): void {
  if (partition.queue.length === 0) return;
  const { raft } = partition;
  // While leadership is handed over, writes wait: they go on to the new leader.
  if (raft.transferee !== undefined) return;
  if (raft.role !== Role.leader) {
    rerouteQueue(host, partition);
    return;
  }
  if (isDiskFull(host)) {
    refuseQueue(host, partition);
    return;
  }
  let taken = 0;
  while (taken < partition.queue.length) {
    const end = batchEnd(host, partition.queue, taken);
    const batch = partition.queue.slice(taken, end);
    if (!tryAppendBatch(host, partition, batch)) break;
    taken = end;
  }
  partition.queue = taken === partition.queue.length ? [] : partition.queue.slice(taken);
}

function refuseQueue(host: Host, partition: Partition): void {
  const refused = partition.queue;
  partition.queue = [];
  for (const proposal of refused) refuse(host, partition, proposal, diskFull(host, partition));
}

function batchEnd(host: Host, queue: readonly Proposal[], from: number): number {
  let bytes = (queue[from] as Proposal).bytes;
  let end = from + 1;
  while (end < queue.length) {
    bytes += (queue[end] as Proposal).bytes;
    if (bytes > host.settings.appendBytesMax) break;
    end += 1;
  }
  return end;
}

function tryAppendBatch(host: Host, partition: Partition, batch: readonly Proposal[]): boolean {
  const { raft } = partition;
  let bytes = 0;
  for (const proposal of batch) bytes += proposal.bytes;
  const isTailFull = raft.uncommittedBytes + bytes > host.settings.uncommittedBytesMax;
  if (raft.uncommittedBytes > 0 && isTailFull) return false;
  const payloads: OutgoingPayload[] = [];
  for (const proposal of batch) {
    if (proposal.payloads.some((payload) => payload.isGone)) failGone(proposal);
    if (isAbandoned(proposal)) continue;
    for (const proposed of proposal.payloads) {
      const payload = isCheckpointType(proposed)
        ? stampedCheckpoint(partition, proposed.type)
        : proposed;
      payload.timestamp = host.hybridClock.now();
      payloads.push(payload);
    }
  }
  let index = raft.log.lastIndex + 1;
  const term = raft.currentTerm;
  const isTaken = payloads.length === 0 || propose(raft, layOutRun(payloads)) === 'appended';
  for (const proposal of batch) {
    if (isAbandoned(proposal)) {
      release(partition, proposal);
    } else if (isTaken) {
      notePosition(host, partition, proposal, { firstIndex: index, term });
      index += proposal.payloads.length;
    } else {
      refuse(host, partition, proposal, dropped(partition));
    }
  }
  return true;
}

/** The caller's mistake: it fails that caller's write, and nothing else. */
function failGone({ origin }: Proposal): void {
  if (origin.kind !== 'local') return;
  origin.wait.fail(
    new KommanderError(
      'the data of a write was transferred away before the write was taken: leave it alone until the promise settles',
      { code: 'INVALID_ARGUMENT', details: { argument: 'data' } },
    ),
  );
}

/** A caller that gave up while its write was still queued: it is not written at all. */
function isAbandoned({ origin }: Proposal): boolean {
  return origin.kind === 'local' && origin.wait.isSettled;
}

function notePosition(
  host: Host,
  partition: Partition,
  proposal: Proposal,
  position: { readonly firstIndex: LogIndex; readonly term: Term },
): void {
  const { origin } = proposal;
  if (origin.kind === 'local') {
    awaitApplied(partition, proposal, position);
    return;
  }
  // In the bulk lane, in front of the entries themselves: the node that asked knows the index before it applies it.
  const { peer, requestId } = origin;
  release(partition, proposal);
  queueItem(host, peer, Lane.bulk, {
    kind: 'proposeResponse',
    partitionId: partition.id,
    requestId,
    appended: position,
    refused: undefined,
  });
}

/** What was queued when leadership was lost goes on to the new leader, once there is one. */
export function rerouteQueue(host: Host, partition: Partition): void {
  const leader = leaderNode(host, partition);
  if (leader === undefined || partition.raft.role === Role.leader) return;
  const { queue } = partition;
  partition.queue = [];
  for (const proposal of queue) {
    if (proposal.payloads.some((payload) => payload.isGone)) failGone(proposal);
    if (isAbandoned(proposal)) {
      release(partition, proposal);
    } else if (proposal.origin.kind === 'local' && proposal.mayForward) {
      forward(host, partition, proposal, leader);
    } else {
      refuse(host, partition, proposal, notLeader(host, partition));
    }
  }
}

function forward(host: Host, partition: Partition, proposal: Proposal, leader: NodeId): void {
  const requestId = host.nextRequestId;
  host.nextRequestId += 1;
  proposal.forwardedTo = leader;
  if (proposal.origin.kind === 'local') proposal.origin.wait.mayTakeEffect = true;
  partition.forwards.set(requestId, proposal);
  queueItem(host, leader, Lane.bulk, {
    kind: 'propose',
    partitionId: partition.id,
    requestId,
    payloads: proposal.payloads.map(encodePayload),
  });
}

/** A node passed a write on to this one. */
export function handlePropose(
  host: Host,
  partition: Partition,
  peer: NodeId,
  item: ProposeItem,
): void {
  const payloads = item.payloads.map(outgoingPayloadFrom);
  let bytes = 0;
  for (const payload of payloads) bytes += payload.byteLength;
  const proposal: Proposal = {
    payloads,
    bytes,
    isBatch: payloads.length > 1,
    mayForward: false,
    origin: { kind: 'peer', peer, requestId: item.requestId },
    forwardedTo: undefined,
    position: undefined,
    results: undefined,
  };
  try {
    if (partition.stopped !== undefined) throw partition.stopped;
    if (partition.raft.transferee !== undefined) {
      throw isDiskFull(host) ? diskFull(host, partition) : dropped(partition);
    }
    for (const payload of payloads) checkForwarded(host, partition, payload);
    submitProposal(host, partition, proposal);
  } catch (error) {
    if (!(error instanceof KommanderError)) throw error;
    answerRefusal(host, partition, { peer, requestId: item.requestId }, error);
  }
}

/**
 * What the other node should have checked: an entry that this version cannot apply would stop every replica.
 *
 * @throws MalformedBytesError
 */
function checkForwarded(host: Host, partition: Partition, payload: OutgoingPayload): void {
  const type = utf8Text(payload.type);
  const isReadmission = type === systemTypes.readmission && partition.id === 0;
  if (isReadmission) decodeReadmission(payload.data);
  else if (type.startsWith(reservedPrefix) && type !== systemTypes.checkpoint) {
    throw new KommanderError(`the entry type "${type}" is kept for the library; choose another`, {
      code: 'RESERVED_TYPE',
      details: { type },
    });
  }
  const { entryBytesMax } = host.settings;
  if (payload.data.byteLength <= entryBytesMax) return;
  throw new KommanderError(
    `the data has ${payload.data.byteLength} bytes, and the leader takes ${entryBytesMax}; split it, or raise the limit on all nodes`,
    { code: 'ENTRY_TOO_LARGE', details: { bytes: payload.data.byteLength, entryBytesMax } },
  );
}

/** The leader answered a write that was passed on to it. */
export function handleProposeResponse(
  host: Host,
  partition: Partition,
  item: ProposeResponseItem,
): void {
  const proposal = partition.forwards.get(item.requestId);
  if (proposal === undefined) return;
  partition.forwards.delete(item.requestId);
  const { appended, refused } = item;
  if (appended === undefined) {
    const { code, message, details } = must(refused, 'an answer says yes or no');
    refuse(host, partition, proposal, new KommanderError(message, { code, details }));
    return;
  }
  if (appended.firstIndex <= partition.lastApplied) {
    // The entries overtook the answer by way of another leader: they are applied, but what they returned is gone.
    refuse(host, partition, proposal, outcomeUnknown(partition, 'its result was overtaken'));
    return;
  }
  awaitApplied(partition, proposal, appended);
}

/** The proposal waits until its place is applied. A new leader's places may lie below those of an older one. */
function awaitApplied(
  partition: Partition,
  proposal: Proposal,
  position: { readonly firstIndex: LogIndex; readonly term: Term },
): void {
  proposal.position = position;
  if (proposal.origin.kind === 'local') proposal.origin.wait.mayTakeEffect = true;
  const { pending } = partition;
  let at = pending.length;
  while (at > 0 && firstIndexOf(pending[at - 1]) > position.firstIndex) at -= 1;
  if (at === pending.length) pending.push(proposal);
  else pending.splice(at, 0, proposal);
}

function firstIndexOf(proposal: Proposal | undefined): LogIndex {
  return proposal?.position?.firstIndex ?? 0;
}

/** The frame with a forwarded write was not sent. */
export function failForward(
  host: Host,
  partitionId: PartitionId,
  requestId: number,
  error: KommanderError,
): void {
  const partition = host.partitions.get(partitionId);
  const proposal = partition?.forwards.get(requestId);
  if (partition === undefined || proposal === undefined) return;
  partition.forwards.delete(requestId);
  refuse(host, partition, proposal, error);
}

/** The connection to `peer` was lost: writes that it has not answered may have been appended, or not. */
export function failForwardsTo(host: Host, partition: Partition, peer: NodeId): void {
  for (const [requestId, proposal] of partition.forwards) {
    if (proposal.forwardedTo !== peer) continue;
    partition.forwards.delete(requestId);
    const why = `the connection to the leader "${peer}" was lost`;
    refuse(host, partition, proposal, outcomeUnknown(partition, why));
  }
}

/** Entries were applied: callers whose writes are among them get their answers. */
export function settleApplied(
  partition: Partition,
  entries: readonly Entry[],
  results: readonly unknown[] | undefined,
): void {
  const { pending } = partition;
  const first = entries[0];
  const last = entries.at(-1);
  if (pending.length === 0 || first === undefined || last === undefined) return;
  let examined = 0;
  const unfinished: Proposal[] = [];
  for (const proposal of pending) {
    if (firstIndexOf(proposal) > last.index) break;
    examined += 1;
    if (!trySettle(partition, proposal, entries, results)) unfinished.push(proposal);
  }
  if (examined > 0) pending.splice(0, examined, ...unfinished);
}

/** @returns whether the proposal is settled; entries of it may be yet to come */
function trySettle(
  partition: Partition,
  proposal: Proposal,
  entries: readonly Entry[],
  results: readonly unknown[] | undefined,
): boolean {
  const { firstIndex, term } = must(proposal.position, 'a pending proposal was appended');
  const offset = (entries[0] as Entry).index;
  if (!proposal.isBatch) {
    // The common case, without a list of its own.
    const at = firstIndex - offset;
    const entry = must(entries[at], 'a pending place is not skipped');
    if (entry.term === term) succeed(partition, proposal, entry, results?.[at]);
    else fail(partition, proposal, lost(partition, firstIndex));
    return true;
  }
  const lastIndex = firstIndex + proposal.payloads.length - 1;
  const end = Math.min(lastIndex - offset + 1, entries.length);
  proposal.results ??= [];
  for (let at = firstIndex + proposal.results.length - offset; at < end; at++) {
    const entry = must(entries[at], 'a pending place is not skipped');
    if (entry.term !== term) {
      const isPartial = proposal.results.length > 0;
      fail(partition, proposal, isPartial ? cutShort(partition) : lost(partition, firstIndex));
      return true;
    }
    proposal.results.push(results?.[at]);
  }
  if (end !== lastIndex - offset + 1) return false;
  succeed(partition, proposal, entries[end - 1] as Entry, proposal.results);
  return true;
}

/** A snapshot took the place of entries up to `index`: what became of writes among them is not known here. */
export function settleSkipped(partition: Partition, index: LogIndex): void {
  const isSkipped = (proposal: Proposal): boolean => firstIndexOf(proposal) <= index;
  const skipped = partition.pending.filter(isSkipped);
  partition.pending = partition.pending.filter((proposal) => !isSkipped(proposal));
  for (const proposal of skipped) {
    fail(partition, proposal, outcomeUnknown(partition, 'a snapshot took the place of its entry'));
  }
}

/** Answers writes whose time is over. */
export function expireProposals(host: Host, partition: Partition): void {
  if (partition.outstandingEntries === 0) return;
  const now = nowMs(host);
  const isOver = ({ origin }: Proposal): boolean =>
    origin.kind === 'local' && (origin.wait.isSettled || origin.wait.deadlineMs <= now);
  for (const proposal of partition.queue.filter(isOver)) {
    fail(partition, proposal, neverTaken(host, partition));
  }
  partition.queue = partition.queue.filter((proposal) => !isOver(proposal));
  for (const [requestId, proposal] of partition.forwards) {
    if (!isOver(proposal)) continue;
    partition.forwards.delete(requestId);
    fail(partition, proposal, timedOut(partition));
  }
  if (!partition.pending.some(isOver)) return;
  for (const proposal of partition.pending.filter(isOver))
    fail(partition, proposal, timedOut(partition));
  partition.pending = partition.pending.filter((proposal) => !isOver(proposal));
}

/** Nothing more will be applied here: everybody who waits is told. */
export function failProposals(host: Host, partition: Partition, error: KommanderError): void {
  const { queue } = partition;
  const handedOver = [...partition.forwards.values(), ...partition.pending];
  partition.queue = [];
  partition.forwards.clear();
  partition.pending = [];
  for (const proposal of queue) refuse(host, partition, proposal, withoutEffect(error));
  for (const proposal of handedOver) refuse(host, partition, proposal, error);
  flushOutbox(host);
}

function refuse(host: Host, partition: Partition, proposal: Proposal, error: KommanderError): void {
  if (proposal.origin.kind === 'peer') answerRefusal(host, partition, proposal.origin, error);
  fail(partition, proposal, error);
}

/** Refusals that mean the same on another node. */
const passedOn: ReadonlySet<ErrorCode> = new Set([
  'QUEUE_FULL',
  'DISK_FULL',
  'RESERVED_TYPE',
  'ENTRY_TOO_LARGE',
]);

function answerRefusal(
  host: Host,
  partition: Partition,
  origin: { readonly peer: NodeId; readonly requestId: number },
  error: KommanderError,
): void {
  // What stops this node is no fact about the node that asked: to that one, its write was not taken, and may be again.
  const { code, message, details } = passedOn.has(error.code) ? error : dropped(partition);
  queueItem(host, origin.peer, Lane.bulk, {
    kind: 'proposeResponse',
    partitionId: partition.id,
    requestId: origin.requestId,
    appended: undefined,
    refused: { code, message, details },
  });
}

function succeed(partition: Partition, proposal: Proposal, last: Entry, result: unknown): void {
  release(partition, proposal);
  if (proposal.origin.kind !== 'local') return;
  proposal.origin.wait.succeed({
    index: last.index,
    term: last.term,
    timestamp: payloadTimestamp(last),
    result,
  });
}

function fail(partition: Partition, proposal: Proposal, error: KommanderError): void {
  release(partition, proposal);
  if (proposal.origin.kind === 'local') proposal.origin.wait.fail(error);
}

function release(partition: Partition, proposal: Proposal): void {
  partition.outstandingEntries -= proposal.payloads.length;
  partition.outstandingBytes -= proposal.bytes;
  if (isCheckpointProposal(proposal)) partition.checkpointProposals -= 1;
}
