// What the parts of one open gRPC transport share.

import type { Settings } from 'node:http2';
import type { Random } from '../base/random.ts';
import type { TransportContext } from '../ports/transport.ts';
import type { FrameEncoder } from './frame-encoder.ts';
import type { GrpcSettings } from './grpc-options.ts';
import type { SessionKeeper } from './session-keeper.ts';

/** Figures since `open`. */
export interface GrpcTransportStats {
  readonly framesSent: number;
  readonly bytesSent: number;
  /** Frames that a full or lost outbox dropped, and items too large for a frame. */
  readonly framesDropped: number;
  readonly framesReceived: number;
  readonly bytesReceived: number;
  /** Received items that were broken or of an unknown kind. */
  readonly itemsSkipped: number;
  /** Greetings that were refused, by us or by a peer. */
  readonly peersRefused: number;
  /** Inbound connections that were ended because of bytes that are no valid message. */
  readonly peersMalformed: number;
  /** Outbound connections that were accepted. */
  readonly connectsSucceeded: number;
  readonly connectsFailed: number;
}

export type GrpcCounters = { -readonly [Name in keyof GrpcTransportStats]: number };

export interface GrpcNode {
  readonly context: TransportContext;
  readonly settings: GrpcSettings;
  readonly counters: GrpcCounters;
  readonly encoder: FrameEncoder;
  readonly keeper: SessionKeeper;
  readonly random: Random;
}

/** HTTP/2 settings that both sides announce. Frames of 1 MiB and windows of 16 MiB measured best. */
export function http2Settings(settings: GrpcSettings): Settings {
  return {
    enablePush: false,
    initialWindowSize: settings.windowBytes,
    maxFrameSize: 1_048_576,
    maxConcurrentStreams: 16,
    maxHeaderListSize: 16_384,
  };
}
