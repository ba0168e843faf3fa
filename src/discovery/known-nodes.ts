// What a node believes of the others after each answer of a registry: entries are checked, an id has one endpoint, and
// what disappears or changes back and forth is believed slowly, so that a registry that lost its memory, or an entry
// that flaps, does not tear connections. Pure: time comes in, facts come out.

import { isNodeId, nodeIdRule, parseEndpoint } from '../base/endpoint.ts';
import { isKommanderError } from '../base/errors.ts';
import type { DiscoveredNode, DiscoveryContext } from '../ports/discovery.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';

/** Entries of one answer; one with more is not believed at all. */
export const entriesMax = 4_096;

/** What is believed, by node id, or by endpoint where no id is known. */
export type KnownNodes = Map<string, KnownNode>;

interface KnownNode {
  node: DiscoveredNode;
  /** When its endpoint last changed; undefined: it is the first one. */
  changedAtMs: number | undefined;
  /** Since which answer it has been missing; undefined: the last one had it. */
  missingSinceMs: number | undefined;
}

/** What one answer meant. */
export interface AnswerOutcome {
  /** Whether others are to be told. */
  readonly isChanged: boolean;
  /** Whether this node's own entry is there, as it announced it. */
  readonly hasSelf: boolean;
  /** Why entries were left out, one sentence each. */
  readonly refused: readonly string[];
  /** Ids that are there with several endpoints; of others than this node the first one is believed. */
  readonly doubles: ReadonlyMap<NodeId, readonly Endpoint[]>;
  /** When something that is held back has waited long enough; undefined: nothing is. */
  readonly dueMs: number | undefined;
}

/**
 * Takes an answer in. What is missing is believed to be gone after `holdMs`; an endpoint that has changed is believed to
 * have changed again after `holdMs`.
 *
 * @param answer entries as they were read, unchecked; of two with one id the earlier one counts
 */
export function takeAnswer(
  known: KnownNodes,
  answer: readonly DiscoveredNode[],
  at: { readonly self: DiscoveryContext['self']; readonly nowMs: number; readonly holdMs: number },
): AnswerOutcome {
  const { self, nowMs, holdMs } = at;
  const { endpoints, refused } = endpointsByNode(answer);
  const own = endpoints.get(self.nodeId) ?? [];
  endpoints.delete(self.nodeId);
  endpoints.delete(`@${self.endpoint}`);
  const doubles = new Map<NodeId, readonly Endpoint[]>();
  if (own.length > 1) doubles.set(self.nodeId, own);
  const dues: number[] = [];
  let isChanged = false;
  for (const [key, found] of endpoints) {
    const before = known.get(key);
    const kept = before !== undefined && found.includes(before.node.endpoint);
    const endpoint = kept ? before.node.endpoint : (found[0] ?? '');
    if (found.length > 1) {
      doubles.set(key, [endpoint, ...found.filter((each) => each !== endpoint)]);
    }
    if (before !== undefined) before.missingSinceMs = undefined;
    if (kept) continue;
    const calmMs = before?.changedAtMs === undefined ? nowMs : before.changedAtMs + holdMs;
    if (calmMs > nowMs) {
      dues.push(calmMs);
      continue;
    }
    const nodeId = key.startsWith('@') ? undefined : key;
    const changedAtMs = before === undefined ? undefined : nowMs;
    known.set(key, { node: { nodeId, endpoint }, changedAtMs, missingSinceMs: undefined });
    isChanged = true;
  }
  for (const [key, each] of known) {
    if (endpoints.has(key)) continue;
    each.missingSinceMs ??= nowMs;
    const goneMs = each.missingSinceMs + holdMs;
    if (goneMs > nowMs) {
      dues.push(goneMs);
      continue;
    }
    known.delete(key);
    isChanged = true;
  }
  return {
    isChanged,
    hasSelf: own.includes(self.endpoint),
    refused,
    doubles,
    dueMs: dues.length === 0 ? undefined : Math.min(...dues),
  };
}

/** The well-formed entries: endpoints by node id, by `@endpoint` where there is no id. */
function endpointsByNode(answer: readonly DiscoveredNode[]): {
  readonly endpoints: Map<string, Endpoint[]>;
  readonly refused: readonly string[];
} {
  const endpoints = new Map<string, Endpoint[]>();
  const refused: string[] = [];
  for (const { nodeId, endpoint } of answer) {
    const why = whyMalformed(nodeId, endpoint);
    if (why !== undefined) {
      refused.push(why);
      continue;
    }
    const key = nodeId ?? `@${endpoint}`;
    const found = endpoints.get(key) ?? [];
    if (!found.includes(endpoint)) found.push(endpoint);
    endpoints.set(key, found);
  }
  return { endpoints, refused };
}

function whyMalformed(nodeId: NodeId | undefined, endpoint: Endpoint): string | undefined {
  if (nodeId !== undefined && !isNodeId(nodeId)) {
    return `"${nodeId.slice(0, 64)}" is no node id: ${nodeIdRule}`;
  }
  try {
    parseEndpoint(endpoint, { option: `endpoint of ${nodeId ?? 'a node'}` });
    return undefined;
  } catch (error) {
    if (!isKommanderError(error, 'INVALID_OPTION')) throw error;
    return error.message;
  }
}
