// The leader's side of the log (§5.3, §5.4.2): taking proposals, sending appends and snapshots, counting
// acknowledgements, moving the commit index. Pipelining and flow control follow dissertation 10.2.1.

import { assert, must } from '../base/assert.ts';
import { type ConfChange, decodeConfChange } from './conf-change.ts';
import { isFull } from './inflights.ts';
import { timeoutNowTo } from './leader-transfer.ts';
import {
  appendToLog,
  commitTo,
  conflictHint,
  entriesBetween,
  noteStoreReady,
  type RaftLog,
  termAt,
} from './log.ts';
import { ConfChangeError, changedConfState } from './membership.ts';
import {
  abandonSnapshot,
  becomeProbe,
  becomeReplicate,
  becomeSnapshot,
  canBumpCommit,
  freeAcknowledged,
  isHeldBack,
  noteAppendSent,
  noteCommitSent,
  type Progress,
  tryAdvanceMatch,
  tryRetreat,
} from './progress.ts';
import { quorumIndex } from './quorum.ts';
import { handleReadAck, releasePostponedReads, roundToConfirm } from './read-index.ts';
import { send } from './send.ts';
import type { RaftState } from './state.ts';
import { type DropReason, trace } from './trace.ts';
import {
  type AppendEntriesResponse,
  type Entry,
  EntryKind,
  type HeartbeatResponse,
  type LogIndex,
  type ProposedEntry,
  payloadBytesOf,
  payloadOf,
  type ReplicaId,
  Role,
} from './types.ts';

/** `dropped`: nothing happened, and nothing will. */
export type ProposeOutcome = 'appended' | 'dropped';

const noPayload = new Uint8Array(0);

/** The leader appends `proposals` behind its log, all of them or none. */
export function proposeEntries(
  state: RaftState,
  proposals: readonly ProposedEntry[],
): ProposeOutcome {
  assert(proposals.length > 0, 'something is proposed');
  const reason = dropReason(state);
  if (reason !== undefined) {
    trace(state, { type: 'proposalDropped', reason });
    return 'dropped';
  }
  const firstIndex = state.log.lastIndex + 1;
  const { pendingConfChangeIndex } = state;
  const checked = hasConfChange(proposals)
    ? proposals.map((proposal, position) =>
        proposal.kind === EntryKind.confChange
          ? checkedConfChange(state, proposal, firstIndex + position)
          : proposal,
      )
    : proposals;
  if (!tryAppend(state, checked)) {
    state.pendingConfChangeIndex = pendingConfChangeIndex;
    trace(state, { type: 'proposalDropped', reason: 'uncommittedFull' });
    return 'dropped';
  }
  sendAppends(state);
  return 'appended';
}

function hasConfChange(proposals: readonly ProposedEntry[]): boolean {
  for (const { kind } of proposals) if (kind === EntryKind.confChange) return true;
  return false;
}

function dropReason(state: RaftState): DropReason | undefined {
  if (state.role !== Role.leader) return 'notLeader';
  if (!state.progress.has(state.id)) return 'notMember';
  return state.transferee === undefined ? undefined : 'transferring';
}

/**
 * One change at a time, and none that the configuration does not allow (dissertation 4.1, 4.3): a change that fails
 * becomes an empty entry, so that the proposals beside it keep their places.
 */
function checkedConfChange(
  state: RaftState,
  proposal: ProposedEntry,
  index: LogIndex,
): ProposedEntry {
  const change = decodeConfChange(payloadOf({ ...proposal, index, term: state.currentTerm }));
  const refusal = confChangeRefusal(state, change);
  if (refusal !== undefined && state.config.confChangeValidation) {
    trace(state, { type: 'confChangeRefused', reason: refusal });
    return { kind: EntryKind.normal, bytes: noPayload, start: 0, end: 0 };
  }
  state.pendingConfChangeIndex = index;
  return proposal;
}

