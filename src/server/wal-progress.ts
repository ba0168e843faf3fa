// How far a long run over a log is, on standard error: one line for every million entries.

import type { StoreFind } from '../wal/store-reader.ts';
import type { Print } from './wal-inspect.ts';

const entriesPerLine = 1_000_000;

/** Counts entries and says when another million is done. */
export function progressOf(what: string, say: Print): (entryCount: number) => void {
  let entryCount = 0;
  return (count) => {
    const before = Math.floor(entryCount / entriesPerLine);
    entryCount += count;
    if (Math.floor(entryCount / entriesPerLine) > before)
      say(`… ${entryCount.toLocaleString('en-US')} entries ${what}\n`);
  };
}

/** The same finds; their entries are counted. */
export async function* countingFinds(
  finds: AsyncIterable<StoreFind>,
  progress: (entryCount: number) => void,
): AsyncGenerator<StoreFind> {
  for await (const find of finds) {
    yield find;
    if (find.kind === 'run') progress(find.entries.length);
  }
}
