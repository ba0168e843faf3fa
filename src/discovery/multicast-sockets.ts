// The sockets of multicast discovery: one that hears the group on every interface, and one per interface that speaks to
// it. Interfaces are named when they join: without a default route, as in a network namespace, the system finds none.

import { createSocket, type Socket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import { KommanderError } from '../base/errors.ts';

/** An interface that takes part. */
export interface MulticastInterface {
  /** What the system calls it. */
  readonly name: string;
  /** What a socket calls it: its IPv4 address, or `::%name`. */
  readonly address: string;
}

export interface MulticastSockets {
  /** Sends to the group on every interface. */
  send(bytes: Uint8Array): void;
  /** Joins on interfaces that came, and lets go of those that went. Does nothing while the last time is not over. */
  refresh(interfaces: readonly MulticastInterface[]): void;
  /** Resolves when what was sent is on its way and the port is free. */
  close(): Promise<void>;
}

export interface MulticastSocketOptions {
  readonly group: string;
  readonly port: number;
  readonly family: 4 | 6;
  /** Those that are there at the opening. */
  readonly interfaces: readonly MulticastInterface[];
  /** They were named one by one: each must take part. */
  readonly isNamed: boolean;
  /** Takes a datagram. Its bytes are the receiver's. */
  readonly received: (bytes: Uint8Array, from: string) => void;
  /** A socket failed, at an interface or when it hears. The others go on. */
  readonly failed: (where: string, error: Error) => void;
}

/** Interfaces that are spoken on. */
const interfacesMax = 64;
/** Datagrams per interface that are on their way to the system; more are not sent. */
const unsentMax = 16;

/**
 * The interfaces that `named` means and that are up, each by its name or one of its addresses; all that can take part when
 * it is undefined.
 *
 * @param missing is told which of those that were named are not there
 */
export function interfacesFor(
  family: 4 | 6,
  named: readonly string[] | undefined,
  missing: (name: string, present: string) => void,
): MulticastInterface[] {
  const present = Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
    addresses
      .filter((each) => each.family === `IPv${family}`)
      .map((each) => ({
        name,
        text: each.address,
        isInternal: each.internal,
        address: family === 4 ? each.address : `::%${name}`,
      })),
  );
  const chosen = named?.flatMap((wanted) => {
    const found = present.find(({ name, text }) => name === wanted || text === wanted);
    if (found !== undefined) return [found];
    missing(wanted, present.map(({ name, text }) => `${name} (${text})`).join(', ') || 'none');
    return [];
  });
  // The loopback interface has no way to IPv6 groups.
  const usable = present.filter(({ isInternal }) => family === 4 || !isInternal);
  const byName = new Map<string, MulticastInterface>();
  for (const { name, address } of chosen ?? usable) {
    if (!byName.has(name)) byName.set(name, { name, address });
  }
  return [...byName.values()].slice(0, interfacesMax);
}

/**
 * Joins the group and makes ready to send.
 *
 * @throws DISCOVERY_FAILED the port cannot be bound, a named interface cannot join, or none can
 */
export async function openMulticastSockets(
  options: MulticastSocketOptions,
): Promise<MulticastSockets> {
  const { group, port, family, failed } = options;
  const listener = await boundSocket(family, { port, isShared: true });
  listener.on('error', (error) => failed('listener', error));
  const state: SocketsState = { options, listener, speakers: new Map(), unjoined: new Set() };
  let refreshing: Promise<void> | undefined;
  let isClosed = false;
  const close = async (): Promise<void> => {
    isClosed = true;
    await refreshing;
    const speakers = [...state.speakers.values()];
    await Promise.all(speakers.map(drained));
    await Promise.all([listener, ...speakers.map(({ socket }) => socket)].map(closed));
  };
  const problems = await joinAll(state, options.interfaces);
  const [problem] = problems.values();
  if (state.speakers.size === 0 || (options.isNamed && problem !== undefined)) {
    await close();
    const names = options.interfaces.map(({ name, address }) => `${name} (${address})`).join(', ');
    throw discoveryFailed(
      `the group ${group} cannot be joined on ${names || 'any interface'}`,
      problem,
    );
  }
  listener.on('message', (bytes, { address }) => options.received(bytes, address));
  return {
    send(bytes) {
      for (const speaker of state.speakers.values()) speak(speaker, bytes, options);
    },
    refresh(interfaces) {
      if (refreshing !== undefined || isClosed) return;
      refreshing = refresh(state, interfaces).finally(() => {
        refreshing = undefined;
      });
    },
    close,
  };
}

