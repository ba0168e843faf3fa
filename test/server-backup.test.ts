// Backups over HTTP and by command, and with real processes: a cluster that is written to is copied, and the copy becomes
// another cluster.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { saveBackup } from '../src/host/backup-directory.ts';
import { type HttpApi, openHttpApi } from '../src/server/http-api.ts';
import type { HttpLimits } from '../src/server/http-limits.ts';
import { type FakeService, fakeError, fakeService } from './server-fake-node.ts';
import { eventually, isReady } from './server-support.ts';
import { freePorts } from './support/ports.ts';

const entryFile = fileURLToPath(new URL('../src/server/main.ts', import.meta.url));

async function openFake(
  t: TestContext,
  limits: Partial<HttpLimits> = {},
): Promise<{ readonly url: string; readonly api: HttpApi; readonly service: FakeService }> {
  const api = await openHttpApi({ listen: '127.0.0.1:0', limits });
  t.after(() => api.close());
  const service = fakeService();
  api.attach(service);
  return { url: `http://${api.endpoint}`, api, service };
}

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'kommander-backup-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

test('what fails before the first piece of a backup is an answer; afterwards it is told in the stream', async (t) => {
  const { url, service } = await openFake(t);
  service.fail(fakeError('NO_LEADER'));
  const refused = await fetch(`${url}/v1/backup`, { method: 'POST' });
  assert.equal(refused.status, 503);
  assert.equal(((await refused.json()) as { code: string }).code, 'NO_LEADER');
  service.heal();
  service.backupPieces = (async function* () {
    yield Uint8Array.of(1);
    throw fakeError('DISK_FULL');
  })();
  const begun = await fetch(`${url}/v1/backup`, { method: 'POST' });
  assert.equal(begun.status, 200);
  assert.equal(begun.headers.get('content-type'), 'application/octet-stream');
  const text = Buffer.from(await begun.arrayBuffer()).toString();
  assert.match(text, /"code":"DISK_FULL"/);
  const wrongQuery = await fetch(`${url}/v1/backup?x=1`, { method: 'POST' });
  assert.equal(wrongQuery.status, 400);
});

test('a client that goes away ends the backup, and one that is slow does not fill the memory', async (t) => {
  const { url, service } = await openFake(t);
  const ended = Promise.withResolvers<void>();
  let pieces = 0;
  service.backupPieces = (async function* () {
    try {
      for (;;) {
        pieces += 1;
        yield new Uint8Array(65_536);
      }
    } finally {
      ended.resolve();
    }
  })();
  const abort = new AbortController();
  const response = await fetch(`${url}/v1/backup`, { method: 'POST', signal: abort.signal });
  assert.equal(response.status, 200);
  // What the sockets take is bounded: the source comes to a stop.
  let before = -1;
  await eventually('the source waits for the client', async () => {
    const isSame = before === pieces;
    before = pieces;
    await new Promise((resolve) => setTimeout(resolve, 200));
    return isSame;
  });
  abort.abort();
  await ended.promise;
});

test('a client that takes nothing any more does not hold a backup for ever; a source that is slow is waited for', async (t) => {
  const { url, service } = await openFake(t, { stalledStreamMs: 100 });
  service.backupPieces = (async function* () {
    yield Uint8Array.of(1);
    await new Promise((resolve) => setTimeout(resolve, 500));
    yield Uint8Array.of(2);
  })();
  const slow = await fetch(`${url}/v1/backup`, { method: 'POST' });
  assert.deepEqual([...new Uint8Array(await slow.arrayBuffer())], [1, 2]);

  const ended = Promise.withResolvers<void>();
  service.backupPieces = (async function* () {
    try {
      for (;;) yield new Uint8Array(65_536);
    } finally {
      ended.resolve();
    }
  })();
  const abort = new AbortController();
  t.after(() => abort.abort());
  const stalled = await fetch(`${url}/v1/backup`, { method: 'POST', signal: abort.signal });
  assert.equal(stalled.status, 200);
  await ended.promise;
});

