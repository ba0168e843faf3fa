// A rule that a simulated run broke: which one, where, and what was expected. Thrown by whoever finds it; the run ends
// there and reports it.

import { inspect } from 'node:util';

/** A safety, liveness or user's rule does not hold. */
export class ViolationError extends Error {
  override readonly name = 'ViolationError';
  /** The rule in words, the same for all its violations. */
  readonly rule: string;
  /** The partition concerned, when there is one. */
  readonly partitionId: number | undefined;

  constructor(rule: string, what: string, partitionId?: number, cause?: unknown) {
    super(`${rule}: ${what}`, cause === undefined ? undefined : { cause });
    this.rule = rule;
    this.partitionId = partitionId;
  }
}

/** Calls what the user of a simulation wrote: what it throws is the user's to mend, and no fault of the cluster. */
export function callUsers<Value>(what: string, call: () => Value): Value {
  try {
    return call();
  } catch (error) {
    const why = error instanceof Error ? (error.stack ?? error.message) : inspect(error);
    throw new ViolationError(
      'The workload, the model and the invariant of a simulation throw nothing',
      `${what} threw ${why}`,
      undefined,
      error,
    );
  }
}
