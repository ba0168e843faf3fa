// A replicated counter. Three nodes (here in one process, usually on three machines) add the same numbers in the same
// order. What was acknowledged is on disk: run it again, and the total goes on where it was.
//
//   npm run build && node examples/counter.ts

import { openNode } from 'kommander';
import { staticDiscovery } from 'kommander/discovery/static';
import { grpcTransport } from 'kommander/transport/grpc';
import { rocksdbWal } from 'kommander/wal/rocksdb';

const members = { a: '127.0.0.1:8121', b: '127.0.0.1:8122', c: '127.0.0.1:8123' };

function openMember([nodeId, listen]: [string, string]) {
  let total = 0; // the replicated state
  return openNode({
    nodeId,
    listen,
    wal: rocksdbWal({ path: `.kommander/counter/${nodeId}` }),
    transport: grpcTransport(),
    discovery: staticDiscovery(members),
    stateMachine: () => ({
      apply: (entries) =>
        entries.map(({ data }) => {
          total += Number(new TextDecoder().decode(data));
          return total;
        }),
    }),
  });
}

const nodes = await Promise.all(Object.entries(members).map(openMember));
try {
  await Promise.all(nodes.map((node) => node.waitForLeader(1)));
  // Through any node: one that does not lead passes the write on.
  for (const node of nodes) {
    const { result } = await node.replicate(1, 'add', new TextEncoder().encode('7'));
    console.log(`${node.nodeId} added 7: the total is ${String(result)}`);
  }
} finally {
  await Promise.all(nodes.map((node) => node.close()));
}
