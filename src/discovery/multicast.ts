// Discovery on one network: every node says a few times a minute, to a multicast group, who it is and where, and
// everybody listens. Nobody has to be configured. What an announcement looks like is decided in `announcement.ts`, whom to
// believe in `announced-nodes.ts`. Without secrets everybody on the network can announce what he likes.

import { isIP, isIPv4 } from 'node:net';
import { assert } from '../base/assert.ts';
import { isNodeId, nodeIdRule } from '../base/endpoint.ts';
import { KommanderError } from '../base/errors.ts';
import type { Timer } from '../ports/clock.ts';
import type { Discovery, DiscoveryContext } from '../ports/discovery.ts';
import {
  type AnnouncedNodes,
  type Conflict,
  expire,
  type Heard,
  hear,
  type NowMs,
  newAnnouncedNodes,
  presentNodes,
  replayWindowMs,
} from './announced-nodes.ts';
import {
  type Announcement,
  type AnnouncementGroup,
  decodeAnnouncement,
  encodeAnnouncement,
  type RefusedBytes,
} from './announcement.ts';
import {
  interfacesFor,
  type MulticastInterface,
  type MulticastSockets,
  openMulticastSockets,
} from './multicast-sockets.ts';
import { checkOwnEndpoint } from './own-endpoint.ts';

export interface MulticastOptions {
  /** An IPv4 or IPv6 multicast address (default `239.0.0.222`). */
  readonly group?: string;
  /** UDP port, 1 … 65535 (default 1900). */
  readonly port?: number;
  /** Names the cluster, so that several on one network do not mix: 1 to 64 characters, as a node id (default `kommander`). */
  readonly cluster?: string;
  /** Interfaces to speak and listen on, by name or by address (default: all that can, at most 64, also those that come later). */
  readonly interfaces?: readonly string[];
  /**
   * One or two secrets of 16 to 1,024 characters: announcements are signed with the first, and only those are believed
   * that were signed with one of them. The clocks must then agree to 30 s. Default: nothing is signed.
   */
  readonly secrets?: readonly string[];
  /** Milliseconds between two announcements, 20 … 60_000 (default 1_000). */
  readonly intervalMs?: number;
  /** Milliseconds after which a silent node is gone, at least 3 × `intervalMs`, up to 600_000 (default 5_000). */
  readonly expiryMs?: number;
}

/** Why a datagram was not believed. */
export type MulticastRefusal = RefusedBytes | Exclude<Heard['outcome'], 'changed' | 'same'>;

export interface MulticastStats {
  /** Datagrams that came in. */
  readonly receivedCount: number;
  /** Of these, those that were not believed, by reason. */
  readonly refusedCounts: Readonly<Record<MulticastRefusal, number>>;
  /** Datagrams that could not be sent, and other failures of sockets. */
  readonly socketFailureCount: number;
}

export interface MulticastDiscovery extends Discovery {
  stats(): MulticastStats;
}

interface Settings extends AnnouncementGroup {
  readonly group: string;
  readonly port: number;
  readonly family: 4 | 6;
  readonly interfaces: readonly string[] | undefined;
  readonly intervalMs: number;
  readonly expiryMs: number;
}

/** From the opening of the discovery to its end. */
interface Session {
  readonly context: DiscoveryContext;
  readonly report: () => void;
  readonly table: AnnouncedNodes;
  sockets: MulticastSockets | undefined;
  timer: Timer | undefined;
  /** Of the last own announcement. */
  stamp: number;
  isReportDue: boolean;
  isClosed: boolean;
}

interface Counters {
  receivedCount: number;
  readonly refusedCounts: Record<MulticastRefusal, number>;
  socketFailureCount: number;
}

/** Refusals that say that something is not as it should be: reported when they come first. */
const notableRefusals: ReadonlySet<MulticastRefusal> = new Set<MulticastRefusal>([
  'version',
  'malformed',
  'signature',
  'clock',
  'tableFull',
]);

/**
 * Announces this node to a multicast group and reports who else is there.
 *
 * @throws INVALID_OPTION an option is not valid; `open` also: this node's endpoint says nothing to others (0.0.0.0), or
 *   there is no such interface
 * @throws DISCOVERY_FAILED `open`: the port cannot be bound, or the group not be joined
 */
