// How much of a log is kept. A checkpoint allows to compact up to an index; holds of this process keep more. A partition
// without a state machine has nothing but its log, so there a checkpoint allows no more than what every member has
// stored: the leader writes that index into the checkpoint's entry, and a replica that obeys it strands nobody.

import { assert } from '../base/assert.ts';
import { ByteReader } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import type { NodeId } from '../ports/transport.ts';
import { compactLog } from '../raft/raft.ts';
import { type Entry, type LogIndex, Role } from '../raft/types.ts';
import type { LogHold, LogKeeper } from './api.ts';
import type { Host } from './host.ts';
import { encodeNumber } from './meta.ts';
import type { Partition } from './partition.ts';
import { decodePayload, OutgoingPayload } from './payload.ts';
import { guard } from './ready-loop.ts';
import { enqueueBase, isQueueFull } from './storage-writer.ts';

/** Holds of one partition at one time. */
const holdsMax = 64;
/** Characters of a hold's owner. */
const ownerLengthMax = 128;

interface Hold {
  readonly owner: string;
  /** The first entry that is kept. */
  fromIndex: LogIndex;
}

export interface Retention {
  readonly holds: Set<Hold>;
  /** The checkpoints so far allow to compact up to here, inclusive. Holds may keep more. */
  allowedIndex: LogIndex;
  /** What kept the last checkpoint from allowing more. */
  limitedBy: 'trailingEntries' | 'slowestReplica' | undefined;
}

export function newRetention(compactedIndex: LogIndex): Retention {
  return { holds: new Set(), allowedIndex: compactedIndex, limitedBy: undefined };
}

/** A checkpoint on its way into the leader's log: it says what every member is known to have stored. */
export function stampedCheckpoint({ raft }: Partition, type: Uint8Array): OutgoingPayload {
  assert(raft.role === Role.leader, 'only a leader knows what others have stored');
  let storedIndex = raft.log.lastIndex;
  for (const { matchIndex } of raft.progress.values()) {
    storedIndex = Math.min(storedIndex, matchIndex);
  }
  return new OutgoingPayload(type, encodeNumber(storedIndex));
}

/**
 * How far a checkpoint of a log without a machine may compact it: as the option says, up to what every member had stored
 * when it was written.
 *
 * @throws MalformedBytesError
 */
export function membersIndex(host: Host, entry: Entry): LogIndex {
  return host.settings.logOnlyCompaction === 'slowest' ? storedByAllIndex(entry) : entry.index;
}

function storedByAllIndex(entry: Entry): LogIndex {
  const { data } = decodePayload(entry);
  return data.byteLength === 0 ? 0 : new ByteReader(data).uint53();
}

/** The base at this checkpoint is on its way to the store: the log below it is not needed for a restart any more. */
export function allowCompaction(
  host: Host,
  partition: Partition,
  checkpoint: { readonly index: LogIndex; readonly membersIndex: LogIndex },
): void {
  const { retention } = partition;
  const { trailingEntries } = host.settings;
  const { membersIndex: storedIndex } = checkpoint;
  const trailingIndex = checkpoint.index - trailingEntries;
  retention.allowedIndex = Math.max(retention.allowedIndex, Math.min(trailingIndex, storedIndex));
  if (storedIndex < Math.min(trailingIndex, checkpoint.index - 1)) {
    retention.limitedBy = 'slowestReplica';
  } else {
    retention.limitedBy = trailingEntries > 0 ? 'trailingEntries' : undefined;
  }
  compactAsAllowed(host, partition);
}

/** Removes what neither the last checkpoint nor a hold keeps. */
function compactAsAllowed(host: Host, partition: Partition): void {
  const { retention, raft } = partition;
  const allowedIndex = Math.min(
    retention.allowedIndex,
    raft.log.appliedIndex,
    transferIndex(partition),
  );
  const hold = lowestHold(partition);
  const throughIndex = Math.min(
    allowedIndex,
    hold === undefined ? allowedIndex : hold.fromIndex - 1,
  );
  if (hold !== undefined && throughIndex < allowedIndex) {
    const { owner, fromIndex } = hold;
    const fields = { partitionId: partition.id, owner, fromIndex, allowedIndex };
    host.observe({ level: 'debug', name: 'compaction-held', fields });
  }
  if (throughIndex <= raft.log.compactedIndex) return;
  enqueueBase(host, partition, { compactThroughIndex: throughIndex });
  // The core forgets the entries before the store does, so that nobody asks for what is being removed.
  compactLog(raft, throughIndex);
  partition.pages.clear();
  // Whoever got it would lack the entries behind it.
  const isPassed = partition.snapshot !== undefined && partition.snapshot.index < throughIndex;
  if (isPassed) partition.snapshot = undefined;
}

