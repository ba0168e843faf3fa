// The rules that hold over a whole simulated cluster, whatever happens to it (Figure 3 of the paper, and what callers
// are promised): election safety, leader append-only, log matching, leader completeness, commit monotonicity, one vote
// per term, nothing acknowledged or committed before it is durable. Checked after every step, on what changed in it.

import { crc32 } from 'node:zlib';
import { must } from '../../base/assert.ts';
import type { Frame, NodeId } from '../../ports/transport.ts';
import type { PartitionId } from '../../ports/wal.ts';
import { termAt } from '../../raft/log.ts';
import { votersOf } from '../../raft/membership.ts';
import { quorumIndex } from '../../raft/quorum.ts';
import { checkInvariants } from '../../raft/raft.ts';
import type { RaftState } from '../../raft/state.ts';
import {
  type LogIndex,
  type PeerMessage,
  payloadOf,
  type ReplicaId,
  Role,
  type Term,
} from '../../raft/types.ts';
import { type AppliedOrder, newAppliedOrder } from './applied-order.ts';
import type { Coverage } from './coverage.ts';
import { type DurableView, durableTerm, holdsDurably } from './durable-view.ts';
import { ViolationError } from './violation.ts';

/** What is known of one partition, over all replicas and all lives. */
interface PartitionRecord {
  readonly partitionId: PartitionId;
  /** Which life of which replica led a term. */
  readonly leaders: Map<Term, { readonly nodeId: NodeId; readonly life: number }>;
  /** Whom a replica voted for, by replica and term. */
  readonly votes: Map<string, ReplicaId>;
  /** Terms of committed entries, and the term of the leader that committed them. */
  readonly chosen: Map<LogIndex, { readonly term: Term; readonly inTerm: Term }>;
  /** Previous term and checksum of every entry that any log had, by index and term. */
  readonly entries: Map<LogIndex, Map<Term, { readonly previousTerm: Term; readonly crc: number }>>;
  highestCommit: LogIndex;
  readonly order: AppliedOrder;
}

/** What a replica looked like after the last step, in one life. */
export interface ReplicaWatch {
  readonly nodeId: NodeId;
  readonly life: number;
  term: Term;
  role: Role;
  lastIndex: LogIndex;
  lastTerm: Term;
  stableIndex: LogIndex;
  commitIndex: LogIndex;
  appliedIndex: LogIndex;
  confIndex: LogIndex;
  /** What it knew to be committed when it was elected last. */
  electedCommitIndex: LogIndex;
  /** Terms of the entries of its log that were compared with the others'. */
  readonly verified: Map<LogIndex, Term>;
}

export interface Safety {
  readonly partitions: Map<PartitionId, PartitionRecord>;
  readonly coverage: Coverage;
  /** What the disk of a node holds. */
  readonly durable: (nodeId: NodeId) => DurableView;
  /** What the disk of a replica holds, and what it held before it was emptied. */
  readonly durableOf: (replicaId: ReplicaId) => readonly DurableView[];
  readonly nodeIdOf: (replicaId: ReplicaId) => NodeId | undefined;
}

export function newSafety(parts: Omit<Safety, 'partitions'>): Safety {
  return { ...parts, partitions: new Map() };
}

export function partitionRecord(safety: Safety, partitionId: PartitionId): PartitionRecord {
  let record = safety.partitions.get(partitionId);
  if (record === undefined) {
    record = {
      partitionId,
      leaders: new Map(),
      votes: new Map(),
      chosen: new Map(),
      entries: new Map(),
      highestCommit: 0,
      order: newAppliedOrder(partitionId),
    };
    safety.partitions.set(partitionId, record);
  }
  return record;
}

export function newReplicaWatch(nodeId: NodeId, life: number, raft: RaftState): ReplicaWatch {
  return {
    nodeId,
    life,
    term: 0,
    role: Role.follower,
    lastIndex: raft.log.compactedIndex,
    lastTerm: raft.log.compactedTerm,
    stableIndex: 0,
    commitIndex: raft.log.compactedIndex,
    appliedIndex: 0,
    confIndex: 0,
    electedCommitIndex: 0,
    verified: new Map(),
  };
}

