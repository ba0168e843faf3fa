// One replica's log against a plain list of entries: terms, appends, the search for where two logs agree (§5.3),
// reading across store and memory, paging of committed entries.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  appendToLog,
  checkLog,
  commitTo,
  committedEntries,
  compactTo,
  conflictHint,
  entriesBetween,
  entryBytesOf,
  entryOverheadBytes,
  findConflict,
  firstIndex,
  hasCommittedEntries,
  hasUnstableEntries,
  isUpToDate,
  lastTerm,
  matches,
  noteApplied,
  noteApplying,
  noteHanded,
  noteSnapshotStable,
  noteStable,
  noteStoreReady,
  openLog,
  type RaftLog,
  restoreLog,
  termAt,
  trimTail,
  unstoredEntries,
} from './log.ts';
import {
  type Entry,
  EntryKind,
  emptyConfState,
  type LogIndex,
  payloadBytesOf,
  type Term,
} from './types.ts';

function entryAt(index: LogIndex, term: Term, payloadBytes = 0): Entry {
  const bytes = new Uint8Array(payloadBytes);
  return { index, term, kind: EntryKind.normal, bytes, start: 0, end: payloadBytes };
}

function entriesOf(terms: readonly Term[], firstIndex = 1): Entry[] {
  return terms.map((term, at) => entryAt(firstIndex + at, term, (firstIndex + at) % 4));
}

/** A store that has `entries`, and honours the limit of bytes. */
function storeOf(entries: () => readonly Entry[]): Parameters<typeof openLog>[0]['storage'] {
  return {
    entries: (fromIndex, endIndex, bytesMax) => {
      const wanted = entries().filter(({ index }) => index >= fromIndex && index < endIndex);
      const fitting = wanted.filter(
        (_, at) => at === 0 || entryBytesOf(wanted.slice(0, at + 1)) <= bytesMax,
      );
      return fitting;
    },
    snapshot: () => undefined,
  };
}

/** A log whose entries have these terms; all of them are in memory and not yet stored. */
function logOf(terms: readonly Term[], applyingBytesMax = Number.POSITIVE_INFINITY): RaftLog {
  const log = openLog({
    storage: storeOf(() => []),
    applyingBytesMax,
    compacted: { index: 0, term: 0 },
    ...{ lastIndex: 0, termRuns: [], commitIndex: 0, appliedIndex: 0 },
  });
  appendToLog(log, entriesOf(terms));
  return log;
}

/** Everything is stored and known to be. */
function stabilize(log: RaftLog): void {
  noteHanded(log);
  if (hasUnstableEntries(log)) noteStable(log, { index: log.lastIndex, term: lastTerm(log) });
}

/** Everything is stored, committed and applied. */
function settle(log: RaftLog, index = log.lastIndex): void {
  stabilize(log);
  commitTo(log, index);
  if (index > log.appliedIndex) noteApplied(log, index, 0);
}

function termsOf(log: RaftLog): (Term | undefined)[] {
  return Array.from({ length: log.lastIndex }, (_, at) => termAt(log, at + 1));
}

const ascendingTerms = fc
  .array(fc.integer({ min: 1, max: 6 }), { maxLength: 14 })
  .map((terms) => terms.sort((a, b) => a - b));

