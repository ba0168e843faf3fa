// The workload that the library proves itself with: clients that put, compare and set, delete and read keys of a small
// key-value machine, alone and in batches. Values come once, so that whatever a client sees tells where it came from.

import { utf8Bytes, utf8Text } from '../../base/bytes.ts';
import type { Random } from '../../base/random.ts';
import type { CommittedEntry, StateMachine } from '../../ports/state-machine.ts';
import type { KeyValueInput, KeyValueOutput } from '../linearizability/models.ts';
import { oneOf, type SimulatedOperation, type SimulatedWorkload } from './options.ts';

export interface KeyValueMachine extends Required<Pick<StateMachine, 'snapshot' | 'restore'>> {
  apply: StateMachine['apply'];
  get(key: string): string | undefined;
}

/** What an entry says. `id` comes once. */
interface Command {
  readonly id: string;
  readonly key: string;
  readonly value?: string;
  readonly expected?: string;
}

/** Returns for every entry whether it changed something. */
export function keyValueMachine(): KeyValueMachine {
  let values = new Map<string, string>();
  function applyOne({ type, data }: CommittedEntry): boolean {
    const { key, value, expected } = JSON.parse(utf8Text(data)) as Command;
    switch (type) {
      case 'put':
        values.set(key, value ?? '');
        return true;
      case 'compare-and-set':
        if (values.get(key) !== expected) return false;
        values.set(key, value ?? '');
        return true;
      default:
        return values.delete(key);
    }
  }
  return {
    apply: (entries) => entries.map(applyOne),
    snapshot: () => utf8Bytes(JSON.stringify([...values].sort(([a], [b]) => (a < b ? -1 : 1)))),
    async restore(data) {
      values = new Map(JSON.parse(utf8Text(await data.bytes())) as [string, string][]);
    },
    get: (key) => values.get(key),
  };
}

export interface KeyValueWorkloadOptions {
  readonly partitions: number;
  /** Keys of one partition. */
  readonly keys: number;
  /** Of a hundred operations, how many read. */
  readonly readPercent: number;
  /** Of a hundred values that are put, how many have up to 3,000 bytes. */
  readonly largePercent: number;
}

type KeyValueOperation = SimulatedOperation<KeyValueInput, KeyValueOutput, KeyValueMachine>;
type KeyValueWrite = Extract<KeyValueOperation, { kind: 'write' }>;

/** Draws the operations of the clients. To be made anew for every run: it numbers the writes. */
export function keyValueWorkload(
  options: KeyValueWorkloadOptions,
): SimulatedWorkload<KeyValueInput, KeyValueOutput, KeyValueMachine> {
  let writeCount = 0;
  /** Values that were written last, as far as the clients know: what is expected of a key. */
  const lastValues = new Map<string, string>();

  function next(random: Random, client: number): KeyValueOperation {
    const partitionId = 1 + random.below(options.partitions);
    if (random.below(100) < options.readPercent) {
      return read(random, partitionId, random.below(8) === 0 ? 'local' : 'linearizable');
    }
    switch (oneOf(random, ['put', 'put', 'put', 'swap', 'swap', 'batch', 'delete'] as const)) {
      case 'put':
        return put(random, partitionId, client);
      case 'swap':
        return compareAndSet(random, partitionId, client);
      case 'delete':
        return remove(random, partitionId, client);
      case 'batch': {
        const length = 2 + random.below(4);
        const writes = Array.from({ length }, () => put(random, partitionId, client));
        return { kind: 'batch', partitionId, writes };
      }
    }
  }

  function keyOf(random: Random, partitionId: number): string {
    return `${partitionId}/${random.below(options.keys)}`;
  }

  function newId(client: number): string {
    writeCount += 1;
    return `${client}.${writeCount}`;
  }

  function write(
    partitionId: number,
    type: string,
    command: Command,
    input: KeyValueInput,
  ): KeyValueWrite {
    const isSwap = input.type === 'compareAndSet';
    return {
      kind: 'write',
      partitionId,
      input,
      type,
      data: utf8Bytes(JSON.stringify(command)),
      output: (result) => (isSwap ? { swapped: result === true } : {}),
    };
  }

  function put(random: Random, partitionId: number, client: number): KeyValueWrite {
    const key = keyOf(random, partitionId);
    const id = newId(client);
    // Some values are large, so that limits in bytes are met.
    const isLarge = random.below(100) < options.largePercent;
    // More than the smallest limit of one append.
    const value = isLarge ? id.padEnd(1_100 + random.below(1_900), '.') : id;
    lastValues.set(key, value);
    return write(partitionId, 'put', { id, key, value }, { type: 'put', key, value });
  }

  function compareAndSet(random: Random, partitionId: number, client: number): KeyValueWrite {
    const key = keyOf(random, partitionId);
    const id = newId(client);
    const expected = random.below(4) === 0 ? id : (lastValues.get(key) ?? id);
    lastValues.set(key, id);
    const input: KeyValueInput = { type: 'compareAndSet', key, expected, value: id };
    return write(partitionId, 'compare-and-set', { id, key, value: id, expected }, input);
  }

  function remove(random: Random, partitionId: number, client: number): KeyValueWrite {
    const key = keyOf(random, partitionId);
    return write(partitionId, 'delete', { id: newId(client), key }, { type: 'delete', key });
  }

  function read(
    random: Random,
    partitionId: number,
    consistency: 'linearizable' | 'local',
  ): KeyValueOperation {
    const key = keyOf(random, partitionId);
    return {
      kind: 'read',
      partitionId,
      input: { type: 'get', key },
      consistency,
      output: (machine) => ({ value: machine.get(key) }),
    };
  }

  return { next: (random, client) => next(random, client), isUnique: true };
}
