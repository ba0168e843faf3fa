// The HTTP API's contract against a node without consensus: every row of its table, every status, every bound.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type ErrorCode, errorCatalogue } from '../src/base/errors.ts';
import type { ObservedEvent } from '../src/ports/observer.ts';
import { decodeRun } from '../src/ports/run.ts';
import { type HttpApi, openHttpApi } from '../src/server/http-api.ts';
import { httpStatusOf } from '../src/server/http-errors.ts';
import type { HttpLimits } from '../src/server/http-limits.ts';
import { type FakeService, fakeError, fakeService } from './server-fake-node.ts';

interface Fixture {
  readonly url: string;
  readonly api: HttpApi;
  readonly service: FakeService;
  readonly events: ObservedEvent[];
}

async function openFixture(t: TestContext, limits: Partial<HttpLimits> = {}): Promise<Fixture> {
  const events: ObservedEvent[] = [];
  const observer = (event: ObservedEvent): void => void events.push(event);
  const api = await openHttpApi({ listen: '127.0.0.1:0', observer, limits });
  t.after(() => api.close());
  const service = fakeService();
  api.attach(service);
  return { url: `http://${api.endpoint}`, api, service, events };
}

function put(url: string, body: string | Uint8Array<ArrayBuffer>): Promise<Response> {
  return fetch(url, { method: 'PUT', body });
}

interface ErrorJson {
  readonly code: ErrorCode;
  readonly message: string;
  readonly retryable: boolean;
  readonly mayHaveCommitted: boolean;
  readonly details: Record<string, unknown>;
}

/** Checks that a response is the JSON error of `code` with everything that the contract promises. */
async function assertError(
  response: Response,
  status: number,
  code: ErrorCode,
): Promise<ErrorJson> {
  const body = (await response.json()) as ErrorJson;
  assert.equal(response.status, status, JSON.stringify(body));
  assert.equal(body.code, code);
  assert.equal(response.headers.get('content-type'), 'application/json');
  assert.deepEqual(Object.keys(body), [
    'code',
    'message',
    'retryable',
    'mayHaveCommitted',
    'details',
  ]);
  assert.equal(body.retryable, errorCatalogue[code].retryable);
  assert.equal(body.mayHaveCommitted, errorCatalogue[code].mayHaveCommitted);
  assert.ok(body.message.length > 0);
  return body;
}

test('a put answers with partition, index, term and timestamp, and a get returns the bytes', async (t) => {
  const { url } = await openFixture(t);
  const written = await put(`${url}/v1/kv/greeting`, 'hello\n');
  assert.equal(written.status, 200);
  assert.deepEqual(await written.json(), { partition: 1, index: 1, term: 3, timestamp: 1_001 });
  const read = await fetch(`${url}/v1/kv/greeting`);
  assert.equal(read.status, 200);
  assert.equal(read.headers.get('kommander-partition'), '1');
  assert.equal(read.headers.get('kommander-index'), '1');
  assert.equal(read.headers.get('kommander-term'), '3');
  assert.equal(read.headers.get('content-type'), 'application/octet-stream');
  assert.equal(await read.text(), 'hello\n');
});

test('values of 0 bytes and of 1 MiB, binary ones too, come back unchanged', async (t) => {
  const { url } = await openFixture(t);
  const large = new Uint8Array(1_048_576).map((_, at) => at * 7);
  for (const value of [new Uint8Array(0), new Uint8Array([0]), large]) {
    assert.equal((await put(`${url}/v1/kv/value`, value)).status, 200);
    const read = await fetch(`${url}/v1/kv/value`);
    assert.deepEqual(new Uint8Array(await read.arrayBuffer()), value);
  }
});

