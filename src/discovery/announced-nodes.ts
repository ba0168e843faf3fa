// The nodes that were heard: who is there, who fell silent, and who claims to be somebody else. A table and its verbs;
// time is an argument, and what is sent or told to anybody is decided elsewhere (`multicast.ts`).

import type { DiscoveredNode } from '../ports/discovery.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';
import type { Announcement } from './announcement.ts';

/** Nodes that are remembered: as many as a cluster has at most. More are not taken, so that made-up ones cost nothing. */
export const announcedNodesMax = 1_024;

/** How far the clock of a sender of signed announcements may be from ours: an older announcement is a replay. */
export const replayWindowMs = 30_000;

/** A process that claims an id which another one has. */
interface Rival {
  readonly startId: string;
  stamp: number;
  /** The one that has the id was heard behind it: both are alive. */
  isKnownAlive: boolean;
  isReported: boolean;
}

interface HeardNode {
  readonly startId: string;
  endpoint: Endpoint;
  /** Of its latest announcement. Invariant: only grows. */
  stamp: number;
  /** On our monotonic clock. */
  heardMs: number;
  /** It said goodbye or fell silent. It is kept a while, so that what it said before cannot be played again. */
  isGone: boolean;
  rival: Rival | undefined;
}

export interface AnnouncedNodes {
  readonly expiryMs: number;
  /** Announcements are signed, so that stamps can be held against our clock. */
  readonly isSigned: boolean;
  readonly nodes: Map<NodeId, HeardNode>;
}

/** Two processes that are both alive claim one id: the one that had it first keeps it. */
export interface Conflict {
  readonly nodeId: NodeId;
  readonly endpoint: Endpoint;
  readonly claimedBy: Endpoint;
}

/**
 * `changed`: what is known is another. `same`: nothing new. Refused are `clock` (signed, and too far from our time), `repeated`
 * (an old one, or the same by another way), `tableFull`, and `taken`: the id belongs to another process, which is there.
 */
export type Heard =
  | { readonly outcome: 'changed' | 'same' | 'clock' | 'repeated' | 'tableFull' }
  | { readonly outcome: 'taken'; readonly conflict: Conflict | undefined };

export interface NowMs {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

export function newAnnouncedNodes(options: {
  readonly expiryMs: number;
  readonly isSigned: boolean;
}): AnnouncedNodes {
  return { ...options, nodes: new Map() };
}

/** Everybody who is there, ascending by id. */
export function presentNodes({ nodes }: AnnouncedNodes): DiscoveredNode[] {
  return [...nodes]
    .filter(([, { isGone }]) => !isGone)
    .map(([nodeId, { endpoint }]) => ({ nodeId, endpoint }))
    .sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
}

/** Takes an announcement: of another process, or an own one when it is sent. */
export function hear(table: AnnouncedNodes, announcement: Announcement, now: NowMs): Heard {
  const { nodeId, startId, stamp } = announcement;
  const isInTime = Math.abs(now.wallMs - stamp) <= replayWindowMs;
  if (table.isSigned && !isInTime) return { outcome: 'clock' };
  const known = table.nodes.get(nodeId);
  if (known === undefined) return hearNew(table, announcement, now);
  if (known.startId === startId) return hearAgain(known, announcement, now);
  if (!known.isGone) {
    return { outcome: 'taken', conflict: hearRival(known, announcement) };
  }
  // A later start of the node. An earlier one, played again, has an older stamp.
  if (stamp <= known.stamp) return { outcome: 'repeated' };
  table.nodes.delete(nodeId);
  return hearNew(table, announcement, now);
}

/** Ends the presence of who fell silent, and forgets them later. @returns whether what is known is another */
export function expire(table: AnnouncedNodes, now: NowMs): boolean {
  // A stamp may be a window ahead of our time, and is accepted until a window behind it.
  const forgetMs = table.expiryMs + (table.isSigned ? 2 * replayWindowMs : 0);
  let isChanged = false;
  for (const [nodeId, node] of table.nodes) {
    const silentMs = now.monotonicMs - node.heardMs;
    if (!node.isGone && silentMs >= table.expiryMs) {
      node.isGone = true;
      isChanged = true;
    }
    if (node.isGone && silentMs >= forgetMs) table.nodes.delete(nodeId);
  }
  return isChanged;
}

function hearNew(table: AnnouncedNodes, announcement: Announcement, now: NowMs): Heard {
  const { kind, nodeId, startId, endpoint, stamp } = announcement;
  if (table.nodes.size >= announcedNodesMax) return { outcome: 'tableFull' };
  table.nodes.set(nodeId, {
    startId,
    endpoint,
    stamp,
    heardMs: now.monotonicMs,
    isGone: kind === 'goodbye',
    rival: undefined,
  });
  return { outcome: kind === 'goodbye' ? 'same' : 'changed' };
}

function hearAgain(known: HeardNode, announcement: Announcement, now: NowMs): Heard {
  const { kind, endpoint, stamp } = announcement;
  if (stamp <= known.stamp) return { outcome: 'repeated' };
  const isGone = kind === 'goodbye';
  const isChanged = known.isGone !== isGone || known.endpoint !== endpoint;
  known.stamp = stamp;
  known.heardMs = now.monotonicMs;
  known.isGone = isGone;
  known.endpoint = endpoint;
  if (known.rival !== undefined) known.rival.isKnownAlive = true;
  return { outcome: isChanged ? 'changed' : 'same' };
}

/**
 * Most rivals are the node itself, started again after it was killed: it waits until its former self has expired. Only
 * when each was heard behind the other are there two.
 */
function hearRival(known: HeardNode, announcement: Announcement): Conflict | undefined {
  const { nodeId, startId, endpoint, stamp } = announcement;
  const { rival } = known;
  if (rival?.startId !== startId) {
    known.rival = { startId, stamp, isKnownAlive: false, isReported: false };
    return undefined;
  }
  const isNew = stamp > rival.stamp;
  rival.stamp = Math.max(rival.stamp, stamp);
  if (!isNew || !rival.isKnownAlive || rival.isReported) return undefined;
  rival.isReported = true;
  return { nodeId, endpoint: known.endpoint, claimedBy: endpoint };
}
