// Which field of `FrameItem` carries which item: the tables that `proto/kommander/v1/raft.proto` publishes. They are
// records over the unions, so an item or message without a field does not compile. Tags are field * 8 + wire type.

import type { FrameItem } from '../ports/transport.ts';
import type { PeerMessageType } from '../raft/types.ts';

export const wireType = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

export const frameField = { timestamp: 1, items: 2 } as const;
export const itemPartitionField = 1;

/** Fields of `FrameItem` for the messages of Raft groups. */
export const messageField: Readonly<Record<PeerMessageType, number>> = {
  appendEntries: 2,
  appendEntriesResponse: 3,
  requestVote: 4,
  requestVoteResponse: 5,
  heartbeat: 6,
  heartbeatResponse: 7,
  installSnapshot: 8,
  timeoutNow: 9,
  transferLeadership: 10,
  readIndex: 11,
  readIndexResponse: 12,
};

/** Fields of `FrameItem` for everything that is not a message of a Raft group. */
export const itemField: Readonly<Record<Exclude<FrameItem['kind'], 'raft'>, number>> = {
  snapshotPiece: 13,
  propose: 14,
  proposeResponse: 15,
  genesis: 16,
  snapshotProgress: 17,
  snapshotPieceRequest: 18,
};

/** The largest field number of any message of the format. */
export const fieldMax = 18;

export function varintTag(field: number): number {
  return field * 8 + wireType.varint;
}

export function bytesTag(field: number): number {
  return field * 8 + wireType.bytes;
}