/** Checks what changed in a replica since the last call. @returns whether anything did */
export function checkReplica(
  safety: Safety,
  partitionId: PartitionId,
  watch: ReplicaWatch,
  raft: RaftState,
): boolean {
  const { log } = raft;
  const lastTerm = log.termRuns.at(-1)?.term ?? log.compactedTerm;
  const isLogSame = watch.lastIndex === log.lastIndex && watch.lastTerm === lastTerm;
  const isRoleSame = watch.term === raft.currentTerm && watch.role === raft.role;
  const isCommitSame = watch.commitIndex === log.commitIndex;
  const isSame =
    isLogSame &&
    isRoleSame &&
    isCommitSame &&
    watch.stableIndex === log.stableIndex &&
    watch.appliedIndex === log.appliedIndex &&
    watch.confIndex === raft.confIndex;
  if (isSame) return false;
  const record = partitionRecord(safety, partitionId);
  try {
    checkInvariants(raft);
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new ViolationError('The invariants of a replica hold', what, partitionId, error);
  }
  const before = { ...watch, verified: undefined };
  if (!isLogSame) checkLog(safety, record, watch, raft);
  if (raft.currentTerm < watch.term) {
    throw new ViolationError(
      'A term never moves back',
      `${watch.nodeId} went from term ${watch.term} to ${raft.currentTerm}`,
      partitionId,
    );
  }
  checkBelief(safety, record, watch, raft);
  if (raft.role === Role.leader) checkLeader(safety, record, watch, raft);
  if (!isCommitSame) checkCommit(record, watch, raft);
  if (
    before.role === Role.leader &&
    raft.role !== Role.leader &&
    before.commitIndex < record.highestCommit
  ) {
    safety.coverage.committedByFollowersAlone += 1;
  }
  watch.term = raft.currentTerm;
  watch.role = raft.role;
  watch.lastIndex = log.lastIndex;
  watch.lastTerm = lastTerm;
  watch.stableIndex = log.stableIndex;
  watch.commitIndex = log.commitIndex;
  watch.appliedIndex = log.appliedIndex;
  watch.confIndex = raft.confIndex;
  return true;
}

/** What is on disk was promised: a process knows it, after a restart too. */
function checkBelief(
  safety: Safety,
  record: PartitionRecord,
  watch: ReplicaWatch,
  raft: RaftState,
): void {
  const disk = safety.durable(watch.nodeId).partitions.get(record.partitionId)?.hardState;
  if (disk === undefined || disk.term < raft.currentTerm) return;
  const isVoteKnown = disk.votedFor === undefined || disk.votedFor === raft.votedFor;
  if (disk.term === raft.currentTerm && isVoteKnown) return;
  throw new ViolationError(
    'Nothing that was promised is forgotten: a replica knows the term and the vote on its disk',
    `${watch.nodeId} is in term ${raft.currentTerm} with a vote for ${raft.votedFor ?? 'nobody'}; its disk has term ${disk.term} and a vote for ${disk.votedFor ?? 'nobody'}`,
    record.partitionId,
  );
}

/** Log matching: the same index and term mean the same entry, behind the same entry. */
function checkLog(
  safety: Safety,
  record: PartitionRecord,
  watch: ReplicaWatch,
  raft: RaftState,
): void {
  const { log } = raft;
  if (log.lastIndex < watch.lastIndex || watch.verified.get(log.lastIndex) !== undefined) {
    safety.coverage.truncation += 1;
  }
  for (let index = log.lastIndex; index > log.compactedIndex; index--) {
    const term = must(termAt(log, index), 'every entry of the log has a term');
    const previousTerm = must(termAt(log, index - 1), 'the entry before has a term');
    // Both were compared, one behind the other: so was everything before them.
    if (watch.verified.get(index) === term && watch.verified.get(index - 1) === previousTerm) break;
    watch.verified.set(index, term);
    const entry = log.tail[index - log.tailFirstIndex];
    checkEntry(
      record,
      { index, term, previousTerm, nodeId: watch.nodeId },
      entry === undefined ? undefined : crc32(payloadOf(entry)),
    );
  }
}

function checkEntry(
  record: PartitionRecord,
  found: {
    readonly index: LogIndex;
    readonly term: Term;
    readonly previousTerm: Term;
    readonly nodeId: NodeId;
  },
  crc: number | undefined,
): void {
  const { index, term, previousTerm, nodeId } = found;
  let terms = record.entries.get(index);
  if (terms === undefined) {
    terms = new Map();
    record.entries.set(index, terms);
  }
  const known = terms.get(term);
  if (known === undefined) {
    // What is not in memory any more cannot be compared by content; its first owner had it in memory.
    if (crc !== undefined) terms.set(term, { previousTerm, crc });
    return;
  }
  if (known.previousTerm === previousTerm && (crc === undefined || known.crc === crc)) return;
  throw new ViolationError(
    'Log matching: entries with the same index and term are equal, and so are all before them',
    `entry ${index} of term ${term} on ${nodeId} follows term ${previousTerm}, elsewhere term ${known.previousTerm}; checksums ${crc} and ${known.crc}`,
    record.partitionId,
  );
}

