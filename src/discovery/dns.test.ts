// DNS as a registry, with a real dnsmasq: A, AAAA and SRV records, a headless service as Kubernetes has it, and what
// stays known when the name server is gone or knows the name no more.

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { test } from 'node:test';
import {
  type RegistryServer,
  skipWithout,
  startServer,
  until,
} from '../../test/support/registry-servers.ts';
import { isKommanderError } from '../base/errors.ts';
import type { DiscoveredNode, DiscoveryContext } from '../ports/discovery.ts';
import type { ObservedEvent } from '../ports/observer.ts';
import { discoveryContract } from '../testing/discovery-contract.ts';
import { systemClock } from '../time/system-clock.ts';
import { type DnsDiscoveryOptions, dnsDiscovery } from './dns.ts';

const skip = skipWithout('dnsmasq');
const limits = { skip, timeout: 60_000 };
const domain = 'raft.default.svc.cluster.test';
const service = `_raft._tcp.${domain}`;

interface NameServer extends AsyncDisposable {
  readonly servers: readonly string[];
  readonly server: RegistryServer;
  /** Starts again with these records, as dnsmasq writes them: `host-record=…`, `srv-host=…`. */
  serve(records: readonly string[]): Promise<void>;
}

async function startNames(records: readonly string[]): Promise<NameServer> {
  let present = records;
  const server = await startServer({
    command: 'dnsmasq',
    arguments: ({ ports: [port], directory }) => [
      ...[
        '--keep-in-foreground',
        '--conf-file=/dev/null',
        '--user=',
        `--pid-file=${directory}/pid`,
      ],
      ...[`--port=${port}`, '--listen-address=127.0.0.1', '--bind-interfaces'],
      ...['--no-resolv', '--no-hosts', '--local=/test/'],
      ...present.map((record) => `--${record}`),
    ],
    async isUp(port) {
      const resolver = new Resolver({ timeout: 100, tries: 1 });
      resolver.setServers([`127.0.0.1:${port}`]);
      const error: unknown = await resolver
        .resolve4('ready.test')
        .catch((reason: unknown) => reason);
      return Array.isArray(error) || (error as { code?: string }).code === 'ENOTFOUND';
    },
  });
  return {
    server,
    servers: [`127.0.0.1:${server.port}`],
    async serve(next) {
      await server.stop();
      present = next;
      await server.start();
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

interface Watched extends AsyncDisposable {
  readonly reports: (readonly DiscoveredNode[])[];
  readonly events: ObservedEvent[];
  knows(nodes: readonly DiscoveredNode[]): Promise<void>;
}

async function watched(options: DnsDiscoveryOptions): Promise<Watched> {
  const reports: (readonly DiscoveredNode[])[] = [];
  const events: ObservedEvent[] = [];
  const discovery = dnsDiscovery({ pollMs: 100, holdMs: 1_000, timeoutMs: 300, ...options });
  const context: DiscoveryContext = {
    self: { nodeId: 'self', endpoint: '10.9.9.9:8101', startId: 'one' },
    clock: systemClock,
    observer: (event) => void events.push(event),
  };
  await discovery.open((nodes) => reports.push(nodes), context);
  return {
    reports,
    events,
    async knows(nodes) {
      const wanted = JSON.stringify(nodes);
      await until(() => JSON.stringify(reports.at(-1)) === wanted);
    },
    [Symbol.asyncDispose]: () => discovery.close(),
  };
}

const pod = (number: number): DiscoveredNode => ({
  nodeId: `raft-${number}`,
  endpoint: `raft-${number}.${domain}:8101`,
});
const podRecord = (number: number, rest = ''): string =>
  `srv-host=${service},raft-${number}.${domain},8101${rest}`;
const nameless = (endpoint: string): DiscoveredNode => ({ nodeId: undefined, endpoint });

discoveryContract({ test: (says, body) => test(`dns: ${says}`, limits, body) }, async () => {
  const names = await startNames([podRecord(0), podRecord(1)]);
  return {
    discovery: dnsDiscovery({ name: service, servers: names.servers, pollMs: 100, holdMs: 1_000 }),
    expected: [pod(0), pod(1)],
    steps: [
      {
        happen: () => names.serve([podRecord(0), podRecord(1), podRecord(2)]),
        expected: [pod(0), pod(1), pod(2)],
      },
      { happen: () => names.serve([podRecord(2)]), expected: [pod(2)] },
    ],
    dispose: async () => names[Symbol.asyncDispose](),
  };
});

test(
  'dns: SRV targets below the name of the service are nodes by their first label',
  limits,
  async () => {
    await using names = await startNames([
      podRecord(0),
      `srv-host=${service},elsewhere.test,9000`,
      `srv-host=${service},deep.raft-7.${domain},9001`,
      `srv-host=${service},10-1-2-3.${domain},9002`,
    ]);
    await using nodes = await watched({ name: service, servers: names.servers });
    await until(() => nodes.reports.length > 0);
    assert.deepEqual(
      nodes.reports[0]?.map(({ nodeId, endpoint }) => `${nodeId} ${endpoint}`).sort(),
      [
        `10-1-2-3 10-1-2-3.${domain}:9002`,
        `raft-0 raft-0.${domain}:8101`,
        'undefined elsewhere.test:9000',
        `undefined deep.raft-7.${domain}:9001`,
      ].sort(),
    );
  },
);

test(
  'dns: of two records with one id that of lower priority counts, then that of more weight',
  limits,
  async () => {
    await using names = await startNames([
      `srv-host=${service},raft-0.${domain},1,20,900`,
      `srv-host=${service},raft-0.${domain},2,10,5`,
      `srv-host=${service},raft-0.${domain},3,10,50`,
      `srv-host=${service},raft-1.${domain},4,5,1`,
    ]);
    await using nodes = await watched({ name: service, servers: names.servers });
    await nodes.knows([
      { nodeId: 'raft-1', endpoint: `raft-1.${domain}:4` },
      { nodeId: 'raft-0', endpoint: `raft-0.${domain}:3` },
    ]);
    assert.equal(nodes.events[0]?.name, 'node-id-claimed-twice');
  },
);

test(
  'dns: A and AAAA records are endpoints without ids, together with the port',
  limits,
  async () => {
    await using names = await startNames([
      `host-record=${domain},10.0.0.1,fd00::1`,
      `host-record=four.test,10.0.0.2`,
      `host-record=six.test,fd00::2`,
    ]);
    const of = (name: string) => watched({ name, port: 8_101, servers: names.servers });
    await using both = await of(domain);
    await using four = await of('four.test');
    await using six = await of('six.test');
    await both.knows([nameless('10.0.0.1:8101'), nameless('[fd00::1]:8101')]);
    await four.knows([nameless('10.0.0.2:8101')]);
    await six.knows([nameless('[fd00::2]:8101')]);
    assert.deepEqual([...both.events, ...four.events, ...six.events], []);
  },
);

test(
  'dns: a name server that is gone, and a name that is gone, leave the last answer',
  limits,
  async () => {
    await using names = await startNames([podRecord(0)]);
    await using nodes = await watched({ name: service, servers: names.servers });
    await nodes.knows([pod(0)]);
    const count = (name: string): number =>
      nodes.events.filter((event) => event.name === name).length;
    await names.server.stop();
    await until(() => count('registry-failing') === 1);
    await names.serve([podRecord(0)]);
    await until(() => count('registry-recovered') === 1);
    await names.serve([]);
    await until(() => count('registry-failing') === 2);
    assert.match(String(nodes.events.at(-1)?.fields.error), /ENOTFOUND|ECONNREFUSED|ETIMEOUT/);
    // Longer than a name that is missing in an answer would be believed.
    const endMs = performance.now() + 1_500;
    await until(() => performance.now() > endMs);
    assert.deepEqual(nodes.reports, [[pod(0)]]);
    await names.serve([podRecord(1)]);
    await nodes.knows([pod(1)]);
  },
);

test('dns: a name that is not there at the start is found when it is', limits, async () => {
  await using names = await startNames([]);
  await using nodes = await watched({ name: service, servers: names.servers });
  await until(() => nodes.events.length === 1);
  assert.equal(nodes.events[0]?.fields.registry, `dns name ${service}`);
  assert.deepEqual(nodes.reports, []);
  await names.serve([podRecord(0)]);
  await nodes.knows([pod(0)]);
});

test('dns: a name server that says nothing is a failure, and close does not wait for it', {
  timeout: 60_000,
}, async () => {
  const silent = createSocket('udp4');
  await new Promise<void>((resolve) => silent.bind(0, '127.0.0.1', resolve));
  try {
    const servers = [`127.0.0.1:${silent.address().port}`];
    const nodes = await watched({ name: service, servers });
    await until(() => nodes.events.length === 1);
    assert.match(String(nodes.events[0]?.fields.error), /did not answer within 300 ms|ETIMEOUT/);
    await nodes[Symbol.asyncDispose]();
  } finally {
    silent.close();
  }
});

test('dns: what no host can be called is left out', limits, async () => {
  await using names = await startNames([podRecord(0), `srv-host=${service},-bad-.${domain},8101`]);
  await using nodes = await watched({ name: service, servers: names.servers });
  await nodes.knows([pod(0)]);
  assert.equal(nodes.events[0]?.name, 'registry-entries-refused');
});

test('dns: bad options are refused', () => {
  const refused: [DnsDiscoveryOptions, string, RegExp][] = [
    [{ name: '' }, 'name', /write a host name/],
    [{ name: undefined as unknown as string }, 'name', /write a host name/],
    [{ name: 'a b', port: 1 }, 'name', /write a host name/],
    [{ name: '_raft._tcp.' }, 'name', /write a host name/],
    [{ name: '_raft.example' }, 'name', /write a host name/],
    [{ name: 'raft.example' }, 'port', /is missing/],
    [{ name: 'raft.example', port: 0 }, 'port', /from 1 to 65535/],
    [{ name: service, port: 1 }, 'port', /is not needed/],
    [{ name: service, servers: ['nowhere'] }, 'servers', /is not valid/],
    [{ name: service, pollMs: 1 }, 'pollMs', /from 100 to 3600000/],
    [{ name: service, holdMs: 1 }, 'holdMs', /from 1000 to 3600000/],
    [{ name: service, timeoutMs: 1 }, 'timeoutMs', /from 10 to 60000/],
    [{ name: service, ttl: 1 } as DnsDiscoveryOptions, 'ttl', /is not known/],
  ];
  for (const [options, option, message] of refused) {
    assert.throws(
      () => dnsDiscovery(options),
      (error) => {
        assert.ok(isKommanderError(error, 'INVALID_OPTION'));
        assert.equal(error.details.option, option);
        assert.match(error.message, message);
        return true;
      },
      JSON.stringify(options),
    );
  }
});
