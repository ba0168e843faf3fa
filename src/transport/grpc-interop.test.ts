// The wire is standard gRPC: other implementations call our server, and our client calls theirs, for the stream of
// frames as well as for the status.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { test } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { ConnectError, createClient, type Transport as RpcTransport } from '@connectrpc/connect';
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from '@connectrpc/connect-node';
import * as grpc from '@grpc/grpc-js';
import { Lane } from '../ports/transport.ts';
import { numberedFrame, plainFrame, sampleItems } from '../testing/sample-frames.ts';
import { type BenchNode, type TransportBench, transportBench } from '../testing/transport-bench.ts';
import { systemClock } from '../time/system-clock.ts';
import { FrameEncoder } from './frame-encoder.ts';
import {
  type Frame,
  FrameSchema,
  Raft,
  StatusRequestSchema,
  StatusResponseSchema,
  type StreamEvent,
  StreamEventSchema,
} from './generated/kommander/v1/raft_pb.ts';
import { grpcTransport } from './grpc.ts';

const waiting = { timeout: 20_000 };

function openBench(): TransportBench {
  return transportBench({
    make: () => grpcTransport({ backoffMsMin: 5, backoffMsMax: 20, seed: 1 }),
    listen: '127.0.0.1:0',
    clock: systemClock,
    outboxBytesMax: 0,
  });
}

function rule(name: string, body: (node: BenchNode, bench: TransportBench) => Promise<void>): void {
  test(name, waiting, async () => {
    const bench = openBench();
    try {
      await body(await bench.node({ nodeId: 'a' }), bench);
    } finally {
      await bench.close();
    }
  });
}

const greeting = {
  'kommander-cluster-id': 'contract',
  'kommander-node-id': 'foreign',
  'kommander-incarnation': '1',
  'kommander-start-id': 'one',
  'kommander-peer-id': 'a',
  'kommander-lane': 'bulk',
  'kommander-protocol-min': '1',
  'kommander-protocol-max': '1',
} as const;

/** Frames as other implementations see them, made by the generated code. */
const foreignFrames: readonly Frame[] = (() => {
  const encoder = new FrameEncoder({
    frameBytesMax: 1 << 24,
    frameBytesTarget: 1 << 24,
    headroomBytes: 0,
  });
  return [numberedFrame(1), { timestamp: 2, items: sampleItems }, numberedFrame(3)].map((frame) =>
    fromBinary(
      FrameSchema,
      new Uint8Array(Buffer.concat(encoder.encode(frame).frames.flatMap(({ chunks }) => chunks))),
    ),
  );
})();

function assertFramesArrived(node: BenchNode): void {
  assert.deepEqual(
    node.frames('foreign', Lane.bulk).map(plainFrame),
    [numberedFrame(1), { timestamp: 2, items: sampleItems }, numberedFrame(3)].map(plainFrame),
  );
}

const frameSerializer = (frame: Frame): Buffer => Buffer.from(toBinary(FrameSchema, frame));
const eventSerializer = (event: StreamEvent): Buffer =>
  Buffer.from(toBinary(StreamEventSchema, event));

const grpcJsService = {
  Stream: {
    path: '/kommander.v1.Raft/Stream',
    requestStream: true,
    responseStream: true,
    requestSerialize: frameSerializer,
    requestDeserialize: (bytes: Buffer) => fromBinary(FrameSchema, new Uint8Array(bytes)),
    responseSerialize: eventSerializer,
    responseDeserialize: (bytes: Buffer) => fromBinary(StreamEventSchema, bytes),
  },
  Status: {
    path: '/kommander.v1.Raft/Status',
    requestStream: false,
    responseStream: false,
    requestSerialize: () => Buffer.from(toBinary(StatusRequestSchema, create(StatusRequestSchema))),
    requestDeserialize: (bytes: Buffer) => fromBinary(StatusRequestSchema, bytes),
    responseSerialize: () => Buffer.alloc(0),
    responseDeserialize: (bytes: Buffer) => fromBinary(StatusResponseSchema, bytes),
  },
} as const;

const GrpcJsClient = grpc.makeClientConstructor(grpcJsService, 'Raft');

