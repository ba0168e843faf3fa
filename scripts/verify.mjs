// `npm run verify`: the gate. It reads and judges, it mends nothing (`npm run fix` does); all steps run, so that one
// look shows everything.

import process from 'node:process';
import { install, note, succeeds, tool } from './bootstrap.mjs';

install();

/** @type {[string, readonly string[]][]} */
const steps = [
  ['types and borders', [tool('typescript', 'tsc'), '-b']],
  ['format and lint', [tool('@biomejs/biome', 'biome'), 'check', '--error-on-warnings']],
  [
    'promises and types in use',
    [tool('oxlint', 'oxlint'), '--type-aware', '--deny-warnings', '--format=unix'],
  ],
  ['tidy', ['--test', '--test-reporter=dot', 'test/tidy.test.ts']],
  ['nothing unused', [tool('knip', 'knip'), '--no-progress']],
  ['generated files', ['scripts/generated-files.ts', '--check']],
  ['lock file', ['scripts/complete-lock.mjs', '--check']],
  ['package', [tool('publint', 'publint'), 'run', '--strict']],
];

const failed = steps.filter(([name, args]) => {
  note(`verify: ${name}`);
  return !succeeds(args);
});
if (failed.length > 0) note(`verify: failed: ${failed.map(([name]) => name).join(', ')}`);
else note('verify: all good');
process.exit(failed.length > 0 ? 1 : 0);
