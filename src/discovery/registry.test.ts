// What all registries have in common, with a registry that does as it is told and a clock that is moved by hand: when it
// is asked, what is believed, and that no failure of it ends anything.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError } from '../base/errors.ts';
import type { DiscoveredNode, Discovery } from '../ports/discovery.ts';
import type { ObservedEvent } from '../ports/observer.ts';
import { type VirtualClock, virtualClock } from '../testing/virtual-clock.ts';
import { entriesMax } from './known-nodes.ts';
import { type Registry, registryDiscovery } from './registry.ts';

const self = { nodeId: 'a', endpoint: '10.0.0.1:8101', startId: 'one' };
const own: DiscoveredNode = { nodeId: 'a', endpoint: self.endpoint };
const b: DiscoveredNode = { nodeId: 'b', endpoint: '10.0.0.2:8101' };
const c: DiscoveredNode = { nodeId: 'c', endpoint: '10.0.0.3:8101' };

const ttlMs = 15_000;
const renewalMs = ttlMs / 3;
const pauseMs = 1_000;
const timeoutMs = 3_000;

/** A registry in memory. */
interface FakeRegistry {
  entries: DiscoveredNode[];
  /** Every call fails. */
  isDown: boolean;
  /** Waiting for changes fails. */
  hasDeadWatch: boolean;
  /** No call is answered. */
  isSilent: boolean;
  /** When each call was made. */
  readonly calls: Record<'announce' | 'withdraw' | 'list' | 'awaitChange', number[]>;
  isClosed: boolean;
  /** Ends what waits for a change. */
  change(): void;
}

interface Trial {
  readonly clock: VirtualClock;
  readonly registry: FakeRegistry;
  readonly discovery: Discovery;
  readonly reports: (readonly DiscoveredNode[])[];
  readonly events: ObservedEvent[];
  /** Events of that name. */
  said(name: string): ObservedEvent[];
  last(): readonly DiscoveredNode[] | undefined;
}

/** Not open yet. */
function trial(
  options: { readonly watches?: boolean; readonly announces?: boolean } = {},
): Trial & {
  open(): Promise<void>;
} {
  const { watches = false, announces = true } = options;
  const clock = virtualClock();
  const registry: FakeRegistry = {
    entries: [],
    isDown: false,
    hasDeadWatch: false,
    isSilent: false,
    calls: { announce: [], withdraw: [], list: [], awaitChange: [] },
    isClosed: false,
    change: () => {},
  };
  const answer = async <Result>(
    call: keyof FakeRegistry['calls'],
    result: () => Result,
  ): Promise<Result> => {
    registry.calls[call].push(clock.monotonicMs());
    if (registry.isSilent) return new Promise<Result>(() => {});
    if (registry.isDown) throw new Error('connection refused');
    return result();
  };
  const adapter: Registry = {
    name: 'fake registry',
    pauseMs,
    ...(announces && {
      announcer: {
        announce: () =>
          answer('announce', () => {
            const held = registry.entries.find(({ nodeId }) => nodeId === self.nodeId);
            if (held !== undefined) return held.endpoint;
            registry.entries.push(own);
            return self.endpoint;
          }),
        withdraw: () =>
          answer('withdraw', () => {
            registry.entries = registry.entries.filter(({ endpoint }) => endpoint !== own.endpoint);
          }),
      },
    }),
    list: () => answer('list', () => [...registry.entries]),
    ...(watches && {
      awaitChange: async (signal: AbortSignal) => {
        await answer('awaitChange', () => undefined);
        if (registry.hasDeadWatch) throw new Error('no watch here');
        await new Promise<void>((resolve, reject) => {
          registry.change = resolve;
          signal.addEventListener('abort', () => reject(new Error('aborted')));
        });
      },
    }),
    close: () => {
      registry.isClosed = true;
    },
  };
  const discovery = registryDiscovery({ ttlMs, timeoutMs, connect: async () => adapter });
  const reports: (readonly DiscoveredNode[])[] = [];
  const events: ObservedEvent[] = [];
  return {
    clock,
    registry,
    discovery,
    reports,
    events,
    said: (name) => events.filter((event) => event.name === name),
    last: () => reports.at(-1),
    async open() {
      const observer = (event: ObservedEvent): void => void events.push(event);
      await discovery.open((nodes) => reports.push(nodes), { self, clock, observer });
      await clock.settle();
    },
  };
}

