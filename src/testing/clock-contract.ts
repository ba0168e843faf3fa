// What every `Clock` must do, as tests that any runner can run: `clockContract({ test }, factory)`. They ask for order,
// never for speed: a timer may be late by any amount. What only a clock can promise whose time stands still while code
// runs (the order of equal timers) is asked of such clocks alone.

import assert from 'node:assert/strict';
import type { Clock } from '../ports/clock.ts';
import type { ContractRunner } from './contract-runner.ts';

/** A clock to try out. */
export interface ClockSubject {
  readonly clock: Clock;
  /** Lets time pass until `isDone()`. May give up with an error after a minute of the clock's time. */
  readonly until: (isDone: () => boolean) => Promise<void>;
  /**
   * Makes input that already waits for the process when this returns, such as bytes on a socket; `taken` is called when
   * the process takes it. The rules call it from inside of a timer.
   */
  readonly receive: (taken: () => void) => void;
  /** Releases what the factory made. Called once, after the rule. */
  dispose?(): Promise<void>;
}

export interface ClockContractOptions {
  /** Whether time stands still while code runs, so that two timers can be due at one instant (default false). */
  readonly standsStill?: boolean;
}

/**
 * Registers the contract's tests. The runner's own timeout is what ends a clock that never fires.
 *
 * @param open makes a fresh subject for each test
 */
export function clockContract(
  runner: ContractRunner,
  open: () => Promise<ClockSubject>,
  options: ClockContractOptions = {},
): void {
  const rule = (name: string, body: (subject: ClockSubject) => Promise<void>): void => {
    runner.test(name, async () => {
      const subject = await open();
      try {
        await body(subject);
      } finally {
        await subject.dispose?.();
      }
    });
  };
  defineTime(rule);
  defineTimers(rule);
  defineCancelling(rule);
  defineDeferring(rule);
  if (options.standsStill === true) defineInstants(rule);
}

type Rule = (name: string, body: (subject: ClockSubject) => Promise<void>) => void;

function defineTime(rule: Rule): void {
  rule('monotonic time never goes back', async ({ clock, until }) => {
    let lastMs = clock.monotonicMs();
    let looks = 0;
    const wentBack: string[] = [];
    const look = (): void => {
      for (let count = 0; count < 1_000; count++) {
        const nowMs = clock.monotonicMs();
        if (nowMs < lastMs) wentBack.push(`${nowMs} ms after ${lastMs} ms`);
        lastMs = nowMs;
      }
      looks += 1;
      if (looks < 5) clock.setTimer(1, look);
    };
    look();
    await until(() => looks === 5);
    assert.deepEqual(wentBack, []);
  });

  rule('wall time is whole milliseconds', async ({ clock, until }) => {
    const seenMs: number[] = [];
    for (const delayMs of [0, 0.3, 1.7, 2.2]) {
      clock.setTimer(delayMs, () => seenMs.push(clock.wallMs()));
    }
    await until(() => seenMs.length === 4);
    for (const wallMs of seenMs) assert.ok(Number.isSafeInteger(wallMs), `${wallMs} ms`);
  });
}

