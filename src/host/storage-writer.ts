// The node's one writer: storage requests of all partitions become one batch with one sync, and what arrives while the
// disk works rides in the next one (group commit without timers). Responses are given out when their request is durable,
// in the order of the requests. A failed write is never tried again: the node stops (DESIGN §6). One that a full disk
// refused has written nothing: its requests stay first in line, and it is tried again after a pause.

import { isKommanderError, KommanderError } from '../base/errors.ts';
import type { LogBase, PartitionId, PartitionWrite } from '../ports/wal.ts';
import { restartElectionTimer } from '../raft/raft.ts';
import type { StorageAppend } from '../raft/ready.ts';
import type { HardState, Message, Snapshot } from '../raft/types.ts';
import { trimCache } from './applier.ts';
import { failNode } from './failure.ts';
import { type Host, nowMs } from './host.ts';
import { handOverAll } from './leadership.ts';
import { encodeNumber, metaKeys } from './meta.ts';
import { queueMessage } from './outbox.ts';
import type { Partition } from './partition.ts';
import { markDirty, runTurn, stepPartition } from './ready-loop.ts';
import { dropPassedDraft } from './snapshot-receiving.ts';
import { enqueueRestore, noteBaseStored, storedName } from './snapshots.ts';

interface StorageRequest {
  readonly partition: Partition;
  readonly write: PartitionWrite;
  readonly mustSync: boolean;
  readonly responses: readonly Message[];
  /** Given to the state machine when the log begins behind it for certain. */
  readonly snapshot: Snapshot | undefined;
}

/** Requests of one partition that may wait, in windows of what a leader has on the way: a few leaders may come and go. */
const queuedWindowsMax = 16;
/** Ticks between two attempts to write to a full disk. */
const fullRetryTicks = 10;

/** The disk is full. */
interface FullDisk {
  /** When the first write was refused, on the monotonic clock. */
  readonly sinceMs: number;
  retryAtTick: number;
}

export interface StorageWriter {
  /** Requests that wait for the next batch, in order. */
  queue: StorageRequest[];
  /** Partitions whose proposals wait until the disk is idle. */
  readonly proposers: Set<Partition>;
  /** When the running write began, on the monotonic clock; undefined while the disk is idle. */
  busySinceMs: number | undefined;
  /** Present from a write that was refused for want of room until one that was not. */
  full: FullDisk | undefined;
  /** Resolved whenever a write has ended. */
  idleWaits: (() => void)[];
  /** Node-wide facts for the next write. */
  meta: Map<string, Uint8Array>;
}

export function newStorageWriter(): StorageWriter {
  return {
    queue: [],
    proposers: new Set(),
    busySinceMs: undefined,
    full: undefined,
    idleWaits: [],
    meta: new Map(),
  };
}

export function isWriterBusy(host: Host): boolean {
  return host.writer.busySinceMs !== undefined;
}

export function isDiskFull(host: Host): boolean {
  return host.writer.full !== undefined;
}

/**
 * Whether a partition has as many requests waiting as it may. A disk that does not answer, or is full, for hours lets no
 * promise out: what would add to the queue is not taken, and Raft tries again.
 */
export function isQueueFull(host: Host, partition: Partition): boolean {
  return partition.queuedRequests >= queuedWindowsMax * host.settings.inflightMessagesMax;
}

/** Takes the storage work of a `Ready`. */
export function enqueueAppend(host: Host, partition: Partition, request: StorageAppend): void {
  const { hardState, snapshot, entries } = request;
  // The core asks the store for what is below its own tail only; what it once read there may be of a term that lost.
  if (entries[0] !== undefined) partition.pages.replaced(entries[0].index);
  const write = partitionWrite(partition.id, {
    hardState:
      hardState === undefined ? undefined : promiseOf(partition, hardState, request.mustKeepCommit),
    base: snapshot,
    resetLog: snapshot !== undefined,
    entries,
  });
  if (snapshot !== undefined) {
    noteBase(partition, snapshot);
    partition.pages.clear();
  }
  enqueue(host, {
    partition,
    write,
    // What is acknowledged next builds on a configuration that must not be forgotten.
    mustSync: request.mustSync || request.mustKeepCommit,
    responses: request.responses,
    snapshot,
  });
}

