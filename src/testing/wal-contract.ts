// What every log store must do, as tests: run them against an adapter with `walContract({ test }, factory)`. They use
// the port only. The random part repeats exactly for a seed, which its name shows.

import assert from 'node:assert/strict';
import { isKommanderError } from '../base/errors.ts';
import { seededRandom } from '../base/random.ts';
import type {
  LogBase,
  PartitionId,
  PartitionWrite,
  Wal,
  WalBatch,
  WalContents,
} from '../ports/wal.ts';
import {
  type Entry,
  EntryKind,
  type LogIndex,
  payloadBytes,
  payloadOf,
  proposedEntry,
  type Term,
} from '../raft/types.ts';
import type { ContractRunner } from './contract-runner.ts';
import { defineSnapshots } from './snapshot-contract.ts';
import {
  contentsOf,
  emptyModel,
  factsOf,
  laidOut,
  lastIndexOf,
  membersOf,
  numbered,
  randomBatch,
  type WalModel,
  writeToModel,
} from './wal-model.ts';

/** A place where a log store can lie: a directory, a bucket, an object in memory. */
export interface WalPlace {
  /**
   * A store on this place, not yet open. What an earlier one wrote and closed is there. A store that lives in memory
   * gives the same object again.
   */
  wal(): Wal;
  /** Removes the place. Called once, after every store on it was closed. */
  remove(): Promise<void>;
}

export interface WalContractOptions {
  /** Seeds of the random part (default 1 … 20). */
  readonly seeds?: readonly number[];
  /** Batches per seed (default 60). */
  readonly batchesPerSeed?: number;
}

/** Makes an empty place. */
export type WalPlaceFactory = () => Promise<WalPlace>;

/** Names and runs every test of the contract. */
export function walContract(
  runner: ContractRunner,
  factory: WalPlaceFactory,
  options: WalContractOptions = {},
): void {
  const define = (name: string, body: (store: Store) => Promise<void>): void => {
    runner.test(name, () => withStore(factory, body));
  };
  defineRecords(define);
  defineTruncation(define);
  defineBase(define);
  defineCompaction(define);
  definePartitions(define);
  defineReads(define);
  defineSnapshots(define);
  defineLife(define, (name, body) => runner.test(name, () => withPlace(factory, body)));
  const { seeds = Array.from({ length: 20 }, (_, i) => i + 1), batchesPerSeed = 60 } = options;
  for (const seed of seeds) {
    define(`random batches and restarts keep exactly what was written (seed ${seed})`, (store) =>
      runRandomBatches(store, { seed, batchCount: batchesPerSeed }),
    );
  }
}

type Define = (name: string, body: (store: Store) => Promise<void>) => void;

/** An open store that can be restarted. */
interface Store {
  wal: Wal;
  contents: WalContents;
  /** Closes the store and opens it again. */
  reopen(): Promise<WalContents>;
}

async function withPlace(
  factory: WalPlaceFactory,
  body: (place: WalPlace) => Promise<void>,
): Promise<void> {
  const place = await factory();
  try {
    await body(place);
  } finally {
    await place.remove();
  }
}

function withStore(factory: WalPlaceFactory, body: (store: Store) => Promise<void>): Promise<void> {
  return withPlace(factory, async (place) => {
    const wal = place.wal();
    const store: Store = {
      wal,
      contents: await wal.open(),
      async reopen() {
        await store.wal.close();
        store.wal = place.wal();
        store.contents = await store.wal.open();
        return store.contents;
      },
    };
    try {
      await body(store);
    } finally {
      await store.wal.close();
    }
  });
}

