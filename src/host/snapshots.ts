// Checkpoints and snapshots (§7). A checkpoint is an entry; when it is applied, a state machine that can give its state
// gives it, the state becomes the new base of the stored log, and the log below is compacted except for a tail that
// serves slow followers. A replica whose entries are gone gets the base: the message first, then its data in pieces, in
// the bulk lane and at a bounded rate, so that heartbeats and appends go on.

import { assert } from '../base/assert.ts';
import { KommanderError } from '../base/errors.ts';
import { Lane, type NodeId, type RaftItem, type SnapshotPieceItem } from '../ports/transport.ts';
import { noteSnapshotProgress, refuseSnapshot, reportSnapshot } from '../raft/raft.ts';
import type { Entry, InstallSnapshot, Snapshot } from '../raft/types.ts';
import { isThenable } from './applier.ts';
import type { Host } from './host.ts';
import { type Partition, snapshotOf } from './partition.ts';
import { guard, markDirty, stepPartition } from './ready-loop.ts';
import { allowCompaction } from './retention.ts';
import { enqueueBase } from './storage-writer.ts';

/** Bytes of one piece. */
const pieceBytesMax = 262_144;
/** Pieces of one transfer that are sent per tick. */
const piecesPerTick = 16;
/** Ticks in which nothing could be sent, after which a transfer is given up. */
const stalledTicksMax = 100;
/** Bytes of a snapshot that this node takes. */
const snapshotBytesMax = 1_073_741_824;

export interface SnapshotSend {
  readonly partition: Partition;
  readonly peer: NodeId;
  readonly message: InstallSnapshot;
  readonly transferId: number;
  isAnnounced: boolean;
  offset: number;
  stalledTicks: number;
}

export interface SnapshotReceive {
  readonly message: InstallSnapshot;
  transferId: number | undefined;
  totalBytes: number;
  readonly pieces: Uint8Array[];
  receivedBytes: number;
}

/**
 * Carries out a checkpoint entry.
 *
 * @returns a promise when the state machine takes its time
 */
export function takeCheckpoint(
  host: Host,
  partition: Partition,
  entry: Entry,
): Promise<void> | undefined {
  const { machine } = partition;
  // Without a machine there is no state: a restart begins at the checkpoint, and the log is all that anybody has.
  if (machine === undefined) {
    storeBase(host, partition, entry, undefined);
    return undefined;
  }
  // A machine that cannot give its state needs the whole log at a restart.
  if (machine.snapshot === undefined) return undefined;
  const failed = (cause: unknown): KommanderError => snapshotFailed(partition, entry, cause);
  let data: Uint8Array | PromiseLike<Uint8Array>;
  try {
    data = machine.snapshot();
  } catch (error) {
    throw failed(error);
  }
  const store = (bytes: Uint8Array): void => {
    // What is no state would be believed at the next restart.
    const isState: boolean = bytes instanceof Uint8Array;
    if (!isState) throw failed(new TypeError('snapshot() gave no Uint8Array'));
    storeBase(host, partition, entry, bytes);
  };
  if (!isThenable(data)) {
    store(data);
    return undefined;
  }
  return Promise.resolve(data).then(store, (error: unknown) => {
    throw failed(error);
  });
}

function snapshotFailed(partition: Partition, entry: Entry, cause: unknown): KommanderError {
  return new KommanderError(
    `the state machine of partition ${partition.id} could not give its state in snapshot() at index ${entry.index}; the replica stopped, mend the state machine, then restart`,
    { code: 'APPLY_FAILED', details: { partitionId: partition.id, index: entry.index }, cause },
  );
}

function storeBase(
  host: Host,
  partition: Partition,
  entry: Entry,
  data: Uint8Array | undefined,
): void {
  const { index, term } = entry;
  const { confState, log } = partition.raft;
  if (data !== undefined && data.byteLength > snapshotBytesMax) {
    // Nobody would take it: the log stays as it is.
    const fields = { partitionId: partition.id, bytes: data.byteLength, snapshotBytesMax };
    host.observe({ level: 'error', name: 'snapshot-too-large', fields });
    return;
  }
  // While the state machine took its time, a snapshot of the leader may have replaced the log beyond this checkpoint.
  if (index <= log.compactedIndex) return;
  const base = { index, term, confState, data };
  enqueueBase(host, partition, { base });
  partition.snapshot = snapshotOf(base);
  allowCompaction(host, partition, entry);
}

/** A snapshot of the leader is to be installed: the state machine gets it, behind everything that it has to apply. */
export function enqueueRestore(host: Host, partition: Partition, snapshot: Snapshot): void {
  partition.applyUnits.push({ kind: 'restore', snapshot });
  partition.snapshot = snapshot;
  partition.pages.clear();
  host.toApply.add(partition);
}

/** The core wants a snapshot sent. */
export function startSnapshotSend(
  host: Host,
  partition: Partition,
  peer: NodeId,
  message: InstallSnapshot,
): void {
  const transferId = host.nextRequestId;
  host.nextRequestId += 1;
  host.snapshotSends.set(`${partition.id} ${peer}`, {
    partition,
    peer,
    message,
    transferId,
    isAnnounced: false,
    offset: 0,
    stalledTicks: 0,
  });
}

