// Checkpoints, compaction and snapshots: where a restart begins, what is kept, and how a replica that is far behind
// catches up.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CommitResult, NodeEvents } from '../../src/host/api.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import { electionMs, type NodeCluster, nodeCluster, text } from '../support/node-cluster.ts';

async function fill(cluster: NodeCluster, count: number, name = 'x'): Promise<void> {
  const leader = await cluster.leader();
  await cluster.drive(
    Promise.all(
      Array.from({ length: count }, (_, i) =>
        cluster.node(leader).replicate(1, 'put', text(`${name} ${i}`)),
      ),
    ),
  );
}

function compactedIndex(cluster: NodeCluster, nodeId: string, partitionId = 1): number {
  return cluster.node(nodeId).status().partitions[partitionId]?.compactedIndex ?? 0;
}

async function checkpointed(cluster: NodeCluster, partitionId = 1): Promise<CommitResult> {
  const leader = await cluster.leader(partitionId);
  const result = await cluster.drive(cluster.node(leader).checkpoint(partitionId));
  await cluster.converge(partitionId);
  await cluster.time.settle();
  return result;
}

test('a checkpoint compacts the log on every replica, down to the trailing entries', async () => {
  await using cluster = nodeCluster({ settings: { trailingEntries: 10 } });
  await cluster.openAll();
  await fill(cluster, 100);
  const { index, result } = await checkpointed(cluster);
  assert.equal(result, undefined);
  for (const nodeId of cluster.nodeIds) assert.equal(compactedIndex(cluster, nodeId), index - 10);
});

test('a checkpoint may be asked for on any node', async () => {
  await using cluster = nodeCluster({ settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await fill(cluster, 5);
  await cluster.drive(cluster.node('b').checkpoint(1));
  await cluster.converge();
  await cluster.time.settle();
  for (const nodeId of cluster.nodeIds) assert.ok(compactedIndex(cluster, nodeId) > 0, nodeId);
});

test('a restart begins at the checkpoint: what was before it comes from the snapshot', async () => {
  await using cluster = nodeCluster({ settings: { trailingEntries: 5 } });
  await cluster.openAll();
  await fill(cluster, 20, 'before');
  await checkpointed(cluster);
  await fill(cluster, 3, 'after');
  await cluster.converge();
  await cluster.close('b');
  await cluster.open('b');
  const { given, entries, restoreCount } = cluster.journal('b');
  assert.equal(restoreCount, 1);
  assert.deepEqual(
    given.map((entry) => entry.text),
    ['after 0', 'after 1', 'after 2'],
  );
  assert.equal(entries.length, 23);
  await cluster.leader();
  await fill(cluster, 1);
  await cluster.converge();
  assert.deepEqual(cluster.journal('b').entries, cluster.journal('a').entries);
});

test('a continuously written partition can be checkpointed', async () => {
  await using cluster = nodeCluster({ settings: { trailingEntries: 0 } });
  await cluster.openAll();
  const leader = await cluster.leader();
  for (const seat of cluster.seats.values()) seat.disk.latencyMs = 1;
  let isOver = false;
  const writer = async (): Promise<void> => {
    while (!isOver) await cluster.node(leader).replicate(1, 'put', text('x'));
  };
  const writers = Promise.all(Array.from({ length: 10 }, writer));
  for (let i = 0; i < 10; i++) {
    await cluster.run(20);
    const { index } = await cluster.drive(cluster.node(leader).checkpoint(1));
    await cluster.run(5);
    assert.ok(compactedIndex(cluster, leader) >= index - 100);
    assert.ok(compactedIndex(cluster, leader) > 0);
  }
  isOver = true;
  await cluster.drive(writers);
});

test('a state machine without snapshot keeps its whole log', async () => {
  let applied: number[] = [];
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { trailingEntries: 0 },
    machine: () => ({
      apply(entries) {
        applied.push(...entries.map((entry) => entry.index));
      },
    }),
  });
  await cluster.openAll();
  await fill(cluster, 20);
  await checkpointed(cluster);
  assert.equal(compactedIndex(cluster, 'a'), 0);
  await cluster.close('a');
  const before = applied;
  applied = [];
  await cluster.open('a');
  assert.deepEqual(applied, before);
});

