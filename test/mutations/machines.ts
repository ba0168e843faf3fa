// Seeded bugs of state machines that have a store of their own: what they are given, and what their logs begin behind.

import type { Mutation } from './mutation.ts';

export const machineMutations: readonly Mutation[] = [
  {
    id: 'machine-given-twice',
    hazards: [33],
    edits: [
      {
        file: 'src/host/applier.ts',
        find: 'if (first === undefined || first.index > machineIndex) return entries;',
        replace: 'if (first === undefined || first.index > 0) return entries;',
      },
    ],
    says: 'A state machine with a store of its own is given again what it has.',
    tests: ['test/host/machine-on-disk.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'compacted-beyond-machine',
    hazards: [33, 42],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: 'const index = durableIndex >= givenIndex ? position.index : durableIndex;',
        replace: 'const { index } = position;',
      },
    ],
    says: 'The log is compacted beyond what the state machine’s own store has for certain.',
    tests: ['test/host/machine-on-disk.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'restore-before-base',
    hazards: [47],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: '    partition.pages.clear();\n',
        replace: '    partition.pages.clear();\n    enqueueRestore(host, partition, snapshot);\n',
      },
      {
        file: 'src/host/storage-writer.ts',
        find: '    if (snapshot !== undefined) enqueueRestore(host, partition, snapshot);\n',
        replace: '',
      },
    ],
    says: 'A machine lets go of its state for a snapshot while the log still begins behind what it had.',
    tests: ['test/host/machine-on-disk.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'snapshot-ends-at-its-index',
    hazards: [33],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: '    descriptor: { clock, machineIndex },\n',
        replace:
          '    descriptor: { clock, machineIndex: Math.min(machineIndex, position.index) },\n',
      },
    ],
    says: 'A replica is given entries that the snapshot it was sent has already.',
    tests: ['test/host/machine-on-disk.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'interrupted-restore-believed',
    hazards: [33, 47],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: 'if (durableIndex !== undefined && durableIndex >= neededIndex) {',
        replace: 'if (durableIndex !== undefined && durableIndex >= Math.min(0, neededIndex)) {',
      },
    ],
    says: 'A machine whose store is behind the log begins with what is there.',
    tests: ['test/host/machine-on-disk.test.ts'],
    simulator: 'snapshots',
  },
];
