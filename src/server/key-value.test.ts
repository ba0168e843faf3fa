// The key-value state machine: conditions, listings, snapshots, golden bytes of its commands and snapshots.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KommanderError } from '../base/errors.ts';
import type { CommittedEntry } from '../ports/state-machine.ts';
import { bytesOfSnapshot, snapshotDataOf } from '../testing/snapshot-bytes.ts';
import { KeyValueMachine, type KeyValueResult } from './key-value.ts';
import {
  commandEntryType,
  commandOverheadBytesMax,
  decodeCommand,
  encodeCommand,
  isValidKey,
  type KeyValueCommand,
  keyValueLimits,
} from './key-value-command.ts';

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function put(key: string, value: string | Uint8Array, ifIndex?: number): KeyValueCommand {
  const bytes = typeof value === 'string' ? bytesOf(value) : value;
  return { operation: 'put', key, value: bytes, ifIndex };
}

function remove(key: string, ifIndex?: number): KeyValueCommand {
  return { operation: 'delete', key, ifIndex };
}

function entryOf(data: Uint8Array, index: number, type: string = commandEntryType): CommittedEntry {
  return { partitionId: 1, index, term: 7, timestamp: index, type, data, restored: false };
}

/** Applies commands at the indexes 1, 2, … in one batch. */
function applyAll(machine: KeyValueMachine, ...commands: KeyValueCommand[]): KeyValueResult[] {
  return [...machine.apply(commands.map((command, at) => entryOf(encodeCommand(command), at + 1)))];
}

function textAt(machine: KeyValueMachine, key: string): string | undefined {
  const stored = machine.get(key);
  return stored && new TextDecoder().decode(stored.value);
}

test('a put stores the value with the index and term of its entry, a delete removes it', () => {
  const machine = new KeyValueMachine();
  assert.deepEqual(applyAll(machine, put('a', '1'), put('b', '2'), put('a', '3')), [
    { outcome: 'applied', index: 1 },
    { outcome: 'applied', index: 2 },
    { outcome: 'applied', index: 3 },
  ]);
  assert.deepEqual(machine.get('a'), { value: bytesOf('3'), index: 3, term: 7 });
  assert.deepEqual(machine.apply([entryOf(encodeCommand(remove('a')), 4)]), [
    { outcome: 'applied', index: 4 },
  ]);
  assert.equal(machine.get('a'), undefined);
  assert.equal(machine.keyCount, 1);
});

test('a condition compares the index of the key’s last write, and 0 means that there is none', () => {
  const machine = new KeyValueMachine();
  assert.deepEqual(
    applyAll(
      machine,
      put('a', 'first', 0), // 1: created
      put('a', 'second', 0), // 2: exists
      put('a', 'third', 1), // 3: replaces the write at 1
      put('a', 'fourth', 1), // 4: 1 is not the last one any more
      remove('a', 1), // 5
      remove('a', 3), // 6
      put('b', 'x', 9), // 7: does not exist
    ),
    [
      { outcome: 'applied', index: 1 },
      { outcome: 'conditionFailed', presentIndex: 1 },
      { outcome: 'applied', index: 3 },
      { outcome: 'conditionFailed', presentIndex: 3 },
      { outcome: 'conditionFailed', presentIndex: 3 },
      { outcome: 'applied', index: 6 },
      { outcome: 'conditionFailed', presentIndex: 0 },
    ],
  );
  assert.equal(machine.keyCount, 0);
});

test('a delete of a key that is not there changes nothing and says so', () => {
  const machine = new KeyValueMachine();
  assert.deepEqual(applyAll(machine, remove('a'), remove('a', 0), remove('a', 5)), [
    { outcome: 'notFound' },
    { outcome: 'notFound' },
    { outcome: 'conditionFailed', presentIndex: 0 },
  ]);
});

test('empty and binary values are kept as they are', () => {
  const machine = new KeyValueMachine();
  const binary = Uint8Array.from({ length: 256 }, (_, at) => at);
  applyAll(machine, put('empty', ''), put('binary', binary), put('line', 'x\n'));
  assert.deepEqual(machine.get('empty')?.value, new Uint8Array(0));
  assert.deepEqual(machine.get('binary')?.value, binary);
  assert.equal(textAt(machine, 'line'), 'x\n');
});

