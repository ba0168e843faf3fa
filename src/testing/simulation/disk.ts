// The disk of one simulated node, below the real RocksDB engine: it stands in for the library and for the files. It
// outlives processes. What was synced stays; what was written and not synced survives the death of a process and may be
// lost, kept or torn by a power loss; syncs can be slow or fail, the disk can be full, records can rot.

import { KommanderError } from '../../base/errors.ts';
import { type Random, seededRandom } from '../../base/random.ts';
import type { Wal } from '../../ports/wal.ts';
import type { Files } from '../../wal/files.ts';
import { marksIn } from '../../wal/recovery-evidence.ts';
import { rocksdbWal } from '../../wal/rocksdb.ts';
import type { RocksDbDirectory } from '../../wal/rocksdb-directory.ts';
import type {
  RocksDbHandle,
  RocksDbLibrary,
  RocksDbOperation,
  RocksDbRange,
  RocksDbScan,
} from '../../wal/rocksdb-library.ts';
import { diskFiles } from './disk-files.ts';
import {
  applyOperations,
  copyRowStore,
  decodeLog,
  encodeBatch,
  joined,
  newRowStore,
  type RowStore,
  rowsBetween,
} from './disk-rows.ts';
import type { ProcessClock } from './process-clock.ts';

/** Where in a write a process dies: nothing written yet; written, not synced; synced, and nobody was told. */
export type WritePhase = 'beforeWrite' | 'beforeSync' | 'beforeAnswer';

/** `kill`: the process is gone, the machine goes on. `power`: the machine is gone, and with it what was not synced. */
export type CrashKind = 'kill' | 'power';

/** What happened to the bytes that were not synced. */
export type UnsyncedFate = 'none' | 'lost' | 'kept' | 'torn';

export interface SimulatedDisk {
  /** The log store on it as a process sees it. A process that is gone does nothing any more. */
  wal(clock: ProcessClock): Wal;
  /** The process, or the machine, is gone. */
  crash(kind: CrashKind): UnsyncedFate;
  /** An empty disk takes the place of this one. */
  wipe(): void;
  /** Lets a record rot that a later sync proves to have been there. @returns whether there was one */
  tryDamage(): boolean;
  /** Lets a bit of a stored snapshot rot, one whose name begins like this. @returns its name, when there was one */
  tryRot(beginning?: string): string | undefined;
  /** The snapshots that are there and have rotted. */
  rotten(): readonly string[];
  /** The process dies in its next write, in this phase: `die` is called when it is time. */
  crashInWrite(phase: WritePhase, die: () => void): void;
  /** It works from now on, and kills nobody. What has rotten stays so. */
  heal(): void;
  /** Milliseconds that a sync takes: drawn from [0, `syncMsMax`). */
  syncMsMax: number;
  /**
   * `full`: nothing is written, and mostly that is known before; else the library meets the end in the middle of a record
   * and has to be opened again. `failing`: what is written is not surely synced.
   */
  state: 'good' | 'full' | 'failing';
  /** Syncs that failed since the disk was made. */
  readonly failureCount: number;
  /** Writes and opens for which there was no room since the disk was made. */
  readonly refusedCount: number;
  /** How often a process opened the store again, since the last call. */
  takeReopenCount(): number;
  /** A restart found a torn log since the last call. */
  takeTornFound(): boolean;
}

/** The disk below the RocksDB engine. */
export interface RocksDbDisk extends SimulatedDisk {
  /** Library, directory and files as a process sees them. */
  attach(clock: ProcessClock): {
    readonly library: RocksDbLibrary;
    readonly directory: RocksDbDirectory;
    readonly snapshotFiles: Files;
  };
}

/** Bytes that are free while it is not full. */
const roomBytes = 2 ** 40;
/** Milliseconds that a sync of a good disk takes at most. */
export const syncMsHealthy = 1;

interface LogRecord {
  readonly bytes: Uint8Array;
  /** When it reaches the page cache, and when it is synced: for the write that is under way. */
  readonly writtenAtMs: number;
  readonly syncedAtMs: number;
}