function defineTimers(rule: Rule): void {
  rule('a timer never fires before its time', async ({ clock, until }) => {
    const early: string[] = [];
    let fired = 0;
    const delaysMs = [7, 0, 0.4, 1, 1.5, 3.3];
    const setAll = (): void => {
      for (const delayMs of delaysMs) {
        const dueMs = clock.monotonicMs() + delayMs;
        clock.setTimer(delayMs, () => {
          fired += 1;
          const nowMs = clock.monotonicMs();
          if (nowMs < dueMs) early.push(`${delayMs} ms: ${dueMs - nowMs} ms early`);
        });
      }
    };
    setAll();
    clock.setTimer(2, setAll);
    await until(() => fired === 2 * delaysMs.length);
    assert.deepEqual(early, []);
  });

  rule('a timer fires once, and not inside of setTimer', async ({ clock, until }) => {
    const fired: string[] = [];
    let inside = 0;
    const setOne = (name: string): void => {
      const before = fired.length;
      clock.setTimer(0, () => fired.push(name));
      inside += fired.length - before;
    };
    setOne('outer');
    clock.setTimer(1, () => setOne('inner'));
    await until(() => fired.includes('outer') && fired.includes('inner'));
    await passed({ clock, until }, 5);
    assert.deepEqual([...fired].sort(), ['inner', 'outer']);
    assert.equal(inside, 0, 'nothing fires inside of setTimer');
  });

  rule('timers fire in the order of their times', async ({ clock, until }) => {
    const fired: number[] = [];
    for (const delayMs of [40, 8, 24, 16, 32]) clock.setTimer(delayMs, () => fired.push(delayMs));
    await until(() => fired.length === 5);
    assert.deepEqual(fired, [8, 16, 24, 32, 40]);
  });

  rule('a delay of years does not fire at once', async ({ clock, until }) => {
    let fired = 0;
    const timers = [2 ** 31, 2 ** 32 + 1, 2 ** 40].map((delayMs) =>
      clock.setTimer(delayMs, () => fired++),
    );
    await passed({ clock, until }, 10);
    assert.equal(fired, 0);
    for (const timer of timers) timer.cancel();
  });

  rule('a delay that is negative, endless or no number is refused', async ({ clock }) => {
    for (const delayMs of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
      assert.throws(() => clock.setTimer(delayMs, () => {}), Error, `${delayMs} ms`);
    }
  });
}

function defineCancelling(rule: Rule): void {
  rule('a cancelled timer does not fire', async ({ clock, until }) => {
    let fired = 0;
    for (const delayMs of [0, 1, 2]) clock.setTimer(delayMs, () => fired++).cancel();
    await passed({ clock, until }, 5);
    assert.equal(fired, 0);
  });

  rule('cancelling again, or after the timer fired, is harmless', async ({ clock, until }) => {
    let fired = 0;
    const timer = clock.setTimer(1, () => fired++);
    const cancelled = clock.setTimer(1, () => fired++);
    cancelled.cancel();
    cancelled.cancel();
    const own = clock.setTimer(1, () => {
      fired += 1;
      own.cancel();
    });
    await until(() => fired === 2);
    timer.cancel();
    own.cancel();
    // Others go on as they were.
    clock.setTimer(1, () => fired++);
    timer.cancel();
    await until(() => fired === 3);
  });

  rule('a timer can be cancelled inside of another one', async ({ clock, until }) => {
    await cancelledFrom({ clock, until }, (cancel) => clock.setTimer(5, cancel));
  });

  rule('a timer can be cancelled inside of a deferred callback', async ({ clock, until }) => {
    await cancelledFrom({ clock, until }, (cancel) => clock.defer(cancel));
  });
}

