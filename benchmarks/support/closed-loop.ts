// The load: callers inside the node's own process, as a service that embeds the library has them. Each begins its next
// call as soon as the last one is answered, so that a fixed number is under way at any time.

import { setTimeout as pause } from 'node:timers/promises';
import type { KommanderNode, PartitionId } from '../../src/index.ts';
import { CallRecord } from './call-record.ts';
import type { LoadRequest } from './node-requests.ts';

/** Milliseconds before a caller goes on after a failure, so that an outage does not become a busy loop. */
const failurePauseMs = 20;

export class ClosedLoop {
  readonly record: CallRecord = new CallRecord();
  readonly #node: KommanderNode;
  readonly #load: LoadRequest;
  readonly #data: Uint8Array;
  readonly #callers: readonly Promise<void>[];
  #isStopped = false;

  constructor(node: KommanderNode, load: LoadRequest) {
    this.#node = node;
    this.#load = load;
    this.#data = Uint8Array.from({ length: load.bytes }, (_, at) => (at * 31) & 0xff);
    this.#callers = Array.from({ length: load.inFlight }, (_, at) => this.#callOn(at));
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
        this.record.noteFailure(error);
        await pause(failurePauseMs);
        continue;
      }
      this.record.noteAnswer(startedMs);
    }
  }

  #call(partitionId: PartitionId): Promise<unknown> {
    const { operation, mayForward: forward } = this.#load;
    return operation === 'write'
      ? this.#node.replicate(partitionId, 'bench', this.#data, { forward })
      : this.#node.read(partitionId, { forward });
  }
}