function enqueue(host: Host, request: StorageRequest): void {
  request.partition.queuedRequests += 1;
  host.writer.queue.push(request);
}

/**
 * Term and vote are written with the batch that they belong to. A commit index alone waits for a quiet moment: a row for
 * it in every batch would cost more than the entries of a small one. One that passes a change of the members must not be
 * forgotten.
 */
function promiseOf(
  partition: Partition,
  hardState: HardState,
  mustKeepCommit: boolean,
): HardState | undefined {
  const { promised } = partition;
  const isPromised = hardState.term === promised.term && hardState.votedFor === promised.votedFor;
  if (isPromised && !mustKeepCommit) {
    partition.lazyHardState = hardState;
    return undefined;
  }
  partition.promised = hardState;
  partition.lazyHardState = undefined;
  return hardState;
}

function noteBase(partition: Partition, base: LogBase): void {
  partition.baseIndex = base.index;
  partition.baseNames.push(storedName(base.data));
}

/** Stores a new base (a checkpoint), or compacts the log below the present one. */
export function enqueueBase(
  host: Host,
  partition: Partition,
  parts: Partial<Pick<PartitionWrite, 'base' | 'compactThroughIndex'>>,
): void {
  if (parts.base !== undefined) noteBase(partition, parts.base);
  enqueue(host, {
    partition,
    write: partitionWrite(partition.id, parts),
    mustSync: true,
    responses: [],
    snapshot: undefined,
  });
  markDirty(host, partition);
}

/** Begins the next write, if the disk is idle and there is something that must be durable. */
export function startWrite(host: Host): void {
  const { writer } = host;
  if (isWriterBusy(host) || isDiskFull(host) || host.state === 'failed') return;
  if (writer.queue.length === 0 && writer.meta.size === 0) return;
  const requests = taken(writer);
  if (writer.meta.size === 0 && !requests.some((request) => request.mustSync)) {
    // Everything before is durable, so these depend on nothing: no write for a commit index alone.
    complete(host, requests);
    wakeIdleWaits(writer);
    return;
  }
  store(host, requests);
}

/** Tries again what a full disk refused. Called at every tick; with nothing to write it asks whether there is room. */
export function retryWrite(host: Host): void {
  const { full } = host.writer;
  if (full === undefined || isWriterBusy(host) || host.state === 'failed') return;
  if (host.tickCount < full.retryAtTick) return;
  store(host, taken(host.writer));
}

function taken(writer: StorageWriter): readonly StorageRequest[] {
  const requests = writer.queue;
  writer.queue = [];
  return requests;
}

function store(host: Host, requests: readonly StorageRequest[]): void {
  const { writer } = host;
  writer.busySinceMs = nowMs(host);
  const writes = requests.map((request) => request.write);
  write(host, writes, true).then(
    () => {
      writer.busySinceMs = undefined;
      noteRoom(host);
      if (host.state !== 'failed') complete(host, requests);
      goOn(host);
    },
    (error: unknown) => {
      writer.busySinceMs = undefined;
      if (isKommanderError(error, 'DISK_FULL')) {
        // Nothing was written: what waits longest stays first.
        writer.queue = [...requests, ...writer.queue];
        noteFull(host, error);
        goOn(host);
        return;
      }
      failWriter(host, error);
      wakeIdleWaits(writer);
    },
  );
}

function noteFull(host: Host, error: KommanderError): void {
  const { writer } = host;
  const retryAtTick = host.tickCount + fullRetryTicks;
  if (writer.full !== undefined) {
    writer.full.retryAtTick = retryAtTick;
    return;
  }
  writer.full = { sinceMs: nowMs(host), retryAtTick };
  host.observe({ level: 'error', name: 'disk-full', fields: { error } });
}

function noteRoom(host: Host): void {
  const { writer } = host;
  if (writer.full === undefined) return;
  const fullMs = nowMs(host) - writer.full.sinceMs;
  writer.full = undefined;
  host.observe({ level: 'info', name: 'disk-has-room', fields: { fullMs } });
}

