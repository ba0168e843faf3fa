// Seeded bugs of checkpoints that are made by themselves, and of what is kept of a log.

import type { Mutation } from './mutation.ts';

const policyTest = 'test/host/automatic-checkpoints.test.ts';
const retentionTest = 'test/host/retention.test.ts';
const noRule = { blind: 'it costs room or time, which breaks no rule' };

export const retentionMutations: readonly Mutation[] = [
  {
    id: 'checkpoints-only-when-asked',
    hazards: [44],
    edits: [
      {
        file: 'src/host/checkpoints.ts',
        find: 'if (isDue(host, partition)) host.checkpoints.due.add(partition);',
        replace: 'if (isDue(host, partition)) return;',
      },
    ],
    says: 'No checkpoint is ever due by itself, and a log grows for ever.',
    tests: [policyTest],
    simulator: noRule,
  },
  {
    id: 'checkpoint-counts-never-reset',
    hazards: [44],
    edits: [
      {
        file: 'src/host/checkpoints.ts',
        find: '  checkpoints.entries = 0;\n  checkpoints.bytes = 0;\n',
        replace: '',
      },
    ],
    says: 'After the first checkpoint every entry makes the next one due.',
    tests: [policyTest],
    simulator: noRule,
  },
  {
    id: 'failed-checkpoint-in-hot-loop',
    hazards: [44],
    edits: [
      {
        file: 'src/host/checkpoints.ts',
        find: ' && nowMs(host) >= checkpoints.notBeforeMs;',
        replace: ';',
      },
    ],
    says: 'A checkpoint that was refused is tried again at every tick.',
    tests: [policyTest],
    simulator: noRule,
  },
  {
    id: 'all-checkpoints-at-once',
    hazards: [44],
    edits: [
      {
        file: 'src/host/checkpoints.ts',
        find: '    if (underWay.size >= underWayMax) return;\n',
        replace: '',
      },
    ],
    says: 'All partitions that are due begin their checkpoints in one turn.',
    tests: [policyTest],
    simulator: noRule,
  },
  {
    id: 'stopped-replica-keeps-its-turn',
    hazards: [44],
    edits: [
      {
        file: 'src/host/checkpoints.ts',
        find: 'if (partition.stopped !== undefined || (isLost && !isAtWork(partition))) {',
        replace: 'if (isLost && !isAtWork(partition)) {',
      },
    ],
    says: 'Two replicas that stopped in their snapshots keep all others from theirs.',
    tests: [policyTest],
    simulator: noRule,
  },
  {
    id: 'turn-ends-before-the-snapshot',
    hazards: [44],
    edits: [
      {
        file: 'src/host/checkpoints.ts',
        find: 'return checkpoints.isTaking || snapshotting !== undefined;',
        replace: 'return checkpoints.isTaking && snapshotting !== undefined;',
      },
    ],
    says: 'A checkpoint whose snapshot is still being written makes room for the next one.',
    tests: [policyTest],
    simulator: noRule,
  },
  {
    id: 'checkpoint-waits-for-room',
    hazards: [44],
    edits: [
      {
        file: 'src/host/proposals.ts',
        find: 'if (isFull && !isExempt && partition.outstandingEntries > 0) {',
        replace: 'if (isFull && partition.outstandingEntries > 0) {',
      },
    ],
    says: 'A partition whose queue is always full refuses its checkpoints.',
    tests: [policyTest],
    simulator: noRule,
  },
  {
    id: 'checkpoints-smaller-than-state',
    hazards: [44],
    edits: [
      {
        file: 'src/host/checkpoints.ts',
        find: 'return isLong && bytes >= (descriptorOf(partition.snapshot?.data)?.stored?.byteLength ?? 0);',
        replace: 'return isLong;',
      },
    ],
    says: 'A large state is written again for every short stretch of log.',
    tests: [policyTest],
    simulator: noRule,
  },
  {
    id: 'hold-ignored',
    hazards: [42],
    edits: [
      {
        file: 'src/host/retention.ts',
        find: 'if (lowest === undefined || hold.fromIndex < lowest.fromIndex) lowest = hold;',
        replace: 'if (lowest !== undefined && hold.fromIndex < lowest.fromIndex) lowest = hold;',
      },
    ],
    says: 'Compaction removes what somebody holds.',
    tests: [retentionTest],
    simulator: 'snapshots',
  },
  {
    id: 'hold-loses-its-first-entry',
    hazards: [42],
    edits: [
      {
        file: 'src/host/retention.ts',
        find: 'hold.fromIndex - 1',
        replace: 'hold.fromIndex',
      },
    ],
    says: 'The first entry that somebody holds is compacted.',
    tests: [retentionTest],
    simulator: 'snapshots',
  },
  {
    id: 'latest-hold-wins',
    hazards: [42],
    edits: [
      {
        file: 'src/host/retention.ts',
        find: 'hold.fromIndex < lowest.fromIndex) lowest = hold;',
        replace: 'hold.fromIndex > lowest.fromIndex) lowest = hold;',
      },
    ],
    says: 'Of several holds only the highest counts.',
    tests: [retentionTest],
    simulator: 'snapshots',
  },
  {
    id: 'released-hold-keeps-the-log',
    hazards: [42],
    edits: [
      {
        file: 'src/host/retention.ts',
        find: 'if (holds.delete(hold)) compactBetweenTurns(host, partition);',
        replace: 'holds.delete(hold);',
      },
    ],
    says: 'What a hold kept stays after its release.',
    tests: [retentionTest],
    simulator: noRule,
  },
  {
    id: 'log-only-beyond-slowest',
    hazards: [42],
    edits: [
      {
        file: 'src/host/retention.ts',
        find: "return host.settings.logOnlyCompaction === 'slowest' ? storedByAllIndex(entry) : entry.index;",
        replace:
          "return host.settings.logOnlyCompaction !== 'slowest' ? storedByAllIndex(entry) : entry.index;",
      },
    ],
    says: 'A log without a machine is compacted although a member lacks the entries.',
    tests: [retentionTest],
    simulator: 'snapshots',
  },
  {
    id: 'learners-not-waited-for',
    hazards: [42],
    edits: [
      {
        file: 'src/host/retention.ts',
        find: 'for (const { matchIndex } of raft.progress.values()) {',
        replace:
          'for (const { matchIndex, isLearner } of raft.progress.values()) {\n    if (isLearner) continue;',
      },
    ],
    says: 'What a learner lacks is compacted from a log without a machine.',
    tests: [retentionTest],
    simulator: 'membership',
  },
  {
    id: 'checkpoint-not-filled-in',
    hazards: [44],
    edits: [
      {
        file: 'src/host/proposals.ts',
        find: '? stampedCheckpoint(partition, proposed.type)',
        replace: '? proposed',
      },
    ],
    says: 'Checkpoints do not say what all have stored, and a log without a machine is never compacted.',
    tests: [retentionTest],
    simulator: noRule,
  },
  {
    id: 'log-only-without-base',
    hazards: [42, 46],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: 'if (base.index >= partition.baseIndex) partition.snapshot = snapshotOf(base);',
        replace: 'if (base.index < 0) partition.snapshot = snapshotOf(base);',
      },
      {
        file: 'src/host/partition.ts',
        find: 'if (machine !== undefined || base.index === 0) return undefined;',
        replace: 'if (machine !== undefined || base.index >= 0) return undefined;',
      },
    ],
    says: 'A member that lacks the beginning of a log without a machine is sent nothing for ever.',
    tests: [retentionTest],
    simulator: 'snapshots',
  },
];
