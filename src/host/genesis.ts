// The birth of a static cluster (DESIGN §7), and who its members are since. Every first member durably accepts one
// genesis record, and the groups start only when all of them have. Each acceptance carries a nonce that is drawn anew for
// an empty directory: a node whose disk was emptied comes back with another nonce, is recognised, and takes no part
// (HAZARDS 12, 52) until an operator has it readmitted (`readmission.ts`): as another replica, with the new nonce.

import { createHash } from 'node:crypto';
import { must } from '../base/assert.ts';
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import { decodeSystemState, encodeSystemState, type SystemState } from '../cluster/system-state.ts';
import { type GenesisAcceptance, type GenesisItem, Lane, type NodeId } from '../ports/transport.ts';
import type { ReplicaId } from '../raft/types.ts';
import { noteEndpoint } from './endpoints.ts';
import { failNode, refuseNode } from './failure.ts';
import type { Host } from './host.ts';
import { decodedFact, metaKeys } from './meta.ts';
import { queueItem } from './outbox.ts';
import { scheduleTurn } from './ready-loop.ts';
import { endSnapshotReceives } from './snapshot-receiving.ts';
import { endSnapshotSends } from './snapshot-sending.ts';
import { endSnapshotServes } from './snapshot-serving.ts';

/** The directory that a member is known by, and its number in every group since it has that directory. */
export type Admission = Omit<GenesisAcceptance, 'nodeId'>;

/** A directory that is not the one that the cluster knows its member by. */
export interface Stranger {
  readonly nonce: string;
  /** It holds nothing of the cluster yet: its node may be readmitted with it. */
  readonly isEmpty: boolean;
}

export interface Genesis {
  readonly record: SystemState;
  /** Of the backup that the cluster was restored from, the hash; undefined for one that began empty. */
  readonly origin: string | undefined;
  readonly recordHash: string;
  /** Of first members that have accepted, this node included. Of two admissions the one with the higher number counts. */
  readonly admissions: Map<NodeId, Admission>;
  isComplete: boolean;
  /** Peers that came with another nonce than the one that they were admitted with. */
  readonly strangers: Map<NodeId, Stranger>;
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
    admissions: new Map([[nodeId, { nonce, replicaId: replicaIdIn(record, nodeId) }]]),
    isComplete: record.members.length === 1,
    strangers: new Map(),
  };
}

function replicaIdIn(record: SystemState, nodeId: NodeId): ReplicaId {
  const member = record.members.find((each) => each.nodeId === nodeId);
  return must(member, 'a node that accepts the record is in it').replicaId;
}

/**
 * The cluster's id: equal records of equal origin give equal ids, so that nodes with different member lists, of different
 * backups, or of none, refuse each other.
 */
export function clusterIdOf(genesis: Genesis): string {
  return genesis.recordHash.slice(0, 32);
}

/** Every member and its present number, as far as this node knows. */
export function replicaIdsOf({ record, admissions }: Genesis): Map<NodeId, ReplicaId> {
  return new Map(
    record.members.map(({ nodeId, replicaId }) => [
      nodeId,
      admissions.get(nodeId)?.replicaId ?? replicaId,
    ]),
  );
}

