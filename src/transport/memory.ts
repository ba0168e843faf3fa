// A network inside one process, for tests: transports of one `memoryNetwork` find each other by endpoint. Delivery is
// asynchronous and in order per lane; links can be cut or made lossy, one way or both. Frames pass through the wire
// codec unless told otherwise, so that what the format does not carry does not arrive here either.

import { assert } from '../base/assert.ts';
import { KommanderError } from '../base/errors.ts';
import {
  type Endpoint,
  type Frame,
  Lane,
  type NodeId,
  type Transport,
  type TransportContext,
} from '../ports/transport.ts';
import { FrameDecoder } from './frame-decoder.ts';
import { type EncodedFrame, FrameEncoder } from './frame-encoder.ts';
import { copiedNode, greetingTo, refusalOf, reportRefusal } from './greeting.ts';

export interface MemoryNetworkOptions {
  /** Pass frames through the wire codec (default true). Without it frames arrive by reference. */
  readonly encode?: boolean;
  /** Frames on the way per peer and lane, 1 … 2^31 - 1 (default 4_096). */
  readonly outboxFramesMax?: number;
  /** Bytes on the way per peer and lane (default 64 MiB). Counted only when frames are encoded. */
  readonly outboxBytesMax?: number;
  /** Bytes of one encoded item (default 20 MiB: any legal entry fits). */
  readonly frameBytesMax?: number;
}

/**
 * `up`: frames arrive. `drop`: the sender believes that they do, but none arrives. `cut`: the connection is gone and
 * the sender knows it.
 */
export type MemoryLinkState = 'up' | 'drop' | 'cut';

/** A frame on its way, as a filter sees it. */
export interface MemoryDelivery {
  readonly from: NodeId;
  readonly to: NodeId;
  readonly lane: Lane;
  readonly frame: Frame;
}

export interface MemoryNetwork {
  /** A transport of this network; it takes part once it is opened. */
  readonly transport: () => Transport;
  /** Sets the state of the link `from` → `to`; the other direction keeps its own. */
  setLink(from: NodeId, to: NodeId, state: MemoryLinkState): void;
  /** Sets both directions of the links between `node` and every other node. */
  setNode(node: NodeId, state: MemoryLinkState): void;
  /** All links are up again. */
  heal(): void;
  /** Frames for which `predicate` is true are lost at delivery; undefined loses none. */
  dropWhen(predicate: ((delivery: MemoryDelivery) => boolean) | undefined): void;
  /** Frames that were lost since the network was made: by links, by the filter, or by full outboxes. */
  readonly droppedCount: number;
}

/** Makes a network without members. */
export function memoryNetwork(options: MemoryNetworkOptions = {}): MemoryNetwork {
  const network: Network = {
    limits: {
      encode: options.encode ?? true,
      outboxFramesMax: positive(options.outboxFramesMax ?? 4_096, 'outboxFramesMax'),
      outboxBytesMax: positive(options.outboxBytesMax ?? 67_108_864, 'outboxBytesMax'),
      frameBytesMax: positive(options.frameBytesMax ?? 20_971_520, 'frameBytesMax'),
    },
    members: new Map(),
    links: new Map(),
    nodes: new Map(),
    predicate: undefined,
    droppedCount: 0,
    portNext: 1,
  };
  return {
    transport: () => memoryTransport(network),
    setLink(from, to, state) {
      network.links.set(linkKey(from, to), state);
      connectAll(network);
    },
    setNode(node, state) {
      network.nodes.set(node, state);
      connectAll(network);
    },
    heal() {
      network.links.clear();
      network.nodes.clear();
      connectAll(network);
    },
    dropWhen(predicate) {
      network.predicate = predicate;
    },
    get droppedCount() {
      return network.droppedCount;
    },
  };
}

interface Network {
  readonly limits: Required<MemoryNetworkOptions>;
  /** Open transports by the endpoint that they listen at. */
  readonly members: Map<Endpoint, Member>;
  /** States that were set for single links; the worse of link and nodes counts. */
  readonly links: Map<string, MemoryLinkState>;
  readonly nodes: Map<NodeId, MemoryLinkState>;
  predicate: ((delivery: MemoryDelivery) => boolean) | undefined;
  droppedCount: number;
  /** Given to a member that asks for port 0. */
  portNext: number;
}

/** An open transport. */
interface Member {
  readonly network: Network;
  readonly context: TransportContext;
  readonly endpoint: Endpoint;
  readonly peers: Map<NodeId, Peer>;
  readonly encoder: FrameEncoder;
  readonly decoder: FrameDecoder;
  isOpen: boolean;
}

interface Peer {
  readonly nodeId: NodeId;
  readonly endpoint: Endpoint;
  /** The other end while there is a connection. Frames of an earlier connection are lost. */
  connection: Connection | undefined;
}

