// A snapshot on its way in: its pieces go to a file as they come, and when the file is whole and synced, the core gets the
// whole message and installs it like anything else, in order with appends. What is there of an unfinished one stays over
// lost connections, other leaders and restarts: whoever has the same bytes goes on with it.

import { crc32 } from 'node:zlib';
import { assert } from '../base/assert.ts';
import { isKommanderError } from '../base/errors.ts';
import type { SnapshotFacts, SnapshotReader, SnapshotWriter } from '../ports/snapshot-store.ts';
import {
  Lane,
  type NodeId,
  type SnapshotIdentity,
  type SnapshotPieceItem,
} from '../ports/transport.ts';
import { refuseSnapshot } from '../raft/raft.ts';
import type { InstallSnapshot } from '../raft/types.ts';
import { stopPartition } from './failure.ts';
import { type Host, nowMs, retryAtMs } from './host.ts';
import { observeTimestamp } from './inbox.ts';
import type { Partition } from './partition.ts';
import { peerWindowBytes, pieceBytesMax } from './piece-buffers.ts';
import { guard, markDirty, stepPartition } from './ready-loop.ts';
import {
  decodeDescriptor,
  encodeDescriptor,
  receivedName,
  receivedPlace,
  type SnapshotDescriptor,
} from './snapshot-descriptor.ts';
import { isSame, transmit } from './snapshot-pieces.ts';
import { discarded, isHostOver, isNeeded, isStoreFailure, sweepSnapshots } from './snapshots.ts';

/** Bytes of a snapshot that a node takes. */
const snapshotBytesMax = 1_099_511_627_776;
/** Snapshots that a node receives at one time; each has a file open. Those beyond are announced again later. */
const receivesMax = 64;
/** Election timeouts without a piece or an announcement after which a file is closed. */
const silentElectionsMax = 10;

export interface SnapshotReceive {
  readonly partition: Partition;
  readonly name: string;
  readonly identity: SnapshotIdentity;
  readonly descriptor: SnapshotDescriptor;
  /** The leader, and its announcement: the last ones. */
  from: NodeId;
  message: InstallSnapshot;
  /** There once the file is open. */
  writer: SnapshotWriter | undefined;
  /** Pieces that are not written yet, in order. */
  queue: Uint8Array[];
  queuedBytes: number;
  /** Bytes that came, in order, without a gap. */
  receivedBytes: number;
  /** The sender was told that something is missing, and has not sent it yet. */
  isBrokenTold: boolean;
  silentTicks: number;
  /** Nothing is taken any more; the file is closed when what is being written is written. */
  isOver: boolean;
  /** Goes on with what waits for something to do. */
  wake: () => void;
}

/**
 * A leader announces a snapshot; its pieces follow, once it has heard how much of it is here. The announcement is not
 * older than the term of the core. One that is older than what is being received is of a deposed leader: ignored.
 *
 * @throws MalformedBytesError the announcement says nothing
 */
export function beginSnapshotReceive(
  host: Host,
  partition: Partition,
  from: NodeId,
  message: InstallSnapshot,
): void {
  assert(message.term >= partition.raft.currentTerm, 'the announcement is of no deposed leader');
  const present = partition.snapshotReceive;
  if (present !== undefined && message.term < present.message.term) return;
  const { index, data } = message.snapshot;
  if (index <= partition.raft.log.commitIndex || data.byteLength === 0) {
    // The core has all that, and says so; or there is no state, and nothing comes behind the message.
    stepPartition(host, partition, message);
    markDirty(host, partition);
    return;
  }
  const announced = readAnnouncement(host, partition, message);
  if (announced === undefined) return;
  if (present !== undefined && !present.isOver && isSame(present.identity, announced.identity)) {
    present.from = from;
    present.message = message;
    present.silentTicks = 0;
    answer(host, present, true);
    return;
  }
  endSnapshotReceive(partition);
  if (nowMs(host) < partition.receiveNotBeforeMs) return;
  if (host.snapshotReceives.size >= receivesMax) return;
  const receive: SnapshotReceive = {
    ...announced,
    partition,
    name: receivedName(partition.id, announced.identity),
    from,
    message,
    writer: undefined,
    queue: [],
    queuedBytes: 0,
    receivedBytes: 0,
    isBrokenTold: false,
    silentTicks: 0,
    isOver: false,
    wake: () => {},
  };
  partition.snapshotReceive = receive;
  host.snapshotReceives.add(receive);
  // One file after the other: what is still being written of an earlier one may be the same file.
  partition.receiving = partition.receiving.then(() => receiveAll(host, receive));
}

