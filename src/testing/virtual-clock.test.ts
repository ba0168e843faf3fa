// The clock that all other tests believe: its order is its contract.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { virtualClock } from './virtual-clock.ts';

test('time stands still until it is moved', () => {
  const clock = virtualClock({ monotonicMs: 5, wallMs: 1_000 });
  assert.equal(clock.monotonicMs(), 5);
  assert.equal(clock.wallMs(), 1_000);
  clock.advance(2.5);
  assert.equal(clock.monotonicMs(), 7.5);
  assert.equal(clock.wallMs(), 1_002, 'the wall clock counts whole milliseconds');
});

test('timers fire in the order of their times, equal ones in the order in which they were set', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(20), fc.boolean()), { maxLength: 100 }),
      fc.nat(25),
      (timers, durationMs) => {
        const clock = virtualClock();
        const fired: { id: number; atMs: number }[] = [];
        const handles = timers.map(([delayMs], id) =>
          clock.setTimer(delayMs, () => fired.push({ id, atMs: clock.monotonicMs() })),
        );
        timers.forEach(([, isCancelled], id) => {
          if (isCancelled) handles[id]?.cancel();
        });
        clock.advance(durationMs);
        const expected = timers
          .map(([delayMs, isCancelled], id) => ({ id, atMs: delayMs, isCancelled }))
          .filter((timer) => !timer.isCancelled && timer.atMs <= durationMs)
          .sort((a, b) => a.atMs - b.atMs || a.id - b.id)
          .map(({ id, atMs }) => ({ id, atMs }));
        assert.deepEqual(fired, expected);
        assert.equal(clock.monotonicMs(), durationMs);
        const kept = timers.filter(([delayMs, cancelled]) => !cancelled && delayMs > durationMs);
        assert.equal(clock.timerCount, kept.length);
      },
    ),
  );
});

test('a timer that is set while time moves fires within the same move when it is due', () => {
  const clock = virtualClock();
  const firedAtMs: number[] = [];
  const repeat = () => {
    firedAtMs.push(clock.monotonicMs());
    clock.setTimer(10, repeat);
  };
  clock.setTimer(10, repeat);
  clock.advance(35);
  assert.deepEqual(firedAtMs, [10, 20, 30]);
});

test('deferred callbacks run in order, before later timers, and what they defer runs in the next turn', () => {
  const clock = virtualClock();
  const order: string[] = [];
  clock.setTimer(1, () => order.push('timer'));
  clock.defer(() => {
    order.push('a');
    clock.defer(() => order.push('c'));
  });
  clock.defer(() => order.push('b'));
  clock.advance(1);
  assert.deepEqual(order, ['a', 'b', 'c', 'timer']);
});

test('after a stall late timers fire first, at the present time, and then what they deferred', () => {
  const clock = virtualClock();
  const order: string[] = [];
  clock.setTimer(10, () => {
    order.push(`tick at ${clock.monotonicMs()}`);
    clock.defer(() => order.push('after the input'));
  });
  clock.setTimer(20, () => order.push('input'));
  clock.stall(100);
  assert.deepEqual(order, []);
  clock.advance(0);
  assert.deepEqual(order, ['tick at 100', 'input', 'after the input']);
});

test('run lets promises settle between callbacks', async () => {
  const clock = virtualClock();
  const wokenAtMs: number[] = [];
  const sleeper = (async () => {
    for (let i = 0; i < 3; i++) {
      await new Promise<void>((resolve) => clock.setTimer(10, resolve));
      await Promise.resolve();
      wokenAtMs.push(clock.monotonicMs());
    }
  })();
  await clock.run(30);
  assert.deepEqual(wokenAtMs, [10, 20, 30]);
  await sleeper;
});

test('settle runs deferred callbacks and promises until they rest, without moving time', async () => {
  const clock = virtualClock();
  let steps = 0;
  const chain = (async () => {
    for (; steps < 5; steps++) await new Promise<void>((resolve) => clock.defer(resolve));
  })();
  await clock.settle();
  assert.equal(steps, 5);
  assert.equal(clock.monotonicMs(), 0);
  await chain;
});

test('a jump of the wall clock moves no timer', () => {
  const clock = virtualClock({ wallMs: 10_000 });
  let fired = 0;
  clock.setTimer(5, () => fired++);
  clock.jumpWall(-5_000);
  assert.equal(clock.wallMs(), 5_000);
  clock.jumpWall(3_600_000);
  clock.advance(4);
  assert.equal(fired, 0);
  clock.advance(1);
  assert.equal(fired, 1);
});

test('a callback that throws stops the move where it stands, and the rest can still run', () => {
  const clock = virtualClock();
  let later = 0;
  clock.setTimer(1, () => {
    throw new Error('from the callback');
  });
  clock.setTimer(2, () => later++);
  assert.throws(() => clock.advance(10), /from the callback/);
  assert.equal(clock.monotonicMs(), 1);
  clock.advance(1);
  assert.equal(later, 1);
});

test('code that never comes to rest is found instead of hanging the test', () => {
  const clock = virtualClock();
  const forever = () => clock.defer(forever);
  clock.defer(forever);
  assert.throws(() => clock.advance(0), /comes to rest/);
});

test('promises settle between callbacks, wherever the run was begun', async () => {
  const begin = {
    'in a tick': (run: () => void) => process.nextTick(run),
    'among promises': (run: () => void) => queueMicrotask(run),
    'in a turn of the loop': (run: () => void) => setImmediate(run),
  };
  for (const [where, later] of Object.entries(begin)) {
    const order: string[] = [];
    const clock = virtualClock();
    const note = async (name: string): Promise<void> => {
      for (let hop = 1; hop <= 20; hop++) {
        await Promise.resolve();
        if (hop === 20) order.push(`${name} settled`);
      }
    };
    await new Promise<void>((resolve, reject) => {
      later(() => {
        void note('start');
        clock.setTimer(0, () => void note('first'));
        clock.setTimer(0, () => order.push('second'));
        clock.run(1).then(resolve, reject);
      });
    });
    assert.deepEqual(order, ['start settled', 'first settled', 'second'], where);
  }
});
