// Between a state machine and a stored snapshot: pieces that it gives become appends, and what is stored becomes pieces
// again. One piece is in memory at a time.

import type { SnapshotReader, SnapshotWriter } from '../ports/snapshot-store.ts';
import type { SnapshotBytes, SnapshotData } from '../ports/state-machine.ts';

const pieceBytesMax = 262_144;

/** What a state machine threw while it gave its state. */
export class GivingFailed extends Error {}

/**
 * Appends all pieces.
 *
 * @param isOver asked before every piece: whether nobody wants them any more
 * @returns how many bytes it were; undefined when it was over
 * @throws GivingFailed its cause is what the state machine did wrong
 */
export async function appendAll(
  writer: SnapshotWriter,
  source: SnapshotBytes,
  isOver: () => boolean,
): Promise<number | undefined> {
  const before = writer.byteLength;
  const iterator = piecesOf(source);
  for (;;) {
    if (isOver()) {
      await end(iterator);
      return undefined;
    }
    const piece = await nextPiece(iterator);
    if (piece === undefined) return writer.byteLength - before;
    try {
      await writer.append(piece);
    } catch (error) {
      await end(iterator);
      throw error;
    }
  }
}

function piecesOf(source: SnapshotBytes): Iterator<Uint8Array> | AsyncIterator<Uint8Array> {
  if (source instanceof Uint8Array) return [source].values();
  if (Symbol.asyncIterator in source) return source[Symbol.asyncIterator]();
  return source[Symbol.iterator]();
}

async function nextPiece(
  iterator: Iterator<Uint8Array> | AsyncIterator<Uint8Array>,
): Promise<Uint8Array | undefined> {
  try {
    const next = await iterator.next();
    if (next.done === true) return undefined;
    const isBytes: boolean = next.value instanceof Uint8Array;
    if (isBytes) return next.value;
    throw new TypeError('snapshot() gave something else than a Uint8Array');
  } catch (cause) {
    throw new GivingFailed('the state was not given', { cause });
  }
}

async function end(iterator: Iterator<Uint8Array> | AsyncIterator<Uint8Array>): Promise<void> {
  try {
    await iterator.return?.();
  } catch {
    // Its end was not wanted; how it takes that is its own matter.
  }
}

/** Nobody will take the pieces. */
export async function abandon(source: SnapshotBytes): Promise<void> {
  await end(piecesOf(source));
}

/** Whether this can be a state: what is none would be believed at the next restart. */
export function isSnapshotBytes(source: unknown): source is SnapshotBytes {
  if (typeof source !== 'object' || source === null) return false;
  return (
    source instanceof Uint8Array || Symbol.asyncIterator in source || Symbol.iterator in source
  );
}

/** Stored bytes as a state machine gets them. */
export interface StoredData extends SnapshotData {
  /** What reading threw: the state machine may have made another error of it. */
  readonly failure: unknown;
}

/** The bytes of `reader` from `offset` on. */
export function storedData(
  reader: SnapshotReader,
  range: { readonly offset: number; readonly byteLength: number },
): StoredData {
  const { byteLength } = range;
  let failure: unknown;

  async function* pieces(): AsyncGenerator<Uint8Array, undefined> {
    for (let at = 0; at < byteLength; ) {
      const piece = await read(at);
      at += piece.byteLength;
      yield piece;
    }
  }

  async function read(at: number): Promise<Uint8Array> {
    try {
      return await reader.read(range.offset + at, Math.min(pieceBytesMax, byteLength - at));
    } catch (error) {
      failure = error;
      throw error;
    }
  }

  return {
    byteLength,
    [Symbol.asyncIterator]: pieces,
    async bytes() {
      const bytes = new Uint8Array(byteLength);
      let at = 0;
      for await (const piece of pieces()) {
        bytes.set(piece, at);
        at += piece.byteLength;
      }
      return bytes;
    },
    get failure() {
      return failure;
    },
  };
}
