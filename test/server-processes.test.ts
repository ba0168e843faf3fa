// Servers as processes with a durable log: what a signal, a kill and a restart may and may not do.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { allReady, assertKeys, openProcesses, writeKeys } from './server-node-process.ts';
import { statusOf } from './server-support.ts';

test('SIGTERM hands leadership over, ends with 0, and a restart has everything', async (t) => {
  const nodes = await openProcesses(t);
  const [a, b] = nodes;
  await writeKeys(a, 'before', 20);
  const status = await statusOf(a?.url ?? '');
  const leader = status?.partitions.find(({ partition }) => partition === 1)?.leader;
  const leaving = nodes.find(({ nodeId }) => nodeId === leader);
  const staying = nodes.filter((node) => node !== leaving);
  assert.ok(leaving !== undefined);
  assert.match(
    leaving.stdout,
    /^kommander ready node=. http=http:\S+ raft=\S+ partitions=3 wal=rocksdb data=\S+\n$/,
  );

  const exit = await leaving.end('SIGTERM');
  assert.equal(exit, 0, leaving.stderr);
  const seen = await Promise.all(staying.map((node) => statusOf(node.url)));
  const led = seen.flatMap((each) =>
    (each?.partitions ?? [])
      .filter(({ role }) => role === 'leader')
      .map(({ partition }) => partition),
  );
  assert.deepEqual(
    led.sort((one, other) => one - other),
    [0, 1, 2, 3],
    'the others lead everything as soon as it has ended',
  );
  await writeKeys(staying[0], 'during', 20);
  leaving.restart();
  await allReady([leaving]);
  await assertKeys(leaving, 'before', 20);
  await assertKeys(leaving, 'during', 20);
  await writeKeys(b, 'after', 5);
});

test('a cluster whose processes were all killed has every acknowledged write again', async (t) => {
  const nodes = await openProcesses(t);
  const [a, b, c] = nodes;
  await writeKeys(a, 'one', 10);
  await writeKeys(b, 'two', 10);
  for (const node of nodes) assert.equal(await node.end('SIGKILL'), 'SIGKILL');
  for (const node of nodes) node.restart();
  await allReady(nodes);
  await assertKeys(c, 'one', 10);
  await assertKeys(a, 'two', 10);
});

test('a server that follows its parent ends when its standard input does', async (t) => {
  const [node] = await openProcesses(t, ['a']);
  assert.ok(node !== undefined);
  const exited = once(node.child, 'exit');
  node.child.stdin?.end();
  const [code] = (await exited) as [number | null];
  assert.equal(code, 0, node.stderr);
});

test('a second signal ends a server at once, with 1', async (t) => {
  const [node] = await openProcesses(t, ['a']);
  assert.ok(node !== undefined);
  const ended = node.end('SIGTERM');
  node.child.kill('SIGINT');
  assert.equal(await ended, 1, node.stderr);
});

test('a data directory that another process has open is refused with a readable message', async (t) => {
  const [node] = await openProcesses(t, ['a']);
  assert.ok(node !== undefined);
  const second = node.another();
  assert.equal(await second.exited, 1);
  assert.match(second.stderr, /^kommander: .*\(WAL_LOCKED\)$/m);
  assert.equal((await fetch(`${node.url}/healthz`)).status, 200);
});
