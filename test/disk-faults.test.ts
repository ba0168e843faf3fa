// Servers as processes on disks that are full, fail and are slow: for every durable engine the same.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { must } from '../src/base/assert.ts';
import { isKommanderError } from '../src/base/errors.ts';
import type { Wal } from '../src/ports/wal.ts';
import {
  contentsOf,
  emptyModel,
  factsOf,
  lastIndexOf,
  writeToModel,
} from '../src/testing/wal-model.ts';
import { rocksdbWal } from '../src/wal/rocksdb.ts';
import { fileDirectory } from '../src/wal/rocksdb-directory.ts';
import { segmentWal } from '../src/wal/segment.ts';
import { sqliteWal } from '../src/wal/sqlite.ts';
import { walWriterBatch } from './fixtures/wal-writer.ts';
import {
  allReady,
  assertKeys,
  type NodeProcess,
  openProcesses,
  writeKeys,
} from './server-node-process.ts';
import { eventually, type StatusJson, statusOf } from './server-support.ts';
import { smallDisk, traceSyncs } from './support/disk-faults.ts';

interface Engine {
  readonly wal: string;
  /** What it leaves free by default: where a server notices that its disk is full. Absent: only at the very end. */
  readonly reserveMebibytes?: number;
}

/** Engines that `kommander serve` has. */
const engines: readonly Engine[] = [
  { wal: 'rocksdb', reserveMebibytes: 128 },
  { wal: 'segment' },
  { wal: 'sqlite' },
];

/** Stores that meet the end of their disk in a write. */
const greedyStores: readonly { readonly wal: string; readonly open: (path: string) => Wal }[] = [
  { wal: 'rocksdb', open: greedyRocksDb },
  { wal: 'segment', open: (path) => segmentWal({ path, segmentBytes: 1_048_576 }) },
  { wal: 'sqlite', open: (path) => sqliteWal({ path }) },
];

/** It believes in more room than there is, as if others took it between its question and its write. */
function greedyRocksDb(path: string): Wal {
  const directory = fileDirectory(path);
  const freeBytes = (): number => directory.freeBytes() + 65_536;
  return rocksdbWal({ path, reserveBytes: 0, directory: { ...directory, freeBytes } });
}

const mebibyte = 1_048_576;
/** What a node has beside the reserve of its engine until somebody else takes it; RocksDB lays out 74 of them ahead. */
const roomMebibytes = 160;

async function status(node: NodeProcess): Promise<StatusJson> {
  return must(await statusOf(node.url), `${node.nodeId} answers`);
}

async function leaderOf(nodes: readonly NodeProcess[], partition: number): Promise<NodeProcess> {
  let leader: NodeProcess | undefined;
  await eventually(`partition ${partition} has a leader`, async () => {
    for (const node of nodes) {
      const replica = (await statusOf(node.url))?.partitions.find(
        (each) => each.partition === partition,
      );
      if (replica?.role === 'leader') leader = node;
    }
    return leader !== undefined;
  });
  return must(leader, 'a leader was found');
}

/** Moves all partitions to the node. */
async function lead(node: NodeProcess, nodes: readonly NodeProcess[]): Promise<void> {
  const { partitions } = await status(node);
  for (const { partition } of partitions) {
    await eventually(`${node.nodeId} leads ${partition}`, async () => {
      if ((await leaderOf(nodes, partition)) === node) return true;
      const body = JSON.stringify({ to: node.nodeId });
      await fetch(`${node.url}/v1/partitions/${partition}/transfer`, { method: 'POST', body });
      return false;
    });
  }
}

/** Writes until it succeeds: leadership may just be moving. */
async function writeSoon(node: NodeProcess, key: string): Promise<void> {
  await eventually(`${key} is written through ${node.nodeId}`, async () => {
    const response = await fetch(`${node.url}/v1/kv/${key}`, { method: 'PUT', body: key });
    await response.text();
    return response.ok;
  });
}

