// Writes that lost their leader: what became of them is decided by what is applied at their places, in whatever order
// the places were given.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codeOf, type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';

/** Answers by name, as they come. */
function collector(): {
  readonly answers: Map<string, string>;
  readonly add: (name: string, promise: Promise<{ readonly index: number }>) => void;
} {
  const answers = new Map<string, string>();
  return {
    answers,
    add(name, promise) {
      const note = (answer: string): void => {
        assert.equal(answers.get(name), undefined, `${name} is answered once`);
        answers.set(name, answer);
      };
      promise.then(
        ({ index }) => note(`at ${index}`),
        (error: unknown) => note(codeOf(error)),
      );
    },
  };
}

function appliedAt(cluster: NodeCluster, nodeId: string, name: string): string {
  const entry = cluster.journal(nodeId).entries.find((one) => one.text === name);
  return entry === undefined ? 'PROPOSAL_LOST' : `at ${entry.index}`;
}

test('a deposed leader that leads again answers its old and its new writes by what is applied', async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 60_000 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('begin')));
  await cluster.converge();
  const { answers, add } = collector();
  cluster.isolate(['a']);
  // Ten entries that nobody else ever gets.
  for (let i = 0; i < 10; i++) {
    add(`old ${i}`, cluster.node('a').replicate(1, 'put', text(`old ${i}`)));
    await cluster.time.settle();
  }
  await cluster.until(
    () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
    'another node leads',
  );
  cluster.network.heal();
  await cluster.leader();
  // The new leader's log is shorter than the places of the old writes.
  await cluster.makeLeader('a');
  for (let i = 0; i < 12; i++) {
    add(`new ${i}`, cluster.node('a').replicate(1, 'put', text(`new ${i}`)));
    await cluster.time.settle();
  }
  await cluster.until(() => answers.size === 22, 'everybody is answered');
  await cluster.converge();
  for (const [name, answer] of answers) assert.equal(answer, appliedAt(cluster, 'a', name), name);
  assert.equal(cluster.node('a').status().partitions[1]?.stopped, undefined);
  assert.equal(cluster.node('a').status().partitions[1]?.queuedProposals, 0);
});

test('an old write does not disturb a newer one that is applied in pieces around its place', async () => {
  await using cluster = nodeCluster({
    settings: { proposalTimeoutMs: 60_000, appendBytesMax: 1_024 },
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('begin')));
  await cluster.converge();
  const { answers, add } = collector();
  cluster.isolate(['a']);
  for (let i = 0; i < 12; i++) {
    add(`old ${i}`, cluster.node('a').replicate(1, 'put', text(`old ${i}`)));
    await cluster.time.settle();
  }
  await cluster.until(
    () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
    'another node leads',
  );
  cluster.network.heal();
  await cluster.leader();
  await cluster.makeLeader('a');
  // Entries of about 800 bytes: an append holds one, so that the batch commits and is applied entry by entry.
  const batch = Array.from({ length: 20 }, (_, i) => ({
    type: 'put',
    data: text(`new ${i} `.padEnd(800, '.')),
  }));
  add('batch', cluster.node('a').replicate(1, batch));
  await cluster.until(() => answers.size === 13, 'everybody is answered');
  await cluster.converge();
  assert.equal(answers.get('batch'), `at ${cluster.journal('a').entries.at(-1)?.index}`);
  for (let i = 0; i < 12; i++) assert.equal(answers.get(`old ${i}`), 'PROPOSAL_LOST');
  assert.equal(cluster.node('a').status().partitions[1]?.stopped, undefined);
});

test('a batch of which another leader got only the first entries is not reported as without effect', async () => {
  await using cluster = nodeCluster({
    settings: { proposalTimeoutMs: 60_000, appendBytesMax: 1_024 },
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('begin')));
  await cluster.converge();
  const { answers, add } = collector();
  // Entries of about 800 bytes: an append holds one. The first one gets through to b, and nothing comes back.
  cluster.isolate(['c']);
  cluster.network.setLink('b', 'a', 'drop');
  let appendCount = 0;
  cluster.network.dropWhen(({ frame }) =>
    frame.items.some(
      (item) =>
        item.kind === 'raft' &&
        item.partitionId === 1 &&
        item.message.type === 'appendEntries' &&
        item.message.entries.length > 0 &&
        ++appendCount > 1,
    ),
  );
  const batch = Array.from({ length: 5 }, (_, i) => ({
    type: 'put',
    data: text(`part ${i} `.padEnd(800, '.')),
  }));
  add('batch', cluster.node('a').replicate(1, batch));
  await cluster.time.settle();
  cluster.network.dropWhen(undefined);
  cluster.network.heal();
  cluster.isolate(['a']);
  await cluster.until(() => cluster.node('b').isLeader(1), 'b leads');
  cluster.network.heal();
  await cluster.drive(cluster.node('b').replicate(1, 'put', text('after')));
  await cluster.until(() => answers.size === 1, 'the batch is answered');
  const texts = cluster.journal('b').entries.map((entry) => entry.text.slice(0, 6));
  assert.deepEqual(texts, ['begin', 'part 0', 'after']);
  assert.equal(answers.get('batch'), 'OUTCOME_UNKNOWN');
});