test('a stored value shares no memory with the entry, whatever kind of buffer that is', async () => {
  const command = encodeCommand(put('a', 'value'));
  for (const shared of [Uint8Array.from(command), Buffer.from(command)]) {
    const machine = new KeyValueMachine();
    machine.apply([entryOf(shared, 1)]);
    const snapshot = await bytesOfSnapshot(machine.snapshot());
    shared.fill(0xff);
    assert.equal(textAt(machine, 'a'), 'value');
    const restored = new KeyValueMachine();
    await restored.restore({ ...snapshotDataOf(snapshot), bytes: async () => snapshot });
    snapshot.fill(0xff);
    assert.equal(textAt(restored, 'a'), 'value');
  }
});

test('a listing is ascending, begins behind `after`, ends with the prefix and at the limit', () => {
  const machine = new KeyValueMachine();
  applyAll(machine, ...['b/2', 'a', 'b', 'b/1', 'b/3', 'c'].map((key) => put(key, key)));
  const keysOf = (prefix: string, after: string | undefined, limit: number): string[] =>
    machine.list({ prefix, after, limit }).map((listed) => listed.key);
  assert.deepEqual(keysOf('', undefined, 10), ['a', 'b', 'b/1', 'b/2', 'b/3', 'c']);
  assert.deepEqual(keysOf('b/', undefined, 10), ['b/1', 'b/2', 'b/3']);
  assert.deepEqual(keysOf('b/', 'b/1', 10), ['b/2', 'b/3']);
  assert.deepEqual(keysOf('b/', 'a', 2), ['b/1', 'b/2']);
  assert.deepEqual(keysOf('b/', 'c', 10), []);
  assert.deepEqual(keysOf('d', undefined, 10), []);
  assert.deepEqual(machine.list({ prefix: 'a', after: undefined, limit: 1 }), [
    { key: 'a', index: 2, term: 7, valueBytes: 1 },
  ]);
});

test('a restored snapshot is the same state, and its snapshot the same bytes', async () => {
  const machine = new KeyValueMachine();
  applyAll(
    machine,
    put('b', '2'),
    put('a', ''),
    put('é', 'x'),
    remove('b'),
    put('z', 'z'.repeat(300)),
  );
  const bytes = await bytesOfSnapshot(machine.snapshot());
  const restored = new KeyValueMachine();
  applyAll(restored, put('gone', 'after the restore'));
  await restored.restore(snapshotDataOf(bytes));
  assert.equal(restored.get('gone'), undefined);
  assert.deepEqual(restored.get('é'), { value: bytesOf('x'), index: 3, term: 7 });
  assert.deepEqual(await bytesOfSnapshot(restored.snapshot()), bytes);
  assert.equal(restored.stateBytes, machine.stateBytes);
  assert.deepEqual(
    restored.list({ prefix: '', after: undefined, limit: 9 }),
    machine.list({ prefix: '', after: undefined, limit: 9 }),
  );
});

test('a snapshot with any bit changed or any byte missing is refused and changes nothing', async () => {
  const machine = new KeyValueMachine();
  applyAll(machine, put('a', 'value'), put('b', 'other'));
  const bytes = await bytesOfSnapshot(machine.snapshot());
  const victim = new KeyValueMachine();
  applyAll(victim, put('kept', 'yes'));
  const damaged: Uint8Array[] = [];
  for (let at = 0; at < bytes.byteLength; at++) {
    damaged.push(bytes.slice(0, at));
    damaged.push(bytes.with(at, (bytes[at] ?? 0) ^ 0x10));
  }
  damaged.push(Uint8Array.from([...bytes, 0]));
  for (const each of damaged) {
    await assert.rejects(victim.restore(snapshotDataOf(each, 3)), { code: 'SNAPSHOT_CORRUPT' });
  }
  assert.equal(textAt(victim, 'kept'), 'yes');
});

