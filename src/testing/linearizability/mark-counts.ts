// Who still needs a mark, and who can still bring it: see `StateMarks`. A configuration is hopeless when an operation
// that must be placed needs a mark that the state does not bear and that no operation is left to make.

import { KommanderError } from '../../base/errors.ts';
import type { StateMarks } from './history.ts';
import type { StateTable } from './state-table.ts';
import type { Task } from './task.ts';

/** Marks are numbers here. -1: none. */
export interface MarkCounts<State> {
  /** How many of the operations must be placed; they come first. */
  readonly requiredCount: number;
  /** By operation. */
  readonly needs: Int32Array;
  readonly makes: Int32Array;
  readonly avoids: Int32Array;
  /** By mark: required operations that are not placed and need it. */
  readonly neededCount: number[];
  /** By mark: optional operations that are not placed and need it. */
  readonly wantedCount: number[];
  /** By mark: optional operations that are not placed and avoid it. */
  readonly avoidedCount: number[];
  /** By mark: operations that are not placed and make it. */
  readonly makerCount: number[];
  readonly numbers: Map<string, number>;
  readonly marks: StateMarks<State, unknown, unknown>;
  /** By number of a state. */
  readonly ofState: number[];
}

/** Undefined when the model does not speak of marks. */
export function markCounts<State, Input, Output>(
  task: Task<State, Input, Output>,
): MarkCounts<State> | undefined {
  const { model, operations, requiredCount } = task;
  const { marks } = model;
  if (marks === undefined) return undefined;
  const counts: MarkCounts<State> = {
    requiredCount,
    needs: new Int32Array(operations.length),
    makes: new Int32Array(operations.length),
    avoids: new Int32Array(operations.length),
    ...{ neededCount: [], wantedCount: [], avoidedCount: [], makerCount: [] },
    ...{ numbers: new Map(), marks, ofState: [] },
  };
  for (const [at, { input, output }] of operations.entries()) {
    counts.needs[at] = numberOf(counts, marks.needs(input, output));
    counts.makes[at] = numberOf(counts, marks.makes(input, output));
    counts.avoids[at] = numberOf(counts, marks.avoids?.(input, output));
    add(counts, at, 1);
  }
  return counts;
}

/** The mark of the state with the number `state`. */
export function markOfState<State>(
  counts: MarkCounts<State>,
  state: number,
  { states }: StateTable<State>,
): number {
  counts.ofState[state] ??= numberOf(counts, counts.marks.of(states[state] as State));
  return counts.ofState[state];
}

/** Takes an operation that was placed out of the counts. */
export function place(counts: MarkCounts<unknown>, operation: number): void {
  add(counts, operation, -1);
}

/** Undoes `place`. */
export function takeBack(counts: MarkCounts<unknown>, operation: number): void {
  add(counts, operation, 1);
}

/** Whether a mark that is still needed cannot come at all, from a state with the mark `present`. */
export function isHopelessFrom(counts: MarkCounts<unknown>, present: number): boolean {
  return counts.neededCount.some((_, mark) => mark !== present && isLost(counts, mark));
}

/** The same just after `operation` led from a state with the mark `before` to one with the mark `present`. */
export function isHopelessAfter(
  counts: MarkCounts<unknown>,
  operation: number,
  marks: { readonly before: number; readonly present: number },
): boolean {
  const { before, present } = marks;
  const made = counts.makes[operation] as number;
  if (present !== before && present !== made) {
    throw marksError(
      'an operation led to a mark that it does not make and that was not there before',
    );
  }
  const needed = counts.needs[operation] as number;
  if (needed >= 0 && needed !== before) {
    throw marksError('an operation was possible without the mark that it needs');
  }
  if (before !== present && isLost(counts, before)) return true;
  return made >= 0 && made !== present && isLost(counts, made);
}

/** For a model that says one thing in `marks` and does another in `step`. */
export function marksError(what: string): KommanderError {
  return new KommanderError(`The model's marks do not agree with its steps: ${what}. Mend them.`, {
    code: 'INVALID_ARGUMENT',
    details: { argument: 'model.marks' },
  });
}

function isLost({ neededCount, makerCount }: MarkCounts<unknown>, mark: number): boolean {
  return (neededCount[mark] as number) > 0 && makerCount[mark] === 0;
}

function add(counts: MarkCounts<unknown>, operation: number, by: number): void {
  if (operation < counts.requiredCount) {
    addTo(counts.neededCount, counts.needs[operation] as number, by);
  } else {
    addTo(counts.wantedCount, counts.needs[operation] as number, by);
    addTo(counts.avoidedCount, counts.avoids[operation] as number, by);
  }
  addTo(counts.makerCount, counts.makes[operation] as number, by);
}

function addTo(byMark: number[], mark: number, by: number): void {
  if (mark >= 0) byMark[mark] = (byMark[mark] as number) + by;
}

function numberOf(counts: MarkCounts<unknown>, mark: string | undefined): number {
  if (mark === undefined) return -1;
  const { numbers } = counts;
  let number = numbers.get(mark);
  if (number === undefined) {
    number = numbers.size;
    numbers.set(mark, number);
    const { neededCount, wantedCount, avoidedCount, makerCount } = counts;
    for (const each of [neededCount, wantedCount, avoidedCount, makerCount]) each.push(0);
  }
  return number;
}