function metadataOf(headers: Readonly<Record<string, string>>): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return metadata;
}

function grpcJsStream(
  client: grpc.Client,
  headers: Readonly<Record<string, string>>,
): grpc.ClientDuplexStream<Frame, StreamEvent> {
  const { path, requestSerialize, responseDeserialize } = grpcJsService.Stream;
  return client.makeBidiStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    metadataOf(headers),
  );
}

rule('a client made with grpc-js greets and sends frames', async (node) => {
  const client = new GrpcJsClient(node.endpoint, grpc.credentials.createInsecure());
  try {
    const stream = grpcJsStream(client, greeting);
    const [event] = (await once(stream, 'data')) as [StreamEvent];
    assert.equal(event.event.case, 'accepted');
    assert.ok(event.event.case === 'accepted');
    assert.equal(event.event.value.nodeId, 'a');
    assert.equal(event.event.value.clusterId, 'contract');
    assert.equal(event.event.value.protocolVersion, 1);
    for (const frame of foreignFrames) stream.write(frame);
    await node.until(() => node.received.length === foreignFrames.length);
    assertFramesArrived(node);
    stream.end();
    const [status] = (await once(stream, 'status')) as [grpc.StatusObject];
    assert.equal(status.code, grpc.status.OK);
  } finally {
    client.close();
  }
});

rule('a client made with grpc-js is told why it is refused', async (node) => {
  const client = new GrpcJsClient(node.endpoint, grpc.credentials.createInsecure());
  try {
    const wrongs = [
      [{ 'kommander-cluster-id': 'other%20one' }, 'WRONG_CLUSTER', 'FAILED_PRECONDITION'],
      [{ 'kommander-peer-id': 'b' }, 'WRONG_NODE', 'FAILED_PRECONDITION'],
      [{ 'kommander-node-id': 'a' }, 'WRONG_NODE', 'FAILED_PRECONDITION'],
      [{ 'kommander-node-id': 'no id' }, 'WRONG_NODE', 'FAILED_PRECONDITION'],
      [
        { 'kommander-protocol-min': '2', 'kommander-protocol-max': '3' },
        'PROTOCOL_VERSION',
        'FAILED_PRECONDITION',
      ],
      [{ 'kommander-lane': 'fast' }, 'MALFORMED_MESSAGE', 'INVALID_ARGUMENT'],
      [{ 'kommander-incarnation': '-1' }, 'MALFORMED_MESSAGE', 'INVALID_ARGUMENT'],
      [{ 'kommander-cluster-id': '%E0%A4%A' }, 'MALFORMED_MESSAGE', 'INVALID_ARGUMENT'],
    ] as const;
    for (const [wrong, code, status] of wrongs) {
      const stream = grpcJsStream(client, { ...greeting, ...wrong });
      stream.on('error', () => {}); // the status, which is looked at below
      const events: StreamEvent[] = [];
      stream.on('data', (event: StreamEvent) => events.push(event));
      const { code: statusCode, details } = await new Promise<grpc.StatusObject>((resolve) => {
        stream.on('status', resolve);
      });
      assert.deepEqual(
        events.map(({ event }) => event.case === 'refused' && event.value.code),
        [code],
      );
      assert.equal(statusCode, grpc.status[status], code);
      assert.ok(details.startsWith(`${code}: `));
      assert.ok(node.refusals(code).length > 0, `${code} is reported`);
    }
    assert.deepEqual(node.received, []);
  } finally {
    client.close();
  }
});

rule('a client made with grpc-js asks for the status', async (node) => {
  const client = new GrpcJsClient(node.endpoint, grpc.credentials.createInsecure());
  try {
    const { path, requestSerialize, responseDeserialize } = grpcJsService.Status;
    const answer = await new Promise<string>((resolve, reject) => {
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, {}, (error, value) =>
        value === undefined ? reject(error ?? new Error('no answer')) : resolve(value.statusJson),
      );
    });
    assert.equal(answer, '{"nodeId":"a"}');
  } finally {
    client.close();
  }
});

