// What the core and the log know of a snapshot: not its bytes, but a few words about them. They are the `data` of a
// log's base and of an `installSnapshot` message (docs/internals/log-format.md, "Snapshots").

import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import type { Timestamp } from '../ports/clock.ts';
import type { SnapshotFacts } from '../ports/snapshot-store.ts';
import type { SnapshotIdentity } from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { LogIndex, Term } from '../raft/types.ts';

/** A snapshot in a `SnapshotStore`. */
export interface NamedSnapshot extends SnapshotFacts {
  readonly name: string;
}

/** A stretch of the snapshot's bytes. */
export interface SnapshotPart {
  readonly name: string;
  readonly byteLength: number;
}

export interface SnapshotDescriptor {
  /** Undefined: only the state machine's own store has the state. */
  readonly stored: NamedSnapshot | undefined;
  /** At or above the timestamps of all entries that are in the state. */
  readonly clock: Timestamp;
  /**
   * The last entry that is in the state. Behind the snapshot's index when the state machine's own store was ahead of the
   * log: entries up to it are committed, follow in the log, and are not given to a machine that has this state.
   */
  readonly machineIndex: LogIndex;
  /** What the bytes are: parts in their order, of which all bytes consist. Later versions may add some. */
  readonly parts: readonly SnapshotPart[];
}

/** What the state machine's `snapshot` gave. */
export const machinePart = 'machine';

const formatVersion = 1;
const partsMax = 64;

export function encodeDescriptor(descriptor: SnapshotDescriptor): Uint8Array {
  const { stored, clock, machineIndex, parts } = descriptor;
  const writer = new ByteWriter(128);
  writer.uint8(formatVersion);
  writer.text(stored?.name ?? '');
  writer.uint53(stored?.byteLength ?? 0);
  writer.uint32(stored?.checksum ?? 0);
  writer.uint53(clock);
  writer.uint53(machineIndex);
  writer.varint(parts.length);
  for (const { name, byteLength } of parts) {
    writer.text(name);
    writer.varint(byteLength);
  }
  return writer.finish();
}

/**
 * @throws MalformedBytesError it is none
 * @throws WAL_VERSION it was written by a newer version, or the state has a part that this version does not know: without
 * it, this replica's state would be another one
 */
export function decodeDescriptor(bytes: Uint8Array): SnapshotDescriptor {
  const reader = new ByteReader(bytes);
  const version = reader.uint8();
  if (version !== formatVersion) throw newer(`format ${version}`);
  const name = reader.text();
  const facts = { byteLength: reader.uint53(), checksum: reader.uint32() };
  const clock = reader.uint53();
  const machineIndex = reader.uint53();
  const count = reader.varint();
  if (count > partsMax) throw new MalformedBytesError(`${count} parts of a snapshot`);
  const parts = Array.from({ length: count }, () => ({
    name: reader.text(),
    byteLength: reader.varint(),
  }));
  if (reader.remaining > 0) throw new MalformedBytesError('bytes behind a snapshot descriptor');
  if (!/^[a-z0-9-]{0,128}$/.test(name)) throw new MalformedBytesError('a bad name of a snapshot');
  if (name === '' && (facts.byteLength > 0 || facts.checksum > 0))
    throw new MalformedBytesError('bytes of a snapshot that is nowhere');
  const partBytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
  if (partBytes !== facts.byteLength)
    throw new MalformedBytesError('the parts of a snapshot are not the whole');
  const unknown = parts.find((part) => part.name !== machinePart);
  if (unknown !== undefined) throw newer(`part "${unknown.name}"`);
  if (parts.length > 1) throw new MalformedBytesError('a part that appears twice');
  return { stored: name === '' ? undefined : { name, ...facts }, clock, machineIndex, parts };
}

function newer(what: string): KommanderError {
  return new KommanderError(
    `a snapshot has the ${what}, which this version does not know: use the version that wrote it, or a newer one`,
    { code: 'WAL_VERSION', details: { found: what } },
  );
}

/** How a replica calls a snapshot that it takes itself. */
export function ownName(
  partitionId: PartitionId,
  position: { readonly index: LogIndex; readonly term: Term },
): string {
  return `p${partitionId}-i${position.index}-t${position.term}-own`;
}

/** How a replica calls a snapshot that it gets: equal for equal bytes, so that anybody who has them can go on sending. */
export function receivedName(
  partitionId: PartitionId,
  { index, byteLength, checksum }: SnapshotIdentity,
): string {
  return `p${partitionId}-i${index}-b${byteLength}-c${checksum.toString(16)}`;
}

/** What the name of an unfinished snapshot tells about it; undefined for those that nobody can go on with. */
export function receivedPlace(
  name: string,
): { readonly partitionId: PartitionId; readonly index: LogIndex } | undefined {
  const match = /^p(\d+)-i(\d+)-b\d+-c[0-9a-f]+$/.exec(name);
  const [partitionId, index] = [Number(match?.[1]), Number(match?.[2])];
  const isPlace = Number.isSafeInteger(partitionId) && Number.isSafeInteger(index);
  return isPlace ? { partitionId, index } : undefined;
}