async function ledBy(node: NodeProcess): Promise<number> {
  const known = await statusOf(node.url);
  return known?.partitions.filter(({ role }) => role === 'leader').length ?? 0;
}

async function allApplied(nodes: readonly NodeProcess[]): Promise<void> {
  await eventually('all have applied the same', async () => {
    const positions = await Promise.all(
      nodes.map(async (node) =>
        (await status(node)).partitions.map(({ lastApplied }) => lastApplied),
      ),
    );
    return new Set(positions.map(String)).size === 1;
  });
}

async function threeWithSmallDisk(
  t: TestContext,
  { wal, diskMebibytes }: { readonly wal: string; readonly diskMebibytes: number },
) {
  const disk = smallDisk(t, diskMebibytes);
  if (disk === undefined) return undefined;
  const nodes = await openProcesses(t, ['a', 'b', 'c'], {
    flags: ['--wal', wal],
    directoryOf: (nodeId) => (nodeId === 'a' ? `${disk.path}/a` : undefined),
  });
  return { disk, nodes, a: nodes[0] as NodeProcess, b: nodes[1] as NodeProcess };
}

for (const { wal, open } of greedyStores) {
  test(`${wal}: a store that meets the end of its disk in a write keeps what it said, and goes on when there is room`, async (t) => {
    const disk = smallDisk(t, 32);
    if (disk === undefined) return;
    const model = emptyModel();
    /** More than the disk has room for. */
    const batchesMax = 5_000;
    let batchCount = 0;
    const store = open(`${disk.path}/store`);
    await store.open();
    /** The failure, or undefined when the next batch was written. */
    const tryWrite = async (): Promise<unknown> => {
      const batch = walWriterBatch(1, batchCount);
      try {
        await store.write(batch);
      } catch (error) {
        return error;
      }
      writeToModel(model, batch);
      batchCount += 1;
      return undefined;
    };
    for (let round = 0; round < 3; round++) {
      disk.fill(100_000 * (round + 1));
      let refused: unknown;
      while (refused === undefined && batchCount < batchesMax) refused = await tryWrite();
      assert.ok(isKommanderError(refused, 'DISK_FULL'));
      assert.match(
        refused.message + String(refused.cause),
        /no space left on device|database or disk is full/i,
      );
      // A store may have let go of something meanwhile.
      const again = await tryWrite();
      assert.ok(again === undefined || isKommanderError(again, 'DISK_FULL'), String(again));
      for (const [partitionId, partition] of model.partitions) {
        const endIndex = lastIndexOf(partition) + 1;
        const range = { partitionId, fromIndex: partition.compactedIndex + 1, endIndex };
        const read = await store.read({ ...range, bytesMax: Number.POSITIVE_INFINITY });
        assert.deepEqual(read.map(factsOf), partition.entries.map(factsOf));
      }
      disk.makeRoom();
      for (let more = 0; more < 10; more++) assert.equal(await tryWrite(), undefined);
    }
    await store.close();
    const { partitions, meta } = await store.open();
    assert.deepEqual({ partitions, meta }, contentsOf(model));
    await store.close();
  });
}

