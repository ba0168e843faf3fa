// What the demo shows: the live table, a progress line for those who have no terminal, and the summary. Text only;
// where it goes is decided by demo.ts.

import type { RecordableHistogram } from 'node:perf_hooks';
import type { Cluster } from './cluster.ts';
import type { Load } from './load.ts';

/** The figures of a run. */
export interface Summary {
  /** Writes that were begun. */
  readonly writes: number;
  /** Writes whose success the writer was told. */
  readonly acknowledged: number;
  /** Writes that may have taken effect or not: no answer, or an answer that said so. */
  readonly indeterminate: number;
  /** Acknowledged writes that are not there, or that a read contradicted. Must be 0. */
  readonly lost: number;
  /** Times that a partition got another leader. */
  readonly leaderChanges: number;
  /** Longest time between two acknowledged writes of one partition, in milliseconds. */
  readonly unavailableMsMax: number;
  /** Acknowledged writes per second of load. */
  readonly writesPerSecond: number;
  /** Latency of acknowledged writes in milliseconds. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** The summary of a load that has ended after `loadMs`; `lost` counts what reading everything at the end found too. */
export function summaryOf(
  load: Load,
  ended: { readonly loadMs: number; readonly leaderChanges: number; readonly lostAtEnd: number },
): Summary {
  const { writes, acknowledged, indeterminate, lost } = load.counts;
  return {
    writes,
    acknowledged,
    indeterminate,
    lost: lost + ended.lostAtEnd,
    leaderChanges: ended.leaderChanges,
    unavailableMsMax: Math.round(load.availability.longestMs(load.startMs + ended.loadMs)),
    writesPerSecond: Math.round(acknowledged / (ended.loadMs / 1_000)),
    p50Ms: percentileMs(load.latency, 50),
    p99Ms: percentileMs(load.latency, 99),
  };
}

export function summaryText(summary: Summary): string {
  const rows: [string, string][] = [
    ['writes', count(summary.writes)],
    ['acknowledged', `${count(summary.acknowledged)} (${count(summary.writesPerSecond)}/s)`],
    ['indeterminate', count(summary.indeterminate)],
    [
      'lost',
      `${count(summary.lost)}${summary.lost === 0 ? '' : '   <-- acknowledged writes are missing'}`,
    ],
    ['leader changes', count(summary.leaderChanges)],
    ['longest gap of a partition', `${count(summary.unavailableMsMax)} ms`],
    ['latency p50 / p99', `${summary.p50Ms} ms / ${summary.p99Ms} ms`],
  ];
  return rows.map(([name, value]) => `  ${name.padEnd(28)}${value}`).join('\n');
}

export interface LiveFigures {
  readonly cluster: Cluster;
  readonly load: Load;
  readonly title: string;
  readonly elapsedMs: number;
  /** Acknowledged writes per second since the last look. */
  readonly rate: number;
  readonly lastEvent: string;
}

/** Partitions whose roles fit in a row; with more, only their number is shown. */
const partitionColumnsMax = 32;

/** The live table, one string per line. */
export function tableLines(figures: LiveFigures): readonly string[] {
  const { cluster, load, title, elapsedMs, rate, lastEvent } = figures;
  const { acknowledged, indeterminate, failed, lost } = load.counts;
  const partitionCount = load.availability.partitionCount;
  const hasColumns = partitionCount <= partitionColumnsMax;
  const columns = hasColumns
    ? Array.from({ length: partitionCount }, (_, at) => `${at + 1}`.padStart(3)).join('')
    : '';
  const rows = cluster.nodes.map((node) => {
    const partitions = cluster.viewOf(node)?.partitions.filter(({ partition }) => partition > 0);
    const leads = partitions?.filter(({ role }) => role === 'leader').length ?? 0;
    const applied = partitions?.reduce((sum, each) => sum + each.lastApplied, 0);
    const roles = partitions?.map(({ role }) => roleLetter(role).padStart(3)).join('') ?? '';
    return [
      node.nodeId.padEnd(6),
      `127.0.0.1:${node.httpPort}`.padEnd(16),
      node.state.padEnd(10),
      `${leads}`.padStart(5),
      (applied === undefined ? '-' : count(applied)).padStart(13),
      hasColumns ? `  ${roles}` : '',
    ].join('');
  });
  return [
    `${title} · ${Math.floor(elapsedMs / 1_000)} s`,
    '',
    `${'node'.padEnd(6)}${'http'.padEnd(16)}${'state'.padEnd(10)}leads      applied  ${columns}`,
    ...rows,
    '',
    `${count(rate)} writes/s   p50 ${percentileMs(load.recentLatency, 50)} ms   p99 ${percentileMs(load.recentLatency, 99)} ms`,
    `acknowledged ${count(acknowledged)}   indeterminate ${count(indeterminate)}   refused ${count(failed)}   contradicted ${count(lost)}`,
    `leader changes ${cluster.leaders.changeCount}   longest gap ${Math.round(load.availability.longestMs(load.startMs + elapsedMs))} ms`,
    lastEvent,
  ];
}

/** One line for logs and pipes. */
export function progressLine(figures: LiveFigures): string {
  const { cluster, load, elapsedMs, rate } = figures;
  const { acknowledged, indeterminate, lost } = load.counts;
  return [
    `${Math.floor(elapsedMs / 1_000)} s`,
    `${count(rate)} writes/s`,
    `p50 ${percentileMs(load.recentLatency, 50)} ms`,
    `p99 ${percentileMs(load.recentLatency, 99)} ms`,
    `acknowledged ${count(acknowledged)}`,
    `indeterminate ${count(indeterminate)}`,
    `contradicted ${count(lost)}`,
    `leader changes ${cluster.leaders.changeCount}`,
  ].join('  ');
}

/** How to try a cluster that runs until Ctrl-C. */
export function invitation(url: string, otherUrl: string): string {
  return [
    'Try it from another terminal:',
    `  curl -X PUT ${url}/v1/kv/greeting -d hello`,
    `  curl ${otherUrl}/v1/kv/greeting`,
    `  curl ${url}/v1/status`,
    'Ctrl-C ends it.',
  ].join('\n');
}

function roleLetter(role: string): string {
  const letters: Readonly<Record<string, string>> = { leader: 'L', follower: '·' };
  return letters[role] ?? '?';
}

/** In milliseconds with three significant decimals; 0 when nothing was recorded. */
function percentileMs(histogram: RecordableHistogram, percentile: number): number {
  return histogram.count === 0 ? 0 : Math.round(histogram.percentile(percentile)) / 1_000;
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