test('the log of a partition is served as runs of what is applied, in pieces of a bounded size', async (t) => {
  const { url } = await openFixture(t);
  for (let at = 0; at < 5; at++) await put(`${url}/v1/kv/k-${at}`, 'v');
  const ask = (partition: number, query: string): Promise<Response> =>
    fetch(`${url}/v1/partitions/${partition}/log?${query}`);
  const whole = await ask(2, 'from=2&end=4');
  assert.equal(whole.status, 200);
  const entries = decodeRun(new Uint8Array(await whole.arrayBuffer()));
  assert.deepEqual(
    entries.map(({ index, term }) => [index, term]),
    [
      [2, 3],
      [3, 3],
    ],
  );
  const names = ['cluster', 'partition', 'first-index', 'last-index'];
  assert.deepEqual(
    names.map((name) => whole.headers.get(`kommander-${name}`)),
    ['fake-cluster', '2', '2', '3'],
  );
  const piece = await ask(2, 'from=1&end=1000');
  assert.equal(piece.headers.get('kommander-last-index'), '3', 'three entries are below 1 MiB');
  const rest = await ask(2, 'from=4&end=1000');
  assert.equal(rest.headers.get('kommander-last-index'), '5', 'no further than what is applied');
  for (const query of ['from=1', 'end=3', 'from=0&end=3', 'from=3&end=3', 'from=x&end=3', 'a=1'])
    await assertError(await ask(2, query), 400, 'INVALID_ARGUMENT');
  const beyond = await assertError(await ask(2, 'from=6&end=7'), 400, 'INVALID_ARGUMENT');
  assert.deepEqual([beyond.details.compactedIndex, beyond.details.lastApplied], [0, 5]);
  await assertError(await ask(77, 'from=1&end=2'), 404, 'UNKNOWN_PARTITION');
});

test('HEAD answers like GET without the body', async (t) => {
  const { url } = await openFixture(t);
  await put(`${url}/v1/kv/k`, 'four');
  const head = await fetch(`${url}/v1/kv/k`, { method: 'HEAD' });
  assert.equal(head.status, 200);
  assert.equal(head.headers.get('content-length'), '4');
  assert.equal(head.headers.get('kommander-index'), '1');
  assert.equal(await head.text(), '');
  assert.equal((await fetch(`${url}/v1/kv/none`, { method: 'HEAD' })).status, 404);
});

test('keys are URL-encoded UTF-8 of 1 to 1,024 bytes, and everything else is refused', async (t) => {
  const { url, service } = await openFixture(t);
  const keys = ['a/b?c#d %', 'été', '\u0000', '🦊', 'k'.repeat(1_024), 'é'.repeat(512)];
  for (const key of keys) {
    const path = `${url}/v1/kv/${encodeURIComponent(key)}`;
    assert.equal((await put(path, key)).status, 200, key);
    assert.equal(await (await fetch(path)).text(), key);
  }
  await put(`${url}/v1/kv/with/slashes`, 'plain slashes belong to the key');
  assert.equal((await fetch(`${url}/v1/kv/with%2Fslashes`)).status, 200);
  const callCount = service.calls.length;
  for (const path of ['', 'k'.repeat(1_025), 'é'.repeat(513), '%ff', '%ED%A0%80', '%4', '%zz']) {
    const encoded = path.startsWith('%') ? path : encodeURIComponent(path);
    const body = await assertError(await fetch(`${url}/v1/kv/${encoded}`), 400, 'INVALID_ARGUMENT');
    assert.equal(body.details.argument, 'key');
  }
  assert.equal(service.calls.length, callCount, 'a bad key never reaches the node');
});

test('a put with a condition that fails is 412 with the present index, and 0 means “must not exist”', async (t) => {
  const { url } = await openFixture(t);
  const key = `${url}/v1/kv/k`;
  assert.equal((await put(`${key}?if-index=0`, 'first')).status, 200);
  const exists = await assertError(await put(`${key}?if-index=0`, 'x'), 412, 'CONDITION_FAILED');
  assert.equal(exists.details.presentIndex, 1);
  assert.equal((await put(`${key}?if-index=1`, 'second')).status, 200);
  const stale = await assertError(await put(`${key}?if-index=1`, 'x'), 412, 'CONDITION_FAILED');
  assert.equal(stale.details.presentIndex, 3);
  const missing = await put(`${url}/v1/kv/x?if-index=5`, 'x');
  assert.equal((await assertError(missing, 412, 'CONDITION_FAILED')).details.presentIndex, 0);
  assert.equal(await (await fetch(key)).text(), 'second');
});

