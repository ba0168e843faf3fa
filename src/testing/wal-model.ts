// The plainest possible log store, to compare real ones with: an array of entries per partition, and the port's rules
// written down without any thought of speed. Also random batches that keep the rules.

import assert from 'node:assert/strict';
import type { Random } from '../base/random.ts';
import { layOutRun } from '../ports/run.ts';
import type {
  LogBase,
  PartitionId,
  PartitionWrite,
  StoredPartition,
  WalBatch,
  WalContents,
} from '../ports/wal.ts';
import {
  type ConfState,
  type Entry,
  EntryKind,
  emptyHardState,
  type HardState,
  type LogIndex,
  type ProposedEntry,
  payloadOf,
  proposedEntry,
  type Term,
} from '../raft/types.ts';

/** What the model knows of a partition. */
export interface ModelPartition {
  hardState: HardState;
  base: LogBase;
  compactedIndex: LogIndex;
  compactedTerm: Term;
  /** Entries `compactedIndex + 1 …`. */
  entries: Entry[];
}

export interface WalModel {
  readonly partitions: Map<PartitionId, ModelPartition>;
  readonly meta: Map<string, Uint8Array>;
}

export function emptyModel(): WalModel {
  return { partitions: new Map(), meta: new Map() };
}

/** A copy that can be written to without changing the original. */
export function copyModel(model: WalModel): WalModel {
  const partitions = new Map<PartitionId, ModelPartition>();
  for (const [id, partition] of model.partitions)
    partitions.set(id, { ...partition, entries: [...partition.entries] });
  return { partitions, meta: new Map(model.meta) };
}

export function lastIndexOf(partition: ModelPartition): LogIndex {
  return partition.compactedIndex + partition.entries.length;
}

/** Does what the port says that a batch does. */
export function writeToModel(model: WalModel, batch: WalBatch): void {
  for (const write of batch.writes) writePart(model, write);
  for (const [name, value] of batch.meta) {
    if (value === undefined) model.meta.delete(name);
    else model.meta.set(name, value);
  }
}

function writePart(model: WalModel, write: PartitionWrite): void {
  const partition = model.partitions.get(write.partitionId) ?? emptyModelPartition();
  model.partitions.set(write.partitionId, partition);
  if (write.hardState !== undefined) partition.hardState = write.hardState;
  if (write.base !== undefined) {
    if (write.resetLog || write.base.index > lastIndexOf(partition)) {
      partition.entries = [];
      partition.compactedIndex = write.base.index;
      partition.compactedTerm = write.base.term;
    }
    partition.base = write.base;
  }
  const [first] = write.entries;
  if (first !== undefined) {
    partition.entries = partition.entries.filter((entry) => entry.index < first.index);
    partition.entries.push(...write.entries);
  }
  const throughIndex = write.compactThroughIndex ?? 0;
  if (throughIndex > partition.compactedIndex) {
    partition.compactedTerm = termAt(partition, throughIndex);
    partition.compactedIndex = throughIndex;
    partition.entries = partition.entries.filter((entry) => entry.index > throughIndex);
  }
}

function emptyModelPartition(): ModelPartition {
  return {
    hardState: emptyHardState,
    base: { index: 0, term: 0, confState: membersOf([]), data: undefined },
    compactedIndex: 0,
    compactedTerm: 0,
    entries: [],
  };
}

function termAt(partition: ModelPartition, index: LogIndex): Term {
  if (index === partition.compactedIndex) return partition.compactedTerm;
  const entry = partition.entries.find((candidate) => candidate.index === index);
  assert.ok(entry !== undefined, `the model has entry ${index}`);
  return entry.term;
}

/** What `open` must say when the model is what is stored. */
export function contentsOf(model: WalModel): WalContents {
  const partitions = [...model.partitions]
    .map(([partitionId, partition]) => storedOf(partitionId, partition))
    .sort((a, b) => a.partitionId - b.partitionId);
  return { partitions, meta: model.meta };
}

function storedOf(partitionId: PartitionId, partition: ModelPartition): StoredPartition {
  const { hardState, base, compactedIndex, compactedTerm, entries } = partition;
  const termRuns = entries
    .filter((entry, i) => i === 0 || entries[i - 1]?.term !== entry.term)
    .map((entry) => ({ firstIndex: entry.index, term: entry.term }));
  const lastIndex = lastIndexOf(partition);
  return { partitionId, hardState, base, compactedIndex, compactedTerm, lastIndex, termRuns };
}

