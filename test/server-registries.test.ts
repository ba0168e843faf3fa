// Servers as processes that know each other's ids and a registry: they find each other in it, go on while it is down, and
// find a member that comes back elsewhere.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { allReady, assertKeys, NodeProcess, writeKeys } from './server-node-process.ts';
import { freePorts } from './support/ports.ts';
import {
  etcdCommand,
  redisCommand,
  redisPassword,
  skipWithout,
  startServer,
} from './support/registry-servers.ts';

for (const [command, discoveryAt] of [
  [
    redisCommand,
    (port: number) =>
      `redis://:${encodeURIComponent(redisPassword)}@127.0.0.1:${port}?cluster=orders`,
  ],
  [etcdCommand, (port: number) => `etcd://127.0.0.1:${port}?cluster=orders`],
] as const) {
  const limits = { skip: skipWithout(command.command), timeout: 120_000 };
  test(
    `servers form a cluster through ${command.command}, and go on without it`,
    limits,
    async (t) => {
      const directory = mkdtempSync(join(tmpdir(), 'kommander-'));
      const nodes: NodeProcess[] = [];
      await using registry = await startServer(command);
      const ports = await freePorts(8);
      t.after(async () => {
        for (const node of nodes) if (!node.hasEnded) await node.end('SIGKILL');
        rmSync(directory, { recursive: true, force: true });
      });
      function start(nodeId: string, [raft, http]: readonly [number, number]): NodeProcess {
        const node = new NodeProcess(nodeId, `127.0.0.1:${ports[http]}`, [
          ...['--members', 'a,b,c', '--listen', `127.0.0.1:${ports[raft]}`],
          ...['--data', join(directory, nodeId), '--discovery', discoveryAt(registry.port)],
          ...['--partitions', '2', '--stop-with-parent'],
        ]);
        nodes.push(node);
        return node;
      }

      const a = start('a', [0, 1]);
      const b = start('b', [2, 3]);
      const c = start('c', [4, 5]);
      await allReady([a, b, c]);
      await writeKeys(a, 'first', 10);

      await registry.stop();
      await writeKeys(b, 'without', 10);
      await c.end('SIGKILL');
      await writeKeys(a, 'two', 10);

      await registry.start();
      const back = start('c', [6, 7]);
      await allReady([back]);
      await writeKeys(back, 'three', 10);
      for (const prefix of ['first', 'without', 'two', 'three']) await assertKeys(back, prefix, 10);
    },
  );
}
