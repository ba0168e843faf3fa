// Reading a closed segment store around its damages (`store-reader.ts`). Every record is read, footers are not believed. A
// run whose body is damaged is one damage with known ends, because its record's checksum covers its header; after any
// other record that is not whole, whatever it was is lost, and reading goes on at the next place where one is whole.

import { type FileHandle, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { MalformedBytesError } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import { decodeRun } from '../ports/run.ts';
import type { PartitionId } from '../ports/wal.ts';
import { decodeBase, decodeMeta } from './record.ts';
import {
  firstNumber,
  type GatheredPartition,
  type GatheredRun,
  gather,
  liveEnd,
  namePattern,
  type PlacedFact,
  segmentName,
} from './segment-open.ts';
import { type ReadRecord, tryReadRecord } from './segment-record.ts';
import { leftoversIn } from './segment-scan.ts';
import { emptySummary, noteRecord, readTrailer, trailerBytes } from './segment-summary.ts';
import { type StoreDamage, type StoreFind, type StoreReader, wholeDamage } from './store-reader.ts';

const recordAlignment = 8;

/**
 * Opens the closed store in directory `path` for reading. Nobody may open it for writing meanwhile.
 *
 * @throws WAL_FAILED (from `finds`) the directory cannot be read
 */
export async function readSegmentStore(path: string): Promise<StoreReader> {
  return {
    finds: (only) => findsOf(path, only),
    async close() {},
  };
}

interface GatheredStore {
  readonly partitions: Map<PartitionId, GatheredPartition>;
  readonly facts: Map<string, PlacedFact>;
  readonly damages: StoreDamage[];
}

async function* findsOf(path: string, only: PartitionId | undefined): AsyncGenerator<StoreFind> {
  const { partitions, facts, damages } = await gatherStore(path);
  for (const damage of damages) yield { kind: 'damage', damage };
  for (const [name, { record, segmentNumber }] of facts) {
    yield read(() => ({ kind: 'fact', name, value: decodeMeta(record) }), {
      ...wholeDamage(`the fact "${name}" is damaged`, segmentName(segmentNumber)),
    });
  }
  const wanted = [...partitions.values()]
    .filter(({ partitionId }) => only === undefined || partitionId === only)
    .sort((a, b) => a.partitionId - b.partitionId);
  const pieces = piecesOf(path);
  try {
    for (const partition of wanted) yield* partitionFinds(pieces, partition);
  } finally {
    await pieces.close();
  }
}

/** Walks over all segments, the oldest first. */
async function gatherStore(path: string): Promise<GatheredStore> {
  const store: GatheredStore = { partitions: new Map(), facts: new Map(), damages: [] };
  const numbers = await segmentNumbers(path);
  let join: Join = { crc: undefined, batch: undefined };
  const [oldest = firstNumber] = numbers;
  let expected = oldest;
  let isSealed = false;
  for (const [position, number] of numbers.entries()) {
    for (; expected < number; expected++) {
      store.damages.push(wholeDamage('the file is missing', segmentName(expected)));
      join = { crc: undefined, batch: undefined };
    }
    expected = number + 1;
    const bytes = await segmentBytes(path, number);
    const later = async function* (): AsyncGenerator<{ number: number; bytes: Uint8Array }> {
      for (const each of numbers.slice(position + 1))
        yield { number: each, bytes: await segmentBytes(path, each) };
    };
    const after = await gatherSegment(store, { number, bytes, join, later });
    isSealed = after !== undefined && recordsEnd(bytes, number) < bytes.byteLength;
    if (after === undefined) break;
    join = after;
  }
  // As `open` proves it: there is a file behind a footer, and a record in what is left when older files are gone.
  if (isSealed) store.damages.push(wholeDamage('the file is missing', segmentName(expected)));
  const hasNothing = store.partitions.size + store.facts.size + store.damages.length === 0;
  if (hasNothing && oldest > firstNumber)
    store.damages.push(wholeDamage('the records are gone', segmentName(oldest)));
  return store;
}

async function segmentNumbers(path: string): Promise<number[]> {
  return (await readdir(path))
    .flatMap((name) => {
      const match = namePattern.exec(name);
      return match === null ? [] : [Number(match[1])];
    })
    .sort((a, b) => a - b);
}

async function segmentBytes(path: string, number: number): Promise<Uint8Array> {
  const file = join(path, segmentName(number));
  try {
    return new Uint8Array(await readFile(file));
  } catch (cause) {
    throw new KommanderError(`the log store ${path} cannot be read: ${String(cause)}`, {
      code: 'WAL_FAILED',
      details: { path, file },
      cause,
    });
  }
}

/** What the next record must join; undefined: anything. */
interface Join {
  readonly crc: number | undefined;
  readonly batch: number | undefined;
}

interface SegmentWalk {
  readonly number: number;
  readonly bytes: Uint8Array;
  readonly join: Join;
  /** The segments behind this one. */
  readonly later: () => AsyncGenerator<{ readonly number: number; readonly bytes: Uint8Array }>;
}

/** @returns what the next segment must join; undefined when the stream ends here */
async function gatherSegment(store: GatheredStore, walk: SegmentWalk): Promise<Join | undefined> {
  const { number, bytes } = walk;
  const file = segmentName(number);
  const end = recordsEnd(bytes, number);
  const records = bytes.subarray(0, end);
  const summary = emptySummary();
  let { join } = walk;
  let from = 0;
  let isEnd = false;
  for (;;) {
    const batches = readBatches(records, { number, from, join });
    for (const record of batches.records) {
      const { bodyOffset, bodyBytes } = record;
      try {
        noteRecord(summary, record, records.subarray(bodyOffset, bodyOffset + bodyBytes));
      } catch (error) {
        if (!(error instanceof MalformedBytesError)) throw error;
        store.damages.push(wholeDamage(`the record at ${bodyOffset}: ${error.message}`, file));
      }
    }
    join = batches.join;
    const broken = { offset: batches.endOffset, batch: (join.batch ?? 0) + 1 };
    const isSealedEnd = broken.offset === end && end < bytes.byteLength;
    const next = nextRecord(records, broken.offset, number);
    if (isSealedEnd || (next === undefined && (await isFollowed(walk, join)))) break;
    if (!(await isProven(walk, records, broken))) {
      isEnd = true;
      break;
    }
    const what = `batch ${broken.batch}, which was acknowledged, cannot be read at ${broken.offset}`;
    store.damages.push(wholeDamage(what, file));
    join = { crc: undefined, batch: undefined };
    if (next === undefined) break;
    from = next;
  }
  gather(store.partitions, store.facts, { number, summary });
  return isEnd ? undefined : join;
}

/** Where records end: at the footer, if there is one. What is left of one, records were written over. */
function recordsEnd(bytes: Uint8Array, number: number): number {
  if (bytes.byteLength < trailerBytes) return bytes.byteLength;
  const trailer = readTrailer(bytes.subarray(bytes.byteLength - trailerBytes), number);
  if (trailer === undefined) return bytes.byteLength;
  const body = bytes.subarray(trailer.offset, trailer.offset + trailer.byteLength);
  return crc32(body) === trailer.crc ? trailer.offset : bytes.byteLength;
}

/** Whole batches from `from` on; bodies of runs are not checked. */
function readBatches(
  bytes: Uint8Array,
  start: { readonly number: number; readonly from: number; readonly join: Join },
): { readonly records: ReadRecord[]; readonly endOffset: number; readonly join: Join } {
  let { join } = start;
  let batch = join.batch === undefined ? undefined : join.batch + 1;
  let { crc } = join;
  const records: ReadRecord[] = [];
  let wholeCount = 0;
  let endOffset = start.from;
  for (let offset = start.from; ; ) {
    const record = tryReadRecord(bytes, offset, start.number);
    if (record === undefined) break;
    if (crc !== undefined && record.previousCrc !== crc) break;
    if (batch !== undefined && record.batchNumber !== batch) break;
    records.push(record);
    offset = record.endOffset;
    crc = record.crc;
    batch = record.batchNumber;
    if (!record.isLast) continue;
    wholeCount = records.length;
    endOffset = offset;
    join = { crc, batch };
    batch += 1;
  }
  records.length = wholeCount;
  return { records, endOffset, join };
}

/** Where the first whole record behind `offset` begins. */
function nextRecord(bytes: Uint8Array, offset: number, number: number): number | undefined {
  for (let at = offset + recordAlignment; at < bytes.byteLength; at += recordAlignment) {
    if (tryReadRecord(bytes, at, number) !== undefined) return at;
  }
  return undefined;
}

/**
 * Whether the next segment goes on where this one ends: it had no room for more, nor for a footer. Nothing goes on behind a
 * segment without records.
 */
async function isFollowed(walk: SegmentWalk, join: Join): Promise<boolean> {
  for await (const { number, bytes } of walk.later()) {
    const first = tryReadRecord(bytes, 0, number);
    return first !== undefined && join.crc !== undefined && first.previousCrc === join.crc;
  }
  return false;
}

/** Whether a record behind the place says that its batch was synced: then it was acknowledged. */
async function isProven(
  walk: SegmentWalk,
  records: Uint8Array,
  broken: { readonly offset: number; readonly batch: number },
): Promise<boolean> {
  if (leftoversIn(records, broken.offset, walk.number).syncedBatch >= broken.batch) return true;
  for await (const { number, bytes } of walk.later()) {
    if (leftoversIn(bytes, 0, number).syncedBatch >= broken.batch) return true;
  }
  return false;
}

interface Pieces {
  read(piece: { segmentNumber: number; offset: number; byteLength: number }): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Reads pieces of segments, one file open at a time. */
function piecesOf(path: string): Pieces {
  let opened: { readonly number: number; readonly file: FileHandle } | undefined;
  return {
    async read({ segmentNumber, offset, byteLength }) {
      if (opened?.number !== segmentNumber) {
        await opened?.file.close();
        opened = undefined;
        const file = await open(join(path, segmentName(segmentNumber)), 'r');
        opened = { number: segmentNumber, file };
      }
      const bytes = new Uint8Array(byteLength);
      const { bytesRead } = await opened.file.read(bytes, 0, byteLength, offset);
      return bytes.subarray(0, bytesRead);
    },
    async close() {
      await opened?.file.close();
    },
  };
}

async function* partitionFinds(
  pieces: Pieces,
  partition: GatheredPartition,
): AsyncGenerator<StoreFind> {
  const { partitionId, hardState, hardStateAt, base, compaction, compactionAt } = partition;
  if (hardStateAt !== undefined) yield { kind: 'hardState', partitionId, hardState };
  if (base !== undefined) {
    const bytes = await pieces.read(base);
    const damage = wholeDamage('the base is damaged', segmentName(base.segmentNumber));
    yield read(() => ({ kind: 'base', partitionId, base: decodeBase(bytes) }), {
      ...damage,
      partitionId,
    });
  }
  if (compactionAt !== undefined) yield { kind: 'compaction', partitionId, mark: compaction };
  const { runs } = partition;
  for (const [position, run] of runs.entries()) {
    const endIndex = liveEnd(run, { next: runs[position + 1], compaction });
    if (endIndex > compaction.index + 1) yield await runFind(pieces, partitionId, run, endIndex);
  }
}

/** Entries from `endIndex` on were replaced by the next run. */
async function runFind(
  pieces: Pieces,
  partitionId: PartitionId,
  run: GatheredRun,
  endIndex: number,
): Promise<StoreFind> {
  const bytes = await pieces.read(run);
  const damage: StoreDamage = {
    partitionId,
    index: run.firstIndex,
    // The record's checksum covers the header that says so.
    lastIndex: endIndex - 1,
    file: segmentName(run.segmentNumber),
    what: 'the run is damaged',
    lost: 'entries',
  };
  return read(() => {
    const entries = decodeRun(bytes).filter(({ index }) => index < endIndex);
    return { kind: 'run', partitionId, entries, byteLength: bytes.byteLength };
  }, damage);
}

function read(decode: () => StoreFind, damage: StoreDamage): StoreFind {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    return { kind: 'damage', damage: { ...damage, what: `${damage.what}: ${error.message}` } };
  }
}