interface Disk {
  readonly random: Random;
  readonly nowMs: () => number;
  identity: string;
  /** What recovery began with at the last open. */
  table: RowStore;
  /** Records since then. */
  log: LogRecord[];
  /** How many of them a sync that was answered covers. */
  syncedCount: number;
  /** The log as the last crash or close left it; undefined while a process has the store open. */
  closedLog: Uint8Array | undefined;
  /** Logs that were kept aside. */
  aside: Uint8Array[];
  owner: ProcessClock | undefined;
  /** Who opened it last. */
  lastOwner: ProcessClock | undefined;
  deadly: { readonly phase: WritePhase; readonly die: () => void } | undefined;
  tornFound: boolean;
  failureCount: number;
  refusedCount: number;
  reopenCount: number;
}

export function simulatedDisk(options: {
  readonly random: Random;
  readonly nowMs: () => number;
  readonly name: string;
}): RocksDbDisk {
  const { random, nowMs, name } = options;
  let storeCount = 0;
  const disk: Disk = {
    random,
    nowMs,
    identity: '',
    table: newRowStore(),
    log: [],
    syncedCount: 0,
    closedLog: new Uint8Array(0),
    aside: [],
    owner: undefined,
    lastOwner: undefined,
    deadly: undefined,
    tornFound: false,
    failureCount: 0,
    refusedCount: 0,
    reopenCount: 0,
  };
  const empty = (): void => {
    storeCount += 1;
    // Like the UUID of a real store; its length is what matters to the format.
    disk.identity = `${name.padStart(8, '0')}-0000-4000-8000-${String(storeCount).padStart(12, '0')}`;
    disk.table = newRowStore();
    disk.log = [];
    disk.closedLog = new Uint8Array(0);
    disk.aside = [];
  };
  empty();
  const snapshotFiles = diskFiles({
    random: seededRandom(random.below(0x7fff_ffff)),
    state: () => face.state,
    syncMsMax: () => face.syncMsMax,
    unsynced: 'chance',
  });
  const face: RocksDbDisk = {
    syncMsMax: syncMsHealthy,
    state: 'good',
    get failureCount() {
      return disk.failureCount;
    },
    get refusedCount() {
      return disk.refusedCount;
    },
    takeReopenCount() {
      const count = disk.reopenCount;
      disk.reopenCount = 0;
      return count;
    },
    wal: (clock) => rocksdbWal({ path: name, ...face.attach(clock) }),
    attach: (clock) => ({
      library: { open: async () => openStore(disk, face, clock) },
      directory: directoryOf(disk, face),
      snapshotFiles: snapshotFiles.attach(clock),
    }),
    crash(kind) {
      if (kind === 'power') snapshotFiles.losePower();
      disk.owner = undefined;
      disk.deadly = undefined;
      if (disk.closedLog !== undefined) return 'none';
      return closeLog(disk, kind, face.state === 'failing');
    },
    wipe() {
      empty();
      snapshotFiles.wipe();
    },
    tryDamage: () => tryDamage(disk),
    tryRot: (beginning) => snapshotFiles.tryRot(beginning),
    rotten: () => snapshotFiles.rotten(),
    crashInWrite(phase, die) {
      disk.deadly = { phase, die };
    },
    heal() {
      face.state = 'good';
      face.syncMsMax = syncMsHealthy;
      disk.deadly = undefined;
    },
    takeTornFound() {
      const wasFound = disk.tornFound;
      disk.tornFound = false;
      return wasFound;
    },
  };
  return face;
}

