// The state of a key-value machine as bytes, in pieces, while writes go on: a view keeps the values that it has not given
// yet and that are replaced meanwhile. And back from pieces of any length. Format: version (u8), three zero bytes, number of
// keys (varint); for each key, ascending, the key (text), index, term, bytes of the value (varints), the value; CRC-32 of
// everything before it (u32).

import { crc32 } from 'node:zlib';
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import type { SnapshotData } from '../ports/state-machine.ts';
import type { LogIndex } from '../raft/types.ts';
import type { StoredValue } from './key-value.ts';
import { type SortedKeys, sortedKeys } from './sorted-keys.ts';

const formatVersion = 1;
const footBytes = 4;
/** A piece is ended when it has as many bytes. */
const pieceBytes = 65_536;
/** No record is larger: a key and a value of one entry, or an entry of another setting. */
const recordBytesMax = 67_108_864;

/** The state of a machine at one moment, given piece by piece. */
export interface StateView extends IterableIterator<Uint8Array> {
  /** A value is about to be replaced, or removed. */
  noteChange(key: string, present: StoredValue, isRemoved: boolean): void;
}

interface Replaced {
  readonly value: StoredValue;
  isRemoved: boolean;
}

/**
 * Views the state as it is now.
 *
 * @param state the live one; `index` is that of the last entry that is in it
 * @param ended called once, when nothing more will be given
 */
export function viewState(
  state: {
    readonly values: ReadonlyMap<string, StoredValue>;
    readonly keys: SortedKeys;
    readonly index: LogIndex;
  },
  ended: (view: StateView) => void,
): StateView {
  const { values, keys, index } = state;
  /** Values of this view that are not in `values` any more. */
  const replaced = new Map<string, Replaced>();
  /** Those among them whose key may be gone. */
  const removed = sortedKeys();
  let after: string | undefined;
  let checksum = 0;
  let stage: 'head' | 'records' | 'foot' | 'end' = 'head';
  const keyCount = values.size;

  /** The next keys of the view, ascending: those that are there, and those that were. */
  function nextKeys(): string[] {
    const live: string[] = [];
    let bytes = 0;
    for (const key of keys.from(after ?? '')) {
      if (key === after) continue;
      live.push(key);
      bytes += key.length + (values.get(key)?.value.byteLength ?? 0);
      if (bytes >= pieceBytes) break;
    }
    const last = bytes >= pieceBytes ? live.at(-1) : undefined;
    const gone: string[] = [];
    for (const key of removed.from(after ?? '')) {
      if (last !== undefined && key > last) break;
      gone.push(key);
    }
    for (const key of gone) removed.remove(key);
    after = last;
    if (last === undefined) stage = 'foot';
    return gone.length === 0 ? live : [...new Set([...live, ...gone])].sort(ascending);
  }

  function viewedValue(key: string): StoredValue | undefined {
    const before = replaced.get(key);
    if (before !== undefined) {
      replaced.delete(key);
      return before.value;
    }
    const present = values.get(key);
    // What was written since is none of this view's.
    return present !== undefined && present.index <= index ? present : undefined;
  }

  function records(): Uint8Array {
    const writer = new ByteWriter(pieceBytes + 1_024);
    for (const key of nextKeys()) {
      const stored = viewedValue(key);
      if (stored === undefined) continue;
      writer.text(key);
      writer.varint(stored.index);
      writer.varint(stored.term);
      writer.varint(stored.value.byteLength);
      writer.raw(stored.value);
    }
    return writer.finish();
  }

  function nextPiece(): Uint8Array {
    const writer = new ByteWriter(16);
    switch (stage) {
      case 'head':
        writer.uint8(formatVersion);
        writer.raw(new Uint8Array(3));
        writer.varint(keyCount);
        stage = 'records';
        return writer.finish();
      case 'records':
        return records();
      default:
        writer.uint32(checksum);
        stage = 'end';
        return writer.finish();
    }
  }

  function end(): IteratorReturnResult<undefined> {
    if (stage !== 'end') stage = 'end';
    ended(view);
    return { done: true, value: undefined };
  }

  const view: StateView = {
    next() {
      if (stage === 'end') return end();
      const piece = nextPiece();
      checksum = crc32(piece, checksum);
      return { done: false, value: piece };
    },
    return: end,
    [Symbol.iterator]: () => view,
    noteChange(key, present, isRemoved) {
      const isGiven = stage === 'foot' || stage === 'end' || (after !== undefined && key <= after);
      if (isGiven) return;
      const known = replaced.get(key);
      // A value that came after the moment of this view is not its own.
      if (known === undefined && present.index > index) return;
      const before = known ?? { value: present, isRemoved: false };
      replaced.set(key, before);
      if (!isRemoved || before.isRemoved) return;
      before.isRemoved = true;
      removed.add(key);
    },
  };
  return view;
}

