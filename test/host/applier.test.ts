// What a state machine is given: in order, once, never two things at a time; and what becomes of one that fails.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import type { NodeEvents } from '../../src/host/api.ts';
import type { CommittedEntry, StateMachine } from '../../src/ports/state-machine.ts';
import { nodeCluster, text } from '../support/node-cluster.ts';

test('entries are applied in order, in batches, with the results of their own', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const writes = Array.from({ length: 200 }, (_, i) =>
    cluster.node('a').replicate(1, 'put', text(`${i}`)),
  );
  const results = await cluster.drive(Promise.all(writes));
  for (const [i, { index, result }] of results.entries()) assert.equal(result, `${index}:${i}`);
  await cluster.converge();
  const { entries, batches } = cluster.journal('b');
  assert.deepEqual(
    entries.map((entry) => entry.text),
    Array.from({ length: 200 }, (_, i) => `${i}`),
  );
  assert.ok(batches.length < 50, `${batches.length} batches`);
});

test('a batch is one proposal with consecutive places and one result per entry', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (const nodeId of ['a', 'b']) {
    const batch = ['x', 'y', 'z'].map((value) => ({ type: `type-${value}`, data: text(value) }));
    const { index, result } = await cluster.drive(cluster.node(nodeId).replicate(1, batch));
    assert.deepEqual(result, [`${index - 2}:x`, `${index - 1}:y`, `${index}:z`]);
  }
  const one = await cluster.drive(cluster.node('a').replicate(1, [{ type: 't', data: text('1') }]));
  assert.deepEqual(one.result, [`${one.index}:1`], 'a batch of one is a batch');
});

test('an asynchronous apply is never called before the last call has ended', async () => {
  let runningCount = 0;
  let most = 0;
  const seen: number[] = [];
  await using cluster = nodeCluster({
    nodes: 1,
    machine: () => ({
      async apply(entries) {
        runningCount += 1;
        most = Math.max(most, runningCount);
        await new Promise<void>((resolve) => cluster.time.setTimer(3, resolve));
        seen.push(...entries.map((entry) => entry.index));
        runningCount -= 1;
        return entries.map((entry) => entry.index);
      },
    }),
  });
  await cluster.openAll();
  await cluster.leader();
  const writes: Promise<{ index: number; result: unknown }>[] = [];
  for (let i = 0; i < 20; i++) {
    writes.push(cluster.node('a').replicate(1, 'put', text(`${i}`)));
    await cluster.run(1);
  }
  for (const { index, result } of await cluster.drive(Promise.all(writes)))
    assert.equal(result, index);
  assert.equal(most, 1);
  assert.deepEqual(
    seen,
    [...seen].sort((a, b) => a - b),
  );
});

const failures: readonly [string, (entries: readonly CommittedEntry[]) => unknown][] = [
  [
    'throws',
    () => {
      throw new Error('no such account');
    },
  ],
  ['rejects', () => Promise.reject(new Error('no such account'))],
  ['returns too few results', () => []],
  ['resolves with too many results', async (entries) => [...entries, 'one more']],
];
for (const [how, apply] of failures) {
  test(`a state machine that ${how} stops its replica with the evidence, and nothing is skipped`, async () => {
    const errors: NodeEvents['replicationError'][] = [];
    let isBroken = false;
    const calls: number[] = [];
    await using cluster = nodeCluster({
      partitions: 2,
      machine: (nodeId, partitionId) => ({
        apply(entries) {
          if (!isBroken || nodeId !== 'a' || partitionId !== 1) return;
          calls.push(entries[0]?.index ?? 0);
          return apply(entries) as ReturnType<StateMachine['apply']>;
        },
      }),
    });
    await cluster.openAll();
    await cluster.makeLeader('a');
    cluster.node('a').on('replicationError', (event) => errors.push(event));
    isBroken = true;
    const first = cluster.node('a').replicate(1, 'put', text('x'));
    const error = await cluster.driveFailure(first);
    assert.ok(isKommanderError(error, 'APPLY_FAILED'));
    assert.equal(error.mayHaveCommitted, true);
    assert.equal(error.details.from, calls[0]);
    await cluster.run(500);
    assert.equal(calls.length, 1, 'it is not called again');
    assert.equal(errors.length, 1);
    assert.equal(errors[0]?.partitionId, 1);
    assert.match(cluster.node('a').status().partitions[1]?.stopped ?? '', /state machine/);
    assert.equal(cluster.node('a').isLeader(1), false);
    for (const call of [
      () => cluster.node('a').replicate(1, 'put', text('y')),
      () => cluster.node('a').read(1),
      () => cluster.node('a').waitForLeader(1),
    ]) {
      assert.equal((await cluster.driveFailure(call())).code, 'APPLY_FAILED');
    }
    // The other partition of the node, and the others of the partition, go on.
    await cluster.until(
      () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
      'another node leads',
    );
    await cluster.drive(cluster.node('b').replicate(1, 'put', text('z')));
    await cluster.leader(2);
    await cluster.drive(cluster.node('a').replicate(2, 'put', text('z')));
  });
}

