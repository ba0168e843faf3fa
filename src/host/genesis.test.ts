// The genesis record on disk, and the few small parts beside it: the state of partition 0, payloads, events, numbers in
// the store's facts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MalformedBytesError } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import { genesisState } from '../cluster/system-state.ts';
import { type Entry, EntryKind } from '../raft/types.ts';
import { bytesOfSnapshot, snapshotDataOf } from '../testing/snapshot-bytes.ts';
import { eventHub } from './events.ts';
import {
  clusterIdOf,
  decodeGenesis,
  encodeGenesis,
  type Genesis,
  newGenesis,
  restoredGenesis,
} from './genesis.ts';
import type { Host } from './host.ts';
import { decodeNumber, encodeNumber } from './meta.ts';
import {
  decodePayload,
  encodePayload,
  OutgoingPayload,
  outgoingPayloadFrom,
  payloadTimestamp,
  typeBytes,
} from './payload.ts';
import { systemMachine } from './system-entries.ts';

const members = new Map([
  ['b', '127.0.0.1:2'],
  ['a', '127.0.0.1:1'],
]);

test('a genesis record comes out of the store as it went in', () => {
  const genesis = newGenesis(genesisState(members, 3), 'a', 'nonce of a');
  genesis.admissions.set('b', { nonce: 'nonce of b', replicaId: 1_026 });
  genesis.isComplete = true;
  const decoded = decodeGenesis(encodeGenesis(genesis));
  assert.deepEqual(decoded, genesis);
});

test('a cluster that was restored has an id of its own, one per backup, and remembers it', () => {
  const record = genesisState(members, 3);
  const from = (origin: string): Genesis =>
    restoredGenesis({ record, nodeId: 'a', nonce: 'n', origin });
  const ids = [newGenesis(record, 'a', 'n'), from('one'), from('other')].map(clusterIdOf);
  assert.equal(new Set(ids).size, 3);
  assert.deepEqual(decodeGenesis(encodeGenesis(from('one'))), from('one'));
});

test('golden bytes: the genesis record of a restored cluster, version 2', () => {
  const record = genesisState(new Map([['a', 'h:1']]), 1);
  const genesis = restoredGenesis({ record, nodeId: 'a', nonce: 'n', origin: 'hash' });
  assert.equal(
    Buffer.from(encodeGenesis(genesis)).toString('hex'),
    '0201' +
      '0468617368' +
      '11' +
      '0101016101' +
      '03683a31' +
      '00' +
      '0101' +
      '8080808010' +
      '01' +
      '0161' +
      '016e' +
      '01',
  );
});

test('the same members and partitions give the same cluster id, others another one', () => {
  const idOf = (list: ReadonlyMap<string, string>, partitions: number): string =>
    clusterIdOf(newGenesis(genesisState(list, partitions), 'a', 'any'));
  const reversed = new Map([...members].reverse());
  assert.equal(idOf(members, 3), idOf(reversed, 3));
  assert.notEqual(idOf(members, 3), idOf(members, 4));
  assert.notEqual(idOf(members, 3), idOf(new Map([['a', '127.0.0.1:1']]), 3));
  assert.notEqual(idOf(members, 3), idOf(new Map([...members, ['a', '127.0.0.1:9']]), 3));
});

test('partition 0 takes roster and map from its snapshot, whatever the node was started with', async () => {
  const replicated = genesisState(members, 3);
  const holder = { system: genesisState(new Map([['a', 'h:1']]), 1), isSystemKnown: false };
  const machine = systemMachine({ system: replicated, isSystemKnown: true } as Host);
  const source = await (machine.snapshot?.() ?? assert.fail('it gives its state'));
  await systemMachine(holder as Host).restore?.(snapshotDataOf(await bytesOfSnapshot(source)));
  assert.deepEqual(holder, { system: replicated, isSystemKnown: true });
});

test('the stored form of a genesis record does not change', () => {
  const genesis = newGenesis(genesisState(new Map([['a', 'h:1']]), 1), 'a', 'n');
  assert.equal(
    Buffer.from(encodeGenesis(genesis)).toString('hex'),
    '010111' + '0101016101' + '03683a3100' + '0101' + '8080808010' + '01' + '0161' + '016e01',
  );
});

