// One sample of every frame item and of every message between replicas, with every field set: what a transport must
// carry. They are records over the unions, so that a new kind does not compile until it has a sample.

import { must } from '../base/assert.ts';
import { layOutRun } from '../ports/run.ts';
import type { Frame, FrameItem } from '../ports/transport.ts';
import {
  type Entry,
  EntryKind,
  type LogIndex,
  type PeerMessage,
  type PeerMessageType,
  payloadOf,
  type Term,
} from '../raft/types.ts';

/** Contiguous entries of one term, laid out as one run. The payload of entry i is `bytes` times the byte i. */
export function sampleEntries(options: {
  readonly firstIndex: LogIndex;
  readonly term: Term;
  readonly count: number;
  readonly bytes: number;
}): Entry[] {
  const { firstIndex, term, count, bytes } = options;
  const proposed = layOutRun(
    Array.from({ length: count }, (_, i) => ({
      kind: i % 7 === 6 ? EntryKind.confChange : EntryKind.normal,
      byteLength: bytes,
      write: (target: Uint8Array, offset: number) => target.fill(i, offset, offset + bytes),
    })),
  );
  return proposed.map((entry, i) => ({ index: firstIndex + i, term, ...entry }));
}

const envelope = { from: 2_147_483_647, to: 1, term: 9_007_199_254_740_991 } as const;

/** One message of every type. */
const sampleMessages: { readonly [Type in PeerMessageType]: PeerMessage } = {
  appendEntries: {
    type: 'appendEntries',
    ...envelope,
    prevLogIndex: 41,
    prevLogTerm: 6,
    entries: [
      ...sampleEntries({ firstIndex: 42, term: 7, count: 8, bytes: 5 }),
      ...sampleEntries({ firstIndex: 50, term: 8, count: 1, bytes: 0 }),
      ...sampleEntries({ firstIndex: 51, term: 8, count: 2, bytes: 70_000 }),
    ],
    leaderCommit: 300,
  },
  appendEntriesResponse: {
    type: 'appendEntriesResponse',
    ...envelope,
    index: 128,
    rejected: true,
    hintIndex: 127,
    hintTerm: 5,
  },
  requestVote: {
    type: 'requestVote',
    ...envelope,
    preVote: true,
    lastLogIndex: 4_294_967_296,
    lastLogTerm: 16_384,
    leadershipTransfer: true,
  },
  requestVoteResponse: {
    type: 'requestVoteResponse',
    ...envelope,
    preVote: true,
    rejected: true,
    lastLogIndex: 300,
    lastLogTerm: 7,
    commitIndex: 299,
    commitTerm: 6,
  },
  heartbeat: { type: 'heartbeat', ...envelope, leaderCommit: 2_097_152, readRound: 0 },
  heartbeatResponse: { type: 'heartbeatResponse', ...envelope, readRound: undefined },
  installSnapshot: {
    type: 'installSnapshot',
    ...envelope,
    snapshot: {
      index: 1_000,
      term: 3,
      confState: {
        voters: [1, 2, 200],
        votersOutgoing: [1],
        learners: [4],
        learnersNext: [5, 2_147_483_647],
        autoLeave: true,
      },
      data: new Uint8Array([1, 0, 255]),
    },
  },
  timeoutNow: { type: 'timeoutNow', ...envelope },
  transferLeadership: { type: 'transferLeadership', ...envelope, transferee: 77 },
  readIndex: { type: 'readIndex', ...envelope, context: 12_345_678_901 },
  readIndexResponse: { type: 'readIndexResponse', ...envelope, context: 1, index: 99 },
};

const sampleOtherItems: { readonly [Kind in Exclude<FrameItem['kind'], 'raft'>]: FrameItem } = {
  snapshotPiece: {
    kind: 'snapshotPiece',
    partitionId: 3,
    snapshot: { index: 9_007_199_254_740_991, byteLength: 1_000_000, checksum: 4_294_967_295 },
    offset: 65_536,
    checksum: 12_345,
    bytes: new Uint8Array(9_000).fill(4),
  },
  snapshotPieceRequest: {
    kind: 'snapshotPieceRequest',
    partitionId: 2,
    snapshot: { index: 1, byteLength: 70_000, checksum: 3_000_000_000 },
    to: 'node-c',
    offset: 1_048_576,
  },
  snapshotProgress: {
    kind: 'snapshotProgress',
    partitionId: 6,
    snapshot: { index: 70_000, byteLength: 9_007_199_254_740_991, checksum: 1 },
    receivedBytes: 524_288,
    isBroken: true,
  },
  propose: {
    kind: 'propose',
    partitionId: 4,
    requestId: 9,
    payloads: [new Uint8Array([0]), new Uint8Array(0), new Uint8Array(5_000).fill(1)],
  },
  proposeResponse: {
    kind: 'proposeResponse',
    partitionId: 5,
    requestId: 10,
    appended: { firstIndex: 17, term: 2 },
    refused: {
      code: 'NOT_LEADER',
      message: 'nöt the leader',
      details: { leader: 'b', term: 3, isKnown: true, others: ['a', 1] },
    },
  },
  genesis: {
    kind: 'genesis',
    recordHash: 'c0ffee',
    complete: true,
    acceptances: [
      { nodeId: 'a', nonce: '1f', replicaId: 1 },
      { nodeId: 'b', nonce: '2e', replicaId: 1_026 },
    ],
    endpoint: '10.0.0.1:8001',
  },
};

/** One item of every kind, and one message of every type. */
export const sampleItems: readonly FrameItem[] = [
  ...Object.values(sampleMessages).map(
    (message, partitionId): FrameItem => ({ kind: 'raft', partitionId, message }),
  ),
  ...Object.values(sampleOtherItems),
];

/**
 * A frame in a form that deep equality can compare: where a payload lies in memory does not matter, what it holds does.
 */
export function plainFrame(frame: Frame): unknown {
  return { timestamp: frame.timestamp, items: frame.items.map((item) => plainValue(item)) };
}

function plainValue(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(plainValue);
  if (typeof value !== 'object' || value === null) return value;
  if (isEntry(value)) {
    const { index, term, kind } = value;
    return { index, term, kind, payload: plainValue(payloadOf(value)) };
  }
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plainValue(one)]));
}

function isEntry(value: object): value is Entry {
  return 'bytes' in value && 'start' in value && 'end' in value;
}

/** The heartbeat of partition `partitionId` whose commit index is `number`: a frame that tests can tell from others. */
export function numberedFrame(number: number, partitionId = 1): Frame {
  return {
    timestamp: number,
    items: [
      {
        kind: 'raft',
        partitionId,
        message: {
          type: 'heartbeat',
          from: 1,
          to: 2,
          term: 1,
          leaderCommit: number,
          readRound: undefined,
        },
      },
    ],
  };
}

/** An append of one entry of `bytes` payload bytes. */
export function appendFrame(index: LogIndex, bytes: number): Frame {
  const entries = sampleEntries({ firstIndex: index, term: 1, count: 1, bytes });
  const [first] = entries;
  return {
    timestamp: must(first, 'one entry was made').index,
    items: [
      {
        kind: 'raft',
        partitionId: 1,
        message: {
          type: 'appendEntries',
          from: 1,
          to: 2,
          term: 1,
          prevLogIndex: index - 1,
          prevLogTerm: 0,
          entries,
          leaderCommit: 0,
        },
      },
    ],
  };
}
