// Changes of a group's membership as log entries: what may change, and the encoded form. How a change turns one
// configuration into the next is decided in `membership.ts` (dissertation 4.3).

import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.ts';
import type { ReplicaId } from './types.ts';

export const ConfChangeKind = { addVoter: 0, addLearner: 1, remove: 2, update: 3 } as const;
export type ConfChangeKind = (typeof ConfChangeKind)[keyof typeof ConfChangeKind];

export interface SingleChange {
  readonly kind: ConfChangeKind;
  readonly replica: ReplicaId;
}

/**
 * How a joint configuration is left. `auto`: a single change is simple, several are joint and left by the leader itself.
 * `jointImplicit`: always joint, left by the leader itself. `jointExplicit`: always joint, left by an empty change.
 */
export const Transition = { auto: 0, jointImplicit: 1, jointExplicit: 2 } as const;
export type Transition = (typeof Transition)[keyof typeof Transition];

/** No changes and `auto`: leave the joint configuration. */
export interface ConfChange {
  readonly transition: Transition;
  readonly changes: readonly SingleChange[];
  /** Opaque to the core; travels with the change. */
  readonly context: Uint8Array;
}

export const leaveJointChange: ConfChange = {
  transition: Transition.auto,
  changes: [],
  context: new Uint8Array(0),
};

export function encodeConfChange(change: ConfChange): Uint8Array {
  const writer = new ByteWriter(16 + change.context.byteLength);
  writer.uint8(change.transition);
  writer.varint(change.changes.length);
  for (const { kind, replica } of change.changes) {
    writer.uint8(kind);
    writer.varint(replica);
  }
  writer.varint(change.context.byteLength);
  writer.raw(change.context);
  return writer.finish();
}

/**
 * No bytes at all are the change that leaves a joint configuration.
 *
 * @throws MalformedBytesError
 */
export function decodeConfChange(bytes: Uint8Array): ConfChange {
  if (bytes.byteLength === 0) return leaveJointChange;
  const reader = new ByteReader(bytes);
  const transition = reader.uint8();
  if (!isTransition(transition)) throw new MalformedBytesError(`transition ${transition}`);
  const count = reader.varint();
  const changes: SingleChange[] = [];
  for (let i = 0; i < count; i++) {
    const kind = reader.uint8();
    if (!isConfChangeKind(kind)) throw new MalformedBytesError(`change kind ${kind}`);
    changes.push({ kind, replica: reader.varint() });
  }
  const context = reader.view(reader.varint());
  if (reader.remaining !== 0) throw new MalformedBytesError('bytes behind a configuration change');
  return { transition, changes, context };
}

/** Whether the change empties the outgoing half of a joint configuration. */
export function isLeaveJoint(change: ConfChange): boolean {
  return change.changes.length === 0 && change.transition === Transition.auto;
}

function isTransition(value: number): value is Transition {
  return value >= Transition.auto && value <= Transition.jointExplicit;
}

function isConfChangeKind(value: number): value is ConfChangeKind {
  return value >= ConfChangeKind.addVoter && value <= ConfChangeKind.update;
}
