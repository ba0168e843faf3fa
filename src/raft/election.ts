// Who leads (§5.2, §5.4.1): the election timer, campaigns with and without a pre-vote (dissertation 9.6), votes, the
// changes of role, and check-quorum (6.2), by which a leader that cannot reach a quorum steps down by itself.

import { assert, must } from '../base/assert.ts';
import { abortTransfer } from './leader-transfer.ts';
import {
  commitTo,
  covers,
  isUpToDate,
  type LogPosition,
  lastTerm,
  matches,
  mayHoldUnappliedConfChange,
  termAt,
} from './log.ts';
import { votersOf } from './membership.ts';
import { becomeReplicate, type Progress, resetProgress } from './progress.ts';
import { type VoteResult, voteResult } from './quorum.ts';
import { beginLeaseRound, resetReads } from './read-index.ts';
import {
  expireSnapshots,
  ownProgress,
  sendAppends,
  sendHeartbeats,
  tryAppend,
  tryAutoLeave,
} from './replication.ts';
import { send } from './send.ts';
import { priorityMax, type RaftState } from './state.ts';
import { trace } from './trace.ts';
import {
  type Entry,
  EntryKind,
  type ReplicaId,
  type RequestVote,
  type RequestVoteResponse,
  Role,
  type Term,
} from './types.ts';

export type CampaignKind = 'preVote' | 'election' | 'transfer';

/** One tick of a replica that does not lead. */
export function tickElection(state: RaftState): void {
  state.electionElapsed += 1;
  if (state.config.priority === 0 || !isPromotable(state)) return;
  if (state.electionElapsed < state.randomizedElectionTicks) return;
  state.electionElapsed = 0;
  // Redrawn at every attempt, pre-votes included: two replicas that collided once part ways (§5.2).
  drawElectionTicks(state);
  startCampaign(state, state.config.preVote ? 'preVote' : 'election');
}

/** One tick of a leader. */
export function tickLeader(state: RaftState): void {
  const { config } = state;
  state.heartbeatElapsed += 1;
  state.electionElapsed += 1;
  state.reads.leaderTicks += 1;
  expireSnapshots(state);
  if (state.electionElapsed >= config.electionTicks) {
    state.electionElapsed = 0;
    if (config.checkQuorum) checkQuorum(state);
  }
  if (state.role !== Role.leader) return;
  if (state.transferee !== undefined) {
    state.transferElapsed += 1;
    if (state.transferElapsed >= config.electionTicks) abortTransfer(state);
  }
  if (state.heartbeatElapsed >= config.heartbeatTicks) {
    state.heartbeatElapsed = 0;
    // It may have been refused, when everything was: during a transfer.
    tryAutoLeave(state);
    beginLeaseRound(state);
    sendHeartbeats(state);
  }
}

/** Steps down unless a quorum was heard from since the last check. */
function checkQuorum(state: RaftState): void {
  const active = new Map<ReplicaId, boolean>();
  for (const [id, progress] of state.progress) {
    active.set(id, id === state.id || progress.isRecentlyActive);
  }
  if (voteResult(state.confState, active) !== 'won') {
    becomeFollower(state, state.currentTerm, undefined);
    return;
  }
  for (const [id, progress] of state.progress) {
    if (id !== state.id) progress.isRecentlyActive = false;
  }
}

/** Begins a campaign unless this replica leads already or must not lead. */
export function startCampaign(state: RaftState, kind: CampaignKind): void {
  if (state.role === Role.leader) return skipCampaign(state, 'already leads');
  if (!isPromotable(state))
    return skipCampaign(state, 'no voter, or a snapshot is being installed');
  if (kind !== 'transfer' && state.voteEmbargoTicks > 0) {
    return skipCampaign(state, 'a leader may rely on its lease');
  }
  if (mayHoldUnappliedConfChange(state.log, isConfChange)) {
    return skipCampaign(state, 'a committed configuration change is not applied yet');
  }
  campaign(state, kind);
}

function skipCampaign(state: RaftState, reason: string): void {
  trace(state, { type: 'campaignSkipped', reason });
}

function isConfChange(entry: Entry): boolean {
  return entry.kind === EntryKind.confChange;
}

/** Only a voter whose log is whole may lead. */
function isPromotable(state: RaftState): boolean {
  const progress = state.progress.get(state.id);
  return progress !== undefined && !progress.isLearner && state.log.pendingSnapshot === undefined;
}

