// Snapshots that meet trouble: a part that cannot be read any more, a leader that goes while its bytes are synced, a peer
// that does not answer, a rate so low that everybody has long given up, a machine that takes a failed read for the end.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KommanderError } from '../../src/base/errors.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import { collected } from '../support/backups.ts';
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

test('a transfer whose first part cannot be read any more begins anew', async () => {
  const pieces = 100;
  const all = watched(pieces, slow);
  await using cluster = all.cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await half(all, pieces);
  await cluster.crash('c');
  const seat = cluster.seat('c');
  let failedCount = 0;
  await cluster.open('c', {
    get wal() {
      assert.ok(seat.clock !== undefined);
      const inner = seat.disk.attach(seat.clock);
      const { snapshots } = inner;
      const resume: typeof snapshots.resume = async (name) => {
        const found = await snapshots.list();
        if (!found.some((stored) => stored.name === name && !stored.isFinished)) return undefined;
        failedCount += 1;
        throw new KommanderError('a bad sector', { code: 'WAL_FAILED' });
      };
      return { ...inner, snapshots: { ...snapshots, resume } };
    },
  });
  await cluster.converge();
  assert.equal(failedCount, 1);
  assert.equal(all.machines.get('c')?.restoreCount, 1);
});

/** Opens c, which gets a snapshot and waits before it is whole. @returns what lets it go on */
async function heldBeforeWhole(cluster: NodeCluster): Promise<() => void> {
  const seat = cluster.seat('c');
  let isFinishing = false;
  let letFinish = (): void => {};
  const held = new Promise<void>((resolve) => {
    letFinish = resolve;
  });
  await cluster.open('c', {
    get wal() {
      assert.ok(seat.clock !== undefined);
      const inner = seat.disk.attach(seat.clock);
      const { snapshots } = inner;
      const create: typeof snapshots.create = async (name) => {
        const writer = await snapshots.create(name);
        if (!name.startsWith('p1-')) return writer;
        return {
          ...writer,
          get byteLength() {
            return writer.byteLength;
          },
          async finish() {
            isFinishing = true;
            await held;
            return writer.finish();
          },
        };
      };
      return { ...inner, snapshots: { ...snapshots, create } };
    },
  });
  await cluster.until(() => isFinishing, 'all of it is there');
  return letFinish;
}

test('a leader that follows while the last bytes are synced sends none of them again', async () => {
  const pieces = 20;
  const all = watched(pieces);
  await using cluster = all.cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  const letFinish = await heldBeforeWhole(cluster);
  const { announced } = all.seen;
  await cluster.drive(cluster.node('a').transferLeadership(1, 'b'));
  await cluster.until(() => all.seen.announced > announced, 'b announces the same snapshot');
  await cluster.run(5);
  letFinish();
  await cluster.converge();
  assert.equal(all.machines.get('c')?.restoreCount, 1);
  assert.equal(all.seen.pieces, pieces);
});

for (const isDamaged of [false, true]) {
  const what = isDamaged ? 'is damaged is sent again' : 'is there is installed, and not sent again';
  test(`a snapshot that had come whole before a crash and ${what}`, async () => {
    const pieces = 20;
    const all = watched(pieces);
    await using cluster = all.cluster;
    await cluster.openAll();
    await leaveBehind(cluster);
    await cluster.open('c');
    // The log never begins behind it for certain.
    cluster.seat('c').disk.hold();
    await cluster.until(() => all.seen.pieces === pieces, 'all of it is sent');
    await cluster.run(50);
    const [name = ''] = await storedNames(cluster, 'c');
    assert.match(name, /-b\d+-c[0-9a-f]+\.snapshot$/);
    assert.equal(all.machines.get('c')?.restoreCount, 0);
    await cluster.crash('c');
    if (isDamaged) await damage(cluster, 'c', 10 * (pieceBytes + 8));
    await cluster.open('c');
    await cluster.converge();
    assert.equal(all.machines.get('c')?.restoreCount, 1);
    assert.equal(all.machines.get('c')?.count, 4);
    assert.equal(all.seen.pieces, isDamaged ? 2 * pieces : pieces);
  });
}

