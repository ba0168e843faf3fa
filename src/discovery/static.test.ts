// The static list: the port's contract, and which lists are refused.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../base/errors.ts';
import type { DiscoveredNode, DiscoveryContext } from '../ports/discovery.ts';
import { silentObserver } from '../ports/observer.ts';
import { discoveryContract } from '../testing/discovery-contract.ts';
import { systemClock } from '../time/system-clock.ts';
import { staticDiscovery } from './static.ts';

const context: DiscoveryContext = {
  self: { nodeId: 'a', endpoint: '127.0.0.1:8001', startId: 'one' },
  clock: systemClock,
  observer: silentObserver,
};

discoveryContract({ test: (name, body) => test(`static discovery: ${name}`, body) }, async () => ({
  discovery: staticDiscovery({ a: '127.0.0.1:8001', b: '[::1]:8002', c: 'node-c.example:8003' }),
  expected: [
    { nodeId: 'a', endpoint: '127.0.0.1:8001' },
    { nodeId: 'b', endpoint: '[::1]:8002' },
    { nodeId: 'c', endpoint: 'node-c.example:8003' },
  ],
}));

test('a list of endpoints is reported without node ids, before open resolves', async () => {
  const reports: (readonly DiscoveredNode[])[] = [];
  const discovery = staticDiscovery(['127.0.0.1:8001', '127.0.0.1:8002']);
  await discovery.open((nodes) => reports.push(nodes), context);
  assert.deepEqual(reports, [
    [
      { nodeId: undefined, endpoint: '127.0.0.1:8001' },
      { nodeId: undefined, endpoint: '127.0.0.1:8002' },
    ],
  ]);
});

test('a later change of the caller’s list changes nothing', async () => {
  const list = ['127.0.0.1:8001'];
  const discovery = staticDiscovery(list);
  list.push('127.0.0.1:8002');
  let reported: readonly DiscoveredNode[] = [];
  await discovery.open((nodes) => {
    reported = nodes;
  }, context);
  assert.equal(reported.length, 1);
});

test('a bad list is refused with an error that says what is bad', () => {
  const refused: [Parameters<typeof staticDiscovery>[0], RegExp][] = [
    [{}, /at least one node/],
    [[], /at least one node/],
    [{ a: '127.0.0.1' }, /"127\.0\.0\.1" is no endpoint/],
    [['127.0.0.1:0'], /between 1 and 65535/],
    [{ 'a b': '127.0.0.1:8001' }, /"a b" is no node id/],
    [{ '': '127.0.0.1:8001' }, /"" is no node id/],
    [{ a: '127.0.0.1:8001', b: '127.0.0.1:8001' }, /127\.0\.0\.1:8001 is named twice/],
    [['localhost:8001', 'LOCALHOST:8001'], /named twice/],
    [['localhost:8001', 'localhost:08001'], /named twice/],
  ];
  for (const [nodes, message] of refused) {
    assert.throws(
      () => staticDiscovery(nodes),
      (error: unknown) => {
        assert.ok(isKommanderError(error, 'INVALID_OPTION'));
        assert.equal(error.details.option, 'nodes');
        assert.match(error.message, message);
        return true;
      },
      JSON.stringify(nodes),
    );
  }
});
