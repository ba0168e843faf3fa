// What each kind of fault does. Those that last end by themselves; the end of a run ends them all. A fault that cannot
// happen now (nobody runs, nobody leads) does nothing.

import type { Random } from '../../base/random.ts';
import type { Timer } from '../../ports/clock.ts';
import type { NodeId } from '../../ports/transport.ts';
import type { PartitionId } from '../../ports/wal.ts';
import { type ReplicaId, Role } from '../../raft/types.ts';
import { syncMsHealthy } from './disk.ts';
import { newDurableView } from './durable-view.ts';
import type { PlannedFault } from './fault-plan.ts';
import { changeMembers } from './membership-faults.ts';
import { healthyLink, type LinkQuality, type LinkState } from './network.ts';
import { oneOf } from './options.ts';
import type { FaultKind } from './profiles.ts';
import { isExpendable, rotInTransfer, tryRot } from './rot.ts';
import {
  beginLater,
  checkTyped,
  endLife,
  type Life,
  type MomentListener,
  openLives,
  type Seat,
  seatOf,
  type World,
} from './world.ts';

/** Nodes lose power and come back, apart from the others: what they forget, they go on without. */
export function powerLossBehindSplit(
  world: World,
  random: Random,
  nodeIds: readonly NodeId[],
): void {
  separate(world, random, nodeIds);
  for (const nodeId of nodeIds) {
    const { life } = seatOf(world, nodeId);
    if (life === undefined) continue;
    endLife(world, life, 'power');
    beginLater(world, life.seat, random.below(50));
  }
}

/** Nothing passes between these nodes and the others for a while. */
function separate(world: World, random: Random, left: readonly NodeId[]): void {
  const right = world.settings.nodeIds.filter((nodeId) => !left.includes(nodeId));
  const pairs = left.flatMap((a) =>
    right.flatMap((b): [NodeId, NodeId][] => [
      [a, b],
      [b, a],
    ]),
  );
  disturbLinks(world, pairs, linkFault(random), someMs(world, random));
}

/** Brings a fault about, now. */
export function happen(world: World, fault: PlannedFault): void {
  world.log.note('fault', {}, { number: fault.number, kind: fault.kind });
  actions[fault.kind](world, fault.random);
}

