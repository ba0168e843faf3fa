// Evidence that is made by hand, so that the form of its file is a fixed text: a follower takes entries, and then a
// message that it cannot obey.

import type { EvidenceBundle } from '../../src/host/evidence.ts';
import type { CoreState } from '../../src/raft/core-state.ts';
import { emptyConfState } from '../../src/raft/types.ts';

/** A bundle that is made by hand: a follower that takes an entry and then a message that it cannot obey. */
export const evidenceSample: EvidenceBundle = {
  ...{ libraryVersion: '0.1.0', clusterId: 'f00d', nodeId: 'b', incarnation: 3, partitionId: 7 },
  replicaIds: { a: 1, b: 2 },
  takenAtMs: Date.UTC(2026, 0, 2),
  failure: {
    name: 'AssertionError',
    message: 'broken rule: only entries of the log are committed',
    stack: 'a stack',
  },
  record: {
    config: {
      ...{ id: 2, electionTicks: 10, heartbeatTicks: 1, snapshotTicks: 150, appendBytesMax: 1_000 },
      ...{ asyncStorageWrites: true, applyingBytesMax: 1_000, uncommittedBytesMax: 1_000 },
      ...{ inflightMessagesMax: 4, inflightBytesMax: 1_000, pendingReadsMax: 4, priority: 3 },
      ...{ checkQuorum: true, preVote: true, reads: 'safe', clockDriftBound: 0 },
      ...{ confChangeValidation: true, stepDownOnRemoval: true },
    },
    begin: stateAt({ lastIndex: 4, tail: [] }),
    cycles: [
      { times: 2, steps: [{ input: { kind: 'tick' } }] },
      {
        times: 1,
        steps: [
          { input: { kind: 'tick' } },
          {
            input: {
              kind: 'step',
              message: {
                ...{ type: 'appendEntries', from: 1, to: 2, term: 3, leaderCommit: 4 },
                ...{ prevLogIndex: 4, prevLogTerm: 2 },
                entries: [{ index: 5, term: 3, bytes: 20, count: 2 }],
              },
            },
          },
          {
            input: {
              kind: 'step',
              message: {
                ...{ type: 'heartbeat', from: 1, to: 2, term: 3, leaderCommit: 9 },
                readRound: undefined,
              },
            },
          },
        ],
      },
    ],
    end: stateAt({
      lastIndex: 6,
      tail: [{ index: 5, term: 3, bytes: 20, count: 2 }],
    }),
  },
};

function stateAt(options: {
  readonly lastIndex: number;
  readonly tail: CoreState['tail'];
}): CoreState {
  const { lastIndex, tail } = options;
  const progress = {
    state: 'probe',
    ...{ matchIndex: 0, nextIndex: 4, snapshotIndex: undefined, snapshotTicks: 0 },
    ...{ sentCommitIndex: 0, isRecentlyActive: false, isPaused: false, isLearner: false },
    inflights: [],
  } as const;
  return {
    ...{ currentTerm: 3, votedFor: 1, role: 'follower', leader: 1, confIndex: 0 },
    confState: { ...emptyConfState, voters: [1, 2] },
    ...{
      electionElapsed: 0,
      heartbeatElapsed: 0,
      randomizedElectionTicks: 12,
      voteEmbargoTicks: 0,
    },
    ...{
      transferee: undefined,
      transferElapsed: 0,
      pendingConfChangeIndex: 0,
      uncommittedBytes: 0,
    },
    log: {
      ...{ compactedIndex: 0, compactedTerm: 0, lastIndex, confChangeIndex: 0 },
      ...{ tailFirstIndex: 5, stableIndex: 4 },
      termRuns: [
        { firstIndex: 1, term: 2 },
        ...tail.map(({ index, term }) => ({ firstIndex: index, term })),
      ],
      ...{
        handedIndex: 4,
        pendingSnapshot: undefined,
        isPendingSnapshotHanded: false,
        commitIndex: 4,
      },
      ...{ applyingIndex: 4, appliedIndex: 4, applyingBytes: 0 },
      ...{ isApplyingPaused: false, isStoreAwaited: false },
    },
    progress: [
      [1, progress],
      [2, { ...progress, matchIndex: 3 }],
    ],
    votes: [],
    reads: {
      ...{ rounds: [], lastRound: 0, ackedRounds: [], waitingCount: 0, postponed: [] },
      ...{ leaderTicks: 0, leaseFromTick: undefined, leaseFloorRound: 0, isLeaseForfeited: false },
    },
    ...{ messages: [], readStates: [], stepsOnAdvance: [], tail },
    messagesAfterAppend: tail.map(({ index, count, term }) => ({
      ...{ type: 'appendEntriesResponse', from: 2, to: 1, term, index: index + count - 1 },
      ...{ rejected: false, hintIndex: 0, hintTerm: 0 },
    })),
    prevSoftState: { leader: 1, role: 'follower' },
    prevHardState: { term: 3, votedFor: 1, commitIndex: 4 },
  };
}
