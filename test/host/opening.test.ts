// Opening a node: an open that fails leaves nothing behind, and what discovery says later cannot stop a node.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError, KommanderError } from '../../src/base/errors.ts';
import { staticDiscovery } from '../../src/discovery/static.ts';
import { openNode } from '../../src/host/node.ts';
import type { DiscoveredNode, Discovery } from '../../src/ports/discovery.ts';
import type { Transport } from '../../src/ports/transport.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { nodeCluster, testSettings, text } from '../support/node-cluster.ts';

/** A transport that refuses one endpoint, and counts how often it is closed. */
function pickyTransport(inner: Transport, refused: string): Transport & { closeCount(): number } {
  let closed = 0;
  return {
    open: (context) => inner.open(context),
    setPeer(peer, endpoint) {
      if (endpoint !== refused) return inner.setPeer(peer, endpoint);
      throw new KommanderError('the endpoint is malformed', { code: 'INVALID_OPTION' });
    },
    send: (peer, lane, frame) => inner.send(peer, lane, frame),
    async close() {
      closed += 1;
      await inner.close();
    },
    closeCount: () => closed,
  };
}

/** A discovery that says what a test tells it. */
function toldDiscovery(): Discovery & { tell(nodes: readonly DiscoveredNode[]): void } {
  let changed: ((nodes: readonly DiscoveredNode[]) => void) | undefined;
  return {
    async open(listener) {
      changed = listener;
    },
    async close() {},
    tell: (nodes) => changed?.(nodes),
  };
}

test('an open that fails releases the transport, the store and the discovery', async () => {
  await using cluster = nodeCluster();
  const transport = pickyTransport(cluster.network.transport(), cluster.seat('b').endpoint);
  let isDiscoveryClosed = false;
  const discovery: Discovery = {
    open: async () => {},
    async close() {
      isDiscoveryClosed = true;
      throw new Error('the registry is down');
    },
  };
  const error = await cluster.driveFailure(cluster.open('a', { transport, discovery }));
  assert.equal(error.message, 'the endpoint is malformed', 'not what failed while tidying up');
  assert.equal(transport.closeCount(), 1);
  assert.equal(isDiscoveryClosed, true);
  // Store and port are free, and no turn of the node that failed touches them.
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
});

test('a malformed endpoint that a discovery comes up with later is reported, and other peers get theirs', async () => {
  await using cluster = nodeCluster();
  const discovery = toldDiscovery();
  const inner = cluster.network.transport();
  const transport = pickyTransport(inner, 'nonsense');
  const given: (readonly [string, string | undefined])[] = [];
  const observed = {
    ...transport,
    setPeer(peer: string, endpoint: string | undefined) {
      transport.setPeer(peer, endpoint);
      given.push([peer, endpoint]);
    },
  };
  await cluster.open('a', { transport: observed, discovery });
  given.length = 0;
  discovery.tell([
    { nodeId: 'b', endpoint: 'nonsense' },
    { nodeId: 'c', endpoint: '127.0.0.1:33' },
  ]);
  assert.deepEqual(given, [['c', '127.0.0.1:33']]);
  const refusals = cluster.seat('a').observed.filter(({ name }) => name === 'endpoint-refused');
  assert.deepEqual(
    refusals.map(({ fields }) => fields.peer),
    ['b'],
  );
});

test('a partition that vanished from the store is not made anew: it would vote again where it has voted', async () => {
  await using cluster = nodeCluster({ nodes: 1, partitions: 2 });
  await cluster.openAll();
  await cluster.leader(1);
  await cluster.leader(2);
  await cluster.close('a');
  const wal = memoryWal();
  await wal.open();
  for (const { writes, ...batch } of cluster.seat('a').disk.batches) {
    const others = writes.filter(({ partitionId }) => partitionId !== 2);
    await wal.write({ ...batch, writes: others });
  }
  await wal.close();
  const opening = openNode({
    ...testSettings,
    nodeId: 'a',
    listen: 'elsewhere:1',
    members: { a: cluster.seat('a').endpoint },
    partitions: 2,
    wal,
    transport: cluster.network.transport(),
    discovery: staticDiscovery({ a: cluster.seat('a').endpoint }),
    clock: cluster.time,
  });
  await assert.rejects(cluster.drive(opening), (error) => {
    assert.ok(isKommanderError(error, 'WAL_CORRUPT'), String(error));
    assert.equal(error.details.partitionId, 2);
    return true;
  });
});
