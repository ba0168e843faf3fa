// Pages of old entries: what is served, what is asked of the store, and what is no longer believed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ReadRange, Wal } from '../ports/wal.ts';
import { type Entry, EntryKind } from '../raft/types.ts';
import { memoryWal } from '../wal/memory.ts';
import { type LogPages, logPages } from './log-pages.ts';

interface Reader {
  readonly pages: LogPages;
  /** Ranges that the store was asked for. */
  readonly asked: ReadRange[];
  loadedCount: number;
  readonly failures: unknown[];
  /** Lets the store answer the oldest question with these entries, or fail. */
  readonly answer: (result: readonly Entry[] | Error) => Promise<void>;
}

function reader(): Reader {
  const waiting: ((result: readonly Entry[] | Error) => void)[] = [];
  const wal: Wal = {
    ...memoryWal(),
    read(range) {
      made.asked.push(range);
      return new Promise((resolve, reject) => {
        waiting.push((result) => (result instanceof Error ? reject(result) : resolve(result)));
      });
    },
  };
  const made: Reader = {
    pages: logPages({
      partitionId: 1,
      wal,
      loaded: () => {
        made.loadedCount += 1;
      },
      failed: (error) => made.failures.push(error),
    }),
    asked: [],
    loadedCount: 0,
    failures: [],
    async answer(result) {
      waiting.shift()?.(result);
      await Promise.resolve();
      await Promise.resolve();
    },
  };
  return made;
}

function entries(fromIndex: number, endIndex: number, term = 1): Entry[] {
  return Array.from({ length: endIndex - fromIndex }, (_, position) => ({
    index: fromIndex + position,
    term,
    kind: EntryKind.normal,
    bytes: new Uint8Array(10),
    start: 0,
    end: 10,
  }));
}

const unlimited = Number.POSITIVE_INFINITY;

test('entries that are not at hand are asked for once, and are there when the page has come', async () => {
  const { pages, asked, answer } = reader();
  assert.equal(pages.entries(5, 9, unlimited), undefined);
  assert.equal(pages.entries(5, 9, unlimited), undefined);
  assert.equal(asked.length, 1);
  await answer(entries(5, 9));
  assert.deepEqual(pages.entries(6, 8, unlimited), entries(6, 8));
  assert.equal(asked.length, 1);
});

test('a page gives as many entries as fit, and one at least', async () => {
  const { pages, answer } = reader();
  pages.entries(1, 9, unlimited);
  await answer(entries(1, 9));
  assert.equal(pages.entries(1, 9, 0)?.length, 1);
  assert.equal(pages.entries(1, 9, 26)?.length, 1);
  assert.equal(pages.entries(1, 9, 52)?.length, 2);
});

test('at most four pages are read at one time, and who was turned away is told when one has come', async () => {
  const made = reader();
  for (let from = 1; from <= 6; from++) made.pages.entries(from * 100, from * 100 + 5, unlimited);
  assert.equal(made.asked.length, 4);
  await made.answer(entries(100, 105));
  assert.equal(made.loadedCount, 1);
  made.pages.entries(500, 505, unlimited);
  assert.equal(made.asked.length, 5);
});

test('after a clear neither kept pages nor those on their way are believed', async () => {
  const made = reader();
  made.pages.entries(1, 5, unlimited);
  await made.answer(entries(1, 5));
  made.pages.entries(10, 15, unlimited);
  made.pages.clear();
  await made.answer(entries(10, 15));
  assert.equal(made.pages.entries(1, 5, unlimited), undefined);
  assert.equal(made.pages.entries(10, 15, unlimited), undefined);
  assert.equal(made.loadedCount, 2, 'the core is told to ask again');
});

test('pages that nobody asks for are not kept', async () => {
  const { pages, asked, answer } = reader();
  pages.entries(1, 5, unlimited);
  await answer(entries(1, 5));
  pages.clearIfUnused();
  assert.deepEqual(pages.entries(1, 5, unlimited), entries(1, 5), 'it was asked for before');
  pages.clearIfUnused();
  pages.clearIfUnused();
  assert.equal(pages.entries(1, 5, unlimited), undefined);
  assert.equal(asked.length, 2);
});

test('a read that fails is a failure unless what was read is gone', async () => {
  const made = reader();
  made.pages.entries(1, 5, unlimited);
  await made.answer(new Error('bad sector'));
  assert.equal(made.failures.length, 1);
  made.pages.entries(1, 5, unlimited);
  made.pages.clear();
  await made.answer(new Error('compacted'));
  assert.equal(made.failures.length, 1);
});

test('entries that were replaced are not served from a page, and those below still are', async () => {
  const { pages, answer } = reader();
  pages.entries(1, 9, unlimited);
  await answer(entries(1, 9, 1));
  pages.replaced(6);
  assert.deepEqual(pages.entries(1, 9, unlimited), entries(1, 6, 1));
  assert.equal(pages.entries(6, 9, unlimited), undefined);
  await answer(entries(6, 9, 2));
  assert.deepEqual(pages.entries(6, 9, unlimited), entries(6, 9, 2));
});

test('a page on its way whose entries are replaced meanwhile is not believed', async () => {
  const { pages, answer } = reader();
  pages.entries(1, 9, unlimited);
  pages.replaced(6);
  await answer(entries(1, 9, 1));
  assert.equal(pages.entries(1, 9, unlimited), undefined);
});

test('entries that are appended behind everything change nothing', async () => {
  const { pages, answer } = reader();
  pages.entries(1, 9, unlimited);
  await answer(entries(1, 9));
  pages.entries(9, 12, unlimited);
  pages.replaced(12);
  await answer(entries(9, 12));
  assert.equal(pages.entries(1, 9, unlimited)?.length, 8);
  assert.equal(pages.entries(9, 12, unlimited)?.length, 3);
});