interface Connection {
  readonly target: Member;
  readonly outboxes: Readonly<Record<Lane, Outbox>>;
  /** A delivery is deferred. */
  isDue: boolean;
}

interface Outbox {
  queue: Queued[];
  bytes: number;
}

interface Queued {
  readonly encoded: EncodedFrame | undefined;
  readonly frame: Frame;
  readonly bytes: number;
}

function memoryTransport(network: Network): Transport {
  let member: Member | undefined;
  let isClosed = false;
  return {
    frameBytesMax: network.limits.frameBytesMax,
    async open(context) {
      assert(member === undefined, 'a transport is opened once');
      if (isClosed) throw failed('the transport is closed', context.listen);
      member = openMember(network, context);
      connectAll(network);
      return member.endpoint;
    },
    setPeer(peer, endpoint) {
      assert(isClosed || member !== undefined, 'peers are set after the transport was opened');
      if (member?.isOpen === true) setPeer(member, peer, endpoint);
    },
    send: (peer, lane, frame) => member?.isOpen === true && trySend(member, { peer, lane, frame }),
    async close() {
      isClosed = true;
      if (member?.isOpen !== true) return;
      member.isOpen = false;
      network.members.delete(member.endpoint);
      member.peers.clear();
      connectAll(network);
    },
  };
}

function openMember(network: Network, context: TransportContext): Member {
  const endpoint = context.listen.endsWith(':0')
    ? `${context.listen.slice(0, -2)}:${network.portNext++}`
    : context.listen;
  if (network.members.has(endpoint)) throw failed('the endpoint is taken', endpoint);
  const { frameBytesMax } = network.limits;
  const member: Member = {
    network,
    context,
    endpoint,
    peers: new Map(),
    encoder: new FrameEncoder({ frameBytesMax, frameBytesTarget: frameBytesMax, headroomBytes: 0 }),
    decoder: new FrameDecoder(),
    isOpen: true,
  };
  network.members.set(endpoint, member);
  return member;
}

function setPeer(member: Member, nodeId: NodeId, endpoint: Endpoint | undefined): void {
  const present = member.peers.get(nodeId);
  if (present !== undefined && present.endpoint === endpoint) return;
  if (present !== undefined) {
    disconnect(member, present);
    member.peers.delete(nodeId);
  }
  if (endpoint === undefined) return;
  const peer: Peer = { nodeId, endpoint, connection: undefined };
  member.peers.set(nodeId, peer);
  connect(member, peer);
}

/** Brings every connection in line with who is open and which links are up. */
function connectAll(network: Network): void {
  for (const member of network.members.values())
    for (const peer of member.peers.values()) connect(member, peer);
}

function connect(member: Member, peer: Peer): void {
  const { network, context } = member;
  const target = network.members.get(peer.endpoint);
  const isCut = linkState(network, context.identity.nodeId, peer.nodeId) === 'cut';
  const wanted = target === undefined || isCut ? undefined : target;
  if (peer.connection?.target === wanted) return;
  disconnect(member, peer);
  if (wanted === undefined || isRefused(member, peer, wanted)) return;
  const outboxes = { control: emptyOutbox(), bulk: emptyOutbox() };
  peer.connection = { target: wanted, outboxes, isDue: false };
  tellReachable(member, peer, true);
}

function disconnect(member: Member, peer: Peer): void {
  if (peer.connection === undefined) return;
  const { control, bulk } = peer.connection.outboxes;
  member.network.droppedCount += control.queue.length + bulk.queue.length;
  control.queue = [];
  bulk.queue = [];
  peer.connection = undefined;
  tellReachable(member, peer, false);
}

function isRefused(member: Member, peer: Peer, target: Member): boolean {
  const greeting = greetingTo(peer.nodeId, Lane.control, member.context.identity);
  const rival = rivalOf(member, target);
  const error =
    refusalOf(target.context.identity, greeting) ??
    (rival === undefined ? undefined : copiedNode(greeting, rival.context.identity));
  if (error === undefined) return false;
  const { endpoint } = peer;
  reportRefusal(
    target.context.observer,
    { direction: 'inbound', peer: greeting.nodeId, endpoint: member.endpoint },
    error,
  );
  reportRefusal(
    member.context.observer,
    { direction: 'outbound', peer: peer.nodeId, endpoint },
    error,
  );
  member.context.clock.defer(() => {
    if (member.isOpen) member.context.refused(peer.nodeId, error);
  });
  return true;
}

/** Another process with the identity of `member` that is connected to `target`. */
function rivalOf(member: Member, target: Member): Member | undefined {
  const { nodeId } = member.context.identity;
  for (const other of member.network.members.values()) {
    if (other === member || other.context.identity.nodeId !== nodeId) continue;
    for (const { connection } of other.peers.values()) {
      if (connection?.target === target) return other;
    }
  }
  return undefined;
}

