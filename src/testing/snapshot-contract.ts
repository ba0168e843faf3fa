// What the snapshots of a log store must do, as a part of its contract (`wal-contract.ts`).

import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { seededRandom } from '../base/random.ts';
import {
  readMarginBytes,
  type SnapshotFacts,
  type SnapshotReader,
  type SnapshotStore,
} from '../ports/snapshot-store.ts';
import type { Wal } from '../ports/wal.ts';

/** An open store that can be restarted. */
interface Store {
  wal: Wal;
  reopen(): Promise<unknown>;
}

/** Lengths around those that a store may cut a snapshot into. */
const lengths = [0, 1, 65_535, 65_536, 65_537, 262_144, 262_145, 1_000_003];

/** Names and runs the tests. */
export function defineSnapshots(
  define: (name: string, body: (store: Store) => Promise<void>) => void,
): void {
  define('a new store has no snapshots', async ({ wal }) => {
    assert.deepEqual(await wal.snapshots.list(), []);
    assert.equal(await wal.snapshots.resume('none'), undefined);
    await wal.snapshots.remove('none');
    await refused(wal.snapshots, 'none', { byteLength: 0, checksum: 0 });
  });

  for (const byteLength of lengths) {
    define(`a snapshot of ${byteLength} bytes is there as it was written`, async (store) => {
      const bytes = sample(byteLength, 1);
      const facts = await stored(store.wal.snapshots, 'p1-own', bytes, 10_000);
      assert.deepEqual(facts, { byteLength, checksum: crc32(bytes) });
      for (let restart = 0; restart < 2; restart++) {
        assert.deepEqual(await store.wal.snapshots.list(), [{ name: 'p1-own', isFinished: true }]);
        assert.equal(Buffer.compare(await readAll(store.wal.snapshots, 'p1-own', facts), bytes), 0);
        await store.reopen();
      }
    });
  }

  define('any range of a snapshot can be read', async ({ wal }) => {
    const bytes = sample(700_000, 2);
    const facts = await stored(wal.snapshots, 'ranges', bytes, 99_999);
    const reader = await wal.snapshots.open('ranges', facts);
    const random = seededRandom(3);
    for (let round = 0; round < 50; round++) {
      const offset = random.below(bytes.byteLength);
      const bytesMax = 1 + random.below(300_000);
      const buffer = new Uint8Array(bytesMax + readMarginBytes).fill(7);
      const part = await reader.read(offset, bytesMax, round % 2 === 0 ? buffer : undefined);
      assert.ok(part.byteLength >= 1 && part.byteLength <= bytesMax, `${part.byteLength} bytes`);
      assert.equal(Buffer.compare(part, bytes.subarray(offset, offset + part.byteLength)), 0);
    }
    assert.equal((await reader.read(bytes.byteLength, 1)).byteLength, 0);
    await reader.close();
    await reader.close();
  });

  define(
    'an unfinished snapshot is none, and can be gone on with, also after a restart',
    async (store) => {
      const bytes = sample(1_500_000, 4);
      const begun = await store.wal.snapshots.create('part');
      await begun.append(bytes.subarray(0, 900_000));
      await begun.suspend();
      for (const how of ['at once', 'after a restart']) {
        if (how === 'after a restart') await store.reopen();
        const { snapshots } = store.wal;
        assert.deepEqual(await snapshots.list(), [{ name: 'part', isFinished: false }], how);
        await refused(snapshots, 'part', { byteLength: 900_000, checksum: 0 });
        const writer = await snapshots.resume('part');
        assert.ok(writer !== undefined, how);
        assert.ok(writer.byteLength > 0 && writer.byteLength <= 1_200_000, `${writer.byteLength}`);
        await writer.append(bytes.subarray(writer.byteLength, 1_200_000));
        await writer.suspend();
      }
      const writer = await store.wal.snapshots.resume('part');
      await writer?.append(bytes.subarray(writer.byteLength));
      const facts = await writer?.finish();
      assert.deepEqual(facts, { byteLength: bytes.byteLength, checksum: crc32(bytes) });
      assert.ok(facts !== undefined);
      assert.equal(Buffer.compare(await readAll(store.wal.snapshots, 'part', facts), bytes), 0);
    },
  );

  define('a snapshot that is begun again has nothing of the first attempt', async ({ wal }) => {
    const first = await wal.snapshots.create('twice');
    await first.append(sample(600_000, 5));
    await first.suspend();
    const bytes = sample(10, 6);
    const facts = await stored(wal.snapshots, 'twice', bytes, 3);
    assert.deepEqual(await readAll(wal.snapshots, 'twice', facts), bytes);
    assert.deepEqual(await wal.snapshots.list(), [{ name: 'twice', isFinished: true }]);
  });

  define('what is discarded or removed is gone, and the others stay', async (store) => {
    const { snapshots } = store.wal;
    const kept = await stored(snapshots, 'kept', sample(20, 7), 20);
    const removed = await stored(snapshots, 'removed', sample(20, 8), 20);
    const discarded = await snapshots.create('discarded');
    await discarded.append(sample(20, 9));
    await discarded.discard();
    const unfinished = await snapshots.create('unfinished');
    await unfinished.suspend();
    await snapshots.remove('removed');
    await snapshots.remove('unfinished');
    await store.reopen();
    assert.deepEqual(await store.wal.snapshots.list(), [{ name: 'kept', isFinished: true }]);
    await refused(store.wal.snapshots, 'removed', removed);
    assert.deepEqual(await readAll(store.wal.snapshots, 'kept', kept), sample(20, 7));
  });

  define('a snapshot that is not the one that is expected is refused', async ({ wal }) => {
    const bytes = sample(300_000, 10);
    const { byteLength, checksum } = await stored(wal.snapshots, 'own', bytes, byteLengthAll);
    await refused(wal.snapshots, 'own', { byteLength, checksum: checksum ^ 1 });
    await refused(wal.snapshots, 'own', { byteLength: byteLength - 1, checksum });
    await refused(wal.snapshots, 'own', { byteLength: byteLength + 1, checksum });
  });

  define('the bytes that are appended may be used again', async ({ wal }) => {
    const writer = await wal.snapshots.create('reused');
    const buffer = new Uint8Array(1_000);
    const expected: number[] = [];
    for (let i = 0; i < 600; i++) {
      buffer.fill(i);
      await writer.append(buffer);
      expected.push(i % 256);
    }
    const bytes = await readAll(wal.snapshots, 'reused', await writer.finish());
    assert.deepEqual(
      expected.map((_, i) => bytes[i * 1_000 + 999]),
      expected,
    );
  });

  define('several snapshots can be written and read at one time', async ({ wal }) => {
    const names = ['a', 'b', 'c', 'd'];
    const all = await Promise.all(
      names.map(async (name, i) => {
        const bytes = sample(400_000 + i, 20 + i);
        return { name, bytes, facts: await stored(wal.snapshots, name, bytes, 70_000) };
      }),
    );
    await Promise.all(
      all.map(async ({ name, bytes, facts }) => {
        assert.equal(Buffer.compare(await readAll(wal.snapshots, name, facts), bytes), 0);
      }),
    );
  });
}