/** Decides what is left of the log: by the clock for a write under way, by chance for what was not synced. */
function closeLog(disk: Disk, kind: CrashKind, isFailing: boolean): UnsyncedFate {
  const now = disk.nowMs();
  const written = disk.log.filter((record) => record.writtenAtMs <= now);
  // A sync covers everything before it.
  const lastDone = written.findLastIndex(({ syncedAtMs }) => syncedAtMs <= now);
  const syncedCount = Math.max(disk.syncedCount, lastDone + 1);
  const synced = written.slice(0, syncedCount).map(({ bytes }) => bytes);
  const unsynced = joined(written.slice(syncedCount).map(({ bytes }) => bytes));
  disk.log = [];
  const fate = fateOf(disk.random, unsynced.byteLength, kind === 'power' || isFailing);
  const keptBytes =
    fate === 'kept'
      ? unsynced.byteLength
      : fate === 'torn'
        ? 1 + disk.random.below(unsynced.byteLength - 1)
        : 0;
  disk.closedLog = joined([...synced, unsynced.subarray(0, keptBytes)]);
  return fate;
}

function fateOf(random: Random, unsyncedBytes: number, isAtRisk: boolean): UnsyncedFate {
  if (unsyncedBytes === 0) return 'none';
  if (!isAtRisk) return 'kept';
  if (unsyncedBytes === 1) return 'lost';
  return (['lost', 'kept', 'torn', 'torn'] as const)[random.below(4)] ?? 'lost';
}

function openStore(disk: Disk, face: SimulatedDisk, clock: ProcessClock): RocksDbHandle {
  if (disk.owner !== undefined && !disk.owner.isDead) {
    throw new KommanderError('the simulated store is open elsewhere', { code: 'WAL_LOCKED' });
  }
  if (face.state === 'full' && disk.random.below(2) === 0) throw refused(disk);
  if (disk.lastOwner === clock) disk.reopenCount += 1;
  disk.owner = clock;
  disk.lastOwner = clock;
  const { batches, isTorn } = decodeLog(disk.closedLog ?? new Uint8Array(0));
  if (isTorn) disk.tornFound = true;
  for (const batch of batches) applyOperations(disk.table, batch);
  // What was recovered is in synced files before the store is open.
  disk.closedLog = undefined;
  disk.log = [];
  disk.syncedCount = 0;
  const rows = copyRowStore(disk.table);
  let isExhausted = false;
  return {
    identity: disk.identity,
    async write(operations, { sync }) {
      // Like RocksDB: once it has met the end of the disk it writes nothing any more, however much room there is.
      if (isExhausted) throw refused(disk);
      if (face.state === 'full') {
        isExhausted = true;
        writePart(disk, operations);
        throw refused(disk);
      }
      await write(disk, face, { clock, rows, operations, sync });
    },
    scan: (range) => scan(clock, rows, range),
    async close() {
      if (disk.owner !== clock) return;
      disk.owner = undefined;
      // A clean close syncs what was not.
      disk.closedLog = joined(disk.log.map(({ bytes }) => bytes));
      disk.log = [];
    },
  };
}

function refused(disk: Disk): KommanderError {
  disk.refusedCount += 1;
  return new KommanderError('no space left on the simulated disk', { code: 'DISK_FULL' });
}

/** As much of a record as there is room for: never all of it. */
function writePart(disk: Disk, operations: readonly RocksDbOperation[]): void {
  const record = encodeBatch(operations);
  const bytes = record.subarray(0, disk.random.below(record.byteLength));
  disk.log.push({ bytes, writtenAtMs: disk.nowMs(), syncedAtMs: Number.POSITIVE_INFINITY });
}

