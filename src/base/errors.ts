// The one error class of this library and its catalogue. The catalogue is data: `docs/reference/errors.md` is written
// from it. `retryable` says whether trying again can help; `mayHaveCommitted` says whether the failed write may still
// take effect, which is what a caller must know before it tries again.

/** Every error code. The catalogue says what each one means. */
export type ErrorCode =
  | 'INVALID_OPTION'
  | 'INVALID_ARGUMENT'
  | 'ENTRY_TOO_LARGE'
  | 'RESERVED_TYPE'
  | 'UNKNOWN_PARTITION'
  | 'UNKNOWN_NODE'
  | 'NOT_LEADER'
  | 'NO_LEADER'
  | 'QUEUE_FULL'
  | 'TOO_MANY_HOLDS'
  | 'PROPOSAL_DROPPED'
  | 'PROPOSAL_LOST'
  | 'PROPOSAL_TIMEOUT'
  | 'OUTCOME_UNKNOWN'
  | 'READ_TIMEOUT'
  | 'ABORTED'
  | 'TRANSFER_REFUSED'
  | 'TRANSFER_TIMEOUT'
  | 'MEMBERSHIP_REFUSED'
  | 'NO_REPLICA'
  | 'NODE_CLOSED'
  | 'REPLICA_STOPPED'
  | 'APPLY_FAILED'
  | 'DISK_FULL'
  | 'WAL_FAILED'
  | 'WAL_CORRUPT'
  | 'WAL_LOCKED'
  | 'WAL_VERSION'
  | 'WRONG_CLUSTER'
  | 'WRONG_NODE'
  | 'PROTOCOL_VERSION'
  | 'NODE_WIPED'
  | 'NODE_REPLACED'
  | 'NODE_COPIED'
  | 'READMISSION_REFUSED'
  | 'TRANSPORT_FAILED'
  | 'DISCOVERY_FAILED'
  | 'CLOCK_DRIFT'
  | 'MISSING_DEPENDENCY'
  | 'MALFORMED_MESSAGE'
  | 'MALFORMED_COMMAND'
  | 'SNAPSHOT_CORRUPT'
  | 'BACKUP_CORRUPT'
  | 'EVIDENCE_MALFORMED'
  | 'REPAIR_REFUSED'
  | 'CONDITION_FAILED'
  | 'KEY_NOT_FOUND'
  | 'ROUTE_NOT_FOUND'
  | 'METHOD_NOT_ALLOWED'
  | 'BODY_TOO_LARGE'
  | 'SERVER_STARTING'
  | 'SERVER_CLOSING'
  | 'INTERNAL_ERROR';

export interface CatalogueEntry {
  readonly retryable: boolean;
  readonly mayHaveCommitted: boolean;
  /** What happened and what to do, for the reference page. */
  readonly help: string;
}

function entry(retryable: boolean, mayHaveCommitted: boolean, help: string): CatalogueEntry {
  return { retryable, mayHaveCommitted, help };
}

