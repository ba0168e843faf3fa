// What a directive asks of one node, and what it shows of its state.

import { assert } from '../../src/base/assert.ts';
import { utf8Bytes } from '../../src/base/bytes.ts';
import type { SingleChange, Transition } from '../../src/raft/conf-change.ts';
import { isVoter } from '../../src/raft/membership.ts';
import {
  campaign,
  compactLog,
  forgetLeader,
  propose,
  proposeConfChange,
  raftStatus,
  reportUnreachable,
  tick,
  transferLeadership,
} from '../../src/raft/raft.ts';
import type { ProposeOutcome } from '../../src/raft/replication.ts';
import {
  EntryKind,
  type LogIndex,
  type Message,
  proposedEntry,
  type ReplicaId,
  Role,
} from '../../src/raft/types.ts';
import { DirectiveError } from './arguments.ts';
import { type Cluster, electionTicks, heartbeatTicks, nodeAt } from './cluster.ts';
import {
  describeEntry,
  describePicture,
  describeRole,
  formatOneMark,
  pictureOf,
} from './describe.ts';
import { describeProgressMap } from './describe-progress.ts';
import { print } from './output.ts';
import { compactStored } from './stored-log.ts';

export function campaignAt(cluster: Cluster, id: ReplicaId): void {
  campaign(nodeAt(cluster, id).state);
}

export function forgetLeaderAt(cluster: Cluster, id: ReplicaId): void {
  forgetLeader(nodeAt(cluster, id).state);
}

export function tickAt(cluster: Cluster, id: ReplicaId, timer: 'election' | 'heartbeat'): void {
  const { state } = nodeAt(cluster, id);
  const count = timer === 'election' ? electionTicks : heartbeatTicks;
  for (let i = 0; i < count; i++) tick(state);
}

export function transferLeadershipAt(cluster: Cluster, from: ReplicaId, to: ReplicaId): void {
  transferLeadership(nodeAt(cluster, from).state, to);
}

export function reportUnreachableAt(cluster: Cluster, id: ReplicaId, peer: ReplicaId): void {
  reportUnreachable(nodeAt(cluster, id).state, nodeAt(cluster, peer).id);
}

/** The only field of a core that a scenario sets: its timeout is drawn at random otherwise. */
export function setElectionTimeout(cluster: Cluster, id: ReplicaId, ticks: number): void {
  assert(ticks > 0, 'a timeout is positive');
  nodeAt(cluster, id).state.randomizedElectionTicks = ticks;
}

export function proposeAt(cluster: Cluster, id: ReplicaId, content: string): void {
  const entry = proposedEntry(EntryKind.normal, utf8Bytes(content));
  refuseDropped(propose(nodeAt(cluster, id).state, [entry]));
}

export function proposeChangeAt(
  cluster: Cluster,
  id: ReplicaId,
  change: {
    readonly changes: readonly SingleChange[];
    readonly transition: Transition;
    readonly isFormatOne: boolean;
  },
): void {
  const { changes, transition, isFormatOne } = change;
  const context = isFormatOne ? formatOneMark : new Uint8Array(0);
  const { state } = nodeAt(cluster, id);
  refuseDropped(proposeConfChange(state, { changes, transition, context }));
}

function refuseDropped(outcome: ProposeOutcome): void {
  if (outcome === 'dropped') throw new DirectiveError('raft proposal dropped');
}

export function compactAt(cluster: Cluster, id: ReplicaId, index: LogIndex): void {
  const { log, state } = nodeAt(cluster, id);
  compactStored(log, index);
  compactLog(state, index);
  showLog(cluster, id);
}

export function showLog(cluster: Cluster, id: ReplicaId): void {
  const { log } = nodeAt(cluster, id);
  if (log.entries.length > 0) {
    print(cluster.output, log.entries.map((entry) => `${describeEntry(entry)}\n`).join(''));
    return;
  }
  const { index } = log.compacted;
  print(cluster.output, `log is empty: first index=${index + 1}, last index=${index}`);
}

/** What a leader knows of its followers; other roles know nothing. */
export function showProgress(cluster: Cluster, id: ReplicaId): void {
  const { state } = nodeAt(cluster, id);
  if (raftStatus(state).role !== Role.leader) return;
  print(cluster.output, describeProgressMap(state.progress));
}

export function showStates(cluster: Cluster): void {
  for (const { id, state } of cluster.nodes) {
    const { role, term, leader, confState } = raftStatus(state);
    const votes = isVoter(confState, id) ? '(Voter)' : '(Non-Voter)';
    const line = `${id}: ${describeRole(role)} ${votes} Term:${term} Lead:${leader ?? 0}\n`;
    print(cluster.output, line);
  }
}

/** Puts a snapshot of `from`'s newest state on the network, as if its core had sent one. */
export function queueSnapshot(cluster: Cluster, from: ReplicaId, to: ReplicaId): void {
  const { state, machine } = nodeAt(cluster, from);
  const { term } = raftStatus(state);
  const message: Message = { type: 'installSnapshot', from, to, term, snapshot: machine };
  const picture = pictureOf(message);
  cluster.network.push({ to, isLocal: from === to, message, picture });
  print(cluster.output, describePicture(picture));
}
