// The hybrid logical clock of a node (Kulkarni et al. 2014): every timestamp is greater than all that the node has made
// or seen, and stays close to the wall clock. It orders events; it never drives a timer. Carrying the counter into the
// milliseconds is the packed integer's own carry, so that a full counter borrows from the next millisecond.

import { assert } from '../base/assert.ts';
import { KommanderError } from '../base/errors.ts';
import type { Clock, HybridClock, Timestamp } from '../ports/clock.ts';
import { isTimestamp, timestampEpochMs, timestampsPerMs, timestampWallMs } from './timestamp.ts';

export interface HybridClockOptions {
  /** Its wall clock is read, nothing else. A wall clock before 2020 counts as 2020. */
  readonly clock: Clock;
  /** Milliseconds by which a peer may be ahead of our wall clock and still be believed; 0 or more. */
  readonly driftMsMax: number;
  /**
   * The highest timestamp that this node may have used before (default 0): everything new is greater. A node that
   * stores such a bound in advance keeps its reserve well below the `driftMsMax` of its peers.
   */
  readonly floor?: Timestamp;
}

/** Makes the clock of one node. Every call of `now` counts as one event. */
export function hybridClock(options: HybridClockOptions): HybridClock {
  const { clock, driftMsMax, floor = 0 } = options;
  assert(driftMsMax >= 0, 'a drift bound is not negative');
  assert(isTimestamp(floor), 'a floor is a timestamp');
  /** The highest timestamp made or believed. Invariant: grows with every `now`, never shrinks. */
  let highest = floor;

  return {
    now() {
      const wall = (clock.wallMs() - timestampEpochMs) * timestampsPerMs;
      highest = wall > highest ? wall : highest + 1;
      assert(Number.isSafeInteger(highest), 'the wall clock is before 2089-09-06');
      return highest;
    },

    /** What is not above the highest timestamp tells nothing new: it is neither merged nor refused. */
    observe(remote) {
      if (!isTimestamp(remote)) {
        throw new KommanderError(`a peer sent ${remote} as a timestamp: it is no safe integer`, {
          code: 'MALFORMED_MESSAGE',
          details: { timestamp: remote },
        });
      }
      if (remote <= highest) return;
      const aheadMs = timestampWallMs(remote) - clock.wallMs();
      if (aheadMs > driftMsMax) throw driftError(aheadMs, driftMsMax);
      highest = remote;
    },
  };
}

function driftError(aheadMs: number, driftMsMax: number): KommanderError {
  return new KommanderError(
    `a peer's clock is ${aheadMs} ms ahead of ours, more than ${driftMsMax} ms: check time synchronisation on both`,
    { code: 'CLOCK_DRIFT', details: { aheadMs, driftMsMax } },
  );
}
