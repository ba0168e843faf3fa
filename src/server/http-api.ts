// The HTTP server of one node: it finds the route, bounds what is under way, turns every failure into the JSON error of
// the contract, and ends in order (requests under way are answered, new ones are refused). What the routes do is in
// http-routes.ts; the contract is docs/reference/http-api.md.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { formatEndpoint, parseEndpoint } from '../base/endpoint.ts';
import { type ErrorCode, KommanderError } from '../base/errors.ts';
import { type Observer, silentObserver } from '../ports/observer.ts';
import type { Endpoint } from '../ports/transport.ts';
import { clientError, errorBody, httpStatusOf, retryAfterSeconds } from './http-errors.ts';
import { defaultHttpLimits, type HttpLimits } from './http-limits.ts';
import { type BodyBudget, bodyTooLarge, discardBody, parseTarget } from './http-request.ts';
import {
  type Answer,
  type Handler,
  jsonAnswer,
  type KeyValueService,
  type Route,
  routes,
  type WholeAnswer,
} from './http-routes.ts';
import { keyValueLimits } from './key-value-command.ts';

export interface HttpApiOptions {
  /** `host:port`; port 0 takes a free one. */
  readonly listen: Endpoint;
  readonly observer?: Observer;
  readonly limits?: Partial<HttpLimits>;
}

export interface HttpApi {
  /** Where it listens. */
  readonly endpoint: Endpoint;
  /** Begins to serve the node; until then everything but `/healthz` is answered with SERVER_STARTING. */
  attach(service: KeyValueService): void;
  /**
   * Refuses new connections and requests from now on; resolves when those under way are answered, or after `waitMs`.
   */
  drain(waitMs: number): Promise<void>;
  /** Closes every connection. Idempotent. */
  close(): Promise<void>;
}

interface ApiState {
  readonly server: Server;
  readonly limits: HttpLimits;
  readonly observer: Observer;
  readonly budget: BodyBudget;
  service: KeyValueService | undefined;
  /** Requests that were taken and not yet answered. */
  requestCount: number;
  isClosing: boolean;
  /** Called when the last request was answered while closing. */
  drained: () => void;
}

/**
 * Opens the server; it answers SERVER_STARTING until a service is attached.
 *
 * @throws TRANSPORT_FAILED the address cannot be bound
 * @throws INVALID_OPTION   `listen` is no endpoint
 */
export async function openHttpApi(options: HttpApiOptions): Promise<HttpApi> {
  const limits = { ...defaultHttpLimits, ...options.limits };
  const state: ApiState = {
    server: createServer({
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: Math.min(1_000, limits.headersTimeoutMs),
      noDelay: true,
    }),
    limits,
    observer: options.observer ?? silentObserver,
    budget: { bytesHeld: 0 },
    service: undefined,
    requestCount: 0,
    isClosing: false,
    drained: () => {},
  };
  const { server } = state;
  server.maxConnections = limits.connectionsMax;
  server.on('request', (request, response) => void answerRequest(state, request, response));
  server.on('checkContinue', (request, response) => answerExpectation(state, request, response));
  server.on('clientError', (error, socket) => answerGarbage(error, socket as Socket));
  await listen(server, options.listen);
  const { address, port } = server.address() as AddressInfo;

  return {
    endpoint: formatEndpoint({ host: address, port }),
    attach(service) {
      state.service = service;
    },
    drain: (waitMs) => drain(state, waitMs),
    async close() {
      await drain(state, 0);
      server.closeAllConnections();
    },
  };
}

function listen(server: Server, endpoint: Endpoint): Promise<void> {
  const { host, port } = parseEndpoint(endpoint, { option: 'http', portMin: 0 });
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        new KommanderError(`cannot listen for HTTP on ${endpoint}: ${error.message}`, {
          code: 'TRANSPORT_FAILED',
          details: { endpoint },
          cause: error,
        }),
      );
    });
    server.listen(port, host, resolve);
  });
}

async function drain(state: ApiState, waitMs: number): Promise<void> {
  if (!state.isClosing) {
    state.isClosing = true;
    state.server.close();
  }
  if (state.requestCount === 0 || waitMs === 0) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, waitMs);
    state.drained = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}

/** Owns the request: always answers or hangs up, never rejects. */
async function answerRequest(
  state: ApiState,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const abort = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) abort.abort();
  });
  state.requestCount += 1;
  try {
    await answerWith(state, request, response, await answerOf(state, request, abort.signal));
  } catch (error) {
    sendError(state, request, response, error);
  } finally {
    state.requestCount -= 1;
    if (state.requestCount === 0) state.drained();
  }
}

async function answerOf(
  state: ApiState,
  request: IncomingMessage,
  signal: AbortSignal,
): Promise<Answer> {
  const { path, query } = parseTarget(request.url);
  const { route, captured } = findRoute(path);
  const handler = handlerOf(route, request.method ?? '', path);
  const { service, limits, budget } = state;
  if (service === undefined) {
    if (path === '/healthz') return jsonAnswer(200, { status: 'starting' });
    throw refusal('SERVER_STARTING', 'the node is restoring its data');
  }
  if (state.isClosing) throw refusal('SERVER_CLOSING', 'the server is shutting down');
  if (state.requestCount > limits.requestsMax && !route.isForOperators) {
    throw refusal('QUEUE_FULL', `more than ${limits.requestsMax} requests are under way`);
  }
  return await handler(service, { request, captured, query, signal, limits, budget });
}

