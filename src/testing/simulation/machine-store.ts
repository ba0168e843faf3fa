// What a simulated state machine keeps on a disk of its own: states, each with the index of the last entry in it. It
// outlives processes. What was synced stays; of what was written since, a power loss leaves the state of one entry.

import { must } from '../../base/assert.ts';
import type { Random } from '../../base/random.ts';
import type { LogIndex } from '../../raft/types.ts';
import type { CrashKind } from './disk.ts';

export interface StoredState {
  /** The last entry whose effect is in it; 0 for none. */
  readonly index: LogIndex;
  /** What the user's machine gave in `snapshot`; undefined for the state that it begins with. */
  readonly bytes: Uint8Array | undefined;
}

export interface MachineStore {
  synced: StoredState;
  /** Written since, oldest first. */
  unsynced: StoredState[];
  /** A process or its machine's power went while the present state was that of a machine that had let go of its own. */
  isEmptied: boolean;
}

/** States that are written and not synced: with one more, the store syncs by itself, as databases do. */
const unsyncedMax = 32;

const noState: StoredState = { index: 0, bytes: undefined };
/** What a machine leaves that lets go of its state before it has another one. */
export const letGo: StoredState = { index: 0, bytes: undefined };

export function newMachineStore(): MachineStore {
  return { synced: noState, unsynced: [], isEmptied: false };
}

/** What a process finds. */
export function presentState({ synced, unsynced }: MachineStore): StoredState {
  return unsynced.at(-1) ?? synced;
}

export function writeState(store: MachineStore, state: StoredState): void {
  if (store.unsynced.length === unsyncedMax) syncStates(store);
  store.unsynced.push(state);
}

export function syncStates(store: MachineStore): void {
  store.synced = presentState(store);
  store.unsynced = [];
}

/** The process, or the machine, is gone. */
export function crashStates(store: MachineStore, random: Random, kind: CrashKind): void {
  const states = [store.synced, ...store.unsynced];
  if (kind === 'power') {
    store.synced = must(states[random.below(states.length)], 'there is what was synced');
    store.unsynced = [];
  }
  // It had something, or was about to have it.
  store.isEmptied = presentState(store) === letGo;
}
