// What whoever sends pieces of a stored snapshot shares, be it the leader (`snapshot-sending.ts`) or a member that it asked
// (`snapshot-serving.ts`): how large they are, how fast they go, and what becomes of a snapshot that cannot be read.

import { crc32 } from 'node:zlib';
import { isKommanderError } from '../base/errors.ts';
import type { SnapshotReader } from '../ports/snapshot-store.ts';
import {
  type FrameItem,
  Lane,
  type NodeId,
  type SnapshotIdentity,
  type SnapshotPieceItem,
} from '../ports/transport.ts';
import { type Host, nowMs } from './host.ts';
import type { Partition } from './partition.ts';
import { giveBack, pieceBytesMax, type ReadPiece } from './piece-buffers.ts';
import type { NamedSnapshot } from './snapshot-descriptor.ts';
import { discarded, isStoreFailure, storedName } from './snapshots.ts';

/**
 * Milliseconds whose bytes may follow each other at once. Whatever is sent together keeps both event loops, and both
 * disks, from everything else meanwhile: pieces come at equal distances, and a late timer does not make up for much.
 */
const burstMsMax = 10;

/** What snapshots may send: it fills up with time. */
export interface SendAllowance {
  bytes: number;
  /** When it was looked at last, on the monotonic clock. */
  atMs: number;
}

/** Of a partition's transfer to one peer. */
export function keyOf(partition: Partition, peer: NodeId): string {
  return `${partition.id} ${peer}`;
}

/** Whether both are the same bytes of the same place. */
export function isSame(a: SnapshotIdentity, b: SnapshotIdentity): boolean {
  return a.index === b.index && a.byteLength === b.byteLength && a.checksum === b.checksum;
}

/** Whole milliseconds until the rate allows another piece; 0 when it does. */
export function rateWaitMs(host: Host): number {
  const { snapshotAllowance: allowance, settings } = host;
  const perMs = settings.snapshotBytesPerSecond / 1_000;
  const now = nowMs(host);
  const bytesMax = Math.max(2 * pieceBytesMax, burstMsMax * perMs);
  allowance.bytes = Math.min(bytesMax, allowance.bytes + (now - allowance.atMs) * perMs);
  allowance.atMs = now;
  return Math.max(0, Math.ceil((pieceBytesMax - allowance.bytes) / perMs));
}

/** @returns whether it is on its way; else the outbox is full or the connection gone, and the next tick tries again */
export function sendPiece(
  host: Host,
  peer: NodeId,
  { bytes, buffer }: ReadPiece,
  place: Pick<SnapshotPieceItem, 'partitionId' | 'snapshot' | 'offset'>,
): boolean {
  const item: SnapshotPieceItem = {
    kind: 'snapshotPiece',
    ...place,
    bytes,
    checksum: crc32(bytes),
  };
  const frame = { timestamp: host.hybridClock.now(), items: [item] };
  if (!host.transport.send(peer, Lane.bulk, frame, () => giveBack(host.idlePieceBuffers, buffer))) {
    giveBack(host.idlePieceBuffers, buffer);
    return false;
  }
  host.snapshotAllowance.bytes -= bytes.byteLength;
  return true;
}

/**
 * A stored snapshot could not be read: it is not this replica's any more. A bad sector is as lasting as a flipped bit.
 *
 * @throws `error` when it says something else
 */
export function noteUnreadable(
  host: Host,
  of: { readonly partition: Partition; readonly stored: NamedSnapshot | undefined },
  error: unknown,
): void {
  const { partition, stored } = of;
  if (!isKommanderError(error, 'SNAPSHOT_CORRUPT') && !isStoreFailure(error)) throw error;
  const fields = { partitionId: partition.id, snapshot: stored?.name, error };
  host.observe({ level: 'error', name: 'snapshot-not-read', fields });
  const isNewest = storedName(partition.snapshot?.data) === stored?.name;
  if (isNewest) partition.snapshot = undefined;
}

/** Lets go of the file, when one is open. */
export async function closeReader(
  host: Host,
  of: { reader: SnapshotReader | undefined },
): Promise<void> {
  const { reader } = of;
  of.reader = undefined;
  if (reader !== undefined) await discarded(host, reader.close());
}

/** @returns whether it is on its way */
export function transmit(host: Host, peer: NodeId, lane: Lane, item: FrameItem): boolean {
  return host.transport.send(peer, lane, { timestamp: host.hybridClock.now(), items: [item] });
}
