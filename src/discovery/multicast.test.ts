// Multicast on the loopback interface of this machine, with real sockets: the port's contract, garbage, signatures, who
// has which id, and the options. Time is moved by hand where it counts.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { type TestContext, test } from 'node:test';
import { isKommanderError } from '../base/errors.ts';
import type { DiscoveredNode, DiscoveryContext } from '../ports/discovery.ts';
import type { ObservedEvent } from '../ports/observer.ts';
import { discoveryContract } from '../testing/discovery-contract.ts';
import { type VirtualClock, virtualClock } from '../testing/virtual-clock.ts';
import { systemClock } from '../time/system-clock.ts';
import { type Announcement, encodeAnnouncement } from './announcement.ts';
import { type MulticastDiscovery, type MulticastOptions, multicastDiscovery } from './multicast.ts';

const group = '239.0.0.222';
const loopback = '127.0.0.1';
/** Of its own for each test, so that none hears another one. */
let port = 20_000 + (process.pid % 10_000);

function nextPort(): number {
  port += 1;
  return port;
}

function contextOf(
  nodeId: string,
  changes: Partial<DiscoveryContext['self']> = {},
  clock = systemClock,
) {
  const observed: ObservedEvent[] = [];
  const self = {
    nodeId,
    endpoint: `127.0.0.1:${nodeId.charCodeAt(0)}`,
    startId: nodeId,
    ...changes,
  };
  return { self, clock, observer: (event: ObservedEvent) => observed.push(event), observed };
}

discoveryContract(
  { test: (name, body) => test(`multicast discovery: ${name}`, body) },
  async () => {
    const options = { port: nextPort(), interfaces: [loopback], intervalMs: 20, expiryMs: 600_000 };
    const context = contextOf('a');
    const others = { b: multicastDiscovery(options), moved: multicastDiscovery(options) };
    const self = { nodeId: 'a', endpoint: context.self.endpoint };
    return {
      discovery: multicastDiscovery(options),
      context,
      expected: [self],
      steps: [
        {
          happen: () => others.b.open(() => {}, contextOf('b')),
          expected: [self, { nodeId: 'b', endpoint: '127.0.0.1:98' }],
        },
        { happen: () => others.b.close(), expected: [self] },
        {
          happen: () =>
            others.moved.open(() => {}, contextOf('b', { endpoint: '[::1]:9', startId: 'two' })),
          expected: [self, { nodeId: 'b', endpoint: '[::1]:9' }],
        },
      ],
      async dispose() {
        await Promise.all([others.b.close(), others.moved.close()]);
      },
    };
  },
);

/** A discovery that a test talks to, on a clock that stands still. */
interface Listener {
  readonly discovery: MulticastDiscovery;
  readonly clock: VirtualClock;
  readonly reports: string[];
  readonly observed: readonly ObservedEvent[];
  /** Sends bytes to the group and resolves when the listener has got them. */
  readonly say: (...datagrams: Uint8Array[]) => Promise<void>;
}

async function listener(t: TestContext, options: MulticastOptions = {}): Promise<Listener> {
  const clock = virtualClock();
  const ownPort = nextPort();
  const discovery = multicastDiscovery({ port: ownPort, interfaces: [loopback], ...options });
  const context = contextOf('a', {}, clock);
  const reports: string[] = [];
  await discovery.open((nodes) => reports.push(textOf(nodes)), context);
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, loopback, resolve));
  socket.setMulticastInterface(loopback);
  t.after(async () => {
    socket.close();
    await discovery.close();
  });
  await received(discovery, 1);
  return {
    discovery,
    clock,
    reports,
    observed: context.observed,
    async say(...datagrams) {
      const before = discovery.stats().receivedCount;
      for (const bytes of datagrams) {
        await new Promise((resolve) => socket.send(bytes, ownPort, group, resolve));
      }
      await received(discovery, before + datagrams.length);
      await clock.settle();
    },
  };
}

