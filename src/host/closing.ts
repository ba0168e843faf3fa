// Closing a node without leaving anybody in the dark: no new work, what was accepted is finished as far as it can be,
// leadership goes to others, and then everything is released. Callers that still wait are answered.

import { KommanderError } from '../base/errors.ts';
import { bestSuccessor, transferLeadership } from '../raft/raft.ts';
import { Role } from '../raft/types.ts';
import { failCallers } from './failure.ts';
import { type Host, nowMs } from './host.ts';
import type { Partition } from './partition.ts';
import { guard, markDirty } from './ready-loop.ts';
import { flushLazyHardStates, writerIdle } from './storage-writer.ts';

const pollMs = 5;
/** Milliseconds for writes that were accepted before. */
const drainMsMax = 2_000;

/** Idempotent: the second call waits for the first. */
export function closeHost(host: Host): Promise<void> {
  host.closing ??= close(host);
  return host.closing;
}

async function close(host: Host): Promise<void> {
  if (host.state !== 'failed') {
    host.state = 'closing';
    const partitions = [...host.partitions.values()];
    // First leadership: while this node leads, others keep passing writes on to it, and it would never be done.
    await handLeadershipOver(host, partitions);
    await until(host, drainMsMax, () => partitions.every((p) => p.outstandingEntries === 0));
    await writerIdle(host);
    await flushLazyHardStates(host);
  }
  host.stopTimer();
  const closed = new KommanderError('the node was closed; a write may still commit elsewhere', {
    code: 'NODE_CLOSED',
    details: { nodeId: host.settings.nodeId },
  });
  for (const partition of host.partitions.values()) failCallers(host, partition, closed);
  host.state = 'closed';
  await host.discovery.close();
  await host.transport.close();
  await host.wal.close();
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
      const successor = bestSuccessor(partition.raft);
      if (successor === undefined || partition.raft.transferee !== undefined) continue;
      guard(host, partition, () => transferLeadership(partition.raft, successor));
      markDirty(host, partition);
    }
    return led().length === 0;
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
  while (!isDone() && nowMs(host) < deadlineMs && host.failure === undefined) {
    await new Promise<void>((resolve) => {
      host.settings.clock.setTimer(pollMs, resolve);
    });
  }
}
