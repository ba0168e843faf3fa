// Files of one simulated disk, for the engines that keep files of their own. They outlive processes. What was synced
// stays; of what was written and not synced a power loss leaves any sectors, and of the changes of names the first ones.

import { must } from '../../base/assert.ts';
import { KommanderError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import type { Files, StoredFile } from '../../wal/files.ts';
import { nameError } from '../../wal/memory-files.ts';
import type { UnsyncedFate } from './disk.ts';

/** What a process does with its files. */
export type FileStep = 'write' | 'sync' | 'read' | 'names';

/** A process that has the files: it decides how long a step takes, whether it fails, and whether it is still there. */
export interface FilesOwner {
  readonly isDead: boolean;
  /** Before the step has its effect. Rejects when it fails; does not come back when the process dies in it. */
  before(step: FileStep, byteLength: number): Promise<void>;
  /** After it has had its effect. */
  after(step: FileStep): Promise<void>;
}

export interface SimulatedFiles {
  attach(owner: FilesOwner): Files;
  /** The machine lost its power. @returns what became of the bytes that were not synced */
  losePower(): UnsyncedFate;
  wipe(): void;
  /** Flips a bit. */
  flipBit(place: { readonly name: string; readonly offset: number; readonly bit: number }): void;
  /** What a reader sees. */
  contents(): ReadonlyMap<string, Uint8Array>;
  /** Copies of these files take the place of all that is there, synced. */
  restore(contents: ReadonlyMap<string, Uint8Array>): void;
}

interface SimulatedFile {
  content: Uint8Array;
  /** As of the last sync. */
  synced: Uint8Array;
  /** Written since. */
  unsynced: { readonly position: number; readonly bytes: Uint8Array }[];
}

type Names = Map<string, SimulatedFile>;

const sectorBytes = 512;
const fates: readonly UnsyncedFate[] = ['lost', 'kept', 'torn', 'torn'];

/**
 * Makes an empty disk.
 *
 * @param unsynced what a power loss does to what was not synced: what chance wants, or the worst that is allowed
 */
export function simulatedFiles(
  random: Random,
  unsynced: 'chance' | 'lost' = 'chance',
): SimulatedFiles {
  let names: Names = new Map();
  /** As of the last sync of the directory, and every change since. */
  let syncedNames: Names = new Map();
  let changes: Names[] = [];
  let holder: FilesOwner | undefined;
  const changed = (): void => {
    changes.push(new Map(names));
  };
  return {
    attach: (owner) => ({
      async claim() {
        if (holder !== undefined && !holder.isDead && holder !== owner) {
          throw new KommanderError('the simulated store is open elsewhere', { code: 'WAL_LOCKED' });
        }
        holder = owner;
      },
      async release() {
        if (holder === owner) holder = undefined;
      },
      async list() {
        await owner.before('read', 0);
        return [...names].map(([name, { content }]) => ({ name, byteLength: content.byteLength }));
      },
      async open(name, { create }) {
        await owner.before(create ? 'names' : 'read', 0);
        if (create === names.has(name)) throw nameError(name, create);
        const file = names.get(name) ?? newFile();
        if (create) {
          names.set(name, file);
          changed();
        }
        return openFile(file, owner);
      },
      async rename(from, to) {
        await owner.before('names', 0);
        const file = names.get(from);
        if (file === undefined) throw nameError(from, false);
        names.delete(from);
        names.set(to, file);
        changed();
        await owner.after('names');
      },
      async remove(name) {
        await owner.before('names', 0);
        if (names.delete(name)) changed();
        await owner.after('names');
      },
      async syncNames() {
        // What changes while the disk works is not covered.
        const covered = new Map(names);
        const coveredCount = changes.length;
        await owner.before('sync', 0);
        syncedNames = covered;
        changes = changes.slice(coveredCount);
        await owner.after('sync');
      },
    }),
    losePower() {
      const files = new Set([...names.values(), ...syncedNames.values()]);
      const isLost = unsynced === 'lost';
      const drawn = isLost ? 'lost' : must(fates[random.below(fates.length)], 'one of them');
      const fate = [...files].some((file) => file.unsynced.length > 0) ? drawn : 'none';
      // Changes of names reach the disk in their order.
      const kept = isLost ? 0 : random.below(changes.length + 1);
      names = new Map(kept === 0 ? syncedNames : changes[kept - 1]);
      for (const file of files) loseUnsynced(file, random, fate);
      syncedNames = new Map(names);
      changes = [];
      return fate;
    },
    wipe() {
      names = new Map();
      syncedNames = new Map();
      changes = [];
    },
    flipBit({ name, offset, bit }) {
      const file = must(names.get(name), `${name} is there`);
      for (const bytes of new Set([file.content, file.synced])) {
        if (offset < bytes.byteLength) bytes[offset] = (bytes[offset] as number) ^ (1 << bit);
      }
    },
    restore(contents) {
      names = new Map();
      for (const [name, bytes] of contents) {
        names.set(name, { content: bytes.slice(), synced: bytes.slice(), unsynced: [] });
      }
      syncedNames = new Map(names);
      changes = [];
    },
    contents: () => new Map([...names].map(([name, { content }]) => [name, content])),
  };
}

function newFile(): SimulatedFile {
  return { content: new Uint8Array(0), synced: new Uint8Array(0), unsynced: [] };
}

function openFile(file: SimulatedFile, owner: FilesOwner): StoredFile {
  return {
    byteLength: file.content.byteLength,
    async write(parts, position) {
      const bytes = joined(parts);
      await owner.before(
        'write',
        Math.max(0, position + bytes.byteLength - file.content.byteLength),
      );
      file.content = written(file.content, position, bytes);
      file.unsynced.push({ position, bytes });
      await owner.after('write');
    },
    async sync() {
      // What is written while the disk works is not covered.
      const covered = file.unsynced.length;
      await owner.before('sync', 0);
      for (const { position, bytes } of file.unsynced.splice(0, covered)) {
        file.synced = written(file.synced, position, bytes);
      }
      await owner.after('sync');
    },
    async read({ position, byteLength }) {
      await owner.before('read', 0);
      return file.content.slice(position, position + byteLength);
    },
    async close() {},
  };
}

/** Of the sectors that were written since the last sync none, all, or any are on the disk. */
function loseUnsynced(file: SimulatedFile, random: Random, fate: UnsyncedFate): void {
  for (const { position, bytes } of file.unsynced) {
    for (let at = 0; at < bytes.byteLength; ) {
      const sectorEnd = (Math.floor((position + at) / sectorBytes) + 1) * sectorBytes - position;
      const end = Math.min(bytes.byteLength, sectorEnd);
      const isKept = fate === 'torn' ? random.below(2) === 0 : fate === 'kept';
      if (isKept) file.synced = written(file.synced, position + at, bytes.subarray(at, end));
      at = end;
    }
  }
  file.unsynced = [];
  file.content = file.synced.slice();
}

function written(content: Uint8Array, position: number, bytes: Uint8Array): Uint8Array {
  const end = position + bytes.byteLength;
  const target = end <= content.byteLength ? content : grown(content, end);
  target.set(bytes, position);
  return target;
}

function grown(content: Uint8Array, byteLength: number): Uint8Array {
  const bytes = new Uint8Array(byteLength);
  bytes.set(content);
  return bytes;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}
