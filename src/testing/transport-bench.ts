// What tests of transports need: nodes that remember what they received and were told, and that wait for it without
// timing anything. It decides nothing about what is right; the contract does.

import type { Clock } from '../ports/clock.ts';
import type { ObservedEvent } from '../ports/observer.ts';
import {
  type Endpoint,
  type Frame,
  Lane,
  type NodeId,
  type NodeIdentity,
  type Transport,
} from '../ports/transport.ts';
import { drawNonce } from '../time/seed.ts';
import { numberedFrame } from './sample-frames.ts';

/** Transports to try out, all of one network. */
export interface TransportSubject {
  /** Makes a transport that is not yet opened. */
  readonly make: () => Transport;
  /** Where each of them listens: an endpoint with port 0. */
  readonly listen: Endpoint;
  readonly clock: Clock;
  /** Bytes that may wait for one peer and lane: at least 2 MiB. */
  readonly outboxBytesMax: number;
  /** Releases what the factory made. Runs after all transports were closed. */
  dispose?(): Promise<void>;
}

/** One open transport and everything that it told. */
export interface BenchNode {
  readonly transport: Transport;
  readonly endpoint: Endpoint;
  readonly received: { readonly from: NodeId; readonly lane: Lane; readonly frame: Frame }[];
  readonly reachability: { readonly peer: NodeId; readonly isReachable: boolean }[];
  /** Peers that did not accept it, and why. */
  readonly refusedBy: { readonly peer: NodeId; readonly code: string }[];
  readonly events: ObservedEvent[];
  frames(from: NodeId, lane: Lane): Frame[];
  items(): Frame['items'];
  refusals(code: string): ObservedEvent[];
  /** Resolves when `condition` holds; it is asked whenever the transport has told something. */
  until(condition: () => boolean): Promise<void>;
}

/** Who the node is to be; what is absent is the same for all. */
export interface NodeWish extends Partial<NodeIdentity> {
  readonly nodeId: NodeId;
  readonly listen?: Endpoint;
}

/** Transports of one network under test, opened with listeners that remember. */
export interface TransportBench {
  readonly outboxBytesMax: number;
  make(): Transport;
  node(wish: NodeWish): Promise<BenchNode>;
  /** Opens a transport that `make` made. */
  open(transport: Transport, wish: NodeWish): Promise<BenchNode>;
  /** Two nodes that reach each other. */
  connected(first: NodeId, second: NodeId): Promise<readonly [BenchNode, BenchNode]>;
  /** Lets what is waiting happen. */
  turn(): Promise<void>;
  /** Resolves when both lanes to `peer` drop what is sent: they can learn of a loss one after the other. */
  untilDropped(node: BenchNode, peer: NodeId): Promise<void>;
  close(): Promise<void>;
}

/** Makes a bench; `close` closes every transport that it made. */
export function transportBench(subject: TransportSubject): TransportBench {
  const opened: Transport[] = [];
  const bench: TransportBench = {
    outboxBytesMax: subject.outboxBytesMax,
    make() {
      const transport = subject.make();
      opened.push(transport);
      return transport;
    },
    node: (wish) => bench.open(bench.make(), wish),
    open: (transport, wish) => openBenchNode(subject, transport, wish),
    async connected(first, second) {
      const a = await bench.node({ nodeId: first });
      const b = await bench.node({ nodeId: second });
      a.transport.setPeer(second, b.endpoint);
      b.transport.setPeer(first, a.endpoint);
      await a.until(() => a.reachability.at(-1)?.isReachable === true);
      await b.until(() => b.reachability.at(-1)?.isReachable === true);
      // Some transports learn first that a peer is not there yet; tests look at what comes after.
      a.reachability.splice(0, a.reachability.length - 1);
      b.reachability.splice(0, b.reachability.length - 1);
      return [a, b];
    },
    turn: () => new Promise((resolve) => subject.clock.defer(resolve)),
    async untilDropped(node, peer) {
      for (const lane of Object.values(Lane))
        while (node.transport.send(peer, lane, numberedFrame(1))) await bench.turn();
    },
    async close() {
      await Promise.all(opened.map((transport) => transport.close()));
    },
  };
  return bench;
}

async function openBenchNode(
  subject: TransportSubject,
  transport: Transport,
  wish: NodeWish,
): Promise<BenchNode> {
  const { nodeId, clusterId = 'contract', incarnation = 1, listen = subject.listen } = wish;
  const refusedBy: BenchNode['refusedBy'] = [];
  const waiters = new Set<() => void>();
  const received: BenchNode['received'] = [];
  const reachability: BenchNode['reachability'] = [];
  const events: ObservedEvent[] = [];
  const tell = (): void => {
    for (const waiter of waiters) waiter();
  };
  const endpoint = await transport.open({
    identity: { clusterId, nodeId, incarnation, startId: drawNonce() },
    listen,
    clock: subject.clock,
    observer(event) {
      events.push(event);
      tell();
    },
    status: { statusJson: () => JSON.stringify({ nodeId }) },
    receive(from, lane, frame) {
      received.push({ from, lane, frame });
      tell();
    },
    reachable(peer, isReachable) {
      reachability.push({ peer, isReachable });
      tell();
    },
    refused(peer, { code }) {
      refusedBy.push({ peer, code });
      tell();
    },
  });
  return {
    transport,
    endpoint,
    received,
    reachability,
    refusedBy,
    events,
    frames: (from, lane) =>
      received.filter((one) => one.from === from && one.lane === lane).map(({ frame }) => frame),
    items: () => received.flatMap(({ frame }) => frame.items),
    refusals: (code) =>
      events.filter(({ name, fields }) => name === 'peer-refused' && fields.code === code),
    until: (condition) =>
      new Promise((resolve) => {
        const waiter = (): void => {
          if (!condition()) return;
          waiters.delete(waiter);
          resolve();
        };
        waiters.add(waiter);
        waiter();
      }),
  };
}
