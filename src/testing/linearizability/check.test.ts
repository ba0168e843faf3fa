// What the checker says of histories that people have argued about: the queues and registers of Herlihy and Wing, reads
// that are too old or too new, outcomes that nobody learnt. Then its bounds, and histories that make no sense.

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { withoutHints } from '../../../test/support/brute-force.ts';
import { compareAndSet, read, write } from '../../../test/support/register-operations.ts';
import { isKommanderError } from '../../base/errors.ts';
import { virtualClock } from '../virtual-clock.ts';
import { checkLinearizability } from './check.ts';
import type { HistoryOperation, SequentialModel } from './history.ts';
import { casRegisterModel, keyValueModel, registerModel } from './models.ts';

type RegisterHistory = Parameters<typeof checkRegister>[0];

function checkRegister(
  history: readonly ReturnType<typeof write | typeof compareAndSet>[],
): ReturnType<typeof checkLinearizability> {
  return checkLinearizability(casRegisterModel(), history);
}

function assertLinearizable(history: RegisterHistory): void {
  assert.deepEqual(checkRegister(history), { verdict: 'linearizable' });
}

/** Illegal, with these operations as the prefix and the last one stuck. */
function assertIllegal(history: RegisterHistory, prefix: RegisterHistory, stuck: unknown): void {
  const result = checkRegister(history);
  assert.deepEqual(result, {
    verdict: 'illegal',
    key: undefined,
    ...{ prefix, stuck, isNarrowed: true, operations: history },
  });
}

suite('registers', () => {
  test('a history without operations is linearizable, and so is one without known outcomes', () => {
    assertLinearizable([]);
    assertLinearizable([write('a', 1, [0]), read('b', 2, [0])]);
  });

  test('two reads that overlap a write may see the old value and then the new one', () => {
    const history = [write('a', 0, [0, 1]), write('a', 1, [2, 9])];
    assertLinearizable([...history, read('b', 0, [3, 4]), read('b', 1, [5, 6])]);
  });

  test('once a read has seen a value, no later read sees an older one', () => {
    const [zero, one] = [write('a', 0, [0, 1]), write('a', 1, [2, 9])];
    const [early, late] = [read('b', 1, [3, 4]), read('c', 0, [5, 6])];
    assertIllegal([zero, one, early, late], [zero, one, early], late);
  });

  test('a read that overlaps the newer read may see the older value', () => {
    const history = [write('a', 0, [0, 1]), write('a', 1, [2, 9])];
    assertLinearizable([...history, read('b', 1, [3, 6]), read('c', 0, [5, 7])]);
  });

  test('overlapping writes may take effect in either order, but in one', () => {
    const writes = [write('a', 1, [0, 9]), write('b', 2, [1, 8])];
    assertLinearizable([...writes, read('c', 2, [10, 11])]);
    assertLinearizable([...writes, read('c', 1, [10, 11])]);
    const [one, two] = [read('c', 1, [10, 11]), read('d', 2, [12, 13])];
    const result = checkRegister([...writes, one, two]);
    assert.equal(result.verdict === 'illegal' && result.stuck, two);
  });

  test('an acknowledged write is seen by every read that is called afterwards', () => {
    const history = [write('a', 1, [0, 1]), read('b', undefined, [2, 3])];
    assertIllegal(history, history.slice(0, 1), history[1]);
  });

  test('a read sees nothing that nobody has called yet', () => {
    const history = [read('a', 1, [0, 1]), write('b', 1, [2, 3])];
    assertIllegal(history, [], history[0]);
  });

  test('an empty register and one that holds the word undefined are two things', () => {
    assertLinearizable([read('a', undefined, [0, 1])]);
    assertIllegal([read('a', 'undefined', [0, 1])], [], read('a', 'undefined', [0, 1]));
  });

  test('operations of which one returns when the other is called count as concurrent', () => {
    assertLinearizable([write('a', 1, [0, 5]), read('b', undefined, [5, 6])]);
    assertLinearizable([read('a', 1, [0, 5]), write('b', 1, [5, 6])]);
    assertLinearizable([read('a', 1, [5, 5]), write('b', 1, [5, 5])]);
    const history = [write('a', 1, [0, 5]), read('b', undefined, [5.5, 6])];
    assertIllegal(history, history.slice(0, 1), history[1]);
  });

  test('of two compare-and-sets that expect the same, one succeeds', () => {
    const first = compareAndSet('a', { expected: 0, value: 1, swapped: true }, [2, 9]);
    const second = compareAndSet('b', { expected: 0, value: 2, swapped: true }, [3, 8]);
    const refused = compareAndSet('b', { expected: 0, value: 2, swapped: false }, [3, 8]);
    const zero = write('a', 0, [0, 1]);
    assertLinearizable([zero, first, refused]);
    assertIllegal([zero, first, second], [zero, second], first);
  });

  test('the order of the list does not matter, only the times do', () => {
    const history = [write('a', 0, [0, 1]), write('a', 1, [2, 9]), read('b', 1, [3, 4])];
    assertLinearizable([...history].reverse());
  });
});

