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
  /** Whether what the caller asked for was handed over, so that it may happen although the caller gave up. */
  mayTakeEffect = false;
  readonly #resolve: (result: Result) => void;
  readonly #reject: (error: Error) => void;
  /** Most callers have no signal, and then there is nothing to let go of. */
  #forgetSignal: (() => void) | undefined;

  constructor(
    resolve: (result: Result) => void,
    reject: (error: Error) => void,
    limits: WaitLimits,
  ) {
    this.#resolve = resolve;
    this.#reject = reject;
    this.deadlineMs = limits.deadlineMs;
    if (limits.signal !== undefined) this.#obey(limits.signal);
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
    this.#forgetSignal?.();
  }

  #obey(signal: AbortSignal): void {
    const abort = (): void => this.fail(aborted(signal, this.mayTakeEffect));
    signal.addEventListener('abort', abort);
    this.#forgetSignal = () => signal.removeEventListener('abort', abort);
    if (signal.aborted) abort();
  }
}

function aborted(signal: AbortSignal, mayHaveCommitted: boolean): KommanderError {
  const outcome = mayHaveCommitted ? 'the write may still take effect' : 'nothing was written';
  return new KommanderError(`the caller aborted the wait; ${outcome}`, {
    code: 'ABORTED',
    cause: signal.reason,
    mayHaveCommitted,
  });
}
