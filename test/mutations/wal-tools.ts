// Seeded bugs of the tools that look after the store of a stopped node: what is not seen, and what a repair forgets.

import type { Mutation } from './mutation.ts';

const simulator = { blind: 'the tools look at the store of a node that is stopped' } as const;

export const walToolMutations: readonly Mutation[] = [
  {
    id: 'repair-without-votes',
    hazards: [2],
    edits: [
      {
        file: 'src/server/wal-repair-plan.ts',
        find: "const beyond = survey.damages.find(({ lost }) => lost === 'anything');",
        replace: 'const beyond = survey.damages.find(() => false);',
      },
    ],
    says: 'A store is repaired although the damage may have hidden a newer vote.',
    tests: ['test/wal-tools/repair-plan.test.ts'],
    simulator,
  },
  {
    id: 'repair-keeps-old-vote',
    hazards: [3],
    edits: [
      {
        file: 'src/server/wal-mend.ts',
        find: 'return { term: committed.term, votedFor: undefined, commitIndex };',
        replace: 'return { ...hardState, commitIndex };',
      },
    ],
    says: 'A repaired log holds entries of a later term than the replica believes to be in.',
    tests: ['test/wal-tools/repair.test.ts'],
    simulator,
  },
  {
    id: 'repair-shortens-log',
    hazards: [4, 37],
    edits: [
      {
        file: 'src/server/wal-repair-plan.ts',
        find: 'if (committed.term === term && committed.index >= lastIndex) return;',
        replace: 'if (committed.term === term) return;',
      },
    ],
    says: 'A repaired log may end before an entry that the replica acknowledged.',
    tests: ['test/wal-tools/repair-plan.test.ts', 'test/wal-tools/repair.test.ts'],
    simulator,
  },
  {
    id: 'repair-trusts-own-tail',
    hazards: [19],
    edits: [
      {
        file: 'src/server/wal-mend.ts',
        find: 'if (committed !== undefined && entry.index > need.commitIndex) break;',
        replace: '',
      },
    ],
    says: 'Entries that may be of a leader that lost stay in front of committed ones.',
    tests: ['test/wal-tools/repair.test.ts'],
    simulator,
  },
  {
    id: 'repair-believes-neighbour',
    hazards: [13],
    edits: [
      {
        file: 'src/server/wal-mend.ts',
        find: 'if (isFirst && (first === undefined || last === undefined || !isSame(first, last)))',
        replace: 'if (isFirst && first === undefined)',
      },
    ],
    says: 'A repair takes entries of a log that is another one.',
    tests: ['test/wal-tools/repair.test.ts'],
    simulator,
  },
  {
    id: 'peer-gives-unapplied',
    hazards: [37],
    edits: [
      {
        file: 'src/server/http-log.ts',
        find: 'endIndex: Math.min(endIndex, lastApplied + 1),',
        replace: 'endIndex,',
      },
    ],
    says: 'A node serves entries as committed that are not.',
    tests: ['test/server-http.test.ts'],
    simulator,
  },
  {
    id: 'verify-overlooks-lost-log',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/rocksdb-reader.ts',
        find: 'if (proven.batchNumber > lastBatch) {',
        replace: 'if (proven.batchNumber < 0) {',
      },
    ],
    says: 'A log that was cut in the middle counts as a torn one.',
    tests: ['test/wal-tools/reader.test.ts'],
    simulator,
  },
  {
    id: 'verify-overlooks-gap',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/store-survey.ts',
        find: 'if (expected < firstIndex)\n    missing',
        replace: 'if (expected < 0)\n    missing',
      },
    ],
    says: 'Entries that are missing between two runs are no damage.',
    tests: ['test/wal-tools/reader.test.ts'],
    simulator,
  },
  {
    id: 'unfinished-store-opens',
    hazards: [47],
    edits: [
      {
        file: 'src/server/wal-build.ts',
        find: '      await withholdMark(draft);\n',
        replace: '',
      },
      {
        file: 'src/server/wal-build.ts',
        find: '    await publishMark(draft);\n',
        replace: '',
      },
    ],
    says: 'A store that is being made by a tool is one before it is whole.',
    tests: ['test/wal-tools/copy.test.ts'],
    simulator,
  },
  {
    id: 'verify-skips-sqlite-journal',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/sqlite-mirror.ts',
        find: 'if (journalBytes === 0) {',
        replace: 'if (journalBytes >= 0) {',
      },
    ],
    says: 'The tools pass over what a killed node has only in its SQLite journal.',
    tests: ['test/wal-tools/sqlite-reader.test.ts'],
    simulator,
  },
  {
    id: 'verify-overlooks-sqlite-end',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/sqlite-reader.ts',
        find: 'if (bounds === undefined || lastIndex === bounds.lastIndex) return;',
        replace: 'if (bounds === undefined || lastIndex <= bounds.lastIndex) return;',
      },
    ],
    says: 'Rows that are missing at the end of a log in a SQLite store are no damage.',
    tests: ['test/wal-tools/sqlite-reader.test.ts'],
    simulator,
  },
  {
    id: 'sqlite-open-to-tools',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/sqlite.ts',
        find: 'const lock = await lockStore(path);',
        replace: 'const lock: StoreLock = { release: () => void lockStore };',
      },
    ],
    says: 'The tools read a SQLite store while a node writes to it.',
    tests: ['test/wal-tools/command.test.ts'],
    simulator,
  },
  {
    id: 'vanished-partition-made-anew',
    hazards: [2],
    edits: [
      {
        file: 'src/host/opening.ts',
        find: 'if (contents.meta.has(metaKeys.genesis)) {',
        replace: 'if (contents.meta.size < 0) {',
      },
    ],
    says: 'A partition that vanished from the store begins again without its vote.',
    tests: ['test/host/opening.test.ts'],
    simulator: { blind: 'its disk loses no whole file' },
  },
  {
    id: 'segment-oldest-file-forgotten',
    hazards: [2, 40],
    edits: [
      {
        file: 'src/wal/segment-open.ts',
        find: '        broken ??= { segment, offset, batch: (before.batch ?? 0) + 1 };\n',
        replace: '',
      },
    ],
    says: 'A segment store whose oldest file lost all its records opens without the votes that were in it.',
    tests: ['test/wal-tools/segment-reader.test.ts'],
    simulator: { blind: 'its disk loses no whole file' },
  },
  {
    id: 'segment-youngest-file-forgotten',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/segment-open.ts',
        find: '  checkEnd(listed, segments, empty);\n',
        replace: '',
      },
    ],
    says: 'A segment store opens without its youngest file, although the footer before it proves that there was one.',
    tests: ['src/wal/segment.test.ts'],
    simulator: { blind: 'its disk loses no whole file' },
  },
];
