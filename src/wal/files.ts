// What the engines that keep files of their own do with a file system. A port, so that the simulator's disk, which loses
// what was not synced, can stand in for a real one; `node-files.ts` is the real one.

/** The files of one store, by name: no name has a directory in it. */
export interface Files {
  /** Makes the directory for its owner only, and takes it for this process until `release`. @throws WAL_LOCKED */
  claim(): Promise<void>;
  /** Idempotent. */
  release(): Promise<void>;
  list(): Promise<readonly FileEntry[]>;
  /**
   * Opens a file for reading and writing. `create`: it must not be there yet; else it must (`isMissing` knows what is
   * thrown when it is not).
   */
  open(name: string, options: { readonly create: boolean }): Promise<StoredFile>;
  /** Replaces `to` if it is there. Survives a power loss once `syncNames` has resolved. */
  rename(from: string, to: string): Promise<void>;
  /** A file that is not there is no error. */
  remove(name: string): Promise<void>;
  /** Makes what was created, renamed and removed before survive a power loss. */
  syncNames(): Promise<void>;
}

export interface FileEntry {
  readonly name: string;
  readonly byteLength: number;
}

/** A failure of any of these leaves the content of the written range unknown. */
export interface StoredFile {
  /** Bytes of the file when it was opened. */
  readonly byteLength: number;
  /** Writes the parts one behind the other, from `position` on; the file grows when it must. */
  write(parts: readonly Uint8Array[], position: number): Promise<void>;
  /** What was written before survives a power loss (`fdatasync`). */
  sync(): Promise<void>;
  /**
   * Fewer bytes at the end of the file. The result is nobody else's: a part of `buffer`, if that is given and large
   * enough, or new.
   */
  read(
    range: { readonly position: number; readonly byteLength: number },
    buffer?: Uint8Array,
  ): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Whether a failure says that there is no such file. */
export function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

/** Whether a failure says that the disk, or the quota on it, is full. */
export function isOutOfSpace(error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false;
  return error.code === 'ENOSPC' || error.code === 'EDQUOT';
}
