// Opening a node, step by step: the store is read; an empty one accepts the genesis record, one with state is believed;
// the partitions are opened and what was committed before is applied; then the node listens and takes part.

import { assert, must } from '../base/assert.ts';
import { utf8Bytes, utf8Text } from '../base/bytes.ts';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import { type Random, seededRandom } from '../base/random.ts';
import { hashOfBytes } from '../cluster/hash-ranges.ts';
import { genesisState, partitionIdsOf } from '../cluster/system-state.ts';
import type { Timestamp } from '../ports/clock.ts';
import type { StateMachine } from '../ports/state-machine.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';
import type { PartitionId, StoredPartition, WalContents, WalEvents } from '../ports/wal.ts';
import { storageReady } from '../raft/raft.ts';
import type { TraceEvent } from '../raft/trace.ts';
import { emptyConfState, emptyHardState, type ReplicaId } from '../raft/types.ts';
import { hybridClock } from '../time/hybrid-clock.ts';
import { drawNonce } from '../time/seed.ts';
import type { NodeListeners, NodeOptions } from './api.ts';
import { newCheckpointSchedule } from './checkpoints.ts';
import { connectMembers, noteDiscovered } from './endpoints.ts';
import { type EventHub, eventHub } from './events.ts';
import { stopPartition } from './failure.ts';
import {
  clusterIdOf,
  decodeGenesis,
  encodeGenesis,
  type Genesis,
  newGenesis,
  replicaIdsOf,
} from './genesis.ts';
import type { Host } from './host.ts';
import { noteReachable, noteRefused, receiveFrame } from './inbox.ts';
import { checkRestored, decodedFact, decodeNumber, encodeNumber, metaKeys } from './meta.ts';
import {
  checkFixedNodes,
  checkOptions,
  type FirstMembers,
  invalidOption,
  type NodeSettings,
} from './options.ts';
import { newOutbox } from './outbox.ts';
import { openPartition, type Partition } from './partition.ts';
import { guard, markDirty } from './ready-loop.ts';
import { baseDescriptor, openSnapshots, restoreBase, wantSnapshot } from './snapshots.ts';
import { statusOf } from './status.ts';
import { newStorageWriter, partitionWrite } from './storage-writer.ts';
import { systemMachine } from './system-entries.ts';
import { startTimer } from './ticker.ts';

/** How far a peer's clock may be ahead of ours and still be believed. */
const driftMsMax = 60_000;

/** Takes what the cores report while they decide. */
export type CoreTrace = (partitionId: PartitionId, event: TraceEvent) => void;

export async function openHost(options: NodeOptions, trace?: CoreTrace): Promise<Host> {
  const settings = checkOptions(options);
  checkFrames(settings, options.transport.frameBytesMax);
  const members = settings.members ?? checkFixedNodes(options.discovery);
  const opened: Closable[] = [options.discovery];
  let built: Host | undefined;
  const damages: Parameters<WalEvents['damaged']>[] = [];
  try {
    const contents = await options.wal.open({
      damaged(partitionId, error) {
        if (built !== undefined) stopReplica(built, partitionId, error);
        else damages.push([partitionId, error]);
      },
    });
    opened.push(options.wal);
    const host = await buildHost(options, settings, { members, contents, trace });
    built = host;
    for (const damage of damages) stopReplica(host, ...damage);
    await restoreAll(host, contents);
    opened.push(options.transport);
    await startListening(host);
    connectMembers(host, members);
    await startDiscovery(host);
    // Peers may have had their say already.
    if (host.genesis.isComplete && host.state === 'forming') host.state = 'running';
    startTimer(host);
    return host;
  } catch (error) {
    // Turns and frames that are under way find that it is over.
    if (built !== undefined) built.state = 'closed';
    await releaseAll(opened);
    throw error;
  }
}

interface Closable {
  close(): Promise<void>;
}

