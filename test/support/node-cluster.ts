// A cluster of real nodes under one virtual clock: real host, real core, the network and the disks in memory. Nothing
// moves until a test lets time pass, so that a seed repeats a run exactly and hours take milliseconds. Nodes crash, stand
// still and come back; links break; disks are slow, fail, or forget what was not synced.

import { assert, must } from '../../src/base/assert.ts';
import { utf8Bytes } from '../../src/base/bytes.ts';
import { isKommanderError } from '../../src/base/errors.ts';
import { staticDiscovery } from '../../src/discovery/static.ts';
import type { KommanderNode, NodeOptions } from '../../src/host/api.ts';
import { openNode } from '../../src/host/node.ts';
import type { ObservedEvent } from '../../src/ports/observer.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import type { Endpoint, NodeId, Transport } from '../../src/ports/transport.ts';
import { type ProcessClock, processClock } from '../../src/testing/simulation/process-clock.ts';
import { type VirtualClock, virtualClock } from '../../src/testing/virtual-clock.ts';
import { type MemoryNetwork, memoryNetwork } from '../../src/transport/memory.ts';
import { type Journal, journal } from './journal.ts';
import { type NodeDisk, nodeDisk } from './node-disk.ts';

export interface NodeClusterOptions {
  /** 1 … 9 (default 3); they are called a, b, c, … */
  readonly nodes?: number;
  readonly seed?: number;
  readonly partitions?: number;
  /** Settings of every node. */
  readonly settings?: Partial<NodeOptions>;
  /** Default: a journal with snapshots. `undefined` as a result: partitions without a state machine. */
  readonly machine?: ((nodeId: NodeId, partitionId: number) => StateMachine) | undefined;
}

/** One place in the cluster: its disk stays, the node in it comes and goes. */
export interface Seat {
  readonly nodeId: NodeId;
  readonly endpoint: Endpoint;
  readonly disk: NodeDisk;
  node: KommanderNode | undefined;
  clock: ProcessClock | undefined;
  transport: Transport | undefined;
  /** What the node reported, over all its lives. */
  readonly observed: ObservedEvent[];
  /** Journals of the node's present life, by partition. */
  readonly journals: Map<number, Journal>;
}

export interface NodeCluster extends AsyncDisposable {
  readonly time: VirtualClock;
  readonly network: MemoryNetwork;
  readonly seats: ReadonlyMap<NodeId, Seat>;
  readonly nodeIds: readonly NodeId[];
  seat(nodeId: NodeId): Seat;
  /** The node that runs in a seat. */
  node(nodeId: NodeId): KommanderNode;
  journal(nodeId: NodeId, partitionId?: number): Journal;
  /** Opens a node on its seat's disk; `settings` go over those of the cluster. */
  open(nodeId: NodeId, settings?: Partial<NodeOptions>): Promise<KommanderNode>;
  openAll(): Promise<void>;
  /** The process is gone at once; its disk keeps what was synced. */
  crash(nodeId: NodeId): Promise<void>;
  /** Closes the node in good order and frees its seat. */
  close(nodeId: NodeId): Promise<void>;
  /** Crashes the node if it runs, and opens another one on its disk. */
  restart(nodeId: NodeId, settings?: Partial<NodeOptions>): Promise<KommanderNode>;
  /** Lets time pass until the promise has settled. */
  drive<Result>(promise: Promise<Result>, withinMs?: number): Promise<Result>;
  /** As `drive`, and the promise must fail. */
  driveFailure(promise: Promise<unknown>, withinMs?: number): Promise<Error & { code?: string }>;
  run(ms: number): Promise<void>;
  /** Lets time pass until `isDone`. */
  until(isDone: () => boolean, what: string, withinMs?: number): Promise<void>;
  /** Lets time pass until one running node leads and the others know it. */
  leader(partitionId?: number): Promise<NodeId>;
  /** Moves leadership if need be. */
  makeLeader(nodeId: NodeId, partitionId?: number): Promise<void>;
  followers(leader: NodeId): NodeId[];
  /** Separates `nodeIds` from all others: frames vanish (`drop`) or connections break (`cut`). */
  isolate(nodeIds: readonly NodeId[], how?: 'drop' | 'cut'): void;
  /** All running nodes have applied the same. */
  converge(partitionId?: number): Promise<void>;
}

