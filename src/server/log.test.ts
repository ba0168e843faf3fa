// The log of the server, in a process of its own because it writes to standard error.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';

interface LoggedError {
  readonly message: string;
  readonly stack: string;
  readonly code?: string;
  readonly details?: unknown;
  readonly cause?: LoggedError;
}

/** Runs `program`, which has `observer`, and returns the lines of its log. */
function logLines(program: string): readonly Record<string, unknown>[] {
  const source = `
    import { KommanderError } from ${JSON.stringify(new URL('../base/errors.ts', import.meta.url))};
    import { openLog } from ${JSON.stringify(new URL('log.ts', import.meta.url))};
    const log = openLog({ level: 'info', fields: { nodeId: 'a' } });
    const { observer } = log;
    ${program}
    await log.flush();`;
  const { stderr, status } = spawnSync(
    process.execPath,
    ['--input-type=module', '--eval', source],
    { encoding: 'utf8' },
  );
  assert.equal(status, 0, stderr);
  return stderr
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test('an error is logged with its message, code, details, stack and cause', () => {
  const [line] = logLines(`
    const cause = new Error('no space left', { cause: new TypeError('the disk') });
    const error = new KommanderError('the log could not be written', {
      code: 'WAL_FAILED', details: { partitionId: 3 }, cause });
    observer({ level: 'error', name: 'node-failed', fields: { partitionId: 3, error } });`);
  assert.equal(line?.msg, 'node-failed');
  assert.equal(line.nodeId, 'a');
  assert.equal(line.partitionId, 3);
  const error = line.error as LoggedError;
  assert.equal(error.message, 'the log could not be written');
  assert.equal(error.code, 'WAL_FAILED');
  assert.deepEqual(error.details, { partitionId: 3 });
  assert.match(error.stack, /^KommanderError|^Error/);
  assert.equal(error.cause?.message, 'no space left');
  assert.match(error.cause?.stack ?? '', /no space left/);
  assert.equal(error.cause?.cause?.message, 'the disk');
});

test('what was thrown without being an error is logged as it is', () => {
  const [line] = logLines(
    `observer({ level: 'warn', name: 'odd', fields: { error: 'only text' } });`,
  );
  assert.equal(line?.error, 'only text');
});

test('a log that nobody reads any more does not keep the process from ending', async () => {
  const source = `
    import { setTimeout } from 'node:timers/promises';
    import { openLog } from ${JSON.stringify(new URL('log.ts', import.meta.url))};
    const log = openLog({ level: 'info', fields: { nodeId: 'a' } });
    for (let i = 0; i < 20; i++) {
      log.observer({ level: 'info', name: 'line', fields: { i } });
      await setTimeout(5);
    }
    log.observer({ level: 'info', name: 'the last line', fields: {} });
    await Promise.race([log.flush(), setTimeout(500)]);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', source], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  // The collector of the log is gone before the first line.
  child.stderr.destroy();
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  assert.equal(signal, null);
  assert.equal(code, 0);
});
