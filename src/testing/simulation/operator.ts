// The operator of a simulated cluster: a node that is refused because its disk was emptied is readmitted after a while,
// or given up. Whoever is asked may crash, stand still or be cut off meanwhile; the operator asks again until it is done.

import { isFormerOf } from '../../cluster/system-state.ts';
import type { PartitionId } from '../../ports/wal.ts';
import { isJoint, isMember, membersOf } from '../../raft/membership.ts';
import { Role } from '../../raft/types.ts';
import { oneOf, streamOf } from './options.ts';
import { ViolationError } from './violation.ts';
import { checkTyped, type Life, loseSeat, openLives, type Seat, type World } from './world.ts';

/** Milliseconds between two looks at what became of a readmission. */
const lookMs = 100;
/** Of so many emptied nodes one is given up. */
const givenUpOneIn = 4;

/** A node says that its disk was emptied. */
export function noteRefused(world: World, { seat, number }: Life): void {
  if (seat.expected === 'readmission') return;
  if (seat.expected !== 'wiped') {
    throw new ViolationError(
      'A node is refused only when its disk was emptied',
      `${seat.nodeId} was refused`,
      undefined,
    );
  }
  world.coverage.wipedRefused += 1;
  const random = streamOf(world.settings.seed, `operator ${seat.nodeId} ${number}`);
  if (random.below(givenUpOneIn) === 0) {
    loseSeat(world, seat);
    return;
  }
  seat.expected = 'readmission';
  const look = (): void => {
    if (world.violation !== undefined || seat.expected !== 'readmission') return;
    if (isReadmitted(world, seat)) {
      seat.expected = undefined;
      world.coverage.readmitted += 1;
      world.log.note('readmitted', { nodeId: seat.nodeId }, {});
      return;
    }
    const lives = openLives(world);
    if (lives.length > 0) ask(world, seat, oneOf(random, lives));
    world.time.setTimer(lookMs, look);
  };
  world.time.setTimer(random.below(oneOf(random, [10, 1_000, 5_000])), look);
}

function ask(world: World, seat: Seat, asked: Life): void {
  if (seat.life?.host?.state !== 'refused') return;
  asked.clock.input(() => {
    asked.node?.readmit(seat.nodeId).catch((error: unknown) => checkTyped(world, error));
  });
}

/** It runs, and whoever decides in a partition knows of none of its former numbers. */
function isReadmitted(world: World, seat: Seat): boolean {
  if (seat.life?.host?.state !== 'running') return false;
  for (let partitionId = 0; partitionId <= world.settings.partitions; partitionId++) {
    if (
      !isReadmittedIn(world, seat.life.host.partitions.get(partitionId)?.raft.id ?? 0, partitionId)
    ) {
      return false;
    }
  }
  return true;
}

function isReadmittedIn(world: World, present: number, partitionId: PartitionId): boolean {
  const rafts = openLives(world).flatMap(
    ({ host }) => host?.partitions.get(partitionId)?.raft ?? [],
  );
  const leader = rafts.find(({ role }) => role === Role.leader);
  if (leader === undefined) return false;
  const members = rafts.filter(({ id }) => isMember(leader.confState, id));
  return members.every(
    ({ confState }) =>
      !isJoint(confState) && !membersOf(confState).some((id) => isFormerOf(present, id)),
  );
}
