// Servers as processes of their own, for tests: started, killed and started again on their directories, and what a client
// asks of them.

import assert from 'node:assert/strict';
import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventually, isReady } from './server-support.ts';
import { freePorts } from './support/ports.ts';

export const entryFile: string = fileURLToPath(new URL('../src/server/main.ts', import.meta.url));

/** One server of a test; it can be started again on the same directory. */
export class NodeProcess {
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
    const child = spawnServer(flags);
    // When all that it printed is here, too.
    const exited = once(child, 'close').then(([code]) => code as number | null);
    const outcome = { exited, stderr: '' };
    child.stderr.on('data', (text) => {
      outcome.stderr += text;
    });
    return outcome;
  }

  #spawn(): ChildProcess {
    const child = spawnServer(this.#flags);
    child.stdout.on('data', (text) => {
      this.stdout += text;
    });
    child.stderr.on('data', (text) => {
      this.stderr += text;
    });
    return child;
  }
}

/** Variables that say how tests run are no options of a server, which would refuse them. */
function spawnServer(flags: readonly string[]): ChildProcessWithoutNullStreams {
  const others = Object.entries(process.env).filter(([name]) => !name.startsWith('KOMMANDER_'));
  const env = Object.fromEntries(others);
  return spawn(process.execPath, [entryFile, 'serve', ...flags], { stdio: 'pipe', env });
}

/** Opens a cluster in directories of its own. `directoryOf` puts a node's data elsewhere. */
export async function openProcesses(
  t: TestContext,
  nodeIds: readonly string[] = ['a', 'b', 'c'],
  {
    flags: moreFlags = [],
    directoryOf,
  }: {
    readonly flags?: readonly string[];
    readonly directoryOf?: (nodeId: string) => string | undefined;
  } = {},
): Promise<readonly NodeProcess[]> {
  const directory = mkdtempSync(join(tmpdir(), 'kommander-'));
  const ports = await freePorts(nodeIds.length * 2);
  const members = nodeIds.map((id, at) => `${id}=127.0.0.1:${ports[at]}`).join(',');
  const nodes = nodeIds.map((nodeId, at) => {
    const data = directoryOf?.(nodeId) ?? join(directory, nodeId);
    const flags = ['--members', members, '--data', data, '--partitions', '3'];
    const http = `127.0.0.1:${ports[nodeIds.length + at]}`;
    return new NodeProcess(nodeId, http, [...flags, ...moreFlags, '--stop-with-parent']);
  });
  t.after(async () => {
    for (const node of nodes) if (!node.hasEnded) await node.end('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  });
  await allReady(nodes);
  return nodes;
}

export async function allReady(nodes: readonly NodeProcess[]): Promise<void> {
  for (const node of nodes) {
    await eventually(`${node.nodeId} is ready\n${node.stderr}`, async () => {
      assert.equal(node.child.exitCode, null, `${node.nodeId} ended:\n${node.stderr}`);
      return await isReady(node.url);
    });
  }
}

export async function writeKeys(
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

export async function assertKeys(
  node: NodeProcess | undefined,
  prefix: string,
  count: number,
): Promise<void> {
  for (let at = 0; at < count; at++) {
    const response = await fetch(`${node?.url}/v1/kv/${prefix}-${at}`);
    assert.equal(await response.text(), `${prefix} ${at}`, `through ${node?.nodeId}`);
  }
}
