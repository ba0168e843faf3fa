// The simulator over whole nodes, as every change has to pass it: the quick profile, a hundred seeds. A failing seed
// prints the command that repeats it. More seeds, and the other profiles: npm run sim.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keyValueProof } from '../../src/testing/simulation/key-value-proof.ts';
import { simulate } from '../../src/testing/simulation/simulate.ts';

const seedCount = 100;
let operationCount = 0;
/** Histories that were compared to their end, and others: that has a limit in real time, which a busy machine may meet. */
let checkedCount = 0;
let undecidedCount = 0;

for (let seed = 1; seed <= seedCount; seed++) {
  test(`no rule is broken and everybody is told the truth whatever happens (seed ${seed})`, async () => {
    const result = await simulate(keyValueProof(seed, 'quick'));
    assert.ok(
      result.report === undefined,
      `${result.report}\nrepeat it: npm run sim -- --profile quick --seed ${seed}`,
    );
    if (result.isHistoryChecked === true) checkedCount += 1;
    if (result.isHistoryChecked === false) undecidedCount += 1;
    operationCount += result.operationCount;
  });
}

test('the clients got answers, and what they saw was compared with the model', () => {
  assert.ok(operationCount > 50 * seedCount, `${operationCount} operations were answered`);
  // Runs without machines have no model.
  assert.ok(checkedCount > 0.6 * seedCount, `${checkedCount} histories were compared`);
  assert.ok(undecidedCount < 0.1 * seedCount, `${undecidedCount} were not`);
});
