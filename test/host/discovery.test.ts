// Nodes that find each other little by little: the first members are named by id, discovery says where they are, and
// nothing that it says makes or unmakes a member (hazard 12).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DynamicDiscovery, dynamicDiscovery } from '../../src/discovery/dynamic.ts';
import type { NodeOptions } from '../../src/host/api.ts';
import { openNode } from '../../src/host/node.ts';
import type { DiscoveryContext } from '../../src/ports/discovery.ts';
import type { Transport } from '../../src/ports/transport.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import {
  electionMs,
  type NodeCluster,
  nodeCluster,
  testSettings,
  text,
} from '../support/node-cluster.ts';

const members = ['a', 'b', 'c'];

/** Three seats whose nodes know of nobody, and the discovery of each. */
function strangers(): {
  readonly cluster: NodeCluster;
  readonly found: Map<string, DynamicDiscovery>;
} {
  return { cluster: nodeCluster({ settings: { members } }), found: new Map() };
}

async function openAlone(
  { cluster, found }: ReturnType<typeof strangers>,
  nodeId: string,
  settings: Partial<NodeOptions> = {},
): Promise<DynamicDiscovery> {
  const discovery = dynamicDiscovery();
  found.set(nodeId, discovery);
  await cluster.open(nodeId, { discovery, ...settings });
  return discovery;
}

/** `nodeId` finds `other` where its seat is. */
function find(nodes: ReturnType<typeof strangers>, nodeId: string, other: string): void {
  nodes.found.get(nodeId)?.add({ nodeId: other, endpoint: nodes.cluster.seat(other).endpoint });
}

function statesOf(cluster: NodeCluster): string[] {
  return cluster.nodeIds.map((nodeId) => cluster.node(nodeId).status().state);
}

function rosterOf(cluster: NodeCluster, nodeId: string): string {
  const { roster } = cluster.node(nodeId).status();
  return roster.map((member) => `${member.nodeId}=${member.endpoint}`).join(' ');
}

test('members that are named by id form their cluster when all have found each other, and not before', async () => {
  const nodes = strangers();
  await using cluster = nodes.cluster;
  for (const nodeId of members) await openAlone(nodes, nodeId);
  await cluster.run(20 * electionMs);
  assert.deepEqual(statesOf(cluster), ['forming', 'forming', 'forming']);
  assert.equal(rosterOf(cluster, 'a'), 'a=127.0.0.1:1 b=undefined c=undefined');
  find(nodes, 'a', 'b');
  find(nodes, 'b', 'a');
  await cluster.run(20 * electionMs);
  assert.deepEqual(statesOf(cluster), ['forming', 'forming', 'forming'], 'two are not three');
  for (const nodeId of members) {
    for (const { term } of cluster.node(nodeId).status().partitions) assert.equal(term, 0);
  }
  for (const nodeId of members) for (const other of members) find(nodes, nodeId, other);
  await cluster.leader();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('together')));
  assert.deepEqual(statesOf(cluster), ['running', 'running', 'running']);
  assert.equal(rosterOf(cluster, 'a'), 'a=127.0.0.1:1 b=127.0.0.1:2 c=127.0.0.1:3');
});

test('one that is found and not named is no voter, whatever it believes itself', async () => {
  const nodes = strangers();
  await using cluster = nodes.cluster;
  for (const nodeId of members) await openAlone(nodes, nodeId);
  const seats = members.map((nodeId) => ({ nodeId, endpoint: cluster.seat(nodeId).endpoint }));
  const everybody = [...seats, { nodeId: 'x', endpoint: '127.0.0.1:99' }];
  const discovery = dynamicDiscovery();
  for (const node of everybody) discovery.add(node);
  const stranger = await cluster.drive(
    openNode({
      nodeId: 'x',
      listen: '127.0.0.1:99',
      members: [...members, 'x'],
      wal: memoryWal(),
      transport: cluster.network.transport(),
      discovery,
      clock: cluster.time,
      seed: 7,
      ...testSettings,
    }),
  );
  for (const nodeId of members) for (const node of everybody) nodes.found.get(nodeId)?.add(node);
  await cluster.leader();
  await cluster.run(20 * electionMs);
  for (const nodeId of members) {
    const { roster, partitions } = cluster.node(nodeId).status();
    assert.deepEqual(
      roster.map((member) => member.nodeId),
      members,
    );
    for (const { confState } of partitions) assert.deepEqual(confState.voters, [1, 2, 3]);
  }
  assert.equal(stranger.status().state, 'forming');
  await cluster.drive(stranger.close());
});

test('a node that is found and not named is not even connected to', async () => {
  const nodes = strangers();
  await using cluster = nodes.cluster;
  const inner = cluster.network.transport();
  const peers: string[] = [];
  const transport: Transport = {
    ...inner,
    setPeer(peer, endpoint) {
      peers.push(peer);
      inner.setPeer(peer, endpoint);
    },
  };
  const discovery = await openAlone(nodes, 'a', { transport });
  for (const nodeId of ['a', 'b', 'x']) discovery.add({ nodeId, endpoint: `${nodeId}.example:1` });
  assert.deepEqual(peers, ['b']);
});

