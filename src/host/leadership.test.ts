// Whom a leader asks to lead in its place when its own disk fails.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lane } from '../ports/transport.ts';
import { Role } from '../raft/types.ts';
import type { Host } from './host.ts';
import { handOverAll } from './leadership.ts';
import type { Partition } from './partition.ts';

test('a leader whose disk fails asks a voter that is a node, not the former number of one that was readmitted', () => {
  const voter = (matchIndex: number): object => ({ matchIndex, isRecentlyActive: true });
  const raft = {
    id: 1,
    role: Role.leader,
    currentTerm: 5,
    confState: { voters: [1, 2, 3] },
    progress: new Map([
      [1, voter(9)],
      [2, voter(9)],
      [3, voter(8)],
    ]),
  };
  const partition = { id: 1, raft, stopped: undefined } as unknown as Partition;
  const asked: { readonly peer: string; readonly lane: Lane; readonly to: unknown }[] = [];
  const host = {
    state: 'running',
    partitions: new Map([[1, partition]]),
    nodeIds: new Map([
      [1, 'a'],
      [3, 'c'],
    ]),
    outbox: new Map(),
    hybridClock: { now: () => 1 },
    observe: () => {},
    transport: {
      send(peer: string, lane: Lane, frame: { readonly items: readonly [{ message: { to: 3 } }] }) {
        asked.push({ peer, lane, to: frame.items[0].message.to });
        return true;
      },
    },
  } as unknown as Host;
  handOverAll(host);
  assert.deepEqual(asked, [{ peer: 'c', lane: Lane.bulk, to: 3 }]);
});
