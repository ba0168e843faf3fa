// The search for an order in which one copy would have answered as the clients saw it: Wing and Gong 1993, with the
// memo of Lowe 2017. Operations are placed one after the other; one may be placed next when it was called before the
// first return of those that must be and are not. When none fits, the last one is taken back.
//
// At every step first what changes nothing (where it fits it can stay, no other place is better), then what changes the
// state, last what may be left out. State is one struct, and a search can be run piece by piece. Nothing here looks at
// the time.

import { assert, must } from '../../base/assert.ts';
import {
  type EventList,
  eventList,
  firstCall,
  firstReturn,
  Kind,
  kindOf,
  lift,
  putBack,
} from './event-list.ts';
import type { HistoryOperation } from './history.ts';
import {
  isHopelessAfter,
  isHopelessFrom,
  type MarkCounts,
  markCounts,
  markOfState,
  marksError,
  place,
  takeBack,
} from './mark-counts.ts';
import { type Configuration, type Memo, memoBytes, mix, openMemo, tryRemember } from './memo.ts';
import { numberOfState, type StateTable, stateTable } from './state-table.ts';
import type { Task } from './task.ts';

export interface Search<State, Input, Output> {
  readonly task: Task<State, Input, Output>;
  /** Events of the operations that are not placed. */
  readonly events: EventList;
  readonly states: StateTable<State>;
  readonly marks: MarkCounts<State> | undefined;
  readonly memo: Memo;
  /** What is placed now, and the state that it led to. */
  readonly now: Configuration;
  /** How many of the required operations are placed. */
  placedRequiredCount: number;
  /** How many are placed; the first so many elements of the three arrays of the stack are in use. */
  depth: number;
  /** The operations that are placed, in their order. */
  readonly stack: Int32Array;
  /** By depth, from before the operation was placed: the state, and `lastWord`. */
  readonly stackStates: Int32Array;
  readonly stackLastWords: Int32Array;
  /** The kind of operations that is tried now; undefined when it is decided that no order goes on from here. */
  kind: Kind | undefined;
  /** The operation to try next, or the ends of the list. */
  cursor: number;
  /** Everything that returns before the return of this rank could be placed: the horizon is at least so far. */
  legalHorizon: number;
  /** The most required operations that were placed at once. */
  placedCountMax: number;
  /** Operations that were looked at and records of the memo that were compared, so far. */
  work: number;
}

export type SearchOutcome = 'linearizable' | 'illegal' | 'running';

/** How many operations of each required kind are asked whether they can still come. */
const operationsAskedMax = 16;

/** Prepares a search; nothing is tried yet. */
export function openSearch<State, Input, Output>(
  task: Task<State, Input, Output>,
): Search<State, Input, Output> {
  const { model, operations, requiredCount } = task;
  const events = eventList(task);
  const states = stateTable<State>(model);
  const state = numberOfState(states, model.init());
  const marks = markCounts(task);
  const array = () => new Int32Array(operations.length);
  const search: Search<State, Input, Output> = {
    ...{ task, events, states, marks, memo: openMemo() },
    now: {
      ...{ hash: 0, state, firstWord: 0, lastWord: -1 },
      required: new Uint32Array(Math.ceil(requiredCount / 32)),
      optional: new Uint32Array(Math.ceil((operations.length - requiredCount) / 32)),
    },
    ...{ placedRequiredCount: 0, depth: 0 },
    ...{ stack: array(), stackStates: array(), stackLastWords: array() },
    ...{ kind: Kind.readOnly, cursor: firstCall(events, Kind.readOnly) },
    ...{ legalHorizon: 0, placedCountMax: 0, work: 0 },
  };
  tryRemember(search.memo, search.now);
  if (marks !== undefined && isHopelessFrom(marks, markOfState(marks, state, states))) {
    search.kind = undefined;
  }
  return search;
}

