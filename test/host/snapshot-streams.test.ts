// Snapshots as streams: what is applied while one is taken, where a broken transfer goes on, what damage does, how much of
// one is in memory or on its way, and what of them is on a disk at any moment.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import type { Transport } from '../../src/ports/transport.ts';
import { electionMs, type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';
import {
  compacted,
  counting,
  damage,
  half,
  leaveBehind,
  pieceBytes,
  reported,
  slow,
  storedNames,
  watched,
  write,
} from '../support/snapshot-cluster.ts';

for (const [how, over, goesOn] of [
  ['gives its state in pieces', {}, false],
  ['says that its pieces are of one moment', { concurrentSnapshots: true }, true],
] as const) {
  test(`while a machine that ${how} is asked, entries ${goesOn ? 'are' : 'are not'} applied`, async () => {
    const { cluster, machines } = watched(3, {}, over);
    await using _ = cluster;
    await cluster.openAll();
    await cluster.makeLeader('a');
    await write(cluster, 'a');
    const machine = machines.get('a');
    assert.ok(machine !== undefined);
    let givePiece = (): void => {};
    machine.beforePiece = async (number) => {
      if (number === 0) return;
      await new Promise<void>((resolve) => {
        givePiece = resolve;
      });
    };
    const checkpoint = cluster.node('a').checkpoint(1);
    const after = cluster.node('a').replicate(1, 'put', text('y'));
    await cluster.run(electionMs);
    assert.equal(machine.count, goesOn ? 2 : 1);
    machine.beforePiece = async () => {};
    givePiece();
    await cluster.drive(Promise.all([checkpoint, after]));
    await cluster.until(() => compacted(cluster, 'a') > 0, 'the checkpoint is stored');
    await cluster.restart('a');
    assert.equal(machines.get('a')?.restoreCount, 1);
    await cluster.leader();
    await cluster.until(() => machines.get('a')?.count === 2, 'a has both entries');
  });
}

test('bytes that are given as a whole are of one moment: entries are applied while they are stored', async () => {
  const state = new Uint8Array(pieceBytes * 40);
  let count = 0;
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { trailingEntries: 0 },
    machine: () => ({
      apply: (entries) => {
        count += entries.length;
      },
      snapshot: () => state,
      restore: () => {},
    }),
  });
  await cluster.openAll();
  await write(cluster, 'a');
  const { disk } = cluster.seat('a');
  const before = count;
  await cluster.drive(cluster.node('a').checkpoint(1));
  await write(cluster, 'a');
  assert.equal(count, before + 1);
  await cluster.until(() => compacted(cluster, 'a') > 0, 'the checkpoint is stored');
  assert.ok((await cluster.drive(disk.files.list())).length > 0);
});

test('a checkpoint that comes while a snapshot is taken is followed by another one', async () => {
  const { cluster, machines } = watched(2, {}, { concurrentSnapshots: true });
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  await write(cluster, 'a');
  const machine = machines.get('a');
  assert.ok(machine !== undefined);
  let askedCount = 0;
  const waiting: (() => void)[] = [];
  machine.beforePiece = async (number) => {
    if (number === 0) return;
    askedCount += 1;
    await new Promise<void>((resolve) => waiting.push(resolve));
  };
  await cluster.drive(cluster.node('a').checkpoint(1));
  await write(cluster, 'a');
  for (let i = 0; i < 3; i++) await cluster.drive(cluster.node('a').checkpoint(1));
  const { index } = (await write(cluster, 'a')) as { index: number };
  assert.equal(askedCount, 1, 'one at a time');
  machine.beforePiece = async () => {};
  for (const give of waiting) give();
  await cluster.until(() => compacted(cluster, 'a') === index, 'one for all that came meanwhile');
  await cluster.restart('a');
  assert.equal(machines.get('a')?.count, 3);
});

