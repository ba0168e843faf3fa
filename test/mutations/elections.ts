// Seeded bugs of the section "Elections, terms, votes": quorums, durable votes, freshness, timers, genesis, strangers.

import type { Mutation } from './mutation.ts';

export const electionMutations: readonly Mutation[] = [
  {
    id: 'quorum-half',
    hazards: [1],
    edits: [
      {
        file: 'src/raft/quorum.ts',
        find: 'return Math.floor(voterCount / 2) + 1;',
        replace: 'return Math.ceil(voterCount / 2);',
      },
    ],
    says: 'Half of an even number of voters is a quorum, so two halves can each elect and commit.',
    tests: ['src/raft/quorum.test.ts'],
    simulator: 'membership',
  },
  {
    id: 'quorum-two-at-least',
    hazards: [1],
    edits: [
      {
        file: 'src/raft/quorum.ts',
        find: 'return Math.floor(voterCount / 2) + 1;',
        replace: 'return Math.max(2, Math.floor(voterCount / 2) + 1);',
      },
    ],
    says: 'A quorum has two voters at least, so a lone voter never elects itself.',
    tests: ['src/raft/quorum.test.ts'],
    simulator: { blind: 'simulated partitions keep two voters at least' },
  },
  {
    id: 'vote-before-persist',
    hazards: [2, 37],
    edits: [
      {
        file: 'src/raft/send.ts',
        find: "message.type === 'requestVoteResponse') {",
        replace: "(message.type === 'requestVoteResponse' && message.to === state.id)) {",
      },
    ],
    says: 'A vote for another replica leaves before it is on disk: a crash forgets that it was given.',
    tests: ['test/paper/crashes.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'vote-without-sync',
    hazards: [2, 38],
    edits: [
      {
        file: 'src/raft/take-ready.ts',
        find: 'entries.length > 0 || isPromiseChanged(state)',
        replace: 'entries.length > 0',
      },
    ],
    says: 'Term and vote do not ask for a sync: a power loss takes a vote that was given.',
    tests: ['test/paper/crashes.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'vote-in-old-term-not-stored',
    hazards: [2],
    edits: [
      {
        file: 'src/raft/take-ready.ts',
        find: 'prevHardState.term !== state.currentTerm || prevHardState.votedFor !== state.votedFor;',
        replace: 'prevHardState.term !== state.currentTerm;',
      },
    ],
    says: 'A vote in a term that was stored before is not stored: after a restart it is given again.',
    tests: ['test/paper/crashes.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'vote-stored-later',
    hazards: [2, 38],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'hardState.term === promised.term && hardState.votedFor === promised.votedFor;',
        replace: 'hardState.term === promised.term;',
      },
    ],
    says: 'The host writes a vote in a known term with the commit indexes, in a quiet moment, after it was given.',
    tests: ['test/host/votes.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'hard-state-lost-at-restart',
    hazards: [2],
    edits: [
      {
        file: 'src/host/partition.ts',
        find: 'hardState: { ...stored.hardState, commitIndex },',
        replace:
          'hardState: { term: stored.termRuns.at(-1)?.term ?? 0, votedFor: undefined, commitIndex },',
      },
    ],
    says: 'A restart takes the term from the log and forgets the vote.',
    tests: ['test/host/votes.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'vote-cleared-within-term',
    hazards: [3],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: 'reset(state, term);\n  setLeader(state, leader);\n  setRole(state, Role.follower);',
        replace:
          'reset(state, term);\n  setLeader(state, leader);\n  if (state.role === Role.candidate) state.votedFor = undefined;\n  setRole(state, Role.follower);',
      },
    ],
    says: 'A candidate that steps down within its term forgets that it voted for itself, and votes again.',
    tests: ['test/paper/elections.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'vote-for-everybody',
    hazards: [3],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: 'state.votedFor === undefined && state.leader === undefined;',
        replace: 'state.leader === undefined;',
      },
    ],
    says: 'While no leader is known every candidate of the term gets a vote.',
    tests: ['test/paper/elections.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'freshness-by-index',
    hazards: [4],
    edits: [
      {
        file: 'src/raft/log.ts',
        find: 'return other.term > term || (other.term === term && other.index >= log.lastIndex);',
        replace: 'return other.index >= log.lastIndex;',
      },
      {
        file: 'src/raft/election.ts',
        find: 'if (!message.rejected && !covers(state.log, voter)) {',
        replace: 'if (message.rejected && !covers(state.log, voter)) {',
      },
    ],
    says: 'The longer log wins the vote, whatever term it ends in: what is committed can be lost.',
    tests: ['src/raft/log.test.ts', 'test/paper/safety.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'freshness-by-term',
    hazards: [4],
    edits: [
      {
        file: 'src/raft/log.ts',
        find: 'return other.term > term || (other.term === term && other.index >= log.lastIndex);',
        replace: 'return other.term >= term;',
      },
      {
        file: 'src/raft/election.ts',
        find: 'if (!message.rejected && !covers(state.log, voter)) {',
        replace: 'if (message.rejected && !covers(state.log, voter)) {',
      },
    ],
    says: 'A shorter log of the same last term wins the vote: what is committed can be lost.',
    tests: ['src/raft/log.test.ts', 'test/paper/safety.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'legal-vote-dropped',
    hazards: [4],
    edits: [
      {
        file: 'src/raft/log.ts',
        find: 'return term > other.term || (term === other.term && log.lastIndex >= other.index);',
        replace: 'return log.lastIndex >= other.index;',
      },
    ],
    says: 'A candidate does not count the vote of a voter with a longer, older log: nobody may ever win.',
    tests: ['test/hazards/votes.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'vote-for-lost-log-counted',
    hazards: [2, 4],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: 'if (!message.rejected && !covers(state.log, voter)) {',
        replace: 'if (message.rejected && !covers(state.log, voter)) {',
      },
    ],
    says: 'A vote counts that was given before a crash took the end of the candidate’s log.',
    tests: ['test/paper/crashes.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'jitter-drawn-once',
    hazards: [5],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: 'const patience = priority === 0',
        replace:
          'if (state.randomizedElectionTicks > electionTicks) return;\n  const patience = priority === 0',
      },
    ],
    says: 'The election timeout is drawn once: two replicas that collide go on colliding.',
    tests: ['test/paper/elections.test.ts'],
    simulator: {
      blind: 'the ticks of simulated nodes are out of step, so that one of them is first',
    },
  },
  {
    id: 'no-jitter',
    hazards: [5],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: '(1 + patience) + random.below(electionTicks);',
        replace: '(1 + patience) + random.below(1);',
      },
    ],
    says: 'All replicas have the same election timeout and split their votes.',
    tests: ['test/paper/elections.test.ts'],
    simulator: {
      blind: 'the ticks of simulated nodes are out of step, so that one of them is first',
    },
  },
  {
    id: 'seed-shared-by-nodes',
    hazards: [5],
    edits: [
      {
        file: 'src/host/opening.ts',
        find: 'return seededRandom(drawn * 0x1_0000_0000 + hashOfBytes(utf8Bytes(nodeId)));',
        replace: 'return seededRandom(drawn);',
      },
    ],
    says: 'Nodes that were given one seed campaign in step.',
    tests: ['test/hazards/clocks-and-seeds.test.ts'],
    simulator: { blind: 'every simulated node has a seed of its own' },
  },
  {
    id: 'no-stickiness',
    hazards: [6, 51],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: 'return isChecked && state.leader !== undefined && state.electionElapsed < electionTicks;',
        replace: 'return isChecked && state.leader !== undefined && electionTicks < 0;',
      },
    ],
    says: 'A replica that hears its leader helps to depose it.',
    tests: ['test/paper/pre-vote.test.ts', 'test/paper/elections.test.ts'],
    simulator: { blind: 'a deposed leader is a disturbance, no broken rule' },
  },
  {
    id: 'pre-vote-off',
    hazards: [6],
    edits: [{ file: 'src/host/partition.ts', find: 'preVote: true,', replace: 'preVote: false,' }],
    says: 'Nodes campaign without asking first: a node that was cut off comes back with a high term.',
    tests: ['test/hazards/defaults.test.ts'],
    simulator: { blind: 'a deposed leader is a disturbance, no broken rule' },
  },
  {
    id: 'pre-vote-moves-term',
    hazards: [6],
    edits: [
      {
        file: 'src/raft/raft.ts',
        find: 'if (message.preVote) return true;',
        replace: '',
      },
    ],
    says: 'Being asked for a pre-vote makes the voter adopt a term that nobody has reached.',
    tests: ['test/paper/pre-vote.test.ts'],
    simulator: { blind: 'a term that moves for nothing is a disturbance, no broken rule' },
  },
  {
    id: 'check-quorum-never-steps-down',
    hazards: [6, 14, 26],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: 'if (id !== state.id) progress.isRecentlyActive = false;',
        replace: 'if (id === state.id) progress.isRecentlyActive = false;',
      },
    ],
    says: 'Whoever was heard from once counts as heard from for ever: a leader that is cut off goes on leading.',
    tests: ['test/paper/elections.test.ts'],
    simulator: { blind: 'a leader of a minority commits nothing: no rule is broken' },
  },
  {
    id: 'stale-leader-not-told',
    hazards: [7],
    edits: [
      {
        file: 'src/raft/raft.ts',
        find: 'if (isTold && isFromLeader(message)) {',
        replace: "if (isTold && message.type === 'installSnapshot') {",
      },
    ],
    says: 'Appends and heartbeats of an earlier term are dropped without a word: their sender never learns.',
    tests: ['src/raft/raft.test.ts', 'test/paper/terms.test.ts'],
    simulator: 'swarm',
  },
  {
    id: 'stale-candidate-not-told',
    hazards: [7],
    edits: [
      {
        file: 'src/raft/raft.ts',
        find: "message.type === 'requestVote' && (isTold || message.preVote)",
        replace: "message.type === 'requestVote' && isTold && state.role === Role.candidate",
      },
    ],
    says: 'A candidate of an earlier term is refused in silence and asks for ever.',
    tests: ['src/raft/raft.test.ts', 'test/paper/terms.test.ts'],
    simulator: { blind: 'the present leader’s heartbeats tell it as well' },
  },
  {
    id: 'refusal-echoes-asked-term',
    hazards: [6, 7],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: 'sendVote(state, { to: from, term: state.currentTerm, preVote, rejected: true });',
        replace: 'sendVote(state, { to: from, term, preVote, rejected: true });',
      },
    ],
    says: 'A refused pre-vote answers with the term that was asked for, and the asker adopts it.',
    tests: ['test/paper/pre-vote.test.ts'],
    simulator: { blind: 'a term that moves for nothing is a disturbance, no broken rule' },
  },
  {
    id: 'refused-append-no-sign-of-life',
    hazards: [8],
    edits: [
      {
        file: 'src/raft/follower.ts',
        find: 'state.electionElapsed = 0;\n  if (state.config',
        replace: 'if (state.config',
      },
      {
        file: 'src/raft/follower.ts',
        find: 'commitTo(state.log, message.leaderCommit);',
        replace: 'state.electionElapsed = 0;\n  commitTo(state.log, message.leaderCommit);',
      },
      {
        file: 'src/raft/follower.ts',
        find: 'export function acknowledge(state: RaftState, to: ReplicaId, index: LogIndex): void {',
        replace:
          'export function acknowledge(state: RaftState, to: ReplicaId, index: LogIndex): void {\n  state.electionElapsed = 0;',
      },
    ],
    says: 'Only an append that is accepted restarts the election timer: a follower that is behind campaigns.',
    tests: ['test/paper/elections.test.ts', 'test/paper/log-replication.test.ts'],
    simulator: { blind: 'heartbeats restart the timer often enough' },
  },
  {
    id: 'timer-runs-during-vote-sync',
    hazards: [9],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'if (isVote) restartElectionTimer(partition.raft);',
        replace: '',
      },
    ],
    says: 'The time for an election runs out while the vote is being synced.',
    tests: ['test/host/votes.test.ts'],
    simulator: { blind: 'an election too many is a disturbance, no broken rule' },
  },
  {
    id: 'wall-clock-drives-timers',
    hazards: [10],
    edits: [
      {
        file: 'src/host/host.ts',
        find: 'return host.settings.clock.monotonicMs();',
        replace: 'return host.settings.clock.wallMs();',
      },
    ],
    says: 'Deadlines and the watch over late timers follow the wall clock, which jumps.',
    tests: ['test/hazards/clocks-and-seeds.test.ts'],
    simulator: { blind: 'late deadlines break no rule that the simulator checks' },
  },
  {
    id: 'term-adopted-on-arrival',
    hazards: [3, 11],
    edits: [
      {
        file: 'src/host/inbox.ts',
        find: 'if (!isAddressed) return;',
        replace:
          'if (!isAddressed) return;\n  partition.raft.currentTerm = Math.max(partition.raft.currentTerm, message.term);',
      },
    ],
    says: 'The host adopts a later term as soon as a message arrives, beside the core’s step.',
    tests: ['test/hazards/log.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'stranger-elects-itself',
    hazards: [12],
    edits: [
      {
        file: 'src/raft/election.ts',
        find: 'return progress !== undefined && !progress.isLearner && state.log.pendingSnapshot === undefined;',
        replace: 'return progress?.isLearner !== true && state.log.pendingSnapshot === undefined;',
      },
    ],
    says: 'A replica without members elects itself: the majority of nobody.',
    tests: ['test/paper/elections.test.ts'],
    simulator: { blind: 'every simulated replica knows voters, and needs their votes' },
  },
  {
    id: 'genesis-without-everybody',
    hazards: [12, 52],
    edits: [
      {
        file: 'src/host/genesis.ts',
        find: 'if (!genesis.record.members.every(({ nodeId }) => genesis.admissions.has(nodeId))) return;',
        replace: 'if (genesis.admissions.size * 2 <= genesis.record.members.length) return;',
      },
    ],
    says: 'A cluster forms when a majority has accepted: emptied disks can form it a second time.',
    tests: ['test/host/genesis.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'discovery-makes-members',
    hazards: [12, 13],
    edits: [
      {
        file: 'src/host/inbox.ts',
        find: 'if (!host.replicaIds.has(from)) return;',
        replace: 'if (from === host.settings.nodeId) return;',
      },
    ],
    says: 'Whoever is connected is listened to, member or not.',
    tests: ['test/host/genesis.test.ts'],
    simulator: { blind: 'simulated nodes are all members' },
  },
  {
    id: 'speaks-for-others',
    hazards: [13],
    edits: [
      {
        file: 'src/host/inbox.ts',
        find: 'message.to === partition.raft.id && message.from === host.replicaIds.get(from);',
        replace: 'message.to === partition.raft.id;',
      },
    ],
    says: 'A member may send messages in the name of another replica.',
    tests: ['test/host/genesis.test.ts'],
    simulator: { blind: 'simulated nodes do not lie' },
  },
  {
    id: 'other-cluster-let-in',
    hazards: [13],
    edits: [
      {
        file: 'src/transport/greeting.ts',
        find: 'if (greeting.clusterId !== clusterId) {',
        replace: "if (greeting.clusterId === '') {",
      },
    ],
    says: 'A node of another cluster is let in.',
    tests: ['src/testing/transport-contract.test.ts'],
    simulator: { blind: 'there is one cluster in a simulation' },
  },
  {
    id: 'strangers-answers-count',
    hazards: [13, 51],
    edits: [
      {
        file: 'src/raft/raft.ts',
        find: 'if (!state.progress.has(message.from)) {',
        replace: 'if (state.progress.size === 0) {',
      },
    ],
    says: 'Answers of replicas that are no members reach the core, read indexes among them.',
    tests: ['src/raft/raft.test.ts'],
    simulator: { blind: 'a removed replica’s answers are counted by nobody' },
  },
  {
    id: 'pause-unnoticed',
    hazards: [14],
    edits: [
      {
        file: 'src/host/ticker.ts',
        find: 'if (latenessMs < electionMs && stalledMs < electionMs) return;',
        replace: 'if (stalledMs < electionMs) return;',
      },
    ],
    says: 'A leader whose process stood still for longer than an election goes on as if nothing had been.',
    tests: ['test/host/leadership.test.ts'],
    simulator: { blind: 'a leader that stood still confirms its reads by a round all the same' },
  },
  {
    id: 'pause-campaigns-first',
    hazards: [14],
    edits: [
      {
        file: 'src/host/ticker.ts',
        find: 'clock.defer(() => clock.defer(() => beat(latenessMs)));',
        replace: 'beat(latenessMs);',
      },
    ],
    says: 'After a pause the tick counts before the messages that wait in the sockets are read.',
    tests: ['test/host/leadership.test.ts'],
    simulator: { blind: 'an election too many is a disturbance, no broken rule' },
  },
  {
    id: 'answered-twice',
    hazards: [14, 34],
    edits: [
      {
        file: 'src/host/proposals.ts',
        find: 'if (examined > 0) pending.splice(0, examined, ...unfinished);',
        replace: 'if (examined > 1) pending.splice(0, examined, ...unfinished);',
      },
    ],
    says: 'A write that was answered stays in the list of those that wait, and is looked at again.',
    tests: ['test/host/limits.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'asking-hurries-elections',
    hazards: [15],
    edits: [
      {
        file: 'src/host/leadership.ts',
        find: 'partition.leaderWaits.push(waiting);',
        replace: 'partition.leaderWaits.push(waiting);\n  partition.raft.electionElapsed = 0;',
      },
    ],
    says: 'Every caller that asks for the leader puts the election off.',
    tests: ['test/hazards/process.test.ts', 'test/host/leadership.test.ts'],
    simulator: { blind: 'simulated callers do not wait for a leader in a loop' },
  },
  {
    id: 'leader-waits-unbounded',
    hazards: [15],
    edits: [
      {
        file: 'src/host/leadership.ts',
        find: 'if (partition.leaderWaits.length >= queuedEntriesMax) {',
        replace: 'if (partition.leaderWaits.length < 0) {',
      },
    ],
    says: 'Callers that wait for a leader pile up without a bound.',
    tests: ['test/host/leadership.test.ts'],
    simulator: { blind: 'simulated callers do not wait for a leader in a loop' },
  },
];
