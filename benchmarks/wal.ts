// How fast is a log store? Entries per second, synced, in batches of 1 to 1,000 entries over 1 and 64 partitions, next
// to a raw append-and-fdatasync of the same bytes in the same run, and the time to open a store of 1,000,000 entries.
// Every part of a batch carries a hard state, as a busy leader's does; logs are compacted as they grow.
//
//   npm run bench -- wal [--seconds 0.5] [--path DIR] [--only rocksdb,sqlite] [--question write,open] [--json]
//
// Expected (2 quiet cores, fdatasync of 4 KiB 0.2 ms): segment 1.5 to 1.8 times rocksdb in the mean of all cases and not
// below it (what syncs a MiB is bound by the disk, and about equal), sqlite 0.5 to 0.8 times rocksdb. rocksdb with one
// partition 0.65 to 0.95 times the raw rate at 1 to 100 entries of 16 B a sync. Opening 1,000,000 entries of 128 B in runs of
// 30: rocksdb 0.6 s, segment 0.1 s, sqlite 0.4 s, read at 2 million a second or more. The table is in
// docs/internals/performance.md.

import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { layOutRun } from '../src/ports/run.ts';
import type { PartitionWrite, Wal } from '../src/ports/wal.ts';
import { type Entry, EntryKind } from '../src/raft/types.ts';
import { memoryWal } from '../src/wal/memory.ts';
import { rocksdbWal } from '../src/wal/rocksdb.ts';
import { segmentWal } from '../src/wal/segment.ts';
import { sqliteWal } from '../src/wal/sqlite.ts';

interface Engine {
  readonly name: string;
  readonly isDurable: boolean;
  /** A store in directory `path`. */
  readonly wal: (path: string) => Wal;
}

/** Every engine that is compared; a new one joins here. */
const engines: readonly Engine[] = [
  { name: 'memory', isDurable: false, wal: () => memoryWal() },
  { name: 'rocksdb', isDurable: true, wal: (path) => rocksdbWal({ path }) },
  { name: 'segment', isDurable: true, wal: (path) => segmentWal({ path }) },
  { name: 'sqlite', isDurable: true, wal: (path) => sqliteWal({ path }) },
];
const questions = ['write', 'open'];

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '0.5' },
    path: { type: 'string', default: tmpdir() },
    only: { type: 'string' },
    question: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const chosenEngines = chosen(
  'only',
  engines.map(({ name }) => name),
);
const chosenQuestions = chosen('question', questions);
const measureMs = Number(values.seconds) * 1_000;
const roundCount = 2;
const keptEntriesMax = 20_000;
const mebibyte = 1_048_576;

interface Shape {
  readonly entriesPerSync: number;
  readonly payloadBytes: number;
  readonly partitionCount: number;
}

/** A shape whose logs are compacted when they are longer than so many entries. */
interface KeptShape extends Shape {
  readonly keptEntries: number;
}

interface Rate {
  readonly entriesPerSecond: number;
  readonly syncsPerSecond: number;
  readonly cpuMicrosPerEntry: number;
}

/** One step: writes and syncs a batch. */
type Step = () => void | Promise<void>;

async function measured(shape: Shape, step: Step, durationMs: number): Promise<Rate> {
  for (let i = 0; i < 5; i++) await step();
  const cpuBefore = process.cpuUsage();
  const startMs = performance.now();
  let count = 0;
  do {
    await step();
    count += 1;
  } while (performance.now() - startMs < durationMs);
  const seconds = (performance.now() - startMs) / 1_000;
  const cpu = process.cpuUsage(cpuBefore);
  const entries = count * shape.entriesPerSync;
  return {
    entriesPerSecond: entries / seconds,
    syncsPerSecond: count / seconds,
    cpuMicrosPerEntry: (cpu.user + cpu.system) / entries,
  };
}

/** Appends what one batch holds at least: the payloads, two bytes for each, and a header a run. */
function rawStep(file: number, shape: Shape): Step {
  const runCount = Math.min(shape.partitionCount, shape.entriesPerSync);
  const recordBytes = shape.payloadBytes + (shape.payloadBytes < 128 ? 2 : 3);
  const bytes = new Uint8Array(shape.entriesPerSync * recordBytes + runCount * 32).fill(7);
  return () => {
    writeSync(file, bytes);
    fdatasyncSync(file);
  };
}

function walStep(wal: Wal, shape: KeptShape): Step {
  const payload = Uint8Array.from({ length: shape.payloadBytes }, (_, i) => (i * 31) & 0xff);
  const runPayload = {
    kind: EntryKind.normal,
    byteLength: payload.byteLength,
    write: (target: Uint8Array, offset: number) => target.set(payload, offset),
  };
  const partCount = Math.min(shape.partitionCount, shape.entriesPerSync);
  const lastIndexes = new Array<number>(shape.partitionCount).fill(0);
  const baseIndexes = new Array<number>(shape.partitionCount).fill(0);
  let nextPartition = 0;
  const confState = {
    voters: [1, 2, 3],
    votersOutgoing: [],
    learners: [],
    learnersNext: [],
    autoLeave: false,
  };

  function part(partitionId: number, count: number): PartitionWrite {
    const lastIndex = lastIndexes[partitionId] as number;
    const entries: Entry[] = layOutRun(new Array(count).fill(runPayload)).map((entry, i) => ({
      ...entry,
      index: lastIndex + 1 + i,
      term: 1,
    }));
    lastIndexes[partitionId] = lastIndex + count;
    const compacts = lastIndex - (baseIndexes[partitionId] as number) > shape.keptEntries;
    if (compacts) baseIndexes[partitionId] = lastIndex;
    return {
      partitionId,
      hardState: { term: 1, votedFor: 1, commitIndex: lastIndex },
      base: compacts ? { index: lastIndex, term: 1, confState, data: undefined } : undefined,
      resetLog: false,
      entries,
      compactThroughIndex: compacts ? lastIndex : undefined,
    };
  }

  return () => {
    const writes: PartitionWrite[] = [];
    let left = shape.entriesPerSync;
    for (let i = partCount; i > 0; i--) {
      const count = Math.ceil(left / i);
      writes.push(part(nextPartition, count));
      nextPartition = (nextPartition + 1) % shape.partitionCount;
      left -= count;
    }
    return wal.write({ writes, meta: new Map(), sync: true });
  };
}