interface SocketsState {
  readonly options: MulticastSocketOptions;
  readonly listener: Socket;
  /** By the interface's name and address. */
  readonly speakers: Map<string, Speaker>;
  /** Where the last attempt to join has failed. */
  unjoined: ReadonlySet<string>;
}

interface Speaker {
  readonly name: string;
  /** What the listener joined with. */
  readonly address: string;
  readonly socket: Socket;
  /** The group; with the interface where the address alone does not say it (IPv6). */
  readonly destination: string;
  unsentCount: number;
  /** The last datagram could not be sent: told once, until one can. */
  isFailing: boolean;
  onDrained: (() => void) | undefined;
}

async function refresh(
  state: SocketsState,
  interfaces: readonly MulticastInterface[],
): Promise<void> {
  const before = state.unjoined;
  const present = new Set(interfaces.map(keyOf));
  for (const [key, speaker] of state.speakers) {
    if (present.has(key)) continue;
    state.speakers.delete(key);
    leave(state, speaker);
    await closed(speaker.socket);
  }
  for (const [key, problem] of await joinAll(state, interfaces)) {
    if (!before.has(key)) state.options.failed(key, problem);
  }
}

/** Joins where it has not joined yet. @returns where it could not, and why */
async function joinAll(
  state: SocketsState,
  interfaces: readonly MulticastInterface[],
): Promise<ReadonlyMap<string, Error>> {
  const problems = new Map<string, Error>();
  for (const each of interfaces) {
    if (state.speakers.has(keyOf(each))) continue;
    try {
      state.speakers.set(keyOf(each), await join(state, each));
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      problems.set(keyOf(each), error);
    }
  }
  state.unjoined = new Set(problems.keys());
  return problems;
}

function keyOf({ name, address }: MulticastInterface): string {
  return `${name} ${address}`;
}

async function join(
  { options, listener }: SocketsState,
  { name, address }: MulticastInterface,
): Promise<Speaker> {
  const { group, family, failed } = options;
  const socket = await boundSocket(family, { port: 0, isShared: false });
  socket.on('error', (error) => failed(name, error));
  try {
    listener.addMembership(group, address);
    socket.setMulticastInterface(address);
    // Others on this machine hear it too; routers do not pass it on.
    socket.setMulticastLoopback(true);
    socket.setMulticastTTL(1);
  } catch (error) {
    await closed(socket);
    throw error;
  }
  const destination = family === 4 ? group : `${group}%${name}`;
  return {
    name,
    address,
    socket,
    destination,
    unsentCount: 0,
    isFailing: false,
    onDrained: undefined,
  };
}

/** An interface that is gone has taken its membership along; one that is only unplugged has not. */
function leave({ options, listener }: SocketsState, { address }: Speaker): void {
  try {
    listener.dropMembership(options.group, address);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error;
  }
}

function speak(
  speaker: Speaker,
  bytes: Uint8Array,
  { port, failed }: MulticastSocketOptions,
): void {
  if (speaker.unsentCount >= unsentMax) return;
  speaker.unsentCount += 1;
  speaker.socket.send(bytes, port, speaker.destination, (error) => {
    speaker.unsentCount -= 1;
    if (error !== null && !speaker.isFailing) failed(speaker.name, error);
    speaker.isFailing = error !== null;
    if (speaker.unsentCount === 0) speaker.onDrained?.();
  });
}

function drained(speaker: Speaker): Promise<void> {
  if (speaker.unsentCount === 0) return Promise.resolve();
  return new Promise((resolve) => {
    speaker.onDrained = resolve;
  });
}

/** @param isShared other processes of this machine may bind the port too */
function boundSocket(
  family: 4 | 6,
  { port, isShared }: { readonly port: number; readonly isShared: boolean },
): Promise<Socket> {
  const isIpv6 = family === 6;
  const socket = createSocket({
    type: isIpv6 ? 'udp6' : 'udp4',
    reuseAddr: isShared,
    ipv6Only: isIpv6,
  });
  return new Promise((resolve, reject) => {
    const refused = (error: Error): void => {
      socket.close();
      reject(discoveryFailed(`UDP port ${port} cannot be bound`, error));
    };
    socket.once('error', refused);
    socket.bind({ port, address: isIpv6 ? '::' : '0.0.0.0' }, () => {
      socket.off('error', refused);
      resolve(socket);
    });
  });
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.close(resolve);
  });
}

function discoveryFailed(what: string, cause: unknown): KommanderError {
  const reason = cause instanceof Error ? `: ${cause.message}` : '';
  return new KommanderError(
    `multicast: ${what}${reason}; name interfaces that can, or use another group or port`,
    { code: 'DISCOVERY_FAILED', cause },
  );
}
