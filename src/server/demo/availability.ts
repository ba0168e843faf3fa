// How long a partition could not be written. Measured from outside, by its users: the longest time between two
// acknowledged writes of one partition while writers were trying all the time. It is an upper bound of the time
// without a leader, and what a user of the cluster feels.

export class Availability {
  readonly #lastMs = new Map<number, number>();
  #longestMs = 0;

  /** Begins to measure: every partition is available now. */
  constructor(partitions: Iterable<number>, nowMs: number) {
    for (const partition of partitions) this.#lastMs.set(partition, nowMs);
  }

  get partitionCount(): number {
    return this.#lastMs.size;
  }

  /** A write of the partition was acknowledged. */
  acknowledged(partition: number, nowMs: number): void {
    const lastMs = this.#lastMs.get(partition);
    if (lastMs === undefined) return;
    if (nowMs - lastMs > this.#longestMs) this.#longestMs = nowMs - lastMs;
    this.#lastMs.set(partition, nowMs);
  }

  /** The longest gap so far, gaps that have not ended included, in milliseconds. */
  longestMs(nowMs: number): number {
    let longestMs = this.#longestMs;
    for (const lastMs of this.#lastMs.values()) longestMs = Math.max(longestMs, nowMs - lastMs);
    return longestMs;
  }
}
