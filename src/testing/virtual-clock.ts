// A clock that stands still until it is told to move: tests and the simulator run hours in milliseconds, and always
// in the same order. Timers fire in the order of their times, equal ones in the order in which they were set; deferred
// callbacks run before any timer that comes after them. Nothing here waits for real input or a real disk.

import { assert, must } from '../base/assert.ts';
import type { Clock, Timer } from '../ports/clock.ts';
import { systemClock } from '../time/system-clock.ts';

/** Callbacks at one instant; more of them mean that the code under test never comes to rest. */
const callbacksPerInstantMax = 1_000_000;

/** A `Clock` whose time is moved by hand. */
export interface VirtualClock extends Clock {
  /**
   * Moves time on by `durationMs` (0 or more) and runs everything that falls due, without giving promises a chance in
   * between.
   *
   * @throws what a callback throws; time then stands where it was thrown
   */
  advance(durationMs: number): void;
  /** As `advance`, but lets promises settle after every callback: for code that waits. */
  run(durationMs: number): Promise<void>;
  /** Runs what is due now until deferred callbacks and promises have come to rest. Time stands still. */
  settle(): Promise<void>;
  /** Moves time on without running anything, as a blocked process does: timers fire late afterwards. */
  stall(durationMs: number): void;
  /** Moves the wall clock alone by `byMs`, which may be negative. */
  jumpWall(byMs: number): void;
  /** Timers that are set and neither fired nor cancelled. */
  readonly timerCount: number;
}

/** Where a virtual clock starts. */
export interface VirtualClockOptions {
  /** Milliseconds on the monotonic clock (default 0). */
  readonly monotonicMs?: number;
  /** Milliseconds since 1970 on the wall clock (default 2026-01-01T00:00:00Z). */
  readonly wallMs?: number;
  /** In `run` and `settle`: called after every callback, once promises have settled. What it throws ends the run. */
  readonly afterStep?: () => void;
}

/** Makes a clock that stands still. */
export function virtualClock(options: VirtualClockOptions = {}): VirtualClock {
  const {
    monotonicMs: startMs = 0,
    wallMs: wallStartMs = Date.UTC(2026, 0, 1),
    afterStep,
  } = options;
  assert(Number.isSafeInteger(wallStartMs), 'the wall clock counts whole milliseconds');
  let nowMs = startMs;
  let wallOffsetMs = wallStartMs - startMs;
  let timerCount = 0;
  let timersSet = 0;
  let deferred: (() => void)[] = [];
  /** The deferred callbacks of the present turn, last one first. What they defer comes in the next turn. */
  let turn: (() => void)[] = [];
  const heap: ScheduledTimer[] = [];

  function setTimer(delayMs: number, callback: () => void): Timer {
    assert(delayMs >= 0, 'a delay is not negative');
    assert(Number.isFinite(delayMs), 'a delay is finite');
    const timer: ScheduledTimer = { dueMs: nowMs + delayMs, order: timersSet++, callback };
    timerCount += 1;
    push(heap, timer);
    return {
      cancel() {
        if (timer.callback !== undefined) timerCount -= 1;
        timer.callback = undefined;
      },
    };
  }

  function nextTimer(): ScheduledTimer | undefined {
    while (heap[0] !== undefined && heap[0].callback === undefined) pop(heap);
    return heap[0];
  }

  /** Takes the next callback that is due at `nowMs`. */
  function takeDue(): (() => void) | undefined {
    const continued = turn.pop();
    if (continued !== undefined) return continued;
    const timer = nextTimer();
    // A timer that fell due before now is late and goes first, as after a blocked loop in Node.
    if (timer !== undefined && (timer.dueMs < nowMs || deferred.length === 0)) {
      return timer.dueMs <= nowMs ? takeTimer(timer) : undefined;
    }
    turn = deferred.reverse();
    deferred = [];
    return turn.pop();
  }

  function takeTimer(timer: ScheduledTimer): () => void {
    pop(heap);
    const callback = must(timer.callback, 'a cancelled timer is not taken');
    timer.callback = undefined;
    timerCount -= 1;
    return callback;
  }

  /** The callbacks due up to and including `endMs`, each with time standing at its instant. */
  function* due(endMs: number): Generator<() => void> {
    for (let count = 0; ; ) {
      const callback = takeDue();
      if (callback !== undefined) {
        count += 1;
        assert(count <= callbacksPerInstantMax, 'the code under test comes to rest');
        yield callback;
        continue;
      }
      const timer = nextTimer();
      if (timer === undefined || timer.dueMs > endMs) break;
      nowMs = timer.dueMs;
      count = 0;
    }
    nowMs = Math.max(nowMs, endMs);
  }

  async function runUntil(endMs: number): Promise<void> {
    await promisesSettled();
    for (const callback of due(endMs)) {
      callback();
      await promisesSettled();
      afterStep?.();
    }
  }

  return {
    monotonicMs: () => nowMs,
    wallMs: () => Math.floor(nowMs + wallOffsetMs),
    setTimer,
    defer: (callback) => {
      deferred.push(callback);
    },
    advance(durationMs) {
      for (const callback of due(endOf(nowMs, durationMs))) callback();
    },
    run: (durationMs) => runUntil(endOf(nowMs, durationMs)),
    settle: () => runUntil(nowMs),
    stall(durationMs) {
      nowMs = endOf(nowMs, durationMs);
    },
    jumpWall(byMs) {
      assert(Number.isSafeInteger(byMs), 'the wall clock jumps by whole milliseconds');
      wallOffsetMs += byMs;
    },
    get timerCount() {
      return timerCount;
    },
  };
}