test('a partition without a state machine resolves writes without a result', async () => {
  await using cluster = nodeCluster({ machine: undefined });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const one = await cluster.drive(cluster.node('b').replicate(1, 'put', text('x')));
  assert.equal(one.result, undefined);
  const batch = [
    { type: 'put', data: text('x') },
    { type: 'put', data: text('y') },
  ];
  assert.deepEqual((await cluster.drive(cluster.node('b').replicate(1, batch))).result, [
    undefined,
    undefined,
  ]);
});

test('applications may write to partition 0', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.leader(0);
  const seen: string[] = [];
  cluster.node('c').on('entryReplicated', ({ entry }) => seen.push(entry.type));
  await cluster.drive(cluster.node('b').replicate(0, 'mine', text('x')));
  await cluster.converge(0);
  assert.deepEqual(seen, ['mine']);
});

test('after a restart what was committed comes as restored, in order, before the node is open', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (let i = 0; i < 30; i++) {
    await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${i}`)));
  }
  await cluster.converge();
  await cluster.close('b');
  const log: string[] = [];
  const listeners = {
    restoreStarted: ({ partitionId }: NodeEvents['restoreStarted']) => {
      if (partitionId === 1) log.push('started');
    },
    entryRestored: ({ entry }: NodeEvents['entryRestored']) => {
      if (entry.partitionId === 1) log.push(`restored ${entry.index}`);
    },
    restoreFinished: ({ partitionId, lastApplied }: NodeEvents['restoreFinished']) => {
      if (partitionId === 1) log.push(`finished at ${lastApplied}`);
    },
    entryReplicated: ({ entry }: NodeEvents['entryReplicated']) => {
      if (entry.partitionId === 1) log.push(`new ${entry.index}`);
    },
  };
  await cluster.open('b', { listeners });
  const { given } = cluster.journal('b');
  assert.equal(given.length, 30);
  assert.ok(given.every((entry) => entry.restored));
  const last = given.at(-1)?.index ?? 0;
  assert.deepEqual(log, [
    'started',
    ...given.map((entry) => `restored ${entry.index}`),
    `finished at ${cluster.node('b').status().partitions[1]?.lastApplied}`,
  ]);
  await cluster.leader();
  const { index } = await cluster.drive(cluster.node('b').replicate(1, 'put', text('new')));
  assert.ok(index > last);
  assert.equal(log.at(-1), `new ${index}`);
  assert.equal(cluster.journal('b').given.at(-1)?.restored, false);
});

test('over crashes no replica is given an entry twice or skips one', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.leader();
  for (let round = 0; round < 12; round++) {
    const victim = cluster.nodeIds[round % 3] ?? 'a';
    const writers = cluster.followers(victim);
    const writes = writers.map((nodeId) =>
      cluster
        .node(nodeId)
        .replicate(1, 'put', text(`${round} ${nodeId}`))
        .catch(() => undefined),
    );
    await cluster.run(round % 4);
    await cluster.restart(victim);
    await cluster.drive(Promise.all(writes));
    await cluster.leader();
    await cluster.drive(cluster.node(victim).replicate(1, 'put', text(`${round} end`)));
  }
  await cluster.converge();
  const [first, ...rest] = cluster.nodeIds.map((nodeId) => cluster.journal(nodeId).entries);
  for (const other of rest) assert.deepEqual(other, first);
  assert.equal(first?.filter((entry) => entry.text.endsWith('end')).length, 12);
});

test('a listener that throws is reported and disturbs neither the node nor the other listeners', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const seen: number[] = [];
  cluster.node('a').on('entryReplicated', () => {
    throw new Error('not today');
  });
  const listener = ({ entry }: NodeEvents['entryReplicated']): void => {
    seen.push(entry.index);
  };
  cluster.node('a').on('entryReplicated', listener);
  const { index } = await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  assert.deepEqual(seen, [index]);
  assert.ok(cluster.seat('a').observed.some(({ name }) => name === 'listener-failed'));
  cluster.node('a').off('entryReplicated', listener);
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('y')));
  assert.deepEqual(seen, [index]);
});

test('a logger that throws does not stop the clock of a node', async () => {
  await using cluster = nodeCluster({
    settings: {
      logger: () => {
        throw new Error('the log is full');
      },
    },
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('a');
  await cluster.leader();
});
