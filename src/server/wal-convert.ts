// `kommander wal convert`: a stopped node's store in the format of another engine, or of the same one, in a new directory.
// The source is only read. Both are read at the end and compared: facts, hard states, bases, marks and every entry.

import { resolve, sep } from 'node:path';
import { KommanderError } from '../base/errors.ts';
import { buildStore, differences, namesIn, placeStore } from './wal-build.ts';
import { engineNamed, openClosedStore } from './wal-engines.ts';
import { type Print, reportOf } from './wal-inspect.ts';
import { countingFinds, progressOf } from './wal-progress.ts';

/**
 * Copies the store in `from` to `to`.
 *
 * @throws INVALID_OPTION   there is no such engine
 * @throws INVALID_ARGUMENT `to` is not empty, or lies in `from`
 * @throws WAL_CORRUPT      the source is damaged
 * @throws WAL_LOCKED, WAL_VERSION, WAL_FAILED, MISSING_DEPENDENCY, DISK_FULL
 */
export async function convertStore(
  paths: { readonly from: string; readonly to: string },
  engineName: string,
  say: Print,
): Promise<void> {
  const { from } = paths;
  // Without a slash at its end, which shells like to add: the new store is made beside it.
  const to = resolve(paths.to);
  const engine = engineNamed(engineName);
  const bad = (problem: string): KommanderError =>
    new KommanderError(`${to} ${problem}: choose a new directory`, {
      code: 'INVALID_ARGUMENT',
      details: { argument: 'TO', path: to },
    });
  if (((await namesIn(to)) ?? []).length > 0) throw bad('is not empty');
  if (to.startsWith(resolve(from) + sep)) throw bad(`lies in ${from}, which is only read`);
  const source = await openClosedStore(from);
  try {
    const { survey } = await reportOf(source, { digest: true, progress: progressOf('read', say) });
    if (survey.damageCount > 0) {
      throw new KommanderError(
        `${from} is damaged in ${survey.damageCount} places: kommander wal verify lists them; repair it first`,
        { code: 'WAL_CORRUPT', details: { path: from, damageCount: survey.damageCount } },
      );
    }
    const draft = `${to}.unfinished`;
    const finds = countingFinds(source.finds(), progressOf('written', say));
    await buildStore({
      engine,
      draft,
      source: from,
      finds,
      check: (found) => differences(survey, found),
    });
    await placeStore(draft, to);
    const entryCount = survey.partitions.reduce((sum, each) => sum + each.entryCount, 0);
    say(
      `${to}: ${survey.partitions.length} partitions, ${entryCount} entries, engine ${engineName}, compared with ${from}\n`,
    );
  } finally {
    await source.close();
  }
}
