// Entries of the library itself: their types begin with "_", which applications cannot write. Checkpoints exist in every
// partition; the genesis entry is how partition 0 gets the roster and the partition map as replicated state.

import { decodeSystemState, encodeSystemState } from '../cluster/system-state.ts';
import { layOutRun } from '../ports/run.ts';
import type { StateMachine } from '../ports/state-machine.ts';
import { propose } from '../raft/raft.ts';
import { type Entry, payloadOf, Role } from '../raft/types.ts';
import type { Host } from './host.ts';
import type { Partition } from './partition.ts';
import { decodePayload, OutgoingPayload, typeBytes } from './payload.ts';
import { markDirty } from './ready-loop.ts';

export const systemTypes = {
  /** Everything up to here is settled. The data is what every member had stored by then (`retention.ts`). */
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

/** The same of a payload that has no place in the log yet. */
export function isOwnType({ type }: Pick<OutgoingPayload, 'type'>): boolean {
  return type[0] === reservedByte;
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

/** The first leader of partition 0 writes the roster and the partition map into its log. */
export function proposeGenesis(host: Host, partition: Partition): void {
  if (partition.id !== 0 || host.isSystemKnown || partition.raft.role !== Role.leader) return;
  const data = encodeSystemState(host.genesis.record);
  const payload = new OutgoingPayload(typeBytes(systemTypes.genesis), data);
  payload.timestamp = host.hybridClock.now();
  // Dropped while leadership moves; the next leader's first entry tries again.
  propose(partition.raft, layOutRun([payload]));
  markDirty(host, partition);
}

/** Partition 0's own state as part of its snapshots; the application's entries there have no machine. */
export function systemMachine(holder: Pick<Host, 'system' | 'isSystemKnown'>): StateMachine {
  return {
    apply: () => undefined,
    snapshot: () => encodeSystemState(holder.system),
    async restore(data) {
      holder.system = decodeSystemState(await data.bytes());
      holder.isSystemKnown = true;
    },
  };
}
