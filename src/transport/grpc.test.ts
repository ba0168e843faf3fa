// The gRPC transport's own rules, beyond the contract of all transports: options, bounds, pauses between attempts,
// peers that fall silent, and that nothing is left over when it is closed.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttp2Server } from 'node:http2';
import {
  type AddressInfo,
  connect as connectTcp,
  createServer,
  type Server,
  type Socket,
} from 'node:net';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { isKommanderError } from '../base/errors.ts';
import type { Clock } from '../ports/clock.ts';
import { type Frame, Lane } from '../ports/transport.ts';
import { appendFrame, numberedFrame } from '../testing/sample-frames.ts';
import { type TransportBench, transportBench } from '../testing/transport-bench.ts';
import { systemClock } from '../time/system-clock.ts';
import { type GrpcTransport, type GrpcTransportOptions, grpcTransport } from './grpc.ts';
import { acceptedEvent } from './grpc-framing.ts';

interface GrpcBench extends TransportBench {
  readonly transports: GrpcTransport[];
}

function rule(
  name: string,
  options: GrpcTransportOptions,
  body: (bench: GrpcBench) => Promise<void>,
  clock: Clock = systemClock,
): void {
  test(name, { timeout: 20_000 }, async () => {
    const transports: GrpcTransport[] = [];
    const bench = transportBench({
      make: () => {
        const transport = grpcTransport({
          backoffMsMin: 5,
          backoffMsMax: 20,
          seed: 1,
          ...options,
        });
        transports.push(transport);
        return transport;
      },
      listen: '127.0.0.1:0',
      clock,
      outboxBytesMax: 0,
    });
    try {
      await body({ ...bench, transports });
    } finally {
      await bench.close();
    }
  });
}

function refusesOption(option: string): (error: unknown) => boolean {
  return (error) => isKommanderError(error, 'INVALID_OPTION') && error.details.option === option;
}

test('an option that is unknown or out of range is refused by name', () => {
  const wrongs: Readonly<Record<keyof GrpcTransportOptions, readonly unknown[]>> = {
    insecure: ['yes', 1],
    frameBytesMax: [65_535, 67_108_865, 1e6 + 0.5, Number.NaN],
    outboxFramesMax: [0, 1_000_001],
    outboxBytesMax: [65_535, 1_073_741_825],
    windowBytes: [65_535, 1_073_741_825],
    connectTimeoutMs: [9, 60_001],
    keepAliveMs: [9, 60_001, Number.POSITIVE_INFINITY],
    backoffMsMin: [0, 60_001],
    backoffMsMax: [49, 600_001],
    inboundSessionsMax: [0, 65_537],
    seed: [-1, 0.5],
  };
  for (const [option, values] of Object.entries(wrongs))
    for (const value of values)
      assert.throws(() => grpcTransport({ [option]: value }), refusesOption(option), option);
  const misspelt: object = { keepaliveMs: 5 };
  assert.throws(() => grpcTransport(misspelt), refusesOption('keepaliveMs'));
});

rule('a node listens on loopback only, unless it is told to be insecure', {}, async (bench) => {
  for (const listen of ['0.0.0.0:0', '[::]:0', '192.0.2.1:0', 'example.org:0', '126.0.0.1:0'])
    await assert.rejects(bench.node({ nodeId: 'a', listen }), refusesOption('listen'), listen);
  await bench.node({ nodeId: 'a', listen: 'localhost:0' });
  await bench.node({ nodeId: 'a', listen: '127.1.2.3:0' });
});

rule('an insecure node may listen on any address', { insecure: true }, async (bench) => {
  const { endpoint } = await bench.node({ nodeId: 'a', listen: '0.0.0.0:0' });
  assert.match(endpoint, /^0\.0\.0\.0:\d+$/);
});

rule('an endpoint that is no host:port is refused', {}, async (bench) => {
  const a = await bench.node({ nodeId: 'a' });
  assert.throws(() => a.transport.setPeer('b', 'nonsense'), refusesOption('endpoint'));
  await assert.rejects(bench.node({ nodeId: 'c', listen: 'nonsense' }), refusesOption('listen'));
});

