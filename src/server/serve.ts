// One node with its key-value store behind HTTP: what `kommander serve` runs. It joins the concrete engines to the
// node, decides when logs are compacted, and ends in order: no new requests, those under way answered, leadership
// handed over, everything closed.

import { join } from 'node:path';
import { must } from '../base/assert.ts';
import { staticDiscovery } from '../discovery/static.ts';
import { type KommanderNode, openNode } from '../index.ts';
import type { Observer } from '../ports/observer.ts';
import type { Endpoint } from '../ports/transport.ts';
import type { PartitionId, Wal } from '../ports/wal.ts';
import { grpcTransport } from '../transport/grpc.ts';
import { memoryWal } from '../wal/memory.ts';
import { rocksdbWal } from '../wal/rocksdb.ts';
import { type HttpApi, openHttpApi } from './http-api.ts';
import { KeyValueMachine } from './key-value.ts';
import { openLog } from './log.ts';
import type { ServeOptions } from './serve-options.ts';

/** Milliseconds that requests under way get to finish when the server closes. */
const drainMsMax = 5_000;
/** Milliseconds after which an orderly end is given up. */
const closeMsMax = 20_000;
/** Milliseconds for the last lines of the log. */
const flushMsMax = 500;
/** Milliseconds between two looks at whether a partition's log is long enough for a checkpoint. */
const checkpointPollMs = 1_000;

export interface Server {
  readonly node: KommanderNode;
  /** Where the HTTP API listens. */
  readonly http: Endpoint;
  /** Idempotent. */
  close(): Promise<void>;
}

/**
 * Opens a node and its HTTP API. The API listens first, so that a probe sees a restoring node as live.
 *
 * @throws what `openNode` and `openHttpApi` throw; nothing stays open then
 */
export async function openServer(options: ServeOptions, observer: Observer): Promise<Server> {
  const api = await openHttpApi({ listen: options.http, observer });
  try {
    const machines = new Map<PartitionId, KeyValueMachine>();
    const node = await openNode({
      nodeId: options.nodeId,
      listen: options.listen,
      advertise: must(options.members[options.nodeId], 'the options know this node as a member'),
      members: options.members,
      partitions: options.partitions,
      wal: openWal(options),
      transport: grpcTransport(),
      discovery: staticDiscovery(options.members),
      stateMachine: (partitionId) => {
        const machine = new KeyValueMachine();
        machines.set(partitionId, machine);
        return machine;
      },
      logger: observer,
      tickMs: options.tickMs,
      electionTicks: options.electionTicks,
      ...(options.wal === 'memory'
        ? {}
        : { evidenceDirectory: join(directoryOf(options), 'evidence') }),
    });
    api.attach({ node, machines });
    const checkpoints = startCheckpoints({ node, machines, observer }, options.checkpointBytes);
    return { node, http: api.endpoint, close: once(() => closeServer(api, node, checkpoints)) };
  } catch (error) {
    await api.close();
    throw error;
  }
}

/**
 * Runs a server until it is told to stop: by SIGTERM or SIGINT, or by the end of standard input when
 * `stopWithParent` says so. A second signal ends the process at once.
 *
 * @returns the exit code
 */
export async function runServe(options: ServeOptions): Promise<number> {
  const log = openLog({ level: options.logLevel, fields: { node: options.nodeId } });
  const stopped = waitForStop(options);
  try {
    const server = await openServer(options, log.observer);
    process.stdout.write(`${readyLine(options, server)}\n`);
    const reason = await stopped;
    log.observer({ level: 'info', name: 'server-closing', fields: { reason } });
    const isOrderly = await endsWithin(server.close(), closeMsMax);
    log.observer({ level: 'info', name: 'server-closed', fields: { isOrderly } });
    return isOrderly ? 0 : 1;
  } finally {
    await endsWithin(log.flush(), flushMsMax);
  }
}

/** The one line on standard output that says: this node takes requests. */
function readyLine(options: ServeOptions, server: Server): string {
  const { nodeId, listen, partitions, wal, data } = options;
  const where = wal === 'rocksdb' ? ` data=${data}` : '';
  return `kommander ready node=${nodeId} http=http://${server.http} raft=${listen} partitions=${partitions} wal=${wal}${where}`;
}

/** The log store that the options name. */
export function openWal(options: ServeOptions): Wal {
  if (options.wal === 'memory') return memoryWal();
  return rocksdbWal({ path: directoryOf(options) });
}

function directoryOf({ data }: ServeOptions): string {
  return must(data, 'the options have a directory for rocksdb');
}

/** Resolves with what asked for the end. */
function waitForStop(options: ServeOptions): Promise<string> {
  return new Promise((resolve) => {
    let isStopping = false;
    const stop = (reason: string): void => {
      isStopping = true;
      resolve(reason);
    };
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (isStopping) process.exit(1);
        stop(signal);
      });
    }
    if (!options.stopWithParent) return;
    process.stdin.on('end', () => stop('the standard input ended'));
    process.stdin.on('error', () => stop('the standard input failed'));
    process.stdin.resume();
  });
}

async function closeServer(
  api: HttpApi,
  node: KommanderNode,
  checkpoints: Disposable,
): Promise<void> {
  checkpoints[Symbol.dispose]();
  await api.drain(drainMsMax);
  await node.close();
  await api.close();
}

/**
 * Has the partitions that this node leads make a checkpoint as soon as their log since the last one is longer than
 * `checkpointBytes` and than the state itself: a snapshot never costs more than the writes that made it due.
 */
function startCheckpoints(
  served: {
    readonly node: KommanderNode;
    readonly machines: ReadonlyMap<PartitionId, KeyValueMachine>;
    readonly observer: Observer;
  },
  checkpointBytes: number,
): Disposable {
  const { node, machines, observer } = served;
  const underWay = new Set<PartitionId>();

  async function checkpoint(partitionId: PartitionId): Promise<void> {
    underWay.add(partitionId);
    try {
      const { index } = await node.checkpoint(partitionId, { forward: false });
      observer({ level: 'info', name: 'checkpoint-made', fields: { partitionId, index } });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      observer({ level: 'warn', name: 'checkpoint-failed', fields: { partitionId, reason } });
    } finally {
      underWay.delete(partitionId);
    }
  }

  const timer = setInterval(() => {
    for (const [partitionId, machine] of machines) {
      const isDue = machine.bytesSinceSnapshot >= Math.max(checkpointBytes, machine.stateBytes);
      if (!isDue || underWay.has(partitionId) || !node.isLeader(partitionId)) continue;
      void checkpoint(partitionId);
    }
  }, checkpointPollMs);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

function once(close: () => Promise<void>): () => Promise<void> {
  let closing: Promise<void> | undefined;
  return () => {
    closing ??= close();
    return closing;
  };
}

/** Whether `work` ended in time; its failure is the caller's. */
async function endsWithin(work: Promise<void>, waitMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, waitMs, false);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
