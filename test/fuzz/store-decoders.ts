// Decoders of what the durable log stores keep: runs, records, segments, keys, snapshots' files, and whole stores that were
// changed behind the store's back.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { writeUint32 } from '../../src/base/bytes.ts';
import {
  decodeRun,
  encodeRuns,
  layOutRun,
  readRunHeader,
  runHeaderBytes,
} from '../../src/ports/run.ts';
import { EntryKind } from '../../src/raft/types.ts';
import { sampleEntries } from '../../src/testing/sample-frames.ts';
import type { Files } from '../../src/wal/files.ts';
import { memoryFiles } from '../../src/wal/memory-files.ts';
import {
  decodeBase,
  decodeBatchMark,
  decodeCompactionMark,
  decodeHardState,
  decodeMeta,
  encodeBase,
  encodeBatchMark,
  encodeCompactionMark,
  encodeHardState,
  encodeMeta,
} from '../../src/wal/record.ts';
import { marksIn } from '../../src/wal/recovery-evidence.ts';
import {
  batchMarkKey,
  KeyKind,
  metaKey,
  type ParsedKey,
  parseKey,
  partitionKey,
  runKey,
} from '../../src/wal/rocksdb-keys.ts';
import type { RocksDbHandle, RocksDbRow } from '../../src/wal/rocksdb-library.ts';
import { scanStore } from '../../src/wal/rocksdb-scan.ts';
import { findStore, segmentName } from '../../src/wal/segment-open.ts';
import { readSegmentStore } from '../../src/wal/segment-reader.ts';
import {
  decodeFact,
  encodeBatchRecords,
  encodeFact,
  StreamKind,
  type StreamRecord,
  tryReadRecord,
} from '../../src/wal/segment-record.ts';
import { leftoversIn, lostBatch, scanSegment } from '../../src/wal/segment-scan.ts';
import {
  decodeFooter,
  encodeFooter,
  readTrailer,
  type SegmentSummary,
  trailerBytes,
} from '../../src/wal/segment-summary.ts';
import { fileSnapshots } from '../../src/wal/snapshot-files.ts';
import {
  checkHead,
  decodeBlock,
  decodeFoot,
  encodeBlockHead,
  encodeFoot,
  encodeHead,
} from '../../src/wal/snapshot-format.ts';
import { readStoreFormat } from '../../src/wal/store-directory.ts';
import { type Decoder, decoderOf, sealCrc, textSample } from './decoder.ts';
import { joined } from './mutate.ts';

const directory = mkdtempSync(join(tmpdir(), 'kommander-fuzz-'));
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));

function runOf(options: Parameters<typeof sampleEntries>[0]): Uint8Array {
  return joined(...encodeRuns(sampleEntries(options)));
}

const run = runOf({ firstIndex: 3, term: 2, count: 9, bytes: 20 });
const runs = [
  run,
  runOf({ firstIndex: 1, term: 1, count: 1, bytes: 0 }),
  runOf({ firstIndex: 9_007_199_254_740_000, term: 9_007_199_254_740_991, count: 2, bytes: 300 }),
];
const hardState = { term: 7, votedFor: 2, commitIndex: 11 };
const base = {
  ...{ index: 2, term: 2, data: Uint8Array.of(1, 2, 3) },
  confState: {
    ...{ voters: [1, 2, 300], votersOutgoing: [1], learners: [4], learnersNext: [] },
    autoLeave: true,
  },
};
const mark = { identity: 'store-1', batchNumber: 12, syncedBatch: 9 };

const sealRecord = (bytes: Uint8Array): Uint8Array => sealCrc(bytes, 4, 8);

const segmentNumber = 1;

/** A segment with two batches of every kind of record. */
const segment = segmentOf([
  [
    { kind: StreamKind.base, partitionId: 1, body: encodeBase(base), dropsLog: true },
    { kind: StreamKind.run, partitionId: 1, body: run },
    { kind: StreamKind.hardState, partitionId: 1, body: encodeHardState(hardState) },
    { kind: StreamKind.fact, partitionId: 0, body: encodeFact('node-id', encodeMeta(run)) },
  ],
  [
    {
      kind: StreamKind.compaction,
      partitionId: 1,
      body: encodeCompactionMark({ index: 2, term: 2 }),
    },
    { kind: StreamKind.fact, partitionId: 0, body: encodeFact('gone', undefined) },
    { kind: StreamKind.closed, partitionId: 0, body: new Uint8Array(0) },
  ],
]);

function segmentOf(batches: readonly (readonly StreamRecord[])[]): Uint8Array {
  let crc = 0;
  const parts = batches.flatMap((records, i) => {
    const place = { segmentNumber, batchNumber: i + 1, syncedBatch: i };
    const batch = encodeBatchRecords(records, place, crc);
    crc = batch.lastCrc;
    return batch.parts;
  });
  return joined(...parts);
}

