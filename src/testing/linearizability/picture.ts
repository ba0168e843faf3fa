// Where everything stands in a picture of a history: a row for every client, columns in the order of calls and returns.
// What stands left of something else returned before that was called; what overlaps was concurrent. Columns are as wide
// as the words need, so they are no measure of time.

import { must } from '../../base/assert.ts';
import type { LinearizabilityResult } from './check.ts';
import {
  compareTimes,
  describeOperation,
  type HistoryOperation,
  type SequentialModel,
} from './history.ts';

/** What a picture may show beside the operations. */
export interface PictureOptions<Input, Output> {
  /** What the check said: of an illegal history only the key that is wrong is shown. */
  readonly result?: LinearizabilityResult<Input, Output>;
}

/** One operation in a picture. */
export interface PictureInterval<Input, Output> {
  readonly operation: HistoryOperation<Input, Output>;
  /** `placed`: it has a number in the longest linearizable prefix; `stuck`: it cannot follow. */
  readonly standing: 'placed' | 'stuck' | 'other';
  readonly label: string;
  /** First and last column, inclusive. */
  readonly start: number;
  readonly end: number;
}

export interface PictureRow<Input, Output> {
  readonly client: string;
  readonly intervals: readonly PictureInterval<Input, Output>[];
}

/** An operation's columns while they are found. */
interface Draft<Input, Output> {
  readonly operation: HistoryOperation<Input, Output>;
  readonly standing: PictureInterval<Input, Output>['standing'];
  readonly label: string;
  start: number;
  end: number;
}

interface PictureEvent<Input, Output> {
  readonly draft: Draft<Input, Output>;
  /** Of the client. */
  readonly row: number;
  readonly isReturn: boolean;
  readonly time: number;
  /** Counts the operations that a client does at one time. */
  readonly round: number;
}

/** Columns that stand around a label: `|-` and `-|`, or `|-` and `...`. */
const frameColumns = 4;
const openFrameColumns = 5;

/** Lays out `operations`, in rows by client in the order in which clients first call. */
export function pictureRows<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  operations: readonly HistoryOperation<Input, Output>[],
  { result }: PictureOptions<Input, Output>,
): readonly PictureRow<Input, Output>[] {
  const prefix = result?.verdict === 'illegal' ? result.prefix : [];
  const stuck = result?.verdict === 'illegal' ? result.stuck : undefined;
  const places = new Map(prefix.map((operation, at) => [operation, at + 1]));
  const rows = new Map<string | number, Draft<Input, Output>[]>();
  for (const operation of [...operations].sort(compareTimes)) {
    const { client } = operation;
    const drafts = rows.get(client) ?? [];
    rows.set(client, drafts);
    const place = places.get(operation);
    const text = printable(describeOperation(model, operation));
    drafts.push({
      ...{ operation, start: 0, end: 0 },
      standing: operation === stuck ? 'stuck' : place === undefined ? 'other' : 'placed',
      label: operation === stuck ? `!! ${text}` : place === undefined ? text : `${place} ${text}`,
    });
  }
  placeColumns([...rows.values()]);
  return [...rows].map(([client, intervals]) => ({ client: String(client), intervals }));
}

/** The operations that a picture of `history` is about, and a heading. */
export function pictureSubject<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
  result: LinearizabilityResult<Input, Output> | undefined,
): { readonly operations: readonly HistoryOperation<Input, Output>[]; readonly heading: string } {
  switch (result?.verdict) {
    case 'illegal': {
      const what = printable(describeOperation(model, result.stuck));
      const where = `${keyInWords(result.key)}${what} of client ${result.stuck.client}`;
      const also = result.isNarrowed ? '' : ', or something before it';
      return {
        operations: result.operations,
        heading: `not linearizable: ${where} cannot be placed${also}`,
      };
    }
    case 'unknown': {
      const { key, reason, placedCount, operationCount } = result;
      const limit = reason === 'timeLimit' ? 'time' : 'memory';
      const done = `${placedCount} of ${operationCount} operations were placed`;
      return {
        operations: history,
        heading: `not decided: ${keyInWords(key)}out of ${limit}, ${done}`,
      };
    }
    case 'linearizable':
      return { operations: history, heading: 'linearizable' };
    case undefined:
      return { operations: history, heading: 'history' };
  }
}

function keyInWords(key: string | undefined): string {
  return key === undefined ? '' : `key ${printable(key)}, `;
}

/** On one line. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => JSON.stringify(character).slice(1, -1));
}

function placeColumns<Input, Output>(rows: readonly (readonly Draft<Input, Output>[])[]): void {
  const events = rows.flatMap(eventsOfClient).sort(compareEvents);
  const freeFrom = rows.map(() => 0);
  let column = 0;
  let wasReturn = false;
  for (const { draft, row, isReturn } of events) {
    // Calls share a column, and so do returns; a call stands strictly right of a return before it.
    if (isReturn !== wasReturn) column += 1;
    wasReturn = isReturn;
    if (isReturn) {
      column = Math.max(column, draft.start + draft.label.length + frameColumns - 1);
      draft.end = column;
    } else {
      column = Math.max(column, must(freeFrom[row], 'every row has a place'));
      draft.start = column;
      draft.end = column + draft.label.length + openFrameColumns - 1;
    }
    freeFrom[row] = draft.end + 1;
  }
}

/** Calls and returns of one client in their order. */
function eventsOfClient<Input, Output>(
  drafts: readonly Draft<Input, Output>[],
  row: number,
): PictureEvent<Input, Output>[] {
  const events: PictureEvent<Input, Output>[] = [];
  for (const draft of drafts) {
    const { calledAt, returnedAt } = draft.operation;
    const last = events.at(-1);
    const round = last?.time === calledAt ? last.round + 1 : 0;
    events.push({ draft, row, isReturn: false, time: calledAt, round });
    if (returnedAt === undefined) continue;
    const returnRound = returnedAt === calledAt ? round : 0;
    events.push({ draft, row, isReturn: true, time: returnedAt, round: returnRound });
  }
  return events;
}

function compareEvents(
  a: PictureEvent<unknown, unknown>,
  b: PictureEvent<unknown, unknown>,
): number {
  return (
    a.time - b.time || a.round - b.round || Number(a.isReturn) - Number(b.isReturn) || a.row - b.row
  );
}
