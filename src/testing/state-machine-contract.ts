// What every `StateMachine` must do, as tests that any runner can run: `stateMachineContract({ test }, factory)`. The
// rules are what replicas rely on to stay equal: that state and results follow from the entries alone, however these
// come in batches, and that a snapshot is the whole state. The commands are drawn from seeds, which the names show.

import assert from 'node:assert/strict';
import { must } from '../base/assert.ts';
import { type Random, seededRandom } from '../base/random.ts';
import type { CommittedEntry, SnapshotBytes, StateMachine } from '../ports/state-machine.ts';
import type { LogIndex } from '../raft/types.ts';
import { systemClock } from '../time/system-clock.ts';
import type { ContractRunner } from './contract-runner.ts';
import { bytesOfSnapshot, snapshotDataOf } from './snapshot-bytes.ts';

/** What a proposer would write: the type and the data of an entry. */
export interface SampleCommand {
  readonly type: string;
  readonly data: Uint8Array;
}

/** A kind of state machine to try out. */
export interface StateMachineSubject<Machine extends StateMachine = StateMachine> {
  /** A machine in its first state. Called often: the rules compare machines with each other. */
  machine(): Machine;
  /**
   * The next valid command, all of whose decisions are drawn from `random`. Commands should meet: write what others
   * wrote, delete what is there and what is not, hold data of 0 bytes if that is valid.
   *
   * @param index that the entry will have: larger than those before, with gaps
   */
  command(random: Random, index: LogIndex): SampleCommand;
  /**
   * The state as a value that `deepStrictEqual` can compare, sharing nothing with the machine. Without it states are
   * compared by the bytes of their snapshots, so these must be equal for equal states.
   */
  state?(machine: Machine): unknown;
  /** Releases what the factory made. Called once, after the rule. */
  dispose?(): Promise<void>;
}

export interface StateMachineContractOptions {
  /** Seeds of the commands (default 1 … 3): every rule is tried with each of them. */
  readonly seeds?: readonly number[];
  /** Commands per seed (default 200). */
  readonly commandsPerSeed?: number;
  /** Whether the machine has `snapshot` and `restore` (default true). Without them the subject needs `state`. */
  readonly snapshots?: boolean;
}

/**
 * Names and runs every test of the contract.
 *
 * @param open makes a fresh subject for each test
 */
export function stateMachineContract<Machine extends StateMachine>(
  runner: ContractRunner,
  open: () => Promise<StateMachineSubject<Machine>>,
  options: StateMachineContractOptions = {},
): void {
  const { seeds = [1, 2, 3], commandsPerSeed = 200, snapshots = true } = options;
  for (const seed of seeds) {
    const rule = (name: string, body: (bench: Bench) => Promise<void>): void => {
      runner.test(`${name} (seed ${seed})`, async () => {
        const subject = await open();
        try {
          await body(benchOf(subject, { seed, commandCount: commandsPerSeed }));
        } finally {
          await subject.dispose?.();
        }
      });
    };
    defineApply(rule);
    if (snapshots) defineSnapshots(rule);
    else defineNoSnapshots(rule);
  }
}

type Rule = (name: string, body: (bench: Bench) => Promise<void>) => void;

/** A machine under test, and what it has answered. */
interface Trial {
  readonly machine: StateMachine;
  /** Applies one batch; the results are checked to be one per entry, or none at all. */
  apply(entries: readonly CommittedEntry[]): Promise<void>;
  /** The result of every entry that was applied so far, in order. */
  readonly results: unknown[];
  state(): Promise<unknown>;
}

interface Bench {
  /** A trial with a machine in its first state. */
  trial(): Trial;
  /** The commands of this seed as committed entries: fresh objects and fresh buffers at each call. */
  entries(placing?: Placing): CommittedEntry[];
  /** Other valid commands, at later places of the log. */
  otherEntries(): CommittedEntry[];
  /** A new stream of decisions of the rule itself. */
  random(): Random;
}

interface Placing {
  /** Kind of view in which the data comes (default bytes). */
  readonly kind?: 'bytes' | 'buffer';
  readonly restored?: boolean;
}

/** First index of `otherEntries`, beyond those of any seed. */
const otherFirstIndex = 1_000_000;

