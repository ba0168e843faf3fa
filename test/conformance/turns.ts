// What the nodes of a cluster do when it is their turn: take messages, carry out a `Ready`, work off what waits for the
// storage threads. Everything is printed as the data files print it.

import { assert, must } from '../../src/base/assert.ts';
import { advance, applyConfChange, hasReady, step, takeReady } from '../../src/raft/raft.ts';
import type { Ready } from '../../src/raft/ready.ts';
import {
  type Entry,
  EntryKind,
  type HardState,
  type LogIndex,
  type Message,
  payloadOf,
  type ReplicaId,
  type Snapshot,
} from '../../src/raft/types.ts';
import { DirectiveError } from './arguments.ts';
import {
  type AppendWork,
  type ApplyWork,
  type Cluster,
  type Envelope,
  type Node,
  nodeAt,
  settle,
} from './cluster.ts';
import {
  confChangeOf,
  describeEntry,
  describePicture,
  describeReady,
  type Picture,
  pictureOf,
} from './describe.ts';
import { indented, print } from './output.ts';
import { storeEntries, storeSnapshot } from './stored-log.ts';

/** Every scenario settles long before; one that does not is a core that talks to itself. */
const stabilizeRoundsMax = 1_000;

export interface Recipient {
  readonly id: ReplicaId;
  readonly isDropped: boolean;
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
    from: String(node.id),
    to: 'AppendThread',
    name: 'MsgStorageAppend',
    term: hardState?.term ?? 0,
    logTerm: 0,
    index: 0,
    commit: hardState?.commitIndex,
    vote: hardState?.votedFor,
    entries,
    snapshot,
  };
  return { request, picture, responses: request.responses.map((m) => envelopeOf(node, m)) };
}

function applyWorkOf(node: Node, { storageApply: request }: Ready): ApplyWork | undefined {
  if (request === undefined) return undefined;
  const shared = { term: 0, logTerm: 0, index: 0, entries: request.entries };
  const picture = {
    ...shared,
    from: String(node.id),
    to: 'ApplyThread',
    name: 'MsgStorageApply',
  };
  const answer = {
    ...shared,
    from: 'ApplyThread',
    to: String(node.id),
    name: 'MsgStorageApplyResp',
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
    from: 'AppendThread',
    to: String(node.id),
    name: 'MsgStorageAppendResp',
    term,
    logTerm: last?.term ?? 0,
    index: last?.index ?? 0,
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

/** No two state machines apply different entries at one index (§5.4.3). */
function noteApplied(cluster: Cluster, entry: Entry): void {
  const text = describeEntry(entry);
  const known = cluster.applied.get(entry.index) ?? text;
  assert(known === text, 'all state machines apply the same entry at an index (§5.4.3)');
  cluster.applied.set(entry.index, text);
}
