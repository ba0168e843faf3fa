// `--discovery` for registries: what their URLs mean. A password stands in the URL, as the registries' own tools take it,
// and is shown nowhere; where the command line itself is no secret, KOMMANDER_DISCOVERY or the options file holds it.

import { KommanderError } from '../base/errors.ts';
import { consulDiscovery } from '../discovery/consul.ts';
import { dnsDiscovery } from '../discovery/dns.ts';
import { etcdDiscovery } from '../discovery/etcd.ts';
import { redisDiscovery } from '../discovery/redis.ts';
import type { Discovery } from '../ports/discovery.ts';

/** @param secretOf reads a file with one secret */
type MakeRegistry = (url: URL, secretOf: (path: string) => string) => Discovery;

/** By scheme; one that ends in `s` is the same over TLS. */
export const registrySchemes: Readonly<
  Record<string, { readonly form: string; readonly make: MakeRegistry }>
> = {
  redis: { form: 'redis://[USER:PASSWORD@]HOST[:PORT][/DB][?cluster=NAME]', make: makeRedis },
  rediss: { form: 'rediss://…', make: makeRedis },
  etcd: {
    form: 'etcd://[USER:PASSWORD@]HOST[:PORT][?cluster=NAME&member=HOST:PORT]',
    make: makeEtcd,
  },
  etcds: { form: 'etcds://…', make: makeEtcd },
  consul: { form: 'consul://HOST[:PORT][?cluster=NAME&token-file=PATH]', make: makeConsul },
  consuls: { form: 'consuls://…', make: makeConsul },
  dns: { form: 'dns://_PORT._tcp.NAME[?server=ADDRESS[:PORT]]', make: makeDns },
};

function makeRedis(url: URL): Discovery {
  const parameters = parametersOf(url, ['cluster']);
  const plain = new URL(url);
  plain.search = '';
  return redisDiscovery({ url: plain.href, ...clusterOf(parameters) });
}

function makeEtcd(url: URL): Discovery {
  const parameters = parametersOf(url, ['cluster', 'member']);
  const user = url.username === '' ? '' : `${url.username}:${url.password}@`;
  const members = [url.host, ...parameters.getAll('member')];
  const urls = members.map((host) => `${webProtocol(url)}//${user}${withPort(host, 2_379)}`);
  return etcdDiscovery({ url: urls, ...clusterOf(parameters) });
}

function makeConsul(url: URL, secretOf: (path: string) => string): Discovery {
  const parameters = parametersOf(url, ['cluster', 'token-file']);
  const tokenFile = parameters.get('token-file');
  return consulDiscovery({
    url: `${webProtocol(url)}//${withPort(url.host, 8_500)}`,
    ...(tokenFile === null ? {} : { token: secretOf(tokenFile) }),
    ...clusterOf(parameters),
  });
}

function makeDns(url: URL): Discovery {
  const servers = parametersOf(url, ['server']).getAll('server');
  // A and AAAA records name no node ids, and a node connects to nobody without.
  if (!url.hostname.startsWith('_') || url.port !== '') {
    throw invalid(
      'it needs the name of SRV records, _PORT._tcp.NAME: they say which node is where',
    );
  }
  return dnsDiscovery({
    name: url.hostname,
    ...(servers.length === 0 ? {} : { servers }),
  });
}

/** @throws INVALID_OPTION there is no host, or a parameter that is not known, or a path where there is none */
function parametersOf(url: URL, names: readonly string[]): URLSearchParams {
  const { searchParams, pathname, hostname } = url;
  if (hostname === '') throw invalid('it needs a host');
  for (const name of searchParams.keys()) {
    if (names.includes(name)) continue;
    throw invalid(`there is no parameter "${name}"; there are ${names.join(', ')}`);
  }
  if (!url.protocol.startsWith('redis') && pathname !== '' && pathname !== '/') {
    throw invalid('it takes no path');
  }
  return searchParams;
}

function clusterOf(parameters: URLSearchParams): { readonly cluster?: string } {
  const cluster = parameters.get('cluster');
  return cluster === null ? {} : { cluster };
}

/** `etcd:` speaks HTTP, `etcds:` HTTPS. */
function webProtocol({ protocol }: URL): string {
  return protocol.endsWith('s:') ? 'https:' : 'http:';
}

function withPort(host: string, port: number): string {
  return /:\d+$/.test(host) ? host : `${host}:${port}`;
}

function invalid(problem: string): KommanderError {
  return new KommanderError(problem, {
    code: 'INVALID_OPTION',
    details: { option: 'discovery' },
  });
}
