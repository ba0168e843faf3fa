// What is checked and against what: a history of operations that clients called, perhaps at the same time, and a
// sequential model that says what one copy of the object would do. Here also: which histories make no sense at all, and
// how one falls apart into independent ones, by key. A linearizable object is one that acts like one copy (Herlihy and
// Wing 1990); it is enough that the operations of every key do (their theorem of locality).

import { inspect } from 'node:util';
import { KommanderError } from '../../base/errors.ts';

/**
 * A sequential specification. States, inputs and outputs are plain data; nothing here may change the ones that it gets.
 */
export interface SequentialModel<State, Input, Output> {
  init(): State;
  /**
   * The state after the operation, or undefined when the output is not possible in `state`. `output` is undefined
   * when the outcome is unknown: whatever the machine would have answered is then fine.
   */
  step(
    state: State,
    input: Input,
    output: Output | undefined,
  ): { readonly state: State } | undefined;
  /** Whether two states are the same (default: whether their `hash` is; without one, whether they are deeply equal). */
  equals?(a: State, b: State): boolean;
  /**
   * A key that equal states share, for memoisation. By default `JSON.stringify` of the state: a state that it refuses
   * (cycles, bigints inside) needs a hash, and one that it shows badly (a Map, a Set) is faster with one.
   */
  hash?(state: State): string;
  /** Operations with different keys are independent and are checked apart (default: all belong together). */
  keyOf?(input: Input): string;
  /** For pictures and messages (default: `inspect` of input and output). */
  describe?(input: Input, output: Output | undefined): string;
  /** Makes the search faster where many operations are concurrent; see there. */
  readonly marks?: StateMarks<State, Input, Output>;
  /**
   * Makes the search faster: false when the operation with this output cannot come any more, whatever is done after
   * `state`. (A read of a list that is only ever appended to, when `state` is longer.)
   */
  canStillCome?(state: State, input: Input, output: Output): boolean;
}

/**
 * What a search may know of an object that every change leaves a mark on: a register's mark is its value, a list's the
 * last element. What changes nothing is placed wherever it fits first; an operation that needs a mark is lost when
 * another one replaced it and nothing is left to bring it back. A search that finds the marks at odds with `step`
 * throws.
 *
 * Of an operation of unknown outcome (`output` is undefined) these say when and how it has an effect.
 */
export interface StateMarks<State, Input, Output> {
  /** The mark that a state bears. */
  of(state: State): string;
  /** The only mark with which the operation is possible; undefined when there are several. */
  needs(input: Input, output: Output | undefined): string | undefined;
  /**
   * The only mark that the operation can give to a state that did not bear it. Undefined when it leaves every state as
   * it is.
   */
  makes(input: Input, output: Output | undefined): string | undefined;
  /**
   * The only mark with which the operation is not possible; undefined when there is none. Only for an object that is
   * nothing but its mark: an operation is then possible with the mark that it needs, or with all but the one that it
   * avoids, or with all; and gives always the same one. Spares a search the operations of unknown outcome whose mark
   * nobody asks for.
   */
  avoids?(input: Input, output: Output | undefined): string | undefined;
}

/** One operation of one client, as its caller saw it. */
export interface HistoryOperation<Input, Output> {
  /** Who called; a client's operations do not overlap. One of unknown outcome may stay open while others follow. */
  readonly client: string | number;
  readonly input: Input;
  /**
   * Undefined when the outcome is not known: it may have taken effect at any time after the call, or never. What is
   * known to be absent is therefore something else, for example `{ value: undefined }`.
   */
  readonly output: Output | undefined;
  /** Any monotone measure: position in an event order, or milliseconds. */
  readonly calledAt: number;
  /** In the same measure. Undefined exactly when the outcome is not known. */
  readonly returnedAt: number | undefined;
}

/** The operations of one key, in the order of the history. `key` is undefined when the model has no keys. */
export interface KeyHistory<Input, Output> {
  readonly key: string | undefined;
  readonly operations: readonly HistoryOperation<Input, Output>[];
}

/**
 * Refuses a history that no clients can have seen.
 *
 * @throws INVALID_ARGUMENT `details.argument` names the operation (`history[3]`)
 */
