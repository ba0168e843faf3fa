// The disk of one node in a test: a log store in memory that outlives the node, with a switch for everything that a real
// disk does to its users. A write that was not acknowledged is gone after a crash, and so is one that was not synced:
// the disk keeps as little as its promise allows.

import { KommanderError } from '../../src/base/errors.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type { Wal, WalBatch } from '../../src/ports/wal.ts';
import { diskFiles } from '../../src/testing/simulation/disk-files.ts';
import type { Files } from '../../src/wal/files.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { fileSnapshots } from '../../src/wal/snapshot-files.ts';

export interface NodeDisk {
  /** The store as the next node sees it. A store that was handed out before does nothing any more. */
  attach(clock: Clock): Wal;
  /** The process is gone: what was not synced is lost. */
  crash(): Promise<void>;
  /** An empty disk takes the place of this one. */
  wipe(): Promise<void>;
  /** @returns what mounts the present disk again after another one has taken its place */
  setAside(): () => Promise<void>;
  /** Milliseconds that a write takes from now on. */
  latencyMs: number;
  /** Writes wait from now on, and are lost if the node crashes meanwhile. */
  hold(): void;
  /** Writes that wait are carried out. */
  release(): void;
  /** Writes are refused from now on, and nothing of them is written. */
  fill(): void;
  /** They are taken again. */
  makeRoom(): void;
  /** Writes that were refused for want of room. */
  readonly refusedCount: number;
  /** The next write fails, and all after it. */
  fail(): void;
  /** Reads of entries fail from now on. */
  failReads(): void;
  /** Reads of entries wait until `release`. */
  holdReads(): void;
  /** How the disk takes snapshots from now on. */
  snapshotState: 'good' | 'full' | 'failing';
  /** The files of the snapshots, as nobody's process sees them. */
  readonly files: Files;
  readonly syncCount: number;
  readonly writeCount: number;
  readonly readCount: number;
  /** Everything that was handed over to be written, in order. */
  readonly batches: readonly WalBatch[];
  /** The last thing that happened before a batch is durable; tests look at the state then. */
  beforeDurable: ((batch: WalBatch) => void) | undefined;
}

export function nodeDisk(): NodeDisk {
  let store = memoryWal();
  const files = diskFiles({
    random: seededRandom(1),
    state: () => disk.snapshotState,
    syncMsMax: () => 0,
    unsynced: 'lost',
  });
  let generation = 0;
  let isHeld = false;
  let areReadsHeld = false;
  let isFailed = false;
  let isFull = false;
  let doReadsFail = false;
  let waiting: (() => void)[] = [];
  /** Written but not synced. */
  let unsynced: WalBatch[] = [];
  const batches: WalBatch[] = [];
  const counts = { syncs: 0, writes: 0, reads: 0, refused: 0 };

  async function writeThrough(batch: WalBatch): Promise<void> {
    if (!batch.sync) {
      unsynced.push(batch);
      return;
    }
    const earlier = unsynced;
    unsynced = [];
    for (const one of earlier) await store.write(one);
    await store.write(batch);
  }

  const disk: NodeDisk = {
    latencyMs: 0,
    snapshotState: 'good',
    files: files.attach({ defer: queueMicrotask, setTimer: () => ({ cancel() {} }) }),
    beforeDurable: undefined,
    attach(clock) {
      generation += 1;
      const own = generation;
      const isGone = (): boolean => own !== generation;
      const never = new Promise<never>(() => {});
      let isWriting = false;
      const released = (): Promise<void> => new Promise((resolve) => waiting.push(resolve));
      return {
        durable: true,
        snapshots: fileSnapshots(files.attach(clock)),
        open: () => store.open(),
        async write(batch) {
          if (isWriting) throw new Error('one write at a time');
          isWriting = true;
          batches.push(batch);
          counts.writes += 1;
          if (batch.sync) counts.syncs += 1;
          while (isHeld && !isGone()) await released();
          if (disk.latencyMs > 0) {
            await new Promise<void>((resolve) => clock.setTimer(disk.latencyMs, resolve));
          }
          if (isGone()) return never;
          if (isFull) {
            isWriting = false;
            counts.refused += 1;
            throw new KommanderError('no room', { code: 'DISK_FULL' });
          }
          if (isFailed) throw new KommanderError('the disk is broken', { code: 'WAL_FAILED' });
          await writeThrough(batch);
          disk.beforeDurable?.(batch);
          // The answer of a disk is input, and takes its turn.
          await new Promise<void>((resolve) => clock.defer(resolve));
          isWriting = false;
          return isGone() ? never : undefined;
        },
        async read(range) {
          counts.reads += 1;
          while (areReadsHeld && !isGone()) await released();
          if (doReadsFail) throw new KommanderError('a bad sector', { code: 'WAL_CORRUPT' });
          const entries = await store.read(range);
          await new Promise<void>((resolve) => clock.defer(resolve));
          return isGone() ? never : entries;
        },
        stats: () => store.stats(),
        async close() {
          if (isGone()) return;
          for (const batch of unsynced.splice(0)) await store.write(batch);
          await store.close();
        },
      };
    },
    async crash() {
      generation += 1;
      unsynced = [];
      isHeld = false;
      areReadsHeld = false;
      disk.latencyMs = 0;
      wake();
      files.losePower();
      await store.close();
    },
    async wipe() {
      await disk.crash();
      store = memoryWal();
      files.wipe();
      isFailed = false;
      doReadsFail = false;
    },
    setAside() {
      const present = store;
      return async () => {
        await disk.crash();
        store = present;
      };
    },
    hold() {
      isHeld = true;
    },
    holdReads() {
      areReadsHeld = true;
    },
    release() {
      isHeld = false;
      areReadsHeld = false;
      wake();
    },
    fill() {
      isFull = true;
    },
    makeRoom() {
      isFull = false;
    },
    get refusedCount() {
      return counts.refused;
    },
    fail() {
      isFailed = true;
    },
    failReads() {
      doReadsFail = true;
    },
    get syncCount() {
      return counts.syncs;
    },
    get writeCount() {
      return counts.writes;
    },
    get readCount() {
      return counts.reads;
    },
    batches,
  };

  function wake(): void {
    const due = waiting;
    waiting = [];
    for (const resolve of due) resolve();
  }

  return disk;
}
