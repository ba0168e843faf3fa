// What a core records of its inputs: every verb, every form of a message, no payload, within its bounds, and next to
// nothing while nothing happens. That it can be replayed is tested in `replay.test.ts`.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type ClusterOptions, newCluster, stateOf } from '../../test/support/core-cluster.ts';
import { must } from '../base/assert.ts';
import { type ConfChange, ConfChangeKind, encodeConfChange, Transition } from './conf-change.ts';
import { type CoreInput, perform } from './core-input.ts';
import { describeInput } from './describe.ts';
import { type EntryRun, type HollowMessage, hexOf } from './hollow.ts';
import * as raft from './raft.ts';
import type { Recording } from './recording.ts';
import { recordOf } from './recording-reader.ts';
import type { RaftState } from './state.ts';
import { EntryKind, emptyConfState, type Message, proposedEntry } from './types.ts';

const { propose, step, takeReady, tick } = raft;

/** Replica 1 of three, with asynchronous storage. */
function open(recordingBytesMax: number, options: Partial<ClusterOptions> = {}): RaftState {
  const cluster = newCluster({
    voters: [1, 2, 3],
    asyncStorageWrites: true,
    recordingBytesMax,
    ...options,
  });
  return stateOf(cluster, 1);
}

/** As `open`, and it leads term 2: entry 2 is its first. */
function openLeader(recordingBytesMax: number, options: Partial<ClusterOptions> = {}): RaftState {
  const state = open(recordingBytesMax, options);
  raft.campaign(state);
  const log = { lastLogIndex: 1, lastLogTerm: 1, commitIndex: 1, commitTerm: 1 };
  for (const from of [1, 2]) {
    const vote = { preVote: false, rejected: false, ...log };
    step(state, { type: 'requestVoteResponse', from, to: 1, term: 2, ...vote });
  }
  assert.equal(state.role, 'leader');
  takeReady(state);
  return state;
}

function recordingOf(state: RaftState): Recording {
  return must(state.recording, 'the core is recorded');
}

function inputsOf(state: RaftState): CoreInput[] {
  const { cycles } = must(recordOf(state), 'the core is recorded');
  return cycles.flatMap(({ steps }) => steps.map(({ input }) => input));
}

const change: ConfChange = {
  transition: Transition.auto,
  changes: [{ kind: ConfChangeKind.addLearner, replica: 4 }],
  context: Uint8Array.of(1, 2, 255),
};
const confChange = hexOf(encodeConfChange(change));
const changeRun = { bytes: confChange.length / 2, count: 1, confChange };

const peer = { from: 2, to: 1, term: 2 } as const;
const snapshot = { index: 9, term: 2, confState: { ...emptyConfState, voters: [1, 2, 3] } };
const refusal = { index: 5, rejected: true, hintIndex: 3, hintTerm: 1 };
const prev = { prevLogIndex: 1, prevLogTerm: 1, leaderCommit: 1 };