test('nodes with members by id and members with endpoints refuse each other: the list is the same on every node', async () => {
  const nodes = strangers();
  await using cluster = nodes.cluster;
  const withEndpoints = { a: '127.0.0.1:1', b: '127.0.0.1:2', c: '127.0.0.1:3' };
  await openAlone(nodes, 'a');
  await openAlone(nodes, 'b');
  await openAlone(nodes, 'c', { members: withEndpoints });
  for (const nodeId of members) for (const other of members) find(nodes, nodeId, other);
  await cluster.run(20 * electionMs);
  assert.deepEqual(statesOf(cluster), ['forming', 'forming', 'forming']);
});

test('without members a discovery that finds nodes names none, however many it knows', async () => {
  await using cluster = nodeCluster();
  for (const found of [{}, { a: '127.0.0.1:1' }, { a: '127.0.0.1:1', b: '127.0.0.1:2' }]) {
    const error = await cluster.driveFailure(
      openNode({
        nodeId: 'a',
        listen: '127.0.0.1:1',
        wal: memoryWal(),
        transport: cluster.network.transport(),
        discovery: dynamicDiscovery(found),
        clock: cluster.time,
        seed: 1,
        ...testSettings,
      }),
    );
    assert.equal(error.code, 'INVALID_OPTION');
    assert.match(error.message, /option members is missing: name all first members/);
  }
});

test('a node with a stored state needs no list: it knows its members', async () => {
  const nodes = strangers();
  await using cluster = nodes.cluster;
  for (const nodeId of members) await openAlone(nodes, nodeId);
  for (const nodeId of members) for (const other of members) find(nodes, nodeId, other);
  await cluster.leader();
  await cluster.crash('c');
  const refused = await cluster.driveFailure(openAlone(nodes, 'c', { members: ['c', 'd'] }));
  assert.match(refused.message, /lists c, d, but the cluster was formed by a, b, c/);
  await openAlone(nodes, 'c', { members: undefined } as object);
  for (const other of members) find(nodes, 'c', other);
  await cluster.converge();
});

test('of where a member is the latest word counts: of discovery when it says something new, of the member when it connects', async () => {
  const nodes = strangers();
  await using cluster = nodes.cluster;
  for (const nodeId of members) await openAlone(nodes, nodeId);
  for (const nodeId of members) for (const other of members) find(nodes, nodeId, other);
  await cluster.leader();
  const moved = '127.0.0.1:33';
  await cluster.crash('c');
  await openAlone(nodes, 'c', { listen: moved, advertise: moved });
  // a hears it from c itself, which finds a and b.
  find(nodes, 'c', 'a');
  await cluster.until(() => rosterOf(cluster, 'a').endsWith(`c=${moved}`), 'a knows where c is');
  // What discovery has said before is no news.
  nodes.found.get('a')?.add({ nodeId: 'other', endpoint: '127.0.0.1:77' });
  assert.ok(rosterOf(cluster, 'a').endsWith(`c=${moved}`));
  // One that discovery loses stays where it was.
  nodes.found.get('a')?.remove('c');
  assert.ok(rosterOf(cluster, 'a').endsWith(`c=${moved}`));
  // c comes back at its old place, knows nobody, and discovery says so.
  await cluster.crash('c');
  await openAlone(nodes, 'c');
  find(nodes, 'a', 'c');
  assert.ok(rosterOf(cluster, 'a').endsWith('c=127.0.0.1:3'));
  await cluster.until(
    () => cluster.node('a').status().roster[2]?.reachable === true,
    'a reaches c',
  );
});

test('discovery is opened when the node listens, and told who and where the node is', async () => {
  await using cluster = nodeCluster();
  const contexts: DiscoveryContext[] = [];
  const open = async (nodeId: string, settings: Partial<NodeOptions>): Promise<string> => {
    const discovery = {
      async open(_: unknown, context: DiscoveryContext) {
        contexts.push(context);
      },
      async close() {},
    };
    await cluster.restart(nodeId, { ...settings, discovery });
    return contexts.at(-1)?.self.endpoint ?? '';
  };
  const listed = { a: '127.0.0.1:9', b: '127.0.0.1:2', c: '127.0.0.1:3' };
  assert.equal(await open('a', { members }), '127.0.0.1:1', 'where it listens');
  await cluster.crash('a');
  assert.equal(await open('b', { members, advertise: 'b.example:2' }), 'b.example:2');
  assert.equal(await open('a', { members: listed }), '127.0.0.1:9', 'what its list says of it');
  assert.deepEqual(
    contexts.map(({ self }) => self.nodeId),
    ['a', 'b', 'a'],
  );
  assert.equal(
    new Set(contexts.map(({ self }) => self.startId)).size,
    3,
    'every start has its own',
  );
});

test('a discovery that cannot be opened fails the opening of the node, and everything is released', async () => {
  await using cluster = nodeCluster();
  const discovery = {
    async open() {
      throw new Error('no such interface');
    },
    async close() {},
  };
  const error = await cluster.driveFailure(cluster.open('a', { discovery }));
  assert.equal(error.message, 'no such interface');
  await cluster.openAll();
  await cluster.leader();
});
