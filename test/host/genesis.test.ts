// The birth of a cluster: only all of its first members together, each with its own disk, and only once.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { staticDiscovery } from '../../src/discovery/static.ts';
import { openNode } from '../../src/host/node.ts';
import type { GenesisItem } from '../../src/ports/transport.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { ackOf } from '../support/core-messages.ts';
import { fakeMember } from '../support/fake-member.ts';
import { electionMs, nodeCluster, testSettings, text } from '../support/node-cluster.ts';

const state = (cluster: ReturnType<typeof nodeCluster>, nodeId: string): string =>
  cluster.node(nodeId).status().state;

test('a cluster forms only when all of its first members have accepted', async () => {
  await using cluster = nodeCluster();
  await cluster.open('a');
  await cluster.open('b');
  await cluster.run(50 * electionMs);
  for (const nodeId of ['a', 'b']) {
    assert.equal(state(cluster, nodeId), 'forming');
    assert.equal(cluster.node(nodeId).leaderOf(1), undefined);
    for (const partition of cluster.node(nodeId).status().partitions) {
      assert.equal(partition.term, 0, 'nobody campaigns before');
    }
  }
  const early = await cluster.driveFailure(cluster.node('a').replicate(1, 'put', text('x')));
  assert.equal(early.code, 'NO_LEADER');
  await cluster.open('c');
  await cluster.leader();
  for (const nodeId of cluster.nodeIds) assert.equal(state(cluster, nodeId), 'running');
});

test('a cluster of one forms by itself', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.drive(
    cluster
      .node('a')
      .replicate(1, 'put', text('x'))
      .catch(() => {}),
  );
  assert.equal(await cluster.leader(), 'a');
});

test('a lost genesis message is repeated', async () => {
  await using cluster = nodeCluster();
  let lostCount = 0;
  cluster.network.dropWhen(
    ({ frame }) => frame.items.some((item) => item.kind === 'genesis') && ++lostCount <= 20,
  );
  await cluster.openAll();
  await cluster.leader();
  assert.ok(lostCount > 20);
});

test('nodes with different member lists refuse each other', async () => {
  await using cluster = nodeCluster();
  const two = { a: '127.0.0.1:1', b: '127.0.0.1:2' };
  await cluster.open('a');
  await cluster.open('b', { members: two });
  await cluster.open('c');
  await cluster.run(20 * electionMs);
  for (const nodeId of cluster.nodeIds) assert.equal(state(cluster, nodeId), 'forming');
  const ids = cluster.nodeIds.map((nodeId) => cluster.node(nodeId).status().clusterId);
  assert.equal(ids[0], ids[2]);
  assert.notEqual(ids[0], ids[1]);
  assert.ok(cluster.seat('b').observed.some(({ level }) => level === 'warn' || level === 'error'));
});

test('nodes with different numbers of partitions refuse each other', async () => {
  await using cluster = nodeCluster();
  await cluster.open('a');
  await cluster.open('b', { partitions: 2 });
  await cluster.open('c');
  await cluster.run(20 * electionMs);
  for (const nodeId of cluster.nodeIds) assert.equal(state(cluster, nodeId), 'forming');
});

test('a node may crash at any moment of the forming, and the cluster forms when it is back', async () => {
  for (let moment = 0; moment < 12; moment++) {
    await using cluster = nodeCluster({ seed: moment + 1 });
    await cluster.open('a');
    await cluster.open('b');
    const opening = cluster.open('c');
    await opening;
    await cluster.run(moment);
    await cluster.crash('b');
    await cluster.open('b');
    await cluster.leader();
    await cluster.drive(cluster.node('b').replicate(1, 'put', text('x')));
  }
});

test('all members may crash while the cluster forms', async () => {
  await using cluster = nodeCluster();
  await cluster.open('a');
  await cluster.open('b');
  await cluster.run(30);
  await cluster.crash('a');
  await cluster.crash('b');
  await cluster.open('c');
  await cluster.run(30);
  await cluster.open('a');
  await cluster.run(30);
  await cluster.open('b');
  await cluster.leader();
});

