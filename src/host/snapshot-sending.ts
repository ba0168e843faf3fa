// A replica whose entries are gone gets a snapshot: the message first, then its bytes in pieces, in the bulk lane. The
// receiver answers how much it has, at the beginning and as it goes, so a transfer goes on where an earlier one broke off,
// also after a restart of either side. What may be on its way at one time is bounded, and so is the rate: appends and
// heartbeats go on. A leader that spares itself has another member read and send the pieces (`snapshot-serving.ts`).

import { must } from '../base/assert.ts';
import type { Timer } from '../ports/clock.ts';
import type { SnapshotReader } from '../ports/snapshot-store.ts';
import {
  Lane,
  type NodeId,
  type SnapshotIdentity,
  type SnapshotProgressItem,
} from '../ports/transport.ts';
import { noteSnapshotProgress, reportSnapshot } from '../raft/raft.ts';
import type { InstallSnapshot } from '../raft/types.ts';
import { stopPartition } from './failure.ts';
import type { Host } from './host.ts';
import type { Partition } from './partition.ts';
import { peerWindowBytes, pieceBytesMax, readPiece } from './piece-buffers.ts';
import { guard, markDirty } from './ready-loop.ts';
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

export interface SnapshotSend {
  readonly partition: Partition;
  readonly peer: NodeId;
  readonly message: InstallSnapshot;
  /** Undefined for a log without a state: the message is all there is. */
  readonly stored: NamedSnapshot | undefined;
  /** There once the first piece is read. */
  reader: SnapshotReader | undefined;
  /** Another member, which sends the pieces; undefined: this node does. */
  source: NodeId | undefined;
  /** Whether the receiver has said where to begin. */
  isAnswered: boolean;
  /** Invariant: receivedBytes <= sentBytes, while both know of each other. */
  sentBytes: number;
  receivedBytes: number;
  /** Ticks since the receiver was heard from, or was told something for the first time. */
  silentTicks: number;
  /** A piece is being read. */
  isPumping: boolean;
  /** Goes on when the rate allows it. */
  timer: Timer | undefined;
}

/** The core wants a snapshot sent. */
export function startSnapshotSend(
  host: Host,
  partition: Partition,
  peer: NodeId,
  message: InstallSnapshot,
): void {
  const key = keyOf(partition, peer);
  const present = host.snapshotSends.get(key);
  if (present !== undefined) endSend(host, present);
  const stored = descriptorOf(message.snapshot.data)?.stored;
  const send: SnapshotSend = {
    partition,
    peer,
    message,
    stored,
    reader: undefined,
    source: stored === undefined ? undefined : sourceFor(host, partition, message),
    isAnswered: false,
    sentBytes: 0,
    receivedBytes: 0,
    // It is announced at the next tick.
    silentTicks: Number.POSITIVE_INFINITY,
    isPumping: false,
    timer: undefined,
  };
  holdSnapshot(partition, stored?.name);
  host.snapshotSends.set(key, send);
}

/** Who most likely has the same bytes and has least to do, when this node spares itself. */
function sourceFor(
  host: Host,
  { raft }: Partition,
  { to, snapshot }: InstallSnapshot,
): NodeId | undefined {
  if (host.settings.snapshotsFrom === 'leader') return undefined;
  const busy = [...host.snapshotSends.values()].map(({ source }) => source);
  let best: NodeId | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  for (const [replicaId, progress] of raft.progress) {
    const nodeId = host.nodeIds.get(replicaId);
    if (nodeId === undefined || !host.reachable.has(nodeId) || replicaId === to) continue;
    if (progress.state !== 'replicate' || progress.matchIndex < snapshot.index) continue;
    const count = busy.filter((source) => source === nodeId).length;
    if (count >= fewest) continue;
    best = nodeId;
    fewest = count;
  }
  return best;
}

