// How a failure looks over HTTP: the status of each error code and the JSON body that every error has. The table is
// exhaustive, so that a new code does not compile before somebody has decided its status.

import { type ErrorCode, type ErrorDetails, KommanderError } from '../base/errors.ts';

/** Status of each error code. Codes that only a bug can bring to a client are 500. */
export const httpStatusOf: Readonly<Record<ErrorCode, number>> = {
  INVALID_OPTION: 500,
  INVALID_ARGUMENT: 400,
  ENTRY_TOO_LARGE: 413,
  RESERVED_TYPE: 500,
  UNKNOWN_PARTITION: 404,
  UNKNOWN_NODE: 409,
  NOT_LEADER: 421,
  NO_LEADER: 503,
  QUEUE_FULL: 429,
  TOO_MANY_HOLDS: 500,
  PROPOSAL_DROPPED: 503,
  PROPOSAL_LOST: 503,
  PROPOSAL_TIMEOUT: 504,
  OUTCOME_UNKNOWN: 504,
  READ_TIMEOUT: 504,
  ABORTED: 503,
  TRANSFER_REFUSED: 409,
  TRANSFER_TIMEOUT: 504,
  MEMBERSHIP_REFUSED: 503,
  NO_REPLICA: 503,
  NODE_CLOSED: 503,
  REPLICA_STOPPED: 503,
  APPLY_FAILED: 503,
  DISK_FULL: 507,
  WAL_FAILED: 503,
  WAL_CORRUPT: 503,
  WAL_LOCKED: 500,
  WAL_VERSION: 500,
  WRONG_CLUSTER: 500,
  WRONG_NODE: 500,
  PROTOCOL_VERSION: 500,
  NODE_WIPED: 503,
  NODE_REPLACED: 503,
  NODE_COPIED: 503,
  READMISSION_REFUSED: 409,
  TRANSPORT_FAILED: 503,
  DISCOVERY_FAILED: 503,
  CLOCK_DRIFT: 503,
  MISSING_DEPENDENCY: 500,
  MALFORMED_MESSAGE: 500,
  MALFORMED_COMMAND: 503,
  SNAPSHOT_CORRUPT: 503,
  BACKUP_CORRUPT: 500,
  EVIDENCE_MALFORMED: 400,
  REPAIR_REFUSED: 500,
  CONDITION_FAILED: 412,
  KEY_NOT_FOUND: 404,
  ROUTE_NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  BODY_TOO_LARGE: 413,
  SERVER_STARTING: 503,
  SERVER_CLOSING: 503,
  INTERNAL_ERROR: 500,
};

/** Seconds that a client should wait after 429 and 503. */
export const retryAfterSeconds = 1;

/** Every error body. */
export interface HttpErrorBody {
  readonly code: ErrorCode;
  readonly message: string;
  /** Whether trying the same request again can succeed. */
  readonly retryable: boolean;
  /** Whether the failed write may still take effect. */
  readonly mayHaveCommitted: boolean;
  readonly details: ErrorDetails;
}

/** The error as a client sees it. What is no `KommanderError` is a bug: its text stays in the server's log. */
export function clientError(error: unknown): KommanderError {
  if (error instanceof KommanderError) return error;
  return new KommanderError('the server met an unexpected error; its log has the details', {
    code: 'INTERNAL_ERROR',
    cause: error,
  });
}

/** The JSON body of an error, newline included. */
export function errorBody(error: KommanderError): string {
  const body: HttpErrorBody = {
    code: error.code,
    message: error.message,
    retryable: error.retryable,
    mayHaveCommitted: error.mayHaveCommitted,
    details: error.details,
  };
  return `${JSON.stringify(body)}\n`;
}

/** A request that the client has to change. */
export function badArgument(argument: string, message: string): KommanderError {
  return new KommanderError(message, { code: 'INVALID_ARGUMENT', details: { argument } });
}
