// One Raft group's replica: the switchboard. It decides which function a message, a tick or a wish goes to, and
// handles what is common to all messages: the term (§5.1). It knows no I/O, no clock and no promise; the host calls it
// and carries out the `Ready`s that it gives back.

import { assert } from '../base/assert.ts';
import { type ConfChange, encodeConfChange } from './conf-change.ts';
import {
  becomeFollower,
  handleRequestVote,
  handleRequestVoteResponse,
  holdsLease,
  sendVote,
  setLeader,
  startCampaign,
  successors,
  suspectLeader,
  tickElection,
  tickLeader,
} from './election.ts';
import {
  acknowledge,
  handleAppendEntries,
  handleHeartbeat,
  handleInstallSnapshot,
  noteLeader,
} from './follower.ts';
import { hexOf, hollowInstallSnapshot } from './hollow.ts';
import { abortTransfer, startTransfer } from './leader-transfer.ts';
import {
  compactTo,
  entryOverheadBytes,
  firstIndex,
  noteApplied,
  noteSnapshotStable,
  noteStable,
  trimTail,
} from './log.ts';
import { changedConfState, isVoter } from './membership.ts';
import type { ProgressState } from './progress.ts';
import {
  confirmRounds,
  expireLease as expireReadLease,
  forwardReadIndex,
  handleForwardedReadIndex,
  handleReadIndex,
} from './read-index.ts';
import {
  beginSegment,
  Code,
  recordAcknowledgement,
  recordAppend,
  recordHeartbeat,
  recordHeartbeatResponse,
  recordInput,
  recordMessage,
  recordPlain,
  recordPropose,
  recordStorageAppended,
  recordStorageApplied,
  recordTick,
} from './recording.ts';
import {
  confChangeRefusal,
  handleAppendEntriesResponse,
  handleHeartbeatResponse,
  handleSnapshotProgress,
  handleSnapshotReport,
  handleStorageReady,
  handleUnreachable,
  type ProposeOutcome,
  proposeEntries,
  reduceUncommitted,
  sendAppends,
  sendMissing,
  tryAdvanceCommitIndex,
  tryAutoLeave,
} from './replication.ts';
import { send } from './send.ts';
import { adoptMembers, newRaftState, type RaftConfig, type RaftState } from './state.ts';
import { trace } from './trace.ts';
import {
  type ConfState,
  EntryKind,
  type InstallSnapshot,
  type LogIndex,
  type Message,
  type PeerMessage,
  type ProposedEntry,
  proposedEntry,
  type ReplicaId,
  Role,
  type StorageAppended,
  type StorageApplied,
  type Term,
} from './types.ts';

/** `unknownPeer`: an answer from a replica that is not in the configuration; it was ignored. */
export type StepOutcome = 'ok' | 'unknownPeer';

/** Opens a replica as a follower of nobody, with what its store had. */
export function openRaft(config: RaftConfig): RaftState {
  const state = newRaftState(config);
  becomeFollower(state, state.currentTerm, undefined);
  state.prevSoftState = { leader: state.leader, role: state.role };
  if (state.recording !== undefined) beginSegment(state, state.recording);
  return state;
}

/** Time passes: one tick of the host's timer. */
export function tick(state: RaftState): void {
  recordTick(state);
  if (state.voteEmbargoTicks > 0) state.voteEmbargoTicks -= 1;
  if (state.role === Role.leader) tickLeader(state);
  else tickElection(state);
}

/** Campaigns now, as if the election timer had run out. */
export function campaign(state: RaftState): void {
  recordInput(state, { kind: 'campaign' });
  startCampaign(state, state.config.preVote ? 'preVote' : 'election');
}

/** Appends entries behind the leader's log. */
export function propose(state: RaftState, entries: readonly ProposedEntry[]): ProposeOutcome {
  recordPropose(state, entries);
  return proposeEntries(state, entries);
}

/**
 * Appends a change of the membership. One that cannot be applied becomes an empty entry. The host calls
 * `applyConfChange` when the entry is applied.
 */