function defineRecords(define: Define): void {
  define('a new store is empty', async ({ contents }) => {
    assert.deepEqual(contents, { partitions: [], meta: new Map() });
  });

  define('entries keep index, term, kind and payload', async (store) => {
    const written = [
      ...entriesFrom(1, 1, ['a', '', 'ccc']),
      ...numbered([proposedEntry(EntryKind.confChange, bytesOf('change'))], { index: 4, term: 2 }),
      ...entriesFrom(5, 2, ['e']),
    ];
    await store.wal.write(batchOf(part(1, { entries: written })));
    assert.deepEqual(await factsOfLog(store.wal, 1, { from: 1, end: 6 }), written.map(factsOf));
    await store.reopen();
    assert.deepEqual(await factsOfLog(store.wal, 1, { from: 1, end: 6 }), written.map(factsOf));
    assert.deepEqual(store.contents.partitions[0]?.termRuns, [
      { firstIndex: 1, term: 1 },
      { firstIndex: 4, term: 2 },
    ]);
  });

  define(
    'hard state is stored with the entries of its batch, and the last one counts',
    async (store) => {
      const hardState = { term: 7, votedFor: 3, commitIndex: 1 };
      await store.wal.write(
        batchOf(part(1, { hardState: { term: 6, votedFor: undefined, commitIndex: 0 } })),
      );
      await store.wal.write(batchOf(part(1, { hardState, entries: entriesFrom(1, 7, ['a']) })));
      const { partitions } = await store.reopen();
      assert.deepEqual(partitions[0]?.hardState, hardState);
      assert.equal(partitions[0]?.lastIndex, 1);
      await store.wal.write(batchOf(part(1, { hardState: { ...hardState, votedFor: undefined } })));
      const [again] = (await store.reopen()).partitions;
      assert.deepEqual(again?.hardState, { ...hardState, votedFor: undefined });
    },
  );

  define('a hard state as large as numbers go comes back', async (store) => {
    const hardState = {
      term: Number.MAX_SAFE_INTEGER,
      votedFor: 0x7fff_ffff,
      commitIndex: Number.MAX_SAFE_INTEGER - 1,
    };
    await store.wal.write(batchOf(part(0, { hardState })));
    assert.deepEqual((await store.reopen()).partitions[0]?.hardState, hardState);
  });

  define(
    'node-wide facts are set, replaced and removed; empty names and values are facts',
    async (store) => {
      await store.wal.write(metaBatch({ '': 'nameless', a: 'one', b: '', 'µ/ß': 'x' }));
      await store.wal.write(metaBatch({ a: 'two', '': undefined, never: undefined }));
      assert.deepEqual(
        (await store.reopen()).meta,
        new Map([
          ['a', bytesOf('two')],
          ['b', bytesOf('')],
          ['µ/ß', bytesOf('x')],
        ]),
      );
    },
  );

  define('a fact keeps its bytes, whatever becomes of the buffer that it was in', async (store) => {
    const buffer = bytesOf('one');
    await store.wal.write({ ...metaBatch({}), meta: new Map([['a', buffer]]) });
    buffer.fill(0);
    assert.deepEqual((await store.reopen()).meta, new Map([['a', bytesOf('one')]]));
  });

  define('payloads of 0 bytes and of 1 MiB come back', async (store) => {
    const large = new Uint8Array(1_048_576).map((_, i) => (i * 7 + (i >>> 8)) & 0xff);
    const payloads = [new Uint8Array(0), large, new Uint8Array(0)];
    const proposed = payloads.map((bytes) => proposedEntry(EntryKind.normal, bytes));
    await store.wal.write(batchOf(part(1, { entries: numbered(proposed, { index: 1, term: 1 }) })));
    await store.reopen();
    const read = await readLog(store.wal, 1, { from: 1, end: 4 });
    assert.deepEqual(
      read.map((entry) => Buffer.compare(payloadOf(entry), payloads[entry.index - 1] ?? large)),
      [0, 0, 0],
    );
  });

  define('a batch without content stores nothing', async (store) => {
    await store.wal.write(batchOf(part(1, {})));
    await store.wal.write(batchOf());
    assert.deepEqual(await store.reopen(), { partitions: [], meta: new Map() });
  });
}

