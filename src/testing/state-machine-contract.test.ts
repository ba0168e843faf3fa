// A contract suite is worth what it refuses: a small register machine keeps the contract, and for every rule a variation
// of it breaks that rule.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../base/random.ts';
import type {
  CommittedEntry,
  SnapshotBytes,
  SnapshotData,
  StateMachine,
} from '../ports/state-machine.ts';
import { snapshotDataOf } from './snapshot-bytes.ts';
import {
  type StateMachineContractOptions,
  type StateMachineSubject,
  stateMachineContract,
} from './state-machine-contract.ts';

/** Registers "0" … "9" with bytes in them. A command's type is the register's name; no data clears it. */
class Registers {
  values: Map<string, Uint8Array> = new Map();

  apply(entries: readonly CommittedEntry[]): readonly unknown[] | void {
    return entries.map((entry) => this.carryOut(entry));
  }

  carryOut({ type, data, index }: CommittedEntry): unknown {
    const before = this.values.get(type);
    if (data.byteLength === 0) this.values.delete(type);
    else this.values.set(type, new Uint8Array(data));
    return { index, before };
  }

  snapshot(): SnapshotBytes {
    return this.state();
  }

  state(): Uint8Array {
    const sorted = [...this.values].sort(([a], [b]) => (a < b ? -1 : 1));
    return new TextEncoder().encode(
      JSON.stringify(sorted.map(([name, bytes]) => [name, ...bytes])),
    );
  }

  async restore(data: SnapshotData): Promise<void> {
    const text = new TextDecoder().decode(await data.bytes());
    this.values.clear();
    const rows = JSON.parse(text) as [string, ...number[]][];
    for (const [name, ...bytes] of rows) {
      this.values.set(name, new Uint8Array(bytes));
    }
  }
}

async function* inPieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += 7) yield bytes.subarray(at, at + 7);
}

function subjectOf<Machine extends StateMachine>(
  machine: () => Machine,
  more: Partial<StateMachineSubject<Machine>> = {},
): StateMachineSubject<Machine> {
  return {
    machine,
    command: (random) => ({
      type: String(random.below(10)),
      data: Uint8Array.from({ length: random.below(4) }, () => random.below(256)),
    }),
    ...more,
  };
}

/** Names of the rules that a machine breaks. */
async function brokenRules<Machine extends StateMachine>(
  subject: StateMachineSubject<Machine>,
  options: StateMachineContractOptions = {},
): Promise<string[]> {
  const bodies = new Map<string, () => Promise<void>>();
  stateMachineContract({ test: (name, body) => bodies.set(name, body) }, async () => subject, {
    seeds: [1],
    commandsPerSeed: 100,
    ...options,
  });
  const broken: string[] = [];
  for (const [name, body] of bodies) {
    await body().catch(() => broken.push(name.replace(' (seed 1)', '')));
  }
  return broken;
}

test('the contract accepts a machine that keeps it, synchronous or not, with results or without', async () => {
  const asynchronous = (): StateMachine => {
    const registers = new Registers();
    return {
      async apply(entries) {
        await Promise.resolve();
        registers.apply(entries);
      },
      snapshot: async () => inPieces(registers.state()),
      restore: async (data) => registers.restore(data),
    };
  };
  assert.deepEqual(await brokenRules(subjectOf(() => new Registers())), []);
  assert.deepEqual(await brokenRules(subjectOf(asynchronous)), []);
});

test('a machine without snapshots is compared by what its subject calls its state', async () => {
  const make = (): { values: Map<string, Uint8Array> } & StateMachine => {
    const registers = new Registers();
    return { values: registers.values, apply: (entries) => registers.apply(entries) };
  };
  const subject = subjectOf(make, { state: ({ values }) => structuredClone(values) });
  assert.deepEqual(await brokenRules(subject, { snapshots: false }), []);
  assert.ok((await brokenRules(subject)).length > 0, 'it cannot pass for one with snapshots');
  const wrong = subjectOf(() => new Registers());
  assert.deepEqual(await brokenRules(wrong, { snapshots: false }), [
    'a machine without snapshots has neither snapshot nor restore',
  ]);
});

