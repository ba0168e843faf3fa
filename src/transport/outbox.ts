// Frames that wait for one peer and lane, bounded in frames and bytes. What is above the bound is dropped: Raft sends
// it again. What the stream has taken but not yet sent counts too.

import type { Writable } from 'node:stream';
import { must } from '../base/assert.ts';
import type { EncodedFrame } from './frame-encoder.ts';

/** Bytes given to the stream ahead of the socket. Beyond it frames wait here, where they are counted one by one. */
const streamBytesMax = 1_048_576;

interface WaitingFrame {
  readonly frame: EncodedFrame;
  /** Called when the stream has passed it on, or is destroyed. */
  readonly sent: (() => void) | undefined;
}

export interface OutboxLimits {
  readonly outboxFramesMax: number;
  readonly outboxBytesMax: number;
}

/** The queue in front of one stream. */
export class Outbox {
  readonly #limits: OutboxLimits;
  readonly #stream: Writable;
  #frames: WaitingFrame[] = [];
  /** Frames before this position were written. */
  #head = 0;
  #bytes = 0;

  constructor(limits: OutboxLimits, stream: Writable) {
    this.#limits = limits;
    this.#stream = stream;
    stream.on('drain', () => this.#flush());
  }

  get frameCount(): number {
    return this.#frames.length - this.#head;
  }

  get isFull(): boolean {
    const { outboxFramesMax, outboxBytesMax } = this.#limits;
    return this.frameCount >= outboxFramesMax || this.#waitingBytes >= outboxBytesMax;
  }

  get #waitingBytes(): number {
    return this.#bytes + this.#stream.writableLength;
  }

  /** @returns false when there is no room */
  tryPush(frame: EncodedFrame, sent?: () => void): boolean {
    if (this.isFull) return false;
    const waitingBytes = this.#waitingBytes;
    // A frame that is larger than the bound goes alone.
    if (waitingBytes > 0 && waitingBytes + frame.byteLength > this.#limits.outboxBytesMax)
      return false;
    if (this.frameCount === 0 && this.#stream.writableLength < streamBytesMax) {
      this.#write({ frame, sent });
      return true;
    }
    this.#frames.push({ frame, sent });
    this.#bytes += frame.byteLength;
    return true;
  }

  #flush(): void {
    while (this.frameCount > 0 && this.#stream.writableLength < streamBytesMax) {
      const next = must(this.#frames[this.#head++], 'the outbox has frames from its head on');
      this.#bytes -= next.frame.byteLength;
      this.#write(next);
    }
    if (this.#head * 2 >= this.#frames.length) {
      this.#frames = this.#frames.slice(this.#head);
      this.#head = 0;
    }
  }

  /** One frame is one gather write. */
  #write({ frame: { chunks }, sent }: WaitingFrame): void {
    if (chunks.length > 1) this.#stream.cork();
    for (let i = 0; i < chunks.length; i++) {
      const isLast = i === chunks.length - 1;
      this.#stream.write(chunks[i], isLast ? sent : undefined);
    }
    if (chunks.length > 1) this.#stream.uncork();
  }
}