/** Closes what was opened. The caller hears why the open failed, and not what fails on the way out. */
async function releaseAll(opened: readonly Closable[]): Promise<void> {
  await Promise.allSettled(opened.map(async (part) => part.close()));
}

/** What a frame carries beside the data: types, timestamps, lengths, and the frame's own fields. */
const frameOverheadBytes = 65_536;

/** An append that no frame can carry would be dropped again and again. */
function checkFrames(settings: NodeSettings, frameBytesMax: number | undefined): void {
  if (frameBytesMax === undefined) return;
  for (const option of ['entryBytesMax', 'appendBytesMax'] as const) {
    if (settings[option] + frameOverheadBytes <= frameBytesMax) continue;
    const most = frameBytesMax - frameOverheadBytes;
    throw invalidOption(option, `is ${settings[option]}; this transport carries ${most} at most`);
  }
}

async function buildHost(
  options: NodeOptions,
  settings: NodeSettings,
  known: {
    readonly members: FirstMembers;
    readonly contents: WalContents;
    readonly trace: CoreTrace | undefined;
  },
): Promise<Host> {
  const { wal } = options;
  const { members, contents, trace } = known;
  const genesis = readGenesis(settings, members, contents);
  const replicaIds = replicaIdsOf(genesis);
  const incarnation = decodeNumber(contents.meta.get(metaKeys.incarnation)) + 1;
  const stored = storedPartitions(genesis, contents);
  const clock = hybridClock({
    clock: settings.clock,
    driftMsMax,
    floor: clockFloorOf(contents),
  });
  // Questions are numbered from here on: above all numbers of earlier lives, whose answers may still be on the way.
  const firstRequestId = clock.now();
  await wal.write({
    writes: stored
      .filter(({ isNew }) => isNew)
      .map(({ partition }) =>
        partitionWrite(partition.partitionId, {
          hardState: partition.hardState,
          base: partition.base,
        }),
      ),
    meta: new Map([
      [metaKeys.genesis, encodeGenesis(genesis)],
      [metaKeys.nodeId, utf8Bytes(settings.nodeId)],
      [metaKeys.incarnation, encodeNumber(incarnation)],
      [metaKeys.clockFloor, encodeNumber(firstRequestId)],
    ]),
    sync: true,
  });
  const random = randomOf(settings);
  const events = eventHub(settings.logger);
  attach(events, settings.listeners);
  const partitions = new Map<PartitionId, Partition>();
  const host: Host = {
    settings,
    hybridClock: clock,
    random,
    wal,
    transport: options.transport,
    discovery: options.discovery,
    observe: settings.logger,
    events,
    genesis,
    incarnation,
    startId: drawNonce(),
    replicaIds,
    nodeIds: new Map([...replicaIds].map(([nodeId, replicaId]) => [replicaId, nodeId])),
    partitions,
    system: genesis.record,
    isSystemKnown: false,
    state: 'forming',
    isDrained: false,
    failure: undefined,
    endpoint: settings.listen,
    reachable: new Set(),
    endpoints: new Map(),
    dirty: new Set(),
    toApply: new Set(),
    isTurnScheduled: false,
    outbox: newOutbox(),
    writer: newStorageWriter(),
    snapshotSends: new Map(),
    snapshotServes: new Map(),
    idlePieceBuffers: [],
    snapshotAllowance: { bytes: 0, atMs: settings.clock.monotonicMs() },
    snapshotReceives: new Set(),
    snapshotWrites: { count: 0, waiting: [] },
    snapshotWork: new Set(),
    isBackingUp: false,
    checkpoints: newCheckpointSchedule(),
    nextRequestId: firstRequestId,
    tickCount: 0,
    evidenceCount: 0,
    timerDueMs: 0,
    timerLatenessMsMax: 0,
    stopTimer: () => {},
    closing: undefined,
  };
  for (const { partition } of stored) {
    partitions.set(partition.partitionId, openOne(host, partition, trace));
  }
  return host;
}

