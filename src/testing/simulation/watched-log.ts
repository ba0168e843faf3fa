// A partition without a state machine inside a simulated node: what listeners are told of its entries is compared with
// what those of other nodes were told. A restart begins behind the last checkpoint, and a snapshot of the leader leaves
// out what is before it; between these nothing is left out, and nothing comes twice.

import type { CommittedEntry } from '../../ports/state-machine.ts';
import type { LogIndex } from '../../raft/types.ts';
import {
  type AppliedOrder,
  type AppliedPlace,
  appliedNothing,
  lastPlace,
  noteApplied,
} from './applied-order.ts';

export interface WatchedLog {
  /** The process begins to tell of what is behind the base of its log. */
  begin(baseIndex: LogIndex): void;
  /** @throws ViolationError */
  told(entry: CommittedEntry, moment: number): void;
  /** The log begins anew, behind a snapshot of the leader: entries before it may still come, and then those behind it. */
  jump(index: LogIndex): void;
  readonly place: AppliedPlace;
  /** Where it began when it was looked at last, and whether a member that is behind kept it from beginning later. */
  compactedIndex: LogIndex | undefined;
  isHeld: boolean;
}

export function watchedLog(order: AppliedOrder): WatchedLog {
  let place = appliedNothing;
  let jumpIndex: LogIndex = 0;

  function placeBehindJump(): AppliedPlace {
    return jumpIndex > place.index ? lastPlace(order, jumpIndex) : place;
  }

  return {
    compactedIndex: undefined,
    isHeld: false,
    begin(baseIndex) {
      place = lastPlace(order, baseIndex);
    },
    told(entry, moment) {
      const from = entry.index > jumpIndex ? placeBehindJump() : place;
      place = noteApplied(order, from, entry, moment);
    },
    jump(index) {
      jumpIndex = index;
    },
    get place() {
      return placeBehindJump();
    },
  };
}
