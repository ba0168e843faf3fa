// Reading a closed RocksDB store around its damages (`store-reader.ts`): row by row over a mirror of the directory. A row
// whose value is damaged is one damage; a block of a table that RocksDB refuses is stepped over, by looking for the next
// key from which it can be read again; a log that RocksDB cut in the middle takes everything behind it along.

import { unreachable } from '../base/assert.ts';
import { MalformedBytesError } from '../base/bytes.ts';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import { decodeRun } from '../ports/run.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { LogIndex } from '../raft/types.ts';
import { decoded } from './damage.ts';
import {
  decodeBase,
  decodeBatchMark,
  decodeCompactionMark,
  decodeHardState,
  decodeMeta,
} from './record.ts';
import { keepLogsAside, provingLog } from './recovery-evidence.ts';
import { lostLogName } from './rocksdb-directory.ts';
import { KeyKind, keysEnd, keysFrom, type ParsedKey, parseKey, runKey } from './rocksdb-keys.ts';
import {
  importRocksDb,
  type RocksDbHandle,
  type RocksDbLibrary,
  type RocksDbRow,
} from './rocksdb-library.ts';
import { mirrorStore } from './rocksdb-mirror.ts';
import { stepsIn } from './rocksdb-steps.ts';
import {
  damagedRun,
  type StoreDamage,
  type StoreFind,
  type StoreReader,
  wholeDamage,
} from './store-reader.ts';

const partitionIdEnd = 0x8000_0000;

/**
 * Opens the closed store in directory `path` for reading. Nobody may open it for writing meanwhile.
 *
 * @throws MISSING_DEPENDENCY
 * @throws WAL_FAILED the directory cannot be read, or there is no room for a copy of its logs
 */
export async function readRocksDbStore(
  path: string,
  library?: RocksDbLibrary,
): Promise<StoreReader> {
  const opener = library ?? (await importRocksDb());
  const mirror = await mirrorStore(path).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  try {
    if (mirror.isHeadless) {
      return deadReader(mirror.remove, wholeDamage('the file is missing', 'CURRENT'));
    }
    await keepLogsAside(mirror.path);
    const handle = await opener.open(mirror.path);
    return {
      async *finds(only) {
        if (mirror.hasLostLog)
          yield { kind: 'damage', damage: wholeDamage('the file is missing', lostLogName) };
        yield* findsOf(handle, { path: mirror.path, only });
      },
      async close() {
        await handle.close();
        await mirror.remove();
      },
    };
  } catch (error) {
    if (isKommanderError(error, 'WAL_CORRUPT'))
      return deadReader(mirror.remove, wholeDamage(plainly(error.message), fileIn(error.message)));
    await mirror.remove();
    throw isKommanderError(error) ? error : unreadable(path, error);
  }
}

function unreadable(path: string, cause: unknown): KommanderError {
  return new KommanderError(`the log store ${path} cannot be read: ${String(cause)}`, {
    code: 'WAL_FAILED',
    details: { path },
    cause,
  });
}

/** RocksDB gives nothing of the store. */
function deadReader(close: () => Promise<void>, damage: StoreDamage): StoreReader {
  return {
    async *finds() {
      yield { kind: 'damage', damage };
    },
    close,
  };
}

/** What RocksDB said, without the mirror's path, which is gone when somebody reads it. */
function plainly(message: string): string {
  return message
    .replace(/^the log store is damaged: /, '')
    .replaceAll(/\S*\/(?=\d+\.|MANIFEST)/g, '');
}

/** RocksDB names the file in its messages. */
function fileIn(message: string): string | undefined {
  return /(?:\d{6,}\.(?:sst|blob|log)|MANIFEST-\d+|OPTIONS-\d+|CURRENT)/.exec(message)?.[0];
}

interface Scope {
  readonly path: string;
  readonly only: PartitionId | undefined;
}

async function* findsOf(handle: RocksDbHandle, scope: Scope): AsyncGenerator<StoreFind> {
  const { only } = scope;
  /** Ascending, as their keys are. */
  const known = new Set<PartitionId>();
  let lastBatch = 0;
  for await (const step of stepsIn(handle, { from: keysFrom, end: runKey(0, 0) })) {
    if (step.kind === 'gap') {
      yield damageFind(wholeDamage(plainly(step.what), fileIn(step.what)));
      continue;
    }
    const find = recordAt(step.row);
    if (find.kind === 'batch') {
      lastBatch = find.batchNumber;
      continue;
    }
    const partitionId = find.kind === 'damage' ? find.damage.partitionId : partitionOf(find);
    if (partitionId !== undefined) known.add(partitionId);
    if (only === undefined || partitionId === undefined || partitionId === only) yield find;
  }
  const proven = await provingLog(scope.path, handle.identity);
  if (proven.batchNumber > lastBatch) {
    const what = `acknowledged batches ${lastBatch + 1} … ${proven.batchNumber} are lost: the log is damaged in the middle`;
    yield damageFind(wholeDamage(what, proven.file));
  }
  const ids = [...known].filter((id) => only === undefined || id === only).sort((a, b) => a - b);
  yield* runsOf(handle, only, ids);
}

function partitionOf(find: Exclude<StoreFind, { kind: 'damage' }>): PartitionId | undefined {
  return find.kind === 'fact' ? undefined : find.partitionId;
}