/** Looks after every transfer. Called at every tick. */
export function tickSnapshotSends(host: Host): void {
  let position = 0;
  for (const send of host.snapshotSends.values()) {
    if (!isWanted(send)) {
      failSend(host, send);
      continue;
    }
    position += 1;
    // The others wait for their turn; the core's patience with them begins when it comes.
    if (position > host.settings.snapshotSendsMax) noteProgress(host, send);
    else tickSend(host, send);
  }
}

/** Whether the core still waits for it. A leader of another term, or none, has nothing to send. */
function isWanted({ partition, message }: SnapshotSend): boolean {
  if (partition.stopped !== undefined) return false;
  const { raft } = partition;
  const progress = raft.progress.get(message.to);
  return progress?.state === 'snapshot' && raft.currentTerm === message.term;
}

function tickSend(host: Host, send: SnapshotSend): void {
  // It waits for the rate, or for the disk, and nobody has to answer anything.
  const isWaiting = send.isAnswered && send.sentBytes === send.receivedBytes;
  if (isWaiting) noteProgress(host, send);
  if (send.silentTicks < host.settings.electionTicks) {
    send.silentTicks += 1;
  } else {
    if (!isWaiting) doubt(send);
    announce(host, send);
  }
  pump(host, send);
}

/** What was sent or answered seems lost. */
function doubt(send: SnapshotSend): void {
  // What another member was asked for did not arrive: it may not have it.
  if (send.isAnswered) send.source = undefined;
  send.isAnswered = false;
  // What is not on its way any more takes no room of the peer's other transfers.
  send.sentBytes = send.receivedBytes;
}

/** Asks the receiver where to begin or to go on, or reminds it that something comes, however slowly. */
function announce(host: Host, send: SnapshotSend): void {
  const { partition, message } = send;
  if (transmit(host, send.peer, Lane.bulk, { kind: 'raft', partitionId: partition.id, message })) {
    send.silentTicks = 0;
  }
}

function noteProgress(host: Host, { partition, message }: SnapshotSend): void {
  guard(host, partition, () => noteSnapshotProgress(partition.raft, message.to));
}

/** The receiver says how much it has. */
export function handleSnapshotProgress(
  host: Host,
  partition: Partition,
  from: NodeId,
  item: SnapshotProgressItem,
): void {
  const send = host.snapshotSends.get(keyOf(partition, from));
  if (send === undefined || !isSame(identityOf(send), item.snapshot)) return;
  const { byteLength } = identityOf(send);
  if (item.receivedBytes > byteLength) return;
  send.silentTicks = 0;
  if (item.receivedBytes > send.receivedBytes || !send.isAnswered) noteProgress(host, send);
  if (item.isBroken || !send.isAnswered) {
    send.isAnswered = true;
    send.sentBytes = item.receivedBytes;
    send.receivedBytes = item.receivedBytes;
  } else {
    // Answers may overtake each other.
    send.receivedBytes = Math.max(send.receivedBytes, item.receivedBytes);
    send.sentBytes = Math.max(send.sentBytes, send.receivedBytes);
  }
  // It is installed now; the replica's own answer, or the core's patience, ends it for the core.
  if (item.receivedBytes === byteLength) endSend(host, send);
  else pump(host, send);
}

function identityOf({ message, stored }: SnapshotSend): SnapshotIdentity {
  const { byteLength = 0, checksum = 0 } = stored ?? {};
  return { index: message.snapshot.index, byteLength, checksum };
}

/** Sends what may be sent now. */
function pump(host: Host, send: SnapshotSend): void {
  if (send.isPumping || !send.isAnswered || send.stored === undefined) return;
  send.isPumping = true;
  sendPieces(host, send)
    .catch((error: unknown) => failReading(host, send, error))
    .catch((error: unknown) => stopPartition(host, send.partition, error));
}

