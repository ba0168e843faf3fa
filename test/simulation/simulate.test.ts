// The simulator from outside: bugs in a user's machine are found and reported, runs are made smaller, what is left out of
// a plan changes nothing about the rest, and bad options are refused with what is wrong about them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { utf8Bytes, utf8Text } from '../../src/base/bytes.ts';
import type { CommittedEntry, StateMachine } from '../../src/ports/state-machine.ts';
import { keyValueModel } from '../../src/testing/linearizability/models.ts';
import { coverageStates } from '../../src/testing/simulation/coverage.ts';
import { planFaults } from '../../src/testing/simulation/fault-plan.ts';
import { keyValueProof } from '../../src/testing/simulation/key-value-proof.ts';
import {
  type KeyValueMachine,
  keyValueMachine,
} from '../../src/testing/simulation/key-value-workload.ts';
import {
  type AnySimulationOptions,
  type SimulationOptions,
  settingsOf,
} from '../../src/testing/simulation/options.ts';
import {
  type FaultProfile,
  type ProfileName,
  profiles,
} from '../../src/testing/simulation/profiles.ts';
import { shrink } from '../../src/testing/simulation/shrink.ts';
import { type SimulationResult, simulate } from '../../src/testing/simulation/simulate.ts';

/** A counter: entries are numbers that are added. */
interface Counter extends StateMachine {
  total: number;
}

function counter(add: (total: number, entry: CommittedEntry) => number): Counter {
  const machine: Counter = {
    total: 0,
    apply: (entries) =>
      entries.map((entry) => {
        machine.total = add(machine.total, entry);
        return machine.total;
      }),
    snapshot: () => utf8Bytes(String(machine.total)),
    restore: async (data) => {
      machine.total = Number(utf8Text(await data.bytes()));
    },
  };
  return machine;
}

const numberIn = ({ data }: CommittedEntry): number => Number(utf8Text(data));

function counterRun(
  seed: number,
  stateMachine: () => Counter,
  over: Partial<SimulationOptions<number, number, Counter>> = {},
): SimulationOptions<number, number, Counter> {
  return {
    seed,
    nodes: 3,
    partitions: 1,
    durationMs: 8_000,
    faults: 'quick',
    stateMachine,
    workload: {
      next(random) {
        const input = 1 + random.below(9);
        const data = utf8Bytes(String(input));
        return { kind: 'write', partitionId: 1, input, type: 'add', data, output: Number };
      },
    },
    ...over,
  };
}

async function firstViolation(
  run: (seed: number) => Promise<SimulationResult>,
  seedMax = 40,
): Promise<SimulationResult> {
  for (let seed = 1; seed <= seedMax; seed++) {
    const result = await run(seed);
    if (result.violation !== undefined) return result;
  }
  throw new assert.AssertionError({ message: `no seed up to ${seedMax} found the bug` });
}

test('a machine that is right breaks no rule', async () => {
  let operationCount = 0;
  for (let seed = 1; seed <= 5; seed++) {
    const result = await simulate(
      counterRun(seed, () => counter((total, entry) => total + numberIn(entry))),
    );
    assert.equal(result.report, undefined);
    operationCount += result.operationCount;
  }
  assert.ok(operationCount > 100, `${operationCount} writes were acknowledged`);
});

/** Machines of one run that are not alike: every second one counts some entries for more. */
function unlike(): () => Counter {
  let made = 0;
  return () => {
    const own = made++ % 2;
    return counter((total, entry) => total + numberIn(entry) + (total % 7 === 3 ? own : 0));
  };
}

test('a machine that answers by more than its entries is found at the answer', async () => {
  const { report = '', violation } = await firstViolation((seed) =>
    simulate(counterRun(seed, unlike())),
  );
  assert.match(violation?.rule ?? '', /the same on every replica/);
  assert.match(report, /^violation at seed \d+: [\s\S]*the last events of partition 1/);
});

test('a machine that depends on more than its entries is found at the end: equal entries, other states', async () => {
  const { violation } = await firstViolation((seed) => {
    const machineOf = unlike();
    const silent = (): Counter => {
      const machine = machineOf();
      return {
        ...machine,
        apply: (entries) => {
          void machine.apply(entries);
        },
      };
    };
    return simulate(counterRun(seed, silent));
  });
  assert.match(violation?.rule ?? '', /have the same state/);
});

test('a mistake of the user is told as one', async () => {
  const good = counterRun(1, () => counter((total, entry) => total + numberIn(entry)));
  const { workload } = good;
  const ruleWith = async (over: Partial<typeof good>): Promise<string> =>
    (await simulate({ ...good, ...over })).violation?.message ?? 'none';
  const broken = (change: object): Partial<typeof good> => ({
    workload: {
      next: (random, client) => ({ ...workload.next(random, client), ...change }),
    },
  });
  assert.match(await ruleWith(broken({ partitionId: 0 })), /^The workload draws .* partitionId 0/);
  assert.match(await ruleWith(broken({ partitionId: 2 })), /has 1 to 1/);
  assert.match(
    await ruleWith(broken({ type: '_own' })),
    /^The workload draws .*kept for the library/,
  );
  const explode = (): never => {
    throw new Error('a bug of mine');
  };
  const thrown = /throw nothing: .* threw Error: a bug of mine/;
  assert.match(await ruleWith({ workload: { next: explode } }), thrown);
  assert.match(await ruleWith(broken({ output: explode })), thrown);
  assert.match(await ruleWith({ invariant: explode }), thrown);
  await assert.rejects(simulate({ ...good, settings: { electionTicks: 1 } }), {
    code: 'INVALID_OPTION',
  });
});

