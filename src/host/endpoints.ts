// Where peers are reached. The first members may bring an endpoint from their list, discovery finds one, and a peer tells
// its own at every connection: the latest word counts. Who is a peer is none of this: that says the genesis record.

import { isKommanderError } from '../base/errors.ts';
import type { DiscoveredNode } from '../ports/discovery.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';
import type { Host } from './host.ts';

/**
 * Connects to the members whose endpoints are known from the start.
 *
 * @param given endpoints that count for more than those of the genesis record: members may have moved since then
 * @throws INVALID_OPTION an endpoint is malformed
 */
export function connectMembers(host: Host, given: ReadonlyMap<NodeId, Endpoint | undefined>): void {
  for (const { nodeId, endpoint: first } of host.genesis.record.members) {
    const endpoint = given.get(nodeId) ?? first;
    if (nodeId === host.settings.nodeId || endpoint === undefined) continue;
    host.transport.setPeer(nodeId, endpoint);
    host.endpoints.set(nodeId, endpoint);
  }
}

/**
 * What discovery knows, all of it, each time. Only what it says anew counts: it must not take back what a member has said
 * of itself since. Nodes that are no members are left alone, and one that is lost stays where it was.
 *
 * @param found what discovery knew before; updated
 */
export function noteDiscovered(
  host: Host,
  found: Map<NodeId, Endpoint>,
  nodes: readonly DiscoveredNode[],
): void {
  if (host.state === 'closed' || host.state === 'failed') return;
  const before = new Map(found);
  found.clear();
  for (const { nodeId, endpoint } of nodes) {
    if (nodeId === undefined || !host.replicaIds.has(nodeId)) continue;
    found.set(nodeId, endpoint);
    const isNews = before.get(nodeId) !== endpoint;
    if (isNews && nodeId !== host.settings.nodeId) noteEndpoint(host, nodeId, endpoint);
  }
}

/** The peer is reached there. A bad endpoint is reported: nobody could catch what is thrown. */
export function noteEndpoint(host: Host, peer: NodeId, endpoint: Endpoint): void {
  if (host.endpoints.get(peer) === endpoint) return;
  try {
    host.transport.setPeer(peer, endpoint);
    host.endpoints.set(peer, endpoint);
  } catch (error) {
    if (!isKommanderError(error, 'INVALID_OPTION')) throw error;
    host.observe({ level: 'warn', name: 'endpoint-refused', fields: { peer, error } });
  }
}
