// Equal states share a number, others do not; the model says which ones are equal.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SequentialModel } from './history.ts';
import { numberOfState, stateTable } from './state-table.ts';

type Equality<State> = Pick<SequentialModel<State, unknown, unknown>, 'equals' | 'hash'>;

function numbersOf<State>(states: readonly State[], equality: Equality<State> = {}): number[] {
  const table = stateTable<State>({
    init: () => assert.fail('nobody asks for it'),
    step: () => undefined,
    ...equality,
  });
  return states.map((state) => numberOfState(table, state));
}

test('without a word from the model, deeply equal states are equal', () => {
  assert.deepEqual(numbersOf([{ a: [1] }, { a: [2] }, { a: [1] }]), [0, 1, 0]);
  assert.deepEqual(numbersOf<unknown>([undefined, 'undefined', undefined]), [0, 1, 0]);
  assert.deepEqual(numbersOf<unknown>([1n, 1, 2n, 1n]), [0, 1, 2, 0]);
});

test('states that JSON shows alike are told apart', () => {
  const maps = [new Map([[1, 1]]), new Map([[1, 2]]), new Map([[1, 1]])];
  assert.deepEqual(numbersOf(maps), [0, 1, 0]);
  assert.deepEqual(numbersOf([[Number.NaN], [undefined], [null], [Number.NaN]]), [0, 1, 2, 0]);
});

test('a hash alone decides', () => {
  const hash = (state: number) => String(state % 10);
  assert.deepEqual(numbersOf([1, 11, 2, 21], { hash }), [0, 0, 1, 0]);
});

test('among states with one hash the model decides', () => {
  const equality = { hash: () => 'all', equals: (a: number, b: number) => a % 10 === b % 10 };
  assert.deepEqual(numbersOf([1, 2, 11, 3, 12, 3], equality), [0, 1, 0, 2, 1, 2]);
});