/** @returns undefined when it was refused */
function readAnnouncement(
  host: Host,
  partition: Partition,
  message: InstallSnapshot,
): Pick<SnapshotReceive, 'descriptor' | 'identity'> | undefined {
  let reason: unknown;
  try {
    const descriptor = decodeDescriptor(message.snapshot.data);
    const { stored } = descriptor;
    if (stored !== undefined && stored.byteLength <= snapshotBytesMax) {
      const { byteLength, checksum } = stored;
      return { descriptor, identity: { index: message.snapshot.index, byteLength, checksum } };
    }
    reason = `${stored?.byteLength} bytes; a node takes ${snapshotBytesMax}`;
  } catch (error) {
    if (!isKommanderError(error, 'WAL_VERSION')) throw error;
    reason = error;
  }
  refuse(host, partition, message, reason);
  return undefined;
}

/** The leader is told that it did not arrive; it begins again at the next sign of life. */
function refuse(host: Host, partition: Partition, message: InstallSnapshot, error: unknown): void {
  const fields = { partitionId: partition.id, index: message.snapshot.index, error };
  host.observe({ level: 'warn', name: 'snapshot-refused', fields });
  guard(host, partition, () => refuseSnapshot(partition.raft, message));
  markDirty(host, partition);
}

/** Tells the sender how much is here. */
function answer(host: Host, receive: SnapshotReceive, isBroken: boolean): void {
  const { partition, identity, from, writer } = receive;
  // Until the file is open nobody knows; the answer comes then.
  if (writer === undefined) return;
  if (isBroken) receive.isBrokenTold = true;
  transmit(host, from, Lane.control, {
    kind: 'snapshotProgress',
    partitionId: partition.id,
    snapshot: identity,
    receivedBytes: isBroken ? receive.receivedBytes : writer.byteLength,
    isBroken,
  });
}

/** Takes a piece, from the leader or from the member that it asked. */
export function handleSnapshotPiece(
  host: Host,
  partition: Partition,
  item: SnapshotPieceItem,
): void {
  const receive = partition.snapshotReceive;
  if (receive === undefined || receive.isOver || receive.writer === undefined) return;
  // Whoever sends it: the leader said which bytes they are, and what is whole is checked against that.
  if (!isSame(receive.identity, item.snapshot)) return;
  const { bytes, offset } = item;
  // It came before.
  if (offset < receive.receivedBytes) return;
  if (offset > receive.receivedBytes || !fits(receive, item)) {
    // Once per gap: the pieces that are still on their way come behind it.
    if (!receive.isBrokenTold) answer(host, receive, true);
    return;
  }
  receive.isBrokenTold = false;
  receive.silentTicks = 0;
  receive.queue.push(bytes);
  receive.queuedBytes += bytes.byteLength;
  receive.receivedBytes += bytes.byteLength;
  receive.wake();
}

/** Whether a piece is one, whole, and not more than there is room for. */
function fits(receive: SnapshotReceive, { bytes, offset, checksum }: SnapshotPieceItem): boolean {
  const { byteLength } = bytes;
  if (byteLength === 0 || byteLength > pieceBytesMax) return false;
  if (offset + byteLength > receive.identity.byteLength) return false;
  if (receive.queuedBytes + byteLength > peerWindowBytes) return false;
  return crc32(bytes) === checksum;
}

/** Writes what comes, until it is whole or over. Never rejects. */
async function receiveAll(host: Host, receive: SnapshotReceive): Promise<void> {
  const { partition } = receive;
  try {
    if (receive.isOver) return;
    if (await isThereWhole(host, receive)) {
      if (!receive.isOver) install(host, receive, receive.identity);
      return;
    }
    const writer = await openFile(host, receive);
    if (await tryWrite(host, receive, writer)) install(host, receive, await writer.finish());
    else await writer.suspend();
  } catch (error) {
    if (!isStoreFailure(error)) return stopPartition(host, partition, error);
    // Its leader asks again, later: when nothing was answered for a while.
    const { name } = receive;
    const fields = { partitionId: partition.id, snapshot: name, error };
    host.observe({ level: 'error', name: 'snapshot-not-stored', fields });
    // A disk that is full or bad takes no more of it at the next sign of life, and all of it is sent each time.
    if (receive.writer !== undefined) partition.receiveNotBeforeMs = retryAtMs(host);
    // One that cannot be gone on with would be in the way of every other attempt.
    await discarded(host, receive.writer?.discard() ?? host.wal.snapshots.remove(name));
  } finally {
    host.snapshotReceives.delete(receive);
    if (partition.snapshotReceive === receive) partition.snapshotReceive = undefined;
  }
}

/**
 * Whether all of it came before, and was not installed: the process ended first, or its leader was deposed. It is read
 * and checked: one that is damaged is received anew.
 */
