// Linearizable reads without a log entry (dissertation 6.4). The leader notes its commit index, proves by a round of
// heartbeats that it still leads, and lets the read happen once that index is applied. Every round has a number that
// the heartbeats carry and the answers echo, so that an answer to an older heartbeat never counts for a younger read.
// In lease mode (6.4.1) a confirmed round also proves leadership for some time to come.

import { assert, must } from '../base/assert.ts';
import { termAt } from './log.ts';
import { quorumIndex } from './quorum.ts';
import { sendHeartbeats } from './replication.ts';
import { send } from './send.ts';
import type { RaftConfig, RaftState } from './state.ts';
import { trace } from './trace.ts';
import { type LogIndex, type ReadIndex, type ReplicaId, Role } from './types.ts';

/** One question that a round of heartbeats answers. */
interface ReadRound {
  readonly round: number;
  /** Commit index when the round began. */
  readonly index: LogIndex;
  /** Leader's ticks in this term when its first heartbeats were sent. */
  readonly sentAtTick: number;
  /** None in a round that only prolongs the lease. */
  readonly requests: readonly ReadRequest[];
}

interface ReadRequest {
  readonly from: ReplicaId;
  readonly context: number;
}

export interface ReadIndexState {
  /** Rounds that wait for a quorum, oldest first. */
  rounds: ReadRound[];
  /** Never goes back, not even over terms: an echo from another term of leadership confirms nothing. */
  lastRound: number;
  /** The youngest round that each member echoed in this term. An echo confirms the older rounds too. */
  readonly ackedRounds: Map<ReplicaId, number>;
  /** Requests in `rounds`. */
  waitingCount: number;
  /** Requests that came before the leader committed an entry of its term. */
  postponed: ReadRequest[];
  /** Ticks since this replica became leader. */
  leaderTicks: number;
  /** Lease mode: when the heartbeats of the youngest confirmed round were sent, in `leaderTicks`. */
  leaseFromTick: number | undefined;
  /** Rounds up to here prove nothing for the lease: time stood still after they were sent. */
  leaseFloorRound: number;
  /** Lease mode: leadership was offered to somebody in this term, so that the lease proves nothing any more. */
  isLeaseForfeited: boolean;
}

export function newReadIndexState(): ReadIndexState {
  return {
    rounds: [],
    lastRound: 0,
    ackedRounds: new Map(),
    waitingCount: 0,
    postponed: [],
    leaderTicks: 0,
    leaseFromTick: undefined,
    leaseFloorRound: 0,
    isLeaseForfeited: false,
  };
}

/** Drops everything that waits: the answers would come from a leadership that is over. */
export function resetReads(state: RaftState): void {
  const { reads } = state;
  reads.rounds = [];
  reads.ackedRounds.clear();
  reads.waitingCount = 0;
  reads.postponed = [];
  reads.leaderTicks = 0;
  reads.leaseFromTick = undefined;
  reads.isLeaseForfeited = false;
}

/**
 * The host paused or was paused: ticks did not count the time, so the lease proves nothing until a round that begins
 * from now on is confirmed. Late answers to older rounds do not bring it back.
 */
export function expireLease(state: RaftState): void {
  state.reads.leaseFromTick = undefined;
  state.reads.leaseFloorRound = state.reads.lastRound;
}

/** A leader takes a question, its own or a follower's. @returns false when too many wait */
export function handleReadIndex(state: RaftState, request: ReadRequest): boolean {
  assert(state.role === Role.leader, 'only a leader answers read-index questions');
  const { reads, config } = state;
  if (reads.waitingCount + reads.postponed.length >= config.pendingReadsMax) return false;
  // Before its first commit a leader does not know what is committed (§8, thesis 6.4 step 1).
  if (!hasCommittedInTerm(state)) {
    reads.postponed.push(request);
    return true;
  }
  if (isSingleVoter(state) || isLeaseValid(state)) answer(state, request, state.log.commitIndex);
  else beginRound(state, [request]);
  return true;
}

/** The leader has committed an entry of its own term: what was postponed can be asked now. */
export function releasePostponedReads(state: RaftState): void {
  const { reads } = state;
  if (reads.postponed.length === 0 || !hasCommittedInTerm(state)) return;
  const requests = reads.postponed;
  reads.postponed = [];
  if (isSingleVoter(state)) {
    for (const request of requests) answer(state, request, state.log.commitIndex);
  } else {
    beginRound(state, requests);
  }
}

