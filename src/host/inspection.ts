// What stands in a closed node's store, in words that its tools print: the node-wide facts, what a base says of its state, and
// the payloads of entries. Only the host knows their encodings.

import { MalformedBytesError, utf8Text } from '../base/bytes.ts';
import type { Timestamp } from '../ports/clock.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';
import type { LogBase, PartitionId } from '../ports/wal.ts';
import { ConfChangeKind, decodeConfChange } from '../raft/conf-change.ts';
import { type Entry, EntryKind, payloadOf, type ReplicaId } from '../raft/types.ts';
import { clusterIdOf, decodeGenesis } from './genesis.ts';
import { checkRestored, decodedFact, decodeNumber, metaKeys } from './meta.ts';
import { decodePayload } from './payload.ts';
import type { NamedSnapshot } from './snapshot-descriptor.ts';
import { baseDescriptor } from './snapshots.ts';

/** Whose store it is. */
export interface NodeFacts {
  readonly nodeId: NodeId | undefined;
  /** Undefined: the node never started on this store. */
  readonly clusterId: string | undefined;
  /** Starts of the node so far. */
  readonly incarnation: number;
  /** At or above every timestamp that the node has given to stored entries. */
  readonly clockFloor: Timestamp;
  /** Whether all first members had accepted the genesis record, as far as this node knew. */
  readonly isFormed: boolean;
  /** The first members. */
  readonly members: readonly {
    readonly nodeId: NodeId;
    readonly replicaId: ReplicaId;
    /** Undefined when they were named by their ids alone. */
    readonly endpoint: Endpoint | undefined;
  }[];
  /** Application partitions that the cluster was formed with. */
  readonly partitionCount: number;
}

/** What the base of a partition says of the state there. */
export interface BaseFacts {
  /** Where its bytes are; undefined: only the state machine's own store has it, or there is no machine. */
  readonly snapshot: NamedSnapshot | undefined;
}

/** What an entry is. */
export interface EntryFacts {
  /** `newTerm`: the empty entry that a leader begins its term with. `unknown`: no payload of this version. */
  readonly kind: 'normal' | 'newTerm' | 'confChange' | 'unknown';
  /** The application's type, or the library's own. */
  readonly type: string | undefined;
  readonly timestamp: Timestamp | undefined;
  /** The application's data; of a change of the members what it says, as text; else the payload. A view. */
  readonly data: Uint8Array | string;
}

/**
 * Reads the node-wide facts of a store (`WalContents.meta`).
 *
 * @throws WAL_CORRUPT a fact means nothing, or the restore of a backup into the store was interrupted
 * @throws WAL_VERSION the genesis record is of a newer version
 */
export function describeFacts(meta: ReadonlyMap<string, Uint8Array>): NodeFacts {
  checkRestored(meta);
  const owner = meta.get(metaKeys.nodeId);
  const stored = meta.get(metaKeys.genesis);
  const genesis = stored === undefined ? undefined : decodeGenesis(stored);
  return {
    nodeId: owner === undefined ? undefined : decodedFact('a node id', () => utf8Text(owner)),
    clusterId: genesis === undefined ? undefined : clusterIdOf(genesis),
    incarnation: decodeNumber(meta.get(metaKeys.incarnation)),
    clockFloor: decodeNumber(meta.get(metaKeys.clockFloor)),
    isFormed: genesis?.isComplete ?? false,
    members: genesis?.record.members ?? [],
    partitionCount: genesis?.record.ranges.length ?? 0,
  };
}

/**
 * Reads what a stored base says of its state (`StoredPartition.base`).
 *
 * @throws WAL_CORRUPT it means nothing
 * @throws WAL_VERSION it is of a newer version
 */
export function describeBase(partitionId: PartitionId, base: LogBase): BaseFacts {
  return { snapshot: baseDescriptor(partitionId, base)?.stored };
}

/** Says what an entry is; it never throws. */
export function describeEntry(entry: Entry): EntryFacts {
  const payload = payloadOf(entry);
  try {
    if (entry.kind === EntryKind.confChange)
      return { ...plain, kind: 'confChange', data: changeText(payload) };
    if (payload.byteLength === 0) return { ...plain, kind: 'newTerm', data: payload };
    const { type, timestamp, data } = decodePayload(entry);
    return { kind: 'normal', type, timestamp, data };
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    return { ...plain, kind: 'unknown', data: payload };
  }
}

const plain = { type: undefined, timestamp: undefined } as const;

function changeText(payload: Uint8Array): string {
  const { changes } = decodeConfChange(payload);
  if (changes.length === 0) return 'leave the joint configuration';
  const names = Object.entries(ConfChangeKind);
  return changes
    .map(({ kind, replica }) => `${names.find(([, code]) => code === kind)?.[0]} ${replica}`)
    .join(', ');
}
