// A cluster of real cores in memory: a network that is a list of messages, disks that forget what was not synced, and
// a state machine per replica. Nothing moves until a test says so, everything is drawn from one seed, and after every
// step the replica's invariants and the safety rules of the whole cluster are checked.

import { assert, must } from '../../src/base/assert.ts';
import { utf8Bytes, utf8Text } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import {
  type ConfChange,
  ConfChangeKind,
  decodeConfChange,
  type SingleChange,
  Transition,
} from '../../src/raft/conf-change.ts';
import {
  advance,
  applyConfChange,
  campaign,
  compactLog,
  hasReady,
  openRaft,
  propose,
  proposeConfChange,
  type StepOutcome,
  step,
  storageReady,
  takeReady,
  tick,
  trimLog,
} from '../../src/raft/raft.ts';
import type { ReadState, Ready, StorageAppend, StorageApply } from '../../src/raft/ready.ts';
import type { ProposeOutcome } from '../../src/raft/replication.ts';
import { priorityMax, type RaftConfig, type RaftState } from '../../src/raft/state.ts';
import type { TraceEvent } from '../../src/raft/trace.ts';
import {
  type ConfState,
  type Entry,
  EntryKind,
  emptyConfState,
  type LogIndex,
  type Message,
  type PeerMessage,
  payloadOf,
  proposedEntry,
  type ReplicaId,
  Role,
  type Snapshot,
  type Term,
} from '../../src/raft/types.ts';
import {
  compactDisk,
  type Disk,
  emptyDisk,
  firstDisk,
  lastIndexOf,
  loseUnsynced,
  readFrom,
  syncDisk,
  termRunsOf,
  writeTo,
} from './core-disk.ts';
import {
  checkApplied,
  checkMatching,
  checkPromise,
  checkReplica,
  type Life,
  newLife,
  newSafetyRecord,
  type SafetyRecord,
} from './core-safety.ts';

/** Options of every core of a cluster. Storage, identity, randomness and tracing come from the cluster. */
export type CoreOptions = Partial<
  Omit<RaftConfig, 'id' | 'initial' | 'storage' | 'random' | 'trace'>
>;

export interface ClusterOptions extends CoreOptions {
  readonly voters: readonly ReplicaId[];
  readonly learners?: readonly ReplicaId[];
  /** Replicas that run but know of no members yet. */
  readonly strangers?: readonly ReplicaId[];
  readonly seed?: number;
  /** Options of single replicas. */
  readonly optionsOf?: Readonly<Record<ReplicaId, CoreOptions>>;
}

/** What was applied, in order: the texts of all entries that have one. */
export interface Machine {
  index: LogIndex;
  term: Term;
  confState: ConfState;
  texts: readonly string[];
}

export interface Replica {
  readonly id: ReplicaId;
  readonly options: CoreOptions;
  state: RaftState;
  life: Life;
  isUp: boolean;
  readonly disk: Disk;
  machine: Machine;
  /** Asynchronous mode: requests of the core that are not carried out yet. */
  appendWork: StorageAppend[];
  applyWork: StorageApply[];
  /** A stalled disk does nothing until a test says so. In synchronous mode the whole replica waits for it. */
  isDiskStalled: boolean;
  /** Entries below the core's memory are not at hand: reading them must wait for `warmUp`. */
  isDiskCold: boolean;
  /** Answers to read-index questions, oldest first. */
  readStates: ReadState[];
  /** What the core reported in this life, oldest first. */
  events: TraceEvent[];
}

export interface CoreCluster {
  readonly seed: number;
  readonly replicas: ReadonlyMap<ReplicaId, Replica>;
  /** Messages on the way, oldest first. */
  network: PeerMessage[];
  /** Messages for which it holds are lost when they are sent. */
  isLost: (message: PeerMessage) => boolean;
  /** Every message that was sent, lost ones included. */
  readonly sent: PeerMessage[];
  readonly safety: SafetyRecord;
}

const defaultOptions = {
  electionTicks: 10,
  heartbeatTicks: 2,
  snapshotTicks: 30,
  asyncStorageWrites: false,
  appendBytesMax: 1_000_000,
  applyingBytesMax: 1_000_000,
  uncommittedBytesMax: 1_000_000,
  inflightMessagesMax: 64,
  inflightBytesMax: 1_000_000,
  pendingReadsMax: 64,
  checkQuorum: false,
  preVote: false,
  reads: 'safe',
  clockDriftBound: 0,
  confChangeValidation: true,
  stepDownOnRemoval: true,
  priority: priorityMax,
} as const;

