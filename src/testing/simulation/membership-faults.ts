// Changes of the members in a simulated run, and how much may be lost for good: every partition always keeps a quorum
// of disks that are whole, whatever configuration it is in or on its way to.

import { isKommanderError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import type { MembershipChange } from '../../host/api.ts';
import type { NodeId } from '../../ports/transport.ts';
import type { PartitionId } from '../../ports/wal.ts';
import type { ConfState } from '../../raft/types.ts';
import { oneOf } from './options.ts';
import { ViolationError } from './violation.ts';
import { checkTyped, type Life, openLives, type Seat, type World } from './world.ts';

/** Fewer voters are not asked for: a partition of one loses its quorum with the first crash. */
const votersMin = 2;

/** Asks the leader for a random change. */
export function changeMembers(
  world: World,
  random: Random,
  partitionId: PartitionId,
  leader: Life,
): void {
  const raft = leader.host?.partitions.get(partitionId)?.raft;
  if (raft === undefined) return;
  const { nodeIds } = world.settings;
  const voters = namesOf(world, raft.confState.voters);
  const learners = namesOf(world, raft.confState.learners);
  const wanted = drawMembers(random, nodeIds, { voters, learners });
  const lost = lostSeats(world);
  const lostCount = wanted.voters.filter((nodeId) => lost.has(nodeId)).length;
  if (wanted.voters.length < votersMin) return;
  if (2 * (wanted.voters.length - lostCount) <= wanted.voters.length) return;
  const changes = differences(nodeIds, { voters, learners }, wanted);
  if (changes.length === 0) return;
  world.wantedVoters.push({ partitionId, voters: wanted.voters });
  const promotes = changes.some(
    ({ kind, nodeId }) => kind === 'addVoter' && learners.includes(nodeId),
  );
  const removesSelf = !wanted.voters.includes(leader.seat.nodeId);
  world.log.note('change-members', { nodeId: leader.seat.nodeId, partitionId }, { ...wanted });
  leader.clock.input(() => {
    leader.node?.changeMembership(partitionId, changes).then(
      (result) => {
        if (promotes) world.coverage.learnerPromoted += 1;
        if (removesSelf) world.coverage.leaderRemoved += 1;
        checkChanged(world, partitionId, { wanted, result });
        if (random.below(2) === 0) world.disturb(formerSide(nodeIds, voters, wanted.voters));
      },
      (error: unknown) => checkNotChanged(world, error, { partitionId, wanted, leader }),
    );
  });
}

/** The nodes without a bare majority of the new voters: often a majority of the former ones. */
function formerSide(
  nodeIds: readonly NodeId[],
  former: readonly NodeId[],
  voters: readonly NodeId[],
): readonly NodeId[] {
  const newcomersFirst = [...voters].sort(
    (a, b) => Number(former.includes(a)) - Number(former.includes(b)),
  );
  const majority = newcomersFirst.slice(0, Math.floor(voters.length / 2) + 1);
  return nodeIds.filter((nodeId) => !majority.includes(nodeId));
}

/** A change that was answered has made the members that were asked for. */
function checkChanged(
  world: World,
  partitionId: PartitionId,
  { wanted, result }: { readonly wanted: Members; readonly result: Members },
): void {
  const isSame = (a: readonly NodeId[], b: readonly NodeId[]): boolean => a.join() === b.join();
  if (isSame(wanted.voters, result.voters) && isSame(wanted.learners, result.learners)) return;
  if (isReadmitting(world)) return;
  world.violation ??= new ViolationError(
    'A change of the members that was answered has made the members that were asked for',
    `asked for ${textOf(wanted)}, got ${textOf(result)}`,
    partitionId,
  );
}

/** A change whose caller was told that nothing was changed has changed nothing. */
function checkNotChanged(
  world: World,
  error: unknown,
  change: { readonly partitionId: PartitionId; readonly wanted: Members; readonly leader: Life },
): void {
  const { partitionId, wanted, leader } = change;
  if (!isKommanderError(error)) {
    checkTyped(world, error);
    return;
  }
  const raft = leader.host?.partitions.get(partitionId)?.raft;
  if (error.mayHaveCommitted || leader.clock.isDead || raft === undefined) return;
  const { voters, votersOutgoing, learners } = raft.confState;
  const now = { voters: namesOf(world, voters), learners: namesOf(world, learners) };
  const isWanted = votersOutgoing.length === 0 && textOf(now) === textOf(wanted);
  // Somebody else may have asked for the same.
  const askedCount = world.wantedVoters.filter(
    (asked) => asked.partitionId === partitionId && asked.voters.join() === wanted.voters.join(),
  ).length;
  if (!isWanted || askedCount > 1 || isReadmitting(world)) return;
  world.violation ??= new ViolationError(
    'A change of the members whose caller was told that nothing was changed has changed nothing',
    `${error.code}, and the members are ${textOf(now)}`,
    partitionId,
  );
}

/** Leaders change members of their own accord: what an operator finds may not be what another one has just asked for. */
function isReadmitting(world: World): boolean {
  return [...world.seats.values()].some(({ expected }) => expected === 'readmission');
}

function textOf({ voters, learners }: Members): string {
  return `voters ${voters.join(' ')}, learners ${learners.join(' ') || 'none'}`;
}

interface Members {
  readonly voters: readonly NodeId[];
  readonly learners: readonly NodeId[];
}

function drawMembers(random: Random, nodeIds: readonly NodeId[], now: Members): Members {
  const voters = new Set(now.voters);
  const learners = new Set(now.learners);
  const isMember = (nodeId: NodeId): boolean => voters.has(nodeId) || learners.has(nodeId);
  // One change most of the time; several are one joint step.
  const count = oneOf(random, [1, 1, 2, 3]);
  for (let i = 0; i < count; i++) {
    const nodeId = oneOf(random, nodeIds);
    const wasMember = isMember(nodeId);
    voters.delete(nodeId);
    learners.delete(nodeId);
    switch (
      oneOf(
        random,
        wasMember ? (['voter', 'learner', 'none'] as const) : (['voter', 'learner'] as const),
      )
    ) {
      case 'voter':
        voters.add(nodeId);
        break;
      case 'learner':
        learners.add(nodeId);
        break;
      case 'none':
        break;
    }
  }
  return { voters: [...voters].sort(), learners: [...learners].sort() };
}

function differences(
  nodeIds: readonly NodeId[],
  now: Members,
  wanted: Members,
): MembershipChange[] {
  const placeIn = (members: Members, nodeId: NodeId): 'addVoter' | 'addLearner' | 'remove' => {
    if (members.voters.includes(nodeId)) return 'addVoter';
    return members.learners.includes(nodeId) ? 'addLearner' : 'remove';
  };
  return nodeIds
    .filter((nodeId) => placeIn(now, nodeId) !== placeIn(wanted, nodeId))
    .map((nodeId) => ({ kind: placeIn(wanted, nodeId), nodeId }));
}

/** Whether every partition can go on, in all configurations that it may be in, when the seat's data is gone. */
export function mayLose(world: World, seat: Seat): boolean {
  const lost = lostSeats(world);
  lost.add(seat.nodeId);
  return possibleVoters(world).every((voters) => {
    const left = voters.filter((nodeId) => !lost.has(nodeId)).length;
    return 2 * left > voters.length;
  });
}

/** Nodes whose data is gone, or will be found to be gone. */
function lostSeats(world: World): Set<NodeId> {
  const lost = new Set<NodeId>();
  for (const { nodeId, isLost, expected, disk } of world.seats.values()) {
    if (isLost || expected !== undefined || disk.rotten().length > 0) lost.add(nodeId);
  }
  return lost;
}

/** Voters of every configuration that a replica is in, or that was asked for in this run. */
function possibleVoters(world: World): (readonly NodeId[])[] {
  const found: (readonly NodeId[])[] = [world.settings.nodeIds];
  for (const { host } of openLives(world)) {
    for (const { raft } of host?.partitions.values() ?? []) {
      found.push(...halvesOf(raft.confState).map((half) => namesOf(world, half)));
    }
  }
  for (const { voters } of world.wantedVoters) found.push(voters);
  return found;
}

function halvesOf({ voters, votersOutgoing }: ConfState): (readonly number[])[] {
  return votersOutgoing.length === 0 ? [voters] : [voters, votersOutgoing];
}

function namesOf(world: World, replicas: readonly number[]): NodeId[] {
  // A former number and its successor are one node.
  const names = replicas.map((replica) => world.safety.nodeIdOf(replica) ?? String(replica));
  return [...new Set(names)].sort();
}