/** Herlihy and Wing 1990, section 1: a queue; `undefined` in an output is an empty one. */
const queueModel: SequentialModel<readonly string[], QueueInput, QueueOutput> = {
  init: () => [],
  step(items, { enqueue }, output) {
    if (enqueue !== undefined) return { state: [...items, enqueue] };
    if (output !== undefined && output.item !== items[0]) return undefined;
    return { state: items.slice(1) };
  },
};

interface QueueInput {
  readonly enqueue?: string;
}

interface QueueOutput {
  readonly item?: string | undefined;
}

function enqueue(
  client: string,
  item: string,
  [calledAt, returnedAt]: readonly [number, number],
): HistoryOperation<QueueInput, QueueOutput> {
  return { client, input: { enqueue: item }, output: {}, calledAt, returnedAt };
}

function dequeue(
  client: string,
  item: string | undefined,
  [calledAt, returnedAt]: readonly [number, number],
): HistoryOperation<QueueInput, QueueOutput> {
  return { client, input: {}, output: { item }, calledAt, returnedAt };
}

suite('the queues of Herlihy and Wing', () => {
  test('items that are enqueued at the same time come out in either order', () => {
    const enqueued = [enqueue('a', 'x', [0, 3]), enqueue('b', 'y', [1, 2])];
    for (const [first, second] of [
      ['x', 'y'],
      ['y', 'x'],
    ] as const) {
      const history = [...enqueued, dequeue('a', first, [4, 5]), dequeue('b', second, [6, 7])];
      assert.equal(checkLinearizability(queueModel, history).verdict, 'linearizable');
    }
  });

  test('an item that was enqueued before another one comes out before it', () => {
    const stuck = dequeue('a', 'y', [4, 5]);
    const history = [enqueue('a', 'x', [0, 1]), enqueue('b', 'y', [2, 3]), stuck];
    const result = checkLinearizability(queueModel, history);
    assert.equal(result.verdict === 'illegal' && result.stuck, stuck);
  });

  test('an item may come out before its enqueue returns', () => {
    const history = [enqueue('a', 'x', [0, 9]), dequeue('b', 'x', [1, 2])];
    assert.equal(checkLinearizability(queueModel, history).verdict, 'linearizable');
  });

  test('an item comes out once', () => {
    const stuck = dequeue('a', 'x', [4, 5]);
    const history = [enqueue('a', 'x', [0, 1]), dequeue('b', 'x', [2, 3]), stuck];
    const result = checkLinearizability(queueModel, history);
    assert.equal(result.verdict === 'illegal' && result.stuck, stuck);
  });
});

