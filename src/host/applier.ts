// Committed entries on their way to the state machine: in order, in batches, never concurrently for one partition. What
// the core hands over becomes a list of units; a unit that waits (an asynchronous state machine) holds back the ones
// behind it. An exception stops the replica (HAZARDS 32): skipping an entry would make it diverge silently.

import { KommanderError } from '../base/errors.ts';
import type { CommittedEntry } from '../ports/state-machine.ts';
import { decodeConfChange } from '../raft/conf-change.ts';
import { applyConfChange, trimLog } from '../raft/raft.ts';
import type { StorageApply } from '../raft/ready.ts';
import {
  type Entry,
  EntryKind,
  type LogIndex,
  payloadOf,
  type Snapshot,
  type StorageApplied,
} from '../raft/types.ts';
import { beginCheckpoint, countApplied, noteCheckpoint } from './checkpoints.ts';
import { stopPartition } from './failure.ts';
import type { Host } from './host.ts';
import { settleMembershipWaits } from './membership.ts';
import type { Partition } from './partition.ts';
import { decodePayload } from './payload.ts';
import { settleApplied, settleSkipped } from './proposals.ts';
import { releaseReads } from './reads.ts';
import { markDirty, stepPartition } from './ready-loop.ts';
import {
  releaseSnapshot,
  restoreMachine,
  storedName,
  takeCheckpoint,
  takeDueSnapshot,
} from './snapshots.ts';
import { applySystemEntry, isSystemType, proposeGenesis, systemTypes } from './system-entries.ts';

/** One step of applying. */
export type ApplyUnit =
  | { readonly kind: 'entries'; readonly entries: readonly Entry[] }
  | { readonly kind: 'empty'; readonly entry: Entry }
  | { readonly kind: 'confChange'; readonly entry: Entry }
  | { readonly kind: 'system'; readonly entry: Entry; readonly type: string }
  | { readonly kind: 'restore'; readonly snapshot: Snapshot }
  | { readonly kind: 'snapshot'; readonly why: 'peer' | 'checkpoint' }
  | { readonly kind: 'done'; readonly response: StorageApplied };

/** Entries that all partitions of a node keep in memory behind the applied index, so that followers need no disk. */
const nodeCachedEntriesMax = 262_144;
/** Payload bytes of such entries; a partition with more than its share drops them as soon as they are applied. */
const nodeCachedBytesMax = 268_435_456;
/** Of one partition, however many there are, and however few. */
const cachedEntries = { min: 128, max: 4_096 } as const;
const cachedBytes = { min: 16_384, max: 4_194_304 } as const;
/** Payload bytes that wait in memory for a slow state machine; beyond, they wait in the store alone. */
const unappliedBytesMax = 33_554_432;

/** Takes committed entries of a `Ready`. */
export function enqueueApply(host: Host, partition: Partition, request: StorageApply): void {
  let plain: Entry[] = [];
  const flushPlain = (): void => {
    if (plain.length > 0) partition.applyUnits.push({ kind: 'entries', entries: plain });
    plain = [];
  };
  for (const entry of request.entries) {
    const special = specialUnit(entry);
    if (special === undefined) {
      plain.push(entry);
    } else {
      flushPlain();
      partition.applyUnits.push(special);
    }
  }
  flushPlain();
  partition.applyUnits.push({ kind: 'done', response: request.response });
  host.toApply.add(partition);
}

function specialUnit(entry: Entry): ApplyUnit | undefined {
  if (entry.kind === EntryKind.confChange) return { kind: 'confChange', entry };
  if (entry.start === entry.end) return { kind: 'empty', entry };
  if (!isSystemType(entry)) return undefined;
  return { kind: 'system', entry, type: decodePayload(entry).type };
}

/** Applies what waits, until it is done or has to wait itself. */
export function runApplier(host: Host, partition: Partition): void {
  while (!partition.isApplying && partition.stopped === undefined && !host.isDrained) {
    const unit = partition.applyUnits.shift();
    if (unit === undefined) return;
    const waiting = execute(host, partition, unit);
    if (waiting === undefined) continue;
    partition.isApplying = true;
    waiting.then(
      () => {
        partition.isApplying = false;
        host.toApply.add(partition);
        markDirty(host, partition);
      },
      (error: unknown) => {
        partition.isApplying = false;
        stopPartition(host, partition, error);
      },
    );
  }
}

