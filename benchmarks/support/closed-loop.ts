// The load: callers inside the node's own process, as a service that embeds the library has them. Each begins its next
// call as soon as the last one is answered, so that a fixed number is under way at any time.

import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { isKommanderError, type KommanderNode, type PartitionId } from '../../src/index.ts';
import type { Latencies, LoadRequest } from './node-requests.ts';

/** Milliseconds before a caller goes on after a failure, so that an outage does not become a busy loop. */
const failurePauseMs = 20;
const levels = 1_000;

export class ClosedLoop {
  completedCount = 0;
  readonly failures: Map<string, number> = new Map();
  readonly #node: KommanderNode;
  readonly #load: LoadRequest;
  readonly #data: Uint8Array;
  readonly #callers: readonly Promise<void>[];
  #latencies: RecordableHistogram = createHistogram();
  #isStopped = false;

  constructor(node: KommanderNode, load: LoadRequest) {
    this.#node = node;
    this.#load = load;
    this.#data = Uint8Array.from({ length: load.bytes }, (_, at) => (at * 31) & 0xff);
    this.#callers = Array.from({ length: load.inFlight }, (_, at) => this.#callOn(at));
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

  /** Resolves when the last call is answered. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#callers);
  }

  async #callOn(caller: number): Promise<void> {
    const { partitionIds } = this.#load;
    for (let turn = caller; !this.#isStopped; turn++) {
      const partitionId = partitionIds[turn % partitionIds.length] as PartitionId;
      const startedMs = performance.now();
      try {
        await this.#call(partitionId);
      } catch (error) {
        this.#noteFailure(error);
        await pause(failurePauseMs);
        continue;
      }
      const nanos = Math.round((performance.now() - startedMs) * 1e6);
      this.#latencies.record(Math.max(1, nanos));
      this.completedCount += 1;
    }
  }

  #call(partitionId: PartitionId): Promise<unknown> {
    const { operation, mayForward: forward } = this.#load;
    return operation === 'write'
      ? this.#node.replicate(partitionId, 'bench', this.#data, { forward })
      : this.#node.read(partitionId, { forward });
  }

  #noteFailure(error: unknown): void {
    if (!isKommanderError(error)) throw error;
    this.failures.set(error.code, (this.failures.get(error.code) ?? 0) + 1);
  }
}
