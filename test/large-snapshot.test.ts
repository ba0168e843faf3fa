// Real processes, real disks, a real network: a state that is much larger than the memory of the processes that store it,
// send it, receive it and restore it. KOMMANDER_STATE_MIB sets its size (1024 for a GiB).

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePorts } from './support/ports.ts';

const mebibytes = Number(process.env.KOMMANDER_STATE_MIB ?? 256);
const heapMebibytes = 64;
const mebibyte = 1_048_576;
const program = fileURLToPath(new URL('fixtures/large-state.ts', import.meta.url));

interface NodesProcess {
  readonly child: ChildProcess;
  /** Sends a command, and gives its answer. */
  ask(command: string): Promise<number>;
  /** Ends it in order; what it took of memory at most, in bytes. */
  end(): Promise<MemoryUsage>;
}

interface MemoryUsage {
  readonly heapUsed: number;
  readonly arrayBuffers: number;
  readonly rss: number;
}

async function start(args: readonly string[]): Promise<NodesProcess> {
  const child = spawn(
    process.execPath,
    [`--max-old-space-size=${heapMebibytes}`, program, ...args],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const nextLine = async (): Promise<string> => {
    const { value, done } = await lines.next();
    assert.ok(done !== true, 'the process goes on');
    return value;
  };
  assert.equal(await nextLine(), 'open');
  return {
    child,
    async ask(command) {
      child.stdin.write(`${command}\n`);
      return Number(await nextLine());
    },
    async end() {
      child.stdin.end();
      return JSON.parse(await nextLine()) as MemoryUsage;
    },
  };
}

function inMebibytes(bytes: number): string {
  return (bytes / mebibyte).toFixed(0);
}

test(`a state of ${mebibytes} MiB goes through processes with a heap of ${heapMebibytes} MiB`, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'kommander-large-'));
  const ports = await freePorts(3);
  const members = Object.fromEntries(
    ['a', 'b', 'c'].map((nodeId, i) => [nodeId, `127.0.0.1:${ports[i]}`]),
  );
  const args = [directory, String(mebibytes), JSON.stringify(members)];
  const running: NodesProcess[] = [];
  const run = async (...nodeIds: string[]): Promise<NodesProcess> => {
    const started = await start([...args, ...nodeIds]);
    running.push(started);
    return started;
  };
  try {
    // Nodes form their cluster together.
    const [most, first] = await Promise.all([run('a', 'b'), run('c')]);
    await most.ask('write a 3');
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    await most.ask('write a 10');
    await most.ask('checkpoint a');
    const index = await most.ask('write a 1');
    const second = await run('c');
    assert.equal(await second.ask(`catchUp c ${index}`), 1, 'it came by a snapshot');
    for (const process of [second, most]) {
      const { heapUsed, arrayBuffers, rss } = await process.end();
      t.diagnostic(
        `MiB at most: heap ${inMebibytes(heapUsed)}, buffers ${inMebibytes(arrayBuffers)}, resident ${inMebibytes(rss)}`,
      );
      assert.ok(heapUsed < heapMebibytes * mebibyte, `heap ${heapUsed}`);
      assert.ok(arrayBuffers < 96 * mebibyte, `buffers ${arrayBuffers}`);
      assert.ok(rss < 384 * mebibyte, `resident ${rss}`);
    }
    // A restart takes the state from the disk.
    const third = await run('c');
    assert.equal(await third.ask(`catchUp c ${index}`), 1);
  } finally {
    for (const { child } of running) child.kill('SIGKILL');
    await rm(directory, { recursive: true, force: true });
  }
});
