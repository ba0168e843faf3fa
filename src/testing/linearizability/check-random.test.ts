// The checker against histories that nobody wrote: all those of a few operations are judged as trying every order judges
// them; those of a right machine are linearizable; wrong machines are caught, each at the right place.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  isLinearizable,
  isLinearization,
  withoutHints,
} from '../../../test/support/brute-force.ts';
import {
  appendListHistory,
  type Fault,
  type HistoryShape,
  keyValueHistory,
} from '../../../test/support/concurrent-history.ts';
import { virtualClock } from '../virtual-clock.ts';
import { checkLinearizability, type LinearizabilityResult } from './check.ts';
import type { HistoryOperation, SequentialModel } from './history.ts';
import {
  type AppendListInput,
  type AppendListOutput,
  appendListModel,
  type CasRegisterInput,
  type CasRegisterOutput,
  casRegisterModel,
  keyValueModel,
} from './models.ts';

/** What a client does: how long it waits, how long the operation takes, and whether it learns the outcome. */
interface Action<Input, Output> {
  readonly client: number;
  readonly waits: number;
  readonly takes: number;
  readonly isUnknown: boolean;
  readonly what: readonly [Input, Output];
}

/** Histories of up to six operations, few times, few values: everything touches everything. */
function histories<Input, Output>(
  what: fc.Arbitrary<readonly [Input, Output]>,
): fc.Arbitrary<HistoryOperation<Input, Output>[]> {
  const action = fc.record({
    client: fc.nat(3),
    waits: fc.nat(4),
    takes: fc.nat(6),
    isUnknown: fc.nat(3).map((drawn) => drawn === 0),
    what,
  });
  return fc.array(action, { minLength: 2, maxLength: 6, size: 'max' }).map(historyOf);
}

function historyOf<Input, Output>(
  actions: readonly Action<Input, Output>[],
): HistoryOperation<Input, Output>[] {
  const freeFrom = new Map<number, number>();
  return actions.map(({ client, waits, takes, isUnknown, what: [input, output] }) => {
    const calledAt = (freeFrom.get(client) ?? 0) + waits;
    const returnedAt = calledAt + takes;
    freeFrom.set(client, isUnknown ? calledAt : returnedAt);
    if (isUnknown) return { client, input, output: undefined, calledAt, returnedAt: undefined };
    return { client, input, output, calledAt, returnedAt };
  });
}

/** With all the time that it needs, however busy the machine is. */
function check<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
): LinearizabilityResult<Input, Output> {
  return checkLinearizability(model, history, { clock: virtualClock() });
}

/** Checks `history` and compares everything that the checker says of it with the definition. */
function judge<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
): void {
  const result = check(model, history);
  assert.equal(result.verdict === 'linearizable', isLinearizable(model, history));
  if (result.verdict === 'linearizable') return;
  assert.ok(result.verdict === 'illegal' && result.isNarrowed, 'there is time');
  const { prefix, stuck } = result;
  const { returnedAt } = stuck;
  assert.ok(returnedAt !== undefined, 'what never returned can be left out');
  assert.ok(!isLinearizable(model, history, returnedAt), 'up to its return it is not linearizable');
  assert.ok(isLinearizable(model, history, returnedAt - 0.5), 'up to just before it is');
  assertPrefix(model, history, { prefix, stuck });
}

function assertPrefix<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
  {
    prefix,
    stuck,
  }: {
    readonly prefix: readonly HistoryOperation<Input, Output>[];
    readonly stuck: HistoryOperation<Input, Output>;
  },
): void {
  const end = stuck.returnedAt ?? Number.POSITIVE_INFINITY;
  assert.equal(new Set(prefix).size, prefix.length);
  assert.ok(prefix.every((operation) => operation !== stuck && operation.calledAt <= end));
  const lacks = history.filter(({ returnedAt }) => returnedAt !== undefined && returnedAt < end);
  assert.ok(lacks.every((operation) => prefix.includes(operation)));
  assert.ok(isLinearization(model, prefix));
  assert.ok(!isLinearization(model, [...prefix, stuck]));
}

const value = fc.nat(2);
const perhapsValue = fc.option(value, { nil: undefined });

test('a register is judged as trying every order judges it, with hints and without', () => {
  const what = fc.oneof(
    perhapsValue.map((found) => [{ type: 'read' }, { value: found }] as const),
    value.map((written) => [{ type: 'write', value: written }, {}] as const),
    fc
      .tuple(perhapsValue, value, fc.boolean())
      .map(([expected, next, swapped]) => [
        { type: 'compareAndSet' as const, expected, value: next },
        { swapped },
      ]),
  ) as fc.Arbitrary<readonly [CasRegisterInput, CasRegisterOutput]>;
  fc.assert(
    fc.property(histories(what), (history) => {
      judge(casRegisterModel(), history);
      judge(withoutHints(casRegisterModel()), history);
    }),
    { numRuns: 6_000 },
  );
});

