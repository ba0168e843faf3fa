// Runs the transport contract against both transports of this package. The outboxes are small so that the rules about
// full ones are reached quickly.

import { test } from 'node:test';
import { systemClock } from '../time/system-clock.ts';
import { grpcTransport } from '../transport/grpc.ts';
import { memoryNetwork } from '../transport/memory.ts';
import { transportContract } from './transport-contract.ts';

const outboxBytesMax = 4_194_304;

const subjects = {
  'memory transport': async () => {
    const network = memoryNetwork({ outboxBytesMax });
    return { make: network.transport, listen: 'memory:0', clock: systemClock, outboxBytesMax };
  },
  'grpc transport': async () => ({
    make: () => grpcTransport({ outboxBytesMax, backoffMsMin: 5, backoffMsMax: 20, seed: 1 }),
    listen: '127.0.0.1:0',
    clock: systemClock,
    outboxBytesMax,
  }),
};

for (const [name, open] of Object.entries(subjects)) {
  transportContract(
    { test: (rule, body) => test(`${name}: ${rule}`, { timeout: 20_000 }, body) },
    open,
  );
}
