// Hazards 12, 47 and 55, seen from outside: what discovery reports and what a peer sends beyond the agreed makes neither
// voters nor memory grow.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { encodeDescriptor, type SnapshotDescriptor } from '../../src/host/snapshot-descriptor.ts';
import type { DiscoveredNode, Discovery } from '../../src/ports/discovery.ts';
import type { FrameItem } from '../../src/ports/transport.ts';
import { electionMs, type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';

test('a node that discovery finds later is no member, and one that it loses stays one', async () => {
  const listeners: ((nodes: readonly DiscoveredNode[]) => void)[] = [];
  const discovery: Discovery = {
    async open(changed) {
      listeners.push(changed);
    },
    async close() {},
  };
  await using cluster = nodeCluster({ settings: { discovery } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  assert.equal(listeners.length, 3);
  const member = { nodeId: 'a', endpoint: '127.0.0.1:1' };
  const strangers = ['u', 'v', 'w', 'x', 'y', 'z'].map((nodeId, at) => ({
    nodeId,
    endpoint: `127.0.0.1:${at + 50}`,
  }));
  for (const found of [
    [member, ...strangers],
    [...strangers, { nodeId: undefined, endpoint: '127.0.0.1:70' }],
    [],
  ]) {
    for (const changed of listeners) changed(found);
    await cluster.run(2 * electionMs);
    for (const nodeId of cluster.nodeIds) {
      const { roster, partitions } = cluster.node(nodeId).status();
      assert.deepEqual(
        roster.map((one) => one.nodeId),
        ['a', 'b', 'c'],
      );
      for (const { confState } of partitions) assert.deepEqual(confState.voters, [1, 2, 3]);
    }
    await cluster.drive(cluster.node('b').replicate(1, 'put', text('still a quorum of three')));
  }
  // Two of three are a quorum, one is none: nothing that was found counts.
  cluster.isolate(['a']);
  await cluster.until(() => !cluster.node('a').isLeader(1), 'the lone node steps down');
  await cluster.drive(cluster.node(await othersLeader(cluster)).replicate(1, 'put', text('two')));
});

async function othersLeader(cluster: NodeCluster): Promise<string> {
  const found = (): string | undefined => ['b', 'c'].find((id) => cluster.node(id).isLeader(1));
  await cluster.until(() => found() !== undefined, 'the other two have a leader');
  return found() ?? '';
}

interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** Default: that of the bytes. */
  readonly checksum?: number;
}

interface SentSnapshot {
  readonly byteLength: number;
  /** Default: that of all pieces. */
  readonly checksum?: number;
  readonly pieces: readonly Piece[];
  /** Parts besides the machine's. */
  readonly parts?: SnapshotDescriptor['parts'];
}

/** An announcement of a snapshot to replica 1, and pieces of it, as member c could send them. */
async function sendSnapshot(cluster: NodeCluster, sent: SentSnapshot): Promise<void> {
  const status = cluster.node('a').status().partitions[1];
  const { byteLength, pieces, parts = [] } = sent;
  const send = (item: FrameItem): void => {
    cluster.seat('c').transport?.send('a', 'bulk', { timestamp: 1, items: [item] });
  };
  let wholeChecksum = 0;
  for (const { bytes } of pieces) wholeChecksum = crc32(bytes, wholeChecksum);
  const index = (status?.lastIndex ?? 0) + 1_000;
  const checksum = sent.checksum ?? wholeChecksum;
  const data = encodeDescriptor({
    stored: { name: 'any', byteLength, checksum },
    clock: 1,
    machineIndex: index,
    parts: [{ name: 'machine', byteLength }, ...parts],
  });
  send({
    kind: 'raft',
    partitionId: 1,
    message: {
      type: 'installSnapshot',
      from: 3,
      to: 1,
      term: status?.term ?? 0,
      snapshot: {
        index,
        term: status?.term ?? 0,
        confState: status?.confState ?? assert.fail('partition 1 is there'),
        data,
      },
    },
  });
  await cluster.run(1);
  const snapshot = { index, byteLength, checksum };
  for (const { offset, bytes, checksum: pieceChecksum = crc32(bytes) } of pieces) {
    send({
      kind: 'snapshotPiece',
      partitionId: 1,
      snapshot,
      offset,
      checksum: pieceChecksum,
      bytes,
    });
    await cluster.run(1);
  }
}

const restored = async (sent: SentSnapshot): Promise<number> => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('c');
  await cluster.drive(cluster.node('c').replicate(1, 'put', text('x')));
  await cluster.converge();
  const before = cluster.journal('a').restoreCount;
  await sendSnapshot(cluster, sent);
  await cluster.run(2 * electionMs);
  await cluster.drive(cluster.node('c').replicate(1, 'put', text('the group goes on')));
  return cluster.journal('a').restoreCount - before;
};

test('pieces of a snapshot that are too many, too large, damaged or of nothing are not taken', async () => {
  const state = text('[]');
  const whole = { offset: 0, bytes: state };
  const first = { offset: 0, bytes: text('[') };
  const last = { offset: 1, bytes: text(']') };
  const nothing = { offset: 0, bytes: text('') };
  const checksum = crc32(state);
  for (const [what, sent] of Object.entries({
    'one piece': { byteLength: 2, pieces: [whole] },
    'two pieces': { byteLength: 2, pieces: [first, last] },
    'pieces twice': { byteLength: 2, checksum, pieces: [first, first, last, last] },
    'a piece of nothing first': { byteLength: 2, pieces: [nothing, first, last] },
  })) {
    assert.equal(await restored(sent), 1, what);
  }
  for (const [what, sent] of Object.entries({
    'a hole': { byteLength: 3, pieces: [first, { ...last, offset: 2 }] },
    'more than the total': { byteLength: 2, pieces: [first, { ...last, bytes: text(']]') }] },
    'less than the total': { byteLength: 3, pieces: [first, last] },
    'a damaged piece': { byteLength: 2, pieces: [first, { ...last, checksum: 1 }] },
    'another whole': { byteLength: 2, checksum: 1, pieces: [first, last] },
    'a piece that is too large': {
      byteLength: 262_145,
      pieces: [{ offset: 0, bytes: new Uint8Array(262_145).fill(0x20) }],
    },
  })) {
    assert.equal(await restored(sent), 0, what);
  }
});

for (const [what, sent, isRefused] of [
  ['1 TiB', { byteLength: 2 ** 40 }, false],
  ['more than 1 TiB', { byteLength: 2 ** 40 + 1 }, true],
  ['parts unknown', { byteLength: 4, parts: [{ name: 'later', byteLength: 0 }] }, true],
] as const) {
  test(`a snapshot of ${what} is ${isRefused ? 'refused' : 'taken'} at its announcement`, async () => {
    await using cluster = nodeCluster();
    await cluster.openAll();
    await cluster.makeLeader('c');
    await cluster.drive(cluster.node('c').replicate(1, 'put', text('x')));
    await cluster.converge();
    let refusedCount = 0;
    cluster.network.dropWhen(({ from, frame }) => {
      for (const item of frame.items) {
        if (from !== 'a' || item.kind !== 'raft') continue;
        if (item.message.type === 'appendEntriesResponse' && item.message.rejected)
          refusedCount += 1;
      }
      return false;
    });
    await sendSnapshot(cluster, { ...sent, pieces: [] });
    await cluster.run(electionMs);
    assert.equal(refusedCount, isRefused ? 1 : 0);
  });
}