function defineApply(rule: Rule): void {
  rule('the commands change the state', async (bench) => {
    const trial = bench.trial();
    const first = await trial.state();
    await trial.apply(bench.entries());
    assert.notDeepStrictEqual(await trial.state(), first, 'otherwise no rule says anything');
  });

  rule('equal entries give equal results and equal states, whenever they come', async (bench) => {
    const one = await applied(bench, [bench.entries()]);
    await wallClockMoved();
    const other = await applied(bench, [bench.entries()]);
    await expectEqual(other, one);
  });

  rule('how entries are cut into batches changes neither results nor state', async (bench) => {
    const whole = await applied(bench, [bench.entries()]);
    const singly = bench.entries().map((entry) => [entry]);
    await expectEqual(await applied(bench, singly), whole);
    for (let round = 0; round < 3; round++) {
      const pages = pagesOf(bench.entries(), bench.random());
      await expectEqual(await applied(bench, pages), whole);
    }
  });

  rule('apply returns one result per entry, or nothing', async (bench) => {
    // The trial checks every batch; what must not happen besides is that it sometimes returns results.
    const entries = bench.entries();
    const { results } = await applied(bench, pagesOf(entries, bench.random()));
    assert.ok(
      results.length === entries.length || results.length === 0,
      `${results.length} results for ${entries.length} entries: all batches have results, or none`,
    );
  });

  rule('an empty batch changes nothing', async (bench) => {
    const trial = bench.trial();
    const [first = [], ...rest] = pagesOf(bench.entries(), bench.random());
    await trial.apply([]);
    await trial.apply(first);
    const before = await trial.state();
    await trial.apply([]);
    assert.deepStrictEqual(await trial.state(), before);
    for (const page of rest) await trial.apply(page);
    await expectEqual(trial, await applied(bench, [bench.entries()]));
  });

  rule('restored entries have the same effect as new ones', async (bench) => {
    const fresh = await applied(bench, [bench.entries()]);
    await expectEqual(await applied(bench, [bench.entries({ restored: true })]), fresh);
  });

  for (const kind of ['bytes', 'buffer'] as const) {
    const how = kind === 'bytes' ? 'a plain view' : 'a Node.js buffer';
    rule(`what is kept of an entry's data is a copy, when it comes as ${how}`, async (bench) => {
      const untouched = await applied(bench, [bench.entries({ kind })]);
      const trial = bench.trial();
      const results: unknown[] = [];
      for (const page of pagesOf(bench.entries({ kind }), bench.random())) {
        await trial.apply(page);
        // Results may be views: they are used at once.
        results.push(...structuredClone(trial.results.splice(0)));
        for (const { data } of page) new Uint8Array(data.buffer).fill(0xa5);
      }
      assert.deepStrictEqual(results, structuredClone(untouched.results));
      assert.deepStrictEqual(await trial.state(), await untouched.state());
    });
  }

  rule('the data of an entry is left as it was', async (bench) => {
    const given = bench.entries();
    await applied(bench, pagesOf(given, bench.random()));
    for (const [at, { index, data }] of bench.entries().entries()) {
      const entry = must(given[at], 'a seed gives the same entries every time');
      assert.deepStrictEqual(entry.data.buffer, data.buffer, `the buffer of entry ${index}`);
    }
  });
}

