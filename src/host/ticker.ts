// The node's one timer. It drives the ticks of all partitions, sweeps deadlines, and watches three things that make a
// leader useless while it still sends heartbeats: an event loop that stands still, a disk that does not answer, and a
// disk that is full.

import type { Timer } from '../ports/clock.ts';
import { hasReady, stepDown, successors, tick, transferLeadership } from '../raft/raft.ts';
import { Role } from '../raft/types.ts';
import { proposeDueCheckpoints } from './checkpoints.ts';
import { remindOfGenesis } from './genesis.ts';
import { type Host, nowMs } from './host.ts';
import { expireLeaderWaits } from './leadership.ts';
import { expireMembershipWaits } from './membership.ts';
import type { Partition } from './partition.ts';
import { expireProposals } from './proposals.ts';
import { carryOutReadmissions } from './readmission.ts';
import { sweepReads } from './reads.ts';
import { guard, markDirty } from './ready-loop.ts';
import { tickSnapshotReceives } from './snapshot-receiving.ts';
import { tickSnapshotSends } from './snapshot-sending.ts';
import { tickSnapshotServes } from './snapshot-serving.ts';
import { flushLazyHardStates, isDiskFull, isQueueFull, retryWrite } from './storage-writer.ts';

/** Ticks between two writes of commit indexes that wait for a quiet moment. */
const lazyFlushTicks = 20;
/** Lateness, in ticks, from which on waiting input is taken before anybody counts the tick. */
const lateTicks = 2;

/** A stall of the disk, and whose leadership was reported as given away during it. */
interface DiskStall {
  /** When the write began that does not end, on the monotonic clock. */
  sinceMs: number | undefined;
  readonly reported: Set<Partition>;
  /** How often leadership was offered since the disk is full. */
  readonly offers: Map<Partition, number>;
}

/** Starts the timer; it runs until `host.stopTimer`. */
export function startTimer(host: Host): void {
  const { clock, tickMs } = host.settings;
  const stall: DiskStall = { sinceMs: undefined, reported: new Set(), offers: new Map() };
  let timer: Timer | undefined;
  let isStopped = false;
  const arm = (): void => {
    host.timerDueMs = nowMs(host) + tickMs;
    timer = clock.setTimer(tickMs, fire);
  };
  const fire = (): void => {
    const latenessMs = nowMs(host) - host.timerDueMs;
    host.timerLatenessMsMax = Math.max(host.timerLatenessMsMax, latenessMs);
    if (latenessMs < lateTicks * tickMs) {
      beat();
      return;
    }
    // What peers sent while this process stood still waits in its sockets. It is read first: two turns of the event
    // loop, so that a leader that is alive is heard before its time counts as over.
    host.observe({ level: 'warn', name: 'timer-late', fields: { latenessMs } });
    clock.defer(() => clock.defer(() => beat(latenessMs)));
  };
  const beat = (latenessMs = 0): void => {
    if (isStopped) return;
    tickAll(host, stall, latenessMs);
    if (!isStopped) arm();
  };
  host.stopTimer = () => {
    isStopped = true;
    timer?.cancel();
  };
  arm();
}

function tickAll(host: Host, stall: DiskStall, latenessMs: number): void {
  host.tickCount += 1;
  remindOfGenesis(host);
  retryWrite(host);
  if (host.state === 'running' || host.state === 'closing') {
    for (const partition of host.partitions.values()) tickPartition(host, partition);
    if (host.tickCount % host.settings.electionTicks === 0) {
      readmitAll(host);
      for (const { pages } of host.partitions.values()) pages.clearIfUnused();
    }
    tickSnapshotSends(host);
    tickSnapshotServes(host);
    tickSnapshotReceives(host);
    proposeDueCheckpoints(host);
    giveAwayIfUseless(host, stall, latenessMs);
    offerWhileFull(host, stall.offers);
    if (host.tickCount % lazyFlushTicks === 0) void flushLazyHardStates(host);
  }
  for (const partition of host.partitions.values()) {
    expireProposals(host, partition);
    sweepReads(host, partition);
    expireLeaderWaits(host, partition);
    expireMembershipWaits(host, partition);
  }
}

