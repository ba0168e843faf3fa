// What gRPC puts around messages: the five-byte prefix, the metadata that carries the greeting, the events of the
// answer. Spoken here by hand over node:http2; any gRPC implementation understands it.

import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { assert, must } from '../base/assert.ts';
import { KommanderError } from '../base/errors.ts';
import { Lane, type NodeIdentity } from '../ports/transport.ts';
import type { EncodedFrame } from './frame-encoder.ts';
import { type StreamEvent, StreamEventSchema } from './generated/kommander/v1/raft_pb.ts';
import { type Greeting, protocolVersionMax } from './greeting.ts';

export const streamPath = '/kommander.v1.Raft/Stream';
export const grpcContentType = 'application/grpc+proto';
/** Before every message: one byte of flags, four bytes of length, big-endian. */
export const prefixBytes = 5;
/** Characters of a cluster id in a greeting. */
const clusterIdCharsMax = 256;

/** Status codes of gRPC that this transport answers with. */
export const grpcStatus = {
  ok: 0,
  invalidArgument: 3,
  failedPrecondition: 9,
  unavailable: 14,
} as const;

/** Fills in the prefix of a frame that was encoded with `prefixBytes` of headroom. */
export function sealPrefix(frame: EncodedFrame): void {
  const first = must(frame.chunks[0], 'a frame has a chunk for its headroom');
  writePrefix(first, frame.byteLength - prefixBytes);
}

function writePrefix(target: Uint8Array, messageBytes: number): void {
  target[0] = 0;
  target[1] = messageBytes >>> 24;
  target[2] = messageBytes >>> 16;
  target[3] = messageBytes >>> 8;
  target[4] = messageBytes;
}

/** Cuts a byte stream into messages. */
export class MessageSplitter {
  readonly #messageBytesMax: number;
  readonly #onMessage: (message: Uint8Array) => void;
  readonly #prefix: Uint8Array = new Uint8Array(prefixBytes);
  #prefixLength = 0;
  /** The message that is not complete yet, and how much of it is there. */
  #partial: Uint8Array | undefined;
  #partialLength = 0;
  #isStopped = false;

  /** @param onMessage gets views that nobody changes afterwards */
  constructor(messageBytesMax: number, onMessage: (message: Uint8Array) => void) {
    this.#messageBytesMax = messageBytesMax;
    this.#onMessage = onMessage;
  }

  /** No message is given out any more, not even the rest of the chunk that is being cut. */
  stop(): void {
    this.#isStopped = true;
    this.#partial = undefined;
  }

  /**
   * Takes what arrived.
   *
   * @throws MALFORMED_MESSAGE compressed, or larger than the maximum
   */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.byteLength && !this.#isStopped) {
      if (this.#partial !== undefined) at = this.#fill(chunk, at);
      else if (this.#prefixLength === 0 && chunk.byteLength - at >= prefixBytes)
        at = this.#begin(chunk, this.#bodyLength(chunk, at), at + prefixBytes);
      else at = this.#gatherPrefix(chunk, at);
    }
  }

  /** A prefix that is spread over chunks. */
  #gatherPrefix(chunk: Uint8Array, at: number): number {
    this.#prefix[this.#prefixLength++] = chunk[at] as number;
    if (this.#prefixLength < prefixBytes) return at + 1;
    this.#prefixLength = 0;
    return this.#begin(chunk, this.#bodyLength(this.#prefix, 0), at + 1);
  }

  #bodyLength(bytes: Uint8Array, at: number): number {
    if (bytes[at] !== 0) throw malformed(`a message has flags ${bytes[at]}; none are supported`);
    const length =
      (bytes[at + 1] as number) * 0x100_0000 +
      (((bytes[at + 2] as number) << 16) |
        ((bytes[at + 3] as number) << 8) |
        (bytes[at + 4] as number));
    if (length > this.#messageBytesMax)
      throw malformed(`a message of ${length} bytes; ${this.#messageBytesMax} are allowed`);
    return length;
  }

