// One lane to one peer: an HTTP/2 session of its own with one stream. The request carries our frames, the response the
// peer's answer to the greeting. A lane that is lost is tried again, with growing pauses, until it is closed.

import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  type IncomingHttpHeaders,
} from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { assert } from '../base/assert.ts';
import { parseEndpoint } from '../base/endpoint.ts';
import { errorCatalogue, isKommanderError, KommanderError } from '../base/errors.ts';
import type { Timer } from '../ports/clock.ts';
import type { Endpoint, Frame, Lane, NodeId } from '../ports/transport.ts';
import type { Accepted, Refusal } from './generated/kommander/v1/raft_pb.ts';
import {
  greetingTo,
  protocolVersionMax,
  protocolVersionMin,
  reportRefusal,
  wrongNode,
} from './greeting.ts';
import {
  greetingHeaders,
  grpcContentType,
  MessageSplitter,
  malformed,
  readEvent,
  sealPrefix,
  streamPath,
} from './grpc-framing.ts';
import { type GrpcNode, http2Settings } from './grpc-node.ts';
import { Outbox } from './outbox.ts';

/** Bytes of one event of the answer. */
const eventBytesMax = 65_536;

export interface LaneTarget {
  readonly peer: NodeId;
  readonly endpoint: Endpoint;
  readonly lane: Lane;
}

/** A lane became ready, was lost, or could not connect. */
export interface LaneChange {
  readonly isReady: boolean;
  /** Why it is not ready. */
  readonly reason: string | undefined;
}

/** Sends frames to one peer in one lane. */
export class GrpcLane {
  readonly #node: GrpcNode;
  readonly #target: LaneTarget;
  readonly #onChange: (change: LaneChange) => void;
  #connection: Connection | undefined;
  #isClosed = false;
  /** Attempts since the last connection that lasted. */
  #failureCount = 0;
  #retry: Timer | undefined;

  constructor(node: GrpcNode, target: LaneTarget, onChange: (change: LaneChange) => void) {
    this.#node = node;
    this.#target = target;
    this.#onChange = onChange;
  }

  get isReady(): boolean {
    return this.#connection?.outbox !== undefined;
  }

