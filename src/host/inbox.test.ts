// What is taken from peers and what is not, seen from one partition.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Frame } from '../ports/transport.ts';
import { emptyConfState } from '../raft/types.ts';
import type { Host } from './host.ts';
import { receiveFrame } from './inbox.ts';
import type { Partition } from './partition.ts';
import type { SnapshotReceive } from './snapshot-receiving.ts';

/** The announcement of a snapshot, and a piece of it. */
function beginningOfSnapshot(): Frame {
  const snapshot = { index: 9, term: 1, confState: emptyConfState, data: new Uint8Array(0) };
  const message = { type: 'installSnapshot' as const, from: 1, to: 3, term: 1, snapshot };
  const bytes = new Uint8Array(10);
  const identity = { index: 9, byteLength: 20, checksum: 1 };
  return {
    timestamp: 1,
    items: [
      { kind: 'raft', partitionId: 1, message },
      { kind: 'snapshotPiece', partitionId: 1, snapshot: identity, offset: 0, checksum: 1, bytes },
    ],
  };
}

/** The parts of a node that taking a snapshot needs. */
function nodeOf(partition: Partition): Host {
  const parts: Partial<Record<keyof Host, unknown>> = {
    state: 'running',
    settings: { inflightMessagesMax: 1 },
    writer: { full: undefined },
    hybridClock: { observe: () => {} },
    replicaIds: new Map([['a', 1]]),
    genesis: { isComplete: true, strangers: new Map() },
    partitions: new Map([[1, partition]]),
  };
  return parts as unknown as Host;
}

function partitionOf(stopped: Error | undefined): Partition {
  const parts: Partial<Record<keyof Partition, unknown>> = {
    id: 1,
    stopped,
    queuedRequests: 0,
    raft: { id: 3, currentTerm: 1 },
  };
  return parts as unknown as Partition;
}

test('a replica that stopped collects no snapshot, and lets go of what it had', () => {
  const partition = partitionOf(new Error('a rule was broken'));
  let isWoken = false;
  const receive: Partial<SnapshotReceive> = {
    isOver: false,
    wake() {
      isWoken = true;
    },
  };
  partition.snapshotReceive = receive as SnapshotReceive;
  receiveFrame(nodeOf(partition), 'a', beginningOfSnapshot(), () => {});
  assert.equal(partition.snapshotReceive, undefined);
  assert.equal(receive.isOver, true);
  assert.ok(isWoken, 'whoever writes it ends');
});
