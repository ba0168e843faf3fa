// Decoders of what clients, operators and configuration files say: endpoints, timestamps, requests, commands, options; and
// the state of the key-value machine.

import { crc32 } from 'node:zlib';
import { ByteWriter, writeUint32 } from '../../src/base/bytes.ts';
import { formatEndpoint, parseEndpoint } from '../../src/base/endpoint.ts';
import { readDemoOptions } from '../../src/server/demo/demo-options.ts';
import {
  parseChoice,
  parseIfIndex,
  parseInteger,
  parseKey,
  parseQuery,
  parseTarget,
} from '../../src/server/http-request.ts';
import { decodeCommand, encodeCommand } from '../../src/server/key-value-command.ts';
import { readState } from '../../src/server/key-value-snapshot.ts';
import { readServeOptions } from '../../src/server/serve-options.ts';
import { parsePeerUrls } from '../../src/server/wal-peers.ts';
import { snapshotDataOf } from '../../src/testing/snapshot-bytes.ts';
import {
  decodeTimestamp,
  encodeTimestamp,
  formatTimestamp,
  parseTimestamp,
} from '../../src/time/timestamp.ts';
import { type Decoder, decoderOf, textSample } from './decoder.ts';

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

const serveConfig = {
  ...{ nodeId: 'a', members: { a: '127.0.0.1:8001', b: '[::1]:8002' }, listen: '0.0.0.0:8001' },
  ...{ http: '127.0.0.1:0', data: './data', wal: 'segment', partitions: 16, tickMs: 50 },
  ...{ electionTicks: '20', logLevel: 'info', stopWithParent: 'true', snapshotsFrom: 'leader' },
};

const byName = ([a]: [string, unknown], [b]: [string, unknown]): number => (a < b ? -1 : 1);

/** The state of a key-value machine, by its documented format. */
function stateBytes(keys: readonly string[]): Uint8Array {
  const writer = new ByteWriter();
  writer.uint32(1);
  writer.varint(keys.length);
  for (const [i, key] of keys.entries()) {
    writer.text(key);
    writer.varint(i + 1);
    writer.varint(1);
    writer.varint(i * 50);
    writer.raw(new Uint8Array(i * 50).fill(i));
  }
  writer.uint32(0);
  return sealState(writer.finish().slice());
}

function sealState(bytes: Uint8Array): Uint8Array {
  const footAt = bytes.byteLength - 4;
  if (footAt >= 0) writeUint32(bytes, footAt, crc32(bytes.subarray(0, footAt)));
  return bytes;
}