for (const [what, snapshot] of [
  ['a text', () => 'state'],
  ['nothing', () => undefined],
  ['pieces that are no bytes', () => ['state']],
  [
    'pieces and then an exception',
    function* () {
      yield new Uint8Array(1);
      throw new Error('out of memory');
    },
  ],
] as const) {
  test(`a machine that gives ${what} for its state stops its replica, and nothing is kept of it`, async () => {
    const over = { snapshot: snapshot as unknown as NonNullable<StateMachine['snapshot']> };
    const { cluster } = watched(1, {}, over);
    await using _ = cluster;
    await cluster.openAll();
    await cluster.makeLeader('a');
    await write(cluster, 'a');
    const error = await cluster.driveFailure(cluster.node('a').checkpoint(1));
    assert.equal(error.code, 'APPLY_FAILED');
    assert.match(error.message, /snapshot\(\)/);
    await cluster.run(electionMs);
    assert.deepEqual(await storedNames(cluster, 'a'), []);
  });
}

for (const state of ['full', 'failing'] as const) {
  test(`on a ${state} disk a checkpoint comes to nothing, and the replica goes on with its log`, async () => {
    const { cluster, machines } = watched(2);
    await using _ = cluster;
    await cluster.openAll();
    await cluster.makeLeader('a');
    await write(cluster, 'a');
    cluster.seat('a').disk.snapshotState = state;
    await cluster.drive(cluster.node('a').checkpoint(1));
    await write(cluster, 'a');
    assert.ok(reported(cluster, 'a', 'snapshot-not-stored'));
    assert.equal(compacted(cluster, 'a'), 0);
    assert.deepEqual(await storedNames(cluster, 'a'), []);
    cluster.seat('a').disk.snapshotState = 'good';
    await cluster.drive(cluster.node('a').checkpoint(1));
    await cluster.until(() => compacted(cluster, 'a') > 0, 'the next one is stored');
    await cluster.restart('a');
    assert.equal(machines.get('a')?.count, 2);
  });
}

test('a receiver whose disk is full gets the snapshot when there is room', async () => {
  const { cluster, machines } = watched(4);
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await cluster.open('c');
  cluster.seat('c').disk.snapshotState = 'full';
  await cluster.until(() => reported(cluster, 'c', 'snapshot-not-stored'), 'it does not fit');
  await cluster.run(20 * electionMs);
  assert.equal(machines.get('c')?.restoreCount, 0);
  await write(cluster, 'a');
  cluster.seat('c').disk.snapshotState = 'good';
  await cluster.converge();
  assert.equal(machines.get('c')?.restoreCount, 1);
});

test('a transfer goes on after a restart of the receiver with what is synced there', async () => {
  // Files are synced every 8 MiB.
  const pieces = 100;
  const all = watched(pieces, slow);
  await using cluster = all.cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await half(all, pieces);
  await cluster.restart('c');
  await cluster.converge();
  assert.equal(all.machines.get('c')?.restoreCount, 1);
  assert.ok(reported(cluster, 'c', 'snapshot-resumed'));
  assert.ok(all.seen.pieces < pieces + 40, `${all.seen.pieces} pieces`);
});

test('a transfer goes on after a restart of the leader with all that was received', async () => {
  const pieces = 60;
  const all = watched(pieces, slow);
  await using cluster = all.cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await half(all, pieces);
  await cluster.restart('a', { electionPriority: 3 });
  await cluster.until(() => ['a', 'b'].some((id) => cluster.node(id).isLeader(1)), 'one leads');
  await cluster.converge();
  assert.equal(all.machines.get('c')?.restoreCount, 1);
  assert.ok(all.seen.pieces <= pieces + 8, `${all.seen.pieces} pieces`);
});