const actions: Readonly<Record<FaultKind, (world: World, random: Random) => void>> = {
  crash(world, random) {
    const life = someLife(world, random);
    if (life === undefined) return;
    endLife(world, life, random.below(2) === 0 ? 'kill' : 'power');
    beginLater(world, life.seat, downMs(world, random));
  },

  crashInWrite(world, random) {
    const life = someLife(world, random);
    if (life === undefined) return;
    const phase = oneOf(random, ['beforeWrite', 'beforeSync', 'beforeAnswer'] as const);
    const kind = random.below(3) === 0 ? 'kill' : 'power';
    const pauseMs = downMs(world, random);
    life.seat.disk.crashInWrite(phase, () => {
      // Not within the call of the one who dies.
      world.time.defer(() => {
        if (life.seat.life !== life) return;
        world.log.note('dies-in-write', { nodeId: life.seat.nodeId }, { phase });
        if (phase === 'beforeWrite') world.coverage.crashBeforeWrite += 1;
        if (phase === 'beforeSync') world.coverage.crashBeforeSync += 1;
        if (phase === 'beforeAnswer') world.coverage.crashBeforeAnswer += 1;
        endLife(world, life, kind);
        beginLater(world, life.seat, world.isOver ? 0 : pauseMs);
      });
    });
  },

  restart(world, random) {
    const life = someLife(world, random);
    if (life?.node === undefined) return;
    const { node, seat } = life;
    const pauseMs = downMs(world, random);
    life.clock.input(() => {
      node.close().then(
        () => {
          if (seat.life !== life) return;
          endLife(world, life, 'kill');
          beginLater(world, seat, pauseMs);
        },
        (error: unknown) => {
          // The store did not close in time: its operator ends the process.
          world.log.note('close-failed', { nodeId: seat.nodeId }, { error: String(error) });
          if (seat.life !== life) return;
          endLife(world, life, 'kill');
          beginLater(world, seat, pauseMs);
        },
      );
    });
  },

  isolate(world, random) {
    const nodeId = oneOf(random, world.settings.nodeIds);
    const others = world.settings.nodeIds.filter((other) => other !== nodeId);
    const state = linkFault(random);
    const direction = oneOf(random, ['both', 'both', 'in', 'out'] as const);
    const reached = random.below(3) === 0 ? [oneOf(random, others)] : others;
    const pairs = reached.flatMap((other): [NodeId, NodeId][] => [
      ...(direction === 'in' ? [] : ([[nodeId, other]] as [NodeId, NodeId][])),
      ...(direction === 'out' ? [] : ([[other, nodeId]] as [NodeId, NodeId][])),
    ]);
    disturbLinks(world, pairs, state, someMs(world, random));
  },

  split(world, random) {
    separate(
      world,
      random,
      world.settings.nodeIds.filter(() => random.below(2) === 0),
    );
  },

  alternate(world, random) {
    const partitionId = somePartition(world, random);
    const rounds = 2 + random.below(4);
    const state = linkFault(random);
    alternate(world, { random, partitionId, rounds, state, cutOff: undefined });
  },

  slowLink(world, random) {
    const quality: LinkQuality = {
      ...healthyLink,
      delayMs: random.below(world.settings.electionMs),
      jitterMs: random.below(100),
      bytesPerMs: oneOf(random, [10, 100, 1_000]),
    };
    disturbQuality(world, random, quality);
  },

  noise(world, random) {
    const quality: LinkQuality = {
      ...healthyLink,
      loss: random.below(2_000),
      copies: random.below(2_000),
      overtaking: random.below(2_000),
      spikes: random.below(500),
      spikeMs: 3 * world.settings.electionMs,
      jitterMs: random.below(20),
    };
    disturbQuality(world, random, quality);
  },

  pause(world, random) {
    const life = someLife(world, random);
    if (life === undefined) return;
    life.clock.pause();
    world.time.setTimer(someMs(world, random), () => {
      world.touched.add(life);
      life.clock.resume();
    });
  },

  wallJump(world, random) {
    const life = someLife(world, random);
    if (life === undefined) return;
    const byMs =
      (random.below(2) === 0 ? -1 : 1) * random.below(oneOf(random, [1_000, 40_000, 100_000]));
    life.clock.jumpWall(byMs);
    world.coverage.clockJumped += 1;
  },

  slowDisk(world, random) {
    const { disk } = someSeat(world, random);
    disk.syncMsMax = 1 + random.below(4 * world.settings.electionMs);
    world.time.setTimer(someMs(world, random), () => {
      disk.syncMsMax = syncMsHealthy;
    });
  },

  fullDisk(world, random) {
    const { disk } = someSeat(world, random);
    if (disk.state === 'failing') return;
    disk.state = 'full';
    world.time.setTimer(someMs(world, random), () => {
      if (disk.state === 'full') disk.state = 'good';
    });
  },

  failedSync(world, random) {
    someSeat(world, random).disk.state = 'failing';
  },

  damage(world, random) {
    const seat = seatToLose(world, random);
    if (seat === undefined) return;
    if (seat.life !== undefined) endLife(world, seat.life, 'kill');
    if (seat.disk.tryDamage()) seat.expected = 'damaged';
    beginLater(world, seat, downMs(world, random));
  },

  wipe(world, random) {
    const seat = seatToLose(world, random);
    if (seat === undefined) return;
    if (seat.life !== undefined) endLife(world, seat.life, 'power');
    seat.disk.wipe();
    // Its operator may have kept what machines have there.
    if (random.below(2) === 0) seat.machineStores.clear();
    seat.durableBefore = { replicaId: seat.replicaId, view: seat.durable };
    seat.durable = newDurableView();
    seat.expected = 'wiped';
    beginLater(world, seat, downMs(world, random));
  },

  transfer(world, random) {
    const partitionId = somePartition(world, random);
    if (random.below(3) === 0) {
      transferToCatchingUp(world, partitionId, looksMax);
      return;
    }
    const life = leaderOrAny(world, random, partitionId);
    if (life === undefined) return;
    const behind = random.below(2) === 0 ? furthestBehind(world, life, partitionId) : undefined;
    transfer(world, life, { partitionId, to: behind ?? oneOf(random, world.settings.nodeIds) });
  },

  forgetLeader(world, random) {
    const life = someLife(world, random);
    if (life === undefined) return;
    const partitionId = somePartition(world, random);
    life.clock.input(() => {
      if (life.host?.state !== 'running') return;
      if (life.node?.leaderOf(partitionId) === undefined) return;
      life.node.forgetLeader(partitionId);
      world.coverage.leaderForgotten += 1;
    });
  },

  membership(world, random) {
    const partitionId = somePartition(world, random);
    const leader = leaderOf(world, partitionId);
    if (leader !== undefined) changeMembers(world, random, partitionId, leader);
  },

  checkpoint(world, random) {
    const partitionId = somePartition(world, random);
    const life = leaderOrAny(world, random, partitionId);
    const holder = random.below(2) === 0 ? someLife(world, random) : undefined;
    if (holder !== undefined) holdForAWhile(world, random, holder, partitionId);
    if (life !== undefined) askForCheckpoint(world, life, partitionId);
  },

  crashInMachine(world, random) {
    const work = oneOf(random, ['apply', 'restore', 'restore', 'snapshot'] as const);
    const stepsBefore = work === 'apply' ? random.below(20) : random.below(3);
    const kind = random.below(3) === 0 ? 'kill' : 'power';
    const pauseMs = downMs(world, random);
    const die = (life: Life): void => {
      // Not within the call of the one who dies.
      world.time.defer(() => {
        if (life.seat.life !== life) return;
        if (work === 'apply') world.coverage.crashInApply += 1;
        if (work === 'restore') world.coverage.crashInRestore += 1;
        if (work === 'snapshot') world.coverage.crashInSnapshot += 1;
        endLife(world, life, kind);
        beginLater(world, life.seat, world.isOver ? 0 : pauseMs);
      });
    };
    world.machineTroubles.push({ work, fate: 'dies', stepsBefore, die });
  },

  machineFault(world, random) {
    const work = oneOf(random, ['apply', 'restore', 'snapshot', 'appliedIndex'] as const);
    const stepsBefore = random.below(work === 'apply' ? 20 : 3);
    world.machineTroubles.push({ work, fate: 'fails', stepsBefore, die: () => {} });
  },

  blackout(world, random) {
    const { nodeIds } = world.settings;
    const away = oneOf(random, nodeIds);
    const others = nodeIds.filter((nodeId) => nodeId !== away);
    // Those that come back at once are a quorum only with the one that was away.
    const lateCount = Math.floor((nodeIds.length - 1) / 2);
    const first = random.below(others.length);
    const late = Array.from({ length: lateCount }, (_, i) => others[(first + i) % others.length]);
    const awayMs = someMs(world, random);
    const lateMs = someMs(world, random);
    const partitionId = somePartition(world, random);
    setAllLinks(world, away, 'cut');
    world.time.setTimer(awayMs / 2, () => {
      const leader = leaderOf(world, partitionId);
      if (!world.isOver && leader !== undefined) askForCheckpoint(world, leader, partitionId);
    });
    world.time.setTimer(awayMs, () => {
      setAllLinks(world, away, 'up');
      if (world.isOver) return;
      for (const seat of world.seats.values()) {
        if (seat.life === undefined) continue;
        endLife(world, seat.life, 'power');
        beginLater(world, seat, late.includes(seat.nodeId) ? lateMs : random.below(50));
      }
    });
  },

  rot(world, random) {
    const when = oneOf(random, ['sent', 'sent', 'down', 'any'] as const);
    if (when === 'sent') {
      rotInTransfer(world, looksMax);
      return;
    }
    const seat = seatToLose(world, random);
    if (seat === undefined) return;
    if (when === 'down' && seat.life !== undefined) {
      endLife(world, seat.life, 'kill');
      beginLater(world, seat, downMs(world, random));
    }
    tryRot(world, seat);
  },
};

