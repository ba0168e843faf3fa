// Decoders of what the core, the cluster's tables and the node write: entries' payloads, members, snapshots' descriptors,
// backups, evidence.

import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import {
  decodeReadmission,
  decodeSystemState,
  encodeReadmission,
  encodeSystemState,
  genesisState,
} from '../../src/cluster/system-state.ts';
import {
  type BackupFrame,
  type BackupManifest,
  backupFailure,
  decodeFailure,
  decodeManifest,
  encodeManifest,
  FrameKind,
  frameOf,
  framesOf,
} from '../../src/host/backup-format.ts';
import { encodeEvidence, parseEvidence } from '../../src/host/evidence-file.ts';
import {
  decodeGenesis,
  encodeGenesis,
  newGenesis,
  restoredGenesis,
} from '../../src/host/genesis.ts';
import { describeEntry } from '../../src/host/inspection.ts';
import { decodeNumber, encodeNumber } from '../../src/host/meta.ts';
import {
  decodePayload,
  encodePayload,
  OutgoingPayload,
  outgoingPayloadFrom,
  payloadTimestamp,
} from '../../src/host/payload.ts';
import {
  decodeDescriptor,
  encodeDescriptor,
  machinePart,
  receivedName,
  receivedPlace,
} from '../../src/host/snapshot-descriptor.ts';
import {
  ConfChangeKind,
  decodeConfChange,
  encodeConfChange,
  Transition,
} from '../../src/raft/conf-change.ts';
import { type Entry, EntryKind } from '../../src/raft/types.ts';
import { evidenceSample } from '../support/evidence-sample.ts';
import { type Decoder, decoderOf, textSample } from './decoder.ts';

const system = genesisState(
  new Map([
    ['a', '127.0.0.1:8001'],
    ['b', '[::1]:8002'],
    ['c', 'c.example:8003'],
  ]),
  3,
);
const [first, ...others] = system.members;
const readmittedSystem = {
  ...system,
  members: first === undefined ? [] : [{ ...first, replicaId: 1_025, nonce: '5e' }, ...others],
};

const payload = new OutgoingPayload(textSample('order'), textSample('{"id":7}'));
payload.timestamp = 7_000_000_000_000;

function entryOf(bytes: Uint8Array): Entry {
  const { byteLength: end } = bytes;
  return { index: 1, term: 1, kind: EntryKind.normal, bytes, start: 0, end };
}

const manifest: BackupManifest = {
  clusterId: 'f00d',
  nodeId: 'a',
  timestamp: 7_000_000_000_000,
  partitions: [
    {
      ...{ kind: 'state', partition: 0, file: 'partition-0.state', byteLength: 100 },
      ...{ sha256: '0'.repeat(64), index: 9, term: 2, timestamp: 1, machineIndex: 8 },
      parts: [{ name: machinePart, byteLength: 100 }],
    },
    {
      ...{ kind: 'log', partition: 1, file: 'partition-1.log', byteLength: 50 },
      ...{ sha256: 'f'.repeat(64), index: 12, term: 2, timestamp: 1, baseIndex: 3, baseTerm: 1 },
    },
  ],
};

function backupStream(frames: readonly BackupFrame[]): Uint8Array {
  return Buffer.concat(frames.flatMap(({ kind, bytes }) => [...frameOf(kind as FrameKind, bytes)]));
}

async function* inPieces(bytes: Uint8Array, pieceBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += pieceBytes)
    yield bytes.subarray(at, at + pieceBytes);
}

async function framesIn(bytes: Uint8Array): Promise<BackupFrame[]> {
  const frames: BackupFrame[] = [];
  const pieceBytes = Math.max(1 + ((bytes.at(-1) ?? 0) % 100), bytes.byteLength >> 10);
  for await (const frame of framesOf(inPieces(bytes, pieceBytes))) frames.push(frame);
  return frames;
}

/** The hash at the end of a manifest, made anew. */
function sealManifest(bytes: Uint8Array): Uint8Array {
  const content = Buffer.from(bytes)
    .toString()
    .replace(/,"sha256":"[^"]*"\}\s*$/, '');
  const hash = createHash('sha256').update(content).digest('hex');
  return textSample(`${content},"sha256":"${hash}"}\n`);
}

/** The last line of a file of evidence, made anew. */
function sealEvidence(bytes: Uint8Array): Uint8Array {
  const lines = Buffer.from(bytes).toString().split('\n').slice(0, -2);
  const text = lines.map((line) => `${line}\n`).join('');
  return textSample(`${text}${JSON.stringify({ lines: lines.length, crc32: crc32(text) })}\n`);
}

const descriptor = {
  stored: { name: 'p1-i9-t2-own', byteLength: 1_000, checksum: 4_000_000_000 },
  ...{ clock: 7_000_000_000_000, machineIndex: 8 },
  parts: [{ name: machinePart, byteLength: 1_000 }],
};

