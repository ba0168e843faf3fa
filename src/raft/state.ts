// The whole state of one replica: Figure 2 of the paper, what a leader and a candidate add to it, and the outbox. It
// is one struct; the other files of this folder hold functions over it. Nobody outside this folder writes it.

import { assert } from '../base/assert.ts';
import type { Random } from '../base/random.ts';
import { type LogStorage, openLog, type RaftLog } from './log.ts';
import { checkConfState, membersOf } from './membership.ts';
import { newProgress, type Progress } from './progress.ts';
import type { ReadIndexState } from './read-index.ts';
import { newReadIndexState } from './read-index.ts';
import type { ReadState, SoftState } from './ready.ts';
import { newRecording, type Recording, recordedConfig } from './recording.ts';
import type { TraceEvent } from './trace.ts';
import {
  type ConfState,
  type HardState,
  type LogIndex,
  type Message,
  type PeerMessage,
  type ReplicaId,
  Role,
  type Term,
  type TermRun,
} from './types.ts';

/** What the store had when the replica was opened. */
export interface InitialState {
  readonly hardState: HardState;
  /**
   * The configuration at `appliedIndex`. A group's first members stand in no entry, so the log of a group must begin
   * behind a snapshot that has them: whoever joins later would otherwise never learn of them.
   */
  readonly confState: ConfState;
  /** The log begins behind this position. */
  readonly compacted: { readonly index: LogIndex; readonly term: Term };
  readonly lastIndex: LogIndex;
  /** Terms of `compacted.index + 1 … lastIndex`. */
  readonly termRuns: readonly TermRun[];
  /** What the state machine has. At least `compacted.index`. */
  readonly appliedIndex: LogIndex;
}

export interface RaftConfig {
  readonly id: ReplicaId;
  readonly initial: InitialState;
  readonly storage: LogStorage;
  /** Drawn from at every election attempt; must differ between replicas. */
  readonly random: Random;
  /** Ticks without a leader before an election: drawn from [electionTicks, 2 × electionTicks). */
  readonly electionTicks: number;
  /** Ticks between heartbeats; less than `electionTicks`. */
  readonly heartbeatTicks: number;
  /** Ticks after which a snapshot that was neither confirmed nor refused is given up. */
  readonly snapshotTicks: number;
  /** Storage work becomes requests that carry their responses; see `ready.ts`. */
  readonly asyncStorageWrites: boolean;
  /** Entry bytes (`entryBytes`) in one append message; at least one entry is sent. */
  readonly appendBytesMax: number;
  /** Entry bytes that are being applied at one time; at least one entry is. */
  readonly applyingBytesMax: number;
  /** Payload bytes in a leader's log that are not yet applied. */
  readonly uncommittedBytesMax: number;
  readonly inflightMessagesMax: number;
  readonly inflightBytesMax: number;
  /** Read-index requests that wait for their round at one time. */
  readonly pendingReadsMax: number;
  /** A leader that does not hear from a quorum for `electionTicks` steps down (thesis 6.2). */
  readonly checkQuorum: boolean;
  /** Ask before campaigning (thesis 9.6). */
  readonly preVote: boolean;
  /**
   * `safe`: a read index is confirmed by a round of heartbeats. `lease`: served from the leader's lease as long as it
   * is valid (thesis 6.4.1), which trusts clocks: it requires `checkQuorum`.
   */
  readonly reads: 'safe' | 'lease';
  /**
   * Lease reads: how much faster than ours another replica's clock may run, as a fraction in [0, 1). The lease lasts
   * floor((electionTicks − 1) × (1 − bound)) ticks from when the heartbeats of a confirmed round were sent.
   */
  readonly clockDriftBound: number;
  /** Refuse configuration changes that cannot be applied. Off only where scripted scenarios say so. */
  readonly confChangeValidation: boolean;
  /** A leader that is no voter any more becomes follower as soon as that is applied. */
  readonly stepDownOnRemoval: boolean;
  /**
   * Election priority, 0 … `priorityMax`. Each step below the maximum waits one `electionTicks` longer before it
   * campaigns; 0 never campaigns by timeout (it still obeys a leadership transfer).
   */
  readonly priority: number;
  readonly trace: ((event: TraceEvent) => void) | undefined;
  /** Bytes for the recording of the last inputs (`recording.ts`), about. Absent: nothing is recorded. */
  readonly recordingBytesMax?: number;
}

/** The highest election priority. */
export const priorityMax = 3;

export interface RaftState {
  readonly config: RaftConfig;
  readonly id: ReplicaId;
  /** The last inputs, when they are recorded. */
  readonly recording: Recording | undefined;

  // Persistent (Figure 2); durable before any answer that depends on it is sent.
  currentTerm: Term;
  /** Invariant: set at most once per term. */
  votedFor: ReplicaId | undefined;
  readonly log: RaftLog;

  // Volatile.
  role: Role;
  leader: ReplicaId | undefined;
  confState: ConfState;
  /** The entry or snapshot that made `confState`; changes at or below it are in it already. */
  confIndex: LogIndex;
  /** Of every member, this replica included. Invariant: its keys are the members of `confState`, ascending. */
  progress: Map<ReplicaId, Progress>;
  /** Votes of the running campaign. */
  readonly votes: Map<ReplicaId, boolean>;

