// Between a state machine and a stored snapshot: pieces that it gives become appends, and what is stored becomes pieces
// again. One piece is in memory at a time.

import type { SnapshotReader, SnapshotWriter } from '../ports/snapshot-store.ts';
import type { SnapshotData } from '../ports/state-machine.ts';
import { pieceBytesMax } from './piece-buffers.ts';

/** What a state machine threw while it gave its state. */
export class GivingFailed extends Error {}

type Pieces = Iterator<Uint8Array> | AsyncIterator<Uint8Array>;

/** A state that a machine has begun to give. */
export interface Giving {
  /** Undefined when there are no pieces at all. */
  readonly first: Uint8Array | undefined;
  readonly rest: Pieces;
}

/**
 * Takes the first piece. A generator does nothing before that: what it shows from then on may be of this moment.
 *
 * @throws GivingFailed
 */
export async function beginGiving(source: unknown): Promise<Giving> {
  const rest = piecesOf(source);
  return { first: await nextPiece(rest), rest };
}

/** Nobody takes the other pieces. */
export async function endGiving({ rest }: Giving): Promise<void> {
  try {
    await rest.return?.();
  } catch {
    // Its end was not wanted; how it takes that is its own matter.
  }
}

/**
 * Appends all pieces.
 *
 * @param isOver asked before every piece: whether nobody wants them any more
 * @returns how many bytes it were; undefined when it was over
 * @throws GivingFailed its cause is what the state machine did wrong
 */
export async function appendAll(
  writer: SnapshotWriter,
  giving: Giving,
  isOver: () => boolean,
): Promise<number | undefined> {
  const before = writer.byteLength;
  let piece = giving.first;
  while (piece !== undefined) {
    if (isOver()) return undefined;
    await writer.append(piece);
    piece = await nextPiece(giving.rest);
  }
  return writer.byteLength - before;
}

function piecesOf(source: unknown): Pieces {
  if (source instanceof Uint8Array) return [source].values();
  const isObject = typeof source === 'object' && source !== null;
  if (isObject && Symbol.asyncIterator in source)
    return (source as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  if (isObject && Symbol.iterator in source)
    return (source as Iterable<Uint8Array>)[Symbol.iterator]();
  throw givingFailed(new TypeError('snapshot() gave neither a Uint8Array nor an iterable of them'));
}

function givingFailed(cause: unknown): GivingFailed {
  return new GivingFailed('the state was not given', { cause });
}

async function nextPiece(pieces: Pieces): Promise<Uint8Array | undefined> {
  try {
    const next = await pieces.next();
    if (next.done === true) return undefined;
    const isBytes: boolean = next.value instanceof Uint8Array;
    if (isBytes) return next.value;
    throw new TypeError('snapshot() gave something else than a Uint8Array');
  } catch (cause) {
    throw givingFailed(cause);
  }
}

/** Stored bytes as a state machine gets them. */
export interface StoredData extends SnapshotData {
  /** What reading threw: the state machine may have made another error of it. */
  readonly failure: Error | undefined;
}

/** The bytes of `reader` from `offset` on. */
export function storedData(
  reader: SnapshotReader,
  range: { readonly offset: number; readonly byteLength: number },
): StoredData {
  const { byteLength } = range;
  let failure: Error | undefined;

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
      failure = error instanceof Error ? error : new Error(String(error));
      throw failure;
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