export const hostDecoders: readonly Decoder[] = [
  decoderOf({
    name: 'conf-change',
    covers: ['raft/conf-change.ts#decodeConfChange'],
    form: 'bytes',
    samples: [
      encodeConfChange({
        transition: Transition.jointExplicit,
        changes: [
          { kind: ConfChangeKind.addVoter, replica: 3 },
          { kind: ConfChangeKind.remove, replica: 70_000 },
        ],
        context: Uint8Array.of(1, 2, 3),
      }),
      new Uint8Array(0),
    ],
    decode: decodeConfChange,
    encode: encodeConfChange,
    throws: ['MalformedBytesError'],
    bytesPerByte: 40,
  }),
  decoderOf({
    name: 'readmission',
    covers: ['cluster/system-state.ts#decodeReadmission'],
    form: 'bytes',
    samples: [encodeReadmission({ nodeId: 'nöde', replicaId: 1_025, nonce: '1f2e' })],
    decode: decodeReadmission,
    encode: encodeReadmission,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'system-state',
    covers: ['cluster/system-state.ts#decodeSystemState'],
    form: 'bytes',
    samples: [encodeSystemState(system), encodeSystemState(readmittedSystem)],
    decode: decodeSystemState,
    encode: encodeSystemState,
    throws: ['MalformedBytesError'],
    bytesPerByte: 40,
  }),
  decoderOf({
    name: 'genesis',
    covers: ['host/genesis.ts#decodeGenesis'],
    form: 'bytes',
    samples: [
      encodeGenesis(newGenesis(system, 'a', '1f')),
      encodeGenesis(restoredGenesis({ record: system, nodeId: 'b', nonce: '2e', origin: 'c0' })),
    ],
    decode: decodeGenesis,
    encode: encodeGenesis,
    throws: ['WAL_CORRUPT', 'WAL_VERSION'],
    bytesPerByte: 120,
  }),
  decoderOf({
    name: 'number',
    covers: ['host/meta.ts#decodeNumber'],
    form: 'bytes',
    samples: [encodeNumber(0), encodeNumber(Number.MAX_SAFE_INTEGER)],
    decode: decodeNumber,
    encode: encodeNumber,
    isCanonical: true,
    throws: ['WAL_CORRUPT'],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'payload',
    covers: ['host/payload.ts#decodePayload'],
    form: 'bytes',
    samples: [encodePayload(payload)],
    decode(bytes) {
      const entry = entryOf(bytes);
      describeEntry(entry);
      payloadTimestamp(entry);
      return decodePayload(entry);
    },
    encode({ type, timestamp, data }) {
      const outgoing = new OutgoingPayload(textSample(type), data);
      outgoing.timestamp = timestamp;
      return encodePayload(outgoing);
    },
    isCanonical: true,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'forwarded-payload',
    covers: [],
    form: 'bytes',
    samples: [encodePayload(payload)],
    decode: outgoingPayloadFrom,
    encode: encodePayload,
    throws: ['MalformedBytesError'],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'conf-change-entry',
    covers: [],
    form: 'bytes',
    samples: [encodePayload(payload)],
    decode: (bytes) => describeEntry({ ...entryOf(bytes), kind: EntryKind.confChange }),
    throws: [],
    bytesPerByte: 40,
  }),
  decoderOf({
    name: 'snapshot-descriptor',
    covers: ['host/snapshot-descriptor.ts#decodeDescriptor'],
    form: 'bytes',
    samples: [
      encodeDescriptor(descriptor),
      encodeDescriptor({ ...descriptor, stored: undefined, parts: [] }),
    ],
    decode: decodeDescriptor,
    encode: encodeDescriptor,
    throws: ['MalformedBytesError', 'WAL_VERSION'],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'snapshot-name',
    covers: [],
    form: 'text',
    samples: [textSample(receivedName(3, { index: 9, byteLength: 100, checksum: 0xabcd }))],
    decode(bytes) {
      const place = receivedPlace(Buffer.from(bytes).toString());
      const { partitionId, index } = place ?? { partitionId: 0, index: 0 };
      return receivedName(partitionId, { index, byteLength: 1, checksum: 1 });
    },
    encode: textSample,
    throws: [],
    bytesPerByte: 16,
  }),
  decoderOf({
    name: 'backup-manifest',
    covers: ['host/backup-format.ts#decodeManifest'],
    form: 'json',
    samples: [encodeManifest(manifest)],
    reseal: sealManifest,
    decode: decodeManifest,
    encode: encodeManifest,
    throws: ['BACKUP_CORRUPT'],
    bytesPerByte: 100,
  }),
  decoderOf({
    name: 'backup-stream',
    covers: [],
    form: 'bytes',
    samples: [
      backupStream([
        { kind: FrameKind.file, bytes: textSample('partition-0.state') },
        { kind: FrameKind.bytes, bytes: new Uint8Array(300) },
        { kind: FrameKind.bytes, bytes: new Uint8Array(0) },
        { kind: FrameKind.manifest, bytes: encodeManifest(manifest) },
      ]),
    ],
    decode: framesIn,
    encode: backupStream,
    isCanonical: true,
    throws: ['BACKUP_CORRUPT'],
    bytesPerByte: 200,
  }),
  decoderOf({
    name: 'backup-failure',
    covers: ['host/backup-format.ts#decodeFailure'],
    form: 'json',
    samples: [backupFailure(decodeFailure(new Uint8Array(0))).subarray(5)],
    decode: decodeFailure,
    encode: (error) => backupFailure(error).subarray(5),
    throws: [],
    bytesPerByte: 100,
  }),
  decoderOf({
    name: 'evidence',
    covers: ['host/evidence-file.ts#parseEvidence'],
    form: 'json',
    samples: [textSample(encodeEvidence(evidenceSample))],
    decode: (bytes) => parseEvidence(Buffer.from(bytes).toString()),
    encode: (bundle) => textSample(encodeEvidence(bundle)),
    throws: ['EVIDENCE_MALFORMED'],
    bytesPerByte: 100,
    reseal: sealEvidence,
  }),
];
