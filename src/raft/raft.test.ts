// Rules of the switchboard that need a whole replica: what a late answer of the store or the state machine may still
// change, and who is told of a later term. Whole elections and replication are tested in test/paper.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { seededRandom } from '../base/random.ts';
import { type ConfChange, ConfChangeKind, encodeConfChange, Transition } from './conf-change.ts';
import {
  applyConfChange,
  campaign,
  checkInvariants,
  openRaft,
  raftStatus,
  step,
  takeReady,
} from './raft.ts';
import { priorityMax, type RaftConfig, type RaftState } from './state.ts';
import {
  type AppendEntries,
  type Entry,
  EntryKind,
  emptyConfState,
  emptyHardState,
  type LogIndex,
  type Message,
  type PeerMessage,
  type Term,
} from './types.ts';

const three = { ...emptyConfState, voters: [1, 2, 3] };

/** Replica 3 of three voters, with asynchronous storage, after a snapshot at index 1. */
function openThird(options: Partial<RaftConfig> = {}): RaftState {
  return openRaft({
    id: 3,
    initial: {
      hardState: { ...emptyHardState, commitIndex: 1 },
      confState: three,
      compacted: { index: 1, term: 1 },
      ...{ lastIndex: 1, termRuns: [], appliedIndex: 1 },
    },
    storage: { entries: () => undefined, snapshot: () => undefined },
    random: seededRandom(3),
    ...{ electionTicks: 10, heartbeatTicks: 1, snapshotTicks: 100, pendingReadsMax: 10 },
    ...{ appendBytesMax: 1_000, applyingBytesMax: 10_000, uncommittedBytesMax: 10_000 },
    ...{ inflightMessagesMax: 10, inflightBytesMax: 10_000, clockDriftBound: 0 },
    ...{ asyncStorageWrites: true, checkQuorum: false, preVote: false, reads: 'safe' },
    ...{ confChangeValidation: true, stepDownOnRemoval: true, priority: priorityMax },
    trace: undefined,
    ...options,
  });
}

function entryAt(index: LogIndex, term: Term, bytes: Uint8Array = new Uint8Array(0)): Entry {
  const kind = bytes.byteLength === 0 ? EntryKind.normal : EntryKind.confChange;
  return { index, term, kind, bytes, start: 0, end: bytes.byteLength };
}

function appendOf(
  from: number,
  term: Term,
  previous: { readonly index: LogIndex; readonly term: Term },
  entries: readonly Entry[],
): AppendEntries {
  const { index: prevLogIndex, term: prevLogTerm } = previous;
  const positions = { prevLogIndex, prevLogTerm, entries, leaderCommit: 1 };
  return { type: 'appendEntries', from, to: 3, term, ...positions };
}

/** What one `Ready` asks of the store, and its local answer. */
function takeStoreAnswer(state: RaftState): Message | undefined {
  const { storageAppend } = takeReady(state);
  return storageAppend?.responses.find((response) => response.type === 'storageAppended');
}

