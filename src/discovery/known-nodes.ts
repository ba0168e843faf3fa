// What a node believes of the others after each answer of a registry: entries are checked, an id has one endpoint, and
// what disappears or changes back and forth is believed slowly, so that a registry that lost its memory, or an entry
// that flaps, does not tear connections. Pure: time comes in, facts come out.

import { must } from '../base/assert.ts';
import { isNodeId, nodeIdRule, parseEndpoint } from '../base/endpoint.ts';
import { isKommanderError } from '../base/errors.ts';
import type { DiscoveredNode, DiscoveryContext } from '../ports/discovery.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';

/** Entries of one answer, of which one with more is not believed at all; and nodes that are known at one time. */
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
  at: Moment & { readonly self: DiscoveryContext['self'] },
): AnswerOutcome {
  const { self } = at;
  const { endpoints, refused } = endpointsByNode(answer);
  const own = endpoints.get(self.nodeId) ?? [];
  endpoints.delete(self.nodeId);
  endpoints.delete(`@${self.endpoint}`);
  const doubles = new Map<NodeId, readonly Endpoint[]>();
  if (own.length > 1) doubles.set(self.nodeId, own);
  const changes: Changes = { isChanged: false, dues: [], refused };
  for (const [key, found] of endpoints) {
    const before = known.get(key);
    const kept = before !== undefined && found.includes(before.node.endpoint);
    const endpoint = kept ? before.node.endpoint : must(found[0], 'who is found is somewhere');
    if (found.length > 1) {
      doubles.set(key, [endpoint, ...found.filter((each) => each !== endpoint)]);
    }
    noteFound(known, { key, endpoint }, at, changes);
  }
  for (const key of known.keys()) if (!endpoints.has(key)) noteMissing(known, key, at, changes);
  const { isChanged, dues } = changes;
  return {
    isChanged,
    hasSelf: own.includes(self.endpoint),
    refused,
    doubles,
    dueMs: dues.length === 0 ? undefined : Math.min(...dues),
  };
}

interface Changes {
  isChanged: boolean;
  /** When something is believed that is not yet. */
  readonly dues: number[];
  readonly refused: string[];
}

interface Moment {
  readonly nowMs: number;
  readonly holdMs: number;
}

function noteFound(
  known: KnownNodes,
  { key, endpoint }: { readonly key: string; readonly endpoint: Endpoint },
  { nowMs, holdMs }: Moment,
  changes: Changes,
): void {
  const nodeId = key.startsWith('@') ? undefined : key;
  const before = known.get(key);
  if (before === undefined) {
    if (known.size >= entriesMax) {
      changes.refused.push(`there is no room for ${key}: ${entriesMax} nodes are known`);
      return;
    }
    known.set(key, {
      node: { nodeId, endpoint },
      changedAtMs: undefined,
      missingSinceMs: undefined,
    });
    changes.isChanged = true;
    return;
  }
  before.missingSinceMs = undefined;
  if (before.node.endpoint === endpoint) return;
  const calmMs = (before.changedAtMs ?? Number.NEGATIVE_INFINITY) + holdMs;
  if (calmMs > nowMs) {
    changes.dues.push(calmMs);
    return;
  }
  before.node = { nodeId, endpoint };
  before.changedAtMs = nowMs;
  changes.isChanged = true;
}

function noteMissing(
  known: KnownNodes,
  key: string,
  { nowMs, holdMs }: Moment,
  changes: Changes,
): void {
  const missing = must(known.get(key), 'only who is known is missing');
  missing.missingSinceMs ??= nowMs;
  const goneMs = missing.missingSinceMs + holdMs;
  if (goneMs > nowMs) {
    changes.dues.push(goneMs);
    return;
  }
  known.delete(key);
  changes.isChanged = true;
}

/** The well-formed entries: endpoints by node id, by `@endpoint` where there is no id. */
function endpointsByNode(answer: readonly DiscoveredNode[]): {
  readonly endpoints: Map<string, Endpoint[]>;
  readonly refused: string[];
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
