// The search for an order in which one copy would have answered as the clients saw it: Wing and Gong 1993, with the
// memo of Lowe 2017. Operations are placed one after the other; one may be placed next when it was called before the
// first return of those that are not placed. When none fits, the last one is taken back. All of known outcome must find
// a place; those of unknown outcome may be left out, and are tried last.
//
// State is one struct, and a search can be run piece by piece. Nothing here looks at the time.

import { must } from '../../base/assert.ts';
import { type EventList, eventList, lift, putBack } from './event-list.ts';
import type { HistoryOperation, SequentialModel } from './history.ts';
import { type Configuration, type Memo, memoBytes, mix, openMemo, tryRemember } from './memo.ts';
import { numberOfState, type StateTable, stateTable } from './state-table.ts';
import { earlierTwins } from './twins.ts';

export interface Search<State, Input, Output> {
  readonly model: SequentialModel<State, Input, Output>;
  /** Those of known outcome first; both kinds in the order of their calls. */
  readonly operations: readonly HistoryOperation<Input, Output>[];
  /** How many have a known outcome. */
  readonly knownCount: number;
  /** For one of unknown outcome: the one with the same input that must be placed before it, or -1. */
  readonly earlierTwin: Int32Array;
  /** Events of the operations that are not placed. */
  readonly events: EventList;
  readonly states: StateTable<State>;
  readonly memo: Memo;
  /** What is placed now, and the state that it led to. */
  readonly now: Configuration;
  /** How many of known outcome are placed. */
  placedKnownCount: number;
  /** How many are placed; the first so many elements of the four arrays of the stack are in use. */
  depth: number;
  /** The operations that are placed, in their order. */
  readonly stack: Int32Array;
  /** By depth, from before the operation was placed: the state, `lastWord`, and the first return. */
  readonly stackStates: Int32Array;
  readonly stackLastWords: Int32Array;
  readonly stackFirstReturns: Int32Array;
  /** The node to try next. */
  cursor: number;
  /** The first return of those that are not placed, once the cursor has met it. */
  firstReturn: number;
  readonly furthest: Furthest;
  /** Steps of the model and comparisons of the memo so far. */
  work: number;
}

/**
 * The furthest that the search has come: everything that returned before `stuck` did was placed, and `stuck` never was.
 * Of several such orders the longest.
 */
interface Furthest {
  /** Operation; -1 before there is one. */
  stuck: number;
  /** Position of its return. */
  position: number;
  /** How many of known outcome were placed. */
  knownCount: number;
  /** How many were placed: so many elements of `order` are in use. */
  length: number;
  readonly order: Int32Array;
  /** As many elements of `order` and of the stack are the same. */
  sameCount: number;
}

export type SearchOutcome = 'linearizable' | 'illegal' | 'running';

/** Prepares a search; nothing is tried yet. */
export function openSearch<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
): Search<State, Input, Output> {
  const byCall = [...history].sort((a, b) => a.calledAt - b.calledAt);
  const known = byCall.filter(({ returnedAt }) => returnedAt !== undefined);
  const unknown = byCall.filter(({ returnedAt }) => returnedAt === undefined);
  const operations = [...known, ...unknown];
  const events = eventList(operations, known.length);
  const states = stateTable<State>(model);
  const array = () => new Int32Array(operations.length);
  const search: Search<State, Input, Output> = {
    ...{ model, operations, events, states },
    knownCount: known.length,
    earlierTwin: earlierTwins(operations, known.length),
    memo: openMemo(),
    now: {
      hash: 0,
      state: numberOfState(states, model.init()),
      known: new Uint32Array(Math.ceil(known.length / 32)),
      firstWord: 0,
      lastWord: -1,
      unknown: new Uint32Array(Math.ceil(unknown.length / 32)),
    },
    ...{ placedKnownCount: 0, depth: 0 },
    ...{ stack: array(), stackStates: array(), stackLastWords: array() },
    stackFirstReturns: array(),
    cursor: events.next[events.knownEnds] as number,
    firstReturn: -1,
    furthest: {
      ...{ stuck: -1, position: -1, knownCount: -1, length: 0, sameCount: 0 },
      order: array(),
    },
    work: 0,
  };
  tryRemember(search.memo, search.now);
  return search;
}

/** Goes on searching for about `workMax` more steps. */
export function runSearch<State, Input, Output>(
  search: Search<State, Input, Output>,
  workMax: number,
): SearchOutcome {
  const { memo } = search;
  const workEnd = search.work + workMax;
  while (search.work < workEnd) {
    if (search.placedKnownCount === search.knownCount) return 'linearizable';
    const comparedBefore = memo.comparedCount;
    if (!tryPlaceNext(search) && !tryTakeBack(search)) return 'illegal';
    search.work += memo.comparedCount - comparedBefore;
  }
  return 'running';
}

/** Bytes that a search keeps, about. */
export function searchBytes({ memo, states }: Search<unknown, unknown, unknown>): number {
  return memoBytes(memo) + states.bytes;
}

/** The most operations of known outcome that were placed at once. */
export function placedCountMax(search: Search<unknown, unknown, unknown>): number {
  return Math.max(search.placedKnownCount, search.furthest.knownCount);
}

/** After a search that found the history illegal: what could be placed, in order, and what could not. */
export function furthestOrder<State, Input, Output>({
  furthest,
  operations,
}: Search<State, Input, Output>): {
  readonly prefix: readonly HistoryOperation<Input, Output>[];
  readonly stuck: HistoryOperation<Input, Output>;
} {
  const operationAt = (at: number) => must(operations[at], 'a search places its operations');
  return {
    prefix: Array.from(furthest.order.subarray(0, furthest.length), operationAt),
    stuck: operationAt(furthest.stuck),
  };
}

