// What arrives from peers: every item goes to its partition, one bad item does not take the others with it. Nothing is
// taken before the cluster is formed, nor from a peer whose disk is not the one that we know.

import { MalformedBytesError } from '../base/bytes.ts';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import type { Timestamp } from '../ports/clock.ts';
import type { Frame, FrameItem, NodeId } from '../ports/transport.ts';
import { reportUnreachable } from '../raft/raft.ts';
import type { PeerMessage } from '../raft/types.ts';
import { failNode } from './failure.ts';
import { handleGenesis, sendGenesis } from './genesis.ts';
import type { Host } from './host.ts';
import type { Partition } from './partition.ts';
import { failForwardsTo, handlePropose, handleProposeResponse } from './proposals.ts';
import { guard, markDirty, stepPartition } from './ready-loop.ts';
import {
  beginSnapshotReceive,
  endSnapshotReceive,
  endSnapshotReceives,
  handleSnapshotPiece,
} from './snapshot-receiving.ts';
import { endSnapshotSends, handleSnapshotProgress } from './snapshot-sending.ts';
import { endSnapshotServes, handleSnapshotPieceRequest } from './snapshot-serving.ts';
import { isDiskFull, isQueueFull } from './storage-writer.ts';

/** Takes a frame. `admitted` is called when it lets this node take part. */
export function receiveFrame(host: Host, from: NodeId, frame: Frame, admitted: () => void): void {
  if (host.state === 'closed' || host.state === 'failed') return;
  observeTimestamp(host, from, frame.timestamp);
  for (const item of frame.items) {
    try {
      receiveItem(host, from, item, admitted);
    } catch (error) {
      // A peer's bytes that mean nothing are its fault, and no reason to stop.
      if (!(error instanceof MalformedBytesError)) throw error;
      const { kind } = item;
      host.observe({ level: 'warn', name: 'item-refused', fields: { from, kind, error } });
    }
  }
}

/** Merges a timestamp of a peer; one that is too far ahead is not believed. */
export function observeTimestamp(host: Host, from: NodeId, timestamp: Timestamp): void {
  try {
    host.hybridClock.observe(timestamp);
  } catch (error) {
    if (!isKommanderError(error)) throw error;
    host.observe({ level: 'warn', name: 'clock-drift', fields: { from, error } });
  }
}

function receiveItem(host: Host, from: NodeId, item: FrameItem, admitted: () => void): void {
  // Membership is a fact of the cluster; who merely knows its id is not listened to.
  if (!host.replicaIds.has(from)) return;
  if (item.kind === 'genesis') {
    handleGenesis(host, from, item, admitted);
    return;
  }
  if (!host.genesis.isComplete || host.genesis.strangers.has(from)) return;
  const partition = host.partitions.get(item.partitionId);
  if (partition === undefined) return;
  // A replica that takes no further part collects nothing; callers still get their answer.
  const isForReplica = item.kind !== 'propose' && item.kind !== 'proposeResponse';
  if (isForReplica && partition.stopped !== undefined) {
    endSnapshotReceive(partition);
    return;
  }
  switch (item.kind) {
    case 'raft':
      receiveMessage(host, partition, from, item);
      break;
    case 'propose':
      handlePropose(host, partition, from, item);
      break;
    case 'proposeResponse':
      handleProposeResponse(host, partition, item);
      break;
    case 'snapshotPiece':
      handleSnapshotPiece(host, partition, item);
      break;
    case 'snapshotPieceRequest':
      handleSnapshotPieceRequest(host, partition, from, item);
      break;
    case 'snapshotProgress':
      handleSnapshotProgress(host, partition, from, item);
      break;
  }
}

function receiveMessage(
  host: Host,
  partition: Partition,
  from: NodeId,
  item: Extract<FrameItem, { kind: 'raft' }>,
): void {
  const { message } = item;
  const isAddressed =
    message.to === partition.raft.id && message.from === host.replicaIds.get(from);
  // A peer speaks for its own replica only.
  if (!isAddressed) return;
  if (!canTake(host, partition, message)) return;
  // A deposed leader's announcement is for the core, which answers it; the present leader's transfer goes on.
  if (message.type === 'installSnapshot' && message.term >= partition.raft.currentTerm) {
    beginSnapshotReceive(host, partition, from, message);
    return;
  }
  stepPartition(host, partition, message);
  markDirty(host, partition);
}

/** Whether the store can keep what the message leads to. Dropped ones Raft sends again. */
function canTake(host: Host, partition: Partition, message: PeerMessage): boolean {
  if (isQueueFull(host, partition)) return false;
  return !isDiskFull(host) || !isToBeStored(message);
}

/** Entries, snapshots and votes count once they are durable: a full disk can promise none. Heartbeats and reads go on. */
function isToBeStored({ type }: PeerMessage): boolean {
  switch (type) {
    case 'appendEntries':
    case 'installSnapshot':
    case 'requestVote':
    case 'timeoutNow':
      return true;
    default:
      return false;
  }
}

/** A peer does not talk to this node. Two processes with one identity could vote twice: the one that is told so stops. */
export function noteRefused(host: Host, peer: NodeId, error: KommanderError): void {
  if (error.code !== 'NODE_COPIED' || host.state === 'closing') return;
  const { nodeId } = host.settings;
  const message = `another process runs with the identity of "${nodeId}" and is connected to "${peer}": this directory was copied, or the node was started twice; this one stops, remove the copy`;
  failNode(
    host,
    new KommanderError(message, { code: 'NODE_COPIED', details: { nodeId, peer }, cause: error }),
  );
}

/** A connection was made or lost. */
export function noteReachable(host: Host, peer: NodeId, isReachable: boolean): void {
  if (host.state === 'closed' || host.state === 'failed') return;
  if (isReachable) {
    if (host.reachable.has(peer)) return;
    host.reachable.add(peer);
    host.observe({ level: 'info', name: 'peer-connected', fields: { peer } });
    sendGenesis(host, peer);
    return;
  }
  if (!host.reachable.delete(peer)) return;
  host.observe({ level: 'warn', name: 'peer-disconnected', fields: { peer } });
  endSnapshotSends(host, peer);
  endSnapshotServes(host, peer);
  endSnapshotReceives(host, peer);
  const replicaId = host.replicaIds.get(peer);
  if (replicaId === undefined) return;
  for (const partition of host.partitions.values()) {
    failForwardsTo(host, partition, peer);
    guard(host, partition, () => reportUnreachable(partition.raft, replicaId));
    markDirty(host, partition);
  }
}
