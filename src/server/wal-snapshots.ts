// Whether the state that a closed store's bases name is there, byte for byte. A node opens its snapshots at the start and reads
// them only when it has to: the tools read them whole. Nothing is written.

import { isKommanderError } from '../base/errors.ts';
import { describeBase } from '../index.ts';
import type { LogBase, PartitionId } from '../ports/wal.ts';
import { snapshotFileOf, snapshotProblem } from '../wal/snapshot-copy.ts';
import type { StoreDamage, StoreFind } from '../wal/store-reader.ts';

/** The bases of partitions, with a few words about the state each and never the state itself. */
export type StoredBases = Map<PartitionId, LogBase>;

/** The same finds; their bases are kept in `bases`. */
export async function* notingBases(
  finds: AsyncIterable<StoreFind>,
  bases: StoredBases,
): AsyncGenerator<StoreFind> {
  for await (const find of finds) {
    if (find.kind === 'base') {
      const { partitionId, base } = find;
      // What a reader gives may be a view of a larger piece.
      bases.set(partitionId, { ...base, data: base.data?.slice() });
    }
    yield find;
  }
}

/**
 * What is wrong with the snapshots of the store in `path`.
 *
 * @throws WAL_FAILED one cannot be read
 * @throws WAL_VERSION a base is of a newer version
 */
export async function snapshotDamages(path: string, bases: StoredBases): Promise<StoreDamage[]> {
  const damages: StoreDamage[] = [];
  for (const [partitionId, base] of bases) {
    const { index } = base;
    const place = { partitionId, index, lastIndex: index };
    try {
      const { snapshot } = describeBase(partitionId, base);
      if (snapshot === undefined) continue;
      const problem = await snapshotProblem(path, snapshot);
      if (problem === undefined) continue;
      const file = snapshotFileOf(snapshot.name);
      damages.push({ ...place, file, what: `the snapshot: ${problem}`, lost: 'state' });
    } catch (error) {
      if (!isKommanderError(error, 'WAL_CORRUPT')) throw error;
      damages.push({ ...place, file: undefined, what: error.message, lost: 'state' });
    }
  }
  return damages;
}
