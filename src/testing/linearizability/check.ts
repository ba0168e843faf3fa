// Is a history linearizable? Every key is searched apart, a piece at a time and in turn, so that one that is hard to
// decide does not keep an easy one from being found wrong. Time and memory are bounded: what is not decided within
// them is unknown, never guessed.

import { must } from '../../base/assert.ts';
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
import { narrow } from './narrow.ts';
import { openSearch, runSearch, type Search, searchBytes } from './search.ts';
import { operationsByReturn, taskOf } from './task.ts';

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
   * The longest part of the key's history that is linearizable, up to just before the return of `stuck`: everything
   * that returned by then and some of what was under way, in an order in which one copy would have answered the same.
   */
  readonly prefix: readonly HistoryOperation<Input, Output>[];
  /**
   * The operation that cannot be placed: cut off just behind its return, the key's history is not linearizable. What
   * went wrong happened here or before.
   */
  readonly stuck: HistoryOperation<Input, Output>;
  /**
   * False when time or memory ended while the place was looked for: `stuck` is then not the first operation that cannot
   * be placed, and `prefix` ends somewhere before.
   */
  readonly isNarrowed: boolean;
  /** All operations of that key, in the order of the history. */
  readonly operations: readonly HistoryOperation<Input, Output>[];
}

/** Steps of a search between two looks at the clock. Small, for a model's step may take long. */
const stepsPerPiece = 256;

/** When to give up. */
interface Bounds {
  readonly clock: Clock;
  /** On the clock. */
  readonly endMs: number;
  readonly memoBytesMax: number;
}

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
  const bounds = boundsOf(options);
  const { clock, endMs, memoBytesMax } = bounds;
  checkHistory(history);
  const keys = keyHistories(model, history).map(openKey<State, Input, Output>);
  let bytes = 0;
  for (let open = keys; open.length > 0; open = keys.filter(isOpen)) {
    for (const key of open) {
      if (clock.monotonicMs() >= endMs) return undecided(keys, 'timeLimit');
      key.search ??= openSearch(taskOf(model, key.operations, knownCountOf(key.operations)));
      const outcome = runSearch(key.search, stepsPerPiece);
      if (outcome === 'illegal') return illegal(model, key, key.search, bounds);
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

function boundsOf(options: LinearizabilityOptions): Bounds {
  const { clock = systemClock } = options;
  const timeLimitMs = checkedBound('timeLimitMs', options.timeLimitMs ?? 10_000);
  const memoBytesMax = checkedBound('memoBytesMax', options.memoBytesMax ?? 268_435_456);
  return { clock, endMs: clock.monotonicMs() + timeLimitMs, memoBytesMax };
}

function checkedBound(option: keyof LinearizabilityOptions, value: number): number {
  if (value >= 0) return value;
  throw new KommanderError(`${option} is ${value}. Give a number that is not negative.`, {
    code: 'INVALID_ARGUMENT',
    details: { argument: option },
  });
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
  standing: 'linearizable' | UndecidedHistory['reason'],
): number {
  const { bytes } = key;
  key.standing = standing;
  key.placedCount = key.search?.placedCountMax ?? 0;
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
  const { key, placedCount, operations, standing } = must(first, 'a key is not decided');
  return {
    verdict: 'unknown',
    reason: standing === 'memoLimit' ? 'memoLimit' : 'timeLimit',
    ...{ key, placedCount },
    operationCount: knownCountOf(operations),
    undecidedKeyCount: 1 + others.length,
  };
}

function illegal<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  { key, operations }: KeyCheck<State, Input, Output>,
  search: Search<State, Input, Output>,
  bounds: Bounds,
): IllegalHistory<Input, Output> {
  const tryRun = (cut: Search<State, Input, Output>) => tryRunToEnd(cut, bounds);
  return { verdict: 'illegal', key, ...narrow(model, operations, search, tryRun), operations };
}

/** Whether it is linearizable; undefined when a bound was reached. */
function tryRunToEnd(
  search: Search<unknown, unknown, unknown>,
  { clock, endMs, memoBytesMax }: Bounds,
): boolean | undefined {
  while (clock.monotonicMs() < endMs && searchBytes(search) <= memoBytesMax) {
    const outcome = runSearch(search, stepsPerPiece);
    if (outcome !== 'running') return outcome === 'linearizable';
  }
  return undefined;
}

function knownCountOf(operations: readonly HistoryOperation<unknown, unknown>[]): number {
  return operationsByReturn(operations).length;
}