function tickPartition(host: Host, partition: Partition): void {
  // A campaign begins with a vote for oneself that is durable: whoever cannot store it waits with the campaign.
  const canVote = !isDiskFull(host) && !isQueueFull(host, partition);
  if (partition.raft.role !== Role.leader && !canVote) return;
  guard(host, partition, () => {
    tick(partition.raft);
    if (hasReady(partition.raft)) markDirty(host, partition);
  });
}

function readmitAll(host: Host): void {
  for (const partition of host.partitions.values()) {
    guard(host, partition, () => carryOutReadmissions(host, partition));
  }
}

/** Leadership needs progress, not pings (HAZARDS 14, 26). */
function giveAwayIfUseless(host: Host, stall: DiskStall, latenessMs: number): void {
  const { tickMs, electionTicks } = host.settings;
  const electionMs = tickMs * electionTicks;
  const { busySinceMs } = host.writer;
  const stalledMs = busySinceMs === undefined ? 0 : nowMs(host) - busySinceMs;
  if (latenessMs < electionMs && stalledMs < electionMs) return;
  if (stall.sinceMs !== busySinceMs) {
    stall.sinceMs = busySinceMs;
    stall.reported.clear();
  }
  for (const partition of host.partitions.values()) {
    if (partition.stopped !== undefined) continue;
    if (partition.raft.role !== Role.leader || isAlone(partition)) continue;
    const isLost = latenessMs >= electionMs || stalledMs >= 2 * electionMs;
    // The disk is looked at in every tick of its stall; a late timer is a stall of its own.
    if (latenessMs >= electionMs || !stall.reported.has(partition)) {
      stall.reported.add(partition);
      host.observe({
        level: 'warn',
        name: 'leadership-given-away',
        fields: { partitionId: partition.id, latenessMs, stalledMs },
      });
    }
    guard(host, partition, () => {
      const [successor] = successors(partition.raft);
      if (isLost || successor === undefined) stepDown(partition.raft);
      else if (partition.raft.transferee === undefined) {
        transferLeadership(partition.raft, successor);
      }
    });
    markDirty(host, partition);
  }
}

/**
 * A leader whose disk is full still serves reads, so it stays until somebody takes over. Who has room it does not know:
 * it asks one after the other, and whose disk is full as well does not answer.
 */
function offerWhileFull(host: Host, offers: Map<Partition, number>): void {
  const { tickMs, electionTicks } = host.settings;
  const { full } = host.writer;
  if (full === undefined) {
    offers.clear();
    return;
  }
  const fullMs = nowMs(host) - full.sinceMs;
  if (fullMs < tickMs * electionTicks) return;
  for (const partition of host.partitions.values()) {
    if (partition.stopped !== undefined || partition.raft.role !== Role.leader) continue;
    if (partition.raft.transferee !== undefined) continue;
    const candidates = successors(partition.raft);
    const offerCount = offers.get(partition) ?? 0;
    const successor = candidates[offerCount % candidates.length];
    if (successor === undefined) continue;
    if (offerCount === 0) {
      host.observe({
        level: 'warn',
        name: 'leadership-given-away',
        fields: { partitionId: partition.id, fullMs },
      });
    }
    offers.set(partition, offerCount + 1);
    guard(host, partition, () => transferLeadership(partition.raft, successor));
    markDirty(host, partition);
  }
}

/** A single voter has nobody to give leadership to: stepping down would only add an election to the pause. */
function isAlone({ raft }: Partition): boolean {
  const { voters, votersOutgoing } = raft.confState;
  return voters.length === 1 && votersOutgoing.length === 0;
}
