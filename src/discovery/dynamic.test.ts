// Discovery by the application: the port's contract, and what it refuses.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../base/errors.ts';
import { discoveryContract } from '../testing/discovery-contract.ts';
import { dynamicDiscovery } from './dynamic.ts';

const a = { nodeId: 'a', endpoint: '127.0.0.1:8001' };
const b = { nodeId: 'b', endpoint: '[::1]:8002' };

discoveryContract({ test: (name, body) => test(`dynamic discovery: ${name}`, body) }, async () => {
  const discovery = dynamicDiscovery({ a: a.endpoint });
  const moved = { nodeId: 'b', endpoint: 'node-b.example:8002' };
  return {
    discovery,
    expected: [a],
    steps: [
      { happen: () => discovery.add(b), expected: [a, b] },
      { happen: () => discovery.add(moved), expected: [a, moved] },
      { happen: () => assert.equal(discovery.remove('a'), true), expected: [moved] },
      { happen: () => assert.equal(discovery.remove('b'), true), expected: [] },
    ],
  };
});

function refusalOf(act: () => void): string {
  try {
    act();
  } catch (error) {
    assert.ok(isKommanderError(error, 'INVALID_ARGUMENT'), String(error));
    return `${error.details.argument}: ${error.message}`;
  }
  throw new Error('it was taken');
}

test('nodes that are added before it is opened are in the first report; what changes nothing is not reported', async () => {
  const discovery = dynamicDiscovery();
  discovery.add(a);
  let reportCount = 0;
  const context = {} as Parameters<typeof discovery.open>[1];
  await discovery.open((nodes) => {
    reportCount += 1;
    assert.deepEqual(nodes, [a]);
  }, context);
  discovery.add(a);
  assert.equal(discovery.remove('z'), false);
  assert.equal(reportCount, 1);
  await discovery.close();
  // Nobody listens any more: not an error.
  discovery.add(b);
  assert.equal(reportCount, 1);
});

test('nodes that an application adds are not the first members', () => {
  assert.equal(dynamicDiscovery({ a: a.endpoint }).fixedNodes, undefined);
});

test('a malformed node, an endpoint of another node, and more than 1,024 nodes are refused', () => {
  const discovery = dynamicDiscovery({ a: 'Node-A.example:8001' });
  const add = (nodeId: unknown, endpoint: unknown) =>
    refusalOf(() => discovery.add({ nodeId, endpoint } as typeof a));
  assert.match(add('a b', '127.0.0.1:1'), /^nodeId: .*no node id/);
  assert.match(add(7, '127.0.0.1:1'), /^nodeId: /);
  assert.match(add('b', '127.0.0.1'), /^endpoint: .*no endpoint/);
  assert.match(add('b', undefined), /^endpoint: /);
  assert.match(add('b', 'node-a.example:8001'), /^endpoint: .* that of "a"/);
  for (let at = 1; at < 1_024; at++) {
    discovery.add({ nodeId: `n${at}`, endpoint: `10.0.${at >> 8}.${at & 255}:8001` });
  }
  assert.match(add('b', '127.0.0.1:8002'), /^nodeId: .*1024 nodes already/);
  // One that is known may move, and one that went makes room.
  discovery.add({ nodeId: 'n1', endpoint: '10.9.9.9:8001' });
  discovery.remove('n2');
  discovery.add(b);
});