async function write(
  disk: Disk,
  face: SimulatedDisk,
  batch: {
    readonly clock: ProcessClock;
    readonly rows: RowStore;
    readonly operations: readonly RocksDbOperation[];
    readonly sync: boolean;
  },
): Promise<void> {
  const { clock, rows, operations, sync } = batch;
  const now = disk.nowMs();
  const bytes = encodeBatch(operations);
  const { deadly } = disk;
  if (deadly !== undefined && sync) {
    disk.deadly = undefined;
    const never = Number.POSITIVE_INFINITY;
    disk.log.push({
      bytes,
      writtenAtMs: deadly.phase === 'beforeWrite' ? never : now,
      syncedAtMs: deadly.phase === 'beforeAnswer' ? now : never,
    });
    deadly.die();
    return new Promise<never>(() => {});
  }
  const writtenAtMs = now + disk.random.below(100) / 1_000;
  // The kernel may drop the pages of a sync that fails: nobody can say then what is on the disk.
  const isSynced = sync && face.state === 'good';
  const syncMs = disk.random.unit() * face.syncMsMax;
  const syncedAtMs = writtenAtMs + syncMs;
  disk.log.push({
    bytes,
    writtenAtMs,
    syncedAtMs: isSynced ? syncedAtMs : Number.POSITIVE_INFINITY,
  });
  const coveredCount = disk.log.length;
  applyOperations(rows, operations);
  const answeredAtMs = sync ? syncedAtMs + disk.random.below(100) / 1_000 : writtenAtMs;
  await new Promise<void>((resolve) => clock.setTimer(answeredAtMs - now, resolve));
  if (!sync) return;
  if (!isSynced) {
    disk.failureCount += 1;
    throw new Error('the simulated disk could not sync');
  }
  disk.syncedCount = coveredCount;
}

function scan(clock: ProcessClock, rows: RowStore, range: RocksDbRange): RocksDbScan {
  const found = rowsBetween(rows, range.from, range.end);
  let at = 0;
  return {
    async next() {
      await new Promise<void>((resolve) => clock.defer(resolve));
      const from = at;
      let bytes = 0;
      while (at < found.length && (at === from || bytes < range.chunkBytes)) {
        bytes += found[at]?.value.byteLength ?? 0;
        at += 1;
      }
      return found.slice(from, at);
    },
    async close() {},
  };
}

/** Of so many writes to a full disk, one finds out only when it has begun: others filled the disk meanwhile. */
const surprisedOneIn = 4;

function directoryOf(disk: Disk, face: SimulatedDisk): RocksDbDirectory {
  return {
    async claim() {},
    async keepLogsAside() {
      if (disk.closedLog === undefined || disk.closedLog.byteLength === 0) return [];
      disk.aside.push(disk.closedLog);
      return [String(disk.aside.length)];
    },
    async dropKeptLogs(names) {
      for (const _ of names) disk.aside.pop();
    },
    async provenBatch(identity) {
      let proven = 0;
      for (const log of disk.aside) {
        const bytes = Buffer.from(log.buffer, log.byteOffset, log.byteLength);
        for (const mark of marksIn(bytes, bytes.byteLength)) {
          if (mark.identity === identity) proven = Math.max(proven, mark.syncedBatch);
        }
      }
      return proven;
    },
    async forgetKeptLogs() {
      disk.aside = [];
    },
    freeBytes() {
      if (face.state !== 'full' || disk.random.below(surprisedOneIn) === 0) return roomBytes;
      disk.refusedCount += 1;
      return 0;
    },
    logBytes: async () => joined(disk.log.map(({ bytes }) => bytes)).byteLength,
  };
}

/**
 * Flips a bit of a record of the closed log that two whole records follow: the second one's mark proves that the damaged
 * batch was synced, so it must be told apart from a torn end.
 */
function tryDamage(disk: Disk): boolean {
  const log = disk.closedLog;
  if (log === undefined) return false;
  const starts: number[] = [];
  let at = 0;
  for (const batch of decodeLog(log).batches) {
    starts.push(at);
    at += encodeBatch(batch).byteLength;
  }
  const candidates = starts.length - provenBehind;
  if (candidates <= 0) return false;
  const chosen = disk.random.below(candidates);
  const from = starts[chosen] ?? 0;
  const end = starts[chosen + 1] ?? at;
  const place = from + disk.random.below(end - from);
  const damaged = log.slice();
  damaged[place] = (damaged[place] ?? 0) ^ (1 << disk.random.below(8));
  disk.closedLog = damaged;
  return true;
}

/** Records behind a damaged one: some of them may be unsynced commit indexes, whose marks prove nothing of the last. */
export const provenBehind = 4;
