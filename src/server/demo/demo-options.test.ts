// The options of the demo: defaults, and refusals before anything is started.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDemoOptions } from './demo-options.ts';

test('without flags the demo runs until it is stopped, durably, and kills nobody', () => {
  assert.deepEqual(readDemoOptions({}), {
    seconds: undefined,
    killLeaderEvery: undefined,
    json: false,
    wal: 'rocksdb',
    partitions: 8,
    data: '.kommander',
    clients: 64,
    discovery: 'static',
  });
  const given = { seconds: '30', killLeaderEvery: '5', json: true, partitions: '16' };
  const options = readDemoOptions(given);
  assert.deepEqual(
    [options.seconds, options.killLeaderEvery, options.json, options.partitions],
    [30, 5, true, 16],
  );
});

test('bad values are refused with their name, the value and the valid options', () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ seconds: '0' }, /--seconds: "0" is not valid: expected an integer from 1 to 86400/],
    [{ seconds: 'ten' }, /--seconds: "ten"/],
    [{ seconds: '1.5' }, /--seconds: "1.5"/],
    [{ killLeaderEvery: '0' }, /--kill-leader-every: "0"/],
    [
      { partitions: '2000' },
      /--partitions: "2000" is not valid: expected an integer from 1 to 1024/,
    ],
    [
      { wal: 'paper' },
      /--wal: "paper" is not valid: expected one of rocksdb, segment, sqlite, memory/,
    ],
    [{ data: '' }, /--data: ""/],
    [{ clients: '-1' }, /--clients: "-1"/],
    [{ discovery: 'x' }, /--discovery: "x" is not valid: expected static or multicast/],
  ];
  for (const [flags, message] of cases) {
    assert.throws(() => readDemoOptions(flags), { code: 'INVALID_OPTION', message });
  }
  assert.throws(() => readDemoOptions({ wal: 'x' }), {
    message: /valid options: --seconds, --kill/,
  });
});

test('killing nodes that keep their log in memory is refused, with the reason', () => {
  assert.throws(() => readDemoOptions({ killLeaderEvery: '5', wal: 'memory' }), {
    code: 'INVALID_OPTION',
    message: /a killed node forgets everything that it\nacknowledged/,
  });
  assert.equal(readDemoOptions({ wal: 'memory' }).wal, 'memory');
});