test('a delete removes the key, honours its condition, and is 404 when there is none', async (t) => {
  const { url } = await openFixture(t);
  const key = `${url}/v1/kv/k`;
  await put(key, 'v');
  const refused = await fetch(`${key}?if-index=9`, { method: 'DELETE' });
  await assertError(refused, 412, 'CONDITION_FAILED');
  const deleted = await fetch(`${key}?if-index=1`, { method: 'DELETE' });
  assert.deepEqual(await deleted.json(), { partition: 2, index: 3, term: 3, timestamp: 1_003 });
  await assertError(await fetch(key), 404, 'KEY_NOT_FOUND');
  await assertError(await fetch(key, { method: 'DELETE' }), 404, 'KEY_NOT_FOUND');
});

test('reads are linearizable unless they ask for local, and forward unless they refuse', async (t) => {
  const { url, service } = await openFixture(t);
  await put(`${url}/v1/kv/k?forward=false`, 'v');
  await fetch(`${url}/v1/kv/k`);
  await fetch(`${url}/v1/kv/k?consistency=local&forward=true`);
  await fetch(`${url}/v1/kv/k?consistency=linearizable&forward=false`);
  assert.deepEqual(
    service.calls.map(({ name, consistency, forward }) => [name, consistency, forward]),
    [
      ['replicate', undefined, false],
      ['read', 'linearizable', true],
      ['read', 'local', true],
      ['read', 'linearizable', false],
    ],
  );
});

test('bad and unknown query parameters are refused by name', async (t) => {
  const { url, service } = await openFixture(t);
  const cases: [string, string, string][] = [
    ['PUT', '/v1/kv/k?if-index=-1', 'if-index'],
    ['PUT', '/v1/kv/k?if-index=1.5', 'if-index'],
    ['PUT', '/v1/kv/k?if-index=', 'if-index'],
    ['PUT', '/v1/kv/k?if-index=9007199254740991', 'if-index'],
    ['PUT', '/v1/kv/k?if-index=1&if-index=2', 'if-index'],
    ['PUT', '/v1/kv/k?ifIndex=1', 'ifIndex'],
    ['PUT', '/v1/kv/k?forward=no', 'forward'],
    ['GET', '/v1/kv/k?consistency=strong', 'consistency'],
    ['DELETE', '/v1/kv/k?consistency=local', 'consistency'],
    ['GET', '/v1/kv?limit=0', 'limit'],
    ['GET', '/v1/kv?limit=10001', 'limit'],
    ['GET', '/v1/status?verbose=1', 'verbose'],
  ];
  for (const [method, path, argument] of cases) {
    const body = await assertError(await fetch(url + path, { method }), 400, 'INVALID_ARGUMENT');
    assert.equal(body.details.argument, argument, path);
  }
  assert.equal(service.calls.length, 0);
});

test('a listing merges all partitions in ascending order and goes on behind `after`', async (t) => {
  const { url } = await openFixture(t);
  for (const key of ['b1', 'b22', 'a', 'b333', 'c']) await put(`${url}/v1/kv/${key}`, key);
  const keysOf = async (query: string): Promise<[string[], boolean]> => {
    const response = await fetch(`${url}/v1/kv${query}`);
    assert.equal(response.status, 200);
    const body = (await response.json()) as { keys: { key: string }[]; truncated: boolean };
    return [body.keys.map(({ key }) => key), body.truncated];
  };
  assert.deepEqual(await keysOf(''), [['a', 'b1', 'b22', 'b333', 'c'], false]);
  assert.deepEqual(await keysOf('?prefix=b'), [['b1', 'b22', 'b333'], false]);
  assert.deepEqual(await keysOf('?prefix=b&limit=2'), [['b1', 'b22'], true]);
  assert.deepEqual(await keysOf('?prefix=b&limit=2&after=b22'), [['b333'], false]);
  assert.deepEqual(await keysOf('?prefix=x'), [[], false]);
  const response = await fetch(`${url}/v1/kv?prefix=b333`);
  assert.deepEqual(await response.json(), {
    keys: [{ key: 'b333', partition: 1, index: 2, term: 3, bytes: 4 }],
    truncated: false,
  });
});