function best(rates: readonly Rate[]): Rate {
  return rates.reduce((a, b) => (b.entriesPerSecond > a.entriesPerSecond ? b : a));
}

function rounded(value: number): number {
  return value >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

async function compare(engine: Engine, directory: string, shape: Shape): Promise<void> {
  const wal = engine.wal(join(directory, 'store'));
  const file = openSync(join(directory, 'raw'), 'w');
  await wal.open();
  const raw: Rate[] = [];
  const stored: Rate[] = [];
  const rawOnce = rawStep(file, shape);
  const walOnce = walStep(wal, { ...shape, keptEntries: keptEntriesMax });
  for (let round = 0; round < roundCount; round++) {
    raw.push(await measured(shape, rawOnce, measureMs / roundCount));
    stored.push(await measured(shape, walOnce, measureMs / roundCount));
  }
  closeSync(file);
  await wal.close();
  const rate = best(stored);
  const row = {
    engine: engine.name,
    question: 'write',
    ...shape,
    entriesPerSecond: rounded(rate.entriesPerSecond),
    syncsPerSecond: rounded(rate.syncsPerSecond),
    cpuMicrosPerEntry: rounded(rate.cpuMicrosPerEntry),
    rawEntriesPerSecond: rounded(best(raw).entriesPerSecond),
    ratioToRaw: rounded(rate.entriesPerSecond / best(raw).entriesPerSecond),
  };
  print(row);
}

async function measureOpening(engine: Engine, directory: string, entries: number): Promise<void> {
  const shape = { entriesPerSync: 1_920, payloadBytes: 128, partitionCount: 64 };
  const path = join(directory, `store-${entries}`);
  const wal = engine.wal(path);
  await wal.open();
  const step = walStep(
    { ...wal, write: (batch) => wal.write({ ...batch, sync: false }) },
    { ...shape, keptEntries: Number.POSITIVE_INFINITY },
  );
  for (let count = 0; count < entries; count += shape.entriesPerSync) await step();
  await wal.close();
  const again = engine.wal(path);
  const residentBefore = residentBytes();
  const startMs = performance.now();
  const { partitions } = await again.open();
  const openMs = performance.now() - startMs;
  const openedBytes = residentBytes() - residentBefore;
  const readStartMs = performance.now();
  let readCount = 0;
  let residentMax = residentBefore;
  for (const { partitionId, compactedIndex, lastIndex } of partitions) {
    for (let fromIndex = compactedIndex + 1; fromIndex <= lastIndex; ) {
      const endIndex = lastIndex + 1;
      const range = { partitionId, fromIndex, endIndex, bytesMax: 1_048_576 };
      const read = await again.read(range);
      fromIndex += read.length;
      readCount += read.length;
    }
    residentMax = Math.max(residentMax, process.memoryUsage.rss());
  }
  const readMs = performance.now() - readStartMs;
  await again.close();
  print({
    engine: engine.name,
    question: 'open',
    entries: readCount,
    payloadBytes: shape.payloadBytes,
    partitionCount: shape.partitionCount,
    entriesPerRun: shape.entriesPerSync / shape.partitionCount,
    openMs: rounded(openMs),
    readEntriesPerSecond: rounded((readCount / readMs) * 1_000),
    openedMebibytes: rounded(openedBytes / mebibyte),
    readMebibytesMax: rounded((residentMax - residentBefore) / mebibyte),
  });
}

/** Of this process, without what is only waiting to be collected. */
function residentBytes(): number {
  globalThis.gc?.();
  return process.memoryUsage.rss();
}

/** What a comma-separated option chooses; everything when it is not given. */
function chosen(option: 'only' | 'question', names: readonly string[]): readonly string[] {
  const given = values[option]?.split(',') ?? names;
  const unknown = given.find((name) => !names.includes(name));
  if (unknown === undefined) return given;
  throw new Error(`--${option} ${unknown}: choose from ${names.join(', ')}`);
}

function print(row: Readonly<Record<string, string | number>>): void {
  if (values.json) console.log(JSON.stringify(row));
  else
    console.log(
      Object.entries(row)
        .map(([name, value]) => `${name} ${value}`)
        .join('  '),
    );
}

async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(values.path, 'kommander-bench-wal-'));
  try {
    await body(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function measureWriting(engine: Engine): Promise<void> {
  for (const payloadBytes of [16, 1_024]) {
    for (const partitionCount of [1, 64]) {
      for (const entriesPerSync of [1, 10, 100, 1_000]) {
        const shape = { entriesPerSync, payloadBytes, partitionCount };
        await inDirectory((directory) => compare(engine, directory, shape));
      }
    }
  }
}

for (const engine of engines) {
  if (!chosenEngines.includes(engine.name)) continue;
  if (chosenQuestions.includes('write')) await measureWriting(engine);
  if (!chosenQuestions.includes('open') || !engine.isDurable) continue;
  // A quarter first: what is only needed once is then there, and memory that grows with the log shows.
  for (const entries of [250_000, 1_000_000])
    await inDirectory((directory) => measureOpening(engine, directory, entries));
}
