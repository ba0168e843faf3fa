// What a closed store holds and whether it is whole, from what its reader finds (`store-reader.ts`). The rules are those of
// `open`, and more is read: every checksum. The first damage does not end the survey; the gaps between the runs tell how
// far a damage reaches. Memory does not grow with the log.

import { createHash, type Hash } from 'node:crypto';
import type { LogBase, PartitionId } from '../ports/wal.ts';
import type { Entry, HardState, LogIndex, Term, TermRun } from '../raft/types.ts';
import type { StoreDamage, StoreFind } from './store-reader.ts';

/** What is known of one partition. */
export interface SurveyedPartition {
  readonly partitionId: PartitionId;
  /** Undefined: there is none, or it is damaged. */
  readonly hardState: HardState | undefined;
  /** Without the state itself. Undefined: there is none, or it is damaged. */
  readonly base: Omit<LogBase, 'data'> | undefined;
  /** Of the state at the base; undefined: none is stored. */
  readonly dataBytes: number | undefined;
  readonly compactedIndex: LogIndex;
  readonly compactedTerm: Term;
  /** First and last entry that can be read, between which some may be damaged; 0 when there is none. */
  readonly firstIndex: LogIndex;
  readonly lastIndex: LogIndex;
  /** Of the entries that can be read. */
  readonly termRuns: readonly TermRun[];
  readonly entryCount: number;
  /** Bytes of the runs. */
  readonly byteLength: number;
  /** SHA-256 of all entries and of the base's state, when it was asked for. */
  readonly digest: string | undefined;
}

export interface StoreSurvey {
  readonly facts: ReadonlyMap<string, Uint8Array>;
  /** Ascending by id. */
  readonly partitions: readonly SurveyedPartition[];
  /** Those of the whole store, then by partition and index. The first `damagesMax` that were found. */
  readonly damages: readonly StoreDamage[];
  readonly damageCount: number;
}

/** Damages that are listed one by one. */
export const damagesMax = 10_000;

interface GatheredPartition {
  readonly partitionId: PartitionId;
  hardState: HardState | undefined;
  base: Omit<LogBase, 'data'> | undefined;
  dataBytes: number | undefined;
  compactedIndex: LogIndex;
  compactedTerm: Term;
  firstIndex: LogIndex;
  lastIndex: LogIndex;
  /** The entry that has to come next. */
  nextIndex: LogIndex;
  readonly termRuns: TermRun[];
  entryCount: number;
  byteLength: number;
  readonly hash: Hash | undefined;
  /** Damages of entries of which the next run tells how far they reach. */
  pending: StoreDamage[];
}

interface Gathered {
  readonly facts: Map<string, Uint8Array>;
  readonly partitions: Map<PartitionId, GatheredPartition>;
  readonly damages: StoreDamage[];
  damageCount: number;
  readonly isDigesting: boolean;
}

/**
 * Reads all that `finds` gives.
 *
 * @param options `digest`: also hash the entries, so that two stores can be compared; `progress` is told after every run
 */
export async function surveyStore(
  finds: AsyncIterable<StoreFind>,
  options: { readonly digest?: boolean; readonly progress?: (entryCount: number) => void } = {},
): Promise<StoreSurvey> {
  const gathered: Gathered = {
    facts: new Map(),
    partitions: new Map(),
    damages: [],
    damageCount: 0,
    isDigesting: options.digest === true,
  };
  for await (const find of finds) {
    takeFind(gathered, find);
    if (find.kind === 'run') options.progress?.(find.entries.length);
  }
  for (const partition of gathered.partitions.values()) finish(gathered, partition);
  const { facts, damageCount } = gathered;
  const damages = gathered.damages.toSorted(
    (a, b) => (a.partitionId ?? -1) - (b.partitionId ?? -1) || (a.index ?? 0) - (b.index ?? 0),
  );
  const partitions = [...gathered.partitions.values()]
    .map(surveyed)
    .sort((a, b) => a.partitionId - b.partitionId);
  return { facts, partitions, damages, damageCount };
}

function takeFind(gathered: Gathered, find: StoreFind): void {
  switch (find.kind) {
    case 'fact':
      gathered.facts.set(find.name, find.value);
      return;
    case 'hardState':
      partitionOf(gathered, find.partitionId).hardState = find.hardState;
      return;
    case 'base': {
      const partition = partitionOf(gathered, find.partitionId);
      const { data, ...base } = find.base;
      partition.base = base;
      partition.dataBytes = data?.byteLength;
      if (data !== undefined) partition.hash?.update(data);
      return;
    }
    case 'compaction': {
      const partition = partitionOf(gathered, find.partitionId);
      partition.compactedIndex = find.mark.index;
      partition.compactedTerm = find.mark.term;
      partition.nextIndex = find.mark.index + 1;
      return;
    }
    case 'run':
      takeRun(gathered, partitionOf(gathered, find.partitionId), find);
      return;
    default:
      takeDamage(gathered, find.damage);
  }
}

function takeDamage(gathered: Gathered, damage: StoreDamage): void {
  const { partitionId, lost } = damage;
  if (partitionId === undefined) return note(gathered, damage);
  const partition = partitionOf(gathered, partitionId);
  if (lost === 'anything') note(gathered, damage);
  else partition.pending.push(damage);
}

