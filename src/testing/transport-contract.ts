// What every `Transport` must do, as tests that any runner can run: `transportContract({ test }, factory)`. Nothing is
// timed: a test waits for what must happen, and the runner's own timeout ends it when it does not.

import assert from 'node:assert/strict';
import { must } from '../base/assert.ts';
import { isKommanderError } from '../base/errors.ts';
import { type Frame, Lane } from '../ports/transport.ts';
import { payloadOf } from '../raft/types.ts';
import type { ContractRunner } from './contract-runner.ts';
import { appendFrame, numberedFrame, plainFrame, sampleItems } from './sample-frames.ts';
import { type TransportBench, type TransportSubject, transportBench } from './transport-bench.ts';

/**
 * Registers the contract's tests.
 *
 * @param open makes a fresh subject for each test
 */
export function transportContract(
  runner: ContractRunner,
  open: () => Promise<TransportSubject>,
): void {
  const rule = (name: string, body: (bench: TransportBench) => Promise<void>): void => {
    runner.test(name, async () => {
      const subject = await open();
      const bench = transportBench(subject);
      try {
        await body(bench);
      } finally {
        await bench.close();
        await subject.dispose?.();
      }
    });
  };

  rule('frames arrive in order per lane, in both directions', async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    for (let number = 1; number <= 200; number++) {
      for (const lane of Object.values(Lane)) {
        assert.equal(a.transport.send('b', lane, numberedFrame(number)), true);
        assert.equal(b.transport.send('a', lane, numberedFrame(number)), true);
      }
      if (number % 50 === 0) await bench.turn();
    }
    const expected = Array.from({ length: 200 }, (_, i) => i + 1);
    for (const [receiver, sender] of [
      [a, 'b'],
      [b, 'a'],
    ] as const) {
      for (const lane of Object.values(Lane)) {
        await receiver.until(() => receiver.frames(sender, lane).length === 200);
        const numbers = receiver.frames(sender, lane).map((frame) => frame.timestamp);
        assert.deepEqual(numbers, expected, `from ${sender}, ${lane}`);
      }
    }
  });

  rule('every kind of item and every message type arrives as it was sent', async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    for (const [i, item] of sampleItems.entries())
      assert.equal(a.transport.send('b', Lane.bulk, { timestamp: i, items: [item] }), true);
    const all: Frame = { timestamp: Number.MAX_SAFE_INTEGER, items: sampleItems };
    assert.equal(a.transport.send('b', Lane.bulk, all), true);
    await b.until(() => b.frames('a', Lane.bulk).length === sampleItems.length + 1);
    const received = b.frames('a', Lane.bulk).map(plainFrame);
    assert.deepEqual(received.at(-1), plainFrame(all));
    for (const [i, item] of sampleItems.entries())
      assert.deepEqual(received[i], plainFrame({ timestamp: i, items: [item] }));
  });

  rule(
    'bytes arrive as they were sent, although they are changed once the transport says that it may be',
    async (bench) => {
      const [a, b] = await bench.connected('a', 'b');
      const pieceBytes = 262_144;
      const idle: Uint8Array[] = [];
      const snapshot = { index: 1, byteLength: 100 * pieceBytes, checksum: 0 };
      const place = {
        kind: 'snapshotPiece',
        partitionId: 1,
        snapshot,
        offset: 0,
        checksum: 0,
      } as const;
      for (let number = 1; number <= 100; number++) {
        const bytes = (idle.pop() ?? new Uint8Array(pieceBytes)).fill(number);
        const items = [{ ...place, bytes }];
        const sent = (): void => {
          idle.push(bytes.fill(0));
        };
        // What is full takes it later.
        while (!a.transport.send('b', Lane.bulk, { timestamp: number, items }, sent))
          await bench.turn();
        await bench.turn();
      }
      await b.until(() => b.frames('a', Lane.bulk).length === 100);
      for (const { timestamp, items } of b.frames('a', Lane.bulk)) {
        const [item] = items;
        assert.ok(item?.kind === 'snapshotPiece');
        assert.equal(item.bytes.byteLength, pieceBytes);
        assert.ok(
          item.bytes.every((byte) => byte === timestamp),
          `frame ${timestamp}`,
        );
      }
    },
  );

  rule('a control frame is not behind the bulk frames that were sent before it', async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    let bulkCount = 0;
    while (bulkCount < 64 && a.transport.send('b', Lane.bulk, appendFrame(1, 1_000_000)))
      bulkCount += 1;
    assert.ok(bulkCount >= 2, 'the outbox takes some bulk frames');
    assert.equal(a.transport.send('b', Lane.control, numberedFrame(7)), true);
    await b.until(() => b.received.length === bulkCount + 1);
    const position = b.received.findIndex(({ lane }) => lane === Lane.control);
    assert.ok(position < bulkCount, `the control frame was number ${position} of ${bulkCount}`);
  });

  rule('a node of another cluster is refused and both sides report it', async (bench) => {
    const a = await bench.node({ nodeId: 'a' });
    const stranger = await bench.node({ nodeId: 'b', clusterId: 'another' });
    stranger.transport.setPeer('a', a.endpoint);
    await a.until(() => a.refusals('WRONG_CLUSTER').length > 0);
    await stranger.until(() => stranger.refusals('WRONG_CLUSTER').length > 0);
    assert.equal(stranger.transport.send('a', Lane.control, numberedFrame(1)), false);
    assert.deepEqual(a.received, []);
    assert.ok(!stranger.reachability.some(({ isReachable }) => isReachable));
  });

  rule('an endpoint with another node than expected is refused by both sides', async (bench) => {
    const a = await bench.node({ nodeId: 'a' });
    const b = await bench.node({ nodeId: 'b' });
    a.transport.setPeer('c', b.endpoint);
    await a.until(() => a.refusals('WRONG_NODE').length > 0);
    await b.until(() => b.refusals('WRONG_NODE').length > 0);
    assert.equal(a.transport.send('c', Lane.control, numberedFrame(1)), false);
    assert.deepEqual(b.received, []);
  });

  rule('a frame for an unknown or forgotten peer is dropped', async (bench) => {
    const [a] = await bench.connected('a', 'b');
    assert.equal(a.transport.send('nobody', Lane.control, numberedFrame(1)), false);
    a.transport.setPeer('b', undefined);
    assert.equal(a.transport.send('b', Lane.control, numberedFrame(1)), false);
    await a.until(() => a.reachability.at(-1)?.isReachable === false);
  });

  rule('a full outbox drops, and what it took arrives in order', async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    const payload = 200_000;
    let accepted = 0;
    while (a.transport.send('b', Lane.bulk, appendFrame(accepted + 1, payload))) {
      accepted += 1;
      assert.ok(accepted * payload <= bench.outboxBytesMax, 'the outbox is bounded in bytes');
    }
    assert.ok(accepted > 0);
    assert.equal(a.transport.send('b', Lane.control, numberedFrame(9)), true);
    await b.until(() => b.frames('a', Lane.bulk).length === accepted);
    const numbers = b.frames('a', Lane.bulk).map((frame) => frame.timestamp);
    assert.deepEqual(
      numbers,
      Array.from({ length: accepted }, (_, i) => i + 1),
    );
    await bench.turn();
    assert.equal(a.transport.send('b', Lane.bulk, appendFrame(1, payload)), true);
  });

  rule('an outbox is bounded in frames', async (bench) => {
    const [a] = await bench.connected('a', 'b');
    let accepted = 0;
    while (accepted < 5_000_000 && a.transport.send('b', Lane.control, numberedFrame(1)))
      accepted += 1;
    assert.ok(accepted < 5_000_000);
  });

  rule('an entry of 1 MiB arrives', async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    const sent = appendFrame(5, 1_048_576);
    assert.equal(a.transport.send('b', Lane.bulk, sent), true);
    await b.until(() => b.received.length === 1);
    assert.deepEqual(plainFrame(must(b.received[0], 'one frame came').frame), plainFrame(sent));
  });

  rule('an item above the frame limit is dropped and its neighbours are not', async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    const { frameBytesMax } = a.transport;
    if (frameBytesMax === undefined) return;
    const heartbeat = must(numberedFrame(3).items[0], 'a numbered frame has an item');
    const huge = {
      kind: 'propose',
      partitionId: 1,
      requestId: 1,
      payloads: [new Uint8Array(frameBytesMax)],
    } as const;
    const frame = { timestamp: 3, items: [heartbeat, huge, heartbeat] };
    assert.equal(a.transport.send('b', Lane.bulk, frame), false);
    await b.until(() => b.items().length === 2);
    assert.deepEqual(b.items(), [heartbeat, heartbeat]);
    assert.ok(a.events.some(({ name }) => name === 'frame-item-too-large'));
  });

  rule('what was received stays as it is', async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    for (let i = 1; i <= 150; i++) {
      assert.equal(
        a.transport.send('b', Lane.bulk, appendFrame(i, 1 + ((i * 997) % 30_000))),
        true,
      );
      if (i % 10 === 0) await b.until(() => b.frames('a', Lane.bulk).length === i);
    }
    for (const [i, frame] of b.frames('a', Lane.bulk).entries()) {
      const expected = appendFrame(i + 1, 1 + (((i + 1) * 997) % 30_000));
      assert.deepEqual(plainFrame(frame), plainFrame(expected));
    }
  });

  rule('the receiver owns its buffers', async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    const sent = appendFrame(1, 64);
    const before = plainFrame(sent);
    assert.equal(a.transport.send('b', Lane.bulk, sent), true);
    await b.until(() => b.received.length === 1);
    const [item] = b.items();
    assert.ok(item?.kind === 'raft' && item.message.type === 'appendEntries');
    for (const entry of item.message.entries) payloadOf(entry).fill(255);
    assert.deepEqual(plainFrame(sent), before);
  });

  rule('a peer that restarts is unreachable, then reachable again', async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    await b.transport.close();
    await a.until(() => a.reachability.at(-1)?.isReachable === false);
    await bench.untilDropped(a, 'b');
    const again = await bench.node({ nodeId: 'b', incarnation: 2, listen: b.endpoint });
    await a.until(() => a.reachability.at(-1)?.isReachable === true);
    assert.equal(a.transport.send('b', Lane.control, numberedFrame(2)), true);
    await again.until(() => again.received.length === 1);
    assert.deepEqual(again.frames('a', Lane.control).map(plainFrame), [
      plainFrame(numberedFrame(2)),
    ]);
    const states = a.reachability.map(({ isReachable }) => isReachable);
    assert.deepEqual(states, [true, false, true]);
  });

  rule('a peer that starts later is reached', async (bench) => {
    const probe = await bench.node({ nodeId: 'b' });
    await probe.transport.close();
    const a = await bench.node({ nodeId: 'a' });
    a.transport.setPeer('b', probe.endpoint);
    assert.equal(a.transport.send('b', Lane.control, numberedFrame(1)), false);
    await bench.turn();
    await bench.node({ nodeId: 'b', incarnation: 2, listen: probe.endpoint });
    await a.until(() => a.reachability.at(-1)?.isReachable === true);
  });

  rule('a peer that moves is reached at its new endpoint', async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    await b.transport.close();
    await a.until(() => a.reachability.at(-1)?.isReachable === false);
    const moved = await bench.node({ nodeId: 'b', incarnation: 2 });
    a.transport.setPeer('b', moved.endpoint);
    await a.until(() => a.reachability.at(-1)?.isReachable === true);
    assert.equal(a.transport.send('b', Lane.bulk, numberedFrame(4)), true);
    await moved.until(() => moved.received.length === 1);
  });

  rule(
    'a second process with the identity of a connected peer is refused, and both say so',
    async (bench) => {
      const [a, b] = await bench.connected('a', 'b');
      const copy = await bench.node({ nodeId: 'b', incarnation: 2 });
      copy.transport.setPeer('a', a.endpoint);
      await copy.until(() => copy.refusedBy.length > 0);
      assert.deepEqual(copy.refusedBy[0], { peer: 'a', code: 'NODE_COPIED' });
      assert.ok(a.refusals('NODE_COPIED').length > 0);
      assert.ok(copy.refusals('NODE_COPIED').length > 0);
      assert.equal(copy.transport.send('a', Lane.control, numberedFrame(1)), false);
      assert.equal(b.transport.send('a', Lane.control, numberedFrame(2)), true);
      await a.until(() => a.received.length === 1);
      assert.deepEqual(a.frames('b', Lane.control).map(plainFrame), [plainFrame(numberedFrame(2))]);
      assert.deepEqual(b.refusedBy, []);
    },
  );

  rule('an endpoint that is taken cannot be listened at', async (bench) => {
    const a = await bench.node({ nodeId: 'a' });
    await assert.rejects(bench.node({ nodeId: 'b', listen: a.endpoint }), (error) =>
      isKommanderError(error, 'TRANSPORT_FAILED'),
    );
  });

  rule('close is idempotent, and a closed transport neither sends nor receives', async (bench) => {
    const [a, b] = await bench.connected('a', 'b');
    await Promise.all([a.transport.close(), a.transport.close()]);
    await a.transport.close();
    assert.equal(a.transport.send('b', Lane.control, numberedFrame(1)), false);
    a.transport.setPeer('b', b.endpoint);
    await b.until(() => b.reachability.at(-1)?.isReachable === false);
    await bench.untilDropped(b, 'a');
    assert.deepEqual(a.received, []);
  });

  rule('a transport that was never opened can be closed and then stays closed', async (bench) => {
    const transport = bench.make();
    await transport.close();
    await transport.close();
    assert.equal(transport.send('b', Lane.control, numberedFrame(1)), false);
    await assert.rejects(bench.open(transport, { nodeId: 'a' }), (error) =>
      isKommanderError(error, 'TRANSPORT_FAILED'),
    );
  });

  rule('a transport that is closed while it opens does not open', async (bench) => {
    const transport = bench.make();
    const opening = bench.open(transport, { nodeId: 'a' }).then(
      () => 'opened',
      (error: unknown) => error,
    );
    await transport.close();
    const outcome = await opening;
    assert.ok(outcome === 'opened' || isKommanderError(outcome, 'TRANSPORT_FAILED'));
    const peer = await bench.node({ nodeId: 'b' });
    transport.setPeer('b', peer.endpoint);
    assert.equal(transport.send('b', Lane.control, numberedFrame(1)), false);
  });
}
