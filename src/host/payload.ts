// The payload of a normal entry, as the host writes it: type length (u8), type (UTF-8), timestamp (u53), data. The core,
// the log and the wire do not look inside. An entry without any payload is a new leader's first one.

import {
  ByteReader,
  MalformedBytesError,
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
  const reader = new ByteReader(entry.bytes, entry.start, entry.end);
  const type = typeText(reader.view(reader.uint8()));
  return { type, timestamp: reader.uint53(), data: reader.view(reader.remaining) };
}

/** The timestamp alone. */
export function payloadTimestamp(entry: Entry): Timestamp {
  const reader = new ByteReader(entry.bytes, entry.start, entry.end);
  reader.skip(reader.uint8());
  return reader.uint53();
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

function typeText(bytes: Uint8Array): string {
  for (const known of knownTypes) if (areEqual(known.bytes, bytes)) return known.text;
  const text = utf8Text(bytes);
  remember(bytes.slice(), text);
  return text;
}

function remember(bytes: Uint8Array, text: string): void {
  knownTypes[nextKnownType] = { bytes, text };
  nextKnownType = (nextKnownType + 1) % knownTypesMax;
}

function areEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.byteLength !== b.byteLength) return false;
  for (let i = 0; i < a.byteLength; i++) if (a[i] !== b[i]) return false;
  return true;
}