const before = { crc: 0, batch: 0 };
const scanned = scanSegment(segment, { number: segmentNumber, name: 'sample', before });

const { body: footer, trailer } = encodeFooter(scanned.summary, {
  ...{ lastCrc: scanned.lastCrc, lastBatch: scanned.lastBatch, segmentNumber },
  offset: segment.byteLength,
});
const sealedSegment = joined(segment, footer, trailer);

/** Checksums of the records one behind the other, as far as their lengths lead, and of the footer. */
function sealSegment(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let previousCrc = 0;
  for (let at = 0; at + 40 <= bytes.byteLength; ) {
    const bodyBytes = view.getUint32(at + 12, true);
    const isRun = bytes[at + 5] === StreamKind.run;
    const end = at + 40 + (isRun ? Math.min(bodyBytes, runHeaderBytes) : bodyBytes);
    if (bodyBytes === 0 && bytes[at + 5] !== StreamKind.closed) break;
    if (end > bytes.byteLength) break;
    writeUint32(bytes, at + 16, previousCrc);
    previousCrc = crc32(bytes.subarray(at + 4, end));
    writeUint32(bytes, at, previousCrc);
    at += Math.ceil((40 + bodyBytes) / 8) * 8;
  }
  if (bytes.byteLength < trailerBytes) return bytes;
  const trailerAt = bytes.byteLength - trailerBytes;
  const [offset, length] = [view.getUint32(trailerAt, true), view.getUint32(trailerAt + 4, true)];
  writeUint32(bytes, trailerAt + 12, crc32(bytes.subarray(offset, offset + length)));
  sealTrailer(bytes.subarray(trailerAt));
  return bytes;
}

function sealTrailer(bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength === trailerBytes) writeUint32(bytes, 28, crc32(bytes.subarray(0, 28)));
  return bytes;
}

async function filesWith(name: string, bytes: Uint8Array): Promise<Files> {
  const files = memoryFiles();
  const file = await files.open(name, { create: true });
  await file.write([bytes], 0);
  return files;
}

/** A directory of which one file has these bytes. */
function directoryWith(name: string, bytes: Uint8Array): string {
  const path = join(directory, name);
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, name), bytes);
  return path;
}

function keyOf(key: ParsedKey): Uint8Array {
  switch (key.kind) {
    case KeyKind.batch:
      return batchMarkKey;
    case KeyKind.meta:
      return metaKey(key.name);
    case KeyKind.run:
      return runKey(key.partitionId, key.firstIndex);
    default:
      return partitionKey(key.kind, key.partitionId);
  }
}

/** Rows of a RocksDB store one behind the other: length of the key u8, key, length of the value u16, value. */
function rowBytes(rows: readonly RocksDbRow[]): Uint8Array {
  return joined(
    ...rows.flatMap(({ key, value }) => [
      Uint8Array.of(key.byteLength),
      key,
      Uint8Array.of(value.byteLength & 0xff, value.byteLength >> 8),
      value,
    ]),
  );
}

