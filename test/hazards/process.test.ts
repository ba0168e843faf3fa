// Hazards 15, 27 and 56: what an application does with its node (polling it, filling its queues, never coming back from a
// callback) must not cost the partition its leader.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import type { ObservedEvent } from '../../src/ports/observer.ts';
import { electionMs, type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';

/** Term of partition 1 as node a knows it. */
function termOf(cluster: NodeCluster): number {
  return cluster.node('a').status().partitions[1]?.term ?? 0;
}

test('asking who leads sends nothing and changes nothing, however often', async () => {
  /** Every frame of a second, with its time. */
  const traffic = async (poll: (cluster: NodeCluster) => void): Promise<string[]> => {
    await using cluster = nodeCluster({ seed: 3 });
    await cluster.openAll();
    await cluster.makeLeader('a');
    const frames: string[] = [];
    cluster.network.dropWhen(({ from, to, lane, frame }) => {
      const kinds = frame.items.map((item) =>
        item.kind === 'raft' ? item.message.type : item.kind,
      );
      frames.push(`${cluster.time.monotonicMs()} ${from} ${to} ${lane} ${kinds.join(' ')}`);
      return false;
    });
    for (let passedMs = 0; passedMs < 1_000; passedMs++) {
      poll(cluster);
      await cluster.run(1);
    }
    assert.equal(cluster.node('a').isLeader(1), true);
    return frames;
  };
  const quiet = await traffic(() => {});
  assert.ok(quiet.length > 100, 'heartbeats of a second');
  const polled = await traffic((cluster) => {
    for (const nodeId of cluster.nodeIds) {
      const node = cluster.node(nodeId);
      for (let count = 0; count < 20; count++) {
        assert.equal(node.isLeader(1), nodeId === 'a');
        assert.equal(node.leaderOf(1), 'a');
      }
      node.status();
      node.partitionOf(nodeId);
    }
  });
  assert.deepEqual(polled, quiet);
});

test('callers that ask for the leader all the time get it, and the leader stays', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const term = termOf(cluster);
  for (let passedMs = 0; passedMs < 500; passedMs++) {
    const asked = cluster.nodeIds.map((nodeId) => cluster.node(nodeId).waitForLeader(1));
    assert.deepEqual(await cluster.drive(Promise.all(asked)), ['a', 'a', 'a']);
    await cluster.run(1);
  }
  assert.equal(termOf(cluster), term);
});

test('callers that come to wait for a leader all the time do not put its election off', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('a');
  const { time } = cluster;
  const crashedMs = time.monotonicMs();
  const asked: Promise<string>[] = [];
  while (!cluster.node('b').isLeader(1) && !cluster.node('c').isLeader(1)) {
    assert.ok(time.monotonicMs() < crashedMs + 10 * electionMs, 'another node leads');
    for (const nodeId of ['b', 'c']) asked.push(cluster.node(nodeId).waitForLeader(1));
    await cluster.run(1);
  }
  const leader = await cluster.leader();
  const answers = await cluster.drive(Promise.all(asked));
  // Whoever asked before the connection broke was told of the one that led then.
  assert.deepEqual(new Set(answers.slice(-2)), new Set([leader]));
});

