// What the partitions send in one turn, gathered per peer and lane, so that all of them share frames. A lane's items
// keep their order; a frame that grows too large is sent and another begun.

import { KommanderError } from '../base/errors.ts';
import { type FrameItem, Lane, type NodeId } from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { PeerMessage } from '../raft/types.ts';
import type { Host } from './host.ts';
import type { Partition } from './partition.ts';
import { failForward } from './proposals.ts';
import { startSnapshotSend } from './snapshot-sending.ts';

/** Estimated bytes of one frame; one item may be larger. */
const frameBytesMax = 1_048_576;
/** What an item weighs beside its payload. */
const itemOverheadBytes = 64;

interface LaneOutbox {
  items: FrameItem[];
  bytes: number;
}

/** Keyed by peer; one per lane. */
export type Outbox = Map<NodeId, Record<Lane, LaneOutbox>>;

export function newOutbox(): Outbox {
  return new Map();
}

/** Sends a message of a group to the replica that it is meant for. */
export function queueMessage(host: Host, partition: Partition, message: PeerMessage): void {
  const peer = host.nodeIds.get(message.to);
  if (peer === undefined) return;
  if (message.type === 'installSnapshot') {
    startSnapshotSend(host, partition, peer, message);
    return;
  }
  queueItem(host, peer, laneOf(message), { kind: 'raft', partitionId: partition.id, message });
}

export function queueItem(host: Host, peer: NodeId, lane: Lane, item: FrameItem): void {
  let lanes = host.outbox.get(peer);
  if (lanes === undefined) {
    lanes = { control: { items: [], bytes: 0 }, bulk: { items: [], bytes: 0 } };
    host.outbox.set(peer, lanes);
  }
  const box = lanes[lane];
  const bytes = itemBytes(item);
  if (box.items.length > 0 && box.bytes + bytes > frameBytesMax) flushLane(host, peer, lane, box);
  box.items.push(item);
  box.bytes += bytes;
}

/** Hands everything to the transport. What it drops, Raft repairs; callers that would wait in vain are told. */
export function flushOutbox(host: Host): void {
  for (const [peer, lanes] of host.outbox) {
    flushLane(host, peer, Lane.control, lanes.control);
    flushLane(host, peer, Lane.bulk, lanes.bulk);
  }
}

function flushLane(host: Host, peer: NodeId, lane: Lane, box: LaneOutbox): void {
  if (box.items.length === 0) return;
  const { items } = box;
  box.items = [];
  box.bytes = 0;
  const timestamp = host.hybridClock.now();
  if (host.transport.send(peer, lane, { timestamp, items })) return;
  for (const item of items) {
    if (item.kind !== 'propose') continue;
    // A part of a frame of several items may have been sent all the same.
    const error = notPassedOn(peer, item.partitionId, items.length === 1);
    failForward(host, item.partitionId, item.requestId, error);
  }
}

function notPassedOn(peer: NodeId, partitionId: PartitionId, isWhole: boolean): KommanderError {
  const outcome = isWhole ? 'nothing was written, try again' : 'it may have been written';
  return new KommanderError(
    `the write could not be passed on to the leader "${peer}": it is not reachable or its queue is full; ${outcome}`,
    {
      code: isWhole ? 'PROPOSAL_DROPPED' : 'OUTCOME_UNKNOWN',
      details: { partitionId, leader: peer },
    },
  );
}

/** Appends go in order in the bulk lane, empty ones too: a commit index that overtakes its entries is refused. */
function laneOf(message: PeerMessage): Lane {
  return message.type === 'appendEntries' || message.type === 'installSnapshot'
    ? Lane.bulk
    : Lane.control;
}

function itemBytes(item: FrameItem): number {
  switch (item.kind) {
    case 'raft': {
      if (item.message.type !== 'appendEntries') return itemOverheadBytes;
      let bytes = itemOverheadBytes;
      for (const entry of item.message.entries) bytes += entry.end - entry.start + 8;
      return bytes;
    }
    case 'propose': {
      let bytes = itemOverheadBytes;
      for (const payload of item.payloads) bytes += payload.byteLength + 8;
      return bytes;
    }
    default:
      return itemOverheadBytes;
  }
}
