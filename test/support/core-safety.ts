// The safety rules over a whole cluster (Figure 3 of the paper), checked while it runs: election safety, leader
// append-only, log matching, leader completeness, state machine safety, commit monotonicity; and that no promise
// leaves a replica before its disk holds what it promises.

import { assert, must } from '../../src/base/assert.ts';
import { lastTerm, termAt } from '../../src/raft/log.ts';
import { checkInvariants } from '../../src/raft/raft.ts';
import type { RaftState } from '../../src/raft/state.ts';
import {
  type Entry,
  type LogIndex,
  type PeerMessage,
  payloadOf,
  type ReplicaId,
  Role,
  type Term,
} from '../../src/raft/types.ts';
import { type DiskImage, lastIndexOf } from './core-disk.ts';

/** One life of a replica, from a start to the next crash. */
export interface Life {
  readonly id: ReplicaId;
  readonly number: number;
  lastCommitIndex: LogIndex;
  ledTerm: Term;
  /** While it leads: where its log ended when it was last looked at. */
  ledLastIndex: LogIndex;
}

interface Chosen {
  readonly term: Term;
  /** Term of the leader that committed it: leaders of later terms have it. */
  readonly committedInTerm: Term;
  /** Known once somebody applied it. */
  payload: string | undefined;
}

export interface SafetyRecord {
  /** Which life of which replica led a term. */
  readonly leaders: Map<Term, Life>;
  /** What was committed at an index, by whomever. */
  readonly chosen: Map<LogIndex, Chosen>;
  /** Payload and previous term of every entry that was ever stored or sent, by index and term. */
  readonly entries: Map<string, { readonly payload: string; readonly previousTerm: Term }>;
  highestCommitIndex: LogIndex;
}

export function newSafetyRecord(): SafetyRecord {
  return { leaders: new Map(), chosen: new Map(), entries: new Map(), highestCommitIndex: 0 };
}

export function newLife(id: ReplicaId, number: number): Life {
  return { id, number, lastCommitIndex: 0, ledTerm: 0, ledLastIndex: 0 };
}

/** To be called after everything that a replica did. */
export function checkReplica(record: SafetyRecord, life: Life, state: RaftState): void {
  checkInvariants(state);
  const { commitIndex } = state.log;
  assert(commitIndex >= life.lastCommitIndex, 'Commit monotonicity: it never moves back in a life');
  if (commitIndex > life.lastCommitIndex) noteCommitted(record, life.lastCommitIndex, state);
  life.lastCommitIndex = commitIndex;
  if (state.role === Role.leader) checkLeader(record, life, state);
}

function noteCommitted(record: SafetyRecord, above: LogIndex, state: RaftState): void {
  const { log, currentTerm } = state;
  for (let index = Math.max(above, log.compactedIndex) + 1; index <= log.commitIndex; index++) {
    const term = must(termAt(log, index), 'what is committed is in the log');
    const known = record.chosen.get(index);
    if (known === undefined) {
      record.chosen.set(index, { term, committedInTerm: currentTerm, payload: undefined });
    } else {
      assert(known.term === term, `State machine safety: two entries committed at ${index}`);
    }
  }
  const boundary = record.chosen.get(log.compactedIndex);
  assert(
    boundary === undefined || boundary.term === log.compactedTerm,
    'State machine safety: a snapshot ends with the entry that was committed there',
  );
  record.highestCommitIndex = Math.max(record.highestCommitIndex, log.commitIndex);
}

function checkLeader(record: SafetyRecord, life: Life, state: RaftState): void {
  const { currentTerm, log } = state;
  const known = record.leaders.get(currentTerm);
  if (known === undefined) {
    record.leaders.set(currentTerm, life);
    checkCompleteness(record, state);
  } else {
    assert(known === life, `Election safety: two leaders in term ${currentTerm}`);
  }
  if (life.ledTerm === currentTerm) {
    assert(log.lastIndex >= life.ledLastIndex, 'Leader append-only: nothing is removed');
  }
  assert(
    lastTerm(log) === currentTerm,
    "Leader append-only: its log ends with its own term's entry",
  );
  life.ledTerm = currentTerm;
  life.ledLastIndex = log.lastIndex;
}

function checkCompleteness(record: SafetyRecord, { log, currentTerm }: RaftState): void {
  for (let index = log.compactedIndex + 1; index <= record.highestCommitIndex; index++) {
    const chosen = record.chosen.get(index);
    if (chosen === undefined || chosen.committedInTerm >= currentTerm) continue;
    assert(
      termAt(log, index) === chosen.term,
      `Leader completeness: the leader of term ${currentTerm} lacks entry ${index}`,
    );
  }
}

/** To be called for every run of entries that a replica stores or sends. */
export function checkMatching(
  record: SafetyRecord,
  previousTerm: Term | undefined,
  entries: readonly Entry[],
): void {
  let previous = previousTerm;
  for (const entry of entries) {
    const key = `${entry.index}/${entry.term}`;
    const payload = textOf(entry);
    const known = record.entries.get(key);
    if (known === undefined) {
      if (previous !== undefined) record.entries.set(key, { payload, previousTerm: previous });
    } else {
      assert(known.payload === payload, `Log matching: two different entries ${key}`);
      assert(
        previous === undefined || known.previousTerm === previous,
        `Log matching: entry ${key} follows different entries`,
      );
    }
    previous = entry.term;
  }
}

/** To be called for every entry that a state machine applies. */
export function checkApplied(record: SafetyRecord, entry: Entry): void {
  const chosen = must(record.chosen.get(entry.index), 'only committed entries are applied');
  assert(
    chosen.term === entry.term,
    `State machine safety: another entry applied at ${entry.index}`,
  );
  const payload = textOf(entry);
  chosen.payload ??= payload;
  assert(chosen.payload === payload, `State machine safety: another payload at ${entry.index}`);
}

/** To be called when a message leaves its replica. */
export function checkPromise(message: PeerMessage, durable: DiskImage): void {
  if (message.type === 'requestVoteResponse' && !message.preVote && !message.rejected) {
    const { term, votedFor } = durable.hardState;
    assert(
      term > message.term || (term === message.term && votedFor === message.to),
      'a vote is durable before it is given',
    );
  }
  if (message.type === 'appendEntriesResponse' && !message.rejected && message.index > 0) {
    const { term } = durable.hardState;
    assert(term >= message.term, 'a term is durable before it is acknowledged in');
    // A leader of a later term may have replaced what was acknowledged to the earlier one.
    assert(
      term > message.term || lastIndexOf(durable) >= message.index,
      `entries are durable before ${message.from} acknowledges ${message.index}`,
    );
  }
}

function textOf(entry: Entry): string {
  return `${entry.kind}:${Buffer.from(payloadOf(entry)).toString('latin1')}`;
}
