// The network between simulated nodes: real frames through the real codec, over connections that are made, greeted and
// lost as TCP's are, and links with faults of their own: loss, copies, frames that overtake others, delay, little bandwidth,
// silence in one direction. What is on its way when its sender dies still arrives.

import { must } from '../../base/assert.ts';
import type { Random } from '../../base/random.ts';
import type { Clock } from '../../ports/clock.ts';
import {
  type Frame,
  Lane,
  type NodeId,
  type Transport,
  type TransportContext,
} from '../../ports/transport.ts';
import { FrameDecoder } from '../../transport/frame-decoder.ts';
import { type EncodedFrame, FrameEncoder } from '../../transport/frame-encoder.ts';
import { greetingTo, refusalOf, reportRefusal } from '../../transport/greeting.ts';
import type { Coverage } from './coverage.ts';
import { joined } from './disk-rows.ts';
import type { ProcessClock } from './process-clock.ts';

/** `silent`: frames vanish and the sender does not know. `cut`: the connection is reset, and cannot be made again. */
export type LinkState = 'up' | 'silent' | 'cut';

/** How a link treats its frames. Chances are per ten thousand. */
export interface LinkQuality {
  readonly loss: number;
  readonly copies: number;
  readonly overtaking: number;
  /** Frames that take `spikeMs` more. */
  readonly spikes: number;
  readonly spikeMs: number;
  readonly delayMs: number;
  readonly jitterMs: number;
  readonly bytesPerMs: number;
}

export const healthyLink: LinkQuality = {
  loss: 0,
  copies: 0,
  overtaking: 0,
  spikes: 0,
  spikeMs: 0,
  delayMs: 0.1,
  jitterMs: 0.5,
  bytesPerMs: 100_000,
};

export interface SimulatedNetwork {
  /** The transport of one life of a node. */
  transport(nodeId: NodeId, clock: ProcessClock): Transport;
  setLink(from: NodeId, to: NodeId, state: LinkState): void;
  setQuality(from: NodeId, to: NodeId, quality: LinkQuality): void;
  /** The process at `nodeId` is gone; its peers hear of it at once (`kill`) or when their patience ends (`power`). */
  died(nodeId: NodeId, kind: 'kill' | 'power'): void;
  /** Everything works from now on, and all links are of this quality. */
  heal(quality: LinkQuality): void;
}

export interface NetworkOptions {
  readonly time: Clock;
  readonly random: Random;
  readonly coverage: Coverage;
  /** Called with every frame that a node sends, before anything else happens to it. */
  readonly sending: (from: NodeId, to: NodeId, frame: Frame) => void;
  /** Called with every frame that arrives; only in recorded runs. */
  readonly arriving: ((from: NodeId, to: NodeId, lane: Lane, frame: Frame) => void) | undefined;
}

interface Network extends NetworkOptions {
  readonly ports: Map<NodeId, Port>;
  readonly links: Map<string, Link>;
  /** Of links for which nothing else was said. */
  quality: LinkQuality;
}

interface Link {
  state: LinkState;
  quality: LinkQuality;
  /** When the last byte that was sent has left. */
  freeAtMs: number;
}

/** The open transport of one life. */
interface Port {
  readonly nodeId: NodeId;
  readonly clock: ProcessClock;
  readonly context: TransportContext;
  readonly peers: Map<NodeId, Peer>;
  readonly encoder: FrameEncoder;
  readonly decoder: FrameDecoder;
  isOpen: boolean;
}

interface Peer {
  readonly nodeId: NodeId;
  connection: Connection | undefined;
  failures: number;
}

interface Connection {
  readonly from: Port;
  readonly to: Port;
  /** When the last frame of each lane is due. */
  readonly dueMs: Record<Lane, number>;
  bytesOnTheWay: number;
  isBroken: boolean;
}

/** As the gRPC transport's `keepAliveMs`, three times. */
const keepAliveMs = 3_000;
const reconnectMsMin = 10;
const reconnectMsMax = 320;
const outboxBytesMax = 33_554_432;
const frameBytesMax = 4_456_448;
const perTenThousand = 10_000;