async function opened(options: Parameters<typeof trial>[0] = {}): Promise<Trial> {
  const made = trial(options);
  made.registry.entries.push(b);
  await made.open();
  return made;
}

/** Closes while the clock goes on, for a registry that is slow. */
async function closed({ clock, discovery }: Trial, withinMs = 0): Promise<void> {
  let isOver = false;
  const closing = discovery.close().then(() => {
    isOver = true;
  });
  await clock.run(withinMs);
  assert.ok(isOver, `close ends within ${withinMs} ms`);
  await closing;
  assert.equal(clock.timerCount, 0, 'no timer is left');
}

test('a node announces itself, reports the others, and leaves itself out', async () => {
  const made = await opened();
  assert.deepEqual(made.registry.entries, [b, own]);
  assert.deepEqual(made.reports, [[b]]);
  assert.deepEqual(made.events, []);
  await closed(made);
});

test('a registry that knows nobody else is reported as that, once', async () => {
  const made = trial();
  await made.open();
  await made.clock.run(60_000);
  assert.deepEqual(made.reports, [[]]);
  await closed(made);
});

test('the own entry is renewed three times in its life', async () => {
  const made = await opened();
  await made.clock.run(4 * ttlMs);
  const { announce } = made.registry.calls;
  assert.deepEqual(
    announce,
    Array.from({ length: 13 }, (_, at) => at * renewalMs),
  );
  await closed(made);
});

test('nodes that come are reported with the next answer', async () => {
  const made = await opened();
  made.registry.entries.push(c);
  await made.clock.run(pauseMs);
  assert.deepEqual(made.reports, [[b], [b, c]]);
  await closed(made);
});

test('a registry that is down at the start is asked until it answers, and said to be down once', async () => {
  const made = trial();
  made.registry.isDown = true;
  made.registry.entries.push(b);
  await made.open();
  await made.clock.run(60_000);
  assert.deepEqual(made.reports, []);
  const failing = made.said('registry-failing');
  assert.deepEqual(
    failing.map(({ fields }) => [fields.registry, fields.operation, String(fields.error)]),
    [
      ['fake registry', 'announce', 'Error: connection refused'],
      ['fake registry', 'list', 'Error: connection refused'],
    ],
  );
  made.registry.isDown = false;
  await made.clock.run(renewalMs);
  assert.deepEqual(made.last(), [b]);
  assert.ok(made.registry.entries.includes(own));
  assert.deepEqual(
    made
      .said('registry-recovered')
      .map(({ fields }) => String(fields.operation))
      .sort((x, y) => (x < y ? -1 : 1)),
    ['announce', 'list'],
  );
  await closed(made);
});

test('pauses between attempts grow, and never beyond the time between renewals', async () => {
  const made = trial();
  made.registry.isDown = true;
  await made.open();
  await made.clock.run(3_600_000);
  for (const calls of [made.registry.calls.list, made.registry.calls.announce]) {
    const pauses = calls.slice(1).map((atMs, at) => atMs - (calls[at] ?? 0));
    assert.ok(Math.max(...pauses) <= renewalMs, `the longest pause is ${Math.max(...pauses)} ms`);
    assert.ok(Math.min(...pauses) >= 50, `the shortest pause is ${Math.min(...pauses)} ms`);
    for (const [at, pauseMs] of pauses.slice(0, 5).entries()) {
      const full = 100 * 2 ** at;
      assert.ok(pauseMs >= full / 2 && pauseMs <= full, `pause ${at} is ${pauseMs} ms`);
    }
    assert.ok(new Set(pauses.slice(10)).size > 100, 'pauses are drawn');
  }
  assert.equal(made.events.length, 2);
  await closed(made);
});

