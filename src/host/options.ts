// The options of a node: bounds, defaults, relations between them. A bad value is a typed error that names the option
// and says what is valid; nothing is corrected silently. `api.ts` documents each option for the user.

import { isNodeId, nodeIdRule, parseEndpoint } from '../base/endpoint.ts';
import { KommanderError } from '../base/errors.ts';
import { memberCountMax } from '../cluster/system-state.ts';
import type { Clock } from '../ports/clock.ts';
import type { Discovery } from '../ports/discovery.ts';
import { type ObservedEvent, type Observer, silentObserver } from '../ports/observer.ts';
import type { StateMachine } from '../ports/state-machine.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import { priorityMax } from '../raft/state.ts';
import { drawSeed } from '../time/seed.ts';
import { systemClock } from '../time/system-clock.ts';
import type { NodeEvents, NodeListeners, NodeOptions } from './api.ts';

interface Bounds {
  readonly min: number;
  readonly max: number;
  readonly byDefault: number;
}

const kib = 1_024;
const mib = 1_048_576;

type NumericOption =
  | 'partitions'
  | 'tickMs'
  | 'heartbeatTicks'
  | 'electionTicks'
  | 'electionPriority'
  | 'entryBytesMax'
  | 'appendBytesMax'
  | 'inflightMessagesMax'
  | 'inflightBytesMax'
  | 'uncommittedBytesMax'
  | 'queuedEntriesMax'
  | 'queuedBytesMax'
  | 'proposalTimeoutMs'
  | 'trailingEntries'
  | 'snapshotSendsMax'
  | 'snapshotBytesPerSecond'
  | 'checkpointBytes'
  | 'checkpointEntries';

/** Whole numbers: inclusive bounds and default. */
const numericOptions: Readonly<Record<NumericOption, Bounds>> = {
  partitions: { min: 1, max: 65_535, byDefault: 1 },
  tickMs: { min: 5, max: 10_000, byDefault: 50 },
  heartbeatTicks: { min: 1, max: 1_000, byDefault: 1 },
  electionTicks: { min: 3, max: 10_000, byDefault: 20 },
  electionPriority: { min: 0, max: priorityMax, byDefault: priorityMax },
  entryBytesMax: { min: 1, max: 16 * mib, byDefault: mib + 4 * kib },
  appendBytesMax: { min: kib, max: 16 * mib, byDefault: mib },
  inflightMessagesMax: { min: 1, max: 10_000, byDefault: 64 },
  inflightBytesMax: { min: kib, max: 1_024 * mib, byDefault: 16 * mib },
  uncommittedBytesMax: { min: kib, max: 4_096 * mib, byDefault: 64 * mib },
  queuedEntriesMax: { min: 1, max: 10_000_000, byDefault: 65_536 },
  queuedBytesMax: { min: kib, max: 4_096 * mib, byDefault: 64 * mib },
  proposalTimeoutMs: { min: 1, max: 2_147_483_647, byDefault: 5_000 },
  trailingEntries: { min: 0, max: 1_000_000_000, byDefault: 4_096 },
  snapshotSendsMax: { min: 1, max: 1_000, byDefault: 4 },
  snapshotBytesPerSecond: { min: 64 * kib, max: 1_048_576 * mib, byDefault: 64 * mib },
  checkpointBytes: { min: 0, max: 1_048_576 * mib, byDefault: 64 * mib },
  checkpointEntries: { min: 0, max: 1_000_000_000, byDefault: 250_000 },
};

const knownOptions: ReadonlySet<string> = new Set<keyof NodeOptions>([
  'nodeId',
  'listen',
  'advertise',
  'members',
  'wal',
  'transport',
  'discovery',
  'stateMachine',
  'clock',
  'seed',
  'logger',
  'listeners',
  'evidenceDirectory',
  'logOnlyCompaction',
  'snapshotsFrom',
  ...(Object.keys(numericOptions) as NumericOption[]),
]);

/** All first members, and where they are as far as the list says. */
export type FirstMembers = ReadonlyMap<NodeId, Endpoint | undefined>;

/** Options with every default filled in. */
export interface NodeSettings extends Readonly<Record<NumericOption, number>> {
  readonly nodeId: NodeId;
  readonly listen: Endpoint;
  readonly advertise: Endpoint | undefined;
  readonly members: FirstMembers | undefined;
  readonly stateMachine: ((partitionId: PartitionId) => StateMachine) | undefined;
  readonly clock: Clock;
  readonly seed: number;
  readonly logger: Observer;
  readonly listeners: NodeListeners;
  readonly evidenceDirectory: string | undefined;
  readonly logOnlyCompaction: 'slowest' | 'checkpoint';
  readonly snapshotsFrom: 'leader' | 'followers';
}

