// Operations of unknown outcome with the same input are interchangeable: only their calls bound them, so the one that
// was called first can stand wherever another does. A search needs to try them in one order only, which keeps many lost
// increments from being many times many orders.

import { isDeepStrictEqual } from 'node:util';
import type { HistoryOperation } from './history.ts';

/** Different inputs that are told apart; more of them are each taken for unique, which is right and only slower. */
const distinctInputsMax = 512;

/**
 * For every operation from `start` on, which are those of unknown outcome in the order of their calls: the last one
 * before it with the same input, or -1.
 */
export function earlierTwins(
  operations: readonly HistoryOperation<unknown, unknown>[],
  start: number,
): Int32Array {
  const twins = new Int32Array(operations.length - start).fill(-1);
  /** The last operation with each input. */
  const lastOnes: number[] = [];
  for (let at = start; at < operations.length; at++) {
    const input = operations[at]?.input;
    const found = lastOnes.findIndex((last) => isDeepStrictEqual(operations[last]?.input, input));
    if (found >= 0) {
      twins[at - start] = lastOnes[found] as number;
      lastOnes[found] = at;
    } else if (lastOnes.length < distinctInputsMax) {
      lastOnes.push(at);
    }
  }
  return twins;
}
