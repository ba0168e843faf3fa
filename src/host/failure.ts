// What happens when something must not go on: one replica stops to protect its data, or the whole node does. Everybody
// who waits gets an answer, and the reason is reported with its evidence.

import { isKommanderError, KommanderError, withoutEffect } from '../base/errors.ts';
import { keepEvidence } from './evidence.ts';
import type { Host } from './host.ts';
import { failLeaderWaits } from './leadership.ts';
import { failMembershipWaits } from './membership.ts';
import type { Partition } from './partition.ts';
import { failProposals } from './proposals.ts';
import { failReads } from './reads.ts';

/** A rule of the program is broken, or the state machine failed: this replica takes no further part. */
export function stopPartition(host: Host, partition: Partition, cause: unknown): void {
  // After the end nobody listens, and nothing is left to protect.
  if (partition.stopped !== undefined || host.state === 'closed') return;
  // What the state machine threw is no matter of the core's.
  const isOfMachine = isKommanderError(cause, 'APPLY_FAILED');
  const evidence = isOfMachine ? undefined : keepEvidence(host, partition, cause);
  const kept = evidence === undefined ? {} : { evidence };
  const error = isOfMachine ? cause : replicaStopped(partition, cause, kept);
  partition.stopped = error;
  host.observe({
    level: 'error',
    name: 'replica-stopped',
    fields: { partitionId: partition.id, error, ...kept },
  });
  host.events.emit('replicationError', { partitionId: partition.id, error });
  failCallers(host, partition, error);
}

function replicaStopped(
  { id: partitionId }: Partition,
  cause: unknown,
  kept: { readonly evidence?: string },
): KommanderError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const file = kept.evidence === undefined ? '' : `; its evidence is in ${kept.evidence}`;
  return new KommanderError(
    `partition ${partitionId} stopped on this node: ${reason}; see the cause, then restart the node${file}`,
    { code: 'REPLICA_STOPPED', details: { partitionId, ...kept }, cause },
  );
}

/** The node cannot go on: it answers everybody, goes silent, and others take over. */
export function failNode(host: Host, error: KommanderError): void {
  if (host.state === 'failed' || host.state === 'closed') return;
  host.state = 'failed';
  host.failure = error;
  host.observe({ level: 'error', name: 'node-failed', fields: { error } });
  host.stopTimer();
  for (const partition of host.partitions.values()) {
    host.events.emit('replicationError', { partitionId: partition.id, error });
    failCallers(host, partition, error);
  }
  // Without a transport nobody takes this node for a leader any longer than an election timeout. What it sent last is on
  // its way by then.
  host.settings.clock.setTimer(host.settings.tickMs, () => {
    host.transport.close().catch((cause: unknown) => {
      host.observe({ level: 'error', name: 'transport-close-failed', fields: { error: cause } });
    });
  });
}

/** The cluster does not know this node's directory, which is empty: it answers everybody, and waits to be readmitted. */
export function refuseNode(host: Host, error: KommanderError): void {
  if (host.state !== 'forming') return;
  host.state = 'refused';
  host.failure = error;
  host.observe({ level: 'error', name: 'node-refused', fields: { error } });
  for (const partition of host.partitions.values()) failCallers(host, partition, error);
}

/** Answers everybody who waits for something in this partition. */
export function failCallers(host: Host, partition: Partition, error: KommanderError): void {
  failProposals(host, partition, error);
  failReads(partition, error);
  failLeaderWaits(partition, error);
  failMembershipWaits(partition, error);
  partition.snapshotWait?.wait.fail(withoutEffect(error));
}