/** Every scenario settles long before; one that does not is a core that talks to itself. */
const settleRoundsMax = 2_000;

export function newCluster(options: ClusterOptions): CoreCluster {
  const { voters, learners = [], strangers = [], seed = 1, optionsOf = {}, ...core } = options;
  const replicas = new Map<ReplicaId, Replica>();
  const cluster: CoreCluster = {
    seed,
    replicas,
    network: [],
    isLost: () => false,
    sent: [],
    safety: newSafetyRecord(),
  };
  const confState = { ...emptyConfState, voters, learners };
  for (const id of [...voters, ...learners, ...strangers]) {
    const disk = strangers.includes(id) ? emptyDisk() : firstDisk(confState);
    const own = { ...core, ...optionsOf[id] };
    const life = newLife(id, 0);
    const opened: Omit<Replica, 'state'> = {
      id,
      options: own,
      life,
      isUp: true,
      disk,
      machine: machineOf(disk.durable.snapshot),
      appendWork: [],
      applyWork: [],
      isDiskStalled: false,
      isDiskCold: false,
      readStates: [],
      events: [],
    };
    const replica = opened as Replica;
    replica.state = openCore(cluster, replica);
    replicas.set(id, replica);
  }
  return cluster;
}

function openCore(cluster: CoreCluster, replica: Replica): RaftState {
  const { id, disk } = replica;
  const image = disk.written;
  return openRaft({
    ...defaultOptions,
    ...replica.options,
    id,
    initial: {
      hardState: image.hardState,
      confState: image.snapshot.confState,
      compacted: image.compacted,
      lastIndex: lastIndexOf(image),
      termRuns: termRunsOf(image),
      appliedIndex: image.snapshot.index,
    },
    storage: {
      entries: (fromIndex, endIndex, bytesMax) =>
        replica.isDiskCold ? undefined : readFrom(disk.written, { fromIndex, endIndex, bytesMax }),
      snapshot: () => {
        const { snapshot } = disk.written;
        return snapshot.index === 0 || replica.isDiskCold ? undefined : snapshot;
      },
    },
    random: seededRandom(cluster.seed * 1_009 + id * 31 + replica.life.number),
    trace: (event) => replica.events.push(event),
  });
}

export function replicaOf(cluster: CoreCluster, id: ReplicaId): Replica {
  return must(cluster.replicas.get(id), `replica ${id} is in the cluster`);
}

export function stateOf(cluster: CoreCluster, id: ReplicaId): RaftState {
  return replicaOf(cluster, id).state;
}

/** Does something to one core and checks the rules afterwards. */
export function act<T>(cluster: CoreCluster, id: ReplicaId, doIt: (state: RaftState) => T): T {
  const replica = replicaOf(cluster, id);
  assert(replica.isUp, `replica ${id} is up`);
  const result = doIt(replica.state);
  checkReplica(cluster.safety, replica.life, replica.state);
  return result;
}

/** How far a turn in synchronous mode gets before the power fails. */
export type TurnEnd = 'taken' | 'stored' | 'sent' | 'done';

/**
 * Takes one Ready and carries it out. In asynchronous mode storage work is only queued.
 *
 * @param end synchronous mode: where to stop. The replica must crash then
 * @returns whether there was one
 */
export function turn(cluster: CoreCluster, id: ReplicaId, end: TurnEnd = 'done'): boolean {
  const replica = replicaOf(cluster, id);
  const { state } = replica;
  if (!replica.isUp || !hasReady(state)) return false;
  const ready = act(cluster, id, takeReady);
  checkReadyEntries(cluster, replica, ready);
  replica.readStates.push(...ready.readStates);
  if (state.config.asyncStorageWrites) {
    sendAll(cluster, replica, ready.messages);
    if (ready.storageAppend !== undefined) replica.appendWork.push(ready.storageAppend);
    if (ready.storageApply !== undefined) replica.applyWork.push(ready.storageApply);
    return true;
  }
  if (end === 'taken') return true;
  store(replica, { ...ready, mustSync: ready.mustSync || ready.snapshot !== undefined });
  if (end === 'stored') return true;
  sendAll(cluster, replica, ready.messages);
  if (end === 'sent') return true;
  applyEntries(cluster, replica, ready.committedEntries);
  act(cluster, id, advance);
  return true;
}

