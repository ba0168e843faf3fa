// Which texts are endpoints and node ids. The verdict on addresses is compared with Node's own.

import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatEndpoint, isNodeId, parseEndpoint } from './endpoint.ts';

const option = 'listen';

test('an endpoint is a host name, an IPv4 address or a bracketed IPv6 address, and a port', () => {
  const parts: [string, string, number][] = [
    ['localhost:1', 'localhost', 1],
    ['127.0.0.1:65535', '127.0.0.1', 65_535],
    ['node-1.cluster_a.example.com:8001', 'node-1.cluster_a.example.com', 8_001],
    ['10x:80', '10x', 80],
    ['[::]:8001', '::', 8_001],
    ['[::1]:8001', '::1', 8_001],
    ['[fe80::1%eth0]:8001', 'fe80::1%eth0', 8_001],
    ['[2001:db8::ff00:42:8329]:8001', '2001:db8::ff00:42:8329', 8_001],
    ['[::ffff:192.0.2.1]:8001', '::ffff:192.0.2.1', 8_001],
  ];
  for (const [endpoint, host, port] of parts) {
    assert.deepEqual(parseEndpoint(endpoint, { option }), { host, port });
    assert.equal(formatEndpoint({ host, port }), endpoint);
  }
});

test('a malformed endpoint is refused with an error that names the option and the value', () => {
  for (const endpoint of [
    '',
    'localhost',
    'localhost:',
    ':8001',
    'localhost:0',
    'localhost:65536',
    'localhost:+80',
    'localhost:8e1',
    'localhost: 80',
    ' localhost:80',
    'localhost:80\n',
    'http://localhost:80',
    'a..b:80',
    '-a:80',
    'a-:80',
    '1.2.3:80',
    '1.2.3.256:80',
    '1.2.3.04:80',
    'a.300:80',
    'ü:80',
    '::1:80',
    '[::1]',
    '[::1:80',
    '[]:80',
    '[::1::2]:80',
    '[1:2:3:4:5:6:7]:80',
    '[1:2:3:4:5:6:7:8:9]:80',
    '[1:2:3:4:5:6:7::8]:80',
    '[12345::]:80',
    '[::1.2.3.256]:80',
    '[1.2.3.4::]:80',
    '[127.0.0.1]:80',
    `${'a'.repeat(64)}:80`,
    `${'a.'.repeat(130)}b:80`,
  ]) {
    assert.throws(
      () => parseEndpoint(endpoint, { option }),
      { code: 'INVALID_OPTION', details: { option, value: endpoint.slice(0, 128) } },
      JSON.stringify(endpoint),
    );
  }
});

test('port 0 is an endpoint only where a free port may be asked for', () => {
  assert.equal(parseEndpoint('127.0.0.1:0', { option, portMin: 0 }).port, 0);
  assert.throws(() => parseEndpoint('127.0.0.1:0', { option, portMin: 1 }), /between 1 and 65535/);
});

test('IPv6 addresses are those that Node takes for IPv6 addresses', () => {
  const groups = fc.array(fc.constantFrom('', '0', '1', 'abcd', 'FFFF', '1.2.3.4', '12345', 'g'), {
    maxLength: 9,
  });
  const nearlyAddresses = fc.oneof(
    groups.map((parts) => parts.join(':')),
    fc.ipV6(),
  );
  fc.assert(
    fc.property(nearlyAddresses, (address) => {
      let isTaken = true;
      try {
        parseEndpoint(`[${address}]:80`, { option });
      } catch {
        isTaken = false;
      }
      assert.equal(isTaken, isIPv6(address), address);
    }),
    { numRuns: 2_000 },
  );
});

test('a node id has 1 to 64 letters, digits, dots, underscores or hyphens', () => {
  for (const id of ['a', 'node-1.rack_2', 'A'.repeat(64)]) assert.equal(isNodeId(id), true, id);
  for (const id of ['', 'a b', 'a/b', 'a:1', 'ü', 'a\n', 'A'.repeat(65)]) {
    assert.equal(isNodeId(id), false, JSON.stringify(id));
  }
});
