// Sequential models of the objects that are checked most often. Outputs are wrapped, for an output that is undefined
// means that the outcome is not known: a read that found nothing answers `{ value: undefined }`, a write `{}`. Values
// are compared with ===. An output of the wrong shape is a mistake of who recorded it, and is thrown.

import { inspect } from 'node:util';
import { unreachable } from '../../base/assert.ts';
import { KommanderError } from '../../base/errors.ts';
import type { SequentialModel, StateMarks } from './history.ts';

/** What registers hold; give every write a value of its own, and the history tells the most. */
export type RegisterValue = string | number | boolean;

export type RegisterInput =
  | { readonly type: 'read' }
  | { readonly type: 'write'; readonly value: RegisterValue };

export type CasRegisterInput =
  | RegisterInput
  /** Writes `value` if the register holds `expected` (undefined: nothing). */
  | {
      readonly type: 'compareAndSet';
      readonly expected: RegisterValue | undefined;
      readonly value: RegisterValue;
    };

export type KeyValueInput =
  | { readonly type: 'get'; readonly key: string }
  | { readonly type: 'put'; readonly key: string; readonly value: RegisterValue }
  | { readonly type: 'delete'; readonly key: string }
  /** Puts `value` if the key holds `expected` (undefined: if there is no such key). */
  | {
      readonly type: 'compareAndSet';
      readonly key: string;
      readonly expected: RegisterValue | undefined;
      readonly value: RegisterValue;
    };

/** What a read found; undefined when there is nothing. */
export interface FoundValue {
  readonly value: RegisterValue | undefined;
}

/** Whether a compare-and-set took effect. */
export interface SwapOutcome {
  readonly swapped: boolean;
}

/** A write that took effect, of which nothing more is known. */
export type Acknowledged = Readonly<Record<string, never>>;

export type RegisterOutput = FoundValue | Acknowledged;
export type CasRegisterOutput = RegisterOutput | SwapOutcome;
/** Of `get`: the value. Of `compareAndSet`: whether it took effect. Of `put` and `delete`: `{}`. */
export type KeyValueOutput = CasRegisterOutput;

export type AppendListInput =
  | { readonly type: 'read'; readonly key?: string }
  | { readonly type: 'append'; readonly key?: string; readonly value: RegisterValue };

/** Of `read`: the whole list. Of `append`: `{}`. */
export type AppendListOutput = { readonly values: readonly RegisterValue[] } | Acknowledged;

/** One register with `read` and `write`; empty at first. */
export function registerModel(): SequentialModel<
  RegisterValue | undefined,
  RegisterInput,
  RegisterOutput
> {
  return casRegisterModel();
}

/** One register with `read`, `write` and `compareAndSet`; empty at first. */
export function casRegisterModel(): SequentialModel<
  RegisterValue | undefined,
  CasRegisterInput,
  CasRegisterOutput
> {
  return {
    init: () => undefined,
    step: stepRegister,
    hash: hashOfValue,
    marks: valueMarks,
    describe,
  };
}

/** Keys with `get`, `put`, `delete` and `compareAndSet`; none is there at first. Every key is checked apart. */
export function keyValueModel(): SequentialModel<
  RegisterValue | undefined,
  KeyValueInput,
  KeyValueOutput
> {
  return {
    init: () => undefined,
    step: stepRegister,
    hash: hashOfValue,
    keyOf: ({ key }) => key,
    marks: valueMarks,
    describe,
  };
}

type Step<State> = { readonly state: State } | undefined;

/** One key is a register: a get reads it, a put writes it, a delete empties it. */
function stepRegister(
  state: RegisterValue | undefined,
  input: CasRegisterInput | KeyValueInput,
  output: CasRegisterOutput | undefined,
): Step<RegisterValue | undefined> {
  switch (input.type) {
    case 'get':
    case 'read':
      if (output === undefined) return { state };
      return field(input.type, output, 'value') === state ? { state } : undefined;
    case 'put':
    case 'write':
      return { state: input.value };
    case 'delete':
      return { state: undefined };
    case 'compareAndSet': {
      const holds = state === input.expected;
      const swapped = output === undefined ? holds : field(input.type, output, 'swapped');
      if (swapped !== holds) return undefined;
      return { state: holds ? input.value : state };
    }
    default:
      return unreachable(input);
  }
}

/** The mark of a register is what it holds. */
const valueMarks: StateMarks<
  RegisterValue | undefined,
  CasRegisterInput | KeyValueInput,
  CasRegisterOutput
> = {
  of: hashOfValue,
  needs(input, output) {
    if (input.type === 'get' || input.type === 'read') {
      return output && hashOfValue(field(input.type, output, 'value'));
    }
    if (input.type !== 'compareAndSet' || isRefused(input, output)) return undefined;
    return hashOfValue(input.expected);
  },
  makes(input, output) {
    if (input.type === 'get' || input.type === 'read') return undefined;
    if (input.type === 'delete') return hashOfValue(undefined);
    return isRefused(input, output) ? undefined : hashOfValue(input.value);
  },
  avoids(input, output) {
    if (input.type !== 'compareAndSet' || !isRefused(input, output)) return undefined;
    return hashOfValue(input.expected);
  },
};

