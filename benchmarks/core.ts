// How fast is the consensus core alone? Groups of three replicas wired in memory in one process: no disk, no network,
// no codec, one CPU core. Committed entries of 16 B per second and the time of one commit round, in batches of 100 and
// one by one, with both storage modes, with one group and with 1,000 groups in turn.
//
//   node benchmarks/core.ts [--seconds 1] [--json] [--check]
//
// Expected (one core of a small server): 400,000 to 500,000 entries/s one by one, 2.2 us of CPU for the eight messages and
// dozen Readys of a round; 10,000,000 to 12,000,000/s in batches of 100, whose round costs four times as much. With
// 1,000 groups half of that, for the processor's caches and the collector. Both storage modes about the same. Bars,
// which `--check` enforces for one group and synchronous storage: 1,000,000/s in batches, 250,000/s one by one.

import process from 'node:process';
import { parseArgs } from 'node:util';
import { assert } from '../src/base/assert.ts';
import { seededRandom } from '../src/base/random.ts';
import { recordingBytesFor } from '../src/host/evidence.ts';
import {
  advance,
  campaign,
  compactLog,
  hasReady,
  openRaft,
  propose,
  step,
  takeReady,
} from '../src/raft/raft.ts';
import { priorityMax, type RaftState } from '../src/raft/state.ts';
import {
  EntryKind,
  emptyConfState,
  emptyHardState,
  type PeerMessage,
  type ProposedEntry,
  type ReplicaId,
  Role,
} from '../src/raft/types.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
  },
});
const measureMs = Number(values.seconds) * 1_000;
const warmUpMs = Math.min(500, measureMs);
const payloadBytes = 16;
/** A log is compacted when this many of its entries are applied: it stays in memory as long as its host would keep it. */
const keptEntries = 256;

interface Shape {
  readonly entriesPerProposal: number;
  readonly asyncStorageWrites: boolean;
  readonly groupCount: number;
}

interface Result extends Shape {
  readonly entriesPerSecond: number;
  readonly roundMicros: number;
  readonly cpuMicrosPerEntry: number;
}

const bars: readonly { readonly entriesPerProposal: number; readonly entriesPerSecond: number }[] =
  [
    { entriesPerProposal: 100, entriesPerSecond: 1_000_000 },
    { entriesPerProposal: 1, entriesPerSecond: 250_000 },
  ];

/** Three replicas; the first one leads. */
interface Group {
  readonly replicas: readonly RaftState[];
  readonly inbox: PeerMessage[];
}

function openGroup({ asyncStorageWrites, groupCount }: Shape): Group {
  const confState = { ...emptyConfState, voters: [1, 2, 3] };
  const group: Group = {
    replicas: confState.voters.map((id) => openReplica(id, asyncStorageWrites)),
    inbox: [],
  };
  const [leader] = group.replicas;
  assert(leader !== undefined, 'a group has replicas');
  campaign(leader);
  drain(group);
  assert(leader.role === Role.leader, 'the first replica leads');
  return group;

  function openReplica(id: ReplicaId, isAsync: boolean): RaftState {
    return openRaft({
      id,
      initial: {
        hardState: { ...emptyHardState, term: 1, commitIndex: 1 },
        confState,
        compacted: { index: 1, term: 1 },
        ...{ lastIndex: 1, termRuns: [], appliedIndex: 1 },
      },
      // Nobody lags, so nothing is read back.
      storage: { entries: () => undefined, snapshot: () => undefined },
      random: seededRandom(id),
      ...{ electionTicks: 10, heartbeatTicks: 1, snapshotTicks: 100, pendingReadsMax: 1 },
      ...{ appendBytesMax: 1_048_576, applyingBytesMax: 4_194_304, uncommittedBytesMax: 4_194_304 },
      ...{ inflightMessagesMax: 256, inflightBytesMax: 16_777_216, clockDriftBound: 0 },
      ...{ asyncStorageWrites: isAsync, checkQuorum: true, preVote: true, reads: 'safe' },
      ...{ confChangeValidation: true, stepDownOnRemoval: true, priority: priorityMax },
      trace: undefined,
      // Every core records its last inputs, as in a node with so many partitions.
      recordingBytesMax: recordingBytesFor(groupCount),
    });
  }
}

/** Carries out everything that the replicas ask for, at once, until there is nothing left. */
function drain(group: Group): void {
  const { replicas, inbox } = group;
  for (let isBusy = true; isBusy; ) {
    isBusy = false;
    for (const replica of replicas) {
      while (hasReady(replica)) {
        isBusy = true;
        carryOut(group, replica);
      }
    }
    for (const message of inbox) step(replicas[message.to - 1] as RaftState, message);
    inbox.length = 0;
  }
}

