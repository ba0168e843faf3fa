// What became of the calls of a load: how many were answered, how long they took, and which failed.

import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { isKommanderError } from '../../src/index.ts';
import type { Latencies } from './node-requests.ts';

const levels = 1_000;

export class CallRecord {
  completedCount = 0;
  readonly failures: Map<string, number> = new Map();
  #latencies: RecordableHistogram = createHistogram();

  noteAnswer(sinceMs: number): void {
    const nanos = Math.round((performance.now() - sinceMs) * 1e6);
    this.#latencies.record(Math.max(1, nanos));
    this.completedCount += 1;
  }

  /** Rethrows what is no answer of the node's. */
  noteFailure(error: unknown): void {
    if (!isKommanderError(error)) throw error;
    this.failures.set(error.code, (this.failures.get(error.code) ?? 0) + 1);
  }

  /** Takes the latencies since the last time. */
  takeLatencies(): Latencies {
    const latencies = this.#latencies;
    this.#latencies = createHistogram();
    const { count } = latencies;
    const perMilleNanos =
      count === 0
        ? []
        : Array.from({ length: levels }, (_, at) =>
            latencies.percentile(((at + 1) * 100) / levels),
          );
    return { count, perMilleNanos };
  }
}
