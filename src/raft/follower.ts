// What a replica does with a leader's messages (§5.3, §7): check that the logs match, append, learn the commit index,
// install a snapshot. Every one of them restarts the election timer, also when the append is refused.

import { setLeader } from './election.ts';
import { appendToLog, commitTo, conflictHint, findConflict, matches, restoreLog } from './log.ts';
import { send } from './send.ts';
import { adoptMembers, type RaftState } from './state.ts';
import { trace } from './trace.ts';
import {
  type AppendEntries,
  emptyConfState,
  type Heartbeat,
  type InstallSnapshot,
  type LogIndex,
  type ReplicaId,
  type Snapshot,
} from './types.ts';

/** A message of the present leader arrived. */
export function noteLeader(state: RaftState, leader: ReplicaId): void {
  state.electionElapsed = 0;
  if (state.config.reads === 'lease') state.voteEmbargoTicks = state.config.electionTicks;
  setLeader(state, leader);
}

export function handleAppendEntries(state: RaftState, message: AppendEntries): void {
  const { log } = state;
  const { from, prevLogIndex, prevLogTerm, entries } = message;
  if (prevLogIndex < log.commitIndex) {
    // What is committed matches every leader's log: an old message, answered with what is known.
    acknowledge(state, from, log.commitIndex);
    return;
  }
  if (!matches(log, { index: prevLogIndex, term: prevLogTerm })) {
    refuse(state, message);
    return;
  }
  const conflict = findConflict(log, entries);
  // Entries that are already there stay: a delayed message must not cut off what came after it.
  if (conflict !== undefined) {
    const knownCount = conflict - prevLogIndex - 1;
    appendToLog(log, knownCount === 0 ? entries : entries.slice(knownCount));
  }
  const matchIndex = prevLogIndex + entries.length;
  // Beyond what this message confirmed, our log may still differ from the leader's.
  commitTo(log, Math.min(message.leaderCommit, matchIndex));
  acknowledge(state, from, matchIndex);
}

export function handleHeartbeat(state: RaftState, message: Heartbeat): void {
  commitTo(state.log, message.leaderCommit);
  send(state, {
    type: 'heartbeatResponse',
    from: state.id,
    to: message.from,
    term: state.currentTerm,
    readRound: message.readRound,
  });
}

export function handleInstallSnapshot(state: RaftState, message: InstallSnapshot): void {
  const installed = tryRestore(state, message.snapshot);
  acknowledge(state, message.from, installed ? state.log.lastIndex : state.log.commitIndex);
}

/** Says that the log matches the leader's up to `index`. Given out once that is durable. */
export function acknowledge(state: RaftState, to: ReplicaId, index: LogIndex): void {
  send(state, {
    type: 'appendEntriesResponse',
    from: state.id,
    to,
    term: state.currentTerm,
    index,
    rejected: false,
    hintIndex: 0,
    hintTerm: 0,
  });
}

function refuse(state: RaftState, message: AppendEntries): void {
  const { prevLogIndex, prevLogTerm } = message;
  const hint = conflictHint(state.log, {
    index: Math.min(prevLogIndex, state.log.lastIndex),
    term: prevLogTerm,
  });
  send(state, {
    type: 'appendEntriesResponse',
    from: state.id,
    to: message.from,
    term: state.currentTerm,
    index: prevLogIndex,
    rejected: true,
    hintIndex: hint.index,
    hintTerm: hint.term,
  });
}

/**
 * Takes the snapshot over, unless it is older than what is here. Its members need not include this replica: it may have
 * been taken before the change that added it, which then follows in the log.
 *
 * @returns whether the log begins behind it now
 */
function tryRestore(state: RaftState, snapshot: Snapshot): boolean {
  const { index, term, confState } = snapshot;
  if (index <= state.log.commitIndex) return ignore(state, index, 'older than what is committed');
  if (matches(state.log, { index, term })) {
    // The log has everything that the snapshot has: all of it is committed.
    commitTo(state.log, index);
    return ignore(state, index, 'the log has it');
  }
  restoreLog(state.log, snapshot);
  // Progress of the old configuration means nothing behind the snapshot.
  adoptMembers(state, emptyConfState);
  adoptMembers(state, confState);
  state.confIndex = index;
  trace(state, { type: 'snapshotRestored', index });
  return true;
}

function ignore(state: RaftState, index: LogIndex, reason: string): false {
  trace(state, { type: 'snapshotIgnored', index, reason });
  return false;
}