function askForCheckpoint(world: World, life: Life, partitionId: PartitionId): void {
  life.clock.input(() => {
    life.node?.checkpoint(partitionId).catch((error: unknown) => checkTyped(world, error));
  });
}

/** Somebody reads a log: a part of it is held, later a smaller one, and then nothing. */
function holdForAWhile(world: World, random: Random, life: Life, partitionId: PartitionId): void {
  const forMs = someMs(world, random);
  const fraction = random.unit();
  const readCount = random.below(50);
  const attempt = (call: () => void): void => {
    if (life.clock.isDead) return;
    life.clock.input(() => {
      try {
        call();
      } catch (error) {
        checkTyped(world, error);
      }
    });
  };
  attempt(() => {
    const log = life.host?.partitions.get(partitionId)?.raft.log;
    if (life.node === undefined || log === undefined) return;
    const length = log.lastIndex - log.compactedIndex;
    const fromIndex = log.compactedIndex + 1 + Math.floor(fraction * length);
    const hold = life.node.retain(partitionId, fromIndex, 'a simulated reader');
    world.time.setTimer(forMs / 2, () => attempt(() => hold.moveTo(fromIndex + readCount)));
    world.time.setTimer(forMs, () => attempt(() => hold.release()));
  });
}

/** A process, also one that is opening. */
function someLife(world: World, random: Random): Life | undefined {
  const lives = [...world.seats.values()].flatMap(({ life }) => (life === undefined ? [] : [life]));
  if (lives.length === 0) return undefined;
  // Leaders are hit more often than others: most rules are about them.
  if (random.below(2) === 0) return oneOf(random, lives);
  return leaderOf(world, somePartition(world, random)) ?? oneOf(random, lives);
}