test('nodes with different names do not ask in step', async () => {
  const firstPauses = async (nodeId: string): Promise<readonly number[]> => {
    const made = trial();
    made.registry.isDown = true;
    const context = { self: { ...self, nodeId }, clock: made.clock, observer: () => {} };
    await made.discovery.open(() => {}, context);
    await made.clock.run(1_000);
    await closed(made);
    return made.registry.calls.list;
  };
  assert.deepEqual(await firstPauses('a'), await firstPauses('a'));
  assert.notDeepEqual(await firstPauses('a'), await firstPauses('b'));
});

test('while a registry is down later, what was known stays known', async () => {
  const made = await opened();
  made.registry.isDown = true;
  await made.clock.run(10 * ttlMs);
  assert.deepEqual(made.reports, [[b]]);
  assert.equal(made.said('registry-failing').length, 2);
  // It comes back without its memory: the others need a moment to announce themselves again.
  made.registry.isDown = false;
  made.registry.entries = [];
  await made.clock.run(renewalMs + pauseMs);
  made.registry.entries.push(b);
  await made.clock.run(10 * ttlMs);
  assert.deepEqual(made.reports, [[b]]);
  assert.deepEqual(made.registry.entries, [own, b]);
  await closed(made);
});

test('a registry that does not answer is given up after the timeout, and asked again', async () => {
  const made = trial();
  made.registry.isSilent = true;
  made.registry.entries.push(b);
  await made.open();
  await made.clock.run(timeoutMs - 1);
  assert.deepEqual(made.events, []);
  await made.clock.run(1);
  assert.deepEqual(
    made.said('registry-failing').map(({ fields }) => String(fields.error)),
    Array(2).fill('Error: fake registry did not answer within 3000 ms'),
  );
  made.registry.isSilent = false;
  await made.clock.run(100);
  assert.deepEqual(made.reports, [[b]]);
  await closed(made);
});

test('an entry that is gone is believed to be gone after one life of it', async () => {
  const made = await opened();
  made.registry.entries = [own];
  await made.clock.run(pauseMs + ttlMs - 1);
  assert.deepEqual(made.reports, [[b]]);
  await made.clock.run(1);
  assert.deepEqual(made.reports, [[b], []]);
  await closed(made);
});

test('an entry that comes and goes is not reported again and again', async () => {
  const made = await opened();
  for (let count = 0; count < 50; count++) {
    made.registry.entries = [own];
    await made.clock.run(2 * pauseMs);
    made.registry.entries = [own, b];
    await made.clock.run(2 * pauseMs);
  }
  assert.deepEqual(made.reports, [[b]]);
  await closed(made);
});

test('an endpoint that changes is reported at once, one that goes on changing once in a life', async () => {
  const made = await opened();
  const moved = { nodeId: 'b', endpoint: '10.0.0.9:8101' };
  made.registry.entries = [own, moved];
  await made.clock.run(pauseMs);
  assert.deepEqual(made.reports, [[b], [moved]]);
  for (let count = 0; count < 30; count++) {
    made.registry.entries = [own, count % 2 === 0 ? b : moved];
    await made.clock.run(2 * pauseMs);
  }
  assert.ok(made.reports.length <= 2 + 60 / 15, `${made.reports.length} reports in a minute`);
  // It comes to rest, and is believed.
  made.registry.entries = [own, moved];
  await made.clock.run(ttlMs);
  assert.deepEqual(made.last(), [moved]);
  await closed(made);
});

test('entries that are malformed are left out, and said to be there once', async () => {
  const made = await opened();
  made.registry.entries.push(
    { nodeId: 'c d', endpoint: '10.0.0.3:8101' },
    { nodeId: '', endpoint: '10.0.0.3:8101' },
    { nodeId: 'c', endpoint: 'nonsense' },
    { nodeId: 'd', endpoint: '10.0.0.4:0' },
    { nodeId: undefined, endpoint: '' },
  );
  await made.clock.run(ttlMs);
  assert.deepEqual(made.reports, [[b]]);
  const [refused, ...more] = made.said('registry-entries-refused');
  assert.deepEqual(more, []);
  assert.equal(refused?.fields.count, 5);
  assert.match(String(refused?.fields.reason), /is no node id/);
  made.registry.entries = made.registry.entries.slice(0, 3);
  await made.clock.run(pauseMs);
  assert.equal(made.said('registry-entries-refused').at(-1)?.fields.count, 1);
  await closed(made);
});

