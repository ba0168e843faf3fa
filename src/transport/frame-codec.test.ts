// The codec written by hand against the code generated from the .proto: every item and message, both ways, byte for
// byte; and against bytes that are no frame. `SEED=n` repeats a run.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { type ErrorCode, errorCatalogue, isKommanderError } from '../base/errors.ts';
import { layOutRun } from '../ports/run.ts';
import type { Frame, FrameItem } from '../ports/transport.ts';
import {
  type Entry,
  EntryKind,
  type PeerMessage,
  type PeerMessageType,
  payloadOf,
} from '../raft/types.ts';
import { FrameDecoder } from './frame-decoder.ts';
import { FrameEncoder } from './frame-encoder.ts';
import { FrameItemSchema, FrameSchema } from './generated/kommander/v1/raft_pb.ts';

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 0x7fff_ffff));
console.log(`# SEED=${seed}`);
const runs = { seed, numRuns: 300 };

const replica = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 2 ** 31 - 1 }));
const number = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.maxSafeNat(),
  fc.constantFrom(0, 127, 128, 2 ** 31, 2 ** 32, 2 ** 35 - 1, Number.MAX_SAFE_INTEGER),
);
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.uint8Array({ minLength: 4_000, maxLength: 9_000 }),
);
const text = fc.string({ unit: 'grapheme', maxLength: 40 });
const optionalNumber = fc.option(number, { nil: undefined });
const envelope = { from: replica, to: replica, term: number };
const replicas = fc.array(replica, { maxLength: 5 });

/** What tests of entries compare: everything but where the payload lies. */
function plainEntry({ index, term, kind, ...place }: Entry): object {
  return { index, term, kind, payload: [...payloadOf({ index, term, kind, ...place })] };
}

const entries = fc
  .record({
    prevLogIndex: fc.integer({ min: 0, max: 2 ** 40 }),
    groups: fc.array(
      fc.record({
        termStep: fc.integer({ min: 0, max: 3 }),
        payloads: fc.array(fc.tuple(fc.constantFrom<EntryKind[]>(0, 1), bytes), {
          minLength: 1,
          maxLength: 4,
        }),
      }),
      { maxLength: 3 },
    ),
  })
  .map(({ prevLogIndex, groups }) => {
    const list: Entry[] = [];
    let term = 1;
    for (const group of groups) {
      term += group.termStep;
      const laidOut = layOutRun(
        group.payloads.map(([kind, payload]) => ({
          kind,
          byteLength: payload.byteLength,
          write: (target, offset) => target.set(payload, offset),
        })),
      );
      for (const proposed of laidOut)
        list.push({ index: prevLogIndex + list.length + 1, term, ...proposed });
    }
    return { prevLogIndex, entries: list };
  });

const messages: { readonly [Type in PeerMessageType]: fc.Arbitrary<PeerMessage> } = {
  appendEntries: fc
    .record({ ...envelope, prevLogTerm: number, log: entries, leaderCommit: number })
    .map(({ log, ...rest }) => ({ type: 'appendEntries', ...rest, ...log })),
  appendEntriesResponse: fc.record({
    type: fc.constant('appendEntriesResponse'),
    ...envelope,
    index: number,
    rejected: fc.boolean(),
    hintIndex: number,
    hintTerm: number,
  }),
  requestVote: fc.record({
    type: fc.constant('requestVote'),
    ...envelope,
    preVote: fc.boolean(),
    lastLogIndex: number,
    lastLogTerm: number,
    leadershipTransfer: fc.boolean(),
  }),
  requestVoteResponse: fc.record({
    type: fc.constant('requestVoteResponse'),
    ...envelope,
    preVote: fc.boolean(),
    rejected: fc.boolean(),
    lastLogIndex: number,
    lastLogTerm: number,
    commitIndex: number,
    commitTerm: number,
  }),
  heartbeat: fc.record({
    type: fc.constant('heartbeat'),
    ...envelope,
    leaderCommit: number,
    readRound: optionalNumber,
  }),
  heartbeatResponse: fc.record({
    type: fc.constant('heartbeatResponse'),
    ...envelope,
    readRound: optionalNumber,
  }),
  installSnapshot: fc.record({
    type: fc.constant('installSnapshot'),
    ...envelope,
    snapshot: fc.record({
      index: number,
      term: number,
      confState: fc.record({
        voters: replicas,
        votersOutgoing: replicas,
        learners: replicas,
        learnersNext: replicas,
        autoLeave: fc.boolean(),
      }),
      data: bytes,
    }),
  }),
  timeoutNow: fc.record({ type: fc.constant('timeoutNow'), ...envelope }),
  transferLeadership: fc.record({
    type: fc.constant('transferLeadership'),
    ...envelope,
    transferee: replica,
  }),
  readIndex: fc.record({ type: fc.constant('readIndex'), ...envelope, context: number }),
  readIndexResponse: fc.record({
    type: fc.constant('readIndexResponse'),
    ...envelope,
    context: number,
    index: number,
  }),
};

