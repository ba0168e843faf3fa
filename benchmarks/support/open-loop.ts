// A steady load: calls are due at fixed moments, whether earlier ones are answered or not, and a call's latency counts
// from the moment when it was due. So a stall of this process, or of the node, is seen by every call that fell into it.

import { setTimeout as pause } from 'node:timers/promises';
import { CallRecord } from './call-record.ts';

export interface SteadyLoad {
  readonly perSecond: number;
  /** Makes call `number` (0 …). What is refused at once is a failure: so the node bounds what is under way. */
  readonly call: (number: number) => Promise<unknown>;
}

export class OpenLoop {
  readonly record: CallRecord = new CallRecord();
  readonly #load: SteadyLoad;
  readonly #underWay: Set<Promise<void>> = new Set();
  readonly #driving: Promise<void>;
  #isStopped = false;

  constructor(load: SteadyLoad) {
    this.#load = load;
    this.#driving = this.#drive();
  }

  /** Resolves when the last call is answered. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#driving;
    await Promise.all(this.#underWay);
  }

  async #drive(): Promise<void> {
    const perMs = this.#load.perSecond / 1_000;
    const startedMs = performance.now();
    for (let number = 0; !this.#isStopped; ) {
      const dueCount = Math.floor((performance.now() - startedMs) * perMs);
      for (; number < dueCount; number++) this.#begin(number, startedMs + number / perMs);
      await pause(1);
    }
  }

  #begin(number: number, dueMs: number): void {
    const call = this.#load
      .call(number)
      .then(
        () => this.record.noteAnswer(dueMs),
        (error: unknown) => this.record.noteFailure(error),
      )
      .finally(() => this.#underWay.delete(call));
    this.#underWay.add(call);
  }
}
