// Seeded bugs of disks without room: what a full disk refused is lost, reordered or acknowledged; what must not wait for
// it does; a store that met the end of its disk is believed.

import type { Mutation } from './mutation.ts';

export const fullDiskMutations: readonly Mutation[] = [
  {
    id: 'full-disk-drops-batch',
    hazards: [41],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'writer.queue = [...requests, ...writer.queue];',
        replace: '',
      },
    ],
    says: 'What a full disk refused is forgotten instead of written later.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'broken-disk-keeps-leadership',
    hazards: [14],
    edits: [{ file: 'src/host/storage-writer.ts', find: '  handOverAll(host);\n', replace: '' }],
    says: 'A leader whose disk has failed leaves it to an election timeout to find another one.',
    tests: ['test/host/storage.test.ts'],
    simulator: { blind: 'it costs time, which is not looked at' },
  },
  {
    id: 'hand-over-overtakes-entries',
    hazards: [14],
    edits: [
      {
        file: 'src/host/leadership.ts',
        find: 'queueItem(host, peer, Lane.bulk, {',
        replace: 'queueItem(host, peer, Lane.control, {',
      },
    ],
    says: 'A leader whose disk has failed hands over before the entries that it has sent.',
    tests: ['test/host/storage.test.ts'],
    simulator: { blind: 'it costs time, which is not looked at' },
  },
  {
    id: 'full-disk-loses-order',
    hazards: [41],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'writer.queue = [...requests, ...writer.queue];',
        replace: 'writer.queue = [...writer.queue, ...requests];',
      },
    ],
    says: 'What a full disk refused goes behind what came later.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: {
      blind: 'a simulated disk that is full says so at once, so that little comes meanwhile',
    },
  },
  {
    id: 'full-disk-acknowledged',
    hazards: [41],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'writer.queue = [...requests, ...writer.queue];',
        replace: 'complete(host, requests);',
      },
    ],
    says: 'What a full disk refused is acknowledged.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'full-disk-stops-node',
    hazards: [41],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: "if (isKommanderError(error, 'DISK_FULL')) {\n        // Nothing",
        replace: 'if (false as boolean) {\n        // Nothing',
      },
      {
        file: 'src/host/storage-writer.ts',
        find: 'noteFull(host, error);\n        goOn(host);',
        replace: 'noteFull(host, error as KommanderError);\n        goOn(host);',
      },
    ],
    says: 'A full disk stops the node as if it had failed.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'full-disk-takes-writes',
    hazards: [41],
    edits: [
      {
        file: 'src/host/proposals.ts',
        find: 'if (isLeader && isDiskFull(host)) throw diskFull(host, partition);',
        replace: '',
      },
      {
        file: 'src/host/proposals.ts',
        find: 'if (isDiskFull(host)) {\n    refuseQueue(host, partition);\n    return;\n  }',
        replace: '',
      },
    ],
    says: 'A leader goes on appending writes while its disk is full.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: {
      blind: 'writes that wait are written when there is room: nothing is lost but patience',
    },
  },
  {
    id: 'full-disk-takes-entries',
    hazards: [41],
    edits: [
      {
        file: 'src/host/inbox.ts',
        find: 'return !isDiskFull(host) || !isToBeStored(message);',
        replace: 'return true;',
      },
    ],
    says: 'A follower takes entries and votes while its disk is full, and its queue grows.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: { blind: 'in the time of a run the queue stays short enough for the memory' },
  },
  {
    id: 'full-disk-campaigns',
    hazards: [41],
    edits: [
      {
        file: 'src/host/ticker.ts',
        find: 'const canVote = !isDiskFull(host) && !isQueueFull(host, partition);',
        replace: 'const canVote = true;',
      },
    ],
    says: 'A replica whose disk is full campaigns without end, and every campaign lengthens its queue.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: { blind: 'in the time of a run the queue stays short enough for the memory' },
  },
  {
    id: 'full-disk-keeps-leadership',
    hazards: [26, 41],
    edits: [
      {
        file: 'src/host/ticker.ts',
        find: 'if (fullMs < tickMs * electionTicks) return;',
        replace: 'if (fullMs >= 0) return;',
      },
    ],
    says: 'A leader whose disk is full keeps leading although others have room.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: { blind: 'disks have room again within a few election timeouts' },
  },
  {
    id: 'full-disk-offers-to-one',
    hazards: [26, 41],
    edits: [
      {
        file: 'src/host/ticker.ts',
        find: 'candidates[offerCount % candidates.length]',
        replace: 'candidates[0]',
      },
    ],
    says: 'A leader whose disk is full offers leadership to the same voter for ever, also when its disk is full.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: { blind: 'disks have room again within a few election timeouts' },
  },
  {
    id: 'full-disk-forgets-facts',
    hazards: [41],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'writer.meta = new Map([...facts, ...writer.meta]);',
        replace: '',
      },
    ],
    says: 'Facts of the node that a full disk refused are never written.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: { blind: 'the genesis is learnt again from the others' },
  },
  {
    id: 'full-disk-forgets-commit',
    hazards: [41],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: "if (isKommanderError(error, 'DISK_FULL')) noteFull(host, error);",
        replace:
          "if (isKommanderError(error, 'DISK_FULL')) {\n      noteFull(host, error);\n      for (const { partition } of flushed) partition.lazyHardState = undefined;\n    }",
      },
    ],
    says: 'A commit index that a full disk refused is never stored.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: { blind: 'it only makes a restart cheaper' },
  },
  {
    id: 'full-disk-tried-without-pause',
    hazards: [41],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'if (host.tickCount < full.retryAtTick) return;',
        replace: '',
      },
    ],
    says: 'A full disk is tried at every tick.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: { blind: 'it costs time, and nothing else' },
  },
  {
    id: 'full-disk-not-asked',
    hazards: [41],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: "if (full === undefined || isWriterBusy(host) || host.state === 'failed') return;",
        replace:
          "if (full === undefined || isWriterBusy(host) || host.state === 'failed') return;\n  if (host.writer.queue.length === 0) return;",
      },
    ],
    says: 'A node that has nothing to write never finds out that there is room again.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: { blind: 'simulated clients and elections always have something to write' },
  },
  {
    id: 'storage-queue-without-bound',
    hazards: [26],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'return partition.queuedRequests >= queuedWindowsMax * host.settings.inflightMessagesMax;',
        replace: 'return false;',
      },
    ],
    says: 'A disk that does not answer lets the queue of a follower grow with every heartbeat.',
    tests: ['test/host/full-disk.test.ts'],
    simulator: { blind: 'in the time of a run the queue stays short enough for the memory' },
  },
  {
    id: 'reserve-ignored',
    hazards: [41],
    edits: [
      {
        file: 'src/wal/rocksdb.ts',
        find: 'checkRoom(reserveBytes + contentBytes(batch));',
        replace: '',
      },
    ],
    says: 'RocksDB is given batches until it meets the end of the disk.',
    tests: ['src/wal/rocksdb-room.test.ts'],
    simulator: { blind: 'the store is opened again then, and nothing is lost' },
  },
  {
    id: 'exhausted-store-used-again',
    hazards: [41],
    edits: [
      {
        file: 'src/wal/rocksdb.ts',
        find: '      if (store.interruption !== undefined) await resume(store, store.interruption);\n',
        replace: '',
      },
      {
        file: 'src/wal/rocksdb.ts',
        find: 'async function resume(',
        replace: 'async function _resume(',
      },
    ],
    says: 'A store that met the end of its disk is not opened again, and refuses everything for good.',
    tests: ['src/wal/rocksdb-room.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'refused-batch-in-index',
    hazards: [37, 41],
    edits: [
      {
        file: 'src/wal/rocksdb.ts',
        find: '    store.partitions = indexOf(partitions);\n',
        replace: '',
      },
    ],
    says: 'The index of a store keeps what the full disk refused.',
    tests: ['src/wal/rocksdb-room.test.ts'],
    simulator: {
      blind:
        'the core asks only for what was acknowledged, and the store is read again when there is room',
    },
  },
  {
    id: 'reopened-store-not-checked',
    hazards: [40, 41],
    edits: [
      {
        file: 'src/wal/rocksdb.ts',
        find: "assert(lastBatch >= before, 'what was written is there');",
        replace: '',
      },
    ],
    says: 'A store that lost batches when it was opened again goes on.',
    tests: ['src/wal/rocksdb-room.test.ts'],
    simulator: { blind: 'no simulated disk loses what was synced while it is full' },
  },
  {
    id: 'refused-batch-turns-up',
    hazards: [41],
    edits: [
      {
        file: 'src/wal/rocksdb.ts',
        find: "assert(lastBatch < interruption.batchNumber, 'what was refused is not there');",
        replace: '',
      },
    ],
    says: 'A batch that was said to be refused counts as stored after all.',
    tests: ['src/wal/rocksdb-room.test.ts'],
    simulator: { blind: 'a simulated disk never keeps a whole record of a batch that it refused' },
  },
  {
    id: 'full-sync-believed',
    hazards: [39, 41],
    edits: [
      {
        file: 'src/wal/rocksdb-library.ts',
        find: ' && !/While \\w*sync/i.test(text)',
        replace: '',
      },
    ],
    says: 'A sync that fails for want of room counts as a batch that was not written.',
    tests: ['src/wal/rocksdb-room.test.ts'],
    simulator: { blind: 'no simulated sync fails for want of room' },
  },
];
