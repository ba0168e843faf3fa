// Seeded bugs of the segment engine: what its records, footers, recovery and cleaning promise.

import type { Edit, Mutation } from './mutation.ts';

const crashes = 'src/wal/segment-crash.test.ts';
const contract = 'src/wal/segment.test.ts';
const simulator = { blind: 'its own test loses power at every step, over thousands of batches' };

function segmentMutation(
  id: string,
  says: string,
  bug: {
    readonly hazards: readonly number[];
    readonly tests: readonly string[];
    readonly edit: Edit;
  },
): Mutation {
  return { id, hazards: bug.hazards, edits: [bug.edit], says, tests: bug.tests, simulator };
}

export const segmentMutations: readonly Mutation[] = [
  segmentMutation('segment-ack-before-sync', 'A synced batch is acknowledged when it is written.', {
    hazards: [37],
    tests: [crashes],
    edit: {
      file: 'src/wal/segment.ts',
      find: '    await sync(segments);\n    byteLength ??= 0;',
      replace: '    segments.syncedBatch = segments.lastBatch;\n    byteLength ??= 0;',
    },
  }),
  segmentMutation('segment-record-crc-ignored', 'The checksum of a record is not looked at.', {
    hazards: [40],
    tests: [contract],
    edit: {
      file: 'src/wal/segment-record.ts',
      find: 'if (crc32(segment.subarray(offset + 4, coveredEnd)) !== crc) return undefined;',
      replace: '',
    },
  }),
  segmentMutation(
    'segment-run-crc-ignored',
    'The payloads of a torn run are taken for what was written.',
    {
      hazards: [40],
      tests: [crashes, contract],
      edit: {
        file: 'src/wal/segment-scan.ts',
        find: 'return new ByteReader(run, 4).uint32() === crc32(run.subarray(8));',
        replace: 'return run.byteLength > 0;',
      },
    },
  ),
  segmentMutation(
    'segment-half-batch-taken',
    'The records of a batch count before its last one is there.',
    {
      hazards: [40],
      tests: [crashes],
      edit: {
        file: 'src/wal/segment-scan.ts',
        find: 'if (!record.isLast) continue;',
        replace: '',
      },
    },
  ),
  segmentMutation(
    'segment-tail-cut-too-far',
    'With a torn batch the whole one before it is cut as well.',
    {
      hazards: [40],
      tests: [crashes],
      edit: {
        file: 'src/wal/segment-open.ts',
        find: 'doubtful.push({ segment, from: offset, end: endOffset });',
        replace: 'doubtful.push({ segment, from: Math.max(0, offset - 96), end: endOffset });',
      },
    },
  ),
  segmentMutation(
    'segment-damage-passes-for-torn',
    'Damage in the middle is cut like a torn end.',
    {
      hazards: [40],
      tests: [contract],
      edit: {
        file: 'src/wal/segment-open.ts',
        find: 'if (syncedBatch < broken.batch) continue;',
        replace: 'if (syncedBatch < Number.POSITIVE_INFINITY) continue;',
      },
    },
  ),
  segmentMutation('segment-chain-not-checked', 'Records count that do not join the ones before.', {
    hazards: [40],
    tests: ['src/wal/segment-scan.test.ts'],
    edit: {
      file: 'src/wal/segment-scan.ts',
      find: 'if (expectedCrc !== undefined && record.previousCrc !== expectedCrc) break;',
      replace: '',
    },
  }),
  segmentMutation(
    'segment-footer-before-sync',
    'A footer is written before the records that it speaks of are synced.',
    {
      hazards: [37, 40],
      tests: [crashes],
      edit: {
        file: 'src/wal/segment-store.ts',
        find: 'if (store.syncedBatch < store.lastBatch) {',
        replace: 'if (store.lastBatch < 0) {',
      },
    },
  ),
  segmentMutation(
    'segment-footer-of-another-life',
    'The footer of what a file held before it was used again is believed.',
    {
      hazards: [40],
      tests: [crashes],
      edit: {
        file: 'src/wal/segment-summary.ts',
        find: 'if (reader.uint32() !== sealed || number !== segmentNumber) return undefined;',
        replace: 'if (reader.uint32() !== sealed || number > segmentNumber) return undefined;',
      },
    },
  ),
  segmentMutation(
    'segment-recovered-counts-as-synced',
    'What a killed process had not synced counts as synced once it was read again.',
    {
      hazards: [37, 40],
      tests: [crashes],
      edit: {
        file: 'src/wal/segment.ts',
        find: '    await sync(store);\n    await files.syncNames();',
        replace: '',
      },
    },
  ),
  segmentMutation(
    'segment-released-before-copies-synced',
    'A segment goes before the copies of what lives in it are synced.',
    {
      hazards: [37, 42],
      tests: [crashes],
      edit: {
        file: 'src/wal/segment-cleaner.ts',
        find: 'emptyAtBatch <= store.syncedBatch',
        replace: 'emptyAtBatch <= store.lastBatch',
      },
    },
  ),
  segmentMutation(
    'segment-hard-state-left-behind',
    'A segment goes although the newest hard state of a partition is only in it.',
    {
      hazards: [2, 42],
      tests: [contract],
      edit: {
        file: 'src/wal/segment-cleaner.ts',
        find: 'if (hardStateAt === segmentNumber) {',
        replace: 'if (hardStateAt === segmentNumber && stored.lastIndex > 0) {',
      },
    },
  ),
  segmentMutation(
    'segment-copy-cuts-the-log',
    'A copy of an old run replaces everything behind it, as an append does.',
    {
      hazards: [42],
      tests: [crashes, contract],
      edit: {
        file: 'src/wal/segment-cleaner.ts',
        find: 'add({ kind, partitionId, body, isMoved: kind === StreamKind.run });',
        replace: 'add({ kind, partitionId, body, isMoved: false });',
      },
    },
  ),
  segmentMutation(
    'segment-gap-while-replaced',
    'A prepared file that is too small goes while a younger one is there.',
    {
      hazards: [40],
      tests: [contract],
      edit: {
        file: 'src/wal/segment-open.ts',
        find: '    await files.remove(name);\n    await files.syncNames();',
        replace: '    if (name === undefined) return { segments, empty };',
      },
    },
  ),
  segmentMutation(
    'segment-prepared-twice',
    'Batches begin to lay the next file out while it is being laid out: after a full disk one replaces a file with records.',
    {
      hazards: [41],
      tests: [crashes],
      edit: {
        file: 'src/wal/segment-store.ts',
        find: '  if (store.preparing !== undefined) return;\n',
        replace: '',
      },
    },
  ),
  segmentMutation(
    'segment-replaced-end-comes-back',
    'A copy of a run brings back the entries that were replaced at its end, once what replaced them is compacted.',
    {
      hazards: [42],
      tests: [contract],
      edit: {
        file: 'src/wal/segment-open.ts',
        find: '  if (run.firstIndex <= compaction.index && run.term < compaction.term) return 0;\n',
        replace: '',
      },
    },
  ),
  segmentMutation(
    'segment-damage-not-held',
    'A damaged record does not hold up the emptying of its segment.',
    {
      hazards: [40],
      tests: [contract],
      edit: {
        file: 'src/wal/segment-cleaner.ts',
        find: '      cleaner.waiting.push(survivor);\n',
        replace: '',
      },
    },
  ),
  segmentMutation(
    'damage-found-by-store-not-heard',
    'A replica goes on when its store has come upon a damaged record of it.',
    {
      hazards: [40],
      tests: ['test/host/storage.test.ts'],
      edit: {
        file: 'src/host/opening.ts',
        find: 'if (built !== undefined) stopReplica(built, partitionId, error);',
        replace: 'if (built !== undefined) return;',
      },
    },
  ),
  segmentMutation(
    'segment-moves-before-batch',
    'On a full disk a batch is refused because what the cleaner moves with it has no room.',
    {
      hazards: [41],
      tests: [contract],
      edit: {
        file: 'src/wal/segment.ts',
        find: "    if (isKommanderError(error, 'DISK_FULL')) return false;\n",
        replace: '',
      },
    },
  ),
  segmentMutation(
    'segment-never-cleaned',
    'A partition that is never written keeps all younger segments on the disk.',
    {
      hazards: [44],
      tests: [contract],
      edit: {
        file: 'src/wal/segment-cleaner.ts',
        find: 'return total - live > live + (deadSegmentsMax + 1) * segmentBytes;',
        replace: 'return total < live;',
      },
    },
  ),
];
