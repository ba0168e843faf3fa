// One node with its key-value store behind HTTP: what `kommander serve` runs. It joins the concrete engines to the
// node, and ends in order: no new requests, those under way answered, leadership
// handed over, everything closed.

import { join } from 'node:path';
import { must, unreachable } from '../base/assert.ts';
import { type KommanderNode, openNode } from '../index.ts';
import type { Observer } from '../ports/observer.ts';
import type { Endpoint } from '../ports/transport.ts';
import type { PartitionId, Wal } from '../ports/wal.ts';
import { grpcTransport } from '../transport/grpc.ts';
import { memoryWal } from '../wal/memory.ts';
import { rocksdbWal } from '../wal/rocksdb.ts';
import { segmentWal } from '../wal/segment.ts';
import { sqliteWal } from '../wal/sqlite.ts';
import { discoveryFor } from './discovery-option.ts';
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
  const discovery = discoveryFor(options.discovery, options.members);
  const api = await openHttpApi({ listen: options.http, observer });
  try {
    const machines = new Map<PartitionId, KeyValueMachine>();
    const wal = openWal(options);
    const node = await openNode({
      nodeId: options.nodeId,
      listen: options.listen,
      advertise: options.advertise,
      members: options.members,
      partitions: options.partitions,
      wal,
      transport: grpcTransport(),
      discovery,
      stateMachine: (partitionId) => {
        const machine = new KeyValueMachine();
        machines.set(partitionId, machine);
        return machine;
      },
      logger: observer,
      tickMs: options.tickMs,
      electionTicks: options.electionTicks,
      checkpointBytes: options.checkpointBytes,
      snapshotsFrom: options.snapshotsFrom,
      ...(options.wal === 'memory'
        ? {}
        : { evidenceDirectory: join(directoryOf(options), 'evidence') }),
    });
    api.attach({ node, machines, log: wal });
    return { node, http: api.endpoint, close: once(() => closeServer(api, node)) };
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
  const where = wal === 'memory' ? '' : ` data=${data}`;
  return `kommander ready node=${nodeId} http=http://${server.http} raft=${listen} partitions=${partitions} wal=${wal}${where}`;
}

/** The log store that the options name. */
export function openWal(options: ServeOptions): Wal {
  const { wal } = options;
  switch (wal) {
    case 'memory':
      return memoryWal();
    case 'rocksdb':
      return rocksdbWal({ path: directoryOf(options) });
    case 'segment':
      return segmentWal({ path: directoryOf(options) });
    case 'sqlite':
      return sqliteWal({ path: directoryOf(options) });
    default:
      return unreachable(wal);
  }
}

function directoryOf({ data }: ServeOptions): string {
  return must(data, 'the options have a directory for a durable engine');
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

async function closeServer(api: HttpApi, node: KommanderNode): Promise<void> {
  await api.drain(drainMsMax);
  await node.close();
  await api.close();
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