function defineSnapshots(rule: Rule): void {
  rule('taking a snapshot does not disturb what is applied later', async (bench) => {
    const never = await applied(bench, [bench.entries()]);
    const often = bench.trial();
    for (const page of pagesOf(bench.entries(), bench.random())) {
      await often.apply(page);
      await snapshotOf(often.machine);
    }
    await expectEqual(often, never);
  });

  rule('a snapshot does not change when the machine goes on', async (bench) => {
    const trial = bench.trial();
    const kept: { readonly bytes: Uint8Array; readonly copy: Uint8Array }[] = [];
    for (const page of pagesOf(bench.entries(), bench.random())) {
      const bytes = await snapshotOf(trial.machine);
      kept.push({ bytes, copy: new Uint8Array(bytes) });
      await trial.apply(page);
    }
    for (const { bytes, copy } of kept) assert.deepStrictEqual(new Uint8Array(bytes), copy);
  });

  rule('a machine that was restored goes on as if it had never stopped', async (bench) => {
    await tryCuts(bench, () => bench.trial());
  });

  rule('restore replaces everything that was there', async (bench) => {
    await tryCuts(bench, async () => {
      const used = bench.trial();
      await used.apply(bench.otherEntries());
      used.results.length = 0;
      return used;
    });
  });

  rule('a snapshot of a restored machine restores the same state again', async (bench) => {
    const first = await applied(bench, [bench.entries()]);
    let trial = first;
    for (let generation = 0; generation < 2; generation++) {
      const data = await snapshotOf(trial.machine);
      trial = bench.trial();
      await restoreOf(trial.machine, data);
      assert.deepStrictEqual(await trial.state(), await first.state());
    }
  });

  rule('a snapshot restores in pieces of any length', async (bench) => {
    const first = await applied(bench, [bench.entries()]);
    const data = await snapshotOf(first.machine);
    for (const pieceBytes of [1 + bench.random().below(40), 4_096]) {
      const trial = bench.trial();
      await restoreOf(trial.machine, data, pieceBytes);
      assert.deepStrictEqual(await trial.state(), await first.state(), `pieces of ${pieceBytes}`);
    }
  });

  rule('a snapshot of concurrentSnapshots is not disturbed by what is applied', async (bench) => {
    const trial = bench.trial();
    const [first = [], ...rest] = pagesOf(bench.entries(), bench.random());
    await trial.apply(first);
    if (trial.machine.concurrentSnapshots !== true) return;
    const before = await trial.state();
    const bytes = await takenSlowly(await sourceOf(trial.machine), async () => {
      await trial.apply(rest.shift() ?? []);
    });
    for (const page of rest) await trial.apply(page);
    const restored = bench.trial();
    await restoreOf(restored.machine, bytes);
    assert.deepStrictEqual(await restored.state(), before);
    await expectEqual(trial, await applied(bench, [bench.entries()]));
  });

  rule('a snapshot that is not read to its end disturbs nothing', async (bench) => {
    const trial = bench.trial();
    for (const page of pagesOf(bench.entries(), bench.random())) {
      await trial.apply(page);
      const source = await sourceOf(trial.machine);
      if (source instanceof Uint8Array) continue;
      for await (const piece of source) {
        assert.ok(piece instanceof Uint8Array, 'a piece is a Uint8Array');
        break;
      }
    }
    await expectEqual(trial, await applied(bench, [bench.entries()]));
  });
}

function defineNoSnapshots(rule: Rule): void {
  rule('a machine without snapshots has neither snapshot nor restore', async (bench) => {
    const { machine } = bench.trial();
    assert.ok(machine.snapshot === undefined, 'it has no snapshot()');
    assert.ok(machine.restore === undefined, 'it has no restore()');
  });
}

/**
 * Snapshots after no entry, after all of them, and at some places between; each is restored into what `into` gives,
 * which then gets the rest.
 */
async function tryCuts(bench: Bench, into: () => Trial | Promise<Trial>): Promise<void> {
  const whole = await applied(bench, [bench.entries()]);
  const count = bench.entries().length;
  const random = bench.random();
  for (const cut of [0, 1, random.below(count), random.below(count), count]) {
    const stopped = await applied(bench, [bench.entries().slice(0, cut)]);
    const trial = await into();
    await restoreOf(trial.machine, await snapshotOf(stopped.machine));
    assert.deepStrictEqual(await trial.state(), await stopped.state(), `restored behind ${cut}`);
    await trial.apply(bench.entries().slice(cut));
    assert.deepStrictEqual([...stopped.results, ...trial.results], whole.results, `cut ${cut}`);
    assert.deepStrictEqual(await trial.state(), await whole.state(), `went on behind ${cut}`);
  }
}

