// Real nodes under everything at once: crashes, restarts, broken and lossy links, slow disks, processes that stand still,
// handovers and checkpoints, all drawn from one seed, while callers write and read. At the end everything heals, and what
// callers were told is compared with what the replicas have. A seed repeats a run: CHAOS_SEED=7
// CHAOS_COUNT=1 npm test -- test/host/chaos.test.ts

import assert from 'node:assert/strict';
import process from 'node:process';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import type { KommanderNode } from '../../src/host/api.ts';
import { type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';

const seedCount = 40;
const stepsPerRun = 40;
const writerCount = 6;

/** What a caller was told. `undefined` while it waits; `gone` when the node that it asked is gone. */
interface Call {
  readonly texts: readonly string[];
  outcome: { readonly index: number } | { readonly error: Error } | 'gone' | undefined;
}

interface Run {
  readonly cluster: NodeCluster;
  readonly random: Random;
  readonly calls: Call[];
  /** Texts of acknowledged writes and their places. */
  readonly acknowledged: Map<string, number>;
  /** Reads that were answered. */
  readCount: number;
  /** Resolved when the node in the seat is gone. */
  readonly ends: Map<string, { readonly promise: Promise<void>; readonly resolve: () => void }>;
  isOver: boolean;
}

const firstSeed = Number(process.env.CHAOS_SEED ?? 1);
const count = Number(
  process.env.CHAOS_COUNT ?? (process.env.CHAOS_SEED === undefined ? seedCount : 1),
);
const seeds = Array.from({ length: count }, (_, i) => firstSeed + i);

for (const seed of seeds) {
  test(`callers are told the truth whatever happens (seed ${seed})`, async () => {
    await using cluster = nodeCluster({
      seed,
      settings: {
        proposalTimeoutMs: 400,
        appendBytesMax: 1_024,
        inflightMessagesMax: 4,
        trailingEntries: 20,
        queuedEntriesMax: 40,
      },
    });
    const run: Run = {
      cluster,
      random: seededRandom(seed),
      calls: [],
      acknowledged: new Map(),
      readCount: 0,
      ends: new Map(),
      isOver: false,
    };
    for (const nodeId of cluster.nodeIds) noteBegin(run, nodeId);
    await cluster.openAll();
    await cluster.leader();
    const work = Promise.all([
      ...Array.from({ length: writerCount }, (_, writer) => write(run, writer)),
      read(run),
      read(run),
    ]);
    for (let step = 0; step < stepsPerRun; step++) {
      await cluster.run(run.random.below(60) + 1);
      await disturb(run);
    }
    await heal(run);
    run.isOver = true;
    await cluster.drive(work);
    // A replica that lost a piece of a snapshot gets the next one after a while, and answers its caller then.
    const last = { timeoutMs: 60_000 };
    await cluster.drive(cluster.node('a').replicate(1, 'put', text('end'), last));
    await cluster.converge();
    // Checkpoints that were asked for on the way are over, too.
    await cluster.run(1_000);
    checkRun(run);
  });
}

function noteBegin(run: Run, nodeId: string): void {
  run.ends.set(nodeId, Promise.withResolvers<void>());
}

function chance(random: Random, percent: number): boolean {
  return random.below(100) < percent;
}

function oneOf<Value>(random: Random, values: readonly Value[]): Value | undefined {
  return values[random.below(Math.max(1, values.length))];
}

/** A node that runs; nobody calls one that stands still. */
function anyNode(run: Run): KommanderNode | undefined {
  const { cluster, random } = run;
  const nodes = cluster.nodeIds
    .map((nodeId) => cluster.seat(nodeId).node)
    .filter((node) => node !== undefined);
  return oneOf(random, nodes);
}

function pause(run: Run, ms: number): Promise<void> {
  return new Promise((resolve) => run.cluster.time.setTimer(ms, resolve));
}

async function write(run: Run, writer: number): Promise<void> {
  const { random } = run;
  for (let count = 0; !run.isOver; count++) {
    await pause(run, random.below(12));
    const node = anyNode(run);
    if (node === undefined) continue;
    const length = chance(random, 70) ? 1 : 1 + random.below(4);
    const texts = Array.from(
      { length },
      (_, i) => `${writer}.${count}.${i} ${'.'.repeat(random.below(400))}`,
    );
    const call: Call = { texts, outcome: undefined };
    run.calls.push(call);
    const answer = node
      .replicate(
        1,
        texts.map((one) => ({ type: 'put', data: text(one) })),
      )
      .then(
        ({ index, result }) => {
          assert.equal(call.outcome, undefined, 'a call is answered once');
          call.outcome = { index };
          const first = index - length + 1;
          assert.deepEqual(
            result,
            texts.map((one, i) => `${first + i}:${one}`),
          );
          for (const [i, one] of texts.entries()) run.acknowledged.set(one, first + i);
        },
        (error: unknown) => {
          assert.ok(error instanceof Error);
          assert.equal(call.outcome, undefined, 'a call is answered once');
          call.outcome = { error };
        },
      );
    await Promise.race([answer, run.ends.get(node.nodeId)?.promise]);
    call.outcome ??= 'gone';
  }
}

async function read(run: Run): Promise<void> {
  const { cluster, random } = run;
  while (!run.isOver) {
    await pause(run, random.below(10));
    const node = anyNode(run);
    if (node === undefined) continue;
    const before = Math.max(0, ...run.acknowledged.values());
    const answer = node.read(1).then(
      ({ index }) => {
        run.readCount += 1;
        assert.ok(index >= before, `a read at ${index} misses the write at ${before}`);
        const last = cluster.journal(node.nodeId).entries.at(-1)?.index ?? 0;
        assert.ok(last >= before, `the journal ends at ${last}, a write was at ${before}`);
      },
      (error: unknown) => assert.ok(isKommanderError(error), String(error)),
    );
    await Promise.race([answer, run.ends.get(node.nodeId)?.promise]);
  }
}

async function crash(run: Run, nodeId: string): Promise<void> {
  if (run.cluster.seat(nodeId).node === undefined) return;
  await run.cluster.crash(nodeId);
  run.ends.get(nodeId)?.resolve();
}

async function open(run: Run, nodeId: string): Promise<void> {
  if (run.cluster.seat(nodeId).node !== undefined) return;
  noteBegin(run, nodeId);
  await run.cluster.open(nodeId);
}

async function disturb(run: Run): Promise<void> {
  const { cluster, random } = run;
  const { network } = cluster;
  const nodeId = oneOf(random, cluster.nodeIds) ?? 'a';
  const other = oneOf(random, cluster.followers(nodeId)) ?? 'b';
  const seat = cluster.seat(nodeId);
  const how = oneOf(random, ['drop', 'cut'] as const) ?? 'cut';
  switch (random.below(14)) {
    case 0:
    case 1:
      return crash(run, nodeId);
    case 2:
    case 3:
    case 4:
      return open(run, nodeId);
    case 5:
      return network.setLink(nodeId, other, how);
    case 6:
      return cluster.isolate([nodeId], how);
    case 7:
    case 8:
      network.dropWhen(undefined);
      return network.heal();
    case 9: {
      const percent = 1 + random.below(20);
      return network.dropWhen(() => chance(random, percent));
    }
    case 10:
      seat.disk.latencyMs = oneOf(random, [0, 1, 5, 150]) ?? 0;
      return;
    case 11:
      if (chance(random, 50)) seat.clock?.pause();
      else seat.clock?.resume();
      return;
    case 12:
      // The node may be gone, or go, before it answers.
      seat.node?.transferLeadership(1, other).catch(() => {});
      return;
    case 13:
      seat.node?.checkpoint(1).catch(() => {});
      return;
  }
}

async function heal(run: Run): Promise<void> {
  const { cluster } = run;
  cluster.network.dropWhen(undefined);
  cluster.network.heal();
  for (const nodeId of cluster.nodeIds) {
    const seat = cluster.seat(nodeId);
    seat.disk.latencyMs = 0;
    seat.clock?.resume();
    await open(run, nodeId);
  }
  await cluster.leader();
}

function checkRun(run: Run): void {
  const { cluster, calls, acknowledged } = run;
  const journals = cluster.nodeIds.map((nodeId) => cluster.journal(nodeId).entries);
  const [first = []] = journals;
  for (const other of journals) assert.deepEqual(other, first, 'all replicas have the same');
  const places = new Map<string, number>();
  for (const entry of first) {
    assert.equal(places.get(entry.text), undefined, `${entry.text} took effect once`);
    places.set(entry.text, entry.index);
  }
  for (const [one, index] of acknowledged) {
    assert.equal(
      places.get(one),
      index,
      `the acknowledged write ${one} is where it was said to be`,
    );
  }
  for (const { texts, outcome } of calls) {
    assert.notEqual(outcome, undefined, 'everybody is answered');
    if (typeof outcome !== 'object' || !('error' in outcome)) continue;
    assert.ok(isKommanderError(outcome.error), String(outcome.error));
    if (outcome.error.mayHaveCommitted) continue;
    const { code } = outcome.error;
    for (const one of texts) assert.equal(places.get(one), undefined, `${one} failed with ${code}`);
  }
  for (const nodeId of cluster.nodeIds) {
    const { state, partitions } = cluster.node(nodeId).status();
    assert.equal(state, 'running');
    for (const { stopped, queuedProposals } of partitions) {
      assert.equal(stopped, undefined);
      assert.equal(queuedProposals, 0);
    }
  }
  assert.ok(acknowledged.size > 0, 'some writes are acknowledged');
  assert.ok(run.readCount > 0, 'some reads are answered');
}
