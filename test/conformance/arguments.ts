// Typed access to a directive's arguments. What a file asks for and this harness does not know is an error: silently
// ignored arguments would let a scenario pass that was never played.

import type { ReplicaId } from '../../src/raft/types.ts';
import type { Argument, Directive } from './data-file.ts';

/** Thrown when a directive asks for something that the harness cannot do; it becomes the directive's output. */
export class DirectiveError extends Error {
  override readonly name = 'DirectiveError';
}

export function parseCount(text: string): number {
  if (!/^\d+$/.test(text)) throw new DirectiveError(`"${text}" is not a number`);
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new DirectiveError(`"${text}" is too large`);
  return value;
}

export function parseFlag(text: string): boolean {
  if (text === 'true') return true;
  if (text === 'false') return false;
  throw new DirectiveError(`"${text}" is neither true nor false`);
}

/** The one value of `key=value`. */
export function singleValue({ key, values }: Argument): string {
  const [value, ...others] = values;
  if (value === undefined || others.length > 0) throw new DirectiveError(`${key} takes one value`);
  return value;
}

/** Bare keys, which name replicas in most directives. */
export function bareNumbers(directive: Directive): number[] {
  return directive.args.filter((arg) => arg.values.length === 0).map(({ key }) => parseCount(key));
}

/** Arguments of the form `key=…`; every key must be one of `known`. */
export function keyedArguments(directive: Directive, known: readonly string[]): Argument[] {
  const keyed = directive.args.filter((arg) => arg.values.length > 0);
  for (const { key } of keyed) {
    if (!known.includes(key)) {
      throw new DirectiveError(`${directive.command} has no argument "${key}"`);
    }
  }
  return keyed;
}

/** Exactly `count` bare numbers and nothing else. */
export function onlyNumbers(directive: Directive, count: number): number[] {
  keyedArguments(directive, []);
  const numbers = bareNumbers(directive);
  if (numbers.length !== count) {
    throw new DirectiveError(
      `${directive.command} takes ${count} number(s), got ${numbers.length}`,
    );
  }
  return numbers;
}

/** The replica that a directive is about: its first bare number. */
export function firstReplica(directive: Directive): ReplicaId {
  const [first] = directive.args;
  if (first === undefined || first.values.length > 0) {
    throw new DirectiveError(`${directive.command} names no replica`);
  }
  return parseCount(first.key);
}