describe('the terms of a log', () => {
  it('are those of its entries, however much is compacted, stored or trimmed', () => {
    fc.assert(
      fc.property(ascendingTerms, fc.nat(14), fc.nat(14), (terms, compacted, trimmed) => {
        const log = logOf(terms);
        settle(log);
        const floor = Math.min(compacted, terms.length);
        if (floor > 0) compactTo(log, floor);
        trimTail(log, trimmed);
        checkLog(log);
        assert.equal(firstIndex(log), floor + 1);
        for (let index = 0; index <= terms.length + 2; index++) {
          const known = index >= floor && index <= terms.length;
          const expected = index === 0 ? 0 : terms[index - 1];
          assert.equal(termAt(log, index), known ? expected : undefined, `index ${index}`);
        }
      }),
    );
  });

  it('are the same in a log that was opened with its runs of terms', () => {
    fc.assert(
      fc.property(ascendingTerms, (terms) => {
        const written = logOf(terms);
        const opened = openLog({
          storage: storeOf(() => entriesOf(terms)),
          applyingBytesMax: Number.POSITIVE_INFINITY,
          compacted: { index: 0, term: 0 },
          lastIndex: terms.length,
          termRuns: written.termRuns,
          ...{ commitIndex: 0, appliedIndex: 0 },
        });
        checkLog(opened);
        assert.deepEqual(termsOf(opened), terms);
        assert.equal(lastTerm(opened), terms.at(-1) ?? 0);
      }),
    );
  });

  it('decide which log is more up to date, before length does (§5.4.1)', () => {
    fc.assert(
      fc.property(ascendingTerms, fc.nat(7), fc.nat(20), (terms, term, index) => {
        const lastOwn = { term: terms.at(-1) ?? 0, index: terms.length };
        const isAtLeast = term !== lastOwn.term ? term > lastOwn.term : index >= lastOwn.index;
        assert.equal(isUpToDate(logOf(terms), { term, index }), isAtLeast);
      }),
    );
  });
});

describe('appending', () => {
  const operation = fc.oneof(
    fc.record({
      verb: fc.constant('append' as const),
      back: fc.nat(4),
      count: fc.integer({ min: 1, max: 4 }),
      termStep: fc.nat(2),
    }),
    fc.record({ verb: fc.constant('store' as const) }),
    fc.record({ verb: fc.constant('commit' as const), ahead: fc.nat(3) }),
    fc.record({ verb: fc.constant('trim' as const), index: fc.nat(20) }),
    fc.record({ verb: fc.constant('compact' as const), index: fc.nat(20) }),
  );

  it('replaces what follows its first entry and nothing committed, whatever was stored or trimmed', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
        const log = logOf([]);
        let model: Term[] = [];
        let term = 1;
        for (const step of operations) {
          if (step.verb === 'append') {
            term += step.termStep;
            const from = Math.max(log.commitIndex + 1, log.lastIndex + 1 - step.back);
            const terms = new Array<Term>(step.count).fill(term);
            appendToLog(log, entriesOf(terms, from));
            model = [...model.slice(0, from - 1), ...terms];
          } else if (step.verb === 'store') stabilize(log);
          else if (step.verb === 'commit') {
            stabilize(log);
            settle(log, Math.min(log.lastIndex, log.commitIndex + step.ahead));
          } else if (step.verb === 'trim') trimTail(log, step.index);
          else compactTo(log, Math.min(step.index, log.appliedIndex));
          checkLog(log);
          assert.equal(log.tailBytes, payloadBytesOf(log.tail));
          assert.equal(log.lastIndex, model.length);
          const from = log.compactedIndex;
          assert.deepEqual(termsOf(log).slice(from), model.slice(from));
          const unstable = model.slice(log.stableIndex);
          const inMemory = entriesBetween(log, log.stableIndex + 1, log.lastIndex + 1, 1e9);
          assert.deepEqual(
            inMemory?.map((entry) => entry.term),
            unstable,
          );
        }
      }),
    );
  });

  it('is refused below the commit index, with a hole, and with a term that goes back', () => {
    const log = logOf([1, 1, 2]);
    commitTo(log, 2);
    assert.throws(() => appendToLog(log, [entryAt(2, 3)]), /committed entry is never replaced/);
    assert.throws(() => appendToLog(log, [entryAt(5, 3)]), /no holes/);
    assert.throws(() => appendToLog(log, [entryAt(4, 1)]), /terms never decrease/);
    assert.throws(() => appendToLog(logOf([1]), [entryAt(2, 1), entryAt(4, 1)]), /contiguous/);
  });

  it('makes the store’s word about replaced entries worthless', () => {
    const log = logOf([1, 1, 1]);
    noteHanded(log);
    appendToLog(log, [entryAt(2, 2), entryAt(3, 2)]);
    noteStable(log, { index: 3, term: 1 });
    assert.equal(log.stableIndex, 0);
    noteStable(log, { index: 1, term: 1 });
    assert.equal(log.stableIndex, 1);
    assert.deepEqual(
      unstoredEntries(log).map((entry) => entry.index),
      [2, 3],
    );
  });
});