  /** Ticks since the timer was last restarted: by a leader's message, a granted vote or a campaign. */
  electionElapsed: number;
  heartbeatElapsed: number;
  randomizedElectionTicks: number;
  /**
   * Lease mode: ticks for which this replica neither votes nor campaigns, unless the leader itself hands over. It has
   * promised so to a leader whose message it took, or may have before a restart; a later term does not end the promise.
   */
  voteEmbargoTicks: number;

  // Leader only.
  /** To whom leadership is being handed over; proposals are refused meanwhile (thesis 3.10). */
  transferee: ReplicaId | undefined;
  /** Ticks since the transfer began. */
  transferElapsed: number;
  /** No configuration change is proposed before this index is applied. */
  pendingConfChangeIndex: LogIndex;
  /** Payload bytes proposed in this term and not yet applied. */
  uncommittedBytes: number;
  readonly reads: ReadIndexState;

  // Outbox.
  messages: PeerMessage[];
  /** To be given out only after the present unstable state is durable. */
  messagesAfterAppend: PeerMessage[];
  readStates: ReadState[];
  /** Synchronous mode: stepped by `advance`. */
  stepsOnAdvance: Message[];
  prevSoftState: SoftState;
  prevHardState: HardState;
}

export function newRaftState(options: RaftConfig): RaftState {
  checkConfig(options);
  const recording =
    options.recordingBytesMax === undefined ? undefined : newRecording(options.recordingBytesMax);
  const config = recording === undefined ? options : recordedConfig(recording, options);
  const { initial } = config;
  checkConfState(initial.confState);
  const log = openLog({
    storage: config.storage,
    applyingBytesMax: config.applyingBytesMax,
    compacted: initial.compacted,
    lastIndex: initial.lastIndex,
    termRuns: initial.termRuns,
    // The stored commit index may lag behind what was applied, which was committed all the same.
    commitIndex: Math.max(initial.hardState.commitIndex, initial.appliedIndex),
    appliedIndex: initial.appliedIndex,
  });
  const state: RaftState = {
    config,
    id: config.id,
    recording,
    currentTerm: initial.hardState.term,
    votedFor: initial.hardState.votedFor,
    log,
    role: Role.follower,
    leader: undefined,
    confState: initial.confState,
    confIndex: initial.appliedIndex,
    progress: new Map(),
    votes: new Map(),
    electionElapsed: 0,
    heartbeatElapsed: 0,
    randomizedElectionTicks: config.electionTicks,
    // Who never was in a term has promised nothing.
    voteEmbargoTicks:
      config.reads === 'lease' && initial.hardState.term > 0 ? config.electionTicks : 0,
    transferee: undefined,
    transferElapsed: 0,
    pendingConfChangeIndex: 0,
    uncommittedBytes: 0,
    reads: newReadIndexState(),
    messages: [],
    messagesAfterAppend: [],
    readStates: [],
    stepsOnAdvance: [],
    prevSoftState: { leader: undefined, role: Role.follower },
    prevHardState: initial.hardState,
  };
  adoptMembers(state, initial.confState);
  return state;
}

/** Makes `confState` the configuration: new members get a fresh progress, removed ones lose theirs. */
export function adoptMembers(state: RaftState, confState: ConfState): void {
  const progress = new Map<ReplicaId, Progress>();
  for (const id of membersOf(confState)) {
    const isLearner = confState.learners.includes(id);
    const known = state.progress.get(id);
    if (known !== undefined) known.isLearner = isLearner;
    progress.set(id, known ?? progressOfNewMember(state, isLearner));
  }
  state.confState = confState;
  state.progress = progress;
}

function progressOfNewMember(state: RaftState, isLearner: boolean): Progress {
  const { inflightMessagesMax, inflightBytesMax } = state.config;
  return newProgress({
    nextIndex: Math.max(state.log.lastIndex, 1),
    isLearner,
    // Otherwise check-quorum could depose a leader that has just added replicas and had no time to hear from them.
    isRecentlyActive: true,
    inflightMessagesMax,
    inflightBytesMax,
  });
}

export function hardStateOf(state: RaftState): HardState {
  return {
    term: state.currentTerm,
    votedFor: state.votedFor,
    commitIndex: state.log.commitIndex,
  };
}

function checkConfig(config: RaftConfig): void {
  assert(Number.isSafeInteger(config.id) && config.id > 0, 'a replica id is a positive integer');
  assert(config.heartbeatTicks > 0, 'heartbeatTicks is positive');
  assert(config.electionTicks > config.heartbeatTicks, 'electionTicks > heartbeatTicks');
  assert(config.snapshotTicks > config.electionTicks, 'snapshotTicks > electionTicks');
  assert(config.inflightMessagesMax > 0, 'inflightMessagesMax is positive');
  assert(config.inflightBytesMax >= config.appendBytesMax, 'a full append fits the window');
  assert(config.pendingReadsMax > 0, 'pendingReadsMax is positive');
  assert(config.reads === 'safe' || config.checkQuorum, 'lease reads need check-quorum');
  assert(
    config.clockDriftBound >= 0 && config.clockDriftBound < 1,
    'clockDriftBound is a fraction',
  );
  assert(config.priority >= 0 && config.priority <= priorityMax, 'priority is 0 … priorityMax');
}
