// The command `kommander` as a user types it: help, refusals and their exit codes, and the client commands.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openHttpApi } from '../src/server/http-api.ts';
import { type FakeService, fakeError, fakeService } from './server-fake-node.ts';

const entryFile = fileURLToPath(new URL('../src/server/main.ts', import.meta.url));

interface Outcome {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

function run(
  parameters: readonly string[],
  options: { readonly input?: string; readonly env?: Record<string, string> } = {},
): Promise<Outcome> {
  const env = { ...process.env, ...options.env };
  const child = spawn(process.execPath, [entryFile, ...parameters], { env });
  const stdout: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (bytes: Buffer) => stdout.push(bytes));
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  child.stdin.end(options.input ?? '');
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout: Buffer.concat(stdout), stderr }));
  });
}

async function openFake(t: TestContext): Promise<{ url: string; service: FakeService }> {
  const api = await openHttpApi({ listen: '127.0.0.1:0' });
  t.after(() => api.close());
  const service = fakeService();
  api.attach(service);
  return { url: `http://${api.endpoint}`, service };
}

test('help names every command, and a command’s help every option', async () => {
  const program = await run(['--help']);
  assert.equal(program.code, 0);
  for (const command of [
    ...['serve', 'demo', 'status', 'put', 'get', 'delete', 'transfer', 'members', 'replay', 'wal'],
  ]) {
    assert.match(program.stdout.toString(), new RegExp(`^  ${command}\\b`, 'm'));
  }
  const serve = (await run(['serve', '--help'])).stdout.toString();
  for (const flag of ['node-id', 'members', 'listen', 'http', 'data', 'wal', 'partitions']) {
    assert.match(serve, new RegExp(`--${flag} <`));
  }
  const demo = (await run(['demo', '--help'])).stdout.toString();
  for (const flag of ['seconds', 'kill-leader-every', 'json', 'wal']) {
    assert.match(demo, new RegExp(`--${flag}\\b`));
  }
});

test('a wrong command line exits with 2 and says what would be right', async () => {
  const cases: [string[], RegExp][] = [
    [['serve', '--partition', '3'], /unknown option '--partition'[\s\S]*valid options: --node-id/],
    [['serve', '--wal', 'x'], /--wal: "x" is not valid[\s\S]*valid options: --node-id/],
    [['serve'], /--node-id is required/],
    [['serve', 'extra'], /too many arguments/],
    [['demo', '--seconds', 'x'], /--seconds: "x" is not valid/],
    [['demo', '--wal', 'memory', '--kill-leader-every', '5'], /cannot be used with --wal memory/],
    [['dance'], /unknown command 'dance'/],
    [['get'], /missing required argument 'KEY'/],
    [['get', 'k', '--http', 'http://:'], /is no URL/],
  ];
  for (const [parameters, message] of cases) {
    const { code, stderr } = await run(parameters);
    assert.match(stderr, message);
    assert.equal(code, 2, stderr);
  }
  const variable = await run(['serve'], { env: { KOMMANDER_WALL: 'x' } });
  assert.match(variable.stderr, /unknown environment variable KOMMANDER_WALL/);
  assert.equal(variable.code, 2);
});

test('put, get, delete, status, members and transfer speak to a node and print what it says', async (t) => {
  const { url, service } = await openFake(t);
  const at = ['--http', url];
  const written = await run(['put', 'a/b', 'value', ...at]);
  assert.equal(written.code, 0, written.stderr);
  assert.match(written.stdout.toString(), /"index":1,/);
  assert.equal((await run(['get', 'a/b', ...at])).stdout.toString(), 'value');
  const local = await run(['get', 'a/b', '--consistency', 'local', ...at]);
  assert.equal(local.stdout.toString(), 'value');
  assert.equal(service.calls.at(-1)?.consistency, 'local');

  const piped = await run(['put', 'line', ...at], { input: 'two\nlines\n' });
  assert.equal(piped.code, 0, piped.stderr);
  assert.equal((await run(['get', 'line', ...at])).stdout.toString(), 'two\nlines\n');

  const refused = await run(['put', 'a/b', 'x', '--if-index', '0', ...at]);
  assert.match(refused.stderr, /the condition failed.* \(CONDITION_FAILED\)/);
  assert.equal(refused.code, 1);
  assert.equal((await run(['delete', 'a/b', '--if-index', '1', ...at])).code, 0);
  const missing = await run(['get', 'a/b', ...at]);
  assert.match(missing.stderr, /KEY_NOT_FOUND/);
  assert.equal(missing.code, 1);

  const status = (await run(['status', ...at])).stdout.toString();
  assert.match(status, /node a is running, cluster fake-cluster/);
  assert.match(status, /^1 +leader +3 +a /m);
  const json = (await run(['status', '--json', ...at])).stdout.toString();
  assert.match(json, /^\{"node":"a",/);

  const members = (await run(['members', ...at])).stdout.toString();
  assert.match(members, /^node {2}replica {2}endpoint +state +voter {2}learner {2}readmitting$/m);
  assert.match(members, /^a +1 +127\.0\.0\.1:8001 {2}reachable {2}0-2 +- +-$/m);
  assert.match((await run(['members', '--json', ...at])).stdout.toString(), /^\{"members":\[/);
  const readmitted = await run(['members', 'readmit', 'b', ...at]);
  assert.equal(readmitted.stdout.toString(), '{"node":"b","replica":1026}\n', readmitted.stderr);
  assert.equal((await run(['members', 'readmit', ...at])).code, 2);

  assert.equal((await run(['transfer', '1', 'b', ...at])).code, 0);
  assert.equal(service.leader, 'b');
  service.fail(fakeError('TRANSFER_REFUSED'));
  assert.match((await run(['transfer', '1', 'c', ...at])).stderr, /TRANSFER_REFUSED/);
});

test('a client command says that nothing listens', async () => {
  const api = await openHttpApi({ listen: '127.0.0.1:0' });
  await api.close();
  const { code, stderr } = await run(['get', 'k', '--http', api.endpoint]);
  assert.match(stderr, new RegExp(`nothing listens at ${api.endpoint}; is a node running`));
  assert.equal(code, 1);
});

test('an address that is taken ends a server with 1 and a readable message', async (t) => {
  const parent = mkdtempSync(join(tmpdir(), 'kommander-'));
  t.after(() => rmSync(parent, { recursive: true, force: true }));
  const { url } = await openFake(t);
  const taken = new URL(url).host;
  const flags = ['--node-id', 'a', '--members', 'a=127.0.0.1:8971', '--http', taken];
  const { code, stderr } = await run(['serve', ...flags, '--data', join(parent, 'a')]);
  assert.match(stderr, new RegExp(`cannot listen for HTTP on ${taken}.*TRANSPORT_FAILED`));
  assert.equal(code, 1);
});
