// The words about a snapshot that the log and the wire keep: their form, what is refused, and what names tell.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MalformedBytesError } from '../base/bytes.ts';
import {
  decodeDescriptor,
  encodeDescriptor,
  ownName,
  receivedName,
  receivedPlace,
  type SnapshotDescriptor,
} from './snapshot-descriptor.ts';

const stored: SnapshotDescriptor = {
  stored: { name: 'p1-own', byteLength: 300, checksum: 0xdeadbeef },
  clock: 2 ** 53 - 1,
  machineIndex: 7,
  parts: [{ name: 'machine', byteLength: 300 }],
};
const mark: SnapshotDescriptor = { stored: undefined, clock: 1, machineIndex: 0, parts: [] };

test('golden bytes: the descriptor of a snapshot, version 1', () => {
  const hex = (descriptor: SnapshotDescriptor): string =>
    Buffer.from(encodeDescriptor(descriptor)).toString('hex');
  assert.equal(
    hex(stored),
    '01' +
      '0670312d6f776e' +
      '2c01000000000000' +
      'efbeadde' +
      'ffffffffffff1f00' +
      '0700000000000000' +
      '01' +
      '076d616368696e65' +
      'ac02',
  );
  assert.equal(hex(mark), `0100${'0'.repeat(24)}0100000000000000${'0'.repeat(16)}00`);
});

test('a descriptor comes out as it went in', () => {
  for (const one of [stored, mark]) assert.deepEqual(decodeDescriptor(encodeDescriptor(one)), one);
});

test('a descriptor that is cut off, longer, or does not add up is refused', () => {
  const bytes = encodeDescriptor(stored);
  for (let end = 0; end < bytes.byteLength; end++) {
    assert.throws(() => decodeDescriptor(bytes.subarray(0, end)), MalformedBytesError);
  }
  assert.throws(() => decodeDescriptor(Uint8Array.from([...bytes, 0])), MalformedBytesError);
  const machine = { name: 'machine', byteLength: 100 };
  for (const parts of [
    [],
    [machine],
    [machine, machine, machine],
    Array.from({ length: 65 }, () => ({ name: 'machine', byteLength: 0 })),
  ]) {
    assert.throws(
      () => decodeDescriptor(encodeDescriptor({ ...stored, parts })),
      MalformedBytesError,
    );
  }
});

test('a newer version, or a part that is not known, is told apart from damage', () => {
  const newer = encodeDescriptor(stored).with(0, 2);
  assert.throws(() => decodeDescriptor(newer), { code: 'WAL_VERSION' });
  const parts = [...stored.parts, { name: 'sessions', byteLength: 0 }];
  const bytes = encodeDescriptor({ ...stored, parts });
  assert.throws(() => decodeDescriptor(bytes), { code: 'WAL_VERSION', message: /"sessions"/ });
});

test('a name says what can be gone on with', () => {
  const identity = { index: 100, byteLength: 5, checksum: 0xabc };
  assert.equal(receivedName(3, identity), 'p3-i100-b5-cabc');
  assert.deepEqual(receivedPlace('p3-i100-b5-cabc'), { partitionId: 3, index: 100 });
  assert.equal(ownName(3, { index: 100, term: 2 }), 'p3-i100-t2-own');
  assert.equal(receivedPlace('p3-i100-t2-own'), undefined);
});