/** A stream is taken as fast as the client takes it, and given up when the client goes away. */
async function answerWith(
  state: ApiState,
  request: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
): Promise<void> {
  if (!('stream' in answer)) {
    send(state, request, response, answer);
    return;
  }
  const source = Readable.from(answer.stream, { objectMode: false });
  hangUpWhenStalled(response, state.limits.stalledStreamMs);
  try {
    if (!response.destroyed) writeHead(state, request, response, answer);
    await pipeline(source, response);
  } catch (error) {
    // The answer has begun: all that is left is to hang up, so that nobody takes it for a whole one.
    if (!request.destroyed && !response.destroyed) reportBug(state.observer, request, error);
    response.destroy();
  }
}

/** What a stream is made of (a log that is not compacted, a snapshot that stays) is held no longer for a client that takes nothing. */
function hangUpWhenStalled(response: ServerResponse, stalledMs: number): void {
  response.setTimeout(stalledMs, () => {
    // With nothing to take it is the source that takes its time.
    if (response.writableLength > 0) response.destroy();
    else response.setTimeout(stalledMs);
  });
}

function findRoute(path: string): { readonly route: Route; readonly captured: string } {
  for (const route of routes) {
    const match = route.pattern.exec(path);
    if (match !== null) return { route, captured: match[1] ?? '' };
  }
  throw new KommanderError(`there is no such path: ${path.slice(0, 200)}`, {
    code: 'ROUTE_NOT_FOUND',
    details: { path: path.slice(0, 200) },
  });
}

function handlerOf(route: Route, method: string, path: string): Handler {
  const handler = route.methods[method === 'HEAD' ? 'GET' : method];
  if (handler !== undefined) return handler;
  const allow = Object.keys(route.methods).flatMap((each) =>
    each === 'GET' ? ['GET', 'HEAD'] : [each],
  );
  throw new KommanderError(`${path.slice(0, 200)} does not take ${method}`, {
    code: 'METHOD_NOT_ALLOWED',
    details: { allow },
  });
}

function refusal(code: ErrorCode, reason: string): KommanderError {
  return new KommanderError(`${reason}; nothing was written`, { code });
}

function send(
  state: ApiState,
  request: IncomingMessage,
  response: ServerResponse,
  answer: WholeAnswer,
): void {
  if (response.destroyed) return;
  writeHead(state, request, response, answer);
  response.end(answer.body);
}

function writeHead(
  state: ApiState,
  request: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
): void {
  if (!request.complete && request.listenerCount('data') === 0) discardBody(request, state.limits);
  response.writeHead(answer.status, {
    ...contentHeaders(answer),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...answer.headers,
    ...(state.isClosing ? { connection: 'close' } : undefined),
  });
}

function contentHeaders(answer: Answer): Readonly<Record<string, string | number>> {
  if ('stream' in answer) return { 'content-type': 'application/octet-stream' };
  const { body } = answer;
  return typeof body === 'string'
    ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
    : { 'content-type': 'application/octet-stream', 'content-length': body.length };
}

function sendError(
  state: ApiState,
  request: IncomingMessage,
  response: ServerResponse,
  thrown: unknown,
): void {
  const error = clientError(thrown);
  if (error.code === 'INTERNAL_ERROR') reportBug(state.observer, request, thrown);
  const status = httpStatusOf[error.code];
  const headers: Record<string, string | number> = {};
  if (status === 429 || status === 503) headers['retry-after'] = retryAfterSeconds;
  if (status === 405) headers.allow = [error.details.allow ?? []].flat().join(', ');
  send(state, request, response, { status, headers, body: errorBody(error) });
}

function reportBug(observer: Observer, request: IncomingMessage, thrown: unknown): void {
  observer({
    level: 'error',
    name: 'http-request-failed',
    fields: {
      method: request.method,
      path: request.url?.slice(0, 200),
      error: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown),
    },
  });
}

/** `Expect: 100-continue`: a body that would be refused is not asked for. */
function answerExpectation(
  state: ApiState,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const bytesMax = keyValueLimits.valueBytesMax;
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) {
    const headers = { connection: 'close' };
    send(state, request, response, {
      status: 413,
      headers,
      body: errorBody(bodyTooLarge(bytesMax)),
    });
    return;
  }
  response.writeContinue();
  void answerRequest(state, request, response);
}

const garbageStatuses: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

/** Bytes that are no HTTP request, or that do not come in time. */
function answerGarbage(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const body = errorBody(
    new KommanderError(`no valid HTTP request: ${error.message}`, { code: 'INVALID_ARGUMENT' }),
  );
  socket.end(
    `HTTP/1.1 ${garbageStatuses[error.code ?? ''] ?? '400 Bad Request'}\r\n` +
      'content-type: application/json\r\n' +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