function campaign(state: RaftState, kind: CampaignKind): void {
  const preVote = kind === 'preVote';
  if (preVote) becomePreCandidate(state);
  else becomeCandidate(state);
  const term = preVote ? state.currentTerm + 1 : state.currentTerm;
  const from = state.id;
  for (const to of votersOf(state.confState)) {
    if (to === from) {
      // Its own vote counts like the others: once it is durable.
      sendVote(state, { to, term, preVote, rejected: false });
      continue;
    }
    send(state, {
      type: 'requestVote',
      from,
      to,
      term,
      preVote,
      lastLogIndex: state.log.lastIndex,
      lastLogTerm: lastTerm(state.log),
      leadershipTransfer: kind === 'transfer',
    });
  }
}

/**
 * Answers a vote request whose term is not below this replica's (§5.2, §5.4.1). Learners answer too: a candidate whose
 * log holds their promotion may need them before they know of it.
 */
export function handleRequestVote(state: RaftState, message: RequestVote): void {
  const { from, term, preVote } = message;
  if (state.voteEmbargoTicks > 0 && !message.leadershipTransfer) {
    trace(state, { type: 'ignored', message, reason: 'leaseHeld' });
    return;
  }
  const isFree = state.votedFor === undefined && state.leader === undefined;
  const isEarlyPreVote = preVote && term > state.currentTerm;
  const canVote = state.votedFor === from || isFree || isEarlyPreVote;
  const position = { index: message.lastLogIndex, term: message.lastLogTerm };
  if (!canVote || !isUpToDate(state.log, position)) {
    sendVote(state, { to: from, term: state.currentTerm, preVote, rejected: true });
    return;
  }
  // The answer names the term that was asked for: a pre-vote's lies ahead of ours.
  sendVote(state, { to: from, term, preVote, rejected: false });
  if (preVote) return;
  state.electionElapsed = 0;
  state.votedFor = from;
  trace(state, { type: 'voteCast', candidate: from, term });
}

export function sendVote(
  state: RaftState,
  vote: {
    readonly to: ReplicaId;
    readonly term: Term;
    readonly preVote: boolean;
    readonly rejected: boolean;
  },
): void {
  const { log } = state;
  send(state, {
    type: 'requestVoteResponse',
    from: state.id,
    ...vote,
    lastLogIndex: log.lastIndex,
    lastLogTerm: lastTerm(log),
    commitIndex: log.commitIndex,
    commitTerm: must(termAt(log, log.commitIndex), 'the commit index is in the log'),
  });
}

/** Counts a vote of the running campaign. */
export function handleRequestVoteResponse(state: RaftState, message: RequestVoteResponse): void {
  learnCommitted(state, { index: message.commitIndex, term: message.commitTerm });
  const counts = message.preVote ? Role.preCandidate : Role.candidate;
  if (state.role !== counts) return;
  const voter = { index: message.lastLogIndex, term: message.lastLogTerm };
  if (!message.rejected && !covers(state.log, voter)) {
    // Given to this replica before a crash took the end of its log, in a term that the crash made it forget.
    trace(state, { type: 'ignored', message, reason: 'staleVote' });
    return;
  }
  if (!state.votes.has(message.from)) state.votes.set(message.from, !message.rejected);
  const result: VoteResult = voteResult(state.confState, state.votes);
  if (result === 'lost') {
    // A pre-vote's answers may carry a term that nobody has reached yet; ours stays.
    becomeFollower(state, state.currentTerm, undefined);
  } else if (result === 'won' && state.role === Role.preCandidate) {
    campaign(state, 'election');
  } else if (result === 'won' && state.votes.has(state.id)) {
    // Its own vote is durable, and so is the term: after a crash it cannot lead the same term again with another log.
    becomeLeader(state);
    sendAppends(state);
  }
}

/**
 * Takes over what a voter knows to be committed. Without it a group could lock itself out: replicas that know of their
 * removal do not campaign, and those that stay, which do not know that it is committed, need the others' votes and do
 * not get them while their logs are shorter.
 */
function learnCommitted(state: RaftState, known: LogPosition): void {
  const { log } = state;
  if (state.role === Role.leader || known.index <= log.commitIndex) return;
  if (!matches(log, known)) return;
  commitTo(log, known.index);
  const isCampaigning = state.role !== Role.follower;
  // A change of the voters may be among what is committed now: campaign again when it is applied.
  if (isCampaigning && mayHoldUnappliedConfChange(log, isConfChange)) {
    becomeFollower(state, state.currentTerm, undefined);
  }
}

/** Whether this replica has promised a living leader not to help depose it (dissertation 6.2, 6.4.1). */
export function holdsLease(state: RaftState): boolean {
  if (state.voteEmbargoTicks > 0) return true;
  const { checkQuorum: isChecked, electionTicks } = state.config;
  return isChecked && state.leader !== undefined && state.electionElapsed < electionTicks;
}

