// Where does a history that is not linearizable begin not to be? Cutting it off behind one return after the other, it is
// linearizable up to some return, and from the next one on it is not. That one is found by halving; each cut is searched
// apart, for what is called or returns later must not count.

import { must } from '../../base/assert.ts';
import type { HistoryOperation, SequentialModel } from './history.ts';
import { openSearch, placedOrder, type Search } from './search.ts';
import { operationsByReturn, taskOf } from './task.ts';

/** What can be placed, and what cannot. */
export interface NarrowedHistory<Input, Output> {
  readonly prefix: readonly HistoryOperation<Input, Output>[];
  readonly stuck: HistoryOperation<Input, Output>;
  readonly isNarrowed: boolean;
}

/**
 * @param search the one that found all of `history` illegal
 * @param tryRun runs a search to its end; undefined when its time or memory ended before
 */
export function narrow<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
  search: Search<State, Input, Output>,
  tryRun: (search: Search<State, Input, Output>) => boolean | undefined,
): NarrowedHistory<Input, Output> {
  /** Horizons: up to `legal` the history is linearizable, up to `illegal` it is not. */
  let legal = search.legalHorizon;
  let illegal = search.task.requiredCount;
  /** An order of everything up to the horizon `orderedTo`. */
  let prefix: readonly HistoryOperation<Input, Output>[] = [];
  let orderedTo = 0;
  // Most searches get stuck right there, so that is tried first.
  let horizon = legal + 1 < illegal ? legal + 1 : legal;
  while (orderedTo + 1 < illegal) {
    const cut = openSearch(taskOf(model, history, horizon));
    const isLegal = tryRun(cut);
    if (isLegal === undefined) break;
    if (isLegal) {
      legal = horizon;
      orderedTo = horizon;
      prefix = placedOrder(cut);
    } else {
      illegal = horizon;
      legal = Math.max(legal, cut.legalHorizon);
    }
    horizon = Math.floor((legal + illegal) / 2);
  }
  const stuck = must(operationsByReturn(history)[illegal - 1], 'a horizon is a number of returns');
  return { prefix, stuck, isNarrowed: orderedTo + 1 === illegal };
}
