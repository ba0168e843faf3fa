// Directories of demo runs: a fresh one each time, the last one kept, nothing else touched.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeRunDirectory } from './run-directory.ts';

test('a new run removes the directories of ended runs, and nothing else', (t) => {
  const parent = mkdtempSync(join(tmpdir(), 'kommander-runs-'));
  t.after(() => rmSync(parent, { recursive: true, force: true }));
  const endedProcess = spawnSync(process.execPath, ['--version']).pid;
  const ended = join(parent, `demo-20260101000000-${endedProcess}`);
  const running = join(parent, `demo-20260101000000-${process.ppid}`);
  const foreign = join(parent, 'my-data');
  for (const directory of [ended, running, foreign]) {
    mkdirSync(directory);
    writeFileSync(join(directory, 'file'), 'x');
  }
  const made = makeRunDirectory(parent, Date.UTC(2026, 0, 2, 3, 4, 5));
  assert.equal(made, join(parent, `demo-20260102030405-${process.pid}`));
  assert.deepEqual([made, ended, running, foreign].map(existsSync), [true, false, true, true]);
});
