// The writers of the demo. Each owns a set of keys and writes them one after the other, reads some back linearizably,
// and books every outcome. It uses any node that runs, stays with one while that works, and moves on when it fails.

import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import type { Random } from '../../base/random.ts';
import type { HttpErrorBody } from '../http-errors.ts';
import { Availability } from './availability.ts';
import type { Cluster } from './cluster.ts';
import { ConnectionFailure, HttpConnection, type HttpReply } from './http-connection.ts';
import {
  acknowledgeWrite,
  beginWrite,
  emptyLedger,
  type FoundWrite,
  judge,
  type KeyLedger,
  LogOrder,
  leaveOpen,
} from './ledger.ts';
import type { NodeProcess } from './node-process.ts';

/** Milliseconds without an answer after which a writer gives a request up and calls its outcome open. */
export const requestMsMax = 2_500;
/** Milliseconds that a writer waits after a failure. */
const backoffMs = 40;
/** One write in so many is read back. */
const readBackEvery = 8;
/** Requests after which a writer draws its node anew, so that a restarted node gets its share. */
const requestsPerNode = 500;
/** Keys per partition, over all writers: enough that every partition has some. */
const keysPerPartition = 64;
const problemsKeptMax = 20;

export interface Load {
  /** Every key's history. */
  readonly ledgers: readonly KeyLedger[];
  readonly counts: LoadCounts;
  /** Latency of acknowledged writes in microseconds: of the whole run, and since the table last looked. */
  readonly latency: RecordableHistogram;
  readonly recentLatency: RecordableHistogram;
  readonly availability: Availability;
  /** Milliseconds on the monotonic clock. */
  readonly startMs: number;
  readonly problems: string[];
  /** Ends the load; resolves when every writer has its last answer. */
  stop(): Promise<void>;
}

export interface LoadCounts {
  writes: number;
  acknowledged: number;
  indeterminate: number;
  /** Surely without effect. */
  failed: number;
  readBacks: number;
  /** Reads or acknowledgements that contradict an acknowledged write. */
  lost: number;
}

interface Writer {
  readonly ledgers: readonly KeyLedger[];
  connection: HttpConnection | undefined;
  /** Requests until the next node is drawn. */
  requestsLeft: number;
}

/** Starts `clientCount` writers over `partitionCount` partitions; they run until `stop`. */
export function startLoad(options: {
  readonly cluster: Cluster;
  readonly clientCount: number;
  readonly partitionCount: number;
  readonly random: Random;
}): Load {
  const { cluster, clientCount, partitionCount, random } = options;
  const keysPerWriter = Math.max(4, Math.ceil((keysPerPartition * partitionCount) / clientCount));
  const writers = Array.from({ length: clientCount }, (_, writer) =>
    newWriter(writer, keysPerWriter),
  );
  const startMs = performance.now();
  const partitions = Array.from({ length: partitionCount }, (_, at) => at + 1);
  const order = new LogOrder();
  const partitionsOf = new Map<KeyLedger, number>();
  let isRunning = true;

  const load: Load = {
    ledgers: writers.flatMap((writer) => writer.ledgers),
    counts: { writes: 0, acknowledged: 0, indeterminate: 0, failed: 0, readBacks: 0, lost: 0 },
    latency: createHistogram(),
    recentLatency: createHistogram(),
    availability: new Availability(partitions, startMs),
    startMs,
    problems: [],
    async stop() {
      isRunning = false;
      await Promise.all(running);
    },
  };
  const { counts } = load;

  function contradiction(problem: string | undefined): void {
    if (problem === undefined) return;
    counts.lost += 1;
    if (load.problems.length < problemsKeptMax) load.problems.push(problem);
  }

  async function write(
    writer: Writer,
    ledger: KeyLedger,
    connection: HttpConnection,
  ): Promise<boolean> {
    const sequence = beginWrite(ledger);
    const lastIndexBefore = order.lastIndex(partitionsOf.get(ledger));
    counts.writes += 1;
    const beganMs = performance.now();
    const outcome = await outcomeOf(connection, ledger.key, sequence);
    if (outcome.kind === 'acknowledged') {
      const { partition, index } = outcome;
      const nowMs = performance.now();
      const latencyUs = Math.max(1, Math.round((nowMs - beganMs) * 1_000));
      counts.acknowledged += 1;
      load.latency.record(latencyUs);
      load.recentLatency.record(latencyUs);
      load.availability.acknowledged(partition, nowMs);
      partitionsOf.set(ledger, partition);
      contradiction(order.acknowledged({ partition, index, lastIndexBefore }));
      acknowledgeWrite(ledger, { sequence, index });
      return true;
    }
    if (outcome.kind === 'indeterminate') {
      counts.indeterminate += 1;
      leaveOpen(ledger, sequence);
    } else {
      counts.failed += 1;
    }
    writer.requestsLeft = 0;
    return false;
  }

  async function run(writer: Writer): Promise<void> {
    while (isRunning) {
      const connection = connectionOf(writer, cluster, random);
      const ledger = writer.ledgers[random.below(writer.ledgers.length)];
      if (connection === undefined || ledger === undefined) {
        await pause(backoffMs);
        continue;
      }
      const isAcknowledged = await write(writer, ledger, connection);
      if (!isAcknowledged) {
        await pause(backoffMs / 2 + random.below(backoffMs));
        continue;
      }
      if (random.below(readBackEvery) > 0) continue;
      const read = await readLinearizably(connection, ledger.key);
      if (read === 'failed') {
        writer.requestsLeft = 0;
        continue;
      }
      counts.readBacks += 1;
      contradiction(judge(ledger, read.found));
    }
    writer.connection?.close();
  }

  const running = writers.map(run);
  return load;
}

