// What a simulated run is made of: the cluster, the user's machine and workload, the faults, the seed. Everything that
// happens in it follows from these. Also what is drawn from the seed for the cluster itself (ticks, limits).

import { crc32 } from 'node:zlib';
import { KommanderError } from '../../base/errors.ts';
import { type Random, seededRandom } from '../../base/random.ts';
import type { NodeOptions } from '../../host/api.ts';
import type { StateMachine } from '../../ports/state-machine.ts';
import type { NodeId } from '../../ports/transport.ts';
import type { PartitionId } from '../../ports/wal.ts';
import type { SequentialModel } from '../linearizability/history.ts';
import { type FaultProfile, type ProfileName, profiles } from './profiles.ts';

/** What a client does next. The workload draws it; the run carries it out and writes down what the client saw. */
export type SimulatedOperation<Input, Output, Machine extends StateMachine> =
  | {
      readonly kind: 'write';
      readonly partitionId: PartitionId;
      /** For the model. */
      readonly input: Input;
      readonly type: string;
      readonly data: Uint8Array;
      /** What the client sees of what `apply` returned. */
      readonly output: (result: unknown) => Output;
    }
  | {
      readonly kind: 'batch';
      readonly partitionId: PartitionId;
      /** Written as one proposal; for the model they are writes of their own that were called together. */
      readonly writes: readonly {
        readonly input: Input;
        readonly type: string;
        readonly data: Uint8Array;
        readonly output: (result: unknown) => Output;
      }[];
    }
  | {
      readonly kind: 'read';
      readonly partitionId: PartitionId;
      readonly input: Input;
      /** `linearizable` reads (the default) are compared with the model; `local` ones may be old. */
      readonly consistency?: 'linearizable' | 'local';
      readonly output: (machine: Machine) => Output;
    };

export interface SimulatedWorkload<Input, Output, Machine extends StateMachine = StateMachine> {
  /** Draws the next operation of a client (0 … clients - 1) from `random`, and from nothing else. */
  next(random: Random, client: number): SimulatedOperation<Input, Output, Machine>;
  /** No two writes have the same type and data: each is then known to take effect at most once. */
  readonly isUnique?: boolean;
}

/** The options of nodes that a simulation leaves to its user. */
export type SimulatedNodeOptions = Partial<
  Pick<
    NodeOptions,
    | 'tickMs'
    | 'heartbeatTicks'
    | 'electionTicks'
    | 'entryBytesMax'
    | 'appendBytesMax'
    | 'inflightMessagesMax'
    | 'inflightBytesMax'
    | 'uncommittedBytesMax'
    | 'queuedEntriesMax'
    | 'queuedBytesMax'
    | 'proposalTimeoutMs'
    | 'trailingEntries'
    | 'checkpointBytes'
    | 'checkpointEntries'
    | 'snapshotsFrom'
    | 'logOnlyCompaction'
  >
>;

export interface SimulationOptions<Input, Output, Machine extends StateMachine = StateMachine> {
  /** Everything random is drawn from it. A whole number, 0 … 2,097,151. */
  readonly seed: number;
  /** 3 … 7 (default 5). They are called a, b, c, … */
  readonly nodes?: number;
  /** Application partitions, 1 … 64 (default 4). */
  readonly partitions?: number;
  readonly stateMachine: (partitionId: PartitionId) => Machine;
  readonly workload: SimulatedWorkload<Input, Output, Machine>;
  /**
   * `inMemory` (default): the machine is what `stateMachine` made. `onDisk`: it keeps its state in a simulated store of its
   * own, by `snapshot` and `restore`, and says with `appliedIndex` how far that is. `mixed`: now this, now that, by
   * partition. `none`: nobody gets a machine, and nobody asks it; the logs are compared as listeners are told of them.
   */
  readonly machines?: MachineKind;
  /** What the operations should look like from outside, if they happened one by one. Default: not compared. */
  readonly model?: SequentialModel<unknown, Input, Output>;
  /** What must hold of every machine after every batch: says what does not, or undefined. */
  readonly invariant?: (machine: Machine, partitionId: PartitionId) => string | undefined;
  /** A profile's name, or one of your own (default `swarm`). */
  readonly faults?: ProfileName | FaultProfile;
  /** Virtual milliseconds of trouble, before everything is healed (default 60_000). */
  readonly durationMs?: number;
  /** Clients that work at the same time, 1 … 64 (default 8). */
  readonly clients?: number;
  /** Operations of one client at most (default: as many as the time allows). */
  readonly operationsMax?: number;
  /** Only these faults of the plan happen, by their numbers; default: all. */
  readonly onlyFaults?: readonly number[];
  /** Limits of every node, over those that are drawn from the seed. */
  readonly settings?: SimulatedNodeOptions;
  /** Records the whole run: its digest is in the result, and `write` gets every event as a line. */
  readonly record?: { readonly write?: (line: string) => void };
}

