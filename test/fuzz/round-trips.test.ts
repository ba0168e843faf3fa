// What encoders write, decoders read: any value goes around unchanged. (Frames: `src/transport/frame-codec.test.ts`.)

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatEndpoint, parseEndpoint } from '../../src/base/endpoint.ts';
import {
  decodeReadmission,
  decodeSystemState,
  encodeReadmission,
  encodeSystemState,
  genesisState,
} from '../../src/cluster/system-state.ts';
import { decodeGenesis, encodeGenesis, newGenesis } from '../../src/host/genesis.ts';
import { decodeNumber, encodeNumber } from '../../src/host/meta.ts';
import { decodePayload, encodePayload, OutgoingPayload } from '../../src/host/payload.ts';
import {
  decodeDescriptor,
  encodeDescriptor,
  machinePart,
} from '../../src/host/snapshot-descriptor.ts';
import { decodeRun, encodeRuns } from '../../src/ports/run.ts';
import {
  ConfChangeKind,
  decodeConfChange,
  encodeConfChange,
  Transition,
} from '../../src/raft/conf-change.ts';
import { EntryKind, payloadOf, proposedEntry } from '../../src/raft/types.ts';
import { decodeCommand, encodeCommand } from '../../src/server/key-value-command.ts';
import {
  decodeTimestamp,
  encodeTimestamp,
  formatTimestamp,
  parseTimestamp,
} from '../../src/time/timestamp.ts';
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
import { KeyKind, metaKey, parseKey, partitionKey, runKey } from '../../src/wal/rocksdb-keys.ts';
import { decodeFact, encodeFact } from '../../src/wal/segment-record.ts';
import { textSample } from './decoder.ts';

const number = fc.oneof(fc.maxSafeNat(), fc.nat(300));
const bytes = fc.uint8Array({ maxLength: 300 });
const text = fc.string({ unit: 'grapheme', maxLength: 40 });
const replica = fc.integer({ min: 1, max: 0x7fff_ffff });
const replicas = fc.array(replica, { maxLength: 6 });
const partition = fc.integer({ min: 0, max: 0x7fff_ffff });
const nodeId = fc.stringMatching(/^[A-Za-z0-9._-]{1,64}$/);
const members = fc.array(fc.tuple(nodeId, fc.constantFrom('a:1', '[::1]:2')), {
  minLength: 1,
  maxLength: 5,
});
const system = fc
  .tuple(members, fc.integer({ min: 1, max: 70 }))
  .map(([list, partitionCount]) => genesisState(new Map(list), partitionCount));

/** `read` of what `write` makes is the value. */
function goesAround<Value>(
  name: string,
  values: fc.Arbitrary<Value>,
  write: (value: Value) => Uint8Array,
  read: (written: Uint8Array) => unknown,
): void {
  test(`${name} goes around`, () => {
    fc.assert(
      fc.property(values, (value) => {
        // A copy: what was written may be a view into something larger.
        const again = read(new Uint8Array(write(value)));
        // The prototypes of what was drawn do not matter.
        assert.deepEqual(structuredClone(again), structuredClone(value));
      }),
    );
  });
}

