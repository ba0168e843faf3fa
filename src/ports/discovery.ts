// Finding endpoints. Membership is a committed fact of partition 0 and never follows discovery (HAZARDS 12).

import type { Endpoint, NodeId } from './transport.ts';

/** A node that discovery knows of. `nodeId` is absent when only an address is known. */
export interface DiscoveredNode {
  readonly nodeId: NodeId | undefined;
  readonly endpoint: Endpoint;
}

export interface Discovery {
  /**
   * Starts and calls `changed` with everything that is known, now and after each change.
   *
   * @throws INVALID_OPTION the given endpoints are malformed
   */
  open(changed: (nodes: readonly DiscoveredNode[]) => void): Promise<void>;
  /** Idempotent. */
  close(): Promise<void>;
}
