// The files of snapshots on the disk of one simulated node: simulated files with the faults and the pace of that disk.

import { must } from '../../base/assert.ts';
import type { Random } from '../../base/random.ts';
import type { Files } from '../../wal/files.ts';
import type { ProcessClock } from './process-clock.ts';
import { type FilesOwner, type SimulatedFiles, simulatedFiles } from './simulated-files.ts';

export interface DiskFiles extends Pick<SimulatedFiles, 'losePower' | 'wipe'> {
  /** Flips a bit of a snapshot, finished or not, whose name begins like this. @returns its name, when there was one */
  tryRot(beginning?: string): string | undefined;
  /** The snapshots that are there and rotted, as far as is known. */
  rotten(): string[];
  /** The files as a process sees them. A process that is gone does nothing any more. */
  attach(clock: Pick<ProcessClock, 'setTimer' | 'defer'>): Files;
}

export interface DiskFilesOptions {
  readonly random: Random;
  /** How the disk is now. A full one fails to write, a failing one to sync. */
  readonly state: () => 'good' | 'full' | 'failing';
  /** Milliseconds that a sync takes: drawn from [0, `syncMsMax`). 0: nothing takes time. */
  readonly syncMsMax: () => number;
  /** What a power loss does to what was not synced: what chance wants, or the worst that is allowed. */
  readonly unsynced: 'chance' | 'lost';
}

/** Makes an empty disk. */
export function diskFiles(options: DiskFilesOptions): DiskFiles {
  const { random } = options;
  const files = simulatedFiles(random, options.unsynced);
  const rottenNames = new Set<string>();
  const snapshotOf = (fileName: string): string => fileName.slice(0, fileName.lastIndexOf('.'));
  return {
    tryRot(beginning = '') {
      const candidates = [...files.contents()].filter(
        ([name, { byteLength }]) => name.startsWith(beginning) && byteLength > 0,
      );
      if (candidates.length === 0) return undefined;
      const chosen = must(candidates[random.below(candidates.length)], 'one of them');
      const [name, { byteLength }] = chosen;
      files.flipBit({ name, offset: random.below(byteLength), bit: random.below(8) });
      rottenNames.add(snapshotOf(name));
      return snapshotOf(name);
    },
    rotten() {
      const present = new Set([...files.contents().keys()].map(snapshotOf));
      return [...rottenNames].filter((name) => present.has(name));
    },
    attach: (clock) => ({
      ...files.attach(ownerOf(options, clock)),
      // The store beside them is locked; as real directories of snapshots, they are not.
      async claim() {},
      async release() {},
    }),
    losePower: () => files.losePower(),
    wipe() {
      files.wipe();
      rottenNames.clear();
    },
  };
}

function ownerOf(
  { random, state, syncMsMax }: DiskFilesOptions,
  clock: Pick<ProcessClock, 'setTimer' | 'defer'>,
): FilesOwner {
  const isTimed = syncMsMax() > 0;
  return {
    isDead: false,
    async before(step, growthBytes) {
      const ms = step === 'sync' ? random.unit() * syncMsMax() : random.below(100) / 1_000;
      // Whatever a disk answers is input: it never comes at once, and never to a process that is gone.
      await new Promise<void>((resolve) => {
        if (isTimed) clock.setTimer(ms, resolve);
        else clock.defer(resolve);
      });
      if (state() === 'full' && growthBytes > 0) {
        throw Object.assign(new Error('no space left on the simulated disk'), { code: 'ENOSPC' });
      }
      if (state() === 'failing' && step === 'sync') {
        throw Object.assign(new Error('the simulated disk could not sync'), { code: 'EIO' });
      }
    },
    async after() {},
  };
}