/** Logs as Raft makes them: in each term one leader extends its log, and others take over some prefix of it. */
const raftLogs = fc
  .array(
    fc.record({
      leader: fc.nat(3),
      appended: fc.integer({ min: 1, max: 4 }),
      followers: fc.array(fc.record({ id: fc.nat(3), length: fc.nat(20) }), { maxLength: 3 }),
    }),
    { maxLength: 8 },
  )
  .map((reigns) => {
    let logs: (readonly Term[])[] = [[], [], [], []];
    for (const [at, { leader, appended, followers }] of reigns.entries()) {
      const base = logs[leader] ?? [];
      const own = [...base, ...new Array<Term>(appended).fill(at + 1)];
      logs = logs.with(leader, own);
      for (const { id, length } of followers) {
        // A follower that took part in this term has the leader's log up to some point at or beyond where they agree.
        if (id !== leader) logs = logs.with(id, own.slice(0, length));
      }
    }
    return logs;
  });

/** Up to where two logs are the same. */
function agreedIndex(a: readonly Term[], b: readonly Term[]): LogIndex {
  const different = a.findIndex((term, at) => term !== b[at]);
  return different === -1 ? a.length : different;
}

describe('the search for where two logs agree', () => {
  it('has two logs with the same entry at an index agree on everything before it (§5.3, log matching)', () => {
    fc.assert(
      fc.property(raftLogs, (logs) => {
        const [a = [], b = []] = logs;
        const left = logOf(a);
        const right = logOf(b);
        for (let index = 1; index <= Math.min(a.length, b.length); index++) {
          const term = termAt(left, index);
          if (term === undefined || !matches(right, { index, term })) continue;
          assert.deepEqual(termsOf(left).slice(0, index), termsOf(right).slice(0, index));
        }
      }),
    );
  });

  it('hints at the highest index whose term is not above the one asked for', () => {
    fc.assert(
      fc.property(ascendingTerms, fc.nat(16), fc.nat(7), (terms, index, term) => {
        const hint = conflictHint(logOf(terms), { index, term });
        if (index > terms.length) return assert.deepEqual(hint, { index, term: 0 });
        let expected = index;
        while (expected > 0 && (terms[expected - 1] ?? 0) > term) expected -= 1;
        assert.deepEqual(hint, { index: expected, term: terms[expected - 1] ?? 0 });
      }),
    );
  });

  it('says that the term below a compacted log is unknown', () => {
    const log = logOf([2, 2, 3, 5, 5]);
    settle(log);
    compactTo(log, 3);
    assert.deepEqual(conflictHint(log, { index: 5, term: 4 }), { index: 3, term: 3 });
    assert.deepEqual(conflictHint(log, { index: 5, term: 2 }), { index: 2, term: 0 });
    assert.deepEqual(conflictHint(log, { index: 2, term: 9 }), { index: 2, term: 0 });
  });

  it('ends exactly where the logs agree, after at most one question for each term of either log', () => {
    fc.assert(
      fc.property(raftLogs, (logs) => {
        const [leaderTerms = [], followerTerms = []] = logs;
        const leader = logOf(leaderTerms);
        const follower = logOf(followerTerms);
        const questionsMax = new Set([...leaderTerms, ...followerTerms]).size + 1;
        let prevIndex = leader.lastIndex;
        let questions = 1;
        for (;;) {
          const position = { index: prevIndex, term: termAt(leader, prevIndex) ?? 0 };
          if (matches(follower, position)) break;
          assert.ok(questions <= questionsMax, `${questions} questions`);
          questions += 1;
          const refused = conflictHint(follower, {
            index: Math.min(prevIndex, follower.lastIndex),
            term: position.term,
          });
          const hint = refused.term > 0 ? conflictHint(leader, refused) : refused;
          prevIndex = Math.min(prevIndex - 1, hint.index);
        }
        assert.equal(prevIndex, agreedIndex(leaderTerms, followerTerms));
      }),
    );
  });

  it('takes any messages of one leader, repeated, late and out of order, and never cuts off what matches', () => {
    const message = fc.record({ prevIndex: fc.nat(20), count: fc.nat(6) });
    fc.assert(
      fc.property(raftLogs, fc.array(message, { maxLength: 12 }), (logs, messages) => {
        const [leaderTerms = [], followerTerms = []] = logs;
        const follower = logOf(followerTerms);
        for (const { prevIndex, count } of messages) {
          if (prevIndex > leaderTerms.length) continue;
          const prevTerm = prevIndex === 0 ? 0 : (leaderTerms[prevIndex - 1] ?? 0);
          if (!matches(follower, { index: prevIndex, term: prevTerm })) continue;
          const before = agreedIndex(leaderTerms, termsOf(follower) as Term[]);
          const sent = entriesOf(leaderTerms.slice(prevIndex, prevIndex + count), prevIndex + 1);
          const conflict = findConflict(follower, sent);
          if (conflict !== undefined) appendToLog(follower, sent.slice(conflict - prevIndex - 1));
          checkLog(follower);
          const after = agreedIndex(leaderTerms, termsOf(follower) as Term[]);
          assert.ok(after >= Math.max(before, prevIndex + sent.length));
        }
      }),
    );
  });
});