function checkLeader(
  safety: Safety,
  record: PartitionRecord,
  watch: ReplicaWatch,
  raft: RaftState,
): void {
  const { currentTerm: term, log } = raft;
  const { nodeId, life } = watch;
  const known = record.leaders.get(term);
  if (known === undefined) {
    record.leaders.set(term, { nodeId, life });
    watch.electedCommitIndex = log.commitIndex;
    safety.coverage.leaderElected += 1;
    checkCompleteness(record, watch, raft);
    checkOwnVote(safety, record, watch, raft);
    return;
  }
  if (known.nodeId !== nodeId || known.life !== life) {
    throw new ViolationError(
      'Election safety: at most one leader per term',
      `term ${term} was led by ${known.nodeId} (life ${known.life}) and is led by ${nodeId} (life ${life})`,
      record.partitionId,
    );
  }
  if (watch.role === Role.leader && watch.term === term && log.lastIndex < watch.lastIndex) {
    throw new ViolationError(
      'Leader append-only: a leader never removes entries of its log',
      `the log of ${nodeId} went back from ${watch.lastIndex} to ${log.lastIndex} in term ${term}`,
      record.partitionId,
    );
  }
}

/** With a vote that a crash could take back, it might lead the same term again with another log. */
function checkOwnVote(
  safety: Safety,
  record: PartitionRecord,
  watch: ReplicaWatch,
  raft: RaftState,
): void {
  const { currentTerm: term, id } = raft;
  const hardState = safety.durable(watch.nodeId).partitions.get(record.partitionId)?.hardState;
  if (hardState?.term === term && hardState.votedFor === id) return;
  throw new ViolationError(
    "Durable before acknowledged: a leader's own vote is on disk before it leads",
    `${watch.nodeId} leads term ${term}; its disk has term ${hardState?.term ?? 0}`,
    record.partitionId,
  );
}

/** Leader completeness: what was committed in an earlier term is in the log of a leader. */
function checkCompleteness(record: PartitionRecord, watch: ReplicaWatch, raft: RaftState): void {
  const { log, currentTerm } = raft;
  for (const [index, { term, inTerm }] of record.chosen) {
    if (inTerm >= currentTerm || index < log.compactedIndex) continue;
    if (termAt(log, index) === term) continue;
    throw new ViolationError(
      'Leader completeness: a leader has every entry that was committed before its term',
      `${watch.nodeId} leads term ${currentTerm} without entry ${index} of term ${term}, committed in term ${inTerm}`,
      record.partitionId,
    );
  }
}

function checkCommit(record: PartitionRecord, watch: ReplicaWatch, raft: RaftState): void {
  const { log, currentTerm } = raft;
  const { partitionId } = record;
  if (log.commitIndex < watch.commitIndex) {
    throw new ViolationError(
      'Commit monotonicity: a commit index never moves back',
      `${watch.nodeId} went from ${watch.commitIndex} to ${log.commitIndex}`,
      partitionId,
    );
  }
  for (
    let index = Math.max(watch.commitIndex, log.compactedIndex) + 1;
    index <= log.commitIndex;
    index++
  ) {
    const term = must(termAt(log, index), 'what is committed is in the log');
    const known = record.chosen.get(index);
    if (known === undefined) {
      record.chosen.set(index, { term, inTerm: currentTerm });
    } else if (known.term !== term) {
      throw new ViolationError(
        'State machine safety: one entry is committed at an index',
        `entry ${index} of term ${known.term} was committed, and ${watch.nodeId} commits one of term ${term}`,
        partitionId,
      );
    }
  }
  record.highestCommit = Math.max(record.highestCommit, log.commitIndex);
}