/** A configuration with these voters and nobody else. */
export function membersOf(voters: readonly number[]): ConfState {
  return { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
}

/** The parts of an entry that a store keeps, in a form that compares and prints well. */
export function factsOf(entry: Entry): string {
  const payload = payloadOf(entry);
  const text = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString('hex');
  return `${entry.index}/${entry.term}/${entry.kind}/${text}`;
}

/** Gives index and term to proposed entries. */
export function numbered(
  proposed: readonly ProposedEntry[],
  first: { readonly index: LogIndex; readonly term: Term },
): Entry[] {
  return proposed.map((entry, i) => ({ ...entry, index: first.index + i, term: first.term }));
}

/** Entries whose payloads lie together in one buffer, as the host lays proposals out. */
export function laidOut(
  payloads: readonly { readonly kind: EntryKind; readonly bytes: Uint8Array }[],
): ProposedEntry[] {
  return layOutRun(
    payloads.map(({ kind, bytes }) => ({
      kind,
      byteLength: bytes.byteLength,
      write: (target, offset) => target.set(bytes, offset),
    })),
  );
}

const partitionIds: readonly PartitionId[] = [0, 1, 0x100, 0x7fff_ffff];
const metaNames = ['', 'genesis', 'incarnation', 'zeit/µs'];

/** A batch that keeps the port's rules on top of `model`. Most payloads have up to `payloadBytesMax` bytes. */
export function randomBatch(random: Random, model: WalModel, payloadBytesMax = 24): WalBatch {
  const ahead = copyModel(model);
  const writes: PartitionWrite[] = [];
  for (let count = 1 + random.below(3); count > 0; count--) {
    const write = randomWrite(random, ahead, payloadBytesMax);
    writePart(ahead, write);
    writes.push(write);
  }
  const meta = new Map<string, Uint8Array | undefined>();
  if (random.below(4) === 0) {
    const name = metaNames[random.below(metaNames.length)] ?? '';
    meta.set(name, random.below(3) === 0 ? undefined : randomBytes(random, 20));
  }
  return { writes, meta, sync: random.below(4) === 0 };
}

function randomWrite(random: Random, model: WalModel, payloadBytesMax: number): PartitionWrite {
  const partitionId = partitionIds[random.below(partitionIds.length)] ?? 0;
  const probe = copyModel(model);
  const partition = probe.partitions.get(partitionId) ?? emptyModelPartition();
  const base = random.below(3) === 0 ? randomBase(random, partition) : undefined;
  const resetLog = base !== undefined && random.below(5) === 0;
  const hardState: HardState = {
    term: random.below(1_000),
    votedFor: random.below(2) === 0 ? undefined : 1 + random.below(5),
    commitIndex: random.below(1_000),
  };
  const write: PartitionWrite = {
    partitionId,
    hardState: base === undefined || random.below(2) === 0 ? hardState : undefined,
    base,
    resetLog,
    entries: [],
    compactThroughIndex: undefined,
  };
  probe.partitions.set(partitionId, partition);
  writePart(probe, write);
  const entries = random.below(4) > 0 ? randomEntries(random, partition, payloadBytesMax) : [];
  const compacts = random.below(4) === 0;
  return {
    ...write,
    entries,
    compactThroughIndex: compacts ? random.below(partition.base.index + 1) : undefined,
  };
}

/** Mostly inside the log, sometimes beyond it. */
function randomBase(random: Random, partition: ModelPartition): LogBase {
  const lastIndex = lastIndexOf(partition);
  const isBeyond = random.below(6) === 0;
  const index = isBeyond
    ? lastIndex + 1 + random.below(20)
    : partition.base.index + random.below(lastIndex - partition.base.index + 1);
  const term = isBeyond ? termAt(partition, lastIndex) + random.below(3) : termAt(partition, index);
  const confState: ConfState = {
    voters: [1, 2, 3].slice(random.below(3)),
    votersOutgoing: random.below(2) === 0 ? [] : [1, 4_000_000],
    learners: random.below(2) === 0 ? [] : [7],
    learnersNext: random.below(2) === 0 ? [] : [2],
    autoLeave: random.below(2) === 0,
  };
  const data = random.below(2) === 0 ? undefined : randomBytes(random, 300);
  return { index, term, confState, data };
}

/** Mostly appended, often over the last few stored entries, at times over everything behind the base. */
function randomEntries(
  random: Random,
  partition: ModelPartition,
  payloadBytesMax: number,
): Entry[] {
  const firstIndexMin = partition.base.index + 1;
  const appendIndex = lastIndexOf(partition) + 1;
  const back = random.below(3) > 0 ? 0 : random.below(random.below(4) === 0 ? 1_000 : 12);
  let index = Math.max(firstIndexMin, appendIndex - back);
  let term = termAt(partition, index - 1);
  const entries: Entry[] = [];
  for (let stretches = 1 + random.below(3); stretches > 0; stretches--) {
    term += random.below(3) === 0 ? 1 + random.below(2) : 0;
    const payloads = Array.from({ length: 1 + random.below(9) }, () => ({
      kind: random.below(8) === 0 ? EntryKind.confChange : EntryKind.normal,
      bytes: randomBytes(random, random.below(10) === 0 ? 300 : payloadBytesMax),
    }));
    const proposed =
      random.below(2) === 0
        ? laidOut(payloads)
        : payloads.map(({ kind, bytes }) => proposedEntry(kind, bytes));
    entries.push(...numbered(proposed, { index, term }));
    index += payloads.length;
  }
  return entries;
}

function randomBytes(random: Random, bytesMax: number): Uint8Array {
  return Uint8Array.from({ length: random.below(bytesMax + 1) }, () => random.below(256));
}
