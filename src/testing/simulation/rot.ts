// Stored snapshots that rot: whose may, and the one that is about to be sent. Who comes upon it sends nothing of it and
// restores nothing from it; a node that cannot begin without it is lost, so that every partition must be able to spare it.

import { mayLose } from './membership-faults.ts';
import { openLives, type Seat, seatOf, type World } from './world.ts';

/** Milliseconds between two looks at what is being sent. */
const lookMs = 10;

/**
 * Flips a bit of a stored snapshot of a node, of one whose name begins like this.
 *
 * @returns whether there is one
 */
export function tryRot(world: World, seat: Seat, beginning?: string): boolean {
  const snapshot = seat.disk.tryRot(beginning);
  if (snapshot !== undefined) world.log.note('rot', { nodeId: seat.nodeId }, { snapshot });
  return snapshot !== undefined;
}

/** Lets the first snapshot rot that is about to be sent: where its leader has it, or the member that is asked for it. */
export function rotInTransfer(world: World, looksLeft: number): void {
  if (world.isOver || looksLeft === 0) return;
  for (const { seat, host } of openLives(world)) {
    for (const { source, stored } of host?.snapshotSends.values() ?? []) {
      const sender = source === undefined ? seat : seatOf(world, source);
      if (stored === undefined || !isExpendable(world, sender)) continue;
      // Whoever has the same state may call it otherwise behind partition and index.
      const [beginning] = /^p\d+-i\d+-/.exec(stored.name) ?? [];
      if (tryRot(world, sender, beginning)) return;
    }
  }
  world.time.setTimer(lookMs, () => rotInTransfer(world, looksLeft - 1));
}

/** Whether a node's data may go. */
export function isExpendable(world: World, seat: Seat): boolean {
  if (seat.isLost || seat.expected !== undefined || !isFormed(world)) return false;
  return mayLose(world, seat);
}

/** Before all first members have met, an emptied disk is as good as a new one. */
function isFormed(world: World): boolean {
  return openLives(world).every(({ host }) => host?.genesis.isComplete === true);
}
