// A member whose disk was emptied comes back as another replica: refused until an operator has it readmitted, a learner
// until it has caught up, then a voter. Whoever crashes meanwhile, the leaders go on; old disks stay outside.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { staticDiscovery } from '../../src/discovery/static.ts';
import type { KommanderNode, NodeStatus } from '../../src/host/api.ts';
import { openNode } from '../../src/host/node.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { journal } from '../support/journal.ts';
import {
  codeOf,
  electionMs,
  type NodeCluster,
  nodeCluster,
  testSettings,
  text,
} from '../support/node-cluster.ts';

/** The number of the node in place `place` after `times` readmissions. */
const numberOf = (place: number, times: number): number => place + 1_024 * times;

const memberOf = (node: KommanderNode, nodeId: string): NodeStatus['roster'][number] =>
  node.status().roster.find((member) => member.nodeId === nodeId) ?? assert.fail('a member');

/** Crashes the node, empties its disk, and starts it again; resolves when all others know. */
async function wipe(cluster: NodeCluster, nodeId: string): Promise<void> {
  if (cluster.seat(nodeId).node !== undefined) await cluster.crash(nodeId);
  await cluster.seat(nodeId).disk.wipe();
  const node = await cluster.open(nodeId);
  await cluster.until(() => node.status().state === 'refused', `${nodeId} is refused`);
}

/** The cluster, with the writes `count` in it, and node c emptied and refused. */
async function withWipedC(
  options: Parameters<typeof nodeCluster>[0] = {},
  count = 20,
): Promise<NodeCluster> {
  const cluster = nodeCluster(options);
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (let i = 0; i < count; i++) {
    await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${i}`)));
  }
  await cluster.converge();
  await wipe(cluster, 'c');
  return cluster;
}

function isDone(node: KommanderNode, nodeId: string): boolean {
  const { voterOf, readmittingIn } = memberOf(node, nodeId);
  return readmittingIn.length === 0 && voterOf.length === node.partitionIds().length;
}

async function untilDone(cluster: NodeCluster, nodeId: string): Promise<void> {
  await cluster.until(
    () =>
      [...cluster.seats.values()].every(({ node }) => node === undefined || isDone(node, nodeId)),
    `${nodeId} votes everywhere`,
  );
}

/** A node on a copy of the directory of `nodeId`, at another endpoint. */
async function copyOf(
  cluster: NodeCluster,
  nodeId: string,
  listen: string,
): Promise<KommanderNode> {
  const wal = memoryWal();
  await wal.open();
  for (const batch of cluster.seat(nodeId).disk.batches) await wal.write(batch);
  await wal.close();
  const members = Object.fromEntries(
    [...cluster.seats.values()].map((seat) => [seat.nodeId, seat.endpoint]),
  );
  return cluster.drive(
    openNode({
      nodeId,
      listen,
      members,
      wal,
      transport: cluster.network.transport(),
      discovery: staticDiscovery(members),
      clock: cluster.time,
      seed: 99,
      stateMachine: () => journal(),
      ...testSettings,
    }),
  );
}

function textsOf(cluster: NodeCluster, nodeId: string): string[] {
  return cluster.journal(nodeId).entries.map((entry) => entry.text);
}

test('an emptied member is readmitted: as another replica, with all data, and its vote counts', async () => {
  await using cluster = await withWipedC();
  assert.equal(memberOf(cluster.node('a'), 'c').refused, true);
  const { replicaId } = await cluster.drive(cluster.node('a').readmit('c'));
  assert.equal(replicaId, numberOf(3, 1));
  await untilDone(cluster, 'c');
  await cluster.converge();
  assert.deepEqual(textsOf(cluster, 'c'), textsOf(cluster, 'a'));
  assert.equal(memberOf(cluster.node('a'), 'c').refused, false);
  for (const nodeId of cluster.nodeIds) {
    for (const { confState } of cluster.node(nodeId).status().partitions) {
      assert.deepEqual(confState.voters, [1, 2, numberOf(3, 1)]);
      assert.deepEqual(confState.learners, []);
    }
  }
  await cluster.crash('a');
  await cluster.leader();
  await cluster.drive(cluster.node('c').replicate(1, 'put', text('without a')));
  await cluster.makeLeader('c');
});

test('a readmitted node is the same replica after a restart of any node', async () => {
  await using cluster = await withWipedC();
  await cluster.drive(cluster.node('b').readmit('c'));
  await untilDone(cluster, 'c');
  for (const nodeId of ['c', 'a', 'b', 'c']) {
    await cluster.restart(nodeId);
    await cluster.leader();
    assert.equal(memberOf(cluster.node(nodeId), 'c').replicaId, numberOf(3, 1));
    assert.equal(cluster.node(nodeId).status().state, 'running');
  }
  await cluster.drive(cluster.node('c').replicate(1, 'put', text('x')));
  await cluster.converge();
});

test('it comes in by a snapshot where the log is compacted', async () => {
  await using cluster = nodeCluster({ settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (let i = 0; i < 20; i++) {
    await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${i}`)));
  }
  for (const partitionId of [0, 1]) await cluster.drive(cluster.node('a').checkpoint(partitionId));
  await cluster.converge();
  await wipe(cluster, 'c');
  await cluster.drive(cluster.node('a').readmit('c'));
  await untilDone(cluster, 'c');
  await cluster.converge();
  const compacted = cluster
    .node('c')
    .status()
    .partitions.map((each) => each.compactedIndex);
  assert.ok(
    compacted.every((index) => index > 0),
    'both came as snapshots',
  );
  assert.deepEqual(
    cluster.node('c').status().partitions[1]?.lastApplied,
    cluster.node('a').status().partitions[1]?.lastApplied,
  );
});

