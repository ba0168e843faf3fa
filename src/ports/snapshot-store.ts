// Where a node keeps snapshots: states of its partitions as streams of bytes, beside the log whose base names them.
// A log store has one (`Wal.snapshots`). What the bytes mean is the host's matter. `testing/snapshot-contract.ts`, a part
// of the contract of log stores, says in tests what it must do.

/** The bytes of a finished snapshot. */
export interface SnapshotFacts {
  readonly byteLength: number;
  /** CRC-32 of all bytes. */
  readonly checksum: number;
}

/** Room in a buffer for `SnapshotReader.read` for what the store keeps beside the bytes. */
export const readMarginBytes = 64;

export interface StoredSnapshot {
  /** 1 to 128 characters of `a-z 0-9 -`. */
  readonly name: string;
  /** Whether it is whole. What is not may be gone on with (`resume`). */
  readonly isFinished: boolean;
}

export interface SnapshotStore {
  /**
   * Begins a snapshot. An unfinished one of the same name is forgotten.
   *
   * @throws DISK_FULL, WAL_FAILED
   */
  create(name: string): Promise<SnapshotWriter>;
  /**
   * Goes on with an unfinished snapshot, also one that a crash left behind, where its bytes are whole up to. They are
   * read and checked. Undefined when there is none of that name.
   *
   * @throws DISK_FULL, WAL_FAILED
   */
  resume(name: string): Promise<SnapshotWriter | undefined>;
  /**
   * Opens a finished snapshot.
   *
   * @throws SNAPSHOT_CORRUPT it is missing, or not the one that `expected` says
   */
  open(name: string, expected: SnapshotFacts): Promise<SnapshotReader>;
  /** @throws WAL_FAILED */
  list(): Promise<readonly StoredSnapshot[]>;
  /** Removes a snapshot, finished or not. One that is not there is no error. @throws WAL_FAILED */
  remove(name: string): Promise<void>;
}

/**
 * A snapshot that is being written; one call at a time. It has one end: `finish`, `suspend` or `discard`. Once a call has
 * thrown, only `discard` is left.
 */
export interface SnapshotWriter {
  /** Bytes that are in it. */
  readonly byteLength: number;
  /** The bytes may be used again once the promise has resolved. @throws DISK_FULL, WAL_FAILED */
  append(bytes: Uint8Array): Promise<void>;
  /**
   * Makes it whole: when the promise has resolved, it survives a power loss under its name. Before, it is unfinished.
   *
   * @throws DISK_FULL, WAL_FAILED
   */
  finish(): Promise<SnapshotFacts>;
  /** Lets go of it; it stays unfinished. The last bytes may be lost. */
  suspend(): Promise<void>;
  /** Removes it. */
  discard(): Promise<void>;
}

/** A finished snapshot that is being read. */
export interface SnapshotReader {
  /**
   * Reads bytes of it: fewer than `byteLengthMax` at its end, or where the store finds it cheaper; none behind the end.
   * Only checked bytes are given out; they are nobody else's. `buffer`, of `byteLengthMax + readMarginBytes` bytes, may be
   * used for them.
   *
   * @throws SNAPSHOT_CORRUPT these bytes are damaged
   * @throws WAL_FAILED they cannot be read
   */
  read(offset: number, byteLengthMax: number, buffer?: Uint8Array): Promise<Uint8Array>;
  /** Idempotent. */
  close(): Promise<void>;
}