test('an answer with too many entries is not believed at all', async () => {
  const made = await opened();
  const flood = Array.from({ length: entriesMax - 1 }, (_, at) => ({
    nodeId: `n${at}`,
    endpoint: `10.1.0.1:${at + 1}`,
  }));
  made.registry.entries = [own, b, ...flood];
  await made.clock.run(10 * ttlMs);
  assert.deepEqual(made.reports, [[b]]);
  const [failing] = made.said('registry-failing');
  assert.match(String(failing?.fields.error), /more than 4096 entries.*none of them is believed/);
  // One less, and it is.
  made.registry.entries.pop();
  await made.clock.run(renewalMs);
  assert.equal(made.last()?.length, entriesMax - 1);
  await closed(made);
});

test('entries that are others in every answer do not pile up', async () => {
  const made = await opened();
  const half = entriesMax / 2;
  for (let count = 0; count < 10; count++) {
    const strangers = Array.from({ length: half }, (_, at) => ({
      nodeId: `n${count * half + at}`,
      endpoint: '10.1.0.1:1',
    }));
    made.registry.entries = [own, b, ...strangers];
    await made.clock.run(pauseMs);
  }
  assert.equal(made.last()?.length, entriesMax);
  assert.match(
    String(made.said('registry-entries-refused')[0]?.fields.reason),
    /no room for n\d+: 4096 nodes are known/,
  );
  // Those of before are gone in time, and there is room again.
  made.registry.entries = [own, b, c];
  await made.clock.run(2 * ttlMs);
  assert.deepEqual(made.last(), [b, c]);
  await closed(made);
});

test('an own entry that somebody removed is put back at once, and that is said', async () => {
  const made = await opened();
  await made.clock.run(renewalMs + pauseMs);
  made.registry.entries = [b];
  const before = made.registry.calls.announce.length;
  await made.clock.run(pauseMs);
  assert.deepEqual(made.registry.entries, [b, own]);
  assert.equal(made.registry.calls.announce.length, before + 1);
  assert.equal(made.said('registry-entry-lost').length, 1);
  await closed(made);
});

test('an own entry that is removed again and again is put back at a bounded rate', async () => {
  const made = await opened();
  const before = made.registry.calls.announce.length;
  for (let count = 0; count < 600; count++) {
    made.registry.entries = [b];
    await made.clock.run(100);
  }
  const count = made.registry.calls.announce.length - before;
  assert.ok(count <= 60, `${count} announcements in a minute`);
  await closed(made);
});

test('an id that another node holds is left to it, that is said once, and taken when it is free', async () => {
  const made = trial();
  const holder = { nodeId: 'a', endpoint: '10.0.0.9:8101' };
  made.registry.entries = [holder];
  await made.open();
  await made.clock.run(4 * ttlMs);
  assert.deepEqual(made.registry.entries, [holder]);
  assert.deepEqual(made.reports, [[]]);
  assert.deepEqual(
    made.events.map(({ name, fields }) => [name, fields.nodeId, fields.endpoint, fields.holder]),
    [['registry-id-taken', 'a', own.endpoint, holder.endpoint]],
  );
  made.registry.entries = [];
  await made.clock.run(renewalMs);
  assert.deepEqual(made.registry.entries, [own]);
  await closed(made);
});

test('of two nodes that claim one id the one that is known stays, and that is said once', async () => {
  const made = await opened();
  const rival = { nodeId: 'b', endpoint: '10.0.0.9:8101' };
  made.registry.entries = [own, rival, b];
  await made.clock.run(4 * ttlMs);
  assert.deepEqual(made.reports, [[b]]);
  assert.deepEqual(
    made.events.map(({ name, fields }) => [name, fields.nodeId, fields.endpoint, fields.claimedBy]),
    [['node-id-claimed-twice', 'b', b.endpoint, rival.endpoint]],
  );
  // The one that is known goes: the other one has it.
  made.registry.entries = [own, rival];
  await made.clock.run(pauseMs);
  assert.deepEqual(made.last(), [rival]);
  await closed(made);
});

