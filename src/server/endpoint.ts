// Endpoints as text: `host:port` and `[v6]:port`, taken apart and put together.

import { KommanderError } from '../base/errors.ts';
import type { Endpoint } from '../ports/transport.ts';

export interface HostPort {
  /** Without the brackets of an IPv6 address. */
  readonly host: string;
  /** 0 … 65535. */
  readonly port: number;
}

const endpointPattern = /^(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:[\]/]+)):(\d{1,5})$/;

/** The parts, or undefined when `text` is no endpoint. */
export function tryParseEndpoint(text: string): HostPort | undefined {
  const match = endpointPattern.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || port > 65_535 ? undefined : { host, port };
}

/** @throws INVALID_OPTION */
export function parseEndpoint(text: string): HostPort {
  const parsed = tryParseEndpoint(text);
  if (parsed !== undefined) return parsed;
  throw new KommanderError(`"${text}" is no endpoint: expected host:port or [v6]:port`, {
    code: 'INVALID_OPTION',
    details: { option: 'listen', value: text },
  });
}

export function formatEndpoint(host: string, port: number): Endpoint {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