export function proposeConfChange(state: RaftState, change: ConfChange): ProposeOutcome {
  const bytes = encodeConfChange(change);
  recordInput(state, { kind: 'proposeConfChange', confChange: hexOf(bytes) });
  return proposeEntries(state, [proposedEntry(EntryKind.confChange, bytes)]);
}

/** Takes a peer's message or the store's answer. */
export function step(state: RaftState, message: Message): StepOutcome {
  if (state.config.trace !== undefined) state.config.trace({ type: 'received', message });
  switch (message.type) {
    case 'storageAppended':
      recordStorageAppended(state, message);
      handleStorageAppended(state, message);
      return 'ok';
    case 'storageApplied':
      recordStorageApplied(state, message);
      handleStorageApplied(state, message);
      return 'ok';
    case 'appendEntriesResponse':
      recordAcknowledgement(state, message);
      return stepAnswer(state, message);
    case 'heartbeatResponse':
      recordHeartbeatResponse(state, message);
      return stepAnswer(state, message);
    case 'requestVoteResponse':
    case 'readIndexResponse':
      recordMessage(state, message);
      return stepAnswer(state, message);
    case 'appendEntries':
      recordAppend(state, message);
      return stepPeerMessage(state, message);
    case 'heartbeat':
      recordHeartbeat(state, message);
      return stepPeerMessage(state, message);
    default:
      recordMessage(state, message);
      return stepPeerMessage(state, message);
  }
}

/** An answer counts only of those who were asked. */
function stepAnswer(state: RaftState, message: PeerMessage): StepOutcome {
  assert(message.to === state.id, 'messages reach whom they are meant for');
  if (!state.progress.has(message.from)) {
    trace(state, { type: 'ignored', message, reason: 'unknownPeer' });
    return 'unknownPeer';
  }
  return stepTerm(state, message, message.term);
}

function stepPeerMessage(state: RaftState, message: PeerMessage): StepOutcome {
  assert(message.to === state.id, 'messages reach whom they are meant for');
  return stepTerm(state, message, message.term);
}

/** What is common to all messages (§5.1). */
function stepTerm(state: RaftState, message: PeerMessage, term: Term): StepOutcome {
  if (term < state.currentTerm) {
    handleOlderTerm(state, message);
    return 'ok';
  }
  if (term > state.currentTerm && !tryAdoptTerm(state, message)) return 'ok';
  dispatch(state, message);
  return 'ok';
}

/**
 * A message from a later term: adopt the term and follow, as §5.1 says, with three exceptions.
 *
 * @returns false when the message is to be ignored
 */
function tryAdoptTerm(state: RaftState, message: PeerMessage): boolean {
  if (message.type === 'requestVote') {
    // Stickiness: whoever hears from a leader does not help to depose it (dissertation 4.2.3, 6.4.1) …
    if (holdsLease(state) && !message.leadershipTransfer) {
      trace(state, { type: 'ignored', message, reason: 'leaseHeld' });
      return false;
    }
    // … and a pre-vote changes nobody's term (9.6).
    if (message.preVote) return true;
  }
  // A granted pre-vote carries the term that was asked for, which nobody has reached yet.
  const isGrantedPreVote =
    message.type === 'requestVoteResponse' && message.preVote && !message.rejected;
  if (isGrantedPreVote) return true;
  becomeFollower(state, message.term, isFromLeader(message) ? message.from : undefined);
  return true;
}

function isFromLeader(message: PeerMessage): boolean {
  switch (message.type) {
    case 'appendEntries':
    case 'heartbeat':
    case 'installSnapshot':
      return true;
    default:
      return false;
  }
}

/**
 * Tells a stale leader or candidate of the present term (§5.1); drops stale answers.
 *
 * Only with pre-vote or check-quorum, where a replica of a higher term cannot make itself heard by campaigning and so
 * has to answer. Without them every campaign spreads its term, and an answer here would be one message too many. A
 * campaign reaches only the voters that the campaigner knows, though: where members change, one of the two must be on.
 */
