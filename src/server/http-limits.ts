// Bounds of the HTTP API: what one client, or many, can make a server hold at a time. Each is reached by a test.

import { assert } from '../base/assert.ts';
import { keyValueLimits } from './key-value-command.ts';

export interface HttpLimits {
  /** Requests being worked on; one more is answered with 429. */
  readonly requestsMax: number;
  /** Bytes of request bodies held by requests being worked on; more is answered with 429. */
  readonly bodyBytesHeldMax: number;
  /** Bytes of a body that is not wanted (too large, or none expected) that are read past before hanging up. */
  readonly bodyBytesDiscardedMax: number;
  /** Open connections; the server accepts and closes at once what comes beyond. */
  readonly connectionsMax: number;
  /** Milliseconds until the headers of a request are complete, then 408. */
  readonly headersTimeoutMs: number;
  /** Milliseconds until a request is complete, then 408. */
  readonly requestTimeoutMs: number;
  /** Milliseconds that an idle connection is kept. */
  readonly keepAliveTimeoutMs: number;
  /** Milliseconds in which a client takes nothing of a stream that waits for it; then it is hung up on. */
  readonly stalledStreamMs: number;
}

export const defaultHttpLimits: HttpLimits = {
  requestsMax: 4_096,
  bodyBytesHeldMax: 268_435_456,
  bodyBytesDiscardedMax: 16_777_216,
  connectionsMax: 10_000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  keepAliveTimeoutMs: 60_000,
  stalledStreamMs: 300_000,
};

/** Keys in one listing, at most. */
export const listedKeysMax = 10_000;
/** Keys in one listing when the request does not say. */
export const listedKeysDefault = 100;
/** Payload bytes of one answer with a stretch of a log; one entry is always served whole. */
export const logBytesMax = 1_048_576;
/** Bytes of a JSON body (transfer). */
export const jsonBytesMax = 4_096;

assert(
  keyValueLimits.valueBytesMax <= defaultHttpLimits.bodyBytesHeldMax,
  'the largest value fits into what the server may hold',
);
assert(
  defaultHttpLimits.headersTimeoutMs <= defaultHttpLimits.requestTimeoutMs,
  'headers are a part of the request',
);
