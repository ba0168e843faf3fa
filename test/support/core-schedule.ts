// One random schedule over a cluster of cores, drawn from a seed: what happens to messages, disks, processes and the
// membership. The safety rules are checked by the cluster at every step; here are the reads' rule and the end, when
// everything is healed and the group must go on.

import { assert, must } from '../../src/base/assert.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { type SingleChange, Transition } from '../../src/raft/conf-change.ts';
import { isJoint, isMember, isVoter } from '../../src/raft/membership.ts';
import {
  campaign,
  forgetLeader,
  readIndex,
  reportSnapshot,
  reportUnreachable,
  stepDown,
  transferLeadership,
} from '../../src/raft/raft.ts';
import { type LogIndex, type ReplicaId, Role } from '../../src/raft/types.ts';
import {
  addLearner,
  addVoter,
  type CoreCluster,
  compact,
  crash,
  deliver,
  heal,
  newCluster,
  partition,
  pass,
  proposeChange,
  proposeTexts,
  type Replica,
  remove,
  replicaOf,
  restart,
  settle,
  type TurnEnd,
  tickOne,
  trim,
  turn,
  upReplicas,
  warmUp,
  work,
  workApply,
  workDisk,
} from './core-cluster.ts';

export interface ScheduleOptions {
  readonly seed: number;
  readonly replicaCount: number;
  readonly asyncStorageWrites: boolean;
  /** Bytes for the recording of every core (default: none is made). */
  readonly recordingBytesMax?: number;
  /** Called after every step of the schedule, before everything is healed. */
  readonly afterStep?: (cluster: CoreCluster) => void;
}

export interface ScheduleResult {
  readonly committedCount: number;
  readonly termCount: number;
  readonly readCount: number;
}

interface Run {
  readonly cluster: CoreCluster;
  readonly random: Random;
  /** Clocks go equally fast, as lease reads demand: everybody ticks once before anybody ticks twice. */
  readonly isLockstep: boolean;
  readonly isAsync: boolean;
  readonly canChangeMembers: boolean;
  nextText: number;
  nextContext: number;
  /** What a read must see at least, by context. */
  readonly readFloors: Map<number, LogIndex>;
  readCount: number;
}

const stepCount = 3_000;
/** Replicas beside the first members, which changes of the membership bring in. */
const strangerCount = 2;
/** Ticks in which a healed group must have a leader and everybody everything. */
const recoveryTicksMax = 600;

export function randomRun(options: ScheduleOptions): ScheduleResult {
  const run = openRun(options);
  const weights = drawWeights(run.random);
  for (let i = 0; i < stepCount; i++) {
    must(menu[pick(run.random, weights)], 'a weight belongs to an action')[1](run);
    checkReads(run);
    options.afterStep?.(run.cluster);
  }
  recover(run);
  const { safety } = run.cluster;
  return {
    committedCount: safety.highestCommitIndex,
    termCount: safety.leaders.size,
    readCount: run.readCount,
  };
}

function openRun(options: ScheduleOptions): Run {
  const { seed, replicaCount, asyncStorageWrites, recordingBytesMax } = options;
  const random = seededRandom(seed);
  const reads = chance(random, 30) ? 'lease' : 'safe';
  const voters = Array.from({ length: replicaCount }, (_, i) => i + 1);
  const strangers = Array.from({ length: strangerCount }, (_, i) => replicaCount + 1 + i);
  const checkQuorum = reads === 'lease' || chance(random, 50);
  const preVote = chance(random, 50);
  const cluster = newCluster({
    voters,
    strangers,
    seed,
    asyncStorageWrites,
    reads,
    checkQuorum,
    preVote,
    stepDownOnRemoval: chance(random, 80),
    electionTicks: 5,
    heartbeatTicks: 1,
    snapshotTicks: 8,
    appendBytesMax: chance(random, 50) ? 40 : 1_000,
    applyingBytesMax: chance(random, 50) ? 40 : 1_000_000,
    uncommittedBytesMax: chance(random, 30) ? 60 : 1_000_000,
    inflightMessagesMax: chance(random, 50) ? 2 : 16,
    pendingReadsMax: 8,
    ...(recordingBytesMax === undefined ? {} : { recordingBytesMax }),
  });
  return {
    cluster,
    random,
    isLockstep: reads === 'lease',
    // Without both, a replica with old members and a high term may stay unheard (see `handleOlderTerm`).
    canChangeMembers: checkQuorum || preVote,
    isAsync: asyncStorageWrites,
    nextText: 1,
    nextContext: 1,
    readFloors: new Map(),
    readCount: 0,
  };
}

function chance(random: Random, percent: number): boolean {
  return random.below(100) < percent;
}

function oneOf<T>(random: Random, choices: readonly T[]): T {
  return must(choices[random.below(choices.length)], 'there is a choice');
}

/** The position of the drawn weight. */
function pick(random: Random, choices: readonly number[]): number {
  let rest = random.unit() * choices.reduce((sum, weight) => sum + weight, 0);
  const position = choices.findIndex((weight) => {
    rest -= weight;
    return rest < 0;
  });
  return Math.max(0, position);
}

