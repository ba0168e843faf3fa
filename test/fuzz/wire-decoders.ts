// Decoders of what peers send: frames, the stream that carries them, greetings, answers.

import { createHmac } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http2';
import { MalformedBytesError } from '../../src/base/bytes.ts';
import {
  type Announcement,
  decodeAnnouncement,
  encodeAnnouncement,
} from '../../src/discovery/announcement.ts';
import type { Frame, FrameItem } from '../../src/ports/transport.ts';
import { Lane } from '../../src/ports/transport.ts';
import { sampleEntries, sampleItems } from '../../src/testing/sample-frames.ts';
import { FrameDecoder } from '../../src/transport/frame-decoder.ts';
import { FrameEncoder } from '../../src/transport/frame-encoder.ts';
import { greetingTo } from '../../src/transport/greeting.ts';
import {
  acceptedEvent,
  greetingHeaders,
  MessageSplitter,
  malformed,
  prefixBytes,
  readEvent,
  readGreeting,
  refusedEvent,
} from '../../src/transport/grpc-framing.ts';
import { BrokenRuleError, type Decoder, decoderOf, textSample } from './decoder.ts';

const frameDecoder = new FrameDecoder();
const frameEncoder = new FrameEncoder({
  frameBytesMax: 0x4000_0000,
  frameBytesTarget: 0x4000_0000,
  headroomBytes: 0,
});

/** The samples of the contract suite, with less data. */
const items = sampleItems.map((item): FrameItem => {
  if (item.kind !== 'raft' || item.message.type !== 'appendEntries') return item;
  const entries = [
    ...sampleEntries({ firstIndex: 42, term: 7, count: 8, bytes: 5 }),
    ...sampleEntries({ firstIndex: 50, term: 8, count: 1, bytes: 0 }),
    ...sampleEntries({ firstIndex: 51, term: 8, count: 2, bytes: 200 }),
  ];
  return { ...item, message: { ...item.message, entries } };
});

function encodeFrame(frame: Frame): Uint8Array {
  const { frames } = frameEncoder.encode(frame);
  return Buffer.concat(frames.flatMap(({ chunks }) => chunks));
}

/** Largest message of the splitter under test. */
const messageBytesMax = 65_536;

function messagesOf(chunks: readonly Uint8Array[]): Uint8Array[] {
  const messages: Uint8Array[] = [];
  const splitter = new MessageSplitter(messageBytesMax, (message) => messages.push(message));
  for (const chunk of chunks) splitter.push(chunk);
  return messages;
}

function chunksOf(bytes: Uint8Array, chunkBytes: number): Uint8Array[] {
  const count = Math.ceil(bytes.byteLength / chunkBytes);
  return Array.from({ length: count }, (_, i) =>
    bytes.subarray(i * chunkBytes, (i + 1) * chunkBytes),
  );
}

function stream(messages: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(
    messages.flatMap((message) => {
      const prefix = new Uint8Array(prefixBytes);
      new DataView(prefix.buffer).setUint32(1, message.byteLength);
      return [prefix, message];
    }),
  );
}

/** Header lines, as a text. */
function headerLines(headers: object): Uint8Array {
  return textSample(
    Object.entries(headers)
      .map(([name, value]) => `${name}: ${value}`)
      .join('\n'),
  );
}

function headersOf(bytes: Uint8Array): IncomingHttpHeaders {
  const lines = Buffer.from(bytes).toString().split('\n');
  return Object.fromEntries(
    lines.map((line) => {
      const [name = '', ...value] = line.split(': ');
      return [name, value.join(': ')];
    }),
  );
}

const identity = { clusterId: 'clüster/1', nodeId: 'node-a', incarnation: 12, startId: 'abc123' };

const announced: Announcement = {
  ...{ kind: 'here', nodeId: 'node-a', startId: 'abc123', endpoint: '[::1]:8001' },
  stamp: 1_800_000_000_000,
};

/** Announcements of multicast discovery, signed or not. */
function announcements(name: string, secrets: readonly string[]): Decoder {
  const group = { cluster: 'shop', secrets };
  return decoderOf({
    name,
    covers: secrets.length > 0 ? [] : ['discovery/announcement.ts#decodeAnnouncement'],
    form: 'bytes',
    samples: [
      encodeAnnouncement(group, announced),
      encodeAnnouncement(group, { ...announced, kind: 'goodbye' }),
    ],
    decode(bytes): Announcement {
      const taken = decodeAnnouncement(group, bytes);
      // It says why instead of throwing.
      if (typeof taken === 'string') throw new MalformedBytesError(taken);
      return taken;
    },
    encode: (announcement) => encodeAnnouncement(group, announcement),
    throws: ['MalformedBytesError'],
    bytesPerByte: 64,
    reseal(bytes) {
      const [secret] = secrets;
      if (secret === undefined || bytes.byteLength < 32) return bytes;
      const body = bytes.subarray(0, -32);
      return Buffer.concat([body, createHmac('sha256', secret).update(body).digest()]);
    },
  });
}

export const wireDecoders: readonly Decoder[] = [
  announcements('announcement', []),
  announcements('signed-announcement', ['s3cret']),
  decoderOf({
    name: 'frame',
    covers: [],
    form: 'protobuf',
    samples: [
      ...items.map((item) => encodeFrame({ timestamp: 7_000_000_000_000, items: [item] })),
      encodeFrame({ timestamp: 1, items }),
      encodeFrame({ timestamp: 0, items: [] }),
    ],
    decode: (bytes) => frameDecoder.decode(bytes).frame,
    encode: encodeFrame,
    throws: ['MALFORMED_MESSAGE'],
    bytesPerByte: 128,
    weight: 6,
  }),
  decoderOf({
    name: 'message-stream',
    covers: [],
    form: 'bytes',
    samples: [
      stream([new Uint8Array(0), new Uint8Array(3).fill(1), new Uint8Array(300).fill(2)]),
      stream([new Uint8Array(1_000).fill(5)]),
    ],
    decode(bytes) {
      const whole = messagesOf([bytes]);
      const pieces = messagesOf(chunksOf(bytes, 1 + ((bytes.at(-1) ?? 0) % 13)));
      if (Buffer.compare(stream(whole), stream(pieces)) !== 0)
        throw new BrokenRuleError('messages depend on how their bytes arrive');
    },
    throws: ['MALFORMED_MESSAGE'],
    bytesPerByte: 600,
  }),
  decoderOf({
    name: 'greeting',
    covers: ['transport/grpc-framing.ts#readGreeting'],
    form: 'text',
    samples: [
      headerLines(greetingHeaders(greetingTo('node-b', Lane.control, identity))),
      headerLines(greetingHeaders(greetingTo('node-b', Lane.bulk, { ...identity, clusterId: '' }))),
    ],
    decode: (bytes) => readGreeting(headersOf(bytes)),
    encode: (greeting) => headerLines(greetingHeaders(greeting)),
    throws: ['MALFORMED_MESSAGE'],
    bytesPerByte: 200,
  }),
  decoderOf({
    name: 'stream-event',
    covers: ['transport/grpc-framing.ts#readEvent'],
    form: 'protobuf',
    samples: [
      acceptedEvent(identity, 1).subarray(prefixBytes),
      refusedEvent(malformed('what came is nothing')).subarray(prefixBytes),
    ],
    decode: readEvent,
    throws: ['MALFORMED_MESSAGE'],
    bytesPerByte: 400,
  }),
];