function defineTruncation(define: Define): void {
  const cases: readonly { readonly name: string; readonly cut: LogIndex }[] = [
    { name: 'inside a run', cut: 7 },
    { name: 'at the border of two runs', cut: 6 },
    { name: 'at the last entry', cut: 15 },
    { name: 'inside the first run', cut: 2 },
    { name: 'at the first entry', cut: 1 },
  ];
  for (const { name, cut } of cases) {
    define(
      `an entry that conflicts ${name} removes what is stored from there on`,
      async (store) => {
        const model = await threeRuns(store);
        await writeBoth(store, model, batchOf(part(1, { entries: entriesFrom(cut, 9, ['new']) })));
        await checkAll(store, model);
        await store.reopen();
        await checkAll(store, model);
        const more = entriesFrom(cut + 1, 9, ['after', 'that']);
        await writeBoth(store, model, batchOf(part(1, { entries: more })));
        await store.reopen();
        await checkAll(store, model);
      },
    );
  }

  define('a run that was cut twice holds what was below the lower cut', async (store) => {
    const model = await threeRuns(store);
    for (const cut of [10, 8, 7]) {
      await writeBoth(
        store,
        model,
        batchOf(part(1, { entries: entriesFrom(cut, 20 - cut, ['x', 'y']) })),
      );
    }
    await checkAll(store, model);
    await store.reopen();
    await checkAll(store, model);
  });

  define('the parts of a batch are carried out in their order', async (store) => {
    const model = emptyModel();
    const first = part(1, { entries: entriesFrom(1, 1, ['a', 'b', 'c', 'd', 'e']) });
    const second = part(1, { entries: entriesFrom(3, 2, ['C']) });
    const third = part(1, { entries: entriesFrom(4, 2, ['D', 'E']) });
    await writeBoth(store, model, batchOf(first, second, third));
    await checkAll(store, model);
    await store.reopen();
    await checkAll(store, model);
  });

  define('a gap between stored and new entries is refused and changes nothing', async (store) => {
    const model = await threeRuns(store);
    const gap = part(1, { entries: entriesFrom(17, 9, ['gap']) });
    await assert.rejects(store.wal.write(batchOf(gap)));
    await checkAll(store, model);
    await store.reopen();
    await checkAll(store, model);
  });

  define('a batch is stored as a whole or not at all', async (store) => {
    const model = await threeRuns(store);
    const good = part(2, { entries: entriesFrom(1, 1, ['good']), hardState: vote(5) });
    const better = part(1, { entries: entriesFrom(3, 9, ['better']) });
    const bad = part(3, { entries: entriesFrom(2, 1, ['gap']) });
    const batch = { ...batchOf(good, better, bad), meta: new Map([['a', bytesOf('x')]]) };
    await assert.rejects(store.wal.write(batch));
    await checkAll(store, model);
    await store.reopen();
    await checkAll(store, model);
  });

  define('entries up to the base are settled: a write over them is refused', async (store) => {
    const model = await threeRuns(store);
    await writeBoth(store, model, batchOf(part(1, { base: baseAt(8, 2) })));
    await assert.rejects(store.wal.write(batchOf(part(1, { entries: entriesFrom(8, 9, ['x']) }))));
    await writeBoth(store, model, batchOf(part(1, { entries: entriesFrom(9, 9, ['x']) })));
    await store.reopen();
    await checkAll(store, model);
  });

  define('terms never fall along the log', async (store) => {
    const model = await threeRuns(store);
    await assert.rejects(store.wal.write(batchOf(part(1, { entries: entriesFrom(16, 2, ['x']) }))));
    await checkAll(store, model);
  });
}

