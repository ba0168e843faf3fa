// A core's inputs and what it reports, in words: one line each, for people who read a replay. The words are those of
// the paper; a payload is its size.

import { unreachable } from '../base/assert.ts';
import { MalformedBytesError } from '../base/bytes.ts';
import {
  type ConfChange,
  ConfChangeKind,
  decodeConfChange,
  isLeaveJoint,
  Transition,
} from './conf-change.ts';
import type { CoreAnswer, CoreInput } from './core-input.ts';
import {
  bytesOf,
  type EntryRun,
  type HollowMessage,
  type HollowSnapshot,
  hollowMessage,
  type ProposedRun,
} from './hollow.ts';
import type { CoreChange, CoreFact } from './replay.ts';
import type { TraceEvent } from './trace.ts';
import type { ConfState, ReplicaId } from './types.ts';

/** How a replica is called. */
export type NameOf = (id: ReplicaId) => string;

export function describeInput(input: CoreInput, nameOf: NameOf): string {
  switch (input.kind) {
    case 'step':
      return `step ${describeMessage(input.message, nameOf, 'from')}`;
    case 'propose':
      return `propose ${describeRuns(input.entries, nameOf)}`;
    case 'proposeConfChange':
      return `proposeConfChange ${describeConfChange(input.confChange, nameOf)}`;
    case 'applyConfChange':
      return `applyConfChange at ${input.index}: ${describeConfChange(input.confChange, nameOf)}`;
    case 'transferLeadership':
      return `transferLeadership to ${nameOf(input.transferee)}`;
    case 'readIndex':
      return `readIndex, context ${input.context}`;
    case 'reportUnreachable':
    case 'noteSnapshotProgress':
      return `${input.kind} of ${nameOf(input.peer)}`;
    case 'reportSnapshot':
      return `reportSnapshot to ${nameOf(input.peer)}: ${input.succeeded ? 'sent' : 'not sent'}`;
    case 'refuseSnapshot':
      return `refuseSnapshot ${describeMessage(input.message, nameOf, 'from')}`;
    case 'compactLog':
    case 'trimLog':
      return `${input.kind} up to ${input.index}`;
    case 'tick':
    case 'takeReady':
    case 'advance':
    case 'campaign':
    case 'forgetLeader':
    case 'stepDown':
    case 'restartElectionTimer':
    case 'expireLease':
    case 'storageReady':
      return input.kind;
    default:
      return unreachable(input);
  }
}

export function describeAnswer(answer: CoreAnswer, nameOf: NameOf): string {
  switch (answer.kind) {
    case 'drawn':
      return `drew ${answer.value}`;
    case 'entries':
      return answer.entries === undefined
        ? 'the store has no entries at hand'
        : `the store gives ${describeRuns(answer.entries, nameOf)}`;
    case 'snapshot':
      return answer.snapshot === undefined
        ? 'there is no snapshot'
        : `there is a ${describeSnapshot(answer.snapshot)}`;
    default:
      return unreachable(answer);
  }
}

/** @returns undefined for what says no more than the input itself */
export function describeEvent(event: TraceEvent, nameOf: NameOf): string | undefined {
  switch (event.type) {
    case 'received':
      return undefined;
    case 'sent':
      return `sends ${describeMessage(hollowMessage(event.message), nameOf, 'to')}`;
    case 'ignored':
      return `ignores it: ${event.reason}`;
    case 'roleChanged':
      return `becomes ${event.role} of term ${event.term}`;
    case 'leaderChanged':
      return event.leader === undefined
        ? `knows no leader of term ${event.term}`
        : `follows ${nameOf(event.leader)} as leader of term ${event.term}`;
    case 'voteCast':
      return `votes for ${nameOf(event.candidate)} in term ${event.term}`;
    case 'committed':
      return `commits up to ${event.commitIndex}`;
    case 'proposalDropped':
      return `drops the proposal: ${event.reason}`;
    case 'confChangeRefused':
      return `refuses the configuration change: ${event.reason}`;
    case 'confChanged':
      return `has the configuration ${describeConfState(event.confState, nameOf)}`;
    case 'campaignSkipped':
      return `does not campaign: ${event.reason}`;
    case 'snapshotRestored':
      return `takes the snapshot of ${event.index}`;
    case 'snapshotIgnored':
      return `ignores the snapshot of ${event.index}: ${event.reason}`;
    case 'transferStarted':
      return `begins to hand leadership to ${nameOf(event.transferee)}`;
    case 'transferAborted':
      return `gives up handing leadership to ${nameOf(event.transferee)}`;
    case 'forgetLeaderRefused':
      return 'does not forget its leader: lease reads rely on it';
    default:
      return unreachable(event);
  }
}

export function describeChange({ name, before, after }: CoreChange, nameOf: NameOf): string {
  return `${name} ${describeFact(name, before, nameOf)} → ${describeFact(name, after, nameOf)}`;
}

export function describeFact(name: string, fact: CoreFact, nameOf: NameOf): string {
  if (fact === undefined) return 'nobody';
  const isReplica = name === 'leader' || name === 'votedFor';
  return isReplica && typeof fact === 'number' ? nameOf(fact) : String(fact);
}

