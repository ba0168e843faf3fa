// `npm run sim` as a person uses it: its last line, its exit code, and what it prints when a rule is broken. For that the
// sources are copied and broken: acknowledgements no longer wait for the disk.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { parseEvidence } from '../../src/host/evidence-file.ts';
import { replayEvidence } from '../../src/host/evidence-replay.ts';

const root = path.dirname(path.dirname(import.meta.dirname));

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function sim(folder: string, args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const command = ['scripts/sim.ts', ...args];
    execFile(process.execPath, command, { cwd: folder }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr });
    });
  });
}

async function withBrokenSources(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'kommander-broken-'));
  try {
    for (const name of ['src', 'scripts', 'package.json']) {
      await cp(path.join(root, name), path.join(folder, name), { recursive: true });
    }
    const file = path.join(folder, 'src/raft/send.ts');
    const text = await readFile(file, 'utf8');
    const broken = text.replace(
      "message.type === 'appendEntriesResponse' ||",
      "(message.type === 'appendEntriesResponse' && message.to === state.id) ||",
    );
    assert.notEqual(broken, text);
    await writeFile(file, broken);
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test('seeds that break no rule end with a line that says so, whatever the number of jobs', async () => {
  const few = ['--profile', 'calm', '--duration', '1000', '--seeds', '4'];
  const alone = await sim(root, few);
  const shared = await sim(root, [...few, '--jobs', '2']);
  assert.deepEqual([alone.code, shared.code], [0, 0]);
  assert.match(alone.stdout, /^seeds 4, steps \d+, violations 0\n$/);
  assert.equal(shared.stdout, alone.stdout);
});

test('a broken rule is reported with the command that repeats it, made smaller, and the exit code is 1', async () => {
  await withBrokenSources(async (folder) => {
    const found = await sim(folder, ['--seeds', '20', '--duration', '5000', '--shrink']);
    assert.equal(found.code, 1, found.stdout + found.stderr);
    assert.match(found.stdout, /^violation at seed \d+: Durable before acknowledged/);
    assert.match(found.stdout, /seed \d+, \d nodes, \d partitions/);
    assert.match(found.stdout, /the last events of partition/);
    assert.match(found.stdout, /seeds \d+, steps \d+, violations 1\n$/);
    const commands = [...found.stdout.matchAll(/repeat it: npm run sim -- (.*)/g)];
    assert.equal(commands.length, 2);
    for (const [, line = ''] of commands) {
      const again = await sim(folder, line.split(' '));
      assert.equal(again.code, 1);
      assert.match(again.stdout, /^violation at seed \d+: Durable before acknowledged/);
    }
    const [, smaller = ''] = commands[1] ?? [];
    assert.match(smaller, /--faults (?:none|[\d,]+)/);
    const evidence = path.join(folder, 'evidence');
    await sim(folder, [...smaller.split(' '), '--evidence', evidence]);
    const files = await readdir(evidence);
    assert.ok(files.length > 1, 'every replica of the partition that runs leaves its evidence');
    for (const file of files) {
      const bundle = parseEvidence(await readFile(path.join(evidence, file), 'utf8'));
      // No core has failed by itself: its inputs lead where they led.
      const { kind, differences, inputCount } = replayEvidence(bundle, () => {});
      assert.deepEqual({ kind, differences }, { kind: 'clean', differences: [] });
      assert.ok(inputCount > 0);
    }
  });
});

test('a trace has every event as a line of JSON', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'kommander-trace-'));
  try {
    const file = path.join(folder, 'trace.ndjson');
    const args = ['--profile', 'calm', '--seed', '1', '--duration', '500', '--trace', file];
    assert.equal((await sim(root, args)).code, 0);
    const lines = (await readFile(file, 'utf8')).trim().split('\n');
    const events = lines.map((line) => JSON.parse(line) as { readonly name: string });
    assert.ok(events.some(({ name }) => name === 'leader-changed'));
    assert.ok(events.some(({ name }) => name === 'arrive'));
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('words that mean nothing are refused, with those that do', async () => {
  for (const args of [
    ['--profile', 'none'],
    ['--seeds', 'many'],
    ['--jobs', '0'],
    ['--seed', ''],
    ['--seed', '3000000'],
    ['--sed', '1'],
    ['--seeds', '2', '--trace', '/dev/null'],
  ]) {
    const { code, stderr } = await sim(root, args);
    assert.equal(code, 1, args.join(' '));
    assert.match(
      stderr,
      /choose quick, swarm|is a whole number from|Unknown option|--trace is for one seed/,
    );
  }
  const { code, stdout } = await sim(root, ['--help']);
  assert.equal(code, 0);
  assert.match(stdout, /--profile NAME {3}quick, swarm/);
});
