// `npm test [-- file or pattern …] [-- --test-option …]`: installs and builds if needed, then runs Node's test runner,
// whose own closing lines are the last ones.

import { availableParallelism } from 'node:os';
import process from 'node:process';
import { become, build } from './bootstrap.mjs';

/** Milliseconds for one test. */
const timeoutMs = 120_000;

const args = process.argv.slice(2);
const options = args.filter((arg) => arg.startsWith('--'));
const patterns = args.filter((arg) => !arg.startsWith('--'));

build();
become([
  '--test',
  '--import=./test/support/property-seed.ts',
  '--test-reporter=spec',
  `--test-timeout=${timeoutMs}`,
  `--test-concurrency=${Math.max(2, availableParallelism() - 1)}`,
  ...options,
  ...(patterns.length > 0 ? patterns : ['src/**/*.test.ts', 'test/**/*.test.ts']),
]);
