// The clock of one node in a test: the shared virtual time, seen by a process that can stand still (SIGSTOP, a blocked
// loop) and that can die. What falls due while it stands still happens when it goes on, timers first, as in Node.

import type { Clock } from '../../src/ports/clock.ts';

export interface NodeClock extends Clock {
  /** From now on nothing happens in this process. */
  pause(): void;
  /** What fell due meanwhile happens now: late timers first, then input. */
  resume(): void;
  /** Nothing will ever happen in this process again. */
  kill(): void;
}

export function nodeClock(time: Clock): NodeClock {
  let state: 'running' | 'paused' | 'dead' = 'running';
  let timers: (() => void)[] = [];
  let input: (() => void)[] = [];

  function callWhenAble(callback: () => void, held: (() => void)[]): void {
    if (state === 'running') callback();
    else if (state === 'paused') held.push(callback);
  }

  return {
    monotonicMs: () => time.monotonicMs(),
    wallMs: () => time.wallMs(),
    setTimer(delayMs, callback) {
      let isCancelled = false;
      const fire = (): void => {
        if (!isCancelled) callback();
      };
      const timer = time.setTimer(delayMs, () => callWhenAble(fire, timers));
      return {
        cancel() {
          isCancelled = true;
          timer.cancel();
        },
      };
    },
    defer: (callback) => time.defer(() => callWhenAble(callback, input)),
    pause() {
      if (state === 'running') state = 'paused';
    },
    resume() {
      if (state !== 'paused') return;
      state = 'running';
      const due = [...timers, ...input];
      timers = [];
      input = [];
      for (const callback of due) time.defer(() => callWhenAble(callback, input));
    },
    kill() {
      state = 'dead';
      timers = [];
      input = [];
    },
  };
}