test('another leader with the same bytes goes on, and one with other bytes begins anew', async () => {
  for (const isSame of [true, false]) {
    const pieces = 60;
    const all = watched(pieces, slow);
    await using cluster = all.cluster;
    await cluster.openAll();
    if (!isSame) {
      const machine = all.machines.get('b');
      assert.ok(machine !== undefined);
      // The same state in other bytes, as of a machine whose order is not that of the others.
      machine.snapshot = async function* () {
        for (let i = 0; i < pieces; i++) yield new Uint8Array(pieceBytes).fill(99);
      };
    }
    await leaveBehind(cluster);
    await half(all, pieces);
    await cluster.drive(cluster.node('a').transferLeadership(1, 'b'));
    await cluster.converge();
    assert.equal(all.machines.get('c')?.restoreCount, 1);
    const most = isSame ? pieces + 8 : 2 * pieces;
    assert.ok(all.seen.pieces <= most, `${all.seen.pieces} pieces of ${most}`);
    assert.ok(isSame || all.seen.pieces > pieces + 20, `${all.seen.pieces} pieces`);
    await cluster.crash('b');
    assert.equal(all.machines.get('c')?.count, isSame ? 4 : 100);
  }
});

test('a piece that is damaged on its way is asked for again', async () => {
  const pieces = 10;
  const { cluster, machines, seen } = watched(pieces);
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  const inner = cluster.network.transport();
  let damagedCount = 0;
  const transport: Transport = {
    ...inner,
    open: (context) =>
      inner.open({
        ...context,
        receive(from, lane, frame) {
          for (const item of frame.items) {
            if (item.kind !== 'snapshotPiece' || item.offset !== 3 * pieceBytes) continue;
            damagedCount += 1;
            if (damagedCount === 1) item.bytes[7] = 0xff;
          }
          context.receive(from, lane, frame);
        },
      }),
  };
  await cluster.open('c', { transport });
  await cluster.converge();
  assert.equal(damagedCount, 2);
  assert.equal(machines.get('c')?.restoreCount, 1);
  assert.ok(seen.pieces <= pieces + 5, `${seen.pieces} pieces`);
});

test('a leader whose stored snapshot is damaged sends none of it, and takes another one', async () => {
  const { cluster, machines } = watched(8);
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await damage(cluster, 'a', 5 * (pieceBytes + 8));
  await cluster.open('c');
  await cluster.converge();
  assert.ok(reported(cluster, 'a', 'snapshot-not-read'));
  assert.equal(machines.get('c')?.count, 4);
  await cluster.restart('a');
  assert.equal(machines.get('a')?.count, 4, 'what it took anew is its base');
});

for (const [what, harm] of [
  ['is missing', (cluster: NodeCluster) => removeAll(cluster)],
  ['has a damaged end', (cluster: NodeCluster) => damage(cluster, 'a', 8 + 2 * (pieceBytes + 8))],
  ['has a damaged middle', (cluster: NodeCluster) => damage(cluster, 'a', 400_000)],
] as const) {
  test(`a base whose snapshot ${what} is WAL_CORRUPT, never an empty state`, async () => {
    const { cluster } = watched(2);
    await using _ = cluster;
    await cluster.openAll();
    await cluster.makeLeader('a');
    await write(cluster, 'a');
    await cluster.drive(cluster.node('a').checkpoint(1));
    await cluster.until(() => compacted(cluster, 'a') > 0, 'the checkpoint is stored');
    await cluster.crash('a');
    await cluster.drive(harm(cluster));
    const error = await cluster.driveFailure(cluster.open('a'));
    assert.equal(error.code, 'WAL_CORRUPT');
    assert.match(error.message, /partition 1/);
  });
}

async function removeAll(cluster: NodeCluster): Promise<void> {
  const { files } = cluster.seat('a').disk;
  for (const { name } of await files.list()) await files.remove(name);
  await files.syncNames();
}