interface ScheduledTimer {
  readonly dueMs: number;
  readonly order: number;
  /** Undefined when it was cancelled or has fired. */
  callback: (() => void) | undefined;
}

function endOf(nowMs: number, durationMs: number): number {
  assert(durationMs >= 0, 'time does not go back');
  return nowMs + durationMs;
}

/** Steps between two turns of the real event loop, which has signals to take and other work to do. */
const stepsPerTurn = 256;
let stepCount = 0;

/**
 * Resolves when all promises that can settle without input have settled: a tick that is asked for while promises are
 * answered comes when none is left to be answered. A turn of the real loop would do the same, at five times the cost.
 */
async function promisesSettled(): Promise<void> {
  stepCount += 1;
  if (stepCount % stepsPerTurn === 0) {
    await new Promise<void>((resolve) => systemClock.defer(resolve));
    return;
  }
  // Whoever calls from within a tick is among promises from here on: the next tick does not come before them.
  await Promise.resolve();
  await new Promise<void>((resolve) => process.nextTick(resolve));
}

function isBefore(a: ScheduledTimer, b: ScheduledTimer): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}

function push(heap: ScheduledTimer[], timer: ScheduledTimer): void {
  let at = heap.length;
  heap.push(timer);
  while (at > 0) {
    const parentAt = (at - 1) >>> 1;
    const parent = heap[parentAt] as ScheduledTimer;
    if (!isBefore(timer, parent)) break;
    heap[at] = parent;
    at = parentAt;
  }
  heap[at] = timer;
}

function pop(heap: ScheduledTimer[]): void {
  const last = must(heap.pop(), 'an empty heap is not popped');
  if (heap.length === 0) return;
  let at = 0;
  for (;;) {
    let childAt = at * 2 + 1;
    const left = heap[childAt];
    if (left === undefined) break;
    const right = heap[childAt + 1];
    if (right !== undefined && isBefore(right, left)) childAt += 1;
    const child = heap[childAt] as ScheduledTimer;
    if (!isBefore(child, last)) break;
    heap[at] = child;
    at = childAt;
  }
  heap[at] = last;
}
