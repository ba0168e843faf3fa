// Seeded bugs of the section "Replication and commit": the check of the previous entry, what counts towards a commit,
// what is cut off, lost messages, indexes, the window, lanes.

import type { Mutation } from './mutation.ts';

export const replicationMutations: readonly Mutation[] = [
  {
    id: 'previous-term-unchecked',
    hazards: [16],
    edits: [
      {
        file: 'src/raft/follower.ts',
        find: 'if (!matches(log, { index: prevLogIndex, term: prevLogTerm })) {',
        replace: 'if (prevLogIndex > log.lastIndex) {',
      },
    ],
    says: 'An append is taken when there is an entry before it, whatever its term.',
    tests: ['test/paper/log-replication.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'own-last-index-acknowledged',
    hazards: [16, 20],
    edits: [
      {
        file: 'src/raft/follower.ts',
        find: 'const matchIndex = prevLogIndex + entries.length;',
        replace: 'const matchIndex = log.lastIndex;',
      },
    ],
    says: 'A follower acknowledges all of its log, also what the leader has not confirmed.',
    tests: ['test/paper/log-replication.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'holes-in-frames-taken',
    hazards: [16],
    edits: [
      {
        file: 'src/transport/frame-decoder.ts',
        find: 'if (entry.index !== index)',
        replace: 'if (entry.index < index)',
      },
    ],
    says: 'A frame may carry entries with a hole between them.',
    tests: ['src/transport/frame-codec.test.ts'],
    simulator: { blind: 'simulated nodes send no holes' },
  },
  {
    id: 'commit-by-smaller-half',
    hazards: [1, 17],
    edits: [
      {
        file: 'src/raft/quorum.ts',
        find: 'return sorted[voters.length - quorumSize(voters.length)] as LogIndex;',
        replace: 'return sorted[quorumSize(voters.length) - 1] as LogIndex;',
      },
    ],
    says: 'Of an even number of voters half is enough to commit.',
    tests: ['src/raft/quorum.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'commit-by-sent',
    hazards: [17, 37],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: '(id) => progress.get(id)?.matchIndex ?? 0);',
        replace: '(id) => (progress.get(id)?.nextIndex ?? 1) - 1);',
      },
    ],
    says: 'What was sent to a replica counts as stored by it.',
    tests: ['test/paper/log-replication.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'commit-of-older-term',
    hazards: [18],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: 'if (termAt(log, index) !== state.currentTerm) return false;',
        replace: 'if (termAt(log, index) === undefined) return false;',
      },
    ],
    says: 'An entry of an older term is committed by counting (Figure 8).',
    tests: ['test/paper/safety.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'truncation-without-conflict',
    hazards: [19],
    edits: [
      {
        file: 'src/raft/follower.ts',
        find: 'const conflict = findConflict(log, entries);',
        replace: 'const conflict = entries.length > 0 ? prevLogIndex + 1 : undefined;',
      },
    ],
    says: 'A late duplicate cuts off the entries that came after it.',
    tests: ['test/paper/log-replication.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'conflict-by-length',
    hazards: [19],
    edits: [
      {
        file: 'src/raft/log.ts',
        find: 'if (termAt(log, entry.index) !== entry.term) return entry.index;',
        replace: 'if (entry.index > log.lastIndex) return entry.index;',
      },
    ],
    says: 'Entries of a lost term stay in the log where the leader has others.',
    tests: ['src/raft/log.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'follower-commits-unconfirmed',
    hazards: [20],
    edits: [
      {
        file: 'src/raft/follower.ts',
        find: 'commitTo(log, Math.min(message.leaderCommit, matchIndex));',
        replace: 'commitTo(log, Math.min(message.leaderCommit, log.lastIndex));',
      },
    ],
    says: 'A follower commits entries of its own that this leader has not confirmed.',
    tests: ['test/paper/log-replication.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'heartbeat-commits-unconfirmed',
    hazards: [20],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: 'const leaderCommit = Math.min(progress.matchIndex, state.log.commitIndex);',
        replace: 'const leaderCommit = state.log.commitIndex;',
      },
      {
        file: 'src/raft/follower.ts',
        find: 'commitTo(state.log, message.leaderCommit);',
        replace: 'commitTo(state.log, Math.min(message.leaderCommit, state.log.lastIndex));',
      },
    ],
    says: 'A heartbeat commits whatever stands at the index in the follower’s log.',
    tests: ['test/paper/log-replication.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'progress-not-reset',
    hazards: [21],
    edits: [
      {
        file: 'src/raft/progress.ts',
        find: "enter(progress, 'probe');\n  progress.matchIndex = 0;",
        replace: "enter(progress, 'probe');",
      },
    ],
    says: 'A leader starts its term with what it believed of the others in an earlier one.',
    tests: ['test/paper/terms.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'late-answers-count',
    hazards: [21],
    edits: [
      {
        file: 'src/raft/raft.ts',
        find: "return 'unknownPeer';\n  }\n  return stepTerm(state, message, message.term);",
        replace:
          "return 'unknownPeer';\n  }\n  return stepTerm(state, message, Math.max(message.term, state.currentTerm));",
      },
    ],
    says: 'Votes and acknowledgements of an earlier term count in this one.',
    tests: ['test/paper/terms.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'walk-back-one-by-one',
    hazards: [22],
    edits: [
      {
        file: 'src/raft/progress.ts',
        find: 'Math.max(Math.min(refusedIndex, hintIndex + 1), progress.matchIndex + 1);',
        replace: 'Math.max(refusedIndex, progress.matchIndex + 1);',
      },
    ],
    says: 'The leader ignores the hint of a refusal and goes back entry by entry.',
    tests: ['src/raft/progress.test.ts'],
    simulator: { blind: 'it is slow, not wrong' },
  },
  {
    id: 'probe-never-resumed',
    hazards: [23],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: 'progress.isRecentlyActive = true;\n  progress.isPaused = false;',
        replace: 'progress.isRecentlyActive = true;',
      },
    ],
    says: 'A lost append, or its lost answer, holds a replica back until the next term.',
    tests: ['test/paper/log-replication.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'transfer-never-times-out',
    hazards: [23],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: 'if (state.transferElapsed >= config.electionTicks) abortTransfer(state);',
        replace: 'if (state.transferElapsed < 0) abortTransfer(state);',
      },
    ],
    says: 'A transfer whose notice got lost never ends, and the leader takes no writes any more.',
    tests: ['test/paper/leadership-transfer.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'read-not-asked-again',
    hazards: [23],
    edits: [
      {
        file: 'src/host/reads.ts',
        find: 'if (host.tickCount - round.askedAtTick < retryTicks) continue;',
        replace: 'if (host.tickCount >= round.askedAtTick) continue;',
      },
    ],
    says: 'A question for a read index that got lost is not asked again.',
    tests: ['test/host/reads.test.ts'],
    simulator: { blind: 'a read that times out breaks no rule' },
  },
  {
    id: 'genesis-sent-once',
    hazards: [23],
    edits: [
      {
        file: 'src/host/genesis.ts',
        find: 'if (host.genesis.isComplete || host.tickCount % reminderTicks !== 0) return;',
        replace: 'if (host.genesis.isComplete || host.tickCount !== 1) return;',
      },
    ],
    says: 'An acceptance of the genesis record that got lost is not sent again: the cluster never forms.',
    tests: ['test/host/genesis.test.ts'],
    simulator: { blind: 'simulated clusters are formed before the faults begin' },
  },
  {
    id: 'refused-proposal-stays',
    hazards: [24, 34],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: 'const bytes = payloadBytesOf(entries);',
        replace: 'appendToLog(log, entries);\n  const bytes = payloadBytesOf(entries);',
      },
      {
        file: 'src/raft/replication.ts',
        find: 'state.uncommittedBytes += bytes;\n  appendToLog(log, entries);',
        replace: 'state.uncommittedBytes += bytes;',
      },
    ],
    says: 'A proposal that is refused because the tail is full has been appended all the same.',
    tests: ['test/paper/parallel-writes.test.ts'],
    simulator: { blind: 'the host asks whether there is room before it proposes' },
  },
  {
    id: 'index-counted-from-commit',
    hazards: [24],
    edits: [
      {
        file: 'src/host/proposals.ts',
        find: 'let index = raft.log.lastIndex + 1;',
        replace: 'let index = raft.log.commitIndex + 1;',
      },
    ],
    says: 'The host counts the places of writes from the commit index: two writes wait for one index.',
    tests: ['test/host/replicate.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'nobody-read-as-replica-0',
    hazards: [25],
    edits: [
      {
        file: 'src/wal/record.ts',
        find: 'votedFor: votedFor === 0 ? undefined : votedFor, commitIndex };',
        replace: 'votedFor, commitIndex };',
      },
    ],
    says: 'After a restart "voted for nobody" is a vote for replica 0.',
    tests: ['src/wal/record.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'unknown-term-is-0',
    hazards: [25],
    edits: [
      {
        file: 'src/raft/log.ts',
        find: 'if (index > log.lastIndex || index < log.compactedIndex) return undefined;',
        replace: 'if (index > log.lastIndex || index < log.compactedIndex) return 0;',
      },
    ],
    says: 'The term of an entry that is not there is 0 instead of unknown, and is compared.',
    tests: ['src/raft/log.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'window-never-freed',
    hazards: [26],
    edits: [
      {
        file: 'src/raft/inflights.ts',
        find: '(inflights.indexes[inflights.head] as LogIndex) <= index) {',
        replace: '(inflights.indexes[inflights.head] as LogIndex) < 0) {',
      },
    ],
    says: 'What is acknowledged stays in the window: it is full for ever, and replication goes message by message.',
    tests: ['src/raft/inflights.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'full-window-not-probed',
    hazards: [23, 26],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: 'const entries = isWindowFull ? [] :',
        replace: 'if (isWindowFull) return false;\n  const entries =',
      },
    ],
    says: 'Nothing goes through a full window: when all that is in it was lost, it stays full.',
    tests: ['test/paper/parallel-writes.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'hung-disk-keeps-leading',
    hazards: [26],
    edits: [
      {
        file: 'src/host/ticker.ts',
        find: 'if (latenessMs < electionMs && stalledMs < electionMs) return;',
        replace: 'if (latenessMs < electionMs) return;',
      },
    ],
    says: 'A leader whose disk does not answer goes on leading.',
    tests: ['test/host/storage.test.ts'],
    simulator: { blind: 'a stall is over when progress is asked for' },
  },
  {
    id: 'heartbeats-behind-bulk',
    hazards: [27],
    edits: [{ file: 'src/host/outbox.ts', find: ': Lane.control;', replace: ': Lane.bulk;' }],
    says: 'Heartbeats, votes and acknowledgements travel behind appends and snapshots.',
    tests: ['test/hazards/process.test.ts'],
    simulator: { blind: 'a late heartbeat is a disturbance, no broken rule' },
  },
  {
    id: 'acks-refused-with-writes',
    hazards: [27],
    edits: [
      {
        file: 'src/host/inbox.ts',
        find: 'if (!isAddressed) return;',
        replace:
          'if (!isAddressed || partition.outstandingEntries >= host.settings.queuedEntriesMax) return;',
      },
    ],
    says: 'A full queue of writes turns away Raft’s own messages, so that it is never worked off.',
    tests: ['test/hazards/process.test.ts'],
    simulator: { blind: 'simulated queues are not filled' },
  },
  {
    id: 'bad-item-drops-frame',
    hazards: [28],
    edits: [
      {
        file: 'src/transport/frame-decoder.ts',
        find: 'if (this.#brokenCount > brokenItemsMax)',
        replace: 'if (this.#brokenCount > 0)',
      },
    ],
    says: 'One broken item takes its whole frame down.',
    tests: ['src/transport/frame-codec.test.ts'],
    simulator: { blind: 'simulated frames are whole' },
  },
  {
    id: 'bad-payload-drops-rest',
    hazards: [28],
    edits: [
      {
        file: 'src/host/inbox.ts',
        find: "name: 'item-refused', fields: { from, kind, error } });",
        replace: "name: 'item-refused', fields: { from, kind, error } });\n      return;",
      },
    ],
    says: 'An item that means nothing takes those behind it in the frame down.',
    tests: ['test/host/evidence.test.ts'],
    simulator: { blind: 'simulated frames are whole' },
  },
];
