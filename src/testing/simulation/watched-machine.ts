// A user's state machine inside a simulated replica: every entry that it is given is compared with what other replicas
// were given, its own invariant is checked after every batch, it may take its time, and its snapshots carry their place
// and a checksum. It is in memory, or has a disk of its own (`machine-on-disk.ts`).

import { crc32 } from 'node:zlib';
import { must } from '../../base/assert.ts';
import { ByteReader, ByteWriter } from '../../base/bytes.ts';
import type { Random } from '../../base/random.ts';
import type {
  CommittedEntry,
  SnapshotBytes,
  SnapshotData,
  StateMachine,
} from '../../ports/state-machine.ts';
import type { PartitionId } from '../../ports/wal.ts';
import type { LogIndex } from '../../raft/types.ts';
import { bytesOfSnapshot, snapshotDataOf } from '../snapshot-bytes.ts';
import {
  type AppliedOrder,
  type AppliedPlace,
  appliedNothing,
  lastPlace,
  noteApplied,
  noteRestored,
  noteResults,
  noteState,
} from './applied-order.ts';
import { type MachineWork, machineOnDisk } from './machine-on-disk.ts';
import type { MachineStore } from './machine-store.ts';
import type { ProcessClock } from './process-clock.ts';
import { callUsers, ViolationError } from './violation.ts';

export interface WatchedMachine {
  /** What the host gets. */
  readonly machine: StateMachine;
  /** The user's. */
  readonly inner: StateMachine;
  /** How far it was given entries. */
  readonly place: AppliedPlace;
}

/** How a machine gives its state: at once, or in pieces, with or without entries in between. */
export type Giving = 'whole' | 'inPieces' | 'concurrently';

/** It goes on, its process dies there, or its store fails it. */
export type MachineFate = 'goesOn' | 'dies' | 'fails';

export interface WatchOptions {
  readonly inner: StateMachine;
  readonly order: AppliedOrder;
  readonly clock: ProcessClock;
  /** Milliseconds that `apply` and `snapshot` take; 0: they answer at once. */
  readonly delayMs: () => number;
  readonly giving: Giving;
  /** Where it keeps its state; undefined for a machine in memory. */
  readonly store: MachineStore | undefined;
  /** How a machine with a store works is drawn from it. */
  readonly random: Random;
  /** What becomes of the machine between two steps of its work. */
  readonly fate: (work: MachineWork) => MachineFate;
  /** A machine with a store has said for the first time how far it is. */
  readonly opened: (index: LogIndex) => void;
  /** It gives its state behind this entry. */
  readonly gives: (index: LogIndex) => void;
  /** Bytes that snapshots are larger than they need be, so that they travel in several pieces. */
  readonly snapshotPadding: number;
  /** What does not hold of the machine, or undefined. */
  readonly invariant: ((inner: StateMachine) => string | undefined) | undefined;
  readonly entriesRestored: (count: number) => void;
  /** The next moment in the order of the clients' calls. */
  readonly nextMoment: () => number;
}

/** Bytes of a piece of a snapshot that is given in pieces: a small state has several too. */
const pieceBytes = 100_000;
/** Behind a snapshot. */
const checksumBytes = 4;

