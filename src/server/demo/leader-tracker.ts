// Who leads which partition, from what nodes say about themselves, and how often that changed. Of several nodes that
// claim a partition the one with the highest term is believed (an old leader may not know yet).

export class LeaderTracker {
  readonly #leaders = new Map<number, { readonly term: number; readonly leader: string }>();
  #changeCount = 0;

  /** Times that a partition got another leader; its first one does not count. */
  get changeCount(): number {
    return this.#changeCount;
  }

  /** `leader` says of itself that it leads the partition in `term`. */
  observe(partition: number, term: number, leader: string): void {
    const known = this.#leaders.get(partition);
    if (known !== undefined && term <= known.term) return;
    if (known !== undefined && known.leader !== leader) this.#changeCount += 1;
    this.#leaders.set(partition, { term, leader });
  }

  /** Partitions that `leader` leads, ascending. */
  ledBy(leader: string): readonly number[] {
    return [...this.#leaders]
      .filter(([, each]) => each.leader === leader)
      .map(([partition]) => partition)
      .sort((one, other) => one - other);
  }
}