export function multicastDiscovery(options: MulticastOptions = {}): MulticastDiscovery {
  const settings = checkedMulticastOptions(options);
  const counters: Counters = {
    receivedCount: 0,
    refusedCounts: {
      foreign: 0,
      version: 0,
      malformed: 0,
      otherCluster: 0,
      signature: 0,
      clock: 0,
      repeated: 0,
      tableFull: 0,
      taken: 0,
    },
    socketFailureCount: 0,
  };
  let session: Session | undefined;
  let closing: Promise<void> | undefined;
  return {
    async open(changed, context) {
      assert(session === undefined && closing === undefined, 'a discovery is opened once');
      checkOwnEndpoint(context);
      const interfaces = interfacesFor(settings.family, settings.interfaces, refuseMissing);
      const table = newAnnouncedNodes({
        expiryMs: settings.expiryMs,
        isSigned: settings.secrets.length > 0,
      });
      const report = (): void => changed(presentNodes(table));
      session = {
        context,
        report,
        table,
        sockets: undefined,
        timer: undefined,
        stamp: 0,
        isReportDue: false,
        isClosed: false,
      };
      await start(settings, session, counters, interfaces);
    },
    close() {
      closing ??= session === undefined ? Promise.resolve() : end(settings, session);
      return closing;
    },
    stats: () => ({ ...counters, refusedCounts: { ...counters.refusedCounts } }),
  };
}

async function start(
  settings: Settings,
  session: Session,
  counters: Counters,
  interfaces: readonly MulticastInterface[],
): Promise<void> {
  const { observer } = session.context;
  const sockets = await openMulticastSockets({
    ...settings,
    interfaces,
    isNamed: settings.interfaces !== undefined,
    received: (bytes, from) => receive(settings, session, counters, { bytes, from }),
    failed(where, error) {
      counters.socketFailureCount += 1;
      observer({ level: 'warn', name: 'discovery-socket-failed', fields: { where, error } });
    },
  });
  if (session.isClosed) {
    await sockets.close();
    return;
  }
  session.sockets = sockets;
  announce(settings, session, 'here');
  session.report();
  tick(settings, session);
}

async function end(settings: Settings, session: Session): Promise<void> {
  session.isClosed = true;
  session.timer?.cancel();
  if (session.sockets === undefined) return;
  announce(settings, session, 'goodbye');
  await session.sockets.close();
}

/** Announces this node again and again, and looks who has fallen silent. */
function tick(settings: Settings, session: Session): void {
  const { clock } = session.context;
  session.timer = clock.setTimer(settings.intervalMs, () => {
    // Interfaces come and go: a cable, a network that was not there at the start.
    session.sockets?.refresh(interfacesFor(settings.family, settings.interfaces, () => {}));
    announce(settings, session, 'here');
    // When this process was held up, what the others said meanwhile is heard before they are taken for gone.
    clock.defer(() => {
      if (session.isClosed) return;
      if (expire(session.table, now(session))) reportSoon(session);
      tick(settings, session);
    });
  });
}

/** At the opening a name that means nothing is taken for a mistake; later on the interface may come back. */
function refuseMissing(name: string, present: string): never {
  throw invalidOption(
    'interfaces',
    `names "${name}", and there is no such interface that is up; there are: ${present}`,
  );
}

function announce(settings: Settings, session: Session, kind: Announcement['kind']): void {
  const { nodeId, startId, endpoint } = session.context.self;
  const at = now(session);
  // A clock that was far ahead and was set right: what it has stamped was believed by nobody whose clock is right.
  const isBeyond = session.table.isSigned && session.stamp - at.wallMs > replayWindowMs;
  session.stamp = isBeyond ? at.wallMs : Math.max(at.wallMs, session.stamp + 1);
  const announcement = { kind, nodeId, startId, endpoint, stamp: session.stamp };
  // Heard here when it is said; what comes back from the network is a repetition.
  hear(session.table, announcement, at);
  session.sockets?.send(encodeAnnouncement(settings, announcement));
}

function receive(
  settings: Settings,
  session: Session,
  counters: Counters,
  datagram: { readonly bytes: Uint8Array; readonly from: string },
): void {
  if (session.isClosed) return;
  counters.receivedCount += 1;
  const announcement = decodeAnnouncement(settings, datagram.bytes);
  if (typeof announcement === 'string') {
    refuse(session, counters, announcement, datagram.from);
    return;
  }
  // Nobody but this process speaks in its name: its own words come back, or somebody repeats them.
  if (announcement.startId === session.context.self.startId) {
    counters.refusedCounts.repeated += 1;
    return;
  }
  const heard = hear(session.table, announcement, now(session));
  if (heard.outcome === 'changed') reportSoon(session);
  else if (heard.outcome !== 'same') refuse(session, counters, heard.outcome, datagram.from);
  if (heard.outcome === 'taken' && heard.conflict !== undefined) {
    reportConflict(session, heard.conflict);
  }
}

