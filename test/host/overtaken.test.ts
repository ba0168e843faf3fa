// Messages that arrive when the world has moved on, callers that come between two moments, machines that are slow: what
// was overtaken does no harm, and every answer is the true one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KommanderError } from '../../src/base/errors.ts';
import { openHost } from '../../src/host/opening.ts';
import type { Frame, Lane, NodeId, Transport } from '../../src/ports/transport.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { codeOf, nodeCluster, testSettings, text } from '../support/node-cluster.ts';

type Receive = (peer: NodeId, lane: Lane, frame: Frame) => void;

/** A transport whose arriving frames pass through `tap`. */
function tapped(inner: Transport, tap: (receive: Receive) => Receive): Transport {
  return {
    open: (context) =>
      inner.open({
        ...context,
        receive: tap((peer, lane, frame) => context.receive(peer, lane, frame)),
      }),
    setPeer: (peer, endpoint) => inner.setPeer(peer, endpoint),
    send: (peer, lane, frame) => inner.send(peer, lane, frame),
    close: () => inner.close(),
  };
}

test('an answer of an earlier leader that arrives while a snapshot is restored stops nobody', async () => {
  let finishRestore: (() => void) | undefined;
  await using cluster = nodeCluster({
    settings: { trailingEntries: 0, proposalTimeoutMs: 600_000 },
    machine: (nodeId) => ({
      apply: (entries) => entries.map(() => 1),
      snapshot: () => new Uint8Array(8),
      restore: () =>
        nodeId === 'b'
          ? new Promise<void>((resolve) => {
              finishRestore = resolve;
            })
          : undefined,
    }),
  });
  const held: (() => void)[] = [];
  let isHeld = false;
  const transport = tapped(cluster.network.transport(), (receive) => (peer, lane, frame) => {
    if (isHeld && peer === 'a' && lane === 'bulk') held.push(() => receive(peer, lane, frame));
    else receive(peer, lane, frame);
  });
  await Promise.all([cluster.open('a'), cluster.open('b', { transport }), cluster.open('c')]);
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('begin')));
  await cluster.converge();
  isHeld = true;
  let answer = 'none';
  cluster
    .node('b')
    .replicate(1, 'put', text('forwarded'))
    .then(
      ({ index }) => {
        answer = `at ${index}`;
      },
      (error: unknown) => {
        answer = codeOf(error) ?? String(error);
      },
    );
  await cluster.run(20);
  cluster.network.dropWhen(({ from, to, lane }) => from === 'c' && to === 'b' && lane === 'bulk');
  await cluster.drive(cluster.node('a').transferLeadership(1, 'c'));
  await cluster.drive(cluster.node('c').replicate(1, 'put', text('more')));
  await cluster.drive(cluster.node('c').checkpoint(1));
  await cluster.run(20);
  cluster.network.dropWhen(undefined);
  await cluster.until(() => finishRestore !== undefined, 'b restores');
  isHeld = false;
  for (const give of held.splice(0)) give();
  await cluster.run(5);
  finishRestore?.();
  await cluster.run(20);
  await cluster.drive(cluster.node('c').replicate(1, 'put', text('after')));
  await cluster.run(200);
  assert.equal(cluster.node('b').status().partitions[1]?.stopped, undefined);
  assert.equal(answer, 'OUTCOME_UNKNOWN');
});

test('a snapshot that arrives while entries wait for a slow state machine comes behind them', async () => {
  let goOn = (): void => {};
  let isStuck = true;
  const states = new Map<NodeId, number[]>();
  await using cluster = nodeCluster({
    settings: { trailingEntries: 0 },
    machine(nodeId) {
      let indexes: number[] = [];
      const keep = (all: number[]): void => {
        indexes = all;
        states.set(nodeId, all);
      };
      return {
        async apply(entries) {
          while (nodeId === 'c' && isStuck) {
            await new Promise<void>((resolve) => {
              goOn = resolve;
            });
          }
          keep([...indexes, ...entries.map(({ index }) => index)]);
        },
        snapshot: () => text(JSON.stringify(indexes)),
        restore: async (data) =>
          keep(JSON.parse(Buffer.from(await data.bytes()).toString()) as number[]),
      };
    },
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const write = (): Promise<unknown> =>
    cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  for (let i = 0; i < 3; i++) await write();
  await cluster.run(50);
  cluster.isolate(['c']);
  for (let i = 0; i < 3; i++) await write();
  const { index } = await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.time.settle();
  cluster.network.heal();
  await cluster.until(
    () => (cluster.node('c').status().partitions[1]?.commitIndex ?? 0) >= index,
    'c has the snapshot',
  );
  isStuck = false;
  goOn();
  await write();
  await cluster.converge();
  assert.equal(states.get('a')?.length, 7);
  assert.deepEqual(states.get('c'), states.get('a'));
});

test('writes of one caller keep their order while a leader becomes known', async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 60_000 } });
  // Input of the same turn of the event loop: right behind the frame that makes the leader known.
  let rightBehind = (): void => {};
  const transport = tapped(cluster.network.transport(), (receive) => (peer, lane, frame) => {
    receive(peer, lane, frame);
    rightBehind();
  });
  await Promise.all([cluster.open('a'), cluster.open('b', { transport }), cluster.open('c')]);
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('begin')));
  await cluster.converge();
  cluster.isolate(['b']);
  const b = cluster.node('b');
  await cluster.until(() => b.leaderOf(1) === undefined, 'b knows no leader');
  const writes = [b.replicate(1, 'put', text('first'))];
  await cluster.time.settle();
  rightBehind = () => {
    if (writes.length > 1 || b.leaderOf(1) === undefined) return;
    writes.push(b.replicate(1, 'put', text('second')));
  };
  cluster.network.heal();
  await cluster.until(() => writes.length === 2, 'b knows the leader');
  const [first, second] = await cluster.drive(Promise.all(writes));
  assert.ok(first !== undefined && second !== undefined);
  assert.ok(first.index < second.index, `${first.index} is before ${second.index}`);
});