/** Stores commit indexes that wait for a write, without a sync: they only make a restart cheaper. */
export async function flushLazyHardStates(host: Host): Promise<void> {
  const { writer } = host;
  if (isWriterBusy(host) || isDiskFull(host) || host.state === 'failed') return;
  if (writer.queue.length > 0) return;
  const flushed = [...host.partitions.values()].flatMap((partition) => {
    const { lazyHardState: hardState, stopped } = partition;
    return hardState === undefined || stopped !== undefined ? [] : [{ partition, hardState }];
  });
  if (flushed.length === 0) return;
  writer.busySinceMs = nowMs(host);
  const writes = flushed.map(({ partition, hardState }) =>
    partitionWrite(partition.id, { hardState }),
  );
  try {
    await write(host, writes, false);
    for (const { partition, hardState } of flushed) {
      // What came meanwhile waits for the next time.
      if (partition.lazyHardState === hardState) partition.lazyHardState = undefined;
    }
  } catch (error) {
    if (isKommanderError(error, 'DISK_FULL')) noteFull(host, error);
    else failWriter(host, error);
  } finally {
    writer.busySinceMs = undefined;
  }
  goOn(host);
}

/** The disk is idle: what waited for it has its turn. */
function goOn(host: Host): void {
  const { writer } = host;
  for (const partition of writer.proposers) host.dirty.add(partition);
  writer.proposers.clear();
  wakeIdleWaits(writer);
  runTurn(host);
}

/** Resolves when nothing is being written and nothing waits to be. */
export async function writerIdle(host: Host): Promise<void> {
  while ((isWriterBusy(host) || host.writer.queue.length > 0) && host.state !== 'failed') {
    await new Promise<void>((resolve) => {
      host.writer.idleWaits.push(resolve);
      startWrite(host);
    });
  }
}

async function write(host: Host, writes: readonly PartitionWrite[], sync: boolean): Promise<void> {
  const { writer } = host;
  const facts = writer.meta;
  writer.meta = new Map();
  const clockFloor = encodeNumber(host.hybridClock.now());
  const meta = new Map([...facts, [metaKeys.clockFloor, clockFloor] as const]);
  try {
    await host.wal.write({ writes, meta, sync });
  } catch (error) {
    writer.meta = new Map([...facts, ...writer.meta]);
    throw error;
  }
}

/** One partition's part of a batch: what is not in `parts` stays as it is stored. */
export function partitionWrite(
  partitionId: PartitionId,
  parts: Partial<PartitionWrite>,
): PartitionWrite {
  return {
    partitionId,
    hardState: undefined,
    base: undefined,
    resetLog: false,
    entries: [],
    compactThroughIndex: undefined,
    ...parts,
  };
}

function complete(host: Host, requests: readonly StorageRequest[]): void {
  for (const { partition, write, responses, snapshot } of requests) {
    partition.queuedRequests -= 1;
    if (write.base !== undefined) {
      noteBaseStored(host, partition);
      dropPassedDraft(host, partition);
    }
    if (partition.stopped !== undefined) continue;
    if (snapshot !== undefined) enqueueRestore(host, partition, snapshot);
    for (const response of responses) give(host, partition, response);
    trimCache(host, partition);
    markDirty(host, partition);
  }
}

function give(host: Host, partition: Partition, response: Message): void {
  // The candidate's time begins when the vote can count, however slow the disk is.
  const isVote = response.type === 'requestVoteResponse' && !response.preVote && !response.rejected;
  if (isVote) restartElectionTimer(partition.raft);
  if (!('to' in response) || response.to === partition.raft.id) {
    stepPartition(host, partition, response);
  } else {
    queueMessage(host, partition, response);
  }
}

function wakeIdleWaits(writer: StorageWriter): void {
  const waits = writer.idleWaits;
  writer.idleWaits = [];
  for (const wake of waits) wake();
}

function failWriter(host: Host, cause: unknown): void {
  handOverAll(host);
  const error = new KommanderError(
    'the log could not be written: this node stops writing and takes no further part; check the disk, then restart',
    { code: 'WAL_FAILED', cause },
  );
  failNode(host, error);
}