function checkReadyEntries(cluster: CoreCluster, { disk, state }: Replica, ready: Ready): void {
  const [first] = ready.entries;
  if (first !== undefined) {
    const position = first.index - 1;
    const previous = disk.written.entries[position - disk.written.compacted.index - 1];
    // Behind entries that are still on their way to the disk the previous term is not known here.
    const isInOrder = !state.config.asyncStorageWrites && position > disk.written.compacted.index;
    checkMatching(cluster.safety, isInOrder ? previous?.term : undefined, ready.entries);
  }
  for (const message of ready.messages) {
    if (message.type !== 'appendEntries') continue;
    checkMatching(cluster.safety, message.prevLogTerm, message.entries);
  }
}

function sendAll(cluster: CoreCluster, replica: Replica, messages: readonly PeerMessage[]): void {
  for (const message of messages) {
    checkPromise(message, replica.disk.durable);
    cluster.sent.push(message);
    if (!cluster.isLost(message)) cluster.network.push(message);
  }
}

function store(
  replica: Replica,
  work: Pick<StorageAppend, 'hardState' | 'entries' | 'snapshot' | 'mustSync' | 'mustKeepCommit'>,
): void {
  const { hardState, entries, snapshot } = work;
  writeTo(replica.disk, { hardState, entries, snapshot });
  if (work.mustSync || work.mustKeepCommit) syncDisk(replica.disk);
  if (snapshot !== undefined && snapshot.index > replica.machine.index) {
    replica.machine = machineOf(snapshot);
  }
}

/** Asynchronous mode: carries out the oldest request to the disk. @returns whether there was one */
export function workDisk(cluster: CoreCluster, id: ReplicaId): boolean {
  const replica = replicaOf(cluster, id);
  const work = replica.isUp ? replica.appendWork.shift() : undefined;
  if (work === undefined) return false;
  store(replica, work);
  for (const message of work.responses) giveResponse(cluster, replica, message);
  return true;
}

function giveResponse(cluster: CoreCluster, replica: Replica, message: Message): void {
  const isLocal = message.type === 'storageAppended' || message.type === 'storageApplied';
  if (isLocal || message.to === replica.id) {
    if (!isLocal) checkPromise(message, replica.disk.durable);
    act(cluster, replica.id, (state) => step(state, message));
  } else {
    sendAll(cluster, replica, [message]);
  }
}

/** Asynchronous mode: carries out the oldest request to the state machine. @returns whether there was one */
export function workApply(cluster: CoreCluster, id: ReplicaId): boolean {
  const replica = replicaOf(cluster, id);
  const work = replica.isUp ? replica.applyWork.shift() : undefined;
  if (work === undefined) return false;
  applyEntries(cluster, replica, work.entries);
  giveResponse(cluster, replica, work.response);
  return true;
}

function applyEntries(cluster: CoreCluster, replica: Replica, entries: readonly Entry[]): void {
  for (const entry of entries) {
    const { machine } = replica;
    // A snapshot that was installed meanwhile covers entries that still waited.
    if (entry.index <= machine.index) continue;
    assert(entry.index === machine.index + 1, 'entries are applied in order, each once');
    checkApplied(cluster.safety, entry);
    machine.index = entry.index;
    machine.term = entry.term;
    if (entry.kind === EntryKind.confChange) {
      const change = decodeConfChange(payloadOf(entry));
      machine.confState = act(cluster, replica.id, (state) =>
        applyConfChange(state, change, entry.index),
      );
    } else if (entry.end > entry.start) {
      machine.texts = [...machine.texts, utf8Text(payloadOf(entry))];
    }
  }
}

function machineOf({ index, term, confState, data }: Snapshot): Machine {
  const texts = data.byteLength === 0 ? [] : (JSON.parse(utf8Text(data)) as string[]);
  return { index, term, confState, texts };
}

