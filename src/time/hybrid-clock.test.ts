// The promises of the hybrid clock, over wall clocks that jump, peers that are ahead, and restarts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Clock, HybridClock, Timestamp } from '../ports/clock.ts';
import { hybridClock } from './hybrid-clock.ts';
import { timestampAfter, timestampAt, timestampCounter, timestampWallMs } from './timestamp.ts';

const startMs = Date.UTC(2026, 0, 1);

/** A wall clock that is set by hand. Whoever asks it for a timer has broken the rule that this clock drives none. */
function wallClock(wallMs: number): Clock & { wall: number } {
  const refuse = () => assert.fail('the hybrid clock only reads the wall clock');
  return {
    wall: wallMs,
    wallMs() {
      return this.wall;
    },
    monotonicMs: refuse,
    setTimer: refuse,
    defer: refuse,
  };
}

test('a timestamp is the wall clock as long as the wall clock moves', () => {
  const clock = wallClock(startMs);
  const hybrid = hybridClock({ clock, driftMsMax: 100 });
  assert.equal(hybrid.now(), timestampAt(startMs));
  clock.wall += 7;
  assert.equal(hybrid.now(), timestampAt(startMs + 7));
});

test('10,000 calls in one millisecond are unique and ascending, and borrow two milliseconds', () => {
  const hybrid = hybridClock({ clock: wallClock(startMs), driftMsMax: 0 });
  let previous = hybrid.now();
  for (let count = 1; count < 10_000; count++) {
    const timestamp = hybrid.now();
    assert.equal(timestamp, previous + 1);
    previous = timestamp;
  }
  assert.equal(timestampWallMs(previous), startMs + 2);
  assert.equal(timestampCounter(previous), 10_000 - 1 - 2 * 4_096);
});

test('a wall clock that jumps back does not take the timestamps with it', () => {
  const clock = wallClock(startMs);
  const hybrid = hybridClock({ clock, driftMsMax: 100 });
  const before = hybrid.now();
  clock.wall -= 3_600_000;
  assert.equal(hybrid.now(), before + 1);
  clock.wall = startMs + 1;
  assert.equal(hybrid.now(), timestampAt(startMs + 1), 'it follows the wall clock again');
});

test('a wall clock before 2020 still gives ascending timestamps', () => {
  const hybrid = hybridClock({ clock: wallClock(0), driftMsMax: 100 });
  assert.equal(hybrid.now(), 1);
  assert.equal(hybrid.now(), 2);
});

test('a timestamp after a merged one is greater than it', () => {
  const hybrid = hybridClock({ clock: wallClock(startMs), driftMsMax: 100 });
  const remote = timestampAfter(timestampAt(startMs), 100) + 17;
  hybrid.observe(remote);
  assert.equal(hybrid.now(), remote + 1);
});

test('a peer that is ahead by more than the bound is refused and not believed', () => {
  const clock = wallClock(startMs);
  const hybrid = hybridClock({ clock, driftMsMax: 100 });
  const hourAhead = timestampAt(startMs + 3_600_000);
  assert.throws(() => hybrid.observe(hourAhead), {
    code: 'CLOCK_DRIFT',
    details: { aheadMs: 3_600_000, driftMsMax: 100 },
    retryable: true,
    mayHaveCommitted: false,
  });
  assert.throws(() => hybrid.observe(timestampAt(startMs + 101)), { code: 'CLOCK_DRIFT' });
  assert.equal(hybrid.now(), timestampAt(startMs));
});

test('the bound is measured from the wall clock, so that peers cannot pull a clock ahead step by step', () => {
  const clock = wallClock(startMs);
  const hybrid = hybridClock({ clock, driftMsMax: 100 });
  hybrid.observe(timestampAt(startMs + 100));
  hybrid.now();
  assert.throws(() => hybrid.observe(timestampAt(startMs + 150)), { code: 'CLOCK_DRIFT' });
  clock.wall += 50;
  hybrid.observe(timestampAt(startMs + 150));
});