test('a formed cluster starts again without all of its members', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.leader();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.converge();
  for (const nodeId of cluster.nodeIds) await cluster.crash(nodeId);
  await cluster.open('a');
  await cluster.open('c');
  await cluster.leader();
  await cluster.drive(cluster.node('c').replicate(1, 'put', text('y')));
  assert.deepEqual(
    cluster.journal('c').entries.map((entry) => entry.text),
    ['x', 'y'],
  );
  await cluster.open('b');
  await cluster.converge();
  assert.equal(cluster.journal('b').entries.length, 2);
});

test('a node whose disk was emptied is told so and takes no part', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.leader();
  await cluster.crash('c');
  await cluster.seat('c').disk.wipe();
  const wiped = await cluster.open('c');
  await cluster.until(() => wiped.status().state === 'refused', 'the node is told');
  const error = await cluster.driveFailure(wiped.replicate(1, 'put', text('x')));
  assert.equal(error.code, 'NODE_WIPED');
  const report = cluster.seat('c').observed.find(({ name }) => name === 'node-refused');
  assert.ok(report !== undefined);
  // The others go on, and the error says whose directory it is.
  await cluster.leader();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('y')));
  assert.match(error.message, /"c"/);
});

test('a node whose disk was emptied counts neither as a voter nor as a copy', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.converge();
  await cluster.crash('b');
  await cluster.crash('c');
  await cluster.seat('c').disk.wipe();
  // What the others would tell the emptied node is lost: it believes in a new cluster as long as it can.
  cluster.network.setLink('a', 'c', 'drop');
  await cluster.open('c');
  const write = cluster.node('a').replicate(1, 'put', text('y'));
  assert.equal((await cluster.driveFailure(write)).code, 'PROPOSAL_TIMEOUT');
  await cluster.run(20 * electionMs);
  assert.equal(cluster.node('a').isLeader(1), false, 'one of three is no quorum');
  assert.equal(state(cluster, 'c'), 'forming');
});

test('two emptied disks of three do not make a new cluster', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.leader();
  for (const nodeId of cluster.nodeIds) await cluster.crash(nodeId);
  for (const nodeId of ['b', 'c']) await cluster.seat(nodeId).disk.wipe();
  await cluster.open('b');
  await cluster.open('c');
  await cluster.run(20 * electionMs);
  assert.equal(state(cluster, 'b'), 'forming');
  await cluster.open('a');
  await cluster.run(20 * electionMs);
  assert.equal(state(cluster, 'b'), 'refused');
  assert.equal(state(cluster, 'c'), 'refused');
  assert.equal(cluster.node('a').leaderOf(1), undefined);
});

test('a node that was refused does not form a cluster with those who do not know of it yet', async () => {
  await using cluster = nodeCluster();
  const { network } = cluster;
  await cluster.open('a');
  await cluster.open('b');
  await cluster.run(electionMs);
  await cluster.crash('b');
  await cluster.seat('b').disk.wipe();
  // The emptied node hears a, which goes on knowing the directory of before and completes the genesis with it.
  network.setLink('b', 'a', 'drop');
  network.setLink('a', 'c', 'drop');
  network.setLink('c', 'b', 'drop');
  await cluster.open('b');
  await cluster.run(electionMs);
  await cluster.open('c');
  await cluster.until(() => state(cluster, 'a') === 'running', 'a has all acceptances');
  network.setLink('a', 'b', 'cut');
  await cluster.run(electionMs);
  network.setLink('a', 'b', 'up');
  await cluster.until(() => state(cluster, 'b') === 'refused', 'b is told');
  network.setLink('c', 'b', 'up');
  await cluster.run(5 * electionMs);
  assert.equal(state(cluster, 'c'), 'forming');
  assert.equal(state(cluster, 'b'), 'refused');
});

test('a member that comes back with another disk is not listened to, though nobody has told it yet', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const said: GenesisItem[] = [];
  cluster.network.dropWhen(({ from, frame }) => {
    if (from !== 'c') return false;
    for (const item of frame.items) if (item.kind === 'genesis') said.push(item);
    return false;
  });
  await cluster.restart('c');
  await cluster.run(electionMs);
  cluster.network.dropWhen(undefined);
  const [own = assert.fail('c has introduced itself')] = said;
  const acceptances = own.acceptances.map(({ nodeId, nonce, replicaId }) => ({
    nodeId,
    replicaId,
    nonce: nodeId === 'c' ? 'of an emptied disk' : nonce,
  }));
  for (const isKnown of [true, false]) {
    const c = await fakeMember(cluster, 'c');
    c.say('a', isKnown ? own : { ...own, acceptances });
    // An answer of a later term ends the leadership of whoever listens.
    const { term } = cluster.node('a').status().partitions[1] ?? { term: 0 };
    c.tell('a', ackOf({ from: 3, to: 1, term: term + 10 }, 0));
    await cluster.run(testSettings.tickMs);
    assert.equal(cluster.node('a').isLeader(1), !isKnown);
    const reports = cluster.seat('a').observed.filter(({ name }) => name === 'peer-replaced');
    assert.equal(reports.length, isKnown ? 0 : 1);
    await cluster.crash('c');
    await cluster.makeLeader('a');
  }
});