function defineBase(define: Define): void {
  define('a base inside the log keeps the entries around it', async (store) => {
    const model = await threeRuns(store);
    await writeBoth(store, model, batchOf(part(1, { base: baseAt(8, 2, 'state') })));
    await checkAll(store, model);
    const [partition] = (await store.reopen()).partitions;
    assert.deepEqual(partition?.base, baseAt(8, 2, 'state'));
    assert.equal(partition?.lastIndex, 15);
    await checkAll(store, model);
  });

  define('a base from the leader inside the log removes all entries', async (store) => {
    const model = await threeRuns(store);
    await writeBoth(
      store,
      model,
      batchOf(part(1, { base: baseAt(8, 5), resetLog: true, hardState: vote(5) })),
    );
    assert.equal((await store.reopen()).partitions[0]?.lastIndex, 8);
    await checkAll(store, model);
    await writeBoth(store, model, batchOf(part(1, { entries: entriesFrom(9, 5, ['i', 'j']) })));
    await store.reopen();
    await checkAll(store, model);
  });

  define('a base from the leader at the compaction mark brings its own term', async (store) => {
    const model = await threeRuns(store);
    await writeBoth(store, model, batchOf(part(1, { base: baseAt(8, 2), compactThroughIndex: 8 })));
    await writeBoth(store, model, batchOf(part(1, { base: baseAt(8, 5), resetLog: true })));
    await store.reopen();
    await checkAll(store, model);
    await writeBoth(store, model, batchOf(part(1, { entries: entriesFrom(9, 5, ['i']) })));
    await store.reopen();
    await checkAll(store, model);
  });

  define(
    'a base beyond the log removes all entries, and the log goes on behind it',
    async (store) => {
      const model = await threeRuns(store);
      const entries = entriesFrom(101, 6, ['a', 'b']);
      await writeBoth(store, model, batchOf(part(1, { base: baseAt(100, 6), entries })));
      await checkAll(store, model);
      await store.reopen();
      await checkAll(store, model);
      await assert.rejects(
        store.wal.read({ partitionId: 1, fromIndex: 15, endIndex: 16, bytesMax: 1 }),
      );
    },
  );

  define('a base at the last entry is inside the log', async (store) => {
    const model = await threeRuns(store);
    await writeBoth(store, model, batchOf(part(1, { base: baseAt(15, 3) })));
    await store.reopen();
    await checkAll(store, model);
    assert.equal(store.contents.partitions[0]?.compactedIndex, 0);
  });

  define('a base holds members of a joint configuration and data of 0 bytes', async (store) => {
    const confState = {
      voters: [1, 2, 300],
      votersOutgoing: [1, 2],
      learners: [9],
      learnersNext: [2],
      autoLeave: true,
    };
    const base = { index: 0, term: 0, confState, data: new Uint8Array(0) };
    await store.wal.write(batchOf(part(4, { base })));
    assert.deepEqual((await store.reopen()).partitions[0]?.base, base);
  });

  define('a base that moves back is refused unless the log is reset', async (store) => {
    const model = await threeRuns(store);
    await writeBoth(store, model, batchOf(part(1, { base: baseAt(8, 2) })));
    await assert.rejects(store.wal.write(batchOf(part(1, { base: baseAt(7, 2) }))));
    await checkAll(store, model);
    await writeBoth(store, model, batchOf(part(1, { base: baseAt(7, 2), resetLog: true })));
    await store.reopen();
    await checkAll(store, model);
  });

  define('a log can begin far behind index 2^32', async (store) => {
    const model = emptyModel();
    const start = 0x1_0000_0000 - 3;
    await writeBoth(store, model, batchOf(part(1, { base: baseAt(start, 4) })));
    for (let index = start + 1; index < start + 13; index += 2) {
      const entries = entriesFrom(index, 4, ['a', 'b']);
      await writeBoth(store, model, batchOf(part(1, { entries })));
    }
    await writeBoth(
      store,
      model,
      batchOf(part(1, { entries: entriesFrom(start + 10, 5, ['over']) })),
    );
    await store.reopen();
    await checkAll(store, model);
  });
}

function defineCompaction(define: Define): void {
  for (const throughIndex of [1, 4, 5, 7, 10, 14, 15]) {
    define(`compaction through entry ${throughIndex} of 15 keeps the rest`, async (store) => {
      const model = await threeRuns(store);
      const term = Math.ceil(throughIndex / 5);
      const write = part(1, {
        base: baseAt(throughIndex, term),
        compactThroughIndex: throughIndex,
      });
      await writeBoth(store, model, batchOf(write));
      await checkAll(store, model);
      await store.reopen();
      await checkAll(store, model);
      const entries = entriesFrom(16, 3, ['p', 'q']);
      await writeBoth(store, model, batchOf(part(1, { entries })));
      await store.reopen();
      await checkAll(store, model);
      await assert.rejects(
        store.wal.read({
          partitionId: 1,
          fromIndex: throughIndex,
          endIndex: 17,
          bytesMax: Number.POSITIVE_INFINITY,
        }),
        (error) => isKommanderError(error, 'INVALID_ARGUMENT'),
      );
    });
  }

  define('compaction beyond the base is refused; below the mark it does nothing', async (store) => {
    const model = await threeRuns(store);
    await writeBoth(store, model, batchOf(part(1, { base: baseAt(8, 2), compactThroughIndex: 7 })));
    await assert.rejects(store.wal.write(batchOf(part(1, { compactThroughIndex: 9 }))));
    await writeBoth(store, model, batchOf(part(1, { compactThroughIndex: 3 })));
    await store.reopen();
    await checkAll(store, model);
  });

  define(
    'truncation inside a run that is half compacted keeps what lies between',
    async (store) => {
      const model = await threeRuns(store);
      await writeBoth(
        store,
        model,
        batchOf(part(1, { base: baseAt(7, 2), compactThroughIndex: 7 })),
      );
      await writeBoth(store, model, batchOf(part(1, { entries: entriesFrom(9, 8, ['n']) })));
      await store.reopen();
      await checkAll(store, model);
      await writeBoth(store, model, batchOf(part(1, { entries: entriesFrom(8, 9, ['m']) })));
      await store.reopen();
      await checkAll(store, model);
    },
  );
}

