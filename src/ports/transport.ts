// Frames between nodes. A transport implements `Transport`; `testing/transport-contract.ts` says in tests what it must
// do. It delivers at most once and in order per peer and lane while a connection lasts; everything may be lost.

import type { ErrorCode, ErrorDetails, KommanderError } from '../base/errors.ts';
import type { LogIndex, PeerMessage, ReplicaId, Term } from '../raft/types.ts';
import type { Clock, Timestamp } from './clock.ts';
import type { Observer } from './observer.ts';
import type { PartitionId } from './wal.ts';

/** What a member is called: 1 to 64 characters of `A-Z a-z 0-9 . _ -`. */
export type NodeId = string;
/** `host:port`, `[v6]:port`. */
export type Endpoint = string;

/**
 * `control`: heartbeats, votes, acks, read rounds, progress of snapshots. `bulk`: appends, forwarded proposals, snapshot pieces. A lane is
 * never behind the other one.
 */
export const Lane = { control: 'control', bulk: 'bulk' } as const;
export type Lane = (typeof Lane)[keyof typeof Lane];

/** A message of one Raft group. */
export interface RaftItem {
  readonly kind: 'raft';
  readonly partitionId: PartitionId;
  readonly message: PeerMessage;
}

/** Which snapshot of a partition is meant: replicas whose states are the same bytes have the same one. */
export interface SnapshotIdentity {
  readonly index: LogIndex;
  readonly byteLength: number;
  /** CRC-32 of all bytes. */
  readonly checksum: number;
}

/** A piece of the snapshot that an `installSnapshot` message announced. */
export interface SnapshotPieceItem {
  readonly kind: 'snapshotPiece';
  readonly partitionId: PartitionId;
  readonly snapshot: SnapshotIdentity;
  /** Bytes before this piece. */
  readonly offset: number;
  /** CRC-32 of `bytes`. */
  readonly checksum: number;
  readonly bytes: Uint8Array;
}

/** A leader that spares itself asks a member that has the same bytes to send a piece of them. */
export interface SnapshotPieceRequestItem {
  readonly kind: 'snapshotPieceRequest';
  readonly partitionId: PartitionId;
  readonly snapshot: SnapshotIdentity;
  /** Who gets it. */
  readonly to: NodeId;
  /** Bytes before the piece. */
  readonly offset: number;
}

/**
 * How far the receiver of a snapshot is: the answer to its announcement, and to its pieces. From a member that was asked
 * to send pieces: it has none of them.
 */
export interface SnapshotProgressItem {
  readonly kind: 'snapshotProgress';
  readonly partitionId: PartitionId;
  readonly snapshot: SnapshotIdentity;
  /** Bytes that it has. */
  readonly receivedBytes: number;
  /** What was sent beyond `receivedBytes` is lost: to be sent again from there. */
  readonly isBroken: boolean;
}

/** Proposals that a node passes on to the leader. `payloads` are encoded entry payloads (host/payload.ts). */
export interface ProposeItem {
  readonly kind: 'propose';
  readonly partitionId: PartitionId;
  /** Unique for the sender, also over its restarts: an old answer is not taken for a new one. */
  readonly requestId: number;
  readonly payloads: readonly Uint8Array[];
}

/** The leader appended the proposals at `firstIndex …` in `term` (not yet committed), or refused them. */
export interface ProposeResponseItem {
  readonly kind: 'proposeResponse';
  readonly partitionId: PartitionId;
  readonly requestId: number;
  readonly appended: { readonly firstIndex: LogIndex; readonly term: Term } | undefined;
  readonly refused:
    | { readonly code: ErrorCode; readonly message: string; readonly details: ErrorDetails }
    | undefined;
}

/**
 * A member's directory: a first member's durable word that it accepts the genesis record, or what a readmission has put
 * in its place. `nonce` is drawn anew for an empty directory.
 */
export interface GenesisAcceptance {
  readonly nodeId: NodeId;
  readonly nonce: string;
  /** The member's number in every group. Of two, the higher one is the later. */
  readonly replicaId: ReplicaId;
}

/** What a node knows about the birth of the cluster (DESIGN §7 "Genesis"). */
export interface GenesisItem {
  readonly kind: 'genesis';
  /** Hash of the genesis record that the sender has durably accepted. */
  readonly recordHash: string;
  /** The sender knows that all first members accepted. */
  readonly complete: boolean;
  /** The acceptances that the sender knows, its own among them. */
  readonly acceptances: readonly GenesisAcceptance[];
  /** Where the sender says that it is reached, when that is not what the member list says. */
  readonly endpoint: Endpoint | undefined;
}

export type FrameItem =
  | RaftItem
  | SnapshotPieceItem
  | SnapshotPieceRequestItem
  | SnapshotProgressItem
  | ProposeItem
  | ProposeResponseItem
  | GenesisItem;

/** What travels: the messages of all partitions for one peer and lane of one turn. */
export interface Frame {
  readonly timestamp: Timestamp;
  readonly items: readonly FrameItem[];
}

/** Who a node is; every connection begins with it, and a mismatch is refused. */
export interface NodeIdentity {
  readonly clusterId: string;
  readonly nodeId: NodeId;
  /** Grows with every start of the node. */
  readonly incarnation: number;
  /** Drawn anew at every start, 1 to 64 characters of `A-Z a-z 0-9`: tells two processes with one directory apart. */
  readonly startId: string;
}

/** Answers of the node to cold calls of other programs. */
export interface StatusSource {
  /** The JSON of `status()`. */
  statusJson(): string;
}

export interface TransportContext {
  readonly identity: NodeIdentity;
  readonly listen: Endpoint;
  readonly clock: Clock;
  readonly observer: Observer;
  readonly status: StatusSource;
  /** Takes what arrives. Never throws. The entries' buffers belong to the receiver. */
  receive(from: NodeId, lane: Lane, frame: Frame): void;
  /** A connection to the peer was made or lost. */
  reachable(peer: NodeId, isReachable: boolean): void;
  /**
   * The peer did not accept this node. NODE_COPIED: another process with its identity is connected there, and is alive.
   */
  refused(peer: NodeId, error: KommanderError): void;
}

export interface Transport {
  /** Bytes of the largest item that it carries, encoded; larger ones are dropped. Absent: any size. */
  readonly frameBytesMax?: number;
  /**
   * Begins to listen.
   *
   * @returns where it listens (the port is known when `listen` asked for port 0)
   * @throws TRANSPORT_FAILED the address cannot be bound
   */
  open(context: TransportContext): Promise<Endpoint>;
  /** Connects to a peer and keeps trying, or forgets it when `endpoint` is undefined. */
  setPeer(peer: NodeId, endpoint: Endpoint | undefined): void;
  /**
   * Queues a frame. Its bytes must not be changed until `sent` is called: the transport needs them no more. A transport
   * that hands them on as they are never calls it, nor is it called for what was dropped.
   *
   * @returns false when it, or a part of it, was dropped: no such peer, not connected, the lane's outbox is full, or an
   * item is larger than `frameBytesMax`
   */
  send(peer: NodeId, lane: Lane, frame: Frame, sent?: () => void): boolean;
  /** Idempotent. Frames that are still queued may be lost. */
  close(): Promise<void>;
}