/** The options of a run whose types do not matter any more. */
export type AnySimulationOptions = SimulationOptions<unknown, unknown, StateMachine>;

/** What the partitions of a run have (docs/guides/state-machines.md). */
const machineKinds = ['inMemory', 'onDisk', 'mixed', 'none'] as const;
export type MachineKind = (typeof machineKinds)[number];

/** Options with every default filled in, and what was drawn from the seed. */
export interface SimulationSettings {
  readonly seed: number;
  readonly nodeIds: readonly NodeId[];
  readonly partitions: number;
  readonly profile: FaultProfile;
  readonly durationMs: number;
  readonly clients: number;
  readonly operationsMax: number;
  readonly nodeSettings: SimulatedNodeOptions;
  /** Milliseconds of an election timeout of these nodes. */
  readonly electionMs: number;
  /** Milliseconds that a machine takes for a batch, at most; 0: it answers at once. */
  readonly applyMsMax: number;
  readonly snapshotPadding: number;
  readonly hasClockFaults: boolean;
  readonly machines: MachineKind;
}

/** With the name of a stream behind it, a seed is still a safe integer. */
const seedMax = 0x1f_ffff;

/** The stream of randomness called `name` of a run: streams do not disturb each other. */
export function streamOf(seed: number, name: string): Random {
  whole('seed', seed, 0, seedMax);
  return seededRandom(seed * 0x1_0000_0000 + crc32(name));
}

/** @throws INVALID_ARGUMENT naming the option */
export function settingsOf(options: AnySimulationOptions): SimulationSettings {
  const { seed } = options;
  whole('seed', seed, 0, seedMax);
  const nodes = whole('nodes', options.nodes ?? 5, 3, 7);
  const profile =
    typeof options.faults === 'object' ? options.faults : profiles[options.faults ?? 'swarm'];
  if (profile === undefined) {
    throw invalid('faults', `is no profile; the profiles are ${Object.keys(profiles).join(', ')}`);
  }
  const random = streamOf(seed, 'settings');
  const tickMs = oneOf(random, [10, 20, 50]);
  const electionTicks = oneOf(random, [6, 10, 20]);
  const nodeSettings: SimulatedNodeOptions = {
    tickMs,
    electionTicks,
    heartbeatTicks: electionTicks >= 10 ? oneOf(random, [1, 1, 2]) : 1,
    appendBytesMax: oneOf(random, [1_024, 1_024, 4_096, 1_048_576]),
    inflightMessagesMax: oneOf(random, [1, 4, 64]),
    trailingEntries: oneOf(random, profile.trailingEntries),
    proposalTimeoutMs: oneOf(random, [300, 1_000, 3_000]),
    queuedEntriesMax: oneOf(random, [8, 256]),
    // From a stream of its own: what else a seed draws stays as it was.
    checkpointEntries: oneOf(streamOf(seed, 'checkpoints'), profile.checkpointEntries),
    snapshotsFrom: oneOf(streamOf(seed, 'snapshots'), ['leader', 'followers'] as const),
    logOnlyCompaction: oneOf(streamOf(seed, 'compaction'), ['slowest', 'checkpoint'] as const),
    ...options.settings,
  };
  return {
    seed,
    nodeIds: 'abcdefg'.slice(0, nodes).split(''),
    partitions: whole('partitions', options.partitions ?? 4, 1, 64),
    profile,
    durationMs: whole('durationMs', options.durationMs ?? 60_000, 1, 86_400_000),
    clients: whole('clients', options.clients ?? 8, 1, 64),
    operationsMax: options.operationsMax ?? Number.POSITIVE_INFINITY,
    nodeSettings,
    electionMs: (nodeSettings.tickMs ?? tickMs) * (nodeSettings.electionTicks ?? electionTicks),
    applyMsMax: oneOf(random, [0, 0, 5, 50]),
    snapshotPadding: oneOf(random, profile.snapshotPadding),
    hasClockFaults: random.below(2) === 0,
    machines: machinesOf(options),
  };
}

function machinesOf({ machines = 'inMemory', model }: AnySimulationOptions): MachineKind {
  if (!machineKinds.includes(machines)) {
    throw invalid('machines', `is none of ${machineKinds.join(', ')}`);
  }
  if (machines === 'none' && model !== undefined) {
    throw invalid('machines', 'is none: nothing answers clients then that a model could explain');
  }
  return machines;
}

export function oneOf<Value>(random: Random, values: readonly Value[]): Value {
  const value = values[random.below(Math.max(1, values.length))];
  if (value === undefined) throw invalid('faults', 'has an empty list to choose from');
  return value;
}

function whole(argument: string, value: number, min: number, max: number): number {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw invalid(argument, `is ${value}; it is a whole number from ${min} to ${max}`);
}

function invalid(argument: string, what: string): KommanderError {
  return new KommanderError(`the option ${argument} of a simulation ${what}`, {
    code: 'INVALID_ARGUMENT',
    details: { argument },
  });
}
