// Walking over the rows of a RocksDB store past what RocksDB refuses to read. A block whose checksum is wrong makes every
// read of its keys fail, and nobody says where it ends: the first key from which reading works again is searched for.

import { isKommanderError } from '../base/errors.ts';
import type { RocksDbHandle, RocksDbRow } from './rocksdb-library.ts';

/** `gap`: between the row before and the row behind it, rows may be unreadable; `what` is what RocksDB says. */
export type RocksDbStep =
  | { readonly kind: 'row'; readonly row: RocksDbRow }
  | { readonly kind: 'gap'; readonly what: string };

const chunkBytes = 1_048_576;
/** Bytes of the keys that are tried: kind, partition, index. */
const positionBytes = 13;

export async function* stepsIn(
  handle: RocksDbHandle,
  range: { readonly from: Uint8Array; readonly end: Uint8Array },
): AsyncGenerator<RocksDbStep> {
  const { end } = range;
  let from: Uint8Array | undefined = range.from;
  while (from !== undefined) {
    // Large chunks as long as all goes well, then row by row up to the place.
    const walk: { nextKey: Uint8Array; what: string | undefined } = {
      nextKey: from,
      what: undefined,
    };
    for (const bytes of [chunkBytes, 1]) {
      walk.what = undefined;
      yield* rowsIn(handle, walk, { end, chunkBytes: bytes });
      if (walk.what === undefined) return;
    }
    yield { kind: 'gap', what: walk.what ?? '' };
    from = await nextReadable(handle, walk.nextKey, end);
  }
}

/** Yields rows up to the first failure, which it notes in `walk` together with the key to go on from. */
async function* rowsIn(
  handle: RocksDbHandle,
  walk: { nextKey: Uint8Array; what: string | undefined },
  range: { readonly end: Uint8Array; readonly chunkBytes: number },
): AsyncGenerator<RocksDbStep> {
  const scan = handle.scan({ from: walk.nextKey, ...range });
  try {
    for (;;) {
      const rows = await tryRead(walk, () => scan.next());
      if (rows === undefined || rows.length === 0) return;
      for (const row of rows) {
        yield { kind: 'row', row };
        walk.nextKey = new Uint8Array([...row.key, 0]);
      }
    }
  } finally {
    await scan.close();
  }
}

async function tryRead<Result>(
  walk: { what: string | undefined },
  read: () => Promise<Result>,
): Promise<Result | undefined> {
  try {
    return await read();
  } catch (error) {
    const isOfDisk =
      isKommanderError(error, 'WAL_CORRUPT') || isKommanderError(error, 'WAL_FAILED');
    if (!isOfDisk) throw error;
    walk.what = error.message;
    return undefined;
  }
}

/**
 * The first key behind `from`, which cannot be read, from which reading works; undefined when there is none before `end`.
 * With several unreadable blocks close to each other a readable one between them may be passed: then it counts as lost.
 */
async function nextReadable(
  handle: RocksDbHandle,
  from: Uint8Array,
  end: Uint8Array,
): Promise<Uint8Array | undefined> {
  const last = positionOf(end);
  let bad = positionOf(from);
  let good: bigint | undefined;
  for (let step = 1n; good === undefined; step *= 2n) {
    const tried = bad + step;
    if (tried >= last) {
      if (!(await isReadable(handle, last - 1n, end))) return undefined;
      good = last - 1n;
    } else if (await isReadable(handle, tried, end)) good = tried;
    else bad = tried;
  }
  while (good - bad > 1n) {
    const middle: bigint = (good + bad) / 2n;
    if (await isReadable(handle, middle, end)) good = middle;
    else bad = middle;
  }
  return keyAt(good);
}

async function isReadable(
  handle: RocksDbHandle,
  position: bigint,
  end: Uint8Array,
): Promise<boolean> {
  const scan = handle.scan({ from: keyAt(position), end, chunkBytes: 1 });
  const walk: { what: string | undefined } = { what: undefined };
  try {
    await tryRead(walk, () => scan.next());
    return walk.what === undefined;
  } finally {
    await scan.close();
  }
}

function positionOf(key: Uint8Array): bigint {
  let position = 0n;
  for (let i = 0; i < positionBytes; i++) position = position * 256n + BigInt(key[i] ?? 0);
  return position;
}

function keyAt(position: bigint): Uint8Array {
  const key = new Uint8Array(positionBytes);
  let rest = position;
  for (let i = positionBytes - 1; i >= 0; i--) {
    key[i] = Number(rest % 256n);
    rest /= 256n;
  }
  return key;
}