for (const { wal, reserveMebibytes } of engines) {
  if (reserveMebibytes === undefined) continue;
  const fullBytes = (reserveMebibytes - 1) * mebibyte;
  const diskMebibytes = reserveMebibytes + roomMebibytes;

  test(`${wal}: a lone server on a full disk refuses writes with DISK_FULL, serves reads and recovers`, async (t) => {
    const disk = smallDisk(t, diskMebibytes);
    if (disk === undefined) return;
    const [node] = await openProcesses(t, ['a'], {
      flags: ['--wal', wal],
      directoryOf: () => `${disk.path}/a`,
    });
    assert.ok(node !== undefined);
    await writeKeys(node, 'before', 20);
    disk.fill(fullBytes);
    // The write that finds out waits for room as long as its time lasts, and is written when there is some.
    const first = fetch(`${node.url}/v1/kv/first`, { method: 'PUT', body: 'first' });
    await eventually('the server knows that its disk is full', async () => {
      return (await status(node)).diskFull;
    });
    for (let i = 0; i < 10; i++) {
      const refused = await fetch(`${node.url}/v1/kv/refused`, { method: 'PUT', body: 'x' });
      assert.equal(refused.status, 507);
      const body = (await refused.json()) as { code: string; mayHaveCommitted: boolean };
      assert.deepEqual(
        { code: body.code, mayHaveCommitted: body.mayHaveCommitted },
        { code: 'DISK_FULL', mayHaveCommitted: false },
      );
    }
    await assertKeys(node, 'before', 20);
    disk.makeRoom();
    await writeSoon(node, 'after');
    assert.equal((await status(node)).diskFull, false);
    assert.ok([200, 504].includes((await first).status), 'written, or its time was over');
    assert.equal(node.child.exitCode, null, 'without a restart');
    assert.equal(await node.end('SIGKILL'), 'SIGKILL');
    node.restart();
    await allReady([node]);
    await assertKeys(node, 'before', 20);
    for (const key of ['first', 'after']) {
      assert.equal(await (await fetch(`${node.url}/v1/kv/${key}`)).text(), key);
    }
    assert.equal((await fetch(`${node.url}/v1/kv/refused`)).status, 404);
  });

  test(`${wal}: a server does not open on a full disk, and opens with everything once there is room`, async (t) => {
    const disk = smallDisk(t, diskMebibytes);
    if (disk === undefined) return;
    const [node] = await openProcesses(t, ['a'], {
      flags: ['--wal', wal],
      directoryOf: () => `${disk.path}/a`,
    });
    assert.ok(node !== undefined);
    await writeKeys(node, 'before', 20);
    assert.equal(await node.end('SIGKILL'), 'SIGKILL');
    disk.fill(0);
    assert.equal(await node.another().exited, 1);
    const refused = node.another();
    assert.equal(await refused.exited, 1);
    assert.match(refused.stderr, /^kommander: .*\(DISK_FULL\)$/m);
    disk.makeRoom();
    node.restart();
    await allReady([node]);
    await assertKeys(node, 'before', 20);
  });

  test(`${wal}: a leader on a full disk gives leadership away, and catches up when it has room`, async (t) => {
    const cluster = await threeWithSmallDisk(t, { wal, diskMebibytes });
    if (cluster === undefined) return;
    const { disk, nodes, a, b } = cluster;
    await writeKeys(a, 'before', 20);
    await lead(a, nodes);
    disk.fill(fullBytes);
    await writeSoon(b, 'first');
    await eventually('a leads nothing', async () => (await ledBy(a)) === 0);
    await writeKeys(b, 'during', 50);
    await assertKeys(b, 'before', 20);
    assert.equal((await status(a)).diskFull, true);
    assert.equal((await status(a)).state, 'running');
    disk.makeRoom();
    await eventually('a has caught up', async () => {
      const [own, other] = [await status(a), await status(b)];
      return own.partitions.every(
        (each, i) => each.lastApplied === other.partitions[i]?.lastApplied,
      );
    });
    assert.equal((await status(a)).diskFull, false);
    await assertKeys(a, 'during', 50);
    assert.equal(a.child.exitCode, null, 'without a restart');
  });
}

