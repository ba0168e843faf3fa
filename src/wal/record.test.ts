// The records that durable engines share: golden bytes since version 1, round trips, and damage at every bit.
// Runs have their own format and tests (`ports/run.test.ts`).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MalformedBytesError } from '../base/bytes.ts';
import type { LogBase } from '../ports/wal.ts';
import {
  decodeBase,
  decodeBatchMark,
  decodeCompactionMark,
  decodeHardState,
  decodeMeta,
  encodeBase,
  encodeBatchMark,
  encodeCompactionMark,
  encodeHardState,
  encodeMeta,
} from './record.ts';

const base: LogBase = {
  index: 300,
  term: 7,
  confState: {
    voters: [1, 2, 300],
    votersOutgoing: [1],
    learners: [],
    learnersNext: [4],
    autoLeave: true,
  },
  data: Uint8Array.of(0xab, 0xcd),
};

/** Name, bytes as they have been since version 1, and what reads them. */
const golden = [
  {
    name: 'hard state',
    bytes: encodeHardState({ term: 0x1_0000_0005, votedFor: 300, commitIndex: 9 }),
    hex: '01010000 dff6470e 0500000001000000 0900000000000000 ac02',
    decode: decodeHardState,
  },
  {
    name: 'base',
    bytes: encodeBase(base),
    hex: '01020000 598e7add 2c01000000000000 0700000000000000 030102ac02 0101 00 0104 03 abcd',
    decode: decodeBase,
  },
  {
    name: 'compaction mark',
    bytes: encodeCompactionMark({ index: 8, term: 2 }),
    hex: '01030000 67d38ddd 0800000000000000 0200000000000000',
    decode: decodeCompactionMark,
  },
  {
    name: 'node-wide fact',
    bytes: encodeMeta(Uint8Array.of(1, 2, 3)),
    hex: '01040000 1d80bc55 010203',
    decode: decodeMeta,
  },
  {
    name: 'batch mark',
    bytes: encodeBatchMark({ identity: 'stor', batchNumber: 7, syncedBatch: 6 }),
    hex: '01050000 48929a0b 0700000000000000 0600000000000000 0473746f72',
    decode: decodeBatchMark,
  },
] as const;

for (const { name, bytes, hex, decode } of golden) {
  test(`the bytes of a ${name} are these`, () => {
    assert.equal(Buffer.from(bytes).toString('hex'), hex.replaceAll(' ', ''));
  });

  test(`a ${name} with any bit flipped is refused`, () => {
    for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
      const damaged = bytes.slice();
      damaged[bit >>> 3] = (damaged[bit >>> 3] as number) ^ (1 << (bit & 7));
      assert.throws(() => decode(damaged), MalformedBytesError, `bit ${bit}`);
    }
  });

  test(`a ${name} that is cut short is refused`, () => {
    for (let length = 0; length < bytes.byteLength; length++)
      assert.throws(() => decode(bytes.subarray(0, length)), MalformedBytesError);
  });

  test(`a ${name} is not read as another record`, () => {
    for (const other of golden) {
      if (other.name !== name) assert.throws(() => other.decode(bytes), MalformedBytesError);
    }
  });
}

const safeInteger = fc.maxSafeNat();
const plainObjects = { noNullPrototype: true } as const;
const replica = fc.integer({ min: 1, max: 0x7fff_ffff });

test('every hard state comes back', () => {
  const hardStates = fc.record(
    {
      term: safeInteger,
      votedFor: fc.option(replica, { nil: undefined }),
      commitIndex: safeInteger,
    },
    plainObjects,
  );
  fc.assert(
    fc.property(hardStates, (hardState) => {
      assert.deepEqual(decodeHardState(encodeHardState(hardState)), hardState);
    }),
  );
});

test('every base comes back, and no data differs from data of 0 bytes', () => {
  const replicas = fc.array(replica, { maxLength: 9 });
  const bases = fc.record(
    {
      index: safeInteger,
      term: safeInteger,
      confState: fc.record(
        {
          voters: replicas,
          votersOutgoing: replicas,
          learners: replicas,
          learnersNext: replicas,
          autoLeave: fc.boolean(),
        },
        plainObjects,
      ),
      data: fc.option(fc.uint8Array({ maxLength: 500 }), { nil: undefined }),
    },
    plainObjects,
  );
  fc.assert(
    fc.property(bases, (written) => {
      assert.deepEqual(decodeBase(encodeBase(written)), written);
    }),
  );
});
