// A rule that a simulated run broke: which one, where, and what was expected. Thrown by whoever finds it; the run ends
// there and reports it.

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
