// How engines report damaged stores: WAL_CORRUPT with the place, never silently dropped data.

import { MalformedBytesError } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { LogIndex } from '../raft/types.ts';

/** What is known of a damaged record. */
export interface RecordPlace {
  readonly partitionId?: PartitionId;
  readonly index?: LogIndex;
  readonly record?: string;
  /** Name of the file, and where in it. */
  readonly file?: string;
  readonly offset?: number;
}

/**
 * Decodes a record.
 *
 * @throws WAL_CORRUPT in place of MalformedBytesError
 */
export function decoded<T>(where: RecordPlace, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (error instanceof MalformedBytesError) throw corrupt(error.message, where);
    throw error;
  }
}

/** An entry that should be stored is not. */
export function missing(partitionId: PartitionId, index: LogIndex): KommanderError {
  return corrupt('the entry is missing', { partitionId, index, record: 'run' });
}

/** A stored record is not what was written. */
export function corrupt(what: string, where: RecordPlace): KommanderError {
  const place = Object.entries(where).map(([name, value]) => `${name} ${value}`);
  return new KommanderError(`the log store is damaged at ${place.join(', ')}: ${what}`, {
    code: 'WAL_CORRUPT',
    details: { ...where },
  });
}
