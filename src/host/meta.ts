// The node-wide facts in the store's `meta`: their keys and encodings.

import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';

export const metaKeys = {
  /** The genesis record and this node's acceptance of it (`genesis.ts`). */
  genesis: 'genesis',
  /** There while the store is being filled from a backup: until that is done, no node may open it. */
  restoring: 'restoring',
  /** Whose directory it is: UTF-8. */
  nodeId: 'node-id',
  /** Starts of this node so far. */
  incarnation: 'incarnation',
  /** A timestamp at or above all that this node has given to stored entries. */
  clockFloor: 'clock-floor',
} as const;

export function encodeNumber(value: number): Uint8Array {
  const writer = new ByteWriter(8);
  writer.uint53(value);
  return writer.finish();
}

/** @throws WAL_CORRUPT */
export function decodeNumber(bytes: Uint8Array | undefined): number {
  if (bytes === undefined) return 0;
  return decodedFact('a number', () => {
    const reader = new ByteReader(bytes);
    const value = reader.uint53();
    if (reader.remaining !== 0) throw new MalformedBytesError('bytes behind a number');
    return value;
  });
}

/**
 * Decodes a stored fact. The store has checksums of its own: bytes that mean nothing are damage that it did not see.
 *
 * @throws WAL_CORRUPT
 */
export function decodedFact<Fact>(name: string, decode: () => Fact): Fact {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    throw new KommanderError(
      `${name} among the facts of the store cannot be read (${error.message}): restore the directory or replace the node`,
      { code: 'WAL_CORRUPT', cause: error },
    );
  }
}

/** @throws WAL_CORRUPT a restore filled the store and did not come to its end */
export function checkRestored(meta: ReadonlyMap<string, Uint8Array>): void {
  if (!meta.has(metaKeys.restoring)) return;
  throw new KommanderError(
    'the restore of a backup into this store was interrupted: empty its directory, and restore again',
    { code: 'WAL_CORRUPT' },
  );
}
