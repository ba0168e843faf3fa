// The network in memory on a virtual clock: links that are cut or lossy, filters, and what the codec refuses.
// The contract of all transports is run elsewhere (testing/transport-contract.test.ts).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../base/errors.ts';
import { Lane } from '../ports/transport.ts';
import { numberedFrame, sampleEntries } from '../testing/sample-frames.ts';
import { type BenchNode, transportBench } from '../testing/transport-bench.ts';
import { virtualClock } from '../testing/virtual-clock.ts';
import { type MemoryNetworkOptions, memoryNetwork } from './memory.ts';

function benchOf(options: MemoryNetworkOptions = {}) {
  const network = memoryNetwork(options);
  const clock = virtualClock();
  const bench = transportBench({
    make: network.transport,
    listen: 'memory:0',
    clock,
    outboxBytesMax: 0,
  });
  return {
    network,
    clock,
    pair: async (): Promise<readonly [BenchNode, BenchNode]> => {
      const a = await bench.node({ nodeId: 'a' });
      const b = await bench.node({ nodeId: 'b' });
      a.transport.setPeer('b', b.endpoint);
      b.transport.setPeer('a', a.endpoint);
      await clock.settle();
      assert.deepEqual(lastSeen(a), true);
      assert.deepEqual(lastSeen(b), true);
      return [a, b];
    },
  };
}

function lastSeen(node: BenchNode): boolean | undefined {
  return node.reachability.at(-1)?.isReachable;
}

test('nothing is delivered inside of send', async () => {
  const { clock, pair } = benchOf();
  const [a, b] = await pair();
  assert.equal(a.transport.send('b', Lane.control, numberedFrame(1)), true);
  assert.equal(b.received.length, 0);
  await clock.settle();
  assert.equal(b.received.length, 1);
});

test('a link that is cut one way loses what was on it, and only its sender knows', async () => {
  const { network, clock, pair } = benchOf();
  const [a, b] = await pair();
  assert.equal(a.transport.send('b', Lane.control, numberedFrame(1)), true);
  network.setLink('a', 'b', 'cut');
  assert.equal(a.transport.send('b', Lane.control, numberedFrame(2)), false);
  assert.equal(b.transport.send('a', Lane.control, numberedFrame(3)), true);
  await clock.settle();
  assert.deepEqual(b.received, []);
  assert.equal(a.received.length, 1);
  assert.equal(lastSeen(a), false);
  assert.equal(lastSeen(b), true);
  assert.equal(network.droppedCount, 1);
  network.setLink('a', 'b', 'up');
  await clock.settle();
  assert.equal(lastSeen(a), true);
});

test('a node that is cut off reaches nobody and is reached by nobody until the network heals', async () => {
  const { network, clock, pair } = benchOf();
  const [a, b] = await pair();
  network.setNode('b', 'cut');
  await clock.settle();
  assert.deepEqual([lastSeen(a), lastSeen(b)], [false, false]);
  network.heal();
  await clock.settle();
  assert.deepEqual([lastSeen(a), lastSeen(b)], [true, true]);
});

test('a lossy link takes frames and delivers none', async () => {
  const { network, clock, pair } = benchOf();
  const [a, b] = await pair();
  network.setLink('a', 'b', 'drop');
  assert.equal(a.transport.send('b', Lane.bulk, numberedFrame(1)), true);
  await clock.settle();
  assert.deepEqual(b.received, []);
  assert.equal(lastSeen(a), true);
  assert.equal(network.droppedCount, 1);
});

test('a filter loses single frames', async () => {
  const { network, clock, pair } = benchOf();
  const [a, b] = await pair();
  network.dropWhen(({ from, to, lane, frame }) => {
    assert.deepEqual([from, to, lane], ['a', 'b', Lane.control]);
    return frame.timestamp === 2;
  });
  for (const number of [1, 2, 3]) a.transport.send('b', Lane.control, numberedFrame(number));
  await clock.settle();
  assert.deepEqual(
    b.received.map(({ frame }) => frame.timestamp),
    [1, 3],
  );
});

test('without the codec a frame arrives as the very same object', async () => {
  const { clock, pair } = benchOf({ encode: false, outboxFramesMax: 2 });
  const [a, b] = await pair();
  const frame = numberedFrame(1);
  assert.equal(a.transport.send('b', Lane.control, frame), true);
  assert.equal(a.transport.send('b', Lane.control, frame), true);
  assert.equal(a.transport.send('b', Lane.control, frame), false);
  await clock.settle();
  assert.equal(b.received[0]?.frame, frame);
});

test('items that the codec cannot read are skipped, counted and reported', async () => {
  const { clock, pair } = benchOf();
  const [a, b] = await pair();
  const entries = sampleEntries({ firstIndex: 5, term: 1, count: 1, bytes: 1 });
  const message = {
    type: 'appendEntries',
    from: 1,
    to: 2,
    term: 1,
    prevLogIndex: 1,
    prevLogTerm: 1,
    entries,
    leaderCommit: 0,
  } as const;
  a.transport.send('b', Lane.bulk, {
    timestamp: 1,
    items: [{ kind: 'raft', partitionId: 1, message }, ...numberedFrame(1).items],
  });
  await clock.settle();
  assert.deepEqual(b.items(), numberedFrame(1).items);
  assert.deepEqual(
    b.events.filter(({ name }) => name === 'frame-items-skipped').map(({ fields }) => fields),
    [{ skippedCount: 1, firstProblem: 'entry 5 where 2 is next' }],
  );
});

test('limits that are no positive whole numbers are refused by name', () => {
  for (const option of ['outboxFramesMax', 'outboxBytesMax', 'frameBytesMax']) {
    assert.throws(
      () => memoryNetwork({ [option]: 0 }),
      (error) => isKommanderError(error, 'INVALID_OPTION') && error.details.option === option,
    );
  }
});