function tellReachable(member: Member, peer: Peer, isReachable: boolean): void {
  const { context } = member;
  context.clock.defer(() => {
    if (member.isOpen) context.reachable(peer.nodeId, isReachable);
  });
}

function trySend(
  member: Member,
  sent: { readonly peer: NodeId; readonly lane: Lane; readonly frame: Frame },
): boolean {
  const { network } = member;
  const peer = member.peers.get(sent.peer);
  if (peer?.connection === undefined) return false;
  const outbox = peer.connection.outboxes[sent.lane];
  const { queued, isComplete } = queuedFrames(member, sent.frame);
  let bytes = outbox.bytes;
  for (const one of queued) bytes += one.bytes;
  const { outboxFramesMax, outboxBytesMax } = network.limits;
  if (outbox.queue.length + queued.length > outboxFramesMax || bytes > outboxBytesMax) {
    network.droppedCount += 1;
    return false;
  }
  outbox.queue.push(...queued);
  outbox.bytes = bytes;
  if (!peer.connection.isDue) deferDelivery(member, peer, peer.connection);
  return isComplete;
}

function queuedFrames(
  member: Member,
  frame: Frame,
): { readonly queued: readonly Queued[]; readonly isComplete: boolean } {
  if (!member.network.limits.encode)
    return { queued: [{ encoded: undefined, frame, bytes: 0 }], isComplete: true };
  const { frames, oversizedCount } = member.encoder.encode(frame);
  if (oversizedCount > 0) {
    member.context.observer({
      level: 'error',
      name: 'frame-item-too-large',
      fields: { oversizedCount, frameBytesMax: member.network.limits.frameBytesMax },
    });
  }
  const queued = frames.map((encoded) => ({ encoded, frame, bytes: encoded.byteLength }));
  return { queued, isComplete: oversizedCount === 0 };
}

function deferDelivery(member: Member, peer: Peer, connection: Connection): void {
  connection.isDue = true;
  connection.target.context.clock.defer(() => {
    connection.isDue = false;
    // The control lane is never behind the bulk lane.
    deliverLane(member, { peer, connection, lane: Lane.control });
    deliverLane(member, { peer, connection, lane: Lane.bulk });
  });
}

interface Delivery {
  readonly peer: Peer;
  readonly connection: Connection;
  readonly lane: Lane;
}

function deliverLane(member: Member, delivery: Delivery): void {
  const outbox = delivery.connection.outboxes[delivery.lane];
  const { queue } = outbox;
  outbox.queue = [];
  outbox.bytes = 0;
  for (const queued of queue) deliver(member, delivery, queued);
}

function deliver(member: Member, delivery: Delivery, queued: Queued): void {
  const { network } = member;
  const { peer, connection, lane } = delivery;
  const from = member.context.identity.nodeId;
  // A frame that was delivered just before may have led to the end of the connection.
  if (peer.connection !== connection || linkState(network, from, peer.nodeId) === 'drop') {
    network.droppedCount += 1;
    return;
  }
  const frame =
    queued.encoded === undefined ? queued.frame : decode(connection.target, queued.encoded);
  if (network.predicate?.({ from, to: peer.nodeId, lane, frame }) === true) {
    network.droppedCount += 1;
    return;
  }
  connection.target.context.receive(from, lane, frame);
}

/** The receiver gets buffers of its own, as from a real network. */
function decode(target: Member, encoded: EncodedFrame): Frame {
  const bytes = new Uint8Array(encoded.byteLength);
  let at = 0;
  for (const chunk of encoded.chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  const { frame, skippedCount, firstProblem } = target.decoder.decode(bytes);
  if (skippedCount > 0) {
    target.context.observer({
      level: 'warn',
      name: 'frame-items-skipped',
      fields: { skippedCount, firstProblem },
    });
  }
  return frame;
}

function linkState(network: Network, from: NodeId, to: NodeId): MemoryLinkState {
  const states = [
    network.links.get(linkKey(from, to)),
    network.nodes.get(from),
    network.nodes.get(to),
  ];
  if (states.includes('cut')) return 'cut';
  return states.includes('drop') ? 'drop' : 'up';
}

function linkKey(from: NodeId, to: NodeId): string {
  return `${from}>${to}`;
}

function emptyOutbox(): Outbox {
  return { queue: [], bytes: 0 };
}

function positive(value: number, option: string): number {
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new KommanderError(`${option} is ${value}; give a whole number of at least 1`, {
    code: 'INVALID_OPTION',
    details: { option },
  });
}

function failed(reason: string, endpoint: Endpoint): KommanderError {
  return new KommanderError(`cannot listen at ${endpoint}: ${reason}`, {
    code: 'TRANSPORT_FAILED',
    details: { endpoint },
  });
}
