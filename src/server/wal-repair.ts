// `kommander wal repair`: mends a stopped node's store with entries that its peers have committed. The mended store is made
// beside the damaged one, checked, and takes its place at the very end; the damaged one is kept under another name. What may
// be mended is decided in wal-repair-plan.ts.

import { rename } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { KommanderError } from '../base/errors.ts';
import type { LogIndex, Term } from '../raft/types.ts';
import { syncDirectory } from '../wal/store-directory.ts';
import type { StoreSurvey } from '../wal/store-survey.ts';
import {
  buildStore,
  differences,
  namesIn,
  notPlaced,
  partitionText,
  placeStore,
} from './wal-build.ts';
import { openClosedStore } from './wal-engines.ts';
import { type Print, reportOf, type WalReport } from './wal-inspect.ts';
import { hardStateAfter, mendedFinds, type PartitionMend } from './wal-mend.ts';
import { askPeer, fetchEntries, type LogPeer } from './wal-peers.ts';
import { countingFinds, progressOf } from './wal-progress.ts';
import { appliedBy, checkUpToDate, needsOf, peerFor, refused } from './wal-repair-plan.ts';

/** Directories of damaged stores that are kept beside a store, at most. */
const keptMax = 1_000;

/**
 * Mends the store in `path`, if it is damaged.
 *
 * @param peerUrls HTTP APIs of running nodes of its cluster
 * @throws REPAIR_REFUSED   what is damaged cannot be had from these peers; nothing was changed
 * @throws TRANSPORT_FAILED a peer does not answer; nothing was changed
 * @throws WRONG_CLUSTER    a peer is of another cluster, or the damaged node itself; nothing was changed
 * @throws WAL_LOCKED, WAL_VERSION, WAL_FAILED, INVALID_ARGUMENT, MISSING_DEPENDENCY
 */
export async function repairStore(
  path: string,
  peerUrls: readonly string[],
  say: Print,
): Promise<void> {
  const target = resolve(path);
  const draft = `${target}.repaired`;
  if ((await namesIn(target)) === undefined && (await isFinished(draft))) {
    // An earlier run was cut short between the last two steps.
    await placeStore(draft, target);
    say(`${path}: the repaired store of an earlier run is in its place\n`);
    return;
  }
  const store = await openClosedStore(target);
  try {
    const report = await reportOf(store, { digest: true, progress: progressOf('read', say) });
    const { survey } = report;
    if (survey.damageCount === 0) {
      say(`${path}: the store is whole, there is nothing to repair\n`);
      return;
    }
    const mends = await mendsOf(report, peerUrls);
    const finds = countingFinds(mendedFinds(store.finds(), mends), progressOf('written', say));
    const check = (found: StoreSurvey): string[] => mistakesIn(found, survey, mends);
    await buildStore({ engine: store.engine, draft, source: store.path, finds, check });
    const kept = await swap(target, draft);
    for (const mend of mends) say(`${path}: ${mendText(mend)}\n`);
    say(`${path}: repaired and whole; the damaged store is kept as ${kept}\n`);
  } finally {
    await store.close();
  }
}

async function isFinished(draft: string): Promise<boolean> {
  return (await namesIn(draft))?.includes('KOMMANDER') ?? false;
}

/** What to do in every damaged partition, and from whom. */
async function mendsOf(
  { survey, facts }: WalReport,
  peerUrls: readonly string[],
): Promise<PartitionMend[]> {
  const needs = needsOf(survey);
  if (facts?.clusterId === undefined) throw refused('whose store it is cannot be read');
  const peers: LogPeer[] = [];
  for (const url of peerUrls) {
    const peer = await askPeer(url);
    const isOther = peer.clusterId !== facts.clusterId;
    if (isOther || peer.nodeId === facts.nodeId) {
      const why = isOther ? `belongs to cluster ${peer.clusterId}` : 'is the damaged node itself';
      throw new KommanderError(
        `${url} ${why}: give the peers of node ${facts.nodeId} in cluster ${facts.clusterId}`,
        { code: 'WRONG_CLUSTER', details: { url } },
      );
    }
    peers.push(peer);
  }
  const mends: PartitionMend[] = [];
  for (const need of needs) {
    const peer = peerFor(need, peers);
    if (need.end === undefined) {
      mends.push({ need, peer, committed: undefined });
      continue;
    }
    const index = appliedBy(peer, need.partitionId);
    const committed = { index, term: await termAt(peer, need.partitionId, index) };
    checkUpToDate(need, committed);
    mends.push({ need, peer, committed });
  }
  return mends;
}

async function termAt(peer: LogPeer, partitionId: number, index: LogIndex): Promise<Term> {
  for await (const [entry] of fetchEntries(peer, partitionId, { from: index, last: index })) {
    if (entry !== undefined) return entry.term;
  }
  throw refused(`${peer.nodeId} has no entry ${index} of partition ${partitionId}`);
}

/** What is wrong with the store that was made: nothing but what was mended may be different. */
function mistakesIn(
  found: StoreSurvey,
  before: StoreSurvey,
  mends: readonly PartitionMend[],
): string[] {
  const mended = new Map(mends.map((mend) => [mend.need.partitionId, mend]));
  const others = (survey: StoreSurvey): StoreSurvey => ({
    ...survey,
    damageCount: 0,
    partitions: survey.partitions.filter(({ partitionId }) => !mended.has(partitionId)),
  });
  const problems = differences(others(before), others(found));
  if (found.damageCount > 0) problems.push(`${found.damageCount} places are damaged`);
  for (const [partitionId, mend] of mended) {
    const [was, is] = [before, found].map(({ partitions }) =>
      partitions.find((partition) => partition.partitionId === partitionId),
    );
    if (was === undefined || is === undefined) problems.push(`partition ${partitionId} is missing`);
    else {
      const expected = {
        ...is,
        ...{ base: was.base, dataBytes: was.dataBytes },
        ...{ compactedIndex: was.compactedIndex, compactedTerm: was.compactedTerm },
        lastIndex: mend.committed?.index ?? Math.max(was.lastIndex, is.lastIndex),
        hardState: hardStateAfter(mend),
      };
      if (partitionText(expected) !== partitionText(is))
        problems.push(`partition ${partitionId} differs beside its entries`);
    }
  }
  return problems;
}

function mendText({ need, peer, committed }: PartitionMend): string {
  const { partitionId, ranges, commitIndex } = need;
  const parts = ranges.map(({ from, last }) => `entries ${from} … ${last} replaced`);
  if (committed !== undefined)
    parts.push(
      `the log behind ${commitIndex} is now what is committed, up to ${committed.index} of term ${committed.term}`,
    );
  return `partition ${partitionId}: ${parts.join(', ')} (from ${peer.nodeId})`;
}

/** The damaged store makes room, and the new one takes its place. Returns where the damaged one is. */
async function swap(target: string, draft: string): Promise<string> {
  const names = (await namesIn(dirname(target))) ?? [];
  const base = target.slice(dirname(target).length + 1);
  for (let number = 1; number <= keptMax; number++) {
    const name = `${base}.damaged-${number}`;
    if (names.includes(name)) continue;
    const kept = resolve(dirname(target), name);
    await rename(target, kept).catch((cause: unknown) => {
      throw notPlaced({ draft, target }, cause);
    });
    await placeStore(draft, target);
    await syncDirectory(dirname(target));
    return kept;
  }
  throw new KommanderError(
    `${keptMax} damaged stores are kept beside ${target}: remove those that nobody needs, and ${draft}, and try again`,
    { code: 'INVALID_ARGUMENT', details: { argument: 'DIR', path: target } },
  );
}
