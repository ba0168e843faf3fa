// Three node processes on loopback, and the questions to them. A process that ends before it was asked to, or an answer
// that does not come, fails the benchmark.

import { type ChildProcess, fork } from 'node:child_process';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { must } from '../../src/base/assert.ts';
import type { Endpoint, NodeId } from '../../src/index.ts';
import type { NodeRequests, ReplyMessage, RequestName, WalEngine } from './node-requests.ts';

const nodeIds: readonly NodeId[] = ['a', 'b', 'c'];
/** Milliseconds until an answer is overdue. */
const answerMsMax = 60_000;
const startAttemptsMax = 3;

export class NodeProcess {
  readonly nodeId: NodeId;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #waiting: Map<number, (reply: ReplyMessage) => void> = new Map();
  #requestCount = 0;
  #exit = '';

  /** @param isYielding it runs only when no other process wants the core (Linux: `chrt --idle`) */
  constructor(nodeId: NodeId, isYielding = false) {
    this.nodeId = nodeId;
    const entry = new URL('./cluster-node.ts', import.meta.url);
    const { execPath, execArgv } = process;
    const command = isYielding ? ['chrt', '--idle', '0', execPath] : [execPath];
    this.#child = fork(entry, {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      execPath: must(command[0], 'a command has a name'),
      execArgv: [...command.slice(1), ...execArgv],
    });
    this.#child.on('message', (message) => {
      const reply = message as ReplyMessage;
      this.#waiting.get(reply.id)?.(reply);
      this.#waiting.delete(reply.id);
    });
    this.#exited = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        this.#exit = `node ${nodeId} ended with ${signal ?? code}`;
        for (const [id, wake] of this.#waiting) wake({ id, error: this.#exit });
        this.#waiting.clear();
        resolve();
      });
    });
  }

  ask<Name extends RequestName>(
    name: Name,
    ...[body]: NodeRequests[Name]['request'] extends undefined
      ? []
      : [body: NodeRequests[Name]['request']]
  ): Promise<NodeRequests[Name]['reply']> {
    if (this.#exit !== '') return Promise.reject(new Error(this.#exit));
    this.#requestCount += 1;
    const id = this.#requestCount;
    return new Promise((resolve, reject) => {
      const overdue = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new Error(`node ${this.nodeId} did not answer "${name}"`));
      }, answerMsMax);
      this.#waiting.set(id, ({ body: answer, error }) => {
        clearTimeout(overdue);
        if (error === undefined) resolve(answer as NodeRequests[Name]['reply']);
        else reject(new Error(`node ${this.nodeId}, ${name}: ${error}`));
      });
      this.#child.send({ id, name, body });
    });
  }

  /** Ends the process at once. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }
}

/** `spread`: the nodes lead in turn. `one`: one node leads every partition. */
export type LeaderPlacement = 'spread' | 'one';

export interface ClusterOptions {
  readonly partitions: number;
  readonly placement: LeaderPlacement;
  readonly wal: WalEngine;
  /** Each node has its store in a directory below. */
  readonly directory: string;
  /** Bytes of the table that each state machine keeps; none, and no snapshots, by default. */
  readonly tableBytes?: number;
  readonly snapshotsFrom?: 'leader' | 'followers';
}

/** A formed cluster. */
export interface Cluster extends AsyncDisposable {
  readonly nodes: readonly NodeProcess[];
  /** Leaders of partitions 1 … n. */
  readonly leaders: readonly NodeProcess[];
  /** Starts another process for a node whose process was ended, on the same store. */
  restart(ended: NodeProcess, isYielding: boolean): NodeProcess;
  /** Opens the node of a process that was restarted. */
  open(node: NodeProcess): Promise<void>;
}

/**
 * Starts a cluster and waits until every partition has its leader. `await using` ends the processes. What fails on a
 * busy machine (a port that was taken meanwhile, a hand-over that took too long) is tried again.
 */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await tryStart({ ...options, directory: join(options.directory, `start-${attempt}`) });
    } catch (error) {
      if (attempt === startAttemptsMax) throw error;
      console.error('the cluster did not start, again:', error);
    }
  }
}

async function tryStart(options: ClusterOptions): Promise<Cluster> {
  const endpoints = await freeEndpoints(nodeIds.length);
  const members = Object.fromEntries(nodeIds.map((nodeId, at) => [nodeId, endpoints[at] ?? '']));
  const nodes = nodeIds.map((nodeId) => new NodeProcess(nodeId));
  const { partitions, placement, wal, directory, tableBytes = 0, snapshotsFrom } = options;
  const open = async (node: NodeProcess): Promise<void> => {
    const { nodeId } = node;
    const path = join(directory, nodeId);
    const request = { nodeId, members, partitions, wal, path, tableBytes };
    await node.ask('open', { ...request, snapshotsFrom: snapshotsFrom ?? 'leader' });
  };
  const restart = (ended: NodeProcess, isYielding: boolean): NodeProcess => {
    const node = new NodeProcess(ended.nodeId, isYielding);
    nodes[nodes.indexOf(ended)] = node;
    return node;
  };
  const end = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.kill()));
  };
  try {
    await Promise.all(nodes.map(open));
    const leaders = await settleLeaders(nodes, placement);
    return { nodes, leaders, restart, open, [Symbol.asyncDispose]: end };
  } catch (error) {
    await end();
    throw error;
  }
}

async function settleLeaders(
  nodes: readonly NodeProcess[],
  placement: LeaderPlacement,
): Promise<readonly NodeProcess[]> {
  const elected = await agreedLeaders(nodes);
  // A single partition is led by whom the nodes elected.
  const offset = nodes.findIndex((node) => node.nodeId === elected[0]);
  for (const [at, leader] of elected.entries()) {
    const turn = placement === 'spread' ? at : 0;
    const { nodeId: to } = nodes[(offset + turn) % nodes.length] as NodeProcess;
    if (to !== leader) await nodeOf(nodes, leader).ask('transfer', { partitionId: at + 1, to });
  }
  return (await agreedLeaders(nodes)).map((nodeId) => nodeOf(nodes, nodeId));
}

/** The leaders once all nodes name the same ones. */
async function agreedLeaders(nodes: readonly NodeProcess[]): Promise<readonly NodeId[]> {
  for (const deadlineMs = performance.now() + answerMsMax; performance.now() < deadlineMs; ) {
    const [first = [], ...others] = await Promise.all(nodes.map((node) => node.ask('leaders')));
    if (others.every((other) => other.join() === first.join())) return first;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('the nodes do not agree on their leaders');
}

function nodeOf(nodes: readonly NodeProcess[], nodeId: NodeId): NodeProcess {
  return must(
    nodes.find((node) => node.nodeId === nodeId),
    'a leader is one of the nodes',
  );
}

/** Loopback endpoints that were free a moment ago. */
async function freeEndpoints(count: number): Promise<readonly Endpoint[]> {
  const servers = await Promise.all(Array.from({ length: count }, listen));
  const endpoints = servers.map((server) => {
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port was given');
    return `127.0.0.1:${address.port}`;
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return endpoints;
}

function listen(): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
}
