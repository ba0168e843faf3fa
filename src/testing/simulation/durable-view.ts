// What a node's disk is known to hold for certain: every batch whose sync was acknowledged, as the port's rules say what
// it does. The rules about durability are checked against this view, never against what a process believes.

import type { PartitionId, StoredPartition, Wal, WalBatch } from '../../ports/wal.ts';
import type { LogIndex, Term } from '../../raft/types.ts';
import { afterBatch } from '../../wal/stored-partition.ts';

export interface DurableView {
  readonly partitions: Map<PartitionId, StoredPartition>;
  /** Written and not synced yet. */
  unsynced: WalBatch[];
}

export function newDurableView(): DurableView {
  return { partitions: new Map(), unsynced: [] };
}

/** The same store, watched: `view` follows what is durable. */
export function watchedWal(wal: Wal, view: DurableView): Wal {
  return {
    ...wal,
    async open(events) {
      const contents = await wal.open(events);
      // What recovery found has survived; nobody was promised more than it.
      view.unsynced = [];
      for (const stored of contents.partitions) {
        view.partitions.set(stored.partitionId, withoutData(stored));
      }
      return contents;
    },
    async write(batch) {
      await wal.write(batch);
      if (!batch.sync) {
        view.unsynced.push(batch);
        return;
      }
      const batches = [...view.unsynced, batch];
      view.unsynced = [];
      for (const one of batches) {
        for (const after of afterBatch((id) => view.partitions.get(id), one)) {
          view.partitions.set(after.partitionId, withoutData(after));
        }
      }
    },
  };
}

/** The term of the durable entry at `index`; undefined when there is none, or when it is settled below the log. */
export function durableTerm(stored: StoredPartition, index: LogIndex): Term | undefined {
  if (index > stored.lastIndex || index < stored.compactedIndex) return undefined;
  if (index === stored.compactedIndex) return stored.compactedTerm;
  return stored.termRuns.findLast((run) => run.firstIndex <= index)?.term;
}

/** Whether the disk has the entry, or a state that has it in it. */
export function holdsDurably(
  stored: StoredPartition | undefined,
  position: { readonly index: LogIndex; readonly term: Term },
): boolean {
  if (stored === undefined) return false;
  if (position.index <= stored.base.index) return true;
  return durableTerm(stored, position.index) === position.term;
}

function withoutData(stored: StoredPartition): StoredPartition {
  if (stored.base.data === undefined) return stored;
  return { ...stored, base: { ...stored.base, data: undefined } };
}
