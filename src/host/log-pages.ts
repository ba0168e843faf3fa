// Old entries for the core. Entries that are not in the core's own memory are read from the store in pages; the core
// asks synchronously and is told "not at hand" while a page is on its way. Few pages are kept, and not for long: they
// serve a restart and followers that are far behind.

import type { PartitionId, Wal } from '../ports/wal.ts';
import { entryBytes, type LogStorage } from '../raft/log.ts';
import type { Entry, LogIndex } from '../raft/types.ts';

/** Pages that are kept: the applier and a few slow followers read at different places. */
const pagesMax = 4;
/** Payload bytes of one page. */
const pageBytesMax = 1_048_576;

export interface LogPages {
  readonly entries: LogStorage['entries'];
  /** Entries from `fromIndex` on are written, in place of those that stood there: the old ones are forgotten. */
  replaced(fromIndex: LogIndex): void;
  /** Forgets all pages: they were compacted, or nobody reads them any more. */
  clear(): void;
  /** Forgets all pages when nobody has asked for any since the last call. */
  clearIfUnused(): void;
}

export function logPages(options: {
  readonly partitionId: PartitionId;
  readonly wal: Wal;
  readonly loaded: () => void;
  readonly failed: (error: unknown) => void;
}): LogPages {
  const { partitionId, wal } = options;
  let pages: (readonly Entry[])[] = [];
  /** First and end indexes of pages that are being read. */
  const loading = new Map<LogIndex, LogIndex>();
  /** Grows when entries are forgotten: a page that was asked for before is not believed. */
  let generation = 0;
  let isAsked = false;

  function load(fromIndex: LogIndex, endIndex: LogIndex): void {
    if (loading.has(fromIndex) || loading.size >= pagesMax) return;
    loading.set(fromIndex, endIndex);
    const asked = generation;
    wal.read({ partitionId, fromIndex, endIndex, bytesMax: pageBytesMax }).then(
      (entries) => {
        loading.delete(fromIndex);
        if (asked === generation) pages = [entries, ...pages.slice(0, pagesMax - 1)];
        options.loaded();
      },
      (error: unknown) => {
        loading.delete(fromIndex);
        // What was compacted or replaced while it was read is no failure.
        if (asked === generation) options.failed(error);
        else options.loaded();
      },
    );
  }

  return {
    entries(fromIndex, endIndex, bytesMax) {
      isAsked = true;
      for (const page of pages) {
        const first = page[0];
        if (first === undefined || first.index > fromIndex) continue;
        const found = within(page.slice(fromIndex - first.index, endIndex - first.index), bytesMax);
        if (found.length > 0) return found;
      }
      load(fromIndex, endIndex);
      return undefined;
    },
    replaced(fromIndex) {
      if (loading.size === 0 && pages.length === 0) return;
      if ([...loading.values()].some((endIndex) => endIndex > fromIndex)) generation += 1;
      if (!pages.some((page) => (page.at(-1)?.index ?? 0) >= fromIndex)) return;
      pages = pages
        .map((page) => page.filter((entry) => entry.index < fromIndex))
        .filter((page) => page.length > 0);
    },
    clear() {
      generation += 1;
      pages = [];
    },
    clearIfUnused() {
      if (!isAsked) pages = [];
      isAsked = false;
    },
  };
}

/** The first entries that fit in `bytesMax`; one at least. */
function within(entries: readonly Entry[], bytesMax: number): readonly Entry[] {
  let bytes = 0;
  for (const [position, entry] of entries.entries()) {
    bytes += entryBytes(entry);
    if (position > 0 && bytes > bytesMax) return entries.slice(0, position);
  }
  return entries;
}
