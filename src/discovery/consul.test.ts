// Consul as a registry, with a stand-in that follows the published HTTP API: no real Consul was tried.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { type ConsulServer, consulServer } from '../../test/support/consul-server.ts';
import { freePorts } from '../../test/support/ports.ts';
import {
  announced,
  endpointOf,
  type RegistryBackend,
  registryRules,
} from '../../test/support/registry-rules.ts';
import { until } from '../../test/support/registry-servers.ts';
import { isKommanderError } from '../base/errors.ts';
import { virtualClock } from '../testing/virtual-clock.ts';
import { type ConsulDiscoveryOptions, consulDiscovery } from './consul.ts';

const service = 'kommander-kommander';
const idOf = (nodeId: string): string => `${service}:${nodeId}`;

interface ConsulBackend extends RegistryBackend {
  readonly server: ConsulServer;
  readonly url: string;
}

async function startConsul(token?: string): Promise<ConsulBackend> {
  const server = consulServer(token);
  const [port = 0] = await freePorts(1);
  await server.listen(port);
  const url = `http://127.0.0.1:${port}`;
  return {
    server,
    url,
    stop: () => server.close(),
    start: () => server.listen(port),
    discovery: (options) => consulDiscovery({ url, ...options }),
    async entries() {
      const found = [...server.instances.values()].filter(
        (instance) => instance.name === service && instance.wasPassing,
      );
      const entries: Record<string, string> = {};
      for (const { meta } of found.sort((x, y) => (x.id < y.id ? -1 : 1))) {
        entries[meta.nodeId ?? ''] = meta.endpoint ?? '';
      }
      return entries;
    },
    write: async (nodeId, endpoint) => server.register(service, idOf(nodeId), { nodeId, endpoint }),
    remove: async (nodeId) => server.deregister(idOf(nodeId)),
    remainingMs: async (nodeId) => server.remainingMs(idOf(nodeId)),
    async [Symbol.asyncDispose]() {
      await server.close();
      assert.deepEqual(server.refused, []);
    },
  };
}

registryRules('consul', false, () => startConsul());

const limits = { timeout: 60_000 };

test('consul: waiting for a change is one question that blocks', limits, async () => {
  await using consul = await startConsul();
  await using a = await announced(consul, 'a', { ttlMs: 3_600_000 });
  await until(() => consul.server.blockedCount > 0);
  consul.server.register(service, 'elsewhere', { nodeId: 'b', endpoint: endpointOf('b') });
  await a.knows({ b: endpointOf('b') });
});

test('consul: an instance that others see too says its address and port', limits, async () => {
  await using consul = await startConsul();
  await using _a = await announced(consul, 'a', { endpoint: '[fd00::1]:8101' });
  await until(() => consul.server.instances.has(idOf('a')));
  const { address, port } = consul.server.instances.get(idOf('a')) ?? {};
  assert.deepEqual([address, port], ['fd00::1', 8_101]);
});

test('consul: the id of an instance whose check is not passed is free', limits, async () => {
  await using consul = await startConsul();
  const [former, present] = ['old.example:8101', 'new.example:8101'];
  const clock = virtualClock();
  await using _killed = await announced(consul, 'a', { ttlMs: 1_000, clock, endpoint: former });
  await until(async () => (await consul.entries()).a === former);
  await using a = await announced(consul, 'a', { ttlMs: 1_000, endpoint: present });
  await until(async () => (await consul.entries()).a === present);
  assert.equal(a.events[0]?.name, 'registry-id-taken');
});

test('consul: two agents that register one id: the first one stays', limits, async () => {
  await using consul = await startConsul();
  consul.server.register(service, 'at another agent', { nodeId: 'b', endpoint: endpointOf('b') });
  await using a = await announced(consul, 'a');
  await a.knows({ b: endpointOf('b') });
  consul.server.register(service, 'at a third', { nodeId: 'b', endpoint: 'copy.example:8101' });
  await until(() => a.events.length > 0);
  assert.equal(a.events[0]?.name, 'node-id-claimed-twice');
  await a.knows({ b: endpointOf('b') });
});

test('consul: the token is sent, and without it the failure says so', limits, async () => {
  await using consul = await startConsul('secret');
  const withToken = (token: string) => ({
    ...consul,
    discovery: () => consulDiscovery({ url: consul.url, token }),
  });
  await using a = await announced(withToken('secret'), 'a');
  await a.knows({});
  await using b = await announced(consul, 'b');
  await until(() => b.events.length === 2);
  assert.match(String(b.events[0]?.fields.error), /403: Permission denied/);
  assert.deepEqual(a.events, []);
});

test('a registry that answers with no JSON, or without end, has failed', limits, async () => {
  for (const [body, message] of [
    ['<html>', /no JSON: "<html>"/],
    ['x'.repeat(17_000_000), /longer than 16777216 characters/],
  ] as const) {
    const server = createServer((_request, response) => void response.end(body));
    const [port = 0] = await freePorts(1);
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    try {
      const discovery = (): ReturnType<typeof consulDiscovery> =>
        consulDiscovery({ url: `http://127.0.0.1:${port}` });
      const backend = { discovery } as unknown as RegistryBackend;
      const a = await announced(backend, 'a');
      await until(() => a.events.length === 2);
      for (const { fields } of a.events) assert.match(String(fields.error), message);
      await a.discovery.close();
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }
});

test('consul: bad options are refused, and a refused token is not shown', () => {
  const refused: [ConsulDiscoveryOptions, string, RegExp][] = [
    [{ url: 'consul://h' }, 'url', /http:\/\/host:port or https:\/\/host:port/],
    [{ url: 'http://h', token: 'sec ret' }, 'token', /no text that a header can carry/],
    [{ url: 'http://h', wait: 1 } as ConsulDiscoveryOptions, 'wait', /is not known/],
  ];
  for (const [options, option, message] of refused) {
    assert.throws(
      () => consulDiscovery(options),
      (error) => {
        assert.ok(isKommanderError(error, 'INVALID_OPTION'));
        assert.equal(error.details.option, option);
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /sec ret/);
        return true;
      },
    );
  }
});
