// Hazard 4, the candidate's side: a vote that was rightly given counts, however long the log of the voter is.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { campaign } from '../../src/raft/raft.ts';
import { act, elect, inBothModes, newCluster, settle, stateOf } from '../support/core-cluster.ts';
import { giveLog, logTerms } from '../support/core-messages.ts';

describe('a short log that ends in a later term', () => {
  inBothModes((name, mode) => {
    it(`is elected by voters with longer logs, and replaces what they have beyond it, with ${name}`, () => {
      const cluster = newCluster({ voters: [1, 2, 3], ...mode });
      giveLog(cluster, 1, [3], { term: 3 });
      giveLog(cluster, 2, [2, 2, 2, 2, 2, 2], { term: 2 });
      giveLog(cluster, 3, [2, 2, 2, 2, 2, 2, 2, 2], { term: 2 });
      elect(cluster, 1);
      assert.equal(stateOf(cluster, 1).currentTerm, 4, 'in the first campaign');
      for (const id of [1, 2, 3]) assert.deepEqual(logTerms(cluster, id), [3, 4]);
    });

    it(`passes the pre-vote of voters with longer logs, with ${name}`, () => {
      const cluster = newCluster({ voters: [1, 2, 3], preVote: true, ...mode });
      giveLog(cluster, 1, [3], { term: 3 });
      giveLog(cluster, 2, [2, 2, 2], { term: 3 });
      giveLog(cluster, 3, [2, 2, 2], { term: 3 });
      act(cluster, 1, campaign);
      settle(cluster);
      assert.equal(stateOf(cluster, 1).role, 'leader');
    });
  });
});