test('a snapshot that came whole when its leader was deposed waits for the next leader with the same bytes', async () => {
  const pieces = 20;
  const all = watched(pieces);
  await using cluster = all.cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  const letFinish = await heldBeforeWhole(cluster);
  let isAnnouncing = false;
  let sentAgain = 0;
  cluster.network.dropWhen(({ frame }) =>
    frame.items.some((item) => {
      if (item.kind === 'snapshotPiece') sentAgain += 1;
      return !isAnnouncing && item.kind === 'raft' && item.message.type === 'installSnapshot';
    }),
  );
  await cluster.drive(cluster.node('a').transferLeadership(1, 'b'));
  await cluster.run(5);
  letFinish();
  await cluster.run(50);
  assert.equal(all.machines.get('c')?.restoreCount, 0, 'nobody who leads has announced it');
  isAnnouncing = true;
  await cluster.converge();
  assert.equal(all.machines.get('c')?.restoreCount, 1);
  assert.equal(sentAgain, 0);
});

test('a machine that makes nothing of what could not be read is not taken for restored', async () => {
  const restore: NonNullable<StateMachine['restore']> = async (data) => {
    try {
      await data.bytes();
    } catch {
      // As if there was nothing more.
    }
  };
  const { cluster } = watched(2, {}, { restore });
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  await write(cluster, 'a');
  await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.until(() => compacted(cluster, 'a') > 0, 'the checkpoint is stored');
  await cluster.crash('a');
  await damage(cluster, 'a', 400_000);
  const error = await cluster.driveFailure(cluster.open('a'));
  assert.equal(error.code, 'WAL_CORRUPT');
});

test('the part of a snapshot that nobody will send any more is removed with the next checkpoint', async () => {
  const pieces = 60;
  const all = watched(pieces, slow);
  await using cluster = all.cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  using _ = cluster.node('b').retain(1, 1, 'all entries');
  await cluster.crash('c');
  for (let i = 0; i < 3; i++) await write(cluster, 'a');
  await cluster.drive(cluster.node('a').checkpoint(1));
  await half(all, pieces);
  const drafts = async (): Promise<number> =>
    (await storedNames(cluster, 'c')).filter((name) => name.endsWith('.draft')).length;
  assert.equal(await drafts(), 1);
  // It has the entries that c lacks.
  await cluster.drive(cluster.node('a').transferLeadership(1, 'b'));
  await cluster.converge();
  assert.equal(all.machines.get('c')?.restoreCount, 0);
  await cluster.drive(cluster.node('b').checkpoint(1));
  await cluster.run(electionMs);
  assert.equal(await drafts(), 0);
});

test('a transfer that nobody answers any more holds up no other one to the same peer', async () => {
  const restored: number[] = [];
  await using cluster = nodeCluster({
    partitions: 2,
    settings: { trailingEntries: 0 },
    machine: (nodeId, partitionId) => ({
      ...counting(20),
      restore() {
        if (nodeId === 'c') restored.push(partitionId);
      },
    }),
  });
  await cluster.openAll();
  for (const id of [1, 2]) await cluster.makeLeader('a', id);
  await cluster.crash('c');
  for (const id of [1, 2]) {
    await cluster.drive(cluster.node('a').replicate(id, 'put', text('x')));
    await cluster.drive(cluster.node('a').checkpoint(id));
  }
  await cluster.run(50);
  let isFirst = true;
  // As of a replica that stopped when it had told how much it has.
  cluster.network.dropWhen(({ from, frame }) => {
    const [item] = frame.items;
    if (from !== 'c' || item?.kind !== 'snapshotProgress' || item.partitionId !== 1) return false;
    const isDropped = !isFirst;
    isFirst = false;
    return isDropped;
  });
  await cluster.open('c');
  await cluster.run(8 * electionMs);
  assert.deepEqual(restored, [2]);
});

test('a snapshot arrives at the lowest rate, each of its pieces once', async () => {
  const pieces = 3;
  const { cluster, machines, seen } = watched(pieces, { snapshotBytesPerSecond: 65_536 });
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  await cluster.open('c');
  await cluster.converge();
  assert.equal(machines.get('c')?.restoreCount, 1);
  assert.equal(seen.pieces, pieces);
});

