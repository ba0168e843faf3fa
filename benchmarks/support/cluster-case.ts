// One case of the cluster benchmark: a fresh cluster, a load, and what three processes and their disk had to do for it.
// Rates are made of two marks of each process on its own clock, so that a late answer does not distort them.

import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { must } from '../../src/base/assert.ts';
import type { PartitionId } from '../../src/index.ts';
import {
  type Cluster,
  type LeaderPlacement,
  type NodeProcess,
  startCluster,
} from './cluster-processes.ts';
import type { Applied, Latencies, LoadRequest, Mark, WalEngine } from './node-requests.ts';
import { measureRawSync } from './raw-sync.ts';

/** Who makes the calls: the leaders of the partitions, or other nodes. */
export type Caller = 'leader' | 'follower';

export interface Case {
  readonly operation: 'write' | 'read';
  readonly caller: Caller;
  readonly partitions: number;
  /** Bytes of an entry's data; 0 for reads. */
  readonly bytes: number;
  /** Calls under way at any time, in the whole cluster. */
  readonly inFlight: number;
}

export interface Measuring {
  readonly wal: WalEngine;
  readonly placement: LeaderPlacement;
  /** Directory of the stores. */
  readonly directory: string;
  readonly warmUpMs: number;
  readonly measureMs: number;
  /** Directory for `.cpuprofile` files, one per node. */
  readonly profileDirectory: string | undefined;
}

export interface CaseResult extends Case {
  readonly name: string;
  /** Commits, or reads. */
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of all three processes together. */
  readonly cpuMicrosPerEntry: number;
  /** The part of the processes that make the calls. */
  readonly callerCpuMicrosPerEntry: number;
  /** Of all three nodes together. */
  readonly syncsPerSecond: number;
  readonly syncsPerEntry: number;
  /** Median of an append and sync on the same disk, just before, by one process alone. */
  readonly rawSyncMs: number;
  /** Elections and hand-overs while it was measured; a case with one is not believed. */
  readonly leaderChanges: number;
  /** Failed calls by error code, warm-up included. */
  readonly failures: Readonly<Record<string, number>>;
  /** Warnings of the nodes by event name. */
  readonly warnings: Readonly<Record<string, number>>;
}

const rawSyncMeasureMs = 250;
/** Calls under way while the code warms up, at least: one call at a time would leave it cold. */
const warmInFlightMin = 64;
const settleMsMax = 20_000;

/** What a case is called in filters and tables. */
export function caseName({ operation, caller, partitions, bytes, inFlight }: Case): string {
  const what = operation === 'write' ? `write/${bytes}B` : 'read';
  return `${what}/${caller}/${partitions}p/${inFlight}`;
}

