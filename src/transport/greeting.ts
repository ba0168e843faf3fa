// How two nodes introduce themselves, whatever carries the bytes: which cluster, which node, which start of it, which
// protocol versions. A mismatch is refused with a typed error that both sides report.

import { isNodeId } from '../base/endpoint.ts';
import { KommanderError } from '../base/errors.ts';
import type { Observer } from '../ports/observer.ts';
import type { Endpoint, Lane, NodeId, NodeIdentity } from '../ports/transport.ts';

/** Protocol versions that this release speaks, inclusive. */
export const protocolVersionMin = 1;
export const protocolVersionMax = 1;

/** What a node says when it connects. */
export interface Greeting extends NodeIdentity {
  /** Whom the sender believes to be calling. */
  readonly peerId: NodeId;
  readonly lane: Lane;
  readonly versionMin: number;
  readonly versionMax: number;
}

/** The greeting of a node that calls `peerId`. */
export function greetingTo(peerId: NodeId, lane: Lane, identity: NodeIdentity): Greeting {
  return {
    ...identity,
    peerId,
    lane,
    versionMin: protocolVersionMin,
    versionMax: protocolVersionMax,
  };
}

/** Why the node with `identity` does not talk to the sender of `greeting`; undefined when it does. */
export function refusalOf(identity: NodeIdentity, greeting: Greeting): KommanderError | undefined {
  const { clusterId, nodeId } = identity;
  if (greeting.clusterId !== clusterId) {
    return new KommanderError(
      `node ${nodeId} belongs to cluster ${clusterId}, the caller to ${greeting.clusterId}: check the member list`,
      { code: 'WRONG_CLUSTER', details: { expected: clusterId, actual: greeting.clusterId } },
    );
  }
  if (greeting.versionMin > protocolVersionMax || greeting.versionMax < protocolVersionMin) {
    const { versionMin, versionMax } = greeting;
    return new KommanderError(
      `node ${nodeId} speaks protocol ${protocolVersionMin} to ${protocolVersionMax}, the caller ${versionMin} to ${versionMax}: upgrade the older one`,
      {
        code: 'PROTOCOL_VERSION',
        details: { protocolVersionMin, protocolVersionMax, versionMin, versionMax },
      },
    );
  }
  if (greeting.peerId !== nodeId) return wrongNode(greeting.peerId, nodeId);
  if (!isNodeId(greeting.nodeId) || greeting.nodeId === nodeId) {
    return new KommanderError(
      `the caller's node id ${JSON.stringify(greeting.nodeId)} is not valid here: every node needs its own`,
      { code: 'WRONG_NODE', details: { nodeId: greeting.nodeId } },
    );
  }
  return undefined;
}

/** The error for an endpoint at which another node than expected answers. */
export function wrongNode(expected: NodeId, actual: NodeId): KommanderError {
  return new KommanderError(
    `the endpoint belongs to node ${actual}, expected ${expected}: check the member list`,
    { code: 'WRONG_NODE', details: { expected, actual } },
  );
}

/** The error for a node that calls while another process with its identity is connected and alive. */
export function copiedNode(
  { nodeId, incarnation }: NodeIdentity,
  present: NodeIdentity,
): KommanderError {
  return new KommanderError(
    `node ${nodeId} is connected as another process: its directory was copied, or it was started twice; the later one is refused`,
    {
      code: 'NODE_COPIED',
      details: { nodeId, incarnation, connectedIncarnation: present.incarnation },
    },
  );
}

/** Which side of a refused connection reports it, and what it knows of the other one. */
export interface RefusedPeer {
  /** `inbound`: the peer called; `outbound`: we did. */
  readonly direction: 'inbound' | 'outbound';
  /** What the peer says it is called (inbound), or how we call it (outbound). */
  readonly peer: NodeId | undefined;
  readonly endpoint: Endpoint | undefined;
}

/** Reports `peer-refused`. */
export function reportRefusal(
  observer: Observer,
  refused: RefusedPeer,
  error: KommanderError,
): void {
  observer({
    level: error.code === 'NODE_COPIED' ? 'error' : 'warn',
    name: 'peer-refused',
    fields: { ...refused, code: error.code, message: error.message, details: error.details },
  });
}
