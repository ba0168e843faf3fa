// Kills a process that writes to a log store, with SIGKILL, again and again: many rounds of what `npm test` does a few of.
//
//   npm run soak:wal -- [--only rocksdb,sqlite] [--rounds 200] [--seed S]

import { spawnSync } from 'node:child_process';
import process from 'node:process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
// The tests of an engine begin with its name.
const names = values.only === '' ? '.*' : values.only.replaceAll(',', '|');
const pattern = `^(${names}): what a killed process`;
const { status } = spawnSync(
  process.execPath,
  ['--test', `--test-name-pattern=${pattern}`, 'test/wal-processes.test.ts'],
  {
    stdio: 'inherit',
    env: { ...process.env, KOMMANDER_KILL_ROUNDS: values.rounds, KOMMANDER_SEED: values.seed },
  },
);
process.exitCode = status ?? 1;