function benchOf<Machine extends StateMachine>(
  subject: StateMachineSubject<Machine>,
  options: { readonly seed: number; readonly commandCount: number },
): Bench {
  const { seed, commandCount } = options;
  const draw = (from: number, firstIndex: number, placing: Placing): CommittedEntry[] =>
    drawEntries(subject, { seed: from, commandCount, firstIndex, placing });
  return {
    trial() {
      const machine = subject.machine();
      const results: unknown[] = [];
      return {
        machine,
        results,
        async apply(entries) {
          const answer: readonly unknown[] | void = await machine.apply(entries);
          if (answer === undefined) return;
          assert.equal(Array.isArray(answer), true, 'apply returns an array, or nothing');
          assert.equal(answer.length, entries.length, 'apply returns one result per entry');
          results.push(...answer);
        },
        state: async () =>
          subject.state === undefined
            ? new Uint8Array(await snapshotOf(machine))
            : await subject.state(machine),
      };
    },
    entries: (placing = {}) => draw(seed, 1, placing),
    otherEntries: () => draw(seed + 1_000, otherFirstIndex, {}),
    random: () => seededRandom(seed),
  };
}

/**
 * Entries as a partition would hand them over: ascending with gaps (the library's own entries take places, too), terms
 * that never fall, data somewhere inside of a buffer that holds other things around it.
 */
function drawEntries(
  subject: Pick<StateMachineSubject, 'command'>,
  options: {
    readonly seed: number;
    readonly commandCount: number;
    readonly firstIndex: number;
    readonly placing: Placing;
  },
): CommittedEntry[] {
  const { seed, commandCount, firstIndex, placing } = options;
  const random = seededRandom(seed);
  let index = firstIndex - 1;
  let term = 1;
  return Array.from({ length: commandCount }, () => {
    index += 1 + (random.below(8) === 0 ? random.below(3) : 0);
    if (random.below(20) === 0) term += 1 + random.below(2);
    const { type, data } = subject.command(random, index);
    const start = random.below(16);
    const buffer = new ArrayBuffer(start + data.byteLength + random.below(16));
    new Uint8Array(buffer).fill(0x5a).set(data, start);
    return {
      partitionId: 1,
      index,
      term,
      timestamp: index * 4_096,
      type,
      data:
        placing.kind === 'buffer'
          ? Buffer.from(buffer, start, data.byteLength)
          : new Uint8Array(buffer, start, data.byteLength),
      restored: placing.restored ?? false,
    };
  });
}

/** A fresh machine that was given `batches`. */
async function applied(
  bench: Bench,
  batches: readonly (readonly CommittedEntry[])[],
): Promise<Trial> {
  const trial = bench.trial();
  for (const batch of batches) await trial.apply(batch);
  return trial;
}

async function expectEqual(actual: Trial, expected: Trial): Promise<void> {
  assert.deepStrictEqual(actual.results, expected.results);
  assert.deepStrictEqual(await actual.state(), await expected.state());
}

/** Cuts a list into 1 … 20 entries a piece. */
function pagesOf<Item>(items: readonly Item[], random: Random): Item[][] {
  const pages: Item[][] = [];
  for (let from = 0; from < items.length; ) {
    const end = from + 1 + random.below(20);
    pages.push(items.slice(from, end));
    from = end;
  }
  return pages;
}

/** Machines that look at the clock must see another time. */
async function wallClockMoved(): Promise<void> {
  const startMs = systemClock.wallMs();
  while (systemClock.wallMs() === startMs) {
    await new Promise<void>((resolve) => systemClock.defer(resolve));
  }
}

async function snapshotOf(machine: StateMachine): Promise<Uint8Array> {
  const bytes = await bytesOfSnapshot(await sourceOf(machine));
  assert.ok(bytes instanceof Uint8Array, 'a snapshot is a Uint8Array, or pieces that are');
  return bytes;
}

async function sourceOf(machine: StateMachine): Promise<SnapshotBytes> {
  assert.ok(machine.snapshot !== undefined, 'the machine has snapshot(), or its subject state()');
  return await machine.snapshot();
}

async function restoreOf(
  machine: StateMachine,
  data: Uint8Array,
  pieceBytes?: number,
): Promise<void> {
  assert.ok(machine.restore !== undefined, 'a machine with snapshot() has restore()');
  await machine.restore(snapshotDataOf(data, pieceBytes));
}

/** Takes a snapshot piece by piece; `between` is called before every piece but the first. */
async function takenSlowly(
  source: SnapshotBytes,
  between: () => Promise<void>,
): Promise<Uint8Array> {
  if (source instanceof Uint8Array) return source;
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for await (const piece of source as Iterable<Uint8Array> | AsyncIterable<Uint8Array>) {
      yield piece;
      await between();
    }
  }
  return bytesOfSnapshot(pieces());
}