function defineDeferring(rule: Rule): void {
  rule('a deferred callback runs once, and not inside of defer', async ({ clock, until }) => {
    const ran: string[] = [];
    let inside = 0;
    const deferOne = (name: string): void => {
      const before = ran.length;
      clock.defer(() => ran.push(name));
      inside += ran.length - before;
    };
    deferOne('outside');
    clock.setTimer(1, () => deferOne('in a timer'));
    clock.defer(() => deferOne('in a deferred callback'));
    await until(() => ran.length >= 3);
    await passed({ clock, until }, 5);
    assert.deepEqual([...ran].sort(), ['in a deferred callback', 'in a timer', 'outside']);
    assert.equal(inside, 0, 'nothing runs inside of defer');
  });

  rule('deferred callbacks run in their order', async ({ clock, until }) => {
    const ran: string[] = [];
    clock.defer(() => {
      ran.push('first');
      clock.defer(() => ran.push('deferred by the first'));
    });
    clock.defer(() => ran.push('second'));
    clock.defer(() => ran.push('third'));
    await until(() => ran.length === 4);
    assert.deepEqual(ran, ['first', 'second', 'third', 'deferred by the first']);
  });

  rule('a deferred callback runs after promises that can settle', async ({ clock, until }) => {
    const order: string[] = [];
    clock.setTimer(0, () => {
      clock.defer(() => order.push('deferred'));
      void (async () => {
        for (let step = 0; step < 10; step++) await Promise.resolve();
        order.push('promises');
      })();
    });
    await until(() => order.length === 2);
    assert.deepEqual(order, ['promises', 'deferred']);
  });

  rule('a deferred callback runs after the input that already waits', async (subject) => {
    const { clock, until, receive } = subject;
    const order: string[] = [];
    clock.setTimer(0, () => {
      clock.defer(() => order.push('deferred'));
      receive(() => order.push('input'));
    });
    await until(() => order.length === 2);
    assert.deepEqual(order, ['input', 'deferred']);
  });

  rule('a deferred callback does not wait for later timers', async ({ clock, until }) => {
    const order: string[] = [];
    const timer = clock.setTimer(10_000, () => order.push('timer'));
    clock.defer(() => order.push('deferred'));
    await until(() => order.length > 0);
    timer.cancel();
    assert.deepEqual(order, ['deferred']);
  });
}

function defineInstants(rule: Rule): void {
  rule('timers of one instant fire in the order they were set', async ({ clock, until }) => {
    const fired: string[] = [];
    clock.setTimer(10, () => fired.push('a'));
    clock.setTimer(4, () => {
      clock.setTimer(6, () => fired.push('c'));
      clock.setTimer(6, () => fired.push('d'));
    });
    clock.setTimer(10, () => fired.push('b'));
    await until(() => fired.length === 4);
    assert.deepEqual(fired, ['a', 'b', 'c', 'd']);
  });

  rule('a timer can be cancelled by one of the same instant', async ({ clock, until }) => {
    let fired = 0;
    clock.setTimer(5, () => second.cancel());
    const second = clock.setTimer(5, () => fired++);
    await passed({ clock, until }, 10);
    assert.equal(fired, 0);
  });

  rule('deferred callbacks run before timers of a later instant', async ({ clock, until }) => {
    const order: string[] = [];
    clock.setTimer(1, () => order.push('timer'));
    clock.defer(() => {
      order.push('deferred');
      clock.defer(() => order.push('deferred by it'));
    });
    await until(() => order.length === 3);
    assert.deepEqual(order, ['deferred', 'deferred by it', 'timer']);
  });

  rule('time stands at its due instant while a timer runs', async ({ clock, until }) => {
    const startMs = clock.monotonicMs();
    const seenMs: number[] = [];
    for (const delayMs of [2, 9]) {
      clock.setTimer(delayMs, () => seenMs.push(clock.monotonicMs()));
    }
    await until(() => seenMs.length === 2);
    assert.deepEqual(seenMs, [startMs + 2, startMs + 9]);
  });
}

type Waiting = Pick<ClockSubject, 'clock' | 'until'>;

/** Lets at least `durationMs` pass, and then whatever is due. */
async function passed({ clock, until }: Waiting, durationMs: number): Promise<void> {
  let isOver = false;
  clock.setTimer(durationMs, () => {
    clock.defer(() => {
      isOver = true;
    });
  });
  await until(() => isOver);
}

/** Cancels a timer in a callback; a slow machine may have fired it before, but never after. */
async function cancelledFrom(
  waiting: Waiting,
  arrange: (cancel: () => void) => unknown,
): Promise<void> {
  let fired = 0;
  let firedBefore: number | undefined;
  const timer = waiting.clock.setTimer(8, () => fired++);
  arrange(() => {
    firedBefore = fired;
    timer.cancel();
  });
  await waiting.until(() => firedBefore !== undefined);
  await passed(waiting, 20);
  assert.equal(fired, firedBefore);
}