goesAround('a number', number, encodeNumber, decodeNumber);
goesAround('a timestamp', number, encodeTimestamp, decodeTimestamp);
goesAround(
  'a timestamp as text',
  number,
  (value) => textSample(formatTimestamp(value)),
  (written) => parseTimestamp(Buffer.from(written).toString()),
);
goesAround(
  'an endpoint',
  fc.record({
    host: fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain()),
    port: fc.integer({ min: 1, max: 65_535 }),
  }),
  (parts) => textSample(formatEndpoint(parts)),
  (written) => parseEndpoint(Buffer.from(written).toString(), { option: 'listen' }),
);
goesAround(
  'a hard state',
  fc.record({
    term: number,
    votedFor: fc.option(replica, { nil: undefined }),
    commitIndex: number,
  }),
  encodeHardState,
  decodeHardState,
);
goesAround(
  'a base',
  fc.record({
    index: number,
    term: number,
    confState: fc.record({
      voters: replicas,
      votersOutgoing: replicas,
      learners: replicas,
      learnersNext: replicas,
      autoLeave: fc.boolean(),
    }),
    data: fc.option(bytes, { nil: undefined }),
  }),
  encodeBase,
  decodeBase,
);
goesAround(
  'a compaction mark',
  fc.record({ index: number, term: number }),
  encodeCompactionMark,
  decodeCompactionMark,
);
goesAround(
  'a batch mark',
  fc
    .record({
      identity: nodeId,
      batchNumber: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      behind: number,
    })
    .map(({ behind, ...mark }) => ({ ...mark, syncedBatch: behind % mark.batchNumber })),
  encodeBatchMark,
  decodeBatchMark,
);
goesAround('a fact', bytes, encodeMeta, decodeMeta);
goesAround(
  'a fact in a segment',
  fc.record({
    name: text,
    value: fc.option(fc.uint8Array({ minLength: 1, maxLength: 99 }), { nil: undefined }),
  }),
  ({ name, value }) => encodeFact(name, value),
  decodeFact,
);
goesAround(
  'a key of a partition',
  fc.record({
    kind: fc.constantFrom(KeyKind.hardState, KeyKind.base, KeyKind.compaction),
    partitionId: partition,
  }),
  ({ kind, partitionId }) => partitionKey(kind, partitionId),
  parseKey,
);
goesAround(
  'a key of a run',
  fc.record({ kind: fc.constant(KeyKind.run), partitionId: partition, firstIndex: number }),
  ({ partitionId, firstIndex }) => runKey(partitionId, firstIndex),
  parseKey,
);
goesAround(
  'a key of a fact',
  fc.record({ kind: fc.constant(KeyKind.meta), name: text }),
  ({ name }) => metaKey(name),
  parseKey,
);
goesAround(
  'a change of members',
  fc.record({
    transition: fc.constantFrom(...Object.values(Transition)),
    changes: fc.array(
      fc.record({ kind: fc.constantFrom(...Object.values(ConfChangeKind)), replica }),
      { maxLength: 5 },
    ),
    context: bytes,
  }),
  encodeConfChange,
  decodeConfChange,
);
goesAround(
  'a readmission',
  fc.record({ nodeId, replicaId: replica, nonce: text }),
  encodeReadmission,
  decodeReadmission,
);
goesAround('a system state', system, encodeSystemState, decodeSystemState);
goesAround(
  'a genesis record',
  system.map((record) => newGenesis(record, record.members[0]?.nodeId ?? '', '1f')),
  encodeGenesis,
  decodeGenesis,
);
goesAround(
  'a descriptor of a snapshot',
  fc.record({
    stored: fc.record({
      name: fc.stringMatching(/^[a-z0-9-]{1,128}$/),
      byteLength: number,
      checksum: fc.integer({ min: 0, max: 0xffff_ffff }),
    }),
    clock: number,
    machineIndex: number,
  }),
  (descriptor) =>
    encodeDescriptor({
      ...descriptor,
      parts: [{ name: machinePart, byteLength: descriptor.stored.byteLength }],
    }),
  (written) => {
    const { parts, ...descriptor } = decodeDescriptor(written);
    assert.deepEqual(parts, [{ name: machinePart, byteLength: descriptor.stored?.byteLength }]);
    return descriptor;
  },
);
goesAround(
  'a payload',
  fc.record({
    type: fc.string({ minLength: 1, maxLength: 60 }),
    timestamp: number,
    data: bytes,
  }),
  ({ type, timestamp, data }) => {
    const payload = new OutgoingPayload(textSample(type), data);
    payload.timestamp = timestamp;
    return encodePayload(payload);
  },
  (written) => decodePayload({ index: 1, term: 1, ...proposedEntry(EntryKind.normal, written) }),
);
goesAround(
  'a run',
  fc.record({
    firstIndex: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER - 100 }),
    term: number,
    payloads: fc.array(bytes, { minLength: 1, maxLength: 20 }),
  }),
  ({ firstIndex, term, payloads }) =>
    Buffer.concat(
      encodeRuns(
        payloads.map((payload, i) => ({
          ...proposedEntry(EntryKind.normal, payload),
          index: firstIndex + i,
          term,
        })),
      ),
    ),
  (written) => {
    const entries = decodeRun(written);
    const [first] = entries;
    const payloads = entries.map((entry) => new Uint8Array(payloadOf(entry)));
    return { firstIndex: first?.index, term: first?.term, payloads };
  },
);
goesAround(
  'a command',
  fc.record({
    operation: fc.constant('put' as const),
    ifIndex: fc.option(fc.nat(), { nil: undefined }),
    key: fc.string({ minLength: 1, maxLength: 100 }),
    value: bytes,
  }),
  encodeCommand,
  decodeCommand,
);
