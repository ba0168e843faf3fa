// A node from outside: opening it, its public methods, closing it. Opening reads the store, delivers what was committed
// before to the state machines, begins to listen, and then takes part.

import { KommanderError, withoutEffect } from '../base/errors.ts';
import { partitionOfKey } from '../cluster/hash-ranges.ts';
import { partitionIdsOf } from '../cluster/system-state.ts';
import type { NodeId } from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import { forgetLeader } from '../raft/raft.ts';
import { Role } from '../raft/types.ts';
import type {
  CommitResult,
  KommanderNode,
  MembershipResult,
  NodeOptions,
  ProposalInput,
  ReadmissionResult,
  ReadResult,
  ReplicateOptions,
  WaitOptions,
} from './api.ts';
import { backUp } from './backup.ts';
import { closeHost } from './closing.ts';
import { type Host, nowMs } from './host.ts';
import { isLeading, leaderNode, submitLeaderWait, submitTransfer } from './leadership.ts';
import { submitMembershipChange } from './membership.ts';
import { openHost } from './opening.ts';
import type { Partition } from './partition.ts';
import { OutgoingPayload, typeBytes, typeBytesMax } from './payload.ts';
import { noReplica, notLeader } from './proposal-errors.ts';
import { checkpointProposal, submitProposal } from './proposals.ts';
import { readmissionOf, readmissionPayload, readmissionResult } from './readmission.ts';
import { submitLocalRead, submitRead } from './reads.ts';
import { guard, markDirty } from './ready-loop.ts';
import { holdLog } from './retention.ts';
import { statusOf } from './status.ts';
import { reservedPrefix } from './system-entries.ts';
import { Wait } from './wait.ts';

/**
 * Opens a node and resolves once its store is read, what was committed before is applied, and it listens. It takes part
 * as soon as it reaches its peers; `waitForLeader` tells when a partition can be written.
 *
 * @throws INVALID_OPTION, WAL_LOCKED, WAL_CORRUPT, WAL_VERSION, DISK_FULL, MISSING_DEPENDENCY, TRANSPORT_FAILED, APPLY_FAILED
 */
export async function openNode(options: NodeOptions): Promise<KommanderNode> {
  return nodeOf(await openHost(options));
}

/** The public face of an open host. */
export function nodeOf(host: Host): KommanderNode {
  return {
    nodeId: host.settings.nodeId,
    replicate: ((partitionId: PartitionId, ...rest: ReplicateArguments) =>
      replicate(host, partitionId, rest)) as KommanderNode['replicate'],
    checkpoint: (partitionId, waitOptions = {}) =>
      waiting<CommitResult>(host, partitionId, waitOptions, (partition, wait) =>
        submitProposal(host, partition, checkpointProposal(wait, waitOptions.forward ?? true)),
      ),
    retain: (partitionId, fromIndex, owner) => {
      checkOpen(host);
      return holdLog(host, partitionOf(host, partitionId), { fromIndex, owner });
    },
    isLeader: (partitionId) => isLeading(host, partitionOf(host, partitionId)),
    leaderOf: (partitionId) => leaderNode(host, partitionOf(host, partitionId)),
    waitForLeader: (partitionId, waitOptions = {}) =>
      waiting(host, partitionId, waitOptions, (partition, wait) =>
        submitLeaderWait(host, partition, { wait, wanted: undefined }),
      ),
    read: (partitionId, { consistency = 'linearizable', forward = true, ...limits } = {}) =>
      waiting(host, partitionId, limits, (partition, wait) => {
        if (consistency === 'local') return submitLocalRead(host, partition, wait);
        if (consistency !== 'linearizable') throw badArgument('consistency', consistency);
        if (!forward && partition.raft.role !== Role.leader) throw notLeader(host, partition);
        return submitRead(host, partition, wait);
      }),
    transferLeadership: async (partitionId, to, waitOptions = {}) => {
      const { tickMs, electionTicks } = host.settings;
      const limits = { timeoutMs: 3 * tickMs * electionTicks, ...waitOptions };
      await waiting<string>(host, partitionId, limits, (partition, wait) =>
        submitTransfer(host, partition, to, wait),
      );
    },
    changeMembership: (partitionId, changes, waitOptions = {}) =>
      waiting<MembershipResult>(host, partitionId, waitOptions, (partition, wait) =>
        submitMembershipChange(host, partition, changes, wait),
      ),
    readmit: (nodeId, waitOptions = {}) => readmit(host, nodeId, waitOptions),
    forgetLeader: (partitionId) => {
      checkOpen(host);
      const partition = partitionOf(host, partitionId);
      if (partition.stopped !== undefined) throw withoutEffect(partition.stopped);
      guard(host, partition, () => forgetLeader(partition.raft));
      markDirty(host, partition);
    },
    backup: ({ signal } = {}) =>
      backUp(host, {
        signal,
        read: (partitionId) =>
          waiting<ReadResult>(
            host,
            partitionId,
            signal === undefined ? {} : { signal },
            (partition, wait) => submitRead(host, partition, wait),
          ),
      }),
    partitionOf: (key) => partitionOfKey(host.system.ranges, key),
    partitionIds: () => partitionIdsOf(host.system),
    status: () => statusOf(host),
    on: host.events.on,
    off: host.events.off,
    close: () => closeHost(host),
    [Symbol.asyncDispose]: () => closeHost(host),
  };
}

type SingleArguments = readonly [type: string, data: Uint8Array, options?: ReplicateOptions];
type BatchArguments = readonly [entries: readonly ProposalInput[], options?: ReplicateOptions];
type ReplicateArguments = SingleArguments | BatchArguments;

interface RequestedWrite {
  readonly payloads: readonly OutgoingPayload[];
  readonly isBatch: boolean;
}

