// The window of messages on the way, against a plain list.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  addInflight,
  clearInflights,
  freeInflightsThrough,
  isFull,
  newInflights,
} from './inflights.ts';

/** The same window as a list of its messages, oldest first. */
interface Model {
  messages: { readonly lastIndex: number; readonly bytes: number }[];
}

const command = fc.oneof(
  fc.record({
    verb: fc.constant('add' as const),
    entryCount: fc.integer({ min: 1, max: 3 }),
    bytes: fc.nat(20),
  }),
  fc.record({ verb: fc.constant('free' as const), through: fc.nat(40) }),
  fc.record({ verb: fc.constant('clear' as const) }),
);

describe('the window of inflight appends', () => {
  it('counts messages and bytes like a list of them, whatever was added and freed before', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.oneof(fc.integer({ min: 1, max: 60 }), fc.constant(Number.POSITIVE_INFINITY)),
        fc.array(command, { maxLength: 80 }),
        (messagesMax, bytesMax, commands) => {
          const inflights = newInflights({ messagesMax, bytesMax });
          const model: Model = { messages: [] };
          let lastIndex = 0;
          for (const step of commands) {
            if (step.verb === 'add' && !isFull(inflights)) {
              lastIndex += step.entryCount;
              addInflight(inflights, lastIndex, step.bytes);
              model.messages.push({ lastIndex, bytes: step.bytes });
            } else if (step.verb === 'free') {
              freeInflightsThrough(inflights, step.through);
              model.messages = model.messages.filter((sent) => sent.lastIndex > step.through);
            } else if (step.verb === 'clear') {
              clearInflights(inflights);
              model.messages = [];
            }
            const bytes = model.messages.reduce((total, sent) => total + sent.bytes, 0);
            assert.equal(inflights.count, model.messages.length);
            assert.equal(inflights.bytes, bytes);
            assert.equal(
              isFull(inflights),
              model.messages.length >= messagesMax || bytes >= bytesMax,
            );
          }
        },
      ),
    );
  });

  it('never holds more messages than its limit, and lets one message over the limit of bytes', () => {
    const inflights = newInflights({ messagesMax: 3, bytesMax: 10 });
    addInflight(inflights, 1, 9);
    assert.ok(!isFull(inflights));
    addInflight(inflights, 2, 1_000);
    assert.ok(isFull(inflights));
    assert.throws(() => addInflight(inflights, 3, 0), /nothing is sent through a full window/);
  });

  it('frees a prefix only: an acknowledgement between two messages leaves the younger one', () => {
    const inflights = newInflights({ messagesMax: 4, bytesMax: Number.POSITIVE_INFINITY });
    addInflight(inflights, 5, 1);
    addInflight(inflights, 9, 1);
    freeInflightsThrough(inflights, 8);
    assert.equal(inflights.count, 1);
    freeInflightsThrough(inflights, 4);
    assert.equal(inflights.count, 1);
    freeInflightsThrough(inflights, 9);
    assert.equal(inflights.count, 0);
  });

  it('takes memory for what was on the way at one time, not for its limit', () => {
    const inflights = newInflights({ messagesMax: 0x7fff_ffff, bytesMax: 1_000 });
    for (let index = 1; index <= 1_000; index++) {
      addInflight(inflights, index, 1);
      freeInflightsThrough(inflights, index);
    }
    assert.ok(inflights.indexes.length <= 8);
  });

  it('refuses a limit of no messages', () => {
    assert.throws(() => newInflights({ messagesMax: 0, bytesMax: 1 }), /lets a message through/);
  });
});