function partitionOf(gathered: Gathered, partitionId: PartitionId): GatheredPartition {
  const known = gathered.partitions.get(partitionId);
  if (known !== undefined) return known;
  const made: GatheredPartition = {
    partitionId,
    hardState: undefined,
    base: undefined,
    dataBytes: undefined,
    compactedIndex: 0,
    compactedTerm: 0,
    firstIndex: 0,
    lastIndex: 0,
    nextIndex: 1,
    termRuns: [],
    entryCount: 0,
    byteLength: 0,
    hash: gathered.isDigesting ? createHash('sha256') : undefined,
    pending: [],
  };
  gathered.partitions.set(partitionId, made);
  return made;
}

function note(gathered: Gathered, damage: StoreDamage): void {
  gathered.damageCount += 1;
  if (gathered.damages.length < damagesMax) gathered.damages.push(damage);
}

function takeRun(
  gathered: Gathered,
  partition: GatheredPartition,
  run: { readonly entries: readonly Entry[]; readonly byteLength: number },
): void {
  const { partitionId, compactedIndex, termRuns } = partition;
  const first = run.entries[0] as Entry;
  const last = run.entries.at(-1) as Entry;
  const contradiction = (what: string): void => {
    const place = { partitionId, index: first.index, lastIndex: last.index, file: undefined };
    note(gathered, { ...place, what, lost: 'anything' });
  };
  if (last.index <= compactedIndex) return contradiction('a run below the compaction mark');
  settlePending(gathered, partition, first.index);
  const isFirst = partition.entryCount === 0;
  if (first.index < partition.nextIndex && !(isFirst && first.index <= compactedIndex + 1))
    return contradiction('a run in the place of another one');
  const lastTerm = termRuns.at(-1)?.term ?? partition.compactedTerm;
  if (first.term < lastTerm) contradiction(`the term falls from ${lastTerm} to ${first.term}`);
  const firstIndex = Math.max(first.index, compactedIndex + 1);
  if (termRuns.at(-1)?.term !== first.term) termRuns.push({ firstIndex, term: first.term });
  if (isFirst) partition.firstIndex = firstIndex;
  partition.lastIndex = last.index;
  partition.nextIndex = last.index + 1;
  partition.entryCount += last.index - firstIndex + 1;
  partition.byteLength += run.byteLength;
  if (partition.hash === undefined) return;
  for (const entry of run.entries) if (entry.index >= firstIndex) hashEntry(partition.hash, entry);
}

/** Entries up to `firstIndex` are not there: those that no damage accounts for are missing. */
function settlePending(
  gathered: Gathered,
  partition: GatheredPartition,
  firstIndex: LogIndex,
): void {
  let expected = partition.nextIndex;
  for (const damage of partition.pending) {
    const index = damage.index ?? expected;
    if (index > expected) missing(gathered, partition, { index: expected, lastIndex: index - 1 });
    const lastIndex = Math.max(index, Math.min(damage.lastIndex ?? firstIndex - 1, firstIndex - 1));
    note(gathered, { ...damage, index, lastIndex });
    expected = Math.max(expected, lastIndex + 1);
  }
  partition.pending = [];
  if (expected < firstIndex)
    missing(gathered, partition, { index: expected, lastIndex: firstIndex - 1 });
}

function missing(
  gathered: Gathered,
  { partitionId }: GatheredPartition,
  range: { readonly index: LogIndex; readonly lastIndex: LogIndex | undefined },
): void {
  const what = 'the entries are missing';
  note(gathered, { partitionId, ...range, file: undefined, what, lost: 'entries' });
}

/** No run follows: how far the last damages reach is known only as far as they say it themselves. */
function finish(gathered: Gathered, partition: GatheredPartition): void {
  const { partitionId, base, compactedIndex, pending } = partition;
  let expected = partition.nextIndex;
  for (const damage of pending) {
    const index = damage.index ?? expected;
    if (index > expected) missing(gathered, partition, { index: expected, lastIndex: index - 1 });
    note(gathered, { ...damage, index });
    expected = Math.max(expected, (damage.lastIndex ?? Number.MAX_SAFE_INTEGER - 1) + 1);
  }
  if (base === undefined) return;
  // There may have been more behind the base: how much, nobody can tell.
  if (base.index >= expected)
    missing(gathered, partition, { index: expected, lastIndex: undefined });
  if (base.index < compactedIndex) {
    const what = `the base at ${base.index} lies below the compaction mark at ${compactedIndex}`;
    const place = { partitionId, index: base.index, lastIndex: base.index, file: undefined };
    note(gathered, { ...place, what, lost: 'anything' });
  }
}

function hashEntry(hash: Hash, { index, term, kind, bytes, start, end }: Entry): void {
  hash.update(`${index} ${term} ${kind} ${end - start} `);
  hash.update(bytes.subarray(start, end));
}

function surveyed(partition: GatheredPartition): SurveyedPartition {
  const { nextIndex: _next, pending: _pending, hash, ...rest } = partition;
  return { ...rest, digest: hash?.digest('hex') };
}