const partitionId = fc.oneof(
  fc.integer({ min: 0, max: 9 }),
  fc.integer({ min: 0, max: 2 ** 31 - 1 }),
);
const fact = fc.oneof(text, fc.integer(), fc.boolean());
const codes = Object.keys(errorCatalogue) as ErrorCode[];

const checksum = fc.nat(0xffff_ffff);
const snapshotIdentity = fc.record({ index: number, byteLength: number, checksum });

const items: { readonly [Kind in FrameItem['kind']]: fc.Arbitrary<FrameItem> } = {
  raft: fc.record({
    kind: fc.constant('raft'),
    partitionId,
    message: fc.oneof(...Object.values(messages)),
  }),
  snapshotPiece: fc.record({
    kind: fc.constant('snapshotPiece'),
    partitionId,
    snapshot: snapshotIdentity,
    offset: number,
    checksum,
    bytes,
  }),
  snapshotPieceRequest: fc.record({
    kind: fc.constant('snapshotPieceRequest'),
    partitionId,
    snapshot: snapshotIdentity,
    to: text,
    offset: number,
  }),
  snapshotProgress: fc.record({
    kind: fc.constant('snapshotProgress'),
    partitionId,
    snapshot: snapshotIdentity,
    receivedBytes: number,
    isBroken: fc.boolean(),
  }),
  propose: fc.record({
    kind: fc.constant('propose'),
    partitionId,
    requestId: number,
    payloads: fc.array(bytes, { maxLength: 4 }),
  }),
  proposeResponse: fc.record({
    kind: fc.constant('proposeResponse'),
    partitionId,
    requestId: number,
    appended: fc.option(fc.record({ firstIndex: number, term: number }), { nil: undefined }),
    refused: fc.option(
      fc.record({
        code: fc.constantFrom(...codes),
        message: text,
        details: fc.dictionary(fc.string({ minLength: 1, maxLength: 9 }), fact, { maxKeys: 4 }),
      }),
      { nil: undefined },
    ),
  }),
  genesis: fc.record({
    kind: fc.constant('genesis'),
    recordHash: text,
    complete: fc.boolean(),
    acceptances: fc.array(fc.record({ nodeId: text, nonce: text, replicaId: replica }), {
      maxLength: 3,
    }),
    endpoint: fc.option(fc.domain(), { nil: undefined }),
  }),
};

const frame: fc.Arbitrary<Frame> = fc.record({
  timestamp: number,
  items: fc.array(fc.oneof(...Object.values(items)), { maxLength: 12 }),
});

function encodeWhole(value: Frame): Uint8Array {
  const encoder = new FrameEncoder({
    frameBytesMax: 1 << 24,
    frameBytesTarget: 1 << 24,
    headroomBytes: 0,
  });
  const { frames, oversizedCount } = encoder.encode(value);
  assert.equal(oversizedCount, 0);
  assert.equal(frames.length, 1);
  const joined = Buffer.concat(frames[0]?.chunks ?? []);
  assert.equal(joined.byteLength, frames[0]?.byteLength);
  return new Uint8Array(joined);
}

/** A frame in a form that deep equality can compare. */
function plain(value: Frame): unknown {
  return JSON.parse(
    JSON.stringify(
      {
        timestamp: value.timestamp,
        items: value.items.map((item) =>
          item.kind === 'raft' && item.message.type === 'appendEntries'
            ? {
                ...item,
                message: { ...item.message, entries: item.message.entries.map(plainEntry) },
              }
            : item,
        ),
      },
      (_, one: unknown) => (one instanceof Uint8Array ? [...one] : one),
    ),
  );
}

