// Checkpoints and snapshots (§7). A checkpoint is an entry; when it is applied, a state machine that can give its state
// gives it, the state is stored, becomes the new base of the stored log, and the log below is compacted except for a tail
// that serves slow followers. The order holds over any crash: the snapshot is whole and synced, then the base names it,
// and only when that is durable older snapshots go. How one gets to other replicas is in `snapshot-sending.ts` and
// `snapshot-receiving.ts`.

import { must } from '../base/assert.ts';
import { MalformedBytesError } from '../base/bytes.ts';
import { isKommanderError, KommanderError, withoutEffect } from '../base/errors.ts';
import type { StateMachine } from '../ports/state-machine.ts';
import type { LogBase, PartitionId } from '../ports/wal.ts';
import { termAt } from '../raft/log.ts';
import type { ConfState, Entry, LogIndex, Snapshot, Term } from '../raft/types.ts';
import { stopPartition } from './failure.ts';
import { type Host, nowMs, retryAtMs } from './host.ts';
import { type Partition, snapshotOf } from './partition.ts';
import { markDirty } from './ready-loop.ts';
import { allowCompaction, membersIndex } from './retention.ts';
import {
  decodeDescriptor,
  encodeDescriptor,
  machinePart,
  ownName,
  receivedPlace,
  type SnapshotDescriptor,
} from './snapshot-descriptor.ts';
import {
  appendAll,
  beginGiving,
  endGiving,
  type Giving,
  GivingFailed,
  storedData,
} from './snapshot-stream.ts';
import { enqueueBase } from './storage-writer.ts';
import type { Wait } from './wait.ts';

/** Snapshots of this node that are written at one time; each one has a file open and a block in memory. */
const writesMax = 4;

/** What is snapshotted: the state behind an applied entry. */
interface Place {
  readonly index: LogIndex;
  readonly term: Term;
  readonly confState: ConfState;
  readonly descriptor: Pick<SnapshotDescriptor, 'clock' | 'machineIndex'>;
}

/**
 * Carries out a checkpoint entry.
 *
 * @returns a promise when applying has to wait
 */
export function takeCheckpoint(
  host: Host,
  partition: Partition,
  entry: Entry,
): Promise<void> | undefined {
  const { machine } = partition;
  const position = { index: entry.index, term: entry.term };
  // Without a machine there is no state: a restart begins at the checkpoint, and the log is all that anybody has.
  if (machine === undefined) {
    const { confState } = partition.raft;
    const base = { ...position, confState, data: undefined };
    if (base.index >= partition.baseIndex) partition.snapshot = snapshotOf(base);
    storeBase(host, partition, base, membersIndex(host, entry));
    return undefined;
  }
  if (machine.appliedIndex !== undefined) return markDurable(host, partition, position, machine);
  // A machine that cannot give its state needs the whole log at a restart.
  if (machine.snapshot === undefined) return undefined;
  return takeSnapshot(host, partition, position);
}

/**
 * Takes a snapshot of what is applied by now.
 *
 * @returns a promise when applying has to wait
 */
export function takeDueSnapshot(
  host: Host,
  partition: Partition,
  why: 'peer' | 'checkpoint',
): Promise<void> | undefined {
  const { lastApplied: index, raft } = partition;
  if (why === 'peer' && partition.snapshot !== undefined) return undefined;
  const term = termAt(raft.log, index);
  // A snapshot of the leader has replaced the log meanwhile; whoever waits gets that one.
  if (term === undefined) return undefined;
  return takeSnapshot(host, partition, { index, term });
}

/** A machine that keeps its state itself says up to where: the log below is needed no more. */
async function markDurable(
  host: Host,
  partition: Partition,
  position: { readonly index: LogIndex; readonly term: Term },
  machine: StateMachine,
): Promise<void> {
  const { confState, confIndex, log } = partition.raft;
  const givenIndex = Math.min(partition.machineIndex, position.index);
  const clock = host.hybridClock.now();
  const durableIndex = await durableIndexOf(partition, machine);
  if (durableIndex === undefined) return;
  // Everything behind the last entry that it was given is none of the machine's.
  const index = durableIndex >= givenIndex ? position.index : durableIndex;
  const term = termAt(log, index);
  // The members as they were before the last change of them are not known any more: the next checkpoint will do.
  if (index < confIndex || term === undefined) return;
  const machineIndex = Math.min(givenIndex, durableIndex);
  const data = encodeDescriptor({ stored: undefined, clock, machineIndex, parts: [] });
  storeBase(host, partition, { index, term, confState, data });
}

