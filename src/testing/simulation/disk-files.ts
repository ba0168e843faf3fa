// Files on the disk of one simulated node. They outlive processes: what was written stays when a process is killed. What
// was not synced (bytes, or names of files) may be lost, kept or torn by a power loss, each write and each name for itself.

import type { Random } from '../../base/random.ts';
import type { Files, StoredFile } from '../../wal/files.ts';
import { nameError } from '../../wal/memory-files.ts';
import type { ProcessClock } from './process-clock.ts';

export interface DiskFiles {
  /** The files as a process sees them. A process that is gone does nothing any more. */
  attach(clock: Pick<ProcessClock, 'setTimer' | 'defer'>): Files;
  /** The machine is gone, and with it what was not synced. */
  losePower(): void;
  /** An empty disk takes the place of this one. */
  wipe(): void;
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

interface UnsyncedWrite {
  readonly position: number;
  readonly bytes: Uint8Array;
}

interface DiskFile {
  /** As processes see it. */
  content: Uint8Array;
  synced: Uint8Array;
  unsynced: UnsyncedWrite[];
}

type Names = Map<string, DiskFile>;
type NameChange = (names: Names) => void;

interface Disk extends DiskFilesOptions {
  names: Names;
  syncedNames: Names;
  unsyncedNames: NameChange[];
}

/** Makes an empty disk. */
export function diskFiles(options: DiskFilesOptions): DiskFiles {
  const disk: Disk = {
    ...options,
    names: new Map(),
    syncedNames: new Map(),
    unsyncedNames: [],
  };
  return {
    attach: (clock) => attached(disk, clock),
    losePower: () => losePower(disk),
    wipe() {
      disk.names = new Map();
      disk.syncedNames = new Map();
      disk.unsyncedNames = [];
    },
  };
}

function losePower(disk: Disk): void {
  const { random } = disk;
  const isLost = disk.unsynced === 'lost';
  // The file system writes its names down in their order.
  const keptCount = isLost ? 0 : random.below(disk.unsyncedNames.length + 1);
  for (const change of disk.unsyncedNames.slice(0, keptCount)) change(disk.syncedNames);
  disk.unsyncedNames = [];
  disk.names = new Map(disk.syncedNames);
  for (const file of new Set(disk.names.values())) {
    let content = file.synced;
    for (const { position, bytes } of file.unsynced) {
      const keptBytes = isLost ? 0 : keptOf(random, bytes.byteLength);
      if (keptBytes > 0) content = written(content, position, bytes.subarray(0, keptBytes));
    }
    file.content = content;
    file.synced = content;
    file.unsynced = [];
  }
}

function keptOf(random: Random, byteLength: number): number {
  const fate = random.below(3);
  if (fate === 0) return 0;
  return fate === 1 ? byteLength : random.below(byteLength + 1);
}

function attached(disk: Disk, clock: Pick<ProcessClock, 'setTimer' | 'defer'>): Files {
  const isTimed = disk.syncMsMax() > 0;
  /** Whatever a disk answers is input: it never comes at once, and never to a process that is gone. */
  const pause = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      if (isTimed) clock.setTimer(ms, resolve);
      else clock.defer(resolve);
    });
  const access = (): Promise<void> => pause(disk.random.below(100) / 1_000);
  const changeNames = (change: NameChange): void => {
    change(disk.names);
    disk.unsyncedNames.push(change);
  };
  return {
    async claim() {},
    async release() {},
    async list() {
      await access();
      return [...disk.names].map(([name, { content }]) => ({
        name,
        byteLength: content.byteLength,
      }));
    },
    async open(name, { create }) {
      await access();
      const known = disk.names.get(name);
      if (create !== (known === undefined)) throw nameError(name, create);
      const file = known ?? newFile();
      if (create) changeNames((names) => names.set(name, file));
      return opened(disk, file, { access, pause });
    },
    async rename(from, to) {
      await access();
      if (!disk.names.has(from)) throw nameError(from, false);
      changeNames((names) => {
        const file = names.get(from);
        if (file === undefined) return;
        names.delete(from);
        names.set(to, file);
      });
    },
    async remove(name) {
      await access();
      changeNames((names) => names.delete(name));
    },
    async syncNames() {
      await pause(disk.random.unit() * disk.syncMsMax());
      checkSync(disk);
      for (const change of disk.unsyncedNames) change(disk.syncedNames);
      disk.unsyncedNames = [];
    },
  };
}

function newFile(): DiskFile {
  return { content: new Uint8Array(0), synced: new Uint8Array(0), unsynced: [] };
}

function opened(
  disk: Disk,
  file: DiskFile,
  {
    access,
    pause,
  }: { readonly access: () => Promise<void>; readonly pause: (ms: number) => Promise<void> },
): StoredFile {
  return {
    byteLength: file.content.byteLength,
    async write(parts, position) {
      await access();
      if (disk.state() === 'full') {
        throw Object.assign(new Error('no space left on the simulated disk'), { code: 'ENOSPC' });
      }
      let at = position;
      for (const part of parts) {
        // The caller may use its buffer again.
        const bytes = new Uint8Array(part);
        file.content = written(file.content, at, bytes);
        file.unsynced.push({ position: at, bytes });
        at += bytes.byteLength;
      }
    },
    async sync() {
      // What is written while it works has no part in it.
      const { content } = file;
      const coveredCount = file.unsynced.length;
      await pause(disk.random.unit() * disk.syncMsMax());
      checkSync(disk);
      file.synced = content;
      file.unsynced = file.unsynced.slice(coveredCount);
    },
    async read({ position, byteLength }) {
      await access();
      return file.content.slice(position, position + byteLength);
    },
    async close() {
      await access();
    },
  };
}

function checkSync(disk: Disk): void {
  if (disk.state() !== 'failing') return;
  throw Object.assign(new Error('the simulated disk could not sync'), { code: 'EIO' });
}

/** A new buffer: what was synced must not change. */
function written(content: Uint8Array, position: number, bytes: Uint8Array): Uint8Array {
  const result = new Uint8Array(Math.max(content.byteLength, position + bytes.byteLength));
  result.set(content);
  result.set(bytes, position);
  return result;
}
