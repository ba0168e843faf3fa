// The rules that the fuzzer found broken, each with an input as short as it gets.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { MalformedBytesError, writeUint32, writeUint53 } from '../../src/base/bytes.ts';
import { isErrorDetails } from '../../src/base/errors.ts';
import { decodeSystemState, genesisState } from '../../src/cluster/system-state.ts';
import { decodeFailure, decodeManifest } from '../../src/host/backup-format.ts';
import { encodeEvidence, parseEvidence } from '../../src/host/evidence-file.ts';
import { decodeGenesis, encodeGenesis, newGenesis } from '../../src/host/genesis.ts';
import { decodeNumber, encodeNumber } from '../../src/host/meta.ts';
import {
  decodeDescriptor,
  encodeDescriptor,
  receivedPlace,
} from '../../src/host/snapshot-descriptor.ts';
import { encodeRuns, layOutRun } from '../../src/ports/run.ts';
import { EntryKind } from '../../src/raft/types.ts';
import { request } from '../../src/server/client-commands.ts';
import { readState } from '../../src/server/key-value-snapshot.ts';
import { readServeOptions } from '../../src/server/serve-options.ts';
import { askPeer, parsePeerUrls } from '../../src/server/wal-peers.ts';
import { FrameDecoder } from '../../src/transport/frame-decoder.ts';
import { memoryFiles } from '../../src/wal/memory-files.ts';
import { decodeBatchMark, encodeBatchMark, encodeMeta } from '../../src/wal/record.ts';
import {
  batchMarkKey,
  KeyKind,
  parseKey,
  partitionKey,
  runKey,
} from '../../src/wal/rocksdb-keys.ts';
import { findStore, segmentName } from '../../src/wal/segment-open.ts';
import {
  encodeBatchRecords,
  encodeFact,
  StreamKind,
  tryReadRecord,
} from '../../src/wal/segment-record.ts';
import { scanSegment } from '../../src/wal/segment-scan.ts';
import {
  decodeFooter,
  emptySummary,
  encodeFooter,
  readTrailer,
  type SegmentSummary,
} from '../../src/wal/segment-summary.ts';
import { evidenceSample } from '../support/evidence-sample.ts';
import { sealCrc, textSample } from './decoder.ts';
import { joined, varintOf } from './mutate.ts';

const deepJson = `${'['.repeat(30_000)}${']'.repeat(30_000)}`;
const system = genesisState(new Map([['a', '127.0.0.1:8001']]), 1);

test('a frame lists no more than its bytes allow', () => {
  const decoder = new FrameDecoder();
  const field = (number: number, value: Uint8Array): Uint8Array =>
    joined(varintOf(number * 8 + 2), varintOf(value.byteLength), value);
  const frameOf = (item: number, body: Uint8Array): Uint8Array => field(2, field(item, body));
  const payloads = (count: number): Uint8Array =>
    new Uint8Array(count * 2).map((_, at) => (at % 2 === 0 ? 0x12 : 0));
  const { frame } = decoder.decode(frameOf(14, payloads(60_000)));
  assert.equal(frame.items[0]?.kind === 'propose' && frame.items[0].payloads.length, 60_000);
  const { frame: without, firstProblem } = decoder.decode(frameOf(14, payloads(200_000)));
  assert.equal(without.items.length, 0);
  assert.match(firstProblem ?? '', /things listed/);

  const payload = { kind: EntryKind.normal, byteLength: 0, write: () => {} };
  const append = (count: number): Uint8Array => {
    const proposed = layOutRun(new Array<typeof payload>(count).fill(payload));
    const entries = proposed.map((entry, i) => ({ ...entry, index: i + 1, term: 1 }));
    const runs = encodeRuns(entries).map((run) => field(7, run));
    return joined(Uint8Array.of(8, 1, 16, 2, 24, 1), ...runs);
  };
  assert.equal(decoder.decode(frameOf(2, append(60_000))).frame.items.length, 1);
  const many = decoder.decode(frameOf(2, append(200_000)));
  assert.deepEqual([many.frame.items.length, many.skippedCount], [0, 1]);

  // Each item alone would be taken.
  const item = frameOf(14, payloads(60_000));
  assert.throws(() => decoder.decode(joined(item, item)), { code: 'MALFORMED_MESSAGE' });
});

test('details of an error that came from elsewhere are flat and finite', () => {
  assert.ok(isErrorDetails({ a: 'x', b: 1, c: true, d: ['a', 1] }));
  for (const details of [null, [], 'x', { a: {} }, { a: [true] }, { a: [[]] }, { a: Infinity }])
    assert.ok(!isErrorDetails(details), JSON.stringify(details));
});

test('hash ranges that do not divide all hashes are bytes that mean nothing', () => {
  assert.throws(() => decodeSystemState(Uint8Array.of(1, 0, 0)), MalformedBytesError);
  assert.throws(() => decodeSystemState(Uint8Array.of(1, 0, 1, 1, 0)), MalformedBytesError);
});