/** Places the first operation from the cursor on that fits and leads somewhere new; false when there is none. */
function tryPlaceNext<State, Input, Output>(search: Search<State, Input, Output>): boolean {
  const { events } = search;
  const { next, position, returnOffset, unknownEnds } = events;
  for (;;) {
    const node = search.cursor;
    if (node >= returnOffset && node !== unknownEnds) {
      search.firstReturn = node;
      noteFurthest(search);
      search.cursor = next[unknownEnds] as number;
      continue;
    }
    if (node === unknownEnds) return false;
    const isUnknown = node >= search.knownCount;
    if (isUnknown && (position[node] as number) > (position[search.firstReturn] as number)) {
      return false;
    }
    if (tryPlace(search, node)) return true;
    search.cursor = next[node] as number;
  }
}

function tryPlace<State, Input, Output>(
  search: Search<State, Input, Output>,
  operation: number,
): boolean {
  const isUnknown = operation >= search.knownCount;
  if (isUnknown && !isTwinPlaced(search, operation)) return false;
  const state = stateAfter(search, operation);
  // One of unknown outcome that changes nothing can as well be left out.
  if (state < 0 || (isUnknown && state === search.now.state)) return false;
  push(search, operation, state);
  const isDone = search.placedKnownCount === search.knownCount;
  if (isDone || tryRemember(search.memo, search.now)) return true;
  pop(search);
  return false;
}

/** The number of the state after `operation`, or -1 when it does not fit. */
function stateAfter<State, Input, Output>(
  search: Search<State, Input, Output>,
  operation: number,
): number {
  const { model, operations, states, now } = search;
  const { input, output } = operations[operation] as HistoryOperation<Input, Output>;
  search.work += 1;
  const stepped = model.step(states.states[now.state] as State, input, output);
  return stepped === undefined ? -1 : numberOfState(states, stepped.state);
}

/** Equal operations of unknown outcome are placed in the order of their calls: any other order only repeats. */
function isTwinPlaced(search: Search<unknown, unknown, unknown>, operation: number): boolean {
  const twin = search.earlierTwin[operation - search.knownCount] as number;
  if (twin < 0) return true;
  const bit = twin - search.knownCount;
  return (((search.now.unknown[bit >>> 5] as number) >>> (bit & 31)) & 1) === 1;
}

function push(search: Search<unknown, unknown, unknown>, operation: number, state: number): void {
  const { now, events, depth } = search;
  search.stack[depth] = operation;
  search.stackStates[depth] = now.state;
  search.stackLastWords[depth] = now.lastWord;
  search.stackFirstReturns[depth] = search.firstReturn;
  search.depth = depth + 1;
  now.state = state;
  lift(events, operation);
  flip(search, operation);
  if (operation < search.knownCount) {
    search.placedKnownCount += 1;
    now.lastWord = Math.max(now.lastWord, operation >>> 5);
  }
  search.cursor = events.next[events.knownEnds] as number;
}

function pop(search: Search<unknown, unknown, unknown>): number {
  const { now, events } = search;
  const depth = search.depth - 1;
  const operation = search.stack[depth] as number;
  search.depth = depth;
  now.state = search.stackStates[depth] as number;
  now.lastWord = search.stackLastWords[depth] as number;
  search.firstReturn = search.stackFirstReturns[depth] as number;
  putBack(events, operation);
  flip(search, operation);
  if (operation < search.knownCount) search.placedKnownCount -= 1;
  if (search.furthest.sameCount > depth) search.furthest.sameCount = depth;
  return operation;
}

/** Adds an operation to the set of those that are placed, or takes it out. The events are up to date already. */
function flip(
  { now, events, knownCount }: Search<unknown, unknown, unknown>,
  operation: number,
): void {
  if (operation >= knownCount) {
    const bit = operation - knownCount;
    now.unknown[bit >>> 5] = (now.unknown[bit >>> 5] as number) ^ (1 << (bit & 31));
    return;
  }
  now.known[operation >>> 5] = (now.known[operation >>> 5] as number) ^ (1 << (operation & 31));
  now.hash ^= mix(operation + 1);
  // The first event is a call: no operation returns before it is called.
  now.firstWord = (events.next[events.knownEnds] as number) >>> 5;
}

/** Takes the last operation back and goes on behind it; false when none is placed. */
function tryTakeBack(search: Search<unknown, unknown, unknown>): boolean {
  if (search.depth === 0) return false;
  const operation = pop(search);
  search.cursor = search.events.next[operation] as number;
  return true;
}

/** The cursor has met the first return: what is placed now may be the most that can be. */
function noteFurthest(search: Search<unknown, unknown, unknown>): void {
  const { furthest, stack, depth, placedKnownCount, firstReturn } = search;
  const position = search.events.position[firstReturn] as number;
  if (position < furthest.position) return;
  if (position === furthest.position && placedKnownCount <= furthest.knownCount) return;
  furthest.stuck = firstReturn - search.events.returnOffset;
  furthest.position = position;
  furthest.knownCount = placedKnownCount;
  furthest.length = depth;
  // Only the part that changed, so that a long history does not cost its square.
  furthest.order.set(stack.subarray(furthest.sameCount, depth), furthest.sameCount);
  furthest.sameCount = depth;
}
