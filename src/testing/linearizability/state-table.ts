// The states that a search has met, each once and with a number, so that everything else compares numbers. Equal states
// share a number; the model says which ones are equal.

import { isDeepStrictEqual } from 'node:util';
import type { SequentialModel } from './history.ts';

/** Bytes that a state costs beside its hash, roughly. */
const stateOverheadBytes = 128;

export interface StateTable<State> {
  /** By number. */
  readonly states: State[];
  /** Another state with the same hash, or -1, by number. */
  readonly nextAlike: number[];
  readonly firstByHash: Map<string, number>;
  hash(state: State): string;
  equals(a: State, b: State): boolean;
  /** An estimate: a state is taken to be about as large as its hash. */
  bytes: number;
}

export function stateTable<State>(
  model: SequentialModel<State, unknown, unknown>,
): StateTable<State> {
  return {
    states: [],
    nextAlike: [],
    firstByHash: new Map(),
    hash: (state) => model.hash?.(state) ?? jsonHash(state),
    equals: equalityOf(model),
    bytes: 0,
  };
}

/** The number of `state`, which is kept when it is new. */
export function numberOfState<State>(table: StateTable<State>, state: State): number {
  const { states, nextAlike, firstByHash } = table;
  const hash = table.hash(state);
  const first = firstByHash.get(hash) ?? -1;
  for (let at = first; at >= 0; at = nextAlike[at] as number) {
    if (table.equals(states[at] as State, state)) return at;
  }
  const number = states.length;
  states.push(state);
  nextAlike.push(first);
  firstByHash.set(hash, number);
  // The hash and the state, two bytes a character.
  table.bytes += 4 * hash.length + stateOverheadBytes;
  return number;
}

function equalityOf<State>(
  model: SequentialModel<State, unknown, unknown>,
): (a: State, b: State) => boolean {
  if (model.equals !== undefined) return (a, b) => model.equals?.(a, b) ?? false;
  if (model.hash !== undefined) return () => true;
  // JSON shows different states alike: undefined fields, NaN, a Map.
  return (a, b) => Object.is(a, b) || isDeepStrictEqual(a, b);
}

function jsonHash(state: unknown): string {
  if (typeof state === 'bigint') return String(state);
  return JSON.stringify(state) ?? String(state);
}