export function simulatedNetwork(options: NetworkOptions): SimulatedNetwork {
  const network: Network = {
    ...options,
    ports: new Map(),
    links: new Map(),
    quality: healthyLink,
  };
  return {
    transport: (nodeId, clock) => transportOf(network, nodeId, clock),
    setLink(from, to, state) {
      linkOf(network, from, to).state = state;
      disturbConnections(network, from, to, state);
    },
    setQuality(from, to, quality) {
      linkOf(network, from, to).quality = quality;
    },
    died(nodeId, kind) {
      const port = network.ports.get(nodeId);
      if (port === undefined) return;
      port.isOpen = false;
      network.ports.delete(nodeId);
      for (const peer of connectionsTo(network, port)) {
        breakLater(network, peer, kind === 'kill' ? network.random.unit() * 2 : keepAliveMs);
      }
    },
    heal(quality) {
      network.quality = quality;
      network.links.clear();
    },
  };
}

function linkOf(network: Network, from: NodeId, to: NodeId): Link {
  const key = `${from}>${to}`;
  let link = network.links.get(key);
  if (link === undefined) {
    link = { state: 'up', quality: network.quality, freeAtMs: 0 };
    network.links.set(key, link);
  }
  return link;
}

function transportOf(network: Network, nodeId: NodeId, clock: ProcessClock): Transport {
  let port: Port | undefined;
  return {
    frameBytesMax,
    async open(context) {
      port = {
        nodeId,
        clock,
        context,
        peers: new Map(),
        encoder: new FrameEncoder({
          frameBytesMax,
          frameBytesTarget: frameBytesMax,
          headroomBytes: 0,
        }),
        decoder: new FrameDecoder(),
        isOpen: true,
      };
      network.ports.set(nodeId, port);
      return context.listen;
    },
    setPeer(peerId) {
      const opened = must(port, 'peers are set after the transport was opened');
      if (!opened.isOpen || opened.peers.has(peerId)) return;
      const peer: Peer = { nodeId: peerId, connection: undefined, failures: 0 };
      opened.peers.set(peerId, peer);
      connectSoon(network, opened, peer);
    },
    send(peerId, lane, frame) {
      if (port?.isOpen !== true) return false;
      network.sending(nodeId, peerId, frame);
      const connection = port.peers.get(peerId)?.connection;
      if (connection === undefined || connection.bytesOnTheWay > outboxBytesMax) return false;
      const { frames, oversizedCount } = port.encoder.encode(frame);
      for (const encoded of frames) dispatch(network, connection, lane, encoded);
      return oversizedCount === 0;
    },
    async close() {
      if (port?.isOpen !== true) return;
      port.isOpen = false;
      if (network.ports.get(nodeId) === port) network.ports.delete(nodeId);
      for (const connection of connectionsTo(network, port)) breakLater(network, connection, 0.5);
    },
  };
}

function* connectionsTo(network: Network, port: Port): Generator<Connection> {
  for (const other of network.ports.values()) {
    for (const { connection } of other.peers.values()) {
      if (connection?.to === port) yield connection;
    }
  }
}

function connectSoon(network: Network, port: Port, peer: Peer): void {
  const { random } = network;
  const backoffMs = Math.min(reconnectMsMin * 2 ** peer.failures, reconnectMsMax);
  const delayMs = 0.5 + random.unit() * backoffMs;
  port.clock.setTimer(delayMs, () => {
    if (!port.isOpen || peer.connection !== undefined) return;
    const target = network.ports.get(peer.nodeId);
    const isOpen =
      target !== undefined &&
      !target.clock.isPaused &&
      linkOf(network, port.nodeId, peer.nodeId).state === 'up' &&
      linkOf(network, peer.nodeId, port.nodeId).state === 'up';
    if (!isOpen || isRefused(port, peer, target)) {
      peer.failures += 1;
      connectSoon(network, port, peer);
      return;
    }
    peer.failures = 0;
    peer.connection = {
      from: port,
      to: target,
      dueMs: { control: 0, bulk: 0 },
      bytesOnTheWay: 0,
      isBroken: false,
    };
    port.context.reachable(peer.nodeId, true);
  });
}

function isRefused(port: Port, peer: Peer, target: Port): boolean {
  const greeting = greetingTo(peer.nodeId, Lane.control, port.context.identity);
  const error = refusalOf(target.context.identity, greeting);
  if (error === undefined) return false;
  const endpoint = target.context.listen;
  reportRefusal(
    port.context.observer,
    { direction: 'outbound', peer: peer.nodeId, endpoint },
    error,
  );
  return true;
}

