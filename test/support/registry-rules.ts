// What every registry that nodes announce themselves in must do, tried with the server itself: one list of rules for
// Redis, etcd and Consul. What needs no server is in `src/discovery/registry.test.ts`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RegistryOptions } from '../../src/discovery/registry-options.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type { DiscoveredNode, Discovery } from '../../src/ports/discovery.ts';
import type { ObservedEvent } from '../../src/ports/observer.ts';
import type { Endpoint, NodeId } from '../../src/ports/transport.ts';
import { discoveryContract } from '../../src/testing/discovery-contract.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { systemClock } from '../../src/time/system-clock.ts';
import { until } from './registry-servers.ts';

/** A running server, and what others may do to it. */
export interface RegistryBackend extends AsyncDisposable {
  /** A new discovery of the cluster `kommander`, not open. */
  discovery(options?: RegistryOptions): Discovery;
  /** Every entry that is there and has not expired. */
  entries(): Promise<Readonly<Record<NodeId, Endpoint>>>;
  /** Writes an entry that does not expire, or rubbish. */
  write(nodeId: string, endpoint: string): Promise<void>;
  remove(nodeId: NodeId): Promise<void>;
  /** Milliseconds that an entry has still to live. */
  remainingMs(nodeId: NodeId): Promise<number>;
  stop(): Promise<void>;
  /** Forgets everything. */
  start(): Promise<void>;
}

/** A node that has opened its discovery. */
interface Announced extends AsyncDisposable {
  readonly discovery: Discovery;
  readonly reports: (readonly DiscoveredNode[])[];
  readonly events: ObservedEvent[];
  /** Waits until exactly these others are known. */
  knows(others: Readonly<Record<NodeId, Endpoint>>): Promise<void>;
}

export const endpointOf = (nodeId: NodeId): Endpoint => `node-${nodeId}.example:8101`;

export async function announced(
  backend: RegistryBackend,
  nodeId: NodeId,
  options: RegistryOptions & { readonly clock?: Clock; readonly endpoint?: Endpoint } = {},
): Promise<Announced> {
  const { clock = systemClock, endpoint = endpointOf(nodeId), ...others } = options;
  const discovery = backend.discovery(others);
  const reports: (readonly DiscoveredNode[])[] = [];
  const events: ObservedEvent[] = [];
  await discovery.open((nodes) => reports.push(nodes), {
    self: { nodeId, endpoint, startId: `start of ${nodeId}` },
    clock,
    observer: (event) => void events.push(event),
  });
  return {
    discovery,
    reports,
    events,
    async knows(wanted) {
      const lines = (nodes: readonly (readonly [string | undefined, string])[]): string =>
        nodes
          .map(([id, at]) => `${id} ${at}\n`)
          .sort((x, y) => (x < y ? -1 : 1))
          .join('');
      const text = lines(Object.entries(wanted));
      await until(() => {
        const last = reports.at(-1)?.map((node) => [node.nodeId, node.endpoint] as const);
        return last !== undefined && lines(last) === text;
      });
    },
    [Symbol.asyncDispose]: () => discovery.close(),
  };
}

/** A wait in vain ends then. */
const ruleMsMax = 60_000;
/** A life that is not over before a test is. */
const longTtlMs = 60_000;
/** What an entry has lived before it is renewed: more than the second that some registries count in. */
const spentMs = 1_500;
/** The shortest life. */
const shortTtlMs = 1_000;