/**
 * What the machine's own store has for certain; undefined for machines without one.
 *
 * @throws APPLY_FAILED it does not say
 */
async function durableIndexOf(
  partition: Partition,
  machine: StateMachine,
): Promise<LogIndex | undefined> {
  if (machine.appliedIndex === undefined) return undefined;
  try {
    const index = await machine.appliedIndex();
    if (Number.isSafeInteger(index) && index >= 0) return index;
    throw new TypeError(`appliedIndex() gave ${index}; it is a log index, 0 for none`);
  } catch (cause) {
    throw new KommanderError(
      `the state machine of partition ${partition.id} could not say in appliedIndex() how far its store is; mend it, then restart`,
      { code: 'APPLY_FAILED', details: { partitionId: partition.id }, cause },
    );
  }
}

function takeSnapshot(
  host: Host,
  partition: Partition,
  position: { readonly index: LogIndex; readonly term: Term },
): Promise<void> | undefined {
  if (partition.snapshotting !== undefined) {
    // One at a time: when it is done, another one is taken of what is applied by then.
    partition.isCheckpointDue = true;
    return undefined;
  }
  const { machineIndex, raft } = partition;
  const clock = host.hybridClock.now();
  // A machine with a store of its own may be ahead of the log after a restart: its state is that of a later entry then.
  const place = {
    ...position,
    confState: raft.confState,
    descriptor: { clock, machineIndex },
  };
  const { promise, resolve } = Promise.withResolvers<void>();
  partition.snapshotting = promise;
  return give(host, partition, place, (failure) => {
    partition.snapshotting = undefined;
    resolve();
    if (failure !== undefined) noteNotStored(host, partition, failure);
    settleSnapshotWait(host, partition);
    if (!partition.isCheckpointDue) return;
    partition.isCheckpointDue = false;
    if (partition.stopped === undefined) wantSnapshot(host, partition, 'checkpoint');
  });
}

/** Whoever waits is told; a peer asks again with every sign of life, and would have it tried as often. */
function noteNotStored(host: Host, partition: Partition, failure: KommanderError): void {
  partition.peerSnapshotNotBeforeMs = retryAtMs(host);
  partition.snapshotWait?.wait.fail(withoutEffect(failure));
}

/** Resolves when entries may be applied again; calls `done` when it is over. */
async function give(
  host: Host,
  partition: Partition,
  place: Place,
  done: (failure: KommanderError | undefined) => void,
): Promise<void> {
  const machine = must(partition.machine, 'only a machine gives its state');
  let isFixed = machine.concurrentSnapshots === true;
  let giving: Giving;
  try {
    const source = await machine.snapshot?.();
    if (source instanceof Uint8Array) isFixed = true;
    giving = await beginGiving(source);
  } catch (error) {
    done(undefined);
    throw snapshotFailed(
      partition,
      place.index,
      error instanceof GivingFailed ? error.cause : error,
    );
  }
  let failure: KommanderError | undefined;
  const work = store(host, partition, place, giving)
    .then((reason) => {
      failure = reason;
    })
    .finally(() => done(failure));
  host.snapshotWork.add(work);
  work.then(
    () => host.snapshotWork.delete(work),
    () => host.snapshotWork.delete(work),
  );
  if (!isFixed) return work;
  work.catch((error: unknown) => stopPartition(host, partition, error));
}

function snapshotFailed(partition: Partition, index: LogIndex, cause: unknown): KommanderError {
  return new KommanderError(
    `the state machine of partition ${partition.id} could not give its state in snapshot() at index ${index}; the replica stopped, mend the state machine, then restart`,
    { code: 'APPLY_FAILED', details: { partitionId: partition.id, index }, cause },
  );
}

/**
 * Stores what the machine gives and makes it the log's base.
 *
 * @returns why the disk could not take it: then the log stays as it is
 */
async function store(
  host: Host,
  partition: Partition,
  place: Place,
  giving: Giving,
): Promise<KommanderError | undefined> {
  await freeSlot(host);
  try {
    const data = await write(host, partition, place, giving);
    if (data === undefined) return undefined;
    const { index, term, confState } = place;
    useSnapshot(host, partition, { index, term, confState, data });
    return undefined;
  } catch (error) {
    if (error instanceof GivingFailed) throw snapshotFailed(partition, place.index, error.cause);
    if (!isStoreFailure(error)) throw error;
    const fields = { partitionId: partition.id, index: place.index, error };
    host.observe({ level: 'error', name: 'snapshot-not-stored', fields });
    return error;
  } finally {
    leaveSlot(host);
    await endGiving(giving);
  }
}

