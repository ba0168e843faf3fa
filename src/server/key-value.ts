// The key-value state machine: one per partition, the same on every replica. It applies commands in log order and
// answers reads from memory. The index of a key's last write is its version: conditions compare it. Whether a read is
// linearizable is decided by the caller (`node.read` first), not here.

import { utf8Bytes } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import type { CommittedEntry, SnapshotData, StateMachine } from '../ports/state-machine.ts';
import type { LogIndex, Term } from '../raft/types.ts';
import { commandEntryType, decodeCommand, type KeyValueCommand } from './key-value-command.ts';
import { readState, type StateView, viewState } from './key-value-snapshot.ts';
import { type SortedKeys, sortedKeys } from './sorted-keys.ts';

/** What a key holds. */
export interface StoredValue {
  /** Never changed; a later write replaces it. */
  readonly value: Uint8Array;
  /** Index of the key's last write in the partition's log. */
  readonly index: LogIndex;
  /** Term of that entry. */
  readonly term: Term;
}

/** What `apply` returns for a command. */
export type KeyValueResult =
  /** It took effect; `index` is the command's own. */
  | { readonly outcome: 'applied'; readonly index: LogIndex }
  /** The condition did not hold: `presentIndex` is the index of the key's last write, 0 when there is no such key. */
  | { readonly outcome: 'conditionFailed'; readonly presentIndex: LogIndex }
  /** A delete of a key that is not there. */
  | { readonly outcome: 'notFound' };

export interface ListedKey {
  readonly key: string;
  readonly index: LogIndex;
  readonly term: Term;
  readonly valueBytes: number;
}

/** What a key costs beside its own bytes and its value's, in a snapshot and roughly in memory. */
const recordOverheadBytes = 32;

export class KeyValueMachine implements StateMachine {
  readonly concurrentSnapshots = true;
  #values = new Map<string, StoredValue>();
  #keys: SortedKeys = sortedKeys();
  /** Snapshots that are being taken. */
  readonly #views = new Set<StateView>();
  #lastIndex: LogIndex = 0;
  #stateBytes = 0;

  get keyCount(): number {
    return this.#values.size;
  }

  /** Bytes of all keys and values and what they cost beside: about the size of a snapshot. */
  get stateBytes(): number {
    return this.#stateBytes;
  }

  /** @throws MALFORMED_COMMAND an entry is no command; the replica stops rather than to guess */
  apply(entries: readonly CommittedEntry[]): readonly KeyValueResult[] {
    return entries.map((entry) => {
      this.#lastIndex = entry.index;
      return this.#applyCommand(commandOf(entry), entry.index, entry.term);
    });
  }

  get(key: string): StoredValue | undefined {
    return this.#values.get(key);
  }

  /** Keys that begin with `prefix` and come behind `after`, ascending, at most `limit`. */
  list(options: {
    readonly prefix: string;
    readonly after: string | undefined;
    readonly limit: number;
  }): readonly ListedKey[] {
    const { prefix, after, limit } = options;
    const listed: ListedKey[] = [];
    const from = after !== undefined && after > prefix ? after : prefix;
    for (const key of this.#keys.from(from)) {
      if (listed.length >= limit || !key.startsWith(prefix)) break;
      if (key === after) continue;
      const stored = this.#values.get(key);
      if (stored === undefined) continue;
      const { index, term, value } = stored;
      listed.push({ key, index, term, valueBytes: value.byteLength });
    }
    return listed;
  }

  /** The whole state as bytes, in pieces; deterministic for equal states. Writes may go on while they are taken. */
  snapshot(): Iterable<Uint8Array> {
    const state = { values: this.#values, keys: this.#keys, index: this.#lastIndex };
    const view = viewState(state, (ended) => this.#views.delete(ended));
    this.#views.add(view);
    return view;
  }

  /**
   * Replaces the whole state; on an error nothing is changed. The bytes are copied.
   *
   * @throws SNAPSHOT_CORRUPT the checksum or the version does not match
   */
  async restore(data: SnapshotData): Promise<void> {
    const restored = await readState(data);
    this.#values = new Map();
    this.#keys = sortedKeys();
    this.#views.clear();
    this.#stateBytes = 0;
    this.#lastIndex = 0;
    for (const [key, stored] of restored) {
      this.#put(key, stored);
      this.#lastIndex = Math.max(this.#lastIndex, stored.index);
    }
  }

  #applyCommand(command: KeyValueCommand, index: LogIndex, term: Term): KeyValueResult {
    const { key, ifIndex } = command;
    const presentIndex = this.#values.get(key)?.index ?? 0;
    if (ifIndex !== undefined && ifIndex !== presentIndex) {
      return { outcome: 'conditionFailed', presentIndex };
    }
    if (command.operation === 'put') {
      this.#put(key, { value: copyOf(command.value), index, term });
      return { outcome: 'applied', index };
    }
    if (presentIndex === 0) return { outcome: 'notFound' };
    this.#remove(key);
    return { outcome: 'applied', index };
  }

  #put(key: string, stored: StoredValue): void {
    const replaced = this.#values.get(key);
    if (replaced !== undefined) this.#noteChange(key, replaced, false);
    if (replaced === undefined) {
      this.#keys.add(key);
      this.#stateBytes += utf8Bytes(key).byteLength + recordOverheadBytes;
    }
    this.#stateBytes += stored.value.byteLength - (replaced?.value.byteLength ?? 0);
    this.#values.set(key, stored);
  }

  #remove(key: string): void {
    const removed = this.#values.get(key);
    if (removed === undefined) return;
    this.#noteChange(key, removed, true);
    this.#values.delete(key);
    this.#keys.remove(key);
    this.#stateBytes -= utf8Bytes(key).byteLength + recordOverheadBytes + removed.value.byteLength;
  }

  #noteChange(key: string, present: StoredValue, isRemoved: boolean): void {
    for (const view of this.#views) view.noteChange(key, present, isRemoved);
  }
}

/** A copy that shares nothing; `slice` of a Node.js buffer would be a view. */
function copyOf(view: Uint8Array): Uint8Array {
  return new Uint8Array(view);
}

function commandOf(entry: CommittedEntry): KeyValueCommand {
  if (entry.type === commandEntryType) return decodeCommand(entry.data);
  throw new KommanderError(
    `entry ${entry.index} of partition ${entry.partitionId} has type "${entry.type}", not "${commandEntryType}"`,
    {
      code: 'MALFORMED_COMMAND',
      details: { partitionId: entry.partitionId, index: entry.index, type: entry.type },
    },
  );
}
