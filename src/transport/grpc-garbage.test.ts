// What strangers send to the gRPC transport: broken, oversized, random and late bytes. After every attack a good peer
// must still be served. `SEED=n` repeats a run.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  type ClientHttp2Stream,
  connect as connectHttp2,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { seededRandom } from '../base/random.ts';
import { Lane } from '../ports/transport.ts';
import { numberedFrame, plainFrame } from '../testing/sample-frames.ts';
import { type BenchNode, type TransportBench, transportBench } from '../testing/transport-bench.ts';
import { systemClock } from '../time/system-clock.ts';
import { FrameEncoder } from './frame-encoder.ts';
import { type GrpcTransport, grpcTransport } from './grpc.ts';
import { prefixBytes, sealPrefix } from './grpc-framing.ts';

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 0x7fff_ffff));
console.log(`# SEED=${seed}`);

interface Attack {
  readonly node: BenchNode;
  readonly transport: GrpcTransport;
  /** A stream of a stranger with a good greeting, or with other headers. */
  readonly stream: (headers?: OutgoingHttpHeaders) => ClientHttp2Stream;
}

/** Runs an attack, and then checks that the node still serves a good peer. */
function rule(name: string, body: (attack: Attack) => Promise<void>): void {
  test(name, { timeout: 20_000 }, async () => {
    const transports: GrpcTransport[] = [];
    const bench = transportBench({
      make: () => {
        const transport = grpcTransport({ keepAliveMs: 10, backoffMsMin: 5, seed: 1 });
        transports.push(transport);
        return transport;
      },
      listen: '127.0.0.1:0',
      clock: systemClock,
      outboxBytesMax: 0,
    });
    const node = await bench.node({ nodeId: 'a' });
    const [transport] = transports;
    assert.ok(transport !== undefined);
    try {
      await body({ node, transport, stream: (headers) => openStream(node, headers) });
      await assertServes(node, bench);
    } finally {
      await bench.close();
    }
  });
}

const greeting = {
  'kommander-cluster-id': 'contract',
  'kommander-node-id': 'stranger',
  'kommander-incarnation': '1',
  'kommander-start-id': 'one',
  'kommander-peer-id': 'a',
  'kommander-lane': 'bulk',
  'kommander-protocol-min': '1',
  'kommander-protocol-max': '1',
} as const;

function openStream(
  node: { readonly endpoint: string },
  headers: OutgoingHttpHeaders = {},
): ClientHttp2Stream {
  const session = connectHttp2(`http://${node.endpoint}`);
  session.on('error', () => {}); // being thrown out is what these tests are about
  const stream = session.request(
    {
      ':method': 'POST',
      ':path': '/kommander.v1.Raft/Stream',
      'content-type': 'application/grpc',
      ...greeting,
      ...headers,
    },
    { endStream: false },
  );
  stream.on('error', () => {});
  stream.resume();
  return stream;
}

async function assertServes(node: BenchNode, bench: TransportBench): Promise<void> {
  const good = await bench.node({ nodeId: 'good' });
  good.transport.setPeer('a', node.endpoint);
  await good.until(() => good.reachability.at(-1)?.isReachable === true);
  assert.equal(good.transport.send('a', Lane.control, numberedFrame(1)), true);
  await node.until(() => node.frames('good', Lane.control).length === 1);
}

/** A frame as it goes over the wire, prefix included. */
function wireFrame(number: number): Buffer {
  const encoder = new FrameEncoder({
    frameBytesMax: 65_536,
    frameBytesTarget: 65_536,
    headroomBytes: prefixBytes,
  });
  const { frames } = encoder.encode(numberedFrame(number));
  for (const frame of frames) sealPrefix(frame);
  return Buffer.concat(frames.flatMap(({ chunks }) => chunks));
}