function replicate(
  host: Host,
  partitionId: PartitionId,
  rest: ReplicateArguments,
): Promise<CommitResult> {
  const options = isSingle(rest) ? rest[2] : rest[1];
  return write(host, partitionId, options ?? {}, () => requestedWrite(host, rest));
}

function isSingle(rest: ReplicateArguments): rest is SingleArguments {
  return typeof rest[0] === 'string';
}

function requestedWrite(host: Host, rest: ReplicateArguments): RequestedWrite {
  if (isSingle(rest)) {
    const [type, data] = rest;
    return { payloads: [checkedPayload(host, { type, data })], isBatch: false };
  }
  const [entries] = rest;
  if (!Array.isArray(entries)) throw badArgument('type', entries);
  if (entries.length === 0) throw badArgument('entries', 'an empty list');
  return {
    payloads: entries.map((entry: ProposalInput) => checkedPayload(host, entry)),
    isBatch: true,
  };
}

function checkedPayload(host: Host, { type, data }: ProposalInput): OutgoingPayload {
  if (typeof type !== 'string' || type === '') throw badArgument('type', type);
  if (type.startsWith(reservedPrefix)) {
    throw new KommanderError(
      `the entry type "${type}" begins with "_", which is kept for the library; choose another`,
      { code: 'RESERVED_TYPE', details: { type } },
    );
  }
  const bytes = typeBytes(type);
  if (bytes.byteLength > typeBytesMax) throw badArgument('type', `${bytes.byteLength} bytes long`);
  if (!(data instanceof Uint8Array)) throw badArgument('data', typeof data);
  const { entryBytesMax } = host.settings;
  if (data.byteLength > entryBytesMax) throw tooLarge(data.byteLength, entryBytesMax);
  const payload = new OutgoingPayload(bytes, data);
  if (payload.isGone) throw badArgument('data', 'its buffer was transferred away');
  return payload;
}

async function readmit(
  host: Host,
  nodeId: NodeId,
  options: WaitOptions,
): Promise<ReadmissionResult> {
  checkOpen(host);
  const readmission = readmissionOf(host, nodeId);
  if (readmission !== undefined) {
    const payloads = [readmissionPayload(readmission)];
    await write(host, 0, options, () => ({ payloads, isBatch: false }));
  }
  return readmissionResult(host, nodeId, readmission);
}

function write(
  host: Host,
  partitionId: PartitionId,
  options: ReplicateOptions,
  request: () => RequestedWrite,
): Promise<CommitResult> {
  return waiting<CommitResult>(host, partitionId, options, (partition, wait) => {
    const { payloads, isBatch } = request();
    let bytes = 0;
    for (const payload of payloads) bytes += payload.byteLength;
    const { entryBytesMax, appendBytesMax } = host.settings;
    const batchBytesMax = Math.max(appendBytesMax, entryBytesMax);
    if (isBatch && bytes > batchBytesMax) throw tooLarge(bytes, batchBytesMax);
    submitProposal(host, partition, {
      payloads,
      bytes,
      isBatch,
      mayForward: options.forward ?? true,
      origin: { kind: 'local', wait },
      forwardedTo: undefined,
      position: undefined,
      results: undefined,
    });
  });
}

/** A promise that ends with the wait which `begin` puts where it belongs; what `begin` throws ends it at once. */
function waiting<Result>(
  host: Host,
  partitionId: PartitionId,
  { signal, timeoutMs = host.settings.proposalTimeoutMs }: WaitOptions,
  begin: (partition: Partition, wait: Wait<Result>) => void,
): Promise<Result> {
  return new Promise((resolve, reject) => {
    checkOpen(host);
    const partition = partitionOf(host, partitionId);
    if (partition.stopped !== undefined) throw withoutEffect(partition.stopped);
    const isTime = typeof timeoutMs === 'number' && timeoutMs >= 1 && timeoutMs <= 2_147_483_647;
    if (!isTime) throw badArgument('timeoutMs', timeoutMs);
    if (!partition.raft.progress.has(partition.raft.id)) throw noReplica(host, partition);
    const wait = new Wait(resolve, reject, { deadlineMs: nowMs(host) + timeoutMs, signal });
    if (wait.isSettled) return;
    try {
      begin(partition, wait);
    } catch (error) {
      // Through the wait, which then lets go of the caller's signal.
      wait.fail(error instanceof Error ? error : new Error(String(error)));
    }
  });
}

function checkOpen(host: Host): void {
  if (host.failure !== undefined) throw withoutEffect(host.failure);
  if (host.state === 'forming' || host.state === 'running') return;
  throw new KommanderError('this node is closing or closed; nothing was written', {
    code: 'NODE_CLOSED',
    details: { nodeId: host.settings.nodeId },
    mayHaveCommitted: false,
  });
}

function partitionOf(host: Host, partitionId: PartitionId): Partition {
  const partition = host.partitions.get(partitionId);
  if (partition !== undefined) return partition;
  throw new KommanderError(
    `there is no partition ${partitionId}; this node has 0 to ${host.partitions.size - 1}`,
    { code: 'UNKNOWN_PARTITION', details: { partitionId } },
  );
}

function badArgument(argument: string, value: unknown): KommanderError {
  return new KommanderError(`the argument ${argument} is not valid: ${String(value)}`, {
    code: 'INVALID_ARGUMENT',
    details: { argument },
  });
}

function tooLarge(bytes: number, bytesMax: number): KommanderError {
  return new KommanderError(
    `the data has ${bytes} bytes, more than ${bytesMax}; split it, or raise the limit`,
    { code: 'ENTRY_TOO_LARGE', details: { bytes, bytesMax } },
  );
}
