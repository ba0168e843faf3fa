// Property tests draw from a fixed seed, so that a run of the tests is repeated by running them again. Another one:
// KOMMANDER_SEED=42 npm test. A failing property prints its seed and path. Loaded by `scripts/test.mjs` with --import.

import process from 'node:process';
import fc from 'fast-check';

const seed = Number(process.env.KOMMANDER_SEED ?? 20_261_123);
fc.configureGlobal({ ...fc.readConfigureGlobal(), seed });
