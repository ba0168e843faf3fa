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
        file: 'src/host/snapshot-receiving.ts',
        find: "assert(message.term >= partition.raft.currentTerm, 'the announcement is of no deposed leader');",
        replace: '',
      },
      {
        file: 'src/host/snapshot-receiving.ts',
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
        find: 'isHostOver(host) || partition.stopped !== undefined || place.index < log.compactedIndex;',
        replace:
          'isHostOver(host) || partition.stopped !== undefined || place.index > log.lastIndex;',
      },
      {
        file: 'src/host/snapshots.ts',
        find: 'if (snapshot.index < partition.raft.log.compactedIndex) {',
        replace: 'if (snapshot.index < 0) {',
      },
      {
        file: 'src/host/snapshots.ts',
        find: 'if (base.index < Math.max(log.compactedIndex, partition.baseIndex)) return;',
        replace: 'if (base.index < 0) return;',
      },
    ],
    says: 'A checkpoint whose state took its time is stored over a newer snapshot.',
    tests: ['test/host/checkpoint.test.ts'],
    simulator: { blind: 'no simulated state takes longer than a transfer' },
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
        file: 'src/host/snapshot-receiving.ts',
        find: 'if (!receive.isBrokenTold) answer(host, receive, true);',
        replace: '',
      },
    ],
    says: 'The receiver says nothing of a piece that is missing, and the leader asks an election timeout later.',
    tests: ['test/host/snapshot-transfer.test.ts'],
    simulator: { blind: 'the leader asks by itself, which is only later' },
  },
  {
    id: 'snapshot-begins-anew',
    hazards: [46],
    edits: [
      {
        file: 'src/host/snapshot-receiving.ts',
        find: '(await snapshots.resume(name)) ?? (await snapshots.create(name));',
        replace: 'await snapshots.create(name);',
      },
    ],
    says: 'A transfer that broke off begins again from its first byte.',
    tests: ['test/host/snapshot-streams.test.ts'],
    simulator: { blind: 'what comes twice breaks no rule' },
  },
  {
    id: 'snapshot-loop-under-load',
    hazards: [46, 48],
    edits: [
      {
        file: 'src/host/retention.ts',
        find: '    transferIndex(partition),\n',
        replace: '    transferIndex(partition) + raft.log.lastIndex,\n',
      },
    ],
    says: 'A checkpoint removes the entries behind a snapshot that is on its way: its receiver needs another one.',
    tests: ['test/host/snapshot-streams.test.ts'],
    simulator: { blind: 'the next snapshot arrives, in the end' },
  },
  {
    id: 'snapshot-removed-early',
    hazards: [47],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'noteBaseStored(host, partition);',
        replace: '',
      },
      {
        file: 'src/host/storage-writer.ts',
        find: 'partition.baseNames.push(storedName(base.data));',
        replace: 'partition.baseNames.splice(0, 1, storedName(base.data));',
      },
    ],
    says: 'An older snapshot is removed before the base that names the newer one is durable.',
    tests: ['test/host/snapshot-streams.test.ts'],
    simulator: { blind: 'the moment between the two is too short to be hit often' },
  },
  {
    id: 'snapshot-renamed-unsynced',
    hazards: [47],
    edits: [
      {
        file: 'src/wal/snapshot-files.ts',
        find: '        await file.sync();\n        await end();',
        replace: '        await end();',
      },
    ],
    says: 'A snapshot gets its name before its bytes are synced.',
    tests: ['src/wal/snapshot-files.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'snapshot-name-unsynced',
    hazards: [47],
    edits: [
      {
        file: 'src/wal/snapshot-files.ts',
        find: '        await files.syncNames();\n        return facts;',
        replace: '        return facts;',
      },
    ],
    says: 'The name of a finished snapshot may be lost while a base names it.',
    tests: ['src/wal/snapshot-files.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'snapshot-block-unchecked',
    hazards: [47],
    edits: [
      {
        file: 'src/wal/snapshot-format.ts',
        find: '  if (actual !== checksum)\n',
        replace: '  if (actual < 0)\n',
      },
    ],
    says: 'Damage of a stored snapshot is given to a state machine, or to a peer.',
    tests: ['src/wal/snapshot-files.test.ts'],
    simulator: { blind: 'it lets no snapshot rot' },
  },
  {
    id: 'missing-snapshot-is-empty-state',
    hazards: [42, 47],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: '    throw damagedBase(partition.id, snapshot.index, error);\n  }\n  partition.snapshotNames',
        replace:
          '    partition.snapshot = undefined;\n    if (error === undefined) throw error;\n  }\n  partition.snapshotNames',
      },
      {
        file: 'src/host/snapshots.ts',
        find: '  if (descriptor === undefined) return;\n',
        replace: '  if (descriptor?.clock !== -1) return;\n',
      },
    ],
    says: 'A node whose base names a snapshot that is missing opens with an empty state.',
    tests: ['test/host/snapshot-streams.test.ts'],
    simulator: { blind: 'no snapshot is missing there' },
  },
  {
    id: 'piece-unchecked',
    hazards: [47],
    edits: [
      {
        file: 'src/host/snapshot-receiving.ts',
        find: 'return crc32(bytes) === checksum;',
        replace: 'return crc32(bytes) >= 0 && checksum >= 0;',
      },
    ],
    says: 'A piece that was damaged on its way is stored; the whole is thrown away at its end.',
    tests: ['test/host/snapshot-streams.test.ts'],
    simulator: { blind: 'simulated links damage nothing' },
  },
  {
    id: 'applied-while-giving',
    hazards: [45],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: 'if (!isFixed) return work;',
        replace: 'if (!isFixed && place.index < 0) return work;',
      },
    ],
    says: 'Entries are applied while a state machine gives its state in pieces.',
    tests: ['test/host/snapshot-streams.test.ts'],
    simulator: 'snapshots',
  },
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
    simulator: { blind: 'simulated state machines have no store of their own' },
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
    simulator: { blind: 'simulated state machines have no store of their own' },
  },
  {
    id: 'snapshot-window-open',
    hazards: [27, 47],
    edits: [
      {
        file: 'src/host/snapshot-sending.ts',
        find: 'return windowBytes + pieceBytesMax <= peerWindowBytes;',
        replace: 'return windowBytes >= 0;',
      },
    ],
    says: 'A leader sends a snapshot as fast as it can, whatever the receiver answers.',
    tests: ['test/host/snapshot-streams.test.ts'],
    simulator: { blind: 'it costs memory and time, which are not looked at' },
  },
  {
    id: 'snapshot-sent-in-bursts',
    hazards: [27, 47],
    edits: [
      {
        file: 'src/host/snapshot-pieces.ts',
        find: 'const burstMsMax = 10;',
        replace: 'const burstMsMax = 10_000;',
      },
    ],
    says: 'What the rate of snapshots allows is saved up, and then sent all at once.',
    tests: ['test/host/snapshot-streams.test.ts'],
    simulator: { blind: 'it costs time, which is not looked at' },
  },
  {
    id: 'piece-changed-before-sent',
    hazards: [43],
    edits: [
      {
        file: 'src/transport/outbox.ts',
        find: 'this.#stream.write(chunks[i], isLast ? sent : undefined);',
        replace: 'this.#stream.write(chunks[i]); if (isLast) sent?.();',
      },
    ],
    says: 'The bytes of a frame are given back when they are handed to the socket.',
    tests: ['src/testing/transport-contract.test.ts'],
    simulator: { blind: 'it has a network of its own' },
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
      {
        file: 'src/host/snapshots.ts',
        find: '  partition.machineIndex = descriptor?.machineIndex ?? 0;\n',
        replace: '  partition.machineIndex = Math.min(0, descriptor?.machineIndex ?? 0);\n',
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
        file: 'src/host/snapshot-receiving.ts',
        find: 'if (stored !== undefined && stored.byteLength <= snapshotBytesMax) {',
        replace: 'if (stored !== undefined) {',
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
        file: 'src/host/snapshot-receiving.ts',
        find: 'if (offset > receive.receivedBytes || !fits(receive, item)) {',
        replace: 'if (!fits(receive, item)) {',
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
    simulator: { blind: 'no simulated machine has a store of its own' },
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
    simulator: { blind: 'no simulated machine has a store of its own' },
  },
  {
    id: 'base-with-first-members',
    hazards: [42, 49],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: '    confState: raft.confState,\n',
        replace: '    confState: raft.config.initial.confState,\n',
      },
    ],
    says: 'A checkpoint keeps the members of the start instead of the present ones.',
    tests: ['test/host/membership.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'snapshot-source-never-doubted',
    hazards: [46],
    edits: [
      {
        file: 'src/host/snapshot-sending.ts',
        find: '  if (send.isAnswered) send.source = undefined;\n',
        replace: '',
      },
    ],
    says: 'A leader that spares itself asks a member for ever for bytes that it does not have.',
    tests: ['test/host/snapshot-sources.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'snapshot-served-unseen',
    hazards: [45],
    edits: [
      {
        file: 'src/host/snapshot-serving.ts',
        find: '!isSame(identity, { index, ...stored })',
        replace: 'index === 0',
      },
    ],
    says: 'A member sends pieces of the snapshot that it has, whichever it was asked for.',
    tests: ['test/host/snapshot-sources.test.ts'],
    simulator: {
      blind: 'what arrives is checked against the announcement, and sent again by the leader',
    },
  },
  {
    id: 'snapshot-requests-unbounded',
    hazards: [47],
    edits: [
      {
        file: 'src/host/snapshot-serving.ts',
        find: 'if (serve.offsets.length >= waitingMax) return;',
        replace: '',
      },
    ],
    says: 'A member keeps whatever it is asked to send.',
    tests: ['test/host/snapshot-sources.test.ts'],
    simulator: { blind: 'leaders ask for no more than they may' },
  },
];