/** Why `change` cannot be proposed now, or undefined when it can. */
export function confChangeRefusal(state: RaftState, change: ConfChange): string | undefined {
  const { pendingConfChangeIndex, log, confState } = state;
  if (pendingConfChangeIndex > log.appliedIndex) {
    return `a change at index ${pendingConfChangeIndex} may not be applied yet`;
  }
  try {
    // Once committed it would stop every replica that applies it. Nothing else changes the configuration before.
    changedConfState(confState, change);
    return undefined;
  } catch (error) {
    if (error instanceof ConfChangeError) return error.message;
    throw error;
  }
}

/** Gives the proposals index and term and appends them. @returns false when the uncommitted tail is full */
export function tryAppend(state: RaftState, proposals: readonly ProposedEntry[]): boolean {
  const { log, currentTerm: term, config } = state;
  const entries = new Array<Entry>(proposals.length);
  for (let i = 0; i < proposals.length; i++) {
    const { kind, bytes, start, end } = proposals[i] as ProposedEntry;
    entries[i] = { index: log.lastIndex + 1 + i, term, kind, bytes, start, end };
  }
  const bytes = payloadBytesOf(entries);
  // One proposal always fits an empty tail, and empty entries (a new leader's first, leaving a joint configuration)
  // always fit: otherwise the limit could stop the group for good.
  const isTailFull = state.uncommittedBytes + bytes > config.uncommittedBytesMax;
  if (state.uncommittedBytes > 0 && bytes > 0 && isTailFull) return false;
  state.uncommittedBytes += bytes;
  appendToLog(log, entries);
  // The leader acknowledges its own entries once they are durable, like every other member.
  send(state, {
    type: 'appendEntriesResponse',
    from: state.id,
    to: state.id,
    term,
    index: log.lastIndex,
    rejected: false,
    hintIndex: 0,
    hintTerm: 0,
  });
  return true;
}

/** Entries with `bytes` of payload were applied: the uncommitted tail is shorter by them. */
export function reduceUncommitted(state: RaftState, bytes: number): void {
  state.uncommittedBytes = Math.max(0, state.uncommittedBytes - bytes);
}

/** Sends every peer what it lacks, at least the commit index. */
export function sendAppends(state: RaftState): void {
  for (const [id, progress] of state.progress) {
    if (id !== state.id) trySendAppend(state, id, progress, true);
  }
}

/** Sends one peer what it lacks, at least the commit index. */
export function sendAppendTo(state: RaftState, to: ReplicaId): void {
  trySendAppend(state, to, must(state.progress.get(to), 'appends go to members'), true);
}

/** Sends every peer the entries it lacks, if any. */
export function sendMissing(state: RaftState): void {
  for (const [id, progress] of state.progress) {
    if (id !== state.id) trySendAppend(state, id, progress, false);
  }
}

/** §5.2. Heartbeats carry no previous index, so they commit only what is known to match. */
export function sendHeartbeats(state: RaftState): void {
  const readRound = roundToConfirm(state);
  for (const [id, progress] of state.progress) {
    if (id === state.id) continue;
    const leaderCommit = Math.min(progress.matchIndex, state.log.commitIndex);
    const { id: from, currentTerm: term } = state;
    send(state, { type: 'heartbeat', from, to: id, term, leaderCommit, readRound });
    noteCommitSent(progress, leaderCommit);
  }
}

/**
 * Sends one append, or a snapshot when the entries are compacted.
 *
 * @param evenEmpty whether an append without entries is worth sending
 * @returns whether something was sent
 */
function trySendAppend(
  state: RaftState,
  to: ReplicaId,
  progress: Progress,
  evenEmpty: boolean,
): boolean {
  if (isHeldBack(progress)) return false;
  const { log, config } = state;
  if (!evenEmpty && progress.nextIndex > log.lastIndex) return false;
  const prevLogIndex = progress.nextIndex - 1;
  const prevLogTerm = termAt(log, prevLogIndex);
  if (prevLogTerm === undefined) return trySendSnapshot(state, to, progress);
  // Through a full window only empty appends go: they find out whether everything on the way was lost.
  const isWindowFull = progress.state === 'replicate' && isFull(progress.inflights);
  const entries = isWindowFull ? [] : entriesToSend(log, progress.nextIndex, config.appendBytesMax);
  if (entries === undefined) return false;
  if (entries.length === 0 && !evenEmpty) return false;
  send(state, {
    type: 'appendEntries',
    from: state.id,
    to,
    term: state.currentTerm,
    prevLogIndex,
    prevLogTerm,
    entries,
    leaderCommit: log.commitIndex,
  });
  noteAppendSent(progress, entries.length, payloadBytesOf(entries));
  noteCommitSent(progress, log.commitIndex);
  return true;
}

