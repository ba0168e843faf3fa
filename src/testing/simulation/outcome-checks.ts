// What is checked when a run is over: what callers were told against what took effect, the history against the model,
// and that a healed cluster comes to rest: one leader per partition, equal replicas, new writes (liveness).

import { evidenceOf } from '../../host/evidence.ts';
import { replayEvidence } from '../../host/evidence-replay.ts';
import { decodePayload } from '../../host/payload.ts';
import { isSystemType } from '../../host/system-entries.ts';
import type { StateMachine } from '../../ports/state-machine.ts';
import type { PartitionId } from '../../ports/wal.ts';
import { isJoint, isMember } from '../../raft/membership.ts';
import type { RaftState } from '../../raft/state.ts';
import { type Entry, EntryKind, type ReplicaId, Role } from '../../raft/types.ts';
import { checkLinearizability } from '../linearizability/check.ts';
import type { SequentialModel } from '../linearizability/history.ts';
import { historyText } from '../linearizability/history-text.ts';
import { bytesOfSnapshot } from '../snapshot-bytes.ts';
import { type AppliedPlace, contentOf, lastPlace } from './applied-order.ts';
import {
  type Clients,
  checkAcknowledged,
  type SeenOperation,
  type UnknownWrite,
} from './clients.ts';
import { partitionRecord } from './safety.ts';
import { callUsers, ViolationError } from './violation.ts';
import { type Life, openLives, type World } from './world.ts';

/** Elections that a healed cluster may take, in election timeouts, and everything that follows from them. */
const recoveryElections = 60;
/** Milliseconds beside that: connections are noticed to be dead, and made again. */
const recoveryMs = 20_000;

/** Waits until the healed cluster is at rest. */
export async function recover(world: World): Promise<void> {
  const { time, settings } = world;
  const endMs = time.monotonicMs() + recoveryElections * settings.electionMs + recoveryMs;
  for (;;) {
    if (world.violation !== undefined) return;
    const unrest = firstUnrest(world);
    if (unrest === undefined) break;
    if (time.monotonicMs() >= endMs) {
      throw new ViolationError(
        'Liveness: a healed cluster has one leader per partition and equal replicas within a bound',
        `after ${Math.round(endMs)} ms ${unrest.what}`,
        unrest.partitionId,
      );
    }
    await time.run(settings.electionMs / 4);
  }
}

interface Unrest {
  readonly partitionId: PartitionId | undefined;
  readonly what: string;
}

/** What is not yet as it must become, or undefined. */
function firstUnrest(world: World): Unrest | undefined {
  for (const seat of world.seats.values()) {
    if (!seat.isLost && seat.life?.host?.state !== 'running') {
      return { partitionId: undefined, what: `node ${seat.nodeId} does not run` };
    }
    if (seat.expected === 'readmission') {
      return { partitionId: undefined, what: `node ${seat.nodeId} is not readmitted` };
    }
  }
  for (let partitionId = 0; partitionId <= world.settings.partitions; partitionId++) {
    const what = partitionUnrest(world, partitionId);
    if (what !== undefined) return { partitionId, what };
  }
  return undefined;
}

function partitionUnrest(world: World, partitionId: PartitionId): string | undefined {
  const replicas = replicasOf(world, partitionId);
  const leaders = replicas.filter(({ raft }) => raft.role === Role.leader);
  const [leader] = leaders;
  if (leader === undefined || leaders.length > 1) return `${leaders.length} replicas lead`;
  const { confState, log } = leader.raft;
  if (isJoint(confState)) return 'the configuration is joint';
  for (const { life, raft } of replicas) {
    if (!isMember(confState, raft.id)) continue;
    const { nodeId } = life.seat;
    const position = `${nodeId} is at ${raft.log.appliedIndex} of ${log.lastIndex}`;
    if (raft.leader !== leader.raft.id) return `${nodeId} does not know who leads`;
    if (raft.log.lastIndex !== log.lastIndex) return position;
    if (raft.log.appliedIndex !== log.lastIndex) return position;
    const partition = life.host?.partitions.get(partitionId);
    if (partition?.lastApplied !== log.lastIndex || partition.isApplying) return position;
  }
  return undefined;
}

function replicasOf(
  world: World,
  partitionId: PartitionId,
): { readonly life: Life; readonly raft: RaftState }[] {
  return openLives(world).flatMap((life) => {
    const raft = life.host?.partitions.get(partitionId)?.raft;
    return raft === undefined ? [] : [{ life, raft }];
  });
}

/** Members of a partition that run, by the leader's word. */
export function membersOfPartition(world: World, partitionId: PartitionId): Life[] {
  const replicas = replicasOf(world, partitionId);
  const leader = replicas.find(({ raft }) => raft.role === Role.leader)?.raft;
  if (leader === undefined) return [];
  return replicas.filter(({ raft }) => isMember(leader.confState, raft.id)).map(({ life }) => life);
}