/** No timestamp at or below it may be given again: those of entries, in the log or in a state, among them. */
function clockFloorOf({ meta, partitions }: WalContents): Timestamp {
  let floor = decodeNumber(meta.get(metaKeys.clockFloor));
  for (const { partitionId, base } of partitions) {
    floor = Math.max(floor, baseDescriptor(partitionId, base)?.clock ?? 0);
  }
  return floor;
}

/** A node's own stream: nodes that were all given one seed must not campaign in step (HAZARDS 5). */
function randomOf({ seed, nodeId }: NodeSettings): Random {
  const drawn = seededRandom(seed).below(0x20_0000);
  return seededRandom(drawn * 0x1_0000_0000 + hashOfBytes(utf8Bytes(nodeId)));
}

function openOne(host: Host, stored: StoredPartition, trace: CoreTrace | undefined): Partition {
  const { partitionId, base } = stored;
  const machine = machineFor(host, partitionId);
  if (machine !== undefined && base.index > 0 && baseDescriptor(partitionId, base) === undefined) {
    throw invalidOption(
      'stateMachine',
      `made a machine for partition ${partitionId}, whose log was written without one and begins behind entry ${base.index}: what was before is not known any more`,
    );
  }
  return openPartition({
    stored,
    descriptor: baseDescriptor(partitionId, stored.base),
    replicaId: ownReplicaId(host),
    settings: host.settings,
    wal: host.wal,
    machine,
    firstReadContext: host.nextRequestId,
    seed: host.random.below(0x7fff_ffff),
    trace: trace === undefined ? undefined : (event) => trace(partitionId, event),
    pageLoaded: () => withPartition(host, partitionId, (partition) => storageReady(partition.raft)),
    snapshotMissed: () => {
      const partition = host.partitions.get(partitionId);
      if (partition !== undefined) wantSnapshot(host, partition, 'peer');
    },
    pageFailed: (error) => stopReplica(host, partitionId, error),
  });
}

/** A replica whose stored log cannot be read promises nothing any more. */
function stopReplica(host: Host, partitionId: PartitionId, error: unknown): void {
  withPartition(host, partitionId, (partition) => stopPartition(host, partition, error));
}

function ownReplicaId(host: Host): ReplicaId {
  return must(host.replicaIds.get(host.settings.nodeId), 'a node is in its own roster');
}

function withPartition(
  host: Host,
  partitionId: PartitionId,
  call: (partition: Partition) => void,
): void {
  const partition = host.partitions.get(partitionId);
  if (partition === undefined) return;
  guard(host, partition, () => call(partition));
  markDirty(host, partition);
}

function machineFor(host: Host, partitionId: PartitionId): StateMachine | undefined {
  if (partitionId === 0) return systemMachine(host);
  const machine = host.settings.stateMachine?.(partitionId);
  if (machine !== undefined && typeof machine?.apply !== 'function') {
    throw invalidOption(
      'stateMachine',
      `made no machine for partition ${partitionId}: an object with apply() is needed, not a promise of one`,
    );
  }
  if (machine?.snapshot !== undefined && machine.restore === undefined) {
    throw invalidOption(
      'stateMachine',
      `made a machine for partition ${partitionId} that has snapshot() and no restore(): its state would be lost at a restart`,
    );
  }
  const isHalf = machine?.snapshot === undefined || machine.restore === undefined;
  if (machine?.appliedIndex !== undefined && isHalf) {
    throw invalidOption(
      'stateMachine',
      `made a machine for partition ${partitionId} that has appliedIndex() and not both snapshot() and restore(): a replica that is new or far behind could not get its state`,
    );
  }
  return machine;
}

function attach(events: EventHub, listeners: NodeListeners): void {
  for (const [name, listener] of Object.entries(listeners)) {
    events.on(name as keyof NodeListeners, listener as never);
  }
}

