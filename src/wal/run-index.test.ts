// The index of runs against a plain list, over long sequences of appends, truncations and compactions.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../base/random.ts';
import { emptyRunIndex, lastRun, popRuns, pushRun, runOf, shiftRuns } from './run-index.ts';

test('an index of runs answers like a plain list of them', () => {
  for (const seed of [1, 2, 3]) {
    const random = seededRandom(seed);
    const runs = emptyRunIndex();
    let plain: { first: number; last: number }[] = [];
    let lastIndex = 0;
    for (let step = 0; step < 3_000; step++) {
      const choice = random.below(20);
      if (choice === 0) {
        const cut = lastIndex - random.below(40);
        const removed = plain.filter(({ first }) => first >= cut).map(({ first }) => first);
        assert.deepEqual(popRuns(runs, cut), removed);
        plain = plain.filter(({ first }) => first < cut);
        lastIndex = Math.min(lastIndex, plain.at(-1)?.last ?? Math.max(0, cut - 1));
      } else if (choice === 1) {
        const throughIndex = lastIndex - random.below(200);
        const removed = plain.filter(({ last }) => last <= throughIndex).map(({ first }) => first);
        assert.deepEqual(shiftRuns(runs, { throughIndex, lastIndex }), removed);
        plain = plain.filter(({ last }) => last > throughIndex);
      } else {
        const first = lastIndex + 1;
        lastIndex += 1 + random.below(6);
        plain.push({ first, last: lastIndex });
        pushRun(runs, first);
      }
      const index = lastIndex - random.below(60);
      assert.equal(lastRun(runs), plain.at(-1)?.first);
      assert.equal(runOf(runs, index), plain.findLast(({ first }) => first <= index)?.first);
    }
    assert.ok(runs.firstIndexes.length < plain.length * 2 + 2_100, 'what is removed is forgotten');
    assert.deepEqual(
      popRuns(runs, 0),
      plain.map(({ first }) => first),
    );
    assert.equal(lastRun(runs), undefined);
  }
});