test('an old timestamp is never refused, not even when our own wall clock fell far behind', () => {
  const clock = wallClock(startMs);
  const hybrid = hybridClock({ clock, driftMsMax: 100 });
  const before = hybrid.now();
  clock.wall -= 3_600_000;
  hybrid.observe(before);
  assert.equal(hybrid.now(), before + 1);
});

test('what a peer sends as a timestamp must be one', () => {
  const hybrid = hybridClock({ clock: wallClock(startMs), driftMsMax: 100 });
  for (const remote of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
    assert.throws(() => hybrid.observe(remote), { code: 'MALFORMED_MESSAGE' }, String(remote));
  }
  assert.equal(hybrid.now(), timestampAt(startMs));
});

test('after a restart every timestamp is above the floor, also when the wall clock was set back', () => {
  fc.assert(
    fc.property(fc.integer({ min: -5_000, max: 5_000 }), fc.nat(5_000), (jumpMs, calls) => {
      const clock = wallClock(startMs);
      const first = hybridClock({ clock, driftMsMax: 100 });
      let last = first.now();
      for (let count = 0; count < calls; count++) last = first.now();
      clock.wall += jumpMs;
      const second = hybridClock({ clock, driftMsMax: 100, floor: last });
      assert.ok(second.now() > last);
    }),
    { numRuns: 50 },
  );
});

test('over any history of nodes, timestamps are unique per node, ascending, and greater than their causes', () => {
  const driftMsMax = 1_000;
  const nodeCount = 3;
  const steps = fc.array(
    fc.oneof(
      fc.record({ kind: fc.constant('event' as const), node: fc.nat(nodeCount - 1) }),
      fc.record({
        kind: fc.constant('deliver' as const),
        node: fc.nat(nodeCount - 1),
        message: fc.nat(),
      }),
      fc.record({
        kind: fc.constant('wall' as const),
        node: fc.nat(nodeCount - 1),
        wallMs: fc.integer({ min: -1_500, max: 1_500 }),
      }),
      fc.record({ kind: fc.constant('restart' as const), node: fc.nat(nodeCount - 1) }),
    ),
    { maxLength: 200 },
  );
  fc.assert(
    fc.property(steps, (history) => {
      const nodes = Array.from({ length: nodeCount }, () => openTestNode(driftMsMax));
      const sent: Timestamp[] = [];
      for (const step of history) {
        const node = nodes[step.node];
        assert.ok(node);
        if (step.kind === 'event') sent.push(node.event());
        if (step.kind === 'wall') node.clock.wall = startMs + step.wallMs;
        if (step.kind === 'restart') node.restart();
        const message = step.kind === 'deliver' ? sent[step.message % sent.length] : undefined;
        if (message === undefined) continue;
        const isAhead = timestampWallMs(message) - node.clock.wall > driftMsMax;
        const isNew = message > node.highest;
        if (isAhead && isNew) {
          assert.throws(() => node.hybrid.observe(message), { code: 'CLOCK_DRIFT' });
        } else {
          node.hybrid.observe(message);
          node.highest = Math.max(node.highest, message);
        }
        const before = node.highest;
        const after = node.event();
        assert.ok(after > before);
        assert.equal(after, Math.max(before + 1, timestampAt(node.clock.wall)));
        sent.push(after);
      }
    }),
  );
});

/** A node whose `highest` is the model's view of what it has made or merged. */
interface TestNode {
  readonly clock: Clock & { wall: number };
  hybrid: HybridClock;
  highest: Timestamp;
  event(): Timestamp;
  restart(): void;
}

function openTestNode(driftMsMax: number): TestNode {
  const clock = wallClock(startMs);
  return {
    clock,
    hybrid: hybridClock({ clock, driftMsMax }),
    highest: 0,
    event() {
      const timestamp = this.hybrid.now();
      assert.ok(timestamp > this.highest, 'ascending, hence unique');
      this.highest = timestamp;
      return timestamp;
    },
    restart() {
      this.hybrid = hybridClock({ clock, driftMsMax, floor: this.highest });
    },
  };
}
