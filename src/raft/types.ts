// The words of one Raft group: indexes, terms, entries, configurations, hard state and messages. Data only.
// Names and meanings follow Figure 2 of the Raft paper and the dissertation (chapters 3, 4 and 6).

import { assert } from '../base/assert.ts';

/** Position in the log; the first entry has index 1, and 0 means "before the log". A safe integer. */
export type LogIndex = number;
/** Election term; 0 before the first election. A safe integer. */
export type Term = number;
/** A replica inside its group: 1 … 2^31 - 1. The host maps node ids to these numbers. */
export type ReplicaId = number;

export const Role = {
  follower: 'follower',
  preCandidate: 'preCandidate',
  candidate: 'candidate',
  leader: 'leader',
} as const;
export type Role = (typeof Role)[keyof typeof Role];

/** What an entry means to the core: the application's data, or a change of the group's own configuration. */
export const EntryKind = { normal: 0, confChange: 1 } as const;
export type EntryKind = (typeof EntryKind)[keyof typeof EntryKind];

/**
 * One entry of the log. The payload is `bytes[start, end)`: entries that were proposed or received together share one
 * buffer, so that a contiguous range can be stored and sent without copying it.
 *
 * Invariant: `bytes` is never changed after the entry was made.
 */
export interface Entry {
  readonly index: LogIndex;
  readonly term: Term;
  readonly kind: EntryKind;
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** Bytes of payload: what limits on the log, on appends and on the uncommitted tail count. */
export function payloadBytes(entry: Entry): number {
  return entry.end - entry.start;
}

/** The payload as a view; no copy. */
export function payloadOf(entry: Entry): Uint8Array {
  return entry.bytes.subarray(entry.start, entry.end);
}

/** The payload bytes of all `entries`. */
export function payloadBytesOf(entries: readonly Entry[]): number {
  let bytes = 0;
  for (const entry of entries) bytes += entry.end - entry.start;
  return bytes;
}

/** An entry that is not yet in a log: the leader gives it index and term. */
export type ProposedEntry = Omit<Entry, 'index' | 'term'>;

const noBytes: Uint8Array = new Uint8Array(0);

/** An entry whose payload is exactly `bytes`. */
export function proposedEntry(kind: EntryKind, bytes: Uint8Array = noBytes): ProposedEntry {
  return { kind, bytes, start: 0, end: bytes.byteLength };
}

/** What must be durable before a replica answers (Figure 2, "persistent state"), and the commit index beside it. */
export interface HardState {
  readonly term: Term;
  /** Whom this replica voted for in `term`. */
  readonly votedFor: ReplicaId | undefined;
  /** Inclusive. Durable only to make a restart cheap: losing it loses no data. */
  readonly commitIndex: LogIndex;
}

export const emptyHardState: HardState = { term: 0, votedFor: undefined, commitIndex: 0 };

/** The members of the group (dissertation 4.3). Lists are ascending. A joint configuration has `votersOutgoing`. */
export interface ConfState {
  readonly voters: readonly ReplicaId[];
  readonly votersOutgoing: readonly ReplicaId[];
  readonly learners: readonly ReplicaId[];
  /** Voters of the outgoing half that become learners when the joint configuration is left. */
  readonly learnersNext: readonly ReplicaId[];
  /** The leader leaves the joint configuration by itself as soon as it is applied. */
  readonly autoLeave: boolean;
}

/** No members at all. */
export const emptyConfState: ConfState = {
  voters: [],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
};

/** A maximal stretch of the log with one term: it begins at `firstIndex` and ends where the next one begins. */
export interface TermRun {
  readonly firstIndex: LogIndex;
  readonly term: Term;
}

/** State machine's state at `index` (§7). `data` is opaque to the core. */
export interface Snapshot {
  readonly index: LogIndex;
  readonly term: Term;
  readonly confState: ConfState;
  readonly data: Uint8Array;
}

interface Envelope {
  readonly from: ReplicaId;
  readonly to: ReplicaId;
  /** The sender's term. For pre-votes the term that the sender would campaign in. */
  readonly term: Term;
}

/** §5.3. Also a probe and the carrier of a new commit index when `entries` is empty. */
export interface AppendEntries extends Envelope {
  readonly type: 'appendEntries';
  readonly prevLogIndex: LogIndex;
  readonly prevLogTerm: Term;
  readonly entries: readonly Entry[];
  readonly leaderCommit: LogIndex;
}

/**
 * Answer to `appendEntries` and `installSnapshot`, sent once what it claims is durable.
 * Success: the log matches the leader's up to `index` inclusive.
 * Refusal: `index` is the refused `prevLogIndex`; the hint says up to where the logs can still agree.
 */
export interface AppendEntriesResponse extends Envelope {
  readonly type: 'appendEntriesResponse';
  readonly index: LogIndex;
  readonly rejected: boolean;
  /** Highest index at which the follower's term is at most the probe's (0 unless rejected). */
  readonly hintIndex: LogIndex;
  /** The follower's term at `hintIndex` (0 unless rejected). */
  readonly hintTerm: Term;
}

/** §5.2, §5.4.1. `preVote` asks whether a vote would be granted, without changing anybody's term (thesis 9.6). */
export interface RequestVote extends Envelope {
  readonly type: 'requestVote';
  readonly preVote: boolean;
  readonly lastLogIndex: LogIndex;
  readonly lastLogTerm: Term;
  /** The campaign was asked for by the leader (thesis 3.10): stickiness to that leader does not apply. */
  readonly leadershipTransfer: boolean;
}

/** Answers a vote request and says what the voter has. */
export interface RequestVoteResponse extends Envelope {
  readonly type: 'requestVoteResponse';
  readonly preVote: boolean;
  readonly rejected: boolean;
  /** Where the voter's log ends: a vote counts only for a log that is at least as up to date. */
  readonly lastLogIndex: LogIndex;
  readonly lastLogTerm: Term;
  /** What the voter knows to be committed: the candidate may not know it yet. */
  readonly commitIndex: LogIndex;
  readonly commitTerm: Term;
}

/** Keeps the leader's authority. Carries no previous index, so it may commit only what is known to match. */
export interface Heartbeat extends Envelope {
  readonly type: 'heartbeat';
  /** min(matchIndex of the receiver, commitIndex of the leader). */
  readonly leaderCommit: LogIndex;
  /** The youngest read-index round that this heartbeat confirms (thesis 6.4); echoed in the response. */
  readonly readRound: number | undefined;
}

export interface HeartbeatResponse extends Envelope {
  readonly type: 'heartbeatResponse';
  readonly readRound: number | undefined;
}

/** §7. The host sends the data in pieces and gives the whole message to the receiving core. */
export interface InstallSnapshot extends Envelope {
  readonly type: 'installSnapshot';
  readonly snapshot: Snapshot;
}

/** The leader tells the receiver to campaign at once (thesis 3.10). */
export interface TimeoutNow extends Envelope {
  readonly type: 'timeoutNow';
}

/** A follower passes a wish for leadership transfer on to the leader. */
export interface TransferLeadership extends Envelope {
  readonly type: 'transferLeadership';
  readonly transferee: ReplicaId;
}

/** A follower asks the leader for a read index (thesis 6.4). `context` is unique for the asking replica. */
export interface ReadIndex extends Envelope {
  readonly type: 'readIndex';
  readonly context: number;
}

export interface ReadIndexResponse extends Envelope {
  readonly type: 'readIndexResponse';
  readonly context: number;
  /** A read is linearizable once the state machine has applied up to here, inclusive. */
  readonly index: LogIndex;
}

/** Everything that one replica may send to another. */
export type PeerMessage =
  | AppendEntries
  | AppendEntriesResponse
  | RequestVote
  | RequestVoteResponse
  | Heartbeat
  | HeartbeatResponse
  | InstallSnapshot
  | TimeoutNow
  | TransferLeadership
  | ReadIndex
  | ReadIndexResponse;

export type PeerMessageType = PeerMessage['type'];

/** Local answer: entries up to `index` (stored under `term`) and the snapshot, if any, are durable. */
export interface StorageAppended {
  readonly type: 'storageAppended';
  readonly term: Term;
  /** Last entry of the request; absent when it held none. */
  readonly last: { readonly index: LogIndex; readonly term: Term } | undefined;
  readonly snapshotIndex: LogIndex | undefined;
}

/** Local answer: the state machine has applied up to `index`, inclusive. */
export interface StorageApplied {
  readonly type: 'storageApplied';
  readonly index: LogIndex;
  readonly bytes: number;
}

/** What `step` takes: messages of peers, and the storage's answers to the requests of a `Ready`. */
export type Message = PeerMessage | StorageAppended | StorageApplied;

/** Checks that `value` can be an index or a term. */
export function assertIndex(value: number): void {
  assert(
    Number.isSafeInteger(value) && value >= 0,
    'indexes and terms are safe, non-negative integers',
  );
}
