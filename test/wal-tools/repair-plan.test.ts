// What a repair may do and what it must refuse, decided from a survey alone. The rules and their proof are in
// docs/internals/repair.md.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import type { LogPeer } from '../../src/server/wal-peers.ts';
import {
  checkUpToDate,
  needsOf,
  type PartitionNeed,
  peerFor,
} from '../../src/server/wal-repair-plan.ts';
import { membersOf } from '../../src/testing/wal-model.ts';
import type { StoreDamage } from '../../src/wal/store-reader.ts';
import type { StoreSurvey, SurveyedPartition } from '../../src/wal/store-survey.ts';

/** Partition 1 with entries 1 … 100 of terms 2 and 5, of which 60 are committed as far as it knows. */
function surveyWith(
  damages: readonly Partial<StoreDamage>[],
  change: Partial<SurveyedPartition> = {},
): StoreSurvey {
  const partition: SurveyedPartition = {
    partitionId: 1,
    hardState: { term: 7, votedFor: 2, commitIndex: 60 },
    base: { index: 20, term: 2, confState: membersOf([1, 2, 3]) },
    dataBytes: undefined,
    compactedIndex: 0,
    compactedTerm: 0,
    firstIndex: 1,
    lastIndex: 100,
    termRuns: [
      { firstIndex: 1, term: 2 },
      { firstIndex: 50, term: 5 },
    ],
    entryCount: 90,
    byteLength: 1_000,
    digest: undefined,
    ...change,
  };
  const place = { partitionId: 1, file: undefined, what: 'a test', lost: 'entries' } as const;
  return {
    facts: new Map(),
    partitions: [partition, { ...partition, partitionId: 2 }],
    damages: damages.map((each) => ({ ...place, index: undefined, lastIndex: undefined, ...each })),
    damageCount: damages.length,
  };
}

function refusal(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    assert.ok(isKommanderError(error, 'REPAIR_REFUSED'), String(error));
    assert.match(error.message, /nothing was written/);
    return error.message;
  }
  throw new Error('it was not refused');
}

test('damaged entries up to the own commit index are replaced in their place, and nothing else', () => {
  const [need, ...others] = needsOf(
    surveyWith([
      { index: 30, lastIndex: 34 },
      { index: 10, lastIndex: 12 },
      { index: 13, lastIndex: 13 },
      { index: 60, lastIndex: 60 },
    ]),
  );
  assert.deepEqual(others, []);
  assert.deepEqual(need?.ranges, [
    { from: 10, last: 13 },
    { from: 30, last: 34 },
    { from: 60, last: 60 },
  ]);
  assert.equal(need?.end, undefined);
});

test('a base says what is committed as well', () => {
  const base = { index: 80, term: 5, confState: membersOf([1]) };
  const [need] = needsOf(surveyWith([{ index: 70, lastIndex: 75 }], { base }));
  assert.deepEqual([need?.commitIndex, need?.end], [80, undefined]);
});

test('beyond the own commit index the end of the log is what counts, as far as it is known', () => {
  const [intactEnd] = needsOf(surveyWith([{ index: 58, lastIndex: 65 }]));
  assert.deepEqual(intactEnd?.ranges, [{ from: 58, last: 60 }]);
  assert.deepEqual(intactEnd?.end, { term: 5, lastIndex: 100 });
  // The last run is damaged: its term is not believed, and none is above the hard state's.
  const [knownEnd] = needsOf(surveyWith([{ index: 101, lastIndex: 110 }]));
  assert.deepEqual(knownEnd?.end, { term: 7, lastIndex: 110 });
  const [unknownEnd] = needsOf(surveyWith([{ index: 101 }]));
  assert.deepEqual(unknownEnd?.end, { term: 7, lastIndex: undefined });
  assert.deepEqual(unknownEnd?.ranges, []);
});

test('damage of more than entries is never repaired: a vote may be forgotten', () => {
  assert.match(
    refusal(() => needsOf(surveyWith([{ index: 3, lastIndex: 3 }, { lost: 'anything' }]))),
    /forgotten a vote/,
  );
  const lost = surveyWith([{ index: 3, lastIndex: 3 }], { hardState: undefined });
  assert.match(
    refusal(() => needsOf(lost)),
    /no hard state/,
  );
  const many = { ...surveyWith([{ index: 3, lastIndex: 3 }]), damageCount: 2 };
  assert.match(
    refusal(() => needsOf(many)),
    /2 places/,
  );
});

const need: PartitionNeed = {
  partitionId: 1,
  hardState: { term: 7, votedFor: 2, commitIndex: 60 },
  commitIndex: 60,
  ranges: [{ from: 30, last: 34 }],
  end: { term: 5, lastIndex: 100 },
};

test('a repaired log must be at least as up to date as the damaged one was (§5.4.1)', () => {
  const unknown = { ...need, end: { term: 7, lastIndex: undefined } };
  const fits: [PartitionNeed, number, number, boolean][] = [
    [need, 5, 100, true],
    [need, 5, 101, true],
    [need, 5, 99, false],
    [need, 4, 1_000, false],
    [need, 6, 61, true],
    [unknown, 7, 1_000_000, false],
    [unknown, 8, 61, true],
    [{ ...need, end: undefined }, 1, 1, true],
  ];
  for (const [each, term, index, isRight] of fits) {
    const check = (): void => checkUpToDate(each, { term, index });
    if (isRight) check();
    else assert.match(refusal(check), /Wait until more is committed/);
  }
});

function peer(nodeId: string, compactedIndex: number, lastApplied: number): LogPeer {
  const partitions = new Map([[1, { compactedIndex, lastApplied }]]);
  return { url: `http://${nodeId}`, nodeId, clusterId: 'x', partitions };
}

test('the peer that has what is needed and has applied most is asked', () => {
  const peers = [peer('a', 0, 90), peer('b', 29, 200), peer('c', 30, 300), peer('d', 0, 59)];
  assert.equal(peerFor(need, peers).nodeId, 'b');
  const inPlace = { ...need, end: undefined };
  assert.equal(peerFor(inPlace, [peer('d', 0, 34)]).nodeId, 'd');
});

test('when no peer has the entries any more, it says of each why, and to readmit the node', () => {
  const partitions = new Map();
  const peers = [peer('c', 30, 300), peer('d', 0, 59), { ...peer('e', 0, 0), partitions }];
  const message = refusal(() => peerFor(need, peers));
  assert.match(message, /c has compacted its log up to 30/);
  assert.match(message, /d has applied up to 59 only/);
  assert.match(message, /e has no such partition/);
  assert.match(message, /Readmit the node/);
});
