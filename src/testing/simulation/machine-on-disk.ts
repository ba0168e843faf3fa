// A user's state machine that keeps its state on a simulated disk of its own (`appliedIndex`): it begins each life with
// what the disk has, writes after every batch or after every entry, syncs when it likes, and may let go of what it has
// before it restores another state. Everything that the port allows it to do, it does in some run.

import { must } from '../../base/assert.ts';
import type { Random } from '../../base/random.ts';
import type { CommittedEntry, StateMachine } from '../../ports/state-machine.ts';
import type { LogIndex } from '../../raft/types.ts';
import { bytesOfSnapshot, snapshotDataOf } from '../snapshot-bytes.ts';
import {
  letGo,
  type MachineStore,
  type StoredState,
  syncStates,
  writeState,
} from './machine-store.ts';
import { oneOf } from './options.ts';

/** Where in its work a machine is. */
export type MachineWork = 'apply' | 'restore' | 'snapshot' | 'appliedIndex';

export interface MachineOnDisk {
  readonly apply: (entries: readonly CommittedEntry[]) => Promise<readonly unknown[] | undefined>;
  readonly appliedIndex: () => Promise<LogIndex>;
  /** `read` is called when the machine is ready for the state. */
  readonly restore: (
    read: () => Promise<{ readonly index: LogIndex; readonly bytes: Uint8Array }>,
  ) => Promise<void>;
}

/** How a machine works, in one life. */
interface Habits {
  readonly writesEntries: boolean;
  /** Of so many writes one is synced. */
  readonly syncOneIn: number;
  /** Whether it syncs when it is asked for its index. */
  readonly syncsWhenAsked: boolean;
  /** Whether it removes what it has before it reads another state. */
  readonly letsGo: boolean;
}

export function machineOnDisk(options: {
  readonly inner: StateMachine;
  readonly store: MachineStore;
  readonly random: Random;
  /** Nothing reaches the disk any more when the process is gone. */
  readonly isDead: () => boolean;
  /** Called between two steps of its work: it may not come back, or throw. */
  readonly pass: (work: MachineWork) => Promise<void>;
  /** A state has reached the disk. */
  readonly written: (state: StoredState) => void;
}): MachineOnDisk {
  const { inner, store, random, pass } = options;
  const habits = drawHabits(random);
  let opening: Promise<void> | undefined;

  /** What a power loss left, or a kill, is synced before anybody is told of it. */
  function open(): Promise<void> {
    opening ??= (async () => {
      syncStates(store);
      const { bytes } = store.synced;
      if (bytes !== undefined) await inner.restore?.(snapshotDataOf(bytes));
    })();
    return opening;
  }

  async function write(index: LogIndex): Promise<void> {
    const source = must(await inner.snapshot?.(), 'a machine on a disk gives its state');
    const bytes = await bytesOfSnapshot(source);
    if (options.isDead()) return;
    const state = { index, bytes };
    writeState(store, state);
    options.written(state);
    if (random.below(habits.syncOneIn) === 0) syncStates(store);
  }

  return {
    async apply(entries) {
      await open();
      const results: unknown[] = [];
      const parts = habits.writesEntries ? entries.map((entry) => [entry]) : [entries];
      for (const part of parts) {
        await pass('apply');
        results.push(...((await inner.apply(part)) ?? []));
        await write(must(part.at(-1), 'a batch has entries').index);
      }
      // A machine that returns nothing returns nothing for every batch.
      return results.length === 0 ? undefined : results;
    },
    async appliedIndex() {
      await open();
      await pass('appliedIndex');
      if (habits.syncsWhenAsked && !options.isDead()) syncStates(store);
      return store.synced.index;
    },
    async restore(read) {
      await open();
      if (habits.letsGo && !options.isDead()) {
        writeState(store, letGo);
        if (random.below(2) === 0) syncStates(store);
      }
      await pass('restore');
      const { index, bytes } = await read();
      await inner.restore?.(snapshotDataOf(bytes));
      await write(index);
    },
  };
}

function drawHabits(random: Random): Habits {
  return {
    writesEntries: random.below(2) === 0,
    syncOneIn: oneOf(random, [1, 3, 1_000]),
    syncsWhenAsked: random.below(2) === 0,
    letsGo: random.below(2) === 0,
  };
}
