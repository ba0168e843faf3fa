// How long does the linearizability checker take for 10,000 operations of 32 clients on 64 keys? Histories of a right
// and of a wrong machine, with all outcomes known and with 5 % unknown, of key-value pairs and of lists; and the same on
// 4 keys and on 1, where all clients meet. Every client always has an operation under way.
//
//   node benchmarks/linearizability.ts [--seeds 5] [--json] [--check]
//
// Expected (one core of a small server): 0.02 to 0.3 s with 64 keys, most of it for sorting and the first compilation;
// about as much with 4 keys, and with 1 key and a right machine. There a wrong machine may take seconds, for 32 operations
// at once have more orders than can be tried. Bar, which `--check` enforces for 64 keys: every history is decided, and in
// less than 10 s.

import process from 'node:process';
import { parseArgs } from 'node:util';
import { checkLinearizability } from '../src/testing/linearizability/check.ts';
import { appendListModel, keyValueModel } from '../src/testing/linearizability/models.ts';
import {
  appendListHistory,
  type Fault,
  type HistoryShape,
  keyValueHistory,
} from '../test/support/concurrent-history.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
  },
});
const barMs = 10_000;
const seedCount = Number(values.seeds);

interface Case {
  readonly object: 'key-value' | 'list';
  readonly keyCount: number;
  readonly operationCount: number;
  readonly unknownShare: number;
  readonly fault: Fault;
}

interface Result extends Case {
  /** By seed. */
  readonly elapsedMs: readonly number[];
  readonly verdicts: readonly string[];
}

function* cases(): Generator<Case> {
  const sizes = [
    { keyCount: 64, operationCount: 10_000 },
    { keyCount: 4, operationCount: 10_000 },
    { keyCount: 1, operationCount: 2_000 },
  ];
  for (const size of sizes) {
    for (const object of ['key-value', 'list'] as const) {
      for (const unknownShare of [0, 0.05]) {
        for (const fault of ['none', 'staleRead'] as const) {
          yield { object, ...size, unknownShare, fault };
        }
      }
    }
  }
}

function measure(each: Case): Result {
  const elapsedMs: number[] = [];
  const verdicts: string[] = [];
  for (let seed = 1; seed <= seedCount; seed++) {
    // A few wrong answers in the whole history, as a rare bug gives.
    const faultShare = 20 / each.operationCount;
    const check = prepare(each.object, { ...each, seed, faultShare, clientCount: 32 });
    const startMs = performance.now();
    verdicts.push(check());
    elapsedMs.push(Math.round(performance.now() - startMs));
  }
  return { ...each, elapsedMs, verdicts };
}

/** Makes a history; what is returned checks it. */
function prepare(object: Case['object'], shape: HistoryShape): () => string {
  const bounds = { timeLimitMs: barMs };
  if (object === 'list') {
    const history = appendListHistory(shape);
    return () => checkLinearizability(appendListModel(), history, bounds).verdict;
  }
  const history = keyValueHistory(shape);
  return () => checkLinearizability(keyValueModel(), history, bounds).verdict;
}

function lineOf({ object, keyCount, operationCount, ...result }: Result): string {
  const sorted = [...result.elapsedMs].sort((a, b) => a - b);
  const counted = ['linearizable', 'illegal', 'unknown']
    .map((verdict) => [result.verdicts.filter((each) => each === verdict).length, verdict] as const)
    .filter(([count]) => count > 0)
    .map(([count, verdict]) => `${count} ${verdict}`);
  return [
    object.padEnd(9),
    String(keyCount).padStart(4),
    String(operationCount).padStart(10),
    `${result.unknownShare * 100} %`.padStart(7),
    (result.fault === 'none' ? 'right' : 'stale reads').padEnd(11),
    String(sorted[Math.floor(sorted.length / 2)]).padStart(9),
    String(sorted.at(-1)).padStart(7),
    counted.join(', '),
  ].join('  ');
}

if (!values.json) {
  console.log('object     keys  operations  unknown  machine      median ms   max ms  verdicts');
}
const results: Result[] = [];
for (const each of cases()) {
  const result = measure(each);
  results.push(result);
  if (!values.json) console.log(lineOf(result));
}
if (values.json) console.log(JSON.stringify({ benchmark: 'linearizability', results }));
const missed = results.filter(
  ({ keyCount, elapsedMs, verdicts }) =>
    keyCount === 64 && (verdicts.includes('unknown') || elapsedMs.some((ms) => ms >= barMs)),
);
if (values.check && missed.length > 0) {
  for (const result of missed) console.error(`below the bar: ${lineOf(result)}`);
  process.exitCode = 1;
}
