// Quorum arithmetic against brute-force definitions: sets of voters are enumerated, nothing is computed cleverly.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { quorumIndex, quorumSize, type VoterSets, voteResult } from './quorum.ts';
import type { LogIndex, ReplicaId } from './types.ts';

/** All subsets of `ids`. */
function subsetsOf(ids: readonly ReplicaId[]): ReplicaId[][] {
  let subsets: ReplicaId[][] = [[]];
  for (const id of ids) subsets = [...subsets, ...subsets.map((subset) => [...subset, id])];
  return subsets;
}

/** The definition: more than half of the voters are in `members`. */
function isMajority(voters: readonly ReplicaId[], members: readonly ReplicaId[]): boolean {
  return voters.filter((id) => members.includes(id)).length * 2 > voters.length;
}

/** The definition: a majority of each half that has voters. */
function isQuorum({ voters, votersOutgoing }: VoterSets, members: readonly ReplicaId[]): boolean {
  return [voters, votersOutgoing]
    .filter((half) => half.length > 0)
    .every((half) => isMajority(half, members));
}

function everyVoter({ voters, votersOutgoing }: VoterSets): ReplicaId[] {
  return [...new Set([...voters, ...votersOutgoing])];
}

const voterIds = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { maxLength: 7 });
const voterSets = fc.record({ voters: voterIds, votersOutgoing: voterIds });

describe('quorum size', () => {
  it('never lets two disjoint sets both be a quorum, and lets one of a set and its rest be one (1 to 9 voters)', () => {
    const pairs = Array.from({ length: 9 }, (_, at) => [at + 1, quorumSize(at + 1)]);
    assert.deepEqual(
      pairs.map(([, size]) => size),
      [1, 2, 2, 3, 3, 4, 4, 5, 5],
    );
    for (const [count = 0, size = 0] of pairs) {
      assert.ok(size * 2 > count, `two quorums of ${count} share a voter`);
      assert.ok((size - 1) * 2 <= count, `the quorum of ${count} is the smallest`);
    }
  });

  it('has no quorum of no voters', () => {
    assert.throws(() => quorumSize(0), /a quorum needs a voter/);
  });

  it('lets one voter elect itself and commit alone, whoever learns beside it', () => {
    const sets = { voters: [4], votersOutgoing: [] };
    assert.equal(voteResult(sets, new Map([[4, true]])), 'won');
    assert.equal(
      quorumIndex(sets, (id) => (id === 4 ? 7 : 99)),
      7,
    );
  });

  it('lets two sets win a vote only if they share a voter (1 to 9 voters, every subset)', () => {
    for (let count = 1; count <= 9; count++) {
      const voters = Array.from({ length: count }, (_, at) => at + 1);
      const sets = { voters, votersOutgoing: [] };
      for (const subset of subsetsOf(voters)) {
        const rest = voters.filter((id) => !subset.includes(id));
        const outcomes = [subset, rest].map((granting) =>
          voteResult(sets, new Map(voters.map((id) => [id, granting.includes(id)]))),
        );
        assert.ok(!outcomes.every((outcome) => outcome === 'won'), `${subset} and ${rest}`);
      }
    }
  });
});

describe('quorum index', () => {
  it('is the highest index that some quorum has stored entirely (simple and joint)', () => {
    fc.assert(
      fc.property(voterSets, fc.array(fc.nat(12), { minLength: 10 }), (sets, indexes) => {
        const matchIndexOf = (id: ReplicaId): LogIndex => indexes[id] ?? 0;
        const quorums = subsetsOf(everyVoter(sets)).filter((subset) => isQuorum(sets, subset));
        const expected = Math.max(
          ...quorums.map((quorum) => Math.min(...quorum.map(matchIndexOf))),
        );
        assert.equal(quorumIndex(sets, matchIndexOf), expected);
      }),
    );
  });

  it('does not depend on the order of voters, nor on which half is called outgoing', () => {
    fc.assert(
      fc.property(voterSets, fc.array(fc.nat(12), { minLength: 10 }), (sets, indexes) => {
        const matchIndexOf = (id: ReplicaId): LogIndex => indexes[id] ?? 0;
        const { voters, votersOutgoing } = sets;
        const swapped = {
          voters: votersOutgoing.toReversed(),
          votersOutgoing: voters.toReversed(),
        };
        assert.equal(quorumIndex(swapped, matchIndexOf), quorumIndex(sets, matchIndexOf));
      }),
    );
  });

  it('never moves back when a voter stores more', () => {
    fc.assert(
      fc.property(
        voterSets,
        fc.array(fc.nat(12), { minLength: 10, maxLength: 10 }),
        fc.integer({ min: 1, max: 9 }),
        (sets, indexes, grower) => {
          const before = quorumIndex(sets, (id) => indexes[id] ?? 0);
          const after = quorumIndex(sets, (id) => (indexes[id] ?? 0) + (id === grower ? 5 : 0));
          assert.ok(after >= before);
        },
      ),
    );
  });
});

describe('vote result', () => {
  const votes = fc.array(fc.option(fc.boolean(), { nil: undefined }), { minLength: 10 });

  function votesMap(given: readonly (boolean | undefined)[]): Map<ReplicaId, boolean> {
    const map = new Map<ReplicaId, boolean>();
    for (const [id, vote] of given.entries()) if (vote !== undefined) map.set(id, vote);
    return map;
  }

  it('is won when those who granted are a quorum, lost when no answers can make them one (simple and joint)', () => {
    fc.assert(
      fc.property(voterSets, votes, (sets, given) => {
        const granted = everyVoter(sets).filter((id) => given[id] === true);
        const possible = everyVoter(sets).filter((id) => given[id] !== false);
        const lost = isQuorum(sets, possible) ? 'pending' : 'lost';
        const expected = isQuorum(sets, granted) ? 'won' : lost;
        assert.equal(voteResult(sets, votesMap(given)), expected);
      }),
    );
  });

  it('never takes back a decision when more votes arrive', () => {
    fc.assert(
      fc.property(voterSets, votes, fc.nat(9), fc.boolean(), (sets, given, id, vote) => {
        const before = voteResult(sets, votesMap(given));
        const later = given.with(id, given[id] ?? vote);
        if (before !== 'pending') assert.equal(voteResult(sets, votesMap(later)), before);
      }),
    );
  });

  it('ignores votes of replicas that are no voters', () => {
    fc.assert(
      fc.property(voterSets, votes, (sets, given) => {
        const own = new Map([...votesMap(given)].filter(([id]) => everyVoter(sets).includes(id)));
        assert.equal(voteResult(sets, votesMap(given)), voteResult(sets, own));
      }),
    );
  });
});