test('an older snapshot goes when the base that names the next one is durable, and not before', async () => {
  const { cluster } = watched(2);
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { disk } = cluster.seat('a');
  const checkpoint = async (): Promise<void> => {
    await write(cluster, 'a');
    await cluster.drive(cluster.node('a').checkpoint(1));
  };
  await checkpoint();
  await cluster.until(() => compacted(cluster, 'a') > 0, 'the first one is stored');
  await cluster.run(10);
  const [first] = await storedNames(cluster, 'a');
  assert.deepEqual(await storedNames(cluster, 'a'), [first]);
  // A slow disk, so that whatever is removed too early is gone by then.
  disk.latencyMs = 5;
  let whenDurable: Promise<readonly { readonly name: string }[]> | undefined;
  disk.beforeDurable = ({ writes }) => {
    if (writes.some(({ base }) => base !== undefined)) whenDurable = disk.files.list();
  };
  await checkpoint();
  await cluster.run(20);
  const both = (await whenDurable)?.filter(({ name }) => name.startsWith('p1-'));
  assert.equal(both?.length, 2, 'the node does not know yet that the base is durable');
  const [second, ...others] = await storedNames(cluster, 'a');
  assert.deepEqual(others, []);
  assert.notEqual(second, first);
});

test('a node opens with its state after a power loss at any moment of a checkpoint', async () => {
  for (let ms = 0; ms < 12; ms++) {
    const { cluster, machines } = watched(2);
    await using _ = cluster;
    await cluster.openAll();
    await cluster.makeLeader('a');
    for (let i = 0; i < 2; i++) {
      await write(cluster, 'a');
      await cluster.drive(cluster.node('a').checkpoint(1));
    }
    const { disk } = cluster.seat('a');
    await cluster.run(10);
    await write(cluster, 'a');
    disk.latencyMs = 1;
    const waiting = cluster.node('a').checkpoint(1);
    waiting.catch(() => {});
    await cluster.run(ms);
    await cluster.restart('a');
    await cluster.leader();
    await cluster.until(() => machines.get('a')?.count === 3, `all entries, crash after ${ms} ms`);
    await cluster.run(20);
    const names = await storedNames(cluster, 'a');
    assert.equal(names.length, 1, `${names.join(', ')} after a crash after ${ms} ms`);
  }
});

test('what was begun and not finished is removed at a start, except what a sender can go on with', async () => {
  const all = watched(60, slow);
  await using cluster = all.cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await half(all, 60);
  const { files } = cluster.seat('c').disk;
  for (const name of ['p1-i9-t1-own.draft', 'p1-i9-t1-own.snapshot', 'p7-i9-b1-c1.draft']) {
    await files.open(name, { create: true });
  }
  await files.syncNames();
  await cluster.crash('c');
  const received = (await storedNames(cluster, 'c')).find((name) => name.includes('-b'));
  await cluster.crash('a');
  await cluster.open('c');
  assert.deepEqual(await storedNames(cluster, 'c'), [received]);
  assert.ok((await files.list()).every(({ name }) => !name.startsWith('p7')));
});

test('a checkpoint during a transfer keeps what the receiver will need behind the snapshot', async () => {
  const pieces = 40;
  const all = watched(pieces, slow);
  await using cluster = all.cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await half(all, pieces);
  for (let i = 0; i < 3; i++) {
    await write(cluster, 'a');
    await cluster.drive(cluster.node('a').checkpoint(1));
  }
  await cluster.converge();
  assert.equal(all.machines.get('c')?.restoreCount, 1);
  assert.ok(all.seen.pieces <= pieces + 1, `${all.seen.pieces} pieces`);
  await write(cluster, 'a');
  await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.run(electionMs);
  assert.ok(compacted(cluster, 'a') > 10, 'and is compacted with the next one');
});