function carryOut({ inbox }: Group, replica: RaftState): void {
  const { messages, storageAppend, storageApply } = takeReady(replica);
  for (const message of messages) inbox.push(message);
  if (!replica.config.asyncStorageWrites) return advance(replica);
  for (const response of storageAppend?.responses ?? []) {
    const isOwn =
      response.type === 'storageAppended' ||
      response.type === 'storageApplied' ||
      response.to === replica.id;
    if (isOwn) step(replica, response);
    else inbox.push(response);
  }
  if (storageApply !== undefined) step(replica, storageApply.response);
}

/** One proposal, from `propose` until it is committed and applied on the leader and known to the followers. */
function commitRound(group: Group, proposals: readonly ProposedEntry[]): void {
  const leader = group.replicas[0] as RaftState;
  const outcome = propose(leader, proposals);
  assert(outcome === 'appended', 'the leader takes proposals');
  drain(group);
  assert(leader.log.appliedIndex === leader.log.lastIndex, 'a round commits what it proposed');
  for (const replica of group.replicas) {
    const { appliedIndex, compactedIndex } = replica.log;
    if (appliedIndex - compactedIndex >= keptEntries) compactLog(replica, appliedIndex - 32);
  }
}

/** Entries that share one buffer, as a proposal's entries do. */
function proposalOf(count: number): readonly ProposedEntry[] {
  const bytes = new Uint8Array(count * payloadBytes);
  return Array.from({ length: count }, (_, at) => {
    const start = at * payloadBytes;
    return { kind: EntryKind.normal, bytes, start, end: start + payloadBytes };
  });
}

function measure(shape: Shape): Result {
  const groups = Array.from({ length: shape.groupCount }, () => openGroup(shape));
  const proposals = proposalOf(shape.entriesPerProposal);
  runFor(warmUpMs, groups, proposals);
  const cpuBefore = process.cpuUsage();
  const { roundCount, elapsedMs } = runFor(measureMs, groups, proposals);
  const cpu = process.cpuUsage(cpuBefore);
  const entryCount = roundCount * shape.entriesPerProposal;
  return {
    ...shape,
    entriesPerSecond: Math.round((entryCount * 1_000) / elapsedMs),
    roundMicros: rounded((elapsedMs * 1_000) / roundCount),
    cpuMicrosPerEntry: rounded((cpu.user + cpu.system) / entryCount),
  };
}

function runFor(
  durationMs: number,
  groups: readonly Group[],
  proposals: readonly ProposedEntry[],
): { readonly roundCount: number; readonly elapsedMs: number } {
  const roundsBetweenLooks = 100;
  const startMs = performance.now();
  let roundCount = 0;
  let elapsedMs = 0;
  while (elapsedMs < durationMs) {
    for (let i = 0; i < roundsBetweenLooks; i++) {
      commitRound(groups[roundCount % groups.length] as Group, proposals);
      roundCount += 1;
    }
    elapsedMs = performance.now() - startMs;
  }
  return { roundCount, elapsedMs };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

function* shapes(): Generator<Shape> {
  for (const groupCount of [1, 1_000]) {
    for (const asyncStorageWrites of [false, true]) {
      for (const entriesPerProposal of [100, 1]) {
        yield { entriesPerProposal, asyncStorageWrites, groupCount };
      }
    }
  }
}

function lineOf(result: Result): string {
  return [
    String(result.groupCount).padStart(6),
    (result.asyncStorageWrites ? 'asynchronous' : 'synchronous').padEnd(13),
    String(result.entriesPerProposal).padStart(8),
    result.entriesPerSecond.toLocaleString('en-US').padStart(12),
    result.roundMicros.toFixed(2).padStart(9),
    result.cpuMicrosPerEntry.toFixed(2).padStart(13),
  ].join('  ');
}

/** @returns what is below its bar, in words */
function belowBar(results: readonly Result[]): string[] {
  return bars.flatMap((bar) => {
    const result = results.find(
      ({ groupCount, asyncStorageWrites, entriesPerProposal }) =>
        groupCount === 1 && !asyncStorageWrites && entriesPerProposal === bar.entriesPerProposal,
    );
    assert(result !== undefined, 'every bar is measured');
    if (result.entriesPerSecond >= bar.entriesPerSecond) return [];
    const { entriesPerSecond, entriesPerProposal } = result;
    return [`${entriesPerSecond}/s with ${entriesPerProposal} entries a proposal`];
  });
}

if (!values.json) {
  console.log('groups  storage        entries/    entries/s   us/round  CPU us/entry');
  console.log('                       proposal');
}
const results: Result[] = [];
for (const shape of shapes()) {
  const result = measure(shape);
  results.push(result);
  if (!values.json) console.log(lineOf(result));
}
if (values.json) console.log(JSON.stringify({ benchmark: 'core', payloadBytes, results }));
const missed = values.check ? belowBar(results) : [];
for (const line of missed) console.error(`below the bar: ${line}`);
if (missed.length > 0) process.exitCode = 1;