rule('a client made with connect-node greets and sends frames', async (node) => {
  const baseUrl = `http://${node.endpoint}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  try {
    const client = createClient(Raft, createGrpcTransport({ baseUrl, sessionManager }));
    const endOfTest = new AbortController();
    const isAccepted = Promise.withResolvers<void>();
    async function* requests(): AsyncGenerator<Frame> {
      await isAccepted.promise;
      yield* foreignFrames;
      await node.until(() => node.received.length === foreignFrames.length);
    }
    const cases: (string | undefined)[] = [];
    for await (const { event } of client.stream(requests(), {
      headers: greeting,
      signal: endOfTest.signal,
    })) {
      cases.push(event.case);
      isAccepted.resolve();
    }
    assert.deepEqual(cases, ['accepted']);
    assertFramesArrived(node);
  } finally {
    sessionManager.abort();
  }
});

const statusClients: Readonly<
  Record<string, (baseUrl: string, sessionManager: Http2SessionManager) => RpcTransport>
> = {
  gRPC: (baseUrl, sessionManager) => createGrpcTransport({ baseUrl, sessionManager }),
  'gRPC-web': (baseUrl, sessionManager) =>
    createGrpcWebTransport({ baseUrl, httpVersion: '2', sessionManager }),
  'Connect with JSON': (baseUrl, sessionManager) =>
    createConnectTransport({ baseUrl, httpVersion: '2', sessionManager, useBinaryFormat: false }),
};

for (const [protocol, makeTransport] of Object.entries(statusClients)) {
  rule(`a client made with connect-node asks for the status over ${protocol}`, async (node) => {
    const baseUrl = `http://${node.endpoint}`;
    const sessionManager = new Http2SessionManager(baseUrl);
    try {
      const client = createClient(Raft, makeTransport(baseUrl, sessionManager));
      assert.equal((await client.status({})).statusJson, '{"nodeId":"a"}');
    } finally {
      sessionManager.abort();
    }
  });
}

rule(
  'an ordinary HTTP/2 client gets the status as JSON, and plain answers for the rest',
  async (node) => {
    const session = connectHttp2(`http://${node.endpoint}`);
    const ask = async (
      path: string,
      body: string | undefined,
      contentType = 'application/json',
    ): Promise<{ readonly status: unknown; readonly text: string }> => {
      const method = body === undefined ? 'GET' : 'POST';
      const request = session.request({
        ':method': method,
        ':path': path,
        'content-type': contentType,
      });
      let status: unknown;
      request.on('response', (headers) => {
        status = headers[':status'];
      });
      request.end(body);
      let text = '';
      for await (const chunk of request) text += String(chunk);
      return { status, text };
    };
    try {
      assert.deepEqual(await ask('/kommander.v1.Raft/Status', '{}'), {
        status: 200,
        text: JSON.stringify({ statusJson: '{"nodeId":"a"}' }),
      });
      assert.equal((await ask('/nowhere', '{}')).status, 404);
      assert.equal((await ask('/kommander.v1.Raft/Stream', '{}')).status, 415);
      assert.equal((await ask('/kommander.v1.Raft/Stream', undefined)).status, 415);
      assert.equal(
        (await ask('/kommander.v1.Raft/Stream', '', 'application/grpc-web+proto')).status,
        415,
      );
      const large = JSON.stringify({ padding: 'x'.repeat(200_000) });
      assert.notEqual((await ask('/kommander.v1.Raft/Status', large)).status, 200);
      assert.equal((await ask('/kommander.v1.Raft/Status', '{}')).status, 200);
    } finally {
      session.destroy();
    }
  },
);