test('every frame arrives as it was sent, and its bytes are those of the published format', () => {
  fc.assert(
    fc.property(frame, (sent) => {
      const encoded = encodeWhole(sent);
      const foreign = fromBinary(FrameSchema, encoded);
      assert.equal(foreign.items.length, sent.items.length);
      assert.ok(foreign.items.every((item) => item.$unknown === undefined));
      assert.deepEqual(Buffer.from(toBinary(FrameSchema, foreign)), Buffer.from(encoded));
      const { frame: received, skippedCount } = new FrameDecoder().decode(encoded);
      assert.equal(skippedCount, 0);
      assert.deepEqual(plain(received), plain(sent));
    }),
    runs,
  );
});

for (const [type, message] of Object.entries(messages)) {
  test(`the published format carries ${type} in the field of that name`, () => {
    fc.assert(
      fc.property(message, (sent) => {
        const encoded = encodeWhole({
          timestamp: 1,
          items: [{ kind: 'raft', partitionId: 3, message: sent }],
        });
        const [item] = fromBinary(FrameSchema, encoded).items;
        assert.equal(item?.partitionId, 3);
        assert.equal(item?.item.case, type);
        const fields = item?.item.value as unknown as Record<string, unknown>;
        for (const [name, value] of Object.entries(sent)) {
          if (typeof value === 'number') assert.equal(Number(fields[name]), value, name);
          if (typeof value === 'boolean') assert.equal(fields[name], value, name);
          if (value === undefined) assert.equal(fields[name], undefined, name);
        }
      }),
      { ...runs, numRuns: 50 },
    );
  });
}

for (const [kind, arbitrary] of Object.entries(items)) {
  test(`an item of kind ${kind} arrives as it was sent`, () => {
    fc.assert(
      fc.property(arbitrary, (sent) => {
        const { frame: received } = new FrameDecoder().decode(
          encodeWhole({ timestamp: 1, items: [sent] }),
        );
        assert.deepEqual(plain(received), plain({ timestamp: 1, items: [sent] }));
      }),
      { ...runs, numRuns: 50 },
    );
  });
}

const heartbeat = {
  kind: 'raft',
  partitionId: 1,
  message: {
    type: 'heartbeat',
    from: 1,
    to: 2,
    term: 300,
    leaderCommit: 70_000,
    readRound: undefined,
  },
} as const satisfies FrameItem;

test('the bytes of a heartbeat are the golden ones', () => {
  const encoded = encodeWhole({ timestamp: 300, items: [heartbeat] });
  assert.equal(Buffer.from(encoded).toString('hex'), '08ac02120f0801320b0801100218ac0220f0a204');
});

function heartbeats(count: number): Frame {
  return { timestamp: 7, items: Array.from({ length: count }, () => heartbeat) };
}

test('one broken item does not take the others of its frame down', () => {
  const good = toBinary(FrameSchema, fromBinary(FrameSchema, encodeWhole(heartbeats(2))));
  // Replica id 0, an unknown kind, a body that is cut off, and a run with a bad checksum.
  const broken = [
    [0x12, 0x04, 0x32, 0x02, 0x10, 0x02],
    [0x12, 0x05, 0xa2, 0x06, 0x02, 0x08, 0x01],
    [0x12, 0x04, 0x32, 0x02, 0x10, 0x80],
    [0x12, 0x0c, 0x12, 0x0a, 0x08, 0x01, 0x10, 0x02, 0x3a, 0x04, 1, 2, 3, 4],
  ];
  const frameBytes = Buffer.concat([good, ...broken.map((one) => Buffer.from(one)), good]);
  const decoded = new FrameDecoder().decode(new Uint8Array(frameBytes));
  assert.equal(decoded.frame.items.length, 4);
  assert.equal(decoded.skippedCount, 4);
  assert.match(decoded.firstProblem ?? '', /replica id 0/);
});

