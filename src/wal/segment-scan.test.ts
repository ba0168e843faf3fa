// Which records of a segment count: those that join, of whole batches.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeHardState } from './record.ts';
import { encodeBatchRecords, StreamKind, type StreamRecord } from './segment-record.ts';
import { scanSegment } from './segment-scan.ts';

const number = 3;
const segment = { number, name: '0000000003.segment', before: { crc: 77, batch: 9 } };

function hardState(term: number): StreamRecord {
  const body = encodeHardState({ term, votedFor: 1, commitIndex: 0 });
  return { kind: StreamKind.hardState, partitionId: 1, body };
}

/** Batches of one record each, every one bound to `previousCrcs[i]`, or to the one before. */
function segmentOf(...batches: readonly { readonly batchNumber: number; readonly crc?: number }[]) {
  const bytes = new Uint8Array(4_096);
  let at = 0;
  let crc = 77;
  for (const batch of batches) {
    const { batchNumber } = batch;
    const place = { segmentNumber: number, batchNumber, syncedBatch: batchNumber - 1 };
    const encoded = encodeBatchRecords([hardState(batchNumber)], place, batch.crc ?? crc);
    for (const part of encoded.parts) {
      bytes.set(part, at);
      at += part.byteLength;
    }
    crc = encoded.lastCrc;
  }
  return bytes;
}

test('records count as far as each is bound to the one before, the first one to the segment before', () => {
  const whole = segmentOf({ batchNumber: 10 }, { batchNumber: 11 }, { batchNumber: 12 });
  assert.equal(scanSegment(whole, segment).lastBatch, 12);
  const strange = segmentOf({ batchNumber: 10 }, { batchNumber: 11, crc: 5 }, { batchNumber: 12 });
  assert.equal(scanSegment(strange, segment).lastBatch, 10);
  const stranger = segmentOf({ batchNumber: 10, crc: 5 }, { batchNumber: 11 });
  assert.equal(scanSegment(stranger, segment).endOffset, 0);
});

test('batches follow each other by number, whatever they are bound to', () => {
  const gap = segmentOf({ batchNumber: 10 }, { batchNumber: 12 });
  assert.equal(scanSegment(gap, segment).lastBatch, 10);
});

test('the oldest segment there is may begin with any batch', () => {
  const oldest = { ...segment, before: { crc: undefined, batch: undefined } };
  const bytes = segmentOf({ batchNumber: 40, crc: 123 }, { batchNumber: 41 });
  assert.equal(scanSegment(bytes, oldest).lastBatch, 41);
});

test('the format of a record does not change: version 1', () => {
  const place = { segmentNumber: 3, batchNumber: 0x1_0000_0001, syncedBatch: 0x1_0000_0000 };
  const { parts, bodyOffsets } = encodeBatchRecords([hardState(7), hardState(8)], place, 0x5a);
  assert.deepEqual(bodyOffsets, [40, 112]);
  assert.deepEqual(
    Buffer.concat(parts)
      .toString('hex')
      .match(/.{1,16}/g),
    [
      'e0ecbc8801020000',
      '0300000019000000',
      '5a00000001000000',
      '0100000001000000',
      '0000000001000000',
      '0101000060bd7a9e',
      '0700000000000000',
      '0000000000000000',
      '0100000000000000',
      'b425aa0b01020100',
      '0300000019000000',
      'e0ecbc8801000000',
      '0100000001000000',
      '0000000001000000',
      '01010000b58ef858',
      '0800000000000000',
      '0000000000000000',
      '0100000000000000',
    ],
  );
});