/** @throws INVALID_OPTION naming the option */
export function checkOptions(options: NodeOptions): NodeSettings {
  for (const name of Object.keys(options)) {
    if (!knownOptions.has(name)) {
      throw invalidOption(
        name,
        `is no option; the options are ${[...knownOptions].sort().join(', ')}`,
      );
    }
  }
  const numbers = Object.fromEntries(
    Object.entries(numericOptions).map(([name, bounds]) => [
      name,
      checkNumber(name, options[name as NumericOption], bounds),
    ]),
  ) as Record<NumericOption, number>;
  checkRelations(numbers);
  checkNodeId('nodeId', options.nodeId);
  for (const name of ['wal', 'transport', 'discovery'] as const) {
    if (!isObject(options[name])) throw invalidOption(name, 'is missing: pass an adapter');
  }
  for (const name of ['stateMachine', 'logger'] as const) {
    checkFunction(name, options[name]);
  }
  if (options.clock !== undefined && !isObject(options.clock)) {
    throw invalidOption('clock', 'is no clock: leave it out for the system clock');
  }
  const seed = options.seed ?? drawSeed();
  if (!Number.isSafeInteger(seed)) throw invalidOption('seed', `is ${seed}; it is a safe integer`);
  const members = options.members === undefined ? undefined : checkMembers(options.members);
  if (members !== undefined && !members.has(options.nodeId)) {
    throw invalidOption('members', `does not list this node, "${options.nodeId}"`);
  }
  checkEndpoint('listen', options.listen, 0);
  if (options.advertise !== undefined) checkEndpoint('advertise', options.advertise, 1);
  return {
    ...numbers,
    nodeId: options.nodeId,
    listen: options.listen,
    advertise: options.advertise,
    members,
    stateMachine: options.stateMachine,
    clock: options.clock ?? systemClock,
    seed,
    logger: guarded(options.logger ?? silentObserver),
    listeners: options.listeners === undefined ? {} : checkListeners(options.listeners),
    evidenceDirectory: checkDirectory('evidenceDirectory', options.evidenceDirectory),
    logOnlyCompaction: checkChoice(options, 'logOnlyCompaction', ['slowest', 'checkpoint']),
    snapshotsFrom: checkChoice(options, 'snapshotsFrom', ['leader', 'followers']),
  };
}

function checkRelations(numbers: Readonly<Record<NumericOption, number>>): void {
  if (numbers.electionTicks < 3 * numbers.heartbeatTicks) {
    const least = 3 * numbers.heartbeatTicks;
    throw invalidOption(
      'electionTicks',
      `is ${numbers.electionTicks}; with heartbeatTicks ${numbers.heartbeatTicks} it is at least ${least}`,
    );
  }
  for (const name of ['inflightBytesMax', 'uncommittedBytesMax'] as const) {
    if (numbers[name] < numbers.appendBytesMax) {
      throw invalidOption(
        name,
        `is ${numbers[name]}; at least appendBytesMax, ${numbers.appendBytesMax}`,
      );
    }
  }
  if (numbers.queuedBytesMax < numbers.entryBytesMax) {
    throw invalidOption(
      'queuedBytesMax',
      `is ${numbers.queuedBytesMax}; at least entryBytesMax, ${numbers.entryBytesMax}`,
    );
  }
}

function checkNumber(name: string, value: number | undefined, bounds: Bounds): number {
  if (value === undefined) return bounds.byDefault;
  if (!Number.isSafeInteger(value) || value < bounds.min || value > bounds.max) {
    throw invalidOption(
      name,
      `is ${value}; it is a whole number from ${bounds.min} to ${bounds.max}`,
    );
  }
  return value;
}

/** @throws INVALID_OPTION */
export function checkMembers(members: NonNullable<NodeOptions['members']>): FirstMembers {
  if (!isObject(members)) {
    throw invalidOption(
      'members',
      'is neither a list of node ids nor an object with their endpoints',
    );
  }
  const checked = Array.isArray(members)
    ? checkIds(members)
    : checkEndpoints(members as Readonly<Record<NodeId, Endpoint>>);
  if (checked.size === 0) throw invalidOption('members', 'is empty; list every first member');
  if (checked.size > memberCountMax) {
    throw invalidOption(
      'members',
      `lists ${checked.size} nodes; a cluster has at most ${memberCountMax}`,
    );
  }
  return checked;
}