/** Messages in every form that is written differently. */
const messages: Readonly<Record<Message['type'], readonly HollowMessage[]>> = {
  appendEntries: [
    appendOf([]),
    appendOf([{ index: 2, term: 2, bytes: 3, count: 4 }]),
    { ...appendOf([{ index: 3, term: 2, bytes: 3, count: 2 }]), prevLogIndex: 2, prevLogTerm: 2 },
    ...[
      { index: 3, term: 1, bytes: 3, count: 2 },
      { index: 4, term: 2, bytes: 3, count: 2 },
      { index: 3, term: 2, ...changeRun },
    ].map((run) => ({ ...appendOf([run]), prevLogIndex: 2, prevLogTerm: 2 })),
    // Sizes, terms and kinds that change in between.
    appendOf([
      { index: 2, term: 1, bytes: 3, count: 2 },
      { index: 4, term: 2, bytes: 0, count: 1 },
      { index: 5, term: 2, ...changeRun },
      { index: 6, term: 2, bytes: 3, count: 1 },
    ]),
    // What no leader sends: a hole, and a term that moves back.
    appendOf([
      { index: 2, term: 2, bytes: 1, count: 1 },
      { index: 4, term: 2, bytes: 1, count: 1 },
    ]),
    appendOf([
      { index: 2, term: 2, bytes: 1, count: 1 },
      { index: 3, term: 1, bytes: 1, count: 1 },
    ]),
    { ...appendOf([]), leaderCommit: 2 ** 40 },
    { ...appendOf([]), prevLogTerm: 2 ** 40 },
    { ...appendOf([]), to: 3 },
  ],
  appendEntriesResponse: [
    {
      type: 'appendEntriesResponse',
      ...peer,
      index: 7,
      rejected: false,
      hintIndex: 0,
      hintTerm: 0,
    },
    { type: 'appendEntriesResponse', ...peer, ...refusal },
    { type: 'appendEntriesResponse', ...peer, ...refusal, rejected: false },
    { type: 'appendEntriesResponse', ...peer, ...refusal, from: 2 ** 30, index: 2 ** 50 },
  ],
  requestVote: [
    {
      type: 'requestVote',
      ...{ ...peer, preVote: true, lastLogIndex: 4, lastLogTerm: 2, leadershipTransfer: false },
    },
  ],
  requestVoteResponse: [
    {
      type: 'requestVoteResponse',
      ...{ ...peer, preVote: false, rejected: true, lastLogIndex: 4, lastLogTerm: 2 },
      ...{ commitIndex: 1, commitTerm: 1 },
    },
  ],
  heartbeat: [
    { type: 'heartbeat', ...peer, leaderCommit: 1, readRound: undefined },
    { type: 'heartbeat', ...peer, leaderCommit: 1, readRound: 0 },
    { type: 'heartbeat', ...peer, leaderCommit: 0, readRound: 2 ** 50, term: 2 ** 50 },
  ],
  heartbeatResponse: [
    { type: 'heartbeatResponse', ...peer, readRound: undefined },
    { type: 'heartbeatResponse', ...peer, readRound: 3 },
    { type: 'heartbeatResponse', ...peer, to: 2, readRound: 2 ** 50 },
  ],
  installSnapshot: [{ type: 'installSnapshot', ...peer, snapshot }],
  timeoutNow: [{ type: 'timeoutNow', ...peer }],
  transferLeadership: [{ type: 'transferLeadership', ...peer, transferee: 3 }],
  readIndex: [{ type: 'readIndex', ...peer, context: 2 ** 51 }],
  readIndexResponse: [{ type: 'readIndexResponse', ...peer, context: 5, index: 6 }],
  storageAppended: [
    { type: 'storageAppended', term: 2, last: { index: 2, term: 2 }, snapshotIndex: undefined },
    { type: 'storageAppended', term: 2, last: { index: 2, term: 1 }, snapshotIndex: undefined },
    { type: 'storageAppended', term: 2, last: undefined, snapshotIndex: 9 },
  ],
  storageApplied: [
    { type: 'storageApplied', index: 1, bytes: 16 },
    { type: 'storageApplied', index: 1, bytes: 2 ** 40 },
  ],
};

function appendOf(
  entries: readonly EntryRun[],
): Extract<HollowMessage, { readonly type: 'appendEntries' }> {
  return { type: 'appendEntries', ...peer, ...prev, entries };
}

/** Every kind of input, in every form. */
const examples: Readonly<Record<CoreInput['kind'], readonly CoreInput[]>> = {
  tick: [{ kind: 'tick' }],
  takeReady: [{ kind: 'takeReady' }],
  advance: [{ kind: 'advance' }],
  campaign: [{ kind: 'campaign' }],
  propose: [
    { kind: 'propose', entries: [] },
    { kind: 'propose', entries: [{ bytes: 7, count: 3 }] },
    { kind: 'propose', entries: [{ bytes: 7, count: 1 }, changeRun, { bytes: 0, count: 2 }] },
  ],
  proposeConfChange: [{ kind: 'proposeConfChange', confChange }],
  step: Object.values(messages).flatMap((forms) =>
    forms.map((message) => ({ kind: 'step', message }) as const),
  ),
  applyConfChange: [{ kind: 'applyConfChange', confChange, index: 2 }],
  transferLeadership: [{ kind: 'transferLeadership', transferee: 2 }],
  forgetLeader: [{ kind: 'forgetLeader' }],
  stepDown: [{ kind: 'stepDown' }],
  restartElectionTimer: [{ kind: 'restartElectionTimer' }],
  readIndex: [{ kind: 'readIndex', context: 2 ** 51 }],
  expireLease: [{ kind: 'expireLease' }],
  reportUnreachable: [{ kind: 'reportUnreachable', peer: 2 }],
  noteSnapshotProgress: [{ kind: 'noteSnapshotProgress', peer: 2 }],
  reportSnapshot: [{ kind: 'reportSnapshot', peer: 2, succeeded: false }],
  refuseSnapshot: [
    { kind: 'refuseSnapshot', message: { type: 'installSnapshot', ...peer, snapshot } },
  ],
  storageReady: [{ kind: 'storageReady' }],
  compactLog: [{ kind: 'compactLog', index: 1 }],
  trimLog: [{ kind: 'trimLog', index: 1 }],
};

