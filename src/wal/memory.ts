// The log store that keeps everything in the memory of the process: for tests, the simulator and caches. What was
// written outlives `close` and is there at the next `open` of the same object, as if a disk lay below it; it does
// not outlive the process.

import { assert, must } from '../base/assert.ts';
import { KommanderError } from '../base/errors.ts';
import type {
  PartitionId,
  PartitionWrite,
  ReadRange,
  StoredPartition,
  Wal,
  WalBatch,
  WalContents,
  WalStats,
} from '../ports/wal.ts';
import { type Entry, payloadBytes, payloadBytesOf } from '../raft/types.ts';
import { memoryFiles } from './memory-files.ts';
import { fileSnapshots } from './snapshot-files.ts';
import {
  afterBatch,
  afterWrite,
  checkReadRange,
  dropsLog,
  emptyPartition,
  isEmptyWrite,
} from './stored-partition.ts';

interface MemoryPartition {
  stored: StoredPartition;
  /** Entries `stored.compactedIndex + 1 … stored.lastIndex`. */
  entries: Entry[];
}

/** Opens nothing yet: `open` does. Not durable; a second `open` without `close` is WAL_LOCKED. */
export function memoryWal(): Wal {
  const partitions = new Map<PartitionId, MemoryPartition>();
  const meta = new Map<string, Uint8Array>();
  const noStats: WalStats = { writeCount: 0, syncCount: 0, entryCount: 0, bytesWritten: 0 };
  let stats = noStats;
  let isOpen = false;

  function checkOpen(): void {
    if (isOpen) return;
    throw new KommanderError('the log store is not open', { code: 'NODE_CLOSED' });
  }

  async function open(): Promise<WalContents> {
    if (isOpen) throw new KommanderError('the log store is already open', { code: 'WAL_LOCKED' });
    isOpen = true;
    stats = noStats;
    return {
      partitions: [...partitions.values()]
        .map(({ stored }) => stored)
        .sort((a, b) => a.partitionId - b.partitionId),
      meta: new Map(meta),
    };
  }

  async function write(batch: WalBatch): Promise<void> {
    checkOpen();
    afterBatch((id) => partitions.get(id)?.stored, batch);
    let entryCount = 0;
    let bytesWritten = 0;
    for (const part of batch.writes) {
      applyWrite(partitions, part);
      entryCount += part.entries.length;
      bytesWritten += payloadBytesOf(part.entries) + (part.base?.data?.byteLength ?? 0);
    }
    for (const [key, value] of batch.meta) {
      if (value === undefined) meta.delete(key);
      else meta.set(key, value.slice());
      bytesWritten += value?.byteLength ?? 0;
    }
    stats = {
      writeCount: stats.writeCount + 1,
      syncCount: stats.syncCount + (batch.sync ? 1 : 0),
      entryCount: stats.entryCount + entryCount,
      bytesWritten: stats.bytesWritten + bytesWritten,
    };
  }

  async function read(range: ReadRange): Promise<readonly Entry[]> {
    checkOpen();
    const partition = partitions.get(range.partitionId);
    checkReadRange(partition?.stored, range);
    const { stored, entries } = must(partition, 'a checked range is of a stored partition');
    const from = range.fromIndex - stored.compactedIndex - 1;
    const end = range.endIndex - stored.compactedIndex - 1;
    return entries.slice(from, endWithin(entries, { from, end, bytesMax: range.bytesMax }));
  }

  return {
    durable: false,
    snapshots: fileSnapshots(memoryFiles()),
    open,
    write,
    read,
    stats: () => stats,
    async close() {
      isOpen = false;
    },
  };
}

function applyWrite(partitions: Map<PartitionId, MemoryPartition>, write: PartitionWrite): void {
  if (isEmptyWrite(write)) return;
  const { partitionId } = write;
  const partition = partitions.get(partitionId) ?? {
    stored: emptyPartition(partitionId),
    entries: [],
  };
  partitions.set(partitionId, partition);
  const before = partition.stored;
  const after = afterWrite(before, write);
  if (dropsLog(before, write)) partition.entries = [];
  const logStart = dropsLog(before, write) ? after.base.index : before.compactedIndex;
  const [first] = write.entries;
  if (first !== undefined) {
    partition.entries.length = first.index - logStart - 1;
    for (const entry of write.entries) partition.entries.push(entry);
  }
  const removedCount = after.compactedIndex - logStart;
  if (removedCount > 0) partition.entries.splice(0, removedCount);
  partition.stored = after;
  assert(
    partition.entries.length === after.lastIndex - after.compactedIndex,
    'the entries reach from the compaction mark to the last index',
  );
}

/** End of the longest prefix of `entries[from, end)` within `bytesMax` of payload, one entry at least. */
function endWithin(
  entries: readonly Entry[],
  range: { readonly from: number; readonly end: number; readonly bytesMax: number },
): number {
  let bytes = 0;
  for (let i = range.from; i < range.end; i++) {
    bytes += payloadBytes(entries[i] as Entry);
    if (bytes > range.bytesMax && i > range.from) return i;
  }
  return range.end;
}
