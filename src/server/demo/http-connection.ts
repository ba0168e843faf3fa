// A frugal HTTP/1.1 client: one keep-alive connection, one request at a time, no pools and no streams. The load
// generator shares two cores with three nodes, so it must not cost what it measures. It knows whether a failed request
// can have reached the server, which decides whether a write is indeterminate.

import { connect, type Socket } from 'node:net';

export interface HttpReply {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** No reply came. */
export class ConnectionFailure extends Error {
  override readonly name = 'ConnectionFailure';
  /** Whether bytes of the request may have reached the server. */
  readonly wasSent: boolean;

  constructor(reason: string, wasSent: boolean) {
    super(reason);
    this.wasSent = wasSent;
  }
}

export interface HttpRequest {
  readonly method: 'GET' | 'PUT';
  /** Percent-encoded. */
  readonly path: string;
  readonly body?: string;
}

interface Pending {
  readonly resolve: (reply: HttpReply) => void;
  readonly reject: (failure: ConnectionFailure) => void;
}

/** A connection to one port of this machine; it connects when it is needed, and again after a failure. */
export class HttpConnection {
  readonly #port: number;
  readonly #timeoutMs: number;
  #socket: Socket | undefined;
  #isConnected = false;
  #received = '';
  #pending: Pending | undefined;

  /** @param timeoutMs silence after which a request is given up */
  constructor(port: number, timeoutMs: number) {
    this.#port = port;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Sends a request and waits for its reply. One at a time.
   *
   * @throws ConnectionFailure
   */
  request(request: HttpRequest): Promise<HttpReply> {
    return new Promise((resolve, reject) => {
      if (this.#pending !== undefined) throw new Error('one request at a time');
      this.#pending = { resolve, reject };
      this.#socket ??= this.#open();
      this.#socket.write(requestText(request), 'latin1');
    });
  }

  close(): void {
    this.#socket?.destroy();
    this.#fail('the connection was closed by its owner');
  }

  #open(): Socket {
    const socket = connect({ port: this.#port, host: '127.0.0.1', noDelay: true });
    this.#isConnected = false;
    this.#received = '';
    socket.setEncoding('latin1');
    socket.setTimeout(this.#timeoutMs);
    socket.on('connect', () => {
      this.#isConnected = true;
    });
    socket.on('data', (text: string) => this.#take(text));
    socket.on('timeout', () => {
      if (this.#pending !== undefined)
        socket.destroy(new Error(`silent for ${this.#timeoutMs} ms`));
    });
    let reason = 'the server closed the connection';
    socket.on('error', (error) => {
      reason = error.message;
    });
    socket.on('close', () => {
      if (this.#socket === socket) this.#fail(reason);
    });
    return socket;
  }

  #take(text: string): void {
    this.#received += text;
    const parsed = parseReply(this.#received);
    if (parsed === 'incomplete') return;
    if (parsed === 'malformed' || this.#pending === undefined) {
      this.#socket?.destroy(new Error('an answer that is no HTTP'));
      return;
    }
    const { resolve } = this.#pending;
    this.#pending = undefined;
    this.#received = '';
    if (parsed.headers.get('connection') === 'close') this.#drop();
    resolve(parsed);
  }

  #fail(reason: string): void {
    const pending = this.#pending;
    const wasSent = this.#isConnected;
    this.#pending = undefined;
    this.#drop();
    pending?.reject(new ConnectionFailure(reason, wasSent));
  }

  #drop(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#isConnected = false;
  }
}

/** Paths and bodies of the demo are ASCII. */
function requestText({ method, path, body }: HttpRequest): string {
  const head = `${method} ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n`;
  if (body === undefined) return `${head}\r\n`;
  return `${head}content-length: ${body.length}\r\n\r\n${body}`;
}

/** The reply, if all of it is there. Only what our own server sends: a length, no chunks, no trailing bytes. */
function parseReply(text: string): HttpReply | 'incomplete' | 'malformed' {
  const headEnd = text.indexOf('\r\n\r\n');
  if (headEnd === -1) return 'incomplete';
  const [statusLine = '', ...headerLines] = text.slice(0, headEnd).split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(statusLine)?.[1]);
  const headers = new Map<string, string>();
  for (const line of headerLines) {
    const colonAt = line.indexOf(':');
    headers.set(line.slice(0, colonAt).toLowerCase(), line.slice(colonAt + 1).trim());
  }
  const bodyBytes = Number(headers.get('content-length'));
  if (!Number.isInteger(status) || !Number.isInteger(bodyBytes)) return 'malformed';
  const body = text.slice(headEnd + 4);
  if (body.length < bodyBytes) return 'incomplete';
  return body.length > bodyBytes ? 'malformed' : { status, headers, body };
}