describe('reading entries', () => {
  it('gives a contiguous page across store and memory: at least one entry, and no more than fit', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(30), { minLength: 1, maxLength: 12 }),
        fc.nat(12),
        fc.integer({ min: 1, max: 12 }),
        fc.nat(12),
        fc.nat(400),
        (sizes, trimmed, from, count, bytesMax) => {
          const all = sizes.map((size, at) => entryAt(at + 1, 1, size));
          const log = openLog({
            storage: storeOf(() => all),
            applyingBytesMax: Number.POSITIVE_INFINITY,
            compacted: { index: 0, term: 0 },
            ...{ lastIndex: 0, termRuns: [], commitIndex: 0, appliedIndex: 0 },
          });
          appendToLog(log, all);
          settle(log);
          trimTail(log, trimmed);
          if (from > all.length) return;
          const wanted = all.slice(from - 1, from - 1 + count);
          const page = entriesBetween(log, from, from + wanted.length, bytesMax) ?? [];
          assert.deepEqual(page, wanted.slice(0, page.length));
          if (wanted.length > 0) assert.ok(page.length > 0);
          if (page.length > 1) assert.ok(entryBytesOf(page) <= bytesMax);
          if (page.length < wanted.length) {
            assert.ok(entryBytesOf(wanted.slice(0, page.length + 1)) > bytesMax);
          }
        },
      ),
    );
  });

  it('says so when the store has the entries not at hand, and asks again when it has them', () => {
    let stored: readonly Entry[] | undefined;
    const log = openLog({
      storage: { entries: () => stored, snapshot: () => undefined },
      applyingBytesMax: 1_000,
      compacted: { index: 0, term: 0 },
      ...{ lastIndex: 3, termRuns: [{ firstIndex: 1, term: 1 }], commitIndex: 3, appliedIndex: 0 },
    });
    assert.equal(entriesBetween(log, 1, 4, 1_000), undefined);
    assert.ok(hasCommittedEntries(log, false));
    assert.deepEqual(committedEntries(log, false), []);
    assert.ok(!hasCommittedEntries(log, false), 'there is nothing to do until the store has them');
    stored = entriesOf([1, 1, 1]);
    noteStoreReady(log);
    assert.deepEqual(committedEntries(log, false), stored);
  });

  it('is refused for what is compacted or beyond the end', () => {
    const log = logOf([1, 1, 1]);
    settle(log);
    compactTo(log, 2);
    assert.throws(() => entriesBetween(log, 2, 3, 1), /compacted entries are not asked for/);
    assert.throws(() => entriesBetween(log, 3, 5, 1), /only entries of the log/);
    assert.deepEqual(entriesBetween(log, 4, 4, 1), []);
  });
});

