// Filling a new store with what a reader finds in another one: everything that the port can say, partition by partition, so
// that memory does not grow with the log. A store that has a mark for removed entries is built from that mark on: the log
// begins there, gets its entries, and its base moves to where it was. The node-wide facts come last.

import { KommanderError } from '../base/errors.ts';
import type { LogBase, PartitionId, PartitionWrite, Wal } from '../ports/wal.ts';
import { type Entry, emptyConfState, type HardState, payloadBytesOf } from '../raft/types.ts';
import type { CompactionMark } from './record.ts';
import type { StoreFind } from './store-reader.ts';

/** Payload of one batch. */
const batchBytesMax = 1_048_576;

/** Records of a partition whose entries are not all written yet. */
interface PendingPartition {
  readonly partitionId: PartitionId;
  hardState: HardState | undefined;
  base: LogBase | undefined;
  mark: CompactionMark | undefined;
  isBegun: boolean;
}

interface Copy {
  readonly wal: Wal;
  readonly pending: Map<PartitionId, PendingPartition>;
  readonly facts: Map<string, Uint8Array>;
  /** Of one partition. */
  entries: Entry[];
  entryBytes: number;
  partition: PendingPartition | undefined;
}

/**
 * Writes all that `finds` gives into `wal`, which is open and empty. It is durable once this has resolved.
 *
 * @throws WAL_CORRUPT something is damaged: a copy would make it look whole
 */
export async function copyStore(finds: AsyncIterable<StoreFind>, wal: Wal): Promise<void> {
  const copy: Copy = {
    wal,
    pending: new Map(),
    facts: new Map(),
    entries: [],
    entryBytes: 0,
    partition: undefined,
  };
  for await (const find of finds) {
    if (find.kind === 'damage') throw damaged(find.damage.what);
    if (find.kind === 'fact') copy.facts.set(find.name, find.value.slice());
    else if (find.kind === 'run') await takeRun(copy, find.partitionId, find.entries);
    else {
      const partition = pendingPartition(copy, find.partitionId);
      if (find.kind === 'hardState') partition.hardState = find.hardState;
      else if (find.kind === 'base') partition.base = find.base;
      else partition.mark = find.mark;
    }
  }
  await endPartition(copy);
  for (const partition of copy.pending.values()) {
    copy.partition = partition;
    await endPartition(copy);
  }
  await wal.write({ writes: [], meta: copy.facts, sync: true });
}

function damaged(what: string): KommanderError {
  return new KommanderError(`the log store is damaged (${what}): repair it first`, {
    code: 'WAL_CORRUPT',
  });
}

function pendingPartition(copy: Copy, partitionId: PartitionId): PendingPartition {
  const known = copy.pending.get(partitionId);
  if (known !== undefined) return known;
  const made = {
    partitionId,
    hardState: undefined,
    base: undefined,
    mark: undefined,
    isBegun: false,
  };
  copy.pending.set(partitionId, made);
  return made;
}

async function takeRun(
  copy: Copy,
  partitionId: PartitionId,
  entries: readonly Entry[],
): Promise<void> {
  if (copy.partition?.partitionId !== partitionId) {
    await endPartition(copy);
    copy.partition = pendingPartition(copy, partitionId);
    await begin(copy, copy.partition);
  }
  const compactedIndex = copy.partition.mark?.index ?? 0;
  for (const entry of entries) if (entry.index > compactedIndex) copy.entries.push(entry);
  copy.entryBytes += payloadBytesOf(entries);
  if (copy.entryBytes >= batchBytesMax) await flush(copy);
}

/** The log begins behind what was removed. */
async function begin(copy: Copy, partition: PendingPartition): Promise<void> {
  partition.isBegun = true;
  const { mark, base } = partition;
  if (mark === undefined) return;
  const confState = base?.confState ?? emptyConfState;
  await writePart(copy, partition.partitionId, {
    base: { ...mark, confState, data: undefined },
    resetLog: true,
  });
}

async function flush(copy: Copy): Promise<void> {
  const { partition, entries } = copy;
  copy.entries = [];
  copy.entryBytes = 0;
  if (partition === undefined || entries.length === 0) return;
  await writePart(copy, partition.partitionId, { entries });
}

async function endPartition(copy: Copy): Promise<void> {
  await flush(copy);
  const { partition } = copy;
  copy.partition = undefined;
  if (partition === undefined) return;
  if (!partition.isBegun) await begin(copy, partition);
  const { partitionId, hardState, base } = partition;
  await writePart(copy, partitionId, { hardState, base });
  copy.pending.delete(partitionId);
}

function writePart(
  copy: Copy,
  partitionId: PartitionId,
  part: Partial<PartitionWrite>,
): Promise<void> {
  const write: PartitionWrite = {
    partitionId,
    hardState: undefined,
    base: undefined,
    resetLog: false,
    entries: [],
    compactThroughIndex: undefined,
    ...part,
  };
  return copy.wal.write({ writes: [write], meta: new Map(), sync: false });
}
