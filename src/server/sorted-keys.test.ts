// The sorted set of keys against a plain sorted array, over random changes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../base/random.ts';
import { sortedKeys } from './sorted-keys.ts';

test('after any changes the keys come in ascending order from any start', () => {
  const seed = 20_260_101;
  const random = seededRandom(seed);
  const keys = sortedKeys();
  const model = new Set<string>();
  for (let step = 0; step < 20_000; step++) {
    const key = `k${random.below(3_000).toString(36)}`;
    if (model.has(key)) {
      model.delete(key);
      keys.remove(key);
    } else {
      model.add(key);
      keys.add(key);
    }
    if (step % 1_000 !== 0) continue;
    const from = `k${random.below(3_000).toString(36)}`;
    const expected = [...model].sort().filter((each) => each >= from);
    assert.deepEqual([...keys.from(from)], expected, `seed ${seed}, step ${step}`);
  }
  assert.equal(keys.size, model.size);
  assert.deepEqual([...keys.from('')], [...model].sort());
});

test('keys that only ascend or only descend split their blocks and stay in order', () => {
  const names = Array.from({ length: 5_000 }, (_, at) => `key-${String(at).padStart(5, '0')}`);
  for (const order of [names, names.toReversed()]) {
    const keys = sortedKeys();
    for (const name of order) keys.add(name);
    assert.deepEqual([...keys.from('')], names);
    for (const name of order) keys.remove(name);
    assert.deepEqual([...keys.from('')], []);
    assert.equal(keys.size, 0);
  }
});

test('a key that is there is not added, and one that is not there is not removed', () => {
  const keys = sortedKeys();
  keys.add('a');
  assert.throws(() => keys.add('a'), { name: 'AssertionError' });
  assert.throws(() => keys.remove('b'), { name: 'AssertionError' });
  assert.deepEqual([...keys.from('')], ['a']);
});
