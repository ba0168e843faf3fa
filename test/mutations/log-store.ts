// Seeded bugs of the section "Log store": keys, what counts before it is durable, syncs, torn and damaged logs,
// compaction, buffers, checkpoints.

import type { Mutation } from './mutation.ts';

export const logStoreMutations: readonly Mutation[] = [
  {
    id: 'partitions-share-keys',
    hazards: [36],
    edits: [
      {
        file: 'src/wal/rocksdb-keys.ts',
        find: 'key[0] = KeyKind.run;\n  writeUint32BigEndian(key, 1, partitionId);',
        replace: 'key[0] = KeyKind.run;\n  writeUint32BigEndian(key, 1, partitionId % 0x100);',
      },
    ],
    says: 'The runs of partitions whose numbers share their last byte overwrite each other.',
    tests: ['src/wal/rocksdb.test.ts'],
    simulator: { blind: 'simulated nodes have few partitions' },
  },
  {
    id: 'ack-before-sync',
    hazards: [37],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'const writes = requests.map((request) => request.write);',
        replace:
          'const writes = requests.map((request) => request.write);\n  complete(host, requests);',
      },
      {
        file: 'src/host/storage-writer.ts',
        find: "if (host.state !== 'failed') complete(host, requests);",
        replace: '',
      },
    ],
    says: 'Acknowledgements leave when a write begins instead of when it is synced.',
    tests: ['test/host/storage.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'ack-leaves-at-once',
    hazards: [37],
    edits: [
      {
        file: 'src/raft/send.ts',
        find: "if (message.type === 'appendEntriesResponse' ||",
        replace: "if ((message.type === 'appendEntriesResponse' && message.to === state.id) ||",
      },
    ],
    says: 'A follower acknowledges entries before they are durable.',
    tests: ['test/paper/crashes.test.ts', 'test/paper/parallel-writes.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'leader-counts-itself-early',
    hazards: [37],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: 'state.uncommittedBytes += bytes;\n  appendToLog(log, entries);',
        replace:
          'state.uncommittedBytes += bytes;\n  appendToLog(log, entries);\n  ownProgress(state).matchIndex = log.lastIndex;\n  ownProgress(state).nextIndex = log.lastIndex + 1;',
      },
    ],
    says: 'A leader counts its own entries before they are durable.',
    tests: ['test/paper/parallel-writes.test.ts', 'test/paper/crashes.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'stable-after-truncation',
    hazards: [37],
    edits: [
      {
        file: 'src/raft/log.ts',
        find: 'log.stableIndex = Math.min(log.stableIndex, index - 1);',
        replace: '',
      },
    ],
    says: 'Entries that replaced others count as durable because the others were.',
    tests: ['src/raft/log.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'word-about-replaced-entries-believed',
    hazards: [37],
    edits: [
      {
        file: 'src/raft/raft.ts',
        find: 'if (message.last !== undefined && message.term === state.currentTerm) {',
        replace: 'if (message.last !== undefined) {',
      },
    ],
    says: 'The store’s word about entries that were replaced meanwhile counts for those that look the same (ABA).',
    tests: ['src/raft/raft.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'sync-off-in-host',
    hazards: [38],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'write(host, writes, true).then(',
        replace: 'write(host, writes, false).then(',
      },
    ],
    says: 'The host asks the store for no sync.',
    tests: ['test/host/storage.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'sync-off-in-store',
    hazards: [38],
    edits: [
      {
        file: 'src/wal/rocksdb.ts',
        find: 'await store.handle.write(operations, { sync: batch.sync });',
        replace: 'await store.handle.write(operations, { sync: false });',
      },
    ],
    says: 'The store writes without a sync, and counts one.',
    tests: ['src/wal/rocksdb.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'sync-of-barrier-skipped',
    hazards: [38],
    edits: [
      {
        file: 'src/wal/rocksdb.ts',
        find: 'if (operations.length === 1 && !batch.sync) return undefined;',
        replace: 'if (operations.length === 1) return undefined;',
      },
    ],
    says: 'A synced batch without content does not sync what was written before it.',
    tests: ['src/wal/rocksdb.test.ts'],
    simulator: { blind: 'the host writes something in every batch' },
  },
  {
    id: 'snapshot-without-sync',
    hazards: [38, 47],
    edits: [
      {
        file: 'src/raft/take-ready.ts',
        find: 'mustSync: parts.mustSync || snapshot !== undefined,',
        replace: 'mustSync: parts.mustSync,',
      },
    ],
    says: 'An installed snapshot is acknowledged without a sync.',
    tests: ['test/paper/snapshots.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'failed-write-tried-again',
    hazards: [39],
    edits: [
      {
        file: 'src/wal/rocksdb.ts',
        find: 'await store.handle.write(operations, { sync: batch.sync });',
        replace:
          'await store.handle\n      .write(operations, { sync: batch.sync })\n      .catch(() => store.handle.write(operations, { sync: batch.sync }));',
      },
    ],
    says: 'A write whose sync failed is tried again, and believed when it succeeds.',
    tests: ['src/wal/rocksdb.test.ts'],
    simulator: { blind: 'a simulated disk that fails goes on failing' },
  },
  {
    id: 'failed-batch-queued-again',
    hazards: [39],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'failWriter(host, error);\n      wakeIdleWaits(writer);',
        replace:
          "host.observe({ level: 'warn', name: 'write-failed', fields: { error } });\n      writer.queue = [...requests, ...writer.queue];\n      host.settings.clock.setTimer(1_000, () => goOn(host));",
      },
    ],
    says: 'The node queues a batch whose write failed again instead of stopping.',
    tests: ['test/host/storage.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'failed-write-acknowledged',
    hazards: [39, 41],
    edits: [
      {
        file: 'src/wal/rocksdb.ts',
        find: "if (isKommanderError(error, 'DISK_FULL')) await interrupt(store, batchNumber);\n    throw error;",
        replace: '',
      },
    ],
    says: 'A write that a full disk refused counts as written.',
    tests: ['src/wal/rocksdb-room.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'failed-batch-acknowledged',
    hazards: [39, 41],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'failWriter(host, error);\n      wakeIdleWaits(writer);',
        replace:
          "host.observe({ level: 'error', name: 'write-failed', fields: { error } });\n      complete(host, requests);\n      goOn(host);",
      },
    ],
    says: 'The node logs that a write failed and acknowledges it all the same.',
    tests: ['test/host/storage.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'damage-taken-for-torn-tail',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/rocksdb.ts',
        find: 'if (proven > recovered.lastBatch) {',
        replace: 'if (proven > recovered.lastBatch && recovered.lastBatch === 0) {',
      },
    ],
    says: 'Damage in the middle of the log is cut like a torn tail: acknowledged batches are gone.',
    tests: ['src/wal/rocksdb.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'torn-tail-refused',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/rocksdb.ts',
        find: 'if (batch.sync) store.syncedBatch = batchNumber;',
        replace: 'store.syncedBatch = batchNumber;',
      },
    ],
    says: 'Batches that were never synced count as synced: losing them keeps the store from opening.',
    tests: ['src/wal/rocksdb.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'checksum-of-run-unchecked',
    hazards: [40],
    edits: [
      {
        file: 'src/ports/run.ts',
        find: 'if (expected !== actual)',
        replace: 'if (expected === 0)',
      },
    ],
    says: 'A damaged payload is read as if it were whole.',
    tests: ['src/ports/run.test.ts'],
    simulator: {
      blind: 'what rots in a simulated log is found by the log itself, before a run is read',
    },
  },
  {
    id: 'missing-run-unnoticed',
    hazards: [40],
    edits: [
      {
        file: 'src/wal/gathered-partition.ts',
        find: 'firstIndex <= lastIndex + 1 : firstIndex === lastIndex + 1;',
        replace: 'firstIndex <= lastIndex + 1 : firstIndex > lastIndex;',
      },
    ],
    says: 'A store opens although a run in the middle is missing.',
    tests: ['src/wal/rocksdb.test.ts'],
    simulator: { blind: 'a simulated disk loses its end, never a row in the middle' },
  },
  {
    id: 'compacted-log-restarts-at-0',
    hazards: [42],
    edits: [
      {
        file: 'src/wal/rocksdb-scan.ts',
        find: 'compactedIndex: index, compactedTerm: term };\n      partition.lastIndex = index;',
        replace: 'compactedIndex: index, compactedTerm: term };',
      },
    ],
    says: 'A log that is compacted to nothing comes back with last index 0.',
    tests: ['src/wal/rocksdb.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'compaction-forgets-term',
    hazards: [42],
    edits: [
      {
        file: 'src/raft/log.ts',
        find: 'log.compactedTerm = term;\n  trimTail',
        replace: 'trimTail',
      },
    ],
    says: 'After a compaction the term below the log is that of an earlier entry.',
    tests: ['src/raft/log.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'reset-forgets-place',
    hazards: [42, 48],
    edits: [
      {
        file: 'src/wal/stored-partition.ts',
        find: 'compactedTerm: base.term,\n    lastIndex: base.index,',
        replace: 'compactedTerm: stored.compactedTerm,\n    lastIndex: base.index,',
      },
    ],
    says: 'A log that begins behind an installed snapshot has the term of its old beginning.',
    tests: ['src/wal/memory.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'roster-lost-with-log',
    hazards: [12, 42, 49],
    edits: [
      {
        file: 'src/host/system-entries.ts',
        find: 'async restore(data) {\n      host.system = decodeSystemState(await data.bytes());',
        replace: 'async restore(data) {\n      decodeSystemState(await data.bytes());',
      },
    ],
    says: 'A replica that got the roster in a snapshot goes on with the one that it was started with.',
    tests: ['src/host/genesis.test.ts'],
    simulator: { blind: 'members are also told of by their peers, and the map does not change' },
  },
  {
    id: 'sent-run-sealed-again',
    hazards: [43],
    edits: [
      {
        file: 'src/ports/run.ts',
        find: 'if (isBlankRun(entries, from, end)) sealRun(bytes, first, end - from);',
        replace: 'if (hasRecord(first)) sealRun(bytes, first, end - from);',
      },
    ],
    says: 'The header of a run that is being sent is written again when its entries are proposed again.',
    tests: ['src/ports/run.test.ts'],
    simulator: { blind: 'a payload is proposed once in a simulation' },
  },
  {
    id: 'ready-reused',
    hazards: [43],
    edits: [
      {
        file: 'src/raft/take-ready.ts',
        find: 'if (state.messagesAfterAppend.length > 0) state.messagesAfterAppend = [];',
        replace: 'state.messagesAfterAppend.length = 0;',
      },
    ],
    says: 'The list of answers that a Ready gave out is emptied and filled again while the disk works.',
    tests: ['test/paper/parallel-writes.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'stored-facts-shared',
    hazards: [43],
    edits: [
      {
        file: 'src/wal/memory.ts',
        find: 'else meta.set(key, value.slice());',
        replace: 'else meta.set(key, value);',
      },
    ],
    says: 'A stored fact changes with the buffer that it was written from.',
    tests: ['src/wal/memory.test.ts'],
    simulator: { blind: 'the host writes every fact from a buffer of its own' },
  },
  {
    id: 'checkpoint-waits-for-quiet',
    hazards: [44],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: 'if (base.index < Math.max(log.compactedIndex, partition.baseIndex)) return;',
        replace:
          'if (base.index < Math.max(log.compactedIndex, partition.baseIndex, log.lastIndex)) return;',
      },
    ],
    says: 'A checkpoint is taken only when nothing was written behind it: a busy partition never gets one.',
    tests: ['test/host/checkpoint.test.ts'],
    simulator: { blind: 'a log that grows breaks no rule' },
  },
];