describe('a late answer', () => {
  it('of the store, from an earlier term, says nothing about entries that look the same (ABA)', () => {
    const state = openThird();
    // A leader of term 2 writes entry 2; before the store answers, one of term 3 replaces it, and one of term 4, which
    // has the old entry, puts it back.
    step(state, appendOf(1, 2, { index: 1, term: 1 }, [entryAt(2, 2)]));
    const late = takeStoreAnswer(state);
    step(state, appendOf(2, 3, { index: 1, term: 1 }, [entryAt(2, 3)]));
    takeStoreAnswer(state);
    step(state, appendOf(1, 4, { index: 1, term: 1 }, [entryAt(2, 2)]));
    const young = takeStoreAnswer(state);
    assert.deepEqual(late, { ...late, type: 'storageAppended', last: { index: 2, term: 2 } });
    if (late !== undefined) step(state, late);
    assert.equal(state.log.stableIndex, 1);
    if (young !== undefined) step(state, young);
    assert.equal(state.log.stableIndex, 2);
    checkInvariants(state);
  });

  it('of the state machine does not change a configuration that came with a later snapshot', () => {
    const change: ConfChange = {
      transition: Transition.auto,
      changes: [{ kind: ConfChangeKind.remove, replica: 2 }],
      context: new Uint8Array(0),
    };
    const state = openThird();
    const removal = entryAt(2, 2, encodeConfChange(change));
    step(state, { ...appendOf(1, 2, { index: 1, term: 1 }, [removal]), leaderCommit: 2 });
    const stored = takeStoreAnswer(state);
    if (stored !== undefined) step(state, stored);
    const { storageApply } = takeReady(state);
    assert.deepEqual(storageApply?.entries, [removal]);
    // It is still being applied when a snapshot arrives that was taken after replica 2 had come back.
    const confState = { ...emptyConfState, voters: [1, 2, 3, 4] };
    const snapshot = { index: 9, term: 2, confState, data: new Uint8Array(0) };
    step(state, { type: 'installSnapshot', from: 1, to: 3, term: 2, snapshot });
    const installed = takeStoreAnswer(state);
    assert.deepEqual(applyConfChange(state, change, removal.index), confState);
    if (installed !== undefined) step(state, installed);
    assert.deepEqual(applyConfChange(state, change, removal.index), confState);
    if (storageApply !== undefined) step(state, storageApply.response);
    checkInvariants(state);
    assert.deepEqual(raftStatus(state).confState, confState);
    assert.equal(raftStatus(state).lastApplied, 9);
    assert.deepEqual(applyConfChange(state, change, 10).voters, [1, 3, 4]);
  });
});

describe('a sender of an earlier term', () => {
  const stale: readonly Message[] = [
    appendOf(1, 1, { index: 1, term: 1 }, []),
    { type: 'heartbeat', from: 1, to: 3, term: 1, leaderCommit: 0, readRound: undefined },
    {
      ...{ type: 'requestVote', from: 1, to: 3, term: 1, preVote: false },
      ...{ lastLogIndex: 9, lastLogTerm: 1, leadershipTransfer: false },
    },
  ];

  /** What replica 3, in term 2, answers. */
  function answersTo(message: Message, options: Partial<RaftConfig>): readonly PeerMessage[] {
    const state = openThird({ ...options, asyncStorageWrites: false });
    step(state, appendOf(2, 2, { index: 1, term: 1 }, []));
    takeReady(state);
    state.stepsOnAdvance = [];
    step(state, message);
    assert.equal(raftStatus(state).leader, 2);
    return takeReady(state).messages;
  }

  it('is told of the present term where a replica with a higher term is not heard otherwise', () => {
    for (const options of [{ checkQuorum: true }, { preVote: true }]) {
      for (const message of stale) {
        const [answer, ...others] = answersTo(message, options);
        assert.equal(answer?.to, 1);
        assert.equal(answer?.term, 2);
        assert.deepEqual(others, []);
      }
    }
  });

  it('is ignored where every campaign spreads its term', () => {
    for (const message of stale) assert.deepEqual(answersTo(message, {}), []);
  });

  it('hears a refusal of its pre-vote in any case', () => {
    for (const checkQuorum of [false, true]) {
      const preVote: Message = {
        ...{ type: 'requestVote', from: 1, to: 3, term: 1, preVote: true },
        ...{ lastLogIndex: 9, lastLogTerm: 1, leadershipTransfer: false },
      };
      const [answer] = answersTo(preVote, { checkQuorum });
      assert.ok(answer?.type === 'requestVoteResponse' && answer.rejected && answer.preVote);
      assert.equal(answer.term, 2);
    }
  });
});

describe('an answer of a stranger', () => {
  it('is refused: it is no vote and no acknowledgement', () => {
    const state = openThird({ asyncStorageWrites: false });
    campaign(state);
    const known = { lastLogIndex: 1, lastLogTerm: 1, commitIndex: 1, commitTerm: 1 };
    const answer = { type: 'requestVoteResponse', preVote: false, rejected: false } as const;
    const vote = { ...answer, ...known, to: 3 };
    for (const from of [7, 8, 9]) {
      assert.equal(step(state, { ...vote, from, term: 1 }), 'unknownPeer');
    }
    assert.equal(raftStatus(state).role, 'candidate');
    assert.equal(step(state, { ...vote, from: 1, term: 1 }), 'ok');
  });
});