async function received(discovery: MulticastDiscovery, count: number): Promise<void> {
  while (discovery.stats().receivedCount < count) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

function textOf(nodes: readonly DiscoveredNode[]): string {
  return nodes.map(({ nodeId, endpoint }) => `${nodeId}@${endpoint}`).join(' ');
}

const self = 'a@127.0.0.1:97';
const open = { cluster: 'kommander', secrets: [] };

function announcement(clock: VirtualClock, changes: Partial<Announcement> = {}): Announcement {
  return {
    kind: 'here',
    nodeId: 'b',
    startId: 'bstart',
    endpoint: '127.0.0.1:98',
    stamp: clock.wallMs(),
    ...changes,
  };
}

test('a silent node expires, and the node itself never does', async (t) => {
  const { clock, say, reports } = await listener(t, { intervalMs: 1_000, expiryMs: 5_000 });
  await say(encodeAnnouncement(open, announcement(clock)));
  await clock.run(4_999);
  assert.deepEqual(reports, [self, `${self} b@127.0.0.1:98`]);
  await clock.run(1);
  assert.deepEqual(reports.slice(2), [self]);
  await clock.run(60_000);
  assert.equal(reports.length, 3, 'its own announcements come back and change nothing');
});

test('what is nothing for us is counted by its reason, reported once, and changes nothing', async (t) => {
  const { clock, say, reports, observed, discovery } = await listener(t);
  const other = encodeAnnouncement({ cluster: 'other', secrets: [] }, announcement(clock));
  const good = encodeAnnouncement(open, announcement(clock));
  const newer = Uint8Array.from(good).fill(2, 4, 5);
  const ours = encodeAnnouncement(
    open,
    announcement(clock, { startId: 'a', nodeId: 'a', endpoint: 'x:1' }),
  );
  const signed = encodeAnnouncement(
    { ...open, secrets: ['sixteen letters!'] },
    announcement(clock),
  );
  const garbage = new Uint8Array(60_000).fill(0x4b);
  const { repeated } = discovery.stats().refusedCounts;
  await say(garbage, new Uint8Array(0), other, newer, newer, good.subarray(0, 20), ours, signed);
  assert.deepEqual(discovery.stats().refusedCounts, {
    foreign: 2,
    version: 2,
    malformed: 1,
    otherCluster: 1,
    signature: 1,
    clock: 0,
    repeated: repeated + 1,
    tableFull: 0,
    taken: 0,
  });
  assert.deepEqual(
    observed.map(({ name, fields }) => `${name} ${String(fields.reason)}`),
    [
      'announcement-refused version',
      'announcement-refused malformed',
      'announcement-refused signature',
    ],
  );
  assert.deepEqual(reports, [self]);
});

test('with a secret nothing unsigned is believed, and nothing that is played again', async (t) => {
  const secrets = ['sixteen letters!'];
  const { clock, say, reports, discovery } = await listener(t, { secrets });
  const signing = { ...open, secrets };
  await say(encodeAnnouncement(open, announcement(clock)));
  assert.deepEqual(reports, [self]);
  const recorded = encodeAnnouncement(signing, announcement(clock));
  const goodbye = announcement(clock, { kind: 'goodbye', stamp: clock.wallMs() + 1 });
  await say(recorded);
  await say(encodeAnnouncement(signing, goodbye));
  await say(recorded);
  assert.deepEqual(reports, [self, `${self} b@127.0.0.1:98`, self]);
  await clock.run(31_000);
  await say(recorded);
  assert.equal(reports.length, 3);
  assert.equal(discovery.stats().refusedCounts.clock, 1);
});

test('a node whose clock was far ahead is believed as soon as it is set right', async (t) => {
  const options = { port: nextPort(), interfaces: [loopback], secrets: ['sixteen letters!'] };
  const [a, b] = [multicastDiscovery(options), multicastDiscovery(options)];
  t.after(() => Promise.all([a.close(), b.close()]));
  const clock = virtualClock();
  const aheadClock = virtualClock({ wallMs: clock.wallMs() + 600_000 });
  const reports: string[] = [];
  const context = contextOf('a', {}, clock);
  await a.open((nodes) => reports.push(textOf(nodes)), context);
  await b.open(() => {}, contextOf('b', {}, aheadClock));
  await received(a, 2);
  assert.equal(a.stats().refusedCounts.clock, 1);
  assert.deepEqual(
    context.observed.map(({ fields }) => fields.reason),
    ['clock'],
  );
  aheadClock.jumpWall(-600_000);
  await aheadClock.run(1_000);
  await received(a, 3);
  await clock.settle();
  assert.deepEqual(reports, [self, `${self} b@127.0.0.1:98`]);
});

test('a process that claims the id of this node is reported, once, and not believed', async (t) => {
  const { clock, say, reports, observed } = await listener(t, { expiryMs: 600_000 });
  for (let count = 0; count < 4; count++) {
    await clock.run(1_000);
    const copy = announcement(clock, { nodeId: 'a', startId: 'copy', endpoint: '127.0.0.1:5' });
    await say(encodeAnnouncement(open, copy));
  }
  assert.deepEqual(reports, [self]);
  assert.deepEqual(observed, [
    {
      level: 'error',
      name: 'node-id-claimed-twice',
      fields: { nodeId: 'a', endpoint: '127.0.0.1:97', claimedBy: '127.0.0.1:5' },
    },
  ]);
});

test('a flood of made-up nodes makes few reports and a bounded list', async (t) => {
  const { clock, say, reports, observed, discovery } = await listener(t);
  for (let batch = 0; batch < 25; batch++) {
    const flood = Array.from({ length: 50 }, (_, at) =>
      encodeAnnouncement(open, announcement(clock, { nodeId: `n${batch}-${at}` })),
    );
    await say(...flood);
  }
  assert.equal(reports.at(-1)?.split(' ').length, 1_024);
  assert.ok(reports.length <= 26 * 50, `${reports.length} reports`);
  assert.equal(discovery.stats().refusedCounts.tableFull, 25 * 50 + 1 - 1_024);
  assert.deepEqual(
    observed.map(({ name, fields }) => `${name} ${String(fields.reason)}`),
    ['announcement-refused tableFull'],
  );
});

/** Another process that sends `bytes` while this one stands still for `heldUpMs`. */
function sendWhileHeldUp(
  bytes: Uint8Array,
  { to, heldUpMs }: { to: number; heldUpMs: number },
): void {
  const script = `
    const socket = require('node:dgram').createSocket('udp4');
    socket.bind(0, '${loopback}', () => {
      socket.setMulticastInterface('${loopback}');
      setTimeout(() => {
        socket.send(Buffer.from('${Buffer.from(bytes).toString('hex')}', 'hex'), ${to}, '${group}', () => socket.close());
      }, ${heldUpMs});
    });`;
  assert.equal(spawnSync(process.execPath, ['-e', script]).status, 0);
}

test('what waits in the socket while the process is held up is heard before anybody is taken for gone', async (t) => {
  const ownPort = nextPort();
  const expiryMs = 1_500;
  const discovery = multicastDiscovery({
    port: ownPort,
    interfaces: [loopback],
    intervalMs: 100,
    expiryMs,
  });
  t.after(() => discovery.close());
  let deferredCount = 0;
  const clock = {
    ...systemClock,
    defer(callback: () => void) {
      systemClock.defer(() => {
        callback();
        deferredCount += 1;
      });
    },
  };
  const reports: string[] = [];
  await discovery.open((nodes) => reports.push(textOf(nodes)), contextOf('a', {}, clock));
  const said = { kind: 'here', nodeId: 'b', startId: 'b', endpoint: '127.0.0.1:98' } as const;
  sendWhileHeldUp(encodeAnnouncement(open, { ...said, stamp: 1 }), { to: ownPort, heldUpMs: 0 });
  while (reports.length < 2) await new Promise((resolve) => setTimeout(resolve, 2));
  const before = deferredCount;
  sendWhileHeldUp(encodeAnnouncement(open, { ...said, stamp: 2 }), {
    to: ownPort,
    heldUpMs: expiryMs,
  });
  while (deferredCount === before) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(reports, [self, `${self} b@127.0.0.1:98`]);
});

test('bad options are refused with their name and their bounds, and no secret is in a message', () => {
  const refused: readonly (readonly [object, RegExp])[] = [
    [{ group: '10.0.0.1' }, /option group is 10\.0\.0\.1; .*224\.0\.0\.0\/4/],
    [{ group: 'fe80::1' }, /option group/],
    [{ group: 5 }, /option group/],
    [{ port: 0 }, /option port is 0; it lies between 1 and 65535/],
    [{ cluster: 'a b' }, /option cluster is "a b"/],
    [{ interfaces: [] }, /option interfaces is not valid: a list of 1 to 64 texts/],
    [{ interfaces: [''] }, /option interfaces/],
    [{ secrets: ['too short'] }, /option secrets is not valid: .* 16 to 1024 characters/],
    [{ secrets: Array.from({ length: 3 }, () => 'sixteen letters!') }, /0 to 2 texts/],
    [{ secrets: 'sixteen letters!' }, /option secrets/],
    [{ intervalMs: 19 }, /option intervalMs is 19; it lies between 20 and 60000/],
    [{ intervalMs: 1_000, expiryMs: 2_999 }, /option expiryMs is 2999; it lies between 3000/],
    [{ ttl: 3 }, /option ttl is no option; the options are group, port/],
  ];
  for (const [options, message] of refused) {
    assert.throws(
      () => multicastDiscovery(options),
      (error: unknown) => {
        assert.ok(isKommanderError(error, 'INVALID_OPTION'), String(error));
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /too short|sixteen letters/);
        return true;
      },
    );
  }
});

