// The options of `serve`: precedence, defaults, and a clear refusal of everything bad or unknown.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KommanderError } from '../base/errors.ts';
import { readServeOptions, serveOptionTable, variableOf } from './serve-options.ts';

const members = 'a=127.0.0.1:8001,b=127.0.0.1:8002,c=127.0.0.1:8003';
const complete = { nodeId: 'a', members, data: '/tmp/a' };

function refusal(sources: Parameters<typeof readServeOptions>[0]): KommanderError {
  try {
    readServeOptions(sources);
  } catch (error) {
    assert.ok(error instanceof KommanderError, String(error));
    assert.equal(error.code, 'INVALID_OPTION');
    return error;
  }
  throw new Error('bad options were taken');
}

test('three options are enough, the others have stated defaults', () => {
  assert.deepEqual(readServeOptions({ flags: complete, environment: {} }), {
    nodeId: 'a',
    members: { a: '127.0.0.1:8001', b: '127.0.0.1:8002', c: '127.0.0.1:8003' },
    listen: '127.0.0.1:8001',
    advertise: '127.0.0.1:8001',
    discovery: 'static',
    http: '127.0.0.1:7101',
    data: '/tmp/a',
    wal: 'rocksdb',
    partitions: 8,
    tickMs: 50,
    electionTicks: 20,
    checkpointBytes: 67_108_864,
    snapshotsFrom: 'leader',
    logLevel: 'info',
    stopWithParent: false,
  });
});

test('a flag wins over a variable, and a variable over the file', () => {
  const file = JSON.stringify({
    nodeId: 'a',
    members: { a: '127.0.0.1:8001' },
    data: '/file',
    partitions: 3,
    tickMs: 30,
    electionTicks: 10,
    stopWithParent: true,
  });
  const options = readServeOptions({
    flags: { config: 'k.json', partitions: '5' },
    environment: { KOMMANDER_PARTITIONS: '4', KOMMANDER_TICK_MS: '40', PATH: '/bin' },
    readText: (path) => (path === 'k.json' ? file : ''),
  });
  assert.equal(options.partitions, 5);
  assert.equal(options.tickMs, 40);
  assert.equal(options.electionTicks, 10);
  assert.equal(options.data, '/file');
  assert.equal(options.stopWithParent, true);
});

test('every option can be given as a variable, the config file too', () => {
  const values: Record<string, string> = {
    nodeId: 'b',
    members,
    listen: '127.0.0.1:9002',
    advertise: 'node-b.example:9002',
    discovery: 'multicast://239.1.2.3:1901?cluster=x',
    http: '[::1]:0',
    data: 'd',
    wal: 'memory',
    partitions: '1',
    tickMs: '5',
    electionTicks: '3',
    checkpointBytes: '65536',
    snapshotsFrom: 'followers',
    logLevel: 'silent',
    stopWithParent: 'true',
  };
  const environment = Object.fromEntries(
    serveOptionTable.map(({ name }) => [variableOf(name), values[name]]),
  );
  const options = readServeOptions({ flags: {}, environment });
  for (const { name } of serveOptionTable) {
    if (name === 'members') continue;
    assert.equal(String(options[name]), values[name], name);
  }
  const fromFile = readServeOptions({
    flags: {},
    environment: { KOMMANDER_CONFIG: 'x' },
    readText: () => JSON.stringify(complete),
  });
  assert.equal(fromFile.nodeId, 'a');
});

