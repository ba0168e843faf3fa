// The README is executed: its cluster in 25 lines runs as it stands there, on free ports and in a directory of its own.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { freePorts } from './support/ports.ts';

const root = new URL('..', import.meta.url).pathname;

test('the cluster of the README has at most 25 lines, runs, and prints what it says', async () => {
  const readme = await readFile(join(root, 'README.md'), 'utf8');
  const code = /```js\n([\s\S]*?)```/.exec(readme)?.[1];
  assert.ok(code !== undefined, 'the README has a JavaScript block');
  const written = code.split('\n').filter((line) => line.trim() !== '');
  assert.ok(written.length <= 25, `the block has ${written.length} lines`);

  const ports = ['8101', '8102', '8103'];
  for (const port of ports) assert.ok(code.includes(port), `the README uses port ${port}`);
  const free = await freePorts(ports.length);
  const runnable = code.replaceAll(/810[123]/g, (port) => String(free[ports.indexOf(port)]));
  // Inside the package, so that it finds `kommander` as a user of the package does.
  await mkdir(join(root, '.kommander'), { recursive: true });
  const directory = await mkdtemp(join(root, '.kommander', 'readme-'));
  try {
    await writeFile(join(directory, 'cluster.mjs'), runnable);
    const { stdout } = await promisify(execFile)(process.execPath, ['cluster.mjs'], {
      cwd: directory,
      timeout: 60_000,
    });
    assert.match(stdout, /^entry \d+ is on a quorum of disks; the total is 42\n$/);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
