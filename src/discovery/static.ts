// Discovery from a list that was written down: nothing is looked for and nothing changes. The list says where nodes
// are, not who is a member.

import { assert } from '../base/assert.ts';
import { formatEndpoint, isNodeId, nodeIdRule, parseEndpoint } from '../base/endpoint.ts';
import { KommanderError } from '../base/errors.ts';
import type { DiscoveredNode, Discovery } from '../ports/discovery.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';

const option = 'nodes';

/**
 * Reports the given nodes, once.
 *
 * @param nodes `{ a: 'host:port', … }`, or a list of endpoints whose node ids are not known
 * @throws INVALID_OPTION there is no node, an endpoint or node id is malformed, or two nodes have one endpoint
 */
export function staticDiscovery(
  nodes: Readonly<Record<NodeId, Endpoint>> | readonly Endpoint[],
): Discovery {
  const known = Array.isArray(nodes)
    ? nodes.map((endpoint: Endpoint) => ({ nodeId: undefined, endpoint }))
    : Object.entries(nodes).map(([nodeId, endpoint]) => ({ nodeId, endpoint }));
  checkNodes(known);
  let state: 'new' | 'open' | 'closed' = 'new';
  return {
    ...(Array.isArray(nodes) ? {} : { fixedNodes: { ...(nodes as Record<NodeId, Endpoint>) } }),
    async open(changed) {
      assert(state === 'new', 'a discovery is opened once');
      state = 'open';
      changed([...known]);
    },
    async close() {
      state = 'closed';
    },
  };
}

function checkNodes(nodes: readonly DiscoveredNode[]): void {
  if (nodes.length === 0) throw invalidNodes('name at least one node');
  const seen = new Set<string>();
  for (const { nodeId, endpoint } of nodes) {
    if (nodeId !== undefined && !isNodeId(nodeId)) {
      throw invalidNodes(`"${nodeId.slice(0, 128)}" is no node id: use ${nodeIdRule}`);
    }
    const parts = parseEndpoint(endpoint, { option });
    const normalized = formatEndpoint({ ...parts, host: parts.host.toLowerCase() });
    if (seen.has(normalized)) throw invalidNodes(`${endpoint} is named twice`);
    seen.add(normalized);
  }
}

function invalidNodes(why: string): KommanderError {
  return new KommanderError(`option ${option}: ${why}`, {
    code: 'INVALID_OPTION',
    details: { option },
  });
}
