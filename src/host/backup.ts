// A backup of a running node: a copy of every partition, each as it was behind one committed entry, as one stream of bytes.
// Everything that was acknowledged before it began is in it: first every partition asks its leader how far that is, then
// one after the other gives its state (or its log, when there is no state) at that place or a later one. States go to the
// node's own disk first, so that neither the state machine nor applying ever waits for whoever takes the stream.

import { createHash } from 'node:crypto';
import { must } from '../base/assert.ts';
import { utf8Bytes } from '../base/bytes.ts';
import { KommanderError, withoutEffect } from '../base/errors.ts';
import type { Timestamp } from '../ports/clock.ts';
import { encodeRuns } from '../ports/run.ts';
import type { PartitionId } from '../ports/wal.ts';
import { termAt } from '../raft/log.ts';
import type { Snapshot } from '../raft/types.ts';
import type { ReadResult } from './api.ts';
import {
  type BackupLog,
  type BackupPartition,
  type BackupState,
  backupFileName,
  encodeManifest,
  FrameKind,
  frameOf,
} from './backup-format.ts';
import { clusterIdOf } from './genesis.ts';
import type { Host } from './host.ts';
import type { Partition } from './partition.ts';
import { holdLog } from './retention.ts';
import { decodeDescriptor } from './snapshot-descriptor.ts';
import { storedData } from './snapshot-stream.ts';
import { isHostOver, releaseSnapshot, storedName, submitSnapshotWait } from './snapshots.ts';
import { Wait } from './wait.ts';

/** Partitions that ask their leaders at one time. */
const askingMax = 64;
/** Payload bytes of entries that are read in one piece. */
const entryBytesRead = 1_048_576;

export interface BackupWork {
  /** Resolves when everything that is acknowledged by now is applied on this node. */
  readonly read: (partitionId: PartitionId) => Promise<ReadResult>;
  readonly signal: AbortSignal | undefined;
}

/**
 * The stream of a backup (`backup-format.ts`).
 *
 * @throws QUEUE_FULL another one is under way
 * @throws what reads throw, NODE_CLOSED, REPLICA_STOPPED, APPLY_FAILED, DISK_FULL, WAL_FAILED, WAL_CORRUPT, ABORTED
 */
export async function* backUp(host: Host, work: BackupWork): AsyncGenerator<Uint8Array, undefined> {
  if (host.isBackingUp) {
    throw new KommanderError('a backup of this node is under way; try again when it is done', {
      code: 'QUEUE_FULL',
      details: { nodeId: host.settings.nodeId },
    });
  }
  host.isBackingUp = true;
  try {
    const timestamp = await settle(host, work);
    const partitions: BackupPartition[] = [];
    for (const partition of host.partitions.values()) {
      partitions.push(yield* copyOf(host, partition, work));
    }
    const clusterId = clusterIdOf(host.genesis);
    const manifest = { clusterId, nodeId: host.settings.nodeId, timestamp, partitions };
    yield* frameOf(FrameKind.manifest, encodeManifest(manifest));
  } finally {
    host.isBackingUp = false;
  }
}

/** @returns a timestamp at or above those of everything that was acknowledged before: every leader was heard from since */
async function settle(host: Host, { read }: BackupWork): Promise<Timestamp> {
  const ids = [...host.partitions.keys()];
  for (let at = 0; at < ids.length; at += askingMax) {
    await Promise.all(ids.slice(at, at + askingMax).map((partitionId) => read(partitionId)));
  }
  return host.hybridClock.now();
}

type Copying<Copy> = AsyncGenerator<Uint8Array, Copy>;

function copyOf(host: Host, partition: Partition, work: BackupWork): Copying<BackupPartition> {
  return partition.machine?.snapshot === undefined
    ? copyLog(host, partition, work)
    : copyState(host, partition, work);
}

