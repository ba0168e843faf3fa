// A stored partition while an engine reads it at `open`: its records first, then its runs in order. The headers of the
// runs must join one another from the compaction mark on, or the store is WAL_CORRUPT. The checksums of runs are checked
// when they are read.

import { readRunHeader } from '../ports/run.ts';
import type { PartitionId, StoredPartition } from '../ports/wal.ts';
import type { LogIndex, TermRun } from '../raft/types.ts';
import { corrupt, decoded, missing } from './damage.ts';
import { emptyRunIndex, lastRun, pushRun, type RunIndex } from './run-index.ts';
import { emptyPartition } from './stored-partition.ts';

export interface ScannedPartition {
  readonly stored: StoredPartition;
  readonly runs: RunIndex;
}

/** A partition while its rows come in: its records first, then its runs. */
export interface GatheredPartition {
  /** Without `lastIndex` and `termRuns`, which grow beside it. */
  stored: StoredPartition;
  lastIndex: LogIndex;
  readonly runs: RunIndex;
  readonly termRuns: TermRun[];
}

/** A partition of which nothing was read yet. */
export function gatherPartition(partitionId: PartitionId): GatheredPartition {
  const stored = emptyPartition(partitionId);
  return { stored, lastIndex: 0, runs: emptyRunIndex(), termRuns: [] };
}

/**
 * Adds the run that is stored under `keyIndex`: after the partition's records, and in order.
 *
 * @throws WAL_CORRUPT the run's header is damaged, or the run does not join what came before
 */
export function takeRun(partition: GatheredPartition, keyIndex: LogIndex, bytes: Uint8Array): void {
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

/**
 * The partition, when everything of it was taken.
 *
 * @throws WAL_CORRUPT its base is outside of its log
 */
export function checkedPartition(partition: GatheredPartition): ScannedPartition {
  const { lastIndex, termRuns, runs } = partition;
  const stored: StoredPartition = { ...partition.stored, lastIndex, termRuns };
  const { partitionId, base, compactedIndex } = stored;
  if (base.index < compactedIndex)
    throw corrupt('base below the compaction mark', { partitionId, index: base.index });
  if (base.index > lastIndex) throw missing(partitionId, lastIndex + 1);
  return { stored, runs };
}
