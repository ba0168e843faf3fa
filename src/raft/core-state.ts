// A copy of a core's whole state as plain JSON values without payloads: where a recording begins, what a replay ends
// in, and how the two are compared. The types are made from those of the state, so that a new field of the state does
// not compile until it is copied and restored here.

import { assert } from '../base/assert.ts';
import {
  type EntryRun,
  entriesOf,
  filledMessage,
  filledSnapshot,
  type HollowMessage,
  type HollowSnapshot,
  hollowMessage,
  hollowSnapshot,
  runsOf,
} from './hollow.ts';
import { addInflight, type Inflights, newInflights } from './inflights.ts';
import type { RaftLog } from './log.ts';
import type { Progress } from './progress.ts';
import type { ReadIndexState } from './read-index.ts';
import type { RaftConfig, RaftState } from './state.ts';
import { type Entry, type PeerMessage, payloadBytesOf, type ReplicaId } from './types.ts';

/** The options of a core that are plain values. */
export type CoreConfig = Omit<RaftConfig, 'initial' | 'storage' | 'random' | 'trace'>;

/** Everything but the entries in memory. */
export interface CoreCopy
  extends Readonly<
    Omit<
      RaftState,
      | 'config'
      | 'id'
      | 'recording'
      | 'log'
      | 'progress'
      | 'votes'
      | 'reads'
      | 'messages'
      | 'messagesAfterAppend'
      | 'stepsOnAdvance'
    >
  > {
  readonly log: LogCopy;
  readonly progress: readonly (readonly [ReplicaId, ProgressCopy])[];
  readonly votes: readonly (readonly [ReplicaId, boolean])[];
  readonly reads: ReadsCopy;
  readonly messages: readonly HollowMessage[];
  readonly messagesAfterAppend: readonly HollowMessage[];
  readonly stepsOnAdvance: readonly HollowMessage[];
}

/** The whole state. */
export interface CoreState extends CoreCopy {
  /** The entries in memory, `log.tailFirstIndex … log.lastIndex`. */
  readonly tail: readonly EntryRun[];
}

type LogCopy = Readonly<
  Omit<RaftLog, 'storage' | 'applyingBytesMax' | 'tail' | 'tailBytes' | 'pendingSnapshot'>
> & { readonly pendingSnapshot: HollowSnapshot | undefined };

type ProgressCopy = Readonly<Omit<Progress, 'inflights'>> & {
  /** Last index and payload bytes of each message on the way, in turn, oldest first. */
  readonly inflights: readonly number[];
};

type ReadsCopy = Readonly<Omit<ReadIndexState, 'ackedRounds'>> & {
  readonly ackedRounds: readonly (readonly [ReplicaId, number])[];
};

export function coreConfigOf(config: RaftConfig): CoreConfig {
  const { initial: _initial, storage: _storage, random: _random, trace: _trace, ...plain } = config;
  return plain;
}

export function coreStateOf(state: RaftState): CoreState {
  return { ...copyCore(state), tail: runsOf(state.log.tail) };
}

/** The names of the fields in which two states differ. */
export function differencesOf(a: CoreState, b: CoreState): string[] {
  const names = (Object.keys(a) as (keyof CoreState)[]).filter((name) => name !== 'log');
  const logNames = Object.keys(a.log) as (keyof LogCopy)[];
  const isOther = (x: unknown, y: unknown): boolean => JSON.stringify(x) !== JSON.stringify(y);
  return [
    ...names.filter((name) => isOther(a[name], b[name])),
    ...logNames.filter((name) => isOther(a.log[name], b.log[name])).map((name) => `log.${name}`),
  ];
}

/** Lists are shared where nobody changes them in place. */
export function copyCore(state: RaftState): CoreCopy {
  return {
    currentTerm: state.currentTerm,
    votedFor: state.votedFor,
    role: state.role,
    leader: state.leader,
    confState: state.confState,
    confIndex: state.confIndex,
    electionElapsed: state.electionElapsed,
    heartbeatElapsed: state.heartbeatElapsed,
    randomizedElectionTicks: state.randomizedElectionTicks,
    voteEmbargoTicks: state.voteEmbargoTicks,
    transferee: state.transferee,
    transferElapsed: state.transferElapsed,
    pendingConfChangeIndex: state.pendingConfChangeIndex,
    uncommittedBytes: state.uncommittedBytes,
    log: copyLog(state.log),
    progress: Array.from(state.progress, ([id, progress]) => [id, copyProgress(progress)]),
    votes: [...state.votes],
    reads: copyReads(state.reads),
    messages: copyList(state.messages, hollowMessage),
    messagesAfterAppend: copyList(state.messagesAfterAppend, hollowMessage),
    readStates: [...state.readStates],
    stepsOnAdvance: copyList(state.stepsOnAdvance, hollowMessage),
    prevSoftState: state.prevSoftState,
    prevHardState: state.prevHardState,
  };
}

const nothing: readonly never[] = [];

/** Empty lists, which most are, cost nothing. */
function copyList<From, To>(list: readonly From[], copy: (value: From) => To): readonly To[] {
  return list.length === 0 ? nothing : list.map(copy);
}

