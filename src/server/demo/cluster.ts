// The demo's cluster as its watcher sees it: three processes, what each says about itself twice a second, who leads
// what, and whether everything is well. It starts, kills, restarts and stops the processes.

import { setTimeout as pause } from 'node:timers/promises';
import { KommanderError } from '../../base/errors.ts';
import { ConnectionFailure, HttpConnection } from './http-connection.ts';
import { LeaderTracker } from './leader-tracker.ts';
import { NodeProcess, type NodeProcessOptions } from './node-process.ts';

/** What the demo reads of `GET /v1/status`. */
export interface NodeView {
  readonly state: string;
  readonly partitions: readonly {
    readonly partition: number;
    readonly role: string;
    readonly term: number;
    readonly leader: string | null;
    readonly commitIndex: number;
    readonly lastApplied: number;
  }[];
}

const pollMs = 500;
const statusMsMax = 2_000;
/** Entries that a follower may be behind and still count as caught up. */
const lagEntriesMax = 2_000;

export class Cluster {
  readonly nodes: readonly NodeProcess[];
  readonly leaders: LeaderTracker = new LeaderTracker();
  readonly #views = new Map<NodeProcess, NodeView>();
  readonly #connections = new Map<NodeProcess, HttpConnection>();
  readonly #polling = new AbortController();
  #polled: Promise<void> = Promise.resolve();

  constructor(options: readonly NodeProcessOptions[]) {
    this.nodes = options.map((each) => new NodeProcess(each));
  }

  /** Starts every node and begins to watch. */
  async start(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.start()));
    this.#polled = this.#poll(this.#polling.signal);
  }

  /** What the node last said, while it runs. */
  viewOf(node: NodeProcess): NodeView | undefined {
    return node.state === 'running' ? this.#views.get(node) : undefined;
  }

  /** Nodes that run, as far as the demo knows. */
  running(): readonly NodeProcess[] {
    return this.nodes.filter((node) => node.state === 'running');
  }

  /** Every node runs, knows every partition's leader, agrees with the others about it, and has caught up. */
  isHealthy(): boolean {
    const views = this.nodes.map((node) => this.viewOf(node));
    const [first] = views;
    if (first === undefined || first.partitions.length === 0) return false;
    return first.partitions.every((_, at) => {
      const replicas = views.map((view) => view?.partitions[at]);
      const leaders = new Set(replicas.map((replica) => replica?.leader ?? undefined));
      const applied = replicas.map((replica) => replica?.lastApplied ?? Number.NEGATIVE_INFINITY);
      const isAgreed = leaders.size === 1 && !leaders.has(undefined);
      return isAgreed && Math.max(...applied) - Math.min(...applied) <= lagEntriesMax;
    });
  }

  /**
   * Resolves as soon as the cluster is healthy, or with false after `waitMs` or when `signal` fires.
   */
  async becomesHealthy(waitMs: number, signal?: AbortSignal): Promise<boolean> {
    const endMs = performance.now() + waitMs;
    while (performance.now() < endMs && signal?.aborted !== true) {
      if (this.isHealthy()) return true;
      await pause(100);
    }
    return false;
  }

  /** A node that leads at least one partition, drawn by `draw` from those that do. */
  leadingNode(draw: (bound: number) => number): NodeProcess | undefined {
    const leading = this.running().filter((node) => this.leaders.ledBy(node.nodeId).length > 0);
    return leading.length === 0 ? undefined : leading[draw(leading.length)];
  }

  async kill(node: NodeProcess): Promise<void> {
    this.#views.delete(node);
    await node.kill();
  }

  /** Stops every node that is there and ends the watch. Idempotent. */
  async stop(): Promise<void> {
    this.#polling.abort();
    await this.#polled;
    for (const connection of this.#connections.values()) connection.close();
    await Promise.all(this.nodes.map((node) => node.stop()));
  }

  async #poll(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await Promise.all(this.running().map((node) => this.#look(node)));
      await pause(pollMs, undefined, { signal }).catch(ignoreAbort);
    }
  }

  async #look(node: NodeProcess): Promise<void> {
    const connection =
      this.#connections.get(node) ?? new HttpConnection(node.httpPort, statusMsMax);
    this.#connections.set(node, connection);
    try {
      const reply = await connection.request({ method: 'GET', path: '/v1/status' });
      if (reply.status !== 200) {
        this.#views.delete(node);
        return;
      }
      const view = JSON.parse(reply.body) as NodeView;
      this.#views.set(node, view);
      for (const { partition, role, term } of view.partitions) {
        if (role === 'leader') this.leaders.observe(partition, term, node.nodeId);
      }
    } catch (error) {
      if (!(error instanceof ConnectionFailure)) throw error;
      this.#views.delete(node);
    }
  }
}

/** @throws NO_LEADER the cluster did not become healthy; the message has the end of every node's log */
export async function mustBecomeHealthy(
  cluster: Cluster,
  waitMs: number,
  signal: AbortSignal,
): Promise<void> {
  if (await cluster.becomesHealthy(waitMs, signal)) return;
  const logs = cluster.nodes.map((node) => `--- ${node.logFile}\n${node.logTail()}`).join('\n');
  throw new KommanderError(`the cluster is not healthy after ${waitMs} ms:\n${logs}`, {
    code: 'NO_LEADER',
  });
}

function ignoreAbort(error: unknown): void {
  if (!(error instanceof Error && error.name === 'AbortError')) throw error;
}