/** Exports of the switchboard that change nothing, or make a new core. */
const noVerbs = [
  'openRaft',
  'hasReady',
  'raftStatus',
  'checkInvariants',
  'successors',
  'confChangeRefusal',
];

describe('a core records its inputs', () => {
  it('every verb that the switchboard exports is an input that can be recorded', () => {
    const verbs = Object.keys(raft).filter((name) => !noVerbs.includes(name));
    assert.deepEqual(verbs.sort(), Object.keys(examples).sort());
  });

  for (const [kind, inputs] of Object.entries(examples)) {
    it(`${kind} is recorded as it came, once, also when it breaks a rule`, () => {
      for (const input of inputs) {
        for (const state of [open(10_000), openLeader(10_000)]) {
          const before = inputsOf(state);
          tryPerform(state, input);
          assert.deepEqual(plain(inputsOf(state)), plain([...before, input]), state.role);
        }
      }
    });
  }

  it('every input has words of its own', () => {
    const texts = Object.values(examples)
      .flat()
      .map((input) => describeInput(input, (id) => `r${id}`));
    for (const text of texts) assert.match(text, /^\S.*\S$/);
    assert.ok(new Set(texts).size > texts.length * 0.9, 'they differ');
  });
});

function tryPerform(state: RaftState, input: CoreInput): void {
  try {
    perform(state, input);
  } catch {
    // Most of what is impossible breaks a rule.
  }
}

function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

describe('a recording is bounded', () => {
  const bytesMax = 8_000;
  const wordsMax = bytesMax / 4;

  it('in words: a segment begins when the one before is full, and two are kept', () => {
    const state = openLeader(bytesMax);
    const recording = recordingOf(state);
    const begins = new Set<unknown>();
    for (let i = 0; i < 10_000; i++) {
      step(state, { type: 'heartbeatResponse', ...peer, readRound: i });
      takeReady(state);
      begins.add(recording.begin);
      assert.ok(recording.words.length + (recording.older?.words.length ?? 0) <= wordsMax + 200);
    }
    assert.ok(begins.size > 10, `${begins.size} segments`);
    const inputs = inputsOf(state);
    assert.ok(inputs.length > wordsMax / 2 / 3, 'a whole segment is there');
    assert.deepEqual(plain(inputs.at(-2)), {
      kind: 'step',
      message: { type: 'heartbeatResponse', ...peer, readRound: 9_999 },
    });
  });

  it('in objects, which weigh more', () => {
    const state = openLeader(bytesMax);
    const recording = recordingOf(state);
    for (let i = 0; i < 1_000; i++) {
      step(state, { type: 'appendEntriesResponse', ...peer, ...refusal });
      const count = recording.objects.length + (recording.older?.objects.length ?? 0);
      assert.ok(count <= bytesMax / 100, `${count} objects`);
    }
  });

  it('in repetitions, so that a replay has an end', () => {
    const state = open(bytesMax, { optionsOf: { 1: { priority: 0 } } });
    for (let i = 0; i < 1_100_000; i++) tick(state);
    assert.ok(recordingOf(state).older !== undefined);
    const { cycles } = must(recordOf(state), 'the core is recorded');
    const counts = cycles.map(({ times, steps }) => times * steps.length);
    assert.equal(
      counts.reduce((sum, count) => sum + count),
      1_100_000,
    );
    assert.ok(Math.max(...counts) <= 1_000_002);
  });

  it('by the entries in memory: while they are many, segments are long and copies rare', () => {
    const many = 100_000;
    const state = open(bytesMax);
    const entries = Array.from({ length: many }, (_, i) => ({
      ...{ index: 2 + i, term: 2, ...proposedEntry(EntryKind.normal) },
    }));
    step(state, { type: 'appendEntries', ...peer, ...prev, entries });
    const recording = recordingOf(state);
    const begins = new Set<unknown>();
    for (let i = 0; i < many; i++) {
      step(state, { type: 'heartbeat', ...peer, leaderCommit: 1, readRound: i });
      takeReady(state);
      begins.add(recording.begin);
      assert.ok(recording.words.length < wordsMax + many);
    }
    assert.ok(begins.size < 20, `${begins.size} copies`);
    assert.ok(begins.size > 2);
  });

  it('an entry of its own size and term takes two pairs of words at most', () => {
    const state = open(bytesMax);
    const entries = Array.from({ length: 2_000 }, (_, i) => ({ index: 2 + i, term: 2 + i }));
    step(state, {
      ...{ type: 'appendEntries', ...peer, term: 3_000, ...prev },
      entries: entries.map((position, size) => ({
        ...position,
        ...{ kind: EntryKind.normal, bytes: new Uint8Array(size), start: 0, end: size },
      })),
    });
    assert.ok(recordingOf(state).at < 2_000 * 4 + 100);
    const [input] = inputsOf(state);
    assert.ok(input?.kind === 'step' && input.message.type === 'appendEntries');
    assert.equal(input.message.entries.length, 2_000);
    assert.deepEqual(input.message.entries[1_999], {
      index: 2_001,
      term: 2_001,
      bytes: 1_999,
      count: 1,
    });
  });
});

