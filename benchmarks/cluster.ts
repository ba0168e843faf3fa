// How much does a cluster of three processes on one machine commit? Durable RocksDB stores, gRPC on loopback, a closed
// loop of callers in the process of each partition's leader, as in a service that embeds the library.
//
//   npm run bench -- cluster [--json] [--seconds 4] [--wal rocksdb|segment|sqlite|memory] [--cases PART] [--in-flight 1,64,512,4096]
//     [--partitions 1,16] [--bytes 16,1024] [--leaders spread|one] [--forward] [--read] [--repeat 1] [--profile DIR]
//
// `--forward` has followers make the writes, `--read` measures linearizable reads on leaders and on followers. With
// several partitions the nodes lead in turn, or one leads all (`--leaders`). `--cases` takes those whose name contains
// PART (`write/16B/leader/1p/64`). `--profile` writes V8 profiles and prints where the time goes. CPU and syncs are sums
// over the three processes; p50 and p99 are those of the calls.
//
// Floors for 16 B on one partition (2 cores, all three nodes on them; fdatasync 0.3 ms): 500 commits/s with 1 in
// flight, 10,000 with 64, 40,000 with 512, 100,000 with 4,096; syncs per entry fall as more are in flight.
// The sketch behind them: what is in flight together travels in one turn. A turn is one write and sync on each node,
// side by side, an append and its ack per follower, a commit notice and its ack. It takes 0.9 ms at least (a sync of 0.2
// to 0.4 ms and five wakings of an event loop) and 1.2 ms of CPU over the three processes, and 4 µs of CPU more for each
// entry. With N in flight, two cores of which three quarters can be used: N / max(0.9 ms, (1.2 ms + N × 4 µs) / 1.5), so
// 1,100/s, 66,000/s, 235,000/s, and 350,000/s. The floors leave room for a machine that does other work beside it.

import { readdirSync } from 'node:fs';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  type Case,
  type CaseResult,
  caseName,
  type Measuring,
  measureCase,
} from './support/cluster-case.ts';
import { summarizeProfile } from './support/cpu-profile.ts';
import { withStoreRoot } from './support/store-root.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '4' },
    wal: { type: 'string', default: 'rocksdb' },
    leaders: { type: 'string', default: 'spread' },
    cases: { type: 'string', default: '' },
    'in-flight': { type: 'string', default: '1,64,512,4096' },
    partitions: { type: 'string', default: '1,16' },
    bytes: { type: 'string', default: '16,1024' },
    forward: { type: 'boolean', default: false },
    read: { type: 'boolean', default: false },
    repeat: { type: 'string', default: '1' },
    profile: { type: 'string' },
  },
});

/** Times that a case is measured again because leadership moved or calls failed. */
const disturbedMax = 3;
const warmUpMs = 1_000;
const seconds = numberOf('seconds', { min: 0.1, max: 3_600 });
const repeat = numberOf('repeat', { min: 1, max: 1_000 });
const wal = oneOf('wal', ['rocksdb', 'segment', 'sqlite', 'memory']);
const leaders = oneOf('leaders', ['spread', 'one']);

async function main(): Promise<void> {
  const cases = wantedCases();
  if (cases.length === 0) throw new Error(`no case has "${values.cases}" in its name`);
  const loadBefore = loadavg()[0];
  const results: CaseResult[] = [];
  if (!values.json) console.log(headLine());
  await withStoreRoot('cluster', async (root) => {
    for (const each of cases) {
      const result = await undisturbed(each, {
        wal,
        placement: leaders,
        directory: join(root, 'case'),
        warmUpMs,
        measureMs: seconds * 1_000,
        profileDirectory: values.profile,
      });
      results.push(result);
      if (!values.json) console.log(tableLine(result));
    }
  });
  const rawSyncs = results.map(({ rawSyncMs }) => rawSyncMs).sort((a, b) => a - b);
  const rawSyncP50Ms = rawSyncs[rawSyncs.length >> 1] ?? Number.NaN;
  const machine = {
    cores: availableParallelism(),
    processor: cpus()[0]?.model ?? 'unknown',
    node: process.version,
    rawSyncP50Ms,
    loadAverage: { before: loadBefore, after: loadavg()[0] },
  };
  if (values.json) {
    const cases = results.map(withNamedRate);
    console.log(JSON.stringify({ benchmark: 'cluster', machine, wal, leaders, seconds, cases }));
    return;
  }
  console.log(
    `${machine.cores} cores, Node ${machine.node}, median append and fdatasync ${rawSyncP50Ms} ms`,
  );
  if (values.profile !== undefined) printProfiles(values.profile);
}