/** @throws Error when an acknowledged write is missing on a node, or a process fails */
export async function measureCase(asked: Case, measuring: Measuring): Promise<CaseResult> {
  const { directory, placement, wal } = measuring;
  mkdirSync(directory, { recursive: true });
  try {
    const rawSyncMs = measureRawSync(directory, rawSyncMeasureMs);
    await using cluster = await startCluster({
      partitions: asked.partitions,
      placement,
      wal,
      directory,
    });
    const drivers = driversOf(cluster, asked.caller);
    const warm = { ...asked, inFlight: Math.max(asked.inFlight, warmInFlightMin) };
    await startLoads(drivers, warm);
    await pause(measuring.warmUpMs);
    const warmCount = await stopLoads(drivers);
    const loaded = await startLoads(drivers, asked);
    await profileAll(cluster, measuring, (node) => node.ask('startProfile'));
    const before = await marks(cluster.nodes);
    await Promise.all(cluster.nodes.map((node) => node.ask('latencies')));
    await pause(measuring.measureMs);
    const after = await marks(cluster.nodes);
    const latencies = await Promise.all(cluster.nodes.map((node) => node.ask('latencies')));
    await profileAll(cluster, measuring, (node, profileDirectory) => {
      const role = loaded.includes(node) ? 'caller' : 'other';
      const name = caseName(asked).replaceAll('/', '-');
      const file = join(profileDirectory, `${name}-${role}-${node.nodeId}.cpuprofile`);
      return node.ask('stopProfile', { file });
    });
    const count = warmCount + (await stopLoads(loaded));
    const failures = summed([...after.values()].map((mark) => mark.failures));
    if (asked.operation === 'write')
      await checkApplied(cluster.nodes, { count, bytes: asked.bytes, exactly: isEmpty(failures) });
    await Promise.all(cluster.nodes.map((node) => node.ask('close')));
    return {
      name: caseName(asked),
      ...asked,
      ...rates({ before, after, callers: loaded }),
      ...percentiles(latencies),
      rawSyncMs: rounded(rawSyncMs),
      failures,
      warnings: summed([...after.values()].map((mark) => mark.warnings)),
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Which node calls for which partitions. */
function driversOf(cluster: Cluster, caller: Caller): ReadonlyMap<NodeProcess, PartitionId[]> {
  const { nodes, leaders } = cluster;
  const drivers = new Map<NodeProcess, PartitionId[]>();
  for (const [at, leader] of leaders.entries()) {
    const next = nodes[(nodes.indexOf(leader) + 1) % nodes.length] as NodeProcess;
    const driver = caller === 'leader' ? leader : next;
    drivers.set(driver, [...(drivers.get(driver) ?? []), at + 1]);
  }
  return drivers;
}

/** Shares the calls out among the drivers; returns those that have any. */
async function startLoads(
  drivers: ReadonlyMap<NodeProcess, readonly PartitionId[]>,
  { operation, caller, bytes, inFlight }: Case,
): Promise<readonly NodeProcess[]> {
  const shares = [...drivers].map(([node, partitionIds], at) => {
    const share = Math.floor((inFlight + drivers.size - 1 - at) / drivers.size);
    const mayForward = caller === 'follower';
    const load: LoadRequest = { operation, partitionIds, inFlight: share, bytes, mayForward };
    return { node, load };
  });
  const loaded = shares.filter(({ load }) => load.inFlight > 0);
  await Promise.all(loaded.map(({ node, load }) => node.ask('startLoad', load)));
  return loaded.map(({ node }) => node);
}

async function stopLoads(
  drivers: ReadonlyMap<NodeProcess, readonly PartitionId[]> | readonly NodeProcess[],
): Promise<number> {
  const nodes = Array.isArray(drivers) ? drivers : [...drivers.keys()];
  const counts = await Promise.all(nodes.map((node: NodeProcess) => node.ask('stopLoad')));
  return counts.reduce((sum, count) => sum + count, 0);
}

async function marks(nodes: readonly NodeProcess[]): Promise<ReadonlyMap<NodeProcess, Mark>> {
  const taken = await Promise.all(nodes.map((node) => node.ask('mark')));
  return new Map(nodes.map((node, at) => [node, taken[at] as Mark]));
}

async function profileAll(
  { nodes }: Cluster,
  { profileDirectory }: Measuring,
  each: (node: NodeProcess, profileDirectory: string) => Promise<undefined>,
): Promise<void> {
  if (profileDirectory === undefined) return;
  mkdirSync(profileDirectory, { recursive: true });
  await Promise.all(nodes.map((node) => each(node, profileDirectory)));
}

function rates(taken: {
  readonly before: ReadonlyMap<NodeProcess, Mark>;
  readonly after: ReadonlyMap<NodeProcess, Mark>;
  readonly callers: readonly NodeProcess[];
}): Pick<
  CaseResult,
  | 'perSecond'
  | 'cpuMicrosPerEntry'
  | 'callerCpuMicrosPerEntry'
  | 'syncsPerSecond'
  | 'syncsPerEntry'
  | 'leaderChanges'
> {
  const sum = { perSecond: 0, count: 0, cpu: 0, callerCpu: 0, syncs: 0, syncsPerSecond: 0 };
  let leaderChanges = 0;
  for (const [node, after] of taken.after) {
    const before = must(taken.before.get(node), 'every node was marked before');
    const seconds = (after.atMs - before.atMs) / 1_000;
    const count = after.completedCount - before.completedCount;
    const cpu = after.cpuMicros - before.cpuMicros;
    const syncs = after.wal.syncCount - before.wal.syncCount;
    sum.perSecond += count / seconds;
    sum.count += count;
    sum.cpu += cpu;
    if (taken.callers.includes(node)) sum.callerCpu += cpu;
    sum.syncs += syncs;
    sum.syncsPerSecond += syncs / seconds;
    leaderChanges += after.leaderChanges - before.leaderChanges;
  }
  return {
    perSecond: rounded(sum.perSecond),
    cpuMicrosPerEntry: rounded(sum.cpu / sum.count),
    callerCpuMicrosPerEntry: rounded(sum.callerCpu / sum.count),
    syncsPerSecond: rounded(sum.syncsPerSecond),
    syncsPerEntry: rounded(sum.syncs / sum.count),
    leaderChanges,
  };
}

/** Of all callers: each one's thousandths stand for a thousandth of its calls. */
function percentiles(latencies: readonly Latencies[]): Pick<CaseResult, 'p50Ms' | 'p99Ms'> {
  const points = latencies
    .flatMap(({ count, perMilleNanos }) =>
      perMilleNanos.map((nanos) => ({ nanos, weight: count / perMilleNanos.length })),
    )
    .sort((a, b) => a.nanos - b.nanos);
  const total = points.reduce((sum, { weight }) => sum + weight, 0);
  const at = (part: number): number => {
    let weight = 0;
    for (const point of points) {
      weight += point.weight;
      if (weight >= total * part - 1e-6) return rounded(point.nanos / 1e6);
    }
    return Number.NaN;
  };
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}

/** Every acknowledged write is applied on every node, and nothing else when no call failed. */
async function checkApplied(
  nodes: readonly NodeProcess[],
  expected: { readonly count: number; readonly bytes: number; readonly exactly: boolean },
): Promise<void> {
  const { count, bytes, exactly } = expected;
  let applied: readonly Applied[] = [];
  for (const endMs = performance.now() + settleMsMax; performance.now() < endMs; await pause(50)) {
    applied = await Promise.all(nodes.map((node) => node.ask('applied')));
    if (applied.every(({ entryCount }) => entryCount >= count)) break;
  }
  const isRight = ({ entryCount, dataBytes }: Applied): boolean =>
    (exactly ? entryCount === count : entryCount >= count) && dataBytes === entryCount * bytes;
  if (applied.every(isRight)) return;
  throw new Error(
    `${count} writes of ${bytes} B were acknowledged, but applied: ${JSON.stringify(applied)}`,
  );
}

function summed(
  parts: readonly Readonly<Record<string, number>>[],
): Readonly<Record<string, number>> {
  const sums: Record<string, number> = {};
  for (const part of parts) {
    for (const [name, count] of Object.entries(part)) sums[name] = (sums[name] ?? 0) + count;
  }
  return sums;
}

function isEmpty(counts: Readonly<Record<string, number>>): boolean {
  return Object.keys(counts).length === 0;
}

function rounded(value: number): number {
  return value >= 1_000 ? Math.round(value) : Number(value.toPrecision(3));
}