/** Replicas that have the same have the same state. */
export async function checkEqualStates(world: World): Promise<void> {
  for (let partitionId = 1; partitionId <= world.settings.partitions; partitionId++) {
    let first: { readonly nodeId: string; readonly state: string } | undefined;
    const end = lastPlace(partitionRecord(world.safety, partitionId).order);
    for (const life of membersOfPartition(world, partitionId)) {
      const watched = life.machines.get(partitionId);
      checkPlace(life, (watched ?? life.logs.get(partitionId))?.place, { partitionId, end });
      const state = await stateText(watched?.inner);
      const { nodeId } = life.seat;
      if (state === undefined) break;
      first ??= { nodeId, state };
      if (first.state === state) continue;
      throw new ViolationError(
        'All replicas that have applied the same have the same state',
        `the snapshots of ${first.nodeId} and ${nodeId} differ:\n  ${first.state.slice(0, 400)}\n  ${state.slice(0, 400)}`,
        partitionId,
      );
    }
  }
}

/** A replica that has applied everything was given everything: judged by what its machine got, not by what it says. */
function checkPlace(
  life: Life,
  place: AppliedPlace | undefined,
  expected: { readonly partitionId: PartitionId; readonly end: AppliedPlace },
): void {
  const { partitionId, end } = expected;
  if (place?.index === end.index && place.chain === end.chain) return;
  throw new ViolationError(
    'A replica that says it has applied everything has given its state machine everything',
    `${life.seat.nodeId} ends with entry ${place?.index}, others with ${end.index}`,
    partitionId,
  );
}

/** Payload bytes that are read from a log in one piece. */
const logPieceBytes = 1_048_576;

/** The log that a member has stored has the entries that were given to everybody, where they were given. */
export async function checkStoredLog(
  world: World,
  life: Life,
  partitionId: PartitionId,
): Promise<void> {
  const log = life.host?.partitions.get(partitionId)?.raft.log;
  // Damage that nobody has come upon yet would be found here.
  if (life.host === undefined || log === undefined || life.seat.expected === 'damaged') return;
  const { entries } = partitionRecord(world.safety, partitionId).order;
  const endIndex = log.lastIndex + 1;
  for (let fromIndex = log.compactedIndex + 1; fromIndex < endIndex; ) {
    const range = { partitionId, fromIndex, endIndex, bytesMax: logPieceBytes };
    const stored = await life.host.wal.read(range);
    for (const entry of stored) {
      const given = entries.get(entry.index);
      if (given?.content === contentIn(entry) && (given?.term ?? entry.term) === entry.term)
        continue;
      throw new ViolationError(
        'What a member has stored of a log is what everybody was given',
        `entry ${entry.index} of ${life.seat.nodeId} is of term ${entry.term}, ${JSON.stringify(contentIn(entry))}; given was one of term ${given?.term}, ${JSON.stringify(given?.content)}`,
        partitionId,
      );
    }
    fromIndex += stored.length;
  }
}

/** Type and data; undefined for entries of the library's own. */
function contentIn(entry: Entry): string | undefined {
  const isOwn = entry.kind === EntryKind.confChange || entry.start === entry.end;
  if (isOwn || isSystemType(entry)) return undefined;
  const { type, data } = decodePayload(entry);
  return contentOf(type, data);
}

async function stateText(machine: StateMachine | undefined): Promise<string | undefined> {
  const source = await machine?.snapshot?.();
  if (source === undefined) return undefined;
  return Buffer.from(await bytesOfSnapshot(source)).toString('latin1');
}

/** What a replica has recorded of its last inputs leads a fresh core to where it stands; one replica is tried. */
export function checkRecording(world: World): void {
  const lives = openLives(world);
  const life = lives[world.settings.seed % Math.max(1, lives.length)];
  const partitions = [...(life?.host?.partitions.values() ?? [])];
  const partition = partitions[world.settings.seed % Math.max(1, partitions.length)];
  if (life?.host === undefined || partition === undefined) return;
  const { kind, differences } = replayEvidence(evidenceOf(life.host, partition), () => {});
  if (kind === 'clean' && differences.length === 0) return;
  throw new ViolationError(
    'The recorded inputs of a replica lead a fresh core to the same state',
    `those of ${life.seat.nodeId} do not: ${kind}, ${differences.join(', ')}`,
    partition.id,
  );
}

