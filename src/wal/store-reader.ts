// How a closed store is read by the tools that look after it (`kommander wal …`): without writing a byte into its
// directory, and around damaged places instead of stopping at the first one. Beside the port of the log store, not a part
// of it: a node believes a store as a whole or not at all. Every durable engine has a reader.

import { ByteReader, MalformedBytesError } from '../base/bytes.ts';
import { readRunHeader, runHeaderBytes } from '../ports/run.ts';
import type { LogBase, PartitionId } from '../ports/wal.ts';
import type { Entry, HardState, LogIndex } from '../raft/types.ts';
import type { CompactionMark } from './record.ts';

/** A place that is not what was written. */
export interface StoreDamage {
  /** Undefined: of the whole store, or it is not known of which. */
  readonly partitionId: PartitionId | undefined;
  /** First entry that is concerned. */
  readonly index: LogIndex | undefined;
  /** Last entry that is concerned; undefined when it is not known how far it reaches. */
  readonly lastIndex: LogIndex | undefined;
  /** The file in the store's directory, as far as it is known. */
  readonly file: string | undefined;
  readonly what: string;
  /**
   * `entries`: only entries of this partition. `state`: only the state at its base. `anything`: votes, bases or facts as
   * well, or nobody knows what.
   */
  readonly lost: 'entries' | 'state' | 'anything';
}

/** What stands in a store. */
export type StoreFind =
  | { readonly kind: 'fact'; readonly name: string; readonly value: Uint8Array }
  | {
      readonly kind: 'hardState';
      readonly partitionId: PartitionId;
      readonly hardState: HardState;
    }
  | { readonly kind: 'base'; readonly partitionId: PartitionId; readonly base: LogBase }
  | {
      readonly kind: 'compaction';
      readonly partitionId: PartitionId;
      readonly mark: CompactionMark;
    }
  | {
      readonly kind: 'run';
      readonly partitionId: PartitionId;
      /** All entries of the run: the first ones may lie below the compaction mark. */
      readonly entries: readonly Entry[];
      readonly byteLength: number;
    }
  | { readonly kind: 'damage'; readonly damage: StoreDamage };

export interface StoreReader {
  /**
   * Everything in the store, checked: the records of a partition come before its runs, and its runs ascend. A damage
   * comes at its place in this order.
   *
   * @param only records and runs of this partition alone; facts and damages of the store come all the same
   * @throws WAL_FAILED the store cannot be read at all
   */
  finds(only?: PartitionId): AsyncIterable<StoreFind>;
  close(): Promise<void>;
}

/** A damage of which nobody knows what it hides. */
export function wholeDamage(what: string, file: string | undefined): StoreDamage {
  return {
    partitionId: undefined,
    index: undefined,
    lastIndex: undefined,
    file,
    what,
    lost: 'anything',
  };
}

/**
 * The damage of a run whose bytes are not what was written. How many entries it had is believed when its header and the
 * lengths of its records agree: then the bytes are wrong inside of a payload.
 */
export function damagedRun(run: {
  readonly partitionId: PartitionId;
  readonly firstIndex: LogIndex;
  readonly bytes: Uint8Array;
  readonly file: string | undefined;
  readonly what: string;
}): StoreDamage {
  const { partitionId, firstIndex, bytes, file, what } = run;
  const lastIndex = lastIndexOf(bytes, firstIndex);
  return { partitionId, index: firstIndex, lastIndex, file, what, lost: 'entries' };
}

function lastIndexOf(bytes: Uint8Array, firstIndex: LogIndex): LogIndex | undefined {
  try {
    const header = readRunHeader(bytes);
    if (header.firstIndex !== firstIndex || header.totalBytes !== bytes.byteLength)
      return undefined;
    const reader = new ByteReader(bytes, runHeaderBytes);
    for (let count = 0; count < header.entryCount; count++) {
      reader.skip(1);
      reader.skip(reader.varint());
    }
    return reader.remaining === 0 ? firstIndex + header.entryCount - 1 : undefined;
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}