/** As the keys are kept: in the order of JavaScript strings. */
function ascending(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** @throws SNAPSHOT_CORRUPT the checksum or the version does not match, or it is no whole state */
export async function readState(data: SnapshotData): Promise<ReadonlyMap<string, StoredValue>> {
  try {
    const reader = new StateReader(data.byteLength);
    for await (const piece of data) reader.push(piece);
    return reader.finish();
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    throw new KommanderError(`a snapshot of ${data.byteLength} bytes cannot be restored`, {
      code: 'SNAPSHOT_CORRUPT',
      details: { bytes: data.byteLength, reason: error.message },
      cause: error,
    });
  }
}

/** Reads records as their bytes come. */
class StateReader {
  readonly #values = new Map<string, StoredValue>();
  readonly #bodyBytes: number;
  #keyCount: number | undefined;
  /** What came and is not read yet. */
  #rest: Uint8Array[] = [];
  #restBytes = 0;
  /** No sooner is there a record in the rest: else a long one would be copied with every piece of it. */
  #wantedBytes = 0;
  #pushedBytes = 0;
  #checksum = 0;

  constructor(byteLength: number) {
    this.#bodyBytes = byteLength - footBytes;
    if (this.#bodyBytes < 0) throw new MalformedBytesError('it is cut off');
  }

  push(piece: Uint8Array): void {
    const bodyBytes = Math.max(0, Math.min(piece.byteLength, this.#bodyBytes - this.#pushedBytes));
    this.#checksum = crc32(piece.subarray(0, bodyBytes), this.#checksum);
    this.#pushedBytes += piece.byteLength;
    // The next piece may be written over this one.
    this.#rest.push(new Uint8Array(piece));
    this.#restBytes += piece.byteLength;
    const isLast = this.#pushedBytes >= this.#bodyBytes;
    if (isLast || this.#restBytes >= this.#wantedBytes) this.#readRest();
  }

  #readRest(): void {
    const rest = Buffer.concat(this.#rest);
    const footInRest = Math.max(0, this.#pushedBytes - this.#bodyBytes);
    const reader = new ByteReader(rest, 0, Math.max(0, rest.byteLength - footInRest));
    if (this.#keyCount === undefined && reader.remaining > 0 && rest[0] !== formatVersion)
      throw new MalformedBytesError(`unknown version ${rest[0]}`);
    while (reader.remaining > 0) {
      const { at } = reader;
      if (this.#tryRead(reader)) continue;
      reader.at = at;
      break;
    }
    // A record that is longer than the rest of the state, or than any, is none.
    if (reader.remaining > recordBytesMax) throw new MalformedBytesError('a record without end');
    this.#rest = [rest.subarray(reader.at)];
    this.#restBytes = rest.byteLength - reader.at;
    this.#wantedBytes = reader.remaining * 2;
  }

  /** @returns false when more bytes are needed */
  #tryRead(reader: ByteReader): boolean {
    try {
      if (this.#keyCount === undefined) this.#readHead(reader);
      else this.#readRecord(reader);
      return true;
    } catch (error) {
      if (error instanceof MalformedBytesError) return false;
      throw error;
    }
  }

  #readHead(reader: ByteReader): void {
    // The version, which was checked, and three zeros.
    reader.skip(4);
    this.#keyCount = reader.varint();
  }

  #readRecord(reader: ByteReader): void {
    const key = reader.text();
    const index = reader.varint();
    const term = reader.varint();
    // A copy that shares nothing; `slice` of a Node.js buffer would be a view.
    const value = new Uint8Array(reader.view(reader.varint()));
    this.#values.set(key, { value, index, term });
  }

  finish(): ReadonlyMap<string, StoredValue> {
    if (this.#restBytes !== footBytes)
      throw new MalformedBytesError('it is cut off, damaged or of an unknown version');
    const checksum = new ByteReader(Buffer.concat(this.#rest)).uint32();
    if (checksum !== this.#checksum) throw new MalformedBytesError('the checksum does not match');
    if (this.#values.size !== this.#keyCount)
      throw new MalformedBytesError(`${this.#values.size} keys instead of ${this.#keyCount}`);
    return this.#values;
  }
}
