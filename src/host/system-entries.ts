// Entries of the library itself: their types begin with "_", which applications cannot write. Checkpoints exist in every
// partition; the genesis entry is how partition 0 gets the roster and the partition map as replicated state.

import { utf8Text } from '../base/bytes.ts';
import {
  decodeReadmission,
  decodeSystemState,
  encodeSystemState,
  readmitted,
} from '../cluster/system-state.ts';
import { layOutRun } from '../ports/run.ts';
import type { StateMachine } from '../ports/state-machine.ts';
import { propose } from '../raft/raft.ts';
import { type Entry, payloadOf, Role } from '../raft/types.ts';
import { noteAdmission } from './genesis.ts';
import type { Host } from './host.ts';
import type { Partition } from './partition.ts';
import { decodePayload, OutgoingPayload, typeBytes } from './payload.ts';
import { markDirty } from './ready-loop.ts';

export const systemTypes = {
  /** Everything up to here is settled. The data is what every member had stored by then (`retention.ts`). */
  checkpoint: '_checkpoint',
  /** The cluster's first roster and partition map: an encoded `SystemState`. The first one counts. */
  genesis: '_genesis',
  /** A member whose disk was emptied comes back as another replica: an encoded `Readmission`. In partition 0. */
  readmission: '_readmission',
} as const;

export const reservedPrefix = '_';
const reservedByte = 0x5f;

/** Whether the entry is one of the library's own. */
export function isSystemType(entry: Entry): boolean {
  return entry.bytes[entry.start + 1] === reservedByte;
}

/** Whether the payload is a checkpoint: the leader says what is in it. */
export function isCheckpointType({ type }: Pick<OutgoingPayload, 'type'>): boolean {
  return type[0] === reservedByte && utf8Text(type) === systemTypes.checkpoint;
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
  if (type === systemTypes.readmission && partition.id === 0) {
    host.system = readmitted(host.system, decodeReadmission(decodePayload(entry).data));
    // In front of the genesis entry it changes the record itself, which every node has; that entry then comes too late.
    host.isSystemKnown = true;
    noteReadmissions(host);
    return;
  }
  // A newer version of the library may write types that this one does not know: that must not pass silently.
  if (type !== systemTypes.genesis) {
    throw new Error(
      `entry ${entry.index} has the unknown library type "${type}" (${payloadOf(entry).byteLength} bytes)`,
    );
  }
}

/** Members whose number is not the one of the genesis are known by another directory since. */
function noteReadmissions(host: Host): void {
  for (const { nodeId, nonce, replicaId } of host.system.members) {
    if (nonce !== undefined) noteAdmission(host, { nodeId, nonce, replicaId });
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
export function systemMachine(host: Host): StateMachine {
  return {
    apply: () => undefined,
    snapshot: () => encodeSystemState(host.system),
    async restore(data) {
      host.system = decodeSystemState(await data.bytes());
      host.isSystemKnown = true;
      noteReadmissions(host);
    },
  };
}
