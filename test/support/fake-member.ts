// A member of a cluster of nodes that a test plays itself: it takes the place of a real node, says what it is told to
// say, and keeps what it hears, with the time. For votes and answers that real nodes give only by rare accidents.

import type { FrameItem, NodeId, Transport } from '../../src/ports/transport.ts';
import type { PeerMessage, ReplicaId } from '../../src/raft/types.ts';
import type { NodeCluster } from './node-cluster.ts';

/** The partition that it plays a part in. */
const partitionId = 1;

export interface FakeMember {
  readonly replicaId: ReplicaId;
  /** Messages of the partition that arrived, oldest first, with the time on the monotonic clock. */
  readonly heard: { readonly atMs: number; readonly message: PeerMessage }[];
  say(to: NodeId, item: FrameItem): void;
  /** Says a message of the partition. */
  tell(to: NodeId, message: PeerMessage): void;
}

/** Crashes the node in a seat, if one runs there, and takes its place. */
export async function fakeMember(cluster: NodeCluster, nodeId: NodeId): Promise<FakeMember> {
  const seat = cluster.seat(nodeId);
  const { clusterId } = [...cluster.seats.values()]
    .flatMap(({ node }) => node ?? [])[0]
    ?.status() ?? { clusterId: '' };
  if (seat.node !== undefined) await cluster.crash(nodeId);
  const transport: Transport = cluster.network.transport();
  seat.transport = transport;
  const heard: FakeMember['heard'] = [];
  await transport.open({
    identity: { clusterId, nodeId, incarnation: 1_000, startId: 'one' },
    listen: seat.endpoint,
    clock: cluster.time,
    observer: () => {},
    status: { statusJson: () => '' },
    receive(_peer, _lane, frame) {
      for (const item of frame.items) {
        if (item.kind !== 'raft' || item.partitionId !== partitionId) continue;
        heard.push({ atMs: cluster.time.monotonicMs(), message: item.message });
      }
    },
    reachable: () => {},
    refused: () => {},
  });
  for (const other of cluster.seats.values()) {
    if (other !== seat) transport.setPeer(other.nodeId, other.endpoint);
  }
  await cluster.time.settle();
  const say = (to: NodeId, item: FrameItem): void => {
    transport.send(to, 'control', { timestamp: 1, items: [item] });
  };
  return {
    replicaId: cluster.nodeIds.indexOf(nodeId) + 1,
    heard,
    say,
    tell: (to, message) => say(to, { kind: 'raft', partitionId, message }),
  };
}
