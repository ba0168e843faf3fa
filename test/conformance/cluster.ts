// A cluster of cores on one network that is a list of messages: nothing moves until a directive says so. Each node has
// its log store, and two work queues that stand for the storage threads of the asynchronous mode. What nodes do is in
// turns.ts, what is asked of them in wishes.ts.

import { assert } from '../../src/base/assert.ts';
import { utf8Bytes } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { checkInvariants, openRaft, raftStatus, trimLog } from '../../src/raft/raft.ts';
import type { StorageAppend, StorageApply } from '../../src/raft/ready.ts';
import { priorityMax, type RaftState } from '../../src/raft/state.ts';
import {
  type ConfState,
  emptyConfState,
  type LogIndex,
  type Message,
  type ReplicaId,
  Role,
  type Snapshot,
  type Term,
} from '../../src/raft/types.ts';
import { DirectiveError } from './arguments.ts';
import type { Picture } from './describe.ts';
import type { Output } from './output.ts';
import {
  lastStoredIndex,
  newStoredLog,
  readEntries,
  type StoredLog,
  storeSnapshot,
} from './stored-log.ts';

export interface NodeOptions {
  readonly voters: readonly ReplicaId[];
  readonly learners: readonly ReplicaId[];
  /** Nodes begin with a snapshot of this index; 0: with nothing at all. */
  readonly index: LogIndex;
  /** The state machine's state in that snapshot. */
  readonly content: string;
  readonly asyncStorageWrites: boolean;
  readonly inflightMessagesMax: number;
  readonly inflightBytesMax: number;
  readonly applyingBytesMax: number;
  readonly preVote: boolean;
  readonly checkQuorum: boolean;
  readonly reads: 'safe' | 'lease';
  readonly confChangeValidation: boolean;
  readonly stepDownOnRemoval: boolean;
}

export const defaultNodeOptions: NodeOptions = {
  voters: [],
  learners: [],
  index: 0,
  content: '',
  asyncStorageWrites: false,
  inflightMessagesMax: 0x7fff_ffff,
  inflightBytesMax: Number.POSITIVE_INFINITY,
  applyingBytesMax: Number.POSITIVE_INFINITY,
  preVote: false,
  checkQuorum: false,
  reads: 'safe',
  confChangeValidation: true,
  stepDownOnRemoval: false,
};

export const electionTicks = 3;
export const heartbeatTicks = 1;
/** The original waits for a snapshot's outcome for ever, so no scenario comes near this many ticks. */
const snapshotTicksMax = 1_000_000;

/** A message on the way to node `to`. */
export interface Envelope {
  readonly to: ReplicaId;
  /** From the node itself or from one of its storage threads: never lost. */
  readonly isLocal: boolean;
  readonly message: Message;
  readonly picture: Picture;
}

export interface AppendWork {
  readonly request: StorageAppend;
  readonly picture: Picture;
  readonly responses: readonly Envelope[];
}

export interface ApplyWork {
  readonly request: StorageApply;
  readonly picture: Picture;
  readonly response: Envelope;
}

export interface Node {
  readonly id: ReplicaId;
  readonly options: NodeOptions;
  readonly state: RaftState;
  readonly log: StoredLog;
  /** The state machine appends every payload to its state; its newest state is the snapshot that peers get. */
  machine: Snapshot;
  readonly appendWork: AppendWork[];
  readonly applyWork: ApplyWork[];
  /** Snapshots handed to the append thread, by index, until their response is stepped. */
  readonly snapshotsOnTheWay: Map<LogIndex, Snapshot>;
}

export interface Cluster {
  readonly nodes: Node[];
  readonly output: Output;
  /** Whether cores drop their copies of entries as soon as they may, so that they read them from the store. */
  readonly trimsLogs: boolean;
  network: Envelope[];
  /** What was applied at each index, by whichever node came first. */
  readonly applied: Map<LogIndex, string>;
  /** Who led each term. */
  readonly leaders: Map<Term, ReplicaId>;
}

