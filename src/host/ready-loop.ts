// The node's one loop. A turn gathers what the cores of all dirty partitions have to do: one batch for the store, one
// frame per peer and lane, entries for the state machines. The disk and the network work while entries are applied.
// A turn starts when something arrived (after the input that is already waiting) and as soon as the disk answers.

import { hasReady, step, takeReady } from '../raft/raft.ts';
import type { Message } from '../raft/types.ts';
import { enqueueApply, runApplier } from './applier.ts';
import { stopPartition } from './failure.ts';
import type { Host } from './host.ts';
import { noteSoftState } from './leadership.ts';
import { flushOutbox, queueMessage } from './outbox.ts';
import type { Partition } from './partition.ts';
import { drainProposals } from './proposals.ts';
import { askForReads, noteReadState } from './reads.ts';
import { enqueueAppend, isWriterBusy, startWrite } from './storage-writer.ts';

/**
 * Rounds of one turn: what the applier and undemanding storage requests set free is handed out at once, but a turn
 * ends, so that input is taken.
 */
const turnRoundsMax = 8;

/** Something happened to the partition that its core may answer. */
export function markDirty(host: Host, partition: Partition): void {
  host.dirty.add(partition);
  scheduleTurn(host);
}

/** Sees to it that a turn runs once the input that is already waiting has been taken. */
export function scheduleTurn(host: Host): void {
  if (host.isTurnScheduled) return;
  host.isTurnScheduled = true;
  host.settings.clock.defer(() => {
    if (host.isTurnScheduled) runTurn(host);
  });
}

/** Runs a turn now. */
export function runTurn(host: Host): void {
  host.isTurnScheduled = false;
  if (host.state === 'closed' || host.state === 'failed') return;
  for (let round = 0; round < turnRoundsMax; round++) {
    if (host.dirty.size === 0 && host.toApply.size === 0) break;
    const dirty = [...host.dirty];
    host.dirty.clear();
    for (const partition of dirty) gather(host, partition);
    flushOutbox(host);
    startWrite(host);
    const toApply = [...host.toApply];
    host.toApply.clear();
    for (const partition of toApply) guard(host, partition, () => runApplier(host, partition));
  }
  flushOutbox(host);
  // Requests may wait although nothing else happened since: the write before them belonged to others.
  startWrite(host);
  if (host.dirty.size > 0 || host.toApply.size > 0) scheduleTurn(host);
}

/** Gives a message to a partition's core. A core that breaks one of its rules stops its replica. */
export function stepPartition(host: Host, partition: Partition, message: Message): void {
  guard(host, partition, () => {
    step(partition.raft, message);
  });
}

/** Calls into a core; what it throws is a broken rule, and stops the replica instead of the node. */
export function guard(host: Host, partition: Partition, call: () => void): void {
  if (partition.stopped !== undefined) return;
  try {
    call();
  } catch (error) {
    stopPartition(host, partition, error);
  }
}

function gather(host: Host, partition: Partition): void {
  guard(host, partition, () => {
    // While the disk works, proposals gather for the next batch; nothing else waits for it.
    if (!isWriterBusy(host)) drainProposals(host, partition);
    else if (partition.queue.length > 0) host.writer.proposers.add(partition);
    askForReads(host, partition);
    if (hasReady(partition.raft)) handOut(host, partition);
  });
}

function handOut(host: Host, partition: Partition): void {
  const ready = takeReady(partition.raft);
  for (const message of ready.messages) queueMessage(host, partition, message);
  if (ready.storageAppend !== undefined) enqueueAppend(host, partition, ready.storageAppend);
  if (ready.storageApply !== undefined) enqueueApply(host, partition, ready.storageApply);
  for (const readState of ready.readStates) noteReadState(host, partition, readState);
  if (ready.softState !== undefined) noteSoftState(host, partition, ready.softState);
}
