// The options of a node: every bound, every relation, and that nothing is taken that is not understood.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../base/errors.ts';
import { staticDiscovery } from '../discovery/static.ts';
import { memoryNetwork } from '../transport/memory.ts';
import { memoryWal } from '../wal/memory.ts';
import type { NodeOptions } from './api.ts';
import { checkOptions, type NodeSettings } from './options.ts';

const members = { a: '127.0.0.1:1', b: '127.0.0.1:2' };

function options(changes: Readonly<Record<string, unknown>> = {}): NodeOptions {
  return {
    nodeId: 'a',
    listen: '127.0.0.1:1',
    members,
    wal: memoryWal(),
    transport: memoryNetwork().transport(),
    discovery: staticDiscovery(members),
    ...changes,
  };
}

function expectRefusal(changes: Readonly<Record<string, unknown>>, option: string): void {
  assert.throws(
    () => checkOptions(options(changes)),
    (error) => {
      assert.ok(isKommanderError(error, 'INVALID_OPTION'), String(error));
      assert.equal(error.details.option, option);
      assert.match(error.message, new RegExp(option));
      return true;
    },
    `${Object.keys(changes)} is refused`,
  );
}

const mib = 1_048_576;
/** Bounds and default, and what else must be set so that the bound itself is legal. */
const numbers: readonly {
  readonly name: keyof NodeSettings;
  readonly min: number;
  readonly max: number;
  readonly byDefault: number;
  readonly atMin?: object;
  readonly atMax?: object;
}[] = [
  { name: 'partitions', min: 1, max: 65_535, byDefault: 1 },
  { name: 'tickMs', min: 5, max: 10_000, byDefault: 50 },
  { name: 'heartbeatTicks', min: 1, max: 1_000, byDefault: 1, atMax: { electionTicks: 3_000 } },
  { name: 'electionTicks', min: 3, max: 10_000, byDefault: 20 },
  { name: 'electionPriority', min: 0, max: 3, byDefault: 3 },
  {
    name: 'entryBytesMax',
    min: 1,
    max: 16 * mib,
    byDefault: mib + 4_096,
    atMax: { queuedBytesMax: 64 * mib },
  },
  {
    name: 'appendBytesMax',
    min: 1_024,
    max: 16 * mib,
    byDefault: mib,
    atMax: { inflightBytesMax: 16 * mib },
  },
  { name: 'inflightMessagesMax', min: 1, max: 10_000, byDefault: 64 },
  {
    name: 'inflightBytesMax',
    min: 1_024,
    max: 1_024 * mib,
    byDefault: 16 * mib,
    atMin: { appendBytesMax: 1_024 },
  },
  {
    name: 'uncommittedBytesMax',
    min: 1_024,
    max: 4_096 * mib,
    byDefault: 64 * mib,
    atMin: { appendBytesMax: 1_024 },
  },
  { name: 'queuedEntriesMax', min: 1, max: 10_000_000, byDefault: 65_536 },
  {
    name: 'queuedBytesMax',
    min: 1_024,
    max: 4_096 * mib,
    byDefault: 64 * mib,
    atMin: { entryBytesMax: 1_024 },
  },
  { name: 'proposalTimeoutMs', min: 1, max: 2_147_483_647, byDefault: 5_000 },
  { name: 'trailingEntries', min: 0, max: 1_000_000_000, byDefault: 4_096 },
  { name: 'snapshotSendsMax', min: 1, max: 1_000, byDefault: 4 },
  { name: 'snapshotBytesPerSecond', min: 65_536, max: 1_048_576 * mib, byDefault: 64 * mib },
  { name: 'checkpointBytes', min: 0, max: 1_048_576 * mib, byDefault: 64 * mib },
  { name: 'checkpointEntries', min: 0, max: 1_000_000_000, byDefault: 250_000 },
];

for (const { name, min, max, byDefault, atMin = {}, atMax = {} } of numbers) {
  test(`${name} is a whole number from ${min} to ${max}, by default ${byDefault}`, () => {
    assert.equal(checkOptions(options())[name], byDefault);
    assert.equal(checkOptions(options({ [name]: min, ...atMin }))[name], min);
    assert.equal(checkOptions(options({ [name]: max, ...atMax }))[name], max);
    for (const bad of [min - 1, max + 1, min + 0.5, Number.NaN, Infinity, '7', null, 7n]) {
      expectRefusal({ [name]: bad }, name);
    }
  });
}

test('every number among the options is in the table above', () => {
  const settings = checkOptions(options());
  const named = Object.entries(settings).filter(([, value]) => typeof value === 'number');
  assert.deepEqual(
    named.map(([name]) => name).sort(),
    [...numbers.map(({ name }) => name), 'seed'].sort(),
  );
});

test('a log without a machine is compacted to the slowest replica, unless the option says otherwise', () => {
  assert.equal(checkOptions(options()).logOnlyCompaction, 'slowest');
  const asked = options({ logOnlyCompaction: 'checkpoint' });
  assert.equal(checkOptions(asked).logOnlyCompaction, 'checkpoint');
  for (const bad of ['', 'all', null, 1]) {
    expectRefusal({ logOnlyCompaction: bad }, 'logOnlyCompaction');
  }
});

