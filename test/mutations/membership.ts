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
        find: 'strangers.set(peer, { nonce, isEmpty });',
        replace: 'admissions.set(peer, presented);',
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
        find: 'if (known?.nonce === own.nonce) return true;',
        replace: 'if (known !== undefined) return true;',
      },
    ],
    says: 'A node does not find out from its peers that its own disk was emptied.',
    tests: ['test/host/genesis.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'emptied-nodes-form-anew',
    hazards: [12, 52],
    edits: [
      {
        file: 'src/host/genesis.ts',
        find: "if (host.state === 'refused') return;",
        replace: '',
      },
    ],
    says: 'Nodes that were told that their disks were emptied make a cluster with each other.',
    tests: ['test/host/genesis.test.ts'],
    simulator: { blind: 'never so many disks are emptied that what is left is no quorum' },
  },
  {
    id: 'readmitted-as-the-same-replica',
    hazards: [52],
    edits: [
      {
        file: 'src/cluster/system-state.ts',
        find: 'return replicaId + memberCountMax;',
        replace: 'return replicaId;',
      },
    ],
    says: 'A readmitted member keeps the number of the replica whose promises its disk forgot.',
    tests: ['src/cluster/system-state.test.ts', 'test/host/readmission.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'late-readmission-counts',
    hazards: [52],
    edits: [
      {
        file: 'src/cluster/system-state.ts',
        find: 'const isNext = member.nodeId === nodeId && nextReplicaId(member.replicaId) === replicaId;',
        replace: 'const isNext = member.nodeId === nodeId;',
      },
    ],
    says: 'A readmission that was asked for before another one was done takes the member back to it.',
    tests: ['src/cluster/system-state.test.ts'],
    simulator: { blind: 'it takes two operators that are at odds' },
  },
  {
    id: 'former-nonce-believed',
    hazards: [52],
    edits: [
      {
        file: 'src/host/genesis.ts',
        find: 'genesis.admissions.set(nodeId, { nonce, replicaId });\n  if (genesis.strangers',
        replace:
          'genesis.admissions.set(nodeId, { nonce: genesis.admissions.get(nodeId)?.nonce ?? nonce, replicaId });\n  if (genesis.strangers',
      },
    ],
    says: 'After a readmission the former directory is still the one that is known.',
    tests: ['test/host/readmission.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'old-disk-goes-on',
    hazards: [52],
    edits: [
      {
        file: 'src/host/genesis.ts',
        find: 'if (known !== undefined && known.replicaId < own.replicaId) return true;',
        replace: 'if (known !== undefined && known.replicaId !== own.replicaId) return true;',
      },
    ],
    says: 'A node on a disk from before its readmission goes on as if it were still a member.',
    tests: ['test/host/readmission.test.ts'],
    simulator: { blind: 'no old disk is mounted again' },
  },
  {
    id: 'number-not-stored',
    hazards: [52],
    edits: [
      {
        file: 'src/host/genesis.ts',
        find: 'writer.varint(replicaId);',
        replace: 'writer.varint(replicaIdIn(genesis.record, nodeId));',
      },
    ],
    says: 'A readmitted node forgets with a restart that it is another replica.',
    tests: ['src/host/genesis.test.ts', 'test/host/readmission.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'former-replica-keeps-its-vote',
    hazards: [52],
    edits: [
      {
        file: 'src/host/readmission-step.ts',
        find: 'return isLearner ? [demotion] : [demotion, { kind: addLearner, replica }];',
        replace: 'return isLearner ? [] : [{ kind: addLearner, replica }];',
      },
    ],
    says: 'The former number of a readmitted member stays a voter.',
    tests: ['src/host/readmission-step.test.ts', 'test/host/readmission.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'promoted-before-caught-up',
    hazards: [51, 52],
    edits: [
      {
        file: 'src/host/readmission.ts',
        find: "return progress.state === 'replicate' && progress.matchIndex >= committedBefore;",
        replace: 'return committedBefore >= 0;',
      },
    ],
    says: 'A readmitted member votes before it has caught up, and writes wait for it.',
    tests: ['test/host/readmission.test.ts'],
    simulator: { blind: 'a voter that is behind breaks no rule' },
  },
  {
    id: 'former-learner-promoted',
    hazards: [51],
    edits: [
      {
        file: 'src/host/readmission-step.ts',
        find: 'if (!isLearner) return [removal, { kind: addLearner, replica }];',
        replace: 'if (!isLearner) return [removal, { kind: addVoter, replica }];',
      },
    ],
    says: 'A readmitted learner becomes a voter.',
    tests: ['src/host/readmission-step.test.ts', 'test/host/readmission.test.ts'],
    simulator: { blind: 'a voter more breaks no rule' },
  },
  {
    id: 'readmission-undone-by-genesis',
    hazards: [52],
    edits: [
      {
        file: 'src/host/system-entries.ts',
        find: 'host.isSystemKnown = true;\n    noteReadmissions(host);',
        replace: 'noteReadmissions(host);',
      },
    ],
    says: 'A readmission that is committed in front of the genesis entry is undone by it.',
    tests: ['test/host/readmission.test.ts'],
    simulator: { blind: 'no disk is emptied before the cluster has worked for a while' },
  },
  {
    id: 'copied-node-connects',
    hazards: [13, 52],
    edits: [
      {
        file: 'src/transport/grpc-server.ts',
        find: 'if (error === null) decide(true);',
        replace: 'if (error === null) decide(false);',
      },
    ],
    says: 'A second process with the identity of a connected node takes its place.',
    tests: ['src/transport/grpc-garbage.test.ts', 'src/transport/grpc.test.ts'],
    simulator: { blind: 'the simulated network has connections of its own' },
  },
  {
    id: 'copied-node-goes-on',
    hazards: [52],
    edits: [
      {
        file: 'src/host/inbox.ts',
        find: "if (error.code !== 'NODE_COPIED' || host.state === 'closing') return;",
        replace: "if (error.code === 'NODE_COPIED' || host.state !== 'closing') return;",
      },
    ],
    says: 'A node that was told that another process has its identity goes on with other peers.',
    tests: ['test/host/readmission.test.ts'],
    simulator: { blind: 'no directory is copied' },
  },
  {
    id: 'overlapping-ranges',
    hazards: [53],
    edits: [
      {
        file: 'src/cluster/hash-ranges.ts',
        find: 'if (range.fromHash !== endHash)',
        replace: 'if (range.fromHash > endHash)',
      },
    ],
    says: 'A partition map may give one key to two partitions.',
    tests: ['src/cluster/hash-ranges.test.ts'],
    simulator: { blind: 'the map of a simulated cluster does not change' },
  },
];
