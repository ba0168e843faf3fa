// Calls and returns of one key's operations as two doubly linked lists in the order of their times: one of the calls
// and returns of those whose outcome is known, one of the calls of the others, which never return. An operation that
// was placed is lifted out and can be put back where it was. Calls stand before returns of the same time, so that
// operations that touch count as concurrent.

import { assert } from '../../base/assert.ts';
import type { HistoryOperation } from './history.ts';

/** Nodes are numbers: the call of operation i is i, its return `returnOffset + i`. Two more begin and end the lists. */
export interface EventList {
  readonly next: Int32Array;
  readonly previous: Int32Array;
  /** Where the node stands among all events. */
  readonly position: Int32Array;
  readonly returnOffset: number;
  /** The list of known outcomes begins and ends here. */
  readonly knownEnds: number;
  /** The list of unknown outcomes begins and ends here. */
  readonly unknownEnds: number;
}

/** @param operations those of known outcome first, `knownCount` of them */
export function eventList(
  operations: readonly HistoryOperation<unknown, unknown>[],
  knownCount: number,
): EventList {
  const returnOffset = operations.length;
  const eventCount = returnOffset + knownCount;
  const list: EventList = {
    next: new Int32Array(eventCount + 2),
    previous: new Int32Array(eventCount + 2),
    position: new Int32Array(eventCount),
    returnOffset,
    knownEnds: eventCount,
    unknownEnds: eventCount + 1,
  };
  for (const ends of [list.knownEnds, list.unknownEnds]) {
    list.next[ends] = ends;
    list.previous[ends] = ends;
  }
  for (const [position, node] of sortedNodes(operations, knownCount).entries()) {
    list.position[node] = position;
    const isUnknown = node >= knownCount && node < returnOffset;
    append(list, node, isUnknown ? list.unknownEnds : list.knownEnds);
  }
  return list;
}

/** Takes out the call of an operation, and its return if it has one. */
export function lift(list: EventList, operation: number): void {
  unlink(list, operation);
  const returnNode = list.returnOffset + operation;
  if (returnNode < list.knownEnds) unlink(list, returnNode);
}

/** Undoes the last `lift` that is not undone. */
export function putBack(list: EventList, operation: number): void {
  const returnNode = list.returnOffset + operation;
  if (returnNode < list.knownEnds) relink(list, returnNode);
  relink(list, operation);
}

function sortedNodes(
  operations: readonly HistoryOperation<unknown, unknown>[],
  knownCount: number,
): number[] {
  const callCount = operations.length;
  const times: number[] = operations.map(({ calledAt }) => calledAt);
  for (const { returnedAt } of operations.slice(0, knownCount)) {
    assert(returnedAt !== undefined, 'operations of known outcome come first');
    times.push(returnedAt);
  }
  const timeOf = (node: number) => times[node] as number;
  // Every call has a smaller number than every return.
  return Array.from({ length: callCount + knownCount }, (_, node) => node).sort(
    (a, b) => timeOf(a) - timeOf(b) || a - b,
  );
}

function append(list: EventList, node: number, ends: number): void {
  const last = list.previous[ends] as number;
  list.next[last] = node;
  list.previous[node] = last;
  list.next[node] = ends;
  list.previous[ends] = node;
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
