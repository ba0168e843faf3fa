// etcd as a registry, with a real etcd: the rules of all registries, and what only etcd has.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  announced,
  endpointOf,
  type RegistryBackend,
  registryRules,
} from '../../test/support/registry-rules.ts';
import {
  etcdCommand,
  skipWithout,
  startServer,
  until,
} from '../../test/support/registry-servers.ts';
import { isKommanderError } from '../base/errors.ts';
import { type EtcdDiscoveryOptions, etcdDiscovery } from './etcd.ts';
import { fieldOf, listOf } from './http-caller.ts';
import { entriesMax } from './known-nodes.ts';

const skip = skipWithout('etcd');
const prefix = 'kommander/kommander/';
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const textFrom = (field: unknown): string => Buffer.from(String(field), 'base64').toString();

interface EtcdBackend extends RegistryBackend {
  readonly url: string;
  /** Calls the gateway, as an operator would. */
  call(path: string, body: unknown): Promise<unknown>;
}

async function startEtcd(): Promise<EtcdBackend> {
  const server = await startServer(etcdCommand);
  const url = `http://127.0.0.1:${server.port}`;
  const call = async (path: string, body: unknown): Promise<unknown> => {
    const answer = await fetch(url + path, { method: 'POST', body: JSON.stringify(body) });
    const text = await answer.text();
    assert.equal(answer.status, 200, `${path}: ${text}`);
    return JSON.parse(text);
  };
  const entry = async (nodeId: string): Promise<unknown> => {
    const found = await call('/v3/kv/range', { key: base64(prefix + nodeId) });
    return listOf(fieldOf(found, 'kvs'))[0];
  };
  return {
    url,
    call,
    stop: () => server.stop(),
    start: () => server.start(),
    discovery: (options) => etcdDiscovery({ url, ...options }),
    async entries() {
      const range = { key: base64(prefix), range_end: base64('kommander/kommander0') };
      const found = listOf(fieldOf(await call('/v3/kv/range', range), 'kvs'));
      return Object.fromEntries(
        found.map((each) => [
          textFrom(fieldOf(each, 'key')).slice(prefix.length),
          textFrom(fieldOf(each, 'value')),
        ]),
      );
    },
    async write(nodeId, endpoint) {
      await call('/v3/kv/put', { key: base64(prefix + nodeId), value: base64(endpoint) });
    },
    async remove(nodeId) {
      await call('/v3/kv/deleterange', { key: base64(prefix + nodeId) });
    },
    async remainingMs(nodeId) {
      const ID = fieldOf(await entry(nodeId), 'lease');
      return 1_000 * Number(fieldOf(await call('/v3/lease/timetolive', { ID }), 'TTL'));
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

registryRules('etcd', skip, startEtcd);

test('etcd: a lease that was revoked is replaced by another one', {
  skip,
  timeout: 60_000,
}, async () => {
  await using etcd = await startEtcd();
  await using a = await announced(etcd, 'a', { ttlMs: 3_000 });
  await until(async () => (await etcd.entries()).a !== undefined);
  const leases = async (): Promise<string[]> =>
    listOf(fieldOf(await etcd.call('/v3/lease/leases', {}), 'leases')).map((each) =>
      String(fieldOf(each, 'ID')),
    );
  const [first] = await leases();
  await etcd.call('/v3/lease/revoke', { ID: first });
  await until(async () => (await etcd.entries()).a === endpointOf('a'));
  assert.notDeepEqual(await leases(), [first]);
  await a.discovery.close();
  assert.deepEqual(await leases(), []);
});

test('etcd: renewing a lease writes nothing that wakes the others', {
  skip,
  timeout: 60_000,
}, async () => {
  await using etcd = await startEtcd();
  await using a = await announced(etcd, 'a', { ttlMs: 1_000 });
  await a.knows({});
  const revision = async (): Promise<unknown> =>
    fieldOf(await etcd.call('/v3/kv/range', { key: base64(prefix) }), 'header', 'revision');
  await until(async () => (await etcd.entries()).a !== undefined);
  const before = await revision();
  // Three lives of it: it would be gone.
  const endMs = performance.now() + 3_000;
  await until(() => performance.now() > endMs);
  assert.equal(await revision(), before);
  assert.deepEqual(await etcd.entries(), { a: endpointOf('a') });
});

test('etcd: a change is heard of by the watch, without asking again', {
  skip,
  timeout: 60_000,
}, async () => {
  await using etcd = await startEtcd();
  // The renewals are 20 minutes apart, and nobody asks for 30 s without a change.
  await using a = await announced(etcd, 'a', { ttlMs: 3_600_000 });
  await a.knows({});
  for (const nodeId of ['b', 'c', 'd']) {
    await etcd.write(nodeId, endpointOf(nodeId));
    await until(() => a.reports.at(-1)?.some((node) => node.nodeId === nodeId) === true);
  }
});

test('etcd: no more entries are read than are believed', { skip, timeout: 60_000 }, async () => {
  await using etcd = await startEtcd();
  for (let at = 0; at <= entriesMax; at += 100) {
    const success = Array.from({ length: 100 }, (_, offset) => ({
      request_put: {
        key: base64(`${prefix}n${at + offset}`),
        value: base64(`node.example:${at + offset + 1}`),
      },
    }));
    await etcd.call('/v3/kv/txn', { success });
  }
  await using a = await announced(etcd, 'a');
  await until(() => a.events.length > 0);
  assert.match(String(a.events[0]?.fields.error), /more than 4096 entries/);
  assert.deepEqual(a.reports, []);
});

test('etcd: of several members the next one is asked when one fails', {
  skip,
  timeout: 60_000,
}, async () => {
  await using etcd = await startEtcd();
  const url = ['http://127.0.0.1:1', etcd.url];
  await using a = await announced({ ...etcd, discovery: () => etcdDiscovery({ url }) }, 'a');
  await a.knows({});
  await until(async () => (await etcd.entries()).a === endpointOf('a'));
});

test('etcd: a user named in the URL is authenticated, again when the token is refused', {
  skip,
  timeout: 60_000,
}, async () => {
  await using etcd = await startEtcd();
  await etcd.call('/v3/auth/user/add', { name: 'root', password: 'correct horse' });
  await etcd.call('/v3/auth/role/add', { name: 'root' });
  await etcd.call('/v3/auth/user/grant', { user: 'root', role: 'root' });
  await etcd.call('/v3/auth/enable', {});
  const as = (userInfo: string) => ({
    ...etcd,
    discovery: () => etcdDiscovery({ url: etcd.url.replace('//', `//${userInfo}@`), ttlMs: 1_000 }),
  });
  await using wrong = await announced(as('root:secret'), 'b');
  await using a = await announced(as('root:correct%20horse'), 'a');
  await a.knows({});
  await until(() => wrong.events.length === 2);
  for (const { name, fields } of wrong.events) {
    assert.equal(name, 'registry-failing');
    assert.match(String(fields.error), /authenticate with 400/);
    assert.doesNotMatch(JSON.stringify(fields) + String(fields.error), /secret/);
  }
  // etcd forgets its tokens when authentication is switched off.
  const granted = await etcd.call('/v3/auth/authenticate', {
    name: 'root',
    password: 'correct horse',
  });
  const headers = { authorization: String(fieldOf(granted, 'token')) };
  await fetch(`${etcd.url}/v3/auth/disable`, { method: 'POST', body: '{}', headers });
  await etcd.call('/v3/auth/enable', {});
  await until(() => a.events.some(({ name }) => name === 'registry-recovered'));
});

test('etcd: bad options are refused', () => {
  const refused: [EtcdDiscoveryOptions, string, RegExp][] = [
    [{ url: 'redis://h' }, 'url', /http:\/\/host:port or https:\/\/host:port/],
    [{ url: [] }, 'url', /at least one/],
    [{ url: ['http://h', 'h'] }, 'url', /write it as/],
    [{ url: 'http://root:%zz@h' }, 'url', /percent-encoded/],
    [{ url: 'http://h', ttlMs: Number.NaN }, 'ttlMs', /from 1000 to 3600000/],
  ];
  for (const [options, option, message] of refused) {
    assert.throws(
      () => etcdDiscovery(options),
      (error) => {
        assert.ok(isKommanderError(error, 'INVALID_OPTION'));
        assert.equal(error.details.option, option);
        assert.match(error.message, message);
        return true;
      },
    );
  }
});
