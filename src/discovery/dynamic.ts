// Discovery by the application itself: it adds and removes nodes while everything runs, from whatever source it has.

import { assert } from '../base/assert.ts';
import { formatEndpoint, isNodeId, nodeIdRule, parseEndpoint } from '../base/endpoint.ts';
import { KommanderError } from '../base/errors.ts';
import type { DiscoveredNode, Discovery } from '../ports/discovery.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';

/** A discovery that knows what it is told. */
export interface DynamicDiscovery extends Discovery {
  /**
   * Adds a node, or says where one is now. Reported at once when the discovery is open; allowed before that.
   *
   * @throws INVALID_ARGUMENT the node id or the endpoint is malformed, another node has the endpoint, or there are
   *   `dynamicNodesMax` nodes already; nothing was changed
   */
  add(node: { readonly nodeId: NodeId; readonly endpoint: Endpoint }): void;
  /** Forgets a node, which stays a member if it is one. @returns whether it was known */
  remove(nodeId: NodeId): boolean;
}

/** Nodes that a dynamic discovery holds: as many as a cluster has at most. */
const dynamicNodesMax = 1_024;

/**
 * Makes a discovery that the application fills.
 *
 * @throws INVALID_ARGUMENT as `add`
 */
export function dynamicDiscovery(nodes: Readonly<Record<NodeId, Endpoint>> = {}): DynamicDiscovery {
  const known = new Map<NodeId, Endpoint>();
  let report: (() => void) | undefined;
  let isOpened = false;

  function tryAdd({ nodeId, endpoint }: { readonly nodeId: NodeId; readonly endpoint: Endpoint }) {
    checkNode(known, nodeId, endpoint);
    if (known.get(nodeId) === endpoint) return false;
    known.set(nodeId, endpoint);
    return true;
  }

  for (const [nodeId, endpoint] of Object.entries(nodes)) tryAdd({ nodeId, endpoint });
  return {
    async open(changed) {
      assert(!isOpened, 'a discovery is opened once');
      isOpened = true;
      report = () => changed(listOf(known));
      report();
    },
    async close() {
      report = undefined;
    },
    add(node) {
      if (tryAdd(node)) report?.();
    },
    remove(nodeId) {
      const isKnown = known.delete(nodeId);
      if (isKnown) report?.();
      return isKnown;
    },
  };
}

function listOf(known: ReadonlyMap<NodeId, Endpoint>): DiscoveredNode[] {
  return [...known].map(([nodeId, endpoint]) => ({ nodeId, endpoint }));
}

function checkNode(known: ReadonlyMap<NodeId, Endpoint>, nodeId: NodeId, endpoint: Endpoint): void {
  if (typeof nodeId !== 'string' || !isNodeId(nodeId)) {
    throw invalidNode(
      'nodeId',
      `"${String(nodeId).slice(0, 128)}" is no node id: use ${nodeIdRule}`,
    );
  }
  const place = normalized(endpoint);
  for (const [otherId, other] of known) {
    if (otherId === nodeId || normalized(other) !== place) continue;
    throw invalidNode('endpoint', `${endpoint} is that of "${otherId}": remove that node first`);
  }
  if (known.has(nodeId) || known.size < dynamicNodesMax) return;
  throw invalidNode('nodeId', `there are ${dynamicNodesMax} nodes already: remove one first`);
}

/** One text for one place. */
function normalized(endpoint: Endpoint): string {
  const text = typeof endpoint === 'string' ? endpoint : String(endpoint);
  try {
    const { host, port } = parseEndpoint(text, { option: 'endpoint' });
    return formatEndpoint({ host: host.toLowerCase(), port });
  } catch (error) {
    if (!(error instanceof KommanderError)) throw error;
    throw invalidNode('endpoint', error.message);
  }
}

function invalidNode(argument: string, why: string): KommanderError {
  return new KommanderError(`add: ${why}`, { code: 'INVALID_ARGUMENT', details: { argument } });
}
