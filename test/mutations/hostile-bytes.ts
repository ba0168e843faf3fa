// Seeded bugs of the decoders: limits, lengths and checksums that are not checked. The fuzzer, or a rule that it found
// broken, should notice.

import type { Mutation } from './mutation.ts';

const simulator = { blind: 'no simulated node writes what no node writes' } as const;

export const hostileByteMutations: readonly Mutation[] = [
  {
    id: 'message-size-unlimited',
    hazards: [],
    edits: [
      {
        file: 'src/transport/grpc-framing.ts',
        find: 'if (length > this.#messageBytesMax)',
        replace: 'if (length > 0xffff_ffff)',
      },
    ],
    says: 'A peer that announces a message of four gigabytes is given room for it.',
    tests: ['test/fuzz/fuzz.test.ts'],
    simulator,
  },
  {
    id: 'frame-lists-anything',
    hazards: [],
    edits: [
      {
        file: 'src/transport/wire-reader.ts',
        find: 'if (count > shortListedMax + byteLength / listedBytesMin)',
        replace: 'if (count < 0)',
      },
    ],
    says: 'A frame may hold as many things as it has room for two bytes, each of which costs a hundred.',
    tests: ['test/fuzz/findings.test.ts'],
    simulator,
  },
  {
    id: 'items-counted-one-by-one',
    hazards: [],
    edits: [
      {
        file: 'src/transport/frame-decoder.ts',
        find: '    checkListed(this.#listedCount, bytes.byteLength);\n',
        replace: '',
      },
    ],
    says: 'Every item of a frame may hold as much as a whole frame.',
    tests: ['test/fuzz/findings.test.ts'],
    simulator,
  },
  {
    id: 'record-checksum-unchecked',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/record.ts',
        find: 'if (checksum !== actual)',
        replace: 'if (checksum < 0)',
      },
    ],
    says: 'A damaged record of a store is believed.',
    tests: ['test/fuzz/fuzz.test.ts'],
    simulator,
  },
  {
    id: 'footer-length-unchecked',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/segment-summary.ts',
        find: 'if (offset + byteLength > recordsEnd)',
        replace: 'if (recordsEnd < 0)',
      },
    ],
    says: 'A footer leads to bytes behind its segment, and somebody makes room for them.',
    tests: ['test/fuzz/findings.test.ts'],
    simulator,
  },
  {
    id: 'genesis-with-tail',
    hazards: [],
    edits: [
      {
        file: 'src/host/genesis.ts',
        find: "if (reader.remaining !== 0) throw new MalformedBytesError('bytes behind a genesis record');",
        replace: '',
      },
    ],
    says: 'A genesis record may go on behind its end.',
    tests: ['test/fuzz/findings.test.ts'],
    simulator,
  },
];
