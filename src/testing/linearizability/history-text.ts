// A history as text, for a terminal or a failing test's message: a row for every client, an interval for every
// operation. Of a long history only the part around what is wrong.

import type { HistoryOperation, SequentialModel } from './history.ts';
import {
  type PictureInterval,
  type PictureOptions,
  pictureRows,
  pictureSubject,
} from './picture.ts';

export interface HistoryTextOptions<Input, Output> extends PictureOptions<Input, Output> {
  /** Operations that are shown, 1 or more (default 24): the last ones before the one that cannot be placed. */
  readonly operationsMax?: number;
}

/**
 * Draws `history`. With the result of a check that found it illegal: the wrong key alone, numbers in the order of the
 * longest linearizable prefix, and `!!` at the operation that cannot be placed. An interval that ends in `...` has an
 * unknown outcome. Columns are no measure of time.
 *
 * @returns lines without one at the end that is empty
 */
export function historyText<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
  options: HistoryTextOptions<Input, Output> = {},
): string {
  const { result, operationsMax = 24 } = options;
  const { operations, heading } = pictureSubject(model, history, result);
  const stuck = result?.verdict === 'illegal' ? result.stuck : undefined;
  const shown = aroundStuck(operations, stuck, operationsMax);
  const rows = pictureRows(model, shown, options);
  const nameColumns = Math.max(0, ...rows.map(({ client }) => client.length));
  const lines = rows.map(
    ({ client, intervals }) => `${client.padEnd(nameColumns)}  ${lineOf(intervals)}`,
  );
  const leftOut = operations.length - shown.length;
  if (leftOut > 0) lines.push('', `${leftOut} more operations, before or after, are not shown`);
  return [heading, '', ...lines].join('\n');
}

/** What was called before the stuck one returned, the last ones of these; without one, the first ones of the history. */
function aroundStuck<Input, Output>(
  operations: readonly HistoryOperation<Input, Output>[],
  stuck: HistoryOperation<Input, Output> | undefined,
  operationsMax: number,
): readonly HistoryOperation<Input, Output>[] {
  const byCall = [...operations].sort((a, b) => a.calledAt - b.calledAt);
  if (stuck === undefined) return byCall.slice(0, operationsMax);
  const endOf = ({ calledAt, returnedAt = calledAt }: HistoryOperation<Input, Output>) =>
    returnedAt;
  return byCall
    .filter((operation) => operation !== stuck && operation.calledAt <= endOf(stuck))
    .sort((a, b) => endOf(b) - endOf(a))
    .slice(0, operationsMax - 1)
    .concat(stuck);
}

function lineOf(intervals: readonly PictureInterval<unknown, unknown>[]): string {
  let line = '';
  for (const { start, end, label, standing, operation } of intervals) {
    line = line.padEnd(start);
    const fill = standing === 'stuck' ? '=' : '-';
    if (operation.returnedAt === undefined) line += `|${fill}${label}...`;
    else line += `|${fill}${label}`.padEnd(end - start, fill).concat('|');
  }
  return line;
}
