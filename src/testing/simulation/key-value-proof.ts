// The run that the library proves itself with: the key-value machine under a profile's faults. How many nodes, partitions,
// keys and clients there are, where the machines have their state, and what the clients like to do, is drawn from the seed as well: the states in which rules
// break need now few keys and many readers, now long logs, now large entries that travel one by one.

import type { KeyValueInput, KeyValueOutput } from '../linearizability/models.ts';
import { keyValueModel } from '../linearizability/models.ts';
import { type KeyValueMachine, keyValueMachine, keyValueWorkload } from './key-value-workload.ts';
import { oneOf, type SimulationOptions, streamOf } from './options.ts';
import type { ProfileName } from './profiles.ts';

export type KeyValueSimulation = SimulationOptions<KeyValueInput, KeyValueOutput, KeyValueMachine>;

/** Everything that makes a run of `profile` beside its seed; `over` replaces what it names. */
export function keyValueProof(
  seed: number,
  profile: ProfileName,
  over: Partial<KeyValueSimulation> = {},
): KeyValueSimulation {
  const random = streamOf(seed, 'proof');
  const nodes = oneOf(random, [3, 3, 5, 5, 7]);
  // One partition under many writers of large values: its log is long, and every entry is a message of its own.
  const isHeavy = random.below(4) === 0;
  const partitions = isHeavy ? 1 : oneOf(random, [1, 2, 4]);
  const clients = isHeavy ? 32 : oneOf(random, [4, 8, 16]);
  const workload = keyValueWorkload({
    partitions,
    keys: oneOf(random, [1, 3, 8]),
    readPercent: isHeavy ? 10 : oneOf(random, [10, 35, 60]),
    largePercent: isHeavy ? 95 : oneOf(random, [2, 2, 30]),
  });
  // From a stream of its own: what else a seed draws stays as it was.
  const drawn = oneOf(streamOf(seed, 'machines'), [
    'inMemory',
    'inMemory',
    'onDisk',
    'onDisk',
    'mixed',
    'none',
  ] as const);
  const { machines = drawn } = over;
  return {
    seed,
    nodes,
    partitions,
    clients,
    faults: profile,
    durationMs: profile === 'quick' ? 10_000 : 60_000,
    stateMachine: keyValueMachine,
    machines,
    workload,
    ...(machines === 'none' ? {} : { model: keyValueModel() }),
    ...over,
  };
}
