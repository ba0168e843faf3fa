// A transport in the place of a closed node that says what no node says: how tests break a rule of a core.

import type { NodeId } from '../../src/ports/transport.ts';
import type { PartitionId } from '../../src/ports/wal.ts';
import type { AppendEntries } from '../../src/raft/types.ts';
import type { NodeCluster } from './node-cluster.ts';

export interface Impostor extends AsyncDisposable {
  /** Speaks to `victim` as a second leader of the present term: its replica stops. */
  claimLeadership(victim: NodeId, partitionId?: PartitionId): void;
}

/** Closes `nodeId` and takes its place. */
export async function impostorOf(cluster: NodeCluster, nodeId: NodeId): Promise<Impostor> {
  const { clusterId } = cluster.node(nodeId).status();
  await cluster.close(nodeId);
  const transport = cluster.network.transport();
  await transport.open({
    identity: { clusterId, nodeId, incarnation: 99, startId: 'one' },
    listen: cluster.seat(nodeId).endpoint,
    clock: cluster.time,
    observer: () => {},
    status: { statusJson: () => '' },
    receive: () => {},
    reachable: () => {},
    refused: () => {},
  });
  for (const peer of cluster.nodeIds) {
    if (peer !== nodeId) transport.setPeer(peer, cluster.seat(peer).endpoint);
  }
  await cluster.time.settle();
  const replicaOf = (each: NodeId): number => cluster.nodeIds.indexOf(each) + 1;
  return {
    claimLeadership(victim, partitionId = 1) {
      const { term = 0 } = cluster.node(victim).status().partitions[partitionId] ?? {};
      const message: AppendEntries = {
        type: 'appendEntries',
        from: replicaOf(nodeId),
        to: replicaOf(victim),
        term,
        prevLogIndex: 0,
        prevLogTerm: 0,
        entries: [],
        leaderCommit: 0,
      };
      const item = { kind: 'raft' as const, partitionId, message };
      transport.send(victim, 'bulk', { timestamp: 1, items: [item] });
    },
    [Symbol.asyncDispose]: () => transport.close(),
  };
}
