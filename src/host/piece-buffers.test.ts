// The buffers of pieces: used again once they were sent, and not kept for ever.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SnapshotReader } from '../ports/snapshot-store.ts';
import { giveBack, type ReadPiece, readPiece } from './piece-buffers.ts';

const reader: SnapshotReader = {
  async read(offset, byteLengthMax, buffer) {
    assert.ok(buffer !== undefined && buffer.byteLength > byteLengthMax);
    return buffer.subarray(0, byteLengthMax).fill(offset);
  },
  async close() {},
};

test('a piece is read into the buffer of one that was sent', async () => {
  const idle: Uint8Array[] = [];
  const first = await readPiece(idle, reader, 1);
  const second = await readPiece(idle, reader, 2);
  assert.notEqual(second.buffer, first.buffer);
  giveBack(idle, first.buffer);
  const third = await readPiece(idle, reader, 3);
  assert.equal(third.buffer, first.buffer);
  assert.equal(second.bytes[0], 2);
  assert.equal(third.bytes[0], 3);
});

test('few buffers are kept, however many were on their way', async () => {
  const idle: Uint8Array[] = [];
  const pieces: ReadPiece[] = [];
  for (let offset = 0; offset < 20; offset++) pieces.push(await readPiece(idle, reader, offset));
  for (const { buffer } of pieces) giveBack(idle, buffer);
  assert.equal(idle.length, 4);
});
