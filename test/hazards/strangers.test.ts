// Hazards 12, 47 and 55, seen from outside: what discovery reports and what a peer sends beyond the agreed makes neither
// voters nor memory grow.

import assert from 'node:assert/strict';
import { test } from 'node:test';
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

/** An announcement of a snapshot to replica 1, and pieces of it, as member c could send them. */
async function sendSnapshot(
  cluster: NodeCluster,
  pieces: readonly { offset: number; totalBytes: number; bytes: Uint8Array }[],
): Promise<void> {
  const status = cluster.node('a').status().partitions[1];
  const send = (item: FrameItem): void => {
    cluster.seat('c').transport?.send('a', 'bulk', { timestamp: 1, items: [item] });
  };
  send({
    kind: 'raft',
    partitionId: 1,
    message: {
      type: 'installSnapshot',
      from: 3,
      to: 1,
      term: status?.term ?? 0,
      snapshot: {
        index: (status?.lastIndex ?? 0) + 1_000,
        term: status?.term ?? 0,
        confState: status?.confState ?? assert.fail('partition 1 is there'),
        data: new Uint8Array(0),
      },
    },
  });
  for (const piece of pieces) {
    send({ kind: 'snapshotPiece', partitionId: 1, transferId: 1, ...piece });
    await cluster.run(1);
  }
}

const restored = async (
  pieces: readonly { offset: number; totalBytes: number; bytes: Uint8Array }[],
): Promise<number> => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('c');
  await cluster.drive(cluster.node('c').replicate(1, 'put', text('x')));
  await cluster.converge();
  const before = cluster.journal('a').restoreCount;
  await sendSnapshot(cluster, pieces);
  await cluster.run(2 * electionMs);
  await cluster.drive(cluster.node('c').replicate(1, 'put', text('the group goes on')));
  return cluster.journal('a').restoreCount - before;
};

test('pieces of a snapshot that are too many, too large or of other totals are given up', async () => {
  const state = text('[]');
  const whole = { offset: 0, totalBytes: state.byteLength, bytes: state };
  assert.equal(await restored([whole]), 1, 'a snapshot that fits is taken');
  const first = { offset: 0, totalBytes: 2, bytes: text('[') };
  const last = { offset: 1, totalBytes: 2, bytes: text(']') };
  assert.equal(await restored([first, last]), 1);
  const nothing = { ...first, bytes: new Uint8Array(0) };
  for (const [what, pieces] of Object.entries({
    'more than 1 GiB': [{ ...first, totalBytes: 2 ** 30 + 1 }, last],
    'a hole': [first, { ...last, offset: 2, totalBytes: 3 }],
    'more than the total': [first, { ...last, bytes: text(']]') }],
    'another total': [first, { ...last, totalBytes: 3 }, { ...last, offset: 2, totalBytes: 3 }],
    'pieces of nothing': [nothing, first, last],
  })) {
    assert.equal(await restored(pieces), 0, what);
  }
});

test('a snapshot that is larger than a node takes is refused at its first piece', async () => {
  for (const totalBytes of [2 ** 30, 2 ** 30 + 1]) {
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
    await sendSnapshot(cluster, [{ offset: 0, totalBytes, bytes: text('[') }]);
    await cluster.run(electionMs);
    assert.equal(refusedCount, totalBytes > 2 ** 30 ? 1 : 0, `${totalBytes} bytes`);
  }
});