test('a bad value is refused with its name, the value, where it came from and the valid options', () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [
      { partitions: 'zero' },
      /--partitions: "zero" is not valid: expected an integer from 1 to 65535/,
    ],
    [{ partitions: '0' }, /--partitions: "0"/],
    [{ partitions: '1.5' }, /--partitions: "1.5"/],
    [{ partitions: '65536' }, /--partitions: "65536"/],
    [
      { wal: 'disk' },
      /--wal: "disk" is not valid: expected one of rocksdb, segment, sqlite, memory/,
    ],
    [{ http: '7101' }, /--http: "7101" is not valid: expected host:port/],
    [{ listen: '127.0.0.1:0' }, /--listen: "127.0.0.1:0" is not valid: .* port above 0/],
    [{ nodeId: 'a b' }, /--node-id: "a b" is not valid: expected 1 to 64 characters/],
    [{ nodeId: 'z' }, /--node-id: "z" is not among the members \(a, b, c\)/],
    [{ members: 'a=127.0.0.1:8001,a=127.0.0.1:8002' }, /--members: .* different ids and endpoints/],
    [{ members: 'a=127.0.0.1:8001,b=127.0.0.1:8001' }, /--members/],
    [{ members: 'a,b,a' }, /--members/],
    [{ advertise: 'a:0' }, /--advertise: "a:0" is not valid: .* port above 0/],
    [
      { discovery: 'pigeon' },
      /--discovery: "pigeon" is not valid: expected one of static, multicast/,
    ],
    [{ discovery: 'redis://:secret@h:x' }, /--discovery: "redis:\/\/…@h:x" is not valid/],
    [{ members: '' }, /--members/],
    [{ tickMs: '4' }, /--tick-ms: "4" is not valid: expected an integer from 5 to 10000/],
    [{ electionTicks: '2' }, /--election-ticks: "2"/],
    [{ checkpointBytes: '1' }, /--checkpoint-bytes: "1"/],
    [{ snapshotsFrom: 'b' }, /--snapshots-from: "b" .* expected one of leader, followers/],
    [{ logLevel: 'loud' }, /--log-level: "loud" .* debug, info, warn, error, silent/],
    [{ data: '' }, /--data: "" is not valid/],
  ];
  for (const [bad, expected] of cases) {
    const error = refusal({ flags: { ...complete, ...bad }, environment: {} });
    assert.match(error.message, expected);
    assert.match(error.message, /valid options: --node-id, --members, .*--config/);
    assert.equal(error.details.option, Object.keys(bad)[0]);
  }
});

test('members may be named by id alone where discovery finds them', () => {
  const { data } = complete;
  const found = { nodeId: 'b', members: 'a, b,c', data, discovery: 'multicast' };
  const options = readServeOptions({ flags: found, environment: {} });
  assert.deepEqual(options.members, ['a', 'b', 'c']);
  assert.equal(options.listen, '127.0.0.1:8001');
  const file = JSON.stringify({ ...found, members: ['a', 'b'], listen: '0.0.0.0:9000' });
  const sources = { flags: { config: 'k' }, environment: {}, readText: () => file };
  assert.deepEqual(readServeOptions(sources).members, ['a', 'b']);
  assert.equal(readServeOptions(sources).advertise, '0.0.0.0:9000');
  // A list finds nobody.
  const { message } = refusal({ flags: { ...found, discovery: 'static' }, environment: {} });
  assert.match(
    message,
    /^--discovery: "static" is not valid: it finds nobody, and --members names no/,
  );
  const { message: unknown } = refusal({ flags: { ...found, nodeId: 'd' }, environment: {} });
  assert.match(unknown, /--node-id: "d" is not among the members \(a, b, c\)/);
});

test('all problems are told at once, each with its origin', () => {
  const error = refusal({
    flags: { config: 'k.json', wal: 'x' },
    environment: { KOMMANDER_TICK_MS: 'fast' },
    readText: () => '{"partitions": -1, "nodeID": "a"}',
  });
  assert.match(error.message, /^--wal: "x" is not valid/m);
  assert.match(error.message, /^KOMMANDER_TICK_MS: "fast" is not valid/m);
  assert.match(error.message, /^"partitions" in k\.json: -1 is not valid/m);
  assert.match(error.message, /^"nodeID" in k\.json: there is no such option$/m);
  assert.match(error.message, /^--node-id is required$/m);
  assert.match(error.message, /^--members is required$/m);
});

test('a durable log needs a directory, one in memory does not', () => {
  const { data: _, ...rest } = complete;
  for (const wal of ['rocksdb', 'segment', 'sqlite']) {
    const { message } = refusal({ flags: { ...rest, wal }, environment: {} });
    assert.match(message, new RegExp(`--data is required with --wal ${wal}`));
  }
  assert.equal(
    readServeOptions({ flags: { ...rest, wal: 'memory' }, environment: {} }).data,
    undefined,
  );
});

test('an unknown KOMMANDER_ variable is refused with the valid ones', () => {
  const error = refusal({ flags: complete, environment: { KOMMANDER_PARTITION: '4' } });
  assert.match(error.message, /unknown environment variable KOMMANDER_PARTITION\n/);
  assert.match(error.message, /valid variables: KOMMANDER_NODE_ID, .*KOMMANDER_CONFIG/);
});

test('a config file that is missing, no JSON or no object is refused by its path', () => {
  const sources = { flags: { config: '/none/k.json' }, environment: {} };
  assert.match(refusal(sources).message, /--config: \/none\/k\.json cannot be read: ENOENT/);
  for (const text of ['{', '[]', '"a"', 'null']) {
    assert.match(
      refusal({ ...sources, readText: () => text }).message,
      /^--config: \/none\/k\.json /,
    );
  }
});
