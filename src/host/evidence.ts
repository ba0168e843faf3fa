// Evidence: what a replica leaves when it stops on a broken rule, or when somebody asks. The last inputs of its core,
// the state before them and after them, and what is needed to make sense of them, without the application's data.
// Files of them are bounded in number, and a failure to write one is reported and nothing more.

import { must } from '../base/assert.ts';
import type { NodeId } from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import { type CoreRecord, recordOf } from '../raft/recording-reader.ts';
import type { ReplicaId } from '../raft/types.ts';
import { libraryVersion, writeEvidence } from './evidence-file.ts';
import { clusterIdOf } from './genesis.ts';
import type { Host } from './host.ts';
import type { Partition } from './partition.ts';

/** What a replica did last, and why that is of interest. Plain JSON values. */
export interface EvidenceBundle {
  readonly libraryVersion: string | undefined;
  readonly clusterId: string;
  readonly nodeId: NodeId;
  readonly incarnation: number;
  readonly partitionId: PartitionId;
  /** The numbers that the members have in the group. */
  readonly replicaIds: Readonly<Record<NodeId, ReplicaId>>;
  /** Milliseconds since 1970 on the node's wall clock. */
  readonly takenAtMs: number;
  /** Why the replica stopped; absent when it did not. */
  readonly failure: EvidenceFailure | undefined;
  readonly record: CoreRecord;
}

export interface EvidenceFailure {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
}

/** Recordings of all partitions of a node, in bytes. */
const nodeRecordingBytesMax = 33_554_432;
/** Of one partition, however few there are, and however many. */
const recordingBytes = { min: 8_192, max: 131_072 } as const;
/** Files that one life of a node writes: a fault that stops a thousand replicas at once must not stop the node. */
const filesPerLifeMax = 16;

/** Bytes that a partition may take for the recording of its last inputs. */
export function recordingBytesFor(partitionCount: number): number {
  const share = Math.floor(nodeRecordingBytesMax / partitionCount);
  return Math.min(recordingBytes.max, Math.max(recordingBytes.min, share));
}

/** Takes the evidence of a replica as it is now. @param failure why it stops, when it does */
export function evidenceOf(host: Host, partition: Partition, failure?: unknown): EvidenceBundle {
  return {
    libraryVersion: libraryVersion(),
    clusterId: clusterIdOf(host.genesis),
    nodeId: host.settings.nodeId,
    incarnation: host.incarnation,
    partitionId: partition.id,
    replicaIds: Object.fromEntries(host.replicaIds),
    takenAtMs: host.settings.clock.wallMs(),
    failure: failure === undefined ? undefined : failureOf(failure),
    record: must(recordOf(partition.raft), 'every core of a node is recorded'),
  };
}

function failureOf(failure: unknown): EvidenceFailure {
  if (!(failure instanceof Error)) {
    return { name: 'thrown', message: String(failure), stack: undefined };
  }
  const { name, message, stack } = failure;
  return { name, message, stack };
}

/**
 * Keeps the evidence of a replica that stops, if the node has a directory for it.
 *
 * @returns the file; undefined when there is none
 */
export function keepEvidence(
  host: Host,
  partition: Partition,
  failure: unknown,
): string | undefined {
  const { evidenceDirectory: directory } = host.settings;
  if (directory === undefined) return undefined;
  const report = (error: unknown): void => {
    const fields = { partitionId: partition.id, directory, error };
    host.observe({ level: 'error', name: 'evidence-not-written', fields });
  };
  if (host.evidenceCount >= filesPerLifeMax) {
    report(new Error(`this node has written ${filesPerLifeMax} files of evidence since its start`));
    return undefined;
  }
  host.evidenceCount += 1;
  try {
    return writeEvidence(directory, evidenceOf(host, partition, failure));
  } catch (error) {
    report(error);
    return undefined;
  }
}