async function* copyState(
  host: Host,
  partition: Partition,
  work: BackupWork,
): Copying<BackupState> {
  const snapshot = await takeState(host, partition, work);
  try {
    const { stored, clock, machineIndex, parts } = decodeDescriptor(snapshot.data);
    const { name, ...facts } = must(stored, 'a snapshot that was waited for is stored');
    const reader = await host.wal.snapshots.open(name, facts);
    try {
      const data = storedData(reader, { offset: 0, byteLength: facts.byteLength });
      const file = backupFileName(partition.id, 'state');
      const sums = yield* copyFile(host, work, { file, pieces: data });
      const { index, term } = snapshot;
      const place = { partition: partition.id, file, ...sums, index, term, timestamp: clock };
      return { kind: 'state', ...place, machineIndex, parts };
    } finally {
      await reader.close();
    }
  } finally {
    releaseSnapshot(host, partition, storedName(snapshot.data));
  }
}

/** A stored snapshot of what is applied by now, or of later; it is held. */
function takeState(host: Host, partition: Partition, { signal }: BackupWork): Promise<Snapshot> {
  return new Promise((resolve, reject) => {
    if (partition.stopped !== undefined) throw withoutEffect(partition.stopped);
    checkGoingOn(host, signal);
    const limits = { deadlineMs: Number.POSITIVE_INFINITY, signal };
    const wait = new Wait<Snapshot>(resolve, reject, limits);
    submitSnapshotWait(host, partition, { wait, index: partition.lastApplied });
  });
}

async function* copyLog(host: Host, partition: Partition, work: BackupWork): Copying<BackupLog> {
  const { log } = partition.raft;
  // A snapshot of the leader has replaced the log, and is not taken in yet: the log of what is applied is gone.
  while (partition.lastApplied < log.compactedIndex) await work.read(partition.id);
  const { lastApplied: index } = partition;
  const { compactedIndex: baseIndex, compactedTerm: baseTerm } = log;
  const term = must(termAt(log, index), 'the term of an applied entry is known');
  const timestamp = host.hybridClock.now();
  const file = backupFileName(partition.id, 'log');
  const range = { partitionId: partition.id, fromIndex: baseIndex + 1, endIndex: index + 1 };
  const hold = holdLog(host, partition, { fromIndex: range.fromIndex, owner: 'backup' });
  try {
    const sums = yield* copyFile(host, work, { file, pieces: runsOf(host, range) });
    const place = { partition: partition.id, file, ...sums, index, term, timestamp };
    return { kind: 'log', ...place, baseIndex, baseTerm };
  } finally {
    hold.release();
  }
}

async function* runsOf(
  host: Host,
  {
    partitionId,
    fromIndex,
    endIndex,
  }: {
    readonly partitionId: PartitionId;
    readonly fromIndex: number;
    readonly endIndex: number;
  },
): AsyncGenerator<Uint8Array, undefined> {
  for (let at = fromIndex; at < endIndex; ) {
    const range = { partitionId, fromIndex: at, endIndex, bytesMax: entryBytesRead };
    const entries = await host.wal.read(range);
    at += entries.length;
    yield* encodeRuns(entries);
  }
}

async function* copyFile(
  host: Host,
  { signal }: BackupWork,
  { file, pieces }: { readonly file: string; readonly pieces: AsyncIterable<Uint8Array> },
): Copying<{ readonly byteLength: number; readonly sha256: string }> {
  const hash = createHash('sha256');
  let byteLength = 0;
  yield* frameOf(FrameKind.file, utf8Bytes(file));
  for await (const piece of pieces) {
    checkGoingOn(host, signal);
    hash.update(piece);
    byteLength += piece.byteLength;
    yield* frameOf(FrameKind.bytes, piece);
  }
  return { byteLength, sha256: hash.digest('hex') };
}

function checkGoingOn(host: Host, signal: AbortSignal | undefined): void {
  if (host.failure !== undefined) throw withoutEffect(host.failure);
  if (isHostOver(host)) {
    throw new KommanderError('the node was closed while a backup was taken', {
      code: 'NODE_CLOSED',
      details: { nodeId: host.settings.nodeId },
      mayHaveCommitted: false,
    });
  }
  if (signal?.aborted !== true) return;
  throw new KommanderError('the caller gave the backup up', {
    code: 'ABORTED',
    cause: signal.reason,
    mayHaveCommitted: false,
  });
}
