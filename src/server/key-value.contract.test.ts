// The key-value machine keeps the contract of the port: with many writes of few keys, conditions that hold and that do
// not, deletes of what is there and what is not, and values of no bytes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Random } from '../base/random.ts';
import { stateMachineContract } from '../testing/state-machine-contract.ts';
import { KeyValueMachine } from './key-value.ts';
import { commandEntryType, encodeCommand, type KeyValueCommand } from './key-value-command.ts';

const seen = new Map<string, number>();

/** Counts what the commands led to. */
class ObservedMachine extends KeyValueMachine {
  override apply(
    ...[entries]: Parameters<KeyValueMachine['apply']>
  ): ReturnType<KeyValueMachine['apply']> {
    const results = super.apply(entries);
    for (const { outcome } of results) seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
    return results;
  }
}

function randomCommand(random: Random, index: number): KeyValueCommand {
  const key = `${['user/', '', 'ключ '][random.below(3)]}${random.below(2)}`;
  // 0 means "must not exist"; the others are often the index of the key's last write.
  const ifIndex = random.below(2) === 0 ? Math.max(0, index - 1 - random.below(8)) : undefined;
  const wanted = random.below(10) === 0 ? 0 : ifIndex;
  if (random.below(3) === 0) return { operation: 'delete', key, ifIndex: wanted };
  const value = Uint8Array.from({ length: random.below(5) ** 3 }, () => random.below(256));
  return { operation: 'put', key, ifIndex: wanted, value };
}

stateMachineContract({ test }, async () => ({
  machine: () => new ObservedMachine(),
  command: (random, index) => ({
    type: commandEntryType,
    data: encodeCommand(randomCommand(random, index)),
  }),
}));

test('the commands of the contract succeed, fail by their conditions, and find nothing to delete', () => {
  for (const outcome of ['applied', 'conditionFailed', 'notFound']) {
    assert.ok((seen.get(outcome) ?? 0) > 100, `${outcome}: ${seen.get(outcome)}`);
  }
});