/** The genesis record that this node accepted before, or the one that it accepts now. */
function readGenesis(
  settings: NodeSettings,
  members: FirstMembers,
  contents: WalContents,
): Genesis {
  const { nodeId, partitions } = settings;
  checkRestored(contents.meta);
  const stored = contents.meta.get(metaKeys.genesis);
  if (stored === undefined) {
    if (contents.partitions.length > 0) {
      throw new KommanderError(
        'the store has partitions but no genesis record: it is no directory of this version, or it is damaged',
        { code: 'WAL_CORRUPT' },
      );
    }
    if (members.size === 0) {
      throw invalidOption(
        'members',
        'is missing: name all first members, the same on every node; what discovery finds makes nobody a member',
      );
    }
    if (!members.has(nodeId))
      throw invalidOption('members', `does not list this node, "${nodeId}"`);
    return newGenesis(genesisState(members, partitions), nodeId, drawNonce());
  }
  const owner = contents.meta.get(metaKeys.nodeId);
  const ownerId = owner === undefined ? undefined : decodedFact('a node id', () => utf8Text(owner));
  if (ownerId !== undefined && ownerId !== nodeId) {
    // Another member's log and votes: with them this node would vote twice and forget what it promised.
    throw invalidOption('nodeId', `is "${nodeId}", but the directory is that of "${ownerId}"`);
  }
  const genesis = decodeGenesis(stored);
  const known = genesis.record.members.map((member) => member.nodeId);
  if (!known.includes(nodeId)) {
    throw invalidOption(
      'nodeId',
      `is "${nodeId}", but the directory belongs to a cluster of ${known.join(', ')}`,
    );
  }
  const isOther = members.size > 0 && known.join() !== [...members.keys()].sort().join();
  if (isOther) {
    const given = [...members.keys()].sort().join(', ');
    throw invalidOption(
      'members',
      `lists ${given}, but the cluster was formed by ${known.join(', ')}`,
    );
  }
  const count = genesis.record.ranges.length;
  if (count !== partitions) {
    throw invalidOption('partitions', `is ${partitions}, but the cluster was formed with ${count}`);
  }
  return genesis;
}

/**
 * Every partition of the cluster: as it is stored, or, in an empty store, new with all first members as voters.
 *
 * @throws WAL_CORRUPT one is gone
 */
function storedPartitions(
  genesis: Genesis,
  contents: WalContents,
): { readonly partition: StoredPartition; readonly isNew: boolean }[] {
  const voters = genesis.record.members.map((member) => member.replicaId);
  return partitionIdsOf(genesis.record).map((partitionId) => {
    const known = contents.partitions.find((partition) => partition.partitionId === partitionId);
    if (known !== undefined) return { partition: known, isNew: false };
    // The first start writes all of them and the genesis record in one batch. Made anew, it would vote again where it has voted.
    if (contents.meta.has(metaKeys.genesis)) {
      throw new KommanderError(
        `the store has nothing of partition ${partitionId}, which was written with its genesis record: restore the directory or replace the node`,
        { code: 'WAL_CORRUPT', details: { partitionId } },
      );
    }
    const confState = { ...emptyConfState, voters };
    return {
      partition: {
        partitionId,
        hardState: emptyHardState,
        base: { index: 0, term: 0, confState, data: undefined },
        compactedIndex: 0,
        compactedTerm: 0,
        lastIndex: 0,
        termRuns: [],
      },
      isNew: true,
    };
  });
}

/** Brings every state machine to where it was, from its snapshot and the entries that were committed behind it. */
async function restoreAll(host: Host, contents: WalContents): Promise<void> {
  await openSnapshots(host);
  const bases = new Map(contents.partitions.map(({ partitionId, base }) => [partitionId, base]));
  for (const partition of host.partitions.values()) {
    host.events.emit('restoreStarted', { partitionId: partition.id });
    const base = bases.get(partition.id);
    const descriptor = base === undefined ? undefined : baseDescriptor(partition.id, base);
    await restoreBase(host, partition, descriptor);
    if (partition.isRestored) {
      const { id, lastApplied } = partition;
      host.events.emit('restoreFinished', { partitionId: id, lastApplied });
    } else {
      await restored(host, partition);
    }
  }
}