const attacks: Readonly<Record<string, Buffer>> = {
  'a length above the frame limit': Buffer.from([0, 0xff, 0xff, 0xff, 0xff]),
  'a length just above the frame limit': Buffer.from([0, 0x00, 0x44, 0x00, 0x01]),
  'a compressed message': Buffer.from([1, 0, 0, 0, 1, 0]),
  'a message that is no frame': Buffer.from([0, 0, 0, 0, 3, 0xff, 0xff, 0xff]),
  'a truncated item': Buffer.from([0, 0, 0, 0, 2, 0x12, 0x09]),
};

for (const [name, bytes] of Object.entries(attacks)) {
  rule(`whoever sends ${name} is disconnected and counted`, async ({ node, transport, stream }) => {
    const attacker = stream();
    const closed = once(attacker.session ?? attacker, 'close');
    // Frames before the garbage are taken, frames behind it are not.
    attacker.write(Buffer.concat([wireFrame(1), bytes, wireFrame(2)]));
    await closed;
    assert.equal(transport.stats().peersMalformed, 1);
    assert.ok(node.events.some((event) => event.name === 'peer-malformed'));
    assert.deepEqual(node.frames('stranger', Lane.bulk).map(plainFrame), [
      plainFrame(numberedFrame(1)),
    ]);
  });
}

rule('random bytes behind a good greeting do no harm', async ({ node, transport, stream }) => {
  const random = seededRandom(seed);
  for (let round = 0; round < 30; round++) {
    const attacker = stream({ 'kommander-incarnation': String(round) });
    const closed = once(attacker, 'close');
    const bytes = Buffer.from(
      Array.from({ length: 1 + random.below(3_000) }, () => random.below(256)),
    );
    // Half of the rounds have a prefix that is right, so that the garbage reaches the decoder.
    if (round % 2 === 0) {
      const prefix = Buffer.alloc(prefixBytes);
      prefix.writeUInt32BE(bytes.byteLength, 1);
      attacker.end(Buffer.concat([prefix, bytes]));
    } else attacker.end(bytes);
    await closed;
    attacker.session?.destroy();
  }
  const { peersMalformed, itemsSkipped, framesReceived } = transport.stats();
  assert.ok(peersMalformed + itemsSkipped + framesReceived > 0);
  assert.ok(node.items().length < 30);
});

rule('a message that is never completed is never delivered', async ({ node, stream }) => {
  const attacker = stream();
  const whole = wireFrame(1);
  attacker.end(whole.subarray(0, whole.byteLength - 1));
  await once(attacker, 'close');
  attacker.session?.destroy();
  assert.deepEqual(node.received, []);
});

rule('a frame that arrives byte by byte is delivered', async ({ node, stream }) => {
  const sender = stream();
  for (const byte of Buffer.concat([wireFrame(1), wireFrame(2)])) {
    await new Promise((resolve) => sender.write(Buffer.from([byte]), resolve));
  }
  await node.until(() => node.received.length === 2);
  assert.deepEqual(node.frames('stranger', Lane.bulk).map(plainFrame), [
    plainFrame(numberedFrame(1)),
    plainFrame(numberedFrame(2)),
  ]);
  sender.session?.destroy();
});

rule(
  'an item of a later version is skipped and counted, its neighbours are delivered',
  async ({ node, transport, stream }) => {
    const sender = stream();
    const known = wireFrame(1).subarray(prefixBytes);
    const unknownItem = Buffer.from([0x12, 0x05, 0xa2, 0x06, 0x02, 0x08, 0x01]);
    const message = Buffer.concat([unknownItem, known, unknownItem]);
    const prefix = Buffer.alloc(prefixBytes);
    prefix.writeUInt32BE(message.byteLength, 1);
    sender.write(Buffer.concat([prefix, message]));
    await node.until(() => node.received.length === 1);
    assert.deepEqual(node.items(), numberedFrame(1).items);
    assert.equal(transport.stats().itemsSkipped, 2);
    assert.equal(transport.stats().peersMalformed, 0);
    sender.session?.destroy();
  },
);

