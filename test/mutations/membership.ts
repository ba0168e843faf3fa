// Seeded bugs of the section "Membership and elasticity": overlapping changes, joint quorums, learners, removed and
// emptied nodes.

import type { Mutation } from './mutation.ts';

export const membershipMutations: readonly Mutation[] = [
  {
    id: 'changes-overlap',
    hazards: [50],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: 'if (pendingConfChangeIndex > log.appliedIndex) {',
        replace: 'if (pendingConfChangeIndex > log.lastIndex) {',
      },
    ],
    says: 'A change of the members is taken while another one is not applied yet.',
    tests: ['test/paper/membership.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'change-before-first-commit',
    hazards: [50],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: 'state.pendingConfChangeIndex = state.log.lastIndex;',
        replace: 'state.pendingConfChangeIndex = state.log.appliedIndex;',
      },
    ],
    says: 'A new leader takes a change of the members before what it inherited is committed and applied.',
    tests: ['test/paper/membership.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'committed-change-forgotten',
    hazards: [50, 51],
    edits: [
      {
        file: 'src/raft/take-ready.ts',
        find: 'return commitIndex < log.commitIndex && commitIndex < log.confChangeIndex;',
        replace: 'return false;',
      },
    ],
    says: 'A restart forgets that a change of the members was committed, and goes on by those of before.',
    tests: ['test/host/membership.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'joint-commit-by-new-half',
    hazards: [50],
    edits: [
      {
        file: 'src/raft/quorum.ts',
        find: 'return Math.min(incoming, majorityIndex(sets.votersOutgoing, matchIndexOf));',
        replace: 'return incoming;',
      },
    ],
    says: 'In a joint configuration the new voters commit alone.',
    tests: ['src/raft/quorum.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'joint-election-by-either-half',
    hazards: [50],
    edits: [
      {
        file: 'src/raft/quorum.ts',
        find: "if (incoming === 'lost' || outgoing === 'lost') return 'lost';",
        replace: "if (incoming === 'won' || outgoing === 'won') return 'won';",
      },
    ],
    says: 'In a joint configuration one half elects a leader alone.',
    tests: ['src/raft/quorum.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'two-voters-in-one-step',
    hazards: [50],
    edits: [
      {
        file: 'src/raft/membership.ts',
        find: 'change.transition === Transition.auto && change.changes.length <= 1) {',
        replace: 'change.transition === Transition.auto) {',
      },
      {
        file: 'src/raft/membership.ts',
        find: 'if (symmetricDifference(conf.voters, draft.voters) > 1) {',
        replace: 'if (symmetricDifference(conf.voters, draft.voters) > conf.voters.length * 2) {',
      },
    ],
    says: 'Several voters change in one step without a joint configuration.',
    tests: ['src/raft/membership.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'joint-never-left',
    hazards: [23, 50],
    edits: [
      {
        file: 'src/raft/raft.ts',
        find: 'bytes);\n  tryAutoLeave(state);',
        replace: 'bytes);',
      },
      {
        file: 'src/raft/election.ts',
        find: 'tryAutoLeave(state);\n    beginLeaseRound(state);',
        replace: 'beginLeaseRound(state);',
      },
    ],
    says: 'An automatic joint configuration is never left.',
    tests: ['test/host/membership.test.ts', 'test/paper/membership.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'learner-counted',
    hazards: [51],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: 'quorumIndex(state.confState, (id)',
        replace:
          'quorumIndex({ ...state.confState, voters: [...progress.keys()].sort((a, b) => a - b) }, (id)',
      },
    ],
    says: 'Acknowledgements of learners count towards a commit.',
    tests: ['test/paper/membership.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'learner-campaigns',
    hazards: [51],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: 'return progress !== undefined && !progress.isLearner && state.log.pendingSnapshot === undefined;',
        replace: 'return progress !== undefined && state.log.pendingSnapshot === undefined;',
      },
    ],
    says: 'A learner campaigns and can be elected.',
    tests: ['test/paper/membership.test.ts', 'test/paper/elections.test.ts'],
    simulator: { blind: 'a learner that is elected by a quorum breaks no rule' },
  },
  {
    id: 'removed-leader-goes-on',
    hazards: [51],
    edits: [
      {
        file: 'src/raft/raft.ts',
        find: 'if (state.config.stepDownOnRemoval) becomeFollower(',
        replace: 'if (state.config.stepDownOnRemoval && own !== undefined) becomeFollower(',
      },
    ],
    says: 'A leader that was removed goes on leading.',
    tests: ['test/paper/membership.test.ts', 'test/host/membership.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'leadership-to-learner',
    hazards: [51],
    edits: [
      {
        file: 'src/raft/leader-transfer.ts',
        find: 'if (progress === undefined || progress.isLearner) return;',
        replace: 'if (progress === undefined) return;',
      },
    ],
    says: 'Leadership is offered to a learner, and writes wait for nothing.',
    tests: ['test/paper/leadership-transfer.test.ts'],
    simulator: { blind: 'the transfer times out, which breaks no rule' },
  },
  {
    id: 'readmitted-with-old-progress',
    hazards: [21, 52],
    edits: [
      {
        file: 'src/raft/state.ts',
        find: 'const progress = new Map<ReplicaId, Progress>();',
        replace: 'const progress = new Map<ReplicaId, Progress>(state.progress);',
      },
    ],
    says: 'What a removed replica acknowledged counts when it comes back with an empty disk.',
    tests: ['test/paper/membership.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'wiped-peer-believed',
    hazards: [52],
    edits: [
      {
        file: 'src/host/genesis.ts',
        find: 'strangers.add(peer);',
        replace: 'nonces.set(peer, nonce);',
      },
    ],
    says: 'A member that comes back with an emptied disk is believed: it votes again and counts as a copy.',
    tests: ['test/host/genesis.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'wiped-node-takes-part',
    hazards: [52],
    edits: [
      {
        file: 'src/host/genesis.ts',
        find: 'if (known !== own) {',
        replace: 'if (known === undefined) {',
      },
    ],
    says: 'A node does not find out from its peers that its own disk was emptied.',
    tests: ['test/host/genesis.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'overlapping-ranges',
    hazards: [53],
    edits: [
      {
        file: 'src/cluster/hash-ranges.ts',
        find: "assert(range.fromHash === endHash, 'Invariant",
        replace: "assert(range.fromHash <= endHash, 'Invariant",
      },
    ],
    says: 'A partition map may give one key to two partitions.',
    tests: ['src/cluster/hash-ranges.test.ts'],
    simulator: { blind: 'the map of a simulated cluster does not change' },
  },
];