/** The disk's, not the machine's: the replica goes on without this snapshot. */
export function isStoreFailure(error: unknown): error is KommanderError {
  return isKommanderError(error, 'DISK_FULL') || isKommanderError(error, 'WAL_FAILED');
}

/** @returns the descriptor of the whole snapshot; undefined when nobody needs it any more */
async function write(
  host: Host,
  partition: Partition,
  place: Place,
  giving: Giving,
): Promise<Uint8Array | undefined> {
  const { snapshots } = host.wal;
  const name = ownName(partition.id, place);
  const { log } = partition.raft;
  // A newer one may be there before this is done: then nobody needs it.
  const isOver = (): boolean =>
    isHostOver(host) || partition.stopped !== undefined || place.index < log.compactedIndex;
  const writer = await snapshots.create(name);
  try {
    const byteLength = await appendAll(writer, giving, isOver);
    if (byteLength !== undefined) {
      const facts = await writer.finish();
      partition.snapshotNames.add(name);
      const parts = [{ name: machinePart, byteLength }];
      return encodeDescriptor({ stored: { name, ...facts }, ...place.descriptor, parts });
    }
  } catch (error) {
    await discarded(host, writer.discard());
    throw error;
  }
  await discarded(host, writer.discard());
  return undefined;
}

/** What cannot be removed is removed at the next start. */
export async function discarded(host: Host, removal: Promise<void>): Promise<void> {
  try {
    await removal;
  } catch (error) {
    if (!isStoreFailure(error)) throw error;
    host.observe({ level: 'warn', name: 'snapshot-not-removed', fields: { error } });
  }
}

/** Nothing of this node will be needed any more. */
export function isHostOver(host: Host): boolean {
  return host.isDrained || host.state === 'failed' || host.state === 'closed';
}

async function freeSlot(host: Host): Promise<void> {
  if (host.snapshotWrites.count < writesMax) {
    host.snapshotWrites.count += 1;
    return;
  }
  // Whoever leaves hands the slot over.
  await new Promise<void>((resolve) => host.snapshotWrites.waiting.push(resolve));
}

function leaveSlot({ snapshotWrites }: Host): void {
  const next = snapshotWrites.waiting.shift();
  if (next === undefined) snapshotWrites.count -= 1;
  else next();
}

/** A stored snapshot of this replica is there for peers, and for the next restart. */
function useSnapshot(host: Host, partition: Partition, snapshot: Snapshot): void {
  if (partition.stopped !== undefined) return;
  // While the state machine took its time, a snapshot of the leader may have replaced the log beyond this one.
  if (snapshot.index < partition.raft.log.compactedIndex) {
    sweepSnapshots(host, partition);
    return;
  }
  partition.snapshot = snapshot;
  storeBase(host, partition, snapshot);
  sweepSnapshots(host, partition);
}

function storeBase(
  host: Host,
  partition: Partition,
  base: LogBase,
  membersIndex: LogIndex = base.index,
): void {
  // It may have stopped while its machine was asked: what is damaged stays as it is, for whoever looks into it.
  if (partition.stopped !== undefined) return;
  const { log } = partition.raft;
  // A newer one was stored meanwhile.
  if (base.index < Math.max(log.compactedIndex, partition.baseIndex)) return;
  enqueueBase(host, partition, { base });
  allowCompaction(host, partition, { index: base.index, membersIndex });
}

/**
 * A snapshot is to be taken as soon as what waits is applied.
 *
 * @param why for a peer that needs one, or since a checkpoint came while another snapshot was written
 */
export function wantSnapshot(host: Host, partition: Partition, why: 'peer' | 'checkpoint'): void {
  const { machine } = partition;
  if (machine?.snapshot === undefined || partition.snapshotting !== undefined) return;
  if (why === 'peer' && nowMs(host) < partition.peerSnapshotNotBeforeMs) return;
  if (partition.applyUnits.some((unit) => unit.kind === 'snapshot')) return;
  partition.applyUnits.push({ kind: 'snapshot', why });
  host.toApply.add(partition);
  markDirty(host, partition);
}