test('a follower that is slow to store has a mebibyte on its way, and no more', async () => {
  const { cluster, seen } = watched(40, { snapshotBytesPerSecond: 2 ** 40 });
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  // Its answers are lost, as if its disk did not answer.
  await cluster.open('c');
  cluster.network.dropWhen(({ from, frame }) => {
    for (const item of frame.items) if (item.kind === 'snapshotPiece') seen.pieces += 1;
    return (
      from === 'c' && frame.items.some((item) => item.kind === 'snapshotProgress' && !item.isBroken)
    );
  });
  await cluster.until(() => seen.pieces > 0, 'pieces are on their way');
  await cluster.run(electionMs / 2);
  assert.equal(seen.pieces * pieceBytes, 1_048_576);
});

test('snapshots are sent at the rate that the option says', async () => {
  const pieces = 40;
  const rate = 10 * pieceBytes;
  const { cluster, machines } = watched(pieces, { snapshotBytesPerSecond: rate });
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await cluster.open('c');
  const fromMs = cluster.time.monotonicMs();
  await cluster.until(() => machines.get('c')?.restoreCount === 1, 'it is there');
  const tookMs = cluster.time.monotonicMs() - fromMs;
  const idealMs = ((pieces * pieceBytes) / rate) * 1_000;
  assert.ok(tookMs > 0.9 * idealMs && tookMs < 1.3 * idealMs, `${tookMs} ms for ${idealMs}`);
});

test('what the rate allows is sent at equal distances, not tick by tick', async () => {
  const pieces = 40;
  const pieceMs = 20;
  const { cluster, machines } = watched(pieces, {
    snapshotBytesPerSecond: pieceBytes * (1_000 / pieceMs),
    tickMs: 200,
  });
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  const sentMs: number[] = [];
  cluster.network.dropWhen(({ frame }) => {
    for (const item of frame.items)
      if (item.kind === 'snapshotPiece') sentMs.push(cluster.time.monotonicMs());
    return false;
  });
  await cluster.open('c');
  await cluster.until(() => machines.get('c')?.restoreCount === 1, 'it is there');
  assert.equal(sentMs.length, pieces);
  // Two that were saved up come first.
  const distances = sentMs.slice(3).map((atMs, i) => atMs - (sentMs[i + 2] ?? 0));
  for (const distance of distances) assert.ok(Math.abs(distance - pieceMs) <= 1, `${distance} ms`);
});

test('as many snapshots are sent at one time as the option says, and all arrive', async () => {
  const partitions = 5;
  const sending = new Map<number, number>();
  let mostAtOnce = 0;
  await using cluster = nodeCluster({
    partitions,
    settings: { trailingEntries: 0, snapshotSendsMax: 2, ...slow },
    machine: () => counting(30),
  });
  await cluster.openAll();
  for (let id = 1; id <= partitions; id++) await cluster.makeLeader('a', id);
  await cluster.crash('c');
  for (let id = 1; id <= partitions; id++) {
    await cluster.drive(cluster.node('a').replicate(id, 'put', text('x')));
    await cluster.drive(cluster.node('a').checkpoint(id));
  }
  await cluster.run(50);
  cluster.network.dropWhen(({ frame }) => {
    for (const item of frame.items) {
      if (item.kind !== 'snapshotPiece') continue;
      sending.set(item.partitionId, item.offset + item.bytes.byteLength);
      const underWay = [...sending.values()].filter((end) => end < 30 * pieceBytes);
      mostAtOnce = Math.max(mostAtOnce, underWay.length);
    }
    return false;
  });
  await cluster.open('c');
  for (let id = 1; id <= partitions; id++) await cluster.converge(id);
  assert.equal(mostAtOnce, 2);
});

test('a node that closes lets go of what it sends and receives, and goes on after the next start', async () => {
  const pieces = 60;
  const all = watched(pieces, slow);
  await using cluster = all.cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await half(all, pieces);
  await cluster.close('c');
  await cluster.close('a');
  await cluster.open('c');
  await cluster.open('a');
  await cluster.converge();
  assert.ok(all.seen.pieces <= pieces + 8, `${all.seen.pieces} pieces`);
});
