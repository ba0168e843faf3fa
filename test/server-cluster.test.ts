// Three servers in one process, with real consensus and a real network: what any client may rely on at any node.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { ObservedEvent } from '../src/ports/observer.ts';
import { openServer, type Server } from '../src/server/serve.ts';
import type { ServeOptions } from '../src/server/serve-options.ts';
import { eventually, isReady, serveOptions, statusOf } from './server-support.ts';
import { freePorts } from './support/ports.ts';

const nodeIds = ['a', 'b', 'c'];

interface Cluster {
  readonly servers: readonly Server[];
  readonly urls: readonly string[];
  readonly events: ObservedEvent[];
}

async function openCluster(t: TestContext, changes: Partial<ServeOptions> = {}): Promise<Cluster> {
  const ports = await freePorts(nodeIds.length);
  const members = Object.fromEntries(nodeIds.map((id, at) => [id, `127.0.0.1:${ports[at]}`]));
  const events: ObservedEvent[] = [];
  const observer = (event: ObservedEvent): void => void events.push(event);
  const servers = await Promise.all(
    nodeIds.map((id) => openServer(serveOptions(id, members, changes), observer)),
  );
  t.after(() => Promise.all(servers.map((server) => server.close())));
  const urls = servers.map(({ http }) => `http://${http}`);
  for (const url of urls) await eventually(`${url} is ready`, () => isReady(url));
  return { servers, urls, events };
}

function urlAt(cluster: Cluster, at: number): string {
  return cluster.urls[at % cluster.urls.length] ?? '';
}

function put(url: string, body: string): Promise<Response> {
  return fetch(url, { method: 'PUT', body });
}

test('what one node acknowledged, every node returns at once, and then locally too', async (t) => {
  const cluster = await openCluster(t);
  for (let round = 0; round < 30; round++) {
    const key = `k-${round % 7}`;
    const written = await put(`${urlAt(cluster, round)}/v1/kv/${key}`, `v-${round}`);
    assert.equal(written.status, 200, await written.clone().text());
    const { index } = (await written.json()) as { index: number };
    for (const url of cluster.urls) {
      const read = await fetch(`${url}/v1/kv/${key}`);
      assert.equal(await read.text(), `v-${round}`);
      assert.equal(Number(read.headers.get('kommander-index')), index);
    }
  }
  for (const url of cluster.urls) {
    await eventually('every node has applied everything', async () => {
      const listed = await (await fetch(`${url}/v1/kv?prefix=k-`)).json();
      return (listed as { keys: unknown[] }).keys.length === 7;
    });
    const local = await fetch(`${url}/v1/kv/k-1?consistency=local`);
    assert.equal(await local.text(), 'v-29');
  }
});

test('of many who create one key at all nodes, exactly one succeeds', async (t) => {
  const cluster = await openCluster(t);
  for (let round = 0; round < 5; round++) {
    const attempts = Array.from({ length: 12 }, (_, at) =>
      put(`${urlAt(cluster, at)}/v1/kv/race-${round}?if-index=0`, `${at}`),
    );
    const statuses = (await Promise.all(attempts)).map(({ status }) => status);
    assert.equal(statuses.filter((status) => status === 200).length, 1);
    assert.equal(statuses.filter((status) => status === 412).length, 11);
  }
});

test('a node that may not forward answers 421 with the leader, which takes the write', async (t) => {
  const cluster = await openCluster(t);
  const answers = await Promise.all(
    cluster.urls.map((url) => put(`${url}/v1/kv/k?forward=false`, 'v')),
  );
  const statuses = answers.map(({ status }) => status);
  assert.deepEqual(
    statuses.toSorted((one, other) => one - other),
    [200, 421, 421],
  );
  const leader = nodeIds[statuses.indexOf(200)];
  for (const answer of answers.filter(({ status }) => status === 421)) {
    const body = (await answer.json()) as { code: string; details: { leader: string } };
    assert.equal(body.code, 'NOT_LEADER');
    assert.equal(body.details.leader, leader);
  }
});

test('leadership moves where it is told to, and every node learns of it', async (t) => {
  const cluster = await openCluster(t);
  for (const to of nodeIds) {
    const status = await statusOf(urlAt(cluster, 0));
    const leader = status?.partitions.find(({ partition }) => partition === 1)?.leader;
    const at = nodeIds.indexOf(leader ?? '');
    const body = JSON.stringify({ to });
    const url = `${urlAt(cluster, at)}/v1/partitions/1/transfer`;
    const response = await fetch(url, { method: 'POST', body });
    assert.equal(response.status, 200, await response.clone().text());
    assert.deepEqual(await response.json(), { partition: 1, leader: to });
    for (const node of cluster.urls) {
      await eventually(`${node} knows that ${to} leads`, async () => {
        const seen = await statusOf(node);
        return seen?.partitions.find(({ partition }) => partition === 1)?.leader === to;
      });
    }
  }
  const body = JSON.stringify({ to: 'nobody' });
  const unknown = await fetch(`${urlAt(cluster, 0)}/v1/partitions/1/transfer`, {
    method: 'POST',
    body,
  });
  assert.equal(unknown.status, 409);
});

test('status shows every partition with one leader, the system partition too', async (t) => {
  const cluster = await openCluster(t);
  const status = await statusOf(urlAt(cluster, 1));
  assert.equal(status?.node, 'b');
  assert.equal(status.state, 'running');
  assert.deepEqual(
    status.partitions.map(({ partition }) => partition),
    [0, 1, 2, 3, 4],
  );
  for (const { leader, lastApplied, commitIndex } of status.partitions) {
    assert.ok(leader !== null && nodeIds.includes(leader));
    assert.ok(lastApplied <= commitIndex);
  }
});

test('a log that has grown beyond the bound gets a checkpoint, and nothing is lost', async (t) => {
  const cluster = await openCluster(t, { partitions: 1, checkpointBytes: 65_536 });
  const value = 'x'.repeat(4_000);
  for (let at = 0; at < 40; at++) {
    const written = await put(`${urlAt(cluster, at)}/v1/kv/big-${at % 10}`, `${at} ${value}`);
    assert.equal(written.status, 200);
  }
  await eventually('a checkpoint is made', () =>
    cluster.events.some(({ name }) => name === 'checkpoint-made'),
  );
  for (const url of cluster.urls) {
    const read = await fetch(`${url}/v1/kv/big-9`);
    assert.equal(await read.text(), `39 ${value}`);
  }
});

test('the largest value goes through consensus and comes back', async (t) => {
  const cluster = await openCluster(t, { partitions: 1 });
  const value = 'm'.repeat(1_048_576);
  const key = encodeURIComponent('k'.repeat(1_024));
  for (let at = 0; at < 3; at++) {
    const written = await put(`${urlAt(cluster, at)}/v1/kv/${key}`, value);
    assert.equal(written.status, 200, await written.clone().text());
    assert.equal(await (await fetch(`${urlAt(cluster, at + 1)}/v1/kv/${key}`)).text(), value);
  }
});
