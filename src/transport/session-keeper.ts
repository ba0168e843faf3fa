// Watches HTTP/2 sessions: one timer for all of them sends PINGs, ends sessions whose PINGs stay unanswered and
// inbound sessions on which nothing has happened for long. It counts its own turns instead of time, so that a process
// that was paused reads what arrived meanwhile before it takes a peer for dead.

import type { Http2Session, Http2Stream } from 'node:http2';
import type { Clock, Timer } from '../ports/clock.ts';

/** Unanswered PINGs after which a session is dead. */
const unansweredMax = 3;
/** Turns without a stream after which an inbound session is closed. */
const idleTurnsMax = 60;

/** Keeps the sessions of one transport. */
export class SessionKeeper {
  readonly #clock: Clock;
  readonly #intervalMs: number;
  readonly #sessions: Map<Http2Session, Watched> = new Map();
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(clock: Clock, intervalMs: number) {
    this.#clock = clock;
    this.#intervalMs = intervalMs;
  }

  /** Watches a session until it closes. */
  add(session: Http2Session): void {
    if (this.#isClosed) {
      session.destroy();
      return;
    }
    const watched: Watched = { unansweredCount: 0, streamCount: 0, idleTurns: 0 };
    this.#sessions.set(session, watched);
    session.once('close', () => this.#sessions.delete(session));
    session.on('stream', (stream: Http2Stream) => {
      watched.streamCount += 1;
      stream.once('close', () => {
        watched.streamCount -= 1;
      });
    });
    this.#timer ??= this.#clock.setTimer(this.#intervalMs, () => this.#turn());
  }

  /** Ends all sessions. */
  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const session of this.#sessions.keys()) session.destroy();
  }

  #turn(): void {
    this.#timer = undefined;
    for (const [session, watched] of this.#sessions) this.#check(session, watched);
    if (this.#sessions.size > 0)
      this.#timer = this.#clock.setTimer(this.#intervalMs, () => this.#turn());
  }

  #check(session: Http2Session, watched: Watched): void {
    if (session.destroyed) return;
    if (watched.unansweredCount >= unansweredMax) {
      session.destroy(new Error(`${unansweredMax} PINGs are unanswered`));
      return;
    }
    watched.idleTurns = watched.streamCount > 0 ? 0 : watched.idleTurns + 1;
    if (isInbound(session) && watched.idleTurns > idleTurnsMax) {
      session.close();
      return;
    }
    if (session.connecting) return;
    watched.unansweredCount += 1;
    session.ping((error) => {
      if (error === null) watched.unansweredCount = 0;
    });
  }
}

interface Watched {
  /** PINGs sent since the last one that was answered. */
  unansweredCount: number;
  /** Inbound streams that are open. */
  streamCount: number;
  /** Turns in a row without an inbound stream. */
  idleTurns: number;
}

function isInbound(session: Http2Session): boolean {
  return 'altsvc' in session;
}