test('a status that cannot be made is an error of the call, and no more', waiting, async () => {
  const transport = grpcTransport();
  const endpoint = await transport.open({
    identity: { clusterId: 'contract', nodeId: 'a', incarnation: 1, startId: 'one' },
    listen: '127.0.0.1:0',
    clock: systemClock,
    observer: () => {},
    status: {
      statusJson() {
        throw new Error('not now');
      },
    },
    receive: () => {},
    reachable: () => {},
    refused: () => {},
  });
  const baseUrl = `http://${endpoint}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  try {
    const client = createClient(Raft, createGrpcTransport({ baseUrl, sessionManager }));
    for (let i = 0; i < 2; i++)
      await assert.rejects(client.status({}), (error) => ConnectError.from(error).code > 0);
  } finally {
    sessionManager.abort();
    await transport.close();
  }
});

rule('a caller that hangs up during a call does no harm', async (node) => {
  const session = connectHttp2(`http://${node.endpoint}`);
  session.on('error', () => {}); // we hang up ourselves
  const request = session.request({
    ':method': 'POST',
    ':path': '/kommander.v1.Raft/Status',
    'content-type': 'application/json',
  });
  request.on('error', () => {});
  request.write('{');
  await new Promise((resolve) => session.ping(resolve));
  session.destroy();
  const again = new Http2SessionManager(`http://${node.endpoint}`);
  try {
    const baseUrl = `http://${node.endpoint}`;
    const client = createClient(Raft, createGrpcTransport({ baseUrl, sessionManager: again }));
    assert.equal((await client.status({})).statusJson, '{"nodeId":"a"}');
  } finally {
    again.abort();
  }
});

rule('a call whose request makes no sense is reported, and ends', async (node) => {
  const session = connectHttp2(`http://${node.endpoint}`);
  session.on('error', () => {}); // we hang up ourselves
  const request = session.request({
    ':method': 'POST',
    ':path': '/kommander.v1.Raft/Status',
    ':authority': '[',
    'content-type': 'application/json',
  });
  request.on('error', () => {}); // its 'close' follows
  request.end('{}');
  await Promise.all([
    once(request, 'close'),
    node.until(() => node.events.some(({ name }) => name === 'call-failed')),
  ]);
  session.destroy();
});

rule('our client sends frames to a server made with grpc-js', async (node) => {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': -1 });
  const frames: Frame[] = [];
  const got = Promise.withResolvers<void>();
  server.addService(grpcJsService, {
    Stream: (call: grpc.ServerDuplexStream<Frame, StreamEvent>) => {
      const [lane] = call.metadata.get('kommander-lane');
      assert.equal(call.metadata.get('kommander-node-id')[0], 'a');
      call.write(
        create(StreamEventSchema, {
          event: {
            case: 'accepted',
            value: { clusterId: 'contract', nodeId: 'b', incarnation: 4n, protocolVersion: 1 },
          },
        }),
      );
      call.on('error', () => {}); // our node goes away at the end
      call.on('data', (frame: Frame) => {
        assert.equal(lane, Lane.bulk);
        frames.push(frame);
        if (frames.length === foreignFrames.length) got.resolve();
      });
    },
    Status: () => {},
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  try {
    node.transport.setPeer('b', `127.0.0.1:${port}`);
    await node.until(() => node.reachability.at(-1)?.isReachable === true);
    for (const frame of [numberedFrame(1), { timestamp: 2, items: sampleItems }, numberedFrame(3)])
      assert.equal(node.transport.send('b', Lane.bulk, frame), true);
    await got.promise;
    assert.deepEqual(frames, foreignFrames);
  } finally {
    server.forceShutdown();
  }
});

rule('a server that answers with another identity is refused by our client', async (node) => {
  const answers = [
    [{ clusterId: 'other', nodeId: 'b', protocolVersion: 1 }, 'WRONG_CLUSTER'],
    [{ clusterId: 'contract', nodeId: 'c', protocolVersion: 1 }, 'WRONG_NODE'],
    [{ clusterId: 'contract', nodeId: 'b', protocolVersion: 9 }, 'PROTOCOL_VERSION'],
  ] as const;
  for (const [value, code] of answers) {
    const server = new grpc.Server();
    server.addService(grpcJsService, {
      Stream: (call: grpc.ServerDuplexStream<Frame, StreamEvent>) => {
        call.on('error', () => {}); // our node hangs up
        call.write(create(StreamEventSchema, { event: { case: 'accepted', value } }));
      },
      Status: () => {},
    });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    try {
      node.transport.setPeer('b', `127.0.0.1:${port}`);
      await node.until(() => node.refusals(code).length > 0);
      assert.ok(!node.reachability.some(({ isReachable }) => isReachable));
    } finally {
      node.transport.setPeer('b', undefined);
      server.forceShutdown();
    }
  }
});
