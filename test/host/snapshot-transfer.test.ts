// The way of a snapshot from the leader to a replica that is far behind: how long it may take, what breaks it off, and
// how soon it begins again.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeOptions } from '../../src/host/api.ts';
import { encodeDescriptor } from '../../src/host/snapshot-descriptor.ts';
import type { Frame, Transport, TransportContext } from '../../src/ports/transport.ts';
import { emptyConfState } from '../../src/raft/types.ts';
import {
  electionMs,
  type NodeCluster,
  nodeCluster,
  testSettings,
  text,
} from '../support/node-cluster.ts';

const pieceBytes = 262_144;
/** As the host has it: a snapshot without an answer is given up after so many election timeouts. */
const patienceElectionTimeouts = 15;

interface Counted {
  announced: number;
  pieces: number;
  restored: number;
}

/** A cluster whose snapshots have `pieces` pieces, and what is seen of them. */
function counting(
  pieces: number,
  settings: Partial<NodeOptions> = {},
): { readonly cluster: NodeCluster; readonly counted: Counted } {
  const counted = { announced: 0, pieces: 0, restored: 0 };
  const data = new Uint8Array(pieces * pieceBytes);
  const cluster = nodeCluster({
    settings: { trailingEntries: 0, ...settings },
    machine: () => ({
      apply: () => undefined,
      snapshot: () => data,
      restore() {
        counted.restored += 1;
      },
    }),
  });
  return { cluster, counted };
}

/** Node a leads, and c lacks entries that are compacted. */
async function leaveBehind(cluster: NodeCluster): Promise<void> {
  await cluster.makeLeader('a');
  await cluster.crash('c');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('y')));
}

function count(counted: Counted, frame: Frame): void {
  for (const item of frame.items) {
    if (item.kind === 'snapshotPiece') counted.pieces += 1;
    if (item.kind === 'raft' && item.message.type === 'installSnapshot') counted.announced += 1;
  }
}

test('a snapshot that takes longer than the patience of the core arrives, at once', async () => {
  const electionTicks = 3;
  const patienceTicks = electionTicks * patienceElectionTimeouts;
  const pieces = patienceTicks + 15;
  const { cluster, counted } = counting(pieces, { electionTicks });
  await using _ = cluster;
  // A slow line takes one piece per tick.
  const inner = cluster.network.transport();
  let nextPieceMs = 0;
  const transport: Transport = {
    ...inner,
    send(peer, lane, frame) {
      const isPiece = frame.items.some((item) => item.kind === 'snapshotPiece');
      const nowMs = cluster.time.monotonicMs();
      if (isPiece && nowMs < nextPieceMs) return false;
      if (isPiece) nextPieceMs = nowMs + testSettings.tickMs;
      return inner.send(peer, lane, frame);
    },
  };
  await Promise.all([cluster.open('a', { transport }), cluster.open('b'), cluster.open('c')]);
  await leaveBehind(cluster);
  cluster.network.dropWhen(({ frame }) => {
    count(counted, frame);
    return false;
  });
  await cluster.open('c');
  const fromMs = cluster.time.monotonicMs();
  await cluster.until(() => counted.restored === 1, 'the snapshot is there', 5_000);
  const ticks = (cluster.time.monotonicMs() - fromMs) / testSettings.tickMs;
  assert.ok(ticks > patienceTicks, `${ticks} ticks`);
  assert.deepEqual(counted, { announced: 1, pieces, restored: 1 });
});

test('a deposed leader that announces a snapshot does not break off the one of the present leader', async () => {
  const { cluster, counted } = counting(60);
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  const inner = cluster.network.transport();
  let answers = 0;
  let isStaleSent = false;
  const sendStale = (context: TransportContext, timestamp: number): void => {
    isStaleSent = true;
    const snapshot = {
      index: 1_000,
      term: 1,
      confState: { ...emptyConfState, voters: [1, 2, 3] },
      data: encodeDescriptor({
        stored: { name: 'stale', byteLength: 8, checksum: 1 },
        clock: 1,
        machineIndex: 1_000,
        parts: [{ name: 'machine', byteLength: 8 }],
      }),
    };
    const message = { type: 'installSnapshot' as const, from: 2, to: 3, term: 0, snapshot };
    const items = [{ kind: 'raft' as const, partitionId: 1, message }];
    context.receive('b', 'bulk', { timestamp, items });
  };
  const transport: Transport = {
    ...inner,
    open: (context) =>
      inner.open({
        ...context,
        receive(from, lane, frame) {
          context.receive(from, lane, frame);
          count(counted, frame);
          if (counted.pieces === 20 && !isStaleSent) sendStale(context, frame.timestamp);
        },
      }),
    send(peer, lane, frame) {
      for (const item of frame.items) {
        const isAnswer = item.kind === 'raft' && item.message.type === 'appendEntriesResponse';
        if (isAnswer && item.partitionId === 1 && peer === 'b') answers += 1;
      }
      return inner.send(peer, lane, frame);
    },
  };
  await cluster.open('c', { transport });
  await cluster.converge();
  assert.ok(isStaleSent, 'the other leader spoke');
  assert.deepEqual(counted, { announced: 1, pieces: 60, restored: 1 });
  assert.equal(answers, 1, 'the deposed leader hears of the present term');
});

test('a lost piece is sent again at once: the leader does not wait until its patience is over', async () => {
  const { cluster, counted } = counting(40);
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  cluster.network.dropWhen(({ frame }) => {
    const before = counted.pieces;
    count(counted, frame);
    return before < 5 && counted.pieces >= 5;
  });
  await cluster.open('c');
  await cluster.until(() => counted.restored === 1, 'the snapshot is there', 3 * electionMs);
  assert.equal(counted.announced, 1);
  assert.ok(counted.pieces <= 40 + 5, `${counted.pieces} pieces for one that was lost`);
  await cluster.converge();
});

test('a snapshot takes the place of a longer log that nobody committed, on disk too', async () => {
  await using cluster = nodeCluster({ settings: { trailingEntries: 0, proposalTimeoutMs: 100 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.isolate(['a']);
  const lost = Array.from({ length: 20 }, (_, i) =>
    cluster.driveFailure(cluster.node('a').replicate(1, 'put', text(`lost ${i}`))),
  );
  await Promise.all(lost);
  const isLed = (nodeId: string): boolean => cluster.node(nodeId).isLeader(1);
  await cluster.until(() => ['b', 'c'].some(isLed), 'another node leads');
  const leader = cluster.node(isLed('b') ? 'b' : 'c');
  const { index } = await cluster.drive(leader.replicate(1, 'put', text('kept')));
  await cluster.drive(leader.checkpoint(1));
  await cluster.time.settle();
  const longer = cluster.node('a').status().partitions[1]?.lastIndex ?? 0;
  assert.ok(longer > index + 5, `a has ${longer} entries, the snapshot about ${index}`);
  cluster.network.heal();
  await cluster.converge();
  assert.equal(cluster.journal('a').restoreCount, 1);
  await cluster.restart('a');
  await cluster.leader();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('after')));
  await cluster.converge();
  for (const nodeId of cluster.nodeIds) {
    assert.deepEqual(
      cluster.journal(nodeId).entries.map((entry) => entry.text),
      ['kept', 'after'],
    );
  }
});