/** Goes on searching for about `workMax` more steps. */
export function runSearch<State, Input, Output>(
  search: Search<State, Input, Output>,
  workMax: number,
): SearchOutcome {
  const { memo, task } = search;
  const workEnd = search.work + workMax;
  while (search.work < workEnd) {
    if (search.placedRequiredCount === task.requiredCount) return 'linearizable';
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

/** The operations that are placed, in their order. */
export function placedOrder<State, Input, Output>({
  task,
  stack,
  depth,
}: Search<State, Input, Output>): readonly HistoryOperation<Input, Output>[] {
  const operationAt = (at: number) => must(task.operations[at], 'a search places its operations');
  return Array.from(stack.subarray(0, depth), operationAt);
}

/** Places the first operation from the cursor on that fits and leads somewhere new; false when there is none. */
function tryPlaceNext<State, Input, Output>(search: Search<State, Input, Output>): boolean {
  const { events } = search;
  const { next, position } = events;
  const returnNode = firstReturn(events);
  const returnPosition = position[returnNode] as number;
  while (search.kind !== undefined) {
    const operation = search.cursor;
    // The ends of a list stand behind all.
    if ((position[operation] as number) > returnPosition) {
      if (search.kind === Kind.optional) break;
      search.kind = search.kind === Kind.readOnly ? Kind.changing : Kind.optional;
      search.cursor = firstCall(events, search.kind);
      continue;
    }
    if (tryPlace(search, operation)) return true;
    search.cursor = next[operation] as number;
  }
  const rank = search.task.returnRank[returnNode - events.returnOffset] as number;
  search.legalHorizon = Math.max(search.legalHorizon, rank);
  return false;
}

/** Places `operation` if it fits and leads somewhere new. */
function tryPlace<State, Input, Output>(
  search: Search<State, Input, Output>,
  operation: number,
): boolean {
  const { task, now } = search;
  search.work += 1;
  const isOptional = operation >= task.requiredCount;
  if (isOptional && !isWorthTrying(search, operation)) return false;
  const state = stateAfter(search, operation);
  // An optional one that changes nothing can as well be left out.
  if (state < 0 || (isOptional && state === now.state)) return false;
  const before = now.state;
  push(search, operation, state);
  if (search.placedRequiredCount === task.requiredCount) return true;
  if (!isHopeless(search, operation, before) && tryRemember(search.memo, now)) return true;
  pop(search);
  if (search.kind === Kind.readOnly) search.kind = undefined;
  return false;
}

/** The number of the state after `operation`, or -1 when it does not fit. */
function stateAfter<State, Input, Output>(
  search: Search<State, Input, Output>,
  operation: number,
): number {
  const { task, states, now } = search;
  const { input, output } = task.operations[operation] as HistoryOperation<Input, Output>;
  const stepped = task.model.step(states.states[now.state] as State, input, output);
  return stepped === undefined ? -1 : numberOfState(states, stepped.state);
}

/** Whether `operation`, just placed in the state `before`, has made it impossible to place another one. */
function isHopeless<State, Input, Output>(
  search: Search<State, Input, Output>,
  operation: number,
  before: number,
): boolean {
  const { task, states, marks, now } = search;
  const isUnchanged = now.state === before;
  if (!isUnchanged && task.isReadOnly[operation] === 1) {
    throw marksError('an operation makes no mark and changed the state');
  }
  if (marks !== undefined) {
    const change = {
      before: markOfState(marks, before, states),
      present: markOfState(marks, now.state, states),
    };
    if (isHopelessAfter(marks, operation, change)) return true;
  }
  return !isUnchanged && task.model.canStillCome !== undefined && !canOthersCome(search);
}

/** Asks the model of the next operations. */
function canOthersCome<State, Input, Output>(search: Search<State, Input, Output>): boolean {
  const { task, events, states, now } = search;
  const state = states.states[now.state] as State;
  for (const kind of [Kind.readOnly, Kind.changing]) {
    let operation = firstCall(events, kind);
    for (let i = 0; i < operationsAskedMax && operation !== events.callEnds[kind]; i++) {
      const { input, output } = task.operations[operation] as HistoryOperation<Input, Output>;
      assert(output !== undefined, 'a required operation has an output');
      if (task.model.canStillCome?.(state, input, output) === false) return false;
      operation = events.next[operation] as number;
    }
  }
  return true;
}

/** Equal optional operations are placed in the order of their calls, and only where somebody asks for their mark. */
function isWorthTrying(search: Search<unknown, unknown, unknown>, operation: number): boolean {
  const { task, now, marks } = search;
  const twin = task.earlierTwin[operation - task.requiredCount] as number;
  if (twin >= 0) {
    const bit = twin - task.requiredCount;
    if ((((now.optional[bit >>> 5] as number) >>> (bit & 31)) & 1) === 0) return false;
  }
  return marks?.marks.avoids === undefined || isAskedFor(search, marks, operation);
}

/**
 * Whether to place an optional operation now can lead to anything that leaving it out cannot, for an object that is
 * nothing but its mark. What fits without it and changes nothing is placed already. So what comes next either needs the
 * new mark, or avoids the present one, or it hides the new mark from all that follow.
 */
function isAskedFor<State>(
  { events, now, states }: Search<State, unknown, unknown>,
  marks: MarkCounts<State>,
  operation: number,
): boolean {
  const { next, position } = events;
  const { needs, avoids } = marks;
  const made = marks.makes[operation] as number;
  const present = markOfState(marks, now.state, states);
  const endPosition = position[firstReturn(events)] as number;
  const isAnyAsking = (kind: Kind): boolean => {
    let other = firstCall(events, kind);
    while ((position[other] as number) < endPosition) {
      const isAsking = needs[other] === made || avoids[other] === present;
      if (isAsking && other !== operation) return true;
      other = next[other] as number;
    }
    return false;
  };
  if (isAnyAsking(Kind.readOnly) || isAnyAsking(Kind.changing)) return true;
  // There may be many of them.
  const isWanted =
    (marks.wantedCount[made] as number) > 0 || (marks.avoidedCount[present] as number) > 0;
  return isWanted && isAnyAsking(Kind.optional);
}

function push(search: Search<unknown, unknown, unknown>, operation: number, state: number): void {
  const { now, events, marks, depth } = search;
  search.stack[depth] = operation;
  search.stackStates[depth] = now.state;
  search.stackLastWords[depth] = now.lastWord;
  search.depth = depth + 1;
  now.state = state;
  lift(events, operation);
  flip(search, operation);
  if (marks !== undefined) place(marks, operation);
  if (operation < search.task.requiredCount) {
    search.placedRequiredCount += 1;
    search.placedCountMax = Math.max(search.placedCountMax, search.placedRequiredCount);
    now.lastWord = Math.max(now.lastWord, operation >>> 5);
  }
  search.kind = Kind.readOnly;
  search.cursor = firstCall(events, Kind.readOnly);
}

/** Takes the last operation back; the search stands where it was when it tried it. */
function pop(search: Search<unknown, unknown, unknown>): number {
  const { now, events, marks, task } = search;
  const depth = search.depth - 1;
  const operation = search.stack[depth] as number;
  search.depth = depth;
  now.state = search.stackStates[depth] as number;
  now.lastWord = search.stackLastWords[depth] as number;
  putBack(events, operation);
  flip(search, operation);
  if (marks !== undefined) takeBack(marks, operation);
  if (operation < task.requiredCount) search.placedRequiredCount -= 1;
  search.kind = kindOf(task, operation);
  search.cursor = operation;
  return operation;
}

/** Adds an operation to the set of those that are placed, or takes it out. The events are up to date already. */
function flip({ now, events, task }: Search<unknown, unknown, unknown>, operation: number): void {
  if (operation >= task.requiredCount) {
    const bit = operation - task.requiredCount;
    now.optional[bit >>> 5] = (now.optional[bit >>> 5] as number) ^ (1 << (bit & 31));
    return;
  }
  const word = operation >>> 5;
  now.required[word] = (now.required[word] as number) ^ (1 << (operation & 31));
  now.hash ^= mix(operation + 1);
  const first = Math.min(firstCall(events, Kind.readOnly), firstCall(events, Kind.changing));
  now.firstWord = first >>> 5;
}

/** Takes back what was placed last and could stand elsewhere, and goes on behind it; false when there is nothing. */
function tryTakeBack(search: Search<unknown, unknown, unknown>): boolean {
  while (search.depth > 0) {
    const operation = pop(search);
    if (search.kind === Kind.readOnly) continue;
    search.cursor = search.events.next[operation] as number;
    return true;
  }
  return false;
}