/** Every error code, what it means and what to do. */
export const errorCatalogue: Readonly<Record<ErrorCode, CatalogueEntry>> = {
  INVALID_OPTION: entry(
    false,
    false,
    'An option has a bad value; `details.option` names it. Correct the option.',
  ),
  INVALID_ARGUMENT: entry(
    false,
    false,
    'An argument has a bad value; `details.argument` names it. Correct the call.',
  ),
  ENTRY_TOO_LARGE: entry(
    false,
    false,
    'The data is larger than `details.bytesMax`. Split it or raise the limit.',
  ),
  RESERVED_TYPE: entry(
    false,
    false,
    'Entry types that begin with "_" belong to the library. Choose another type.',
  ),
  UNKNOWN_PARTITION: entry(
    false,
    false,
    'This cluster has no such partition. See `status().partitions`.',
  ),
  UNKNOWN_NODE: entry(false, false, 'No member has this node id. See `status().roster`.'),
  NOT_LEADER: entry(
    true,
    false,
    'This node does not lead the partition and was told not to forward. Ask `details.leader`.',
  ),
  NO_LEADER: entry(
    true,
    false,
    'The partition has no known leader now. Nothing was written; try again.',
  ),
  QUEUE_FULL: entry(
    true,
    false,
    'Too many calls of this kind are waiting. Nothing was written; try again after a pause.',
  ),
  TOO_MANY_HOLDS: entry(
    true,
    false,
    'The log of this partition has as many holds as it may have. Release one: `status()` lists them with their owners.',
  ),
  PROPOSAL_DROPPED: entry(
    true,
    false,
    'The leader could not take the write (leadership is moving). Nothing was written; try again.',
  ),
  PROPOSAL_LOST: entry(
    true,
    false,
    'Another leader replaced the entry before it was committed. It had no effect; try again.',
  ),
  PROPOSAL_TIMEOUT: entry(
    true,
    true,
    'No quorum answered in time. The write may still commit: retry only what may happen twice.',
  ),
  OUTCOME_UNKNOWN: entry(
    true,
    true,
    'The connection or the leader was lost after the write was handed over. It may have committed.',
  ),
  READ_TIMEOUT: entry(
    true,
    false,
    'No quorum confirmed the read in time, or this node did not apply that far. Try again.',
  ),
  ABORTED: entry(
    false,
    true,
    'The caller aborted the wait. A write that was already handed over may still commit.',
  ),
  TRANSFER_REFUSED: entry(
    true,
    false,
    'The transfer of leadership was refused: see `details.reason`.',
  ),
  TRANSFER_TIMEOUT: entry(
    true,
    false,
    'The new leader did not take over in time; it may still take over: see `leaderOf`. Try again.',
  ),
  MEMBERSHIP_REFUSED: entry(
    true,
    false,
    'The change of members was not begun: see `details.reason`. An earlier change may still be under way; try again.',
  ),
  NO_REPLICA: entry(
    true,
    false,
    'This node holds no replica of the partition. Ask one of `details.members`.',
  ),
  NODE_CLOSED: entry(
    false,
    true,
    'The node is closing or closed. A write that was handed over before may still commit.',
  ),
  REPLICA_STOPPED: entry(
    false,
    true,
    'The replica stopped to protect its data: `cause` says why, and `details.evidence` names the file for a bug report, if one was written. It needs an operator.',
  ),
  APPLY_FAILED: entry(
    false,
    true,
    'The state machine threw in `apply`, `snapshot`, `restore` or `appliedIndex`, or its store was lost; the replica stopped. Mend the state machine, then restart.',
  ),
  DISK_FULL: entry(
    true,
    false,
    'The disk of the log store is full. Nothing was written; reads go on. Make room, then try again.',
  ),
  WAL_FAILED: entry(
    false,
    true,
    'The log could not be written or synced; the node stopped writing. Check the disk, then restart.',
  ),
  WAL_CORRUPT: entry(
    false,
    false,
    'A stored record is damaged; `details` says where. Restore the directory or replace the node.',
  ),
  WAL_LOCKED: entry(
    false,
    false,
    'Another process has this data directory open. Stop it or choose another directory.',
  ),
  WAL_VERSION: entry(
    false,
    false,
    'The data directory was written by an incompatible engine or version. See `details`.',
  ),
  WRONG_CLUSTER: entry(
    false,
    false,
    'The peer belongs to another cluster. Check the member list and the endpoints.',
  ),
  WRONG_NODE: entry(
    false,
    false,
    'The endpoint answered with another node id than expected. Check the member list.',
  ),
  PROTOCOL_VERSION: entry(
    false,
    false,
    'The peer speaks no common protocol version. Upgrade the older node.',
  ),
  NODE_WIPED: entry(
    false,
    false,
    'The data directory is empty, but the cluster knows this node as a member. The node waits: restore its directory, or run `kommander members readmit NODE`.',
  ),
  NODE_REPLACED: entry(
    false,
    false,
    'Another directory has taken the place of this one: the node was readmitted with it. Use that one, or empty this one and run `kommander members readmit NODE`.',
  ),
  NODE_COPIED: entry(
    false,
    false,
    'Another process runs with the identity of this node: its directory was copied, or its store is no lock for two of them. The later one stops. Find the copy and remove it.',
  ),
  READMISSION_REFUSED: entry(
    true,
    false,
    'The member cannot be readmitted now; `details.reason` says why. Nothing was changed.',
  ),
  TRANSPORT_FAILED: entry(
    false,
    false,
    'The transport could not listen or was refused. See `cause`; check address and port.',
  ),
  DISCOVERY_FAILED: entry(
    false,
    false,
    'Discovery cannot look for nodes. See the message and `cause`: an interface, a group, a port, a registry.',
  ),
  CLOCK_DRIFT: entry(
    true,
    false,
    "A peer's clock is too far ahead of ours: it was not believed. Check time synchronisation.",
  ),
  MISSING_DEPENDENCY: entry(
    false,
    false,
    'An optional package is missing. The message names the install command.',
  ),
  MALFORMED_MESSAGE: entry(
    false,
    false,
    'A peer sent bytes that are no valid message. The connection was closed.',
  ),
  MALFORMED_COMMAND: entry(
    false,
    false,
    'A committed entry is no command of this state machine: another program wrote to the partition, or a newer version did.',
  ),
  SNAPSHOT_CORRUPT: entry(
    false,
    false,
    "The bytes are no whole snapshot, or none of this state machine; `details` says why. Restore the node's directory or replace it.",
  ),
  BACKUP_CORRUPT: entry(
    false,
    false,
    'The files are no whole backup: one is damaged or missing, or it was interrupted; `details` says which. Use another one, or copy it again.',
  ),
  EVIDENCE_MALFORMED: entry(
    false,
    false,
    'The file is no whole evidence of a replica, or of a version that this program cannot read; the message says which. Copy it again, or use the version that wrote it.',
  ),
  REPAIR_REFUSED: entry(
    false,
    false,
    'The damaged store cannot be mended from the peers as things stand; the message says why. Nothing was written. Try again when the cluster has committed more, or readmit the node with an empty directory.',
  ),
  CONDITION_FAILED: entry(
    false,
    false,
    'The key was written since: `details.presentIndex` is the index of its last write (0: there is none). Read it and decide again.',
  ),
  KEY_NOT_FOUND: entry(false, false, 'There is no such key.'),
  ROUTE_NOT_FOUND: entry(
    false,
    false,
    'The HTTP API has no such path. See docs/reference/http-api.md.',
  ),
  METHOD_NOT_ALLOWED: entry(
    false,
    false,
    'The path does not take this method. The header `allow` lists those that it takes.',
  ),
  BODY_TOO_LARGE: entry(
    false,
    false,
    'The body of the request is larger than `details.bytesMax`. Nothing was written; send less.',
  ),
  SERVER_STARTING: entry(
    true,
    false,
    'The server is restoring its data. Nothing was written; try again soon or ask another node.',
  ),
  SERVER_CLOSING: entry(
    true,
    false,
    'The server is shutting down and took the request no more. Nothing was written; ask another node.',
  ),
  INTERNAL_ERROR: entry(
    false,
    true,
    'The server met a bug of its own; its log has the details. A write may have committed.',
  ),
};