export function watchedMachine(options: WatchOptions): WatchedMachine {
  const { inner, order, clock } = options;
  let place: AppliedPlace = appliedNothing;
  let isGiving = false;
  let isOpened = false;
  const onDisk =
    options.store === undefined
      ? undefined
      : machineOnDisk({
          inner,
          store: options.store,
          random: options.random,
          isDead: () => clock.isDead,
          pass,
          written: ({ index, bytes }) => {
            if (bytes !== undefined) noteState(order, index, bytes);
          },
        });

  async function pass(work: MachineWork): Promise<void> {
    const fate = options.fate(work);
    if (fate === 'dies') await new Promise<never>(() => {});
    if (fate === 'fails') throw new Error('the simulated store of the state machine failed');
    const delayMs = onDisk === undefined ? 0 : options.delayMs();
    if (delayMs > 0) await pause(delayMs);
  }

  async function pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => clock.setTimer(ms, resolve));
  }

  function checkInvariant(): void {
    const broken = callUsers('the invariant', () => options.invariant?.(inner));
    if (broken === undefined) return;
    throw new ViolationError(
      "The state machine's own invariant holds after every batch",
      `${broken} (after entry ${place.index})`,
      order.partitionId,
    );
  }

  function apply(entries: readonly CommittedEntry[]): ReturnType<StateMachine['apply']> {
    if (isGiving) {
      throw new ViolationError(
        'Nothing is applied while a state machine gives its state',
        `entry ${entries[0]?.index} was, while it gave that of entry ${place.index}`,
        order.partitionId,
      );
    }
    const moment = options.nextMoment();
    for (const entry of entries) place = noteApplied(order, place, entry, moment);
    const restoredCount = entries.filter(({ restored }) => restored).length;
    if (restoredCount > 0) options.entriesRestored(restoredCount);
    const outcome = (onDisk ?? inner).apply(entries);
    const delayMs = options.delayMs();
    if (delayMs === 0 && !(outcome instanceof Promise)) {
      noteResults(order, entries, outcome);
      checkInvariant();
      return outcome;
    }
    return (async () => {
      const results = await outcome;
      noteResults(order, entries, results);
      checkInvariant();
      if (delayMs > 0) await pause(delayMs);
      return results;
    })();
  }

  async function appliedIndex(): Promise<LogIndex> {
    const index = await must(onDisk, 'a machine in memory is not asked').appliedIndex();
    if (!isOpened) {
      isOpened = true;
      place = lastPlace(order, index);
      options.opened(index);
    }
    return index;
  }

  async function snapshot(): Promise<SnapshotBytes> {
    const { index, chain } = place;
    options.gives(index);
    const state = await bytesOfSnapshot((await inner.snapshot?.()) ?? new Uint8Array(0));
    noteState(order, index, state);
    await pass('snapshot');
    const delayMs = options.delayMs();
    if (delayMs > 0) await pause(delayMs);
    const writer = new ByteWriter(32 + state.byteLength + options.snapshotPadding);
    writer.uint53(index);
    writer.uint32(chain);
    writer.varint(state.byteLength);
    writer.raw(state);
    writer.raw(new Uint8Array(options.snapshotPadding));
    const bytes = checksummed(writer.finish());
    return options.giving === 'whole' ? bytes : pieces(bytes);
  }

  async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    isGiving = options.giving === 'inPieces';
    try {
      for (let at = 0; at < bytes.byteLength; at += pieceBytes) {
        const delayMs = options.delayMs();
        if (delayMs > 0) await pause(delayMs);
        await pass('snapshot');
        yield bytes.subarray(at, at + pieceBytes);
      }
    } finally {
      isGiving = false;
    }
  }

  async function restore(data: SnapshotData): Promise<void> {
    let restored = appliedNothing;
    const read = async (): Promise<{ readonly index: LogIndex; readonly bytes: Uint8Array }> => {
      const bytes = await data.bytes();
      await pass('restore');
      const state = stateIn(bytes, order.partitionId);
      restored = state.place;
      noteRestored(order, restored);
      return { index: restored.index, bytes: state.bytes };
    };
    if (onDisk === undefined) await inner.restore?.(snapshotDataOf((await read()).bytes));
    else await onDisk.restore(read);
    place = restored;
    checkInvariant();
  }

  return {
    // A machine that lacks one of the two is the host's to refuse.
    machine: {
      apply,
      ...(inner.snapshot === undefined ? {} : { snapshot }),
      concurrentSnapshots: options.giving === 'concurrently',
      ...(inner.restore === undefined ? {} : { restore }),
      ...(onDisk === undefined ? {} : { appliedIndex }),
    },
    inner,
    get place() {
      return place;
    },
  };
}

function checksummed(content: Uint8Array): Uint8Array {
  const writer = new ByteWriter(content.byteLength + checksumBytes);
  writer.raw(content);
  writer.uint32(crc32(content));
  return writer.finish();
}

function stateIn(
  snapshot: Uint8Array,
  partitionId: PartitionId,
): { readonly place: AppliedPlace; readonly bytes: Uint8Array } {
  const end = snapshot.byteLength - checksumBytes;
  const isWhole =
    end >= 0 &&
    new ByteReader(snapshot.subarray(end)).uint32() === crc32(snapshot.subarray(0, end));
  if (!isWhole) {
    throw new ViolationError(
      'A state machine is given the bytes that one gave, whatever became of them on a disk or on the way',
      `${snapshot.byteLength} bytes are not those of a snapshot`,
      partitionId,
    );
  }
  const reader = new ByteReader(snapshot);
  const place = { index: reader.uint53(), chain: reader.uint32() };
  return { place, bytes: reader.view(reader.varint()) };
}