/** The first members of a discovery that is a written list; of any other one none. @throws INVALID_OPTION */
export function checkFixedNodes({ fixedNodes }: Discovery): FirstMembers {
  return fixedNodes === undefined ? new Map() : checkMembers(fixedNodes);
}

function checkIds(nodeIds: readonly NodeId[]): FirstMembers {
  const checked = new Map<NodeId, undefined>();
  for (const nodeId of nodeIds) {
    checkNodeId('members', nodeId);
    if (checked.has(nodeId)) throw invalidOption('members', `names "${nodeId}" twice`);
    checked.set(nodeId, undefined);
  }
  return checked;
}

function checkEndpoints(members: Readonly<Record<NodeId, Endpoint>>): FirstMembers {
  const checked = new Map<NodeId, Endpoint>();
  const owners = new Map<Endpoint, NodeId>();
  for (const [nodeId, endpoint] of Object.entries(members)) {
    checkNodeId('members', nodeId);
    checkEndpoint('members', endpoint, 1);
    const owner = owners.get(endpoint);
    if (owner !== undefined) {
      throw invalidOption(
        'members',
        `gives "${owner}" and "${nodeId}" the same endpoint ${endpoint}`,
      );
    }
    owners.set(endpoint, nodeId);
    checked.set(nodeId, endpoint);
  }
  return checked;
}

const eventNames: ReadonlySet<string> = new Set<keyof NodeEvents>([
  'restoreStarted',
  'entryRestored',
  'restoreFinished',
  'entryReplicated',
  'replicationError',
  'leaderChanged',
  'membershipChanged',
]);

function checkListeners(listeners: NodeListeners): NodeListeners {
  if (!isObject(listeners))
    throw invalidOption('listeners', 'is no object of event names and functions');
  for (const [name, listener] of Object.entries(listeners)) {
    if (!eventNames.has(name)) {
      throw invalidOption(
        'listeners',
        `has "${name}"; the events are ${[...eventNames].join(', ')}`,
      );
    }
    checkFunction('listeners', listener);
  }
  return listeners;
}

/** Whoever takes the reports must not throw or reject; if it does, the node goes on. */
function guarded(observer: (event: ObservedEvent) => unknown): Observer {
  return (event) => {
    try {
      const outcome = observer(event);
      if (outcome instanceof Promise) outcome.catch(() => {});
    } catch {
      // There is nobody left to report to.
    }
  };
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function checkFunction(option: string, value: unknown): void {
  if (value === undefined || typeof value === 'function') return;
  throw invalidOption(option, 'is no function');
}

/** One of two words; the first one by default. */
function checkChoice<Name extends 'logOnlyCompaction' | 'snapshotsFrom'>(
  options: NodeOptions,
  name: Name,
  choices: readonly [NodeSettings[Name], NodeSettings[Name]],
): NodeSettings[Name] {
  const given = options[name] as NodeSettings[Name] | undefined;
  if (given === undefined) return choices[0];
  if (choices.includes(given)) return given;
  throw invalidOption(
    name,
    `is ${JSON.stringify(given)}; it is '${choices[0]}' or '${choices[1]}'`,
  );
}

function checkDirectory(option: string, path: string | undefined): string | undefined {
  if (path === undefined || (typeof path === 'string' && path !== '')) return path;
  throw invalidOption(option, `is ${JSON.stringify(path)}; it is the path of a directory`);
}

function checkEndpoint(option: string, endpoint: Endpoint, portMin: 0 | 1): void {
  if (typeof endpoint !== 'string')
    throw invalidOption(option, `is ${endpoint}; write it as host:port`);
  parseEndpoint(endpoint, { option, portMin });
}

function checkNodeId(option: string, nodeId: NodeId): void {
  if (typeof nodeId === 'string' && isNodeId(nodeId)) return;
  throw invalidOption(option, `has the node id "${nodeId}"; it is ${nodeIdRule}`);
}

/** The error of an option that is not valid, alone or beside what the store and the transport say. */
export function invalidOption(option: string, what: string): KommanderError {
  return new KommanderError(`option ${option} ${what}`, {
    code: 'INVALID_OPTION',
    details: { option },
  });
}
