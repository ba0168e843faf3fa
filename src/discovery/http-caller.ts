// Calls to a registry over HTTP, with JSON in both directions: one after another address when one fails, with a bound on
// what is read. What the answers mean is not known here.

import * as http from 'node:http';
import * as https from 'node:https';

/** Characters of one answer; a longer one is a failure. */
const answerLengthMax = 16_777_216;

export interface HttpCall {
  readonly method: 'GET' | 'PUT' | 'POST';
  /** With the query. */
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Whether what was read so far is all that is wanted: ends answers that have no end. */
  isEnough?(text: string): boolean;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
}

export interface HttpCaller {
  /** The addresses, for messages. */
  readonly hosts: string;
  /** Rejects with an error that names the address. */
  call(call: HttpCall): Promise<HttpAnswer>;
  close(): void;
}

/** @param urls at least one; the next one is tried when one fails */
export function httpCaller(urls: readonly URL[]): HttpCaller {
  const agents = {
    'http:': new http.Agent({ keepAlive: true }),
    'https:': new https.Agent({ keepAlive: true }),
  };
  let at = 0;
  return {
    hosts: urls.map(({ host }) => host).join(', '),
    async call(call) {
      const url = urls[at % urls.length] as URL;
      try {
        return await request(
          url,
          url.protocol === 'https:' ? agents['https:'] : agents['http:'],
          call,
        );
      } catch (error) {
        at = (at + 1) % urls.length;
        const reason = error instanceof Error ? error.message : String(error);
        throw new Error(`${url.host}: ${reason}`, { cause: error });
      }
    },
    close() {
      for (const agent of Object.values(agents)) agent.destroy();
    },
  };
}

function request(url: URL, agent: http.Agent, call: HttpCall): Promise<HttpAnswer> {
  const { method, path, body, headers, signal } = call;
  const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  const { request: open } = url.protocol === 'https:' ? https : http;
  // Without the user that the URL may name: Node would send it as basic authentication.
  const sent = open(new URL(path, url.origin), {
    method,
    agent,
    signal,
    headers: {
      accept: 'application/json',
      ...(bytes && { 'content-type': 'application/json', 'content-length': bytes.byteLength }),
      ...headers,
    },
  });
  sent.on('error', reject);
  sent.on('response', (response) => {
    let text = '';
    const settle = (): void =>
      resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
    response.setEncoding('utf8');
    response.on('error', reject);
    response.on('data', (piece: string) => {
      text += piece;
      if (text.length > answerLengthMax) {
        response.destroy(new Error(`the answer is longer than ${answerLengthMax} characters`));
      } else if (call.isEnough?.(text) === true) {
        settle();
        sent.destroy();
      }
    });
    response.on('end', settle);
    response.on('close', () => reject(new Error('the connection was lost')));
  });
  sent.end(bytes);
  return promise;
}

/** What a JSON text means. @throws an error that shows how the text begins */
export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`the answer is no JSON: ${JSON.stringify(text.slice(0, 64))}`, { cause });
  }
}

/** A field of a JSON object; undefined when there is none or `value` is no object. */
export function fieldOf(value: unknown, ...path: readonly string[]): unknown {
  let found = value;
  for (const name of path) {
    if (typeof found !== 'object' || found === null) return undefined;
    found = (found as Record<string, unknown>)[name];
  }
  return found;
}

/** A list in a JSON value; empty when there is none. */
export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** A text in a JSON value; empty when there is none. */
export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
