// The simulated disk below the real engine: it keeps what it promised, loses only what nobody was promised, and its
// damage is found. A disk that is kinder than a real one would hide bugs, one that is crueller would invent them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../src/base/random.ts';
import type { Wal, WalBatch } from '../../src/ports/wal.ts';
import {
  type CrashKind,
  type SimulatedDisk,
  simulatedDisk,
  type WritePhase,
} from '../../src/testing/simulation/disk.ts';
import { type ProcessClock, processClock } from '../../src/testing/simulation/process-clock.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { walContract } from '../../src/testing/wal-contract.ts';
import { systemClock } from '../../src/time/system-clock.ts';
import { rocksdbWal } from '../../src/wal/rocksdb.ts';

function newDisk(seed: number, nowMs: () => number): SimulatedDisk {
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

test('a full disk takes nothing, a failing one may have taken it, and both are counted', async () => {
  const found = new Set<number | undefined>();
  for (let seed = 1; seed <= 40; seed++) {
    for (const state of ['full', 'failing'] as const) {
      const at = place(seed);
      const wal = await at.begin();
      await at.drive(wal.write(fact(1, true)));
      at.disk.state = state;
      await assert.rejects(at.drive(wal.write(fact(2, true))), { code: 'WAL_FAILED' });
      assert.equal(at.disk.failureCount, 1);
      at.crash('kill');
      at.disk.state = 'good';
      const value = await factOn(at);
      if (state === 'full') assert.equal(value, 1);
      else found.add(value);
    }
  }
  assert.deepEqual(found, new Set([1, 2]));
});

test('two processes cannot have one disk', async () => {
  const at = place(1);
  await at.begin();
  await assert.rejects(factOn(at), { code: 'WAL_LOCKED' });
});
