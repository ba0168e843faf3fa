// Stores and logs that are not what they should be: the node says so by name, and does not go on as if nothing was.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodePayload, OutgoingPayload, typeBytes } from '../../src/host/payload.ts';
import { layOutRun } from '../../src/ports/run.ts';
import type { Wal, WalContents } from '../../src/ports/wal.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { nodeCluster, text } from '../support/node-cluster.ts';

/** A store whose contents look different from what they are. */
function changed(wal: Wal, change: (contents: WalContents) => WalContents): Wal {
  return { ...wal, open: async () => change(await wal.open()) };
}

async function storeOfNode(): Promise<Wal> {
  await using cluster = nodeCluster({ nodes: 1 });
  const wal = memoryWal();
  await cluster.open('a', { wal });
  await cluster.leader();
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  await cluster.close('a');
  return wal;
}

test('a store with partitions but without a genesis record is damaged', async () => {
  const wal = await storeOfNode();
  await using cluster = nodeCluster({ nodes: 1 });
  const broken = changed(wal, (contents) => ({ ...contents, meta: new Map() }));
  const error = await cluster.driveFailure(cluster.open('a', { wal: broken }));
  assert.equal(error.code, 'WAL_CORRUPT');
});

test('a genesis record of a later version, or a damaged one, keeps the node from opening', async () => {
  const wal = await storeOfNode();
  await using cluster = nodeCluster({ nodes: 1 });
  const withGenesis = (change: (bytes: Uint8Array) => Uint8Array): Wal =>
    changed(wal, (contents) => {
      const bytes = contents.meta.get('genesis') ?? new Uint8Array(0);
      return { ...contents, meta: new Map([...contents.meta, ['genesis', change(bytes)]]) };
    });
  const later = withGenesis((bytes) => bytes.with(0, 9));
  assert.equal((await cluster.driveFailure(cluster.open('a', { wal: later }))).code, 'WAL_VERSION');
  const cut = withGenesis((bytes) => bytes.subarray(0, 5));
  assert.equal((await cluster.driveFailure(cluster.open('a', { wal: cut }))).code, 'WAL_CORRUPT');
  // The store itself was let go each time.
  await cluster.open('a', { wal });
  await cluster.leader();
});

test('a store that cannot be opened is reported as it says', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  const wal = memoryWal();
  await wal.open();
  assert.equal((await cluster.driveFailure(cluster.open('a', { wal }))).code, 'WAL_LOCKED');
});

test('an endpoint that is taken keeps the node from opening, and the store is let go', async () => {
  await using cluster = nodeCluster({ nodes: 2 });
  await cluster.open('a');
  const wal = memoryWal();
  const taken = { wal, listen: '127.0.0.1:1' };
  assert.equal((await cluster.driveFailure(cluster.open('b', taken))).code, 'TRANSPORT_FAILED');
  await cluster.open('b', { wal });
  await cluster.leader();
});

test('an entry of a later version of the library stops the replica instead of passing silently', async () => {
  const wal = await storeOfNode();
  const { partitions } = await wal.open();
  const stored = partitions.find(({ partitionId }) => partitionId === 1);
  assert.ok(stored !== undefined);
  const [proposed] = layOutRun([new OutgoingPayload(typeBytes('_later'), text('x'))]);
  assert.ok(proposed !== undefined);
  const { term } = stored.hardState;
  const index = stored.lastIndex + 1;
  await wal.write({
    writes: [
      {
        partitionId: 1,
        hardState: { ...stored.hardState, commitIndex: index },
        base: undefined,
        resetLog: false,
        entries: [{ ...proposed, index, term }],
        compactThroughIndex: undefined,
      },
    ],
    meta: new Map(),
    sync: true,
  });
  await wal.close();
  await using cluster = nodeCluster({ nodes: 1 });
  const error = await cluster.driveFailure(cluster.open('a', { wal }));
  assert.equal(error.code, 'REPLICA_STOPPED');
  assert.match((error.cause as Error).message, /_later/);
});

test('a leader appends nothing for another node that this version could not apply', async () => {
  await using cluster = nodeCluster({ settings: { entryBytesMax: 100 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  const refused = [
    new OutgoingPayload(typeBytes('_later'), text('x')),
    new OutgoingPayload(typeBytes('_genesis'), text('x')),
    new OutgoingPayload(typeBytes('put'), new Uint8Array(101)),
  ];
  const codes: (string | undefined)[] = [];
  cluster.network.dropWhen(({ from, frame }) => {
    for (const item of from === 'a' ? frame.items : [])
      if (item.kind === 'proposeResponse') codes.push(item.refused?.code);
    return false;
  });
  for (const [i, payload] of refused.entries()) {
    cluster.seat('b').transport?.send('a', 'bulk', {
      timestamp: 1,
      items: [
        { kind: 'propose', partitionId: 1, requestId: i, payloads: [encodePayload(payload)] },
      ],
    });
  }
  await cluster.until(() => codes.length === refused.length, 'all are answered');
  assert.deepEqual(codes, ['RESERVED_TYPE', 'RESERVED_TYPE', 'ENTRY_TOO_LARGE']);
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('goes on')));
});

test('items that mean nothing are reported and do not take the rest of the frame with them', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const good = new OutgoingPayload(typeBytes('put'), text('good'));
  cluster.seat('b').transport?.send('a', 'bulk', {
    timestamp: 1,
    items: [
      { kind: 'propose', partitionId: 1, requestId: 5, payloads: [new Uint8Array(3)] },
      { kind: 'propose', partitionId: 9, requestId: 6, payloads: [encodePayload(good)] },
      { kind: 'propose', partitionId: 1, requestId: 7, payloads: [encodePayload(good)] },
    ],
  });
  await cluster.until(() => cluster.journal('c').entries.length === 1, 'the good one is applied');
  assert.equal(cluster.journal('c').entries[0]?.text, 'good');
  assert.ok(cluster.seat('a').observed.some(({ name }) => name === 'item-refused'));
});

test('a clock that is far ahead is not believed, and its node is heard all the same', async () => {
  await using cluster = nodeCluster();
  await cluster.openAll();
  await cluster.makeLeader('a');
  const result = await cluster.drive(cluster.node('a').replicate(1, 'put', text('x')));
  cluster.seat('b').transport?.send('a', 'control', {
    timestamp: result.timestamp + 2 ** 42,
    items: [],
  });
  await cluster.time.settle();
  assert.ok(cluster.seat('a').observed.some(({ name }) => name === 'clock-drift'));
  const next = await cluster.drive(cluster.node('b').replicate(1, 'put', text('y')));
  assert.ok(next.timestamp > result.timestamp);
  assert.ok(next.timestamp < result.timestamp + 2 ** 40);
});

test('timestamps grow along the log, over restarts and a wall clock that jumps back', async () => {
  await using cluster = nodeCluster({ nodes: 1 });
  await cluster.openAll();
  await cluster.leader();
  let last = 0;
  for (let i = 0; i < 6; i++) {
    const { timestamp } = await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${i}`)));
    assert.ok(timestamp > last);
    last = timestamp;
    cluster.time.jumpWall(-3_600_000);
    await cluster.restart('a');
    await cluster.leader();
  }
});