/** What callers were told against what took effect. */
export function checkOutcomes(world: World, clients: Clients, isUnique: boolean): void {
  for (const write of clients.acknowledged) checkAcknowledged(world, write);
  if (!isUnique) return;
  const counts = new Map<string, number>();
  for (const { partitionId, order } of world.safety.partitions.values()) {
    for (const [index, { content }] of order.entries) {
      const key = `${partitionId} ${content}`;
      const count = (counts.get(key) ?? 0) + 1;
      counts.set(key, count);
      if (count === 1) continue;
      throw new ViolationError(
        'A write takes effect at most once',
        `${JSON.stringify(content)} was applied again at entry ${index}`,
        partitionId,
      );
    }
  }
  for (const { partitionId, content, code } of clients.failed) {
    if (!counts.has(`${partitionId} ${content}`)) continue;
    throw new ViolationError(
      'A write whose caller was told that it had no effect has none',
      `${JSON.stringify(content)} failed with ${code} and was applied`,
      partitionId,
    );
  }
  for (const { partitionId, content } of clients.unknown) {
    if (counts.has(`${partitionId} ${content}`)) world.coverage.unknownTookEffect += 1;
  }
}

/** Milliseconds of real time for the comparison with the model. */
const checkMsMax = 20_000;

/** @returns whether the check came to an end */
export function checkHistory(
  world: World,
  clients: Clients,
  parts: { readonly model: SequentialModel<unknown, unknown, unknown>; readonly isUnique: boolean },
): boolean {
  const unknown = parts.isUnique ? knownBetter(world, clients) : clients.unknown.map(neverTold);
  const histories = Map.groupBy([...clients.history, ...unknown], (row) => row.partitionId);
  let isChecked = true;
  // Partitions are objects of their own: each must be linearizable, and then all together are.
  for (const [partitionId, history] of histories) {
    const result = callUsers('the model', () =>
      checkLinearizability(parts.model, history, { timeLimitMs: checkMsMax }),
    );
    if (result.verdict === 'unknown') isChecked = false;
    if (result.verdict !== 'illegal') continue;
    const where = result.key === undefined ? '' : ` on ${result.key}`;
    throw new ViolationError(
      'Linearizability: the operations look as if they had happened one by one, each while it was under way',
      `no order of the operations${where} explains what the clients saw\n${historyText(parts.model, history, { result })}`,
      partitionId,
    );
  }
  return isChecked;
}

function neverTold({ partitionId, client, input, calledAt }: UnknownWrite): SeenOperation {
  return { partitionId, client, input, output: undefined, calledAt, returnedAt: undefined };
}

/**
 * What the clients were not told, the run knows: a write that was never applied had no effect, and one that was took
 * effect before the first state machine had it. That is more than the clients may rely on, and makes the check quick.
 */
function knownBetter(world: World, clients: Clients): readonly SeenOperation[] {
  const applied = new Map<string, { readonly moment: number; readonly result: unknown }>();
  for (const { partitionId, order } of world.safety.partitions.values()) {
    for (const entry of order.entries.values()) {
      if (entry.isAnswered) applied.set(`${partitionId} ${entry.content}`, entry);
    }
  }
  let count = 0;
  return clients.unknown.flatMap(({ partitionId, content, input, output, calledAt }) => {
    const entry = applied.get(`${partitionId} ${content}`);
    if (entry === undefined) return [];
    count += 1;
    // A row of its own: the client went on without the answer.
    const client = `unknown ${count}`;
    const seen = callUsers('the output of a write', () => output(entry.result));
    return [{ partitionId, client, input, output: seen, calledAt, returnedAt: entry.moment }];
  });
}

/** Where the replicas of a partition stand, as text for reports. */
export function partitionSummary(world: World, partitionId: PartitionId): string {
  const record = partitionRecord(world.safety, partitionId);
  const nameOf = (id: ReplicaId): string => world.safety.nodeIdOf(id) ?? String(id);
  const replicas = replicasOf(world, partitionId).map(({ life, raft }) => {
    const { lastIndex, commitIndex, appliedIndex, compactedIndex } = raft.log;
    const { voters, votersOutgoing, learners } = raft.confState;
    const facts = [
      `${life.seat.nodeId} (life ${life.number})`,
      raft.role,
      `term ${raft.currentTerm}`,
      `leader ${raft.leader === undefined ? '-' : nameOf(raft.leader)}`,
      `log ${compactedIndex + 1}..${lastIndex}`,
      `committed ${commitIndex}`,
      `applied ${appliedIndex}`,
      `voters ${voters.map(nameOf).join(' ')}`,
      ...(votersOutgoing.length === 0 ? [] : [`and ${votersOutgoing.map(nameOf).join(' ')}`]),
      ...(learners.length === 0 ? [] : [`learners ${learners.map(nameOf).join(' ')}`]),
    ];
    return `  ${facts.join('  ')}`;
  });
  const heading = `partition ${partitionId}: committed up to ${record.highestCommit}`;
  return [heading, ...replicas].join('\n');
}