/** Whether it is a compare-and-set that is known to have had no effect. */
function isRefused(
  input: CasRegisterInput | KeyValueInput,
  output: CasRegisterOutput | undefined,
): boolean {
  if (input.type !== 'compareAndSet' || output === undefined) return false;
  return !field(input.type, output, 'swapped');
}

function hashOfValue(value: RegisterValue | undefined): string {
  return typeof value === 'string' ? `'${value}` : String(value);
}

/** A list, last element first, so that appending shares what was there before. */
export interface AppendedList {
  readonly before: AppendedList | undefined;
  readonly value: RegisterValue | undefined;
  readonly length: number;
  /** Of all values in their order. */
  readonly hash: number;
}

const emptyList: AppendedList = { before: undefined, value: undefined, length: 0, hash: 0 };

/** Lists with `append` and `read`, by key (one list without); empty at first. */
export function appendListModel(): SequentialModel<
  AppendedList,
  AppendListInput,
  AppendListOutput
> {
  return {
    init: () => emptyList,
    step: stepList,
    equals: areEqualLists,
    hash: ({ length, hash }) => `${length}:${hash}`,
    keyOf: ({ key }) => key ?? '',
    marks: {
      of: ({ value }) => hashOfValue(value),
      needs: (input, output) =>
        input.type === 'read'
          ? output && hashOfValue(field(input.type, output, 'values').at(-1))
          : undefined,
      makes: (input) => (input.type === 'append' ? hashOfValue(input.value) : undefined),
    },
    canStillCome: (list, input, output) =>
      input.type === 'append' || isBeginning(list, field(input.type, output, 'values')),
    describe,
  };
}

function stepList(
  list: AppendedList,
  input: AppendListInput,
  output: AppendListOutput | undefined,
): Step<AppendedList> {
  if (input.type === 'append') return { state: appended(list, input.value) };
  if (output === undefined) return { state: list };
  return holdsExactly(list, field(input.type, output, 'values')) ? { state: list } : undefined;
}

function appended(before: AppendedList, value: RegisterValue): AppendedList {
  let { hash } = before;
  for (const character of hashOfValue(value)) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x0100_0193);
  }
  return { before, value, length: before.length + 1, hash: Math.imul(hash ^ 0x1f, 0x9e37_79b1) };
}

function holdsExactly(list: AppendedList, values: readonly RegisterValue[]): boolean {
  if (list.length !== values.length) return false;
  let at: AppendedList | undefined = list;
  for (let i = values.length - 1; i >= 0; i--) {
    if (at?.value !== values[i]) return false;
    at = at?.before;
  }
  return true;
}

/** Looks at the last element only; those before were looked at when they were the last ones. */
function isBeginning(list: AppendedList, values: readonly RegisterValue[]): boolean {
  return list.length === 0 || values[list.length - 1] === list.value;
}

function areEqualLists(a: AppendedList, b: AppendedList): boolean {
  let left: AppendedList | undefined = a;
  let right: AppendedList | undefined = b;
  // What two lists share is one object.
  while (left !== right) {
    if (left?.value !== right?.value || left?.length !== right?.length) return false;
    left = left?.before;
    right = right?.before;
  }
  return true;
}

/** @throws INVALID_ARGUMENT the output has no such field */
function field<Output extends object, Name extends string>(
  type: string,
  output: Output,
  name: Name,
): Extract<Output, Readonly<Record<Name, unknown>>>[Name] {
  if (name in output) return (output as Extract<Output, Readonly<Record<Name, unknown>>>)[name];
  throw new KommanderError(
    `a ${type} was recorded with the output ${inspect(output)}, which has no ${name}. Record { ${name}: … }.`,
    { code: 'INVALID_ARGUMENT', details: { argument: 'output' } },
  );
}

/** `put x "1"`, `get x -> "1"`, `compareAndSet x "1" to "2" -> no`, `read -> ?`. */
function describe(
  input: CasRegisterInput | KeyValueInput | AppendListInput,
  output: CasRegisterOutput | AppendListOutput | undefined,
): string {
  const words: string[] = [input.type];
  if ('key' in input && input.key !== undefined) words.push(input.key);
  if ('expected' in input) words.push(`${textOf(input.expected)} to`);
  if ('value' in input) words.push(textOf(input.value));
  const answer = output === undefined ? '?' : answerOf(output);
  return answer === undefined ? words.join(' ') : `${words.join(' ')} -> ${answer}`;
}

function answerOf(output: CasRegisterOutput | AppendListOutput): string | undefined {
  if ('values' in output) return `[${output.values.map(textOf).join(', ')}]`;
  if ('value' in output) return textOf(output.value);
  if ('swapped' in output) return output.swapped ? 'yes' : 'no';
  return undefined;
}

function textOf(value: RegisterValue | undefined): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}