rule(
  'frames ahead of a refused greeting are not delivered',
  async ({ node, transport, stream }) => {
    const sender = stream({ 'kommander-cluster-id': 'another' });
    const closed = once(sender.session ?? sender, 'close');
    sender.write(wireFrame(1));
    await closed;
    assert.deepEqual(node.received, []);
    assert.equal(transport.stats().peersRefused, 1);
  },
);

rule('a greeting without its parts is refused', async ({ node, transport, stream }) => {
  for (const name of Object.keys(greeting)) {
    const sender = stream({ [name]: undefined });
    await once(sender.session ?? sender, 'close');
  }
  assert.equal(transport.stats().peersRefused, Object.keys(greeting).length);
  assert.equal(node.refusals('MALFORMED_MESSAGE').length, Object.keys(greeting).length);
});

rule('bytes that are no HTTP/2 end the connection and are counted', async ({ node, transport }) => {
  const [host, port] = node.endpoint.split(':');
  const socket = connectTcp({ host: host ?? '', port: Number(port) });
  socket.on('error', () => {});
  socket.resume();
  socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(10));
  await once(socket, 'close');
  assert.equal(transport.stats().peersMalformed, 1);
});

rule('a connection that stays silent is closed', async ({ node }) => {
  const [host, port] = node.endpoint.split(':');
  const socket = connectTcp({ host: host ?? '', port: Number(port) });
  socket.on('error', () => {});
  socket.resume();
  await once(socket, 'close');
});

rule('streams that are taken back at once do no harm', async ({ node }) => {
  for (const path of ['/kommander.v1.Raft/Stream', '/kommander.v1.Raft/Status', '/nowhere']) {
    const session = connectHttp2(`http://${node.endpoint}`);
    session.on('error', () => {}); // too many of them may end the session
    for (let round = 0; round < 100; round++) {
      const stream = session.request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc',
        ...greeting,
      });
      stream.on('error', () => {});
      stream.close(round % 12);
    }
    await new Promise((resolve) => session.ping(resolve));
    session.destroy();
  }
});

rule('a session without a stream is closed after a while', async ({ node }) => {
  const session = connectHttp2(`http://${node.endpoint}`);
  session.on('error', () => {});
  await once(session, 'close');
});

rule(
  'while a process answers, another one with its identity is refused, whatever its incarnation',
  async ({ node, stream }) => {
    const original = stream();
    await once(original, 'data');
    for (const [at, incarnation] of ['0', '1', '2'].entries()) {
      for (const lane of ['bulk', 'control']) {
        const copy = stream({
          'kommander-start-id': 'two',
          'kommander-incarnation': incarnation,
          'kommander-lane': lane,
        });
        await once(copy.session ?? copy, 'close');
      }
      assert.equal(node.refusals('NODE_COPIED').length, 2 * (at + 1));
    }
    original.write(wireFrame(3));
    await node.until(() => node.received.length === 1);
    const again = stream();
    await once(again, 'data');
    await once(original, 'close');
    original.session?.destroy();
    again.session?.destroy();
  },
);

rule('a process that does not answer any more loses its place', async ({ node, stream }) => {
  const line = await openLine(node);
  const original = openStream(line);
  await once(original, 'data');
  line.silence();
  const successor = stream({ 'kommander-start-id': 'two', 'kommander-incarnation': '2' });
  await once(successor, 'data');
  successor.write(wireFrame(3));
  await node.until(() => node.received.length === 1);
  assert.equal(node.refusals('NODE_COPIED').length, 0);
  original.session?.destroy();
  successor.session?.destroy();
  line.close();
});

/** A line to the node that can go silent without breaking. */
async function openLine(node: BenchNode) {
  const { port: nodePort, hostname } = new URL(`http://${node.endpoint}`);
  const sockets: Socket[] = [];
  const server = createServer((near) => {
    const far = connectTcp({ port: Number(nodePort), host: hostname });
    for (const socket of [near, far]) socket.on('error', () => {});
    near.pipe(far);
    far.pipe(near);
    sockets.push(near, far);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `127.0.0.1:${port}`,
    silence: () => {
      for (const socket of sockets) socket.unpipe();
    },
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