/** A link changed: connections over it are reset, or their ends find out after a while. */
function disturbConnections(network: Network, a: NodeId, b: NodeId, state: LinkState): void {
  if (state === 'up') return;
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    const connection = network.ports.get(from)?.peers.get(to)?.connection;
    if (connection === undefined) continue;
    if (state === 'cut') {
      breakConnection(network, connection);
      continue;
    }
    network.time.setTimer(keepAliveMs, () => {
      // A PING or its answer had to cross the silent direction.
      const isSilent =
        linkOf(network, a, b).state === 'silent' || linkOf(network, b, a).state === 'silent';
      if (isSilent) breakConnection(network, connection);
    });
  }
}

function breakLater(network: Network, connection: Connection, delayMs: number): void {
  network.time.setTimer(delayMs, () => breakConnection(network, connection));
}

function breakConnection(network: Network, connection: Connection): void {
  if (connection.isBroken) return;
  connection.isBroken = true;
  const { from, to } = connection;
  const peer = from.peers.get(to.nodeId);
  if (peer?.connection === connection) peer.connection = undefined;
  from.clock.input(() => {
    if (!from.isOpen || peer === undefined) return;
    from.context.reachable(to.nodeId, false);
    connectSoon(network, from, peer);
  });
}

function happens(random: Random, chance: number): boolean {
  return chance > 0 && random.below(perTenThousand) < chance;
}

function dispatch(
  network: Network,
  connection: Connection,
  lane: Lane,
  encoded: EncodedFrame,
): void {
  const { random, time, coverage } = network;
  const { from, to } = connection;
  const link = linkOf(network, from.nodeId, to.nodeId);
  const { quality } = link;
  if (link.state !== 'up' || happens(random, quality.loss)) return;
  const now = time.monotonicMs();
  link.freeAtMs = Math.max(link.freeAtMs, now) + encoded.byteLength / quality.bytesPerMs;
  if (link.freeAtMs - now > keepAliveMs) {
    // The PING waits behind so much that nobody believes in the connection any more; what it was to carry is gone.
    link.freeAtMs = now;
    breakLater(network, connection, 0);
    return;
  }
  let dueMs = link.freeAtMs + quality.delayMs + random.unit() * quality.jitterMs;
  if (happens(random, quality.spikes)) dueMs += random.unit() * quality.spikeMs;
  if (happens(random, quality.overtaking)) {
    // It takes a way of its own: later ones may arrive before it.
    dueMs += random.unit() * 20 * (quality.delayMs + quality.jitterMs);
    coverage.messageReordered += 1;
  } else {
    dueMs = Math.max(dueMs, connection.dueMs[lane]);
    connection.dueMs[lane] = dueMs;
  }
  const bytes = joined(encoded.chunks);
  connection.bytesOnTheWay += bytes.byteLength;
  time.setTimer(dueMs - now, () => {
    connection.bytesOnTheWay -= bytes.byteLength;
    deliver(network, connection, { lane, bytes, isCopy: false });
  });
  if (!happens(random, quality.copies)) return;
  time.setTimer(dueMs - now + random.unit() * 50, () =>
    deliver(network, connection, { lane, bytes: bytes.slice(), isCopy: true }),
  );
}

function deliver(
  network: Network,
  connection: Connection,
  arrival: { readonly lane: Lane; readonly bytes: Uint8Array; readonly isCopy: boolean },
): void {
  const { from, to } = connection;
  if (connection.isBroken || !to.isOpen) return;
  if (linkOf(network, from.nodeId, to.nodeId).state !== 'up') return;
  to.clock.input(() => {
    if (!to.isOpen) return;
    const { lane, bytes, isCopy } = arrival;
    const { frame } = to.decoder.decode(bytes);
    const taken = isCopy ? withoutProposals(frame) : frame;
    if (from.clock.isDead) network.coverage.messageFromThePast += 1;
    if (isCopy) network.coverage.messageDuplicated += 1;
    network.arriving?.(from.nodeId, to.nodeId, lane, taken);
    to.context.receive(from.nodeId, lane, taken);
  });
}

/** The port promises that a write which is passed on arrives at most once: everything else may come twice. */
function withoutProposals(frame: Frame): Frame {
  return { ...frame, items: frame.items.filter(({ kind }) => kind !== 'propose') };
}