function copyLog(log: RaftLog): LogCopy {
  const { pendingSnapshot } = log;
  return {
    compactedIndex: log.compactedIndex,
    compactedTerm: log.compactedTerm,
    termRuns: [...log.termRuns],
    lastIndex: log.lastIndex,
    confChangeIndex: log.confChangeIndex,
    tailFirstIndex: log.tailFirstIndex,
    stableIndex: log.stableIndex,
    handedIndex: log.handedIndex,
    pendingSnapshot: pendingSnapshot === undefined ? undefined : hollowSnapshot(pendingSnapshot),
    isPendingSnapshotHanded: log.isPendingSnapshotHanded,
    commitIndex: log.commitIndex,
    applyingIndex: log.applyingIndex,
    appliedIndex: log.appliedIndex,
    applyingBytes: log.applyingBytes,
    isApplyingPaused: log.isApplyingPaused,
    isStoreAwaited: log.isStoreAwaited,
  };
}

function copyProgress(progress: Progress): ProgressCopy {
  return {
    state: progress.state,
    matchIndex: progress.matchIndex,
    nextIndex: progress.nextIndex,
    snapshotIndex: progress.snapshotIndex,
    snapshotTicks: progress.snapshotTicks,
    sentCommitIndex: progress.sentCommitIndex,
    isRecentlyActive: progress.isRecentlyActive,
    isPaused: progress.isPaused,
    isLearner: progress.isLearner,
    inflights: copyInflights(progress.inflights),
  };
}

function copyInflights({ indexes, sizes, head, count }: Inflights): readonly number[] {
  if (count === 0) return nothing;
  const copy: number[] = [];
  for (let i = 0; i < count; i++) {
    const at = (head + i) % indexes.length;
    copy.push(indexes[at] as number, sizes[at] as number);
  }
  return copy;
}

function copyReads(reads: ReadIndexState): ReadsCopy {
  return {
    rounds: [...reads.rounds],
    lastRound: reads.lastRound,
    ackedRounds: [...reads.ackedRounds],
    waitingCount: reads.waitingCount,
    postponed: [...reads.postponed],
    leaderTicks: reads.leaderTicks,
    leaseFromTick: reads.leaseFromTick,
    leaseFloorRound: reads.leaseFloorRound,
    isLeaseForfeited: reads.isLeaseForfeited,
  };
}

/** A core in the state that was copied. `config.initial` is not looked at. */
export function restoreCore(config: RaftConfig, copy: CoreState): RaftState {
  const isPeerMessage = (message: HollowMessage): PeerMessage => {
    const filled = filledMessage(message);
    assert('to' in filled, 'the outbox holds messages for replicas');
    return filled;
  };
  return {
    config,
    id: config.id,
    recording: undefined,
    currentTerm: copy.currentTerm,
    votedFor: copy.votedFor,
    log: restoreLog(config, copy.log, entriesOf(copy.tail)),
    role: copy.role,
    leader: copy.leader,
    confState: copy.confState,
    confIndex: copy.confIndex,
    progress: new Map(copy.progress.map(([id, each]) => [id, restoreProgress(config, each)])),
    votes: new Map(copy.votes),
    electionElapsed: copy.electionElapsed,
    heartbeatElapsed: copy.heartbeatElapsed,
    randomizedElectionTicks: copy.randomizedElectionTicks,
    voteEmbargoTicks: copy.voteEmbargoTicks,
    transferee: copy.transferee,
    transferElapsed: copy.transferElapsed,
    pendingConfChangeIndex: copy.pendingConfChangeIndex,
    uncommittedBytes: copy.uncommittedBytes,
    reads: restoreReads(copy.reads),
    messages: copy.messages.map(isPeerMessage),
    messagesAfterAppend: copy.messagesAfterAppend.map(isPeerMessage),
    readStates: [...copy.readStates],
    stepsOnAdvance: copy.stepsOnAdvance.map(filledMessage),
    prevSoftState: copy.prevSoftState,
    prevHardState: copy.prevHardState,
  };
}

function restoreLog(config: RaftConfig, copy: LogCopy, tail: Entry[]): RaftLog {
  const { termRuns, pendingSnapshot, ...rest } = copy;
  return {
    ...rest,
    storage: config.storage,
    applyingBytesMax: config.applyingBytesMax,
    termRuns: [...termRuns],
    tail,
    tailBytes: payloadBytesOf(tail),
    pendingSnapshot: pendingSnapshot === undefined ? undefined : filledSnapshot(pendingSnapshot),
  };
}

function restoreProgress(config: RaftConfig, copy: ProgressCopy): Progress {
  const { inflights: onTheWay, ...rest } = copy;
  const inflights = newInflights({
    messagesMax: config.inflightMessagesMax,
    bytesMax: config.inflightBytesMax,
  });
  for (let i = 0; i < onTheWay.length; i += 2) {
    addInflight(inflights, onTheWay[i] as number, onTheWay[i + 1] as number);
  }
  return { ...rest, inflights };
}

function restoreReads(copy: ReadsCopy): ReadIndexState {
  const { rounds, ackedRounds, postponed, ...rest } = copy;
  return {
    ...rest,
    rounds: [...rounds],
    ackedRounds: new Map(ackedRounds),
    postponed: [...postponed],
  };
}