/** Ticks of 10 ms and elections after 100 to 200 ms: a test's second is long. */
export const testSettings = { tickMs: 10, electionTicks: 10, heartbeatTicks: 1 } as const;
export const electionMs: number = testSettings.tickMs * testSettings.electionTicks;

const patienceMs = 60_000;

/** An entry's data as text. */
export function text(value: string): Uint8Array {
  return utf8Bytes(value);
}

/** The code of a failure, for messages and comparisons. */
export function codeOf(error: unknown): string {
  return isKommanderError(error) ? error.code : String(error);
}

/** Makes the seats; `openAll` fills them. */
export function nodeCluster(options: NodeClusterOptions = {}): NodeCluster {
  const { nodes = 3, seed = 1, partitions = 1, settings = {} } = options;
  const makeMachine = 'machine' in options ? options.machine : undefined;
  const hasMachine = !('machine' in options) || makeMachine !== undefined;
  const nodeIds = 'abcdefghi'.slice(0, nodes).split('');
  const members: Record<NodeId, Endpoint> = {};
  for (const [position, nodeId] of nodeIds.entries()) members[nodeId] = `127.0.0.1:${position + 1}`;
  const time = virtualClock();
  const network = memoryNetwork();
  const seats = new Map<NodeId, Seat>();
  let lives = 0;
  for (const nodeId of nodeIds) {
    seats.set(nodeId, {
      nodeId,
      endpoint: must(members[nodeId], 'every seat has an endpoint'),
      disk: nodeDisk(),
      node: undefined,
      clock: undefined,
      transport: undefined,
      observed: [],
      journals: new Map(),
    });
  }

  function machineOf(seat: Seat, partitionId: number): StateMachine {
    if (makeMachine !== undefined) return makeMachine(seat.nodeId, partitionId);
    const made = journal();
    seat.journals.set(partitionId, made);
    return made;
  }

  async function begin(
    nodeId: NodeId,
    ownSettings: Partial<NodeOptions> = {},
  ): Promise<KommanderNode> {
    const seat = cluster.seat(nodeId);
    assert(seat.node === undefined, 'a seat has one node');
    lives += 1;
    const clock = processClock({ time, touched: () => {}, wallOffsetMs: 0, rate: 1 });
    const transport = network.transport();
    seat.clock = clock;
    seat.transport = transport;
    seat.journals.clear();
    const node = await openNode({
      nodeId,
      listen: seat.endpoint,
      members,
      partitions,
      wal: seat.disk.attach(clock),
      transport,
      discovery: staticDiscovery(members),
      clock,
      seed: seed * 1_000 + lives,
      logger: (event) => {
        seat.observed.push(event);
      },
      ...(hasMachine ? { stateMachine: (id: number) => machineOf(seat, id) } : {}),
      ...testSettings,
      ...settings,
      ...ownSettings,
    });
    seat.node = node;
    return node;
  }

  const cluster: NodeCluster = {
    time,
    network,
    seats,
    nodeIds,
    seat: (nodeId) => must(seats.get(nodeId), `there is a seat ${nodeId}`),
    node: (nodeId) => must(cluster.seat(nodeId).node, `node ${nodeId} runs`),
    journal: (nodeId, partitionId = 1) =>
      must(cluster.seat(nodeId).journals.get(partitionId), 'the partition has a journal'),
    open: (nodeId, ownSettings) => cluster.drive(begin(nodeId, ownSettings)),
    async openAll() {
      await cluster.drive(Promise.all(nodeIds.map((nodeId) => begin(nodeId))));
    },
    async crash(nodeId) {
      const seat = cluster.seat(nodeId);
      seat.clock?.kill();
      seat.node = undefined;
      await seat.transport?.close();
      await seat.disk.crash();
    },
    async close(nodeId) {
      await cluster.drive(cluster.node(nodeId).close());
      cluster.seat(nodeId).node = undefined;
    },
    async restart(nodeId, ownSettings) {
      if (cluster.seat(nodeId).node !== undefined) await cluster.crash(nodeId);
      return cluster.open(nodeId, ownSettings);
    },
    async drive(promise, withinMs = patienceMs) {
      let isSettled = false;
      promise.then(
        () => {
          isSettled = true;
        },
        () => {
          isSettled = true;
        },
      );
      const endMs = time.monotonicMs() + withinMs;
      await time.settle();
      while (!isSettled) {
        assert(time.monotonicMs() < endMs, `the promise settles within ${withinMs} ms`);
        await time.run(1);
      }
      return promise;
    },
    async driveFailure(promise, withinMs) {
      const outcome = await cluster.drive(
        promise.then(
          (value) => ({ value, error: undefined }),
          (error: unknown) => ({ value: undefined, error }),
        ),
        withinMs,
      );
      assert(outcome.error instanceof Error, 'the promise fails with an error');
      return outcome.error;
    },
    run: (ms) => time.run(ms),
    async until(isDone, what, withinMs = patienceMs) {
      const endMs = time.monotonicMs() + withinMs;
      await time.settle();
      while (!isDone()) {
        assert(time.monotonicMs() < endMs, `within ${withinMs} ms ${what}`);
        await time.run(1);
      }
    },
    async leader(partitionId = 1) {
      await cluster.until(
        () => agreedLeader(cluster, partitionId) !== undefined,
        `partition ${partitionId} has a leader that all know`,
      );
      return must(agreedLeader(cluster, partitionId), 'a leader was found');
    },
    async makeLeader(nodeId, partitionId = 1) {
      const present = await cluster.leader(partitionId);
      if (present !== nodeId) {
        await cluster.drive(cluster.node(present).transferLeadership(partitionId, nodeId));
      }
      await cluster.until(
        () => agreedLeader(cluster, partitionId) === nodeId,
        `${nodeId} leads partition ${partitionId}`,
      );
    },
    followers: (leader) => nodeIds.filter((nodeId) => nodeId !== leader),
    isolate(isolated, how = 'drop') {
      for (const inside of isolated) {
        for (const outside of nodeIds.filter((nodeId) => !isolated.includes(nodeId))) {
          network.setLink(inside, outside, how);
          network.setLink(outside, inside, how);
        }
      }
    },
    async converge(partitionId = 1) {
      await cluster.until(
        () => isConverged(cluster, partitionId),
        `all replicas of partition ${partitionId} have applied the same`,
      );
    },
    async [Symbol.asyncDispose]() {
      // Nobody is asked to close: a test that failed may have left the nodes in any state.
      for (const nodeId of nodeIds) await cluster.crash(nodeId);
    },
  };
  return cluster;
}

function running(cluster: NodeCluster): KommanderNode[] {
  return [...cluster.seats.values()]
    .map((seat) => seat.node)
    .filter((node) => node !== undefined && node.status().state === 'running') as KommanderNode[];
}

function agreedLeader(cluster: NodeCluster, partitionId: number): NodeId | undefined {
  const nodes = running(cluster);
  const leaders = nodes.filter((node) => node.isLeader(partitionId));
  const leader = leaders[0]?.nodeId;
  const isAgreed = nodes.every((node) => node.leaderOf(partitionId) === leader);
  return leaders.length === 1 && isAgreed ? leader : undefined;
}

function isConverged(cluster: NodeCluster, partitionId: number): boolean {
  const positions = running(cluster).map((node) =>
    must(
      node.status().partitions.find((partition) => partition.partitionId === partitionId),
      'the partition is on every node',
    ),
  );
  const end = Math.max(...positions.map((position) => position.lastIndex));
  return positions.every(
    ({ lastIndex, commitIndex, lastApplied }) =>
      lastIndex === end && commitIndex === end && lastApplied === end,
  );
}
