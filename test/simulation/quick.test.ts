// The simulator over whole nodes, as every change has to pass it: the quick profile, a hundred seeds. A failing seed
// prints the command that repeats it. More seeds, and the other profiles: npm run sim.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keyValueProof } from '../../src/testing/simulation/key-value-proof.ts';
import { simulate } from '../../src/testing/simulation/simulate.ts';

const seedCount = 100;

for (let seed = 1; seed <= seedCount; seed++) {
  test(`no rule is broken and everybody is told the truth whatever happens (seed ${seed})`, async () => {
    const { report, operationCount } = await simulate(keyValueProof(seed, 'quick'));
    assert.ok(
      report === undefined,
      `${report}\nrepeat it: npm run sim -- --profile quick --seed ${seed}`,
    );
    assert.ok(operationCount > 0, 'clients got answers at all');
  });
}
