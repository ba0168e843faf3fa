// The table of nodes that were heard: expiry, replays, two processes with one id, and its bound.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type AnnouncedNodes,
  announcedNodesMax,
  expire,
  type Heard,
  hear,
  newAnnouncedNodes,
  presentNodes,
  replayWindowMs,
} from './announced-nodes.ts';
import type { Announcement } from './announcement.ts';

const expiryMs = 5_000;
const startMs = 1_000_000_000;

function newTable(isSigned = true): AnnouncedNodes {
  return newAnnouncedNodes({ expiryMs, isSigned });
}

/** What `announcement` says at its own time, heard at `atMs` after the start. */
function heard(
  table: AnnouncedNodes,
  announcement: Partial<Announcement> & { readonly atMs: number; readonly stampMs?: number },
): Heard['outcome'] | 'conflict' {
  const { atMs, stampMs = atMs, ...rest } = announcement;
  const said = hear(
    table,
    {
      kind: 'here',
      nodeId: 'a',
      startId: 'one',
      endpoint: '10.0.0.1:8001',
      ...rest,
      stamp: startMs + stampMs,
    },
    nowAt(atMs),
  );
  return said.outcome === 'taken' && said.conflict !== undefined ? 'conflict' : said.outcome;
}

function nowAt(atMs: number): { readonly monotonicMs: number; readonly wallMs: number } {
  return { monotonicMs: atMs, wallMs: startMs + atMs };
}

function endpoints(table: AnnouncedNodes): string {
  return presentNodes(table)
    .map(({ nodeId, endpoint }) => `${nodeId}@${endpoint}`)
    .join(' ');
}

test('a node is there until it falls silent, and again when it is heard', () => {
  const table = newTable();
  assert.equal(heard(table, { atMs: 0 }), 'changed');
  assert.equal(heard(table, { atMs: 1_000 }), 'same');
  assert.equal(expire(table, nowAt(1_000 + expiryMs - 1)), false);
  assert.equal(endpoints(table), 'a@10.0.0.1:8001');
  assert.equal(expire(table, nowAt(1_000 + expiryMs)), true);
  assert.equal(endpoints(table), '');
  assert.equal(expire(table, nowAt(1_001 + expiryMs)), false, 'told once');
  assert.equal(heard(table, { atMs: 9_000 }), 'changed');
  assert.equal(heard(table, { atMs: 10_000, endpoint: '10.0.0.9:8001' }), 'changed');
  assert.equal(endpoints(table), 'a@10.0.0.9:8001');
});

test('who says goodbye is gone at once, and a later start takes its place at once', () => {
  const table = newTable();
  heard(table, { atMs: 0 });
  assert.equal(heard(table, { atMs: 10, kind: 'goodbye' }), 'changed');
  assert.equal(endpoints(table), '');
  assert.equal(heard(table, { atMs: 20, startId: 'two', endpoint: '10.0.0.1:9' }), 'changed');
  assert.equal(endpoints(table), 'a@10.0.0.1:9');
});

test('a node that was killed comes back elsewhere as soon as its former self has expired, without an alarm', () => {
  const table = newTable();
  heard(table, { atMs: 0 });
  const back = { startId: 'two', endpoint: '10.0.0.1:9' };
  for (let atMs = 500; atMs < expiryMs; atMs += 500) {
    assert.equal(heard(table, { ...back, atMs }), 'taken');
    assert.equal(expire(table, nowAt(atMs)), false);
  }
  assert.equal(expire(table, nowAt(expiryMs)), true);
  assert.equal(heard(table, { ...back, atMs: expiryMs }), 'changed');
  assert.equal(endpoints(table), 'a@10.0.0.1:9');
});

