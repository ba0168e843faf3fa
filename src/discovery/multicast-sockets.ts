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
  /** Resolves when what was sent is on its way and the port is free. */
  close(): Promise<void>;
}

export interface MulticastSocketOptions {
  readonly group: string;
  readonly port: number;
  readonly family: 4 | 6;
  readonly interfaces: readonly MulticastInterface[];
  /** Takes a datagram. Its bytes are the receiver's. */
  readonly received: (bytes: Uint8Array, from: string) => void;
  /** A socket failed, at an interface or when it hears. The others go on. */
  readonly failed: (where: string, error: Error) => void;
}

/** Datagrams per interface that are on their way to the system; more are not sent. */
const unsentMax = 16;

/**
 * The interfaces that `named` means, each by its name or one of its addresses; all that can take part when it is undefined.
 *
 * @throws INVALID_OPTION there is no such interface; the message lists those that there are
 */
export function interfacesFor(
  family: 4 | 6,
  named: readonly string[] | undefined,
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
  const chosen = named?.map((wanted) => {
    const found = present.find(({ name, text }) => name === wanted || text === wanted);
    if (found !== undefined) return found;
    const list = present.map(({ name, text }) => `${name} (${text})`).join(', ') || 'none';
    throw new KommanderError(
      `option interfaces: "${wanted.slice(0, 64)}" is no interface with IPv${family}; there are: ${list}`,
      { code: 'INVALID_OPTION', details: { option: 'interfaces', value: wanted.slice(0, 64) } },
    );
  });
  // The loopback interface has no way to IPv6 groups.
  const usable = present.filter(({ isInternal }) => family === 4 || !isInternal);
  const byName = new Map<string, MulticastInterface>();
  for (const { name, address } of chosen ?? usable) {
    if (!byName.has(name)) byName.set(name, { name, address });
  }
  return [...byName.values()];
}

/**
 * Joins the group and makes ready to send. Of interfaces that nobody named some may not be able to.
 *
 * @param isNamed the interfaces were named one by one: each must take part
 * @throws DISCOVERY_FAILED the port cannot be bound, a named interface cannot join, or none can
 */
export async function openMulticastSockets(
  options: MulticastSocketOptions,
  isNamed: boolean,
): Promise<MulticastSockets> {
  const { group, port, family, interfaces, failed } = options;
  const speakers: Speaker[] = [];
  const listener = await boundSocket(family, { port, isShared: true });
  listener.on('error', (error) => failed('listener', error));
  try {
    const problems: unknown[] = [];
    for (const each of interfaces) {
      const speaker = await tryJoin(listener, options, each, problems);
      if (speaker !== undefined) speakers.push(speaker);
    }
    const [problem] = problems;
    if (speakers.length === 0 || (isNamed && problem !== undefined)) throw problem;
  } catch (error) {
    await Promise.all([listener, ...speakers.map(({ socket }) => socket)].map(closed));
    const names = interfaces.map(({ name, address }) => `${name} (${address})`).join(', ');
    throw discoveryFailed(`the group ${group} cannot be joined on ${names || 'any interface'}`, error);
  }
  listener.on('message', (bytes, { address }) => options.received(bytes, address));
  return {
    send(bytes) {
      for (const speaker of speakers) speak(speaker, bytes, options);
    },
    async close() {
      await Promise.all(speakers.map(drained));
      await Promise.all([listener, ...speakers.map(({ socket }) => socket)].map(closed));
    },
  };
}

interface Speaker {
  readonly name: string;
  readonly socket: Socket;
  /** The group; with the interface where the address alone does not say it (IPv6). */
  readonly destination: string;
  unsentCount: number;
  /** The last datagram could not be sent: told once, until one can. */
  isFailing: boolean;
  onDrained: (() => void) | undefined;
}

/** Joins on one interface. @returns undefined when that does not go; the reason is added to `problems` */
async function tryJoin(
  listener: Socket,
  { group, family, failed }: MulticastSocketOptions,
  { name, address }: MulticastInterface,
  problems: unknown[],
): Promise<Speaker | undefined> {
  const socket = await boundSocket(family, { port: 0, isShared: false });
  socket.on('error', (error) => failed(name, error));
  try {
    listener.addMembership(group, address);
    socket.setMulticastInterface(address);
    // Others on this machine hear it too; routers do not pass it on.
    socket.setMulticastLoopback(true);
    socket.setMulticastTTL(1);
    const destination = family === 4 ? group : `${group}%${name}`;
    return { name, socket, destination, unsentCount: 0, isFailing: false, onDrained: undefined };
  } catch (error) {
    problems.push(error);
    await closed(socket);
    return undefined;
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
