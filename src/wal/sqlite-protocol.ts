// What the SQLite engine and its worker thread say to each other. Each request gets one answer, in the order of the
// requests; a notice comes by itself.

import { type ErrorCode, KommanderError } from '../base/errors.ts';
import type { BatchMark } from './record.ts';
import type { PackedOperations } from './sqlite-operations.ts';
import type { ScannedSqliteStore } from './sqlite-scan.ts';

export type SqliteRequest =
  | { readonly verb: 'open'; readonly path: string }
  | { readonly verb: 'write'; readonly operations: PackedOperations; readonly sync: boolean }
  | { readonly verb: 'read'; readonly rowIds: readonly number[]; readonly bytesMax: number }
  | { readonly verb: 'close' };

export interface OpenedSqliteStore extends ScannedSqliteStore {
  /** Of the last batch. */
  readonly mark: BatchMark;
}

/** What an answer to each verb holds. */
export interface SqliteResults {
  readonly open: OpenedSqliteStore;
  readonly write: undefined;
  /** `undefined` for the first row that is not there, and nothing behind it. */
  readonly read: readonly (Uint8Array | undefined)[];
  readonly close: undefined;
}

export type SqliteReply =
  | { readonly result: SqliteResults[keyof SqliteResults] }
  | { readonly error: PlainError }
  /** The store failed between two requests. */
  | { readonly notice: PlainError };

/** An error on its way between threads, which keep neither classes nor fields of errors. */
export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details: KommanderError['details'];
}

export function plainError(error: unknown): PlainError {
  if (error instanceof KommanderError) {
    const { code, message, details } = error;
    return { code, message, details };
  }
  return { code: 'WAL_FAILED', message: String(error), details: {} };
}

export function errorOf({ code, message, details }: PlainError): KommanderError {
  return new KommanderError(message, { code, details });
}