function someSeat(world: World, random: Random): Seat {
  return seatOf(world, oneOf(random, world.settings.nodeIds));
}

function somePartition(world: World, random: Random): PartitionId {
  return random.below(world.settings.partitions + 1);
}

/** The leader of the highest term. */
function leaderOf(world: World, partitionId: PartitionId): Life | undefined {
  let found: Life | undefined;
  let foundTerm = -1;
  for (const life of openLives(world)) {
    const raft = life.host?.partitions.get(partitionId)?.raft;
    if (raft?.role !== Role.leader || raft.currentTerm <= foundTerm) continue;
    found = life;
    foundTerm = raft.currentTerm;
  }
  return found;
}

function transfer(
  world: World,
  life: Life,
  { partitionId, to }: { readonly partitionId: PartitionId; readonly to: NodeId },
): void {
  life.clock.input(() => {
    life.node?.transferLeadership(partitionId, to).then(
      () => {
        world.coverage.transferDone += 1;
      },
      (error: unknown) => checkTyped(world, error),
    );
  });
}

/** How often a voter that gets a snapshot is looked for, and in which milliseconds. */
const looksMax = 200;
const lookMs = 10;

/** Hands leadership to the first voter that gets a snapshot, while it does. */
function transferToCatchingUp(world: World, partitionId: PartitionId, looksLeft: number): void {
  if (world.isOver || looksLeft === 0) return;
  const leader = leaderOf(world, partitionId);
  const raft = leader?.host?.partitions.get(partitionId)?.raft;
  const isCatchingUp = (id: ReplicaId): boolean => raft?.progress.get(id)?.state === 'snapshot';
  const id = raft?.confState.voters.find(isCatchingUp);
  const to = id === undefined ? undefined : world.safety.nodeIdOf(id);
  if (leader !== undefined && to !== undefined) {
    transfer(world, leader, { partitionId, to });
    return;
  }
  world.time.setTimer(lookMs, () => transferToCatchingUp(world, partitionId, looksLeft - 1));
}

/** The voter that has least of the leader's log: it must be brought up to date before it can take over. */
function furthestBehind(world: World, leader: Life, partitionId: PartitionId): NodeId | undefined {
  const raft = leader.host?.partitions.get(partitionId)?.raft;
  if (raft === undefined) return undefined;
  const matchOf = (id: ReplicaId): number => raft.progress.get(id)?.matchIndex ?? 0;
  const others = raft.confState.voters.filter((id) => id !== raft.id);
  const [first] = others.sort((a, b) => matchOf(a) - matchOf(b));
  return first === undefined ? undefined : world.safety.nodeIdOf(first);
}