const byteLengthAll = 1_073_741_824;

function sample(byteLength: number, seed: number): Uint8Array {
  const random = seededRandom(seed);
  return new Uint8Array(byteLength).map(() => random.below(256));
}

async function stored(
  snapshots: SnapshotStore,
  name: string,
  bytes: Uint8Array,
  step: number,
): Promise<SnapshotFacts> {
  const writer = await snapshots.create(name);
  assert.equal(writer.byteLength, 0);
  for (let at = 0; at < bytes.byteLength; at += step) {
    await writer.append(bytes.subarray(at, at + step));
  }
  assert.equal(writer.byteLength, bytes.byteLength);
  return writer.finish();
}

async function readAll(
  snapshots: SnapshotStore,
  name: string,
  facts: SnapshotFacts,
): Promise<Uint8Array> {
  const reader = await snapshots.open(name, facts);
  try {
    return await allOf(reader, facts.byteLength);
  } finally {
    await reader.close();
  }
}

async function allOf(reader: SnapshotReader, byteLength: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(byteLength);
  for (let at = 0; at < byteLength; ) {
    const part = await reader.read(at, 1_000_000);
    assert.ok(part.byteLength > 0, 'a read within the snapshot gives something');
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

async function refused(
  snapshots: SnapshotStore,
  name: string,
  facts: SnapshotFacts,
): Promise<void> {
  await assert.rejects(snapshots.open(name, facts), { code: 'SNAPSHOT_CORRUPT' });
}