test('status tells node, cluster, roster and every partition, absent values as null', async (t) => {
  const { url, service } = await openFixture(t);
  await put(`${url}/v1/kv/k`, 'v');
  service.leader = undefined;
  const response = await fetch(`${url}/v1/status`);
  assert.equal(response.status, 200);
  const status = (await response.json()) as Record<string, unknown> & { partitions: unknown[] };
  assert.equal(status.node, 'a');
  assert.equal(status.clusterId, 'fake-cluster');
  assert.deepEqual(status.roster, [{ node: 'a', endpoint: '127.0.0.1:8001', reachable: true }]);
  assert.deepEqual(status.partitions[1], {
    partition: 2,
    role: 'leader',
    term: 3,
    leader: null,
    commitIndex: 1,
    lastApplied: 1,
    lastIndex: 1,
    compactedIndex: 0,
    log: {
      entries: 1,
      checkpointIndex: 0,
      entriesSinceCheckpoint: 1,
      bytesSinceCheckpoint: 64,
      holds: [{ owner: 'reader', fromIndex: 1 }],
      keptBy: { reason: 'slowestReplica', nodeId: null },
    },
    queuedProposals: 0,
    keys: 1,
    stopped: null,
  });
});

test('a transfer is 200 when the other node leads, and says why when it does not', async (t) => {
  const { url, service } = await openFixture(t);
  const transfer = (partition: number | string, body: string): Promise<Response> =>
    fetch(`${url}/v1/partitions/${partition}/transfer`, { method: 'POST', body });
  const done = await transfer(1, '{"to":"b"}');
  assert.equal(done.status, 200);
  assert.deepEqual(await done.json(), { partition: 1, leader: 'b' });
  assert.equal(service.leader, 'b');
  for (const body of ['', '{', '[]', '{"to":1}', '{"to":""}', '{"to":"b","now":true}', '\xff']) {
    await assertError(await transfer(1, body), 400, 'INVALID_ARGUMENT');
  }
  await assertError(await transfer(99, '{"to":"b"}'), 404, 'UNKNOWN_PARTITION');
  await assertError(await transfer('x', '{"to":"b"}'), 404, 'ROUTE_NOT_FOUND');
  await assertError(await transfer(1, `{"to":"${'b'.repeat(5_000)}"}`), 413, 'BODY_TOO_LARGE');
  for (const code of ['TRANSFER_REFUSED', 'UNKNOWN_NODE'] as const) {
    service.fail(fakeError(code, { reason: 'a learner' }));
    const body = await assertError(await transfer(1, '{"to":"c"}'), 409, code);
    assert.equal(body.details.reason, 'a learner');
  }
  service.fail(fakeError('TRANSFER_TIMEOUT'));
  await assertError(await transfer(1, '{"to":"c"}'), 504, 'TRANSFER_TIMEOUT');
});

test('healthz is live while the node has not failed; readyz needs a leader in every partition', async (t) => {
  const { url, service } = await openFixture(t);
  const statusesOf = async (): Promise<number[]> => [
    (await fetch(`${url}/healthz`)).status,
    (await fetch(`${url}/readyz`)).status,
  ];
  assert.deepEqual(await statusesOf(), [200, 200]);
  service.leader = undefined;
  assert.deepEqual(await statusesOf(), [200, 503]);
  const body = (await (await fetch(`${url}/readyz`)).json()) as { reasons: string[] };
  assert.deepEqual(body.reasons, [
    'partition 1 has no known leader',
    'partition 2 has no known leader',
  ]);
  service.leader = 'a';
  service.state = 'forming';
  assert.deepEqual(await statusesOf(), [200, 503]);
  service.state = 'failed';
  assert.deepEqual(await statusesOf(), [503, 503]);
});

