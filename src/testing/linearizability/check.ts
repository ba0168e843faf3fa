// Is a history linearizable? Every key is searched apart, a piece at a time and in turn, so that one that is hard to
// decide does not keep an easy one from being found wrong. Time and memory are bounded: what is not decided within
// them is unknown, never guessed.

import { assert } from '../../base/assert.ts';
import { KommanderError } from '../../base/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { systemClock } from '../../time/system-clock.ts';
import {
  checkHistory,
  type HistoryOperation,
  type KeyHistory,
  keyHistories,
  type SequentialModel,
} from './history.ts';
import {
  furthestOrder,
  openSearch,
  placedCountMax,
  runSearch,
  type Search,
  searchBytes,
} from './search.ts';

/** Bounds of a check. */
export interface LinearizabilityOptions {
  /** Milliseconds for the whole history, 0 or more (default 10,000). */
  readonly timeLimitMs?: number;
  /** Bytes, about, for what was tried already, 0 or more (default 268,435,456; the states of the model count by estimate). */
  readonly memoBytesMax?: number;
  /** Measures the time (default: the machine's). */
  readonly clock?: Clock;
}

/** What is known of a history. */
export type LinearizabilityResult<Input, Output> =
  | { readonly verdict: 'linearizable' }
  | UndecidedHistory
  | IllegalHistory<Input, Output>;

/** The bounds were reached before there was an answer: the history may be linearizable or not. */
export interface UndecidedHistory {
  readonly verdict: 'unknown';
  readonly reason: 'timeLimit' | 'memoLimit';
  /** The key that is not decided, the first one in the history if there are several; undefined for a model without keys. */
  readonly key: string | undefined;
  /** How many of the key's operations of known outcome could be placed so far, at most. */
  readonly placedCount: number;
  /** How many of the key's operations have a known outcome. */
  readonly operationCount: number;
  /** How many keys are not decided; the others are linearizable. */
  readonly undecidedKeyCount: number;
}

/** No order exists in which one copy would have answered as the clients saw it. */
export interface IllegalHistory<Input, Output> {
  readonly verdict: 'illegal';
  /** Undefined for a model without keys. */
  readonly key: string | undefined;
  /**
   * The longest order that can be made of everything that returned before `stuck` did and of some that was under way,
   * as one copy would have carried it out.
   */
  readonly prefix: readonly HistoryOperation<Input, Output>[];
  /**
   * The operation that cannot be placed. Cut off just before its return the history is linearizable, just behind it is
   * not; so what is wrong happened here or before.
   */
  readonly stuck: HistoryOperation<Input, Output>;
  /** All operations of that key, in the order of the history. */
  readonly operations: readonly HistoryOperation<Input, Output>[];
}

/** Steps of a search between two looks at the clock. Small, for a model's step may take long. */
const stepsPerPiece = 256;

/** What has become of a key. */
interface KeyCheck<State, Input, Output> extends KeyHistory<Input, Output> {
  standing: 'open' | 'linearizable' | UndecidedHistory['reason'];
  /** From the first piece on until it is over: then its memory is free. */
  search: Search<State, Input, Output> | undefined;
  /** What the search holds. */
  bytes: number;
  placedCount: number;
}

/**
 * Decides whether `history` is linearizable: whether every operation can be given one instant between its call and its
 * return, such that one copy of the object, doing them in the order of these instants, would have answered the same.
 * Operations of which one returns when the other is called count as concurrent. What throws in the model is thrown.
 *
 * @throws INVALID_ARGUMENT the history makes no sense (`details.argument` names the operation), or an option does not
 */
export function checkLinearizability<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
  options: LinearizabilityOptions = {},
): LinearizabilityResult<Input, Output> {
  const { clock = systemClock } = options;
  const endMs = clock.monotonicMs() + checkedBound('timeLimitMs', options.timeLimitMs ?? 10_000);
  const memoBytesMax = checkedBound('memoBytesMax', options.memoBytesMax ?? 268_435_456);
  checkHistory(history);
  const keys = keyHistories(model, history).map(openKey<State, Input, Output>);
  let bytes = 0;
  for (let open = keys; open.length > 0; open = keys.filter(isOpen)) {
    for (const key of open) {
      if (clock.monotonicMs() >= endMs) return undecided(keys, 'timeLimit');
      key.search ??= openSearch(model, key.operations);
      const outcome = runSearch(key.search, stepsPerPiece);
      if (outcome === 'illegal') return illegal(key, key.search);
      const bytesBefore = key.bytes;
      key.bytes = searchBytes(key.search);
      bytes += key.bytes - bytesBefore;
      if (outcome === 'linearizable') bytes -= close(key, 'linearizable');
      else if (bytes > memoBytesMax) bytes -= close(key, 'memoLimit');
    }
  }
  return keys.every(({ standing }) => standing === 'linearizable')
    ? { verdict: 'linearizable' }
    : undecided(keys, 'memoLimit');
}

function openKey<State, Input, Output>(
  history: KeyHistory<Input, Output>,
): KeyCheck<State, Input, Output> {
  return { ...history, standing: 'open', search: undefined, bytes: 0, placedCount: 0 };
}

function isOpen({ standing }: KeyCheck<unknown, unknown, unknown>): boolean {
  return standing === 'open';
}

/** @returns the bytes that are free now */
function close(
  key: KeyCheck<unknown, unknown, unknown>,
  standing: 'linearizable' | 'memoLimit' | 'timeLimit',
): number {
  const { bytes } = key;
  key.standing = standing;
  key.placedCount = key.search === undefined ? 0 : placedCountMax(key.search);
  key.search = undefined;
  key.bytes = 0;
  return bytes;
}

/** @param reason of those that are still open */
function undecided(
  keys: readonly KeyCheck<unknown, unknown, unknown>[],
  reason: UndecidedHistory['reason'],
): UndecidedHistory {
  for (const key of keys.filter(isOpen)) close(key, reason);
  const [first, ...others] = keys.filter(({ standing }) => standing !== 'linearizable');
  assert(first !== undefined, 'a key is not decided');
  const { key, placedCount, operations, standing } = first;
  return {
    verdict: 'unknown',
    reason: standing === 'memoLimit' ? 'memoLimit' : 'timeLimit',
    ...{ key, placedCount },
    operationCount: operations.filter(({ returnedAt }) => returnedAt !== undefined).length,
    undecidedKeyCount: 1 + others.length,
  };
}

function illegal<State, Input, Output>(
  { key, operations }: KeyCheck<State, Input, Output>,
  search: Search<State, Input, Output>,
): IllegalHistory<Input, Output> {
  return { verdict: 'illegal', key, ...furthestOrder(search), operations };
}

function checkedBound(option: keyof LinearizabilityOptions, value: number): number {
  if (value >= 0) return value;
  throw new KommanderError(`${option} is ${value}. Give a number that is not negative.`, {
    code: 'INVALID_ARGUMENT',
    details: { argument: option },
  });
}
