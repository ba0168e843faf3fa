// A node of real processes that loses its disk under load, and comes back as another replica.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import process from 'node:process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import {
  allReady,
  assertKeys,
  entryFile,
  type NodeProcess,
  openProcesses,
  writeKeys,
} from './server-node-process.ts';
import { eventually, statusOf } from './server-support.ts';

const execute = promisify(execFile);

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
  await eventually('b says what to do', () => /kommander members readmit b/.test(b.stderr));
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