export function registryRules(
  name: string,
  skip: string | false,
  start: () => Promise<RegistryBackend>,
): void {
  const rule = (says: string, body: (backend: RegistryBackend) => Promise<void>): void => {
    test(`${name}: ${says}`, { skip, timeout: ruleMsMax }, async () => {
      await using backend = await start();
      await body(backend);
    });
  };

  discoveryContract(
    { test: (says, body) => test(`${name}: ${says}`, { skip, timeout: ruleMsMax }, body) },
    async () => {
      const backend = await start();
      const b = await announced(backend, 'b');
      let c: Announced | undefined;
      const [nodeB, nodeC] = ['b', 'c'].map((nodeId) => ({ nodeId, endpoint: endpointOf(nodeId) }));
      assert.ok(nodeB !== undefined && nodeC !== undefined);
      return {
        discovery: backend.discovery({ ttlMs: shortTtlMs }),
        expected: [nodeB],
        steps: [
          {
            happen: async () => {
              c = await announced(backend, 'c');
            },
            expected: [nodeB, nodeC],
          },
          { happen: async () => c?.discovery.close(), expected: [nodeB] },
          { happen: () => b.discovery.close(), expected: [] },
        ],
        dispose: async () => {
          await b.discovery.close();
          await c?.discovery.close();
          await backend[Symbol.asyncDispose]();
        },
      };
    },
  );

  rule(
    'nodes find each other, whoever comes first, and only those of their cluster',
    async (backend) => {
      await using a = await announced(backend, 'a');
      await a.knows({});
      await using b = await announced(backend, 'b');
      await using other = await announced(backend, 'a', { cluster: 'other' });
      await a.knows({ b: endpointOf('b') });
      await b.knows({ a: endpointOf('a') });
      await other.knows({});
      assert.deepEqual(await backend.entries(), { a: endpointOf('a'), b: endpointOf('b') });
      assert.deepEqual([...a.events, ...b.events, ...other.events], []);
    },
  );

  rule('a node that leaves takes its entry with it', async (backend) => {
    await using a = await announced(backend, 'a', { ttlMs: longTtlMs });
    await using b = await announced(backend, 'b', { ttlMs: longTtlMs });
    await a.knows({ b: endpointOf('b') });
    await b.discovery.close();
    assert.deepEqual(await backend.entries(), { a: endpointOf('a') });
    assert.deepEqual(b.events, []);
  });

  rule('an entry that is not renewed expires', async (backend) => {
    // Its clock stands still: it has announced itself, and does nothing more.
    await using _b = await announced(backend, 'b', { ttlMs: shortTtlMs, clock: virtualClock() });
    await until(async () => (await backend.entries()).b !== undefined);
    await using a = await announced(backend, 'a', { ttlMs: shortTtlMs });
    await a.knows({});
    await until(async () => (await backend.entries()).b === undefined);
  });

  rule('an entry that is renewed has its whole life before it', async (backend) => {
    const clock = virtualClock();
    await using _a = await announced(backend, 'a', { ttlMs: longTtlMs, clock });
    await until(async () => (await backend.entries()).a !== undefined);
    await until(async () => (await backend.remainingMs('a')) <= longTtlMs - spentMs);
    clock.advance(longTtlMs / 3);
    await until(async () => (await backend.remainingMs('a')) > longTtlMs - spentMs);
  });

  rule('an entry that somebody removes is put back', async (backend) => {
    await using a = await announced(backend, 'a', { ttlMs: longTtlMs });
    await until(async () => (await backend.entries()).a !== undefined);
    await until(async () => {
      await backend.remove('a');
      return a.events.some((event) => event.name === 'registry-entry-lost');
    });
    await until(async () => (await backend.entries()).a === endpointOf('a'));
  });

  rule('an id that another one holds is left to it, also at the end', async (backend) => {
    await backend.write('a', 'other.example:8101');
    await using a = await announced(backend, 'a');
    await until(() => a.events.length > 0);
    const [event] = a.events;
    assert.equal(event?.name, 'registry-id-taken');
    assert.equal(event?.fields.holder, 'other.example:8101');
    await a.discovery.close();
    assert.deepEqual(await backend.entries(), { a: 'other.example:8101' });
  });

  rule(
    'a node that was killed and starts again at its endpoint has its id at once',
    async (backend) => {
      const killed = await announced(backend, 'a', { ttlMs: longTtlMs, clock: virtualClock() });
      await until(async () => (await backend.entries()).a !== undefined);
      await until(async () => (await backend.remainingMs('a')) <= longTtlMs - spentMs);
      await using a = await announced(backend, 'a', { ttlMs: longTtlMs });
      await until(async () => (await backend.remainingMs('a')) > longTtlMs - spentMs);
      assert.deepEqual(a.events, []);
      await killed.discovery.close();
    },
  );

  rule('rubbish that others write is left out and reported', async (backend) => {
    const rubbish = ['nonsense', 'host:0', 'a b:8101', 'x'.repeat(400), '[::1:8101', ' '];
    for (const [at, text] of rubbish.entries()) await backend.write(`r${at}`, text);
    await using a = await announced(backend, 'a');
    await using _b = await announced(backend, 'b');
    await a.knows({ b: endpointOf('b') });
    assert.ok(a.reports.every((nodes) => nodes.every(({ nodeId }) => nodeId === 'b')));
    const refused = a.events.filter((event) => event.name === 'registry-entries-refused');
    assert.equal(refused.length, 1);
    assert.equal(refused[0]?.fields.count, rubbish.length);
  });

  rule('a registry that is down at the start is used as soon as it is up', async (backend) => {
    await backend.stop();
    await using a = await announced(backend, 'a', { ttlMs: shortTtlMs });
    await until(() => a.events.length === 2);
    for (const { name: event, fields } of a.events) {
      assert.equal(event, 'registry-failing');
      assert.match(String(fields.error), /ECONNREFUSED/);
      assert.match(String(fields.registry), /^\w+ at 127\.0\.0\.1:\d+$/);
    }
    assert.deepEqual(a.reports, []);
    await backend.start();
    await a.knows({});
    await until(async () => (await backend.entries()).a !== undefined);
  });

  rule(
    'while a registry is down what was known stays known, and it is all there again afterwards',
    async (backend) => {
      await using a = await announced(backend, 'a', { ttlMs: 2_000 });
      await using b = await announced(backend, 'b', { ttlMs: 2_000 });
      await a.knows({ b: endpointOf('b') });
      await b.knows({ a: endpointOf('a') });
      await backend.stop();
      for (const node of [a, b]) {
        await until(() => node.events.some((event) => event.name === 'registry-failing'));
      }
      await backend.start();
      const all = JSON.stringify({ a: endpointOf('a'), b: endpointOf('b') });
      await until(async () => JSON.stringify(await backend.entries()) === all);
      for (const node of [a, b]) {
        await until(() => node.events.some((event) => event.name === 'registry-recovered'));
      }
      await a.knows({ b: endpointOf('b') });
    },
  );

  rule('a discovery closes although its registry is down', async (backend) => {
    await using a = await announced(backend, 'a', { timeoutMs: 100 });
    await a.knows({});
    await backend.stop();
    await a.discovery.close();
    assert.ok(a.events.some((event) => event.name === 'registry-withdraw-failed'));
  });
}
