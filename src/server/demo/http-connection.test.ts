// The demo's HTTP client: replies in any pieces, and failures that know whether the request can have arrived.

import assert from 'node:assert/strict';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { ConnectionFailure, HttpConnection } from './http-connection.ts';

const get = { method: 'GET', path: '/' } as const;

/** A server that hands every request's socket to `serve`, with the number of the request. */
async function openServer(
  t: TestContext,
  serve: (socket: Socket, requestNumber: number) => void,
): Promise<number> {
  let requestCount = 0;
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', () => serve(socket, ++requestCount));
  });
  return await listen(t, server);
}

async function listen(t: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

function connection(t: TestContext, port: number, timeoutMs = 5_000): HttpConnection {
  const opened = new HttpConnection(port, timeoutMs);
  t.after(() => opened.close());
  return opened;
}

test('many requests go over one connection, with their bodies and headers', async (t) => {
  let connectionCount = 0;
  const server = createHttpServer((request, response) => {
    let body = '';
    request.on('data', (text) => {
      body += text;
    });
    request.on('end', () => {
      const answer = `${request.method} ${request.url} ${body}`;
      response.writeHead(200, { 'content-length': answer.length, 'X-Name': 'value' });
      response.end(answer);
    });
  });
  server.on('connection', () => connectionCount++);
  const port = await listen(t, server);
  const client = connection(t, port);
  for (let round = 0; round < 20; round++) {
    const reply = await client.request({ method: 'PUT', path: `/k${round}`, body: `v${round}` });
    assert.equal(reply.status, 200);
    assert.equal(reply.body, `PUT /k${round} v${round}`);
    assert.equal(reply.headers.get('x-name'), 'value');
  }
  assert.equal(connectionCount, 1);
});

test('a reply may come in any pieces', async (t) => {
  const reply = 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello';
  const port = await openServer(t, (socket) => {
    const pieces = reply.split('');
    const timer = setInterval(() => {
      const piece = pieces.shift();
      if (piece === undefined) clearInterval(timer);
      else socket.write(piece);
    }, 0);
  });
  assert.equal((await connection(t, port).request(get)).body, 'hello');
});

test('a server that says so gets a new connection for the next request', async (t) => {
  const port = await openServer(t, (socket, requestNumber) => {
    socket.write(
      `HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n${requestNumber}`,
    );
  });
  const client = connection(t, port);
  assert.equal((await client.request(get)).body, '1');
  assert.equal((await client.request(get)).body, '2');
});

test('a request to a port where nobody listens was surely not sent', async (t) => {
  const port = await openServer(t, () => {});
  const free = createServer();
  const freePort = await listen(t, free);
  await new Promise((resolve) => free.close(resolve));
  assert.notEqual(port, freePort);
  await assert.rejects(connection(t, freePort).request(get), (error) => {
    assert.ok(error instanceof ConnectionFailure);
    assert.equal(error.wasSent, false);
    return true;
  });
});

test('a request whose connection is lost, that is never answered, or answered with rubbish, may have been sent', async (t) => {
  const cases: ((socket: Socket) => void)[] = [
    (socket) => socket.destroy(),
    () => {},
    (socket) => socket.write('rubbish\r\n\r\n'),
    (socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxxx'),
  ];
  for (const misbehave of cases) {
    const port = await openServer(t, (socket, requestNumber) => {
      if (requestNumber === 1) misbehave(socket);
      else socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
    });
    const client = connection(t, port, 100);
    await assert.rejects(client.request(get), (error) => {
      assert.ok(error instanceof ConnectionFailure);
      assert.equal(error.wasSent, true);
      return true;
    });
    assert.equal((await client.request(get)).body, 'ok', 'the next request gets a new connection');
  }
});

test('closing fails the request that is under way', async (t) => {
  const port = await openServer(t, () => client.close());
  const client = connection(t, port);
  await assert.rejects(client.request(get), ConnectionFailure);
});
