// The payload of a normal entry, as the host writes it: type length (u8), type (UTF-8), timestamp (u53), data. The core,
// the log and the wire do not look inside. An entry without any payload is a new leader's first one.

import {
  ByteReader,
  MalformedBytesError,
  readUint53,
  utf8Bytes,
  utf8Text,
  writeUint32,
} from '../base/bytes.ts';
import type { Timestamp } from '../ports/clock.ts';
import type { RunPayload } from '../ports/run.ts';
import { type Entry, EntryKind } from '../raft/types.ts';

/** Bytes of an entry's type. */
export const typeBytesMax = 255;

const timestampBytes = 8;

/** A payload on its way into a log. The leader stamps it when it is appended. */
export class OutgoingPayload implements RunPayload {
  readonly kind: typeof EntryKind.normal = EntryKind.normal;
  readonly type: Uint8Array;
  readonly data: Uint8Array;
  timestamp: Timestamp = 0;

  constructor(type: Uint8Array, data: Uint8Array) {
    this.type = type;
    this.data = data;
  }

  /** The caller gave the buffer away meanwhile (a transfer to another thread): the data is gone. */
  get isGone(): boolean {
    const { buffer } = this.data;
    return buffer instanceof ArrayBuffer && buffer.detached;
  }

  get byteLength(): number {
    return 1 + this.type.byteLength + timestampBytes + this.data.byteLength;
  }

  write(target: Uint8Array, offset: number): void {
    const { type, data, timestamp } = this;
    target[offset] = type.byteLength;
    target.set(type, offset + 1);
    const at = offset + 1 + type.byteLength;
    writeUint32(target, at, timestamp % 0x1_0000_0000);
    writeUint32(target, at + 4, Math.floor(timestamp / 0x1_0000_0000));
    target.set(data, at + timestampBytes);
  }
}

/** The payload alone, as it is passed on to a leader. */
export function encodePayload(payload: OutgoingPayload): Uint8Array {
  const bytes = new Uint8Array(payload.byteLength);
  payload.write(bytes, 0);
  return bytes;
}

/**
 * Takes a payload that another node passed on; it keeps views of `bytes`.
 *
 * @throws MalformedBytesError
 */
export function outgoingPayloadFrom(bytes: Uint8Array): OutgoingPayload {
  const reader = new ByteReader(bytes);
  const type = reader.view(reader.uint8());
  if (type.byteLength === 0) throw new MalformedBytesError('a payload without a type');
  utf8Text(type);
  reader.skip(timestampBytes);
  return new OutgoingPayload(type, reader.view(reader.remaining));
}

export interface DecodedPayload {
  readonly type: string;
  readonly timestamp: Timestamp;
  /** A view. */
  readonly data: Uint8Array;
}

/** @throws MalformedBytesError */
export function decodePayload(entry: Entry): DecodedPayload {
  // On the hot path of every replica: read in place, without a cursor.
  const { bytes, start, end } = entry;
  const timestampAt = timestampPlace(entry);
  return {
    type: typeText(bytes, start + 1, timestampAt),
    timestamp: readUint53(bytes, timestampAt),
    data: bytes.subarray(timestampAt + timestampBytes, end),
  };
}

/** The timestamp alone. */
export function payloadTimestamp(entry: Entry): Timestamp {
  return readUint53(entry.bytes, timestampPlace(entry));
}

function timestampPlace({ bytes, start, end }: Entry): number {
  if (start === end) throw new MalformedBytesError('an entry without a payload has no type');
  const place = start + 1 + (bytes[start] as number);
  if (place + timestampBytes <= end) return place;
  throw new MalformedBytesError(`a payload of ${end - start} bytes ends before its timestamp does`);
}

/** An application has few types: the texts of the last ones are kept, so that decoding does not allocate them anew. */
const knownTypesMax = 32;
const knownTypes: { readonly bytes: Uint8Array; readonly text: string }[] = [];
let nextKnownType = 0;

/** The UTF-8 form of a type that the application passed. */
export function typeBytes(type: string): Uint8Array {
  for (const known of knownTypes) if (known.text === type) return known.bytes;
  const bytes = utf8Bytes(type);
  remember(bytes, type);
  return bytes;
}

function typeText(bytes: Uint8Array, start: number, end: number): string {
  for (const known of knownTypes) if (standsAt(known.bytes, bytes, start, end)) return known.text;
  const own = bytes.slice(start, end);
  const text = utf8Text(own);
  remember(own, text);
  return text;
}

function remember(bytes: Uint8Array, text: string): void {
  knownTypes[nextKnownType] = { bytes, text };
  nextKnownType = (nextKnownType + 1) % knownTypesMax;
}

function standsAt(known: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (known.byteLength !== end - start) return false;
  for (let i = 0; i < known.byteLength; i++) if (known[i] !== bytes[start + i]) return false;
  return true;
}
