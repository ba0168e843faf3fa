// Runs the clock contract against both clocks of this package, and against clocks that break one rule each: a suite is
// worth what it refuses.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../ports/clock.ts';
import { systemClock } from '../time/system-clock.ts';
import { type ClockSubject, clockContract } from './clock-contract.ts';
import { type VirtualClock, virtualClock } from './virtual-clock.ts';

/** The real clock; its input are bytes on a socket, which are there when `write` returns. */
async function realSubject(): Promise<ClockSubject> {
  const folder = await mkdtemp(path.join(tmpdir(), 'clock-'));
  const server = createServer();
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  await new Promise<void>((resolve) => server.listen(path.join(folder, 'socket'), resolve));
  const sender = connect(path.join(folder, 'socket'));
  const receiver = await accepted;
  return {
    clock: systemClock,
    async until(isDone) {
      while (!isDone()) await sleep(1);
    },
    receive(taken) {
      receiver.once('data', taken);
      sender.write('input');
    },
    async dispose() {
      sender.destroy();
      receiver.destroy();
      await new Promise((resolve) => server.close(resolve));
      await rm(folder, { recursive: true });
    },
  };
}

/** A clock under test whose time is that of `virtual`. Input of a simulation is a timer that a stall made late. */
function virtualSubject(virtual: VirtualClock, clock: Clock = virtual): ClockSubject {
  return {
    clock,
    async until(isDone) {
      const endMs = virtual.monotonicMs() + 60_000;
      await virtual.settle();
      while (!isDone()) {
        assert.ok(virtual.monotonicMs() < endMs, 'it is done within a minute');
        await virtual.run(1);
      }
    },
    receive(taken) {
      virtual.setTimer(0, taken);
      virtual.stall(1);
    },
  };
}

clockContract(
  { test: (rule, body) => test(`system clock: ${rule}`, { timeout: 20_000 }, body) },
  realSubject,
);
clockContract(
  { test: (rule, body) => test(`virtual clock: ${rule}`, body) },
  async () => virtualSubject(virtualClock({ monotonicMs: 0.7 })),
  { standsStill: true },
);

type Rules = Map<string, () => Promise<void>>;

function rulesOf(change: (clock: VirtualClock) => Partial<Clock>): Rules {
  const rules: Rules = new Map();
  clockContract(
    { test: (name, body) => rules.set(name, body) },
    async () => {
      const virtual = virtualClock();
      const sound: Clock = {
        monotonicMs: () => virtual.monotonicMs(),
        wallMs: () => virtual.wallMs(),
        setTimer: (delayMs, callback) => virtual.setTimer(delayMs, callback),
        defer: (callback) => virtual.defer(callback),
      };
      return virtualSubject(virtual, { ...sound, ...change(virtual) });
    },
    { standsStill: true },
  );
  return rules;
}

/** Timers that cannot be cancelled while a callback of one of `kinds` runs. */
function deafIn(inner: VirtualClock, kinds: readonly ('timer' | 'deferred')[]): Partial<Clock> {
  let isDeaf = false;
  const deaf = (kind: 'timer' | 'deferred', callback: () => void) => (): void => {
    isDeaf = kinds.includes(kind);
    callback();
    isDeaf = false;
  };
  return {
    defer: (callback) => inner.defer(deaf('deferred', callback)),
    setTimer(delayMs, callback) {
      const timer = inner.setTimer(delayMs, deaf('timer', callback));
      return { cancel: () => isDeaf || timer.cancel() };
    },
  };
}

/** For each rule, a clock that breaks it and does most other things well. */
const broken: Readonly<Record<string, (inner: VirtualClock) => Partial<Clock>>> = {
  'monotonic time never goes back': (inner) => {
    let looks = 0;
    return { monotonicMs: () => inner.monotonicMs() - (looks++ === 2_500 ? 1 : 0) };
  },
  'wall time is whole milliseconds': (inner) => ({
    wallMs: () => inner.wallMs() + (inner.monotonicMs() % 1),
  }),
  'a timer never fires before its time': (inner) => ({
    setTimer: (delayMs, callback) => inner.setTimer(Math.floor(delayMs), callback),
  }),
  'a timer fires once, and not inside of setTimer': (inner) => ({
    setTimer(delayMs, callback) {
      if (delayMs > 0) return inner.setTimer(delayMs, callback);
      callback();
      return { cancel: () => {} };
    },
  }),
  'timers fire in the order of their times': (inner) => ({
    setTimer: (delayMs, callback) =>
      inner.setTimer(delayMs < 10 ? delayMs : 100 - delayMs, callback),
  }),
  'a delay of years does not fire at once': (inner) => ({
    setTimer: (delayMs, callback) => inner.setTimer(delayMs >= 2 ** 31 ? 1 : delayMs, callback),
  }),
  'a delay that is negative, endless or no number is refused': (inner) => ({
    setTimer: (delayMs, callback) =>
      inner.setTimer(Number.isFinite(delayMs) ? Math.max(delayMs, 0) : 0, callback),
  }),
  'a cancelled timer does not fire': (inner) => ({
    setTimer(delayMs, callback) {
      inner.setTimer(delayMs, callback);
      return { cancel: () => {} };
    },
  }),
  'cancelling again, or after the timer fired, is harmless': (inner) => ({
    setTimer(delayMs, callback) {
      const timer = inner.setTimer(delayMs, callback);
      const before = inner.timerCount;
      return {
        cancel() {
          timer.cancel();
          assert.ok(inner.timerCount < before, 'there was something to cancel');
        },
      };
    },
  }),
  'a timer can be cancelled inside of another one': (inner) => deafIn(inner, ['timer']),
  'a timer can be cancelled inside of a deferred callback': (inner) => deafIn(inner, ['deferred']),
  'a deferred callback runs once, and not inside of defer': (inner) => ({
    defer(callback) {
      inner.defer(callback);
      inner.setTimer(2, callback);
    },
  }),
  'deferred callbacks run in their order': (inner) => {
    const stack: (() => void)[] = [];
    return {
      defer(callback) {
        stack.push(callback);
        inner.defer(() => stack.pop()?.());
      },
    };
  },
  'a deferred callback runs after promises that can settle': () => ({ defer: queueMicrotask }),
  'a deferred callback runs after the input that already waits': () => ({ defer: queueMicrotask }),
  'a deferred callback does not wait for later timers': (inner) => ({
    defer: (callback) => void inner.setTimer(20_000, callback),
  }),
  'timers of one instant fire in the order they were set': (inner) => {
    let count = 0;
    return {
      setTimer: (delayMs, callback) => inner.setTimer(delayMs + 1e-3 / ++count, callback),
    };
  },
  'a timer can be cancelled by one of the same instant': (inner) => deafIn(inner, ['timer']),
  'deferred callbacks run before timers of a later instant': (inner) => ({
    defer: (callback) => void inner.setTimer(1.5, callback),
  }),
  'time stands at its due instant while a timer runs': (inner) => ({
    setTimer: (delayMs, callback) => inner.setTimer(delayMs + 0.1, callback),
  }),
};

test('there is a broken clock for every rule of the contract', () => {
  assert.deepEqual([...rulesOf(() => ({})).keys()].sort(), Object.keys(broken).sort());
});

for (const [rule, change] of Object.entries(broken)) {
  test(`the contract refuses a clock that breaks: ${rule}`, async () => {
    const body = rulesOf(change).get(rule);
    assert.ok(body !== undefined);
    await assert.rejects(body());
  });
}
