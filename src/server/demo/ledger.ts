// What the writers know, and what must therefore be in the store. Every key has one writer, which writes one value
// after the other, each with its own sequence number. A write is acknowledged (it is in the log at an index), failed
// (surely without effect) or indeterminate (it may have taken effect, or may still). From this follows exactly what a
// linearizable read may return; anything else is a lost write.

import { assert } from '../../base/assert.ts';

/** What a read found: the write's sequence number, and the index of the key's last write in the partition's log. */
export interface FoundWrite {
  readonly sequence: number;
  readonly index: number;
}

/** Indeterminate writes of a key that are remembered; older ones are believed to have found their fate. */
const indeterminateKeptMax = 256;

/** The history of one key. Data only; the functions below keep its rules. */
export interface KeyLedger {
  readonly key: string;
  /** Sequence number of the last write that was begun; 0: none. */
  lastSequence: number;
  /** The last acknowledged write. */
  acknowledged: FoundWrite | undefined;
  /** Sequence numbers of writes whose fate is open, ascending. At most `indeterminateKeptMax`. */
  readonly indeterminate: number[];
}

export function emptyLedger(key: string): KeyLedger {
  return { key, lastSequence: 0, acknowledged: undefined, indeterminate: [] };
}

/** Begins a write and returns its sequence number. */
export function beginWrite(ledger: KeyLedger): number {
  ledger.lastSequence += 1;
  return ledger.lastSequence;
}

/** The write took effect at `index`. */
export function acknowledgeWrite(ledger: KeyLedger, write: FoundWrite): void {
  assert(write.sequence === ledger.lastSequence, 'a key has one write at a time');
  ledger.acknowledged = write;
}

/** Nobody knows whether the write takes effect. */
export function leaveOpen(ledger: KeyLedger, sequence: number): void {
  assert(sequence === ledger.lastSequence, 'a key has one write at a time');
  ledger.indeterminate.push(sequence);
  if (ledger.indeterminate.length > indeterminateKeptMax) ledger.indeterminate.shift();
}

/**
 * Judges what a linearizable read returned that began after the ledger's last entry.
 *
 * The log orders all writes. Nothing that is older in the log than the acknowledged write may be found. What is found
 * at its index is that write itself; what is found behind it can only be an indeterminate write, of whatever sequence
 * number, since such a write may take effect late.
 *
 * @returns undefined when it is legal, otherwise what is wrong
 */
export function judge(ledger: KeyLedger, found: FoundWrite | undefined): string | undefined {
  const { key, acknowledged, indeterminate } = ledger;
  if (found === undefined) {
    if (acknowledged === undefined) return undefined;
    return `${key}: write ${acknowledged.sequence}, acknowledged at index ${acknowledged.index}, is gone`;
  }
  const foundText = `${key}: found write ${found.sequence} at index ${found.index}`;
  if (acknowledged !== undefined && found.index < acknowledged.index) {
    return `${foundText}, but write ${acknowledged.sequence} was acknowledged at index ${acknowledged.index}`;
  }
  if (acknowledged !== undefined && found.index === acknowledged.index) {
    if (found.sequence === acknowledged.sequence) return undefined;
    return `${foundText}, where write ${acknowledged.sequence} was acknowledged`;
  }
  if (indeterminate.includes(found.sequence)) return undefined;
  return `${foundText}, but no such write has an open outcome`;
}

/**
 * Watches that the logs only grow: a write that begins after another one was acknowledged gets a higher index in the
 * same partition. A log that lost acknowledged entries breaks this even when every key was overwritten since.
 */
export class LogOrder {
  readonly #lastIndexes = new Map<number, number>();

  /** The highest acknowledged index of the partition now: take it when a write begins. */
  lastIndex(partition: number | undefined): number {
    return partition === undefined ? 0 : (this.#lastIndexes.get(partition) ?? 0);
  }

  /** @returns undefined when the order holds, otherwise what is wrong */
  acknowledged(write: {
    readonly partition: number;
    readonly index: number;
    /** What `lastIndex` said when the write began. */
    readonly lastIndexBefore: number;
  }): string | undefined {
    const { partition, index, lastIndexBefore } = write;
    this.#lastIndexes.set(partition, Math.max(index, this.lastIndex(partition)));
    if (index > lastIndexBefore) return undefined;
    return `partition ${partition}: a write got index ${index} after index ${lastIndexBefore} was acknowledged`;
  }
}
