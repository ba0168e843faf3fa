// Who leads, as callers see it: waiting for a leader, handing leadership over, losing it; and a clock that stands still.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import type { NodeEvents } from '../../src/host/api.ts';
import type { Frame, Transport, TransportContext } from '../../src/ports/transport.ts';
import { codeOf, electionMs, nodeCluster, testSettings, text } from '../support/node-cluster.ts';

test('waitForLeader resolves at once with a known leader, and later with the next one', async () => {
  await using cluster = nodeCluster();
  const node = await cluster.open('a');
  const early = node.waitForLeader(1, { timeoutMs: 60_000 });
  await cluster.open('b');
  await cluster.open('c');
  const leader = await cluster.drive(early);
  assert.equal(leader, await cluster.leader());
  assert.equal(await cluster.drive(cluster.node('b').waitForLeader(1), 1), leader);
});

test('waitForLeader ends with NO_LEADER when its time is over, and with ABORTED when it is aborted', async () => {
  await using cluster = nodeCluster();
  const node = await cluster.open('a');
  const error = await cluster.driveFailure(node.waitForLeader(1, { timeoutMs: 100 }), 200);
  assert.ok(isKommanderError(error, 'NO_LEADER'));
  assert.equal(error.retryable, true);
  const controller = new AbortController();
  const wait = node.waitForLeader(1, { signal: controller.signal });
  await cluster.run(5);
  controller.abort();
  assert.equal((await cluster.driveFailure(wait)).code, 'ABORTED');
});

test('the callers that wait for a leader are bounded', async () => {
  await using cluster = nodeCluster({ settings: { queuedEntriesMax: 2 } });
  const node = await cluster.open('a');
  const waits = [1, 2].map(() => cluster.driveFailure(node.waitForLeader(1, { timeoutMs: 50 })));
  assert.equal((await cluster.driveFailure(node.waitForLeader(1))).code, 'QUEUE_FULL');
  await Promise.all(waits);
  await cluster.driveFailure(node.waitForLeader(1, { timeoutMs: 1 }));
});

test('leadership moves where it is wanted, asked for on the leader or on a follower', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').transferLeadership(1, 'b'));
  await cluster.leader();
  assert.equal(cluster.node('b').isLeader(1), true);
  assert.equal(cluster.node('a').isLeader(1), false);
  await cluster.drive(cluster.node('a').transferLeadership(1, 'c'));
  assert.equal(await cluster.leader(), 'c');
  await cluster.drive(cluster.node('a').transferLeadership(1, 'a'));
  assert.equal(await cluster.leader(), 'a');
});

test('handing leadership to the leader changes nothing', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { term } = cluster.node('a').status().partitions[1] ?? { term: 0 };
  await cluster.drive(cluster.node('a').transferLeadership(1, 'a'), 1);
  await cluster.drive(cluster.node('b').transferLeadership(1, 'a'), 1);
  await cluster.run(electionMs);
  assert.equal(cluster.node('a').status().partitions[1]?.term, term);
});

test('leadership is not handed to a stranger, nor to a node that is out of reach', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const unknown = await cluster.driveFailure(cluster.node('a').transferLeadership(1, 'x'));
  assert.equal(unknown.code, 'UNKNOWN_NODE');
  await cluster.crash('c');
  await cluster.time.settle();
  const refused = await cluster.driveFailure(cluster.node('a').transferLeadership(1, 'c'));
  assert.ok(isKommanderError(refused, 'TRANSFER_REFUSED'));
  assert.equal(refused.details.to, 'c');
  assert.equal(cluster.node('a').isLeader(1), true);
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
});

test('a transfer is not refused just after a quorum check', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (let ticks = 0; ticks < 12; ticks++) {
    await cluster.makeLeader('a');
    await cluster.run(ticks * testSettings.tickMs);
    // Answers take a while, so that there is a moment after each check in which nobody has answered yet.
    for (const nodeId of ['b', 'c']) cluster.seat(nodeId).clock?.pause();
    await cluster.run(testSettings.tickMs);
    const transfer = cluster.node('a').transferLeadership(1, 'b');
    for (const nodeId of ['b', 'c']) cluster.seat(nodeId).clock?.resume();
    await cluster.drive(transfer);
  }
});