/** What may happen, and how often in relation to the rest. */
const menu: readonly (readonly [number, (run: Run) => void])[] = [
  [14, deliverSome],
  [14, workSome],
  [10, everybodyWorks],
  [24, timePasses],
  [12, proposeSome],
  [3, loseMessage],
  [3, repeatMessage],
  [3, crashOrRestart],
  [3, cutOrHeal],
  [4, changeMembers],
  [3, transferSome],
  [3, compactSome],
  [3, trimSome],
  [2, coolOrWarm],
  [8, readSome],
  [2, reportSome],
  [4, campaignSome],
  [1, giveUpSome],
];

/**
 * Every schedule has its own temper: some things never happen in it and others often, because many faults hide each
 * other when all of them happen all the time.
 */
function drawWeights(random: Random): number[] {
  return menu.map(
    ([weight]) => weight * oneOf(random, [0.2, 1, 1, 4]) * (chance(random, 15) ? 0 : 1),
  );
}

function someReplica({ cluster, random }: Run): Replica | undefined {
  const up = upReplicas(cluster);
  return up.length === 0 ? undefined : oneOf(random, up);
}

function someLeader({ cluster, random }: Run): Replica | undefined {
  const leaders = upReplicas(cluster).filter(({ state }) => state.role === Role.leader);
  return leaders.length === 0 ? undefined : oneOf(random, leaders);
}

function deliverSome({ cluster, random }: Run): void {
  const count = 1 + random.below(12);
  for (let i = 0; i < count && cluster.network.length > 0; i++) {
    // Mostly in order; now and then something overtakes.
    const at = chance(random, 70) ? 0 : random.below(cluster.network.length);
    const [message] = cluster.network.splice(at, 1);
    deliver(cluster, must(message, 'there is a message'));
  }
}

function workSome(run: Run): void {
  const replica = someReplica(run);
  if (replica === undefined) return;
  const { cluster, random } = run;
  const step = oneOf(random, [turn, workDisk, workApply, work, work]);
  step(cluster, replica.id);
}

function everybodyWorks(run: Run): void {
  const { cluster } = run;
  for (const { id } of upReplicas(cluster)) work(cluster, id);
  const messages = cluster.network;
  cluster.network = [];
  for (const message of messages) deliver(cluster, message);
}

function timePasses(run: Run): void {
  const { cluster, random, isLockstep } = run;
  const up = upReplicas(cluster);
  const ticking = isLockstep ? up.toSorted(() => random.below(3) - 1) : [someReplica(run)];
  for (const replica of ticking) {
    if (replica === undefined) continue;
    tickOne(cluster, replica.id, isLockstep ? 1 : 1 + random.below(4));
    if (chance(random, 50)) work(cluster, replica.id);
    if (chance(random, 30)) deliverSome(run);
  }
}

function proposeSome(run: Run): void {
  const leader = someLeader(run);
  if (leader === undefined) return;
  const texts = Array.from({ length: 1 + run.random.below(3) }, () => `v${run.nextText++}`);
  proposeTexts(run.cluster, leader.id, ...texts);
}

function loseMessage({ cluster, random }: Run): void {
  if (cluster.network.length > 0) cluster.network.splice(random.below(cluster.network.length), 1);
}

function repeatMessage({ cluster, random }: Run): void {
  if (cluster.network.length > 0) cluster.network.push(oneOf(random, cluster.network));
}

function crashOrRestart(run: Run): void {
  const { cluster, random } = run;
  const down = [...cluster.replicas.values()].filter(({ isUp }) => !isUp);
  if (down.length > 0 && chance(random, 60)) {
    restart(cluster, oneOf(random, down).id);
    return;
  }
  const replica = someReplica(run);
  if (replica === undefined) return;
  // In the middle of a turn, in synchronous mode.
  const ends: readonly TurnEnd[] = ['taken', 'stored', 'sent'];
  if (!run.isAsync) turn(cluster, replica.id, oneOf(random, ends));
  crash(cluster, replica.id, random.below(replica.disk.unsynced.length + 1));
}

function cutOrHeal(run: Run): void {
  const { cluster, random } = run;
  if (chance(random, 50)) {
    heal(cluster);
    return;
  }
  const leader = someLeader(run);
  const ids = [...cluster.replicas.keys()].filter(() => chance(random, 40));
  const group = leader !== undefined && chance(random, 50) ? [leader.id] : ids;
  const onTheWay = cluster.network;
  partition(cluster, group);
  // What is on the way may still arrive, long after it was sent.
  if (chance(random, 50)) cluster.network = onTheWay;
}

