// The window of append messages that a leader has sent to one follower and not yet seen acknowledged, limited in
// messages and in bytes. A ring that grows only as far as it is used: an idle follower costs nothing.

import { assert } from '../base/assert.ts';
import type { LogIndex } from './types.ts';

export interface Inflights {
  readonly messagesMax: number;
  readonly bytesMax: number;
  /** Last index of each message on the way, oldest first, as a ring. Invariant: ascending from `head` on. */
  indexes: LogIndex[];
  /** Payload bytes of the same messages. */
  sizes: number[];
  head: number;
  count: number;
  bytes: number;
}

export function newInflights(limits: {
  readonly messagesMax: number;
  readonly bytesMax: number;
}): Inflights {
  assert(limits.messagesMax > 0, 'a window lets a message through');
  const { messagesMax, bytesMax } = limits;
  return { messagesMax, bytesMax, indexes: [], sizes: [], head: 0, count: 0, bytes: 0 };
}

/** Whether nothing more may be sent until something is acknowledged. */
export function isFull(inflights: Inflights): boolean {
  return inflights.count >= inflights.messagesMax || inflights.bytes >= inflights.bytesMax;
}

/** Notes a message whose last entry is `lastIndex`. The window must not be full. */
export function addInflight(inflights: Inflights, lastIndex: LogIndex, bytes: number): void {
  assert(!isFull(inflights), 'nothing is sent through a full window');
  if (inflights.count === inflights.indexes.length) grow(inflights);
  const at = (inflights.head + inflights.count) % inflights.indexes.length;
  inflights.indexes[at] = lastIndex;
  inflights.sizes[at] = bytes;
  inflights.count += 1;
  inflights.bytes += bytes;
}

/** Frees every message up to `index`, inclusive. */
export function freeInflightsThrough(inflights: Inflights, index: LogIndex): void {
  while (inflights.count > 0 && (inflights.indexes[inflights.head] as LogIndex) <= index) {
    inflights.bytes -= inflights.sizes[inflights.head] as number;
    inflights.count -= 1;
    inflights.head = (inflights.head + 1) % inflights.indexes.length;
  }
  assert(inflights.bytes >= 0, 'freed bytes were sent before');
}

export function clearInflights(inflights: Inflights): void {
  inflights.head = 0;
  inflights.count = 0;
  inflights.bytes = 0;
}

function grow(inflights: Inflights): void {
  const { indexes, sizes, head, count, messagesMax } = inflights;
  const capacity = Math.min(messagesMax, Math.max(8, count * 2));
  const grownIndexes = new Array<LogIndex>(capacity).fill(0);
  const grownSizes = new Array<number>(capacity).fill(0);
  for (let i = 0; i < count; i++) {
    grownIndexes[i] = indexes[(head + i) % count] as LogIndex;
    grownSizes[i] = sizes[(head + i) % count] as number;
  }
  inflights.indexes = grownIndexes;
  inflights.sizes = grownSizes;
  inflights.head = 0;
}