test('a run that was damaged on the way is skipped', () => {
  fc.assert(
    fc.property(entries, fc.nat(), (log, at) => {
      fc.pre(log.entries.length > 0);
      const message: PeerMessage = {
        type: 'appendEntries',
        from: 1,
        to: 2,
        term: 9,
        prevLogTerm: 1,
        leaderCommit: 0,
        ...log,
      };
      const encoded = fromBinary(
        FrameSchema,
        encodeWhole({ timestamp: 1, items: [{ kind: 'raft', partitionId: 1, message }] }),
      );
      const value = encoded.items[0]?.item;
      assert.ok(value?.case === 'appendEntries');
      const run = value.value.runs[0] as Uint8Array;
      // The reserved bytes 1 … 3 are outside of the checksum.
      const position = at % run.byteLength;
      fc.pre(position === 0 || position > 3);
      run[position] = (run[position] as number) ^ 0x10;
      const decoded = new FrameDecoder().decode(toBinary(FrameSchema, encoded));
      assert.equal(decoded.frame.items.length, 0);
      assert.equal(decoded.skippedCount, 1);
    }),
    { ...runs, numRuns: 60 },
  );
});

test('entries with a hole between runs or behind the previous index are skipped', () => {
  const payload = { kind: EntryKind.normal, byteLength: 0, write: () => {} };
  const [first, second] = [layOutRun([payload]), layOutRun([payload])];
  const log = [
    { index: 5, term: 2, ...(first[0] as (typeof first)[number]) },
    { index: 7, term: 2, ...(second[0] as (typeof second)[number]) },
  ];
  for (const [prevLogIndex, list] of [
    [4, log],
    [3, log.slice(0, 1)],
  ] as const) {
    const message: PeerMessage = {
      type: 'appendEntries',
      from: 1,
      to: 2,
      term: 9,
      prevLogIndex,
      prevLogTerm: 1,
      leaderCommit: 0,
      entries: list,
    };
    const decoded = new FrameDecoder().decode(
      encodeWhole({ timestamp: 1, items: [{ kind: 'raft', partitionId: 1, message }] }),
    );
    assert.equal(decoded.skippedCount, 1);
    assert.match(decoded.firstProblem ?? '', /where \d is next/);
  }
});

test('fields that are not known yet are skipped', () => {
  const known = encodeWhole(heartbeats(1));
  const item = create(FrameItemSchema, fromBinary(FrameSchema, known).items[0]);
  const unknown = Buffer.from([
    0xf8, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
  ]);
  const withUnknown = Buffer.concat([toBinary(FrameItemSchema, item), unknown]);
  const decoded = new FrameDecoder().decode(
    new Uint8Array(
      Buffer.concat([unknown, Buffer.from([0x12, withUnknown.byteLength]), withUnknown, unknown]),
    ),
  );
  assert.equal(decoded.skippedCount, 0);
  assert.deepEqual(decoded.frame.items, [heartbeat]);
});

test('a frame with too many broken items is refused', () => {
  const broken = Buffer.from([0x12, 0x04, 0x32, 0x02, 0x10, 0x02]);
  const some = new Uint8Array(Buffer.concat(Array.from({ length: 64 }, () => broken)));
  assert.equal(new FrameDecoder().decode(some).skippedCount, 64);
  const many = new Uint8Array(Buffer.concat(Array.from({ length: 65 }, () => broken)));
  assert.throws(() => new FrameDecoder().decode(many), isMalformed);
});

function isMalformed(error: unknown): boolean {
  return isKommanderError(error, 'MALFORMED_MESSAGE');
}

test('random and damaged bytes are refused with MALFORMED_MESSAGE or read, never anything else', () => {
  const decoder = new FrameDecoder();
  const damaged = fc
    .tuple(frame, fc.array(fc.tuple(fc.nat(), fc.nat(255))))
    .map(([value, edits]) => {
      const encoded = encodeWhole(value);
      for (const [at, byte] of edits) encoded[at % Math.max(1, encoded.byteLength)] = byte;
      return encoded;
    });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), damaged), (garbage) => {
      try {
        decoder.decode(garbage);
      } catch (error) {
        if (!isMalformed(error)) throw error;
      }
      assert.equal(decoder.decode(encodeWhole(heartbeats(1))).frame.items.length, 1);
    }),
    { ...runs, numRuns: 1_000 },
  );
});

test('a truncated frame is refused unless it is cut between items', () => {
  const whole = encodeWhole(heartbeats(3));
  const itemBytes = (whole.byteLength - 2) / 3;
  for (let length = 0; length < whole.byteLength; length++) {
    const cut = whole.subarray(0, length);
    const isBoundary = length === 0 || (length >= 2 && (length - 2) % itemBytes === 0);
    if (isBoundary) new FrameDecoder().decode(cut);
    else assert.throws(() => new FrameDecoder().decode(cut), isMalformed, `cut at ${length}`);
  }
});