/** The number that a heartbeat of now carries: the youngest round, which confirms all older ones with it. */
export function roundToConfirm(state: RaftState): number | undefined {
  return state.reads.rounds.at(-1)?.round;
}

/** Lease mode: every heartbeat interval begins a round of its own, so that the lease goes on without reads. */
export function beginLeaseRound(state: RaftState): void {
  const { reads, config } = state;
  if (config.reads !== 'lease' || !hasCommittedInTerm(state)) return;
  // A quorum that does not answer must not pile rounds up: those whose lease would be over are not waited for.
  const overTick = reads.leaderTicks - leaseTicks(config);
  reads.rounds = reads.rounds.filter(
    ({ requests, sentAtTick }) => requests.length > 0 || sentAtTick > overTick,
  );
  openRound(state, []);
}

/** A member echoed `round`. */
export function handleReadAck(state: RaftState, from: ReplicaId, round: number): void {
  const { ackedRounds, lastRound } = state.reads;
  if (round > lastRound || round <= (ackedRounds.get(from) ?? 0)) return;
  ackedRounds.set(from, round);
  confirmRounds(state);
}

/** Answers the reads whose rounds a quorum has echoed: to be called after an echo, and when the voters change. */
export function confirmRounds(state: RaftState): void {
  const { reads } = state;
  if (reads.rounds.length === 0) return;
  const { ackedRounds, lastRound } = reads;
  const confirmed = quorumIndex(state.confState, (id) =>
    id === state.id ? lastRound : (ackedRounds.get(id) ?? 0),
  );
  const open = reads.rounds.findIndex(({ round }) => round > confirmed);
  for (const pending of reads.rounds.splice(0, open === -1 ? reads.rounds.length : open)) {
    for (const request of pending.requests) answer(state, request, pending.index);
    reads.waitingCount -= pending.requests.length;
    if (pending.round > reads.leaseFloorRound) reads.leaseFromTick = pending.sentAtTick;
  }
}

function beginRound(state: RaftState, requests: readonly ReadRequest[]): void {
  openRound(state, requests);
  sendHeartbeats(state);
}

function openRound(state: RaftState, requests: readonly ReadRequest[]): void {
  const { reads } = state;
  reads.lastRound += 1;
  reads.rounds.push({
    round: reads.lastRound,
    index: state.log.commitIndex,
    sentAtTick: reads.leaderTicks,
    requests,
  });
  reads.waitingCount += requests.length;
}

function answer(state: RaftState, request: ReadRequest, index: LogIndex): void {
  if (request.from === state.id) {
    state.readStates.push({ context: request.context, index });
    return;
  }
  send(state, {
    type: 'readIndexResponse',
    from: state.id,
    to: request.from,
    term: state.currentTerm,
    context: request.context,
    index,
  });
}

/** Passes a question on to the leader. @returns false when none is known */
export function forwardReadIndex(state: RaftState, context: number): boolean {
  if (state.leader === undefined || state.role === Role.leader) return false;
  const { id: from, currentTerm: term, leader: to } = state;
  send(state, { type: 'readIndex', from, to, term, context });
  return true;
}

export function handleForwardedReadIndex(state: RaftState, message: ReadIndex): void {
  if (handleReadIndex(state, { from: message.from, context: message.context })) return;
  trace(state, { type: 'ignored', message, reason: 'tooManyReads' });
}

function hasCommittedInTerm(state: RaftState): boolean {
  const term = must(termAt(state.log, state.log.commitIndex), 'the commit index is in the log');
  return term === state.currentTerm;
}

function isSingleVoter(state: RaftState): boolean {
  const { voters, votersOutgoing } = state.confState;
  return voters.length === 1 && voters[0] === state.id && votersOutgoing.length === 0;
}

function isLeaseValid(state: RaftState): boolean {
  const { reads, config } = state;
  if (config.reads !== 'lease' || reads.isLeaseForfeited) return false;
  if (reads.leaseFromTick === undefined) return false;
  return reads.leaderTicks - reads.leaseFromTick < leaseTicks(config);
}

/** A follower's promise lasts `electionTicks` of its ticks, and the first of them may come at once: one does not count. */
function leaseTicks({ electionTicks, clockDriftBound }: RaftConfig): number {
  return Math.floor((electionTicks - 1) * (1 - clockDriftBound));
}
