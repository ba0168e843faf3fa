// What a node promises in elections (§5.2, §5.5): a vote is on its disk before it is given, is kept over a crash, and the
// time of whoever got it begins then. The other members are played by the test.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RequestVoteResponse } from '../../src/raft/types.ts';
import { ackOf, voteRequestOf } from '../support/core-messages.ts';
import { type FakeMember, fakeMember } from '../support/fake-member.ts';
import {
  electionMs,
  type NodeCluster,
  nodeCluster,
  testSettings,
  text,
} from '../support/node-cluster.ts';

/** A log that is longer and newer than any here. */
const longLog = { index: 1_000, term: 1_000 };

interface Played {
  readonly cluster: NodeCluster;
  readonly a: FakeMember;
  readonly b: FakeMember;
}

/** Node c runs; a and b are played. Nobody leads. */
async function played(seed = 1): Promise<Played> {
  const cluster = nodeCluster({ seed });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.converge();
  const a = await fakeMember(cluster, 'a');
  const b = await fakeMember(cluster, 'b');
  await cluster.until(() => cluster.node('c').leaderOf(1) === undefined, 'c knows no leader');
  return { cluster, a, b };
}

/** Asks c for its vote, and waits for the answer. */
async function voteOfC(
  cluster: NodeCluster,
  candidate: FakeMember,
  term: number,
): Promise<RequestVoteResponse> {
  const answerOf = ({ message }: FakeMember['heard'][number]): RequestVoteResponse[] =>
    message.type === 'requestVoteResponse' && message.term === term ? [message] : [];
  candidate.tell('c', voteRequestOf({ from: candidate.replicaId, to: 3, term }, longLog));
  await cluster.until(() => candidate.heard.some((one) => answerOf(one).length > 0), 'c answers');
  return candidate.heard.flatMap(answerOf)[0] ?? assert.fail('c has answered');
}

for (const how of ['by the request', 'before the request'] as const) {
  test(`a node that crashed gives no second vote in a term that it learnt of ${how}`, async () => {
    const { cluster, a, b } = await played();
    await using _ = cluster;
    const term = 2_000;
    if (how === 'before the request') {
      // Any answer of a later term makes c adopt it, and store it without a vote.
      a.tell('c', ackOf({ from: a.replicaId, to: 3, term }, 0));
      await cluster.run(electionMs / 2);
      assert.equal(cluster.node('c').status().partitions[1]?.term, term);
    }
    assert.equal((await voteOfC(cluster, a, term)).rejected, false);
    await cluster.restart('c');
    await cluster.run(electionMs / 2);
    assert.equal((await voteOfC(cluster, b, term)).rejected, true);
    assert.equal((await voteOfC(cluster, b, term + 1)).rejected, false, 'the next term is free');
  });
}

test('whoever votes does not campaign for an election timeout from when the vote was given, however slow its disk', async () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const { cluster, a } = await played(seed);
    await using _ = cluster;
    cluster.seat('c').disk.latencyMs = 0.9 * electionMs;
    await voteOfC(cluster, a, 2_000);
    const givenMs = cluster.time.monotonicMs();
    const campaigns = (): number[] =>
      a.heard
        .filter(({ atMs, message }) => message.type === 'requestVote' && atMs > givenMs)
        .map(({ atMs }) => atMs);
    await cluster.until(() => campaigns().length > 0, 'c campaigns in the end');
    const pauseMs = (campaigns()[0] ?? 0) - givenMs;
    // The first tick may come at once.
    const least = electionMs - testSettings.tickMs;
    assert.ok(pauseMs >= least, `seed ${seed}: c campaigned after ${pauseMs} ms`);
  }
});