test('the bytes of the state follow puts, overwrites and deletes and end at zero', () => {
  const machine = new KeyValueMachine();
  applyAll(
    machine,
    put('a', 'x'.repeat(10)),
    put('a', 'y'),
    put('é', 'z'),
    remove('a'),
    remove('é'),
  );
  assert.equal(machine.stateBytes, 0);
});

test('golden bytes: commands of format version 1', () => {
  const cases: [KeyValueCommand, string][] = [
    [put('a', 'v'), '0101000161' + '76'],
    [put('é', '', 0), '010101' + '02c3a9'],
    [put('a', 'v', 300), '0101ad020161' + '76'],
    [remove('a'), '0102000161'],
    [remove('ab', 5), '010206026162'],
  ];
  for (const [command, hex] of cases) {
    assert.equal(Buffer.from(encodeCommand(command)).toString('hex'), hex);
    assert.deepEqual(decodeCommand(Buffer.from(hex, 'hex')).key, command.key);
  }
});

test('golden bytes: snapshot of format version 1', async () => {
  const machine = new KeyValueMachine();
  applyAll(machine, put('a', 'v'), put('b', ''));
  const hex = Buffer.from(await bytesOfSnapshot(machine.snapshot())).toString('hex');
  assert.equal(hex, '01000000' + '02' + '0161010701' + '76' + '0162020700' + '76587bd7');
});

test('what is encoded is decoded again, for any key, value and condition', () => {
  const keys = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }).filter(isValidKey);
  fc.assert(
    fc.property(
      keys,
      fc.uint8Array({ maxLength: 100 }),
      fc.option(fc.nat(2 ** 40), { nil: undefined }),
      (key, value, ifIndex) => {
        const putCommand = put(key, value, ifIndex);
        assert.deepEqual(decodeCommand(encodeCommand(putCommand)), putCommand);
        const deleteCommand = remove(key, ifIndex);
        assert.deepEqual(decodeCommand(encodeCommand(deleteCommand)), deleteCommand);
      },
    ),
    { numRuns: 200 },
  );
});

test('bytes that are no command throw a typed error, and nothing else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        decodeCommand(bytes);
      } catch (error) {
        assert.ok(error instanceof KommanderError);
        assert.equal(error.code, 'MALFORMED_COMMAND');
      }
    }),
    { numRuns: 500 },
  );
  const machine = new KeyValueMachine();
  const malformed = [
    '',
    '02',
    '0101',
    '010300' + '0161',
    '01010000',
    '0102000161' + '00',
    '01010001ff',
  ];
  for (const hex of malformed) {
    assert.throws(() => machine.apply([entryOf(Buffer.from(hex, 'hex'), 1)]), {
      code: 'MALFORMED_COMMAND',
    });
  }
  const command = encodeCommand(put('a', 'v'));
  assert.throws(() => machine.apply([entryOf(command, 1, 'other')]), { code: 'MALFORMED_COMMAND' });
});

test('keys are 1 to 1,024 bytes of well-formed Unicode', () => {
  assert.ok(isValidKey('a'));
  assert.ok(isValidKey('k'.repeat(1_024)));
  assert.ok(isValidKey('é'.repeat(512)));
  assert.ok(isValidKey('\u0000'));
  assert.ok(!isValidKey(''));
  assert.ok(!isValidKey('k'.repeat(1_025)));
  assert.ok(!isValidKey('é'.repeat(513)));
  assert.ok(!isValidKey('\ud800'));
});

test('the largest command is the largest value and the stated overhead', () => {
  const command = put(
    'k'.repeat(keyValueLimits.keyBytesMax),
    new Uint8Array(keyValueLimits.valueBytesMax),
    Number.MAX_SAFE_INTEGER - 1,
  );
  const bytes = encodeCommand(command).byteLength;
  assert.ok(bytes - keyValueLimits.valueBytesMax <= commandOverheadBytesMax);
  const tooLarge = Buffer.concat([encodeCommand(command), Buffer.from([0])]);
  assert.throws(() => decodeCommand(tooLarge), { code: 'MALFORMED_COMMAND' });
});