/** Lets a replica do everything that it can do by itself. @returns whether there was anything */
export function work(cluster: CoreCluster, id: ReplicaId): boolean {
  const replica = replicaOf(cluster, id);
  const isAsync = replica.state.config.asyncStorageWrites;
  if (replica.isDiskStalled && !isAsync) return false;
  let isBusy = false;
  for (let hasMore = true; hasMore; ) {
    hasMore = turn(cluster, id);
    hasMore = (!replica.isDiskStalled && workDisk(cluster, id)) || hasMore;
    hasMore = workApply(cluster, id) || hasMore;
    isBusy ||= hasMore;
  }
  return isBusy;
}

/** Hands a message to its receiver, if that is up. */
export function deliver(cluster: CoreCluster, message: PeerMessage): StepOutcome | 'down' {
  const replica = replicaOf(cluster, message.to);
  if (!replica.isUp) return 'down';
  return act(cluster, message.to, (state) => step(state, message));
}

/** Hands over all messages that are on the way now, in order. @returns whether there were any */
export function deliverAll(cluster: CoreCluster): boolean {
  const { network } = cluster;
  cluster.network = [];
  for (const message of network) deliver(cluster, message);
  return network.length > 0;
}

/** Lets everybody work and talk until nothing is left to do. No time passes. */
export function settle(cluster: CoreCluster): void {
  for (let round = 0; round < settleRoundsMax; round++) {
    let isBusy = false;
    for (const id of cluster.replicas.keys()) isBusy = work(cluster, id) || isBusy;
    isBusy = deliverAll(cluster) || isBusy;
    if (!isBusy) return;
  }
  throw new Error(`not settled after ${settleRoundsMax} rounds`);
}

/** Time passes for one replica. */
export function tickOne(cluster: CoreCluster, id: ReplicaId, count = 1): void {
  for (let i = 0; i < count; i++) act(cluster, id, tick);
}

/** Time passes for everybody who is up; after every tick everything settles. */
export function pass(cluster: CoreCluster, ticks: number): void {
  for (let i = 0; i < ticks; i++) {
    for (const replica of cluster.replicas.values()) {
      if (replica.isUp) tickOne(cluster, replica.id);
    }
    settle(cluster);
  }
}

/** A settled cluster with this leader, which everybody who can be reached follows. */
export function elect(cluster: CoreCluster, id: ReplicaId): void {
  act(cluster, id, campaign);
  settle(cluster);
  assert(stateOf(cluster, id).role === Role.leader, `replica ${id} was elected`);
}

/** A cluster that has settled under leader 1. */
export function ledCluster(options: Partial<ClusterOptions> = {}): CoreCluster {
  const cluster = newCluster({ voters: [1, 2, 3], ...options });
  // With lease reads a start may be a restart that forgot a promise; here it is the first one.
  for (const { state } of cluster.replicas.values()) state.voteEmbargoTicks = 0;
  elect(cluster, 1);
  // Followers learn by a heartbeat what was committed last.
  pass(cluster, 2);
  return cluster;
}

export function leadersOf(cluster: CoreCluster): ReplicaId[] {
  return upReplicas(cluster)
    .filter(({ state }) => state.role === Role.leader)
    .map(({ id }) => id);
}

export function upReplicas(cluster: CoreCluster): Replica[] {
  return [...cluster.replicas.values()].filter(({ isUp }) => isUp);
}

/** Proposes texts as one proposal. */
export function proposeTexts(
  cluster: CoreCluster,
  id: ReplicaId,
  ...texts: readonly string[]
): ProposeOutcome {
  const proposals = texts.map((text) => proposedEntry(EntryKind.normal, utf8Bytes(text)));
  return act(cluster, id, (state) => propose(state, proposals));
}

export function proposeChange(
  cluster: CoreCluster,
  id: ReplicaId,
  changes: readonly SingleChange[],
  transition: Transition = Transition.auto,
): ProposeOutcome {
  const change: ConfChange = { transition, changes, context: new Uint8Array(0) };
  return act(cluster, id, (state) => proposeConfChange(state, change));
}

export function addVoter(replica: ReplicaId): SingleChange {
  return { kind: ConfChangeKind.addVoter, replica };
}

export function addLearner(replica: ReplicaId): SingleChange {
  return { kind: ConfChangeKind.addLearner, replica };
}

export function remove(replica: ReplicaId): SingleChange {
  return { kind: ConfChangeKind.remove, replica };
}