  /** Connects now instead of after the pause. Nothing happens when a connection is there or being made. */
  wake(): void {
    if (this.#isClosed || this.#connection !== undefined) return;
    this.#retry?.cancel();
    this.#retry = undefined;
    this.#connection = this.#connect();
  }

  trySend(frame: Frame, sent?: () => void): boolean {
    const outbox = this.#connection?.outbox;
    const { counters, encoder } = this.#node;
    if (outbox === undefined || outbox.isFull) {
      counters.framesDropped += 1;
      return false;
    }
    const { frames, oversizedCount } = encoder.encode(frame);
    let droppedCount = oversizedCount;
    for (const encoded of frames) {
      sealPrefix(encoded);
      const isLast = encoded === frames.at(-1);
      if (!outbox.tryPush(encoded, isLast && droppedCount === 0 ? sent : undefined))
        droppedCount += 1;
      else {
        counters.framesSent += 1;
        counters.bytesSent += encoded.byteLength;
      }
    }
    counters.framesDropped += droppedCount;
    if (oversizedCount > 0) this.#reportOversized(oversizedCount);
    return droppedCount === 0;
  }

  close(): void {
    this.#isClosed = true;
    this.#retry?.cancel();
    this.#retry = undefined;
    if (this.#connection !== undefined) this.#forget(this.#connection);
  }

  #connect(): Connection {
    const { context, settings, keeper } = this.#node;
    const { endpoint, peer, lane } = this.#target;
    const { host, port } = parseEndpoint(endpoint, { option: 'endpoint' });
    const session = connectHttp2('http://kommander', {
      createConnection: () => connectTcp({ host, port, noDelay: true }),
      settings: http2Settings(settings),
      maxReservedRemoteStreams: 0,
    });
    keeper.add(session);
    const deadline = context.clock.setTimer(settings.connectTimeoutMs, () =>
      this.#lose(connection, `no answer within ${settings.connectTimeoutMs} ms`),
    );
    const stream = session.request(
      {
        ':method': 'POST',
        ':path': streamPath,
        ':authority': endpoint,
        'content-type': grpcContentType,
        te: 'trailers',
        'user-agent': 'kommander',
        'grpc-accept-encoding': 'identity',
        ...greetingHeaders(greetingTo(peer, lane, context.identity)),
      },
      { endStream: false },
    );
    const connection: Connection = {
      session,
      stream,
      deadline,
      outbox: undefined,
      readySinceMs: 0,
    };
    this.#listen(connection);
    return connection;
  }

  #listen(connection: Connection): void {
    const { session, stream } = connection;
    session.on('connect', () => {
      if (!session.destroyed) session.setLocalWindowSize(this.#node.settings.windowBytes);
    });
    session.on('error', (error: Error) => this.#lose(connection, error.message));
    session.on('goaway', () => this.#lose(connection, 'the peer is going away'));
    session.on('close', () => this.#lose(connection, 'the connection was closed'));
    const splitter = new MessageSplitter(eventBytesMax, (message) =>
      this.#handleEvent(connection, message),
    );
    stream.on('response', (headers) => this.#checkResponse(connection, headers));
    stream.on('data', (chunk: Uint8Array) => {
      if (this.#connection !== connection) return;
      try {
        splitter.push(chunk);
      } catch (error) {
        if (!isKommanderError(error, 'MALFORMED_MESSAGE')) throw error;
        this.#lose(connection, error.message);
      }
    });
    stream.on('error', (error: Error) => this.#lose(connection, error.message));
    stream.on('end', () => this.#lose(connection, 'the peer ended the stream'));
    stream.on('close', () => this.#lose(connection, 'the stream was closed'));
  }

  #checkResponse(connection: Connection, headers: IncomingHttpHeaders): void {
    const status = Number(headers[':status']);
    const contentType = String(headers['content-type'] ?? 'no content type').slice(0, 64);
    if (status === 200 && contentType.startsWith('application/grpc')) return;
    this.#lose(connection, `answered with HTTP status ${status}, ${contentType}: not a node`);
  }

  #handleEvent(connection: Connection, bytes: Uint8Array): void {
    if (this.#connection !== connection) return;
    const event = readEvent(bytes);
    if (event.case === 'accepted') this.#handleAccepted(connection, event.value);
    else if (event.case === 'refused') this.#refuse(connection, refusalError(event.value));
    // An event of a later version says nothing that this version has to know.
  }

  #handleAccepted(connection: Connection, accepted: Accepted): void {
    if (connection.outbox !== undefined) throw malformed('a greeting was accepted twice');
    const { context, settings, counters } = this.#node;
    const error = this.#mismatch(accepted);
    if (error !== undefined) return this.#refuse(connection, error);
    connection.deadline.cancel();
    connection.outbox = new Outbox(settings, connection.stream);
    connection.readySinceMs = context.clock.monotonicMs();
    counters.connectsSucceeded += 1;
    this.#onChange({ isReady: true, reason: undefined });
  }

  /** The peer checked us; this is our check of the peer. */
  #mismatch(accepted: Accepted): KommanderError | undefined {
    const { clusterId } = this.#node.context.identity;
    const { peer } = this.#target;
    if (accepted.clusterId !== clusterId) {
      return new KommanderError(
        `node ${peer} belongs to another cluster than ${clusterId}: check the member list`,
        {
          code: 'WRONG_CLUSTER',
          details: { expected: clusterId, actual: accepted.clusterId.slice(0, 256) },
        },
      );
    }
    if (accepted.nodeId !== peer) return wrongNode(peer, accepted.nodeId.slice(0, 64));
    const version = accepted.protocolVersion;
    if (version >= protocolVersionMin && version <= protocolVersionMax) return undefined;
    return new KommanderError(`node ${peer} chose protocol ${version}, which was not offered`, {
      code: 'PROTOCOL_VERSION',
      details: { protocolVersionMin, protocolVersionMax, version },
    });
  }

  #refuse(connection: Connection, error: KommanderError): void {
    const { context, counters } = this.#node;
    const { peer, endpoint } = this.#target;
    counters.peersRefused += 1;
    reportRefusal(context.observer, { direction: 'outbound', peer, endpoint }, error);
    this.#lose(connection, `${error.code}: ${error.message}`);
    context.refused(peer, error);
  }

  /** The connection is gone or of no use. Called for its every sign; the first one counts. */
  #lose(connection: Connection, reason: string): void {
    if (this.#connection !== connection) return;
    const { context, settings, counters } = this.#node;
    const wasReady = connection.outbox !== undefined;
    const lastedMs = wasReady ? context.clock.monotonicMs() - connection.readySinceMs : 0;
    this.#forget(connection);
    if (!wasReady) counters.connectsFailed += 1;
    this.#failureCount = lastedMs >= settings.backoffMsMax ? 0 : this.#failureCount + 1;
    this.#retry = context.clock.setTimer(this.#pauseMs(), () => this.wake());
    this.#onChange({ isReady: false, reason });
  }

  #forget(connection: Connection): void {
    assert(this.#connection === connection, 'only the present connection is forgotten');
    this.#connection = undefined;
    connection.deadline.cancel();
    this.#node.counters.framesDropped += connection.outbox?.frameCount ?? 0;
    // Destroyed sessions can still report an error; `#lose` ignores it, since they are forgotten.
    connection.session.destroy();
  }

  /** Doubles with every failure; half of it is drawn, so that nodes do not keep step. */
  #pauseMs(): number {
    const { settings, random } = this.#node;
    const doublings = Math.min(Math.max(this.#failureCount - 1, 0), 20);
    const fullMs = Math.min(settings.backoffMsMax, settings.backoffMsMin * 2 ** doublings);
    return fullMs * (0.5 + random.unit() / 2);
  }

  #reportOversized(oversizedCount: number): void {
    const { peer, lane } = this.#target;
    const { frameBytesMax } = this.#node.settings;
    this.#node.context.observer({
      level: 'error',
      name: 'frame-item-too-large',
      fields: { peer, lane, oversizedCount, frameBytesMax },
    });
  }
}

interface Connection {
  readonly session: ClientHttp2Session;
  readonly stream: ClientHttp2Stream;
  /** Until the greeting is accepted. */
  readonly deadline: Timer;
  /** There once the greeting was accepted. */
  outbox: Outbox | undefined;
  readySinceMs: number;
}

/** What a peer says about why it refuses; an unknown code is taken for a transport failure. */
function refusalError(refusal: Refusal): KommanderError {
  const code = Object.hasOwn(errorCatalogue, refusal.code) ? refusal.code : 'TRANSPORT_FAILED';
  return new KommanderError(`the peer refused: ${refusal.message.slice(0, 512)}`, {
    code: code as keyof typeof errorCatalogue,
    details: { refusedBy: 'peer', code: refusal.code.slice(0, 64) },
  });
}
