// The clock of one simulated process: the shared virtual time, seen by a process that can stand still (SIGSTOP, a blocked
// event loop), that can die, whose oscillator is a little off and whose wall clock is wrong. Everything that happens in
// a process happens through here; what falls due while it stands still happens when it goes on, timers first, as in Node.

import type { Clock } from '../../ports/clock.ts';

export interface ProcessClock extends Clock {
  /** Something arrives from outside: now, when the process goes on, or never. */
  input(callback: () => void): void;
  /** From now on nothing happens in this process. */
  pause(): void;
  /** What fell due meanwhile happens now: late timers first, then input. */
  resume(): void;
  /** Nothing will ever happen in this process again. */
  kill(): void;
  /** Moves the wall clock alone by `byMs`, which may be negative. */
  jumpWall(byMs: number): void;
  readonly isPaused: boolean;
  readonly isDead: boolean;
}

export interface ProcessClockOptions {
  readonly time: Clock;
  /** Called before anything happens in the process. */
  readonly touched: () => void;
  /** How far the wall clock is from the true one, in milliseconds. */
  readonly wallOffsetMs: number;
  /** Seconds that this process counts in a true second. */
  readonly rate: number;
}

/** A running process, as its clock sees it. */
export function processClock(options: ProcessClockOptions): ProcessClock {
  const { time, touched, rate } = options;
  const startMs = time.monotonicMs();
  let wallOffsetMs = options.wallOffsetMs;
  let state: 'running' | 'paused' | 'dead' = 'running';
  let timers: (() => void)[] = [];
  let input: (() => void)[] = [];

  function callWhenAble(callback: () => void, held: 'timers' | 'input'): void {
    if (state === 'running') {
      touched();
      callback();
    } else if (state === 'paused') {
      if (held === 'timers') timers.push(callback);
      else input.push(callback);
    }
  }

  return {
    monotonicMs: () => startMs + (time.monotonicMs() - startMs) * rate,
    wallMs: () => time.wallMs() + wallOffsetMs,
    setTimer(delayMs, callback) {
      let isCancelled = false;
      const fire = (): void => {
        if (!isCancelled) callback();
      };
      const timer = time.setTimer(delayMs / rate, () => callWhenAble(fire, 'timers'));
      return {
        cancel() {
          isCancelled = true;
          timer.cancel();
        },
      };
    },
    defer: (callback) => time.defer(() => callWhenAble(callback, 'input')),
    input: (callback) => callWhenAble(callback, 'input'),
    pause() {
      if (state === 'running') state = 'paused';
    },
    resume() {
      if (state !== 'paused') return;
      state = 'running';
      const due = [...timers, ...input];
      timers = [];
      input = [];
      for (const callback of due) time.defer(() => callWhenAble(callback, 'input'));
    },
    kill() {
      state = 'dead';
      timers = [];
      input = [];
    },
    jumpWall(byMs) {
      wallOffsetMs += byMs;
    },
    get isPaused() {
      return state === 'paused';
    },
    get isDead() {
      return state === 'dead';
    },
  };
}
