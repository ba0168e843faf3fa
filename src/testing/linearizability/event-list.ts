// Calls and returns of the operations of a search that are not placed, as doubly linked lists in the order of their
// times: the returns of required operations, and the calls of those that change nothing, of those that do, and of
// optional ones. An operation that was placed is lifted out and can be put back where it was. Calls stand before returns
// of the same time, so that operations that touch count as concurrent.

import { must } from '../../base/assert.ts';
import type { Task } from './task.ts';

/** What an operation is to a search, in the order in which they are tried. */
export const Kind = { readOnly: 0, changing: 1, optional: 2 } as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** Nodes are numbers: the call of operation i is i, its return `returnOffset + i`. Each list has one more, its ends. */
export interface EventList {
  readonly next: Int32Array;
  readonly previous: Int32Array;
  /** Where the node stands among all events; ends stand behind them all. */
  readonly position: Int32Array;
  readonly returnOffset: number;
  readonly returnEnds: number;
  /** By kind. */
  readonly callEnds: readonly [number, number, number];
}

export function eventList(task: Task<unknown, unknown, unknown>): EventList {
  const returnOffset = task.operations.length;
  const returnEnds = returnOffset + task.requiredCount;
  const nodeCount = returnEnds + 4;
  const list: EventList = {
    next: Int32Array.from({ length: nodeCount }, (_, node) => node),
    previous: Int32Array.from({ length: nodeCount }, (_, node) => node),
    position: new Int32Array(nodeCount).fill(returnEnds),
    ...{ returnOffset, returnEnds },
    callEnds: [returnEnds + 1, returnEnds + 2, returnEnds + 3],
  };
  for (const [position, node] of sortedNodes(task).entries()) {
    list.position[node] = position;
    const ends = node >= returnOffset ? returnEnds : list.callEnds[kindOf(task, node)];
    insertBefore(list, ends, node);
  }
  return list;
}

export function kindOf(task: Task<unknown, unknown, unknown>, operation: number): Kind {
  if (operation >= task.requiredCount) return Kind.optional;
  return task.isReadOnly[operation] === 1 ? Kind.readOnly : Kind.changing;
}

/** Takes out the call of an operation, and its return if that counts. */
export function lift(list: EventList, operation: number): void {
  unlink(list, operation);
  const returnNode = list.returnOffset + operation;
  if (returnNode < list.returnEnds) unlink(list, returnNode);
}

/** Undoes the last `lift` that is not undone. */
export function putBack(list: EventList, operation: number): void {
  const returnNode = list.returnOffset + operation;
  if (returnNode < list.returnEnds) relink(list, returnNode);
  relink(list, operation);
}

/** The first operation of a kind, or the ends of its list. */
export function firstCall({ next, callEnds }: EventList, kind: Kind): number {
  return next[callEnds[kind]] as number;
}

/** The first return, or the ends of the list. */
export function firstReturn({ next, returnEnds }: EventList): number {
  return next[returnEnds] as number;
}

function sortedNodes({ operations, requiredCount }: Task<unknown, unknown, unknown>): number[] {
  const times = operations.map(({ calledAt }) => calledAt);
  for (const { returnedAt } of operations.slice(0, requiredCount)) {
    times.push(must(returnedAt, 'a required operation returned'));
  }
  const timeOf = (node: number) => times[node] as number;
  // Every call has a smaller number than every return.
  return [...times.keys()].sort((a, b) => timeOf(a) - timeOf(b) || a - b);
}

function insertBefore({ next, previous }: EventList, node: number, inserted: number): void {
  const before = previous[node] as number;
  next[before] = inserted;
  previous[inserted] = before;
  next[inserted] = node;
  previous[node] = inserted;
}

function unlink({ next, previous }: EventList, node: number): void {
  next[previous[node] as number] = next[node] as number;
  previous[next[node] as number] = previous[node] as number;
}

/** A lifted node remembers its neighbours. */
function relink({ next, previous }: EventList, node: number): void {
  next[previous[node] as number] = node;
  previous[next[node] as number] = node;
}