test('every seed has commands of its own, and its name says which', () => {
  const names: string[] = [];
  stateMachineContract({ test: (name) => names.push(name) }, async () =>
    subjectOf(() => new Registers()),
  );
  assert.equal(new Set(names).size, names.length);
  assert.deepEqual(
    new Set(names.map((name) => name.match(/\(seed \d\)$/)?.[0])),
    new Set(['(seed 1)', '(seed 2)', '(seed 3)']),
  );
});

/** Counts batches, which depend on how entries arrive. */
class CountsBatches extends Registers {
  batches = 0;
  override apply(entries: readonly CommittedEntry[]): readonly unknown[] | void {
    this.batches += 1;
    return super.apply(entries);
  }
}

let machineCount = 0;

/** For each rule, machines that break it. */
const broken: Readonly<Record<string, readonly (() => StateMachine)[]>> = {
  'the commands change the state': [
    () =>
      new (class extends Registers {
        override carryOut(): void {}
      })(),
  ],
  'equal entries give equal results and equal states, whenever they come': [
    () =>
      new (class extends Registers {
        override carryOut(entry: CommittedEntry): unknown {
          return [super.carryOut(entry), Date.now()];
        }
      })(),
    () =>
      new (class extends Registers {
        readonly own = machineCount++;
        override snapshot(): SnapshotBytes {
          return new Uint8Array([...this.state(), this.own]);
        }
      })(),
  ],
  'how entries are cut into batches changes neither results nor state': [
    () =>
      new (class extends CountsBatches {
        override carryOut(entry: CommittedEntry): unknown {
          return [super.carryOut(entry), this.batches];
        }
      })(),
    // Two writes of one register in one batch: only the last one counts, and clearing is forgotten.
    () =>
      new (class extends Registers {
        override apply(entries: readonly CommittedEntry[]): readonly unknown[] {
          const last = new Map(entries.map((entry) => [entry.type, entry]));
          return entries.map((entry) =>
            last.get(entry.type) === entry ? this.carryOut(entry) : undefined,
          );
        }
      })(),
  ],
  'apply returns one result per entry, or nothing': [
    () =>
      new (class extends Registers {
        override apply(entries: readonly CommittedEntry[]): readonly unknown[] {
          return [...(super.apply(entries) ?? []), 'one more'];
        }
      })(),
    () =>
      new (class extends Registers {
        override apply(entries: readonly CommittedEntry[]): readonly unknown[] | void {
          const results = super.apply(entries);
          if (entries.length > 5) return results;
        }
      })(),
  ],
  'an empty batch changes nothing': [
    () =>
      new (class extends Registers {
        override apply(entries: readonly CommittedEntry[]): readonly unknown[] | void {
          if (entries.length === 0) this.values.clear();
          return super.apply(entries);
        }
      })(),
    () =>
      new (class extends Registers {
        override apply(entries: readonly CommittedEntry[]): readonly unknown[] | void {
          assert.ok(entries.length > 0);
          return super.apply(entries);
        }
      })(),
  ],
  'restored entries have the same effect as new ones': [
    () =>
      new (class extends Registers {
        override carryOut(entry: CommittedEntry): unknown {
          return entry.restored ? undefined : super.carryOut(entry);
        }
      })(),
  ],
  "what is kept of an entry's data is a copy, when it comes as a plain view": [
    () =>
      new (class extends Registers {
        override carryOut(entry: CommittedEntry): unknown {
          this.values.set(entry.type, entry.data);
          return undefined;
        }
      })(),
  ],
  "what is kept of an entry's data is a copy, when it comes as a Node.js buffer": [
    // The `slice` of a Node.js buffer is a view, that of a plain array is a copy.
    () =>
      new (class extends Registers {
        override carryOut(entry: CommittedEntry): unknown {
          this.values.set(entry.type, entry.data.slice());
          return undefined;
        }
      })(),
  ],
  'the data of an entry is left as it was': [
    () =>
      new (class extends Registers {
        override carryOut(entry: CommittedEntry): unknown {
          const result = super.carryOut(entry);
          entry.data.fill(0);
          return result;
        }
      })(),
    // It writes before its view, into what belongs to others.
    () =>
      new (class extends Registers {
        override carryOut(entry: CommittedEntry): unknown {
          new Uint8Array(entry.data.buffer)[0] = 1;
          return super.carryOut(entry);
        }
      })(),
  ],
  'taking a snapshot does not disturb what is applied later': [
    () =>
      new (class extends Registers {
        snapshots = 0;
        override carryOut(entry: CommittedEntry): unknown {
          return [super.carryOut(entry), this.snapshots];
        }
        override snapshot(): SnapshotBytes {
          this.snapshots += 1;
          return this.state();
        }
      })(),
  ],
  'a snapshot does not change when the machine goes on': [
    () =>
      new (class extends Registers {
        readonly buffer = new Uint8Array(4_096).fill(0x20);
        override snapshot(): SnapshotBytes {
          this.buffer.fill(0x20).set(this.state());
          return this.buffer;
        }
      })(),
  ],
  'a machine that was restored goes on as if it had never stopped': [
    // The count of commands is no part of the snapshot.
    () =>
      new (class extends Registers {
        count = 0;
        override carryOut(entry: CommittedEntry): unknown {
          this.count += 1;
          return [super.carryOut(entry), this.count];
        }
      })(),
    // An empty register comes back as one that is there.
    () =>
      new (class extends Registers {
        override async restore(data: SnapshotData): Promise<void> {
          await super.restore(data);
          for (let name = 0; name < 10; name++) {
            if (!this.values.has(String(name))) this.values.set(String(name), new Uint8Array());
          }
        }
      })(),
  ],
  'restore replaces everything that was there': [
    () =>
      new (class extends Registers {
        override async restore(data: SnapshotData): Promise<void> {
          const before = this.values;
          this.values = new Map();
          await super.restore(data);
          this.values = new Map([...before, ...this.values]);
        }
      })(),
  ],
  'a snapshot of a restored machine restores the same state again': [
    () =>
      new (class extends Registers {
        isRestored = false;
        override snapshot(): SnapshotBytes {
          if (this.isRestored) this.values.clear();
          return this.state();
        }
        override async restore(data: SnapshotData): Promise<void> {
          await super.restore(data);
          this.isRestored = true;
        }
      })(),
  ],
  'a snapshot restores in pieces of any length': [
    // It takes the first piece for the whole.
    () =>
      new (class extends Registers {
        override async restore(data: SnapshotData): Promise<void> {
          for await (const piece of data) {
            await super.restore(snapshotDataOf(piece));
            break;
          }
        }
      })(),
  ],
  'a snapshot of concurrentSnapshots is not disturbed by what is applied': [
    // Its pieces are made of the state as it is when they are asked for.
    () =>
      new (class extends Registers {
        readonly concurrentSnapshots = true;
        override *snapshot(): Generator<Uint8Array> {
          yield new TextEncoder().encode(' ');
          yield this.state();
        }
      })(),
  ],
  'a snapshot that is not read to its end disturbs nothing': [
    // It applies nothing until the snapshot is read to its end.
    () =>
      new (class extends Registers {
        isGiving = false;
        override apply(entries: readonly CommittedEntry[]): readonly unknown[] | void {
          return this.isGiving ? entries.map(() => 'later') : super.apply(entries);
        }
        override *snapshot(): Generator<Uint8Array> {
          this.isGiving = true;
          yield this.state();
          yield new Uint8Array(0);
          this.isGiving = false;
        }
      })(),
  ],
};

test('there is a broken machine for every rule of the contract', () => {
  const names: string[] = [];
  stateMachineContract(
    { test: (name) => names.push(name.replace(' (seed 1)', '')) },
    async () => subjectOf(() => new Registers()),
    { seeds: [1] },
  );
  assert.deepEqual(names.sort(), Object.keys(broken).sort());
});

for (const [rule, machines] of Object.entries(broken)) {
  test(`the contract refuses a machine that breaks: ${rule}`, async () => {
    for (const machine of machines) {
      const rules = await brokenRules(subjectOf(machine));
      assert.ok(rules.includes(rule), `it broke only: ${rules.join('; ')}`);
    }
  });
}

test('a subject whose commands are not drawn from the seed is found out', async () => {
  const random = seededRandom(7);
  const subject = subjectOf(() => new Registers(), {
    command: () => ({ type: String(random.below(10)), data: new Uint8Array([random.below(256)]) }),
  });
  const rules = await brokenRules(subject);
  assert.ok(
    rules.includes('equal entries give equal results and equal states, whenever they come'),
  );
});
