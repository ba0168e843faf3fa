// What partition 0 holds: the cluster's id, its members and the partition map, as one value. The genesis record is its
// first version; the replicated copy is what every node believes. Pure: encoding and decoding only.

import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { ReplicaId } from '../raft/types.ts';
import { brokenRuleOf, evenRanges, type HashRange, partitionCountMax } from './hash-ranges.ts';

export interface RosterMember {
  readonly nodeId: NodeId;
  /**
   * The node's number in every Raft group: its place in the roster (1 … `memberCountMax`), and `memberCountMax` more for
   * each time that it was readmitted. Never given to another node, and never twice.
   */
  readonly replicaId: ReplicaId;
  /** Undefined when it was named without one: discovery finds it. */
  readonly endpoint: Endpoint | undefined;
  /** The nonce of the directory that it was readmitted with; undefined while it is the one of the genesis. */
  readonly nonce: string | undefined;
}

/** A member whose disk was emptied comes back as another replica. */
export interface Readmission {
  readonly nodeId: NodeId;
  /** Its number from now on: the next one of its place. */
  readonly replicaId: ReplicaId;
  /** The nonce of its new directory. */
  readonly nonce: string;
}

export interface SystemState {
  /** Ascending by node id. */
  readonly members: readonly RosterMember[];
  /** Which partition (1 … n) owns which hashes; ascending by hash. */
  readonly ranges: readonly HashRange[];
}

/** Nodes in one cluster. */
export const memberCountMax = 1_024;

const formatVersion = 1;

/**
 * The first state of a static cluster: the same on every node that was given the same members.
 *
 * @param members 1 … `memberCountMax` node ids, with their endpoints or without
 */
export function genesisState(
  members: ReadonlyMap<NodeId, Endpoint | undefined>,
  partitionCount: number,
): SystemState {
  const sorted = [...members].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    members: sorted.map(([nodeId, endpoint], position) => ({
      nodeId,
      replicaId: position + 1,
      endpoint,
      nonce: undefined,
    })),
    ranges: evenRanges(partitionCount),
  };
}

/** Ids of all partitions, ascending; the system partition is the first. */
export function partitionIdsOf(state: SystemState): PartitionId[] {
  const ids = new Set(state.ranges.map((range) => range.partitionId));
  return [0, ...[...ids].sort((a, b) => a - b)];
}

/** The number that a member gets when it is readmitted. */
export function nextReplicaId(replicaId: ReplicaId): ReplicaId {
  return replicaId + memberCountMax;
}

/** Whether `former` is a number that the member with the number `present` had before. */
export function isFormerOf(present: ReplicaId, former: ReplicaId): boolean {
  return former < present && (present - former) % memberCountMax === 0;
}

/** The state after a readmission. One that does not follow on the member's present number came too late: nothing changes. */
export function readmitted(state: SystemState, readmission: Readmission): SystemState {
  const { nodeId, replicaId, nonce } = readmission;
  const members = state.members.map((member) => {
    const isNext = member.nodeId === nodeId && nextReplicaId(member.replicaId) === replicaId;
    return isNext ? { ...member, replicaId, nonce } : member;
  });
  return { ...state, members };
}

export function encodeReadmission({ nodeId, replicaId, nonce }: Readmission): Uint8Array {
  const writer = new ByteWriter();
  writer.uint8(formatVersion);
  writer.text(nodeId);
  writer.varint(replicaId);
  writer.text(nonce);
  return writer.finish();
}

/** @throws MalformedBytesError */
export function decodeReadmission(bytes: Uint8Array): Readmission {
  const reader = new ByteReader(bytes);
  const version = reader.uint8();
  if (version !== formatVersion) throw new MalformedBytesError(`readmission version ${version}`);
  const readmission = { nodeId: reader.text(), replicaId: reader.varint(), nonce: reader.text() };
  if (reader.remaining !== 0) throw new MalformedBytesError('bytes behind a readmission');
  return readmission;
}

export function encodeSystemState(state: SystemState): Uint8Array {
  const writer = new ByteWriter();
  writer.uint8(formatVersion);
  writer.varint(state.members.length);
  for (const member of state.members) {
    writer.text(member.nodeId);
    writer.varint(member.replicaId);
    writer.text(member.endpoint ?? '');
    writer.text(member.nonce ?? '');
  }
  writer.varint(state.ranges.length);
  for (const range of state.ranges) {
    writer.varint(range.partitionId);
    writer.varint(range.endHash);
  }
  return writer.finish();
}

/** @throws MalformedBytesError */
export function decodeSystemState(bytes: Uint8Array): SystemState {
  const reader = new ByteReader(bytes);
  const version = reader.uint8();
  if (version !== formatVersion) throw new MalformedBytesError(`system state version ${version}`);
  const memberCount = reader.varint();
  if (memberCount > memberCountMax) throw new MalformedBytesError(`${memberCount} members`);
  const members: RosterMember[] = [];
  for (let i = 0; i < memberCount; i++) {
    const nodeId = reader.text();
    const replicaId = reader.varint();
    const endpoint = reader.text();
    const nonce = reader.text();
    members.push({
      nodeId,
      replicaId,
      endpoint: endpoint === '' ? undefined : endpoint,
      nonce: nonce === '' ? undefined : nonce,
    });
  }
  const rangeCount = reader.varint();
  if (rangeCount > partitionCountMax) throw new MalformedBytesError(`${rangeCount} hash ranges`);
  const ranges: HashRange[] = [];
  let fromHash = 0;
  for (let i = 0; i < rangeCount; i++) {
    const partitionId = reader.varint();
    const endHash = reader.varint();
    ranges.push({ partitionId, fromHash, endHash });
    fromHash = endHash;
  }
  if (reader.remaining !== 0) throw new MalformedBytesError('bytes behind a system state');
  const broken = brokenRuleOf(ranges);
  if (broken !== undefined) throw new MalformedBytesError(`hash ranges break the rule: ${broken}`);
  return { members, ranges };
}