function entriesToSend(
  log: RaftLog,
  fromIndex: LogIndex,
  bytesMax: number,
): readonly Entry[] | undefined {
  return fromIndex > log.lastIndex
    ? []
    : entriesBetween(log, fromIndex, log.lastIndex + 1, bytesMax);
}

function trySendSnapshot(state: RaftState, to: ReplicaId, progress: Progress): boolean {
  if (!progress.isRecentlyActive) return false;
  const snapshot = state.log.storage.snapshot();
  if (snapshot === undefined) return false;
  becomeSnapshot(progress, snapshot.index);
  send(state, { type: 'installSnapshot', from: state.id, to, term: state.currentTerm, snapshot });
  return true;
}

export function handleAppendEntriesResponse(
  state: RaftState,
  message: AppendEntriesResponse,
): void {
  assert(state.role === Role.leader, 'only a leader counts acknowledgements');
  const progress = state.progress.get(message.from);
  if (progress === undefined) {
    trace(state, { type: 'ignored', message, reason: 'unknownPeer' });
    return;
  }
  progress.isRecentlyActive = true;
  if (!message.rejected && message.index > state.log.lastIndex) {
    // Nobody stores more than its leader sent; a peer that says so is broken and must not count.
    trace(state, { type: 'ignored', message, reason: 'impossibleAck' });
    return;
  }
  if (message.rejected) retreat(state, progress, message);
  else advance(state, progress, message);
}

/** The follower's log does not match: probe lower, skipping what cannot match (§5.3). */
function retreat(state: RaftState, progress: Progress, message: AppendEntriesResponse): void {
  const { hintIndex, hintTerm } = message;
  if (progress.state === 'snapshot') {
    // Its snapshot did not arrive whole: the next sign of life begins another. Other refusals are older than it.
    if (message.index === progress.snapshotIndex) abandonSnapshot(progress);
    return;
  }
  // The follower skipped what cannot match our terms; now skip what cannot match its term.
  const nextHint =
    hintTerm > 0 ? conflictHint(state.log, { index: hintIndex, term: hintTerm }).index : hintIndex;
  if (!tryRetreat(progress, { refusedIndex: message.index, hintIndex: nextHint })) return;
  if (progress.state === 'replicate') becomeProbe(progress);
  trySendAppend(state, message.from, progress, true);
}

function advance(state: RaftState, progress: Progress, message: AppendEntriesResponse): void {
  const isNews = tryAdvanceMatch(progress, message.index);
  // An old match still ends a probe: the replica was unreachable and is back.
  const endsProbe = progress.matchIndex === message.index && progress.state === 'probe';
  if (!isNews && !endsProbe) return;
  switch (progress.state) {
    case 'probe':
      becomeReplicate(progress);
      break;
    case 'snapshot':
      // Whatever it caught up by, it can go on from the log.
      if (progress.matchIndex >= state.log.compactedIndex) becomeReplicate(progress);
      break;
    case 'replicate':
      freeAcknowledged(progress);
      break;
  }
  const isPeer = message.from !== state.id;
  // What is committed already, no further replica can make more committed.
  if (progress.matchIndex > state.log.commitIndex && tryAdvanceCommitIndex(state)) {
    releasePostponedReads(state);
    sendAppends(state);
  } else if (isPeer && canBumpCommit(progress, state.log.commitIndex)) {
    trySendAppend(state, message.from, progress, true);
  }
  // The window has room again: fill it. Each round sends at least one entry, so this ends.
  while (isPeer && trySendAppend(state, message.from, progress, false)) {}
  if (message.from === state.transferee && progress.matchIndex === state.log.lastIndex) {
    timeoutNowTo(state, message.from);
  }
}