test('a member is readmitted again and again, each time as another replica', async () => {
  await using cluster = await withWipedC();
  for (let times = 1; times <= 3; times++) {
    const { replicaId } = await cluster.drive(cluster.node('b').readmit('c'));
    assert.equal(replicaId, numberOf(3, times));
    await untilDone(cluster, 'c');
    await cluster.drive(cluster.node('c').replicate(1, 'put', text(`after ${times}`)));
    await wipe(cluster, 'c');
  }
});

test('a member whose disk is emptied again before it has caught up votes in the end', async () => {
  await using cluster = await withWipedC();
  await cluster.drive(cluster.node('a').readmit('c'));
  await cluster.until(
    () =>
      cluster
        .node('a')
        .status()
        .partitions.some(({ confState }) => confState.learners.length > 0),
    'it is a learner somewhere',
  );
  await wipe(cluster, 'c');
  assert.equal((await cluster.drive(cluster.node('a').readmit('c'))).replicaId, numberOf(3, 2));
  await untilDone(cluster, 'c');
  for (const { confState } of cluster.node('a').status().partitions) {
    assert.deepEqual([confState.voters, confState.learners], [[1, 2, numberOf(3, 2)], []]);
  }
});

test('a learner comes back as a learner, and who holds no replica gets none', async () => {
  await using cluster = nodeCluster({ partitions: 2 });
  await cluster.openAll();
  for (const [partitionId, kind] of [
    [1, 'addLearner'],
    [2, 'remove'],
  ] as const) {
    await cluster.makeLeader('a', partitionId);
    await cluster.drive(cluster.node('a').changeMembership(partitionId, [{ kind, nodeId: 'c' }]));
  }
  await wipe(cluster, 'c');
  await cluster.drive(cluster.node('a').readmit('c'));
  await cluster.until(
    () => memberOf(cluster.node('a'), 'c').voterOf.includes(0),
    'it votes where it did',
  );
  await cluster.run(5 * electionMs);
  const { voterOf, learnerOf, readmittingIn } = memberOf(cluster.node('a'), 'c');
  assert.deepEqual([voterOf, learnerOf, readmittingIn], [[0], [1], []]);
});

test('the former number loses its vote before the new one counts, and the new one counts only when it has caught up', async () => {
  await using cluster = await withWipedC();
  // What the learner is sent is lost: it stays behind.
  cluster.network.dropWhen(
    ({ to, frame }) =>
      to === 'c' &&
      frame.items.some((item) => item.kind === 'raft' && item.message.type === 'appendEntries'),
  );
  await cluster.drive(cluster.node('a').readmit('c'));
  await cluster.until(
    () => memberOf(cluster.node('a'), 'c').learnerOf.length === 2,
    'it is a learner everywhere',
  );
  await cluster.run(10 * electionMs);
  for (const { confState } of cluster.node('a').status().partitions) {
    assert.deepEqual(confState.voters, [1, 2]);
    assert.deepEqual(confState.learners, [3, numberOf(3, 1)]);
  }
  assert.deepEqual(memberOf(cluster.node('a'), 'c').readmittingIn, [0, 1]);
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('meanwhile')));
  cluster.network.dropWhen(undefined);
  await untilDone(cluster, 'c');
});

