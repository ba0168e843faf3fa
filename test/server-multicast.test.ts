// Servers as processes that know each other's ids and nothing else: they find each other by multicast on the loopback
// interface, go on when one comes back elsewhere, and do not take in whoever was not named.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { must } from '../src/base/assert.ts';
import { allReady, assertKeys, NodeProcess, writeKeys } from './server-node-process.ts';
import { eventually, statusOf } from './server-support.ts';
import { multicastOf } from './support/network-namespaces.ts';
import { freePorts } from './support/ports.ts';

async function membersOf(node: NodeProcess): Promise<string> {
  const response = await fetch(`${node.url}/v1/members`);
  const { members } = (await response.json()) as {
    members: readonly { node: string; endpoint: string | null; voterOf: readonly number[] }[];
  };
  return members
    .map(({ node: id, endpoint, voterOf }) => `${id}=${endpoint}${voterOf.length > 0 ? '' : '?'}`)
    .join(' ');
}

test('servers form a cluster by multicast, survive one that comes back under another port, and take in no stranger', async (t) => {
  const discovery = await multicastOf(t);
  if (discovery === undefined) return;
  const directory = mkdtempSync(join(tmpdir(), 'kommander-'));
  const ports = await freePorts(9);
  const nodes: NodeProcess[] = [];
  t.after(async () => {
    for (const node of nodes) if (!node.hasEnded) await node.end('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  });
  function start(
    nodeId: string,
    members: string,
    [raft, http]: readonly [number, number],
  ): NodeProcess {
    const data = join(directory, nodeId);
    const node = new NodeProcess(nodeId, `127.0.0.1:${ports[http]}`, [
      ...['--members', members, '--listen', `127.0.0.1:${ports[raft]}`, '--data', data],
      ...['--discovery', discovery ?? '', '--partitions', '2', '--stop-with-parent'],
    ]);
    nodes.push(node);
    return node;
  }

  const a = start('a', 'a,b,c', [0, 1]);
  const b = start('b', 'a,b,c', [2, 3]);
  const d = start('d', 'a,b,c,d', [4, 5]);
  await eventually('a has found b', async () => {
    const found = await membersOf(a).catch(() => '');
    return found === `a=127.0.0.1:${ports[0]} b=127.0.0.1:${ports[2]} c=null`;
  });
  assert.equal(
    (await statusOf(a.url))?.state,
    'forming',
    'two of three, and a stranger, are no cluster',
  );
  const c = start('c', 'a,b,c', [6, 7]);
  await allReady([a, b, c]);
  await writeKeys(a, 'first', 10);
  const everybody = `a=127.0.0.1:${ports[0]} b=127.0.0.1:${ports[2]} c=127.0.0.1:${ports[6]}`;
  for (const node of [a, b, c]) assert.equal(await membersOf(node), everybody);

  await c.end('SIGKILL');
  await writeKeys(b, 'second', 10);
  const back = start('c', 'a,b,c', [8, 7]);
  await allReady([back]);
  await eventually('all know where c is now', async () => {
    const known = await Promise.all([a, b, back].map(membersOf));
    return known.every((list) => list === everybody.replace(/c=.*/, `c=127.0.0.1:${ports[8]}`));
  });
  await writeKeys(back, 'third', 10);
  for (const prefix of ['first', 'second', 'third']) await assertKeys(back, prefix, 10);

  const stranger = must(await statusOf(d.url), 'the stranger still runs');
  assert.equal(stranger.state, 'forming');
  for (const { term } of stranger.partitions) assert.equal(term, 0);
});