describe('an idle replica records next to nothing', () => {
  const idleTicks = 5_000;

  it('as a leader whose followers answer', () => {
    const state = openLeader(100_000, { heartbeatTicks: 1 });
    for (let i = 0; i < idleTicks; i++) {
      tick(state);
      takeReady(state);
      for (const from of [2, 3]) {
        step(state, { type: 'heartbeatResponse', from, to: 1, term: 2, readRound: undefined });
      }
    }
    expectIdle(state, 4);
  });

  it('as a follower that hears its leader', () => {
    const state = open(100_000);
    for (let i = 0; i < idleTicks; i++) {
      tick(state);
      step(state, { type: 'heartbeat', ...peer, leaderCommit: 1, readRound: undefined });
      takeReady(state);
    }
    expectIdle(state, 3);
  });

  function expectIdle(state: RaftState, inputCount: number): void {
    const recording = recordingOf(state);
    assert.ok(recording.at < 64, `${recording.at} words`);
    assert.ok(recording.words.length <= 128);
    const { cycles } = must(recordOf(state), 'the core is recorded');
    const last = must(cycles.at(-2), 'the repetitions are one cycle');
    assert.equal(last.steps.length, inputCount);
    assert.ok(last.times > idleTicks - 10);
  }
});

describe('a recording keeps nothing of the application', () => {
  it('holds no bytes of payloads and snapshots', () => {
    const state = openLeader(1_000_000);
    const secret = new Uint8Array(5_000).fill(0x73);
    propose(state, [proposedEntry(EntryKind.normal, secret)]);
    takeReady(state);
    const follower = open(1_000_000);
    const entry = { index: 2, term: 2, ...proposedEntry(EntryKind.normal, secret) };
    const strange = { ...entry, index: 7 };
    for (const entries of [[entry], [entry, strange]]) {
      tryStep(follower, { type: 'appendEntries', ...peer, ...prev, entries });
    }
    tryStep(follower, {
      type: 'installSnapshot',
      ...peer,
      snapshot: { ...snapshot, data: secret },
    });
    for (const core of [state, follower]) {
      const { words: _words, ...rest } = recordingOf(core);
      assert.deepEqual(bytesIn(rest), []);
      assert.deepEqual(bytesIn(recordOf(core)), []);
    }
  });

  it('records nothing where it is not asked to', () => {
    const state = stateOf(newCluster({ voters: [1] }), 1);
    tick(state);
    assert.equal(state.recording, undefined);
    assert.equal(recordOf(state), undefined);
  });

  function tryStep(state: RaftState, message: Message): void {
    try {
      step(state, message);
    } catch {
      // What breaks a rule is recorded too.
    }
  }
});

/** Every byte array that can be reached from `value`. */
function bytesIn(value: unknown): ArrayBufferView[] {
  if (ArrayBuffer.isView(value)) return [value];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap(bytesIn);
}