test('a restart with other members, another partition count or another node id is refused', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.leader();
  await cluster.crash('a');
  const members = { a: '127.0.0.1:1', b: '127.0.0.1:2', c: '127.0.0.1:3' };
  const refused: readonly [object, string][] = [
    [{ members: { a: members.a, b: members.b } }, 'members'],
    [{ members: { ...members, d: '127.0.0.1:4' } }, 'members'],
    [{ partitions: 2 }, 'partitions'],
    [{ nodeId: 'd', members: { ...members, d: '127.0.0.1:4' } }, 'nodeId'],
  ];
  for (const [settings, option] of refused) {
    const error = await cluster.driveFailure(cluster.open('a', settings));
    assert.equal(error.code, 'INVALID_OPTION');
    assert.equal((error as { details?: { option?: string } }).details?.option, option);
  }
  // Nothing of that has left a mark.
  await cluster.open('a');
  await cluster.leader();
});

test('a member may come back at another endpoint', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.leader();
  for (const nodeId of cluster.nodeIds) await cluster.crash(nodeId);
  const members = { a: '127.0.0.1:1', b: '127.0.0.1:2', c: '127.0.0.1:33' };
  const discovery = staticDiscovery(members);
  const open = { members };
  await cluster.open('a', { ...open, discovery });
  await cluster.open('b', { ...open, discovery: staticDiscovery(members) });
  await cluster.open('c', {
    ...open,
    listen: '127.0.0.1:33',
    discovery: staticDiscovery(members),
  });
  await cluster.leader();
  const roster = cluster.node('a').status().roster;
  assert.deepEqual(
    roster.map((member) => member.reachable),
    [true, true, true],
  );
});

test('members are found by discovery when none are given', async () => {
  await using cluster = nodeCluster({ settings: {} });
  const members = { a: '127.0.0.1:1' };
  const open = (discovery: ReturnType<typeof staticDiscovery>): Promise<unknown> =>
    openNode({
      nodeId: 'a',
      listen: '127.0.0.1:1',
      wal: memoryWal(),
      transport: cluster.network.transport(),
      discovery,
      clock: cluster.time,
      seed: 1,
      ...testSettings,
    });
  // Addresses alone make nobody a member.
  const error = await cluster.driveFailure(open(staticDiscovery(['127.0.0.1:1'])));
  assert.equal(error.code, 'INVALID_OPTION');
  await cluster.drive(open(staticDiscovery(members)));
});