/** One partition at a time: a restart reads the store in order, and needs little memory. */
function restored(host: Host, partition: Partition): Promise<void> {
  // It stopped while others were restored: nothing is to come of it.
  if (partition.stopped !== undefined) return Promise.reject(reasonOf(partition.stopped));
  return new Promise((resolve, reject) => {
    const finished = ({ partitionId }: { readonly partitionId: PartitionId }): void => {
      if (partitionId === partition.id) settle(resolve);
    };
    const failed = (event: { readonly partitionId: PartitionId; readonly error: Error }): void => {
      if (event.partitionId === partition.id) settle(() => reject(reasonOf(event.error)));
    };
    const settle = (end: () => void): void => {
      host.events.off('restoreFinished', finished);
      host.events.off('replicationError', failed);
      end();
    };
    host.events.on('restoreFinished', finished);
    host.events.on('replicationError', failed);
    markDirty(host, partition);
  });
}

/** Why the replica stopped: what the caller of `openNode` can act on. */
function reasonOf(error: Error): Error {
  const isWrapped = isKommanderError(error, 'REPLICA_STOPPED');
  return isWrapped && isKommanderError(error.cause) ? error.cause : error;
}

async function startListening(host: Host): Promise<void> {
  const { settings, genesis, incarnation, startId } = host;
  const { nodeId } = settings;
  host.endpoint = await host.transport.open({
    identity: { clusterId: clusterIdOf(genesis), nodeId, incarnation, startId },
    listen: settings.listen,
    clock: settings.clock,
    observer: host.observe,
    status: { statusJson: () => JSON.stringify(statusOf(host)) },
    receive: (from, _lane, frame) => receiveFrame(host, from, frame, () => admitted(host)),
    reachable: (peer, isReachable) => noteReachable(host, peer, isReachable),
    refused: (peer, error) => noteRefused(host, peer, error),
  });
  if (settings.advertise !== undefined) host.endpoint = settings.advertise;
}

/** It learns where this node listens, and may find peers while it opens. */
async function startDiscovery(host: Host): Promise<void> {
  const { nodeId, clock, members, advertise } = host.settings;
  const endpoint = advertise ?? members?.get(nodeId) ?? host.endpoint;
  const found = new Map<NodeId, Endpoint>();
  await host.discovery.open((nodes) => noteDiscovered(host, found, nodes), {
    self: { nodeId, endpoint, startId: host.startId },
    clock,
    observer: host.observe,
  });
}

/** All first members have accepted, or this one was readmitted: from now on this node takes part. */
function admitted(host: Host): void {
  const clusterId = clusterIdOf(host.genesis);
  const replicaId = ownReplicaId(host);
  host.observe({ level: 'info', name: 'cluster-formed', fields: { clusterId, replicaId } });
  // Before anything that this replica promises: it is in the first batch that is written from now on.
  host.writer.meta.set(metaKeys.genesis, encodeGenesis(host.genesis));
  host.state = 'running';
  host.failure = undefined;
  for (const partition of host.partitions.values()) {
    if (partition.raft.id !== replicaId) renumber(partition, replicaId);
  }
  for (const partition of host.partitions.values()) markDirty(host, partition);
}

/** A readmitted node is another replica than the one that it was opened as. That one has done nothing yet. */
function renumber(partition: Partition, replicaId: ReplicaId): void {
  const { log, currentTerm } = partition.raft;
  assert(log.lastIndex === 0 && currentTerm === 0, 'nothing was promised as another replica');
  partition.raft = partition.openCore(replicaId);
}