suite('unknown outcomes', () => {
  test('a write of unknown outcome may take effect long after its client went on', () => {
    const lost = write('a', 1, [0]);
    assertLinearizable([lost, read('a', undefined, [1, 2]), read('a', 1, [30, 31])]);
  });

  test('a write of unknown outcome may never take effect', () => {
    assertLinearizable([write('a', 1, [0]), read('b', undefined, [10, 11])]);
  });

  test('a write of unknown outcome takes effect once', () => {
    const history = [
      write('a', 1, [0]),
      read('b', 1, [1, 2]),
      write('b', 2, [3, 4]),
      read('b', 1, [5, 6]),
    ];
    assertIllegal(history, history.slice(0, 3), history[3]);
  });

  test('a write of unknown outcome whose value was read has taken effect by then', () => {
    const history = [write('a', 1, [0]), read('b', 1, [1, 2]), read('c', undefined, [3, 4])];
    assertIllegal(history, history.slice(0, 2), history[2]);
  });

  test('a write of unknown outcome takes no effect before its call', () => {
    const history = [read('b', 1, [0, 1]), write('a', 1, [2])];
    assertIllegal(history, [], history[0]);
  });

  test('a compare-and-set of unknown outcome takes effect only where it can', () => {
    const lost = compareAndSet('a', { expected: 1, value: 2, swapped: true }, [0]);
    assertLinearizable([lost, write('b', 1, [1, 2]), read('b', 2, [3, 4])]);
    const history = [lost, write('b', 3, [1, 2]), read('b', 2, [3, 4])];
    assertIllegal(history, history.slice(1, 2), history[2]);
  });

  test('of many equal ones as many take effect as were seen to', () => {
    const counter: SequentialModel<number, 'add' | 'get', { value?: number }> = {
      init: () => 0,
      step: (state, input, output) => {
        if (input === 'add') return { state: state + 1 };
        return output === undefined || output.value === state ? { state } : undefined;
      },
    };
    const adds = Array.from({ length: 40 }, (_, at) => ({
      client: 'a',
      input: 'add' as const,
      output: undefined,
      ...{ calledAt: at, returnedAt: undefined },
    }));
    const get = (value: number) => ({
      client: 'b',
      input: 'get' as const,
      output: { value },
      ...{ calledAt: 100, returnedAt: 101 },
    });
    assert.equal(checkLinearizability(counter, [...adds, get(40)]).verdict, 'linearizable');
    assert.equal(checkLinearizability(counter, [...adds, get(41)]).verdict, 'illegal');
  });

  test('more different ones than are told apart are judged as rightly', () => {
    const lost = Array.from({ length: 600 }, (_, at) => write('a', at, [at]));
    const again = write('a', 599, [700]);
    const reads = [read('b', 599, [800, 801]), write('b', 'x', [802, 803])];
    assertLinearizable([...lost, again, ...reads, read('b', 599, [804, 805])]);
    const history = [...lost, ...reads, read('b', 599, [804, 805])];
    assert.equal(checkRegister(history).verdict, 'illegal');
  });

  test('what is under way when the history ends may have taken effect or not', () => {
    const open = write('a', 1, [5, 20]);
    assertLinearizable([open, read('b', 1, [6, 7]), read('b', 1, [8, 9])]);
    const history = [open, read('b', 1, [6, 7]), read('b', undefined, [8, 9])];
    assertIllegal(history, history.slice(0, 2), history[2]);
  });
});

