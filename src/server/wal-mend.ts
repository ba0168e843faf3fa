// The finds of a damaged store as they are after its repair: what peers give stands where the damage was. What is fetched
// must join what is there, by index, by term, and by the last entry in front of it, which both must have.

import type { PartitionId } from '../ports/wal.ts';
import { type Entry, type HardState, type LogIndex, payloadOf, type Term } from '../raft/types.ts';
import type { StoreFind } from '../wal/store-reader.ts';
import { fetchEntries, type LogPeer } from './wal-peers.ts';
import { type IndexRange, type PartitionNeed, refused } from './wal-repair-plan.ts';

/** What is done in one partition. */
export interface PartitionMend {
  readonly need: PartitionNeed;
  readonly peer: LogPeer;
  /** Where the log ends afterwards, when all behind the replica's own commit index is replaced. */
  readonly committed: { readonly index: LogIndex; readonly term: Term } | undefined;
}

interface Mending extends PartitionMend {
  /** Ranges that are still to come. */
  ranges: readonly IndexRange[];
  compactedIndex: LogIndex;
  /** The last entry that was given. */
  last: Entry | undefined;
}

/**
 * @throws REPAIR_REFUSED   what the peer has does not join what is here
 * @throws TRANSPORT_FAILED the peer does not answer any more
 */
export async function* mendedFinds(
  finds: AsyncIterable<StoreFind>,
  mends: readonly PartitionMend[],
): AsyncGenerator<StoreFind> {
  const waiting = new Map<PartitionId, Mending>();
  for (const mend of mends) {
    const { partitionId, ranges } = mend.need;
    waiting.set(partitionId, { ...mend, ranges, compactedIndex: 0, last: undefined });
  }
  let current: Mending | undefined;
  for await (const find of finds) {
    const mending = 'partitionId' in find ? waiting.get(find.partitionId) : undefined;
    if (find.kind === 'damage') continue;
    if (find.kind === 'run' && current !== undefined && mending !== current) {
      yield* restOf(current);
      waiting.delete(current.need.partitionId);
      current = undefined;
    }
    if (mending === undefined) yield find;
    else if (find.kind === 'run') {
      current = mending;
      yield* aroundDamages(mending, find.entries);
    } else if (find.kind === 'hardState') yield { ...find, hardState: hardStateAfter(mending) };
    else {
      if (find.kind === 'compaction') mending.compactedIndex = find.mark.index;
      yield find;
    }
  }
  for (const mending of waiting.values()) yield* restOf(mending);
}

/** A later term than this replica had is one in which it has not voted. */
export function hardStateAfter({ need, committed }: PartitionMend): HardState {
  const { hardState } = need;
  if (committed === undefined) return hardState;
  const commitIndex = Math.max(hardState.commitIndex, committed.index);
  if (committed.term <= hardState.term) return { ...hardState, commitIndex };
  return { term: committed.term, votedFor: undefined, commitIndex };
}

async function* aroundDamages(
  mending: Mending,
  entries: readonly Entry[],
): AsyncGenerator<StoreFind> {
  const { need, committed } = mending;
  let kept: Entry[] = [];
  let skipThrough = mending.last?.index ?? 0;
  for (const entry of entries) {
    if (committed !== undefined && entry.index > need.commitIndex) break;
    const [range] = mending.ranges;
    if (range !== undefined && range.from <= entry.index) {
      yield* given(mending, kept);
      kept = [];
      yield* fetched(mending, range);
      mending.ranges = mending.ranges.slice(1);
      skipThrough = range.last;
    }
    if (entry.index > skipThrough) kept.push(entry);
  }
  yield* given(mending, kept);
}

/** What was damaged at the end of the partition, and what is committed behind it. */
async function* restOf(mending: Mending): AsyncGenerator<StoreFind> {
  for (const range of mending.ranges) yield* fetched(mending, range);
  const from = Math.max(mending.last?.index ?? 0, mending.compactedIndex) + 1;
  const last = mending.committed?.index ?? 0;
  if (from <= last) yield* fetched(mending, { from, last });
}

async function* fetched(mending: Mending, range: IndexRange): AsyncGenerator<StoreFind> {
  const { need, peer, last } = mending;
  const { partitionId } = need;
  // One entry more, in front: where two logs have the same entry they are the same up to it (§5.3).
  const peerFirst = (peer.partitions.get(partitionId)?.compactedIndex ?? 0) + 1;
  const isProven = last !== undefined && last.index === range.from - 1 && last.index >= peerFirst;
  const from = isProven ? last.index : range.from;
  let isFirst = isProven;
  for await (const entries of fetchEntries(peer, partitionId, { ...range, from })) {
    const [first, ...others] = entries;
    if (isFirst && (first === undefined || last === undefined || !isSame(first, last)))
      throw refused(
        `${peer.nodeId} has another entry ${range.from - 1} in partition ${partitionId} than this store, although both are committed`,
      );
    yield* given(mending, isFirst ? others : entries);
    isFirst = false;
  }
}

function* given(mending: Mending, entries: readonly Entry[]): Generator<StoreFind> {
  const { partitionId } = mending.need;
  for (const entry of entries) {
    const { last } = mending;
    const joins = last === undefined || (entry.index === last.index + 1 && entry.term >= last.term);
    if (!joins)
      throw refused(
        `entry ${entry.index} of term ${entry.term} does not join entry ${last.index} of term ${last.term} in partition ${partitionId}`,
      );
    mending.last = entry;
  }
  if (entries.length > 0) yield { kind: 'run', partitionId, entries, byteLength: 0 };
}

function isSame(one: Entry, other: Entry): boolean {
  const isPlace = one.index === other.index && one.term === other.term && one.kind === other.kind;
  return isPlace && Buffer.compare(payloadOf(one), payloadOf(other)) === 0;
}
