// Walking over the rows of a SQLite store past what SQLite refuses to read. A damaged page of a table hides its rows and
// ends every walk that comes to it; in the table of runs, the first row from which reading works again is searched for.

import type { DatabaseSync } from 'node:sqlite';
import { sqliteError } from './sqlite-store.ts';

/** Integers are `bigint`: a damaged one may be any. */
export type SqliteRow = Readonly<Record<string, unknown>>;

/** `gap`: rows may be unreadable at this place; `what` is what SQLite says. */
export type SqliteStep =
  | { readonly kind: 'row'; readonly row: SqliteRow }
  | { readonly kind: 'gap'; readonly what: string };

/** The database, and the directory that messages name. */
export interface SqliteSource {
  readonly path: string;
  readonly database: DatabaseSync;
}

/**
 * All rows that a query gives, up to the first gap.
 *
 * @throws WAL_FAILED
 */
export function* stepsOf(
  { path, database }: SqliteSource,
  sql: string,
  ...values: readonly number[]
): Generator<SqliteStep, void, undefined> {
  try {
    const statement = database.prepare(sql);
    statement.setReadBigInts(true);
    for (const row of statement.iterate(...values)) yield { kind: 'row', row };
  } catch (cause) {
    const error = sqliteError(path, cause);
    if (error.code !== 'WAL_CORRUPT') throw error;
    yield { kind: 'gap', what: cause instanceof Error ? cause.message : String(cause) };
  }
}

/** Number and partition of every run that can be found, in their order, with the gaps between them. */
export function* runSteps(source: SqliteSource): Generator<SqliteStep, void, undefined> {
  const sql = 'SELECT id, partition_id FROM runs WHERE id >= ? ORDER BY id';
  let from: number | undefined = 0;
  while (from !== undefined) {
    let nextId: number = from;
    let isCut = false;
    for (const step of stepsOf(source, sql, nextId)) {
      yield step;
      if (step.kind === 'row') nextId = Number(step.row.id) + 1;
      else isCut = true;
    }
    from = isCut ? nextReadable(source, nextId) : undefined;
  }
}

/** The first number behind `from` from which rows can be read, or from which there is none; undefined: nowhere. */
function nextReadable(source: SqliteSource, from: number): number | undefined {
  const sql = 'SELECT id FROM runs WHERE id >= ? ORDER BY id LIMIT 1';
  const isReadable = (id: number): boolean => {
    for (const { kind } of stepsOf(source, sql, id)) if (kind === 'gap') return false;
    return true;
  };
  // A damaged number may be larger than numbers are exact.
  if (from >= Number.MAX_SAFE_INTEGER) return undefined;
  let low = from;
  let high = from + 1;
  while (!isReadable(high)) {
    low = high;
    high = from + (high - from) * 2;
    if (high > Number.MAX_SAFE_INTEGER) return undefined;
  }
  while (high - low > 1) {
    const middle = low + Math.floor((high - low) / 2);
    if (isReadable(middle)) high = middle;
    else low = middle;
  }
  return high;
}
