// Hazards 57 and 59: what keeps data safe is no option, and what is an option has an effect. The first part uses nodes
// with nothing set that they do not need; the second reads the sources, because an option that is checked and then
// forgotten is seen nowhere else.

import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { staticDiscovery } from '../../src/discovery/static.ts';
import type { NodeOptions } from '../../src/host/api.ts';
import { checkOptions } from '../../src/host/options.ts';
import { serveOptionTable } from '../../src/server/serve-options.ts';
import { checkedOptions } from '../../src/transport/grpc-options.ts';
import { memoryNetwork } from '../../src/transport/memory.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { nodeCluster, text } from '../support/node-cluster.ts';

const root = path.resolve(import.meta.dirname, '../..');

/** The defaults of the library in place of the quick settings of the other tests. */
const byDefault: Partial<NodeOptions> = (({ tickMs, electionTicks, heartbeatTicks }) => ({
  tickMs,
  electionTicks,
  heartbeatTicks,
}))(checkOptions(bareOptions()));
const electionMs = (byDefault.tickMs ?? 0) * (byDefault.electionTicks ?? 0);

function bareOptions(): NodeOptions {
  return {
    nodeId: 'a',
    listen: '127.0.0.1:1',
    wal: memoryWal(),
    transport: memoryNetwork().transport(),
    discovery: staticDiscovery({ a: '127.0.0.1:1' }),
  };
}

test('by default a node that was cut off comes back in the term that it left, and deposes nobody', async () => {
  await using cluster = nodeCluster({ settings: byDefault });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const term = cluster.node('a').status().partitions[1]?.term;
  cluster.isolate(['c']);
  await cluster.run(20 * electionMs);
  assert.notEqual(cluster.node('c').status().partitions[1]?.role, 'follower', 'it asks for votes');
  cluster.network.heal();
  await cluster.run(5 * electionMs);
  assert.equal(cluster.node('a').isLeader(1), true);
  for (const nodeId of cluster.nodeIds) {
    assert.equal(cluster.node(nodeId).status().partitions[1]?.term, term);
  }
});

test('by default a leader that was cut off gives up, and serves no read meanwhile', async () => {
  await using cluster = nodeCluster({ settings: byDefault });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.isolate(['a']);
  const read = cluster.driveFailure(cluster.node('a').read(1, { timeoutMs: electionMs }));
  assert.match((await read).code ?? '', /READ_TIMEOUT|NO_LEADER/);
  await cluster.run(2 * electionMs);
  assert.equal(cluster.node('a').isLeader(1), false);
});

test('by default a write is synced on a quorum of disks before it is acknowledged', async () => {
  await using cluster = nodeCluster({ settings: byDefault });
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (let count = 0; count < 10; count++) {
    const before = cluster.nodeIds.map((nodeId) => cluster.seat(nodeId).disk.syncCount);
    await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${count}`)));
    const synced = cluster.nodeIds.filter(
      (nodeId, at) => cluster.seat(nodeId).disk.syncCount > (before[at] ?? 0),
    );
    assert.ok(synced.length >= 2, `synced on ${synced}`);
  }
});

/** Sources of a folder without tests and without the file that checks the options. */
function sourcesOf(pattern: string, checking: readonly string[]): string {
  return globSync(pattern, { cwd: root })
    .filter((file) => !/\.test\.ts$/.test(file) && !checking.includes(path.basename(file)))
    .map((file) =>
      readFileSync(path.join(root, file), 'utf8').replace(/^\s*(\/\/|\*|\/\*).*$/gm, ''),
    )
    .join('\n');
}

/** Options that no source reads: neither `settings.name` nor `{ name, … } = settings`. */
function unread(names: readonly string[], source: string): string[] {
  const holder = '(?:[sS]ettings|[oO]ptions|[cC]onfig)';
  return names.filter((name) => {
    const isRead = new RegExp(`${holder}\\.${name}\\b`).test(source);
    const taking = `\\{[^{}]*\\b${name}\\b[^{}]*\\}(?: = |: )[\\w.]*${holder}\\b`;
    return !isRead && !new RegExp(taking).test(source);
  });
}

test('the search for unread options finds one', () => {
  const source =
    'function go({ used, other }: NodeSettings) { const { also } = settings; settings.third }';
  assert.deepEqual(unread(['used', 'also', 'third', 'ignored'], source), ['ignored']);
});

test('every option of a node is read by the host', () => {
  const names = Object.keys(checkOptions({ ...bareOptions(), seed: 1 }));
  assert.ok(names.length >= 20, names.join());
  const source = sourcesOf('src/host/*.ts', ['options.ts', 'api.ts']);
  assert.deepEqual(unread([...names, 'wal', 'transport', 'discovery'], source), []);
});

test('every option of the gRPC transport is read by it', () => {
  const names = Object.keys(checkedOptions({}));
  assert.ok(names.length >= 10, names.join());
  assert.deepEqual(unread(names, sourcesOf('src/transport/*.ts', ['grpc-options.ts'])), []);
});

test('every option of the server is read by it', () => {
  const names = serveOptionTable.map(({ name }) => name);
  assert.deepEqual(unread(names, sourcesOf('src/server/*.ts', ['serve-options.ts'])), []);
});

test('every option of the core is read by it', () => {
  const state = readFileSync(path.join(root, 'src/raft/state.ts'), 'utf8');
  const declared = state.match(/export interface RaftConfig \{([\s\S]*?)^\}/m)?.[1] ?? '';
  const names = [...declared.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, name = '']) => name);
  assert.ok(names.length >= 15, names.join());
  assert.deepEqual(unread(names, sourcesOf('src/raft/*.ts', [])), []);
});