describe('committed entries', () => {
  it('are handed out once, in order, in pages within the limit of what is being applied', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(40), { minLength: 1, maxLength: 15 }),
        fc.integer({ min: 1, max: 200 }),
        fc.array(fc.boolean(), { maxLength: 60 }),
        (sizes, applyingBytesMax, appliesNext) => {
          const log = logOf([], applyingBytesMax);
          appendToLog(
            log,
            sizes.map((size, at) => entryAt(at + 1, 1, size)),
          );
          stabilize(log);
          commitTo(log, log.lastIndex);
          const handed: LogIndex[] = [];
          const underway: (readonly Entry[])[] = [];
          for (const isApplied of [...appliesNext, ...sizes.flatMap(() => [false, true])]) {
            if (isApplied) {
              const page = underway.shift();
              if (page === undefined) continue;
              noteApplied(log, page.at(-1)?.index ?? 0, entryBytesOf(page));
              continue;
            }
            const page = committedEntries(log, false);
            assert.equal(page.length > 0, hasCommittedEntries(log, false));
            if (page.length === 0) continue;
            if (page.length > 1) {
              const bytes = entryBytesOf([...underway.flat(), ...page]);
              assert.ok(bytes <= applyingBytesMax);
            }
            const index = page.at(-1)?.index ?? 0;
            noteApplying(log, { index, bytes: entryBytesOf(page) }, false);
            underway.push(page);
            handed.push(...page.map((entry) => entry.index));
            checkLog(log);
          }
          assert.deepEqual(
            handed,
            Array.from(sizes, (_, at) => at + 1),
          );
        },
      ),
    );
  });

  it('weigh something even when they are empty', () => {
    const log = logOf([], entryOverheadBytes * 2);
    appendToLog(log, [entryAt(1, 1), entryAt(2, 1), entryAt(3, 1)]);
    stabilize(log);
    commitTo(log, 3);
    assert.equal(committedEntries(log, false).length, 2);
  });

  it('wait until they are durable here, unless the host stores before it applies', () => {
    const log = logOf([1, 1, 1]);
    commitTo(log, 2);
    assert.deepEqual(committedEntries(log, false), []);
    assert.equal(committedEntries(log, true).length, 2);
    noteHanded(log);
    noteStable(log, { index: 1, term: 1 });
    assert.equal(committedEntries(log, false).length, 1);
  });

  it('never shrink: the commit index does not move back, nor beyond the log', () => {
    const log = logOf([1, 1, 1]);
    commitTo(log, 2);
    commitTo(log, 1);
    assert.equal(log.commitIndex, 2);
    assert.throws(() => commitTo(log, 4), /only entries of the log are committed/);
  });
});

describe('a snapshot', () => {
  const snapshot = { index: 9, term: 4, confState: emptyConfState, data: new Uint8Array(0) };

  it('replaces the log, which goes on behind it, and holds back applying until it is installed', () => {
    const log = logOf([1, 1, 2]);
    restoreLog(log, snapshot);
    checkLog(log);
    assert.equal(log.lastIndex, 9);
    assert.equal(log.commitIndex, 9);
    assert.equal(lastTerm(log), 4);
    assert.deepEqual(unstoredEntries(log), []);
    appendToLog(log, [entryAt(10, 5)]);
    commitTo(log, 10);
    assert.ok(!hasCommittedEntries(log, true));
    noteSnapshotStable(log, 8);
    assert.ok(!hasCommittedEntries(log, true));
    noteSnapshotStable(log, 9);
    noteApplied(log, 9, 0);
    assert.deepEqual(
      committedEntries(log, true).map((entry) => entry.index),
      [10],
    );
  });

  it('never takes back what is committed (§7)', () => {
    const log = logOf(new Array<Term>(9).fill(1));
    commitTo(log, 9);
    assert.throws(() => restoreLog(log, snapshot), /never takes back what is committed/);
  });

  it('is not followed by a log shorter than what was applied: only applied entries are compacted', () => {
    const log = logOf([1, 1, 1]);
    stabilize(log);
    commitTo(log, 3);
    noteApplied(log, 2, 0);
    assert.throws(() => compactTo(log, 3), /only applied entries are compacted/);
    compactTo(log, 2);
    compactTo(log, 1);
    assert.equal(firstIndex(log), 3);
    assert.equal(termAt(log, 2), 1);
  });
});
