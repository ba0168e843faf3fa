// Messages written by hand, for tests that play the rest of the cluster themselves.

import { utf8Bytes } from '../../src/base/bytes.ts';
import type { LogPosition } from '../../src/raft/log.ts';
import {
  type AppendEntries,
  type AppendEntriesResponse,
  type ConfState,
  type Entry,
  EntryKind,
  type Heartbeat,
  type InstallSnapshot,
  type LogIndex,
  type ReplicaId,
  type RequestVote,
  type RequestVoteResponse,
  type Term,
} from '../../src/raft/types.ts';
import { type CoreCluster, deliver, newCluster, replicaOf, settle } from './core-cluster.ts';

interface Route {
  readonly from: ReplicaId;
  readonly to: ReplicaId;
  readonly term: Term;
}

export function entryOf(index: LogIndex, term: Term, text = `${index}/${term}`): Entry {
  const bytes = utf8Bytes(text);
  return { index, term, kind: EntryKind.normal, bytes, start: 0, end: bytes.byteLength };
}

/** Entries behind `previous`, one for each of `terms`. */
export function entriesBehind(previous: LogIndex, terms: readonly Term[]): Entry[] {
  return terms.map((term, at) => entryOf(previous + 1 + at, term));
}

export function appendOf(
  route: Route,
  options: {
    readonly previous: LogPosition;
    readonly entries?: readonly Entry[];
    readonly leaderCommit?: LogIndex;
  },
): AppendEntries {
  const { previous, entries = [], leaderCommit = 0 } = options;
  const { index: prevLogIndex, term: prevLogTerm } = previous;
  return { type: 'appendEntries', ...route, prevLogIndex, prevLogTerm, entries, leaderCommit };
}

export function ackOf(route: Route, index: LogIndex): AppendEntriesResponse {
  const outcome = { index, rejected: false, hintIndex: 0, hintTerm: 0 };
  return { type: 'appendEntriesResponse', ...route, ...outcome };
}

export function heartbeatOf(route: Route, leaderCommit: LogIndex = 0): Heartbeat {
  return { type: 'heartbeat', ...route, leaderCommit, readRound: undefined };
}

export function voteRequestOf(
  route: Route,
  last: LogPosition,
  options: { readonly preVote?: boolean; readonly leadershipTransfer?: boolean } = {},
): RequestVote {
  const { preVote = false, leadershipTransfer = false } = options;
  const { index: lastLogIndex, term: lastLogTerm } = last;
  return { type: 'requestVote', ...route, preVote, lastLogIndex, lastLogTerm, leadershipTransfer };
}

export function voteOf(
  route: Route,
  options: {
    readonly rejected?: boolean;
    readonly preVote?: boolean;
    readonly last?: LogPosition;
    readonly committed?: LogPosition;
  } = {},
): RequestVoteResponse {
  const start = { index: 1, term: 1 };
  const { rejected = false, preVote = false, last = start, committed = start } = options;
  return {
    type: 'requestVoteResponse',
    ...route,
    preVote,
    rejected,
    lastLogIndex: last.index,
    lastLogTerm: last.term,
    commitIndex: committed.index,
    commitTerm: committed.term,
  };
}

export function snapshotOf(
  route: Route,
  options: {
    readonly position: LogPosition;
    readonly confState: ConfState;
    readonly texts?: readonly string[];
  },
): InstallSnapshot {
  const { position, confState, texts = [] } = options;
  const data = utf8Bytes(JSON.stringify(texts));
  return { type: 'installSnapshot', ...route, snapshot: { ...position, confState, data } };
}

/**
 * Three voters of which replica 1 has a log with these terms behind index 1 (term 1), as a leader 2 of `term` gave it;
 * the other two are played by the test.
 */
export function clusterWithLog(
  terms: readonly Term[],
  options: {
    readonly term?: Term;
    readonly leaderCommit?: LogIndex;
    readonly asyncStorageWrites?: boolean;
  } = {},
): CoreCluster {
  const { asyncStorageWrites = false, leaderCommit = 1 } = options;
  const cluster = newCluster({ voters: [1, 2, 3], asyncStorageWrites });
  giveLog(cluster, 1, terms, { term: options.term ?? Math.max(1, ...terms), leaderCommit });
  return cluster;
}

/** Makes a replica's log: entries of these terms behind index 1, given by leader 2 (or 3) of `term`. */
export function giveLog(
  cluster: CoreCluster,
  id: ReplicaId,
  terms: readonly Term[],
  options: { readonly term: Term; readonly leaderCommit?: LogIndex },
): void {
  const { term, leaderCommit = 1 } = options;
  const from = id === 2 ? 3 : 2;
  const message = appendOf(
    { from, to: id, term },
    { previous: { index: 1, term: 1 }, entries: entriesBehind(1, terms), leaderCommit },
  );
  deliver(cluster, message);
  // The others stay out of it: what is meant for them is lost.
  const { isLost } = cluster;
  cluster.isLost = () => true;
  settle(cluster);
  cluster.isLost = isLost;
}

/** The terms of a replica's log behind its snapshot. */
export function logTerms(cluster: CoreCluster, id: ReplicaId): Term[] {
  const { log } = replicaOf(cluster, id).state;
  return log.termRuns.flatMap(({ firstIndex, term }, at) => {
    const end = log.termRuns[at + 1]?.firstIndex ?? log.lastIndex + 1;
    return new Array<Term>(end - firstIndex).fill(term);
  });
}
