// The simulated network: while nothing is wrong with it, it is a transport like the others; its faults are those that a
// real one has, and no more. What a link does to frames is drawn from a seed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../src/base/random.ts';
import { type Frame, Lane, type Transport } from '../../src/ports/transport.ts';
import { newCoverage } from '../../src/testing/simulation/coverage.ts';
import {
  healthyLink,
  type LinkQuality,
  simulatedNetwork,
} from '../../src/testing/simulation/network.ts';
import { type ProcessClock, processClock } from '../../src/testing/simulation/process-clock.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';

interface End {
  readonly transport: Transport;
  readonly clock: ProcessClock;
  readonly received: { readonly lane: Lane; readonly timestamp: number; readonly kinds: string }[];
  readonly reachability: boolean[];
}

async function pair(seed = 1) {
  const time = virtualClock();
  const coverage = newCoverage();
  const network = simulatedNetwork({
    time,
    random: seededRandom(seed),
    coverage,
    sending: () => {},
    arriving: undefined,
  });
  const open = async (nodeId: string): Promise<End> => {
    const clock = processClock({ time, touched: () => {}, wallOffsetMs: 0, rate: 1 });
    const transport = network.transport(nodeId, clock);
    const end: End = { transport, clock, received: [], reachability: [] };
    await transport.open({
      identity: { clusterId: 'c', nodeId, incarnation: 1, startId: 'one' },
      listen: `10.0.0.1:${nodeId.charCodeAt(0)}`,
      clock,
      observer: () => {},
      status: { statusJson: () => '{}' },
      receive: (_from, lane, { timestamp, items }) => {
        end.received.push({ lane, timestamp, kinds: items.map(({ kind }) => kind).join() });
      },
      reachable: (_peer, isReachable) => end.reachability.push(isReachable),
      refused: () => {},
    });
    return end;
  };
  const a = await open('a');
  const b = await open('b');
  a.transport.setPeer('b', '10.0.0.1:98');
  b.transport.setPeer('a', '10.0.0.1:97');
  await time.run(1_000);
  return { time, network, coverage, a, b, open };
}

function frame(timestamp: number): Frame {
  return {
    timestamp,
    items: [
      { kind: 'propose', partitionId: 1, requestId: timestamp, payloads: [Uint8Array.of(1)] },
      {
        kind: 'raft',
        partitionId: 1,
        message: { type: 'timeoutNow', from: 1, to: 2, term: 1 },
      },
    ],
  };
}

async function sendMany(at: Awaited<ReturnType<typeof pair>>, count: number): Promise<void> {
  for (let timestamp = 1; timestamp <= count; timestamp++) {
    assert.equal(at.a.transport.send('b', Lane.bulk, frame(timestamp)), true);
    await at.time.run(1);
  }
  await at.time.run(10_000);
}

test('both ends reach each other, and frames arrive once and in order', async () => {
  const at = await pair();
  assert.deepEqual(at.a.reachability, [true]);
  await sendMany(at, 200);
  assert.deepEqual(
    at.b.received.map(({ timestamp }) => timestamp),
    Array.from({ length: 200 }, (_, i) => i + 1),
  );
});

for (const [fault, count] of [
  ['loss', (arrived: number) => arrived > 50 && arrived < 150],
  ['copies', (arrived: number) => arrived > 250 && arrived < 350],
  ['overtaking', (arrived: number) => arrived === 200],
] as const) {
  test(`a link with ${fault} does that and nothing else to its frames`, async () => {
    const at = await pair();
    const quality: LinkQuality = { ...healthyLink, [fault]: 5_000, jitterMs: 5 };
    at.network.setQuality('a', 'b', quality);
    await sendMany(at, 200);
    assert.ok(count(at.b.received.length), `${at.b.received.length} of 200 arrived`);
    const order = at.b.received.map(({ timestamp }) => timestamp);
    const isInOrder = order.every((timestamp, i) => i === 0 || timestamp > (order[i - 1] ?? 0));
    assert.equal(isInOrder, fault === 'loss');
  });
}

