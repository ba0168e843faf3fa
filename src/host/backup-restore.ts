// A backup becomes the beginning of a new cluster: the store of each of its first members is filled with the copy, before
// that member is started for the first time. All of them end up with the same logs: the same bases, terms and entries,
// and the new members as voters. The genesis record carries the hash of the manifest, so that the new cluster has an id
// of its own and consists of nodes that were filled from one backup; it is written last, so that an interrupted restore
// is never started.

import { MalformedBytesError, utf8Bytes } from '../base/bytes.ts';
import {
  decodeSystemState,
  encodeSystemState,
  genesisState,
  partitionIdsOf,
  type SystemState,
} from '../cluster/system-state.ts';
import { decodeRun, readRunHeader, runHeaderBytes } from '../ports/run.ts';
import type { NodeId } from '../ports/transport.ts';
import type { LogBase, PartitionWrite, Wal } from '../ports/wal.ts';
import {
  type ConfState,
  type Entry,
  EntryKind,
  emptyConfState,
  proposedEntry,
} from '../raft/types.ts';
import { drawNonce } from '../time/seed.ts';
import type { NodeOptions } from './api.ts';
import { type BackupDirectory, openBackup, piecesOfCopy } from './backup-directory.ts';
import {
  type BackupLog,
  type BackupPartition,
  type BackupState,
  type ByteSource,
  bytesOf,
  corruptBackup,
} from './backup-format.ts';
import { clusterIdOf, encodeGenesis, restoredGenesis } from './genesis.ts';
import { encodeNumber, metaKeys } from './meta.ts';
import { checkMembers, type FirstMembers, invalidOption } from './options.ts';
import {
  decodeDescriptor,
  encodeDescriptor,
  machinePart,
  ownName,
  type SnapshotDescriptor,
} from './snapshot-descriptor.ts';

/** Bytes of partition 0's state: the map of all partitions. */
const systemBytesMax = 16_777_216;
/** Bytes of one run of entries in a copy of a log. */
const runBytesMax = 67_108_864;

export interface RestoreOptions {
  /** What `saveBackup` wrote. */
  readonly directory: string;
  /** The store of one first member, empty and not open; it is opened, filled and closed. */
  readonly wal: Wal;
  /** That member. */
  readonly nodeId: NodeId;
  /** All first members of the new cluster, the same on every one of them; they may be others than in the old one. */
  readonly members: NonNullable<NodeOptions['members']>;
}

export interface RestoreResult {
  /** Of the new cluster. */
  readonly clusterId: string;
  /** Application partitions: the option `partitions` of the nodes. */
  readonly partitions: number;
}

/**
 * Fills the empty store of one first member of a new cluster from a backup. To be done for each of them, with the same
 * backup and the same members; then they are opened with `openNode` like any first members.
 *
 * @throws INVALID_OPTION the store is not empty or not durable, or the members are not valid
 * @throws BACKUP_CORRUPT the backup is damaged or not whole: nothing was written
 * @throws what the store throws: then the store is empty or refuses to be opened by a node
 */
export async function restoreBackup(options: RestoreOptions): Promise<RestoreResult> {
  const members = checkMembers(options.members);
  const { wal, nodeId } = options;
  if (!members.has(nodeId)) throw invalidOption('members', `does not list this node, "${nodeId}"`);
  if (!wal.durable)
    throw invalidOption('wal', 'is lost with the process: restore into a durable store');
  const backup = await openBackup(options.directory);
  const system = await checkBackup(backup, members);
  const genesis = restoredGenesis({
    record: system,
    nodeId,
    nonce: drawNonce(),
    origin: backup.manifestHash,
  });
  const { partitions, timestamp } = backup.manifest;
  const contents = await wal.open();
  try {
    const isEmpty = contents.partitions.length === 0 && contents.meta.size === 0;
    if (!isEmpty) throw invalidOption('wal', 'holds a node already: restore into an empty store');
    await wal.write({
      writes: [],
      meta: new Map([[metaKeys.restoring, utf8Bytes(backup.manifestHash)]]),
      sync: true,
    });
    const voters = system.members.map(({ replicaId }) => replicaId);
    const confState: ConfState = { ...emptyConfState, voters };
    const writes: PartitionWrite[] = [];
    for (const copy of partitions) {
      writes.push(await fill({ wal, backup, system, confState }, copy));
    }
    const clock = Math.max(timestamp, ...partitions.map((copy) => copy.timestamp));
    await wal.write({
      writes,
      meta: new Map([
        [metaKeys.restoring, undefined],
        [metaKeys.genesis, encodeGenesis(genesis)],
        [metaKeys.nodeId, utf8Bytes(nodeId)],
        [metaKeys.clockFloor, encodeNumber(clock)],
      ]),
      sync: true,
    });
  } finally {
    await wal.close();
  }
  return { clusterId: clusterIdOf(genesis), partitions: system.ranges.length };
}

/**
 * Reads everything once, before anything is written.
 *
 * @returns the system state of the new cluster: the old partition map and the new members
 */
async function checkBackup(backup: BackupDirectory, members: FirstMembers): Promise<SystemState> {
  const { partitions } = backup.manifest;
  let system: SystemState | undefined;
  for (const copy of partitions) {
    if (copy.kind === 'log') {
      await readThrough(entriesOf(backup, copy));
      continue;
    }
    descriptorOf(copy, { byteLength: copy.byteLength, checksum: 0 });
    if (copy.partition === 0) system = await oldSystem(backup, copy);
    else await readThrough(piecesOfCopy(backup, copy));
  }
  if (system === undefined) throw corruptBackup('it has no state of the system partition');
  const ids = partitionIdsOf(system);
  if (ids.join() !== partitions.map(({ partition }) => partition).join()) {
    throw corruptBackup('its manifest does not have the partitions of its partition map');
  }
  return { members: genesisState(members, 1).members, ranges: system.ranges };
}

