// A seed is a run: the same events in the same order, byte for byte, again and again, on every version of Node.js that
// the library supports. Otherwise a failing seed would prove nothing.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { keyValueProof } from '../../src/testing/simulation/key-value-proof.ts';
import type { ProfileName } from '../../src/testing/simulation/profiles.ts';
import { simulate } from '../../src/testing/simulation/simulate.ts';

const root = path.dirname(path.dirname(import.meta.dirname));
const execute = promisify(execFile);

async function recorded(
  seed: number,
  profile: ProfileName,
): Promise<{ digest: string; lines: string[] }> {
  const lines: string[] = [];
  const record = { write: (line: string): void => void lines.push(line) };
  const result = await simulate(keyValueProof(seed, profile, { durationMs: 5_000, record }));
  assert.equal(result.report, undefined);
  return { digest: result.digest ?? '', lines };
}

for (const profile of ['quick', 'snapshots'] as const) {
  for (const seed of [3, 4]) {
    test(`a seed and its options give the same events, byte for byte (${profile}, seed ${seed})`, async () => {
      const first = await recorded(seed, profile);
      const second = await recorded(seed, profile);
      assert.ok(first.lines.length > 1_000, 'much happens');
      assert.deepEqual(second.lines, first.lines);
      assert.equal(second.digest, first.digest);
    });
  }
}

test('another seed gives other events', async () => {
  const first = await recorded(5, 'quick');
  const second = await recorded(6, 'quick');
  assert.notEqual(second.digest, first.digest);
});

test('recording changes nothing about a run', async () => {
  const plain = await simulate(keyValueProof(7, 'quick', { durationMs: 5_000 }));
  const record = await simulate(keyValueProof(7, 'quick', { durationMs: 5_000, record: {} }));
  assert.equal(plain.digest, undefined);
  assert.equal(record.stepCount, plain.stepCount);
  assert.deepEqual(record.coverage, plain.coverage);
});

test('every supported version of Node.js gives the same events', async () => {
  const digests = new Map<string, string>();
  for (const folder of ['node', 'node-22']) {
    const node = path.join(root, 'node_modules', folder, 'bin/node');
    assert.ok(existsSync(node), `${folder} is among the packages`);
    const args = ['--disable-warning=ExperimentalWarning', 'scripts/sim.ts', '--seed', '8'];
    const { stderr } = await execute(
      node,
      [...args, '--duration', '5000', '--trace', '/dev/null'],
      {
        cwd: root,
      },
    );
    const [, digest = ''] = /digest ([0-9a-f]{64})/.exec(stderr) ?? [];
    const { stdout: version } = await execute(node, ['--version']);
    digests.set(version.trim(), digest);
  }
  assert.equal(digests.size, 2, [...digests.keys()].join(', '));
  const [first, second] = digests.values();
  assert.match(first ?? '', /^[0-9a-f]{64}$/);
  assert.equal(second, first);
});