test('every failure of the node has its status, its code and says whether the write may stand', async (t) => {
  const { url, service } = await openFixture(t);
  const expected: Partial<Record<ErrorCode, number>> = {
    NOT_LEADER: 421,
    NO_LEADER: 503,
    QUEUE_FULL: 429,
    PROPOSAL_DROPPED: 503,
    PROPOSAL_LOST: 503,
    PROPOSAL_TIMEOUT: 504,
    OUTCOME_UNKNOWN: 504,
    ENTRY_TOO_LARGE: 413,
    UNKNOWN_PARTITION: 404,
    NODE_CLOSED: 503,
    REPLICA_STOPPED: 503,
    WAL_FAILED: 503,
  };
  for (const [code, status] of Object.entries(expected) as [ErrorCode, number][]) {
    service.fail(fakeError(code, { leader: 'b' }));
    const response = await put(`${url}/v1/kv/k`, 'v');
    const body = await assertError(response, status, code);
    assert.equal(body.details.leader, 'b');
    const isWaitWorthwhile = status === 429 || status === 503;
    assert.equal(response.headers.get('retry-after'), isWaitWorthwhile ? '1' : null, code);
  }
  service.fail(fakeError('READ_TIMEOUT'));
  await assertError(await fetch(`${url}/v1/kv/k`), 504, 'READ_TIMEOUT');
  for (const status of Object.values(httpStatusOf)) assert.ok(status >= 400 && status < 600);
});

test('a bug of the server is 500, its details stay in the log', async (t) => {
  const { url, service, events } = await openFixture(t);
  service.fail(new TypeError('secret detail'));
  const body = await assertError(await put(`${url}/v1/kv/k`, 'v'), 500, 'INTERNAL_ERROR');
  assert.ok(!JSON.stringify(body).includes('secret'));
  assert.equal(events[0]?.name, 'http-request-failed');
  assert.match(String(events[0]?.fields.error), /secret detail/);
});

test('unknown paths are 404, and a known path with another method is 405 with the ones it takes', async (t) => {
  const { url } = await openFixture(t);
  for (const path of ['/', '/v1', '/v1/kvs', '/v2/kv/k', '/v1/status/', '/healthz/x']) {
    await assertError(await fetch(url + path), 404, 'ROUTE_NOT_FOUND');
  }
  const cases: [string, string, string][] = [
    ['POST', '/v1/kv/k', 'GET, HEAD, PUT, DELETE'],
    ['PUT', '/v1/kv', 'GET, HEAD'],
    ['GET', '/v1/partitions/1/transfer', 'POST'],
    ['DELETE', '/healthz', 'GET, HEAD'],
  ];
  for (const [method, path, allow] of cases) {
    const response = await fetch(url + path, { method });
    assert.equal(response.headers.get('allow'), allow);
    await assertError(response, 405, 'METHOD_NOT_ALLOWED');
  }
});

test('a body above 1 MiB is 413 while it is being read, with and without a stated length', async (t) => {
  const { url, service } = await openFixture(t);
  const tooLarge = new Uint8Array(1_048_577);
  const stated = await assertError(await put(`${url}/v1/kv/k`, tooLarge), 413, 'BODY_TOO_LARGE');
  assert.equal(stated.details.bytesMax, 1_048_576);
  const stream = new ReadableStream({
    start(controller) {
      for (let piece = 0; piece < 17; piece++) controller.enqueue(new Uint8Array(65_536));
      controller.close();
    },
  });
  const init = { method: 'PUT', body: stream, duplex: 'half' } as RequestInit;
  await assertError(await fetch(`${url}/v1/kv/k`, init), 413, 'BODY_TOO_LARGE');
  assert.equal(service.calls.length, 0, 'it never reaches the node');
  assert.equal((await put(`${url}/v1/kv/k`, 'small')).status, 200);
});

test('a connection stays usable after a 413, and is cut when the unwanted body does not end', async (t) => {
  const { api } = await openFixture(t, { bodyBytesDiscardedMax: 4_194_304 });
  const client = await rawClient(t, api.endpoint);
  client.socket.write('PUT /v1/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n');
  await client.reads('HTTP/1.1 413 ');
  client.socket.write(Buffer.alloc(2_000_000));
  client.socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n');
  await client.reads('HTTP/1.1 200 ');

  client.socket.write('PUT /v1/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n');
  await client.reads('HTTP/1.1 413 ');
  client.socket.write(Buffer.alloc(9_000_000));
  await client.closed;
});

