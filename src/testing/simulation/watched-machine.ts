// A user's state machine inside a simulated replica: every entry that it is given is compared with what other replicas
// were given, its own invariant is checked after every batch, it may take its time, and its snapshots carry their place.

import { ByteReader, ByteWriter } from '../../base/bytes.ts';
import type {
  CommittedEntry,
  SnapshotBytes,
  SnapshotData,
  StateMachine,
} from '../../ports/state-machine.ts';
import { bytesOfSnapshot, snapshotDataOf } from '../snapshot-bytes.ts';
import {
  type AppliedOrder,
  type AppliedPlace,
  appliedNothing,
  noteApplied,
  noteRestored,
  noteResults,
} from './applied-order.ts';
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

export interface WatchOptions {
  readonly inner: StateMachine;
  readonly order: AppliedOrder;
  readonly clock: ProcessClock;
  /** Milliseconds that `apply` and `snapshot` take; 0: they answer at once. */
  readonly delayMs: () => number;
  readonly giving: Giving;
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

export function watchedMachine(options: WatchOptions): WatchedMachine {
  const { inner, order, clock } = options;
  let place: AppliedPlace = appliedNothing;
  let isGiving = false;

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
    const outcome = inner.apply(entries);
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

  async function snapshot(): Promise<SnapshotBytes> {
    const { index, chain } = place;
    const state = await bytesOfSnapshot((await inner.snapshot?.()) ?? new Uint8Array(0));
    const delayMs = options.delayMs();
    if (delayMs > 0) await pause(delayMs);
    const writer = new ByteWriter(32 + state.byteLength + options.snapshotPadding);
    writer.uint53(index);
    writer.uint32(chain);
    writer.varint(state.byteLength);
    writer.raw(state);
    writer.raw(new Uint8Array(options.snapshotPadding));
    const bytes = writer.finish();
    return options.giving === 'whole' ? bytes : pieces(bytes);
  }

  async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    isGiving = options.giving === 'inPieces';
    try {
      for (let at = 0; at < bytes.byteLength; at += pieceBytes) {
        const delayMs = options.delayMs();
        if (delayMs > 0) await pause(delayMs);
        yield bytes.subarray(at, at + pieceBytes);
      }
    } finally {
      isGiving = false;
    }
  }

  async function restore(data: SnapshotData): Promise<void> {
    const reader = new ByteReader(await data.bytes());
    const restored = { index: reader.uint53(), chain: reader.uint32() };
    const state = reader.view(reader.varint());
    noteRestored(order, restored);
    await inner.restore?.(snapshotDataOf(state));
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
    },
    inner,
    get place() {
      return place;
    },
  };
}