function execute(host: Host, partition: Partition, unit: ApplyUnit): Promise<void> | undefined {
  switch (unit.kind) {
    case 'entries':
      return applyEntries(host, partition, unit.entries);
    case 'empty':
      finish(host, partition, [unit.entry], undefined);
      proposeGenesis(host, partition);
      return undefined;
    case 'confChange':
      applyMembership(host, partition, unit.entry);
      return undefined;
    case 'system':
      return applySystem(host, partition, unit);
    case 'restore':
      return restore(host, partition, unit.snapshot);
    case 'snapshot':
      return takeDueSnapshot(host, partition, unit.why);
    case 'done':
      stepPartition(host, partition, unit.response);
      trimCache(host, partition);
      markDirty(host, partition);
      return undefined;
  }
}

function applyEntries(
  host: Host,
  partition: Partition,
  committedEntries: readonly Entry[],
): Promise<void> | undefined {
  const { machine } = partition;
  const entries = notGivenBefore(host, partition, committedEntries);
  const last = entries.at(-1);
  if (last === undefined) return undefined;
  const isHeard = host.events.has('entryReplicated') || host.events.has('entryRestored');
  if (machine === undefined && !isHeard) {
    finish(host, partition, entries, undefined);
    return undefined;
  }
  const committed = entries.map((entry) => committedEntry(partition, entry));
  const settle = (results: readonly unknown[] | void): void => {
    if (host.state === 'closed') return;
    const checked = checkResults(partition, entries, results ?? undefined);
    // First the entries, then what follows from them: the last restored entry comes before the end of the restore.
    if (isHeard) emitEntries(host, committed);
    partition.machineIndex = last.index;
    finish(host, partition, entries, checked);
  };
  let outcome: ReturnType<NonNullable<Partition['machine']>['apply']>;
  try {
    outcome = machine?.apply(committed);
  } catch (error) {
    throw applyFailed(partition, entries, error);
  }
  if (!isThenable(outcome)) {
    settle(outcome);
    return undefined;
  }
  return Promise.resolve(outcome).then(settle, (error: unknown) => {
    throw applyFailed(partition, entries, error);
  });
}

/** A machine with a store of its own has the first ones already. */
function notGivenBefore(
  host: Host,
  partition: Partition,
  entries: readonly Entry[],
): readonly Entry[] {
  const { machineIndex } = partition;
  const [first] = entries;
  if (first === undefined || first.index > machineIndex) return entries;
  const newer = entries.filter(({ index }) => index > machineIndex);
  finish(host, partition, entries.slice(0, entries.length - newer.length), undefined);
  return newer;
}

/** Whatever can be awaited: state machines may come with promises of their own making. */
function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof value === 'object' && value !== null && 'then' in value;
}

function committedEntry(partition: Partition, entry: Entry): CommittedEntry {
  const { type, timestamp, data } = decodePayload(entry);
  const { index, term } = entry;
  const restored = index <= partition.restoreThroughIndex;
  return { partitionId: partition.id, index, term, timestamp, type, data, restored };
}

function checkResults(
  partition: Partition,
  entries: readonly Entry[],
  results: readonly unknown[] | undefined,
): readonly unknown[] | undefined {
  if (results === undefined || results.length === entries.length) return results;
  const problem = `apply returned ${results.length} results for ${entries.length} entries: return one per entry, or nothing`;
  throw applyFailed(partition, entries, new Error(problem));
}

function emitEntries(host: Host, committed: readonly CommittedEntry[]): void {
  for (const entry of committed) {
    host.events.emit(entry.restored ? 'entryRestored' : 'entryReplicated', { entry });
  }
}

function applyMembership(host: Host, partition: Partition, entry: Entry): void {
  const change = decodeConfChange(payloadOf(entry));
  const confState = applyConfChange(partition.raft, change, entry.index);
  finish(host, partition, [entry], undefined);
  host.events.emit('membershipChanged', { partitionId: partition.id, confState });
}

