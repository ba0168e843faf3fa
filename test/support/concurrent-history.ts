// Histories for the linearizability checker and its benchmark: clients that call, take effect and return in a random
// order against one machine, which is atomic, and right unless a fault is asked for. A seed repeats a history exactly.

import { type Random, seededRandom } from '../../src/base/random.ts';
import type { HistoryOperation } from '../../src/testing/linearizability/history.ts';
import type {
  AppendListInput,
  AppendListOutput,
  KeyValueInput,
  KeyValueOutput,
  RegisterValue,
} from '../../src/testing/linearizability/models.ts';

/** What a machine does wrong, in `faultShare` of the operations that it can be done to. */
export type Fault =
  | 'none'
  /** A read answers with what was there before the last write. */
  | 'staleRead'
  /** A write is acknowledged and forgotten. */
  | 'lostUpdate'
  /** A write is carried out a second time, after a later one. */
  | 'duplicateApply'
  /** A read answers with what nobody has asked to write yet. */
  | 'futureRead';

export interface HistoryShape {
  readonly seed: number;
  readonly clientCount: number;
  readonly operationCount: number;
  readonly keyCount: number;
  /** Share of operations whose outcome their client does not learn: half took effect, some of them late. */
  readonly unknownShare?: number;
  readonly fault?: Fault;
  /** Default 0.05. */
  readonly faultShare?: number;
  /** Events that count as the same time (default 1: none do). */
  readonly eventsPerTime?: number;
}

export type KeyValueOperation = HistoryOperation<KeyValueInput, KeyValueOutput>;
export type AppendListOperation = HistoryOperation<AppendListInput, AppendListOutput>;

/** Puts, gets, a few deletes and compare-and-sets; every value is written once. */
export function keyValueHistory(shape: HistoryShape): KeyValueOperation[] {
  const random = seededRandom(shape.seed);
  let valueCount = 0;
  const value = () => `v${++valueCount}`;
  const machine = keyValueMachine(random, shape, () => `v${valueCount + 1 + random.below(3)}`);
  return history<KeyValueInput, KeyValueOutput>(random, shape, machine.execute, () => {
    const key = `k${random.below(shape.keyCount)}`;
    const drawn = random.below(20);
    if (drawn < 9) return { type: 'get', key };
    if (drawn < 17) return { type: 'put', key, value: value() };
    if (drawn < 18) return { type: 'delete', key };
    return { type: 'compareAndSet', key, expected: machine.glance(key), value: value() };
  });
}

/** Appends and reads; every value is appended once. */
export function appendListHistory(shape: HistoryShape): AppendListOperation[] {
  const random = seededRandom(shape.seed);
  let valueCount = 0;
  const execute = appendListMachine(random, shape, () => valueCount + 1 + random.below(3));
  return history<AppendListInput, AppendListOutput>(random, shape, execute, () => {
    const key = `k${random.below(shape.keyCount)}`;
    if (random.below(2) === 0) return { type: 'read', key };
    return { type: 'append', key, value: ++valueCount };
  });
}

interface OpenCall<Input, Output> {
  readonly at: number;
  readonly input: Input;
  readonly fate: 'answered' | 'lost' | 'late' | 'unanswered';
  hasEffect: boolean;
  output: Output | undefined;
}

