// The rules of the `Clock` port, on the machine's own clock. Nothing here says how fast a timer is, only the order.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { systemClock } from './system-clock.ts';

/** Timers do not keep the process alive, so a test that waits for one holds it open itself. */
async function holdingProcess(body: () => Promise<void>): Promise<void> {
  const hold = setInterval(() => {}, 1_000);
  try {
    await body();
  } finally {
    clearInterval(hold);
  }
}

test('a timer never fires before its time', () =>
  holdingProcess(async () => {
    for (const delayMs of [0, 0.4, 1, 1.5, 3.3, 7]) {
      const startMs = systemClock.monotonicMs();
      await new Promise<void>((resolve) => systemClock.setTimer(delayMs, resolve));
      const passedMs = systemClock.monotonicMs() - startMs;
      assert.ok(passedMs >= delayMs, `${delayMs} ms asked, fired after ${passedMs} ms`);
    }
  }));

test('a cancelled timer does not fire, and cancelling again or after the fact is harmless', () =>
  holdingProcess(async () => {
    let fired = 0;
    const cancelled = systemClock.setTimer(1, () => fired++);
    cancelled.cancel();
    cancelled.cancel();
    await new Promise<void>((resolve) => {
      const last = systemClock.setTimer(5, () => {
        last.cancel();
        resolve();
      });
    });
    assert.equal(fired, 0);
  }));

test('a delay longer than Node can count does not fire at once', () =>
  holdingProcess(async () => {
    let fired = false;
    const timer = systemClock.setTimer(2 ** 40, () => {
      fired = true;
    });
    await new Promise<void>((resolve) => systemClock.setTimer(10, resolve));
    timer.cancel();
    assert.equal(fired, false);
  }));

test('a negative or endless delay is a bug of the caller', () => {
  for (const delayMs of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => systemClock.setTimer(delayMs, () => {}), { name: 'AssertionError' });
  }
});

test('a deferred callback runs after promises that were already resolved', async () => {
  const order: string[] = [];
  const deferred = new Promise<void>((resolve) =>
    systemClock.defer(() => {
      order.push('deferred');
      resolve();
    }),
  );
  await Promise.resolve();
  order.push('promise');
  await deferred;
  assert.deepEqual(order, ['promise', 'deferred']);
});

test('a waiting timer does not keep the process alive', () => {
  const source = `
    import { systemClock } from ${JSON.stringify(new URL('./system-clock.ts', import.meta.url).href)};
    systemClock.setTimer(3_600_000, () => {});
    process.stdout.write('set');`;
  const child = spawnSync(process.execPath, ['--input-type=module', '--eval', source], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  assert.equal(child.signal, null, 'the process ended by itself');
  assert.equal(child.status, 0, child.stderr);
  assert.equal(child.stdout, 'set');
});

test('the wall clock counts whole milliseconds since 1970', () => {
  const wallMs = systemClock.wallMs();
  assert.ok(Number.isSafeInteger(wallMs));
  assert.ok(wallMs > Date.UTC(2020, 0, 1));
});