function refuse(
  { context }: Session,
  { refusedCounts }: Counters,
  reason: MulticastRefusal,
  from: string,
): void {
  refusedCounts[reason] += 1;
  if (refusedCounts[reason] > 1 || !notableRefusals.has(reason)) return;
  const fields = { reason, from };
  context.observer({ level: 'warn', name: 'announcement-refused', fields });
}

function reportConflict({ context }: Session, conflict: Conflict): void {
  context.observer({ level: 'error', name: 'node-id-claimed-twice', fields: { ...conflict } });
}

/** A flood of announcements makes one report. */
function reportSoon(session: Session): void {
  if (session.isReportDue) return;
  session.isReportDue = true;
  session.context.clock.defer(() => {
    session.isReportDue = false;
    if (!session.isClosed) session.report();
  });
}

function now({ context }: Session): NowMs {
  return { monotonicMs: context.clock.monotonicMs(), wallMs: context.clock.wallMs() };
}

/** Options with every default filled in. @throws INVALID_OPTION */
export function checkedMulticastOptions(options: MulticastOptions): Settings {
  const known = ['group', 'port', 'cluster', 'interfaces', 'secrets', 'intervalMs', 'expiryMs'];
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      throw invalidOption(name, `is no option; the options are ${known.join(', ')}`);
    }
  }
  const { group = '239.0.0.222', cluster = 'kommander', interfaces, secrets = [] } = options;
  if (typeof group !== 'string' || !isMulticastAddress(group)) {
    throw invalidOption('group', `is ${group}; it is an address of 224.0.0.0/4 or ff00::/8`);
  }
  if (typeof cluster !== 'string' || !isNodeId(cluster)) {
    throw invalidOption('cluster', `is "${cluster}"; it is ${nodeIdRule}`);
  }
  checkTexts('interfaces', interfaces, { count: [1, 64], length: [1, 64] });
  checkTexts('secrets', secrets, { count: [0, 2], length: [16, 1_024] });
  const intervalMs = checkNumber(options, 'intervalMs', { min: 20, max: 60_000, byDefault: 1_000 });
  return {
    group,
    port: checkNumber(options, 'port', { min: 1, max: 65_535, byDefault: 1_900 }),
    family: isIPv4(group) ? 4 : 6,
    cluster,
    interfaces: interfaces === undefined ? undefined : [...interfaces],
    secrets: [...secrets],
    intervalMs,
    expiryMs: checkNumber(options, 'expiryMs', {
      min: 3 * intervalMs,
      max: 600_000,
      byDefault: Math.max(5_000, 5 * intervalMs),
    }),
  };
}

function isMulticastAddress(group: string): boolean {
  if (isIP(group) === 0) return false;
  if (!isIPv4(group)) return group.toLowerCase().startsWith('ff');
  const first = Number(group.split('.')[0]);
  return first >= 224 && first <= 239;
}

/** What is secret is not in the message. */
function checkTexts(
  option: string,
  texts: readonly string[] | undefined,
  bounds: { readonly count: readonly [number, number]; readonly length: readonly [number, number] },
): void {
  if (texts === undefined) return;
  const isWithin = (value: number, [least, most]: readonly [number, number]): boolean =>
    value >= least && value <= most;
  const isText = (text: unknown): boolean =>
    typeof text === 'string' && isWithin(text.length, bounds.length);
  if (Array.isArray(texts) && isWithin(texts.length, bounds.count) && texts.every(isText)) return;
  const [count, length] = [bounds.count.join(' to '), bounds.length.join(' to ')];
  throw invalidOption(
    option,
    `is not valid: a list of ${count} texts of ${length} characters each`,
  );
}

function checkNumber(
  options: MulticastOptions,
  name: 'port' | 'intervalMs' | 'expiryMs',
  {
    min,
    max,
    byDefault,
  }: { readonly min: number; readonly max: number; readonly byDefault: number },
): number {
  const value = options[name] ?? byDefault;
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw invalidOption(name, `is ${value}; it lies between ${min} and ${max}`);
}

function invalidOption(option: string, what: string): KommanderError {
  return new KommanderError(`option ${option} ${what}`, {
    code: 'INVALID_OPTION',
    details: { option },
  });
}
