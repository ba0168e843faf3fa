// `npm run fix`: what a program can mend: format, imports, simple lint, generated files, the lock file's gaps.

import process from 'node:process';
import { install, succeeds, tool } from './bootstrap.mjs';

install();

const steps = [
  ['scripts/complete-lock.mjs'],
  ['scripts/generated-files.ts'],
  [tool('oxlint', 'oxlint'), '--type-aware', '--fix', '--format=unix'],
  [tool('@biomejs/biome', 'biome'), 'check', '--write'],
];

// Every step runs: the last one also formats what the others wrote.
process.exit(steps.filter((args) => !succeeds(args)).length > 0 ? 1 : 0);
