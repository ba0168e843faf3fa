// What this project uses of `@nxtedition/rocksdb`, which brings no types of its own: a RocksDB binding in the shape of
// abstract-level 1.x. Written as a module of ours, so that the published types stand on their own.

export interface RocksBatch {
  put(key: Uint8Array, value: Uint8Array): RocksBatch;
  del(key: Uint8Array): RocksBatch;
  /** Runs on the calling thread: it returns after the write, and after the sync when asked for. */
  write(options: { readonly sync: boolean }): Promise<void>;
  close(): Promise<void>;
}

export interface RocksIterator {
  /** Up to `size` rows; none at the end. Runs in the thread pool. */
  nextv(size: number): Promise<[key: Uint8Array, value: Uint8Array][]>;
  close(): Promise<void>;
}

export interface RocksLevel {
  /** The store's own UUID; only while it is open. */
  readonly identity: string;
  open(): Promise<void>;
  close(): Promise<void>;
  batch(): RocksBatch;
  /** Sees the store as it was when it was made. */
  iterator(options: {
    readonly gte: Uint8Array;
    readonly lt: Uint8Array;
    readonly highWaterMarkBytes: number;
  }): RocksIterator;
}

/** What the package exports. */
export interface RocksBinding {
  readonly RocksLevel: new (
    path: string,
    options: Readonly<Record<string, string | number | boolean>>,
  ) => RocksLevel;
}
