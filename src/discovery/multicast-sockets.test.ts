// The sockets of multicast discovery: what the system is given at one time is bounded.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { interfacesFor, openMulticastSockets } from './multicast-sockets.ts';

test('of datagrams that the system has not taken yet there are 16 at most; later ones are sent again', async () => {
  const received: number[] = [];
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const failures: string[] = [];
  const sockets = await openMulticastSockets({
    group: '239.0.0.222',
    port: 10_000 + (process.pid % 10_000),
    family: 4,
    interfaces: interfacesFor(4, ['127.0.0.1'], () => {}),
    isNamed: true,
    received([first = 0]) {
      received.push(first);
      if (received.length === 16) sockets.send(Uint8Array.of(200));
      if (first === 200) resolve();
    },
    failed: (where, error) => failures.push(`${where}: ${error.message}`),
  });
  for (let count = 0; count < 100; count++) sockets.send(Uint8Array.of(count));
  await ended;
  await sockets.close();
  assert.deepEqual(received, [...Array.from({ length: 16 }, (_, at) => at), 200]);
  assert.deepEqual(failures, []);
});