test('a write that is passed on arrives at most once, whatever is copied', async () => {
  const at = await pair();
  at.network.setQuality('a', 'b', { ...healthyLink, copies: 10_000 });
  await sendMany(at, 50);
  const whole = at.b.received.filter(({ kinds }) => kinds === 'propose,raft');
  const copies = at.b.received.filter(({ kinds }) => kinds === 'raft');
  assert.deepEqual([whole.length, copies.length], [50, 50]);
});

test('a silent link swallows frames, and both ends find out after a while; a cut one is known at once', async () => {
  const at = await pair();
  at.network.setLink('a', 'b', 'silent');
  assert.equal(at.a.transport.send('b', Lane.bulk, frame(1)), true);
  await at.time.run(1_000);
  assert.deepEqual(at.a.reachability, [true]);
  await at.time.run(9_000);
  assert.deepEqual(
    [at.a.reachability, at.b.reachability],
    [
      [true, false],
      [true, false],
    ],
  );
  at.network.setLink('a', 'b', 'up');
  await at.time.run(1_000);
  at.network.setLink('b', 'a', 'cut');
  await at.time.run(10);
  assert.deepEqual(at.a.reachability, [true, false, true, false]);
  assert.deepEqual(at.b.reachability, [true, false, true, false]);
  assert.equal(at.a.transport.send('b', Lane.bulk, frame(2)), false);
  assert.deepEqual(at.b.received, []);
});

test('what is on its way when its sender dies still arrives; what is for a process that died does not', async () => {
  const at = await pair();
  at.network.setQuality('a', 'b', { ...healthyLink, delayMs: 50 });
  at.a.transport.send('b', Lane.bulk, frame(1));
  at.a.clock.kill();
  at.network.died('a', 'kill');
  await at.time.run(100);
  assert.deepEqual(
    at.b.received.map(({ timestamp }) => timestamp),
    [1],
  );
  assert.equal(at.coverage.messageFromThePast, 1);
  assert.deepEqual(at.b.reachability, [true, false]);
  const next = await at.open('a');
  next.transport.setPeer('b', '10.0.0.1:98');
  await at.time.run(1_000);
  assert.deepEqual(at.b.reachability, [true, false, true]);
  next.transport.send('b', Lane.bulk, frame(2));
  at.b.clock.kill();
  at.network.died('b', 'power');
  await at.time.run(2_000);
  assert.deepEqual(next.reachability, [true], 'a machine without power resets no connection');
  await at.time.run(5_000);
  assert.deepEqual(next.reachability, [true, false]);
  assert.equal(at.b.received.length, 1);
});

test('a narrow link takes its time for every byte', async () => {
  const at = await pair();
  at.network.setQuality('a', 'b', { ...healthyLink, bytesPerMs: 1 });
  at.a.transport.send('b', Lane.bulk, frame(1));
  at.a.transport.send('b', Lane.control, frame(2));
  await at.time.run(20);
  assert.equal(at.b.received.length, 0);
  await at.time.run(1_000);
  assert.equal(at.b.received.length, 2);
});

test('a connection behind which more waits than a PING is waited for is given up, and made anew', async () => {
  const at = await pair();
  at.network.setQuality('a', 'b', { ...healthyLink, bytesPerMs: 0.01 });
  for (let i = 1; i <= 3; i++) at.a.transport.send('b', Lane.bulk, frame(i));
  await at.time.run(1);
  at.network.heal(healthyLink);
  await at.time.run(1_000);
  assert.deepEqual(at.a.reachability, [true, false, true]);
  at.a.transport.send('b', Lane.bulk, frame(4));
  await at.time.run(10);
  assert.deepEqual(
    at.b.received.map(({ timestamp }) => timestamp),
    [4],
  );
});

test('a process that stands still takes its input when it goes on', async () => {
  const at = await pair();
  at.b.clock.pause();
  at.a.transport.send('b', Lane.bulk, frame(1));
  await at.time.run(500);
  assert.equal(at.b.received.length, 0);
  at.b.clock.resume();
  await at.time.run(0);
  assert.equal(at.b.received.length, 1);
});