function handleOlderTerm(state: RaftState, message: PeerMessage): void {
  const { from } = message;
  const isTold = state.config.preVote || state.config.checkQuorum;
  if (isTold && isFromLeader(message)) {
    // Also frees a replica that has a higher term than the rest and would otherwise never be heard.
    acknowledge(state, from, 0);
  } else if (message.type === 'requestVote' && (isTold || message.preVote)) {
    const { preVote } = message;
    sendVote(state, { to: from, term: state.currentTerm, preVote, rejected: true });
  }
  trace(state, { type: 'ignored', message, reason: 'olderTerm' });
}

function dispatch(state: RaftState, message: PeerMessage): void {
  switch (message.type) {
    case 'requestVote':
      return handleRequestVote(state, message);
    case 'requestVoteResponse':
      return handleRequestVoteResponse(state, message);
    case 'appendEntries':
      followSender(state, message);
      return handleAppendEntries(state, message);
    case 'heartbeat':
      followSender(state, message);
      return handleHeartbeat(state, message);
    case 'installSnapshot':
      followSender(state, message);
      return handleInstallSnapshot(state, message);
    case 'appendEntriesResponse':
      return state.role === Role.leader
        ? handleAppendEntriesResponse(state, message)
        : ignoreHere(state, message);
    case 'heartbeatResponse':
      return state.role === Role.leader
        ? handleHeartbeatResponse(state, message)
        : ignoreHere(state, message);
    case 'timeoutNow':
      // Never with a pre-vote: the leader itself asked for it, so nobody healthy is disturbed.
      return state.role === Role.follower
        ? startCampaign(state, 'transfer')
        : ignoreHere(state, message);
    case 'transferLeadership':
      return handOver(state, message.transferee);
    case 'readIndex':
      return state.role === Role.leader
        ? handleForwardedReadIndex(state, message)
        : ignoreHere(state, message);
    case 'readIndexResponse':
      state.readStates.push({ context: message.context, index: message.index });
      return;
    default:
      message satisfies never;
  }
}

/** A leader of this term speaks: whoever campaigned in it has lost. */
function followSender(state: RaftState, message: PeerMessage): void {
  assert(state.role !== Role.leader, 'Invariant: a term has one leader');
  if (state.role !== Role.follower) becomeFollower(state, message.term, message.from);
  noteLeader(state, message.from);
}

function ignoreHere(state: RaftState, message: PeerMessage): void {
  trace(state, { type: 'ignored', message, reason: 'notForThisRole' });
}

function handleStorageAppended(state: RaftState, message: StorageAppended): void {
  // Entries that were written under another term may have been replaced meanwhile (see `take-ready.ts`).
  if (message.last !== undefined && message.term === state.currentTerm) {
    noteStable(state.log, message.last);
  }
  if (message.snapshotIndex === undefined) return;
  noteSnapshotStable(state.log, message.snapshotIndex);
  markApplied(state, message.snapshotIndex, 0);
}

function handleStorageApplied(state: RaftState, message: StorageApplied): void {
  const appliedBefore = state.log.appliedIndex;
  markApplied(state, message.index, message.bytes);
  const entryCount = Math.max(0, state.log.appliedIndex - appliedBefore);
  reduceUncommitted(state, Math.max(0, message.bytes - entryCount * entryOverheadBytes));
}

function markApplied(state: RaftState, index: LogIndex, bytes: number): void {
  // A snapshot may have overtaken entries that were still being applied.
  noteApplied(state.log, Math.max(index, state.log.appliedIndex), bytes);
  tryAutoLeave(state);
}

/**
 * Makes an applied change of the membership take effect. Not so if a later snapshot was restored before the host came
 * to apply the entry: that snapshot's configuration has the change in it.
 *
 * @param index of the entry that holds the change
 * @returns the configuration from now on
 * @throws ConfChangeError the change is not possible now; the caller proposed it against the rules
 */