test('a node that is no member is not listened to, whatever it says', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { clusterId } = cluster.node('a').status();
  const stranger = cluster.network.transport();
  await stranger.open({
    identity: { clusterId, nodeId: 'x', incarnation: 1, startId: 'one' },
    listen: '127.0.0.1:99',
    clock: cluster.time,
    observer: () => {},
    status: { statusJson: () => '' },
    receive: () => {},
    reachable: () => {},
    refused: () => {},
  });
  stranger.setPeer('a', '127.0.0.1:1');
  await cluster.time.settle();
  const timestamp = 1;
  const { term } = cluster.node('a').status().partitions[1] ?? { term: 0 };
  const recordHash = clusterId.padEnd(64, '0');
  const items = [
    // A vote request of a far higher term, in the name of a member; a claim that our disk is not the right one.
    {
      kind: 'raft' as const,
      partitionId: 1,
      message: {
        type: 'appendEntries' as const,
        from: 2,
        to: 1,
        term: term + 100,
        prevLogIndex: 0,
        prevLogTerm: 0,
        entries: [],
        leaderCommit: 0,
      },
    },
    {
      kind: 'genesis' as const,
      recordHash,
      complete: true,
      acceptances: [
        { nodeId: 'x', nonce: 'n', replicaId: 4 },
        { nodeId: 'a', nonce: 'not yours', replicaId: 1 },
      ],
      endpoint: undefined,
    },
    { kind: 'propose' as const, partitionId: 1, requestId: 1, payloads: [] },
  ];
  for (const item of items) {
    assert.equal(stranger.send('a', 'bulk', { timestamp, items: [item] }), true);
  }
  // The record's true hash is no secret.
  const hashes = new Set<string>();
  cluster.network.dropWhen(({ from, frame }) => {
    for (const item of from === 'x' ? [] : frame.items)
      if (item.kind === 'genesis') hashes.add(item.recordHash);
    return false;
  });
  await cluster.restart('b');
  await cluster.run(50);
  cluster.network.dropWhen(undefined);
  const [trueHash = ''] = hashes;
  assert.equal(trueHash.slice(0, 32), clusterId);
  const lie = { ...items[1], recordHash: trueHash } as (typeof items)[1];
  assert.equal(stranger.send('a', 'control', { timestamp, items: [lie] }), true);
  await cluster.run(50);
  assert.equal(cluster.node('a').isLeader(1), true);
  assert.equal(cluster.node('a').status().partitions[1]?.term, term);
  assert.equal(state(cluster, 'a'), 'running');
});

test('a member speaks for its own replica only', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { term } = cluster.node('a').status().partitions[1] ?? { term: 0 };
  const transport = cluster.seat('c').transport;
  for (const [from, to] of [
    [2, 1],
    [1, 1],
    [3, 2],
  ] as const) {
    transport?.send('a', 'control', {
      timestamp: 1,
      items: [
        {
          kind: 'raft',
          partitionId: 1,
          message: {
            type: 'heartbeat',
            from,
            to,
            term: term + 9,
            leaderCommit: 0,
            readRound: undefined,
          },
        },
      ],
    });
  }
  await cluster.run(30);
  assert.equal(cluster.node('a').status().partitions[1]?.term, term);
  assert.equal(cluster.node('a').isLeader(1), true);
});

test('the roster and the partition map are replicated state of partition 0', async () => {
  await using cluster = nodeCluster({ partitions: 5 });
  await cluster.openAll();
  await cluster.leader(0);
  await cluster.converge(0);
  for (const nodeId of cluster.nodeIds) {
    const { roster, partitions } = cluster.node(nodeId).status();
    assert.deepEqual(
      roster.map((member) => member.nodeId),
      ['a', 'b', 'c'],
    );
    assert.equal(partitions.length, 6);
    assert.ok((partitions[0]?.lastApplied ?? 0) >= 2, 'the genesis entry stands in the log');
  }
});

test('partitionOf covers all partitions and is the same on all nodes', async () => {
  await using cluster = nodeCluster({ partitions: 7 });
  await cluster.openAll();
  await cluster.leader(0);
  const seen = new Set<number>();
  for (let i = 0; i < 500; i++) {
    const owners = cluster.nodeIds.map((nodeId) => cluster.node(nodeId).partitionOf(`key ${i}`));
    assert.equal(new Set(owners).size, 1);
    seen.add(owners[0] ?? 0);
    assert.equal(cluster.node('a').partitionOf(text(`key ${i}`)), owners[0]);
  }
  assert.deepEqual(
    [...seen].sort((a, b) => a - b),
    [1, 2, 3, 4, 5, 6, 7],
  );
  assert.deepEqual(cluster.node('b').partitionIds(), [0, 1, 2, 3, 4, 5, 6, 7]);
});

test('every start of a node has a higher incarnation', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  const seen: number[] = [];
  for (let i = 0; i < 4; i++) {
    const node = await cluster.restart('a');
    seen.push(node.status().incarnation);
  }
  assert.deepEqual(seen, [1, 2, 3, 4]);
});

test('a member that moved tells its peers where it is reached now', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.leader();
  await cluster.close('b');
  const moved = '127.0.0.1:7777';
  const node = await cluster.open('b', { listen: moved, advertise: moved });
  await cluster.until(
    () =>
      cluster
        .node('a')
        .status()
        .roster.every(({ reachable }) => reachable),
    'everybody reaches everybody',
  );
  await cluster.drive(node.replicate(1, 'put', text('from the new place')));
  await cluster.converge();
});
