// The node-wide facts in the store's `meta`: their keys and encodings.

import { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Timestamp } from '../ports/clock.ts';

export const metaKeys = {
  /** The genesis record and this node's acceptance of it (`genesis.ts`). */
  genesis: 'genesis',
  /** Starts of this node so far. */
  incarnation: 'incarnation',
  /** A timestamp at or above all that this node has given to stored entries. */
  clockFloor: 'clock-floor',
} as const;

export function encodeClockFloor(timestamp: Timestamp): Uint8Array {
  return encodeNumber(timestamp);
}

export function encodeNumber(value: number): Uint8Array {
  const writer = new ByteWriter(8);
  writer.uint53(value);
  return writer.finish();
}

/** @throws MalformedBytesError */
export function decodeNumber(bytes: Uint8Array | undefined): number {
  return bytes === undefined ? 0 : new ByteReader(bytes).uint53();
}