test('the leader sends snapshots, unless the option says otherwise', () => {
  assert.equal(checkOptions(options()).snapshotsFrom, 'leader');
  assert.equal(checkOptions(options({ snapshotsFrom: 'followers' })).snapshotsFrom, 'followers');
  for (const bad of ['', 'follower', null, 1]) {
    expectRefusal({ snapshotsFrom: bad }, 'snapshotsFrom');
  }
});

test('an election takes at least three heartbeats', () => {
  expectRefusal({ heartbeatTicks: 7 }, 'electionTicks');
  assert.equal(checkOptions(options({ heartbeatTicks: 6, electionTicks: 18 })).electionTicks, 18);
});

test('windows and queues hold what is sent at once', () => {
  expectRefusal({ inflightBytesMax: mib - 1 }, 'inflightBytesMax');
  expectRefusal({ uncommittedBytesMax: mib - 1 }, 'uncommittedBytesMax');
  expectRefusal({ queuedBytesMax: mib }, 'queuedBytesMax');
});

test('an unknown option is refused with the list of those that exist', () => {
  expectRefusal({ heartbeat: 3 }, 'heartbeat');
  assert.throws(() => checkOptions(options({ Partitions: 3 })), /partitions, proposalTimeoutMs/);
});

test('a node id has 1 to 64 safe characters', () => {
  for (const nodeId of ['', 'a b', 'ä', 'x'.repeat(65), undefined, 5, null]) {
    expectRefusal({ nodeId }, 'nodeId');
  }
});

test('adapters must be there', () => {
  for (const name of ['wal', 'transport', 'discovery']) {
    for (const bad of [undefined, null, 'rocksdb', 5]) expectRefusal({ [name]: bad }, name);
  }
});

test('functions must be functions, and a clock a clock', () => {
  for (const name of ['stateMachine', 'logger']) {
    for (const bad of [null, {}, 'x']) expectRefusal({ [name]: bad }, name);
  }
  for (const bad of [null, 5, Date]) expectRefusal({ clock: bad }, 'clock');
});

test('the directory for evidence is a path, and none by default', () => {
  for (const bad of ['', 5, null, {}])
    expectRefusal({ evidenceDirectory: bad }, 'evidenceDirectory');
  assert.equal(checkOptions(options()).evidenceDirectory, undefined);
  assert.equal(checkOptions(options({ evidenceDirectory: 'x/y' })).evidenceDirectory, 'x/y');
});

test('a listener listens to an event that exists', () => {
  expectRefusal({ listeners: { leaderChange: () => {} } }, 'listeners');
  expectRefusal({ listeners: { leaderChanged: 'log it' } }, 'listeners');
  expectRefusal({ listeners: null }, 'listeners');
  checkOptions(options({ listeners: { leaderChanged: () => {} } }));
});

test('endpoints are endpoints; a port of 0 may only be listened on', () => {
  for (const listen of [undefined, '', '127.0.0.1', ':80', '127.0.0.1:65536', 8001]) {
    expectRefusal({ listen }, 'listen');
  }
  assert.equal(checkOptions(options({ listen: '127.0.0.1:0' })).listen, '127.0.0.1:0');
  expectRefusal({ advertise: '127.0.0.1:0' }, 'advertise');
  expectRefusal({ members: { a: '127.0.0.1:0' } }, 'members');
});

test('members name this node, have ids of their own and endpoints of their own', () => {
  expectRefusal({ members: { b: '127.0.0.1:2' } }, 'members');
  expectRefusal({ members: {} }, 'members');
  expectRefusal({ members: null }, 'members');
  expectRefusal({ members: ['127.0.0.1:1'] }, 'members');
  expectRefusal({ members: { a: '127.0.0.1:1', 'b b': '127.0.0.1:2' } }, 'members');
  expectRefusal({ members: { a: '127.0.0.1:1', b: '127.0.0.1:1' } }, 'members');
  expectRefusal({ members: { a: 'nowhere' } }, 'members');
});

test('a cluster has at most 1024 members', () => {
  const many = (count: number): object =>
    Object.fromEntries(
      Array.from({ length: count }, (_, i) => [i === 0 ? 'a' : `n${i}`, `127.0.0.1:${i + 1}`]),
    );
  assert.equal(checkOptions(options({ members: many(1_024) })).members?.size, 1_024);
  expectRefusal({ members: many(1_025) }, 'members');
});

test('a logger that throws does not reach the node', () => {
  const { logger } = checkOptions(
    options({
      logger: () => {
        throw new Error('disk full');
      },
    }),
  );
  logger({ level: 'info', name: 'test', fields: {} });
});

test('a seed is a safe integer, and drawn when none is given', () => {
  for (const seed of [0.5, Number.NaN, 2 ** 53, '1']) expectRefusal({ seed }, 'seed');
  assert.equal(checkOptions(options({ seed: -5 })).seed, -5);
  assert.notEqual(checkOptions(options()).seed, checkOptions(options()).seed);
});