for (const { wal } of engines) {
  test(`${wal}: a sync that fails stops the node for good, says why, and others take over`, async (t) => {
    const nodes = await openProcesses(t, ['a', 'b', 'c'], { flags: ['--wal', wal] });
    const [a, b] = nodes as readonly [NodeProcess, NodeProcess];
    await writeKeys(a, 'before', 20);
    await lead(a, nodes);
    const tracer = await traceSyncs(t, a.child.pid, { error: 'EIO' });
    if (tracer === undefined) return;
    await writeSoon(b, 'first');
    await eventually('a has failed', async () => (await status(a)).state === 'failed');
    const refused = await fetch(`${a.url}/v1/kv/refused`, { method: 'PUT', body: 'x' });
    assert.equal(((await refused.json()) as { code: string }).code, 'WAL_FAILED');
    await writeKeys(b, 'during', 20);
    await assertKeys(b, 'before', 20);
    // The disk works again, and nobody believes it: only a restart reads what is really there.
    const { syncCount } = await tracer.end();
    assert.equal(syncCount, 1, 'a failed sync is not tried again');
    assert.equal((await status(a)).state, 'failed');
    const why = /"error":.*(?:Input\/output error|EIO|disk I\/O error).*"node-failed"/;
    await eventually('a says why', () => why.test(a.stderr));
    assert.equal(await a.end('SIGKILL'), 'SIGKILL');
    a.restart();
    await allReady([a]);
    await assertKeys(a, 'before', 20);
    await assertKeys(a, 'during', 20);
  });

  test(`${wal}: a leader whose syncs take seconds gives leadership away`, async (t) => {
    const nodes = await openProcesses(t, ['a', 'b', 'c'], { flags: ['--wal', wal] });
    const [a, b, c] = nodes as readonly [NodeProcess, NodeProcess, NodeProcess];
    await writeKeys(a, 'before', 5);
    await lead(a, nodes);
    const tracer = await traceSyncs(t, a.child.pid, { delayMs: 4_000 });
    if (tracer === undefined) return;
    await writeSoon(b, 'first');
    await eventually('the others lead', async () => (await ledBy(b)) + (await ledBy(c)) === 4);
    await writeKeys(b, 'during', 20);
    await tracer.end();
    await eventually('a follows', async () => (await statusOf(a.url))?.state === 'running');
    // An engine that syncs on the thread of the node stops its clock as well: then others do not wait to be asked.
    const why = /"(?:leadership-given-away|timer-late)"/;
    await eventually('a says why', () => why.test(a.stderr));
    await assertKeys(a, 'during', 20);
  });

  test(`${wal}: the system sees one sync per write and node, and none when nothing changes`, async (t) => {
    const nodes = await openProcesses(t, ['a', 'b', 'c'], { flags: ['--wal', wal] });
    const [a] = nodes as readonly [NodeProcess];
    await lead(a, nodes);
    await writeKeys(a, 'before', 5);
    await allApplied(nodes);
    const writeCount = 10;
    const terms = async (): Promise<string> =>
      JSON.stringify(
        await Promise.all(
          nodes.map(async (node) => (await status(node)).partitions.map(({ term }) => term)),
        ),
      );
    for (const changes of [0, writeCount]) {
      const before = await terms();
      const counted = await Promise.all(nodes.map(async (node) => (await status(node)).wal));
      const tracers = await Promise.all(
        nodes.map((node) => traceSyncs(t, node.child.pid, 'count')),
      );
      if (tracers.includes(undefined)) return;
      for (let change = 0; change < changes; change++) {
        // One after the other: what comes while a follower syncs would share its next sync.
        await writeKeys(a, `counted-${change}`, 1);
        await allApplied(nodes);
      }
      if (changes === 0) await new Promise((resolve) => setTimeout(resolve, 1_500));
      const seen = await Promise.all(
        tracers.map(async (tracer) => (await tracer?.end())?.syncCount),
      );
      const stats = await Promise.all(
        nodes.map(
          async (node, i) => (await status(node)).wal.syncCount - (counted[i]?.syncCount ?? 0),
        ),
      );
      assert.deepEqual(seen, stats, 'the engine syncs when it says so, and only then');
      // An election, on a machine that stood still meanwhile, has syncs of its own.
      if ((await terms()) !== before) continue;
      // A follower whose disk is slower than the others' stores what has gathered with one sync.
      assert.equal(seen[0], changes);
      assert.ok(seen.every((count) => (count ?? 0) <= changes));
    }
  });
}
