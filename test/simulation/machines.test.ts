// What simulated partitions have: machines with a store of their own, which crash in the middle of their work, logs without
// a machine, and snapshots that rot. What a machine, or the library, does wrong with them is found.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { utf8Bytes, utf8Text } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { CommittedEntry } from '../../src/ports/state-machine.ts';
import {
  appliedNothing,
  newAppliedOrder,
  noteApplied,
} from '../../src/testing/simulation/applied-order.ts';
import { addCoverage, newCoverage } from '../../src/testing/simulation/coverage.ts';
import { diskFiles } from '../../src/testing/simulation/disk-files.ts';
import { keyValueProof } from '../../src/testing/simulation/key-value-proof.ts';
import { keyValueMachine } from '../../src/testing/simulation/key-value-workload.ts';
import { machineOnDisk } from '../../src/testing/simulation/machine-on-disk.ts';
import {
  crashStates,
  newMachineStore,
  presentState,
  syncStates,
  writeState,
} from '../../src/testing/simulation/machine-store.ts';
import type { MachineKind } from '../../src/testing/simulation/options.ts';
import { type SimulationResult, simulate } from '../../src/testing/simulation/simulate.ts';
import { watchedLog } from '../../src/testing/simulation/watched-log.ts';
import { fileSnapshots } from '../../src/wal/snapshot-files.ts';

function entryAt(index: number, text = `${index}`): CommittedEntry {
  const data = utf8Bytes(text);
  return { partitionId: 1, index, term: 1, timestamp: index, type: 'put', data, restored: false };
}

test('a power loss leaves the state of one entry, at least the one that was synced; a kill leaves everything', () => {
  const found = new Set<number>();
  for (let seed = 1; seed <= 40; seed++) {
    const store = newMachineStore();
    for (let index = 1; index <= 6; index++) {
      writeState(store, { index, bytes: Uint8Array.of(index) });
      if (index === 3) syncStates(store);
    }
    crashStates(store, seededRandom(seed), 'kill');
    assert.equal(presentState(store).index, 6);
    crashStates(store, seededRandom(seed), 'power');
    const { index, bytes } = presentState(store);
    assert.deepEqual(bytes, Uint8Array.of(index));
    assert.deepEqual([store.synced.index, store.unsynced], [index, []]);
    found.add(index);
  }
  assert.deepEqual(found, new Set([3, 4, 5, 6]));
});

test('a store that nobody syncs does so by itself', () => {
  const store = newMachineStore();
  for (let index = 1; index <= 100; index++) writeState(store, { index, bytes: undefined });
  assert.ok(store.unsynced.length <= 32, `${store.unsynced.length} states wait`);
  assert.equal(presentState(store).index, 100);
  assert.ok(store.synced.index >= 64);
});

test('a process that is gone writes nothing, and the next one begins with what is there', async () => {
  const store = newMachineStore();
  const put = (index: number): CommittedEntry =>
    entryAt(index, JSON.stringify({ id: `${index}`, key: 'k', value: `${index}` }));
  let isDead = false;
  const begin = () => {
    const inner = keyValueMachine();
    const machine = machineOnDisk({
      inner,
      store,
      random: seededRandom(2),
      isDead: () => isDead,
      pass: async () => {},
      written: () => {},
    });
    return { inner, machine };
  };
  const first = begin().machine;
  assert.equal(await first.appliedIndex(), 0);
  await first.apply([put(1), put(2)]);
  isDead = true;
  await first.apply([put(3)]);
  isDead = false;
  crashStates(store, seededRandom(1), 'kill');
  const { inner, machine } = begin();
  assert.equal(await machine.appliedIndex(), 2);
  assert.equal(inner.get('k'), '2');
});

test('a log that tells an entry twice, or leaves one out, is found; what is before a restart or a jump is not', () => {
  const order = newAppliedOrder(1);
  let place = appliedNothing;
  for (const index of [2, 3, 5, 8]) place = noteApplied(order, place, entryAt(index), index);
  const log = watchedLog(order);
  log.begin(2);
  log.told(entryAt(3), 1);
  assert.throws(() => log.told(entryAt(3), 1), /same entries in the same order/);
  assert.throws(() => log.told(entryAt(8), 1), /same entries in the same order/);
  log.jump(6);
  assert.equal(log.place.index, 5);
  log.told(entryAt(8), 1);
  assert.equal(log.place.index, 8);
});

