// The gRPC transport's options: ranges, defaults, and the rule that an open door needs a name.

import { randomInt } from 'node:crypto';
import { BlockList } from 'node:net';
import { parseEndpoint } from '../base/endpoint.ts';
import { KommanderError } from '../base/errors.ts';
import type { Endpoint } from '../ports/transport.ts';

/** Settings of the gRPC transport. All have defaults. */
export interface GrpcTransportOptions {
  /**
   * Allows to listen on an address that other machines reach although nothing is authenticated or encrypted
   * (default false: loopback only).
   */
  readonly insecure?: boolean;
  /**
   * Bytes of one frame and so of one item, 64 KiB … 64 MiB (default 4 MiB + 256 KiB). It has to hold the largest
   * append: `appendBytesMax` and `entryBytesMax` of the node plus a few bytes per entry. The same on every node.
   */
  readonly frameBytesMax?: number;
  /** Frames waiting per peer and lane, 1 … 1_000_000 (default 4_096). More are dropped. */
  readonly outboxFramesMax?: number;
  /** Bytes waiting per peer and lane, 64 KiB … 1 GiB (default 32 MiB). More are dropped. */
  readonly outboxBytesMax?: number;
  /** HTTP/2 flow-control window of sessions and streams in bytes, 64 KiB … 1 GiB (default 16 MiB). */
  readonly windowBytes?: number;
  /** Milliseconds until a connection must have been made and greeted, 10 … 60_000 (default 2_000). */
  readonly connectTimeoutMs?: number;
  /** Milliseconds between two PINGs, 10 … 60_000 (default 1_000). Three unanswered ones end a connection. */
  readonly keepAliveMs?: number;
  /** Milliseconds before the second attempt to connect, 1 … 60_000 (default 50); doubled at every failure. */
  readonly backoffMsMin?: number;
  /** Longest pause between attempts in milliseconds, at least `backoffMsMin`, up to 600_000 (default 1_000). */
  readonly backoffMsMax?: number;
  /** Connections that others may have open to this node, 1 … 65_536 (default 1_024). */
  readonly inboundSessionsMax?: number;
  /** Seed of the jitter (default: drawn from the system). */
  readonly seed?: number;
}

export type GrpcSettings = Required<GrpcTransportOptions>;

/** @throws INVALID_OPTION */
export function checkedOptions(options: GrpcTransportOptions): GrpcSettings {
  for (const option of Object.keys(options))
    if (!optionNames.has(option)) throw invalid(option, 'it is not known');
  const insecure: unknown = options.insecure ?? false;
  if (typeof insecure !== 'boolean') throw invalid('insecure', 'give true or false');
  const backoffMsMin = integer(options, 'backoffMsMin', [1, 60_000, 50]);
  return {
    insecure,
    frameBytesMax: integer(options, 'frameBytesMax', [65_536, 67_108_864, 4_456_448]),
    outboxFramesMax: integer(options, 'outboxFramesMax', [1, 1_000_000, 4_096]),
    outboxBytesMax: integer(options, 'outboxBytesMax', [65_536, 1_073_741_824, 33_554_432]),
    windowBytes: integer(options, 'windowBytes', [65_536, 1_073_741_824, 16_777_216]),
    connectTimeoutMs: integer(options, 'connectTimeoutMs', [10, 60_000, 2_000]),
    keepAliveMs: integer(options, 'keepAliveMs', [10, 60_000, 1_000]),
    backoffMsMin,
    backoffMsMax: integer(options, 'backoffMsMax', [
      backoffMsMin,
      600_000,
      Math.max(backoffMsMin, 1_000),
    ]),
    inboundSessionsMax: integer(options, 'inboundSessionsMax', [1, 65_536, 1_024]),
    seed: integer(options, 'seed', [0, Number.MAX_SAFE_INTEGER, randomInt(0x7fff_ffff)]),
  };
}

/**
 * Checks that listening at `listen` is allowed.
 *
 * @throws INVALID_OPTION not a loopback address, and `insecure` is not set
 */
export function checkListen(listen: Endpoint, insecure: boolean): void {
  const { host } = parseEndpoint(listen, { option: 'listen', portMin: 0 });
  if (insecure || isLoopback(host)) return;
  throw invalid(
    'listen',
    `${listen} can be reached by other machines and nothing is authenticated: listen on 127.0.0.1, or set insecure: true`,
  );
}

const optionNames: ReadonlySet<string> = new Set<keyof GrpcTransportOptions>([
  'insecure',
  'frameBytesMax',
  'outboxFramesMax',
  'outboxBytesMax',
  'windowBytes',
  'connectTimeoutMs',
  'keepAliveMs',
  'backoffMsMin',
  'backoffMsMax',
  'inboundSessionsMax',
  'seed',
]);

type NumberOption = Exclude<keyof GrpcTransportOptions, 'insecure'>;

function integer(
  options: GrpcTransportOptions,
  option: NumberOption,
  [min, max, fallback]: readonly [min: number, max: number, fallback: number],
): number {
  const value = options[option] ?? fallback;
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw invalid(option, `${String(value)} is no whole number between ${min} and ${max}`);
}

function invalid(option: string, why: string): KommanderError {
  return new KommanderError(`gRPC transport, option ${option}: ${why}`, {
    code: 'INVALID_OPTION',
    details: { option },
  });
}

function isLoopback(host: string): boolean {
  if (host === 'localhost') return true;
  const loopback = new BlockList();
  loopback.addSubnet('127.0.0.0', 8, 'ipv4');
  loopback.addAddress('::1', 'ipv6');
  return loopback.check(host, host.includes(':') ? 'ipv6' : 'ipv4');
}
