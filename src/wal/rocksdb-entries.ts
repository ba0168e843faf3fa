// Reading runs of an open RocksDB store: rows from a key on, each checked, and joined to one another.

import { decodeRun } from '../ports/run.ts';
import type { PartitionId, ReadRange } from '../ports/wal.ts';
import { type Entry, type LogIndex, payloadBytes } from '../raft/types.ts';
import { decoded, missing } from './damage.ts';
import { runKey } from './rocksdb-keys.ts';
import type { RocksDbHandle } from './rocksdb-library.ts';
import { type RunIndex, runOf } from './run-index.ts';

const readChunkBytesMin = 4_096;
const readChunkBytesMax = 262_144;

/** Reads from the run that holds `fromIndex` on; believes only what is contiguous. */
export async function readEntries(
  handle: RocksDbHandle,
  runs: RunIndex,
  range: ReadRange,
): Promise<Entry[]> {
  const { partitionId, fromIndex, endIndex, bytesMax } = range;
  const runIndex = runOf(runs, fromIndex);
  if (runIndex === undefined) throw missing(partitionId, fromIndex);
  const scan = handle.scan({
    from: runKey(partitionId, runIndex),
    end: runKey(partitionId, endIndex),
    chunkBytes: Math.min(Math.max(bytesMax, readChunkBytesMin), readChunkBytesMax),
  });
  try {
    const entries: Entry[] = [];
    let bytes = 0;
    let nextIndex = fromIndex;
    while (nextIndex < endIndex) {
      const rows = await scan.next();
      if (rows.length === 0) throw missing(partitionId, nextIndex);
      for (const { value } of rows) {
        for (const entry of decodedRun(value, { partitionId, index: nextIndex })) {
          if (entry.index < nextIndex) continue;
          if (entry.index === endIndex) return entries;
          if (entry.index > nextIndex) throw missing(partitionId, nextIndex);
          bytes += payloadBytes(entry);
          if (bytes > bytesMax && entries.length > 0) return entries;
          entries.push(entry);
          nextIndex += 1;
        }
      }
    }
    return entries;
  } finally {
    await scan.close();
  }
}

/** The value under `key`. */
export async function readValue(
  handle: RocksDbHandle,
  key: Uint8Array,
): Promise<Uint8Array | undefined> {
  const end = new Uint8Array(key.byteLength + 1);
  end.set(key);
  const scan = handle.scan({ from: key, end, chunkBytes: readChunkBytesMax });
  try {
    const [row] = await scan.next();
    return row?.value;
  } finally {
    await scan.close();
  }
}

/** @throws WAL_CORRUPT */
export function decodedRun(
  bytes: Uint8Array,
  where: { readonly partitionId: PartitionId; readonly index: LogIndex },
): Entry[] {
  return decoded({ ...where, record: 'run' }, () => decodeRun(bytes));
}