export const serverDecoders: readonly Decoder[] = [
  decoderOf({
    name: 'endpoint',
    covers: ['base/endpoint.ts#parseEndpoint'],
    form: 'text',
    samples: ['127.0.0.1:8001', '[fe80::1%eth0]:1', 'a.example:65535', '[::ffff:10.0.0.1]:80'].map(
      textSample,
    ),
    decode: (bytes) => parseEndpoint(textOf(bytes), { option: 'listen', portMin: 0 }),
    encode: (parts) => textSample(formatEndpoint(parts)),
    throws: ['INVALID_OPTION'],
    bytesPerByte: 64,
  }),
  decoderOf({
    name: 'timestamp',
    covers: ['time/timestamp.ts#decodeTimestamp'],
    form: 'bytes',
    samples: [encodeTimestamp(0), encodeTimestamp(Number.MAX_SAFE_INTEGER)],
    decode: decodeTimestamp,
    encode: encodeTimestamp,
    isCanonical: true,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'timestamp-text',
    covers: ['time/timestamp.ts#parseTimestamp'],
    form: 'text',
    samples: [textSample(formatTimestamp(0)), textSample('2026-11-23T09:03:11.123Z.0042')],
    decode: (bytes) => parseTimestamp(textOf(bytes)),
    encode: (timestamp) => textSample(formatTimestamp(timestamp)),
    isCanonical: true,
    throws: ['INVALID_ARGUMENT'],
    bytesPerByte: 64,
  }),
  decoderOf({
    name: 'http-target',
    covers: [
      'server/http-request.ts#parseTarget',
      'server/http-request.ts#parseKey',
      'server/http-request.ts#parseQuery',
      'server/http-request.ts#parseInteger',
      'server/http-request.ts#parseIfIndex',
      'server/http-request.ts#parseChoice',
    ],
    form: 'text',
    samples: [
      '/v1/kv/a%2Fb?if-index=12&forward=false',
      '/v1/kv?limit=10000&prefix=%C3%BC&after=a',
      '/v1/kv/key?consistency=local',
    ].map(textSample),
    decode(bytes) {
      const { path, query } = parseTarget(textOf(bytes));
      const names = ['if-index', 'forward', 'limit', 'prefix', 'after', 'consistency'] as const;
      const values = parseQuery(query, names);
      parseIfIndex(values['if-index']);
      parseInteger('limit', values.limit, { min: 1, max: 10_000 });
      parseChoice('forward', values.forward, ['true', 'false']);
      parseChoice('consistency', values.consistency, ['linearizable', 'local']);
      if (path.startsWith('/v1/kv/')) parseKey(path.slice('/v1/kv/'.length));
    },
    throws: ['INVALID_ARGUMENT'],
    bytesPerByte: 200,
  }),
  decoderOf({
    name: 'key-value-command',
    covers: ['server/key-value-command.ts#decodeCommand'],
    form: 'bytes',
    samples: [
      encodeCommand({ operation: 'put', key: 'köy', value: new Uint8Array(40), ifIndex: 300 }),
      encodeCommand({ operation: 'delete', key: 'a', ifIndex: undefined }),
    ],
    decode: decodeCommand,
    encode: encodeCommand,
    throws: ['MALFORMED_COMMAND'],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'key-value-state',
    covers: ['server/key-value-snapshot.ts#readState'],
    form: 'bytes',
    samples: [stateBytes(['a', 'b', 'c/d', 'ü']), stateBytes([])],
    async decode(bytes) {
      const pieceBytes = Math.max(1 + ((bytes.at(-1) ?? 0) % 100), bytes.byteLength >> 8);
      return (await readState(snapshotDataOf(bytes, pieceBytes))).size;
    },
    throws: ['SNAPSHOT_CORRUPT'],
    bytesPerByte: 200,
    reseal: sealState,
  }),
  decoderOf({
    name: 'serve-options',
    covers: ['server/serve-options.ts#readServeOptions'],
    form: 'json',
    samples: [textSample(JSON.stringify(serveConfig))],
    decode: (bytes) =>
      readServeOptions({
        flags: { config: 'kommander.json' },
        environment: {},
        readText: () => textOf(bytes),
      }),
    encode: (options) =>
      textSample(JSON.stringify(Object.fromEntries(Object.entries(options).toSorted(byName)))),
    throws: ['INVALID_OPTION'],
    bytesPerByte: 200,
  }),
  decoderOf({
    name: 'demo-options',
    covers: ['server/demo/demo-options.ts#readDemoOptions'],
    form: 'text',
    samples: [textSample('seconds=20&wal=sqlite&partitions=8&killLeaderEvery=5&clients=3&data=x')],
    decode: (bytes) => void readDemoOptions(Object.fromEntries(new URLSearchParams(textOf(bytes)))),
    throws: ['INVALID_OPTION'],
    bytesPerByte: 200,
  }),
  decoderOf({
    name: 'peer-urls',
    covers: ['server/wal-peers.ts#parsePeerUrls'],
    form: 'text',
    samples: [textSample('http://127.0.0.1:7101,https://b.example/x/')],
    decode: (bytes) => parsePeerUrls(textOf(bytes)),
    encode: (urls) => textSample(urls.join(',')),
    throws: ['INVALID_OPTION'],
    bytesPerByte: 200,
  }),
];
