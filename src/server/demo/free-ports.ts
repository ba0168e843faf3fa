// Loopback ports for the three nodes: the ones that the guides name when they are free, otherwise the next free set.

import { createServer } from 'node:net';
import { KommanderError } from '../../base/errors.ts';

export interface NodePorts {
  readonly http: number;
  readonly raft: number;
}

const firstHttpPort = 7_101;
const firstRaftPort = 8_001;
const setsMax = 50;
/** Distance between the sets that are tried. */
const setStep = 10;

/**
 * Finds ports for `count` nodes.
 *
 * @throws TRANSPORT_FAILED no set of ports is free
 */
export async function findFreePorts(count: number): Promise<readonly NodePorts[]> {
  for (let set = 0; set < setsMax; set++) {
    const ports = Array.from({ length: count }, (_, at) => ({
      http: firstHttpPort + set * setStep + at,
      raft: firstRaftPort + set * setStep + at,
    }));
    if (await areFree(ports.flatMap(({ http, raft }) => [http, raft]))) return ports;
  }
  const last = firstHttpPort + (setsMax - 1) * setStep;
  throw new KommanderError(`no free ports for ${count} nodes from ${firstHttpPort} to ${last}`, {
    code: 'TRANSPORT_FAILED',
  });
}

async function areFree(ports: readonly number[]): Promise<boolean> {
  for (const port of ports) {
    if (!(await isFree(port))) return false;
  }
  return true;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