test('without a leader there is nothing to hand over', async () => {
  await using cluster = nodeCluster();
  const node = await cluster.open('a');
  assert.equal((await cluster.driveFailure(node.transferLeadership(1, 'b'))).code, 'NO_LEADER');
});

test('whoever waits for a leader is answered although the leader was forgotten for a moment only', async () => {
  await using cluster = nodeCluster();
  let context: TransportContext | undefined;
  let onBeat: ((pass: () => void) => void) | undefined;
  const inner = cluster.network.transport();
  const isBeat = (frame: Frame): boolean =>
    frame.items.some(
      (item) => item.kind === 'raft' && item.partitionId === 1 && item.message.type === 'heartbeat',
    );
  const transport: Transport = {
    ...inner,
    open(given) {
      context = given;
      return inner.open({
        ...given,
        receive(from, lane, frame) {
          const pass = (): void => given.receive(from, lane, frame);
          const call = from === 'a' && isBeat(frame) ? onBeat : undefined;
          if (call === undefined) return pass();
          onBeat = undefined;
          call(pass);
        },
      });
    },
  };
  await Promise.all([cluster.open('a'), cluster.open('b', { transport }), cluster.open('c')]);
  await cluster.makeLeader('a');
  await cluster.converge();
  const waits: Promise<string>[] = [];
  onBeat = (pass) => {
    // Within one turn the connection is lost, somebody asks, and the leader is heard again.
    context?.reachable('a', false);
    waits.push(cluster.node('b').waitForLeader(1, { timeoutMs: 3_000 }));
    context?.reachable('a', true);
    pass();
  };
  await cluster.until(() => waits.length === 1, 'somebody asked');
  assert.deepEqual(await cluster.drive(Promise.all(waits), 100), ['a']);
});

test('a wait for a leader has no effect that could be open, however it ends', async () => {
  await using cluster = nodeCluster();
  const node = await cluster.open('a');
  const wait = cluster.driveFailure(node.waitForLeader(1, { timeoutMs: 60_000 }));
  await cluster.time.settle();
  await cluster.drive(node.close());
  const error = await wait;
  assert.ok(isKommanderError(error, 'NODE_CLOSED'));
  assert.equal(error.mayHaveCommitted, false);
});

test('a transfer that does not come about is reported, and the old leader goes on', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.network.dropWhen(({ frame }) =>
    frame.items.some((item) => item.kind === 'raft' && item.message.type === 'timeoutNow'),
  );
  const error = await cluster.driveFailure(cluster.node('a').transferLeadership(1, 'b'));
  assert.ok(isKommanderError(error, 'TRANSFER_TIMEOUT'));
  assert.equal(error.details.to, 'b');
  assert.match(error.message, /may still take over/);
  cluster.network.dropWhen(undefined);
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  assert.equal(cluster.node('a').isLeader(1), true);
});

test('writes that are queued during a handover are passed on to the new leader', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  for (const seat of cluster.seats.values()) seat.disk.latencyMs = 3;
  const transfer = cluster.node('a').transferLeadership(1, 'b');
  const writes = Array.from({ length: 20 }, (_, i) =>
    cluster.node('a').replicate(1, 'put', text(`${i}`)),
  );
  await cluster.drive(transfer);
  const results = await cluster.drive(Promise.all(writes));
  for (const [i, { index, result }] of results.entries()) assert.equal(result, `${index}:${i}`);
  assert.equal(await cluster.leader(), 'b');
  await cluster.converge();
  assert.equal(cluster.journal('c').entries.length, 20);
});