test('an interface that is not there, and an endpoint that says nothing to others, are refused at the opening', async () => {
  const refusal = async (options: MulticastOptions, endpoint: string): Promise<string> => {
    const discovery = multicastDiscovery({ port: nextPort(), ...options });
    try {
      await discovery.open(() => {}, contextOf('a', { endpoint }));
    } catch (error) {
      assert.ok(isKommanderError(error), String(error));
      await discovery.close();
      return `${error.code} ${error.message}`;
    }
    throw new Error('it was opened');
  };
  const interfaces = ['10.255.255.254'];
  assert.match(
    await refusal({ interfaces }, '127.0.0.1:1'),
    /^INVALID_OPTION .*no such interface that is up; there are: lo/,
  );
  for (const endpoint of ['0.0.0.0:8001', '[::]:8001']) {
    assert.match(await refusal({}, endpoint), /^INVALID_OPTION option advertise is needed/);
  }
});

test('a port that another program has for itself is an error that says so', async (t) => {
  const taken = createSocket('udp4');
  const ownPort = nextPort();
  await new Promise<void>((resolve) => taken.bind(ownPort, '0.0.0.0', resolve));
  t.after(() => taken.close());
  const discovery = multicastDiscovery({ port: ownPort, interfaces: [loopback] });
  await assert.rejects(
    discovery.open(() => {}, contextOf('a')),
    {
      code: 'DISCOVERY_FAILED',
      message: /UDP port \d+ cannot be bound: .*EADDRINUSE/,
    },
  );
  await discovery.close();
});
