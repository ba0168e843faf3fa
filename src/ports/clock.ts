// Time as the host sees it. The only implementation that reads the real time is `time/system-clock.ts`; the simulator
// has its own. Timeouts use the monotonic clock; only the hybrid logical clock looks at the wall clock.

/** A running timer. */
export interface Timer {
  /** The callback will not run any more. Harmless when it has run, or when the timer is cancelled already. */
  cancel(): void;
}

export interface Clock {
  /** Milliseconds on a clock that never goes back; fractions allowed. */
  monotonicMs(): number;
  /** Milliseconds since 1970 on the wall clock, which may jump. An integer. */
  wallMs(): number;
  /**
   * Calls `callback` once, `delayMs` from now or later, never at once. Does not keep the process alive by itself.
   *
   * @param delayMs 0 or more, finite, however long; anything else throws
   */
  setTimer(delayMs: number, callback: () => void): Timer;
  /** Calls `callback` once, after the input that is already waiting has been taken (Node: `setImmediate`). */
  defer(callback: () => void): void;
}

/**
 * Hybrid logical time, packed into one safe integer so that it costs no allocation: larger is later. It is greater
 * than every timestamp that its maker has made or seen before.
 */
export type Timestamp = number;

/** The hybrid logical clock of a node (Kulkarni et al. 2014). */
export interface HybridClock {
  /** A timestamp greater than all that this clock has given or observed. */
  now(): Timestamp;
  /**
   * Merges a peer's timestamp.
   *
   * @throws CLOCK_DRIFT when it is further ahead of the local wall clock than the bound; it is then not merged
   */
  observe(remote: Timestamp): void;
}