function leaderOrAny(world: World, random: Random, partitionId: PartitionId): Life | undefined {
  const leader = random.below(3) > 0 ? leaderOf(world, partitionId) : undefined;
  return leader ?? someLife(world, random);
}

function downMs(world: World, random: Random): number {
  return random.below(oneOf(random, [20, 500, 4 * world.settings.electionMs]));
}

function someMs(world: World, random: Random): number {
  return 1 + random.below(oneOf(random, [1, 3, 8]) * world.settings.electionMs);
}

/** A node whose data may go: every partition can go on without it. */
function seatToLose(world: World, random: Random): Seat | undefined {
  const seat = someSeat(world, random);
  return isExpendable(world, seat) ? seat : undefined;
}

function linkFault(random: Random): LinkState {
  return oneOf(random, ['silent', 'cut'] as const);
}

function disturbLinks(
  world: World,
  pairs: readonly (readonly [NodeId, NodeId])[],
  state: LinkState,
  forMs: number,
): void {
  for (const [from, to] of pairs) world.network.setLink(from, to, state);
  world.time.setTimer(forMs, () => {
    for (const [from, to] of pairs) world.network.setLink(from, to, 'up');
  });
}

interface Alternation {
  readonly random: Random;
  readonly partitionId: PartitionId;
  readonly rounds: number;
  readonly state: LinkState;
  readonly cutOff: NodeId | undefined;
}

/**
 * Cuts the leader off until another one is elected, or nobody for too long; then it is the other one's turn, after its
 * grace, or as soon as it has brought an older term's entries to a quorum and nothing of its own (Figure 8).
 */
function alternate(world: World, alternation: Alternation): void {
  const { random, partitionId, rounds, cutOff, state } = alternation;
  const { electionMs } = world.settings;
  /** How long the next leader may work before it is cut off. */
  const graceMs = random.below(oneOf(random, [1, 1, 20, electionMs, electionMs]));
  const leader = leaderOf(world, partitionId)?.seat.nodeId;
  if (world.isOver || rounds === 0 || leader === undefined) {
    if (cutOff !== undefined) setAllLinks(world, cutOff, 'up');
    return;
  }
  setAllLinks(world, leader, state);
  if (cutOff !== undefined && cutOff !== leader) setAllLinks(world, cutOff, 'up');
  let timer: Timer | undefined;
  const goOn = (roundsLeft: number): void => {
    world.momentListeners.delete(listener);
    timer?.cancel();
    alternate(world, { ...alternation, rounds: roundsLeft, cutOff: leader });
  };
  const wait = (ms: number, roundsLeft: number): void => {
    timer?.cancel();
    timer = world.time.setTimer(ms, () => goOn(roundsLeft));
  };
  let next: NodeId | undefined;
  const listener: MomentListener = (moment, ofPartition, nodeId) => {
    if (ofPartition !== partitionId || nodeId === leader) return;
    if (moment === 'elected') {
      next = nodeId;
      // At once means before what the new leader sends can arrive anywhere.
      if (graceMs === 0) goOn(rounds - 1);
      else wait(graceMs, rounds - 1);
    } else if (nodeId === next) {
      goOn(rounds - 1);
    }
  };
  world.momentListeners.add(listener);
  wait(6 * electionMs, 0);
}

function setAllLinks(world: World, nodeId: NodeId, state: LinkState): void {
  for (const other of world.settings.nodeIds) {
    if (other === nodeId) continue;
    world.network.setLink(nodeId, other, state);
    world.network.setLink(other, nodeId, state);
  }
}

function disturbQuality(world: World, random: Random, quality: LinkQuality): void {
  const { nodeIds } = world.settings;
  const one = oneOf(random, nodeIds);
  const isOneOnly = random.below(2) === 0;
  const pairs = nodeIds.flatMap((from) =>
    nodeIds
      .filter((to) => from !== to && (!isOneOnly || from === one || to === one))
      .map((to) => [from, to] as const),
  );
  for (const [from, to] of pairs) world.network.setQuality(from, to, quality);
  world.time.setTimer(someMs(world, random), () => {
    for (const [from, to] of pairs) world.network.setQuality(from, to, world.baseQuality);
  });
}
