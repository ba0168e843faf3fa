// A contract suite is worth what it refuses: each broken discovery here must fail it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { staticDiscovery } from '../discovery/static.ts';
import type { DiscoveredNode, Discovery } from '../ports/discovery.ts';
import { discoveryContract } from './discovery-contract.ts';

const node: DiscoveredNode = { nodeId: 'a', endpoint: '127.0.0.1:8001' };

/** Names of the rules that a discovery breaks. */
async function brokenRules(
  open: () => Discovery,
  expected: readonly DiscoveredNode[] = [node],
): Promise<string[]> {
  const bodies = new Map<string, () => Promise<void>>();
  discoveryContract({ test: (name, body) => bodies.set(name, body) }, async () => ({
    discovery: open(),
    expected,
  }));
  const broken: string[] = [];
  for (const [name, body] of bodies) await body().catch(() => broken.push(name));
  return broken;
}

function reporting(nodes: readonly DiscoveredNode[]): Discovery {
  return { open: async (changed) => changed(nodes), close: async () => {} };
}

test('the contract accepts a discovery that keeps it', async () => {
  assert.deepEqual(await brokenRules(() => staticDiscovery({ a: '127.0.0.1:8001' })), []);
});

test('the contract refuses malformed endpoints, malformed node ids and doubles', async () => {
  const rule = 'every report names well-formed nodes, each once';
  const badLists: DiscoveredNode[][] = [
    [{ nodeId: 'a', endpoint: '127.0.0.1' }],
    [{ nodeId: 'a b', endpoint: '127.0.0.1:8001' }],
    [node, node],
  ];
  for (const nodes of badLists) {
    assert.deepEqual(await brokenRules(() => reporting(nodes), nodes), [rule]);
  }
});

test('the contract refuses a close that works only once', async () => {
  const closesOnce = (): Discovery => {
    let isClosed = false;
    return {
      open: async (changed) => changed([node]),
      close: async () => {
        assert.equal(isClosed, false);
        isClosed = true;
      },
    };
  };
  assert.deepEqual(await brokenRules(closesOnce), [
    'close is idempotent, also when it was never opened',
  ]);
});
