// What every `Discovery` must do, as tests that any runner can run: `discoveryContract({ test }, factory)`. One that
// changes brings steps, of which each makes a change; one that never changes has none.

import assert from 'node:assert/strict';
import { isNodeId, parseEndpoint } from '../base/endpoint.ts';
import type { DiscoveredNode, Discovery, DiscoveryContext } from '../ports/discovery.ts';
import { silentObserver } from '../ports/observer.ts';
import { systemClock } from '../time/system-clock.ts';
import type { ContractRunner } from './contract-runner.ts';

/** Something that happens to nodes: one comes, moves, goes. */
export interface DiscoveryStep {
  readonly happen: () => void | Promise<void>;
  /** What the discovery will know then. */
  readonly expected: readonly DiscoveredNode[];
}

/** A discovery to try out, not yet opened. */
export interface DiscoverySubject {
  readonly discovery: Discovery;
  /** What it will know when it is open. */
  readonly expected: readonly DiscoveredNode[];
  /** Changes, in order (default: it never changes). */
  readonly steps?: readonly DiscoveryStep[];
  /** With what it is opened (default: node `contract` at 127.0.0.1:7999, the system's clock). */
  readonly context?: DiscoveryContext;
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

  rule('open reports everything that is known', async (subject) => {
    const reports = await opened(subject);
    await reports.until(subject.expected);
  });

  rule('every report names well-formed nodes, each once', async (subject) => {
    const reports = await opened(subject);
    await reports.until(subject.expected);
    for (const step of subject.steps ?? []) await reports.after(step);
    for (const nodes of reports.heard) {
      for (const { nodeId, endpoint } of nodes) {
        parseEndpoint(endpoint, { option: 'endpoint' });
        assert.ok(nodeId === undefined || isNodeId(nodeId), `"${nodeId}" is a node id`);
      }
      const names = nodes.map(({ nodeId, endpoint }) => nodeId ?? `@${endpoint}`);
      assert.equal(new Set(names).size, nodes.length, 'no node is reported twice');
    }
  });

  rule('every change is reported, with everything that is known then', async (subject) => {
    const reports = await opened(subject);
    await reports.until(subject.expected);
    for (const step of subject.steps ?? []) await reports.after(step);
  });

  rule('a report that was given stays as it is', async (subject) => {
    const reports = await opened(subject);
    await reports.until(subject.expected);
    for (const step of subject.steps ?? []) await reports.after(step);
    assert.deepEqual(reports.heard, reports.copies);
  });

  rule('nothing is reported after close', async (subject) => {
    const reports = await opened(subject);
    await reports.until(subject.expected);
    await subject.discovery.close();
    const count = reports.heard.length;
    for (const { happen } of subject.steps ?? []) {
      await happen();
      await turns(contextOf(subject));
    }
    assert.equal(reports.heard.length, count);
  });

  rule('what is known from the start by a written list is what is reported', async (subject) => {
    const { fixedNodes } = subject.discovery;
    if (fixedNodes === undefined) return;
    assert.equal(subject.steps?.length ?? 0, 0, 'nodes that change are not fixed');
    const fixed = Object.entries(fixedNodes).map(([nodeId, endpoint]) => ({ nodeId, endpoint }));
    assert.deepEqual(keysOf(fixed).sort(), keysOf(subject.expected).sort());
  });

  rule('close is idempotent, also when it was never opened', async ({ discovery }) => {
    await discovery.close();
    await discovery.close();
  });
}

interface Reports {
  readonly heard: (readonly DiscoveredNode[])[];
  /** What `heard` was when it came. */
  readonly copies: (readonly DiscoveredNode[])[];
  /** Resolves as soon as the last report names exactly `expected`, in any order. */
  until(expected: readonly DiscoveredNode[]): Promise<void>;
  /** Lets a step happen, and waits until it is reported. */
  after(step: DiscoveryStep): Promise<void>;
}

async function opened(subject: DiscoverySubject): Promise<Reports> {
  const heard: (readonly DiscoveredNode[])[] = [];
  const copies: (readonly DiscoveredNode[])[] = [];
  let wake = () => {};
  const reports: Reports = {
    heard,
    copies,
    async until(expected) {
      const wanted = keysOf(expected).sort();
      for (;;) {
        const last = heard.at(-1);
        if (last !== undefined && String(keysOf(last).sort()) === String(wanted)) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    async after({ happen, expected }) {
      await happen();
      await reports.until(expected);
    },
  };
  const changed = (nodes: readonly DiscoveredNode[]): void => {
    heard.push(nodes);
    copies.push(structuredClone(nodes));
    wake();
  };
  await subject.discovery.open(changed, contextOf(subject));
  return reports;
}

function contextOf({ context }: DiscoverySubject): DiscoveryContext {
  if (context !== undefined) return context;
  const self = { nodeId: 'contract', endpoint: '127.0.0.1:7999', startId: 'one' };
  return { self, clock: systemClock, observer: silentObserver };
}

/** Input that is on its way gets its chance. */
async function turns({ clock }: DiscoveryContext): Promise<void> {
  for (let count = 0; count < 10; count++) {
    await new Promise<void>((resolve) => clock.defer(resolve));
  }
}

function keysOf(nodes: readonly DiscoveredNode[]): string[] {
  return nodes.map(({ nodeId, endpoint }) => `${nodeId ?? ''}@${endpoint}`);
}