/** A backup waits for a stored snapshot of what was applied up to `index`, or of later. */
export interface SnapshotWait {
  readonly wait: Wait<Snapshot>;
  readonly index: LogIndex;
}

/** Whoever gets the snapshot holds it, and releases it. One waits at a time. */
export function submitSnapshotWait(host: Host, partition: Partition, wanted: SnapshotWait): void {
  partition.snapshotWait = wanted;
  settleSnapshotWait(host, partition);
}

function settleSnapshotWait(host: Host, partition: Partition): void {
  const { snapshotWait: wanted, snapshot } = partition;
  if (wanted === undefined) return;
  const isThere = snapshot !== undefined && snapshot.index >= wanted.index;
  if (!isThere && !wanted.wait.isSettled) {
    if (partition.stopped === undefined) wantSnapshot(host, partition, 'checkpoint');
    return;
  }
  partition.snapshotWait = undefined;
  if (!isThere || wanted.wait.isSettled) return;
  holdSnapshot(partition, storedName(snapshot.data));
  wanted.wait.succeed(snapshot);
}

/**
 * The log begins behind a snapshot of the leader: the state machine gets it, behind everything that it has to apply. Not
 * earlier: one with a store of its own lets go of what it has, and after a crash the old log could not begin without that.
 */
export function enqueueRestore(host: Host, partition: Partition, snapshot: Snapshot): void {
  holdSnapshot(partition, storedName(snapshot.data));
  partition.applyUnits.push({ kind: 'restore', snapshot });
  partition.snapshot = snapshot;
  settleSnapshotWait(host, partition);
  host.toApply.add(partition);
}

/**
 * Gives a snapshot's state to the state machine.
 *
 * @throws WAL_CORRUPT what is stored is damaged or missing
 * @throws APPLY_FAILED the machine did not take it
 */
export async function restoreMachine(
  host: Host,
  partition: Partition,
  snapshot: Snapshot,
): Promise<void> {
  const { machine } = partition;
  if (machine === undefined) return;
  const descriptor = descriptorOf(snapshot.data);
  let failure: unknown;
  try {
    // Going on without the state would make the replica diverge silently.
    if (machine.restore === undefined) throw new Error('the state machine has no restore()');
    if (descriptor?.stored === undefined) throw new Error('the log was written without a machine');
    const { name, ...facts } = descriptor.stored;
    const reader = await host.wal.snapshots.open(name, facts).catch((error: unknown) => {
      failure = error;
      throw error;
    });
    const data = storedData(reader, { offset: 0, byteLength: facts.byteLength });
    try {
      await machine.restore(data);
      // The machine may have made nothing of it, and of the state that it did not get.
      if (data.failure !== undefined) throw data.failure;
    } finally {
      failure = data.failure;
      await reader.close();
    }
  } catch (error) {
    if (failure !== undefined) throw damagedBase(partition.id, snapshot.index, failure);
    throw new KommanderError(
      `the state machine of partition ${partition.id} could not restore() the state at index ${snapshot.index}; mend it, then restart`,
      { code: 'APPLY_FAILED', details: { partitionId: partition.id }, cause: error },
    );
  }
  partition.machineIndex = descriptor?.machineIndex ?? 0;
}

function damagedBase(partitionId: PartitionId, index: LogIndex, cause: unknown): unknown {
  if (!isKommanderError(cause, 'SNAPSHOT_CORRUPT')) return cause;
  return new KommanderError(
    `the state of partition ${partitionId} at index ${index} cannot be read: ${cause.message}`,
    { code: 'WAL_CORRUPT', details: { ...cause.details, partitionId, index }, cause },
  );
}

/**
 * Brings a machine at the start to the state that the log begins with.
 *
 * @throws WAL_CORRUPT, APPLY_FAILED
 */
export async function restoreBase(
  host: Host,
  partition: Partition,
  descriptor: SnapshotDescriptor | undefined,
): Promise<void> {
  const { machine, snapshot } = partition;
  const durableIndex = machine === undefined ? undefined : await durableIndexOf(partition, machine);
  const neededIndex = descriptor?.machineIndex ?? 0;
  if (durableIndex !== undefined && durableIndex >= neededIndex) {
    partition.machineIndex = durableIndex;
    return;
  }
  if (snapshot !== undefined) return restoreMachine(host, partition, snapshot);
  if (descriptor === undefined) return;
  throw new KommanderError(
    `the log of partition ${partition.id} begins behind entry ${neededIndex}, and its state machine has ${durableIndex ?? 'no store of its own'}: its store was lost or is another one; bring it back, or replace the node`,
    { code: 'APPLY_FAILED', details: { partitionId: partition.id, index: neededIndex } },
  );
}