export function applyConfChange(state: RaftState, change: ConfChange, index: LogIndex): ConfState {
  recordInput(state, {
    kind: 'applyConfChange',
    confChange: hexOf(encodeConfChange(change)),
    index,
  });
  if (index <= state.confIndex) return state.confState;
  const confState = changedConfState(state.confState, change);
  adoptMembers(state, confState);
  state.confIndex = index;
  trace(state, { type: 'confChanged', confState });
  if (state.role !== Role.leader) return confState;
  const own = state.progress.get(state.id);
  if (own === undefined || own.isLearner) {
    if (state.config.stepDownOnRemoval) becomeFollower(state, state.currentTerm, undefined);
    return confState;
  }
  // With other voters more may be committed; and new members should not wait for the next heartbeat.
  if (tryAdvanceCommitIndex(state)) sendAppends(state);
  else sendMissing(state);
  confirmRounds(state);
  if (state.transferee !== undefined && !isVoter(confState, state.transferee)) abortTransfer(state);
  return confState;
}

/**
 * Asks the leader to hand leadership to `transferee`; a follower passes the wish on. Ignored when no leader is known.
 * The outcome shows in the role; a transfer that fails is given up after an election timeout.
 */
export function transferLeadership(state: RaftState, transferee: ReplicaId): void {
  recordInput(state, { kind: 'transferLeadership', transferee });
  handOver(state, transferee);
}

function handOver(state: RaftState, transferee: ReplicaId): void {
  if (state.role === Role.leader) return startTransfer(state, transferee);
  if (state.leader === undefined) return;
  const { id: from, currentTerm: term, leader: to } = state;
  send(state, { type: 'transferLeadership', from, to, term, transferee });
}

/**
 * A follower gives up its leader without waiting for the election timeout, so that it can vote for another one. The
 * leader stays leader; its next message is obeyed again. Refused with lease reads, which rely on this loyalty.
 */
export function forgetLeader(state: RaftState): void {
  recordInput(state, { kind: 'forgetLeader' });
  if (state.config.reads === 'lease') {
    trace(state, { type: 'forgetLeaderRefused' });
    return;
  }
  if (state.role === Role.follower) setLeader(state, undefined);
}

/** A leader whose host cannot do its work (a disk that hangs) gives up at once; another campaigns. */
export function stepDown(state: RaftState): void {
  recordInput(state, { kind: 'stepDown' });
  if (state.role === Role.leader) becomeFollower(state, state.currentTerm, undefined);
}

/** A vote that was given has become durable: the candidate's time begins only now. */
export function restartElectionTimer(state: RaftState): void {
  recordInput(state, { kind: 'restartElectionTimer' });
  if (state.role !== Role.leader) state.electionElapsed = 0;
}

/**
 * Asks for a read index. The answer arrives in `Ready.readStates` with the same `context`, or never: the host asks
 * again after a while.
 *
 * @returns `dropped` when no leader is known or too many questions wait
 */
export function readIndex(state: RaftState, context: number): 'pending' | 'dropped' {
  recordInput(state, { kind: 'readIndex', context });
  const isTaken =
    state.role === Role.leader
      ? handleReadIndex(state, { from: state.id, context })
      : forwardReadIndex(state, context);
  return isTaken ? 'pending' : 'dropped';
}

/** The host's timer stood still for a while: a lease is not to be trusted until it is confirmed again. */
export function expireLease(state: RaftState): void {
  recordInput(state, { kind: 'expireLease' });
  expireReadLease(state);
}

/** The connection to `peer` was lost; what was on the way may be lost too, and if it leads, its process may be dead. */
export function reportUnreachable(state: RaftState, peer: ReplicaId): void {
  recordInput(state, { kind: 'reportUnreachable', peer });
  if (state.leader === peer) suspectLeader(state);
  else handleUnreachable(state, peer);
}

/** A part of the snapshot for `peer` was sent: `snapshotTicks` are counted from the last such call. */
export function noteSnapshotProgress(state: RaftState, peer: ReplicaId): void {
  recordInput(state, { kind: 'noteSnapshotProgress', peer });
  handleSnapshotProgress(state, peer);
}

/** How the sending of a snapshot to `peer` ended. */
export function reportSnapshot(state: RaftState, peer: ReplicaId, succeeded: boolean): void {
  recordInput(state, { kind: 'reportSnapshot', peer, succeeded });
  handleSnapshotReport(state, peer, succeeded);
}