function wantedCases(): readonly Case[] {
  const lists = {
    partitions: numbersOf('partitions', { min: 1, max: 1_024 }),
    bytes: numbersOf('bytes', { min: 0, max: 1_048_576 }),
    inFlight: numbersOf('in-flight', { min: 1, max: 65_536 }),
  };
  const cases: Case[] = [];
  for (const partitions of lists.partitions) {
    const add = (rest: Pick<Case, 'operation' | 'caller' | 'bytes'>): void => {
      for (const inFlight of lists.inFlight) cases.push({ ...rest, partitions, inFlight });
    };
    if (values.read) {
      for (const caller of ['leader', 'follower'] as const)
        add({ operation: 'read', caller, bytes: 0 });
    }
    if (values.read && !values.forward) continue;
    const caller = values.forward ? 'follower' : 'leader';
    for (const bytes of lists.bytes) add({ operation: 'write', caller, bytes });
  }
  const wanted = cases.filter((each) => caseName(each).includes(values.cases));
  return wanted.flatMap((each) => new Array<Case>(repeat).fill(each));
}

/** What was measured while leadership moved is no answer to the question. */
async function undisturbed(each: Case, measuring: Measuring): Promise<CaseResult> {
  for (let attempt = 1; ; attempt++) {
    const result = await measureCase(each, measuring);
    const isDisturbed = result.leaderChanges > 0 || Object.keys(result.failures).length > 0;
    if (!isDisturbed || attempt === disturbedMax) return result;
    const { name, leaderChanges, failures, warnings } = result;
    console.error(
      `${name} was disturbed, again: ${JSON.stringify({ leaderChanges, failures, warnings })}`,
    );
  }
}

function withNamedRate({
  name,
  perSecond,
  ...rest
}: CaseResult): Readonly<Record<string, unknown>> {
  const rate = rest.operation === 'write' ? 'commitsPerSecond' : 'readsPerSecond';
  return { name, [rate]: perSecond, ...rest };
}

const columns: readonly (readonly [
  title: string,
  width: number,
  value: (r: CaseResult) => string,
])[] = [
  ['case', 32, ({ name }) => name],
  ['per second', 11, ({ perSecond }) => perSecond.toLocaleString('en')],
  ['p50 ms', 8, ({ p50Ms }) => String(p50Ms)],
  ['p99 ms', 8, ({ p99Ms }) => String(p99Ms)],
  ['CPU µs/entry', 13, ({ cpuMicrosPerEntry }) => String(cpuMicrosPerEntry)],
  ['syncs/s', 8, ({ syncsPerSecond }) => String(syncsPerSecond)],
  ['syncs/entry', 12, ({ syncsPerEntry }) => String(syncsPerEntry)],
  ['raw sync ms', 12, ({ rawSyncMs }) => String(rawSyncMs)],
  ['disturbed', 10, disturbance],
];

function headLine(): string {
  return columns.map(([title, width], at) => cell(title, width, at)).join('');
}

function tableLine(result: CaseResult): string {
  return columns.map(([, width, value], at) => cell(value(result), width, at)).join('');
}

function cell(text: string, width: number, at: number): string {
  return at === 0 ? text.padEnd(width) : text.padStart(width);
}

function disturbance({ leaderChanges, failures }: CaseResult): string {
  const failed = Object.entries(failures).map(([code, count]) => `${count} ${code}`);
  return leaderChanges === 0 && failed.length === 0
    ? ''
    : [`${leaderChanges} leader changes`, ...failed].join(', ');
}

const functionsShown = 25;

function printProfiles(directory: string): void {
  for (const file of readdirSync(directory).sort()) {
    if (!file.endsWith('.cpuprofile')) continue;
    const { busyMicros, layers, functions } = summarizeProfile(join(directory, file));
    const part = (micros: number): string => `${((micros / busyMicros) * 100).toFixed(1)} %`;
    console.log(`\n${file}: busy ${Math.round(busyMicros / 1_000)} ms`);
    for (const { layer, micros } of layers) console.log(`  ${part(micros).padStart(7)}  ${layer}`);
    for (const { layer, name, micros } of functions.slice(0, functionsShown))
      console.log(`  ${part(micros).padStart(7)}  ${layer}: ${name}`);
  }
}

interface Bounds {
  readonly min: number;
  readonly max: number;
}

function numberOf(name: 'seconds' | 'repeat', { min, max }: Bounds): number {
  const value = Number(values[name]);
  if (value >= min && value <= max) return value;
  throw new Error(`--${name} is ${values[name]}; it is a number from ${min} to ${max}`);
}

function oneOf<Choice extends string>(name: 'wal' | 'leaders', choices: readonly Choice[]): Choice {
  const chosen = choices.find((choice) => choice === values[name]);
  if (chosen !== undefined) return chosen;
  throw new Error(`--${name} is ${values[name]}; it is one of ${choices.join(', ')}`);
}

function numbersOf(
  name: 'partitions' | 'bytes' | 'in-flight',
  { min, max }: Bounds,
): readonly number[] {
  const list = values[name].split(',').map(Number);
  if (list.every((value) => Number.isInteger(value) && value >= min && value <= max)) return list;
  throw new Error(`--${name} is ${values[name]}; it is whole numbers from ${min} to ${max}`);
}

await main();
