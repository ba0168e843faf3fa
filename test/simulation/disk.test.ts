// The simulated disk below the real engine: it keeps what it promised, loses only what nobody was promised, and its
// damage is found. A disk that is kinder than a real one would hide bugs, one that is crueller would invent them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../src/base/random.ts';
import { partitionWrite } from '../../src/host/storage-writer.ts';
import type { Wal, WalBatch } from '../../src/ports/wal.ts';
import { EntryKind } from '../../src/raft/types.ts';
import {
  type CrashKind,
  type RocksDbDisk,
  simulatedDisk,
  type WritePhase,
} from '../../src/testing/simulation/disk.ts';
import { type ProcessClock, processClock } from '../../src/testing/simulation/process-clock.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { walContract } from '../../src/testing/wal-contract.ts';
import { laidOut, numbered } from '../../src/testing/wal-model.ts';
import { systemClock } from '../../src/time/system-clock.ts';
import { rocksdbWal } from '../../src/wal/rocksdb.ts';
import { codeOf } from '../support/node-cluster.ts';

function newDisk(seed: number, nowMs: () => number): RocksDbDisk {
  return simulatedDisk({ random: seededRandom(seed), nowMs, name: 'a' });
}

const realProcess = (): ProcessClock =>
  processClock({ time: systemClock, touched: () => {}, wallOffsetMs: 0, rate: 1 });

walContract(
  { test: (name, body) => test(`on a simulated disk: ${name}`, body) },
  async () => {
    const disk = newDisk(1, () => performance.now());
    return {
      wal: () => rocksdbWal({ path: 'simulated', ...disk.attach(realProcess()) }),
      remove: async () => {},
    };
  },
  { seeds: [1, 2] },
);

/** A disk in virtual time, and processes on it. */
function place(seed: number) {
  const time = virtualClock();
  const disk = newDisk(seed, () => time.monotonicMs());
  let clock: ProcessClock | undefined;
  const begin = async (): Promise<Wal> => {
    clock = processClock({ time, touched: () => {}, wallOffsetMs: 0, rate: 1 });
    const wal = rocksdbWal({ path: 'simulated', ...disk.attach(clock) });
    await drive(wal.open());
    return wal;
  };
  const crash = (kind: CrashKind) => {
    clock?.kill();
    return disk.crash(kind);
  };
  const drive = async <T>(promise: Promise<T>): Promise<T> => {
    promise.catch(() => {});
    await time.run(1_000);
    return promise;
  };
  return { time, disk, begin, crash, drive };
}

function fact(value: number, sync: boolean): WalBatch {
  return { writes: [], meta: new Map([['fact', Uint8Array.of(value)]]), sync };
}

function entriesBatch(index: number, count: number): WalBatch {
  const payloads = Array.from({ length: count }, () => ({
    kind: EntryKind.normal,
    bytes: new Uint8Array(10),
  }));
  const entries = numbered(laidOut(payloads), { index, term: 1 });
  return {
    writes: [partitionWrite(1, { entries })],
    meta: new Map(),
    sync: true,
  };
}

async function factOn(at: ReturnType<typeof place>): Promise<number | undefined> {
  const clock = processClock({ time: at.time, touched: () => {}, wallOffsetMs: 0, rate: 1 });
  const wal = rocksdbWal({ path: 'simulated', ...at.disk.attach(clock) });
  const { meta } = await at.drive(wal.open());
  await at.drive(wal.close());
  return meta.get('fact')?.[0];
}

test('what was synced survives every crash, what was not survives only the death of a process for certain', async () => {
  const fates = new Set<string>();
  for (let seed = 1; seed <= 60; seed++) {
    for (const kind of ['kill', 'power'] as const) {
      const at = place(seed);
      const wal = await at.begin();
      await at.drive(wal.write(fact(1, true)));
      await at.drive(wal.write(fact(2, false)));
      const fate = at.crash(kind);
      fates.add(`${kind} ${fate}`);
      const found = await factOn(at);
      assert.equal(found, fate === 'kept' ? 2 : 1, `seed ${seed}, ${kind}, ${fate}`);
      if (kind === 'kill') assert.equal(fate, 'kept');
    }
  }
  assert.deepEqual([...fates].sort(), ['kill kept', 'power kept', 'power lost', 'power torn']);
});

for (const [phase, kept] of [
  ['beforeWrite', ['no']],
  ['beforeSync', ['no', 'yes']],
  ['beforeAnswer', ['yes']],
] as const satisfies readonly (readonly [WritePhase, readonly string[]])[]) {
  test(`a process that dies in a write, ${phase}, finds it afterwards: ${kept.join(' or ')}`, async () => {
    const found = new Set<string>();
    for (let seed = 1; seed <= 40; seed++) {
      const at = place(seed);
      const wal = await at.begin();
      await at.drive(wal.write(fact(1, true)));
      let isDead = false;
      at.disk.crashInWrite(phase, () => {
        isDead = true;
      });
      let isAnswered = false;
      wal.write(fact(2, true)).then(
        () => {
          isAnswered = true;
        },
        () => {},
      );
      await at.time.run(100);
      assert.deepEqual({ isDead, isAnswered }, { isDead: true, isAnswered: false });
      at.crash('power');
      found.add((await factOn(at)) === 2 ? 'yes' : 'no');
    }
    assert.deepEqual([...found].sort(), [...kept].sort());
  });
}

