// Reading of requests: target, query parameters, keys and bodies. Nothing is trusted and everything is bounded; what is
// wrong becomes a typed error that names it. Bodies are counted while they arrive, so that nobody can fill the memory.

import type { IncomingMessage } from 'node:http';
import { KommanderError } from '../base/errors.ts';
import type { LogIndex } from '../raft/types.ts';
import { badArgument } from './http-errors.ts';
import type { HttpLimits } from './http-limits.ts';
import { isValidKey, keyValueLimits } from './key-value-command.ts';

export interface RequestTarget {
  /** Still percent-encoded. */
  readonly path: string;
  readonly query: URLSearchParams | undefined;
}

/** @throws INVALID_ARGUMENT the target is no path of printable ASCII */
export function parseTarget(url: string | undefined): RequestTarget {
  const target = url ?? '';
  if (!/^\/[\x21-\x7e]*$/.test(target)) {
    throw badArgument('path', 'the request target is no path of printable ASCII: encode the rest');
  }
  const queryAt = target.indexOf('?');
  if (queryAt === -1) return { path: target, query: undefined };
  return {
    path: target.slice(0, queryAt),
    query: new URLSearchParams(target.slice(queryAt + 1)),
  };
}

/**
 * The key in a path, decoded.
 *
 * @throws INVALID_ARGUMENT not valid UTF-8, empty, or too long
 */
export function parseKey(encoded: string): string {
  const key = percentDecoded(encoded);
  if (key !== undefined && isValidKey(key)) return key;
  const { keyBytesMax } = keyValueLimits;
  throw badArgument('key', `the key must be 1 to ${keyBytesMax} bytes of UTF-8, URL-encoded`);
}

function percentDecoded(text: string): string | undefined {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch (error) {
    if (error instanceof URIError) return undefined;
    throw error;
  }
}

/**
 * The query's parameters, each at most once and none that the route does not know.
 *
 * @throws INVALID_ARGUMENT naming the parameter
 */
export function parseQuery<Name extends string>(
  query: URLSearchParams | undefined,
  names: readonly Name[],
): Readonly<Partial<Record<Name, string>>> {
  const values: Partial<Record<Name, string>> = {};
  if (query === undefined) return values;
  for (const [given, value] of query) {
    const name = names.find((each) => each === given);
    if (name === undefined) {
      const known = names.length === 0 ? 'this request takes none' : `valid: ${names.join(', ')}`;
      throw badArgument(given, `unknown query parameter "${given}"; ${known}`);
    }
    if (values[name] !== undefined) throw badArgument(given, `"${given}" is given twice`);
    values[name] = value;
  }
  return values;
}

/** @throws INVALID_ARGUMENT */
export function parseInteger(
  name: string,
  text: string | undefined,
  range: { readonly min: number; readonly max: number },
): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= range.min && value <= range.max) return value;
  throw badArgument(
    name,
    `"${name}" must be an integer from ${range.min} to ${range.max}, not "${text}"`,
  );
}

/** @throws INVALID_ARGUMENT */
export function parseIfIndex(text: string | undefined): LogIndex | undefined {
  return parseInteger('if-index', text, { min: 0, max: Number.MAX_SAFE_INTEGER - 1 });
}

/** @throws INVALID_ARGUMENT */
export function parseChoice<Choice extends string>(
  name: string,
  text: string | undefined,
  choices: readonly Choice[],
): Choice | undefined {
  if (text === undefined) return undefined;
  const choice = choices.find((each) => each === text);
  if (choice !== undefined) return choice;
  throw badArgument(name, `"${name}" must be one of ${choices.join(', ')}, not "${text}"`);
}

/** Counts the bytes of bodies that a server holds. */
export interface BodyBudget {
  bytesHeld: number;
}

/**
 * Reads a whole body. The bytes count towards `budget` from then on; `release` gives them back.
 *
 * @throws BODY_TOO_LARGE more than `bytesMax`; the rest is read past, up to a bound, so that the client hears of it
 * @throws QUEUE_FULL     the server holds too many bodies
 * @throws ABORTED        the client went away
 */
export function readBody(
  request: IncomingMessage,
  options: { readonly bytesMax: number; readonly limits: HttpLimits; readonly budget: BodyBudget },
): Promise<{ readonly bytes: Uint8Array; readonly release: () => void }> {
  const { bytesMax, limits, budget } = options;
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytesRead = 0;
    let isRefused = false;

    function release(): void {
      budget.bytesHeld -= bytesRead;
      bytesRead = 0;
    }

    function refuse(error: KommanderError): void {
      if (isRefused) return;
      isRefused = true;
      release();
      chunks.length = 0;
      request.removeAllListeners('data');
      discardBody(request, limits);
      reject(error);
    }

    if (Number(request.headers['content-length'] ?? 0) > bytesMax) {
      return refuse(bodyTooLarge(bytesMax));
    }
    request.on('data', (chunk: Buffer) => {
      bytesRead += chunk.byteLength;
      budget.bytesHeld += chunk.byteLength;
      if (bytesRead > bytesMax) return refuse(bodyTooLarge(bytesMax));
      if (budget.bytesHeld > limits.bodyBytesHeldMax) return refuse(tooManyBodies(limits));
      chunks.push(chunk);
    });
    request.on('end', () => {
      if (isRefused) return;
      const [first] = chunks;
      const bytes = chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks);
      resolve({ bytes, release });
    });
    request.on('close', () => {
      if (!request.complete) refuse(bodyIncomplete());
    });
    request.on('error', () => refuse(bodyIncomplete()));
  });
}

/** Reads past a body that nobody wants, and hangs up when it does not end within the bound. */
export function discardBody(request: IncomingMessage, limits: HttpLimits): void {
  let bytesDiscarded = 0;
  request.on('data', (chunk: Buffer) => {
    bytesDiscarded += chunk.byteLength;
    if (bytesDiscarded > limits.bodyBytesDiscardedMax) request.socket.destroy();
  });
  request.on('error', () => {});
}

export function bodyTooLarge(bytesMax: number): KommanderError {
  return new KommanderError(`the body is larger than ${bytesMax} bytes; nothing was written`, {
    code: 'BODY_TOO_LARGE',
    details: { bytesMax },
  });
}

function tooManyBodies(limits: HttpLimits): KommanderError {
  return new KommanderError('the server holds too many request bodies; try again after a pause', {
    code: 'QUEUE_FULL',
    details: { bytesMax: limits.bodyBytesHeldMax },
  });
}

function bodyIncomplete(): KommanderError {
  return new KommanderError('the client went away before the request was complete', {
    code: 'ABORTED',
  });
}
