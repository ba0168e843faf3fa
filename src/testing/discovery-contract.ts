// What every `Discovery` must do, as tests that any runner can run: `discoveryContract({ test }, factory)`. It asks for
// what is known at the start; the rules about later changes come with the first adapter that can change.

import assert from 'node:assert/strict';
import { isNodeId, parseEndpoint } from '../base/endpoint.ts';
import type { DiscoveredNode, Discovery } from '../ports/discovery.ts';
import type { ContractRunner } from './contract-runner.ts';

/** A discovery to try out, not yet opened. */
export interface DiscoverySubject {
  readonly discovery: Discovery;
  /** What it will know when it is open: at least one node. */
  readonly expected: readonly DiscoveredNode[];
  /** Releases what the factory made. Runs after `discovery.close()`. */
  dispose?(): Promise<void>;
}

/**
 * Registers the contract's tests. The runner's own timeout is what ends a discovery that never reports.
 *
 * @param open makes a fresh subject for each test
 */
export function discoveryContract(
  runner: ContractRunner,
  open: () => Promise<DiscoverySubject>,
): void {
  const rule = (name: string, body: (subject: DiscoverySubject) => Promise<void>): void => {
    runner.test(name, async () => {
      const subject = await open();
      try {
        await body(subject);
      } finally {
        await subject.discovery.close();
        await subject.dispose?.();
      }
    });
  };

  rule('open reports everything that is known', async ({ discovery, expected }) => {
    const reports = listen();
    await discovery.open(reports.changed);
    await reports.until(expected);
  });

  rule('every report names well-formed nodes, each once', async ({ discovery, expected }) => {
    const reports = listen();
    await discovery.open(reports.changed);
    for (const nodes of [...reports.heard, await reports.until(expected)]) {
      for (const { nodeId, endpoint } of nodes) {
        parseEndpoint(endpoint, { option: 'endpoint' });
        assert.ok(nodeId === undefined || isNodeId(nodeId), `"${nodeId}" is a node id`);
      }
      assert.equal(new Set(keysOf(nodes)).size, nodes.length, 'no node is reported twice');
    }
  });

  rule('close is idempotent, also when it was never opened', async ({ discovery }) => {
    await discovery.close();
    await discovery.close();
  });
}

interface Reports {
  readonly heard: (readonly DiscoveredNode[])[];
  readonly changed: (nodes: readonly DiscoveredNode[]) => void;
  /** Resolves with the last report as soon as it names exactly `expected`, in any order. */
  until(expected: readonly DiscoveredNode[]): Promise<readonly DiscoveredNode[]>;
}

function listen(): Reports {
  const heard: (readonly DiscoveredNode[])[] = [];
  let wake = () => {};
  return {
    heard,
    changed(nodes) {
      heard.push(nodes);
      wake();
    },
    async until(expected) {
      const wanted = keysOf(expected).sort();
      for (;;) {
        const last = heard.at(-1);
        if (last !== undefined && String(keysOf(last).sort()) === String(wanted)) return last;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

function keysOf(nodes: readonly DiscoveredNode[]): string[] {
  return nodes.map(({ nodeId, endpoint }) => `${nodeId ?? ''}@${endpoint}`);
}
