// Finding endpoints. Membership is a committed fact of partition 0 and never follows discovery (HAZARDS 12).

import type { Clock } from './clock.ts';
import type { Observer } from './observer.ts';
import type { Endpoint, NodeId } from './transport.ts';

/** A node that discovery knows of. `nodeId` is absent when only an address is known. */
export interface DiscoveredNode {
  readonly nodeId: NodeId | undefined;
  readonly endpoint: Endpoint;
}

/** What a discovery gets from the node that opens it. One that announces nothing and never waits needs none of it. */
export interface DiscoveryContext {
  /** The node itself, which listens already: what a discovery that announces tells the others. */
  readonly self: {
    readonly nodeId: NodeId;
    readonly endpoint: Endpoint;
    /** Drawn anew at every start: tells two processes with one id apart. */
    readonly startId: string;
  };
  readonly clock: Clock;
  readonly observer: Observer;
}

export interface Discovery {
  /**
   * All nodes with their ids, where they are written down and never change. They are the first members when the option
   * `members` names none; a discovery that finds nodes names no members.
   */
  readonly fixedNodes?: Readonly<Record<NodeId, Endpoint>>;
  /**
   * Starts and calls `changed` with everything that is known, now and after each change; with the node itself among the
   * nodes or without it. Never with two endpoints for one id.
   *
   * @throws INVALID_OPTION the given endpoints are malformed, or the node's own is of no use to others
   * @throws DISCOVERY_FAILED it cannot look for nodes
   */
  open(
    changed: (nodes: readonly DiscoveredNode[]) => void,
    context: DiscoveryContext,
  ): Promise<void>;
  /** Says goodbye where that is possible; calls `changed` no more. Idempotent. */
  close(): Promise<void>;
}