function definePartitions(define: Define): void {
  define('partitions never mix, whatever their numbers', async (store) => {
    const model = emptyModel();
    const ids = [0, 1, 2, 0xff, 0x100, 0x1_0000, 0x7fff_ffff];
    for (let round = 0; round < 4; round++) {
      const parts = ids.map((id) =>
        part(id, {
          hardState: vote(round + 1),
          entries: entriesFrom(round * 2 + 1, round + 1, [`${id}/${round}`, `${id}`]),
        }),
      );
      await writeBoth(store, model, batchOf(...parts));
    }
    const entries = entriesFrom(2, 9, ['cut']);
    await writeBoth(store, model, batchOf(part(0x100, { entries })));
    await writeBoth(store, model, batchOf(part(1, { base: baseAt(99, 9) })));
    await checkAll(store, model);
    await store.reopen();
    await checkAll(store, model);
  });
}

function defineReads(define: Define): void {
  define('a read gives at least one entry, and then as many as fit', async (store) => {
    const entries = entriesFrom(1, 1, ['12345', '123', '', '12', '1234567890']);
    await store.wal.write(batchOf(part(1, { entries })));
    const lengths = async (fromIndex: LogIndex, bytesMax: number): Promise<number[]> => {
      const range = { partitionId: 1, fromIndex, endIndex: 6, bytesMax };
      return (await store.wal.read(range)).map(payloadBytes);
    };
    assert.deepEqual(await lengths(1, 0), [5]);
    assert.deepEqual(await lengths(1, 7), [5]);
    assert.deepEqual(await lengths(1, 8), [5, 3, 0]);
    assert.deepEqual(await lengths(2, 5), [3, 0, 2]);
    assert.deepEqual(await lengths(3, 1), [0]);
    assert.deepEqual(await lengths(5, 1), [10]);
    assert.deepEqual(await lengths(1, Number.POSITIVE_INFINITY), [5, 3, 0, 2, 10]);
  });

  define('every range within and across runs can be read', async (store) => {
    const model = await threeRuns(store);
    const facts = (model.partitions.get(1)?.entries ?? []).map(factsOf);
    for (let from = 1; from <= 15; from++) {
      for (let end = from + 1; end <= 16; end++) {
        const read = await factsOfLog(store.wal, 1, { from, end });
        assert.deepEqual(read, facts.slice(from - 1, end - 1));
      }
    }
  });

  define('a long log is read in pieces that join', async (store) => {
    const payload = 'x'.repeat(1_000);
    for (let index = 1; index < 3_000; index += 100) {
      const entries = entriesFrom(index, 1, Array<string>(100).fill(payload));
      await store.wal.write(batchOf(part(1, { entries })));
    }
    for (let fromIndex = 1; fromIndex <= 3_000; ) {
      const range = { partitionId: 1, fromIndex, endIndex: 3_001, bytesMax: 700_500 };
      const read = await store.wal.read(range);
      assert.equal(read.length, Math.min(700, 3_001 - fromIndex));
      assert.equal(read[0]?.index, fromIndex);
      fromIndex += read.length;
    }
  });

  define('a read outside of what is stored is refused', async (store) => {
    await threeRuns(store);
    const ranges = [
      { partitionId: 1, fromIndex: 0, endIndex: 2 },
      { partitionId: 1, fromIndex: 3, endIndex: 3 },
      { partitionId: 1, fromIndex: 15, endIndex: 17 },
      { partitionId: 2, fromIndex: 1, endIndex: 2 },
    ];
    for (const range of ranges) {
      await assert.rejects(store.wal.read({ ...range, bytesMax: 100 }), (error) =>
        isKommanderError(error, 'INVALID_ARGUMENT'),
      );
    }
  });

  define('reads go on while a batch is written', async (store) => {
    const model = await threeRuns(store);
    const entries = entriesFrom(12, 9, ['n', 'o']);
    const writing = store.wal.write({ ...batchOf(part(1, { entries })), sync: true });
    const facts = (model.partitions.get(1)?.entries ?? []).map(factsOf);
    assert.deepEqual(await factsOfLog(store.wal, 1, { from: 1, end: 12 }), facts.slice(0, 11));
    await writing;
  });
}