function changeMembers(run: Run): void {
  const leader = someLeader(run);
  if (leader === undefined || !run.canChangeMembers) return;
  const { cluster, random } = run;
  if (isJoint(leader.state.confState) && chance(random, 60)) {
    proposeChange(cluster, leader.id, []);
    return;
  }
  const count = chance(random, 60) ? 1 : 1 + random.below(3);
  const changes: SingleChange[] = [];
  for (let i = 0; i < count; i++) {
    const id = 1 + random.below(cluster.replicas.size);
    changes.push(oneOf(random, [addVoter, addVoter, addLearner, remove])(id));
  }
  proposeChange(cluster, leader.id, changes, oneOf(random, Object.values(Transition)));
}

function transferSome(run: Run): void {
  const replica = someReplica(run);
  if (replica === undefined) return;
  transferTo(run, replica, 1 + run.random.below(run.cluster.replicas.size));
}

function transferTo({ cluster }: Run, replica: Replica, transferee: ReplicaId): void {
  transferLeadership(replica.state, transferee);
  work(cluster, replica.id);
}

function compactSome(run: Run): void {
  const replica = someReplica(run);
  if (replica === undefined) return;
  const { machine, state } = replica;
  const settled = Math.min(machine.index, state.log.appliedIndex, state.log.stableIndex);
  if (machine.index !== settled || settled <= state.log.compactedIndex) return;
  const room = settled - state.log.compactedIndex;
  compact(run.cluster, replica.id, settled - run.random.below(room));
}

function trimSome(run: Run): void {
  const replica = someReplica(run);
  if (replica !== undefined) trim(run.cluster, replica.id);
}

function coolOrWarm(run: Run): void {
  const replica = someReplica(run);
  if (replica === undefined) return;
  if (replica.isDiskCold) warmUp(run.cluster, replica.id);
  else replica.isDiskCold = true;
}

function readSome(run: Run): void {
  const replica = (chance(run.random, 60) ? someLeader(run) : undefined) ?? someReplica(run);
  if (replica === undefined) return;
  const context = run.nextContext++;
  run.readFloors.set(context, run.cluster.safety.highestCommitIndex);
  readIndex(replica.state, context);
}

function checkReads(run: Run): void {
  for (const { id, readStates } of run.cluster.replicas.values()) {
    for (const { context, index } of readStates.splice(0)) {
      const floor = must(run.readFloors.get(context), 'the question was asked');
      assert(index >= floor, `Linearizable reads: ${id} read at ${index}, committed was ${floor}`);
      run.readCount += 1;
    }
  }
}

function reportSome(run: Run): void {
  const leader = someLeader(run);
  if (leader === undefined) return;
  const { random, cluster } = run;
  const peer = 1 + random.below(cluster.replicas.size);
  if (chance(random, 50)) reportUnreachable(leader.state, peer);
  else reportSnapshot(leader.state, peer, chance(random, 50));
}

function campaignSome(run: Run): void {
  const replica = someReplica(run);
  if (replica !== undefined) campaign(replica.state);
}

function giveUpSome(run: Run): void {
  const replica = someReplica(run);
  if (replica === undefined) return;
  if (chance(run.random, 50)) forgetLeader(replica.state);
  else stepDown(replica.state);
}

/** Heals everything. @throws when the group does not go on in time */
function recover(run: Run): void {
  const { cluster } = run;
  heal(cluster);
  for (const { id, isUp } of cluster.replicas.values()) {
    if (!isUp) restart(cluster, id);
    warmUp(cluster, id);
  }
  const last = 'the last text';
  let isProposed = false;
  settle(cluster);
  for (let i = 0; i < recoveryTicksMax; i++) {
    pass(cluster, 1);
    checkReads(run);
    const leader = upReplicas(cluster).find(({ id }) => isSettledLeader(cluster, id));
    if (leader === undefined) continue;
    if (!isVoter(leader.state.confState, leader.id)) {
      // Where the option is off it is up to the application to let a removed leader go.
      stepDown(leader.state);
    } else if (isJoint(leader.state.confState)) {
      proposeChange(cluster, leader.id, []);
    } else if (!isProposed) {
      isProposed = proposeTexts(cluster, leader.id, last) === 'appended';
    } else if (hasEverywhere(leader, cluster, last)) {
      return;
    } else if (!leader.machine.texts.includes(last) && i % 50 === 0) {
      // A leader that was deposed meanwhile took it with it.
      isProposed = false;
    }
  }
  throw new Error(`Liveness: no progress within ${recoveryTicksMax} ticks after healing`);
}

function isSettledLeader(cluster: CoreCluster, id: ReplicaId): boolean {
  const { state } = replicaOf(cluster, id);
  if (state.role !== Role.leader) return false;
  // Replicas that were removed may go on campaigning in ever higher terms; nobody hears them.
  const members = upReplicas(cluster).filter((other) => isMember(state.confState, other.id));
  return members.every((other) => other.state.currentTerm <= state.currentTerm);
}

function hasEverywhere(leader: Replica, cluster: CoreCluster, text: string): boolean {
  const members = upReplicas(cluster).filter(({ id }) => isMember(leader.state.confState, id));
  return members.every(
    ({ machine }) => machine.index === leader.machine.index && machine.texts.includes(text),
  );
}
