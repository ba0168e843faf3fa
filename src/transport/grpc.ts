// The default transport: standard gRPC on the wire, our own framing over node:http2 for the stream of frames. Every
// node opens two connections to each peer, one per lane, so that bulk data never stands before heartbeats: TCP and
// HTTP/2 keep one connection in order. What arrives comes over the connections that the peers opened.

import { assert } from '../base/assert.ts';
import { parseEndpoint } from '../base/endpoint.ts';
import { KommanderError } from '../base/errors.ts';
import { seededRandom } from '../base/random.ts';
import {
  type Endpoint,
  type Frame,
  Lane,
  type NodeId,
  type Transport,
  type TransportContext,
} from '../ports/transport.ts';
import { FrameEncoder } from './frame-encoder.ts';
import { prefixBytes } from './grpc-framing.ts';
import { GrpcLane, type LaneChange } from './grpc-lane.ts';
import type { GrpcCounters, GrpcNode, GrpcTransportStats } from './grpc-node.ts';
import {
  checkedOptions,
  checkListen,
  type GrpcSettings,
  type GrpcTransportOptions,
} from './grpc-options.ts';
import { GrpcServer } from './grpc-server.ts';
import { SessionKeeper } from './session-keeper.ts';

export type { GrpcTransportStats } from './grpc-node.ts';
export type { GrpcTransportOptions } from './grpc-options.ts';

/** Bytes after which a frame is ended: a larger one would keep the receiver's event loop from its heartbeats. */
const frameBytesTarget = 1_048_576;

/** A transport that can also be counted. */
export interface GrpcTransport extends Transport {
  readonly frameBytesMax: number;
  /** Figures since `open`; all 0 before. */
  stats(): GrpcTransportStats;
}

/**
 * Makes the gRPC transport of one node.
 *
 * @throws INVALID_OPTION an option is unknown or out of range
 */
export function grpcTransport(options: GrpcTransportOptions = {}): GrpcTransport {
  return new OpenableGrpcTransport(checkedOptions(options));
}

class OpenableGrpcTransport implements GrpcTransport {
  readonly frameBytesMax: number;
  readonly #settings: GrpcSettings;
  readonly #counters: GrpcCounters = zeroCounters();
  readonly #peers: Map<NodeId, Peer> = new Map();
  #node: GrpcNode | undefined;
  #server: GrpcServer | undefined;
  #closing: Promise<void> | undefined;

  constructor(settings: GrpcSettings) {
    this.#settings = settings;
    this.frameBytesMax = settings.frameBytesMax;
  }

  async open(context: TransportContext): Promise<Endpoint> {
    assert(this.#node === undefined, 'a transport is opened once');
    if (this.#closing !== undefined) throw closedError(context.listen);
    const settings = this.#settings;
    checkListen(context.listen, settings.insecure);
    const { frameBytesMax } = settings;
    const node: GrpcNode = {
      context,
      settings,
      counters: this.#counters,
      encoder: new FrameEncoder({
        frameBytesMax,
        frameBytesTarget: Math.min(frameBytesTarget, frameBytesMax),
        headroomBytes: prefixBytes,
      }),
      keeper: new SessionKeeper(context.clock, settings.keepAliveMs),
      random: seededRandom(settings.seed),
    };
    this.#node = node;
    const server = new GrpcServer(node, (peer) => this.#wake(peer));
    this.#server = server;
    const endpoint = await server.listen();
    if (this.#closing === undefined) return endpoint;
    await server.close();
    throw closedError(context.listen);
  }

  setPeer(nodeId: NodeId, endpoint: Endpoint | undefined): void {
    if (this.#closing !== undefined) return;
    const node = this.#node;
    assert(node !== undefined, 'peers are set after the transport was opened');
    const present = this.#peers.get(nodeId);
    if (present !== undefined && present.endpoint === endpoint) return;
    if (endpoint !== undefined) parseEndpoint(endpoint, { option: 'endpoint' });
    if (present !== undefined) {
      this.#peers.delete(nodeId);
      closePeer(node, present);
    }
    if (endpoint === undefined) return;
    const peer = openPeer(node, nodeId, endpoint);
    this.#peers.set(nodeId, peer);
    for (const lane of Object.values(Lane)) peer.lanes[lane].wake();
  }

  send(nodeId: NodeId, lane: Lane, frame: Frame, sent?: () => void): boolean {
    return this.#peers.get(nodeId)?.lanes[lane].trySend(frame, sent) ?? false;
  }

  stats(): GrpcTransportStats {
    return { ...this.#counters };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const { lanes } of this.#peers.values())
      for (const lane of Object.values(Lane)) lanes[lane].close();
    this.#peers.clear();
    this.#node?.keeper.close();
    await this.#server?.close();
  }

  /** A peer that reaches us is up: no reason to wait any longer before we try to reach it. */
  #wake(nodeId: NodeId): void {
    const peer = this.#peers.get(nodeId);
    if (peer === undefined) return;
    for (const lane of Object.values(Lane)) peer.lanes[lane].wake();
  }
}

interface Peer {
  readonly nodeId: NodeId;
  readonly endpoint: Endpoint;
  readonly lanes: Readonly<Record<Lane, GrpcLane>>;
  /** What `reachable` was told last. */
  isReachable: boolean | undefined;
}

function openPeer(node: GrpcNode, nodeId: NodeId, endpoint: Endpoint): Peer {
  const openLane = (lane: Lane): GrpcLane =>
    new GrpcLane(node, { peer: nodeId, endpoint, lane }, (change) =>
      tellReachable(node, peer, change),
    );
  const peer: Peer = {
    nodeId,
    endpoint,
    lanes: { control: openLane(Lane.control), bulk: openLane(Lane.bulk) },
    isReachable: undefined,
  };
  return peer;
}

function closePeer(node: GrpcNode, peer: Peer): void {
  for (const lane of Object.values(Lane)) peer.lanes[lane].close();
  if (peer.isReachable !== true) return;
  node.context.clock.defer(() => node.context.reachable(peer.nodeId, false));
}

/** A peer can be reached while both lanes are ready; the loss of one means that messages were lost. */
function tellReachable(node: GrpcNode, peer: Peer, change: LaneChange): void {
  const { lanes, nodeId, endpoint } = peer;
  const isReachable = lanes.control.isReady && lanes.bulk.isReady;
  const isHalfReady = change.isReady && !isReachable;
  if (isHalfReady || peer.isReachable === isReachable) return;
  peer.isReachable = isReachable;
  const { context } = node;
  context.observer({
    level: 'info',
    name: isReachable ? 'peer-connected' : 'peer-disconnected',
    fields: { peer: nodeId, endpoint, reason: change.reason },
  });
  context.reachable(nodeId, isReachable);
}

function closedError(endpoint: Endpoint): KommanderError {
  return new KommanderError(`cannot listen at ${endpoint}: the transport is closed`, {
    code: 'TRANSPORT_FAILED',
    details: { endpoint },
  });
}

function zeroCounters(): GrpcCounters {
  return {
    framesSent: 0,
    bytesSent: 0,
    framesDropped: 0,
    framesReceived: 0,
    bytesReceived: 0,
    itemsSkipped: 0,
    peersRefused: 0,
    peersMalformed: 0,
    connectsSucceeded: 0,
    connectsFailed: 0,
  };
}
