// Entries of the library itself: their types begin with "_", which applications cannot write. Checkpoints exist in every
// partition; the genesis entry is how partition 0 gets the roster and the partition map as replicated state.

import { decodeSystemState, encodeSystemState } from '../cluster/system-state.ts';
import type { StateMachine } from '../ports/state-machine.ts';
import { type Entry, payloadOf } from '../raft/types.ts';
import type { Host } from './host.ts';
import type { Partition } from './partition.ts';
import { decodePayload } from './payload.ts';

export const systemTypes = {
  /** Everything up to here is settled. No data. */
  checkpoint: '_checkpoint',
  /** The cluster's first roster and partition map: an encoded `SystemState`. The first one counts. */
  genesis: '_genesis',
} as const;

export const reservedPrefix = '_';
const reservedByte = 0x5f;

/** Whether the entry is one of the library's own. */
export function isSystemType(entry: Entry): boolean {
  return entry.bytes[entry.start + 1] === reservedByte;
}

/** Carries out an entry of the library that is no checkpoint. */
export function applySystemEntry(
  host: Host,
  partition: Partition,
  entry: Entry,
  type: string,
): void {
  if (type === systemTypes.genesis && partition.id === 0 && !host.isSystemKnown) {
    host.system = decodeSystemState(decodePayload(entry).data);
    host.isSystemKnown = true;
    return;
  }
  // A newer version of the library may write types that this one does not know: that must not pass silently.
  if (type !== systemTypes.genesis) {
    throw new Error(
      `entry ${entry.index} has the unknown library type "${type}" (${payloadOf(entry).byteLength} bytes)`,
    );
  }
}

/** Partition 0's own state as part of its snapshots; the application's entries there have no machine. */
export function systemMachine(holder: Pick<Host, 'system' | 'isSystemKnown'>): StateMachine {
  return {
    apply: () => undefined,
    snapshot: () => encodeSystemState(holder.system),
    restore(data) {
      holder.system = decodeSystemState(data);
      holder.isSystemKnown = true;
    },
  };
}