test('a connection that is lost leaves no backup behind, and the command says so', async (t) => {
  const { url, api, service } = await openFake(t);
  service.backupPieces = (async function* () {
    yield Uint8Array.of(1, 3, 0);
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    await api.close();
    yield Uint8Array.of(0, 0);
  })();
  const path = await folder(t);
  const outcome = await run('backup', '--http', url, '--out', join(path, 'backup'));
  assert.equal(outcome.code, 1);
  // Before or behind the head of the answer: nobody can say when what was sent arrives.
  assert.match(outcome.stderr, /TRANSPORT_FAILED|OUTCOME_UNKNOWN/);
  assert.deepEqual(await readdir(path), []);
});

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(...parameters: readonly string[]): Promise<Outcome> {
  const child = spawn(process.execPath, [entryFile, ...parameters]);
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (bytes: Buffer) => {
    stdout += bytes.toString();
  });
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

interface Place {
  readonly nodeId: string;
  readonly url: string;
  readonly flags: readonly string[];
  readonly data: string;
}

/** Where the nodes of a cluster will be. */
async function placesOf(
  path: string,
  nodeIds: readonly string[],
  wal = 'rocksdb',
): Promise<readonly Place[]> {
  const ports = await freePorts(nodeIds.length * 2);
  const members = nodeIds.map((id, at) => `${id}=127.0.0.1:${ports[at]}`).join(',');
  return nodeIds.map((nodeId, at) => {
    const data = join(path, nodeId);
    const http = `127.0.0.1:${ports[nodeIds.length + at]}`;
    const flags = ['--node-id', nodeId, '--members', members, '--data', data, '--wal', wal];
    return { nodeId, url: `http://${http}`, flags: [...flags, '--http', http], data };
  });
}

async function start(t: TestContext, places: readonly Place[]): Promise<readonly ChildProcess[]> {
  const children = places.map(({ flags }) => {
    const own = ['serve', ...flags, '--partitions', '3', '--stop-with-parent'];
    const child = spawn(process.execPath, [entryFile, ...own], { stdio: ['pipe', 'pipe', 'pipe'] });
    child.stdout.resume();
    child.stderr.pipe(process.stderr);
    return child;
  });
  t.after(() => stop(children));
  for (const { url } of places) {
    await eventually(`${url} is ready`, () => {
      for (const { exitCode } of children) assert.equal(exitCode, null, 'a server ended');
      return isReady(url);
    });
  }
  return children;
}

async function stop(children: readonly ChildProcess[]): Promise<void> {
  await Promise.all(
    children.map(async (child) => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    }),
  );
}

/** Flags of `restore` for a place: those that `serve` has without the HTTP endpoint. */
function restoreFlags({ flags }: Place): readonly string[] {
  return flags.slice(0, flags.indexOf('--http'));
}

async function clusterId(url: string): Promise<string> {
  const status = (await (await fetch(`${url}/v1/status`)).json()) as { clusterId: string };
  return status.clusterId;
}

test('a cluster of three that is written to is copied; the copy becomes one of three, and one of one', async (t) => {
  const path = await folder(t);
  const old = await placesOf(join(path, 'old'), ['a', 'b', 'c']);
  let running = await start(t, old);
  const acknowledged = new Map<string, string>();
  const writing = { isOver: false };
  const clients = old.map(async ({ url, nodeId }) => {
    for (let i = 0; !writing.isOver; i++) {
      const [key, body] = [`${nodeId}-${i % 200}`, `${i}`];
      const response = await fetch(`${url}/v1/kv/${key}`, { method: 'PUT', body });
      assert.equal(response.status, 200, await response.text());
      acknowledged.set(key, body);
    }
  });
  await eventually('some hundred keys are written', () => acknowledged.size > 300);

  const before = new Map(acknowledged);
  const directory = join(path, 'backup');
  const taken = await run('backup', '--http', old[1]?.url ?? '', '--out', directory);
  assert.equal(taken.code, 0, taken.stderr);
  assert.match(taken.stdout, /backup of node b, .*4 partitions/s);
  writing.isOver = true;
  await Promise.all(clients);
  const again = await run('backup', '--http', old[1]?.url ?? '', '--out', directory);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /there already/);
  const oldId = await clusterId(old[0]?.url ?? '');
  await stop(running);

  for (const [nodeIds, wal] of [
    [['a', 'b', 'c'], 'rocksdb'],
    [['n'], 'segment'],
    [['n'], 'sqlite'],
  ] as const) {
    const fresh = await placesOf(join(path, `new-${wal}`), nodeIds, wal);
    for (const place of fresh) {
      const restored = await run('restore', '--from', directory, ...restoreFlags(place));
      assert.equal(restored.code, 0, restored.stderr);
      assert.match(restored.stdout, /--partitions 3/);
    }
    running = await start(t, fresh);
    for (const { url } of fresh) {
      assert.notEqual(await clusterId(url), oldId);
      for (const [key, value] of before) {
        const found = Number(await (await fetch(`${url}/v1/kv/${key}`)).text());
        // A later write of the same key may be in the copy too.
        assert.ok(found >= Number(value), `${key} has ${found}, acknowledged was ${value}`);
      }
    }
    const { url } = fresh[0] ?? assert.fail('there is a node');
    const written = await fetch(`${url}/v1/kv/new`, { method: 'PUT', body: 'x' });
    assert.equal(written.status, 200, await written.text());
    await stop(running);
    running = await start(t, fresh);
    assert.equal(await (await fetch(`${url}/v1/kv/new`)).text(), 'x');
    await stop(running);
  }
});

