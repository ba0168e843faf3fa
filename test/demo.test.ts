// The demo as a user runs it: a cluster of processes whose leader is killed under load, and a summary that can be
// believed. It runs for seconds, not to measure but to see that all of it works together.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventually } from './server-support.ts';
import { multicastOf } from './support/network-namespaces.ts';

const entryFile = fileURLToPath(new URL('../src/server/main.ts', import.meta.url));
const lyingFile = fileURLToPath(new URL('./demo-lying-server.ts', import.meta.url));

interface Demo {
  readonly child: ChildProcess;
  readonly data: string;
  stdout: string;
  stderr: string;
}

function startDemo(t: TestContext, ...flags: string[]): Demo {
  const data = mkdtempSync(join(tmpdir(), 'kommander-demo-'));
  return start(t, data, [entryFile, 'demo', '--data', data, ...flags]);
}

function start(t: TestContext, data: string, parameters: readonly string[]): Demo {
  const child = spawn(process.execPath, parameters, { stdio: ['ignore', 'pipe', 'pipe'] });
  const demo: Demo = { child, data, stdout: '', stderr: '' };
  child.stdout?.on('data', (text) => {
    demo.stdout += text;
  });
  child.stderr?.on('data', (text) => {
    demo.stderr += text;
  });
  t.after(() => {
    if (child.exitCode === null) child.kill('SIGKILL');
    rmSync(data, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  });
  return demo;
}

async function exitCode(demo: Demo): Promise<number | null> {
  const [code] = (await once(demo.child, 'close')) as [number | null];
  return code;
}

test('a demo that kills a leader loses nothing and prints one line of JSON', async (t) => {
  const demo = startDemo(t, '--seconds', '9', '--kill-leader-every', '4', '--json');
  const code = await exitCode(demo);
  assert.equal(code, 0, demo.stderr);
  assert.match(demo.stdout, /^\{.*\}\n$/);
  const summary = JSON.parse(demo.stdout) as Record<string, number>;
  assert.deepEqual(Object.keys(summary), [
    'writes',
    'acknowledged',
    'indeterminate',
    'lost',
    'leaderChanges',
    'unavailableMsMax',
    'writesPerSecond',
    'p50Ms',
    'p99Ms',
  ]);
  for (const [name, value] of Object.entries(summary)) assert.equal(typeof value, 'number', name);
  assert.equal(summary.lost, 0);
  assert.ok((summary.acknowledged ?? 0) > 0);
  assert.ok((summary.writes ?? 0) >= (summary.acknowledged ?? 0) + (summary.indeterminate ?? 0));
  assert.ok((summary.leaderChanges ?? 0) >= 1);
  assert.match(demo.stderr, /killed [abc], which led/);
  const [run = ''] = readdirSync(demo.data);
  assert.deepEqual(readdirSync(join(demo.data, run)).sort(), [
    'a',
    'a.log',
    'b',
    'b.log',
    'c',
    'c.log',
  ]);
});

test('the nodes of a demo find each other by multicast', async (t) => {
  if ((await multicastOf(t)) === undefined) return;
  const demo = startDemo(t, '--discovery', 'multicast', '--seconds', '2', '--json');
  assert.equal(await exitCode(demo), 0, demo.stderr);
  const summary = JSON.parse(demo.stdout) as Record<string, number>;
  assert.equal(summary.lost, 0);
  assert.ok((summary.acknowledged ?? 0) > 0);
});

for (const wal of ['segment', 'sqlite']) {
  test(`a demo on ${wal} that kills a leader loses nothing either`, async (t) => {
    const kills = ['--seconds', '9', '--kill-leader-every', '4'];
    const demo = startDemo(t, '--wal', wal, ...kills, '--json');
    assert.equal(await exitCode(demo), 0, demo.stderr);
    const summary = JSON.parse(demo.stdout) as Record<string, number>;
    assert.equal(summary.lost, 0);
    assert.ok((summary.acknowledged ?? 0) > 0);
    assert.match(demo.stderr, /killed [abc], which led/);
  });
}

test('Ctrl-C ends an endless demo with its summary, and every process that it started', async (t) => {
  const demo = startDemo(t, '--wal', 'memory', '--partitions', '2', '--clients', '4');
  await eventually('the first figures are shown', () => /writes\/s/.test(demo.stdout));
  assert.match(demo.stdout, /curl -X PUT http:\/\/127\.0\.0\.1:\d+\/v1\/kv\/greeting -d hello/);
  const url = /curl -X PUT (\S+)\/v1/.exec(demo.stdout)?.[1] ?? '';
  demo.child.kill('SIGINT');
  assert.equal(await exitCode(demo), 0, demo.stderr);
  assert.match(demo.stdout, /^ {2}lost +0$/m);
  await assert.rejects(fetch(`${url}/healthz`), TypeError);
});

test('a demo that is killed takes its processes along', async (t) => {
  const demo = startDemo(t, '--wal', 'memory', '--partitions', '1', '--clients', '2');
  await eventually('the first figures are shown', () => /writes\/s/.test(demo.stdout));
  const url = /curl -X PUT (\S+)\/v1/.exec(demo.stdout)?.[1] ?? '';
  assert.ok((await fetch(`${url}/healthz`)).ok);
  demo.child.kill('SIGKILL');
  await exitCode(demo);
  await eventually('its nodes are gone', async () => {
    try {
      await fetch(`${url}/healthz`);
      return false;
    } catch (error) {
      return error instanceof TypeError;
    }
  });
});

test('a cluster that loses acknowledged writes is found out', async (t) => {
  const data = mkdtempSync(join(tmpdir(), 'kommander-demo-'));
  const demo = start(t, data, [lyingFile, data]);
  assert.equal(await exitCode(demo), 1, demo.stderr);
  const summary = JSON.parse(demo.stdout) as Record<string, number>;
  assert.ok((summary.lost ?? 0) > 0);
  assert.match(demo.stderr, /demo-\d+-\d+: .*acknowledged/);
});