test('a snapshot that rots is known to be rotten until it is gone, and cannot be read', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const files = diskFiles({
      random: seededRandom(seed),
      state: () => 'good',
      syncMsMax: () => 0,
      unsynced: 'lost',
    });
    const clock = { defer: queueMicrotask, setTimer: () => ({ cancel() {} }) };
    const snapshots = fileSnapshots(files.attach(clock));
    assert.equal(files.tryRot(), undefined);
    const facts = new Map<string, Parameters<typeof snapshots.open>[1]>();
    for (const name of ['p1-i5-t1-own', 'p2-i5-t1-own']) {
      const writer = await snapshots.create(name);
      await writer.append(new Uint8Array(1_000).fill(7));
      facts.set(name, await writer.finish());
    }
    assert.equal(files.tryRot('p3-'), undefined);
    const name = files.tryRot('p2-') ?? '';
    assert.deepEqual([name, files.rotten()], ['p2-i5-t1-own', [name]]);
    const readAll = async (of: string): Promise<void> => {
      const reader = await snapshots.open(of, facts.get(of) ?? assert.fail('it is there'));
      await reader.read(0, 1_000);
    };
    await assert.rejects(readAll(name), { code: 'SNAPSHOT_CORRUPT' });
    await readAll('p1-i5-t1-own');
    await snapshots.remove(name);
    assert.deepEqual(files.rotten(), []);
  }
});

/** Runs seeds of the key-value proof with these machines. */
async function runsOf(
  machines: MachineKind,
  over: Parameters<typeof keyValueProof>[2] = {},
): Promise<SimulationResult[]> {
  const results: SimulationResult[] = [];
  for (let seed = 1; seed <= 8; seed++) {
    const proof = keyValueProof(seed, 'snapshots', { machines, durationMs: 5_000, ...over });
    results.push(await simulate(proof));
  }
  return results;
}

function sumOf(results: readonly SimulationResult[]) {
  const sum = newCoverage();
  for (const { report, coverage } of results) {
    assert.equal(report, undefined);
    addCoverage(sum, coverage);
  }
  return sum;
}

test('machines with a store of their own crash and fail in their work, and nothing is given to them twice or never', async () => {
  const sum = sumOf(await runsOf('onDisk'));
  for (const state of ['machineAhead', 'machineBehind', 'machineFailed'] as const) {
    assert.ok(sum[state] > 0, state);
  }
});

test('logs without a machine are compacted as their option says, and all members are told the same', async () => {
  for (const logOnlyCompaction of ['slowest', 'checkpoint'] as const) {
    const results = await runsOf('none', { settings: { logOnlyCompaction } });
    assert.ok(results.every(({ isHistoryChecked }) => isHistoryChecked === undefined));
    assert.ok(results.every(({ operationCount }) => operationCount > 0));
    const sum = sumOf(results);
    assert.ok(sum.logOnlyCompacted > 0);
    assert.equal(sum.logOnlyHeld > 0, logOnlyCompaction === 'slowest');
    if (logOnlyCompaction === 'checkpoint') assert.ok(sum.logOnlySkipped > 0);
  }
});

test('a machine whose store does not get all of its state is found', async () => {
  const forgetful = (): ReturnType<typeof keyValueMachine> => {
    const machine = keyValueMachine();
    return {
      ...machine,
      snapshot: () => {
        const rows = JSON.parse(utf8Text(machine.snapshot() as Uint8Array)) as unknown[];
        return utf8Bytes(JSON.stringify(rows.slice(0, 2)));
      },
    };
  };
  const results = await runsOf('onDisk', { stateMachine: forgetful });
  assert.ok(results.some(({ violation }) => violation !== undefined));
});

test('machines of a kind that cannot be are refused', async () => {
  const refused = async (over: Parameters<typeof keyValueProof>[2], message: RegExp) => {
    await assert.rejects(simulate(keyValueProof(1, 'calm', over)), {
      code: 'INVALID_ARGUMENT',
      message,
    });
  };
  await refused({ machines: 'onTape' as MachineKind }, /option machines .* is none of inMemory/);
  const { model } = keyValueProof(1, 'calm', { machines: 'inMemory' });
  assert.ok(model !== undefined);
  await refused({ machines: 'none', model }, /option machines .* a model could explain/);
  const bare = (): ReturnType<typeof keyValueMachine> => {
    const machine = keyValueMachine();
    return { ...machine, snapshot: undefined } as unknown as ReturnType<typeof keyValueMachine>;
  };
  await refused(
    { machines: 'onDisk', stateMachine: bare },
    /machines with snapshot\(\) and restore/,
  );
});