test('the readmission goes on when the node that was asked, or a leader, is gone', async () => {
  await using cluster = nodeCluster({ nodes: 5 });
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (let i = 0; i < 10; i++) {
    await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${i}`)));
  }
  await wipe(cluster, 'e');
  await cluster.drive(cluster.node('b').readmit('e'));
  await cluster.crash('b');
  await cluster.until(
    () => memberOf(cluster.node('a'), 'e').learnerOf.includes(1),
    'it is a learner',
  );
  await cluster.open('b');
  await cluster.crash('a');
  await cluster.until(() => isDone(cluster.node('c'), 'e'), 'other leaders finish');
  // Asking again is no other readmission.
  assert.equal((await cluster.drive(cluster.node('c').readmit('e'))).replicaId, numberOf(5, 1));
  await cluster.open('a');
  await untilDone(cluster, 'e');
});

test('two callers at once readmit a member once', async () => {
  await using cluster = await withWipedC();
  const calls = ['a', 'b', 'a'].map((nodeId) => cluster.node(nodeId).readmit('c'));
  for (const { replicaId } of await cluster.drive(Promise.all(calls))) {
    assert.equal(replicaId, numberOf(3, 1));
  }
  await untilDone(cluster, 'c');
});

test('who is not readmitted is told why', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.leader(0);
  const refusals: readonly [string, string, string, RegExp][] = [
    ['a', 'x', 'UNKNOWN_NODE', /"x"/],
    ['a', 'a', 'READMISSION_REFUSED', /itself/],
    ['a', 'b', 'READMISSION_REFUSED', /no emptied directory/],
  ];
  for (const [asked, nodeId, code, message] of refusals) {
    const error = await cluster.driveFailure(cluster.node(asked).readmit(nodeId));
    assert.equal(codeOf(error), code);
    assert.match(error.message, message);
  }
  assert.equal(memberOf(cluster.node('a'), 'b').replicaId, 2);
});

test('without a quorum nothing is readmitted', async () => {
  await using cluster = await withWipedC();
  await cluster.crash('b');
  const error = await cluster.driveFailure(cluster.node('a').readmit('c'));
  assert.equal(codeOf(error), 'NO_LEADER');
  await cluster.run(20 * electionMs);
  assert.equal(cluster.node('c').status().state, 'refused');
  await cluster.open('b');
  await cluster.leader(0);
  await cluster.drive(cluster.node('a').readmit('c'));
  await untilDone(cluster, 'c');
});

test('an old disk that comes back after the readmission is refused, and cannot be readmitted', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.converge();
  await cluster.crash('c');
  const mountOldDisk = cluster.seat('c').disk.setAside();
  await wipe(cluster, 'c');
  await cluster.drive(cluster.node('a').readmit('c'));
  await untilDone(cluster, 'c');
  await cluster.crash('c');
  await mountOldDisk();
  const { term } = cluster.node('a').status().partitions[1] ?? { term: 0 };
  const old = await cluster.open('c');
  await cluster.until(() => old.status().state === 'failed', 'it is told');
  const error = await cluster.driveFailure(old.replicate(1, 'put', text('y')));
  assert.equal(codeOf(error), 'NODE_REPLACED');
  await cluster.run(5 * electionMs);
  assert.equal(cluster.node('a').status().partitions[1]?.term, term, 'nobody was disturbed');
  const refusal = await cluster.driveFailure(cluster.node('a').readmit('c'));
  assert.equal(codeOf(refusal), 'READMISSION_REFUSED');
  assert.match(refusal.message, /empty it/);
});

test('a node that was away during the readmission believes it when it is back, and not the old disk', async () => {
  await using cluster = nodeCluster({ nodes: 5 });
  await cluster.openAll();
  await cluster.leader();
  await cluster.crash('b');
  await wipe(cluster, 'c');
  await cluster.drive(cluster.node('a').readmit('c'));
  await untilDone(cluster, 'c');
  await cluster.open('b');
  await cluster.until(
    () => memberOf(cluster.node('b'), 'c').replicaId === numberOf(3, 1),
    'it has heard of it',
  );
  assert.equal(cluster.node('c').status().state, 'running');
  await cluster.makeLeader('b');
  await cluster.makeLeader('c');
});

test('what an operator says of a member ends its readmission', async () => {
  await using cluster = await withWipedC();
  await cluster.makeLeader('a', 0);
  await cluster.drive(cluster.node('a').readmit('c'));
  const { voters } = await cluster.drive(
    cluster.node('a').changeMembership(1, [{ kind: 'remove', nodeId: 'c' }]),
  );
  assert.deepEqual(voters, ['a', 'b']);
  await cluster.run(10 * electionMs);
  assert.deepEqual(memberOf(cluster.node('a'), 'c').voterOf, [0]);
  assert.deepEqual(memberOf(cluster.node('a'), 'c').readmittingIn, []);
});

test('a copied directory is detected: the later of two nodes with one identity stops, and says why', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('c');
  await cluster.drive(cluster.node('c').replicate(1, 'put', text('x')));
  await cluster.converge();
  // A copy of the directory, on another machine.
  const copied = await copyOf(cluster, 'c', '127.0.0.1:99');
  await cluster.until(() => copied.status().state === 'failed', 'the copy stops');
  const error = await cluster.driveFailure(copied.replicate(1, 'put', text('y')));
  assert.equal(codeOf(error), 'NODE_COPIED');
  assert.match(error.message, /remove the copy/);
  const reports = cluster
    .seat('a')
    .observed.filter(
      ({ name, fields }) => name === 'peer-refused' && fields.code === 'NODE_COPIED',
    );
  assert.ok(reports.length > 0);
  assert.equal(reports[0]?.level, 'error');
  assert.equal(cluster.node('c').isLeader(1), true, 'the original goes on');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('z')));
});