/** A row in front of the runs. */
function recordAt(row: RocksDbRow): StoreFind | { kind: 'batch'; batchNumber: number } {
  const key = keyOf(row);
  if (key === undefined) return damageFind(wholeDamage('a row with an unknown key', undefined));
  try {
    return decoded({}, () => recordOf(key, row.value));
  } catch (error) {
    if (!isKommanderError(error, 'WAL_CORRUPT')) throw error;
    const partitionId = 'partitionId' in key ? key.partitionId : undefined;
    const what = `the ${recordName(key)} is damaged: ${error.message}`;
    return damageFind({ ...wholeDamage(what, undefined), partitionId });
  }
}

function keyOf({ key }: RocksDbRow): ParsedKey | undefined {
  try {
    return parseKey(key);
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}

function recordOf(
  key: ParsedKey,
  value: Uint8Array,
): StoreFind | { kind: 'batch'; batchNumber: number } {
  switch (key.kind) {
    case KeyKind.batch:
      return { kind: 'batch', batchNumber: decodeBatchMark(value).batchNumber };
    case KeyKind.meta:
      return { kind: 'fact', name: key.name, value: decodeMeta(value) };
    case KeyKind.hardState:
      return {
        kind: 'hardState',
        partitionId: key.partitionId,
        hardState: decodeHardState(value),
      };
    case KeyKind.base:
      return { kind: 'base', partitionId: key.partitionId, base: decodeBase(value) };
    case KeyKind.compaction:
      return {
        kind: 'compaction',
        partitionId: key.partitionId,
        mark: decodeCompactionMark(value),
      };
    case KeyKind.run: {
      const { partitionId } = key;
      const entries = decodeRun(value);
      return { kind: 'run', partitionId, entries, byteLength: value.byteLength };
    }
    default:
      return unreachable(key);
  }
}

function recordName(key: ParsedKey): string {
  switch (key.kind) {
    case KeyKind.batch:
      return 'batch mark';
    case KeyKind.meta:
      return `fact "${key.name}"`;
    case KeyKind.hardState:
      return 'hard state';
    case KeyKind.base:
      return 'base';
    case KeyKind.compaction:
      return 'compaction mark';
    case KeyKind.run:
      return 'run';
    default:
      return unreachable(key);
  }
}

function damageFind(damage: StoreDamage): StoreFind {
  return { kind: 'damage', damage };
}

/** Where the walk over the runs is. */
interface Position {
  readonly partitionId: PartitionId;
  /** Behind the last run that was seen. */
  readonly nextIndex: LogIndex;
}

async function* runsOf(
  handle: RocksDbHandle,
  only: PartitionId | undefined,
  ids: readonly PartitionId[],
): AsyncGenerator<StoreFind> {
  const range =
    only === undefined
      ? { from: runKey(0, 0), end: keysEnd }
      : { from: runKey(only, 0), end: runKey(only + 1, 0) };
  let position: Position | undefined;
  /** What RocksDB said of the place that it could not read. */
  let gap: string | undefined;
  for await (const step of stepsIn(handle, range)) {
    if (step.kind === 'gap') {
      gap = plainly(step.what);
      continue;
    }
    const key = keyOf(step.row);
    if (key?.kind !== KeyKind.run) {
      yield damageFind(wholeDamage('a row with an unknown key', undefined));
      continue;
    }
    if (gap !== undefined) {
      const to = { partitionId: key.partitionId, nextIndex: key.firstIndex };
      yield* lostBetween(gap, ids, position, to);
      gap = undefined;
    }
    const find = runAt(key, step.row.value);
    yield find;
    const lastIndex = find.kind === 'run' ? find.entries.at(-1)?.index : find.damage.lastIndex;
    position = { partitionId: key.partitionId, nextIndex: (lastIndex ?? key.firstIndex) + 1 };
  }
  if (gap !== undefined) yield* lostBetween(gap, ids, position, undefined);
}

function runAt(
  key: { readonly partitionId: PartitionId; readonly firstIndex: LogIndex },
  value: Uint8Array,
): Extract<StoreFind, { kind: 'run' | 'damage' }> {
  const { partitionId, firstIndex } = key;
  const damaged = (what: string): Extract<StoreFind, { kind: 'damage' }> => ({
    kind: 'damage',
    damage: damagedRun({ partitionId, firstIndex, bytes: value, file: undefined, what }),
  });
  try {
    const entries = decodeRun(value);
    if (entries[0]?.index !== firstIndex) return damaged(`a run of index ${entries[0]?.index}`);
    return { kind: 'run', partitionId, entries, byteLength: value.byteLength };
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    return damaged(error.message);
  }
}

/** What may have stood where RocksDB could not read: the rest of one partition, whole ones, the beginning of another. */
function* lostBetween(
  what: string,
  ids: readonly PartitionId[],
  from: Position | undefined,
  to: Position | undefined,
): Generator<StoreFind> {
  const damage = { file: fileIn(what), what, lost: 'entries' } as const;
  const fromId = from?.partitionId ?? 0;
  const toId = to?.partitionId ?? partitionIdEnd;
  for (const partitionId of ids) {
    if (partitionId < fromId || partitionId >= toId) continue;
    const index = partitionId === from?.partitionId ? from.nextIndex : undefined;
    yield damageFind({ ...damage, partitionId, index, lastIndex: undefined });
  }
  if (to === undefined) return;
  // The rows in front of this one may have been of no importance; a node does not read past the place all the same.
  const index = to.partitionId === from?.partitionId ? from.nextIndex : undefined;
  const lastIndex = Math.max(index ?? 0, to.nextIndex - 1);
  yield damageFind({ ...damage, partitionId: to.partitionId, index, lastIndex });
}