test('a genesis record ends where it ends, and admits a node once', () => {
  const genesis = newGenesis(system, 'a', '1f');
  const bytes = encodeGenesis(genesis);
  assert.deepEqual(decodeGenesis(bytes).record, system);
  const tail = bytes.slice(-6);
  const twice = joined(bytes, tail);
  twice[bytes.byteLength - tail.byteLength - 1] = 2;
  const incomplete = bytes.slice();
  incomplete[1] = 2;
  for (const bad of [joined(bytes, Uint8Array.of(0)), twice, incomplete])
    assert.throws(() => decodeGenesis(bad), { code: 'WAL_CORRUPT' });
});

test('a number among the facts of a store has eight bytes', () => {
  const bytes = encodeNumber(7);
  assert.throws(() => decodeNumber(joined(bytes, bytes)), { code: 'WAL_CORRUPT' });
});

test('a descriptor names a snapshot that a store could have', () => {
  const stored = { name: '../x', byteLength: 0, checksum: 0 };
  const descriptor = { stored, clock: 0, machineIndex: 0, parts: [] };
  assert.throws(() => decodeDescriptor(encodeDescriptor(descriptor)), MalformedBytesError);
  const nowhere = encodeDescriptor({ ...descriptor, stored: { ...stored, name: '', checksum: 1 } });
  assert.throws(() => decodeDescriptor(nowhere), MalformedBytesError);
  assert.equal(receivedPlace(`p1-i${'9'.repeat(20)}-b1-c1`), undefined);
});

test('what a manifest or an option file says is shown, however deep it is', () => {
  const manifest = textSample(`{"format":${deepJson}}`);
  assert.throws(() => decodeManifest(manifest), { code: 'BACKUP_CORRUPT', message: /levels/ });
  const sources = { flags: { config: 'k.json' }, environment: {} };
  assert.throws(() => readServeOptions({ ...sources, readText: () => `{"wal":${deepJson}}` }), {
    code: 'INVALID_OPTION',
    message: /--wal|"wal" in k\.json/,
  });
});

test('a failure that a stream tells of is one of the catalogue, or is said to be unknown', () => {
  const failures = ['null', '{"code":"toString","message":"x"}', '{"code":"ABORTED","message":{}}'];
  for (const text of [...failures, '{"code":{"toString":1},"message":"x"}'])
    assert.equal(decodeFailure(textSample(text)).code, 'BACKUP_CORRUPT', text);
  const known = decodeFailure(textSample('{"code":"ABORTED","message":"m","details":{"a":{}}}'));
  assert.deepEqual([known.code, known.message, known.details], ['ABORTED', 'm', {}]);
});

test('a file of evidence with the right checksum is looked at before it is believed', () => {
  const lines = encodeEvidence(evidenceSample).split('\n').slice(0, -2);
  const sealed = (changed: readonly string[]): string => {
    const text = changed.map((line) => `${line}\n`).join('');
    return `${text}${JSON.stringify({ lines: changed.length, crc32: crc32(text) })}\n`;
  };
  assert.deepEqual(parseEvidence(sealed(lines)).nodeId, 'b');
  const [heading = '', begin = ''] = lines;
  const end = lines.at(-1) ?? '';
  for (const bad of [
    [heading],
    [heading, begin, '{"times":1e15,"steps":1}', end],
    [heading, begin, '{"times":0,"steps":[]}', end],
    [heading, begin, '{"times":1,"steps":[{"input":1}]}', end],
    [heading, begin, `{"times":1,"steps":[{"input":{"a":${deepJson}}}]}`, end],
    [heading.replace('"version":1', '"version":{"toString":1}'), begin, end],
  ])
    assert.throws(() => parseEvidence(sealed(bad)), { code: 'EVIDENCE_MALFORMED' });
});

test('a key of the RocksDB store is one that the store writes', () => {
  const marked = batchMarkKey.slice();
  marked[3] = 0;
  const distant = runKey(1, 1);
  distant[5] = 0xff;
  for (const key of [
    marked,
    distant,
    partitionKey(KeyKind.base, 0x8000_0000),
    runKey(0xffff_ffff, 1),
  ])
    assert.throws(() => parseKey(key), MalformedBytesError);
});

test('a batch mark knows of syncs before its batch, and is no longer than one can be', () => {
  const mark = encodeBatchMark({ identity: 's', batchNumber: 3, syncedBatch: 2 });
  writeUint53(mark, 16, 3);
  assert.throws(() => decodeBatchMark(sealCrc(mark, 4, 8)), MalformedBytesError);
  const long = joined(mark.subarray(0, 24), varintOf(80), new Uint8Array(80).fill(0x61));
  writeUint53(long, 16, 2);
  assert.throws(() => decodeBatchMark(sealCrc(long, 4, 8)), MalformedBytesError);
});

