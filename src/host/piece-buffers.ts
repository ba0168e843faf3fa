// Pieces of snapshots, as they are read in order to be sent, and the memory that they lie in.

import { readMarginBytes, type SnapshotReader } from '../ports/snapshot-store.ts';

/** Bytes of one piece. */
export const pieceBytesMax = 262_144;
/** Bytes on their way to one peer that it has not answered. */
export const peerWindowBytes = 1_048_576;
/** Buffers that are kept: as many as one peer may have on the way. */
const idleBuffersMax = peerWindowBytes / pieceBytesMax;

/** A piece that was read, and the buffer to give back when it was sent. */
export interface ReadPiece {
  readonly bytes: Uint8Array;
  readonly buffer: Uint8Array;
}

/**
 * Reads the piece at `offset`, into a buffer of one that was sent. Memory that is new with every piece, 64 MiB of it a
 * second, has the garbage collector walk the whole heap several times a second, and the event loop waits for it.
 */
export async function readPiece(
  idle: Uint8Array[],
  reader: SnapshotReader,
  offset: number,
): Promise<ReadPiece> {
  const buffer = idle.pop() ?? new Uint8Array(pieceBytesMax + readMarginBytes);
  return { bytes: await reader.read(offset, pieceBytesMax, buffer), buffer };
}

/** Nobody needs what is in the buffer. */
export function giveBack(idle: Uint8Array[], buffer: Uint8Array): void {
  if (idle.length < idleBuffersMax) idle.push(buffer);
}
