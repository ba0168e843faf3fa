// The birth of a static cluster (DESIGN §7). Every first member durably accepts one genesis record, and the groups start
// only when all of them have. Each acceptance carries a nonce that is drawn anew for an empty directory: a node whose
// disk was emptied comes back with another nonce, is recognised, and takes no part (HAZARDS 12, 52).

import { createHash } from 'node:crypto';
import { must } from '../base/assert.ts';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import { decodeSystemState, encodeSystemState, type SystemState } from '../cluster/system-state.ts';
import { type Endpoint, type GenesisItem, Lane, type NodeId } from '../ports/transport.ts';
import { failNode } from './failure.ts';
import type { Host } from './host.ts';
import { decodedFact } from './meta.ts';
import { queueItem } from './outbox.ts';
import { scheduleTurn } from './ready-loop.ts';

export interface Genesis {
  readonly record: SystemState;
  /** Of the backup that the cluster was restored from, the hash; undefined for one that began empty. */
  readonly origin: string | undefined;
  readonly recordHash: string;
  /** What every first member drew, this node's own included. */
  readonly nonces: Map<NodeId, string>;
  isComplete: boolean;
  /** Peers that came with another nonce than the one that they accepted with: their disk is not the one we knew. */
  readonly strangers: Set<NodeId>;
}

const formatVersion = 1;
/** Has an origin. Clusters that began empty keep version 1, which older programs read. */
const restoredVersion = 2;
/** Ticks between two reminders to peers while the cluster is forming. */
const reminderTicks = 5;

/** The acceptance of a node that starts with an empty directory. */
export function newGenesis(record: SystemState, nodeId: NodeId, nonce: string): Genesis {
  return accepted({ record, nodeId, nonce, origin: undefined });
}

/** The acceptance of a node whose directory was filled from the backup `origin`. */
export function restoredGenesis(acceptance: Acceptance & { readonly origin: string }): Genesis {
  return accepted(acceptance);
}

interface Acceptance {
  readonly record: SystemState;
  readonly origin: string | undefined;
  readonly nodeId: NodeId;
  readonly nonce: string;
}

function accepted({ record, origin, nodeId, nonce }: Acceptance): Genesis {
  return {
    record,
    origin,
    recordHash: hashOf(record, origin),
    nonces: new Map([[nodeId, nonce]]),
    isComplete: record.members.length === 1,
    strangers: new Set(),
  };
}

/**
 * The cluster's id: equal records of equal origin give equal ids, so that nodes with different member lists, of different
 * backups, or of none, refuse each other.
 */
export function clusterIdOf(genesis: Genesis): string {
  return genesis.recordHash.slice(0, 32);
}

export function encodeGenesis(genesis: Genesis): Uint8Array {
  const record = encodeSystemState(genesis.record);
  const writer = new ByteWriter();
  writer.uint8(genesis.origin === undefined ? formatVersion : restoredVersion);
  writer.uint8(genesis.isComplete ? 1 : 0);
  if (genesis.origin !== undefined) writer.text(genesis.origin);
  writer.varint(record.byteLength);
  writer.raw(record);
  writer.varint(genesis.nonces.size);
  for (const [nodeId, nonce] of genesis.nonces) {
    writer.text(nodeId);
    writer.text(nonce);
  }
  return writer.finish();
}

/** @throws WAL_CORRUPT, WAL_VERSION */
export function decodeGenesis(bytes: Uint8Array): Genesis {
  return decodedFact('the genesis record', () => readGenesis(bytes));
}

function readGenesis(bytes: Uint8Array): Genesis {
  const reader = new ByteReader(bytes);
  const version = reader.uint8();
  if (version !== formatVersion && version !== restoredVersion) {
    throw new KommanderError(`the genesis record has version ${version}; this is version 2`, {
      code: 'WAL_VERSION',
      details: { version },
    });
  }
  const isComplete = reader.uint8() === 1;
  const origin = version === restoredVersion ? reader.text() : undefined;
  const record = decodeSystemState(reader.view(reader.varint()));
  const nonces = new Map<NodeId, string>();
  const count = reader.varint();
  for (let i = 0; i < count; i++) nonces.set(reader.text(), reader.text());
  const recordHash = hashOf(record, origin);
  return { record, origin, recordHash, nonces, isComplete, strangers: new Set() };
}

