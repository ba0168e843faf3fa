// Servers as processes with a durable log: what a signal, a kill and a restart may and may not do.

import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { eventually, freePorts, isReady, statusOf } from './server-support.ts';

const execute = promisify(execFile);
const entryFile = fileURLToPath(new URL('../src/server/main.ts', import.meta.url));

/** One server of a test; it can be started again on the same directory. */
class NodeProcess {
  readonly nodeId: string;
  readonly url: string;
  stdout = '';
  stderr = '';
  readonly #flags: readonly string[];
  #child: ChildProcess;

  constructor(nodeId: string, http: string, flags: readonly string[]) {
    this.nodeId = nodeId;
    this.url = `http://${http}`;
    this.#flags = ['--node-id', nodeId, '--http', http, ...flags];
    this.#child = this.#spawn();
  }

  get child(): ChildProcess {
    return this.#child;
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  restart(): void {
    assert.ok(this.hasEnded);
    this.#child = this.#spawn();
  }

  /** Sends a signal; resolves with the exit code, or with the signal that ended the process. */
  async end(signal: NodeJS.Signals): Promise<number | string | null> {
    const exited = once(this.#child, 'exit');
    this.#child.kill(signal);
    const [code, by] = (await exited) as [number | null, string | null];
    return by ?? code;
  }

  /** Its data directory is gone. */
  emptyDisk(): void {
    assert.ok(this.hasEnded);
    const directory = this.#flags[this.#flags.indexOf('--data') + 1];
    assert.ok(directory !== undefined);
    rmSync(directory, { recursive: true });
  }

  /** A second process on the same directory. */
  another(): { readonly exited: Promise<number | null>; readonly stderr: string } {
    const at = this.#flags.indexOf('--http');
    const flags = this.#flags.with(at + 1, '127.0.0.1:0');
    const child = spawn(process.execPath, [entryFile, 'serve', ...flags], { stdio: 'pipe' });
    const exited = once(child, 'exit').then(([code]) => code as number | null);
    const outcome = { exited, stderr: '' };
    child.stderr.on('data', (text) => {
      outcome.stderr += text;
    });
    return outcome;
  }

  #spawn(): ChildProcess {
    const child = spawn(process.execPath, [entryFile, 'serve', ...this.#flags], { stdio: 'pipe' });
    child.stdout.on('data', (text) => {
      this.stdout += text;
    });
    child.stderr.on('data', (text) => {
      this.stderr += text;
    });
    return child;
  }
}

async function openProcesses(
  t: TestContext,
  nodeIds: readonly string[] = ['a', 'b', 'c'],
): Promise<readonly NodeProcess[]> {
  const directory = mkdtempSync(join(tmpdir(), 'kommander-'));
  const ports = await freePorts(nodeIds.length * 2);
  const members = nodeIds.map((id, at) => `${id}=127.0.0.1:${ports[at]}`).join(',');
  const nodes = nodeIds.map((nodeId, at) => {
    const data = join(directory, nodeId);
    const flags = ['--members', members, '--data', data, '--partitions', '3'];
    const http = `127.0.0.1:${ports[nodeIds.length + at]}`;
    return new NodeProcess(nodeId, http, [...flags, '--stop-with-parent']);
  });
  t.after(async () => {
    for (const node of nodes) if (!node.hasEnded) await node.end('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  });
  await allReady(nodes);
  return nodes;
}

async function allReady(nodes: readonly NodeProcess[]): Promise<void> {
  for (const node of nodes) {
    await eventually(`${node.nodeId} is ready\n${node.stderr}`, async () => {
      assert.equal(node.child.exitCode, null, `${node.nodeId} ended:\n${node.stderr}`);
      return await isReady(node.url);
    });
  }
}

async function writeKeys(
  node: NodeProcess | undefined,
  prefix: string,
  count: number,
): Promise<void> {
  for (let at = 0; at < count; at++) {
    const url = `${node?.url}/v1/kv/${prefix}-${at}`;
    const response = await fetch(url, { method: 'PUT', body: `${prefix} ${at}` });
    assert.equal(response.status, 200, await response.text());
  }
}

async function assertKeys(
  node: NodeProcess | undefined,
  prefix: string,
  count: number,
): Promise<void> {
  for (let at = 0; at < count; at++) {
    const response = await fetch(`${node?.url}/v1/kv/${prefix}-${at}`);
    assert.equal(await response.text(), `${prefix} ${at}`, `through ${node?.nodeId}`);
  }
}

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

test('a node whose disk was emptied is readmitted under load, and nothing that was acknowledged is lost', async (t) => {
  const nodes = await openProcesses(t);
  const [a, b, c] = nodes;
  assert.ok(a !== undefined && b !== undefined && c !== undefined);
  await writeKeys(a, 'before', 50);
  const load = startLoad([a, c]);
  assert.equal(await b.end('SIGKILL'), 'SIGKILL');
  b.emptyDisk();
  b.restart();
  const stateOf = async (node: NodeProcess): Promise<string | undefined> =>
    (await statusOf(node.url))?.state;
  await eventually('b is refused', async () => (await stateOf(b)) === 'refused');
  assert.match(b.stderr, /kommander members readmit b/);
  const early = await fetch(`${b.url}/v1/kv/early`, { method: 'PUT', body: 'x' });
  assert.equal(((await early.json()) as { code: string }).code, 'NODE_WIPED');

  const { stdout } = await execute(process.execPath, [
    ...[entryFile, 'members', 'readmit', 'b', '--http', c.url],
  ]);
  assert.deepEqual(JSON.parse(stdout), { node: 'b', replica: 1_026 });
  for (const node of nodes) {
    await eventually(`${node.nodeId} sees b vote everywhere`, async () => {
      const response = await fetch(`${node.url}/v1/members`);
      const { members } = (await response.json()) as { members: readonly MemberJson[] };
      const member = members.find((each) => each.node === 'b');
      return member?.voterOf.length === 4 && member.readmittingIn.length === 0;
    });
  }
  await allReady(nodes);
  const acknowledged = await load.stop();
  assert.ok(acknowledged.every((count) => count > 0));
  // Its vote is needed now, and so is what it has.
  assert.equal(await a.end('SIGKILL'), 'SIGKILL');
  await allReady([b, c]);
  await assertKeys(b, 'before', 50);
  for (const [writer, count] of acknowledged.entries())
    await assertKeys(b, `load-${writer}`, count);
  await writeKeys(c, 'after', 10);
  assert.equal(await b.end('SIGKILL'), 'SIGKILL');
  b.restart();
  await allReady([b]);
  await assertKeys(b, 'after', 10);
});

interface MemberJson {
  readonly node: string;
  readonly voterOf: readonly number[];
  readonly readmittingIn: readonly number[];
}

/**
 * Eight writers, each writes one key after the other through each node in turn, and each until it is acknowledged. `stop`
 * says how many were, by writer.
 */
function startLoad(nodes: readonly NodeProcess[]): { stop(): Promise<readonly number[]> } {
  let isStopping = false;
  const write = async (writer: number): Promise<number> => {
    let count = 0;
    for (let at = 0; !isStopping; at++) {
      const url = `${nodes[at % nodes.length]?.url}/v1/kv/load-${writer}-${count}`;
      const response = await fetch(url, { method: 'PUT', body: `load-${writer} ${count}` });
      await response.arrayBuffer();
      if (response.ok) count += 1;
    }
    return count;
  };
  const ends = Promise.all(Array.from({ length: 8 }, (_, writer) => write(writer)));
  return {
    stop() {
      isStopping = true;
      return ends;
    },
  };
}

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