rule('frames are counted on both sides', {}, async (bench) => {
  const [a, b] = await bench.connected('a', 'b');
  for (let i = 0; i < 10; i++) a.transport.send('b', Lane.control, numberedFrame(i));
  a.transport.send('nobody', Lane.control, numberedFrame(1));
  await b.until(() => b.received.length === 10);
  const [sent, received] = bench.transports.map((transport) => transport.stats());
  assert.equal(sent?.framesSent, 10);
  assert.equal(received?.framesReceived, 10);
  assert.equal(sent?.framesDropped, 0);
  assert.equal(received?.bytesReceived, (sent?.bytesSent ?? 0) - 10 * 5);
  assert.equal(sent?.connectsSucceeded, 2);
});

rule(
  'a frame that was taken is said to be sent, once; one that was dropped is not',
  {},
  async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    const items = Array.from({ length: 12 }, (_, i) => appendFrame(i + 1, 700_000).items).flat();
    const told: string[] = [];
    const frame = { timestamp: 1, items };
    a.transport.send('nobody', Lane.bulk, frame, () => told.push('dropped'));
    assert.equal(
      a.transport.send('b', Lane.bulk, frame, () => told.push('large')),
      true,
    );
    assert.equal(told.length, 0, 'it lies in the outbox');
    assert.equal(
      a.transport.send('b', Lane.bulk, numberedFrame(2), () => told.push('small')),
      true,
    );
    await b.until(() => b.items().length === items.length + 1);
    assert.deepEqual(told, ['large', 'small']);
  },
);

rule('a frame of many appends is split, and all of them arrive in order', {}, async (bench) => {
  const [a, b] = await bench.connected('a', 'b');
  const items = Array.from({ length: 12 }, (_, i) => appendFrame(i + 1, 700_000).items).flat();
  assert.equal(a.transport.send('b', Lane.bulk, { timestamp: 1, items }), true);
  await b.until(() => b.items().length === items.length);
  assert.ok(b.received.length >= 6);
  const indexes = b
    .items()
    .map((item) =>
      item.kind === 'raft' && item.message.type === 'appendEntries'
        ? item.message.prevLogIndex
        : undefined,
    );
  assert.deepEqual(
    indexes,
    items.map((_, i) => i),
  );
});