test('a backup that waits for the state of a replica that is sent a snapshot gets that one', async () => {
  const { cluster, machines } = watched(2);
  await using _ = cluster;
  await cluster.openAll();
  await cluster.makeLeader('a');
  await write(cluster, 'a');
  await cluster.converge();
  const machine = machines.get('c');
  assert.ok(machine !== undefined);
  const apply = machine.apply.bind(machine);
  let goOn = (): void => {};
  machine.apply = async (entries) => {
    await new Promise<void>((resolve) => {
      goOn = resolve;
    });
    return apply(entries);
  };
  const backup = cluster.node('c').backup()[Symbol.asyncIterator]();
  await cluster.drive(backup.next());
  await write(cluster, 'a');
  await cluster.run(20);
  // Partition 1 is asked for its state while an entry is being applied.
  const rest = collected({ [Symbol.asyncIterator]: () => backup });
  await cluster.run(20);
  cluster.isolate(['c']);
  await write(cluster, 'a');
  await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.until(
    () => ['a', 'b'].every((nodeId) => compacted(cluster, nodeId) > 0),
    'c lacks entries',
  );
  // The log is replaced, and for a while not durably.
  cluster.seat('c').disk.latencyMs = 50;
  for (const other of ['a', 'b']) {
    cluster.network.setLink(other, 'c', 'up');
    cluster.network.setLink('c', other, 'up');
  }
  await cluster.until(() => compacted(cluster, 'c') > 0, 'c has the snapshot');
  machine.apply = apply;
  goOn();
  assert.ok((await cluster.drive(rest)).length > 0);
  await cluster.converge();
});

test('a leader that cannot read its stored snapshot takes another one for its peer', async () => {
  const { cluster, machines } = watched(3);
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  const seat = cluster.seat('a');
  const badNames = new Set<string>();
  await cluster.restart('a', {
    get wal() {
      assert.ok(seat.clock !== undefined);
      const inner = seat.disk.attach(seat.clock);
      const { snapshots } = inner;
      const open: typeof snapshots.open = async (name, expected) => {
        const reader = await snapshots.open(name, expected);
        if (!badNames.has(name)) return reader;
        const read = async (): Promise<never> => {
          throw new KommanderError('a bad sector', { code: 'WAL_FAILED' });
        };
        return { ...reader, read };
      };
      return { ...inner, snapshots: { ...snapshots, open } };
    },
  });
  await cluster.makeLeader('a');
  for (const name of await storedNames(cluster, 'a')) badNames.add(name.replace('.snapshot', ''));
  await cluster.open('c');
  await cluster.converge();
  assert.ok(reported(cluster, 'a', 'snapshot-not-read'));
  assert.equal(machines.get('c')?.restoreCount, 1);
});

test('a receiver whose disk has no room for a snapshot does not have it sent again and again', async () => {
  const pieces = 8;
  const { cluster, machines, seen } = watched(pieces);
  await using _ = cluster;
  await cluster.openAll();
  await leaveBehind(cluster);
  const seat = cluster.seat('c');
  let isFull = true;
  await cluster.open('c', {
    get wal() {
      assert.ok(seat.clock !== undefined);
      const inner = seat.disk.attach(seat.clock);
      const { snapshots } = inner;
      const create: typeof snapshots.create = async (name) => {
        const writer = await snapshots.create(name);
        return {
          ...writer,
          get byteLength() {
            return writer.byteLength;
          },
          async append(bytes) {
            const isRoom = !isFull || writer.byteLength < 4 * bytes.byteLength;
            if (!isRoom) throw new KommanderError('no room', { code: 'DISK_FULL' });
            await writer.append(bytes);
          },
        };
      };
      return { ...inner, snapshots: { ...snapshots, create } };
    },
  });
  const tries = (): number =>
    seat.observed.filter(({ name }) => name === 'snapshot-not-stored').length;
  await cluster.until(() => tries() > 0, 'there is no room');
  await cluster.run(50 * electionMs);
  assert.ok(tries() >= 3 && tries() <= 6, `${tries()} times`);
  assert.ok(seen.pieces <= 6 * pieces, `${seen.pieces} pieces`);
  isFull = false;
  await cluster.converge();
  assert.equal(machines.get('c')?.restoreCount, 1);
});