/** Sends the next pieces of every transfer. Called at every tick. */
export function pumpSnapshots(host: Host): void {
  for (const [key, send] of host.snapshotSends) {
    const outcome = pump(host, send);
    if (outcome === 'going') continue;
    host.snapshotSends.delete(key);
    if (outcome === 'sent') continue;
    const { partition, message } = send;
    guard(host, partition, () => reportSnapshot(partition.raft, message.to, false));
    markDirty(host, partition);
  }
}

function pump(host: Host, send: SnapshotSend): 'going' | 'sent' | 'failed' {
  const { message, partition } = send;
  if (partition.stopped !== undefined) return 'failed';
  const isWanted = partition.raft.progress.get(message.to)?.state === 'snapshot';
  if (!isWanted || partition.raft.currentTerm !== message.term) return 'failed';
  if (!send.isAnnounced) {
    send.isAnnounced = transmit(host, send, announcement(partition, message));
    if (!send.isAnnounced) return stalled(send);
  }
  const { data } = message.snapshot;
  for (let count = 0; count < piecesPerTick; count++) {
    const bytes = data.subarray(send.offset, send.offset + pieceBytesMax);
    const piece: SnapshotPieceItem = {
      kind: 'snapshotPiece',
      partitionId: partition.id,
      transferId: send.transferId,
      offset: send.offset,
      totalBytes: data.byteLength,
      bytes,
    };
    if (!transmit(host, send, piece)) return stalled(send);
    send.stalledTicks = 0;
    send.offset += bytes.byteLength;
    // The follower's acknowledgement ends the transfer for the core, or the core's patience, which begins with the
    // last piece: a large snapshot, or a slow line, takes longer than that.
    guard(host, partition, () => noteSnapshotProgress(partition.raft, message.to));
    if (send.offset === data.byteLength) return 'sent';
  }
  return 'going';
}

function stalled(send: SnapshotSend): 'going' | 'failed' {
  send.stalledTicks += 1;
  return send.stalledTicks > stalledTicksMax ? 'failed' : 'going';
}

function transmit(host: Host, send: SnapshotSend, item: RaftItem | SnapshotPieceItem): boolean {
  const timestamp = host.hybridClock.now();
  return host.transport.send(send.peer, Lane.bulk, { timestamp, items: [item] });
}

/** The message without its data. */
function announcement(partition: Partition, message: InstallSnapshot): RaftItem {
  const snapshot: Snapshot = { ...message.snapshot, data: new Uint8Array(0) };
  return { kind: 'raft', partitionId: partition.id, message: { ...message, snapshot } };
}

/**
 * A leader announces a snapshot; its data follows. The announcement is not older than the term of the core. One that is
 * older than what is being received is of a deposed leader: ignored.
 */
export function beginSnapshotReceive(
  partition: Partition,
  from: NodeId,
  message: InstallSnapshot,
): void {
  assert(message.term >= partition.raft.currentTerm, 'the announcement is of no deposed leader');
  const present = partition.snapshotReceive;
  if (present !== undefined && message.term < present.message.term) return;
  partition.snapshotReceive = {
    from,
    message,
    transferId: undefined,
    totalBytes: 0,
    pieces: [],
    receivedBytes: 0,
  };
}

/** Takes a piece; the last one gives the whole message to the core. */
export function handleSnapshotPiece(
  host: Host,
  partition: Partition,
  from: NodeId,
  item: SnapshotPieceItem,
): void {
  const receive = partition.snapshotReceive;
  if (receive === undefined || receive.from !== from) return;
  receive.transferId ??= item.transferId;
  if (receive.transferId !== item.transferId) return;
  const isNext = item.offset === receive.receivedBytes;
  const fits = item.offset + item.bytes.byteLength <= item.totalBytes;
  const isOfOne = receive.pieces.length === 0 || item.totalBytes === receive.totalBytes;
  // Pieces of nothing would be kept without end.
  const isSome = item.bytes.byteLength > 0 || item.totalBytes === 0;
  if (!isNext || !fits || !isOfOne || !isSome || item.totalBytes > snapshotBytesMax) {
    // A piece was lost or is none: the leader is told to start again. Once per transfer: the pieces that are still on
    // their way belong to none.
    partition.snapshotReceive = undefined;
    guard(host, partition, () => refuseSnapshot(partition.raft, receive.message));
    markDirty(host, partition);
    return;
  }
  receive.totalBytes = item.totalBytes;
  receive.pieces.push(item.bytes);
  receive.receivedBytes += item.bytes.byteLength;
  if (receive.receivedBytes < item.totalBytes) return;
  partition.snapshotReceive = undefined;
  const snapshot = { ...receive.message.snapshot, data: joined(receive) };
  stepPartition(host, partition, { ...receive.message, snapshot });
  markDirty(host, partition);
}

function joined(receive: SnapshotReceive): Uint8Array {
  const data = new Uint8Array(receive.totalBytes);
  let at = 0;
  for (const piece of receive.pieces) {
    data.set(piece, at);
    at += piece.byteLength;
  }
  assert(at === receive.totalBytes, 'the pieces are the whole');
  return data;
}

/** The connection to `peer` was lost: what was on its way to it or from it will not be complete. */
export function failSnapshotsWith(host: Host, peer: NodeId): void {
  for (const [key, send] of host.snapshotSends) {
    if (send.peer === peer) host.snapshotSends.delete(key);
  }
  for (const partition of host.partitions.values()) {
    if (partition.snapshotReceive?.from === peer) partition.snapshotReceive = undefined;
  }
}