/** Entries behind it are for replicas that get a snapshot now: without them they would need another one, and so on. */
function transferIndex({ raft }: Partition): LogIndex {
  let index = Number.POSITIVE_INFINITY;
  for (const { snapshotIndex } of raft.progress.values()) {
    if (snapshotIndex !== undefined) index = Math.min(index, snapshotIndex);
  }
  return index;
}

function lowestHold({ retention }: Partition): Hold | undefined {
  let lowest: Hold | undefined;
  for (const hold of retention.holds) {
    if (lowest === undefined || hold.fromIndex < lowest.fromIndex) lowest = hold;
  }
  return lowest;
}

/** @throws INVALID_ARGUMENT, TOO_MANY_HOLDS */
export function holdLog(
  host: Host,
  partition: Partition,
  wanted: { readonly fromIndex: LogIndex; readonly owner: string },
): LogHold {
  const { owner } = wanted;
  const { holds } = partition.retention;
  if (typeof owner !== 'string' || owner === '' || owner.length > ownerLengthMax) {
    throw new KommanderError(
      `a hold has an owner with a name of 1 to ${ownerLengthMax} characters, by which it is listed`,
      { code: 'INVALID_ARGUMENT', details: { argument: 'owner' } },
    );
  }
  checkHoldable(partition, wanted.fromIndex);
  if (holds.size >= holdsMax) {
    throw new KommanderError(
      `partition ${partition.id} has ${holdsMax} holds; release one first: status() lists them`,
      { code: 'TOO_MANY_HOLDS', details: { partitionId: partition.id, holdsMax } },
    );
  }
  const hold: Hold = { owner, fromIndex: wanted.fromIndex };
  holds.add(hold);
  const release = (): void => {
    if (holds.delete(hold)) compactBetweenTurns(host, partition);
  };
  return {
    partitionId: partition.id,
    owner,
    get fromIndex() {
      return hold.fromIndex;
    },
    moveTo(fromIndex) {
      if (!holds.has(hold)) {
        throw new KommanderError(`the hold of "${owner}" was released; take a new one`, {
          code: 'INVALID_ARGUMENT',
          details: { argument: 'hold' },
        });
      }
      checkHoldable(partition, fromIndex);
      hold.fromIndex = fromIndex;
      compactBetweenTurns(host, partition);
    },
    release,
    [Symbol.dispose]: release,
  };
}

function checkHoldable({ id, raft }: Partition, fromIndex: LogIndex): void {
  const { compactedIndex } = raft.log;
  const isIndex = Number.isSafeInteger(fromIndex) && fromIndex >= 1;
  if (isIndex && fromIndex > compactedIndex) return;
  throw new KommanderError(
    isIndex
      ? `entry ${fromIndex} of partition ${id} is compacted on this node; its log begins at ${compactedIndex + 1}`
      : `fromIndex is ${fromIndex}; it is the index of an entry, 1 or more`,
    {
      code: 'INVALID_ARGUMENT',
      details: { argument: 'fromIndex', partitionId: id, compactedIndex },
    },
  );
}

/** The owner of a hold calls at any time, also when nothing is to be written any more. */
function compactBetweenTurns(host: Host, partition: Partition): void {
  if (host.state !== 'forming' && host.state !== 'running') return;
  // A disk that does not answer has enough to do; the next checkpoint, or move, compacts this as well.
  if (isQueueFull(host, partition)) return;
  guard(host, partition, () => compactAsAllowed(host, partition));
}

/** What keeps the log of this replica from being shorter than it is. */
export function logKeeper(host: Host, partition: Partition): LogKeeper {
  const { retention, machine, checkpoints } = partition;
  if (machine !== undefined && machine.snapshot === undefined) return { reason: 'noSnapshot' };
  const hold = lowestHold(partition);
  if (hold !== undefined && hold.fromIndex <= retention.allowedIndex) {
    return { reason: 'hold', owner: hold.owner, fromIndex: hold.fromIndex };
  }
  if (checkpoints.index === 0) return { reason: 'noCheckpoint' };
  if (transferIndex(partition) < retention.allowedIndex) return { reason: 'snapshotTransfer' };
  switch (retention.limitedBy) {
    case 'slowestReplica':
      return { reason: 'slowestReplica', nodeId: slowestReplica(host, partition) };
    case 'trailingEntries':
      return { reason: 'trailingEntries' };
    default:
      return { reason: 'nextCheckpoint' };
  }
}

/** As the leader sees it; others do not know. */
function slowestReplica(host: Host, { raft }: Partition): NodeId | undefined {
  if (raft.role !== Role.leader) return undefined;
  const [slowest] = [...raft.progress].sort(([, a], [, b]) => a.matchIndex - b.matchIndex);
  return slowest === undefined ? undefined : host.nodeIds.get(slowest[0]);
}

export function holdsOf({ retention }: Partition): Hold[] {
  return [...retention.holds].map(({ owner, fromIndex }) => ({ owner, fromIndex }));
}