test('nodes without ids are known by their endpoints; the own one is left out', async () => {
  const made = trial({ announces: false });
  const nameless = { nodeId: undefined, endpoint: '10.0.0.5:8101' };
  made.registry.entries = [nameless, { nodeId: undefined, endpoint: self.endpoint }, nameless];
  await made.open();
  assert.deepEqual(made.reports, [[nameless]]);
  assert.deepEqual(made.registry.calls.announce, []);
  await closed(made);
  assert.deepEqual(made.registry.calls.withdraw, []);
});

test('a registry that tells of changes is asked when there is one, and else seldom', async () => {
  const made = await opened({ watches: true });
  // The own announcement was a change.
  await made.clock.run(20_000);
  assert.equal(made.registry.calls.list.length, 1);
  made.registry.entries.push(c);
  made.registry.change();
  await made.clock.run(pauseMs);
  assert.deepEqual(made.last(), [b, c]);
  // A watch that has died without a word is found out.
  made.registry.entries = [own, c];
  await made.clock.run(30_000 + pauseMs + ttlMs + pauseMs);
  assert.deepEqual(made.last(), [c]);
  await closed(made);
});

test('a watch that fails leaves a registry that is asked at a bounded rate', async () => {
  const made = trial({ watches: true });
  made.registry.hasDeadWatch = true;
  await made.open();
  made.registry.entries.push(b);
  await made.clock.run(60_000);
  assert.deepEqual(made.last(), [b]);
  assert.ok(made.registry.calls.list.length <= 25, `${made.registry.calls.list.length} lists`);
  assert.deepEqual(
    made.events.map(({ name, fields }) => [name, fields.operation]),
    [['registry-failing', 'watch']],
  );
  await closed(made);
});

test('close removes the own entry, and nothing is reported or asked after it', async () => {
  const made = await opened();
  await closed(made);
  assert.deepEqual(made.registry.entries, [b]);
  assert.ok(made.registry.isClosed);
  const asked = JSON.stringify(made.registry.calls);
  made.registry.entries = [c];
  await made.clock.run(60_000);
  assert.deepEqual(made.reports, [[b]]);
  assert.equal(JSON.stringify(made.registry.calls), asked);
  await made.discovery.close();
});

test('close ends in time when the registry does not answer, and says that the entry is left', async () => {
  const made = await opened();
  made.registry.isSilent = true;
  await made.clock.run(pauseMs);
  await closed(made, timeoutMs);
  assert.equal(made.said('registry-withdraw-failed').length, 1);
  assert.ok(made.registry.isClosed);
});

test('an announcement that was given up at the end may have arrived: the entry is removed', async () => {
  const made = trial();
  made.registry.isSilent = true;
  await made.open();
  made.registry.entries = [own];
  const closing = made.discovery.close();
  made.registry.isSilent = false;
  await made.clock.settle();
  await closing;
  assert.deepEqual(made.registry.entries, []);
});

test('a discovery that is closed while it opens asks nobody', async () => {
  const made = trial();
  const opening = made.open();
  await closed(made);
  await opening;
  assert.deepEqual(made.registry.calls, { announce: [], withdraw: [], list: [], awaitChange: [] });
  assert.ok(made.registry.isClosed);
});

test('what waiting cannot mend is thrown by open', async () => {
  const discovery = registryDiscovery({
    ttlMs,
    timeoutMs,
    connect: async () => {
      throw new Error('no such package');
    },
  });
  const context = { self, clock: virtualClock(), observer: () => {} };
  await assert.rejects(
    discovery.open(() => {}, context),
    /no such package/,
  );
  await discovery.close();
});

test('an endpoint that others cannot come back to is refused', async () => {
  for (const endpoint of ['0.0.0.0:8101', '[::]:8101', '[0:0::0]:8101']) {
    const { discovery, registry, clock } = trial();
    const context = { self: { ...self, endpoint }, clock, observer: () => {} };
    await assert.rejects(
      discovery.open(() => {}, context),
      (error) => isKommanderError(error, 'INVALID_OPTION') && error.details.option === 'advertise',
      endpoint,
    );
    await discovery.close();
    assert.deepEqual(registry.calls.announce, []);
  }
});