test('a slow state machine costs a bounded part of memory, and gets everything in the end', async () => {
  let isStuck = true;
  let appliedCount = 0;
  let goOn = (): void => {};
  await using cluster = nodeCluster({ machine: () => ({ apply: () => undefined }) });
  const host = cluster.drive(
    openHost({
      nodeId: 'b',
      listen: cluster.seat('b').endpoint,
      members: Object.fromEntries(
        cluster.nodeIds.map((nodeId) => [nodeId, cluster.seat(nodeId).endpoint]),
      ),
      wal: memoryWal(),
      transport: cluster.network.transport(),
      discovery: { open: async () => {}, close: async () => {} },
      clock: cluster.time,
      ...testSettings,
      seed: 5,
      electionPriority: 0,
      stateMachine: () => ({
        apply: async (entries) => {
          if (isStuck) {
            await new Promise<void>((resolve) => {
              goOn = resolve;
            });
          }
          appliedCount += entries.length;
        },
      }),
    }),
  );
  await Promise.all([cluster.open('a'), cluster.open('c')]);
  const { partitions, stopTimer } = await host;
  await cluster.until(
    () => cluster.node('a').isLeader(1) || cluster.node('c').isLeader(1),
    'somebody leads',
  );
  const leader = cluster.node(cluster.node('a').isLeader(1) ? 'a' : 'c');
  const data = new Uint8Array(262_144);
  const count = 240;
  for (let i = 0; i < count; i += 20) {
    await cluster.drive(
      Promise.all(Array.from({ length: 20 }, () => leader.replicate(1, 'put', data))),
    );
  }
  const partition = partitions.get(1);
  assert.ok(partition !== undefined);
  assert.ok(partition.raft.log.lastIndex > count, 'b stores what it cannot apply yet');
  const mib = partition.raft.log.tailBytes / 1_048_576;
  assert.ok(mib < 48, `${mib} MiB of ${count / 4} MiB are in memory`);
  isStuck = false;
  goOn();
  await cluster.until(() => appliedCount === count, 'b has caught up');
  stopTimer();
});

test('whoever calls a stopped replica, or aborts before anything was handed over, learns that nothing was written', async () => {
  await using cluster = nodeCluster({
    machine: (nodeId) => ({
      apply: () => {
        if (nodeId === 'b') throw new Error('a broken machine');
      },
    }),
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  const b = cluster.node('b');
  await cluster.until(() => b.status().partitions[1]?.stopped !== undefined, 'b stopped');
  const refused = (await cluster.driveFailure(b.replicate(1, 'put', text('y')))) as KommanderError;
  assert.equal(refused.code, 'APPLY_FAILED');
  assert.equal(refused.mayHaveCommitted, false);
  const read = await cluster.driveFailure(b.read(1));
  assert.equal((read as KommanderError).mayHaveCommitted, false);
  const a = cluster.node('a');
  const early = await cluster.driveFailure(
    a.replicate(1, 'put', text('z'), { signal: AbortSignal.abort() }),
  );
  assert.equal(codeOf(early), 'ABORTED');
  assert.equal((early as KommanderError).mayHaveCommitted, false);
  cluster.network.setLink('a', 'b', 'drop');
  cluster.network.setLink('a', 'c', 'drop');
  const controller = new AbortController();
  const late = cluster.driveFailure(
    a.replicate(1, 'put', text('z'), { signal: controller.signal }),
  );
  await cluster.time.settle();
  controller.abort();
  assert.equal(((await late) as KommanderError).mayHaveCommitted, true, 'it was in the log');
});
