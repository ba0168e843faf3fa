// Linearizability by trying every order, for histories of a few operations: the definition written down, to compare the
// checker with. Nothing is remembered, nothing is pruned. Also models that do not help a search to prune.

import type {
  HistoryOperation,
  SequentialModel,
} from '../../src/testing/linearizability/history.ts';

/** The same specification without anything that makes a search faster. */
export function withoutHints<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
): SequentialModel<State, Input, Output> {
  return {
    init: () => model.init(),
    step: (state, input, output) => model.step(state, input, output),
    keyOf: (input) => model.keyOf?.(input) ?? '',
  };
}

/**
 * Whether the operations that returned at `until` or before can be put in an order, with any of the others between
 * them, in which the model answers as they say. One must come before another when it returned before that one's call.
 */
export function isLinearizable<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
  until: number = Number.POSITIVE_INFINITY,
): boolean {
  const returnOf = ({ returnedAt }: HistoryOperation<Input, Output>) =>
    returnedAt ?? Number.POSITIVE_INFINITY;
  const isRequired = ({ returnedAt }: HistoryOperation<Input, Output>) =>
    returnedAt !== undefined && returnedAt <= until;

  function canPlace(state: State, rest: readonly HistoryOperation<Input, Output>[]): boolean {
    if (!rest.some(isRequired)) return true;
    return rest.some((next) => {
      if (rest.some((other) => returnOf(other) < next.calledAt)) return false;
      const stepped = model.step(state, next.input, next.output);
      if (stepped === undefined) return false;
      return canPlace(
        stepped.state,
        rest.filter((other) => other !== next),
      );
    });
  }

  return canPlace(model.init(), history);
}

/** Whether `order` is one in which the model answers as they say, and in which nobody comes before one that returned. */
export function isLinearization<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  order: readonly HistoryOperation<Input, Output>[],
): boolean {
  let state = model.init();
  for (const [at, { input, output, returnedAt = Number.POSITIVE_INFINITY }] of order.entries()) {
    if (order.slice(0, at).some((before) => returnedAt < before.calledAt)) return false;
    const stepped = model.step(state, input, output);
    if (stepped === undefined) return false;
    state = stepped.state;
  }
  return true;
}
