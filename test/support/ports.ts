// Ports for servers of a test. They lie below those that the system gives to connections, which a test of another
// process could get between the moment a port is found free and the moment the server takes it; and every process looks
// in a range of its own.

import { createServer } from 'node:net';
import process from 'node:process';

/** Above 10,080, which `fetch` refuses. */
const firstPort = 10_100;
const portsPerProcess = 30;
const rangeCount = 697;

const start = firstPort + (process.pid % rangeCount) * portsPerProcess;
let taken = 0;

/** Loopback ports that nobody listens at, and that no other test will ask for soon. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries > portsPerProcess) throw new Error(`no ${count} free ports from ${start} on`);
    const port = start + (taken++ % portsPerProcess);
    if (await isFree(port)) ports.push(port);
  }
  return ports;
}

function isFree(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const server = createServer();
  server.on('error', () => resolve(false));
  server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  return promise;
}