function describeMessage(message: HollowMessage, nameOf: NameOf, end: 'from' | 'to'): string {
  if (message.type === 'storageAppended') {
    const { last, snapshotIndex } = message;
    const parts = [
      ...(last === undefined ? [] : [`up to ${last.index} (term ${last.term})`]),
      ...(snapshotIndex === undefined ? [] : [`the snapshot of ${snapshotIndex}`]),
    ];
    return `storageAppended of term ${message.term}: ${parts.join(', ')}`;
  }
  if (message.type === 'storageApplied') {
    return `storageApplied up to ${message.index}: ${message.bytes} bytes`;
  }
  const details = describeDetails(message, nameOf);
  const head = `${message.type} ${end} ${nameOf(message[end])}, term ${message.term}`;
  return details === '' ? head : `${head}: ${details}`;
}

function describeDetails(
  message: Exclude<HollowMessage, { readonly type: 'storageAppended' | 'storageApplied' }>,
  nameOf: NameOf,
): string {
  switch (message.type) {
    case 'appendEntries': {
      const { prevLogIndex, prevLogTerm, leaderCommit, entries } = message;
      const behind = `behind ${prevLogIndex} (term ${prevLogTerm})`;
      return `${describeRuns(entries, nameOf)} ${behind}, leaderCommit ${leaderCommit}`;
    }
    case 'appendEntriesResponse':
      return message.rejected
        ? `no match at ${message.index}, may match at ${message.hintIndex} (term ${message.hintTerm})`
        : `matches up to ${message.index}`;
    case 'requestVote': {
      const { preVote, lastLogIndex, lastLogTerm, leadershipTransfer } = message;
      const kind = `${preVote ? 'pre-vote, ' : ''}${leadershipTransfer ? 'transfer, ' : ''}`;
      return `${kind}log ends at ${lastLogIndex} (term ${lastLogTerm})`;
    }
    case 'requestVoteResponse': {
      const { preVote, rejected, lastLogIndex, lastLogTerm, commitIndex } = message;
      const vote = `${preVote ? 'pre-vote ' : ''}${rejected ? 'refused' : 'granted'}`;
      return `${vote}, log ends at ${lastLogIndex} (term ${lastLogTerm}), commitIndex ${commitIndex}`;
    }
    case 'heartbeat':
      return `leaderCommit ${message.leaderCommit}${describeRound(message.readRound)}`;
    case 'heartbeatResponse':
      return describeRound(message.readRound).replace(/^, /, '');
    case 'installSnapshot':
      return describeSnapshot(message.snapshot);
    case 'timeoutNow':
      return '';
    case 'transferLeadership':
      return `to ${nameOf(message.transferee)}`;
    case 'readIndex':
      return `context ${message.context}`;
    case 'readIndexResponse':
      return `context ${message.context}, index ${message.index}`;
    default:
      return unreachable(message);
  }
}

function describeRound(round: number | undefined): string {
  return round === undefined ? '' : `, read round ${round}`;
}

function describeSnapshot({ index, term }: HollowSnapshot): string {
  return `snapshot of ${index} (term ${term})`;
}

function describeRuns(runs: readonly (ProposedRun | EntryRun)[], nameOf: NameOf): string {
  let count = 0;
  let bytes = 0;
  const changes: string[] = [];
  for (const run of runs) {
    count += run.count;
    bytes += run.bytes * run.count;
    if (run.confChange !== undefined) changes.push(describeConfChange(run.confChange, nameOf));
  }
  if (count === 0) return 'no entries';
  const many = `${count} ${count === 1 ? 'entry' : 'entries'} of ${bytes} bytes`;
  return changes.length === 0 ? many : `${many} (${changes.join('; ')})`;
}

const changeWords: Readonly<Record<ConfChangeKind, string>> = {
  [ConfChangeKind.addVoter]: 'voter',
  [ConfChangeKind.addLearner]: 'learner',
  [ConfChangeKind.remove]: 'without',
  [ConfChangeKind.update]: 'update',
};

function describeConfChange(hex: string, nameOf: NameOf): string {
  let change: ConfChange;
  try {
    change = decodeConfChange(bytesOf(hex));
  } catch (error) {
    // What a peer sent may be anything.
    if (error instanceof MalformedBytesError) return `malformed change ${hex}`;
    throw error;
  }
  if (isLeaveJoint(change)) return 'leave the joint configuration';
  const changes = change.changes.map(
    ({ kind, replica }) => `${changeWords[kind]} ${nameOf(replica)}`,
  );
  const transitions = Object.entries(Transition).find(([, value]) => value === change.transition);
  return `${changes.join(', ')} (${transitions?.[0]})`;
}

function describeConfState(conf: ConfState, nameOf: NameOf): string {
  const part = (name: string, ids: readonly ReplicaId[]): string[] =>
    ids.length === 0 ? [] : [`${name} ${ids.map(nameOf).join(' ')}`];
  return [
    ...part('voters', conf.voters),
    ...part('outgoing', conf.votersOutgoing),
    ...part('learners', conf.learners),
    ...part('next learners', conf.learnersNext),
  ].join(', ');
}
