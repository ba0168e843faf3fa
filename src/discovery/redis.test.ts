// Redis as a registry, with a real redis-server: the rules of all registries, and what only Redis has.

import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { createClient } from 'redis';
import { freePorts } from '../../test/support/ports.ts';
import {
  announced,
  endpointOf,
  type RegistryBackend,
  registryRules,
} from '../../test/support/registry-rules.ts';
import {
  redisCommand,
  redisPassword,
  skipWithout,
  startServer,
  until,
} from '../../test/support/registry-servers.ts';
import { isKommanderError } from '../base/errors.ts';
import { systemClock } from '../time/system-clock.ts';
import { entriesMax } from './known-nodes.ts';
import { type RedisDiscoveryOptions, redisDiscovery } from './redis.ts';
import { importRedis } from './redis-client.ts';

const skip = skipWithout('redis-server');
const nodeKey = (nodeId: string): string => `kommander:{kommander}:node:${nodeId}`;
const indexKey = 'kommander:{kommander}:nodes';

interface RedisBackend extends RegistryBackend {
  readonly url: string;
  /** Sends one command, as an operator would. */
  command(...parts: readonly string[]): Promise<unknown>;
}

async function startRedis(): Promise<RedisBackend> {
  const server = await startServer(redisCommand);
  const url = `redis://:${encodeURIComponent(redisPassword)}@127.0.0.1:${server.port}`;
  const command = async (...parts: readonly string[]): Promise<unknown> => {
    const client = createClient({ url, socket: { reconnectStrategy: false } });
    client.on('error', () => {});
    await client.connect();
    try {
      return await client.sendCommand([...parts]);
    } finally {
      client.destroy();
    }
  };
  return {
    url,
    command,
    stop: () => server.stop(),
    start: () => server.start(),
    discovery: (options) => redisDiscovery({ url, pollMs: 100, ...options }),
    async entries() {
      const keys = ((await command('KEYS', nodeKey('*'))) as string[]).sort();
      const values = await Promise.all(keys.map((key) => command('GET', key)));
      return Object.fromEntries(
        keys.map((key, at) => [key.slice(nodeKey('').length), String(values[at])]),
      );
    },
    async write(nodeId, endpoint) {
      await command('SET', nodeKey(nodeId), endpoint);
      await command('SADD', indexKey, nodeId);
    },
    async remove(nodeId) {
      await command('DEL', nodeKey(nodeId));
    },
    remainingMs: async (nodeId) => Number(await command('PTTL', nodeKey(nodeId))),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

registryRules('redis', skip, startRedis);

test('redis: keys of other types, and what is no text, are left out', {
  skip,
  timeout: 60_000,
}, async () => {
  await using redis = await startRedis();
  await redis.command('LPUSH', nodeKey('list'), 'a list');
  await redis.command('SADD', indexKey, 'list', 'no node id', 'x'.repeat(10_000));
  await redis.write('long', 'y'.repeat(1_000_000));
  await redis.write('no node id', 'node.example:8101');
  await redis.write('x'.repeat(10_000), 'node.example:8101');
  await using a = await announced(redis, 'a');
  await a.knows({});
  await until(() => a.events.length > 0);
  assert.deepEqual(
    a.events.map(({ name, fields }) => [name, fields.count]),
    [['registry-entries-refused', 4]],
  );
});

test('redis: ids whose entries have expired leave the index', {
  skip,
  timeout: 60_000,
}, async () => {
  await using redis = await startRedis();
  await redis.command('SADD', indexKey, 'gone');
  await using a = await announced(redis, 'a');
  await a.knows({});
  await until(async () => String(await redis.command('SMEMBERS', indexKey)) === 'a');
});

test('redis: an index that is no set is a failure that says so', {
  skip,
  timeout: 60_000,
}, async () => {
  await using redis = await startRedis();
  await redis.command('SET', indexKey, 'a text');
  await using a = await announced(redis, 'a');
  await until(() => a.events.length === 2);
  for (const { name, fields } of a.events) {
    assert.equal(name, 'registry-failing');
    assert.match(String(fields.error), /WRONGTYPE/);
  }
  await redis.command('DEL', indexKey);
  await a.knows({});
});

test('redis: no more entries are read than are believed', { skip, timeout: 60_000 }, async () => {
  await using redis = await startRedis();
  const fill = `for at = 1, ${2 * entriesMax} do
    redis.call('sadd', KEYS[1], 'n' .. at)
    redis.call('set', ARGV[1] .. 'n' .. at, 'node.example:' .. at)
  end`;
  await redis.command('EVAL', fill, '1', indexKey, nodeKey(''));
  await using a = await announced(redis, 'a');
  await until(() => a.events.length > 0);
  assert.match(String(a.events[0]?.fields.error), /more than 4096 entries/);
  assert.deepEqual(a.reports, []);
});

test('redis: a wrong password is a failure that says so, without the password', {
  skip,
  timeout: 60_000,
}, async () => {
  await using redis = await startRedis();
  const wrong = {
    ...redis,
    discovery: () => redisDiscovery({ url: redis.url.replace('correct', 'secret') }),
  };
  await using a = await announced(wrong, 'a');
  await until(() => a.events.length === 2);
  for (const { fields } of a.events) {
    assert.match(String(fields.error), /WRONGPASS/);
    assert.doesNotMatch(JSON.stringify(fields) + String(fields.error), /secret/);
  }
});

test('redis: a connection that hangs is left, and another one is made', {
  skip,
  timeout: 60_000,
}, async () => {
  await using redis = await startRedis();
  await using a = await announced(
    { ...redis, discovery: () => redisDiscovery({ url: redis.url, pollMs: 100, timeoutMs: 200 }) },
    'a',
  );
  await a.knows({});
  await redis.command('CLIENT', 'PAUSE', '1000', 'ALL');
  await until(() => a.events.some(({ name }) => name === 'registry-recovered'));
  await using _b = await announced(redis, 'b');
  await a.knows({ b: endpointOf('b') });
});

test('redis: a server that takes connections and says nothing is left, and tried again', {
  timeout: 60_000,
}, async () => {
  let connectionCount = 0;
  const open = new Set<Socket>();
  const silent = createServer((socket) => {
    connectionCount += 1;
    open.add(
      socket
        .resume()
        .on('error', () => {})
        .on('close', () => open.delete(socket)),
    );
  });
  const [port = 0] = await freePorts(1);
  await new Promise<void>((resolve) => silent.listen(port, '127.0.0.1', resolve));
  try {
    const url = `redis://127.0.0.1:${port}`;
    const discovery = redisDiscovery({ url, timeoutMs: 50 });
    const self = { nodeId: 'a', endpoint: endpointOf('a'), startId: 'one' };
    await discovery.open(() => {}, { self, clock: systemClock, observer: () => {} });
    await until(() => connectionCount > 3);
    await discovery.close();
    await until(() => open.size === 0);
  } finally {
    silent.close();
  }
});

test('redis: without the package, open says how to install it', async () => {
  await assert.rejects(
    importRedis(() => Promise.reject(new Error('not found'))),
    (error) => {
      assert.ok(isKommanderError(error, 'MISSING_DEPENDENCY'));
      assert.match(error.message, /npm install redis/);
      return true;
    },
  );
});

test('redis: bad options are refused, and a refused URL is not shown', () => {
  const refused: [RedisDiscoveryOptions, string, RegExp][] = [
    [{ url: 'http://:secret@host:1' }, 'url', /redis:\/\/host:port or rediss:\/\/host:port/],
    [{ url: 'secret' }, 'url', /write it as/],
    [{ url: 'redis://h/secret' }, 'url', /number of a database/],
    [{ url: 'redis://h', pollMs: 99 }, 'pollMs', /from 100 to 600000/],
    [{ url: 'redis://h', ttlMs: 999 }, 'ttlMs', /from 1000 to 3600000/],
    [{ url: 'redis://h', timeoutMs: 1.5 }, 'timeoutMs', /from 10 to 60000/],
    [{ url: 'redis://h', cluster: '' }, 'cluster', /1 to 64/],
    [{ url: 'redis://h', cluster: '*' }, 'cluster', /1 to 64/],
    [{ url: 'redis://h', ttl: 1 } as RedisDiscoveryOptions, 'ttl', /is not known/],
  ];
  for (const [options, option, message] of refused) {
    assert.throws(
      () => redisDiscovery(options),
      (error) => {
        assert.ok(isKommanderError(error, 'INVALID_OPTION'));
        assert.equal(error.details.option, option);
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /secret/);
        return true;
      },
      JSON.stringify(options),
    );
  }
});

test('redis: a node that listens everywhere must say where others find it', async () => {
  const discovery = redisDiscovery({ url: 'redis://127.0.0.1:1' });
  const self = { nodeId: 'a', endpoint: '0.0.0.0:8101', startId: 'one' };
  await assert.rejects(
    discovery.open(() => {}, { self, clock: systemClock, observer: () => {} }),
    (error) => isKommanderError(error, 'INVALID_OPTION') && error.details.option === 'advertise',
  );
  await discovery.close();
});