test('a client that asks first is told 413 before it sends a body that is too large', async (t) => {
  const { api } = await openFixture(t);
  const client = await rawClient(t, api.endpoint);
  const head = 'PUT /v1/kv/k HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n';
  client.socket.write(`${head}content-length: 5\r\n\r\n`);
  await client.reads('HTTP/1.1 100 Continue');
  client.socket.write('hello');
  await client.reads('HTTP/1.1 200 OK');
  client.socket.write(`${head}content-length: 2000000\r\n\r\n`);
  const answer = await client.reads('HTTP/1.1 413 ');
  assert.ok(!answer.includes('100 Continue'));
  await client.closed;
});

test('bytes that are no HTTP, too many headers and headers that never end get a JSON error', async (t) => {
  const { api } = await openFixture(t, { headersTimeoutMs: 200 });
  const cases: [string, string][] = [
    ['rubbish\r\n\r\n', 'HTTP/1.1 400 '],
    [`GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`, 'HTTP/1.1 431 '],
    ['GET /healthz HTTP/1.1\r\nhost: x\r\n', 'HTTP/1.1 408 '],
    ['GET /v1/kv/\xe9 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n', 'HTTP/1.1 400 '],
  ];
  for (const [bytes, status] of cases) {
    const client = await rawClient(t, api.endpoint);
    client.socket.write(Buffer.from(bytes, 'latin1'));
    const answer = await client.reads(status);
    await client.closed;
    assert.match(answer, /"code":"INVALID_ARGUMENT"/);
  }
});

test('requests beyond the bound are 429 at once, while operators are still answered', async (t) => {
  const { url, service } = await openFixture(t, { requestsMax: 2 });
  const release = service.hold();
  const held = [put(`${url}/v1/kv/a`, '1'), put(`${url}/v1/kv/b`, '2')];
  await until(() => service.calls.length === 2);
  const refused = await put(`${url}/v1/kv/c`, '3');
  assert.equal(refused.headers.get('retry-after'), '1');
  await assertError(refused, 429, 'QUEUE_FULL');
  assert.equal((await fetch(`${url}/v1/status`)).status, 200);
  release();
  for (const response of await Promise.all(held)) assert.equal(response.status, 200);
  assert.equal((await put(`${url}/v1/kv/c`, '3')).status, 200);
});

test('bodies beyond what the server may hold are 429, and count no more once they are answered', async (t) => {
  const { url, service } = await openFixture(t, { bodyBytesHeldMax: 2_000 });
  const release = service.hold();
  const held = put(`${url}/v1/kv/a`, new Uint8Array(1_500));
  await until(() => service.calls.length === 1);
  await assertError(await put(`${url}/v1/kv/b`, new Uint8Array(1_500)), 429, 'QUEUE_FULL');
  release();
  assert.equal((await held).status, 200);
  for (let round = 0; round < 3; round++) {
    assert.equal((await put(`${url}/v1/kv/b`, new Uint8Array(1_500))).status, 200);
  }
});

test('a body that does not come in time is 408, and was no write', async (t) => {
  const { api, service } = await openFixture(t, { headersTimeoutMs: 100, requestTimeoutMs: 200 });
  const client = await rawClient(t, api.endpoint);
  client.socket.write('PUT /v1/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf');
  await client.reads('HTTP/1.1 408 ');
  await client.closed;
  assert.equal(service.calls.length, 0);
});

test('connections beyond the bound are closed, and idle ones make room', async (t) => {
  const { api } = await openFixture(t, { connectionsMax: 2, keepAliveTimeoutMs: 50 });
  const kept = await rawClient(t, api.endpoint);
  const idle = await rawClient(t, api.endpoint);
  const beyond = await rawClient(t, api.endpoint);
  await beyond.closed;
  for (const client of [kept, idle]) {
    client.socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n');
    await client.reads('HTTP/1.1 200 ');
  }
  await idle.closed;
  const next = await rawClient(t, api.endpoint);
  next.socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n');
  await next.reads('HTTP/1.1 200 ');
});