function defineLife(
  define: Define,
  definePlace: (name: string, body: (place: WalPlace) => Promise<void>) => void,
): void {
  define('figures count one sync per synced batch and none for the others', async (store) => {
    assert.equal(store.wal.stats().syncCount, 0);
    const parts = [1, 2, 3].map((id) => part(id, { entries: entriesFrom(1, 1, ['abc', 'def']) }));
    await store.wal.write({ ...batchOf(...parts), sync: false });
    assert.deepEqual(pick(store.wal), { writeCount: 1, syncCount: 0, entryCount: 6 });
    assert.ok(store.wal.stats().bytesWritten >= 18);
    await store.wal.write({ ...batchOf(part(1, { hardState: vote(1) })), sync: true });
    assert.deepEqual(pick(store.wal), { writeCount: 2, syncCount: 1, entryCount: 6 });
    await store.wal.write({ ...batchOf(), sync: true });
    assert.deepEqual(pick(store.wal), { writeCount: 3, syncCount: 2, entryCount: 6 });
    await store.reopen();
    assert.deepEqual(pick(store.wal), { writeCount: 0, syncCount: 0, entryCount: 0 });
  });

  define('a closed store refuses reads and writes with a typed error', async (store) => {
    await threeRuns(store);
    await store.wal.close();
    await store.wal.close();
    const isClosed = (error: unknown): boolean => isKommanderError(error, 'NODE_CLOSED');
    const range = { partitionId: 1, fromIndex: 1, endIndex: 2, bytesMax: 1 };
    await assert.rejects(store.wal.write(batchOf(part(1, { hardState: vote(9) }))), isClosed);
    await assert.rejects(store.wal.read(range), isClosed);
  });

  define('a write that was handed over before the close is finished', async (store) => {
    const model = await threeRuns(store);
    const batch = batchOf(part(1, { entries: entriesFrom(12, 9, ['late']) }));
    writeToModel(model, batch);
    const writing = store.wal.write(batch);
    await store.wal.close();
    await writing;
    await store.reopen();
    await checkAll(store, model);
  });

  definePlace('a store that is open cannot be opened a second time', async (place) => {
    const first = place.wal();
    const second = place.wal();
    await first.open();
    try {
      await assert.rejects(second.open(), (error) => isKommanderError(error, 'WAL_LOCKED'));
      await first.write(batchOf(part(1, { hardState: vote(1) })));
    } finally {
      await first.close();
    }
    assert.deepEqual((await second.open()).partitions[0]?.hardState, vote(1));
    await second.close();
  });

  definePlace('a store that was never opened refuses writes and can be closed', async (place) => {
    const wal = place.wal();
    await assert.rejects(wal.write(batchOf(part(1, { hardState: vote(1) }))), (error) =>
      isKommanderError(error, 'NODE_CLOSED'),
    );
    await wal.close();
  });

  definePlace(
    'an open that follows the close of a store that was not open is closed as any other',
    async (place) => {
      const wal = place.wal();
      const closing = wal.close();
      await wal.open();
      await closing;
      await wal.write(batchOf(part(1, { hardState: vote(1) })));
      await wal.close();
      const again = place.wal();
      assert.deepEqual((await again.open()).partitions[0]?.hardState, vote(1));
      await again.close();
    },
  );
}