test('writes that must not be passed on are refused when leadership moves', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const transfer = cluster.node('a').transferLeadership(1, 'b');
  const write = cluster.node('a').replicate(1, 'put', text('x'), { forward: false });
  const [error] = await Promise.all([cluster.driveFailure(write), cluster.drive(transfer)]);
  assert.ok(isKommanderError(error, 'NOT_LEADER'));
  assert.equal(error.details.leader, 'b');
  const again = await cluster.driveFailure(
    cluster.node('a').replicate(1, 'put', text('x'), { forward: false }),
  );
  assert.equal(again.code, 'NOT_LEADER');
});

test('a change of the leader is reported once, with its term', async () => {
  const events: NodeEvents['leaderChanged'][] = [];
  await using cluster = nodeCluster({ partitions: 1 });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.node('c').on('leaderChanged', (event) => {
    if (event.partitionId === 1) events.push(event);
  });
  const { term } = cluster.node('a').status().partitions[1] ?? { term: 0 };
  await cluster.makeLeader('b');
  await cluster.run(5 * electionMs);
  assert.deepEqual(events.at(-1), { partitionId: 1, leader: 'b', term: term + 1 });
  for (const [position, event] of events.entries()) {
    assert.notEqual(event.leader, position === 0 ? 'a' : events[position - 1]?.leader, 'a change');
  }
  // Without any other node there is no leader, and a campaign that leads nowhere is no change.
  await cluster.crash('a');
  await cluster.crash('b');
  events.length = 0;
  await cluster.run(50 * electionMs);
  assert.deepEqual(
    events.map((event) => event.leader),
    [undefined],
  );
});

test('a late timer lets waiting input go first, so that nobody campaigns against a leader that is alive', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { term } = cluster.node('a').status().partitions[1] ?? { term: 0 };
  for (let i = 0; i < 10; i++) {
    const { clock } = cluster.seat('b');
    clock?.pause();
    // The others have long been without b; its leader's heartbeats wait for it.
    await cluster.run(3 * electionMs);
    clock?.resume();
    await cluster.run(electionMs);
  }
  assert.equal(cluster.node('a').status().partitions[1]?.term, term);
  assert.equal(cluster.node('b').leaderOf(1), 'a');
  assert.ok(cluster.node('b').status().timerLatenessMsMax >= 2 * electionMs);
  assert.ok(cluster.seat('b').observed.some(({ name }) => name === 'timer-late'));
});

test('a follower that is late reads its heartbeats before it counts the tick that would be one too many', async () => {
  for (let seed = 1; seed <= 12; seed++) {
    await using cluster = nodeCluster({ seed, settings: { electionTicks: 3 } });
    await cluster.openAll();
    for (const partitionId of [0, 1]) await cluster.makeLeader('a', partitionId);
    await cluster.run(seed);
    const { observed, clock } = cluster.seat('b');
    // A heartbeat is lost, the next ones wait for a process that stands still: one tick more, and it would campaign.
    cluster.network.setLink('a', 'b', 'drop');
    await cluster.run(testSettings.tickMs);
    observed.length = 0;
    clock?.pause();
    cluster.network.heal();
    await cluster.run(3 * testSettings.tickMs);
    let campaignCount = 0;
    cluster.network.dropWhen(({ frame }) => {
      for (const item of frame.items)
        if (item.kind === 'raft' && item.message.type === 'requestVote') campaignCount += 1;
      return false;
    });
    clock?.resume();
    await cluster.run(testSettings.tickMs);
    assert.ok(observed.some(({ name }) => name === 'timer-late'));
    assert.equal(campaignCount, 0, `seed ${seed}`);
  }
});