test('a machine whose own invariant breaks is found, with the entry at which it did', async () => {
  const { violation } = await firstViolation((seed) =>
    simulate(
      counterRun(seed, () => counter((total, entry) => total + numberIn(entry)), {
        invariant: ({ total }) => (total < 100 ? undefined : `the total is ${total}`),
      }),
    ),
  );
  assert.match(violation?.message ?? '', /invariant holds after every batch: the total is 1\d\d/);
  assert.equal(violation?.partitionId, 1);
});

test('a machine that throws is found: its replica must not stop', async () => {
  const { violation } = await firstViolation((seed) =>
    simulate(
      counterRun(seed, () =>
        counter((total, entry) => {
          if (total > 50) throw new Error('too much');
          return total + numberIn(entry);
        }),
      ),
    ),
  );
  assert.match(violation?.message ?? '', /A replica stops only when[\s\S]*failed on entries/);
});

test('a machine that answers with what is old is found by the model', async () => {
  /** Answers every third read of a key with the value before the last one. */
  const stale = (): KeyValueMachine => {
    const machine = keyValueMachine();
    const before = new Map<string, string | undefined>();
    let readCount = 0;
    return {
      ...machine,
      apply(entries) {
        for (const { data } of entries) {
          const { key } = JSON.parse(utf8Text(data)) as { key: string };
          before.set(key, machine.get(key));
        }
        return machine.apply(entries);
      },
      get(key) {
        readCount += 1;
        return readCount % 3 === 0 ? before.get(key) : machine.get(key);
      },
    };
  };
  const { violation, report = '' } = await firstViolation((seed) =>
    simulate({ ...keyValueProof(seed, 'calm', { durationMs: 3_000 }), stateMachine: stale }),
  );
  assert.match(violation?.rule ?? '', /^Linearizability/);
  assert.match(report, /no order of the operations on \d\/\d explains/);
});

test('a machine without snapshots is simulated too', async () => {
  const { report } = await simulate(
    counterRun(3, () => {
      const machine = counter((total, entry) => total + numberIn(entry));
      return { apply: (entries) => machine.apply(entries), total: 0 };
    }),
  );
  assert.equal(report, undefined);
});

test('a failing run is made smaller, and the smaller one breaks the same rule', async () => {
  const forgetful = (): Counter => ({
    ...counter((total, entry) => total + numberIn(entry)),
    restore: () => {},
  });
  const optionsWith = (over: object) => counterRun(4, forgetful, { faults: 'snapshots', ...over });
  const whole = await simulate(optionsWith({}));
  assert.ok(whole.violation !== undefined, 'the seed fails');
  const smaller = await shrink(optionsWith);
  assert.ok(smaller.onlyFaults.length < whole.faultCount, 'faults were left out');
  const { onlyFaults, durationMs, operationsMax } = smaller;
  const again = await simulate(
    optionsWith({
      onlyFaults,
      durationMs,
      ...(operationsMax === undefined ? {} : { operationsMax }),
    }),
  );
  assert.equal(again.violation?.rule, whole.violation.rule);
  assert.equal(again.report, smaller.report);
});

test('a run that breaks no rule cannot be made smaller', async () => {
  await assert.rejects(
    shrink(() => counterRun(1, () => counter((total, entry) => total + numberIn(entry)))),
    /seed 1 breaks no rule/,
  );
});

test('leaving faults out changes nothing about the others', () => {
  const settings = settingsOf(keyValueProof(9, 'swarm') as unknown as AnySimulationOptions);
  const all = planFaults(settings, undefined);
  assert.ok(all.length > 10);
  const some = planFaults(settings, [1, 5]);
  assert.deepEqual(
    some.map(({ number, atMs, kind }) => ({ number, atMs, kind })),
    [all[1], all[5]].map((fault) => ({
      number: fault?.number,
      atMs: fault?.atMs,
      kind: fault?.kind,
    })),
  );
  for (const fault of some) {
    const same = planFaults(settings, undefined)[fault.number];
    assert.equal(fault.random.below(1_000_000), same?.random.below(1_000_000));
  }
});

test('every seed of a profile goes without some of its faults, and no profile promises what is unknown', () => {
  const kinds = (seed: number): Set<string> => {
    const options = keyValueProof(seed, 'swarm') as unknown as AnySimulationOptions;
    return new Set(planFaults(settingsOf(options), undefined).map(({ kind }) => kind));
  };
  const all = new Set([...kinds(1), ...kinds(2), ...kinds(3), ...kinds(4)]);
  assert.ok([1, 2, 3, 4].every((seed) => kinds(seed).size < all.size));
  for (const { promises } of Object.values<FaultProfile>(profiles)) {
    assert.ok(promises.every((state) => Object.hasOwn(coverageStates, state)));
  }
});

test('options that are not valid are refused, by name', async () => {
  const refusal = async (over: Partial<SimulationOptions<number, number, Counter>>) => {
    const run = counterRun(1, () => counter((total) => total), over);
    await assert.rejects(simulate(run), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'INVALID_ARGUMENT');
      assert.match(error.message, new RegExp(`option ${Object.keys(over)[0]} of a simulation`));
      return true;
    });
  };
  await refusal({ seed: -1 });
  await refusal({ seed: 1.5 });
  await refusal({ nodes: 2 });
  await refusal({ nodes: 8 });
  await refusal({ partitions: 0 });
  await refusal({ clients: 0 });
  await refusal({ durationMs: 0 });
  await refusal({ faults: 'none' as ProfileName });
});

test('the model of the key-value workload takes what its machine does', async () => {
  const result = await simulate(keyValueProof(2, 'calm', { durationMs: 5_000 }));
  assert.equal(result.isHistoryChecked, true);
  assert.ok(keyValueModel().keyOf !== undefined);
});
