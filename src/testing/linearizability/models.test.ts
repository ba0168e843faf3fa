// The models, and what they tell a search about themselves: a hint that is wrong would make the checker wrong, so every
// rule of the hints is tried on every small state, input and output.

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { isKommanderError } from '../../base/errors.ts';
import type { SequentialModel } from './history.ts';
import {
  type AppendListInput,
  type AppendListOutput,
  appendListModel,
  type CasRegisterInput,
  type CasRegisterOutput,
  casRegisterModel,
  type KeyValueInput,
  type KeyValueOutput,
  keyValueModel,
  registerModel,
} from './models.ts';

const values = ['1', '2', 1, true, undefined];
const written = values.filter((value) => value !== undefined);

/** The states after `inputs`, one after the other, whose outcomes are unknown. */
function stateAfter<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  ...inputs: readonly Input[]
): State {
  return inputs.reduce<State>((state, input) => {
    const stepped = model.step(state, input, undefined);
    assert.ok(stepped !== undefined, 'an operation of unknown outcome is possible');
    return stepped.state;
  }, model.init());
}

suite('steps', () => {
  test('a register answers what was written last, and nothing at first', () => {
    const model = registerModel();
    const one = stateAfter(model, { type: 'write', value: 1 });
    assert.ok(model.step(model.init(), { type: 'read' }, { value: undefined }));
    assert.ok(model.step(one, { type: 'read' }, { value: 1 }));
    assert.equal(model.step(one, { type: 'read' }, { value: '1' }), undefined);
    assert.equal(model.step(one, { type: 'read' }, { value: undefined }), undefined);
  });

  test('a compare-and-set changes a register that holds what is expected, and says so', () => {
    const model = casRegisterModel();
    const one = stateAfter(model, { type: 'write', value: 1 });
    const input = { type: 'compareAndSet', expected: 1, value: 2 } as const;
    assert.deepEqual(model.step(one, input, { swapped: true }), { state: 2 });
    assert.deepEqual(model.step(one, input, undefined), { state: 2 });
    assert.equal(model.step(one, input, { swapped: false }), undefined);
    assert.deepEqual(model.step(model.init(), input, { swapped: false }), { state: undefined });
    assert.deepEqual(model.step(model.init(), input, undefined), { state: undefined });
    assert.equal(model.step(model.init(), input, { swapped: true }), undefined);
  });

  test('a compare-and-set that expects nothing creates', () => {
    const model = keyValueModel();
    const input = { type: 'compareAndSet', key: 'k', expected: undefined, value: 'v' } as const;
    assert.deepEqual(model.step(model.init(), input, { swapped: true }), { state: 'v' });
  });

  test('a key is there from its put to its delete', () => {
    const model = keyValueModel();
    const put = { type: 'put', key: 'k', value: 'v' } as const;
    const get = { type: 'get', key: 'k' } as const;
    assert.ok(model.step(stateAfter(model, put), get, { value: 'v' }));
    const deleted = stateAfter(model, put, { type: 'delete', key: 'k' });
    assert.ok(model.step(deleted, get, { value: undefined }));
    assert.equal(model.keyOf?.(get), 'k');
  });

  test('a list answers all that was appended, in that order', () => {
    const model = appendListModel();
    const append = (value: string) => ({ type: 'append', value }) as const;
    const list = stateAfter(model, append('a'), append('b'));
    const isPossible = (...listed: readonly string[]) =>
      model.step(list, { type: 'read' }, { values: listed }) !== undefined;
    assert.ok(isPossible('a', 'b'));
    for (const wrong of [[], ['a'], ['b'], ['b', 'a'], ['a', 'b', 'b']]) {
      assert.ok(!isPossible(...wrong), wrong.join());
    }
    assert.ok(model.step(model.init(), { type: 'read' }, { values: [] }));
    assert.equal(model.keyOf?.({ type: 'read', key: 'k' }), 'k');
  });

  test('lists are equal when their values are, however they came about', () => {
    const model = appendListModel();
    const append = (value: string | number) => ({ type: 'append', value }) as const;
    const twice = [stateAfter(model, append('a')), stateAfter(model, append('a'))] as const;
    assert.ok(model.equals?.(...twice));
    assert.equal(model.hash?.(twice[0]), model.hash?.(twice[1]));
    assert.ok(!model.equals?.(twice[0], stateAfter(model, append('a'), append('a'))));
    assert.ok(!model.equals?.(stateAfter(model, append(1)), stateAfter(model, append('1'))));
  });

  test('an output of the wrong shape is refused, for it is a mistake of who recorded it', () => {
    const isRefusal = (error: unknown) => isKommanderError(error, 'INVALID_ARGUMENT');
    assert.throws(() => registerModel().step(1, { type: 'read' }, {}), isRefusal);
    const swap = { type: 'compareAndSet', expected: 1, value: 2 } as const;
    assert.throws(() => casRegisterModel().step(1, swap, {}), isRefusal);
    const model = appendListModel();
    assert.throws(() => model.step(model.init(), { type: 'read' }, {}), isRefusal);
  });
});

function describing<State, Input, Output>(model: SequentialModel<State, Input, Output>) {
  return (input: Input, output: Output | undefined) => model.describe?.(input, output);
}