suite('keys', () => {
  const put = (key: string, value: string, [calledAt, returnedAt]: readonly [number, number]) => ({
    client: key,
    input: { type: 'put', key, value } as const,
    output: {},
    ...{ calledAt, returnedAt },
  });
  const get = (key: string, value: string | undefined, calledAt: number) => ({
    client: key,
    input: { type: 'get', key } as const,
    output: { value },
    ...{ calledAt, returnedAt: calledAt + 1 },
  });

  test('every key is judged by its own operations, and the wrong one is named', () => {
    const right = [put('x', 'v', [0, 1]), get('x', 'v', 2)];
    const wrong = [put('y', 'v', [0, 1]), get('y', undefined, 2)];
    assert.equal(checkLinearizability(keyValueModel(), right).verdict, 'linearizable');
    const result = checkLinearizability(keyValueModel(), [...right, ...wrong]);
    assert.deepEqual(result, {
      ...{ verdict: 'illegal', key: 'y', prefix: wrong.slice(0, 1), stuck: wrong[1] },
      ...{ isNarrowed: true, operations: wrong },
    });
  });

  test('a key that is hard to decide does not keep another one from being found wrong', () => {
    const model = withoutHints(keyValueModel());
    const hard = hardHistory('hard').map((each) => ({ ...each, client: `hard ${each.client}` }));
    const wrong = Array.from({ length: 1_000 }, (_, at) => put('z', `${at}`, [2 * at, 2 * at + 1]));
    const history = [...hard, ...wrong, get('z', 'nobody wrote this', 5_000)];
    const clock = virtualClock();
    const result = checkLinearizability(slow(model, clock), history, {
      timeLimitMs: 20_000,
      clock,
    });
    assert.equal(result.verdict, 'illegal');
    assert.equal(result.key, 'z');
  });
});

/** Takes one millisecond of `clock` for every step. */
function slow<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  clock: ReturnType<typeof virtualClock>,
): SequentialModel<State, Input, Output> {
  return {
    ...model,
    step(state, input, output) {
      clock.stall(1);
      return model.step(state, input, output);
    },
  };
}

/** Twelve writes at once and a read of what none of them wrote: 12 × 2^11 configurations. */
function hardHistory(key: string) {
  const puts = Array.from({ length: 12 }, (_, at) => ({
    client: at,
    input: { type: 'put', key, value: at } as const,
    output: {},
    ...{ calledAt: 0, returnedAt: 1 },
  }));
  const get = { client: 0, input: { type: 'get', key } as const, output: { value: 'none' } };
  return [...puts, { ...get, calledAt: 2, returnedAt: 3 }];
}

suite('bounds', () => {
  test('a check that runs out of time says unknown, why, and how far it came', () => {
    const clock = virtualClock();
    const model = slow(withoutHints(keyValueModel()), clock);
    const result = checkLinearizability(model, hardHistory('k'), { timeLimitMs: 5_000, clock });
    assert.deepEqual(result, {
      ...{ verdict: 'unknown', reason: 'timeLimit', key: 'k' },
      ...{ placedCount: 12, operationCount: 13, undecidedKeyCount: 1 },
    });
    assert.ok(clock.monotonicMs() < 6_000, 'it looks at the clock often');
  });

  test('without time even an easy history is not decided', () => {
    const history = [write('a', 1, [0, 1])];
    const result = checkLinearizability(registerModel(), history, { timeLimitMs: 0 });
    assert.equal(result.verdict, 'unknown');
  });

  test('a check that runs out of memory says unknown, and goes on with the other keys', () => {
    const model = withoutHints(keyValueModel());
    const easy = {
      client: 'e',
      input: { type: 'put', key: 'easy', value: 1 } as const,
      output: {},
    };
    const history = [...hardHistory('hard'), { ...easy, calledAt: 4, returnedAt: 5 }];
    const result = checkLinearizability(model, history, { memoBytesMax: 200_000 });
    assert.deepEqual(result, {
      ...{ verdict: 'unknown', reason: 'memoLimit', key: 'hard' },
      ...{ placedCount: 12, operationCount: 13, undecidedKeyCount: 1 },
    });
    const options = { clock: virtualClock() };
    assert.equal(checkLinearizability(model, history, options).verdict, 'illegal');
  });

  test('an illegal history is illegal even when no time is left to find the place', () => {
    const clock = virtualClock();
    const history = [write('a', 1, [0, 1]), read('b', 2, [2, 3]), write('a', 3, [4, 5])];
    const model = slow(withoutHints(registerModel()), clock);
    const result = checkLinearizability(model, history, { timeLimitMs: 1, clock });
    assert.deepEqual(result, {
      ...{ verdict: 'illegal', key: '', prefix: [], stuck: history[2] },
      ...{ isNarrowed: false, operations: history },
    });
  });

  test('a bound is a number that is not negative', () => {
    for (const options of [
      { timeLimitMs: -1 },
      { timeLimitMs: Number.NaN },
      { memoBytesMax: -1 },
    ]) {
      const [argument] = Object.keys(options);
      assert.throws(
        () => checkLinearizability(registerModel(), [], options),
        (error) =>
          isKommanderError(error, 'INVALID_ARGUMENT') && error.details.argument === argument,
      );
    }
  });
});