  #begin(chunk: Uint8Array, length: number, at: number): number {
    const end = at + length;
    if (end <= chunk.byteLength) {
      this.#onMessage(chunk.subarray(at, end));
      return end;
    }
    // Not zeroed: it is given out only when it was filled.
    this.#partial = Buffer.allocUnsafeSlow(length);
    this.#partialLength = 0;
    return at;
  }

  #fill(chunk: Uint8Array, at: number): number {
    const partial = must(this.#partial, 'a message is being filled');
    const length = Math.min(partial.byteLength - this.#partialLength, chunk.byteLength - at);
    partial.set(chunk.subarray(at, at + length), this.#partialLength);
    this.#partialLength += length;
    assert(this.#partialLength <= partial.byteLength, 'a message is not overfilled');
    if (this.#partialLength === partial.byteLength) {
      this.#partial = undefined;
      this.#onMessage(partial);
    }
    return at + length;
  }
}

/** The greeting as request metadata. */
export function greetingHeaders(greeting: Greeting): OutgoingHttpHeaders {
  return {
    'kommander-cluster-id': encodeURIComponent(greeting.clusterId.toWellFormed()),
    'kommander-node-id': greeting.nodeId,
    'kommander-incarnation': String(greeting.incarnation),
    'kommander-start-id': greeting.startId,
    'kommander-peer-id': greeting.peerId,
    'kommander-lane': greeting.lane,
    'kommander-protocol-min': String(greeting.versionMin),
    'kommander-protocol-max': String(greeting.versionMax),
  };
}

/**
 * Reads a greeting.
 *
 * @throws MALFORMED_MESSAGE a part is missing or not what it should be
 */
export function readGreeting(headers: IncomingHttpHeaders): Greeting {
  const lane = headerText(headers, 'lane');
  if (lane !== Lane.control && lane !== Lane.bulk) throw badGreeting('lane');
  return {
    clusterId: readClusterId(headers),
    nodeId: headerText(headers, 'node-id'),
    incarnation: headerNumber(headers, 'incarnation'),
    startId: readStartId(headers),
    peerId: headerText(headers, 'peer-id'),
    lane,
    versionMin: headerNumber(headers, 'protocol-min'),
    versionMax: headerNumber(headers, 'protocol-max'),
  };
}

function readClusterId(headers: IncomingHttpHeaders): string {
  const text = headerText(headers, 'cluster-id', clusterIdCharsMax * 12);
  try {
    const clusterId = decodeURIComponent(text);
    if (clusterId.length <= clusterIdCharsMax) return clusterId;
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
  }
  throw badGreeting('cluster-id');
}

function readStartId(headers: IncomingHttpHeaders): string {
  const text = headerText(headers, 'start-id');
  if (!/^[A-Za-z0-9]+$/.test(text)) throw badGreeting('start-id');
  return text;
}

function headerText(headers: IncomingHttpHeaders, name: string, charsMax = 64): string {
  const value = headers[`kommander-${name}`];
  if (typeof value !== 'string' || value.length > charsMax) throw badGreeting(name);
  return value;
}

function headerNumber(headers: IncomingHttpHeaders, name: string): number {
  const text = headerText(headers, name);
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw badGreeting(name);
  return value;
}

function badGreeting(name: string): KommanderError {
  return malformed(`the greeting's kommander-${name} is missing or not valid`);
}

/** A message that nobody can use. */
export function malformed(message: string, cause?: unknown): KommanderError {
  return new KommanderError(message, { code: 'MALFORMED_MESSAGE', cause });
}

/** The event that accepts a greeting, with prefix. It chooses the newest version that both sides speak. */
export function acceptedEvent(
  identity: Omit<NodeIdentity, 'startId'>,
  peerVersionMax: number,
): Uint8Array {
  const value = {
    clusterId: identity.clusterId,
    nodeId: identity.nodeId,
    incarnation: BigInt(identity.incarnation),
    protocolVersion: Math.min(protocolVersionMax, peerVersionMax),
  };
  return eventBytes(create(StreamEventSchema, { event: { case: 'accepted', value } }));
}

/** The event that refuses a greeting or ends a stream, with prefix. */
export function refusedEvent(error: KommanderError): Uint8Array {
  const { code, message, details } = error;
  const value = { code, message, detailsJson: JSON.stringify(details) };
  return eventBytes(create(StreamEventSchema, { event: { case: 'refused', value } }));
}

function eventBytes(event: StreamEvent): Uint8Array {
  const message = toBinary(StreamEventSchema, event);
  const bytes = new Uint8Array(prefixBytes + message.byteLength);
  writePrefix(bytes, message.byteLength);
  bytes.set(message, prefixBytes);
  return bytes;
}

/** @throws MALFORMED_MESSAGE */
export function readEvent(bytes: Uint8Array): StreamEvent['event'] {
  try {
    return fromBinary(StreamEventSchema, bytes).event;
  } catch (error) {
    throw malformed(`an answer of ${bytes.byteLength} bytes is broken`, error);
  }
}

/** Text of a peer's making, cut to a length that can be reported, percent-encoded as gRPC wants it. */
export function grpcMessage(text: string): string {
  return encodeURI(text.slice(0, 512).toWellFormed());
}