test('a genesis record of another version is refused, and one that is cut off is damaged', () => {
  const bytes = encodeGenesis(newGenesis(genesisState(members, 1), 'a', 'n'));
  const later = bytes.slice();
  later[0] = 3;
  assert.throws(() => decodeGenesis(later), { code: 'WAL_VERSION' });
  for (let end = 0; end < bytes.length; end++) {
    assert.throws(() => decodeGenesis(bytes.subarray(0, end)), { code: 'WAL_CORRUPT' });
  }
});

test('a number among the facts of a store is there, absent, or damaged', () => {
  for (const value of [0, 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
    assert.equal(decodeNumber(encodeNumber(value)), value);
  }
  assert.equal(decodeNumber(undefined), 0);
  assert.throws(() => decodeNumber(new Uint8Array(3)), { code: 'WAL_CORRUPT' });
});

function entryOf(bytes: Uint8Array): Entry {
  return { index: 1, term: 1, kind: EntryKind.normal, bytes, start: 0, end: bytes.byteLength };
}

test('a payload carries type, timestamp and data without changing them', () => {
  for (const type of ['x', 'ü'.repeat(127), 'x'.repeat(255), '\u{1f600}']) {
    for (const data of [new Uint8Array(0), new Uint8Array([0]), new Uint8Array(1_000).fill(255)]) {
      const payload = new OutgoingPayload(typeBytes(type), data);
      payload.timestamp = Number.MAX_SAFE_INTEGER - 1;
      const entry = entryOf(encodePayload(payload));
      assert.deepEqual(decodePayload(entry), { type, timestamp: payload.timestamp, data });
      assert.equal(payloadTimestamp(entry), payload.timestamp);
      const forwarded = outgoingPayloadFrom(encodePayload(payload));
      assert.deepEqual([forwarded.type, forwarded.data], [payload.type, data]);
      assert.equal(forwarded.timestamp, 0, 'the leader gives the timestamp');
    }
  }
});

test('the stored form of a payload does not change', () => {
  const payload = new OutgoingPayload(typeBytes('put'), new Uint8Array([7, 8]));
  payload.timestamp = 0x01_0203_0405;
  assert.equal(
    Buffer.from(encodePayload(payload)).toString('hex'),
    '03' + '707574' + '0504030201000000' + '0708',
  );
});

test('more types than are remembered are still told apart', () => {
  const types = Array.from({ length: 100 }, (_, i) => `type ${i}`);
  for (const type of [...types, ...types.toReversed()]) {
    const bytes = encodePayload(new OutgoingPayload(typeBytes(type), new Uint8Array(1)));
    assert.equal(decodePayload(entryOf(bytes)).type, type);
  }
});

test('a forwarded payload that is none is refused', () => {
  const whole = encodePayload(new OutgoingPayload(typeBytes('put'), new Uint8Array(0)));
  for (let end = 0; end < whole.length; end++) {
    assert.throws(() => outgoingPayloadFrom(whole.subarray(0, end)), MalformedBytesError);
  }
  const withoutType = whole.slice();
  withoutType[0] = 0;
  assert.throws(() => outgoingPayloadFrom(withoutType), MalformedBytesError);
  const badText = whole.slice();
  badText[1] = 0xff;
  assert.throws(() => outgoingPayloadFrom(badText), MalformedBytesError);
});

test('listeners hear what they asked for, each of them, until they are taken off', () => {
  const reports: unknown[] = [];
  const hub = eventHub((event) => reports.push(event.name));
  const heard: string[] = [];
  const first = (): void => {
    heard.push('first');
  };
  assert.equal(hub.has('restoreStarted'), false);
  hub.on('restoreStarted', first);
  hub.on('restoreStarted', () => {
    heard.push('second');
    throw new KommanderError('no', { code: 'INTERNAL_ERROR' });
  });
  hub.on('restoreStarted', () => {
    heard.push('third');
  });
  hub.emit('restoreStarted', { partitionId: 1 });
  assert.deepEqual(heard, ['first', 'second', 'third']);
  assert.deepEqual(reports, ['listener-failed']);
  hub.off('restoreStarted', first);
  hub.off('restoreFinished', () => {});
  hub.emit('restoreStarted', { partitionId: 1 });
  assert.equal(heard.length, 5);
  assert.equal(hub.has('restoreStarted'), true);
});