/** What a leader commits is on the disks of a quorum: to be called at the very moment, for the members may change next. */
export function checkDurableQuorum(
  safety: Safety,
  partitionId: PartitionId,
  nodeId: NodeId,
  raft: RaftState,
): void {
  const { log, confState } = raft;
  const index = log.commitIndex;
  const term = must(termAt(log, index), 'what is committed is in the log');
  const holders = new Set(
    votersOf(confState).filter((id) =>
      safety
        .durableOf(id)
        .some((view) => holdsDurably(view.partitions.get(partitionId), { index, term })),
    ),
  );
  if (!holders.has(raft.id)) safety.coverage.committedBeforeOwnSync += 1;
  if (quorumIndex(confState, (id) => (holders.has(id) ? 1 : 0)) === 1) return;
  const names = [...holders].map((id) => safety.nodeIdOf(id)).join(', ');
  throw new ViolationError(
    'Durable before committed: what a leader commits is on the disks of a quorum',
    `${nodeId} commits entry ${index} of term ${term}; only ${names || 'nobody'} has it on disk`,
    partitionId,
  );
}

/** Durable before acknowledged: looks at every promise that leaves a node. */
export function checkSent(
  safety: Safety,
  from: NodeId,
  frame: Frame,
  raftOf: (partitionId: PartitionId) => RaftState | undefined,
): void {
  for (const item of frame.items) {
    if (item.kind === 'propose') safety.coverage.writeForwarded += 1;
    if (item.kind !== 'raft') continue;
    const { message, partitionId } = item;
    if (message.type === 'appendEntriesResponse') {
      const raft = raftOf(partitionId);
      if (!message.rejected) checkAcknowledgement(safety, { from, partitionId, message }, raft);
    } else if (message.type === 'requestVoteResponse' && !message.preVote && !message.rejected) {
      checkVote(safety, { from, partitionId, message });
    }
  }
}

interface Promised<Message extends PeerMessage> {
  readonly from: NodeId;
  readonly partitionId: PartitionId;
  readonly message: Message;
}

function checkAcknowledgement(
  safety: Safety,
  sent: Promised<Extract<PeerMessage, { type: 'appendEntriesResponse' }>>,
  raft: RaftState | undefined,
): void {
  const { from, partitionId, message } = sent;
  const stored = safety.durable(from).partitions.get(partitionId);
  const rule = 'Durable before acknowledged: a replica acknowledges only what its disk holds';
  const durableTermNumber = stored?.hardState.term ?? 0;
  if (durableTermNumber < message.term) {
    const what = `${from} answers in term ${message.term}; its disk knows term ${durableTermNumber}`;
    throw new ViolationError(rule, what, partitionId);
  }
  // Of a later term already: what the leader of then gets is too old to count.
  if (stored === undefined || durableTermNumber > message.term) return;
  const { index } = message;
  // While the term is the same nothing that was acknowledged in it is replaced: the log still has it.
  const isPresent = raft?.currentTerm === message.term;
  const term = isPresent ? termAt(raft.log, index) : durableTerm(stored, index);
  const isThere = index <= Math.max(stored.lastIndex, stored.base.index);
  if (isThere && (term === undefined || holdsDurably(stored, { index, term }))) return;
  const what = `${from} acknowledges entry ${index} of term ${term}; its disk ends at ${stored.lastIndex} and has term ${durableTerm(stored, index)} there`;
  throw new ViolationError(rule, what, partitionId);
}

function checkVote(
  safety: Safety,
  sent: Promised<Extract<PeerMessage, { type: 'requestVoteResponse' }>>,
): void {
  const { from, partitionId, message } = sent;
  const { votes } = partitionRecord(safety, partitionId);
  // A readmitted node is another replica than the one whose votes its disk forgot.
  const key = `${message.from} ${message.term}`;
  const known = votes.get(key);
  if (known !== undefined && known !== message.to) {
    throw new ViolationError(
      'One vote per term: a replica votes for one candidate in a term, over crashes too',
      `${from} voted for ${safety.nodeIdOf(known)} and for ${safety.nodeIdOf(message.to)} in term ${message.term}`,
      partitionId,
    );
  }
  votes.set(key, message.to);
  const hardState = safety.durable(from).partitions.get(partitionId)?.hardState;
  const isDurable =
    hardState !== undefined &&
    (hardState.term > message.term ||
      (hardState.term === message.term && hardState.votedFor === message.to));
  if (isDurable) return;
  throw new ViolationError(
    'Durable before acknowledged: a vote is on disk before it is given',
    `${from} votes for ${safety.nodeIdOf(message.to)} in term ${message.term}; its disk has term ${hardState?.term ?? 0} and a vote for ${hardState?.votedFor ?? 'nobody'}`,
    partitionId,
  );
}
