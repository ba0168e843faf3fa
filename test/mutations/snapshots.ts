// Seeded bugs of the section "Snapshots": old ones, transfers that come to nothing, installation, what belongs to one.

import type { Mutation } from './mutation.ts';

export const snapshotMutations: readonly Mutation[] = [
  {
    id: 'snapshot-over-newer-state',
    hazards: [45],
    edits: [
      {
        file: 'src/raft/follower.ts',
        find: 'if (index <= state.log.commitIndex) return',
        replace: 'if (index <= state.log.compactedIndex) return',
      },
      {
        file: 'src/raft/follower.ts',
        find: 'if (matches(state.log, { index, term })) {',
        replace: 'if (state.log.lastIndex === index) {',
      },
      {
        file: 'src/raft/log.ts',
        find: 'snapshot.index > log.commitIndex,',
        replace: 'snapshot.index > log.compactedIndex,',
      },
    ],
    says: 'A late snapshot replaces newer, committed state.',
    tests: ['test/paper/snapshots.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'snapshot-cuts-matching-log',
    hazards: [45],
    edits: [
      {
        file: 'src/raft/follower.ts',
        find: 'if (matches(state.log, { index, term })) {',
        replace: 'if (state.log.lastIndex === index) {',
      },
    ],
    says: 'A snapshot of a prefix of the log removes the acknowledged entries behind it.',
    tests: ['test/paper/snapshots.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'deposed-leader-breaks-transfer',
    hazards: [45],
    edits: [
      {
        file: 'src/host/inbox.ts',
        find: "message.type === 'installSnapshot' && message.term >= partition.raft.currentTerm) {",
        replace: "message.type === 'installSnapshot') {",
      },
      {
        file: 'src/host/snapshots.ts',
        find: "assert(message.term >= partition.raft.currentTerm, 'the announcement is of no deposed leader');",
        replace: '',
      },
      {
        file: 'src/host/snapshots.ts',
        find: 'if (present !== undefined && message.term < present.message.term) return;',
        replace: 'if (present?.message.snapshot === message.snapshot) return;',
      },
    ],
    says: 'The announcement of a deposed leader takes the place of the present leader’s transfer.',
    tests: ['test/host/snapshot-transfer.test.ts'],
    simulator: { blind: 'the transfer begins again, which breaks no rule' },
  },
  {
    id: 'checkpoint-over-newer-snapshot',
    hazards: [45],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: 'if (index <= log.compactedIndex) return;',
        replace: 'if (index <= 0) return;',
      },
    ],
    says: 'A checkpoint whose state took its time is stored over a newer snapshot.',
    tests: ['test/host/checkpoint.test.ts'],
    simulator: { blind: 'simulated state machines give their state at once' },
  },
  {
    id: 'snapshot-never-given-up',
    hazards: [23, 46],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: 'if (progress.snapshotTicks >= state.config.snapshotTicks) abandonSnapshot(progress);',
        replace: 'if (progress.snapshotTicks < 0) abandonSnapshot(progress);',
      },
    ],
    says: 'A replica whose snapshot got lost is sent nothing any more.',
    tests: ['test/paper/snapshots.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'snapshot-survives-disconnect',
    hazards: [46],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: "else if (progress.state === 'snapshot') abandonSnapshot(progress);",
        replace: "else if (progress.state === 'snapshot') progress.isPaused = true;",
      },
    ],
    says: 'A snapshot whose connection broke counts as on its way until the patience is over.',
    tests: ['test/paper/snapshots.test.ts'],
    simulator: { blind: 'the patience ends it, which is only later' },
  },
  {
    id: 'lost-piece-unreported',
    hazards: [23, 46],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: 'guard(host, partition, () => refuseSnapshot(partition.raft, receive.message));',
        replace: '',
      },
    ],
    says: 'The receiver of a broken transfer says nothing, and the leader waits for it.',
    tests: ['test/host/snapshot-transfer.test.ts'],
    simulator: { blind: 'the patience ends it, which is only later' },
  },
  {
    id: 'applied-before-snapshot',
    hazards: [47],
    edits: [
      {
        file: 'src/raft/log.ts',
        find: 'if (log.pendingSnapshot !== undefined) return false;',
        replace: '',
      },
    ],
    says: 'Entries behind a snapshot are applied while it is still being installed.',
    tests: ['src/raft/log.test.ts', 'test/paper/snapshots.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'installation-keeps-old-log',
    hazards: [47],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'resetLog: snapshot !== undefined,',
        replace: 'resetLog: false,',
      },
    ],
    says: 'The store keeps the old log below and beside an installed snapshot.',
    tests: ['test/host/snapshot-transfer.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'restore-overtakes-entries',
    hazards: [47],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: "partition.applyUnits.push({ kind: 'restore', snapshot });",
        replace: "partition.applyUnits.unshift({ kind: 'restore', snapshot });",
      },
    ],
    says: 'A snapshot is given to the state machine before older entries that still wait.',
    tests: ['test/host/overtaken.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'snapshot-size-unbounded',
    hazards: [47],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: '!isSome || item.totalBytes > snapshotBytesMax) {',
        replace: '!isSome) {',
      },
    ],
    says: 'A receiver collects a snapshot of any size.',
    tests: ['test/hazards/strangers.test.ts'],
    simulator: { blind: 'simulated snapshots are small' },
  },
  {
    id: 'pieces-in-any-order',
    hazards: [47],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: 'const isNext = item.offset === receive.receivedBytes;',
        replace: 'const isNext = item.offset >= receive.receivedBytes;',
      },
    ],
    says: 'A lost piece of a snapshot goes unnoticed: the receiver waits for bytes that never come.',
    tests: ['test/host/snapshot-transfer.test.ts'],
    simulator: { blind: 'the patience ends it, which is only later' },
  },
  {
    id: 'rescue-loop',
    hazards: [48],
    edits: [
      {
        file: 'src/raft/progress.ts',
        find: 'Math.max(progress.matchIndex + 1, behindSnapshot);',
        replace: 'progress.matchIndex + 1;',
      },
    ],
    says: 'After a snapshot was sent the leader probes below it, and sends it again.',
    tests: ['src/raft/progress.test.ts'],
    simulator: { blind: 'the replica’s own answer ends the loop, if it arrives' },
  },
  {
    id: 'snapshot-without-members',
    hazards: [49],
    edits: [
      {
        file: 'src/raft/follower.ts',
        find: '  adoptMembers(state, confState);',
        replace: '  adoptMembers(state, state.config.initial.confState);',
      },
    ],
    says: 'A replica that installs a snapshot goes on with the members of its own start.',
    tests: ['test/paper/snapshots.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'base-with-first-members',
    hazards: [42, 49],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: 'const { confState, log } = partition.raft;',
        replace:
          'const { log } = partition.raft;\n  const { confState } = partition.raft.config.initial;',
      },
    ],
    says: 'A checkpoint keeps the members of the start instead of the present ones.',
    tests: ['test/host/membership.test.ts'],
    simulator: 'membership',
  },
];