function pick(wal: Wal): { writeCount: number; syncCount: number; entryCount: number } {
  const { writeCount, syncCount, entryCount } = wal.stats();
  return { writeCount, syncCount, entryCount };
}

async function runRandomBatches(
  store: Store,
  run: { readonly seed: number; readonly batchCount: number },
): Promise<void> {
  const random = seededRandom(run.seed);
  const model = emptyModel();
  for (let i = 0; i < run.batchCount; i++) {
    await writeBoth(store, model, randomBatch(random, model));
    if (random.below(8) === 0) await store.reopen();
    if (random.below(3) === 0) await checkAll(store, model);
  }
  await store.reopen();
  assert.deepEqual(store.contents, contentsOf(model));
  await checkAll(store, model);
}

/** Partition 1 with runs of terms 1, 2 and 3: entries 1 … 5, 6 … 10 and 11 … 15. */
async function threeRuns(store: Store): Promise<WalModel> {
  const model = emptyModel();
  for (const term of [1, 2, 3]) {
    const texts = [1, 2, 3, 4, 5].map((i) => `term ${term} entry ${i}`);
    const entries = entriesFrom(term * 5 - 4, term, texts);
    await writeBoth(store, model, batchOf(part(1, { entries })));
  }
  return model;
}

async function writeBoth(store: Store, model: WalModel, batch: WalBatch): Promise<void> {
  await store.wal.write(batch);
  writeToModel(model, batch);
}

/** Checks every entry, and what `open` said if nothing was written since. */
async function checkAll(store: Store, model: WalModel): Promise<void> {
  for (const [partitionId, partition] of model.partitions) {
    const range = { from: partition.compactedIndex + 1, end: lastIndexOf(partition) + 1 };
    if (range.from === range.end) continue;
    const read = await factsOfLog(store.wal, partitionId, range);
    assert.deepEqual(read, partition.entries.map(factsOf));
  }
  if (store.wal.stats().writeCount === 0) assert.deepEqual(store.contents, contentsOf(model));
}

async function factsOfLog(
  wal: Wal,
  partitionId: PartitionId,
  range: { readonly from: LogIndex; readonly end: LogIndex },
): Promise<string[]> {
  return (await readLog(wal, partitionId, range)).map(factsOf);
}

function readLog(
  wal: Wal,
  partitionId: PartitionId,
  range: { readonly from: LogIndex; readonly end: LogIndex },
): Promise<readonly Entry[]> {
  const { from: fromIndex, end: endIndex } = range;
  return wal.read({ partitionId, fromIndex, endIndex, bytesMax: Number.POSITIVE_INFINITY });
}

function part(partitionId: PartitionId, write: Partial<PartitionWrite>): PartitionWrite {
  return {
    hardState: undefined,
    base: undefined,
    resetLog: false,
    entries: [],
    compactThroughIndex: undefined,
    ...write,
    partitionId,
  };
}

function batchOf(...writes: readonly PartitionWrite[]): WalBatch {
  return { writes, meta: new Map(), sync: false };
}

function metaBatch(facts: Readonly<Record<string, string | undefined>>): WalBatch {
  const meta = new Map<string, Uint8Array | undefined>();
  for (const [name, text] of Object.entries(facts))
    meta.set(name, text === undefined ? undefined : bytesOf(text));
  return { writes: [], meta, sync: false };
}

function entriesFrom(index: LogIndex, term: Term, texts: readonly string[]): Entry[] {
  const payloads = texts.map((text) => ({ kind: EntryKind.normal, bytes: bytesOf(text) }));
  return numbered(laidOut(payloads), { index, term });
}

function baseAt(index: LogIndex, term: Term, text?: string): LogBase {
  const data = text === undefined ? undefined : bytesOf(text);
  return { index, term, confState: membersOf([1, 2, 3]), data };
}

function vote(term: Term): { term: Term; votedFor: number; commitIndex: LogIndex } {
  return { term, votedFor: 2, commitIndex: 0 };
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'utf8'));
}
