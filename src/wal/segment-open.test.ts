// How what segments say of a partition is put together, where there is much of it.

import assert from 'node:assert/strict';
import process from 'node:process';
import { test } from 'node:test';
import { type GatheredPartition, gather } from './segment-open.ts';
import { emptySummary, type SegmentSummary, type SummaryRun } from './segment-summary.ts';

function summaryWith(runs: { readonly moved?: SummaryRun[]; readonly runs?: SummaryRun[] }) {
  const summary: SegmentSummary = emptySummary();
  const rest = { hardState: undefined, base: undefined, dropped: undefined, compaction: undefined };
  summary.partitions.set(1, { ...rest, cutIndex: 0, moved: [], runs: [], ...runs });
  return summary;
}

/** Runs of one entry each. */
function runsAt(indexes: readonly number[]): SummaryRun[] {
  return indexes.map((firstIndex) => ({
    ...{ firstIndex, term: 1, entryCount: 1, offset: 0, byteLength: 50 },
  }));
}

function gathered(summaries: readonly SegmentSummary[]): readonly (readonly [number, number])[] {
  const partitions = new Map<number, GatheredPartition>();
  for (const [at, summary] of summaries.entries())
    gather(partitions, new Map(), { number: at + 1, summary });
  const runs = partitions.get(1)?.runs ?? [];
  return runs.map(({ firstIndex, segmentNumber }) => [firstIndex, segmentNumber]);
}

test('copies take the place of what they are copies of, and stand between their neighbours where that is gone', () => {
  const summaries = [
    summaryWith({ runs: runsAt([4, 5, 6, 9]) }),
    summaryWith({ moved: runsAt([1, 2, 5, 7, 10]) }),
  ];
  assert.deepEqual(gathered(summaries), [
    ...[1, 2].map((index) => [index, 2]),
    [4, 1],
    [5, 2],
    [6, 1],
    [7, 2],
    [9, 1],
    [10, 2],
  ]);
});

test('a segment full of copies joins a long log in one pass', () => {
  const copyCount = 10_000;
  const indexes = Array.from({ length: 1_000_000 }, (_, i) => i + 1);
  const summaries = [
    summaryWith({ runs: runsAt(indexes.slice(copyCount)) }),
    summaryWith({ moved: runsAt(indexes.slice(0, copyCount)) }),
  ];
  const before = process.cpuUsage();
  assert.equal(gathered(summaries).length, indexes.length);
  // One by one they took half a minute.
  assert.ok(process.cpuUsage(before).user < 5_000_000);
});