suite('descriptions', () => {
  test('an operation is described on one line, with what is known of its outcome', () => {
    const describe = describing(keyValueModel());
    const swap = { type: 'compareAndSet', key: 'k', expected: undefined, value: 'v' } as const;
    assert.equal(describe({ type: 'put', key: 'k', value: 'v' }, {}), 'put k "v"');
    assert.equal(describe({ type: 'put', key: 'k', value: 1 }, undefined), 'put k 1 -> ?');
    assert.equal(describe({ type: 'get', key: 'k' }, { value: undefined }), 'get k -> nothing');
    assert.equal(describe(swap, { swapped: true }), 'compareAndSet k nothing to "v" -> yes');
    assert.equal(describe(swap, { swapped: false }), 'compareAndSet k nothing to "v" -> no');
    const list = describing(appendListModel());
    assert.equal(list({ type: 'append', value: 'a' }, {}), 'append "a"');
    assert.equal(list({ type: 'read' }, { values: ['a', 1] }), 'read -> ["a", 1]');
  });
});

/** Checks every rule of `StateMarks` for one operation in one state. */
function checkMarks<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  state: State,
  [input, output]: readonly [Input, Output | undefined],
): void {
  const marks = model.marks ?? assert.fail('the model has marks');
  const stepped = model.step(state, input, output);
  const before = marks.of(state);
  const needed = marks.needs(input, output);
  const made = marks.makes(input, output);
  const avoided = marks.avoids?.(input, output);
  const isOther = stepped !== undefined && model.hash?.(stepped.state) !== model.hash?.(state);
  const hasEffect = output === undefined ? isOther : stepped !== undefined;
  if (hasEffect && needed !== undefined) assert.equal(before, needed);
  if (isOther) assert.equal(marks.of(stepped.state), made);
  if (made === undefined) assert.ok(!isOther);
  if (marks.avoids === undefined) return;
  assert.equal(model.hash?.(state), before, 'it is nothing but its mark');
  const mayHaveEffect = needed === undefined ? before !== avoided : before === needed;
  if (output !== undefined) assert.equal(stepped !== undefined, mayHaveEffect);
  else if (isOther) assert.ok(mayHaveEffect);
  if (hasEffect && made !== undefined) assert.equal(marks.of((stepped ?? { state }).state), made);
}

suite('hints', () => {
  test('registers keep every rule of the marks, in every state and with every output', () => {
    const operations: [CasRegisterInput, CasRegisterOutput | undefined][] = [
      ...values.map((value): [CasRegisterInput, CasRegisterOutput] => [
        { type: 'read' },
        { value },
      ]),
      ...written.map((value): [CasRegisterInput, CasRegisterOutput] => [
        { type: 'write', value },
        {},
      ]),
      ...values.flatMap((expected) =>
        written.flatMap((value) =>
          [true, false].map((swapped): [CasRegisterInput, CasRegisterOutput] => [
            { type: 'compareAndSet', expected, value },
            { swapped },
          ]),
        ),
      ),
    ];
    const unknown = operations.map(([input]): [CasRegisterInput, undefined] => [input, undefined]);
    for (const state of values) {
      for (const operation of [...operations, ...unknown]) {
        checkMarks(casRegisterModel(), state, operation);
      }
    }
  });

  test('keys keep every rule of the marks', () => {
    const key = 'k';
    const operations: [KeyValueInput, KeyValueOutput][] = [
      ...values.map((value): [KeyValueInput, KeyValueOutput] => [{ type: 'get', key }, { value }]),
      [{ type: 'put', key, value: '1' }, {}],
      [{ type: 'delete', key }, {}],
    ];
    for (const state of values) {
      for (const [input, output] of operations) {
        checkMarks(keyValueModel(), state, [input, output]);
        checkMarks(keyValueModel(), state, [input, undefined]);
      }
    }
  });

  test('lists keep every rule of the marks, and say rightly what can still come', () => {
    const model = appendListModel();
    const append = (value: number): AppendListInput => ({ type: 'append', value });
    const lists = listsUpTo(3);
    for (const before of lists) {
      const state = stateAfter(model, ...before.map(append));
      checkMarks(model, state, [append(1), {}]);
      checkMarks(model, state, [append(2), undefined]);
      checkMarks(model, state, [{ type: 'read' }, undefined]);
      for (const listed of lists) {
        const operation: [AppendListInput, AppendListOutput] = [
          { type: 'read' },
          { values: listed },
        ];
        checkMarks(model, state, operation);
        const isBeginning = before.every((value, at) => value === listed[at]);
        if (isBeginning) assert.ok(model.canStillCome?.(state, ...operation));
        const isTooLong = before.length > listed.length;
        const isOtherAtItsEnd = before.at(-1) !== listed[before.length - 1];
        assert.equal(
          model.canStillCome?.(state, ...operation),
          !isTooLong && (before.length === 0 || !isOtherAtItsEnd),
        );
      }
      assert.ok(model.canStillCome?.(state, append(1), {}));
    }
  });
});

/** All lists of 1 and 2 with up to `lengthMax` elements. */
function listsUpTo(lengthMax: number): readonly (readonly number[])[] {
  if (lengthMax === 0) return [[]];
  const shorter = listsUpTo(lengthMax - 1);
  const longest = shorter.filter(({ length }) => length === lengthMax - 1);
  return [...shorter, ...longest.flatMap((list) => [1, 2].map((value) => [...list, value]))];
}