suite('histories that make no sense', () => {
  const fine = write('a', 1, [0, 1]);
  const { POSITIVE_INFINITY: infinity, NaN: notANumber } = Number;
  const bad: Readonly<Record<string, ReturnType<typeof write>>> = {
    'was called at no time': write('b', 1, [notANumber, 2]),
    'was called at an infinite time': write('b', 1, [-infinity, 2]),
    'returned at no time': write('b', 1, [0, notANumber]),
    'returned at an infinite time': write('b', 1, [0, infinity]),
    'returned before it was called': write('b', 1, [2, 1]),
    'returned without an output': { ...write('b', 1, [0, 1]), output: undefined },
    'has an output and did not return': { ...write('b', 1, [0]), output: {} },
    "overlaps another one of its client's": write('a', 1, [0.5, 2]),
    "is of unknown outcome and overlaps another one of its client's": write('a', 1, [0.5]),
  };
  for (const [what, operation] of Object.entries(bad)) {
    test(`an operation that ${what} is refused and named`, () => {
      assert.throws(
        () => checkLinearizability(registerModel(), [fine, operation]),
        (error) =>
          isKommanderError(error, 'INVALID_ARGUMENT') &&
          error.details.argument === 'history[1]' &&
          error.details.client === operation.client,
      );
    });
  }

  test('an operation of unknown outcome may stay open while its client goes on, even at once', () => {
    assertLinearizable([
      write('a', 1, [0]),
      write('a', 2, [0, 3]),
      write('a', 3, [3]),
      fineLater(),
    ]);
    assertLinearizable([write('a', 2, [0, 0]), write('a', 1, [0]), read('a', 1, [0, 0])]);
  });

  test('a client may call when its last operation returns', () => {
    assertLinearizable([write('a', 1, [0, 1]), read('a', 1, [1, 1]), read('a', 1, [1, 2])]);
  });

  test('what the model throws is thrown', () => {
    const broken: SequentialModel<number, string, string> = {
      init: () => 0,
      step: () => {
        throw new RangeError('no such command');
      },
    };
    const operation = { client: 1, input: 'x', output: 'y', calledAt: 0, returnedAt: 1 };
    assert.throws(() => checkLinearizability(broken, [operation]), RangeError);
  });

  function fineLater() {
    return write('a', 4, [4, 5]);
  }
});

suite('a model whose marks do not agree with its steps is refused', () => {
  const marks = {
    of: (state: number) => String(state),
    needs: () => undefined,
    makes: () => undefined,
  };
  const model = {
    init: () => 0,
    step: (_: number, input: number) => ({ state: input }),
  };
  const history = [1, 2].map((input) => ({
    client: 1,
    ...{ input, output: {}, calledAt: 2 * input, returnedAt: 2 * input + 1 },
  }));
  const wrong: Readonly<Record<string, Partial<SequentialModel<number, number, object>['marks']>>> =
    {
      'changes what it says to leave': {},
      'makes another mark than it says': { makes: () => '7' },
      'is possible without the mark that it says to need': {
        makes: (input: number) => String(input),
        needs: () => '2',
      },
    };
  for (const [what, part] of Object.entries(wrong)) {
    test(`an operation ${what}`, () => {
      const { needs, makes } = { ...marks, ...part };
      assert.throws(
        () => checkLinearizability({ ...model, marks: { ...marks, needs, makes } }, history),
        (error) =>
          isKommanderError(error, 'INVALID_ARGUMENT') && error.details.argument === 'model.marks',
      );
    });
  }
});