/** What a base or a message of the core says of its snapshot; undefined where there is no state, only a log. */
export function descriptorOf(data: Uint8Array | undefined): SnapshotDescriptor | undefined {
  return data === undefined || data.byteLength === 0 ? undefined : decodeDescriptor(data);
}

/** The name of the stored snapshot that a base or a message of the core is about. */
export function storedName(data: Uint8Array | undefined): string | undefined {
  return descriptorOf(data)?.stored?.name;
}

/** It stays, whatever becomes of the base, until it is released. */
export function holdSnapshot({ snapshotHolds }: Partition, name: string | undefined): void {
  if (name !== undefined) snapshotHolds.push(name);
}

export function releaseSnapshot(host: Host, partition: Partition, name: string | undefined): void {
  const at = name === undefined ? -1 : partition.snapshotHolds.indexOf(name);
  if (at >= 0) partition.snapshotHolds.splice(at, 1);
  sweepSnapshots(host, partition);
}

/** The base that was given to the store first is durable now: what only earlier ones named may go. */
export function noteBaseStored(host: Host, partition: Partition): void {
  partition.baseNames.shift();
  sweepSnapshots(host, partition);
}

/** Removes the snapshots that nobody needs any more. */
export function sweepSnapshots(host: Host, partition: Partition): void {
  for (const name of partition.snapshotNames) {
    if (isNeeded(partition, name)) continue;
    partition.snapshotNames.delete(name);
    discarded(host, host.wal.snapshots.remove(name)).catch((error: unknown) => {
      stopPartition(host, partition, error);
    });
  }
}

/** Whether a base names it, or will, or somebody reads it. */
export function isNeeded(partition: Partition, name: string): boolean {
  const { snapshotHolds, baseNames, snapshot, raft } = partition;
  if (baseNames.includes(name) || snapshotHolds.includes(name)) return true;
  return name === storedName(snapshot?.data) || name === storedName(raft.log.pendingSnapshot?.data);
}

/**
 * Looks after the stored snapshots at the start: those that bases name must be there, others go. What was received, all
 * of it or a part, stays for whoever announces the same bytes.
 *
 * @throws WAL_CORRUPT a base names a snapshot that is not there or damaged
 */
export async function openSnapshots(host: Host): Promise<void> {
  const { snapshots } = host.wal;
  const needed = new Set<string>();
  for (const partition of host.partitions.values()) {
    await checkBase(host, partition);
    for (const name of partition.snapshotNames) needed.add(name);
  }
  for (const { name } of await snapshots.list()) {
    if (!needed.has(name) && !keepsDraft(host, name)) await snapshots.remove(name);
  }
}

async function checkBase(host: Host, partition: Partition): Promise<void> {
  const { snapshot } = partition;
  if (snapshot === undefined) return;
  const stored = descriptorOf(snapshot.data)?.stored;
  if (stored === undefined) return;
  const { name, ...facts } = stored;
  try {
    await (await host.wal.snapshots.open(name, facts)).close();
  } catch (error) {
    throw damagedBase(partition.id, snapshot.index, error);
  }
  partition.snapshotNames.add(name);
}

function keepsDraft(host: Host, name: string): boolean {
  const place = receivedPlace(name);
  const partition = place === undefined ? undefined : host.partitions.get(place.partitionId);
  if (place === undefined || partition === undefined) return false;
  // One per partition is gone on with.
  const isOfUse = partition.snapshotDraft === undefined && place.index > partition.baseIndex;
  if (isOfUse) partition.snapshotDraft = name;
  return isOfUse;
}

/**
 * What the base of a stored log says.
 *
 * @throws WAL_CORRUPT, WAL_VERSION
 */
export function baseDescriptor(
  partitionId: PartitionId,
  base: LogBase,
): SnapshotDescriptor | undefined {
  try {
    return descriptorOf(base.data);
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    throw new KommanderError(
      `the base of partition ${partitionId} at index ${base.index} cannot be read: ${error.message}. Restore the directory or replace the node`,
      { code: 'WAL_CORRUPT', details: { partitionId, index: base.index }, cause: error },
    );
  }
}