/**
 * The connection to the leader was lost, most likely because its process died. Waiting out a whole election timeout
 * would only make the outage longer: the leader is forgotten, so that others' pre-votes are granted, and this replica
 * campaigns after a short random pause. If the leader lives, its next message ends the suspicion, and until then
 * the others, who still hear from it, grant no pre-vote.
 */
export function suspectLeader(state: RaftState): void {
  const { config } = state;
  if (state.role !== Role.follower || config.priority !== priorityMax) return;
  // Without a pre-vote a mere disconnection would cost a healthy leader its term; a lease forbids disloyalty.
  if (!config.preVote || config.reads === 'lease') return;
  setLeader(state, undefined);
  const pause = 1 + config.random.below(Math.ceil(config.electionTicks / 4));
  state.electionElapsed = Math.max(state.electionElapsed, state.randomizedElectionTicks - pause);
}

export function becomeFollower(state: RaftState, term: Term, leader: ReplicaId | undefined): void {
  reset(state, term);
  setLeader(state, leader);
  setRole(state, Role.follower);
}

function becomePreCandidate(state: RaftState): void {
  assert(state.role !== Role.leader, 'a leader does not campaign');
  // Nothing but the role changes: neither the term nor the vote (dissertation 9.6).
  state.votes.clear();
  setLeader(state, undefined);
  setRole(state, Role.preCandidate);
}

function becomeCandidate(state: RaftState): void {
  assert(state.role !== Role.leader, 'a leader does not campaign');
  reset(state, state.currentTerm + 1);
  state.votedFor = state.id;
  trace(state, { type: 'voteCast', candidate: state.id, term: state.currentTerm });
  setRole(state, Role.candidate);
}

function becomeLeader(state: RaftState): void {
  assert(state.role === Role.candidate, 'a leader was elected');
  reset(state, state.currentTerm);
  setLeader(state, state.id);
  setRole(state, Role.leader);
  const progress = ownProgress(state);
  becomeReplicate(progress);
  progress.isRecentlyActive = true;
  // Any of the entries that are not applied yet may be a configuration change.
  state.pendingConfChangeIndex = state.log.lastIndex;
  // An entry of its own term is what lets a leader commit what it inherited (§5.4.2, §8).
  const empty = { kind: EntryKind.normal, bytes: new Uint8Array(0), start: 0, end: 0 };
  assert(tryAppend(state, [empty]), 'an empty entry always fits');
}

/** Starts a term, or a role within the term, afresh. A vote that was given in this term stays given. */
function reset(state: RaftState, term: Term): void {
  assert(term >= state.currentTerm, 'Invariant: terms never decrease');
  if (term !== state.currentTerm) {
    state.currentTerm = term;
    state.votedFor = undefined;
  }
  setLeader(state, undefined);
  state.electionElapsed = 0;
  state.heartbeatElapsed = 0;
  drawElectionTicks(state);
  abortTransfer(state);
  state.votes.clear();
  for (const [id, progress] of state.progress) {
    resetProgress(progress, state.log.lastIndex + 1);
    if (id === state.id) progress.matchIndex = state.log.lastIndex;
  }
  state.pendingConfChangeIndex = 0;
  state.uncommittedBytes = 0;
  resetReads(state);
}

function drawElectionTicks(state: RaftState): void {
  const { electionTicks, priority, random } = state.config;
  const patience = priority === 0 ? 0 : priorityMax - priority;
  state.randomizedElectionTicks = electionTicks * (1 + patience) + random.below(electionTicks);
}

function setRole(state: RaftState, role: Role): void {
  if (state.role === role) return;
  state.role = role;
  trace(state, { type: 'roleChanged', role, term: state.currentTerm });
}

export function setLeader(state: RaftState, leader: ReplicaId | undefined): void {
  if (state.leader === leader) return;
  state.leader = leader;
  trace(state, { type: 'leaderChanged', leader, term: state.currentTerm });
}

/** Who can follow a leader that has to go: the other voters that were heard from, those with most of the log first. */
export function successors(state: RaftState): ReplicaId[] {
  const { confState, progress, id: own } = state;
  const progressOf = (id: ReplicaId): Progress => must(progress.get(id), 'voters are members');
  return confState.voters
    .filter((id) => id !== own && progressOf(id).isRecentlyActive)
    .sort((a, b) => progressOf(b).matchIndex - progressOf(a).matchIndex);
}