test('heartbeats, votes, acknowledgements and reads never travel in the lane of appends', async () => {
  await using cluster = nodeCluster();
  const lanes = new Map<string, Set<string>>();
  cluster.network.dropWhen(({ lane, frame }) => {
    for (const item of frame.items) {
      const name = item.kind === 'raft' ? item.message.type : item.kind;
      lanes.set(name, (lanes.get(name) ?? new Set()).add(lane));
    }
    return false;
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('b').replicate(1, 'put', text('x')));
  await cluster.drive(cluster.node('b').read(1));
  await cluster.makeLeader('b');
  await cluster.run(2 * electionMs);
  const bulk = ['appendEntries', 'propose', 'proposeResponse'];
  for (const [name, seen] of lanes) {
    assert.deepEqual([...seen], [bulk.includes(name) ? 'bulk' : 'control'], name);
  }
  const control = ['heartbeat', 'heartbeatResponse', 'requestVote', 'requestVoteResponse'];
  for (const name of [...bulk, ...control, 'appendEntriesResponse', 'readIndex', 'timeoutNow']) {
    assert.ok(lanes.has(name), `${name} was seen`);
  }
});

test('a full queue refuses callers and never Raft: the leader stays and works it off', async () => {
  await using cluster = nodeCluster({
    settings: { queuedEntriesMax: 50, uncommittedBytesMax: 1_024, appendBytesMax: 1_024 },
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const term = termOf(cluster);
  for (const follower of ['b', 'c']) cluster.seat(follower).disk.hold();
  const outcomes: Promise<string>[] = [];
  for (let passedMs = 0; passedMs < 20 * electionMs; passedMs++) {
    for (const nodeId of cluster.nodeIds) {
      const data = text(`${nodeId} ${passedMs} ${'x'.repeat(100)}`);
      outcomes.push(
        cluster
          .node(nodeId)
          .replicate(1, 'put', data, { timeoutMs: 60_000 })
          .then(
            () => 'done',
            (error: unknown) => (isKommanderError(error) ? error.code : String(error)),
          ),
      );
    }
    await cluster.run(1);
  }
  assert.equal(termOf(cluster), term, 'nobody campaigned');
  for (const nodeId of cluster.nodeIds) assert.equal(cluster.node(nodeId).leaderOf(1), 'a');
  for (const follower of ['b', 'c']) cluster.seat(follower).disk.release();
  const all = await cluster.drive(Promise.all(outcomes));
  const counts = Map.groupBy(all, (outcome) => outcome);
  assert.deepEqual([...counts.keys()].sort(), ['QUEUE_FULL', 'done']);
  assert.ok((counts.get('done')?.length ?? 0) >= 50, 'what was taken is written');
  await cluster.converge();
});

test('a state machine that never answers holds up its own replica of its own partition only', async () => {
  await using cluster = nodeCluster({
    partitions: 2,
    machine: (nodeId, partitionId) => ({
      apply: () => (nodeId === 'a' && partitionId === 1 ? new Promise(() => {}) : undefined),
    }),
  });
  await cluster.openAll();
  await cluster.makeLeader('a', 1);
  await cluster.makeLeader('a', 2);
  const term = termOf(cluster);
  const stuck = await cluster.driveFailure(
    cluster.node('a').replicate(1, 'put', text('stuck'), { timeoutMs: 5 * electionMs }),
  );
  assert.ok(isKommanderError(stuck, 'PROPOSAL_TIMEOUT'));
  assert.equal(stuck.mayHaveCommitted, true, 'it is committed, but not applied here');
  // Passed on to the leader, which cannot apply it, the write is committed and applied where it was asked for.
  await cluster.drive(cluster.node('b').replicate(1, 'put', text('elsewhere')));
  await cluster.drive(cluster.node('a').replicate(2, 'put', text('other partition')));
  await cluster.run(10 * electionMs);
  assert.equal(termOf(cluster), term, 'heartbeats go on');
  assert.equal(cluster.node('a').isLeader(1), true);
  await cluster.close('a');
  await cluster.drive(cluster.node('b').replicate(1, 'put', text('after')));
});

test('an async listener or logger holds nothing up, and its rejection does not end the process', async () => {
  let heard = 0;
  let reports = 0;
  // As callbacks without a result these types take functions whose promise nobody looks at.
  const logger: (event: ObservedEvent) => unknown = async ({ name }) => {
    if (name === 'listener-failed') reports += 1;
    throw new Error('from the logger');
  };
  const listener: () => unknown = async () => {
    heard += 1;
    if (heard % 2 === 0) throw new Error('from the listener');
    await new Promise(() => {});
  };
  await using cluster = nodeCluster({
    settings: {
      logger,
    },
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const term = termOf(cluster);
  cluster.node('a').on('entryReplicated', listener);
  for (let count = 0; count < 20; count++) {
    await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${count}`)));
  }
  assert.equal(heard, 20);
  assert.equal(reports, 10);
  assert.equal(termOf(cluster), term);
  await cluster.close('a');
});
