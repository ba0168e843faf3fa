// A bank under every fault that the simulator has. Its snapshot forgets which accounts are closed: tests of the machine
// alone do not notice, replicas that restart or catch up do. Run it with: node --test bank.test.ts

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CommittedEntry, SnapshotData } from 'kommander';
import { type SimulationResult, simulate } from 'kommander/testing';

const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const decode = <T>(data: Uint8Array) => JSON.parse(new TextDecoder().decode(data)) as T;

function bank(remembersClosed: boolean) {
  let balances = [100, 100, 100, 100];
  let closed: number[] = [];
  const transfer = ({ type, data }: CommittedEntry): boolean => {
    const { from, to, amount } = decode<{ from: number; to: number; amount: number }>(data);
    if (type === 'close') closed = [...closed, from];
    if (type === 'close' || closed.includes(from) || (balances[from] ?? 0) < amount) return false;
    balances = balances.with(from, (balances[from] ?? 0) - amount);
    balances = balances.with(to, (balances[to] ?? 0) + amount);
    return true;
  };
  return {
    apply: (entries: readonly CommittedEntry[]) => entries.map(transfer),
    snapshot: () => encode([balances, remembersClosed ? closed : []]),
    async restore(data: SnapshotData) {
      [balances, closed] = decode<[number[], number[]]>(await data.bytes());
    },
    total: () => balances.reduce((sum, balance) => sum + balance, 0),
  };
}

const simulateBank = (remembersClosed: boolean, seed: number): Promise<SimulationResult> =>
  simulate({
    seed,
    faults: 'snapshots',
    partitions: 1,
    durationMs: 5_000,
    stateMachine: () => bank(remembersClosed),
    invariant: (machine) => (machine.total() === 400 ? undefined : 'money came or went'),
    workload: {
      next(random) {
        const input = { from: random.below(4), to: random.below(4), amount: random.below(50) };
        const type = random.below(40) === 0 ? 'close' : 'transfer';
        return { kind: 'write', partitionId: 1, input, type, data: encode(input), output: Boolean };
      },
    },
  });

test('a bank that remembers everything comes through everything', async () => {
  for (let seed = 1; seed <= 3; seed++) {
    assert.equal((await simulateBank(true, seed)).report, undefined);
  }
});

test('a bank that forgets its closed accounts is found out', async () => {
  const reports: (string | undefined)[] = [];
  for (let seed = 1; seed <= 5; seed++) reports.push((await simulateBank(false, seed)).report);
  const [first] = reports.filter((report) => report !== undefined);
  assert.match(first ?? 'nothing was found', /the same on every replica|have the same state/);
  console.log(first);
});