export function encodeGenesis(genesis: Genesis): Uint8Array {
  const record = encodeSystemState(genesis.record);
  const writer = new ByteWriter();
  writer.uint8(genesis.origin === undefined ? formatVersion : restoredVersion);
  writer.uint8(genesis.isComplete ? 1 : 0);
  if (genesis.origin !== undefined) writer.text(genesis.origin);
  writer.varint(record.byteLength);
  writer.raw(record);
  writer.varint(genesis.admissions.size);
  for (const [nodeId, { nonce, replicaId }] of genesis.admissions) {
    writer.text(nodeId);
    writer.text(nonce);
    writer.varint(replicaId);
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
  const completeness = reader.uint8();
  if (completeness > 1) throw new MalformedBytesError(`completeness ${completeness}`);
  const origin = version === restoredVersion ? reader.text() : undefined;
  const record = decodeSystemState(reader.view(reader.varint()));
  const admissions = new Map<NodeId, Admission>();
  const count = reader.varint();
  for (let i = 0; i < count; i++) {
    const nodeId = reader.text();
    admissions.set(nodeId, { nonce: reader.text(), replicaId: reader.varint() });
  }
  if (reader.remaining !== 0) throw new MalformedBytesError('bytes behind a genesis record');
  if (admissions.size !== count) throw new MalformedBytesError('a node that is admitted twice');
  const recordHash = hashOf(record, origin);
  const isComplete = completeness === 1;
  return { record, origin, recordHash, admissions, isComplete, strangers: new Map() };
}

/** Tells a peer what this node knows. */
export function sendGenesis(host: Host, peer: NodeId): void {
  const { recordHash, isComplete, admissions } = host.genesis;
  queueItem(host, peer, Lane.control, {
    kind: 'genesis',
    recordHash,
    complete: isComplete,
    acceptances: [...admissions].map(([nodeId, admission]) => ({ nodeId, ...admission })),
    endpoint: host.settings.advertise,
  });
  scheduleTurn(host);
}

/** Reminds peers while this node is not admitted: any message may have been lost. */
export function remindOfGenesis(host: Host): void {
  if (host.genesis.isComplete || host.tickCount % reminderTicks !== 0) return;
  for (const peer of host.replicaIds.keys()) {
    if (peer !== host.settings.nodeId) sendGenesis(host, peer);
  }
}

/** A peer says what it knows. `admitted` is called once this node may take part. */
export function handleGenesis(
  host: Host,
  from: NodeId,
  item: GenesisItem,
  admitted: () => void,
): void {
  const { genesis, settings } = host;
  const presented = item.acceptances.find(({ nodeId }) => nodeId === from);
  if (item.recordHash !== genesis.recordHash || presented === undefined) return;
  if (item.endpoint !== undefined) noteEndpoint(host, from, item.endpoint);
  if (item.complete) {
    const known = item.acceptances.find(({ nodeId }) => nodeId === settings.nodeId);
    if (!isOwn(host, known, from)) return;
    for (const acceptance of item.acceptances) noteAdmission(host, acceptance);
    if (!genesis.isComplete) {
      genesis.isComplete = true;
      admitted();
      return;
    }
  }
  if (genesis.isComplete) {
    judge(host, presented, !item.complete);
    if (!item.complete) sendGenesis(host, from);
    return;
  }
  // There is a cluster: an emptied node makes no other one with its like.
  if (host.state === 'refused') return;
  genesis.admissions.set(from, { nonce: presented.nonce, replicaId: presented.replicaId });
  if (!genesis.record.members.every(({ nodeId }) => genesis.admissions.has(nodeId))) return;
  genesis.isComplete = true;
  admitted();
}

/**
 * A member was admitted with a directory and a number: by the genesis, by a readmission that was applied here, or as a
 * peer tells that has heard of one. What is not later than what is known changes nothing.
 */
export function noteAdmission(host: Host, acceptance: GenesisAcceptance): void {
  const { genesis, settings } = host;
  const { nodeId, nonce, replicaId } = acceptance;
  const former = host.replicaIds.get(nodeId);
  if (former === undefined || replicaId < former) return;
  const isSelf = nodeId === settings.nodeId;
  if (replicaId === former) {
    // While the cluster forms, the list of a node that has all acceptances is right; an own nonce is judged by `isOwn`.
    if (!genesis.isComplete && !isSelf) genesis.admissions.set(nodeId, { nonce, replicaId });
    return;
  }
  // What took part as one replica does not become another one.
  if (isSelf && (genesis.isComplete || nonce !== genesis.admissions.get(nodeId)?.nonce)) {
    notOurs(host, undefined);
    return;
  }
  genesis.admissions.set(nodeId, { nonce, replicaId });
  if (genesis.strangers.get(nodeId)?.nonce === nonce) genesis.strangers.delete(nodeId);
  host.replicaIds.set(nodeId, replicaId);
  host.nodeIds.delete(former);
  host.nodeIds.set(replicaId, nodeId);
  // What is on its way to the former replica is for nobody.
  endSnapshotSends(host, nodeId);
  endSnapshotServes(host, nodeId);
  endSnapshotReceives(host, nodeId);
  host.writer.meta.set(metaKeys.genesis, encodeGenesis(genesis));
  host.observe({ level: 'info', name: 'member-readmitted', fields: { nodeId, replicaId } });
  for (const peer of host.reachable) sendGenesis(host, peer);
}

/** Whether the directory that a peer knows this node by is this one; if not, the node takes no part. */
function isOwn(host: Host, known: GenesisAcceptance | undefined, from: NodeId): boolean {
  const { genesis, settings } = host;
  const own = must(genesis.admissions.get(settings.nodeId), 'a node knows its own nonce');
  if (known?.nonce === own.nonce) return true;
  // The peer has not heard yet that this node was readmitted.
  if (known !== undefined && known.replicaId < own.replicaId) return true;
  notOurs(host, from);
  return false;
}

/** The cluster knows this node by another directory. An empty one waits to be readmitted; what it holds is of no use else. */
function notOurs(host: Host, peer: NodeId | undefined): void {
  const { nodeId } = host.settings;
  if (host.genesis.isComplete) failNode(host, replaced(nodeId, peer));
  else refuseNode(host, wiped(nodeId, peer));
}

/**
 * Whether the peer has the directory that it was admitted with. Messages of a stranger are not taken.
 *
 * @param isEmpty it holds nothing of the cluster
 */
function judge(host: Host, presented: GenesisAcceptance, isEmpty: boolean): void {
  const { strangers, admissions } = host.genesis;
  const { nodeId: peer, nonce } = presented;
  if (admissions.get(peer)?.nonce === nonce) {
    strangers.delete(peer);
    return;
  }
  if (strangers.get(peer)?.nonce === nonce) return;
  strangers.set(peer, { nonce, isEmpty });
  const fields = { peer, isEmpty, command: readmitCommand(peer) };
  host.observe({ level: 'error', name: isEmpty ? 'peer-wiped' : 'peer-replaced', fields });
}

function readmitCommand(nodeId: NodeId): string {
  return `kommander members readmit ${nodeId}`;
}

function hashOf(record: SystemState, origin: string | undefined): string {
  const hash = createHash('sha256').update(encodeSystemState(record));
  return (origin === undefined ? hash : hash.update(origin)).digest('hex');
}

function wiped(nodeId: NodeId, peer: NodeId | undefined): KommanderError {
  return new KommanderError(
    `the data directory of "${nodeId}" is empty, and the cluster knows another one: this node waits; restore the directory, or run \`${readmitCommand(nodeId)}\` to make it a new replica`,
    { code: 'NODE_WIPED', details: peer === undefined ? { nodeId } : { nodeId, peer } },
  );
}

function replaced(nodeId: NodeId, peer: NodeId | undefined): KommanderError {
  return new KommanderError(
    `the data directory of "${nodeId}" is not the one that the cluster knows: another one has taken its place; use that one, or empty this one and run \`${readmitCommand(nodeId)}\``,
    { code: 'NODE_REPLACED', details: peer === undefined ? { nodeId } : { nodeId, peer } },
  );
}
