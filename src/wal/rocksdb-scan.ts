// What `open` reads of a RocksDB log store: everything once, in key order. Records are checked in full, runs by their
// headers (`gathered-partition.ts`).

import { unreachable } from '../base/assert.ts';
import type { PartitionId } from '../ports/wal.ts';
import { decoded } from './damage.ts';
import {
  checkedPartition,
  type GatheredPartition,
  gatherPartition,
  type ScannedPartition,
  takeRun,
} from './gathered-partition.ts';
import {
  decodeBase,
  decodeBatchMark,
  decodeCompactionMark,
  decodeHardState,
  decodeMeta,
} from './record.ts';
import { KeyKind, keysEnd, keysFrom, parseKey } from './rocksdb-keys.ts';
import type { RocksDbHandle, RocksDbRow } from './rocksdb-library.ts';

const chunkBytes = 4_194_304;

export interface ScannedStore {
  /** Ascending by id. */
  readonly partitions: readonly ScannedPartition[];
  readonly meta: ReadonlyMap<string, Uint8Array>;
  /** Number of the last batch; 0 before the first. */
  readonly lastBatch: number;
}

interface GatheredStore {
  readonly partitions: Map<PartitionId, GatheredPartition>;
  readonly meta: Map<string, Uint8Array>;
  lastBatch: number;
}

/**
 * Reads the store.
 *
 * @throws WAL_CORRUPT a record is damaged, or a run is missing or not where it belongs
 */
export async function scanStore(handle: Pick<RocksDbHandle, 'scan'>): Promise<ScannedStore> {
  const store: GatheredStore = { partitions: new Map(), meta: new Map(), lastBatch: 0 };
  const scan = handle.scan({ from: keysFrom, end: keysEnd, chunkBytes });
  try {
    for (let rows = await scan.next(); rows.length > 0; rows = await scan.next()) {
      for (const row of rows) takeRow(store, row);
    }
  } finally {
    await scan.close();
  }
  const partitions = [...store.partitions.values()].map(checkedPartition);
  partitions.sort((a, b) => a.stored.partitionId - b.stored.partitionId);
  return { partitions, meta: store.meta, lastBatch: store.lastBatch };
}

function takeRow(store: GatheredStore, { key, value }: RocksDbRow): void {
  const parsed = decoded({ record: 'key' }, () => parseKey(key));
  if (parsed.kind === KeyKind.batch) {
    store.lastBatch = decoded({ record: 'batch mark' }, () => decodeBatchMark(value)).batchNumber;
    return;
  }
  if (parsed.kind === KeyKind.meta) {
    const { name } = parsed;
    store.meta.set(
      name,
      decoded({ record: `fact ${name}` }, () => decodeMeta(value)),
    );
    return;
  }
  const partition = gatheredPartition(store, parsed.partitionId);
  if (parsed.kind === KeyKind.run) takeRun(partition, parsed.firstIndex, value);
  else takeRecord(partition, parsed.kind, value);
}

function gatheredPartition(store: GatheredStore, partitionId: PartitionId): GatheredPartition {
  const known = store.partitions.get(partitionId);
  if (known !== undefined) return known;
  const made = gatherPartition(partitionId);
  store.partitions.set(partitionId, made);
  return made;
}

function takeRecord(
  partition: GatheredPartition,
  kind: typeof KeyKind.hardState | typeof KeyKind.base | typeof KeyKind.compaction,
  bytes: Uint8Array,
): void {
  const { stored } = partition;
  const { partitionId } = stored;
  switch (kind) {
    case KeyKind.hardState: {
      const where = { partitionId, record: 'hard state' };
      partition.stored = { ...stored, hardState: decoded(where, () => decodeHardState(bytes)) };
      return;
    }
    case KeyKind.base: {
      const where = { partitionId, record: 'base' };
      partition.stored = { ...stored, base: decoded(where, () => decodeBase(bytes)) };
      return;
    }
    case KeyKind.compaction: {
      const where = { partitionId, record: 'compaction mark' };
      const { index, term } = decoded(where, () => decodeCompactionMark(bytes));
      partition.stored = { ...stored, compactedIndex: index, compactedTerm: term };
      partition.lastIndex = index;
      return;
    }
    default:
      unreachable(kind);
  }
}
