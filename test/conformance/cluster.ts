// A cluster of cores on one network that is a list of messages: nothing moves until a directive says so. Each node has
// its log store, and two work queues that stand for the storage threads of the asynchronous mode.

import { assert, must } from '../../src/base/assert.ts';
import { utf8Bytes } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { SingleChange, Transition } from '../../src/raft/conf-change.ts';
import { emptyConfState, isVoter } from '../../src/raft/membership.ts';
import {
  advance,
  applyConfChange,
  campaign,
  checkInvariants,
  compactLog,
  forgetLeader,
  hasReady,
  openRaft,
  propose,
  proposeConfChange,
  raftStatus,
  reportUnreachable,
  step,
  takeReady,
  tick,
  transferLeadership,
  trimLog,
} from '../../src/raft/raft.ts';
import type { Ready, StorageAppend, StorageApply } from '../../src/raft/ready.ts';
import type { ProposeOutcome } from '../../src/raft/replication.ts';
import { priorityMax, type RaftState } from '../../src/raft/state.ts';
import {
  type ConfState,
  type Entry,
  EntryKind,
  type HardState,
  type LogIndex,
  type Message,
  payloadOf,
  proposedEntry,
  type ReplicaId,
  Role,
  type Snapshot,
  type Term,
} from '../../src/raft/types.ts';
import { DirectiveError } from './arguments.ts';
import {
  confChangeOf,
  describeEntry,
  describePicture,
  describeReady,
  describeRole,
  formatOneMark,
  type Picture,
  pictureOf,
} from './describe.ts';
import { describeProgressMap } from './describe-progress.ts';
import { indented, type Output, print } from './output.ts';
import {
  compactStored,
  lastStoredIndex,
  newStoredLog,
  readEntries,
  type StoredLog,
  storeEntries,
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

const electionTicks = 3;
const heartbeatTicks = 1;
/** The original waits for a snapshot's outcome for ever, so no scenario comes near this many ticks. */
const snapshotTicksMax = 1_000_000;
/** Every scenario settles long before; one that does not is a core that talks to itself. */
const stabilizeRoundsMax = 1_000;

/** A message on the way to node `to`. */
interface Envelope {
  readonly to: ReplicaId;
  /** From the node itself or from one of its storage threads: never lost. */
  readonly isLocal: boolean;
  readonly message: Message;
  readonly picture: Picture;
}

interface AppendWork {
  readonly request: StorageAppend;
  readonly picture: Picture;
  readonly responses: readonly Envelope[];
}

interface ApplyWork {
  readonly request: StorageApply;
  readonly picture: Picture;
  readonly response: Envelope;
}

interface Node {
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

export interface Recipient {
  readonly id: ReplicaId;
  readonly isDropped: boolean;
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

export function campaignAt(cluster: Cluster, id: ReplicaId): void {
  campaign(nodeAt(cluster, id).state);
}

export function forgetLeaderAt(cluster: Cluster, id: ReplicaId): void {
  forgetLeader(nodeAt(cluster, id).state);
}

export function tickAt(cluster: Cluster, id: ReplicaId, timer: 'election' | 'heartbeat'): void {
  const { state } = nodeAt(cluster, id);
  const count = timer === 'election' ? electionTicks : heartbeatTicks;
  for (let i = 0; i < count; i++) tick(state);
}

export function transferLeadershipAt(cluster: Cluster, from: ReplicaId, to: ReplicaId): void {
  transferLeadership(nodeAt(cluster, from).state, to);
}

export function reportUnreachableAt(cluster: Cluster, id: ReplicaId, peer: ReplicaId): void {
  reportUnreachable(nodeAt(cluster, id).state, nodeAt(cluster, peer).id);
}

/** The only field of a core that a scenario sets: its timeout is drawn at random otherwise. */
export function setElectionTimeout(cluster: Cluster, id: ReplicaId, ticks: number): void {
  assert(ticks > 0, 'a timeout is positive');
  nodeAt(cluster, id).state.randomizedElectionTicks = ticks;
}

export function proposeAt(cluster: Cluster, id: ReplicaId, content: string): void {
  const entry = proposedEntry(EntryKind.normal, utf8Bytes(content));
  refuseDropped(propose(nodeAt(cluster, id).state, [entry]));
}

export function proposeChangeAt(
  cluster: Cluster,
  id: ReplicaId,
  change: {
    readonly changes: readonly SingleChange[];
    readonly transition: Transition;
    readonly isFormatOne: boolean;
  },
): void {
  const { changes, transition, isFormatOne } = change;
  const context = isFormatOne ? formatOneMark : new Uint8Array(0);
  const { state } = nodeAt(cluster, id);
  refuseDropped(proposeConfChange(state, { changes, transition, context }));
}

function refuseDropped(outcome: ProposeOutcome): void {
  if (outcome === 'dropped') throw new DirectiveError('raft proposal dropped');
}

export function compactAt(cluster: Cluster, id: ReplicaId, index: LogIndex): void {
  const { log, state } = nodeAt(cluster, id);
  compactStored(log, index);
  compactLog(state, index);
  showLog(cluster, id);
}

export function showLog(cluster: Cluster, id: ReplicaId): void {
  const { log } = nodeAt(cluster, id);
  if (log.entries.length > 0) {
    print(cluster.output, log.entries.map((entry) => `${describeEntry(entry)}\n`).join(''));
    return;
  }
  const { index } = log.compacted;
  print(cluster.output, `log is empty: first index=${index + 1}, last index=${index}`);
}

/** What a leader knows of its followers; other roles know nothing. */
export function showProgress(cluster: Cluster, id: ReplicaId): void {
  const { state } = nodeAt(cluster, id);
  if (raftStatus(state).role !== Role.leader) return;
  print(cluster.output, describeProgressMap(state.progress));
}

export function showStates(cluster: Cluster): void {
  for (const { id, state } of cluster.nodes) {
    const { role, term, leader, confState } = raftStatus(state);
    const votes = isVoter(confState, id) ? '(Voter)' : '(Non-Voter)';
    const line = `${id}: ${describeRole(role)} ${votes} Term:${term} Lead:${leader ?? 0}\n`;
    print(cluster.output, line);
  }
}

/** Puts a snapshot of `from`'s newest state on the network, as if its core had sent one. */
export function queueSnapshot(cluster: Cluster, from: ReplicaId, to: ReplicaId): void {
  const { state, machine } = nodeAt(cluster, from);
  const { term } = raftStatus(state);
  const message: Message = { type: 'installSnapshot', from, to, term, snapshot: machine };
  const picture = pictureOf(message);
  cluster.network.push({ to, isLocal: from === to, message, picture });
  print(cluster.output, describePicture(picture));
}

/**
 * Delivers or drops what is on the way to each of the recipients, in the order in which they are named.
 *
 * @param typeName only messages of this printed type; all when absent
 * @returns how many messages there were
 */
export function deliverMessages(
  cluster: Cluster,
  recipients: readonly Recipient[],
  typeName?: string,
): number {
  let count = 0;
  for (const { id, isDropped } of recipients) {
    const isMeant = (envelope: Envelope): boolean =>
      envelope.to === id &&
      !(isDropped && envelope.isLocal) &&
      (typeName === undefined || envelope.picture.name === typeName);
    const taken = cluster.network.filter(isMeant);
    cluster.network = cluster.network.filter((envelope) => !isMeant(envelope));
    count += taken.length;
    for (const envelope of taken) {
      const text = `${describePicture(envelope.picture)}\n`;
      print(cluster.output, isDropped ? `dropped: ${text}` : text);
      if (!isDropped) deliver(cluster, envelope);
    }
  }
  return count;
}

function deliver(cluster: Cluster, { to, message }: Envelope): void {
  const node = nodeAt(cluster, to);
  if (step(node.state, message) === 'unknownPeer') {
    print(cluster.output, 'raft: cannot step as peer not found\n');
  }
  if (message.type === 'storageAppended' && message.snapshotIndex !== undefined) {
    node.snapshotsOnTheWay.delete(message.snapshotIndex);
  }
  settle(cluster, node);
}

/** Takes one `Ready`, prints it and carries it out; in the asynchronous mode its storage requests are queued. */
export function processReady(cluster: Cluster, id: ReplicaId): void {
  const node = nodeAt(cluster, id);
  const ready = takeReady(node.state);
  const sent = ready.messages.map((message): Envelope => envelopeOf(node, message));
  const append = appendWorkOf(node, ready);
  const apply = applyWorkOf(node, ready);
  const pictures = sent.map(({ picture }) => picture);
  if (append !== undefined) {
    pictures.push({ ...append.picture, responses: append.responses.map((r) => r.picture) });
  }
  if (apply !== undefined) pictures.push({ ...apply.picture, responses: [apply.response.picture] });
  print(cluster.output, describeReady(ready, pictures));

  if (!node.options.asyncStorageWrites) {
    assert(append === undefined && apply === undefined, 'synchronous cores have no threads');
    store(node, ready);
    applyEntries(cluster, node, ready.committedEntries);
  }
  if (append !== undefined) node.appendWork.push(append);
  if (apply !== undefined) node.applyWork.push(apply);
  cluster.network.push(...sent);
  if (!node.options.asyncStorageWrites) advance(node.state);
  settle(cluster, node);
}

export function processAppendWork(cluster: Cluster, id: ReplicaId): void {
  const node = nodeAt(cluster, id);
  const work = node.appendWork.shift();
  if (work === undefined) {
    print(cluster.output, 'no append work to perform');
    return;
  }
  store(node, work.request);
  showWork(cluster, work.picture, work.responses);
}

export function processApplyWork(cluster: Cluster, id: ReplicaId): void {
  const node = nodeAt(cluster, id);
  const work = node.applyWork.shift();
  if (work === undefined) {
    print(cluster.output, 'no apply work to perform');
    return;
  }
  applyEntries(cluster, node, work.request.entries);
  showWork(cluster, work.picture, [work.response]);
}

function showWork(cluster: Cluster, picture: Picture, responses: readonly Envelope[]): void {
  const lines = ['Processing:', describePicture(picture), 'Responses:'];
  lines.push(...responses.map((response) => describePicture(response.picture)));
  print(cluster.output, `${lines.join('\n')}\n`);
  cluster.network.push(...responses);
}

/**
 * Lets the named nodes, or all, work until none has anything left: their Readys, the messages to them, their append
 * threads, their apply threads, again and again.
 */
export function stabilize(cluster: Cluster, ids: readonly ReplicaId[]): void {
  const nodes = ids.length === 0 ? cluster.nodes : ids.map((id) => nodeAt(cluster, id));
  for (let round = 0; round < stabilizeRoundsMax; round++) {
    // Every stage is run for all nodes before the next one begins.
    const stages = [workReadys, workMessages, workAppends, workApplies];
    const busyCount = stages.filter((stage) => stage(cluster, nodes)).length;
    if (busyCount === 0) return;
  }
  throw new DirectiveError(`not stable after ${stabilizeRoundsMax} rounds`);
}

function workReadys(cluster: Cluster, nodes: readonly Node[]): boolean {
  let isBusy = false;
  for (const { id, state } of nodes) {
    if (!hasReady(state)) continue;
    isBusy = true;
    print(cluster.output, `> ${id} handling Ready\n`);
    indented(cluster.output, () => processReady(cluster, id));
  }
  return isBusy;
}

function workMessages(cluster: Cluster, nodes: readonly Node[]): boolean {
  let isBusy = false;
  for (const { id } of nodes) {
    if (!cluster.network.some((envelope) => envelope.to === id)) continue;
    isBusy = true;
    print(cluster.output, `> ${id} receiving messages\n`);
    indented(cluster.output, () => deliverMessages(cluster, [{ id, isDropped: false }]));
  }
  return isBusy;
}

function workAppends(cluster: Cluster, nodes: readonly Node[]): boolean {
  let isBusy = false;
  for (const { id, appendWork } of nodes) {
    if (appendWork.length === 0) continue;
    isBusy = true;
    print(cluster.output, `> ${id} processing append thread\n`);
    while (appendWork.length > 0) {
      indented(cluster.output, () => processAppendWork(cluster, id));
    }
  }
  return isBusy;
}

function workApplies(cluster: Cluster, nodes: readonly Node[]): boolean {
  let isBusy = false;
  for (const { id, applyWork } of nodes) {
    if (applyWork.length === 0) continue;
    isBusy = true;
    print(cluster.output, `> ${id} processing apply thread\n`);
    while (applyWork.length > 0) {
      indented(cluster.output, () => processApplyWork(cluster, id));
    }
  }
  return isBusy;
}

function appendWorkOf(node: Node, { storageAppend: request }: Ready): AppendWork | undefined {
  if (request === undefined) return undefined;
  const { snapshot, hardState, entries } = request;
  if (snapshot !== undefined) node.snapshotsOnTheWay.set(snapshot.index, snapshot);
  const picture: Picture = {
    ...{ from: String(node.id), to: 'AppendThread', name: 'MsgStorageAppend' },
    ...{ term: hardState?.term ?? 0, logTerm: 0, index: 0 },
    ...{ commit: hardState?.commitIndex, vote: hardState?.votedFor, entries, snapshot },
  };
  return { request, picture, responses: request.responses.map((m) => envelopeOf(node, m)) };
}

function applyWorkOf(node: Node, { storageApply: request }: Ready): ApplyWork | undefined {
  if (request === undefined) return undefined;
  const shared = { term: 0, logTerm: 0, index: 0, entries: request.entries };
  const picture = {
    ...shared,
    ...{ from: String(node.id), to: 'ApplyThread', name: 'MsgStorageApply' },
  };
  const answer = {
    ...shared,
    ...{ from: 'ApplyThread', to: String(node.id), name: 'MsgStorageApplyResp' },
  };
  const response = { to: node.id, isLocal: true, message: request.response, picture: answer };
  return { request, picture, response };
}

function envelopeOf(node: Node, message: Message): Envelope {
  if (message.type === 'storageApplied') {
    throw new DirectiveError('an answer of the apply thread comes with its request only');
  }
  if (message.type !== 'storageAppended') {
    const { from, to } = message;
    return { to, isLocal: from === to, message, picture: pictureOf(message) };
  }
  const { term, last, snapshotIndex } = message;
  const picture: Picture = {
    ...{ from: 'AppendThread', to: String(node.id), name: 'MsgStorageAppendResp' },
    ...{ term, logTerm: last?.term ?? 0, index: last?.index ?? 0 },
    snapshot: snapshotIndex === undefined ? undefined : snapshotOnTheWay(node, snapshotIndex),
  };
  return { to: node.id, isLocal: true, message, picture };
}

function snapshotOnTheWay(node: Node, index: LogIndex): Snapshot {
  return must(node.snapshotsOnTheWay.get(index), 'a stored snapshot was requested before');
}

function store(
  node: Node,
  work: {
    readonly hardState: HardState | undefined;
    readonly snapshot: Snapshot | undefined;
    readonly entries: readonly Entry[];
  },
): void {
  const { log } = node;
  if (work.hardState !== undefined) log.hardState = work.hardState;
  if (work.snapshot !== undefined) {
    storeSnapshot(log, work.snapshot);
    node.machine = work.snapshot;
  }
  storeEntries(log, work.entries);
}

function applyEntries(cluster: Cluster, node: Node, entries: readonly Entry[]): void {
  for (const entry of entries) {
    const { index, term } = entry;
    // A snapshot that was stored meanwhile covers entries that still waited for the apply thread.
    if (index <= node.machine.index) continue;
    assert(index === node.machine.index + 1, 'entries are applied in order, without gaps');
    noteApplied(cluster, entry);
    if (entry.kind === EntryKind.confChange) {
      const confState = applyConfChange(node.state, confChangeOf(entry), index);
      node.machine = { index, term, confState, data: node.machine.data };
    } else {
      const { confState } = node.machine;
      const data = Buffer.concat([node.machine.data, payloadOf(entry)]);
      node.machine = { index, term, confState, data };
    }
  }
}

/** What follows every step of a core: entries that it may drop go, and the rules of Raft are checked. */
function settle(cluster: Cluster, { id, state, log }: Node): void {
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

/** No two state machines apply different entries at one index (§5.4.3). */
function noteApplied(cluster: Cluster, entry: Entry): void {
  const text = describeEntry(entry);
  const known = cluster.applied.get(entry.index) ?? text;
  assert(known === text, 'all state machines apply the same entry at an index (§5.4.3)');
  cluster.applied.set(entry.index, text);
}

function nodeAt(cluster: Cluster, id: ReplicaId): Node {
  const node = cluster.nodes[id - 1];
  if (node === undefined) throw new DirectiveError(`there is no node ${id}`);
  return node;
}
