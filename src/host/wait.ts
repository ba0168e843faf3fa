// A caller that waits: settled exactly once, by success, failure, abort or deadline. Deadlines are swept by the node's
// own timer, so that a wait costs no timer of its own; an expired wait is settled within one tick.

import { KommanderError } from '../base/errors.ts';

export interface WaitLimits {
  /** On the monotonic clock. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
}

export class Wait<Result> {
  readonly deadlineMs: number;
  isSettled = false;
  readonly #resolve: (result: Result) => void;
  readonly #reject: (error: Error) => void;
  readonly #signal: AbortSignal | undefined;

  constructor(
    resolve: (result: Result) => void,
    reject: (error: Error) => void,
    limits: WaitLimits,
  ) {
    this.#resolve = resolve;
    this.#reject = reject;
    this.deadlineMs = limits.deadlineMs;
    this.#signal = limits.signal;
    this.#signal?.addEventListener('abort', this.#onAbort);
    if (this.#signal?.aborted === true) this.#onAbort();
  }

  succeed(result: Result): void {
    if (this.isSettled) return;
    this.#settle();
    this.#resolve(result);
  }

  fail(error: Error): void {
    if (this.isSettled) return;
    this.#settle();
    this.#reject(error);
  }

  #settle(): void {
    this.isSettled = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }

  readonly #onAbort = (): void => {
    this.fail(
      new KommanderError('the caller aborted the wait; a write may still take effect', {
        code: 'ABORTED',
        cause: this.#signal?.reason,
      }),
    );
  };
}
