// What `open` reads of a RocksDB log store: everything once, in key order. Records are checked in full, runs by their
// headers: they must join one another from the compaction mark on, or the store is WAL_CORRUPT. The checksums of runs
// are checked when they are read.

import { unreachable } from '../base/assert.ts';
import { readRunHeader } from '../ports/run.ts';
import type { PartitionId, StoredPartition } from '../ports/wal.ts';
import type { LogIndex, TermRun } from '../raft/types.ts';
import { corrupt, decoded, missing } from './damage.ts';
import {
  decodeBase,
  decodeBatchMark,
  decodeCompactionMark,
  decodeHardState,
  decodeMeta,
} from './record.ts';
import { KeyKind, keysEnd, keysFrom, parseKey } from './rocksdb-keys.ts';
import type { RocksDbHandle, RocksDbRow } from './rocksdb-library.ts';
import { emptyRunIndex, lastRun, pushRun, type RunIndex } from './run-index.ts';
import { emptyPartition } from './stored-partition.ts';

const chunkBytes = 4_194_304;

export interface ScannedPartition {
  readonly stored: StoredPartition;
  readonly runs: RunIndex;
}

export interface ScannedStore {
  /** Ascending by id. */
  readonly partitions: readonly ScannedPartition[];
  readonly meta: ReadonlyMap<string, Uint8Array>;
  /** Number of the last batch; 0 before the first. */
  readonly lastBatch: number;
}

/** A partition while its rows come in: its records first, then its runs. */
interface GatheredPartition {
  /** Without `lastIndex` and `termRuns`, which grow beside it. */
  stored: StoredPartition;
  lastIndex: LogIndex;
  readonly runs: RunIndex;
  readonly termRuns: TermRun[];
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
export async function scanStore(handle: RocksDbHandle): Promise<ScannedStore> {
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
  const stored = emptyPartition(partitionId);
  const made = { stored, lastIndex: 0, runs: emptyRunIndex(), termRuns: [] };
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

function takeRun(partition: GatheredPartition, keyIndex: LogIndex, bytes: Uint8Array): void {
  const { stored, lastIndex, runs, termRuns } = partition;
  const { partitionId, compactedIndex, compactedTerm } = stored;
  const where = { partitionId, index: keyIndex, record: 'run' };
  const { firstIndex, term, entryCount, totalBytes } = decoded(where, () => readRunHeader(bytes));
  if (firstIndex !== keyIndex) throw corrupt(`run of index ${firstIndex}`, where);
  if (totalBytes !== bytes.byteLength)
    throw corrupt(`run of ${totalBytes} bytes in ${bytes.byteLength}`, where);
  const isFirst = lastRun(runs) === undefined;
  const joins = isFirst ? firstIndex <= lastIndex + 1 : firstIndex === lastIndex + 1;
  if (!joins) throw missing(partitionId, lastIndex + 1);
  const runLastIndex = firstIndex + entryCount - 1;
  if (runLastIndex <= compactedIndex) throw corrupt('run below the compaction mark', where);
  const lastTerm = termRuns.at(-1)?.term;
  if (term < (lastTerm ?? compactedTerm)) throw corrupt(`term falls to ${term}`, where);
  if (term !== lastTerm)
    termRuns.push({ firstIndex: Math.max(firstIndex, compactedIndex + 1), term });
  pushRun(runs, firstIndex);
  partition.lastIndex = runLastIndex;
}

function checkedPartition(partition: GatheredPartition): ScannedPartition {
  const { lastIndex, termRuns, runs } = partition;
  const stored: StoredPartition = { ...partition.stored, lastIndex, termRuns };
  const { partitionId, base, compactedIndex } = stored;
  if (base.index < compactedIndex)
    throw corrupt('base below the compaction mark', { partitionId, index: base.index });
  if (base.index > lastIndex) throw missing(partitionId, lastIndex + 1);
  return { stored, runs };
}
