// Hazards 11, 23, 42 and 43 on whole nodes: nobody but the core touches its state, any one frame may be lost, a log that
// is compacted to nothing is not a new log, and what a caller does with its buffer afterwards is the caller's business.

import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { CommitResult, PartitionStatus } from '../../src/host/api.ts';
import { electionMs, type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';

function statusOf(cluster: NodeCluster, nodeId: string): PartitionStatus {
  return cluster.node(nodeId).status().partitions[1] ?? assert.fail('there is a partition 1');
}

test('only the core changes term, vote, role, leader and commit index', () => {
  const root = path.resolve(import.meta.dirname, '../..');
  const state =
    /\b(?:raft|raft\.log|log)\.(?:currentTerm|votedFor|role|leader|commitIndex|confState)\s*=[^=]/;
  const files = globSync('src/**/*.ts', { cwd: root }).filter(
    (file) => !file.startsWith('src/raft/') && !file.endsWith('.test.ts'),
  );
  assert.ok(files.length > 80, 'the sources are found');
  const offenders = files.filter((file) => state.test(readFileSync(path.join(root, file), 'utf8')));
  assert.deepEqual(offenders, []);
  assert.match('partition.raft.currentTerm = 5', state, 'the search finds one');
});

test('a log that is compacted to nothing keeps its place: no index comes twice, no older log wins', async () => {
  await using cluster = nodeCluster({ partitions: 2, settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  for (let count = 0; count < 10; count++) await write(cluster, `${count}`);
  const { index, term } = await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.drive(cluster.node('a').checkpoint(0));
  const { entries } = cluster.journal('a');
  await cluster.open('c');
  await cluster.converge();
  await cluster.converge(0);
  const { lastIndex, compactedIndex } = statusOf(cluster, 'c');
  assert.equal(compactedIndex, lastIndex, 'c has a snapshot and nothing behind it');

  for (const nodeId of cluster.nodeIds) await cluster.crash(nodeId);
  await cluster.openAll();
  await cluster.leader();
  for (const nodeId of cluster.nodeIds) {
    const restarted = statusOf(cluster, nodeId);
    assert.ok(restarted.lastIndex >= index, `${restarted.lastIndex} is not below ${index}`);
    assert.ok(restarted.term >= term);
    assert.deepEqual(cluster.journal(nodeId).entries, entries);
    const { roster } = cluster.node(nodeId).status();
    assert.equal(roster.map((member) => member.nodeId).join(), 'a,b,c');
    assert.deepEqual(cluster.node(nodeId).partitionIds(), [0, 1, 2]);
  }
  const next = await write(cluster, 'next');
  assert.ok(next.index > index, 'no index comes twice');

  // b keeps the longer list of entries, c the newer state.
  await cluster.converge();
  await cluster.crash('b');
  await write(cluster, 'not on b');
  await cluster.drive(cluster.node(await cluster.leader()).checkpoint(1));
  await cluster.converge();
  await cluster.crash('a');
  await cluster.crash('c');
  await cluster.open('b');
  await cluster.open('c');
  assert.equal(await cluster.leader(), 'c');
  await cluster.converge();
  assert.deepEqual(
    cluster
      .journal('b')
      .entries.map((entry) => entry.text)
      .slice(-2),
    ['next', 'not on b'],
  );
});

async function write(cluster: NodeCluster, value: string): Promise<CommitResult> {
  const leader = await cluster.leader();
  return cluster.drive(cluster.node(leader).replicate(1, 'put', text(value)));
}

test('the buffer of a write may be used again when its promise has settled', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  const buffer = text('0000');
  for (const [count, nodeId] of ['a', 'b', 'a', 'b', 'a', 'b'].entries()) {
    buffer.fill(0x30 + count);
    await cluster.drive(cluster.node(nodeId).replicate(1, 'put', buffer));
  }
  buffer.fill(0);
  await cluster.open('c');
  await cluster.converge();
  for (const nodeId of cluster.nodeIds) {
    assert.deepEqual(
      cluster.journal(nodeId).entries.map((entry) => entry.text),
      ['0000', '1111', '2222', '3333', '4444', '5555'],
    );
  }
});

/**
 * A follower that needs a snapshot, writes on a leader and on a follower, a read, and a transfer of leadership; the frame
 * with number `lostAt` is lost. Returns how many frames there were.
 */
async function eventful(lostAt: number): Promise<number> {
  const settings = { trailingEntries: 0, proposalTimeoutMs: 10 * electionMs };
  await using cluster = nodeCluster({ settings });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('before')));
  await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.open('c');
  let frames = 0;
  cluster.network.dropWhen(() => frames++ === lostAt);
  const settled = (promise: Promise<unknown>): Promise<unknown> => promise.catch(() => undefined);
  const calls = [
    cluster.node('a').replicate(1, 'put', text('on the leader')),
    cluster.node('b').replicate(1, 'put', text('on a follower')),
    cluster.node('b').read(1),
  ];
  await cluster.drive(Promise.all(calls.map(settled)));
  // Before leadership moves, which would begin everything anew.
  const convergedSoon = async (): Promise<void> => {
    const endMs = cluster.time.monotonicMs() + 20 * electionMs;
    await cluster.converge();
    assert.ok(cluster.time.monotonicMs() < endMs, `frame ${lostAt} of ${frames} was lost`);
  };
  await convergedSoon();
  await cluster.drive(settled(cluster.node('a').transferLeadership(1, 'b')));
  const count = frames;
  cluster.network.dropWhen(undefined);
  await convergedSoon();
  const leader = await cluster.leader();
  await cluster.drive(cluster.node(leader).replicate(1, 'put', text('and it goes on')));
  await cluster.converge();
  const { entries } = cluster.journal('a');
  for (const nodeId of cluster.nodeIds) {
    assert.deepEqual(cluster.journal(nodeId).entries, entries, `frame ${lostAt} was lost`);
  }
  return count;
}

test('any one frame may be lost: of a snapshot, a write passed on, a read, a transfer', async () => {
  const frames = await eventful(Number.POSITIVE_INFINITY);
  assert.ok(frames > 20, `${frames} frames`);
  for (let lostAt = 0; lostAt < frames; lostAt++) await eventful(lostAt);
});