/**
 * Moves `commitIndex` to the highest index that a quorum stores, if that entry is of this term.
 *
 * Counting replicas commits only entries of the current term; older ones commit along with them
 * (§5.4.2: an old entry on a majority can still be overwritten).
 */
export function tryAdvanceCommitIndex(state: RaftState): boolean {
  const { log, progress } = state;
  const index = quorumIndex(state.confState, (id) => progress.get(id)?.matchIndex ?? 0);
  if (index <= log.commitIndex) return false;
  if (termAt(log, index) !== state.currentTerm) return false;
  commitTo(log, index);
  if (state.config.trace !== undefined) {
    state.config.trace({ type: 'committed', commitIndex: index });
  }
  return true;
}

export function handleHeartbeatResponse(state: RaftState, message: HeartbeatResponse): void {
  const progress = state.progress.get(message.from);
  if (progress === undefined) {
    trace(state, { type: 'ignored', message, reason: 'unknownPeer' });
    return;
  }
  progress.isRecentlyActive = true;
  progress.isPaused = false;
  // It answers, so whatever was lost can be sent again; an empty append brings a probe back to replication.
  if (progress.matchIndex < state.log.lastIndex || progress.state === 'probe') {
    trySendAppend(state, message.from, progress, true);
  }
  if (message.readRound !== undefined) handleReadAck(state, message.from, message.readRound);
}

/** The host lost the connection: what is on the way may be lost, so probe again. */
export function handleUnreachable(state: RaftState, peer: ReplicaId): void {
  const progress = state.progress.get(peer);
  if (progress === undefined || state.role !== Role.leader) return;
  if (progress.state === 'replicate') becomeProbe(progress);
  else if (progress.state === 'snapshot') abandonSnapshot(progress);
}

/** The host says how the sending of a snapshot ended. The replica's own answer decides what follows. */
export function handleSnapshotReport(state: RaftState, peer: ReplicaId, succeeded: boolean): void {
  const progress = state.progress.get(peer);
  if (progress === undefined || state.role !== Role.leader) return;
  if (progress.state !== 'snapshot') return;
  if (succeeded) {
    becomeProbe(progress);
    progress.isPaused = true;
  } else {
    abandonSnapshot(progress);
  }
}

/** Part of a snapshot went out: the patience with it begins anew, so that its size does not matter. */
export function handleSnapshotProgress(state: RaftState, peer: ReplicaId): void {
  const progress = state.progress.get(peer);
  if (progress === undefined || state.role !== Role.leader) return;
  if (progress.state === 'snapshot') progress.snapshotTicks = 0;
}

/**
 * Gives up snapshots whose outcome never became known: their report or their answer was lost. Counted from the last
 * sign of progress, so a transfer may take as long as it goes on.
 */
export function expireSnapshots(state: RaftState): void {
  for (const progress of state.progress.values()) {
    if (progress.state !== 'snapshot') continue;
    progress.snapshotTicks += 1;
    if (progress.snapshotTicks >= state.config.snapshotTicks) abandonSnapshot(progress);
  }
}

/** Goes on where entries were not at hand: applies them, and sends them to the peers that lack them. */
export function handleStorageReady(state: RaftState): void {
  noteStoreReady(state.log);
  if (state.role === Role.leader) sendMissing(state);
}

/** The leader leaves an automatic joint configuration as soon as it is applied (dissertation 4.3). */
export function tryAutoLeave(state: RaftState): void {
  if (state.role !== Role.leader || !state.confState.autoLeave) return;
  if (state.log.appliedIndex < state.pendingConfChangeIndex) return;
  // May be dropped while leadership is handed over: the next heartbeat, or the next leader, tries again.
  proposeEntries(state, [{ kind: EntryKind.confChange, bytes: noPayload, start: 0, end: 0 }]);
}

/** What this leader knows of its own log. */
export function ownProgress(state: RaftState): Progress {
  return must(state.progress.get(state.id), 'a leader is a member');
}
