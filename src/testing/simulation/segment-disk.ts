// The disk of a simulated node whose log is the segment engine's: the real engine on simulated files. Its faults are
// those of `disk.ts`, which is the disk of the RocksDB engine.

import { must } from '../../base/assert.ts';
import { type Random, seededRandom } from '../../base/random.ts';
import { segmentWal } from '../../wal/segment.ts';
import { type ReadRecord, tryReadRecord } from '../../wal/segment-record.ts';
import {
  type CrashKind,
  provenBehind,
  type SimulatedDisk,
  syncMsHealthy,
  type WritePhase,
} from './disk.ts';
import { diskFiles } from './disk-files.ts';
import type { ProcessClock } from './process-clock.ts';
import {
  type FileStep,
  type FilesOwner,
  type SimulatedFiles,
  simulatedFiles,
} from './simulated-files.ts';

/** So small that segments are sealed, recycled and emptied in a short run. */
const segmentBytes = 65_536;

interface Deadly {
  readonly phase: WritePhase;
  readonly die: () => void;
}

interface Counts {
  failures: number;
  refusals: number;
}

export function segmentDisk(options: {
  readonly random: Random;
  readonly name: string;
}): SimulatedDisk {
  const { random, name } = options;
  const files = simulatedFiles(random);
  const counts: Counts = { failures: 0, refusals: 0 };
  let deadly: Deadly | undefined;
  let isTorn = false;
  const snapshotFiles = diskFiles({
    random: seededRandom(random.below(0x7fff_ffff)),
    state: () => face.state,
    syncMsMax: () => face.syncMsMax,
    unsynced: 'chance',
  });
  const takeDeadly = (phase: WritePhase): Deadly | undefined => {
    if (deadly?.phase !== phase) return undefined;
    const taken = deadly;
    deadly = undefined;
    return taken;
  };
  const face: SimulatedDisk = {
    syncMsMax: syncMsHealthy,
    state: 'good',
    get failureCount() {
      return counts.failures;
    },
    get refusedCount() {
      return counts.refusals;
    },
    // It goes on as it is when there is room.
    takeReopenCount: () => 0,
    wal: (clock) =>
      segmentWal({
        path: name,
        segmentBytes,
        files: files.attach(ownerOf(clock, { random, face, counts, takeDeadly })),
        snapshotFiles: snapshotFiles.attach(clock),
      }),
    crash(kind: CrashKind) {
      if (kind === 'power') snapshotFiles.losePower();
      deadly = undefined;
      // A file that could not be synced may lose what was written to it, whoever goes.
      if (kind === 'kill' && face.state !== 'failing') return 'none';
      const fate = files.losePower();
      if (fate === 'torn') isTorn = true;
      return fate;
    },
    wipe() {
      files.wipe();
      snapshotFiles.wipe();
      isTorn = false;
    },
    tryDamage: () => tryDamage(random, files),
    tryRot: (beginning) => snapshotFiles.tryRot(beginning),
    rotten: () => snapshotFiles.rotten(),
    crashInWrite(phase, die) {
      deadly = { phase, die };
    },
    heal() {
      face.state = 'good';
      face.syncMsMax = syncMsHealthy;
      deadly = undefined;
    },
    takeTornFound() {
      const wasTorn = isTorn;
      isTorn = false;
      return wasTorn;
    },
  };
  return face;
}

function ownerOf(
  clock: ProcessClock,
  disk: {
    readonly random: Random;
    readonly face: SimulatedDisk;
    readonly counts: Counts;
    readonly takeDeadly: (phase: WritePhase) => Deadly | undefined;
  },
): FilesOwner {
  const { random, face, counts, takeDeadly } = disk;
  const dieIn = async (phase: WritePhase): Promise<void> => {
    const taken = takeDeadly(phase);
    if (taken === undefined) return;
    taken.die();
    await new Promise<never>(() => {});
  };
  // A file that grows is one of zeros that is laid out ahead: that takes as long as a sync.
  const pause = (step: FileStep, growthBytes: number): Promise<void> =>
    new Promise((resolve) => {
      if (step === 'read') clock.defer(resolve);
      else if (step === 'sync' || growthBytes > 0)
        clock.setTimer(random.unit() * face.syncMsMax, resolve);
      else clock.setTimer(random.below(100) / 1_000, resolve);
    });
  return {
    get isDead() {
      return clock.isDead;
    },
    async before(step, growthBytes) {
      if (step === 'write') await dieIn('beforeWrite');
      if (step === 'sync') await dieIn('beforeSync');
      await pause(step, growthBytes);
      if (face.state === 'full' && growthBytes > 0) {
        counts.refusals += 1;
        throw Object.assign(new Error('no space left on the simulated disk'), { code: 'ENOSPC' });
      }
      if (face.state === 'failing' && step === 'sync') {
        counts.failures += 1;
        throw new Error('the simulated disk could not sync');
      }
    },
    async after(step) {
      if (step === 'sync') await dieIn('beforeAnswer');
    },
  };
}

/**
 * Flips a bit of a record in the segment that is written, with batches behind it of which a later one says that it was
 * synced: it must be told apart from a torn end.
 */
function tryDamage(random: Random, files: SimulatedFiles): boolean {
  const newest = [...files.contents()]
    .filter(([name]) => name.endsWith('.segment'))
    .sort(([a], [b]) => (a < b ? 1 : -1));
  for (const [name, bytes] of newest) {
    const records = recordsOf(bytes, Number.parseInt(name, 10));
    const lastBatch = records.at(-1)?.batchNumber;
    if (lastBatch === undefined) continue;
    const candidates = records.filter(({ batchNumber }) => batchNumber + provenBehind <= lastBatch);
    if (candidates.length === 0) return false;
    const chosen = must(candidates[random.below(candidates.length)], 'there is one');
    const offset = chosen.bodyOffset + random.below(Math.min(chosen.bodyBytes, 32));
    files.flipBit({ name, offset, bit: random.below(8) });
    return true;
  }
  return false;
}

function recordsOf(bytes: Uint8Array, segmentNumber: number): ReadRecord[] {
  const records: ReadRecord[] = [];
  for (let offset = 0; ; ) {
    const record = tryReadRecord(bytes, offset, segmentNumber);
    if (record === undefined) return records;
    // The mark of an end in good order has no body.
    if (record.bodyBytes > 0) records.push(record);
    offset = record.endOffset;
  }
}
