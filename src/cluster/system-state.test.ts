// The state of partition 0: its members after readmissions, and its stored form.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MalformedBytesError } from '../base/bytes.ts';
import {
  decodeReadmission,
  decodeSystemState,
  encodeReadmission,
  encodeSystemState,
  genesisState,
  readmitted,
} from './system-state.ts';

const state = genesisState(
  new Map([
    ['a', 'h:1'],
    ['b', 'h:2'],
  ]),
  2,
);

test('a readmission follows on the present number of a member, and any other one comes too late', () => {
  const once = readmitted(state, { nodeId: 'b', replicaId: 1_026, nonce: 'n' });
  assert.deepEqual(once.members[1], { nodeId: 'b', replicaId: 1_026, endpoint: 'h:2', nonce: 'n' });
  assert.deepEqual(once.members[0], state.members[0]);
  for (const late of [
    { nodeId: 'b', replicaId: 1_026, nonce: 'other' },
    { nodeId: 'b', replicaId: 2, nonce: 'other' },
    { nodeId: 'b', replicaId: 3_074, nonce: 'other' },
    { nodeId: 'x', replicaId: 1_027, nonce: 'other' },
  ]) {
    assert.deepEqual(readmitted(once, late), once);
  }
  const twice = readmitted(once, { nodeId: 'b', replicaId: 2_050, nonce: 'm' });
  assert.equal(twice.members[1]?.replicaId, 2_050);
  assert.deepEqual(decodeSystemState(encodeSystemState(twice)), twice);
});

test('the stored form of a readmission does not change, and one that is cut off is refused', () => {
  const readmission = { nodeId: 'b', replicaId: 1_026, nonce: 'n' };
  const bytes = encodeReadmission(readmission);
  assert.equal(Buffer.from(bytes).toString('hex'), '01' + '0162' + '8208' + '016e');
  assert.deepEqual(decodeReadmission(bytes), readmission);
  for (let end = 0; end < bytes.length; end++) {
    assert.throws(() => decodeReadmission(bytes.subarray(0, end)), MalformedBytesError);
  }
  assert.throws(() => decodeReadmission(Uint8Array.from([...bytes, 0])), MalformedBytesError);
  assert.throws(() => decodeReadmission(bytes.with(0, 2)), MalformedBytesError);
});