/** As far as the bytes are whole rows, in the order in which the store would give them. */
function rowsOf(bytes: Uint8Array): RocksDbRow[] {
  const rows = new Map<string, RocksDbRow>();
  for (let at = 0; at < bytes.byteLength; ) {
    const keyEnd = at + 1 + (bytes[at] as number);
    const valueEnd = keyEnd + 2 + (bytes[keyEnd] ?? 0) + (bytes[keyEnd + 1] ?? 0) * 0x100;
    if (valueEnd > bytes.byteLength) break;
    const key = bytes.subarray(at + 1, keyEnd);
    const name = Buffer.from(key).toString('latin1');
    rows.set(name, { key, value: bytes.subarray(keyEnd + 2, valueEnd) });
    at = valueEnd;
  }
  return [...rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
}

/** Checksums of all values: records and runs have theirs at the same place. */
function sealRows(bytes: Uint8Array): Uint8Array {
  for (const { value } of rowsOf(bytes)) sealCrc(value, 4, 8);
  return bytes;
}

async function scanRows(bytes: Uint8Array): Promise<void> {
  let chunks = [rowsOf(bytes)];
  const scan: RocksDbHandle['scan'] = () => ({
    async next() {
      const [rows = []] = chunks;
      chunks = [];
      return rows;
    },
    async close() {},
  });
  await scanStore({ scan });
}

const storeRows = rowBytes([
  { key: batchMarkKey, value: encodeBatchMark(mark) },
  { key: metaKey('node-id'), value: encodeMeta(Uint8Array.of(0x61)) },
  { key: partitionKey(KeyKind.hardState, 1), value: encodeHardState(hardState) },
  { key: partitionKey(KeyKind.base, 1), value: encodeBase(base) },
  {
    key: partitionKey(KeyKind.compaction, 1),
    value: encodeCompactionMark({ index: 2, term: 2 }),
  },
  { key: runKey(1, 3), value: run },
  { key: runKey(1, 12), value: runOf({ firstIndex: 12, term: 3, count: 2, bytes: 9 }) },
]);

const content = new Uint8Array(500).fill(6);
const contentFacts = { byteLength: 500, checksum: crc32(content) };
const snapshotFile = joined(
  encodeHead(),
  encodeBlockHead(0, content),
  content,
  encodeFoot(contentFacts),
);

async function readSnapshot(bytes: Uint8Array): Promise<void> {
  const store = fileSnapshots(await filesWith('s.snapshot', bytes));
  const reader = await store.open('s', contentFacts);
  try {
    await reader.read(0, 1_000);
  } finally {
    await reader.close();
  }
}

function footerOf(summary: SegmentSummary): Uint8Array {
  const place = { lastCrc: 0, lastBatch: 1, segmentNumber, offset: 0 };
  return encodeFooter(summary, place).body;
}

export const storeDecoders: readonly Decoder[] = [
  decoderOf({
    name: 'run',
    covers: ['ports/run.ts#decodeRun', 'ports/run.ts#readRunHeader'],
    form: 'bytes',
    samples: runs,
    decode(bytes) {
      readRunHeader(bytes);
      return decodeRun(bytes);
    },
    encode: (entries) => Buffer.concat(encodeRuns(entries)),
    throws: ['MalformedBytesError'],
    bytesPerByte: 64,
    reseal: (bytes) => sealCrc(bytes, 4, 8),
    weight: 3,
  }),
  decoderOf({
    name: 'batch-mark',
    covers: ['wal/record.ts#decodeBatchMark'],
    form: 'bytes',
    samples: [encodeBatchMark(mark)],
    decode: decodeBatchMark,
    encode: encodeBatchMark,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
    reseal: sealRecord,
  }),
  decoderOf({
    name: 'batch-marks-in-a-log',
    covers: [],
    form: 'bytes',
    samples: [joined(run, batchMarkKey, Uint8Array.of(32), encodeBatchMark(mark), run)],
    decode: (bytes) => [...marksIn(Buffer.from(bytes), bytes.byteLength)].length,
    throws: [],
    bytesPerByte: 200,
  }),
  decoderOf({
    name: 'hard-state',
    covers: ['wal/record.ts#decodeHardState'],
    form: 'bytes',
    samples: [encodeHardState(hardState), encodeHardState({ ...hardState, votedFor: undefined })],
    decode: decodeHardState,
    encode: encodeHardState,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
    reseal: sealRecord,
  }),
  decoderOf({
    name: 'base',
    covers: ['wal/record.ts#decodeBase'],
    form: 'bytes',
    samples: [encodeBase(base), encodeBase({ ...base, data: undefined })],
    decode: decodeBase,
    encode: encodeBase,
    throws: ['MalformedBytesError'],
    bytesPerByte: 32,
    reseal: sealRecord,
  }),
  decoderOf({
    name: 'compaction-mark',
    covers: ['wal/record.ts#decodeCompactionMark'],
    form: 'bytes',
    samples: [encodeCompactionMark({ index: 5, term: 3 })],
    decode: decodeCompactionMark,
    encode: encodeCompactionMark,
    isCanonical: true,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
    reseal: sealRecord,
  }),
  decoderOf({
    name: 'meta',
    covers: ['wal/record.ts#decodeMeta'],
    form: 'bytes',
    samples: [encodeMeta(Uint8Array.of(1, 2, 3)), encodeMeta(new Uint8Array(0))],
    decode: decodeMeta,
    encode: encodeMeta,
    isCanonical: true,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
    reseal: sealRecord,
  }),
  decoderOf({
    name: 'rocksdb-key',
    covers: ['wal/rocksdb-keys.ts#parseKey'],
    form: 'bytes',
    samples: [
      batchMarkKey,
      metaKey('genesis'),
      partitionKey(KeyKind.base, 7),
      runKey(7, 9_007_199_254_740_991),
    ],
    decode: parseKey,
    encode: keyOf,
    isCanonical: true,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'rocksdb-rows',
    covers: [],
    form: 'bytes',
    samples: [storeRows],
    decode: scanRows,
    throws: ['WAL_CORRUPT'],
    bytesPerByte: 400,
    reseal: sealRows,
    weight: 2,
  }),
  decoderOf({
    name: 'segment-fact',
    covers: ['wal/segment-record.ts#decodeFact'],
    form: 'bytes',
    samples: [encodeFact('node-id', encodeMeta(run)), encodeFact('gone', undefined)],
    decode: decodeFact,
    encode: ({ name, value }) => encodeFact(name, value),
    isCanonical: true,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'segment',
    covers: [],
    form: 'bytes',
    samples: [segment],
    decode(bytes) {
      const { endOffset } = scanSegment(bytes, { number: segmentNumber, name: 'fuzzed', before });
      leftoversIn(bytes, endOffset, segmentNumber);
      if (tryReadRecord(bytes, endOffset, segmentNumber) !== undefined)
        lostBatch(bytes, { name: 'fuzzed', number: segmentNumber, offset: endOffset });
    },
    throws: ['WAL_CORRUPT'],
    bytesPerByte: 400,
    reseal: sealSegment,
  }),
  decoderOf({
    name: 'segment-trailer',
    covers: ['wal/segment-summary.ts#readTrailer'],
    form: 'bytes',
    samples: [trailer],
    decode: (bytes) => readTrailer(bytes, segmentNumber),
    throws: [],
    bytesPerByte: 16,
    reseal: sealTrailer,
  }),
  decoderOf({
    name: 'segment-footer',
    covers: ['wal/segment-summary.ts#decodeFooter'],
    form: 'bytes',
    samples: [footer],
    decode: (bytes) => decodeFooter(bytes, segment.byteLength),
    encode: footerOf,
    throws: ['MalformedBytesError'],
    bytesPerByte: 64,
  }),
  decoderOf({
    name: 'segment-store',
    covers: [],
    form: 'bytes',
    samples: [segment, sealedSegment],
    async decode(bytes) {
      const files = await filesWith(segmentName(1), bytes);
      // Behind a footer there is always the next file.
      await (await files.open(segmentName(2), { create: true })).write([new Uint8Array(4_096)], 0);
      await findStore(files);
    },
    throws: ['WAL_CORRUPT'],
    bytesPerByte: 400,
    reseal: sealSegment,
  }),
  decoderOf({
    name: 'damaged-segment-store',
    covers: ['wal/segment-reader.ts#readSegmentStore'],
    form: 'bytes',
    samples: [segment, sealedSegment],
    async decode(bytes) {
      const store = await readSegmentStore(directoryWith(segmentName(1), bytes));
      for await (const _ of store.finds(undefined));
      await store.close();
    },
    throws: [],
    bytesPerByte: 600,
    reseal: sealSegment,
    weight: 0.1,
  }),
  decoderOf({
    name: 'store-mark',
    covers: ['wal/store-directory.ts#readStoreFormat'],
    form: 'text',
    samples: [textSample('kommander log store\nengine segment\nversion 1\n')],
    decode: (bytes) => readStoreFormat(directoryWith('KOMMANDER', bytes)),
    encode: ({ engine, version }) =>
      textSample(`kommander log store\nengine ${engine}\nversion ${version}\n`),
    throws: ['WAL_VERSION'],
    bytesPerByte: 100,
    weight: 0.1,
  }),
  decoderOf({
    name: 'snapshot-head',
    covers: [],
    form: 'bytes',
    samples: [encodeHead()],
    decode: checkHead,
    encode: encodeHead,
    isCanonical: true,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'snapshot-block',
    covers: ['wal/snapshot-format.ts#decodeBlock'],
    form: 'bytes',
    samples: [joined(encodeBlockHead(3, content), content)],
    decode: (bytes) => decodeBlock(3, bytes, content.byteLength),
    encode: (block) => joined(encodeBlockHead(3, block), block),
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'snapshot-foot',
    covers: ['wal/snapshot-format.ts#decodeFoot'],
    form: 'bytes',
    samples: [encodeFoot(contentFacts)],
    decode: decodeFoot,
    encode: encodeFoot,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
    reseal(bytes) {
      if (bytes.byteLength >= 16) writeUint32(bytes, 12, crc32(bytes.subarray(0, 12)));
      return bytes;
    },
  }),
  decoderOf({
    name: 'snapshot-file',
    covers: [],
    form: 'bytes',
    samples: [snapshotFile],
    decode: readSnapshot,
    throws: ['SNAPSHOT_CORRUPT'],
    bytesPerByte: 100,
  }),
  decoderOf({
    name: 'entries-of-a-run',
    covers: [],
    form: 'bytes',
    samples: [joined(...layOutEmpty(40))],
    decode: decodeRun,
    throws: ['MalformedBytesError'],
    bytesPerByte: 64,
    reseal: (bytes) => sealCrc(bytes, 4, 8),
  }),
];

/** A run of entries without payload: the most entries that so many bytes can hold. */
function layOutEmpty(count: number): Uint8Array[] {
  const payload = { kind: EntryKind.normal, byteLength: 0, write: () => {} };
  const proposed = layOutRun(new Array<typeof payload>(count).fill(payload));
  return encodeRuns(proposed.map((entry, i) => ({ ...entry, index: i + 1, term: 1 })));
}