test('a node of the old cluster is refused by the restored one', async (t) => {
  const path = await folder(t);
  const places = await placesOf(join(path, 'old'), ['a', 'b', 'c']);
  let running = await start(t, places);
  const directory = join(path, 'backup');
  await saveBackup(
    bodyOf(await fetch(`${places[0]?.url}/v1/backup`, { method: 'POST' })),
    directory,
  );
  await stop(running);
  // The same members at the same places; c still has its old directory.
  const moved = places.map((place) => ({
    ...place,
    flags: place.flags.map((flag) => (flag === place.data ? `${place.data}-new` : flag)),
  }));
  for (const place of moved) {
    const restored = await run('restore', '--from', directory, ...restoreFlags(place));
    assert.equal(restored.code, 0, restored.stderr);
  }
  running = await start(t, moved);
  await stop(running.slice(2));
  const log: string[] = [];
  const own = ['serve', ...(places[2]?.flags ?? []), '--partitions', '3', '--stop-with-parent'];
  const stranger = spawn(process.execPath, [entryFile, ...own], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  for (const stream of [stranger.stdout, stranger.stderr]) {
    stream.on('data', (bytes: Buffer) => log.push(bytes.toString()));
  }
  t.after(() => stop([stranger]));
  await eventually('the old node is told', () => log.join('').includes('WRONG_CLUSTER'));
  assert.equal(await isReady(places[2]?.url ?? ''), false);
});

async function* bodyOf(response: Response): AsyncGenerator<Uint8Array, undefined> {
  assert.equal(response.status, 200);
  if (response.body !== null) yield* response.body;
}

test('restore refuses damage, a directory in use, and an engine that forgets', async (t) => {
  const path = await folder(t);
  const places = await placesOf(join(path, 'old'), ['a']);
  const [place] = places;
  assert.ok(place !== undefined);
  const running = await start(t, places);
  const directory = join(path, 'backup');
  const taken = await run('backup', '--http', place.url, '--out', directory);
  assert.equal(taken.code, 0, taken.stderr);
  await stop(running);
  const used = await run('restore', '--from', directory, ...restoreFlags(place));
  assert.equal(used.code, 2);
  assert.match(used.stderr, /is not empty/);
  const [fresh] = await placesOf(join(path, 'new'), ['a']);
  assert.ok(fresh !== undefined);
  const forgetful = [...restoreFlags(fresh), '--wal', 'memory'];
  const memory = await run('restore', '--from', directory, ...forgetful);
  assert.equal(memory.code, 2);
  assert.match(memory.stderr, /durable/);
  const file = join(directory, 'partition-1.state');
  const bytes = await readFile(file);
  await writeFile(file, bytes.with(bytes.byteLength - 1, 0x58 ^ (bytes.at(-1) ?? 0)));
  const damaged = await run('restore', '--from', directory, ...restoreFlags(fresh));
  assert.equal(damaged.code, 1);
  assert.match(damaged.stderr, /partition-1\.state.*BACKUP_CORRUPT/);
  assert.deepEqual(await readdir(fresh.data), []);
  const nothing = await run('restore', '--from', path, ...restoreFlags(fresh));
  assert.match(nothing.stderr, /there is no .*manifest\.json/);
});