function newWriter(writer: number, keyCount: number): Writer {
  const ledgers = Array.from({ length: keyCount }, (_, at) => emptyLedger(`demo-${writer}-${at}`));
  return { ledgers, connection: undefined, requestsLeft: 0 };
}

/** The writer's connection; to another node when it was time for that. Undefined when no node runs. */
function connectionOf(
  writer: Writer,
  cluster: Cluster,
  random: Random,
): HttpConnection | undefined {
  writer.requestsLeft -= 1;
  if (writer.requestsLeft > 0 && writer.connection !== undefined) return writer.connection;
  const nodes: readonly NodeProcess[] = cluster.running();
  const node = nodes[random.below(Math.max(1, nodes.length))];
  if (node === undefined) return undefined;
  writer.connection?.close();
  writer.connection = new HttpConnection(node.httpPort, requestMsMax);
  writer.requestsLeft = requestsPerNode + random.below(requestsPerNode);
  return writer.connection;
}

type WriteOutcome =
  | { readonly kind: 'acknowledged'; readonly partition: number; readonly index: number }
  | { readonly kind: 'indeterminate' | 'failed' };

async function outcomeOf(
  connection: HttpConnection,
  key: string,
  sequence: number,
): Promise<WriteOutcome> {
  const path = `/v1/kv/${key}`;
  const body = valueText(key, sequence);
  try {
    const reply = await connection.request({ method: 'PUT', path, body });
    if (reply.status === 200) {
      const { partition, index } = JSON.parse(reply.body) as { partition: number; index: number };
      return { kind: 'acknowledged', partition, index };
    }
    const { mayHaveCommitted } = JSON.parse(reply.body) as HttpErrorBody;
    return { kind: mayHaveCommitted ? 'indeterminate' : 'failed' };
  } catch (error) {
    if (!(error instanceof ConnectionFailure)) throw error;
    return { kind: error.wasSent ? 'indeterminate' : 'failed' };
  }
}

/** What a linearizable read of the key returns; `failed` when there was no answer. */
export async function readLinearizably(
  connection: HttpConnection,
  key: string,
): Promise<{ readonly found: FoundWrite | undefined } | 'failed'> {
  let reply: HttpReply;
  try {
    reply = await connection.request({ method: 'GET', path: `/v1/kv/${key}` });
  } catch (error) {
    if (!(error instanceof ConnectionFailure)) throw error;
    return 'failed';
  }
  if (reply.status === 404) return { found: undefined };
  if (reply.status !== 200) return 'failed';
  const index = Number(reply.headers.get('kommander-index'));
  return { found: { sequence: sequenceOf(key, reply.body), index } };
}

/** Unique over all writes. */
function valueText(key: string, sequence: number): string {
  return `${key}#${sequence}`;
}

/** The sequence number in a value; 0 when the value is no write of this key. */
function sequenceOf(key: string, value: string): number {
  const prefix = `${key}#`;
  const sequence = value.startsWith(prefix) ? Number(value.slice(prefix.length)) : 0;
  return Number.isSafeInteger(sequence) ? sequence : 0;
}