/** A segment of one record. */
function oneRecord(kind: StreamKind, body: Uint8Array): Uint8Array {
  const place = { segmentNumber: 1, batchNumber: 1, syncedBatch: 0 };
  return joined(...encodeBatchRecords([{ kind, partitionId: 1, body }], place, 0).parts);
}

test('a record with the right checksum and numbers that no store writes is none', () => {
  const whole = oneRecord(StreamKind.fact, encodeFact('a', encodeMeta(new Uint8Array(0))));
  assert.notEqual(tryReadRecord(whole, 0, 1), undefined);
  for (const [at, value] of [
    [20, 0x8000_0000],
    [28, 0xffff_ffff],
    [32, 1],
    [36, 0xffff_ffff],
  ] as const) {
    const bytes = whole.slice();
    writeUint32(bytes, at, value);
    const bodyBytes = new DataView(bytes.buffer).getUint32(12, true);
    writeUint32(bytes, 0, crc32(bytes.subarray(4, 40 + bodyBytes)));
    assert.equal(tryReadRecord(bytes, 0, 1), undefined, `${at}`);
  }
});

test('a run that means nothing is reported as damage of its segment', () => {
  const run = new Uint8Array(40);
  writeUint32(run, 4, crc32(run.subarray(8)));
  const before = { crc: 0, batch: 0 };
  assert.throws(
    () => scanSegment(oneRecord(StreamKind.run, run), { number: 1, name: 'x', before }),
    { code: 'WAL_CORRUPT', message: /partitionId 1, record run, file x/ },
  );
});

test('no length in a footer reaches beyond the records', async () => {
  const records = oneRecord(StreamKind.closed, new Uint8Array(0));
  const summary = (run: { offset: number; byteLength: number }): SegmentSummary => ({
    ...emptySummary(),
    partitions: new Map([
      [
        1,
        {
          ...{ hardState: undefined, base: undefined, dropped: undefined, compaction: undefined },
          ...{ cutIndex: 1, moved: [], runs: [{ firstIndex: 1, term: 1, entryCount: 1, ...run }] },
        },
      ],
    ]),
  });
  const place = { segmentNumber: 1, offset: records.byteLength, lastCrc: 0, lastBatch: 1 };
  const { body } = encodeFooter(summary({ offset: 0, byteLength: 40 }), place);
  assert.equal(decodeFooter(body, 40).partitions.size, 1);
  assert.throws(() => decodeFooter(body, 39), MalformedBytesError);
  const huge = encodeFooter(summary({ offset: 0, byteLength: Number.MAX_SAFE_INTEGER }), place);
  const files = memoryFiles();
  const file = await files.open(segmentName(1), { create: true });
  await file.write([records, huge.body, huge.trailer], 0);
  // The footer is not believed; the records are.
  assert.deepEqual((await findStore(files)).partitions, []);
});

test('a trailer with the right checksum and a batch that no store writes is none', () => {
  const place = { segmentNumber: 1, offset: 0, lastCrc: 0, lastBatch: 1 };
  const { trailer } = encodeFooter(emptySummary(), place);
  assert.notEqual(readTrailer(trailer, 1), undefined);
  writeUint32(trailer, 24, 0xffff_ffff);
  writeUint32(trailer, 28, crc32(trailer.subarray(0, 28)));
  assert.equal(readTrailer(trailer, 1), undefined);
});

test('a state of an unknown version is refused with its first piece', async () => {
  let givenCount = 0;
  const data = {
    byteLength: 1_000_000,
    async *[Symbol.asyncIterator]() {
      for (; givenCount < 10; givenCount++) yield new Uint8Array(1_000).fill(9);
    },
    bytes: async () => assert.fail('nobody wants it as a whole'),
  };
  await assert.rejects(readState(data), { code: 'SNAPSHOT_CORRUPT' });
  assert.equal(givenCount, 0);
});

test('slashes at the end of a URL are left out, and those before them are not', () => {
  const slashes = '/'.repeat(100_000);
  assert.deepEqual(parsePeerUrls(`http://a${slashes}x,http://b${slashes}`), [
    `http://a${slashes}x`,
    'http://b',
  ]);
});

test('a peer that answers with something else than the status of a node is said not to be one', async () => {
  await using server = await stranger(200);
  await assert.rejects(askPeer(server.url), {
    code: 'TRANSPORT_FAILED',
    message: /not that of a node/,
  });
});

test('a server that refuses a command as no node does may have done what was asked', async () => {
  await using server = await stranger(502);
  await assert.rejects(request({ http: server.url }, '/v1/kv/a', { method: 'PUT' }), {
    code: 'OUTCOME_UNKNOWN',
    message: /answers with status 502/,
  });
});

/** A server that is no node. */
async function stranger(status: number): Promise<{ readonly url: string } & AsyncDisposable> {
  const server = createServer((_, response) => response.writeHead(status).end('<html>'));
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
    },
  };
}