test('a leader that stood still gives leadership away and answers every waiting caller once', async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 10 * electionMs } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const answers = new Map<number, string[]>();
  const note = (call: number, promise: Promise<unknown>): void => {
    const add = (answer: string): void => {
      answers.set(call, [...(answers.get(call) ?? []), answer]);
    };
    promise.then(
      () => add('done'),
      (error: unknown) => add(codeOf(error)),
    );
  };
  const node = cluster.node('a');
  for (let i = 0; i < 10; i++) note(i, node.replicate(1, 'put', text(`${i}`)));
  for (let i = 10; i < 15; i++) note(i, node.read(1));
  cluster.seat('a').clock?.pause();
  await cluster.until(
    () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
    'another node leads',
  );
  cluster.seat('a').clock?.resume();
  await cluster.until(() => answers.size === 15, 'everybody is answered', 20 * electionMs);
  await cluster.run(20 * electionMs);
  for (const [call, all] of answers) assert.equal(all.length, 1, `call ${call}: ${all}`);
  await cluster.converge();
  for (const [call, [answer]] of answers) {
    const isThere = cluster.journal('b').entries.some((entry) => entry.text === `${call}`);
    if (call < 10 && answer === 'done') assert.ok(isThere, `write ${call}`);
    if (answer === 'PROPOSAL_LOST' || answer === 'NO_LEADER') assert.ok(!isThere, `write ${call}`);
  }
});

test('a leader that stood still for an election timeout gives up at once, before it hears of another', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const { clock, observed } = cluster.seat('a');
  clock?.pause();
  cluster.isolate(['a']);
  await cluster.run(2 * electionMs);
  clock?.resume();
  await cluster.time.settle();
  assert.ok(observed.some(({ name }) => name === 'leadership-given-away'));
  assert.equal(cluster.node('a').isLeader(1), false);
});

test('a write that no quorum answers times out once and may still commit', async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 300 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.isolate(['a']);
  const begunMs = cluster.time.monotonicMs();
  const error = await cluster.driveFailure(cluster.node('a').replicate(1, 'put', text('x')));
  assert.ok(isKommanderError(error, 'PROPOSAL_TIMEOUT'));
  assert.equal(error.mayHaveCommitted, true);
  assert.ok(cluster.time.monotonicMs() - begunMs <= 300 + 2 * testSettings.tickMs);
  assert.equal(cluster.node('a').status().partitions[1]?.queuedProposals, 0);
});

test('a write on a follower whose leader does not answer times out, or ends with the connection', async () => {
  await using cluster = nodeCluster({ settings: { proposalTimeoutMs: 50 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.network.setLink('b', 'a', 'drop');
  const silent = await cluster.driveFailure(cluster.node('b').replicate(1, 'put', text('x')));
  assert.equal(silent.code, 'PROPOSAL_TIMEOUT');
  cluster.network.heal();
  await cluster.leader();
  cluster.network.setLink('a', 'b', 'drop');
  const write = cluster.node('b').replicate(1, 'put', text('y'));
  await cluster.time.settle();
  cluster.network.setLink('b', 'a', 'cut');
  const lost = await cluster.driveFailure(write, 5);
  assert.ok(isKommanderError(lost, 'OUTCOME_UNKNOWN'));
  assert.equal(lost.mayHaveCommitted, true);
});

test('a write that waits for a disk that is busy until its time is over has not been written', async () => {
  await using cluster = nodeCluster({ nodes: 1, settings: { proposalTimeoutMs: 100 } });
  await cluster.openAll();
  await cluster.leader();
  cluster.seat('a').disk.hold();
  const first = cluster.driveFailure(cluster.node('a').replicate(1, 'put', text('first')));
  await cluster.time.settle();
  const second = cluster.driveFailure(cluster.node('a').replicate(1, 'put', text('second')));
  assert.equal((await first).code, 'PROPOSAL_TIMEOUT');
  const error = await second;
  assert.ok(isKommanderError(error, 'PROPOSAL_DROPPED'));
  cluster.seat('a').disk.release();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('third')));
  assert.deepEqual(
    cluster.journal('a').entries.map((entry) => entry.text),
    ['first', 'third'],
  );
});

test('a node of priority 0 never campaigns, and leads what is handed over to it', async () => {
  await using cluster = nodeCluster({ seed: 3 });
  await cluster.open('a', { electionPriority: 0 });
  await cluster.open('b', { electionPriority: 0 });
  await cluster.open('c');
  await cluster.until(() => cluster.node('c').isLeader(1), 'the only candidate leads');
  await cluster.drive(cluster.node('c').transferLeadership(1, 'a'));
  assert.equal(cluster.node('a').isLeader(1), true);
});
