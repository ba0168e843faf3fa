// Who sends a snapshot: the leader, or another member that has the same bytes, when the leader is told to spare itself.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakeMember } from '../support/fake-member.ts';
import { electionMs, type NodeCluster } from '../support/node-cluster.ts';
import {
  damage,
  leaveBehind,
  pieceBytes,
  reported,
  slow,
  watched,
} from '../support/snapshot-cluster.ts';

const sparing = { snapshotsFrom: 'followers' } as const;

test('a leader that spares itself sends nothing: a member with the same bytes does', async () => {
  const pieces = 30;
  const all = watched(pieces, sparing);
  await using cluster = all.cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await cluster.open('c');
  await cluster.converge();
  assert.equal(all.machines.get('c')?.restoreCount, 1);
  assert.equal(all.machines.get('c')?.count, 4);
  assert.deepEqual([...all.piecesFrom], [['b', pieces]]);
  assert.ok(reported(cluster, 'b', 'snapshot-served'));
});

test('where the other member has other bytes, the leader sends its own', async () => {
  const pieces = 30;
  const all = watched(pieces, sparing);
  await using cluster = all.cluster;
  await cluster.openAll();
  const machine = all.machines.get('b');
  assert.ok(machine !== undefined);
  machine.snapshot = () => new Uint8Array(pieces * pieceBytes).fill(99);
  await leaveBehind(cluster);
  await cluster.open('c');
  await cluster.converge();
  assert.equal(all.machines.get('c')?.count, 4);
  assert.deepEqual([...all.piecesFrom], [['a', pieces]]);
  assert.equal(all.seen.announced, 1, 'it was told at once that b has none of it');
});

for (const [how, part] of [
  ['goes', (cluster: NodeCluster) => cluster.crash('b')],
  ['has damaged bytes', (cluster: NodeCluster) => damage(cluster, 'b', 25 * (pieceBytes + 8))],
] as const) {
  test(`when the other member ${how} in the middle, the leader sends what is missing`, async () => {
    const pieces = 60;
    const all = watched(pieces, { ...sparing, ...slow });
    await using cluster = all.cluster;
    await cluster.openAll();
    await leaveBehind(cluster);
    await cluster.open('c');
    await cluster.until(() => all.seen.pieces >= 10, 'some of it is sent');
    await part(cluster);
    await cluster.until(() => all.machines.get('c')?.restoreCount === 1, 'c has it');
    const { a = 0, b = 0 } = Object.fromEntries(all.piecesFrom);
    assert.ok(b >= 10 && a >= 20 && a + b <= pieces + 8, `${b} and ${a} pieces`);
    assert.equal(all.machines.get('c')?.count, 4);
  });
}

test('a member sends four pieces of what it is asked for at one time, and nothing that it does not have', async () => {
  const pieces = 20;
  const { cluster, piecesFrom, sent } = watched(pieces);
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await cluster.open('c');
  await cluster.converge();
  const { snapshot } = sent[0] ?? assert.fail('a sent pieces');
  const c = await fakeMember(cluster, 'c');
  const request = {
    kind: 'snapshotPieceRequest',
    partitionId: 1,
    snapshot,
    to: 'c',
    offset: 0,
  } as const;
  for (let count = 0; count < 20; count++) {
    c.say('b', { ...request, snapshot: { ...snapshot, index: snapshot.index + 1 } });
    c.say('b', { ...request, offset: snapshot.byteLength });
    c.say('b', { ...request, to: 'b' });
    c.say('b', { ...request, to: 'nobody' });
  }
  await cluster.run(electionMs / 2);
  assert.equal(piecesFrom.get('b'), undefined);
  for (let count = 0; count < 20; count++) c.say('b', request);
  await cluster.run(electionMs / 2);
  assert.equal(piecesFrom.get('b'), 4);
});
