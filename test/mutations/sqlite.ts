// Seeded bugs of the SQLite engine: syncs, damage, full and failing disks, its journal and its thread.

import type { Mutation } from './mutation.ts';

const blind = 'simulated nodes have no SQLite: its thread cannot run in virtual time';

export const sqliteMutations: readonly Mutation[] = [
  {
    id: 'sqlite-sync-off',
    hazards: [38],
    edits: [
      {
        file: 'src/wal/sqlite-store.ts',
        find: 'setSynchronous(store, sync);',
        replace: 'setSynchronous(store, false);',
      },
    ],
    says: 'The SQLite store writes without a sync, and counts one.',
    tests: ['src/wal/sqlite-disk.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-barrier-skipped',
    hazards: [38],
    edits: [
      {
        file: 'src/wal/sqlite.ts',
        find: 'if (operations.length === 0 && !batch.sync) return undefined;',
        replace: 'if (operations.length === 0) return undefined;',
      },
    ],
    says: 'A synced batch without content does not sync what SQLite has written before it.',
    tests: ['src/wal/sqlite-disk.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-header-synced-by-batch',
    hazards: [38],
    edits: [
      {
        file: 'src/wal/sqlite-store.ts',
        find: 'setSynchronous(store, false);',
        replace: 'setSynchronous(store, false);\n    if (store.isSynchronous)',
      },
    ],
    says: 'The first batch behind a checkpoint of the journal syncs twice.',
    tests: ['src/wal/sqlite-disk.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-recovered-but-not-synced',
    hazards: [37],
    edits: [{ file: 'src/wal/sqlite-worker.ts', find: 'checkpoint(made);', replace: '' }],
    says: 'What a killed process had not synced is told to be there before it is synced.',
    tests: ['src/wal/sqlite-damage.test.ts'],
    simulator: { blind },
  },
  {
    id: 'failed-write-forgotten',
    hazards: [39],
    edits: [
      {
        file: 'src/wal/store-shell.ts',
        find: "throw isKommanderError(error, 'DISK_FULL') ? error : fail(error);",
        replace: 'throw error;',
      },
    ],
    says: 'A log store goes on after a write or a sync that failed, and believes the next one.',
    tests: ['src/wal/rocksdb.test.ts', 'src/wal/sqlite-disk.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-journal-not-searched',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/sqlite-evidence.ts',
        find: 'if (proven <= batchNumber) return;',
        replace: 'if (proven <= batchNumber || batchNumber > 0) return;',
      },
    ],
    says: 'Damage in the middle of the journal of SQLite is cut like a torn tail.',
    tests: ['src/wal/sqlite-damage.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-evidence-not-kept',
    hazards: [40],
    edits: [{ file: 'src/wal/sqlite-evidence.ts', find: 'keepJournal(path);', replace: '' }],
    says: 'The second open of a store that lost batches finds nothing wrong.',
    tests: ['src/wal/sqlite-damage.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-torn-tail-refused',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/sqlite.ts',
        find: 'if (batch.sync) store.syncedBatch = store.lastBatch;',
        replace: 'store.syncedBatch = store.lastBatch;',
      },
    ],
    says: 'Batches that SQLite never synced count as synced: losing them keeps the store from opening.',
    tests: ['src/wal/sqlite-damage.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-lost-end-unnoticed',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/sqlite-scan.ts',
        find: 'if (stored.lastIndex < lastIndex) throw missing(partitionId, stored.lastIndex + 1);',
        replace: '',
      },
    ],
    says: 'A store opens although the last rows of a partition are gone.',
    tests: ['src/wal/sqlite-damage.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-pages-unchecked',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/sqlite-scan.ts',
        find: "checkPages(rows('PRAGMA integrity_check(1)'));",
        replace: '',
      },
    ],
    says: 'A damaged page loses a vote without a word.',
    tests: ['src/wal/sqlite-damage.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-made-anew-over-journal',
    hazards: [40],
    edits: [{ file: 'src/wal/sqlite-store.ts', find: '  checkFiles(path);\n', replace: '' }],
    says: 'A store whose database is gone begins anew, and its journal is removed.',
    tests: ['src/wal/sqlite-damage.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-full-disk-not-undone',
    hazards: [41],
    edits: [{ file: 'src/wal/sqlite.ts', find: '    restore();\n', replace: '' }],
    says: 'After a batch that a full disk refused, the index in memory says that it is stored.',
    tests: ['src/wal/sqlite-disk.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-journal-grows',
    hazards: [44],
    edits: [
      {
        file: 'src/wal/sqlite-store.ts',
        find: 'return byteLengthOf(join(path, journalName)) > journalBytesMax;',
        replace: 'return byteLengthOf(join(path, journalName)) > journalBytesMax * 1_000;',
      },
    ],
    says: 'The journal of SQLite grows with the log.',
    tests: ['src/wal/sqlite-disk.test.ts'],
    simulator: { blind },
  },
  {
    id: 'sqlite-dead-thread-waited-for',
    hazards: [14],
    edits: [
      {
        file: 'src/wal/sqlite-connection.ts',
        find: 'for (const { reject } of waiting.splice(0)) reject(death);',
        replace: '',
      },
    ],
    says: 'Whoever waits for the thread of a store when it dies waits for ever.',
    tests: ['src/wal/sqlite-connection.test.ts'],
    simulator: { blind },
  },
];