test('of two processes with one id that are both alive the first keeps it, and the second is reported once', () => {
  const table = newTable();
  const outcomes: string[] = [];
  for (let atMs = 0; atMs < 10_000; atMs += 1_000) {
    outcomes.push(heard(table, { atMs }));
    outcomes.push(
      heard(table, { atMs, stampMs: atMs - 200, startId: 'two', endpoint: '10.0.0.2:8001' }),
    );
    assert.equal(expire(table, nowAt(atMs)), false);
    assert.equal(endpoints(table), 'a@10.0.0.1:8001', 'it does not flap');
  }
  assert.equal(outcomes.filter((outcome) => outcome === 'changed').length, 1);
  assert.equal(outcomes.filter((outcome) => outcome === 'conflict').length, 1);
  // What a rival says of its going is not what the node says.
  assert.equal(heard(table, { atMs: 9_500, startId: 'two', kind: 'goodbye' }), 'taken');
  assert.equal(endpoints(table), 'a@10.0.0.1:8001');
});

test('a signed announcement that is played again is not believed: not again, not late, not of a former start', () => {
  const table = newTable();
  heard(table, { atMs: 0 });
  assert.equal(heard(table, { atMs: 100, stampMs: 0 }), 'repeated');
  heard(table, { atMs: 200, kind: 'goodbye' });
  assert.equal(heard(table, { atMs: 300, stampMs: 0 }), 'repeated', 'it stays gone');
  // Another start, which falls silent: what the first one said is older than that.
  heard(table, { atMs: 1_000, startId: 'two' });
  expire(table, nowAt(1_000 + expiryMs));
  assert.equal(heard(table, { atMs: 7_000, stampMs: 0 }), 'repeated');
  assert.equal(endpoints(table), '');
  // When the table has forgotten the node, the time has passed in which anything of it would be believed.
  const forgottenMs = 1_000 + expiryMs + 2 * replayWindowMs;
  expire(table, nowAt(forgottenMs - 1));
  assert.equal(table.nodes.size, 1);
  expire(table, nowAt(forgottenMs));
  assert.equal(table.nodes.size, 0);
  assert.equal(heard(table, { atMs: forgottenMs, stampMs: 1_000, startId: 'two' }), 'clock');
});

test('a signed announcement is believed while the clocks agree to the window', () => {
  for (const [skewMs, outcome] of [
    [replayWindowMs, 'changed'],
    [-replayWindowMs, 'changed'],
    [replayWindowMs + 1, 'clock'],
    [-replayWindowMs - 1, 'clock'],
  ] as const) {
    assert.equal(heard(newTable(), { atMs: 0, stampMs: skewMs }), outcome);
  }
  // Nothing is signed: whoever wants to lie needs no old announcement.
  assert.equal(heard(newTable(false), { atMs: 0, stampMs: -3_600_000 }), 'changed');
});

test('a goodbye of somebody unknown makes nobody known, and cannot be undone by what was said before it', () => {
  const table = newTable();
  assert.equal(heard(table, { atMs: 100, kind: 'goodbye' }), 'same');
  assert.equal(endpoints(table), '');
  assert.equal(heard(table, { atMs: 200, stampMs: 0 }), 'repeated');
});

test('made-up nodes fill the table and nothing more, until they expire', () => {
  const table = newTable(false);
  heard(table, { atMs: 0 });
  for (let at = 1; at < announcedNodesMax; at++) {
    assert.equal(heard(table, { atMs: 0, nodeId: `n${at}` }), 'changed');
  }
  for (let at = 0; at < 100; at++) {
    assert.equal(heard(table, { atMs: 10, nodeId: `more${at}` }), 'tableFull');
    assert.equal(heard(table, { atMs: 10, startId: `start${at}` }), 'taken');
  }
  assert.equal(table.nodes.size, announcedNodesMax);
  assert.equal(heard(table, { atMs: 20 }), 'same', 'who is known goes on');
  expire(table, nowAt(expiryMs));
  assert.equal(table.nodes.size, 1);
  assert.equal(heard(table, { atMs: expiryMs, nodeId: 'more' }), 'changed');
});