async function isThereWhole(
  host: Host,
  { partition, name, identity }: SnapshotReceive,
): Promise<boolean> {
  const { snapshots } = host.wal;
  const { snapshotDraft } = partition;
  if (snapshotDraft !== undefined && snapshotDraft !== name) await snapshots.remove(snapshotDraft);
  partition.snapshotDraft = name;
  if (snapshotDraft !== name) return false;
  const stored = await snapshots.list();
  if (!stored.some((one) => one.name === name && one.isFinished)) return false;
  try {
    const reader = await snapshots.open(name, identity);
    try {
      await readThrough(reader, identity.byteLength);
    } finally {
      await reader.close();
    }
    return true;
  } catch (error) {
    if (!isKommanderError(error, 'SNAPSHOT_CORRUPT')) throw error;
    await snapshots.remove(name);
    return false;
  }
}

/** @throws SNAPSHOT_CORRUPT */
async function readThrough(reader: SnapshotReader, byteLength: number): Promise<void> {
  for (let at = 0; at < byteLength; ) at += (await reader.read(at, pieceBytesMax)).byteLength;
}

async function openFile(host: Host, receive: SnapshotReceive): Promise<SnapshotWriter> {
  const { partition, name } = receive;
  const { snapshots } = host.wal;
  const writer = (await snapshots.resume(name)) ?? (await snapshots.create(name));
  receive.writer = writer;
  receive.receivedBytes = writer.byteLength;
  if (writer.byteLength > 0) {
    const fields = { partitionId: partition.id, snapshot: name, bytes: writer.byteLength };
    host.observe({ level: 'info', name: 'snapshot-resumed', fields });
  }
  answer(host, receive, true);
  return writer;
}

/** @returns whether all bytes are written */
async function tryWrite(
  host: Host,
  receive: SnapshotReceive,
  writer: SnapshotWriter,
): Promise<boolean> {
  while (!receive.isOver && !isHostOver(host)) {
    if (writer.byteLength === receive.identity.byteLength) return true;
    const bytes = receive.queue.shift();
    if (bytes === undefined) {
      await new Promise<void>((resolve) => {
        receive.wake = resolve;
      });
      continue;
    }
    await writer.append(bytes);
    receive.queuedBytes -= bytes.byteLength;
    answer(host, receive, false);
  }
  return false;
}

/** All bytes are there: the core decides what becomes of them. */
function install(
  host: Host,
  receive: SnapshotReceive,
  { byteLength, checksum }: SnapshotFacts,
): void {
  const { partition, identity, descriptor, name } = receive;
  // Another leader may have announced the same bytes meanwhile.
  const { message, from } = receive;
  // It stays for the next start.
  if (isHostOver(host) || partition.stopped !== undefined) return;
  partition.snapshotDraft = undefined;
  partition.snapshotNames.add(name);
  if (!isSame(identity, { index: identity.index, byteLength, checksum })) {
    sweepSnapshots(host, partition);
    refuse(host, partition, message, `its checksum is ${checksum}, expected ${identity.checksum}`);
    return;
  }
  observeTimestamp(host, from, descriptor.clock);
  const data = encodeDescriptor({ ...descriptor, stored: { name, byteLength, checksum } });
  stepPartition(host, partition, { ...message, snapshot: { ...message.snapshot, data } });
  markDirty(host, partition);
  if (isNeeded(partition, name)) return;
  // Its leader was deposed: whoever announces the same bytes next need not send them.
  partition.snapshotNames.delete(name);
  partition.snapshotDraft = name;
  dropPassedDraft(host, partition);
}

/** Nothing more is taken of what is being received; what is there stays for whoever goes on with it. */
export function endSnapshotReceive(partition: Partition): void {
  const receive = partition.snapshotReceive;
  if (receive === undefined) return;
  partition.snapshotReceive = undefined;
  receive.isOver = true;
  receive.wake();
}

/** The log begins at or behind what is there of a snapshot: nobody will go on with it. */
export function dropPassedDraft(host: Host, partition: Partition): void {
  const { snapshotDraft: name, snapshotReceive: receive, baseIndex } = partition;
  const place = name === undefined ? undefined : receivedPlace(name);
  if (name === undefined || place === undefined || place.index > baseIndex) return;
  if (receive !== undefined && receive.identity.index <= baseIndex) endSnapshotReceive(partition);
  partition.snapshotDraft = undefined;
  partition.receiving = partition.receiving
    .then(() => discarded(host, host.wal.snapshots.remove(name)))
    .catch((error: unknown) => stopPartition(host, partition, error));
}

/** Closes files of which nothing comes any more. Called at every tick. */
export function tickSnapshotReceives(host: Host): void {
  const ticksMax = silentElectionsMax * host.settings.electionTicks;
  for (const receive of host.snapshotReceives) {
    receive.silentTicks += 1;
    if (receive.silentTicks < ticksMax || receive.writer === undefined) continue;
    if (receive.partition.snapshotReceive === receive) endSnapshotReceive(receive.partition);
  }
}

/** The connection to `peer` was lost, or to all. */
export function endSnapshotReceives(host: Host, peer?: NodeId): void {
  for (const { partition, from } of host.snapshotReceives) {
    if (peer === undefined || from === peer) endSnapshotReceive(partition);
  }
}
