// What one batch changes in the tables of the SQLite store, and its form between the threads: all bytes in one buffer and
// all numbers in another, which are given away. A structured clone would copy the whole buffers that entries are views
// of; and handing over those themselves would take them from everybody else who holds the entries.

import { assert, unreachable } from '../base/assert.ts';
import { utf8Bytes, utf8Text } from '../base/bytes.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { LogIndex } from '../raft/types.ts';

export const OperationKind = {
  putRun: 1,
  cutRun: 2,
  deleteRun: 3,
  putPartition: 4,
  putBase: 5,
  putFact: 6,
  putMark: 7,
} as const;

/** Rows are those of `runs`; bytes are runs and records in encoded form. */
export type SqliteOperation =
  | {
      readonly kind: typeof OperationKind.putRun;
      readonly rowId: number;
      readonly partitionId: PartitionId;
      readonly firstIndex: LogIndex;
      readonly run: Uint8Array;
    }
  | {
      /** Removes the entries from `endIndex` on from a run that begins below it. */
      readonly kind: typeof OperationKind.cutRun;
      readonly rowId: number;
      readonly endIndex: LogIndex;
    }
  | { readonly kind: typeof OperationKind.deleteRun; readonly rowId: number }
  | {
      readonly kind: typeof OperationKind.putPartition;
      readonly partitionId: PartitionId;
      readonly lastIndex: LogIndex;
      /** `undefined`: as it was. */
      readonly hardState: Uint8Array | undefined;
      readonly compaction: Uint8Array | undefined;
    }
  | {
      readonly kind: typeof OperationKind.putBase;
      readonly partitionId: PartitionId;
      readonly base: Uint8Array;
    }
  | {
      readonly kind: typeof OperationKind.putFact;
      readonly name: string;
      /** `undefined` removes it. */
      readonly value: Uint8Array | undefined;
    }
  | { readonly kind: typeof OperationKind.putMark; readonly mark: Uint8Array };

/** Operations on their way to the worker; both arrays have buffers of their own. */
export interface PackedOperations {
  /** `numbersPerOperation` for each: kind, two or three numbers, lengths of up to two pieces of `bytes` (0: none). */
  readonly numbers: Float64Array<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

const numbersPerOperation = 6;

interface Fields {
  readonly numbers: readonly [number?, number?, number?];
  readonly pieces: readonly [(Uint8Array | undefined)?, (Uint8Array | undefined)?];
}

export function packOperations(operations: readonly SqliteOperation[]): PackedOperations {
  const fields = operations.map(fieldsOf);
  const numbers = new Float64Array(operations.length * numbersPerOperation);
  const bytes = new Uint8Array(piecesBytes(fields));
  let at = 0;
  for (const [i, { numbers: values, pieces }] of fields.entries()) {
    const from = i * numbersPerOperation;
    numbers[from] = (operations[i] as SqliteOperation).kind;
    numbers.set(values as readonly number[], from + 1);
    for (const [position, piece] of pieces.entries()) {
      if (piece === undefined) continue;
      assert(piece.byteLength > 0, 'every record and run has a header');
      bytes.set(piece, at);
      at += piece.byteLength;
      numbers[from + 4 + position] = piece.byteLength;
    }
  }
  return { numbers, bytes };
}

export function* unpackOperations({
  numbers,
  bytes,
}: PackedOperations): Generator<SqliteOperation> {
  let at = 0;
  for (let from = 0; from < numbers.length; from += numbersPerOperation) {
    const [kind = 0, a = 0, b = 0, c = 0, ...lengths] = numbers.subarray(
      from,
      from + numbersPerOperation,
    );
    const [first, second] = lengths.map((length) => {
      const piece = bytes.subarray(at, at + length);
      at += length;
      return length === 0 ? undefined : piece;
    });
    yield operationOf(kind, [a, b, c], [first, second]);
  }
  assert(at === bytes.byteLength, 'all bytes belong to an operation');
}

function piecesBytes(fields: readonly Fields[]): number {
  let byteLength = 0;
  for (const { pieces } of fields) {
    for (const piece of pieces) byteLength += piece?.byteLength ?? 0;
  }
  return byteLength;
}

function fieldsOf(operation: SqliteOperation): Fields {
  switch (operation.kind) {
    case OperationKind.putRun: {
      const { rowId, partitionId, firstIndex, run } = operation;
      return { numbers: [rowId, partitionId, firstIndex], pieces: [run] };
    }
    case OperationKind.cutRun:
      return { numbers: [operation.rowId, operation.endIndex], pieces: [] };
    case OperationKind.deleteRun:
      return { numbers: [operation.rowId], pieces: [] };
    case OperationKind.putPartition: {
      const { partitionId, lastIndex, hardState, compaction } = operation;
      return { numbers: [partitionId, lastIndex], pieces: [hardState, compaction] };
    }
    case OperationKind.putBase:
      return { numbers: [operation.partitionId], pieces: [operation.base] };
    case OperationKind.putFact:
      // A fact's name may be empty: a byte before it makes a piece of it in any case.
      return { numbers: [], pieces: [utf8Bytes(`=${operation.name}`), operation.value] };
    case OperationKind.putMark:
      return { numbers: [], pieces: [operation.mark] };
    default:
      return unreachable(operation);
  }
}

function operationOf(
  kind: number,
  [a, b, c]: readonly [number, number, number],
  [first, second]: readonly (Uint8Array | undefined)[],
): SqliteOperation {
  switch (kind) {
    case OperationKind.putRun:
      return { kind, rowId: a, partitionId: b, firstIndex: c, run: first as Uint8Array };
    case OperationKind.cutRun:
      return { kind, rowId: a, endIndex: b };
    case OperationKind.deleteRun:
      return { kind, rowId: a };
    case OperationKind.putPartition:
      return { kind, partitionId: a, lastIndex: b, hardState: first, compaction: second };
    case OperationKind.putBase:
      return { kind, partitionId: a, base: first as Uint8Array };
    case OperationKind.putFact:
      return { kind, name: utf8Text(first as Uint8Array).slice(1), value: second };
    default:
      assert(kind === OperationKind.putMark, 'the kinds are those that were packed');
      return { kind, mark: first as Uint8Array };
  }
}
