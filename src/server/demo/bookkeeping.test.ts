// The demo's judgement: what a linearizable read may return after a history of outcomes, what counts as unavailable,
// and what counts as a change of leader.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Availability } from './availability.ts';
import { LeaderTracker } from './leader-tracker.ts';
import {
  acknowledgeWrite,
  beginWrite,
  emptyLedger,
  judge,
  type KeyLedger,
  LogOrder,
  leaveOpen,
} from './ledger.ts';

/** `a7` = acknowledged at index 7, `?` = indeterminate, `x` = failed. */
function ledgerOf(...outcomes: string[]): KeyLedger {
  const ledger = emptyLedger('k');
  for (const outcome of outcomes) {
    const sequence = beginWrite(ledger);
    if (outcome.startsWith('a')) {
      acknowledgeWrite(ledger, { sequence, index: Number(outcome.slice(1)) });
    } else if (outcome === '?') {
      leaveOpen(ledger, sequence);
    }
  }
  return ledger;
}

test('an acknowledged write that is not found, or is behind an older one, is lost', () => {
  const ledger = ledgerOf('a5', 'a9');
  assert.equal(judge(ledger, { sequence: 2, index: 9 }), undefined);
  assert.match(judge(ledger, undefined) ?? '', /write 2, acknowledged at index 9, is gone/);
  assert.match(judge(ledger, { sequence: 1, index: 5 }) ?? '', /found write 1 at index 5/);
});

test('an indeterminate write may be found or not, however late it takes effect', () => {
  const ledger = ledgerOf('a5', '?', 'a9');
  assert.equal(judge(ledger, { sequence: 3, index: 9 }), undefined);
  assert.equal(judge(ledger, { sequence: 2, index: 12 }), undefined);
  assert.match(judge(ledger, { sequence: 2, index: 7 }) ?? '', /acknowledged at index 9/);
  const fresh = ledgerOf('?');
  assert.equal(judge(fresh, undefined), undefined);
  assert.equal(judge(fresh, { sequence: 1, index: 1 }), undefined);
});

test('a write that was reported as failed, or that nobody made, must not be found', () => {
  const ledger = ledgerOf('a5', 'x');
  assert.match(judge(ledger, { sequence: 2, index: 8 }) ?? '', /no such write has an open outcome/);
  assert.match(judge(ledger, { sequence: 0, index: 8 }) ?? '', /no such write has an open outcome/);
  assert.match(
    judge(emptyLedger('k'), { sequence: 1, index: 1 }) ?? '',
    /no such write has an open outcome/,
  );
});

test('another write at the index of an acknowledged one means that the log was rewritten', () => {
  const ledger = ledgerOf('?', 'a9');
  assert.match(judge(ledger, { sequence: 1, index: 9 }) ?? '', /where write 2 was acknowledged/);
});

test('the memory for indeterminate writes is bounded', () => {
  const ledger = ledgerOf(...Array.from({ length: 1_000 }, () => '?'));
  assert.equal(ledger.indeterminate.length, 256);
  assert.equal(judge(ledger, { sequence: 1_000, index: 3 }), undefined);
});

test('a write that begins after another was acknowledged gets a higher index in its partition', () => {
  const order = new LogOrder();
  assert.equal(order.lastIndex(undefined), 0);
  assert.equal(order.acknowledged({ partition: 1, index: 7, lastIndexBefore: 0 }), undefined);
  // Two writes that overlap may be acknowledged in any order.
  assert.equal(order.acknowledged({ partition: 1, index: 6, lastIndexBefore: 0 }), undefined);
  assert.equal(order.lastIndex(1), 7);
  assert.equal(order.lastIndex(2), 0);
  const problem = order.acknowledged({ partition: 1, index: 7, lastIndexBefore: 7 });
  assert.match(problem ?? '', /index 7 after index 7/);
});

test('the longest gap is per partition, and one that has not ended counts', () => {
  const availability = new Availability([1, 2], 1_000);
  availability.acknowledged(1, 1_100);
  availability.acknowledged(2, 1_300);
  availability.acknowledged(1, 1_350);
  assert.equal(availability.longestMs(1_400), 300);
  assert.equal(availability.longestMs(2_000), 700);
  availability.acknowledged(2, 2_000);
  availability.acknowledged(1, 1_500);
  assert.equal(availability.longestMs(2_001), 700);
  availability.acknowledged(9, 5_000);
  assert.equal(availability.partitionCount, 2);
});

test('a change of leader is another leader in a higher term; the first one is none', () => {
  const tracker = new LeaderTracker();
  tracker.observe(1, 2, 'a');
  tracker.observe(2, 2, 'a');
  assert.equal(tracker.changeCount, 0);
  tracker.observe(1, 3, 'b');
  tracker.observe(1, 2, 'a'); // has not heard of term 3
  tracker.observe(2, 5, 'a'); // elected again
  assert.equal(tracker.changeCount, 1);
  assert.deepEqual(tracker.ledBy('a'), [2]);
  assert.deepEqual(tracker.ledBy('b'), [1]);
});