async function readThrough(source: AsyncGenerator): Promise<void> {
  while ((await source.next()).done !== true);
}

async function oldSystem(backup: BackupDirectory, copy: BackupState): Promise<SystemState> {
  if (copy.byteLength > systemBytesMax) throw corruptBackup(`${copy.file} is too long`);
  const pieces: Uint8Array[] = [];
  for await (const piece of piecesOfCopy(backup, copy)) pieces.push(piece);
  return readable(copy, () => decodeSystemState(Buffer.concat(pieces)));
}

interface Filling {
  readonly wal: Wal;
  readonly backup: BackupDirectory;
  readonly system: SystemState;
  readonly confState: ConfState;
}

/** Brings a copy into the store. @returns what is still to be written, together with the genesis record */
async function fill(filling: Filling, copy: BackupPartition): Promise<PartitionWrite> {
  const { index, term } = copy;
  const hardState = { term, votedFor: undefined, commitIndex: index };
  if (copy.kind === 'state')
    return writeOf(copy, { hardState, base: await fillState(filling, copy) });
  await fillLog(filling, copy);
  return writeOf(copy, { hardState });
}

async function fillState(
  { wal, backup, system, confState }: Filling,
  copy: BackupState,
): Promise<LogBase> {
  const { partition, index, term } = copy;
  const isSystem = partition === 0;
  const bytes = encodeSystemState(system);
  const name = ownName(partition, { index, term });
  const writer = await wal.snapshots.create(name);
  // The old members are in the old state of partition 0; nothing of it is taken over but the map.
  if (isSystem) await writer.append(bytes);
  else for await (const piece of piecesOfCopy(backup, copy)) await writer.append(piece);
  const facts = await writer.finish();
  const parts = isSystem ? [{ name: machinePart, byteLength: facts.byteLength }] : copy.parts;
  const descriptor = descriptorOf({ ...copy, parts }, facts, name);
  return { index, term, confState, data: encodeDescriptor(descriptor) };
}

/** What the new log's base says of the state. @throws BACKUP_CORRUPT, WAL_VERSION it has parts that are not known */
function descriptorOf(
  { timestamp, machineIndex, parts, file }: BackupState,
  facts: { readonly byteLength: number; readonly checksum: number },
  name = 'checked',
): SnapshotDescriptor {
  const descriptor = { stored: { name, ...facts }, clock: timestamp, machineIndex, parts };
  return readable({ file }, () => decodeDescriptor(encodeDescriptor(descriptor)));
}

async function fillLog({ wal, backup, confState }: Filling, copy: BackupLog): Promise<void> {
  const { baseIndex: index, baseTerm: term } = copy;
  const base = { index, term, confState, data: undefined };
  await wal.write({ writes: [writeOf(copy, { base })], meta: new Map(), sync: false });
  for await (const entries of entriesOf(backup, copy)) {
    await wal.write({ writes: [writeOf(copy, { entries })], meta: new Map(), sync: false });
  }
}

/**
 * The entries of a copied log, in order. Changes of the old cluster's members become empty entries, as leaders begin
 * their terms with: the new cluster has members of its own.
 */
async function* entriesOf(
  backup: BackupDirectory,
  copy: BackupLog,
): AsyncGenerator<Entry[], undefined> {
  const source = bytesOf(piecesOfCopy(backup, copy));
  let last = { index: copy.baseIndex, term: copy.baseTerm };
  try {
    for (;;) {
      const run = await nextRun(source, copy);
      if (run === undefined) break;
      const entries = readable(copy, () => decodeRun(run));
      const [first] = entries;
      if (first?.index !== last.index + 1 || first.term < last.term) {
        throw corruptBackup(`${copy.file} has a gap behind entry ${last.index}`);
      }
      last = entries.at(-1) ?? last;
      yield entries.map(withoutMembers);
    }
  } finally {
    await source.close();
  }
  if (last.index !== copy.index || last.term !== copy.term) {
    throw corruptBackup(`${copy.file} ends with entry ${last.index}, expected ${copy.index}`);
  }
}

async function nextRun(source: ByteSource, copy: BackupLog): Promise<Uint8Array | undefined> {
  const head = await source.take(runHeaderBytes);
  if (head === undefined) return undefined;
  const { totalBytes } = readable(copy, () => readRunHeader(head));
  if (totalBytes > runBytesMax)
    throw corruptBackup(`${copy.file} has a run of ${totalBytes} bytes`);
  return Buffer.concat([head, await source.need(totalBytes - runHeaderBytes)]);
}

function withoutMembers(entry: Entry): Entry {
  if (entry.kind !== EntryKind.confChange) return entry;
  return { ...proposedEntry(EntryKind.normal), index: entry.index, term: entry.term };
}

function writeOf(
  { partition: partitionId }: BackupPartition,
  write: Partial<Pick<PartitionWrite, 'hardState' | 'base' | 'entries'>>,
): PartitionWrite {
  return {
    partitionId,
    hardState: undefined,
    base: undefined,
    resetLog: false,
    entries: [],
    compactThroughIndex: undefined,
    ...write,
  };
}

/** @throws BACKUP_CORRUPT the bytes have the right checksum and mean nothing */
function readable<Value>({ file }: { readonly file: string }, decode: () => Value): Value {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    throw corruptBackup(`${file} cannot be read: ${error.message}`, { file });
  }
}
