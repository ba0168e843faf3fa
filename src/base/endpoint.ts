// Names of nodes and where they listen, as texts that users write: `host:port`, `[v6]:port`, node ids. They are checked
// where they enter, so that everybody behind can believe them. Whether a host exists is not asked here.

import { KommanderError } from './errors.ts';

/** A well-formed endpoint in its parts. */
export interface EndpointParts {
  /** Host name, IPv4 address, or IPv6 address without brackets. */
  readonly host: string;
  /** 0 … 65535; 0 only where the caller asked for a free port. */
  readonly port: number;
}

export interface EndpointRules {
  /** The option that the text comes from, for the error. */
  readonly option: string;
  /** 0 where a free port may be asked for (default 1). */
  readonly portMin?: 0 | 1;
}

/**
 * Takes an endpoint apart.
 *
 * @throws INVALID_OPTION `rules.option` holds no endpoint; the message says why
 */
export function parseEndpoint(endpoint: string, rules: EndpointRules): EndpointParts {
  const { option, portMin = 1 } = rules;
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(endpoint);
  if (match === null) {
    throw invalidEndpoint(endpoint, option, 'write it as host:port or [IPv6 address]:port');
  }
  const [, bracketed, plain, portText] = match;
  const port = Number(portText);
  if (port < portMin || port > 65_535) {
    throw invalidEndpoint(endpoint, option, `the port lies between ${portMin} and 65535`);
  }
  const host = bracketed ?? plain ?? '';
  const isHost = bracketed === undefined ? isHostName(host) : isIpv6Address(host);
  if (!isHost) {
    const wanted = bracketed === undefined ? 'host name or IPv4 address' : 'IPv6 address';
    throw invalidEndpoint(endpoint, option, `"${host.slice(0, 64)}" is no ${wanted}`);
  }
  return { host, port };
}

/** Puts an endpoint together; `parseEndpoint` takes it apart again. */
export function formatEndpoint(parts: EndpointParts): string {
  return parts.host.includes(':') ? `[${parts.host}]:${parts.port}` : `${parts.host}:${parts.port}`;
}

/** What a node id looks like, for messages. */
export const nodeIdRule = '1 to 64 characters of A-Z a-z 0-9 . _ -';

/** Whether `text` can name a node. */
export function isNodeId(text: string): boolean {
  return /^[A-Za-z0-9._-]{1,64}$/.test(text);
}

function invalidEndpoint(endpoint: string, option: string, why: string): KommanderError {
  const shown = endpoint.slice(0, 128);
  return new KommanderError(`option ${option}: "${shown}" is no endpoint: ${why}`, {
    code: 'INVALID_OPTION',
    details: { option, value: shown },
  });
}

/** A host name of 1 to 253 characters, or an IPv4 address: a name that ends in a number can only be an address. */
function isHostName(host: string): boolean {
  if (host.length > 253) return false;
  const labels = host.split('.');
  if (labels.some((label) => !/^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label))) {
    return false;
  }
  return !/^\d+$/.test(labels.at(-1) ?? '') || isIpv4Address(host);
}

function isIpv4Address(host: string): boolean {
  const numbers = host.split('.');
  return (
    numbers.length === 4 &&
    numbers.every((text) => /^(?:0|[1-9]\d{0,2})$/.test(text) && Number(text) <= 255)
  );
}

/** Eight groups, of which one stretch may be left out as `::`; the last two may be an IPv4 address; a zone may follow. */
function isIpv6Address(host: string): boolean {
  const match = /^([0-9A-Fa-f:.]{2,45})(?:%[A-Za-z0-9._-]{1,32})?$/.exec(host);
  if (match === null) return false;
  const halves = (match[1] ?? '').split('::');
  if (halves.length > 2) return false;
  const groups = halves.flatMap((half) => (half === '' ? [] : half.split(':')));
  const tail = groups.at(-1) ?? '';
  const endsInIpv4 = tail.includes('.') && halves.at(-1) !== '';
  const hexGroups = endsInIpv4 ? groups.slice(0, -1) : groups;
  if (endsInIpv4 && !isIpv4Address(tail)) return false;
  if (hexGroups.some((group) => !/^[0-9A-Fa-f]{1,4}$/.test(group))) return false;
  const groupCount = hexGroups.length + (endsInIpv4 ? 2 : 0);
  return halves.length === 2 ? groupCount <= 7 : groupCount === 8;
}
