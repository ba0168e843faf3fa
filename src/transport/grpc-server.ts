// The listening side: takes greetings, then frames. The stream of frames is handled here by hand; every other path
// goes to the RPC library on the same server. Whoever sends bytes that are no message is disconnected and counted.

import {
  createServer,
  type Http2Server,
  Http2ServerRequest,
  Http2ServerResponse,
  constants as http2Constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { formatEndpoint, parseEndpoint } from '../base/endpoint.ts';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';
import { coldCalls } from './cold-calls.ts';
import { FrameDecoder } from './frame-decoder.ts';
import { copiedNode, type Greeting, refusalOf, reportRefusal } from './greeting.ts';
import {
  acceptedEvent,
  grpcContentType,
  grpcMessage,
  grpcStatus,
  MessageSplitter,
  readGreeting,
  refusedEvent,
  streamPath,
} from './grpc-framing.ts';
import { type GrpcNode, http2Settings } from './grpc-node.ts';

/** Milliseconds in which a connected process must answer when another one comes with its identity. */
const challengeMsMax = 1_000;

/** Listens for peers. */
export class GrpcServer {
  readonly #node: GrpcNode;
  readonly #onGreeting: (peer: NodeId) => void;
  readonly #server: Http2Server;
  readonly #decoder: FrameDecoder = new FrameDecoder();
  /** Accepted streams by peer and lane. A newer one replaces an older one. */
  readonly #streams: Map<string, InboundStream> = new Map();
  #isClosed = false;

  /** @param onGreeting called when the greeting of a peer was accepted */
  constructor(node: GrpcNode, onGreeting: (peer: NodeId) => void) {
    this.#node = node;
    this.#onGreeting = onGreeting;
    this.#server = createServer({ settings: http2Settings(node.settings) });
    this.#server.maxConnections = node.settings.inboundSessionsMax;
  }

  /** @throws TRANSPORT_FAILED */
  async listen(): Promise<Endpoint> {
    const { listen } = this.#node.context;
    const { host, port } = parseEndpoint(listen, { option: 'listen', portMin: 0 });
    const server = this.#server;
    const handleColdCall = coldCalls(this.#node.context);
    server.on('connection', (socket: Socket) => socket.setNoDelay(true));
    server.on('session', (session) => this.#handleSession(session));
    server.on('stream', (stream, headers, _flags, rawHeaders) => {
      stream.on('error', () => {}); // its 'close' follows, which is what counts
      // The peer may have taken the stream back in the very packet that opened it.
      if (stream.destroyed || stream.closed) return;
      if (headers[':path'] === streamPath) this.#handleStream(stream, headers);
      else
        handleColdCall(
          new Http2ServerRequest(stream, headers, {}, rawHeaders),
          new Http2ServerResponse(stream),
        );
    });
    // Reported once per session by its own listener too.
    server.on('sessionError', () => {});
    await new Promise<void>((resolve, reject) => {
      const fail = (cause: Error): void =>
        reject(
          new KommanderError(`cannot listen at ${listen}: ${cause.message}`, {
            code: 'TRANSPORT_FAILED',
            details: { endpoint: listen },
            cause,
          }),
        );
      server.once('error', fail);
      server.listen({ host, port }, () => {
        server.off('error', fail);
        server.on('error', (error: Error) =>
          this.#report('error', 'listener-failed', { message: error.message }),
        );
        resolve();
      });
    });
    const address = server.address() as AddressInfo;
    return formatEndpoint({ host, port: address.port });
  }

  /** Ends every inbound session, also those of other programs. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const server = this.#server;
    if (!server.listening) return;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
  }

  #handleSession(session: ServerHttp2Session): void {
    session.on('error', (error: Error) => {
      const code = 'code' in error ? String(error.code) : '';
      if (code !== 'ERR_HTTP2_ERROR') return;
      this.#node.counters.peersMalformed += 1;
      this.#report('warn', 'peer-malformed', { peer: undefined, message: error.message });
    });
    this.#node.keeper.add(session);
    if (!session.destroyed) session.setLocalWindowSize(this.#node.settings.windowBytes);
  }

  #handleStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    if (this.#isClosed) return stream.close(http2Constants.NGHTTP2_REFUSED_STREAM);
    const contentType = headers['content-type'] ?? '';
    if (headers[':method'] !== 'POST' || !/^application\/grpc(\+proto|;|$)/.test(contentType)) {
      stream.respond({ ':status': 415, 'accept-post': 'application/grpc' }, { endStream: true });
      stream.close();
      return;
    }
    let greeting: Greeting;
    try {
      greeting = readGreeting(headers);
    } catch (error) {
      if (!isKommanderError(error, 'MALFORMED_MESSAGE')) throw error;
      this.#refuse(stream, undefined, error);
      return;
    }
    const error = refusalOf(this.#node.context.identity, greeting);
    if (error === undefined) this.#admit(stream, greeting);
    else this.#refuse(stream, greeting.nodeId, error);
  }

  #admit(stream: ServerHttp2Stream, greeting: Greeting): void {
    const rival = this.#rivalOf(greeting);
    if (rival === undefined) this.#accept(stream, greeting);
    else this.#challenge(rival, stream, greeting);
  }

  /** A stream of another process with the same identity. */
  #rivalOf({ nodeId, startId }: Greeting): InboundStream | undefined {
    for (const inbound of this.#streams.values()) {
      const { greeting } = inbound;
      if (greeting.nodeId === nodeId && greeting.startId !== startId) return inbound;
    }
    return undefined;
  }

  /**
   * A process that is gone does not answer, and its successor takes its place. One that does is alive: then there are two
   * with one identity, which could vote twice, and the later one is refused.
   */
  #challenge(rival: InboundStream, stream: ServerHttp2Stream, greeting: Greeting): void {
    let isDecided = false;
    const decide = (isAlive: boolean): void => {
      if (isDecided) return;
      isDecided = true;
      timer.cancel();
      if (!isAlive) this.#endStart(rival.greeting);
      if (this.#isClosed || stream.destroyed || stream.closed) return;
      if (isAlive) this.#refuse(stream, greeting.nodeId, copiedNode(greeting, rival.greeting));
      else this.#admit(stream, greeting);
    };
    const timer = this.#node.context.clock.setTimer(challengeMsMax, () => decide(false));
    rival.stream.on('close', () => decide(false));
    // A ping that fails says nothing: the end of the stream or of the time does.
    rival.stream.session?.ping((error) => {
      if (error === null) decide(true);
    });
  }

  /** Ends both lanes of a process. */
  #endStart({ nodeId, startId }: Greeting): void {
    for (const inbound of [...this.#streams.values()]) {
      const { greeting } = inbound;
      if (greeting.nodeId === nodeId && greeting.startId === startId) inbound.end();
    }
  }

  #accept(stream: ServerHttp2Stream, greeting: Greeting): void {
    const key = streamKey(greeting);
    this.#streams.get(key)?.end();
    const splitter = new MessageSplitter(this.#node.settings.frameBytesMax, (message) =>
      this.#handleFrame(greeting, message),
    );
    const inbound: InboundStream = {
      greeting,
      stream,
      end: () => {
        splitter.stop();
        stream.close(http2Constants.NGHTTP2_CANCEL);
        if (this.#streams.get(key) === inbound) this.#streams.delete(key);
      },
    };
    this.#streams.set(key, inbound);
    stream.on('close', () => {
      splitter.stop();
      if (this.#streams.get(key) === inbound) this.#streams.delete(key);
    });
    let status: number = grpcStatus.ok;
    stream.respond(
      { ':status': 200, 'content-type': grpcContentType, 'grpc-accept-encoding': 'identity' },
      { waitForTrailers: true },
    );
    this.#endWithTrailers(stream, () => ({ 'grpc-status': String(status) }));
    stream.write(acceptedEvent(this.#node.context.identity, greeting.versionMax));
    stream.on('data', (chunk: Uint8Array) => {
      try {
        splitter.push(chunk);
      } catch (error) {
        if (!isKommanderError(error, 'MALFORMED_MESSAGE')) throw error;
        splitter.stop();
        status = grpcStatus.invalidArgument;
        this.#disconnect(stream, greeting.nodeId, error);
      }
    });
    stream.on('end', () => stream.end());
    this.#onGreeting(greeting.nodeId);
  }

  #handleFrame(greeting: Greeting, message: Uint8Array): void {
    if (this.#isClosed) return;
    const { context, counters } = this.#node;
    const { frame, skippedCount, firstProblem } = this.#decoder.decode(message);
    counters.framesReceived += 1;
    counters.bytesReceived += message.byteLength;
    if (skippedCount > 0) {
      counters.itemsSkipped += skippedCount;
      const { nodeId: peer, lane } = greeting;
      this.#report('warn', 'frame-items-skipped', { peer, lane, skippedCount, firstProblem });
    }
    context.receive(greeting.nodeId, greeting.lane, frame);
  }

  #disconnect(stream: ServerHttp2Stream, peer: NodeId, error: KommanderError): void {
    this.#node.counters.peersMalformed += 1;
    this.#report('warn', 'peer-malformed', { peer, message: error.message });
    endWithEvent(stream, refusedEvent(error));
  }

  #refuse(stream: ServerHttp2Stream, peer: NodeId | undefined, error: KommanderError): void {
    const { context, counters } = this.#node;
    counters.peersRefused += 1;
    const endpoint = remoteEndpoint(stream);
    reportRefusal(
      context.observer,
      { direction: 'inbound', peer: peer?.slice(0, 64), endpoint },
      error,
    );
    const status =
      error.code === 'MALFORMED_MESSAGE'
        ? grpcStatus.invalidArgument
        : grpcStatus.failedPrecondition;
    stream.respond({ ':status': 200, 'content-type': grpcContentType }, { waitForTrailers: true });
    this.#endWithTrailers(stream, () => ({
      'grpc-status': String(status),
      'grpc-message': grpcMessage(`${error.code}: ${error.message}`),
    }));
    endWithEvent(stream, refusedEvent(error));
  }

  /** Once the answer is written: its trailers, and the end of the stream, whatever the peer still sends. */
  #endWithTrailers(stream: ServerHttp2Stream, trailers: () => OutgoingHttpHeaders): void {
    stream.on('wantTrailers', () => {
      if (stream.destroyed || stream.closed) return;
      stream.sendTrailers(trailers());
      // Resetting at once would overtake the trailers.
      this.#node.context.clock.defer(() => stream.close(http2Constants.NGHTTP2_NO_ERROR));
    });
  }

  #report(level: 'warn' | 'error', name: string, fields: Readonly<Record<string, unknown>>): void {
    this.#node.context.observer({ level, name, fields });
  }
}

interface InboundStream {
  readonly greeting: Greeting;
  readonly stream: ServerHttp2Stream;
  end(): void;
}

function streamKey(greeting: Greeting): string {
  return `${greeting.lane} ${greeting.nodeId}`;
}

/** Says a last word, ends the stream, and then the session: whoever is refused has nothing to do here. */
function endWithEvent(stream: ServerHttp2Stream, event: Uint8Array): void {
  const { session } = stream;
  stream.on('close', () => session?.close());
  stream.end(event);
}

function remoteEndpoint(stream: ServerHttp2Stream): Endpoint | undefined {
  const { remoteAddress, remotePort } = stream.session?.socket ?? {};
  if (remoteAddress === undefined || remotePort === undefined) return undefined;
  return formatEndpoint({ host: remoteAddress, port: remotePort });
}