test('a list is judged as trying every order judges it, with hints and without', () => {
  const what = fc.oneof(
    fc.array(value, { maxLength: 3 }).map((values) => [{ type: 'read' }, { values }] as const),
    value.map((appended) => [{ type: 'append', value: appended }, {}] as const),
  ) as fc.Arbitrary<readonly [AppendListInput, AppendListOutput]>;
  fc.assert(
    fc.property(histories(what), (history) => {
      judge(appendListModel(), history);
      judge(withoutHints(appendListModel()), history);
    }),
    { numRuns: 6_000 },
  );
});

test('a counter, whose operations are alike, is judged as trying every order judges it', () => {
  interface Add {
    readonly add: number;
  }
  const counter: SequentialModel<number, Add, { readonly total: number | undefined }> = {
    init: () => 0,
    step(state, { add }, output) {
      const isAnswer = output?.total === undefined || output.total === state + add;
      return isAnswer ? { state: state + add } : undefined;
    },
  };
  const total = fc.option(fc.nat(4), { nil: undefined }).map((each) => ({ total: each }));
  const what = fc.tuple(
    fc.nat(2).map((add) => ({ add })),
    total,
  );
  fc.assert(
    fc.property(histories(what), (history) => judge(counter, history)),
    { numRuns: 6_000 },
  );
});

test('a lock, which cannot always be taken, is judged as trying every order judges it', () => {
  const lock: SequentialModel<string | undefined, { take: boolean; who: string }, object> = {
    init: () => undefined,
    step: (holder, { take, who }) => {
      if (take) return holder === undefined ? { state: who } : undefined;
      return holder === who ? { state: undefined } : undefined;
    },
  };
  const what = fc.tuple(
    fc.record({ take: fc.boolean(), who: fc.constantFrom('a', 'b') }),
    fc.constant({}),
  );
  fc.assert(
    fc.property(histories(what), (history) => judge(lock, history)),
    { numRuns: 6_000 },
  );
});

const small = { clientCount: 4, operationCount: 60, keyCount: 2 };

for (const unknownShare of [0, 0.1]) {
  for (const eventsPerTime of [1, 4]) {
    const how = `${100 * unknownShare} % of unknown outcome, ${eventsPerTime} events at a time`;
    test(`every history of a right machine is linearizable (${how})`, () => {
      for (let seed = 1; seed <= 60; seed++) {
        const shape = { seed, ...small, unknownShare, eventsPerTime };
        const inKeys = check(keyValueModel(), keyValueHistory(shape));
        assert.deepEqual(inKeys, { verdict: 'linearizable' }, `key-value, seed ${seed}`);
        const inLists = check(appendListModel(), appendListHistory(shape));
        assert.deepEqual(inLists, { verdict: 'linearizable' }, `lists, seed ${seed}`);
      }
    });
  }
}

const faults: readonly Fault[] = ['staleRead', 'lostUpdate', 'duplicateApply', 'futureRead'];
/** Of 60 seeds; not every fault of a machine can be seen from outside. */
const caughtMin = 45;

for (const fault of faults) {
  test(`a machine with the fault ${fault} is caught in most seeds, at the right place`, () => {
    const wrong = { ...small, fault, faultShare: 0.25, unknownShare: 0.05 };
    const shapes = Array.from({ length: 60 }, (_, at) => ({ seed: at + 1, ...wrong }));
    const caught = {
      keys: shapes.filter((shape) => isCaught(shape, keyValueModel(), keyValueHistory(shape))),
      lists: shapes.filter((shape) => isCaught(shape, appendListModel(), appendListHistory(shape))),
    };
    assert.ok(caught.keys.length >= caughtMin, `${caught.keys.length} with keys`);
    assert.ok(caught.lists.length >= caughtMin, `${caught.lists.length} with lists`);
  });
}

/** Whether the history is found illegal; then everything that is said of it must be so. */
function isCaught<State, Input, Output>(
  { seed }: HistoryShape,
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
): boolean {
  const result = check(model, history);
  if (result.verdict === 'linearizable') return false;
  assert.ok(result.verdict === 'illegal' && result.isNarrowed, `seed ${seed}: ${result.verdict}`);
  const { prefix, stuck, operations } = result;
  assertPrefix(model, operations, { prefix, stuck });
  // The plain search, which knows nothing of keys and marks, must agree about both cuts.
  const end = stuck.returnedAt ?? Number.POSITIVE_INFINITY;
  const before = check(withoutHints(model), cutOff(operations, end, false));
  const behind = check(withoutHints(model), cutOff(operations, end, true));
  assert.deepEqual([before.verdict, behind.verdict], ['linearizable', 'illegal'], `seed ${seed}`);
  return true;
}

/** The history as if it had been written down just before or just after `end`. */
function cutOff<Input, Output>(
  history: readonly HistoryOperation<Input, Output>[],
  end: number,
  isInclusive: boolean,
): HistoryOperation<Input, Output>[] {
  return history
    .filter(({ calledAt }) => calledAt <= end)
    .map((operation) => {
      const { returnedAt = Number.POSITIVE_INFINITY } = operation;
      const isOver = returnedAt < end || (isInclusive && returnedAt === end);
      return isOver ? operation : { ...operation, output: undefined, returnedAt: undefined };
    });
}
