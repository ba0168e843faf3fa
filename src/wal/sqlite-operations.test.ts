// Operations come out of their packed form as they went in, in buffers of their own.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  OperationKind,
  packOperations,
  type SqliteOperation,
  unpackOperations,
} from './sqlite-operations.ts';

test('every kind of operation survives packing, at the limits of its numbers', () => {
  const bytes = Uint8Array.of(1, 2, 3, 4, 5);
  const max = Number.MAX_SAFE_INTEGER;
  const operations: SqliteOperation[] = [
    {
      kind: OperationKind.putRun,
      rowId: max,
      partitionId: 0x7fff_ffff,
      firstIndex: max,
      run: bytes.subarray(1, 4),
    },
    { kind: OperationKind.cutRun, rowId: 7, endIndex: max },
    { kind: OperationKind.deleteRun, rowId: max },
    {
      kind: OperationKind.putPartition,
      partitionId: 0,
      lastIndex: max,
      hardState: undefined,
      compaction: bytes,
    },
    {
      kind: OperationKind.putPartition,
      partitionId: 5,
      lastIndex: 0,
      hardState: bytes,
      compaction: undefined,
    },
    { kind: OperationKind.putBase, partitionId: 3, base: bytes },
    { kind: OperationKind.putFact, name: '', value: undefined },
    { kind: OperationKind.putFact, name: 'Grüße', value: bytes },
    { kind: OperationKind.putMark, mark: bytes },
  ];
  assert.equal(new Set(operations.map(({ kind }) => kind)).size, Object.keys(OperationKind).length);
  const packed = packOperations(operations);
  assert.notEqual(packed.bytes.buffer, bytes.buffer);
  assert.deepEqual([...unpackOperations(packed)], operations);
});
