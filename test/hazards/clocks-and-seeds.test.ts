// Hazards 5 and 10: an election depends neither on luck with the seeds that an operator chose nor on anybody's wall
// clock.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { electionMs, nodeCluster, text } from '../support/node-cluster.ts';

test('nodes that were given one seed by mistake still campaign at different times', async () => {
  await using cluster = nodeCluster({ partitions: 2, settings: { seed: 7 } });
  const campaigns = new Map<string, Set<number>>();
  await cluster.openAll();
  cluster.network.dropWhen(({ from, frame }) => {
    for (const item of frame.items) {
      if (item.kind !== 'raft' || item.message.type !== 'requestVote') continue;
      const who = `${from}, partition ${item.partitionId}`;
      const times = campaigns.get(who) ?? new Set();
      campaigns.set(who, times.add(cluster.time.monotonicMs()));
    }
    return true;
  });
  await cluster.run(30 * electionMs);
  assert.equal(campaigns.size, 9, 'all three groups of three replicas campaign');
  const sequences = [...campaigns.values()].map((times) => [...times].join(' '));
  for (const sequence of sequences) assert.ok(sequence.split(' ').length > 10, sequence);
  assert.equal(new Set(sequences).size, sequences.length, 'no two campaign in step');
});

/** When what happened in a failover of nodes whose wall clocks show these milliseconds beyond the true time. */
async function failover(
  wallErrorMs: (nodeId: string, trueMs: number) => number,
): Promise<string[]> {
  await using cluster = nodeCluster({ seed: 5 });
  const happened: string[] = [];
  const note = (what: string): void => {
    happened.push(`${what} at ${cluster.time.monotonicMs()} ms`);
  };
  await cluster.openAll();
  for (const { nodeId, clock } of cluster.seats.values()) {
    const trueMs = (): number => cluster.time.wallMs();
    Object.assign(clock ?? {}, { wallMs: () => trueMs() + wallErrorMs(nodeId, trueMs()) });
    cluster.node(nodeId).on('leaderChanged', ({ partitionId, leader, term }) => {
      if (partitionId === 1) note(`${nodeId} follows ${leader} in term ${term}`);
    });
  }
  for (let round = 0; round < 3; round++) {
    const leader = await cluster.leader();
    cluster.isolate([leader]);
    const next = (): string | undefined =>
      cluster.followers(leader).find((nodeId) => cluster.node(nodeId).isLeader(1));
    await cluster.until(() => next() !== undefined, 'the others have a leader', 5 * electionMs);
    await cluster.drive(cluster.node(next() ?? '').replicate(1, 'put', text(`${round}`)));
    note(`${next()} wrote ${round}`);
    const timedOut = await cluster.driveFailure(
      cluster.node(leader).read(1, { timeoutMs: electionMs / 2 }),
    );
    note(`${leader} read: ${timedOut.code}`);
    cluster.network.heal();
    await cluster.converge();
  }
  return happened;
}

test('wall clocks that are wrong, apart and jumping change nothing about who leads when', async () => {
  const right = await failover(() => 0);
  assert.ok(right.length > 12, right.join('\n'));
  const hourMs = 3_600_000;
  assert.deepEqual(await failover((nodeId) => (nodeId === 'a' ? hourMs : 0)), right, 'one ahead');
  assert.deepEqual(await failover((nodeId) => (nodeId === 'b' ? -hourMs : 0)), right, 'one behind');
  assert.deepEqual(
    await failover(
      (nodeId, trueMs) => (trueMs % 97 < 48 ? hourMs : -hourMs) * nodeId.charCodeAt(0),
    ),
    right,
    'all of them jumping',
  );
});
