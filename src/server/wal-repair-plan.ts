// What a repair of a damaged store may do, decided before anything is fetched or written; docs/internals/repair.md has the
// proof. Committed entries are the same everywhere, so damaged ones up to the replica's own commit index are replaced in
// their place. What lies beyond it may be anybody's promise: if any of that is damaged, all of it gives way to what the
// cluster has committed, and only if the log is afterwards at least as up to date as it was (§5.4.1). Votes cannot be
// fetched from anybody.

import { KommanderError } from '../base/errors.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { HardState, LogIndex, Term } from '../raft/types.ts';
import type { StoreDamage } from '../wal/store-reader.ts';
import type { StoreSurvey, SurveyedPartition } from '../wal/store-survey.ts';
import type { LogPeer } from './wal-peers.ts';

/** Entries `from … last`. */
export interface IndexRange {
  readonly from: LogIndex;
  readonly last: LogIndex;
}

/** What one damaged partition needs. */
export interface PartitionNeed {
  readonly partitionId: PartitionId;
  readonly hardState: HardState;
  /** Everything up to here is committed as far as the replica itself knows. */
  readonly commitIndex: LogIndex;
  /** Damaged entries up to `commitIndex`: ascending, apart. */
  readonly ranges: readonly IndexRange[];
  /**
   * Something beyond `commitIndex` is damaged: where the log ended, at most. `lastIndex` is undefined when the store does
   * not tell.
   */
  readonly end: { readonly term: Term; readonly lastIndex: LogIndex | undefined } | undefined;
}

/**
 * What is to be mended, per partition.
 *
 * @throws REPAIR_REFUSED something is damaged that no peer can give
 */
export function needsOf(survey: StoreSurvey): PartitionNeed[] {
  const beyond = survey.damages.find(({ lost }) => lost === 'anything');
  if (beyond !== undefined) {
    const where = beyond.partitionId === undefined ? '' : ` of partition ${beyond.partitionId}`;
    throw refused(
      `more than entries${where} is damaged (${beyond.what}); this node may have forgotten a vote`,
    );
  }
  const state = survey.damages.find(({ lost }) => lost === 'state');
  if (state !== undefined) {
    throw refused(
      `the state at the base of partition ${state.partitionId} is damaged (${state.what}), and peers give entries only`,
    );
  }
  if (survey.damages.length < survey.damageCount)
    throw refused(`${survey.damageCount} places are damaged`);
  return survey.partitions
    .map((partition) => ({
      partition,
      damages: survey.damages.filter(({ partitionId }) => partitionId === partition.partitionId),
    }))
    .filter(({ damages }) => damages.length > 0)
    .map(({ partition, damages }) => needOf(partition, damages));
}

function needOf(partition: SurveyedPartition, damages: readonly StoreDamage[]): PartitionNeed {
  const { partitionId, hardState, base, lastIndex, termRuns } = partition;
  if (hardState === undefined) throw refused(`partition ${partitionId} has no hard state`);
  const commitIndex = Math.max(hardState.commitIndex, base?.index ?? 0);
  const found = damages.map(({ index = 1, lastIndex: last = Number.MAX_SAFE_INTEGER }) => ({
    from: index,
    last,
  }));
  const ranges = united(
    found
      .filter(({ from }) => from <= commitIndex)
      .map(({ from, last }) => ({ from, last: Math.min(last, commitIndex) })),
  );
  const isBeyond = found.some(({ last }) => last > commitIndex);
  if (!isBeyond) return { partitionId, hardState, commitIndex, ranges, end: undefined };
  const lastFound = Math.max(...found.map(({ last }) => last));
  // No entry is of a later term than the hard state that was stored with it, or before it.
  const end =
    lastFound <= lastIndex
      ? { term: termRuns.at(-1)?.term ?? 0, lastIndex }
      : {
          term: hardState.term,
          lastIndex: lastFound === Number.MAX_SAFE_INTEGER ? undefined : lastFound,
        };
  return { partitionId, hardState, commitIndex, ranges, end };
}

function united(ranges: readonly IndexRange[]): IndexRange[] {
  const result: IndexRange[] = [];
  for (const range of ranges.toSorted((one, other) => one.from - other.from)) {
    const before = result.at(-1);
    if (before === undefined || range.from > before.last + 1) result.push(range);
    else result[result.length - 1] = { ...before, last: Math.max(before.last, range.last) };
  }
  return result;
}

/**
 * The peer that has all that is needed, and of several the one that has applied most.
 *
 * @throws REPAIR_REFUSED none has; the message says of each why
 */
export function peerFor(need: PartitionNeed, peers: readonly LogPeer[]): LogPeer {
  const { partitionId, commitIndex, ranges, end } = need;
  const from = ranges[0]?.from ?? commitIndex + 1;
  const last = end === undefined ? (ranges.at(-1)?.last ?? commitIndex) : commitIndex;
  const reasons: string[] = [];
  const able = peers.filter(({ nodeId, partitions }) => {
    const positions = partitions.get(partitionId);
    if (positions === undefined) reasons.push(`${nodeId} has no such partition`);
    else if (positions.compactedIndex >= from)
      reasons.push(`${nodeId} has compacted its log up to ${positions.compactedIndex}`);
    else if (positions.lastApplied < last)
      reasons.push(`${nodeId} has applied up to ${positions.lastApplied} only`);
    else return true;
    return false;
  });
  const [best] = able.toSorted(
    (one, other) => appliedBy(other, partitionId) - appliedBy(one, partitionId),
  );
  if (best !== undefined) return best;
  throw refused(
    `no peer can give entries ${from} … ${last} of partition ${partitionId}: ${reasons.join(', ')}`,
  );
}

export function appliedBy(peer: LogPeer, partitionId: PartitionId): LogIndex {
  return peer.partitions.get(partitionId)?.lastApplied ?? 0;
}

/**
 * Checks that a log which ends with what is committed, at `committed`, is at least as up to date as the damaged one (§5.4.1).
 *
 * @throws REPAIR_REFUSED it is not
 */
export function checkUpToDate(
  need: PartitionNeed,
  committed: { readonly term: Term; readonly index: LogIndex },
): void {
  const { partitionId, end } = need;
  if (end === undefined || committed.term > end.term) return;
  const { term, lastIndex = Number.POSITIVE_INFINITY } = end;
  if (committed.term === term && committed.index >= lastIndex) return;
  const was = end.lastIndex === undefined ? `of term ${term}` : `${end.lastIndex} of term ${term}`;
  throw new KommanderError(
    `partition ${partitionId} cannot be repaired yet: its log may have ended with entry ${was}, which this node may have ` +
      `acknowledged, and the cluster has committed up to ${committed.index} of term ${committed.term}; nothing was written. ` +
      `Wait until more is committed (kommander transfer ${partitionId} NODE begins a new term), or readmit the node`,
    { code: 'REPAIR_REFUSED', details: { partitionId } },
  );
}

/** A repair that no waiting makes possible. */
export function refused(reason: string): KommanderError {
  return new KommanderError(
    `the store cannot be repaired: ${reason}; nothing was written. Readmit the node with an empty directory, or restore a backup`,
    { code: 'REPAIR_REFUSED' },
  );
}