/** A TCP proxy that can fall silent, as a machine that lost its power or its network does. */
async function openProxy(target: string) {
  const sockets = new Set<Socket>();
  let isSilent = false;
  const [host = '', port] = target.split(':');
  const proxy = createServer((inbound) => {
    const outbound = connectTcp({ host, port: Number(port) });
    for (const [from, to] of [
      [inbound, outbound],
      [outbound, inbound],
    ] as const) {
      sockets.add(from);
      from.on('error', () => {});
      from.on('data', (chunk) => {
        if (!isSilent) to.write(chunk);
      });
      from.on('close', () => to.destroy());
    }
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    endpoint: `127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    silence() {
      isSilent = true;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      proxy.close();
      await once(proxy, 'close');
    },
  };
}

rule(
  'a peer that falls silent is noticed by its unanswered PINGs',
  { keepAliveMs: 25 },
  async (bench) => {
    const a = await bench.node({ nodeId: 'a' });
    const b = await bench.node({ nodeId: 'b' });
    const proxy = await openProxy(b.endpoint);
    try {
      a.transport.setPeer('b', proxy.endpoint);
      await a.until(() => a.reachability.at(-1)?.isReachable === true);
      proxy.silence();
      await a.until(() => a.reachability.at(-1)?.isReachable === false);
      const [event] = a.events.filter(({ name }) => name === 'peer-disconnected');
      assert.match(String(event?.fields.reason), /PINGs are unanswered/);
    } finally {
      await proxy.close();
    }
  },
);

rule(
  'a peer that takes the connection and never answers is given up and tried again',
  { connectTimeoutMs: 15 },
  async (bench) => {
    const a = await bench.node({ nodeId: 'a' });
    const b = await bench.node({ nodeId: 'b' });
    const proxy = await openProxy(b.endpoint);
    try {
      proxy.silence();
      a.transport.setPeer('b', proxy.endpoint);
      await a.until(() => a.reachability.at(-1)?.isReachable === false);
      while ((bench.transports[0]?.stats().connectsFailed ?? 0) < 6) await bench.turn();
      a.transport.setPeer('b', b.endpoint);
      await a.until(() => a.reachability.at(-1)?.isReachable === true);
    } finally {
      await proxy.close();
    }
  },
);

/** The system's clock, with a note of every timer that is set. */
function notingClock(): Clock & { readonly delays: number[] } {
  const delays: number[] = [];
  return {
    ...systemClock,
    delays,
    setTimer(delayMs, callback) {
      delays.push(delayMs);
      return systemClock.setTimer(delayMs, callback);
    },
  };
}

const clock = notingClock();
rule(
  'attempts to reach a peer that is down come at growing, bounded, jittered pauses',
  { backoffMsMin: 2, backoffMsMax: 16, connectTimeoutMs: 5_000, keepAliveMs: 6_000 },
  async (bench) => {
    const b = await bench.node({ nodeId: 'b' });
    await b.transport.close();
    const a = await bench.node({ nodeId: 'a' });
    a.transport.setPeer('b', b.endpoint);
    while ((bench.transports[1]?.stats().connectsFailed ?? 0) < 24) await bench.turn();
    const pauses = clock.delays.filter((delayMs) => delayMs < 1_000);
    assert.ok(pauses.length >= 23);
    for (const pauseMs of pauses) assert.ok(pauseMs >= 1 && pauseMs <= 16, `pause of ${pauseMs}`);
    // Two lanes take turns: the first pauses are drawn from 1 … 2 ms, the last ones from 8 … 16 ms.
    assert.ok(pauses.slice(0, 2).every((pauseMs) => pauseMs <= 2));
    assert.ok(pauses.slice(-6).every((pauseMs) => pauseMs >= 8));
    assert.ok(new Set(pauses).size > pauses.length / 2, 'pauses are jittered');
  },
  clock,
);

rule(
  'a peer that calls is called back at once, however long the pause was to be',
  { backoffMsMin: 60_000, backoffMsMax: 60_000 },
  async (bench) => {
    const gone = await bench.node({ nodeId: 'b' });
    await gone.transport.close();
    const a = await bench.node({ nodeId: 'a' });
    a.transport.setPeer('b', gone.endpoint);
    await a.until(() => a.reachability.at(-1)?.isReachable === false);
    while ((bench.transports[1]?.stats().connectsFailed ?? 0) < 2) await bench.turn();
    const b = await bench.node({ nodeId: 'b', incarnation: 2, listen: gone.endpoint });
    b.transport.setPeer('a', a.endpoint);
    await a.until(() => a.reachability.at(-1)?.isReachable === true);
  },
);

/** A server that accepts every greeting and reads nothing until it is told to. */
async function openStalledServer() {
  const read: Promise<void>[] = [];
  let receivedBytes = 0;
  const mayRead = Promise.withResolvers<void>();
  const server = createHttp2Server();
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => {});
  });
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
    stream.write(acceptedEvent({ clusterId: 'contract', nodeId: 'b', incarnation: 1 }, 1));
    read.push(
      mayRead.promise.then(() => {
        stream.on('data', (chunk: Uint8Array) => {
          receivedBytes += chunk.byteLength;
        });
      }),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    endpoint: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    read: mayRead.resolve,
    get receivedBytes() {
      return receivedBytes;
    },
    async close() {
      for (const session of sessions) session.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

rule(
  'a peer that does not read fills a bounded outbox, and drains it when it reads again',
  { outboxBytesMax: 1_000_000 },
  async (bench) => {
    const a = await bench.node({ nodeId: 'a' });
    const stalled = await openStalledServer();
    try {
      a.transport.setPeer('b', stalled.endpoint);
      await a.until(() => a.reachability.at(-1)?.isReachable === true);
      const frame: Frame = appendFrame(1, 50_000);
      let refusedInARow = 0;
      while (refusedInARow < 200) {
        refusedInARow = a.transport.send('b', Lane.bulk, frame) ? 0 : refusedInARow + 1;
        await bench.turn();
      }
      const bytesSent = bench.transports[0]?.stats().bytesSent ?? 0;
      // The outbox, and the default HTTP/2 window of the server: 64 KiB.
      assert.ok(bytesSent >= 900_000, 'the outbox was filled');
      assert.ok(bytesSent <= 1_000_000 + 65_536 + 50_100, `${bytesSent} bytes were taken`);
      assert.equal(a.transport.send('b', Lane.control, numberedFrame(1)), true);
      stalled.read();
      while (stalled.receivedBytes < bytesSent) await bench.turn();
      assert.equal(a.transport.send('b', Lane.bulk, frame), true);
    } finally {
      await stalled.close();
    }
  },
);

const strangers: Readonly<Record<string, { readonly answer: Buffer; readonly reason: RegExp }>> = {
  'sends a broken event': {
    answer: Buffer.from([0, 0, 0, 0, 1, 0xff]),
    reason: /answer of 1 bytes/,
  },
  'sends an event that is too large': { answer: Buffer.from([0, 1, 0, 0, 0]), reason: /16777216/ },
  'accepts twice': {
    answer: Buffer.concat(
      [1, 1].map((version) =>
        acceptedEvent({ clusterId: 'contract', nodeId: 'b', incarnation: 1 }, version),
      ),
    ),
    reason: /accepted twice/,
  },
};

for (const [name, { answer, reason }] of Object.entries(strangers)) {
  rule(`a server that ${name} is left`, {}, async (bench) => {
    const server = createHttp2Server();
    const sessions = new Set<{ destroy(): void }>();
    server.on('session', (session) => sessions.add(session));
    server.on('sessionError', () => {});
    server.on('stream', (stream) => {
      stream.on('error', () => {});
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.write(answer);
    });
    await assertLeft(bench, server, reason);
    for (const session of sessions) session.destroy();
  });
}

rule('a server that is no node is left', {}, async (bench) => {
  const web = createHttp2Server((_request, response) => {
    response.writeHead(404, { 'content-type': 'text/html' });
    response.end('<p>nothing here</p>');
  });
  await assertLeft(bench, web, /HTTP status 404, text\/html/);
  const old = createServer((socket) => {
    socket.on('error', () => {});
    socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
  });
  await assertLeft(bench, old, /./);
});

/** Our node calls `server` and gives it up for `reason`. */
async function assertLeft(bench: GrpcBench, server: Server, reason: RegExp): Promise<void> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const node = await bench.node({ nodeId: 'a' });
  node.transport.setPeer('b', `127.0.0.1:${(server.address() as AddressInfo).port}`);
  await node.until(() =>
    node.events.some(
      ({ name, fields }) => name === 'peer-disconnected' && reason.test(String(fields.reason)),
    ),
  );
  await node.transport.close();
  server.close();
}

rule('no more connections than allowed are taken', { inboundSessionsMax: 2 }, async (bench) => {
  const a = await bench.node({ nodeId: 'a' });
  const b = await bench.node({ nodeId: 'b' });
  b.transport.setPeer('a', a.endpoint);
  await b.until(() => b.reachability.at(-1)?.isReachable === true);
  const c = await bench.node({ nodeId: 'c' });
  c.transport.setPeer('a', a.endpoint);
  await c.until(() => c.reachability.at(-1)?.isReachable === false);
  b.transport.setPeer('a', undefined);
  await c.until(() => c.reachability.at(-1)?.isReachable === true);
});

test('a process whose transports are closed ends by itself', { timeout: 20_000 }, async () => {
  const script = `
    import { grpcTransport } from '${import.meta.resolve('./grpc.ts')}';
    import { systemClock } from '${import.meta.resolve('../time/system-clock.ts')}';
    const open = async (nodeId, reachable) => {
      const transport = grpcTransport();
      const endpoint = await transport.open({
        identity: { clusterId: 'exit', nodeId, incarnation: 1, startId: 'one' }, listen: '127.0.0.1:0',
        clock: systemClock, observer() {}, status: { statusJson: () => '' }, receive() {}, reachable, refused() {},
      });
      return { transport, endpoint };
    };
    const connected = Promise.withResolvers();
    const a = await open('a', (_, isReachable) => isReachable && connected.resolve());
    const b = await open('b', () => {});
    a.transport.setPeer('b', b.endpoint);
    b.transport.setPeer('a', a.endpoint);
    a.transport.setPeer('down', '127.0.0.1:1');
    await connected.promise;
    await Promise.all([a.transport.close(), b.transport.close()]);
    process.on('exit', () => console.log('left over:', process.getActiveResourcesInfo()
      .filter((name) => !name.includes('Pipe') && !name.includes('TTY')).join()));
  `;
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '--eval',
    script,
  ]);
  assert.equal(stdout, 'left over: \n');
});