/** Facts about one failure: what was asked, what is known, what to do. Plain JSON values. */
export type ErrorDetails = Readonly<
  Record<string, string | number | boolean | undefined | readonly (string | number)[]>
>;

/** Whether somebody else's value is a code of the catalogue. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(errorCatalogue, value);
}

/** Whether somebody else's value can be the details of an error. */
export function isErrorDetails(value: unknown): value is ErrorDetails {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((fact: unknown) =>
    Array.isArray(fact)
      ? fact.every(isListedFact)
      : typeof fact === 'boolean' || isListedFact(fact),
  );
}

function isListedFact(fact: unknown): boolean {
  return typeof fact === 'string' || Number.isFinite(fact);
}

/** Every failure that a caller can meet. */
export class KommanderError extends Error {
  override readonly name = 'KommanderError';
  readonly code: ErrorCode;
  readonly details: ErrorDetails;
  /** Whether the failed write may still take effect. */
  readonly mayHaveCommitted: boolean;

  /**
   * @param message what happened, with values, then what to do
   * @param options `mayHaveCommitted` where more is known than the catalogue says of the code in general
   */
  constructor(
    message: string,
    options: {
      readonly code: ErrorCode;
      readonly details?: ErrorDetails;
      readonly cause?: unknown;
      readonly mayHaveCommitted?: boolean;
    },
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = options.code;
    this.details = options.details ?? {};
    this.mayHaveCommitted =
      options.mayHaveCommitted ?? errorCatalogue[options.code].mayHaveCommitted;
  }

  /** Whether trying the same call again can succeed. */
  get retryable(): boolean {
    return errorCatalogue[this.code].retryable;
  }
}

/** The same error for a caller of whom it is certain that nothing was written. */
export function withoutEffect(error: KommanderError): KommanderError {
  const { code, details, cause } = error;
  return new KommanderError(error.message, { code, details, cause, mayHaveCommitted: false });
}

/** Whether `error` is a `KommanderError`, of `code` when given. */
export function isKommanderError(error: unknown, code?: ErrorCode): error is KommanderError {
  return error instanceof KommanderError && (code === undefined || error.code === code);
}
