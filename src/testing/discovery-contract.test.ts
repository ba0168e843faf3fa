// A contract suite is worth what it refuses: each broken discovery here must fail it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { staticDiscovery } from '../discovery/static.ts';
import type { DiscoveredNode, Discovery } from '../ports/discovery.ts';
import { type DiscoverySubject, discoveryContract } from './discovery-contract.ts';

const node: DiscoveredNode = { nodeId: 'a', endpoint: '127.0.0.1:8001' };

/** Names of the rules that a discovery breaks. */
async function rulesBrokenBy(open: () => DiscoverySubject): Promise<string[]> {
  const bodies = new Map<string, () => Promise<void>>();
  discoveryContract({ test: (name, body) => bodies.set(name, body) }, async () => open());
  const broken: string[] = [];
  for (const [name, body] of bodies) await body().catch(() => broken.push(name));
  return broken;
}

function brokenRules(
  open: () => Discovery,
  expected: readonly DiscoveredNode[] = [node],
): Promise<string[]> {
  return rulesBrokenBy(() => ({ discovery: open(), expected }));
}

function reporting(nodes: readonly DiscoveredNode[]): Discovery {
  return { open: async (changed) => changed(nodes), close: async () => {} };
}

test('the contract accepts a discovery that keeps it', async () => {
  assert.deepEqual(await brokenRules(() => staticDiscovery({ a: '127.0.0.1:8001' })), []);
});

test('the contract refuses a list that grows in the hands of who got it, reports after close, and an id with two places', async () => {
  const other = { nodeId: 'b', endpoint: '127.0.0.1:8002' };
  /** How it reports a change, and whether it does after its end. */
  const changing = (told: 'again' | 'in place' | 'late' | 'twice') => {
    let report: (nodes: readonly DiscoveredNode[]) => void = () => {};
    const known = [node];
    const discovery: Discovery = {
      async open(changed) {
        report = changed;
        changed(told === 'in place' ? known : [...known]);
      },
      async close() {
        if (told !== 'late') report = () => {};
      },
    };
    const happen = (): void => {
      known.push(told === 'twice' ? { ...other, nodeId: 'a' } : other);
      report(told === 'in place' ? known : [...known]);
    };
    const expected = [node, told === 'twice' ? { ...other, nodeId: 'a' } : other];
    return { discovery, expected: [node], steps: [{ happen, expected }] };
  };
  assert.deepEqual(await rulesBrokenBy(() => changing('again')), []);
  assert.deepEqual(await rulesBrokenBy(() => changing('in place')), [
    'a report that was given stays as it is',
  ]);
  assert.deepEqual(await rulesBrokenBy(() => changing('late')), [
    'nothing is reported after close',
  ]);
  assert.deepEqual(await rulesBrokenBy(() => changing('twice')), [
    'every report names well-formed nodes, each once',
  ]);
});

test('the contract refuses nodes that are called fixed and are not those that are reported', async () => {
  const fixed = (nodes: Readonly<Record<string, string>>): Discovery => ({
    ...reporting([node]),
    fixedNodes: nodes,
  });
  assert.deepEqual(await brokenRules(() => fixed({ a: node.endpoint })), []);
  assert.deepEqual(await brokenRules(() => fixed({ a: node.endpoint, b: '127.0.0.1:8002' })), [
    'what is known from the start by a written list is what is reported',
  ]);
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
    'nothing is reported after close',
    'close is idempotent, also when it was never opened',
  ]);
});
