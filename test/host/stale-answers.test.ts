// Answers that are meant for an earlier life of a node. A question carries a number so that its answer finds it; the
// numbers of two lives must not meet, or an old answer would be taken for a new one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nodeCluster, text } from '../support/node-cluster.ts';

test('a read is not answered by the index that an earlier life of the node asked for', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('old')));
  await cluster.converge();
  // The leader gets no answers to its heartbeats: no read can be confirmed.
  cluster.network.dropWhen(({ frame }) =>
    frame.items.some((item) => item.kind === 'raft' && item.message.type === 'heartbeatResponse'),
  );
  cluster
    .node('b')
    .read(1)
    .catch(() => {});
  await cluster.run(5);
  await cluster.restart('b');
  await cluster.until(() => cluster.node('b').leaderOf(1) === 'a', 'b knows its leader');
  // The next write reaches a and c, and is acknowledged, before b hears of it.
  cluster.network.setLink('a', 'b', 'drop');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('new')));
  cluster.network.setLink('a', 'b', 'up');
  const read = cluster.node('b').read(1);
  await cluster.time.settle();
  cluster.network.dropWhen(({ to, lane }) => to === 'b' && lane === 'bulk');
  await cluster.run(30);
  cluster.network.dropWhen(undefined);
  const { index } = await cluster.drive(read);
  const newIndex = cluster.journal('a').entries.at(-1)?.index ?? 0;
  assert.ok(index >= newIndex, `read at ${index}, the write is at ${newIndex}`);
});

test('a write is not answered by the place that a write of an earlier life got', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  // The leader's disk is busy: what is passed on to it waits in its queue.
  cluster.seat('a').disk.hold();
  const busy = cluster.node('a').replicate(1, 'put', text('busy'));
  await cluster.time.settle();
  cluster
    .node('b')
    .replicate(1, 'put', text('first life'))
    .catch(() => {});
  await cluster.time.settle();
  await cluster.restart('b');
  await cluster.until(() => cluster.node('b').leaderOf(1) === 'a', 'b knows its leader');
  const second = cluster.node('b').replicate(1, 'put', text('second life'));
  await cluster.time.settle();
  cluster.seat('a').disk.release();
  await cluster.drive(busy);
  const { index } = await cluster.drive(second);
  await cluster.converge();
  const texts = cluster.journal('b').entries.map((entry) => [entry.index, entry.text]);
  assert.ok(
    texts.some(([at, written]) => at === index && written === 'second life'),
    `index ${index} of ${JSON.stringify(texts)}`,
  );
});