test('a partition without a state machine begins at the checkpoint after a restart', async () => {
  await using cluster = nodeCluster({ nodes: 1, machine: undefined });
  await cluster.openAll();
  await fill(cluster, 20);
  const { index } = await checkpointed(cluster);
  await fill(cluster, 3);
  const restored: number[] = [];
  await cluster.close('a');
  await cluster.open('a', {
    listeners: {
      entryRestored: ({ entry }) => {
        if (entry.partitionId === 1) restored.push(entry.index);
      },
    },
  });
  assert.deepEqual(restored, [index + 1, index + 2, index + 3]);
  assert.equal(compactedIndex(cluster, 'a'), 0);
});

test("partition 0's snapshot keeps the roster and the partition map", async () => {
  await using cluster = nodeCluster({ partitions: 3, settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await cluster.leader(0);
  await cluster.crash('c');
  await cluster.leader(0);
  for (let i = 0; i < 5; i++) await cluster.drive(cluster.node('a').replicate(0, 'x', text('y')));
  await checkpointed(cluster, 0);
  assert.ok(compactedIndex(cluster, 'a', 0) > 0);
  const keys = Array.from({ length: 50 }, (_, i) => `key ${i}`);
  const owners = keys.map((key) => cluster.node('a').partitionOf(key));
  await cluster.open('c');
  await cluster.converge(0);
  await cluster.restart('a');
  for (const nodeId of ['a', 'c']) {
    const node = cluster.node(nodeId);
    assert.deepEqual(
      keys.map((key) => node.partitionOf(key)),
      owners,
    );
    assert.deepEqual(
      node.status().roster.map((member) => member.nodeId),
      ['a', 'b', 'c'],
    );
  }
});

/** A state of any size beside a counter of entries. */
function heavyMachine(bytes: number): StateMachine & { readonly states: Uint8Array[] } {
  const states: Uint8Array[] = [];
  return {
    states,
    apply: () => undefined,
    snapshot: () => new Uint8Array(bytes).map((_, position) => (position * 7) % 253),
    async restore(data) {
      states.push(await data.bytes());
    },
  };
}

for (const bytes of [0, 1, 262_144, 262_145, 1_000_000, 5_000_000]) {
  test(`a replica whose entries are compacted gets a snapshot of ${bytes} bytes, whole`, async () => {
    const machines = new Map<string, ReturnType<typeof heavyMachine>>();
    await using cluster = nodeCluster({
      settings: { trailingEntries: 0 },
      machine: (nodeId) => {
        const made = heavyMachine(bytes);
        machines.set(nodeId, made);
        return made;
      },
    });
    await cluster.openAll();
    await cluster.makeLeader('a');
    await cluster.crash('c');
    await fill(cluster, 20);
    await checkpointed(cluster);
    await cluster.open('c');
    await cluster.converge();
    const states = machines.get('c')?.states ?? [];
    assert.equal(states.length, 1);
    assert.equal(
      Buffer.compare(states[0] ?? text('none'), heavyMachine(bytes).snapshot?.() as Uint8Array),
      0,
    );
    assert.ok(compactedIndex(cluster, 'c') > 0);
    // It goes on from there, and a restart begins there.
    await cluster.drive(cluster.node('c').replicate(1, 'put', text('after')));
    await cluster.restart('c');
    assert.equal(machines.get('c')?.states.length, 1);
    await cluster.leader();
    await cluster.drive(cluster.node('c').replicate(1, 'put', text('and on')));
  });
}

test('heartbeats and writes go on while a large snapshot is on its way', async () => {
  await using cluster = nodeCluster({
    settings: { trailingEntries: 0 },
    machine: () => heavyMachine(30_000_000),
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  await fill(cluster, 5);
  await checkpointed(cluster);
  const term = cluster.node('a').status().partitions[1]?.term;
  await cluster.open('c');
  await cluster.run(20);
  assert.ok((cluster.node('c').status().partitions[1]?.lastApplied ?? 0) < 5, 'it is on its way');
  await cluster.drive(cluster.node('b').replicate(1, 'put', text('meanwhile')), 20);
  await cluster.converge();
  assert.equal(cluster.node('a').status().partitions[1]?.term, term);
});

for (const how of ['cut', 'drop'] as const) {
  test(`a snapshot whose connection is lost in the middle (${how}) goes on where it broke off`, async () => {
    await using cluster = nodeCluster({
      settings: { trailingEntries: 0 },
      machine: () => heavyMachine(12_000_000),
    });
    await cluster.openAll();
    await cluster.makeLeader('a');
    await cluster.crash('c');
    await fill(cluster, 5);
    await checkpointed(cluster);
    await cluster.open('c');
    let pieceCount = 0;
    cluster.network.dropWhen(({ frame }) => {
      for (const item of frame.items) if (item.kind === 'snapshotPiece') pieceCount += 1;
      return false;
    });
    await cluster.until(() => pieceCount > 10, 'pieces are on their way');
    cluster.isolate(['c'], how);
    await cluster.run(30);
    cluster.network.heal();
    await cluster.converge();
    // What was on its way comes again, and nothing else.
    assert.ok(pieceCount >= 46 && pieceCount <= 50, `${pieceCount} pieces`);
  });
}

test('a single lost piece does not keep a replica behind for ever', async () => {
  await using cluster = nodeCluster({
    settings: { trailingEntries: 0 },
    machine: () => heavyMachine(1_000_000),
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  await fill(cluster, 5);
  await checkpointed(cluster);
  let pieceCount = 0;
  cluster.network.dropWhen(({ frame }) =>
    frame.items.some((item) => item.kind === 'snapshotPiece' && ++pieceCount === 2),
  );
  await cluster.open('c');
  await cluster.converge();
});

test('a leader that changes in the middle of a snapshot does not keep the receiver behind', async () => {
  await using cluster = nodeCluster({
    settings: { trailingEntries: 0 },
    machine: () => heavyMachine(12_000_000),
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  await fill(cluster, 5);
  await checkpointed(cluster);
  await cluster.open('c');
  await cluster.run(15);
  await cluster.crash('a');
  await cluster.leader();
  await cluster.open('a');
  await cluster.drive(cluster.node('b').replicate(1, 'put', text('x')));
  await cluster.converge();
});

test('the receiver of a snapshot may crash in the middle', async () => {
  await using cluster = nodeCluster({
    settings: { trailingEntries: 0 },
    machine: () => heavyMachine(12_000_000),
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  await fill(cluster, 5);
  await checkpointed(cluster);
  for (let moment = 5; moment < 60; moment += 10) {
    await cluster.open('c');
    await cluster.run(moment);
    await cluster.crash('c');
  }
  await cluster.open('c');
  await cluster.converge();
});

test('an installed snapshot is whole or absent after a crash while it is stored', async () => {
  await using cluster = nodeCluster({ settings: { trailingEntries: 0 } });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.crash('c');
  await fill(cluster, 30);
  await checkpointed(cluster);
  await cluster.open('c');
  cluster.seat('c').disk.hold();
  await cluster.run(100);
  assert.equal(cluster.node('a').status().partitions[1]?.role, 'leader');
  await cluster.restart('c');
  await cluster.converge();
  assert.deepEqual(cluster.journal('c').entries, cluster.journal('a').entries);
});

test('writes that waited on a replica which then gets a snapshot are answered', async () => {
  await using cluster = nodeCluster({
    settings: { trailingEntries: 0, proposalTimeoutMs: 600_000 },
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.isolate(['a']);
  const waiting = cluster.node('a').replicate(1, 'put', text('waits'));
  await cluster.until(
    () => cluster.node('b').isLeader(1) || cluster.node('c').isLeader(1),
    'another node leads',
  );
  const leader = cluster.node('b').isLeader(1) ? 'b' : 'c';
  for (let i = 0; i < 10; i++) {
    await cluster.drive(cluster.node(leader).replicate(1, 'put', text(`${i}`)));
  }
  await cluster.drive(cluster.node(leader).checkpoint(1));
  await cluster.time.settle();
  cluster.network.heal();
  const error = await cluster.driveFailure(waiting);
  assert.equal(error.code, 'OUTCOME_UNKNOWN');
  await cluster.converge();
  assert.deepEqual(cluster.journal('a').entries, cluster.journal('b').entries);
});

test('a snapshot that a state machine takes its time for does not overwrite a newer one that arrives meanwhile', async () => {
  // Node c takes very long for its own checkpoint, and meanwhile falls so far behind that it is sent a newer one.
  let isSlow = false;
  let finish = (): void => {};
  await using cluster = nodeCluster({
    settings: { trailingEntries: 0 },
    machine: (nodeId) => {
      let count = 0;
      return {
        apply(entries) {
          count += entries.length;
          return entries.map(() => count);
        },
        snapshot() {
          const data = text(`${count}`);
          if (nodeId !== 'c' || !isSlow) return data;
          return new Promise((resolve) => {
            finish = () => resolve(data);
          });
        },
        async restore(data) {
          count = Number(Buffer.from(await data.bytes()).toString());
        },
      };
    },
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  await fill(cluster, 10);
  await cluster.converge();
  isSlow = true;
  await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.run(20);
  cluster.isolate(['c']);
  await fill2(cluster, 30);
  await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.time.settle();
  cluster.network.heal();
  await cluster.run(5 * electionMs);
  isSlow = false;
  finish();
  await cluster.run(20);
  assert.equal(cluster.node('c').status().state, 'running');
  await cluster.drive(cluster.node('c').replicate(1, 'put', text('after')));
  await cluster.converge();
  const restarted = await cluster.restart('c');
  assert.equal(restarted.status().state, 'running');
  await cluster.leader();
  const { result } = await cluster.drive(cluster.node('c').replicate(1, 'put', text('count')));
  assert.equal(result, 42);
});

/** As `fill`, while one node is out of reach. */
async function fill2(cluster: NodeCluster, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await cluster.drive(cluster.node('a').replicate(1, 'put', text(`${i}`)));
  }
}

test('a state machine that fails to give its state stops its replica', async () => {
  const errors: NodeEvents['replicationError'][] = [];
  await using cluster = nodeCluster({
    machine: (nodeId) => ({
      apply: () => undefined,
      snapshot() {
        if (nodeId === 'a') throw new Error('out of memory');
        return text('');
      },
      restore: () => {},
    }),
  });
  await cluster.openAll();
  await cluster.makeLeader('a');
  cluster.node('a').on('replicationError', (event) => errors.push(event));
  const error = await cluster.driveFailure(cluster.node('a').checkpoint(1));
  assert.equal(error.code, 'APPLY_FAILED');
  assert.match(error.message, /snapshot\(\)/);
  assert.equal(errors.length, 1);
});

test('a state machine that fails to take a state back keeps its node from opening', async () => {
  let isBroken = false;
  await using cluster = nodeCluster({
    nodes: 1,
    machine: () => ({
      apply: () => undefined,
      snapshot: () => text('state'),
      restore() {
        if (isBroken) throw new Error('unknown version');
      },
    }),
  });
  await cluster.openAll();
  await fill(cluster, 3);
  await checkpointed(cluster);
  await cluster.crash('a');
  isBroken = true;
  const error = await cluster.driveFailure(cluster.open('a'));
  assert.equal(error.code, 'APPLY_FAILED');
  isBroken = false;
  await cluster.open('a');
});

test('a state machine that cannot take a state does not go on without it', async () => {
  let canRestore = true;
  let canGive = true;
  await using cluster = nodeCluster({
    nodes: 1,
    machine: () => ({
      apply: () => undefined,
      ...(canGive ? { snapshot: () => text('state') } : {}),
      ...(canRestore ? { restore: () => {} } : {}),
    }),
  });
  await cluster.openAll();
  await fill(cluster, 3);
  await checkpointed(cluster);
  await cluster.crash('a');
  canRestore = false;
  const half = await cluster.driveFailure(cluster.open('a'));
  assert.equal(half.code, 'INVALID_OPTION', 'who gives its state takes it back');
  canGive = false;
  const error = await cluster.driveFailure(cluster.open('a'));
  assert.equal(error.code, 'APPLY_FAILED');
  assert.match(error.message, /restore/);
});