async function sendPieces(host: Host, send: SnapshotSend): Promise<void> {
  const { partition } = send;
  const { name, ...facts } = must(send.stored, 'what has pieces is stored');
  try {
    while (isPresent(host, send) && hasRoom(host, send)) {
      const waitMs = rateWaitMs(host);
      if (waitMs > 0) {
        pumpLater(host, send, waitMs);
        break;
      }
      if (send.source !== undefined) {
        askForPiece(host, send, send.source);
        continue;
      }
      send.reader ??= await host.wal.snapshots.open(name, facts);
      const offset = send.sentBytes;
      const piece = await readPiece(host.idlePieceBuffers, send.reader, offset);
      // The receiver may have asked for other bytes meanwhile.
      if (!isPresent(host, send) || !send.isAnswered) break;
      if (send.sentBytes !== offset) continue;
      const place = { partitionId: partition.id, snapshot: identityOf(send), offset };
      if (!sendPiece(host, send.peer, piece, place)) break;
      if (send.sentBytes === send.receivedBytes) send.silentTicks = 0;
      send.sentBytes += piece.bytes.byteLength;
    }
  } finally {
    send.isPumping = false;
    if (!isPresent(host, send)) await closeReader(host, send);
  }
}

/** Another member sends the next piece, or this node when that one cannot be asked. */
function askForPiece(host: Host, send: SnapshotSend, source: NodeId): void {
  const snapshot = identityOf(send);
  const offset = send.sentBytes;
  const isAsked = transmit(host, source, Lane.control, {
    kind: 'snapshotPieceRequest',
    partitionId: send.partition.id,
    snapshot,
    to: send.peer,
    offset,
  });
  if (!isAsked) {
    send.source = undefined;
    return;
  }
  if (send.sentBytes === send.receivedBytes) send.silentTicks = 0;
  send.sentBytes = Math.min(offset + pieceBytesMax, snapshot.byteLength);
  host.snapshotAllowance.bytes -= send.sentBytes - offset;
}

function isPresent(host: Host, send: SnapshotSend): boolean {
  return host.snapshotSends.get(keyOf(send.partition, send.peer)) === send;
}

function pumpLater(host: Host, send: SnapshotSend, delayMs: number): void {
  send.timer?.cancel();
  send.timer = host.settings.clock.setTimer(delayMs, () => {
    if (isWanted(send)) pump(host, send);
  });
}

/** Whether there is something left, and the receiver can take it. */
function hasRoom(host: Host, send: SnapshotSend): boolean {
  if (send.sentBytes >= identityOf(send).byteLength) return false;
  let windowBytes = 0;
  for (const other of host.snapshotSends.values()) {
    if (other.peer === send.peer) windowBytes += other.sentBytes - other.receivedBytes;
  }
  return windowBytes + pieceBytesMax <= peerWindowBytes;
}

/** The leader's own snapshot cannot be read: it sends none of it, and takes another one of what its machine has. */
function failReading(host: Host, send: SnapshotSend, error: unknown): void {
  noteUnreadable(host, send, error);
  failSend(host, send);
}

/** It came to nothing: the core tries again at the next sign of life. */
function failSend(host: Host, send: SnapshotSend): void {
  const { partition, message } = send;
  if (!isPresent(host, send)) return;
  endSend(host, send);
  if (!isWanted(send)) return;
  guard(host, partition, () => reportSnapshot(partition.raft, message.to, false));
  markDirty(host, partition);
}

function endSend(host: Host, send: SnapshotSend): void {
  const { partition, peer, stored } = send;
  host.snapshotSends.delete(keyOf(partition, peer));
  send.timer?.cancel();
  releaseSnapshot(host, partition, stored?.name);
  if (!send.isPumping) void closeReader(host, send);
}

/** The connection to `peer` was lost, or to all: the core begins again when it is there. */
export function endSnapshotSends(host: Host, peer?: NodeId): void {
  for (const send of host.snapshotSends.values()) {
    if (peer === undefined || send.peer === peer) endSend(host, send);
  }
}
