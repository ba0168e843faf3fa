// How the tools make a store: in a directory beside its final place, without the mark that makes it a store, until all is
// written, read again and compared. Whatever ends it early leaves nothing that a node would take for its log.

import { mkdir, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { KommanderError } from '../base/errors.ts';
import { emptyConfState, emptyHardState } from '../raft/types.ts';
import { copySnapshots } from '../wal/snapshot-copy.ts';
import { copyStore } from '../wal/store-copy.ts';
import { publishMark, syncDirectory, withholdMark } from '../wal/store-directory.ts';
import type { StoreFind } from '../wal/store-reader.ts';
import { type StoreSurvey, type SurveyedPartition, surveyStore } from '../wal/store-survey.ts';
import type { WalEngine } from './wal-engines.ts';
import { notingBases, type StoredBases, snapshotDamages } from './wal-snapshots.ts';

/**
 * Makes a store of `engine` out of `finds` in the new directory `draft`. Resolves when it is whole, durable and marked.
 *
 * @param check says what is wrong with what was read back, in words; nothing: it is right
 * @throws INVALID_ARGUMENT the directory is there: an earlier run was cut short
 * @throws WAL_FAILED       what was read back is wrong; the directory is removed, as after every other failure
 */
export async function buildStore(build: {
  readonly engine: WalEngine;
  readonly draft: string;
  /** The store whose bases the finds have: their snapshots come along. */
  readonly source: string;
  readonly finds: AsyncIterable<StoreFind>;
  readonly check: (survey: StoreSurvey) => readonly string[];
}): Promise<void> {
  const { engine, draft } = build;
  await makeDirectory(draft);
  try {
    const wal = engine.open(draft);
    try {
      await wal.open();
      await withholdMark(draft);
      await copySnapshots(build.source, wal.snapshots);
      await copyStore(build.finds, wal);
    } finally {
      await wal.close();
    }
    const problems = build.check(await surveyOf(engine, draft));
    if (problems.length > 0) {
      throw new KommanderError(
        `the new store is not what was written (${problems.slice(0, 5).join('; ')}): check the disk`,
        { code: 'WAL_FAILED', details: { path: draft } },
      );
    }
    await publishMark(draft);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Moves the finished store to its place, where nothing or an empty directory is.
 *
 * @throws WAL_FAILED it cannot be moved; it stays where it is
 */
export async function placeStore(draft: string, target: string): Promise<void> {
  try {
    if ((await namesIn(target)) !== undefined) await rmdir(target);
    await rename(draft, target);
    await syncDirectory(dirname(resolve(target)));
  } catch (cause) {
    throw notPlaced({ draft, target }, cause);
  }
}

/** Directories where something is mounted cannot be renamed: the files in them can be moved. */
export function notPlaced(
  { draft, target }: { readonly draft: string; readonly target: string },
  cause: unknown,
): KommanderError {
  return new KommanderError(
    `the new store is whole, but cannot take the place of ${target} (${String(cause)}): move what is in ${target} ` +
      `elsewhere, and then what is in ${draft} into it`,
    { code: 'WAL_FAILED', details: { path: target, draft }, cause },
  );
}

/** Names in a directory; undefined when there is none. */
export async function namesIn(path: string): Promise<readonly string[] | undefined> {
  try {
    return await readdir(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** In what two stores differ, in words. Runs may be cut differently; nothing else may. */
export function differences(expected: StoreSurvey, found: StoreSurvey): string[] {
  const problems: string[] = [];
  if (found.damageCount > 0) problems.push(`${found.damageCount} places are damaged`);
  if (factsText(expected) !== factsText(found)) problems.push('the facts of the node differ');
  const ids = new Set(
    [...expected.partitions, ...found.partitions].map((each) => each.partitionId),
  );
  for (const id of ids) {
    const [one, other] = [expected, found].map((survey) =>
      survey.partitions.find(({ partitionId }) => partitionId === id),
    );
    if (partitionText(one) !== partitionText(other)) problems.push(`partition ${id} differs`);
  }
  return problems;
}

async function makeDirectory(draft: string): Promise<void> {
  try {
    await mkdir(dirname(resolve(draft)), { recursive: true });
    await mkdir(draft, { mode: 0o700 });
  } catch (cause) {
    throw new KommanderError(
      `the directory ${draft} cannot be made (${String(cause)}): an earlier run may have been cut short; remove it, then try again`,
      { code: 'INVALID_ARGUMENT', details: { argument: 'TO', path: draft }, cause },
    );
  }
}

async function surveyOf(engine: WalEngine, path: string): Promise<StoreSurvey> {
  const reader = await engine.read(path);
  try {
    const bases: StoredBases = new Map();
    const survey = await surveyStore(notingBases(reader.finds(), bases), { digest: true });
    const damages = await snapshotDamages(path, bases);
    return { ...survey, damageCount: survey.damageCount + damages.length };
  } finally {
    await reader.close();
  }
}

function factsText({ facts }: StoreSurvey): string {
  return JSON.stringify(
    [...facts]
      .map(([name, value]) => [name, Buffer.from(value).toString('hex')])
      .sort(([one = ''], [other = '']) => (one < other ? -1 : 1)),
  );
}

/** What engines may store or leave out counts the same. */
export function partitionText(partition: SurveyedPartition | undefined): string {
  if (partition === undefined) return '';
  const { byteLength: _bytes, hardState, base, ...rest } = partition;
  return JSON.stringify([
    Object.entries(rest).sort(([one], [other]) => (one < other ? -1 : 1)),
    hardState ?? emptyHardState,
    base ?? { index: 0, term: 0, confState: emptyConfState },
  ]);
}