test('a client that goes away aborts what it asked for', async (t) => {
  const { url, service } = await openFixture(t);
  service.hold();
  const leaving = new AbortController();
  const gone = fetch(`${url}/v1/kv/k`, { method: 'PUT', body: 'v', signal: leaving.signal });
  await until(() => service.calls.length === 1);
  leaving.abort();
  await assert.rejects(gone, { name: 'AbortError' });
  await until(() => service.calls[0]?.signal?.aborted === true);
});

test('a client that goes away in the middle of its body leaves nothing behind', async (t) => {
  const { api, url, service } = await openFixture(t, { bodyBytesHeldMax: 2_000 });
  for (let round = 0; round < 3; round++) {
    const client = await rawClient(t, api.endpoint);
    client.socket.write('PUT /v1/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 1800\r\n\r\n');
    client.socket.write(Buffer.alloc(1_500));
    await fetch(`${url}/healthz`);
    client.socket.destroy();
    await client.closed;
  }
  await until(async () => (await put(`${url}/v1/kv/k`, new Uint8Array(1_900))).status === 200);
  assert.equal(service.calls.length, 1, 'an incomplete body is no write');
});

test('before the node is restored everything but healthz is refused', async (t) => {
  const api = await openHttpApi({ listen: '127.0.0.1:0' });
  t.after(() => api.close());
  const url = `http://${api.endpoint}`;
  assert.equal((await fetch(`${url}/healthz`)).status, 200);
  for (const path of ['/readyz', '/v1/status', '/v1/kv/k']) {
    await assertError(await fetch(url + path), 503, 'SERVER_STARTING');
  }
});

test('closing answers what is under way, refuses what comes on open connections, accepts no new ones', async (t) => {
  const { url, api, service } = await openFixture(t);
  const idle = await rawClient(t, api.endpoint);
  const release = service.hold();
  const held = put(`${url}/v1/kv/k`, 'v');
  await until(() => service.calls.length === 1);
  idle.socket.write('PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n1');
  await fetch(`${url}/healthz`);
  const drained = api.drain(60_000);
  idle.socket.write('23');
  release();
  assert.equal((await held).status, 200);
  await idle.reads('HTTP/1.1 200 ');
  await drained;
  await assert.rejects(fetch(`${url}/healthz`), TypeError);
});

test('a request that comes while the server closes is 503, and nothing was written', async (t) => {
  const { url, api, service } = await openFixture(t);
  const release = service.hold();
  const held = put(`${url}/v1/kv/k`, 'v');
  await until(() => service.calls.length === 1);
  const busy = await rawClient(t, api.endpoint);
  busy.socket.write('GET /healthz HTTP/1.1\r\n');
  await fetch(`${url}/healthz`);
  const drained = api.drain(60_000);
  busy.socket.write('host: x\r\n\r\n');
  const answer = await busy.reads('HTTP/1.1 503 ');
  await busy.closed;
  assert.match(answer, /"code":"SERVER_CLOSING".*"mayHaveCommitted":false/);
  release();
  assert.equal((await held).status, 200);
  await drained;
});

test('an address that is taken is a typed error that names it', async (t) => {
  const { api } = await openFixture(t);
  await assert.rejects(openHttpApi({ listen: api.endpoint }), {
    code: 'TRANSPORT_FAILED',
    message: new RegExp(api.endpoint),
  });
});

interface RawClient {
  readonly socket: Socket;
  readonly closed: Promise<unknown>;
  /** Waits for `text` in what comes next, and returns everything up to the end of what has come. */
  reads(text: string): Promise<string>;
}

async function rawClient(t: TestContext, endpoint: string): Promise<RawClient> {
  const [host = '', port = ''] = endpoint.split(':');
  const socket = connect(Number(port), host);
  socket.setEncoding('latin1');
  socket.on('error', () => {});
  t.after(() => socket.destroy());
  const closed = new Promise((resolve) => socket.once('close', resolve));
  let received = '';
  socket.on('data', (text: string) => {
    received += text;
  });
  await once(socket, 'connect');
  return {
    socket,
    closed,
    async reads(text) {
      await until(() => received.includes(text) || socket.destroyed);
      assert.ok(received.includes(text), `expected ${text}, got ${received}`);
      await new Promise((resolve) => setImmediate(resolve));
      const all = received;
      received = '';
      return all;
    },
  };
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 2));
}