/**
 * A snapshot that its leader announced did not arrive whole; `message` is its announcement. The leader is told, so that
 * it need not wait until its patience is over. Nothing happens when the announcement is not of the present term.
 */
export function refuseSnapshot(state: RaftState, message: InstallSnapshot): void {
  recordInput(state, { kind: 'refuseSnapshot', message: hollowInstallSnapshot(message) });
  if (message.term !== state.currentTerm) return;
  send(state, {
    type: 'appendEntriesResponse',
    from: state.id,
    to: message.from,
    term: state.currentTerm,
    index: message.snapshot.index,
    rejected: true,
    hintIndex: state.log.commitIndex,
    hintTerm: 0,
  });
}

/** Entries that `LogStorage.entries` did not have at hand are there now. */
export function storageReady(state: RaftState): void {
  recordInput(state, { kind: 'storageReady' });
  handleStorageReady(state);
}

/** Synchronous mode: everything of the last `Ready` is stored, sent and applied. */
export function advance(state: RaftState): void {
  recordPlain(state, Code.advance);
  assert(!state.config.asyncStorageWrites, 'in asynchronous mode the store answers by messages');
  const steps = state.stepsOnAdvance;
  state.stepsOnAdvance = [];
  for (const message of steps) {
    if (message.type === 'storageAppended') handleStorageAppended(state, message);
    else if (message.type === 'storageApplied') handleStorageApplied(state, message);
    else stepAnswer(state, message);
  }
}

/** Entries up to `index`, inclusive, are no longer in the store. They must be applied. */
export function compactLog(state: RaftState, index: LogIndex): void {
  recordInput(state, { kind: 'compactLog', index });
  compactTo(state.log, index);
}

/** Drops in-memory copies of entries up to `throughIndex`, as far as they are stable. */
export function trimLog(state: RaftState, throughIndex: LogIndex): void {
  recordInput(state, { kind: 'trimLog', index: throughIndex });
  trimTail(state.log, throughIndex);
}

/** What a leader believes of one member. */
export interface ProgressStatus {
  readonly state: ProgressState;
  readonly matchIndex: LogIndex;
  readonly nextIndex: LogIndex;
  readonly snapshotIndex: LogIndex | undefined;
  readonly isRecentlyActive: boolean;
  readonly isLearner: boolean;
  readonly inflightCount: number;
}

export interface RaftStatus {
  readonly id: ReplicaId;
  readonly role: Role;
  readonly term: Term;
  readonly votedFor: ReplicaId | undefined;
  readonly leader: ReplicaId | undefined;
  readonly commitIndex: LogIndex;
  readonly lastApplied: LogIndex;
  readonly firstIndex: LogIndex;
  readonly lastIndex: LogIndex;
  readonly confState: ConfState;
  readonly transferee: ReplicaId | undefined;
  /** A leader's only; empty otherwise. */
  readonly progress: ReadonlyMap<ReplicaId, ProgressStatus>;
}

/** A copy of what an operator wants to know. */
export function raftStatus(state: RaftState): RaftStatus {
  const progress = new Map<ReplicaId, ProgressStatus>();
  for (const [id, known] of state.role === Role.leader ? state.progress : []) {
    const { state: progressState, matchIndex, nextIndex, snapshotIndex } = known;
    progress.set(id, {
      state: progressState,
      matchIndex,
      nextIndex,
      snapshotIndex,
      isRecentlyActive: known.isRecentlyActive,
      isLearner: known.isLearner,
      inflightCount: known.inflights.count,
    });
  }
  return {
    id: state.id,
    role: state.role,
    term: state.currentTerm,
    votedFor: state.votedFor,
    leader: state.leader,
    commitIndex: state.log.commitIndex,
    lastApplied: state.log.appliedIndex,
    firstIndex: firstIndex(state.log),
    lastIndex: state.log.lastIndex,
    confState: state.confState,
    transferee: state.transferee,
    progress,
  };
}

export { checkInvariants } from './invariants.ts';
export { hasReady, takeReady } from './take-ready.ts';
export { confChangeRefusal, successors };
