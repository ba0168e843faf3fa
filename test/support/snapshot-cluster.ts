// Clusters whose snapshots a test watches: a machine whose state is as many pieces as it is told, and what of them is sent.

import assert from 'node:assert/strict';
import type { NodeOptions } from '../../src/host/api.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import type { SnapshotPieceItem } from '../../src/ports/transport.ts';
import { type NodeCluster, nodeCluster, testSettings, text } from './node-cluster.ts';

export const pieceBytes = 262_144;

/** Counts entries; its state is that count, and as many pieces of one byte value. */
export interface Counting extends StateMachine {
  count: number;
  restoreCount: number;
  /** Called before every piece that it gives. */
  beforePiece: (number: number) => Promise<void>;
}

export function counting(pieces: number, over: Partial<StateMachine> = {}): Counting {
  const machine: Counting = {
    count: 0,
    restoreCount: 0,
    beforePiece: async () => {},
    apply(entries) {
      machine.count += entries.length;
      return entries.map(() => machine.count);
    },
    async *snapshot() {
      const { count } = machine;
      for (let i = 0; i < pieces; i++) {
        await machine.beforePiece(i);
        yield new Uint8Array(pieceBytes).fill(count);
      }
    },
    async restore(data) {
      let bytes = 0;
      for await (const piece of data) {
        bytes += piece.byteLength;
        machine.count = piece[0] ?? 0;
        assert.ok(
          piece.every((byte) => byte === machine.count),
          'all pieces are of one state',
        );
      }
      assert.equal(bytes, pieces * pieceBytes);
      machine.restoreCount += 1;
    },
    ...over,
  };
  return machine;
}

export interface Watched {
  readonly cluster: NodeCluster;
  /** The machines of the nodes' present lives. */
  readonly machines: Map<string, Counting>;
  /** What arrived or was lost, counted. */
  readonly seen: { announced: number; pieces: number };
  /** Pieces by the node that sent them. */
  readonly piecesFrom: Map<string, number>;
  readonly sent: readonly SnapshotPieceItem[];
}

export function watched(
  pieces: number,
  settings: Partial<NodeOptions> = {},
  over: Partial<StateMachine> = {},
): Watched {
  const machines = new Map<string, Counting>();
  const cluster = nodeCluster({
    settings: { trailingEntries: 0, ...settings },
    machine(nodeId) {
      const machine = counting(pieces, over);
      machines.set(nodeId, machine);
      return machine;
    },
  });
  const seen = { announced: 0, pieces: 0 };
  const piecesFrom = new Map<string, number>();
  const sent: SnapshotPieceItem[] = [];
  cluster.network.dropWhen(({ from, frame }) => {
    for (const item of frame.items) {
      if (item.kind === 'snapshotPiece') {
        seen.pieces += 1;
        sent.push(item);
        piecesFrom.set(from, (piecesFrom.get(from) ?? 0) + 1);
      }
      if (item.kind === 'raft' && item.message.type === 'installSnapshot') seen.announced += 1;
    }
    return false;
  });
  return { cluster, machines, seen, piecesFrom, sent };
}

/** Node a leads, and c lacks entries that are compacted. */
export async function leaveBehind(cluster: NodeCluster): Promise<void> {
  await cluster.makeLeader('a');
  await cluster.crash('c');
  for (let i = 0; i < 3; i++) await write(cluster, 'a');
  await cluster.drive(cluster.node('a').checkpoint(1));
  await write(cluster, 'a');
  await cluster.until(
    () => ['a', 'b'].every((nodeId) => compacted(cluster, nodeId) > 0),
    'the checkpoint is stored',
  );
}

export function write(cluster: NodeCluster, nodeId: string): Promise<unknown> {
  return cluster.drive(cluster.node(nodeId).replicate(1, 'put', text('x')));
}

export function compacted(cluster: NodeCluster, nodeId: string): number {
  return cluster.node(nodeId).status().partitions[1]?.compactedIndex ?? 0;
}

/** Whether a node reported it, in any of its lives. */
export function reported(cluster: NodeCluster, nodeId: string, name: string): boolean {
  return cluster.seat(nodeId).observed.some((event) => event.name === name);
}

/** The settings of a transfer that takes a while: four pieces a tick. */
export const slow = {
  snapshotBytesPerSecond: 4 * pieceBytes * (1_000 / testSettings.tickMs),
} as const;

/** Flips a bit in every stored snapshot of partition 1. */
export async function damage(
  cluster: NodeCluster,
  nodeId: string,
  position: number,
): Promise<void> {
  const { files } = cluster.seat(nodeId).disk;
  for (const { name } of await files.list()) {
    if (!name.startsWith('p1-')) continue;
    const file = await files.open(name, { create: false });
    const [byte = 0] = await file.read({ position, byteLength: 1 });
    await file.write([Uint8Array.of(byte ^ 1)], position);
    await file.sync();
  }
}

/** Lets a transfer come to half of it. */
export async function half({ cluster, seen }: Watched, pieces: number): Promise<void> {
  await cluster.open('c');
  await cluster.until(() => seen.pieces >= pieces / 2, 'half of it is sent');
  await cluster.run(5);
}

/** The files of partition 1. */
export async function storedNames(cluster: NodeCluster, nodeId: string): Promise<string[]> {
  const files = await cluster.drive(cluster.seat(nodeId).disk.files.list());
  return files.map(({ name }) => name).filter((name) => name.startsWith('p1-'));
}
