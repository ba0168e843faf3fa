// What a search has to place: of one key's operations those that return up to a horizon. The horizon is a number of
// returns; the whole history has as many as it has operations of known outcome. Operations that were called by then
// and return later, or never, may be placed or left out.

import { isDeepStrictEqual } from 'node:util';
import { type HistoryOperation, isReadOnly, type SequentialModel } from './history.ts';

export interface Task<State, Input, Output> {
  readonly model: SequentialModel<State, Input, Output>;
  /** The required ones first, then the optional ones; both in the order of their calls. */
  readonly operations: readonly HistoryOperation<Input, Output>[];
  /** How many of them must be placed. */
  readonly requiredCount: number;
  /** By required operation: how many of the others return before it. */
  readonly returnRank: Int32Array;
  /** By operation: 1 when it leaves every state as it is. */
  readonly isReadOnly: Uint8Array;
  /** By optional operation: an equal one that must be placed before it, or -1. */
  readonly earlierTwin: Int32Array;
}

/** Different operations that are told apart; more of them are each taken for unique, which is right and only slower. */
const distinctOperationsMax = 512;

/** @param horizon 0 … the number of operations of known outcome */
export function taskOf<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
  horizon: number,
): Task<State, Input, Output> {
  const byCall = operationsByCall(history);
  const byReturn = operationsByReturn(history).slice(0, horizon);
  const rankOf = new Map(byReturn.map((operation, rank) => [operation, rank]));
  const endsAt = byReturn.at(-1)?.returnedAt ?? Number.NEGATIVE_INFINITY;
  const required = byCall.filter((operation) => rankOf.has(operation));
  // Without an effect and not asked for, a read is of no use.
  const optional = byCall.filter(
    (operation) =>
      !rankOf.has(operation) && operation.calledAt <= endsAt && !isReadOnly(model, operation),
  );
  const operations = [...required, ...optional];
  return {
    ...{ model, operations },
    requiredCount: required.length,
    returnRank: Int32Array.from(required, (operation) => rankOf.get(operation) ?? 0),
    isReadOnly: Uint8Array.from(operations, (each) => (isReadOnly(model, each) ? 1 : 0)),
    earlierTwin: earlierTwins(optional, required.length),
  };
}

/** The operations of known outcome, in the order of their returns, those of one time in the order of their calls. */
export function operationsByReturn<Input, Output>(
  history: readonly HistoryOperation<Input, Output>[],
): readonly HistoryOperation<Input, Output>[] {
  const returnOf = ({ returnedAt = 0 }: HistoryOperation<Input, Output>) => returnedAt;
  return operationsByCall(history)
    .filter(({ returnedAt }) => returnedAt !== undefined)
    .sort((a, b) => returnOf(a) - returnOf(b));
}

function operationsByCall<Input, Output>(
  history: readonly HistoryOperation<Input, Output>[],
): HistoryOperation<Input, Output>[] {
  return [...history].sort((a, b) => a.calledAt - b.calledAt);
}

/**
 * Of each optional operation, the last equal one before it. Only their calls bound them, so the one that was called
 * first can stand wherever another does: a search tries them in one order, which keeps many lost increments from being
 * many times many orders.
 */
function earlierTwins(
  optional: readonly HistoryOperation<unknown, unknown>[],
  offset: number,
): Int32Array {
  const twins = new Int32Array(optional.length).fill(-1);
  /** The last one of each kind. */
  const lastOnes: number[] = [];
  for (const [at, { input, output }] of optional.entries()) {
    const kind = lastOnes.findIndex((last) => {
      const other = optional[last];
      return isDeepStrictEqual(other?.input, input) && isDeepStrictEqual(other?.output, output);
    });
    if (kind >= 0) {
      twins[at] = (lastOnes[kind] as number) + offset;
      lastOnes[kind] = at;
    } else if (lastOnes.length < distinctOperationsMax) {
      lastOnes.push(at);
    }
  }
  return twins;
}