/** Tells a peer what this node knows. */
export function sendGenesis(host: Host, peer: NodeId): void {
  const { recordHash, isComplete, nonces } = host.genesis;
  queueItem(host, peer, Lane.control, {
    kind: 'genesis',
    recordHash,
    complete: isComplete,
    acceptances: [...nonces].map(([nodeId, nonce]) => ({ nodeId, nonce })),
    endpoint: host.settings.advertise,
  });
  scheduleTurn(host);
}

/** Reminds peers while the cluster is forming: any message may have been lost. */
export function remindOfGenesis(host: Host): void {
  if (host.genesis.isComplete || host.tickCount % reminderTicks !== 0) return;
  for (const peer of host.replicaIds.keys()) {
    if (peer !== host.settings.nodeId) sendGenesis(host, peer);
  }
}

/** A peer says what it knows. `completed` is called once all first members have accepted. */
export function handleGenesis(
  host: Host,
  from: NodeId,
  item: GenesisItem,
  completed: () => void,
): void {
  const { genesis, settings } = host;
  const peerNonce = item.acceptances.find(({ nodeId }) => nodeId === from)?.nonce;
  if (item.recordHash !== genesis.recordHash || peerNonce === undefined) return;
  if (item.endpoint !== undefined) noteAdvertised(host, from, item.endpoint);
  if (item.complete) {
    const known = item.acceptances.find(({ nodeId }) => nodeId === settings.nodeId)?.nonce;
    const own = must(genesis.nonces.get(settings.nodeId), 'a node knows its own nonce');
    if (known !== own) {
      failNode(host, wiped(settings.nodeId, from));
      return;
    }
  }
  if (genesis.isComplete) {
    judge(host, from, peerNonce);
    if (!item.complete) sendGenesis(host, from);
    return;
  }
  for (const { nodeId, nonce } of item.complete ? item.acceptances : []) {
    genesis.nonces.set(nodeId, nonce);
  }
  genesis.nonces.set(from, peerNonce);
  if (!genesis.record.members.every(({ nodeId }) => genesis.nonces.has(nodeId))) return;
  genesis.isComplete = true;
  completed();
}

/** A member says where it is reached: it knows better than the list that the cluster was formed with. */
function noteAdvertised(host: Host, peer: NodeId, endpoint: Endpoint): void {
  if (host.advertised.get(peer) === endpoint) return;
  try {
    host.transport.setPeer(peer, endpoint);
    host.advertised.set(peer, endpoint);
  } catch (error) {
    if (!isKommanderError(error, 'INVALID_OPTION')) throw error;
    host.observe({ level: 'warn', name: 'endpoint-refused', fields: { peer, error } });
  }
}

/** Whether the peer is the one that accepted the record. Messages of a stranger are not taken. */
function judge(host: Host, peer: NodeId, nonce: string): void {
  const { strangers, nonces } = host.genesis;
  if (nonces.get(peer) === nonce) {
    strangers.delete(peer);
    return;
  }
  if (strangers.has(peer)) return;
  strangers.add(peer);
  host.observe({ level: 'error', name: 'peer-wiped', fields: { peer } });
}

function hashOf(record: SystemState, origin: string | undefined): string {
  const hash = createHash('sha256').update(encodeSystemState(record));
  return (origin === undefined ? hash : hash.update(origin)).digest('hex');
}

function wiped(nodeId: NodeId, peer: NodeId): KommanderError {
  return new KommanderError(
    `the data directory of "${nodeId}" is not the one that "${peer}" and the cluster know: it was emptied or replaced; restore it, or replace the node`,
    { code: 'NODE_WIPED', details: { nodeId, peer } },
  );
}
