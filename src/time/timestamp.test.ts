// Number, text and bytes of a timestamp: all three sort alike, none loses a bit.

import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import fc from 'fast-check';
import { MalformedBytesError } from '../base/bytes.ts';
import {
  compareTimestamps,
  decodeTimestamp,
  encodeTimestamp,
  formatTimestamp,
  parseTimestamp,
  timestampAfter,
  timestampAt,
  timestampCounter,
  timestampWallMs,
} from './timestamp.ts';

const timestamps = fc.oneof(
  fc.maxSafeNat(),
  fc.constantFrom(0, 1, 4_095, 4_096, Number.MAX_SAFE_INTEGER),
);

const golden = {
  timestamp: timestampAt(Date.UTC(2026, 10, 23, 9, 3, 11, 123)) + 42,
  text: '2026-11-23T09:03:11.123Z.0042',
  hex: '00032a93e351302a',
};

test('a timestamp is milliseconds since 2020 times 4096 plus a counter', () => {
  assert.equal(timestampAt(Date.UTC(2020, 0, 1)), 0);
  assert.equal(timestampAt(Date.UTC(2020, 0, 1) + 3), 3 * 4_096);
  assert.equal(timestampWallMs(golden.timestamp), Date.UTC(2026, 10, 23, 9, 3, 11, 123));
  assert.equal(timestampCounter(golden.timestamp), 42);
});

test('timestamps last beyond 2080 and end at 2089-09-06', () => {
  assert.ok(Number.isSafeInteger(timestampAt(Date.UTC(2081, 0, 1))));
  assert.equal(formatTimestamp(Number.MAX_SAFE_INTEGER), '2089-09-06T15:47:35.551Z.4095');
  assert.throws(() => timestampAt(Date.UTC(2089, 8, 7)), { name: 'AssertionError' });
  assert.throws(() => timestampAt(Date.UTC(2019, 11, 31)), { name: 'AssertionError' });
});

test('the text and binary forms are these, for ever', () => {
  assert.equal(formatTimestamp(golden.timestamp), golden.text);
  assert.equal(Buffer.from(encodeTimestamp(golden.timestamp)).toString('hex'), golden.hex);
  assert.equal(parseTimestamp(golden.text), golden.timestamp);
  assert.equal(decodeTimestamp(Buffer.from(golden.hex, 'hex')), golden.timestamp);
});

test('text and bytes round-trip', () => {
  fc.assert(
    fc.property(timestamps, (timestamp) => {
      assert.equal(parseTimestamp(formatTimestamp(timestamp)), timestamp);
      assert.equal(decodeTimestamp(encodeTimestamp(timestamp)), timestamp);
    }),
  );
});

test('text and bytes sort as the timestamps do', () => {
  fc.assert(
    fc.property(timestamps, timestamps, (a, b) => {
      const order = Math.sign(a - b);
      const [textA, textB] = [formatTimestamp(a), formatTimestamp(b)];
      assert.equal(textA < textB ? -1 : textA > textB ? 1 : 0, order);
      assert.equal(Buffer.compare(encodeTimestamp(a), encodeTimestamp(b)), order);
    }),
  );
});

test('a text in any other form is refused', () => {
  for (const text of [
    '',
    '.0000',
    'soon',
    '2026-11-23T09:03:11.123Z',
    '2026-11-23T09:03:11.123Z.42',
    '2026-11-23T09:03:11.123Z.4096',
    '2026-11-23T09:03:11.123Z. 042',
    '2026-11-23T09:03:11.123Z.4e-1',
    '2026-11-23T09:03:11.123Z-0042',
    '2026-11-23T09:03:11.123+01:00.0042',
    '2026-11-23T09:03:11Z.0042',
    '2026-02-30T09:03:11.123Z.0042',
    '2019-12-31T23:59:59.999Z.4095',
    '2089-09-06T15:47:35.552Z.0000',
    `${golden.text} `,
    ` ${golden.text}`,
  ]) {
    assert.throws(() => parseTimestamp(text), { code: 'INVALID_ARGUMENT' }, JSON.stringify(text));
  }
});

test('bytes that are no timestamp are refused', () => {
  for (const hex of ['', '00', '00000000000000', '000000000000000000', '0020000000000000']) {
    assert.throws(() => decodeTimestamp(Buffer.from(hex, 'hex')), MalformedBytesError, hex);
  }
});

test('a later timestamp by a duration keeps the counter', () => {
  const later = timestampAfter(golden.timestamp, 1_500);
  assert.equal(timestampWallMs(later), timestampWallMs(golden.timestamp) + 1_500);
  assert.equal(timestampCounter(later), 42);
});

test('timestamps of all nodes have a total order: reflexive, antisymmetric, transitive, by time first', () => {
  const stamps = fc.record({
    timestamp: fc.oneof(fc.nat(3), timestamps),
    nodeId: fc.constantFrom('a', 'b', 'B', 'a1', 'node-10', 'node-9'),
  });
  fc.assert(
    fc.property(stamps, stamps, stamps, (a, b, c) => {
      assert.equal(compareTimestamps(a, a), 0);
      assert.equal(compareTimestamps(a, b), 0 - compareTimestamps(b, a));
      if (compareTimestamps(a, b) <= 0 && compareTimestamps(b, c) <= 0) {
        assert.ok(compareTimestamps(a, c) <= 0);
      }
      if (compareTimestamps(a, b) === 0) assert.deepEqual({ ...a }, { ...b });
      if (a.timestamp < b.timestamp) assert.equal(compareTimestamps(a, b), -1);
    }),
  );
});
