// A state machine's snapshots in a test: what it gives as one buffer, and a buffer as what it restores from.

import type { SnapshotBytes, SnapshotData } from '../ports/state-machine.ts';

/** Takes all pieces of a snapshot. */
export async function bytesOfSnapshot(source: SnapshotBytes): Promise<Uint8Array> {
  if (source instanceof Uint8Array) return source;
  const pieces: Uint8Array[] = [];
  // A piece may be changed when the next one is asked for.
  for await (const piece of source) pieces.push(new Uint8Array(piece));
  return joined(pieces);
}

/**
 * What `restore` gets.
 *
 * @param pieceBytes bytes of a piece, 1 or more (default: all in one)
 */
export function snapshotDataOf(bytes: Uint8Array, pieceBytes?: number): SnapshotData {
  return {
    byteLength: bytes.byteLength,
    async *[Symbol.asyncIterator]() {
      const step = pieceBytes ?? Math.max(1, bytes.byteLength);
      for (let at = 0; at < bytes.byteLength; at += step) yield bytes.slice(at, at + step);
    },
    bytes: async () => bytes.slice(),
  };
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.byteLength;
  }
  return bytes;
}