test('large frames are split between items, and an item above the maximum is left out', () => {
  const payload = new Uint8Array(1_000).fill(5);
  const propose = (size: number): FrameItem => ({
    kind: 'propose',
    partitionId: 1,
    requestId: size,
    payloads: Array.from({ length: size }, () => payload),
  });
  const encoder = new FrameEncoder({
    frameBytesMax: 20_000,
    frameBytesTarget: 8_000,
    headroomBytes: 5,
  });
  const sent = [propose(5), propose(30), heartbeat, propose(5), propose(18), propose(1), heartbeat];
  const { frames, oversizedCount } = encoder.encode({ timestamp: 11, items: sent });
  assert.equal(oversizedCount, 1);
  assert.ok(frames.length > 1);
  const received: FrameItem[] = [];
  for (const { chunks, byteLength } of frames) {
    assert.ok(byteLength - 5 <= 20_000);
    const decoded = new FrameDecoder().decode(new Uint8Array(Buffer.concat(chunks)).subarray(5));
    assert.equal(decoded.frame.timestamp, 11);
    received.push(...decoded.frame.items);
  }
  assert.deepEqual(
    plain({ timestamp: 1, items: received }),
    plain({ timestamp: 1, items: sent.filter((item) => item !== sent[1]) }),
  );
});

test('a large run is sent from the very buffer that holds the entries', () => {
  const [proposed] = layOutRun([
    {
      kind: EntryKind.normal,
      byteLength: 100_000,
      write: (target, offset) => target.fill(9, offset),
    },
  ]);
  assert.ok(proposed !== undefined);
  const message: PeerMessage = {
    type: 'appendEntries',
    from: 1,
    to: 2,
    term: 3,
    prevLogIndex: 0,
    prevLogTerm: 0,
    leaderCommit: 0,
    entries: [{ index: 1, term: 3, ...proposed }],
  };
  const encoder = new FrameEncoder({
    frameBytesMax: 1 << 20,
    frameBytesTarget: 1 << 20,
    headroomBytes: 5,
  });
  const [first] = encoder.encode({
    timestamp: 1,
    items: [{ kind: 'raft', partitionId: 1, message }],
  }).frames;
  assert.equal(first?.chunks[1], proposed.bytes);
});

test('a frame that breaks a rule leaves nothing behind in the next one', () => {
  const encoder = new FrameEncoder({
    frameBytesMax: 1 << 20,
    frameBytesTarget: 1 << 20,
    headroomBytes: 0,
  });
  const broken: PeerMessage = { ...heartbeat.message, leaderCommit: -1 };
  const frame = { ...heartbeats(2), items: [heartbeat, { ...heartbeat, message: broken }] };
  assert.throws(() => encoder.encode(frame), /numbers on the wire are not negative/);
  const [next] = encoder.encode(heartbeats(1)).frames;
  assert.deepEqual(Buffer.concat(next?.chunks ?? []), Buffer.from(encodeWhole(heartbeats(1))));
});

test('a small entry does not hold the chunk that it was received in', () => {
  const [proposed] = layOutRun([{ kind: EntryKind.normal, byteLength: 3, write: () => {} }]);
  assert.ok(proposed !== undefined);
  const message: PeerMessage = {
    type: 'appendEntries',
    from: 1,
    to: 2,
    term: 3,
    prevLogIndex: 0,
    prevLogTerm: 0,
    leaderCommit: 0,
    entries: [{ index: 1, term: 3, ...proposed }],
  };
  const encoded = encodeWhole({ timestamp: 1, items: [{ kind: 'raft', partitionId: 1, message }] });
  const chunk = new Uint8Array(65_536);
  chunk.set(encoded, 100);
  const { frame: received } = new FrameDecoder().decode(
    chunk.subarray(100, 100 + encoded.byteLength),
  );
  const [item] = received.items;
  assert.ok(item?.kind === 'raft' && item.message.type === 'appendEntries');
  assert.ok((item.message.entries[0]?.bytes.buffer.byteLength ?? 0) < 256);
});