/** The process dies. Of its unsynced writes the first `survivingCount` are on the disk. */
export function crash(cluster: CoreCluster, id: ReplicaId, survivingCount = 0): void {
  const replica = replicaOf(cluster, id);
  assert(replica.isUp, `replica ${id} is up`);
  replica.isUp = false;
  replica.appendWork = [];
  replica.applyWork = [];
  loseUnsynced(replica.disk, survivingCount);
}

/** A replica starts again with what its disk has. */
export function restart(cluster: CoreCluster, id: ReplicaId): void {
  const replica = replicaOf(cluster, id);
  assert(!replica.isUp, `replica ${id} is down`);
  replica.isUp = true;
  replica.life = newLife(id, replica.life.number + 1);
  replica.machine = machineOf(replica.disk.durable.snapshot);
  replica.readStates = [];
  replica.events = [];
  replica.state = openCore(cluster, replica);
  act(cluster, id, () => {});
}

/** Stores a snapshot of what is applied and drops the log up to `throughIndex`. */
export function compact(cluster: CoreCluster, id: ReplicaId, throughIndex?: LogIndex): void {
  const replica = replicaOf(cluster, id);
  const { index, term, confState, texts } = replica.machine;
  const snapshot = { index, term, confState, data: utf8Bytes(JSON.stringify(texts)) };
  compactDisk(replica.disk, snapshot, throughIndex ?? index);
  act(cluster, id, (state) => compactLog(state, throughIndex ?? index));
}

/** The core forgets what its disk has: entries are read from there from now on. */
export function trim(cluster: CoreCluster, id: ReplicaId): void {
  const stored = lastIndexOf(replicaOf(cluster, id).disk.durable);
  act(cluster, id, (state) => trimLog(state, stored));
}

/** The entries that a cold disk did not have at hand are there now. */
export function warmUp(cluster: CoreCluster, id: ReplicaId): void {
  replicaOf(cluster, id).isDiskCold = false;
  act(cluster, id, storageReady);
}

/** From now on nothing passes between `group` and the others; what is on the way between them is lost. */
export function partition(cluster: CoreCluster, group: readonly ReplicaId[]): void {
  const isCut = ({ from, to }: PeerMessage) => group.includes(from) !== group.includes(to);
  cluster.isLost = isCut;
  cluster.network = cluster.network.filter((message) => !isCut(message));
}

export function heal(cluster: CoreCluster): void {
  cluster.isLost = () => false;
}

/** Takes messages off the network: the test decides what becomes of them. */
export function intercept<Type extends PeerMessage['type']>(
  cluster: CoreCluster,
  type: Type,
  filter: { readonly from?: ReplicaId; readonly to?: ReplicaId } = {},
): Extract<PeerMessage, { type: Type }>[] {
  const taken: Extract<PeerMessage, { type: Type }>[] = [];
  cluster.network = cluster.network.filter((message) => {
    if (message.type !== type) return true;
    if (filter.from !== undefined && message.from !== filter.from) return true;
    if (filter.to !== undefined && message.to !== filter.to) return true;
    taken.push(message as Extract<PeerMessage, { type: Type }>);
    return false;
  });
  return taken;
}

/** The texts that a replica's log holds behind its snapshot, committed or not. */
export function logTexts(cluster: CoreCluster, id: ReplicaId): string[] {
  const { log } = stateOf(cluster, id);
  const replica = replicaOf(cluster, id);
  const texts: string[] = [];
  for (let index = log.compactedIndex + 1; index <= log.lastIndex; index++) {
    const entry =
      index >= log.tailFirstIndex
        ? log.tail[index - log.tailFirstIndex]
        : replica.disk.written.entries[index - replica.disk.written.compacted.index - 1];
    const { kind, end, start } = must(entry, 'the log has no holes');
    if (kind === EntryKind.normal && end > start) texts.push(utf8Text(payloadOf(must(entry, ''))));
  }
  return texts;
}

/** Calls `register` once per storage mode; the name says which. */
export function inBothModes(
  register: (name: string, mode: { readonly asyncStorageWrites: boolean }) => void,
): void {
  register('synchronous storage', { asyncStorageWrites: false });
  register('asynchronous storage', { asyncStorageWrites: true });
}