test('a write that is under way when the machine dies is there or not by the time that it had', async () => {
  const found = new Set<string>();
  for (let seed = 1; seed <= 60; seed++) {
    const at = place(seed);
    const wal = await at.begin();
    at.disk.syncMsMax = 2;
    await at.drive(wal.write(fact(1, true)));
    wal.write(fact(2, true)).catch(() => {});
    await at.time.run(1);
    at.crash('power');
    found.add(String(await factOn(at)));
  }
  assert.deepEqual([...found].sort(), ['1', '2']);
});

test('a record that rots in the middle of the log is found, and not taken for a torn end', async () => {
  for (let seed = 1; seed <= 40; seed++) {
    const at = place(seed);
    const wal = await at.begin();
    for (let value = 1; value <= 8; value++) await at.drive(wal.write(fact(value, true)));
    at.crash('kill');
    assert.ok(at.disk.tryDamage());
    for (let attempt = 0; attempt < 2; attempt++) {
      await assert.rejects(factOn(at), { code: 'WAL_CORRUPT' }, `seed ${seed}`);
      at.crash('kill');
    }
  }
});

test('a torn end is reported once, and the store goes on behind it', async () => {
  for (let seed = 1; seed <= 40; seed++) {
    const at = place(seed);
    const wal = await at.begin();
    await at.drive(wal.write(fact(1, true)));
    await at.drive(wal.write(fact(2, false)));
    const fate = at.crash('power');
    assert.equal(await factOn(at), fate === 'kept' ? 2 : 1);
    assert.equal(at.disk.takeTornFound(), fate === 'torn', `seed ${seed}`);
    assert.equal(at.disk.takeTornFound(), false);
  }
});

test('a failing disk may have taken what it could not sync, and that is counted', async () => {
  const found = new Set<number | undefined>();
  for (let seed = 1; seed <= 40; seed++) {
    const at = place(seed);
    const wal = await at.begin();
    await at.drive(wal.write(fact(1, true)));
    at.disk.state = 'failing';
    await assert.rejects(at.drive(wal.write(fact(2, true))), { code: 'WAL_FAILED' });
    assert.equal(at.disk.failureCount, 1);
    at.crash('kill');
    at.disk.state = 'good';
    found.add(await factOn(at));
  }
  assert.deepEqual(found, new Set([1, 2]));
});

test('a full disk takes nothing, whoever finds out, and takes everything again when there is room', async () => {
  let reopens = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const at = place(seed);
    const wal = await at.begin();
    await at.drive(wal.write(fact(1, true)));
    at.disk.state = 'full';
    for (let attempt = 1; attempt <= 3; attempt++) {
      await assert.rejects(at.drive(wal.write(fact(2, true))), { code: 'DISK_FULL' });
      assert.equal(at.disk.refusedCount >= attempt, true);
    }
    if (seed % 2 === 0) {
      at.crash(seed % 4 === 0 ? 'kill' : 'power');
      at.disk.state = 'good';
      assert.equal(await factOn(at), 1);
      continue;
    }
    at.disk.state = 'good';
    await at.drive(wal.write(fact(3, true)));
    reopens += at.disk.takeReopenCount();
    at.crash('power');
    assert.equal(await factOn(at), 3);
  }
  assert.ok(reopens > 0, 'some met the end of the disk in a write');
});

test('a store that has met the end of its disk is read while it is full, and while it is opened again', async () => {
  let waitedCount = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const at = place(seed);
    const wal = await at.begin();
    await at.drive(wal.write(entriesBatch(1, 10)));
    at.disk.state = 'full';
    for (let attempt = 1; attempt <= 8; attempt++) {
      await assert.rejects(at.drive(wal.write(entriesBatch(11, 5))), { code: 'DISK_FULL' });
    }
    const range = { partitionId: 1, fromIndex: 1, endIndex: 11, bytesMax: 1_000 };
    const reading = wal.read(range);
    let isRead = false;
    reading.then(
      () => {
        isRead = true;
      },
      () => {},
    );
    await at.time.run(1_000);
    if (!isRead) waitedCount += 1;
    at.disk.state = 'good';
    await at.drive(wal.write(entriesBatch(11, 5)));
    assert.equal((await at.drive(reading)).length, 10);
    assert.equal((await at.drive(wal.read({ ...range, endIndex: 16 }))).length, 15);
    await at.drive(wal.close());
  }
  assert.ok(waitedCount > 0, 'some could not be opened again at once');
});

test('whoever waits to read a store that could not be opened again is told when it is closed', async () => {
  let toldCount = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const at = place(seed);
    const wal = await at.begin();
    await at.drive(wal.write(entriesBatch(1, 10)));
    at.disk.state = 'full';
    for (let attempt = 1; attempt <= 8; attempt++) {
      await assert.rejects(at.drive(wal.write(entriesBatch(11, 5))), { code: 'DISK_FULL' });
    }
    const reading = wal
      .read({ partitionId: 1, fromIndex: 1, endIndex: 11, bytesMax: 1_000 })
      .then(() => 'read', codeOf);
    await at.drive(wal.close());
    const outcome = await at.drive(reading);
    if (outcome === 'NODE_CLOSED') toldCount += 1;
    else assert.equal(outcome, 'read');
    at.disk.state = 'good';
    const clock = processClock({ time: at.time, touched: () => {}, wallOffsetMs: 0, rate: 1 });
    const again = rocksdbWal({ path: 'simulated', ...at.disk.attach(clock) });
    const { partitions } = await at.drive(again.open());
    assert.equal(partitions[0]?.lastIndex, 10, 'the store is free, and has what was acknowledged');
    await at.drive(again.close());
  }
  assert.ok(toldCount > 0);
});

test('two processes cannot have one disk', async () => {
  const at = place(1);
  await at.begin();
  await assert.rejects(factOn(at), { code: 'WAL_LOCKED' });
});
