// What a node keeps in memory of entries that are applied, however many partitions it has.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RaftLog } from '../raft/log.ts';
import { type Entry, EntryKind } from '../raft/types.ts';
import { trimCache } from './applier.ts';
import type { Host } from './host.ts';
import type { Partition } from './partition.ts';

/** Entries that stay in memory of a log whose `count` entries of `bytes` are all applied. */
function keptOf(partitions: number, { count, bytes }: { count: number; bytes: number }): RaftLog {
  const payload = new Uint8Array(bytes);
  const tail = Array.from({ length: count }, (_, at): Entry => {
    return { index: at + 1, term: 1, kind: EntryKind.normal, bytes: payload, start: 0, end: bytes };
  });
  const log = { tail, tailFirstIndex: 1, tailBytes: count * bytes };
  const raft = { log: { ...log, appliedIndex: count, stableIndex: count }, recording: undefined };
  const host = { settings: { partitions } } as unknown as Host;
  trimCache(host, { raft } as unknown as Partition);
  return raft.log as unknown as RaftLog;
}

test('applied entries in memory are bounded for all partitions of a node together', () => {
  const few = keptOf(1, { count: 6_000, bytes: 16 });
  assert.equal(few.tail.length, 4_096);
  for (const partitions of [1_000, 10_000, 65_535]) {
    const small = keptOf(partitions, { count: 6_000, bytes: 16 });
    assert.ok(small.tail.length * partitions <= 10_000_000, `${small.tail.length} entries of each`);
    const large = keptOf(partitions, { count: 3_000, bytes: 1_024 });
    assert.ok(large.tailBytes * partitions <= 1_100_000_000, `${large.tailBytes} bytes of each`);
  }
});
