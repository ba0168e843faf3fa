// Assertions state the rules of this program; they are on in production. A broken one is a bug of ours, never bad
// input: bad input gets a typed `KommanderError` (errors.ts).

/** Thrown when a rule of the program itself is broken. The replica that meets it stops instead of diverging. */
class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/**
 * Checks a rule.
 *
 * @param rule the rule in words, stated positively
 * @throws AssertionError when `condition` is false
 */
export function assert(condition: boolean, rule: string): asserts condition {
  if (!condition) throw new AssertionError(`broken rule: ${rule}`);
}

/**
 * Returns `value`, which cannot be absent here.
 *
 * @param why why the value is there, in words
 */
export function must<T>(value: T | undefined, why: string): T {
  if (value === undefined) throw new AssertionError(`broken rule: ${why}`);
  return value;
}

/** Ends a switch over a closed union: the compiler proves that no case is missing. */
export function unreachable(value: never): never {
  throw new AssertionError(`broken rule: every case is handled (got ${JSON.stringify(value)})`);
}
