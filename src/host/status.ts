// What a node says about itself, as plain values for operators and programs.

import type { NodeStatus, PartitionStatus } from './api.ts';
import { clusterIdOf } from './genesis.ts';
import type { Host } from './host.ts';
import { leaderNode } from './leadership.ts';
import type { Partition } from './partition.ts';
import { partsOf } from './readmission.ts';
import { holdsOf, logKeeper } from './retention.ts';
import { isDiskFull } from './storage-writer.ts';

/** What an operator wants to know of a node. */
export function statusOf(host: Host): NodeStatus {
  const { nodeId } = host.settings;
  return {
    nodeId,
    clusterId: clusterIdOf(host.genesis),
    incarnation: host.incarnation,
    state: host.state,
    endpoint: host.endpoint,
    roster: host.system.members.map((member) => ({
      nodeId: member.nodeId,
      endpoint: member.nodeId === nodeId ? host.endpoint : host.endpoints.get(member.nodeId),
      reachable: member.nodeId === nodeId || host.reachable.has(member.nodeId),
      replicaId: host.replicaIds.get(member.nodeId) ?? member.replicaId,
      refused:
        member.nodeId === nodeId
          ? host.state === 'refused'
          : host.genesis.strangers.has(member.nodeId),
      ...partsOf(host, member.nodeId),
    })),
    partitions: [...host.partitions.values()].map((partition) => partitionStatus(host, partition)),
    wal: host.wal.stats(),
    diskFull: isDiskFull(host),
    timerLatenessMsMax: host.timerLatenessMsMax,
  };
}

function partitionStatus(host: Host, partition: Partition): PartitionStatus {
  const { raft } = partition;
  return {
    partitionId: partition.id,
    role: raft.role,
    term: raft.currentTerm,
    leader: leaderNode(host, partition),
    commitIndex: raft.log.commitIndex,
    lastApplied: partition.lastApplied,
    lastIndex: raft.log.lastIndex,
    compactedIndex: raft.log.compactedIndex,
    confState: raft.confState,
    log: {
      entries: raft.log.lastIndex - raft.log.compactedIndex,
      checkpointIndex: partition.checkpoints.index,
      entriesSinceCheckpoint: partition.checkpoints.entries,
      bytesSinceCheckpoint: partition.checkpoints.bytes,
      holds: holdsOf(partition),
      keptBy: logKeeper(host, partition),
    },
    queuedProposals: partition.outstandingEntries,
    stopped: partition.stopped?.message,
  };
}
