// DNS as a registry that somebody else writes: SRV records, or A and AAAA records with a port from here. Nothing is
// announced. A Kubernetes headless service is such a name: its SRV records name the pods.

import { Resolver } from 'node:dns/promises';
import { formatEndpoint, parseEndpoint } from '../base/endpoint.ts';
import type { DiscoveredNode, Discovery } from '../ports/discovery.ts';
import { type Registry, registryDiscovery } from './registry.ts';
import { checkNames, integerOption, invalidOption, timeoutOption } from './registry-options.ts';

export interface DnsDiscoveryOptions {
  /** `_port._tcp.service.example` is looked up as SRV; any other name as A and AAAA, together with `port`. */
  readonly name: string;
  /** Where nodes listen, for A and AAAA records, which do not say it. */
  readonly port?: number;
  /** `address[:port]` of the name servers (default: those of the machine). */
  readonly servers?: readonly string[];
  /** Milliseconds between two looks: 100 … 3_600_000 (default 5_000). */
  readonly pollMs?: number;
  /** Milliseconds that a name which is missing in the answers is still believed: 1_000 … 3_600_000 (default 15_000). */
  readonly holdMs?: number;
  /** Milliseconds after which a look counts as failed: 10 … 60_000 (default 3_000). */
  readonly timeoutMs?: number;
}

/**
 * Finds nodes by name. When the name servers do not answer, or know the name no more, the last answer stays.
 *
 * @throws INVALID_OPTION
 */
export function dnsDiscovery(options: DnsDiscoveryOptions): Discovery {
  checkNames(options, ['name', 'port', 'servers', 'pollMs', 'holdMs', 'timeoutMs']);
  const { name, servers } = options;
  const isService = /^_[^.]+\._[^.]+\./.test(name);
  checkName(name, isService ? name.replace(/^_[^.]+\._[^.]+\./, '') : name);
  const port = portOf(options, isService);
  const timeoutMs = timeoutOption(options.timeoutMs);
  const pollMs = integerOption('pollMs', options.pollMs, {
    min: 100,
    max: 3_600_000,
    byDefault: 5_000,
  });
  const ttlMs = integerOption('holdMs', options.holdMs, {
    min: 1_000,
    max: 3_600_000,
    byDefault: 15_000,
  });
  resolverOf(servers, timeoutMs);
  return registryDiscovery({
    ttlMs,
    timeoutMs,
    connect: async () => dnsRegistry({ name, port, servers, pollMs, timeoutMs }),
  });
}

function dnsRegistry(parts: {
  readonly name: string;
  readonly port: number | undefined;
  readonly servers: readonly string[] | undefined;
  readonly pollMs: number;
  readonly timeoutMs: number;
}): Registry {
  const { name, port, servers, pollMs, timeoutMs } = parts;
  return {
    name: `dns name ${name}`,
    pauseMs: pollMs,
    async list(signal) {
      // One for each look: cancelling it ends the look, and the machine's name servers may be others by now.
      const resolver = resolverOf(servers, timeoutMs);
      const cancel = (): void => resolver.cancel();
      signal.addEventListener('abort', cancel);
      try {
        return await (port === undefined
          ? servicesOf(resolver, name)
          : addressesOf(resolver, name, port));
      } finally {
        signal.removeEventListener('abort', cancel);
      }
    },
    close: () => {},
  };
}

/** @throws INVALID_OPTION */
function resolverOf(servers: readonly string[] | undefined, timeoutMs: number): Resolver {
  const resolver = new Resolver({ timeout: Math.ceil(timeoutMs / 2), tries: 2 });
  if (servers === undefined) return resolver;
  try {
    resolver.setServers(servers);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw invalidOption('servers', `is not valid: ${why}`);
  }
  return resolver;
}

/**
 * Targets that lie directly below the service's own domain are named by it: their first label is the node id, as with
 * pods of a Kubernetes StatefulSet. Of two records with one id the one of lower priority, then of more weight, counts.
 */
async function servicesOf(resolver: Resolver, name: string): Promise<DiscoveredNode[]> {
  const domain = name.replace(/^_[^.]+\._[^.]+\./, '').toLowerCase();
  const records = await resolver.resolveSrv(name);
  return records
    .sort((a, b) => a.priority - b.priority || b.weight - a.weight || (a.name < b.name ? -1 : 1))
    .map((record) => {
      const [label = ''] = record.name.split('.', 1);
      const isBelow = record.name.slice(label.length + 1).toLowerCase() === domain;
      return {
        nodeId: isBelow ? label : undefined,
        endpoint: formatEndpoint({ host: record.name, port: record.port }),
      };
    });
}

async function addressesOf(
  resolver: Resolver,
  name: string,
  port: number,
): Promise<DiscoveredNode[]> {
  const [v4, v6] = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
  const hosts: string[] = [];
  for (const outcome of [v4, v6]) {
    if (outcome.status === 'fulfilled') hosts.push(...outcome.value);
    else if (!hasNoSuchRecord(outcome.reason)) throw outcome.reason;
  }
  // A name without any address is no answer: what was known before stays.
  if (hosts.length === 0 && v4.status === 'rejected') throw v4.reason;
  return hosts.map((host) => ({ nodeId: undefined, endpoint: formatEndpoint({ host, port }) }));
}

/** The name is there, with records of another kind. */
function hasNoSuchRecord(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENODATA';
}

function checkName(name: string, domain: string): void {
  const refused = invalidOption(
    'name',
    `is "${String(name).slice(0, 128)}": write a host name, or _port._tcp.name for SRV records`,
  );
  if (typeof name !== 'string' || domain.startsWith('_')) throw refused;
  try {
    parseEndpoint(`${domain}:1`, { option: 'name' });
  } catch {
    throw refused;
  }
}

function portOf(options: DnsDiscoveryOptions, isService: boolean): number | undefined {
  if (isService && options.port === undefined) return undefined;
  if (isService) throw invalidOption('port', 'is not needed: SRV records say where nodes listen');
  if (options.port === undefined) {
    throw invalidOption('port', 'is missing: A and AAAA records do not say where nodes listen');
  }
  return integerOption('port', options.port, { min: 1, max: 65_535, byDefault: 0 });
}