export function newCluster(options: { readonly trimsLogs: boolean }): Cluster {
  const output = { isQuiet: false, text: '' };
  const { trimsLogs } = options;
  return { nodes: [], output, trimsLogs, network: [], applied: new Map(), leaders: new Map() };
}

export function addNodes(cluster: Cluster, count: number, options: NodeOptions): void {
  const isEmpty = options.index === 0 && options.voters.length + options.learners.length === 0;
  if (!isEmpty && options.index <= 1) {
    throw new DirectiveError('index must be specified as > 1 due to bootstrap');
  }
  for (let i = 0; i < count; i++) cluster.nodes.push(openNode(cluster.nodes.length + 1, options));
}

function openNode(id: ReplicaId, options: NodeOptions): Node {
  const { index } = options;
  const confState: ConfState = {
    ...emptyConfState,
    voters: options.voters.toSorted((a, b) => a - b),
    learners: options.learners.toSorted((a, b) => a - b),
  };
  const machine = { index, term: index === 0 ? 0 : 1, confState, data: utf8Bytes(options.content) };
  const log = newStoredLog();
  if (index > 0) storeSnapshot(log, machine);
  log.hardState = { ...log.hardState, commitIndex: index };
  const node: Omit<Node, 'state'> = {
    id,
    options,
    log,
    machine,
    appendWork: [],
    applyWork: [],
    snapshotsOnTheWay: new Map(),
  };
  const state = openRaft({
    id,
    initial: {
      hardState: log.hardState,
      confState,
      compacted: log.compacted,
      lastIndex: lastStoredIndex(log),
      termRuns: [],
      appliedIndex: index,
    },
    storage: {
      entries: (fromIndex, endIndex, bytesMax) =>
        readEntries(log, { fromIndex, endIndex, bytesMax }),
      snapshot: () => (opened.machine.index === 0 ? undefined : opened.machine),
    },
    random: seededRandom(id),
    electionTicks,
    heartbeatTicks,
    asyncStorageWrites: options.asyncStorageWrites,
    snapshotTicks: snapshotTicksMax,
    appendBytesMax: options.inflightBytesMax,
    applyingBytesMax: options.applyingBytesMax,
    uncommittedBytesMax: Number.POSITIVE_INFINITY,
    inflightMessagesMax: options.inflightMessagesMax,
    inflightBytesMax: options.inflightBytesMax,
    pendingReadsMax: 1_000,
    checkQuorum: options.checkQuorum,
    preVote: options.preVote,
    reads: options.reads,
    clockDriftBound: 0,
    confChangeValidation: options.confChangeValidation,
    stepDownOnRemoval: options.stepDownOnRemoval,
    priority: priorityMax,
    trace: undefined,
  });
  const opened: Node = Object.assign(node, { state });
  return opened;
}

/** @throws DirectiveError when there is no such node */
export function nodeAt(cluster: Cluster, id: ReplicaId): Node {
  const node = cluster.nodes[id - 1];
  if (node === undefined) throw new DirectiveError(`there is no node ${id}`);
  return node;
}

/** What follows every step of a core: entries that it may drop go, and the rules of Raft are checked. */
export function settle(cluster: Cluster, { id, state, log }: Node): void {
  if (cluster.trimsLogs) {
    trimLog(state, Math.min(lastStoredIndex(log), raftStatus(state).lastApplied));
  }
  checkInvariants(state);
  const { role, term } = raftStatus(state);
  if (role !== Role.leader) return;
  const known = cluster.leaders.get(term) ?? id;
  assert(known === id, 'a term has one leader (§5.2)');
  cluster.leaders.set(term, id);
}

/** Checks the rules of Raft on all nodes. */
export function checkCluster(cluster: Cluster): void {
  for (const node of cluster.nodes) settle(cluster, node);
}
