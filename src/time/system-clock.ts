// The clock of the machine: the only place of the library that reads the real time or sets a real timer. Everything
// else gets a `Clock`, so that tests and the simulator can give it another one.

import { assert } from '../base/assert.ts';
import type { Clock, Timer } from '../ports/clock.ts';

/** Longest delay that Node's own timers take; a longer one would fire at once. */
const nodeDelayMsMax = 2_147_483_647;

/** The real time of this machine. Timers do not keep the process alive and never fire early. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer,
  defer: (callback) => {
    setImmediate(callback);
  },
};

function setTimer(delayMs: number, callback: () => void): Timer {
  assert(delayMs >= 0, 'a delay is not negative');
  assert(Number.isFinite(delayMs), 'a delay is finite');
  const dueMs = performance.now() + delayMs;
  let timeout = arm(delayMs);
  return { cancel: () => clearTimeout(timeout) };

  function arm(restMs: number): NodeJS.Timeout {
    return setTimeout(fire, Math.min(Math.ceil(restMs), nodeDelayMsMax)).unref();
  }

  // Node counts timers in whole milliseconds of a clock that it reads once per turn, so that one may fire up to a
  // millisecond before its time.
  function fire(): void {
    const restMs = dueMs - performance.now();
    if (restMs > 0) timeout = arm(restMs);
    else callback();
  }
}