export function checkHistory<Input, Output>(
  history: readonly HistoryOperation<Input, Output>[],
): void {
  for (const [at, operation] of history.entries()) {
    const problem = problemOf(operation);
    if (problem !== undefined) throw malformed(at, operation, problem);
  }
  for (const positions of positionsByClient(history).values()) {
    let before: HistoryOperation<Input, Output> | undefined;
    for (const at of positions) {
      const operation = history[at] as HistoryOperation<Input, Output>;
      // One of unknown outcome may stay open for ever.
      if (before?.returnedAt !== undefined && operation.calledAt < before.returnedAt) {
        const text = `is called while the client's operation of ${before.calledAt} to ${before.returnedAt} is still open`;
        throw malformed(at, operation, text);
      }
      before = operation;
    }
  }
}

/** Groups a history by key, in the order in which the keys first appear. */
export function keyHistories<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
): readonly KeyHistory<Input, Output>[] {
  if (model.keyOf === undefined) return [{ key: undefined, operations: history }];
  const byKey = new Map<string, HistoryOperation<Input, Output>[]>();
  for (const operation of history) {
    const key = model.keyOf(operation.input);
    const operations = byKey.get(key);
    if (operations === undefined) byKey.set(key, [operation]);
    else operations.push(operation);
  }
  return [...byKey].map(([key, operations]) => ({ key, operations }));
}

/** An operation in words, on one line. */
export function describeOperation<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  { input, output }: HistoryOperation<Input, Output>,
): string {
  return model.describe?.(input, output) ?? describePlainly(input, output);
}

/** Whether the operation, with its output, is known to leave every state as it is. */
export function isReadOnly<State, Input, Output>(
  { marks }: SequentialModel<State, Input, Output>,
  { input, output }: HistoryOperation<Input, Output>,
): boolean {
  return marks !== undefined && marks.makes(input, output) === undefined;
}

function describePlainly(input: unknown, output: unknown): string {
  const options = { depth: 4, breakLength: Number.POSITIVE_INFINITY, compact: true } as const;
  return `${inspect(input, options)} -> ${output === undefined ? '?' : inspect(output, options)}`;
}

function problemOf(operation: HistoryOperation<unknown, unknown>): string | undefined {
  const { output, calledAt, returnedAt } = operation;
  if (!Number.isFinite(calledAt)) return `has the call time ${calledAt}, which is no finite number`;
  if (returnedAt === undefined) {
    if (output === undefined) return undefined;
    return 'has an output and never returned: give it both, or neither when its outcome is not known';
  }
  if (!Number.isFinite(returnedAt)) {
    return `has the return time ${returnedAt}, which is no finite number`;
  }
  if (output === undefined) {
    return 'returned and has no output: wrap an output that is absent, as in { value: undefined }';
  }
  if (returnedAt < calledAt) return `returned at ${returnedAt}, before it was called`;
  return undefined;
}

/** Positions in the history by client, in the order of call and return. */
function positionsByClient(
  history: readonly HistoryOperation<unknown, unknown>[],
): Map<string | number, number[]> {
  const byClient = new Map<string | number, number[]>();
  for (const [at, { client }] of history.entries()) {
    const positions = byClient.get(client);
    if (positions === undefined) byClient.set(client, [at]);
    else positions.push(at);
  }
  const operationAt = (at: number) => history[at] as HistoryOperation<unknown, unknown>;
  for (const positions of byClient.values()) {
    positions.sort((a, b) => compareTimes(operationAt(a), operationAt(b)) || a - b);
  }
  return byClient;
}

/** The order in which one client did two operations. It may go on at once after one of unknown outcome. */
export function compareTimes(
  a: HistoryOperation<unknown, unknown>,
  b: HistoryOperation<unknown, unknown>,
): number {
  return a.calledAt - b.calledAt || (a.returnedAt ?? a.calledAt) - (b.returnedAt ?? b.calledAt);
}

function malformed(
  at: number,
  operation: HistoryOperation<unknown, unknown>,
  problem: string,
): KommanderError {
  const { client, calledAt, returnedAt } = operation;
  return new KommanderError(
    `history[${at}], called by client ${client} at ${calledAt}, ${problem}. Record it as its caller saw it.`,
    {
      code: 'INVALID_ARGUMENT',
      details: { argument: `history[${at}]`, position: at, client, calledAt, returnedAt },
    },
  );
}