/** Every turn one client, drawn at random, goes on: it calls, or its operation takes effect, or it returns. */
function history<Input, Output>(
  random: Random,
  { clientCount, operationCount, unknownShare = 0, eventsPerTime = 1 }: HistoryShape,
  execute: (input: Input) => Output,
  nextInput: () => Input,
): HistoryOperation<Input, Output>[] {
  const operations: HistoryOperation<Input, Output>[] = [];
  const open = new Map<number, OpenCall<Input, Output>>();
  const late: Input[] = [];
  for (let event = 0; operations.length < operationCount || open.size > 0; event++) {
    const time = Math.floor(event / eventsPerTime);
    const client = random.below(clientCount);
    const call = open.get(client);
    if (late.length > 0 && random.below(4 * clientCount) === 0) {
      execute(...(late.splice(random.below(late.length), 1) as [Input]));
    }
    if (call === undefined) {
      if (operations.length < operationCount) begin(client, time);
    } else if (!call.hasEffect) {
      takeEffect(call);
    } else {
      end(client, call, time);
    }
  }
  return operations;

  function begin(client: number, calledAt: number): void {
    const input = nextInput();
    const isUnknown = random.unit() < unknownShare;
    const fate = isUnknown ? drawFate(random) : 'answered';
    open.set(client, { at: operations.length, input, fate, hasEffect: false, output: undefined });
    operations.push({ client, input, calledAt, output: undefined, returnedAt: undefined });
  }

  function takeEffect(call: OpenCall<Input, Output>): void {
    call.hasEffect = true;
    if (call.fate === 'late') late.push(call.input);
    else if (call.fate !== 'lost') call.output = execute(call.input);
  }

  function end(client: number, { at, fate, output }: OpenCall<Input, Output>, time: number): void {
    open.delete(client);
    const operation = operations[at];
    if (fate !== 'answered' || operation === undefined) return;
    operations[at] = { ...operation, output, returnedAt: time };
  }
}

function drawFate(random: Random): 'lost' | 'late' | 'unanswered' {
  return (['lost', 'lost', 'late', 'unanswered'] as const)[random.below(4)] ?? 'lost';
}

function keyValueMachine(
  random: Random,
  { fault = 'none', faultShare = 0.05 }: HistoryShape,
  futureValue: () => RegisterValue,
): {
  readonly execute: (input: KeyValueInput) => KeyValueOutput;
  /** What a client would guess that the key holds. */
  readonly glance: (key: string) => RegisterValue | undefined;
} {
  const values = new Map<string, RegisterValue | undefined>();
  const valuesBefore = new Map<string, RegisterValue | undefined>();
  const isWrong = (which: Fault) => fault === which && random.unit() < faultShare;

  function store(key: string, value: RegisterValue | undefined): void {
    if (isWrong('lostUpdate')) return;
    valuesBefore.set(key, values.get(key));
    const again = valuesBefore.get(key);
    const isRepeated = again !== undefined && isWrong('duplicateApply');
    values.set(key, isRepeated ? again : value);
  }

  function execute(input: KeyValueInput): KeyValueOutput {
    const { key } = input;
    const value = values.get(key);
    switch (input.type) {
      case 'get':
        if (isWrong('futureRead')) return { value: futureValue() };
        return { value: isWrong('staleRead') ? valuesBefore.get(key) : value };
      case 'compareAndSet':
        if (value !== input.expected) return { swapped: false };
        store(key, input.value);
        return { swapped: true };
      default:
        store(key, input.type === 'put' ? input.value : undefined);
        return {};
    }
  }

  return { execute, glance: (key) => (random.below(2) === 0 ? values : valuesBefore).get(key) };
}

function appendListMachine(
  random: Random,
  { fault = 'none', faultShare = 0.05 }: HistoryShape,
  futureValue: () => RegisterValue,
): (input: AppendListInput) => AppendListOutput {
  const lists = new Map<string, readonly RegisterValue[]>();
  const isWrong = (which: Fault) => fault === which && random.unit() < faultShare;
  return (input) => {
    const { key = '' } = input;
    const list = lists.get(key) ?? [];
    if (input.type === 'read') {
      if (isWrong('futureRead')) return { values: [...list, futureValue()] };
      return { values: isWrong('staleRead') ? list.slice(0, -1) : list };
    }
    if (isWrong('lostUpdate')) return {};
    const more = isWrong('duplicateApply') ? [input.value, input.value] : [input.value];
    lists.set(key, [...list, ...more]);
    return {};
  };
}
