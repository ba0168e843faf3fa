// Closing a node without leaving anybody in the dark: no new work, what was accepted is finished as far as it can be,
// leadership goes to others, and then everything is released. Callers that still wait are answered.

import { KommanderError } from '../base/errors.ts';
import type { Timer } from '../ports/clock.ts';
import { successors, transferLeadership } from '../raft/raft.ts';
import { Role } from '../raft/types.ts';
import { failCallers } from './failure.ts';
import { type Host, nowMs } from './host.ts';
import type { Partition } from './partition.ts';
import { guard, markDirty } from './ready-loop.ts';
import { endSnapshotReceives } from './snapshot-receiving.ts';
import { endSnapshotSends } from './snapshot-sending.ts';
import { endSnapshotServes } from './snapshot-serving.ts';
import { flushLazyHardStates, writerIdle } from './storage-writer.ts';

const pollMs = 5;
/** Milliseconds for each of: writes that were accepted before, state machines at work, the disk, the store's end. */
const drainMsMax = 2_000;

/** Idempotent: the second call waits for the first. */
export function closeHost(host: Host): Promise<void> {
  host.closing ??= close(host);
  return host.closing;
}

async function close(host: Host): Promise<void> {
  const partitions = [...host.partitions.values()];
  if (host.state !== 'failed') {
    host.state = 'closing';
    // First leadership: while this node leads, others keep passing writes on to it, and it would never be done.
    await handLeadershipOver(host, partitions);
    await until(
      host,
      drainMsMax,
      () => host.failure !== undefined || partitions.every((p) => p.outstandingEntries === 0),
    );
  }
  // Whoever closes a node closes next what its state machines work with.
  host.isDrained = true;
  await until(host, drainMsMax, () => !partitions.some((partition) => partition.isApplying));
  await within(host, endSnapshots(host));
  await within(host, writeTheRest(host));
  host.stopTimer();
  const closed = new KommanderError('the node was closed; a write may still commit elsewhere', {
    code: 'NODE_CLOSED',
    details: { nodeId: host.settings.nodeId },
  });
  for (const partition of partitions) failCallers(host, partition, closed);
  host.state = 'closed';
  // What a disk that hangs has not taken yet was promised to nobody.
  host.writer.queue = [];
  await release(host);
}

/** What is sent or received goes on after the next start; what is being written is given up. */
async function endSnapshots(host: Host): Promise<void> {
  endSnapshotSends(host);
  endSnapshotServes(host);
  const receiving = [...host.snapshotReceives].map(({ partition }) => partition.receiving);
  endSnapshotReceives(host);
  await Promise.allSettled([...host.snapshotWork, ...receiving]);
}

async function writeTheRest(host: Host): Promise<void> {
  await writerIdle(host);
  if (host.state === 'closing') await flushLazyHardStates(host);
}

/** Each of the three is released whatever becomes of the others. @throws the first failure */
async function release(host: Host): Promise<void> {
  const outcomes = await Promise.allSettled([
    closeOf(host.discovery),
    closeOf(host.transport),
    closeStore(host),
  ]);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

/** An exception of a foreign `close` becomes a rejection. */
async function closeOf(closable: { close(): Promise<void> }): Promise<void> {
  await closable.close();
}

async function closeStore(host: Host): Promise<void> {
  if (await within(host, closeOf(host.wal))) return;
  throw new KommanderError(
    `the store did not close within ${drainMsMax} ms: its disk does not answer; end the process to release it`,
    { code: 'WAL_FAILED', details: { timeoutMs: drainMsMax } },
  );
}

async function handLeadershipOver(host: Host, partitions: readonly Partition[]): Promise<void> {
  const { tickMs, electionTicks } = host.settings;
  const led = (): Partition[] =>
    partitions.filter(
      (partition) =>
        partition.stopped === undefined &&
        partition.raft.role === Role.leader &&
        isVoterReachable(host, partition),
    );
  await until(host, 2 * tickMs * electionTicks, () => {
    for (const partition of led()) {
      const [successor] = successors(partition.raft);
      if (successor === undefined || partition.raft.transferee !== undefined) continue;
      guard(host, partition, () => transferLeadership(partition.raft, successor));
      markDirty(host, partition);
    }
    return led().length === 0 || host.failure !== undefined;
  });
}

/** Whether anybody could take over. Who is a good successor shows with the next heartbeat answers. */
function isVoterReachable(host: Host, { raft }: Partition): boolean {
  return raft.confState.voters.some((id) => {
    const nodeId = host.nodeIds.get(id);
    return id !== raft.id && nodeId !== undefined && host.reachable.has(nodeId);
  });
}

/** Resolves when `isDone`, or after `timeoutMs`. */
async function until(host: Host, timeoutMs: number, isDone: () => boolean): Promise<void> {
  const deadlineMs = nowMs(host) + timeoutMs;
  while (!isDone() && nowMs(host) < deadlineMs) {
    await new Promise<void>((resolve) => {
      host.settings.clock.setTimer(pollMs, resolve);
    });
  }
}

/** Waits for `work`, at most `drainMsMax`. @returns whether it ended in time; what it throws in time is thrown */
async function within(host: Host, work: Promise<void>): Promise<boolean> {
  let timer: Timer | undefined;
  const isOver = new Promise<boolean>((resolve) => {
    timer = host.settings.clock.setTimer(drainMsMax, () => resolve(false));
  });
  try {
    return await Promise.race([work.then(() => true), isOver]);
  } finally {
    timer?.cancel();
  }
}
