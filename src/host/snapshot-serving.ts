// A leader that is told to spare itself has another member send the pieces of a snapshot. It stays the leader's transfer:
// the leader announces its own snapshot, hears what the receiver has, and asks for one piece after the other. A member that
// has the same bytes sends what it is asked for; the receiver checks them against what the leader announced.

import type { Timer } from '../ports/clock.ts';
import type { SnapshotReader } from '../ports/snapshot-store.ts';
import {
  Lane,
  type NodeId,
  type SnapshotIdentity,
  type SnapshotPieceRequestItem,
} from '../ports/transport.ts';
import { stopPartition } from './failure.ts';
import type { Host } from './host.ts';
import type { Partition } from './partition.ts';
import { peerWindowBytes, pieceBytesMax, readPiece } from './piece-buffers.ts';
import type { NamedSnapshot } from './snapshot-descriptor.ts';
import {
  closeReader,
  isSame,
  keyOf,
  noteUnreadable,
  rateWaitMs,
  sendPiece,
  transmit,
} from './snapshot-pieces.ts';
import { descriptorOf, holdSnapshot, releaseSnapshot } from './snapshots.ts';

/** Pieces that wait to be sent to one peer: no leader asks for more at one time. */
const waitingMax = peerWindowBytes / pieceBytesMax;

export interface SnapshotServe {
  readonly partition: Partition;
  /** Who asked last. */
  leader: NodeId;
  readonly to: NodeId;
  readonly stored: NamedSnapshot;
  readonly identity: SnapshotIdentity;
  /** Where the pieces begin that were asked for, in order. */
  readonly offsets: number[];
  reader: SnapshotReader | undefined;
  /** A piece is being read. */
  isPumping: boolean;
  /** Goes on when the rate allows it. */
  timer: Timer | undefined;
  /** Ticks since something was asked for. */
  silentTicks: number;
}

/** A leader asks for a piece. Who cannot send it says so, and the leader does it itself. */
export function handleSnapshotPieceRequest(
  host: Host,
  partition: Partition,
  from: NodeId,
  item: SnapshotPieceRequestItem,
): void {
  const serve = serveFor(host, partition, from, item);
  if (serve === undefined) {
    refuseServing(host, { partition, leader: from, identity: item.snapshot });
    return;
  }
  serve.leader = from;
  if (item.offset >= serve.identity.byteLength) return;
  serve.silentTicks = 0;
  if (serve.offsets.length >= waitingMax) return;
  serve.offsets.push(item.offset);
  pump(host, serve);
}

/** This node has none of it to give: what was asked for does not come. */
function refuseServing(
  host: Host,
  { partition, leader, identity }: Pick<SnapshotServe, 'partition' | 'leader' | 'identity'>,
): void {
  transmit(host, leader, Lane.control, {
    kind: 'snapshotProgress',
    partitionId: partition.id,
    snapshot: identity,
    receivedBytes: 0,
    isBroken: true,
  });
}

function serveFor(
  host: Host,
  partition: Partition,
  from: NodeId,
  { to, snapshot: identity }: SnapshotPieceRequestItem,
): SnapshotServe | undefined {
  const { nodeId, snapshotSendsMax } = host.settings;
  const present = host.snapshotServes.get(keyOf(partition, to));
  if (present !== undefined && isSame(present.identity, identity)) return present;
  const index = partition.snapshot?.index ?? 0;
  const stored = descriptorOf(partition.snapshot?.data)?.stored;
  if (to === nodeId || stored === undefined || !isSame(identity, { index, ...stored })) {
    return undefined;
  }
  if (present !== undefined) endServe(host, present);
  if (host.snapshotServes.size >= snapshotSendsMax) return undefined;
  const serve: SnapshotServe = {
    partition,
    leader: from,
    to,
    stored,
    identity,
    offsets: [],
    reader: undefined,
    isPumping: false,
    timer: undefined,
    silentTicks: 0,
  };
  holdSnapshot(partition, stored.name);
  host.snapshotServes.set(keyOf(partition, to), serve);
  const fields = { partitionId: partition.id, snapshot: stored.name, peer: to };
  host.observe({ level: 'info', name: 'snapshot-served', fields });
  return serve;
}

/** Ends what nobody asks for any more, and goes on with what waited for the line. Called at every tick. */
export function tickSnapshotServes(host: Host): void {
  for (const serve of host.snapshotServes.values()) {
    serve.silentTicks += 1;
    const isOver = serve.silentTicks > host.settings.electionTicks;
    if (isOver || serve.partition.stopped !== undefined) endServe(host, serve);
    else pump(host, serve);
  }
}

function pump(host: Host, serve: SnapshotServe): void {
  if (serve.isPumping) return;
  serve.isPumping = true;
  sendAsked(host, serve)
    .catch((error: unknown) => failReading(host, serve, error))
    .catch((error: unknown) => stopPartition(host, serve.partition, error));
}

async function sendAsked(host: Host, serve: SnapshotServe): Promise<void> {
  const { partition, to, identity, offsets } = serve;
  const { name, ...facts } = serve.stored;
  try {
    while (isPresent(host, serve) && offsets.length > 0) {
      const waitMs = rateWaitMs(host);
      if (waitMs > 0) {
        pumpLater(host, serve, waitMs);
        break;
      }
      serve.reader ??= await host.wal.snapshots.open(name, facts);
      const offset = offsets[0] as number;
      const piece = await readPiece(host.idlePieceBuffers, serve.reader, offset);
      if (!isPresent(host, serve)) break;
      const place = { partitionId: partition.id, snapshot: identity, offset };
      if (!sendPiece(host, to, piece, place)) break;
      offsets.shift();
    }
  } finally {
    serve.isPumping = false;
    if (!isPresent(host, serve)) await closeReader(host, serve);
  }
}

function pumpLater(host: Host, serve: SnapshotServe, delayMs: number): void {
  serve.timer?.cancel();
  serve.timer = host.settings.clock.setTimer(delayMs, () => {
    if (serve.partition.stopped === undefined) pump(host, serve);
  });
}

function isPresent(host: Host, serve: SnapshotServe): boolean {
  return host.snapshotServes.get(keyOf(serve.partition, serve.to)) === serve;
}

/** It is not there whole: it serves nobody any more. */
function failReading(host: Host, serve: SnapshotServe, error: unknown): void {
  noteUnreadable(host, serve, error);
  if (!isPresent(host, serve)) return;
  endServe(host, serve);
  refuseServing(host, serve);
}

function endServe(host: Host, serve: SnapshotServe): void {
  host.snapshotServes.delete(keyOf(serve.partition, serve.to));
  serve.timer?.cancel();
  releaseSnapshot(host, serve.partition, serve.stored.name);
  if (!serve.isPumping) void closeReader(host, serve);
}

/** The connection to `peer` was lost, or to all. */
export function endSnapshotServes(host: Host, peer?: NodeId): void {
  for (const serve of host.snapshotServes.values()) {
    if (peer === undefined || serve.to === peer) endServe(host, serve);
  }
}