function applySystem(
  host: Host,
  partition: Partition,
  unit: { readonly entry: Entry; readonly type: string },
): Promise<void> | undefined {
  const { entry, type } = unit;
  if (type !== systemTypes.checkpoint) {
    applySystemEntry(host, partition, entry, type);
    finish(host, partition, [entry], undefined);
    return undefined;
  }
  beginCheckpoint(host, partition);
  const finished = (): void => {
    finish(host, partition, [entry], undefined);
    noteCheckpoint(host, partition, entry.index);
  };
  const waiting = takeCheckpoint(host, partition, entry);
  if (waiting === undefined) {
    finished();
    return undefined;
  }
  return waiting.then(() => {
    if (host.state !== 'closed') finished();
  });
}

async function restore(host: Host, partition: Partition, snapshot: Snapshot): Promise<void> {
  settleSkipped(partition, snapshot.index);
  // The state that the machine still gives is older, and about to go.
  await partition.snapshotting;
  // Cleared with success alone: a machine that failed half-way never has a state to read again.
  partition.isRestoring = true;
  await restoreMachine(host, partition, snapshot);
  partition.isRestoring = false;
  releaseSnapshot(host, partition, storedName(snapshot.data));
  // Late answers of an earlier leader may have named places below the snapshot meanwhile.
  settleSkipped(partition, snapshot.index);
  noteApplied(host, partition, snapshot.index);
  noteCheckpoint(host, partition, snapshot.index);
  host.events.emit('membershipChanged', {
    partitionId: partition.id,
    confState: snapshot.confState,
  });
}

function finish(
  host: Host,
  partition: Partition,
  entries: readonly Entry[],
  results: readonly unknown[] | undefined,
): void {
  const last = entries.at(-1);
  if (last === undefined) return;
  countApplied(host, partition, entries);
  settleApplied(partition, entries, results);
  noteApplied(host, partition, last.index);
}

function noteApplied(host: Host, partition: Partition, index: LogIndex): void {
  partition.lastApplied = Math.max(partition.lastApplied, index);
  releaseReads(partition);
  settleMembershipWaits(host, partition);
  if (partition.isRestored || partition.lastApplied < partition.restoreThroughIndex) return;
  partition.isRestored = true;
  // What the restart read is not needed again, and an idle partition keeps next to nothing in memory.
  partition.pages.clear();
  host.events.emit('restoreFinished', {
    partitionId: partition.id,
    lastApplied: partition.lastApplied,
  });
}

/** Drops in-memory copies of old entries; slow followers are then served from the store. */
export function trimCache(host: Host, partition: Partition): void {
  const { log } = partition.raft;
  if (log.tailBytes > unappliedBytesMax) {
    // The state machine is far behind: what it has not got yet is read again when its turn comes.
    trimLog(partition.raft, log.stableIndex);
    return;
  }
  const partitionCount = host.settings.partitions + 1;
  const entries = shareOf(nodeCachedEntriesMax, partitionCount, cachedEntries);
  const bytes = shareOf(nodeCachedBytesMax, partitionCount, cachedBytes);
  // Copies are dropped in portions: each drop moves the rest of the list.
  const portion = entries / 4;
  if (log.tail.length < portion && log.tailBytes < bytes) return;
  const keep = log.tailBytes < bytes ? entries : 0;
  const throughIndex = log.appliedIndex - keep;
  if (throughIndex - log.tailFirstIndex >= portion || keep === 0) {
    trimLog(partition.raft, throughIndex);
  }
}

function shareOf(
  all: number,
  partitionCount: number,
  { min, max }: { readonly min: number; readonly max: number },
): number {
  return Math.min(max, Math.max(min, Math.floor(all / partitionCount)));
}

function applyFailed(
  partition: Partition,
  entries: readonly Entry[],
  cause: unknown,
): KommanderError {
  const from = entries[0]?.index;
  const to = entries.at(-1)?.index;
  return new KommanderError(
    `the state machine of partition ${partition.id} failed on entries ${from} to ${to}; the replica stopped, mend the state machine, then restart`,
    { code: 'APPLY_FAILED', details: { partitionId: partition.id, from, to }, cause },
  );
}
