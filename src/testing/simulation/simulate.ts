// One simulated run from its seed to its verdict: real nodes (host, core, state machines, RocksDB engine, wire codec) of
// one cluster under one virtual clock, with faults planned from the seed and clients that do what the workload draws.
// After every step the safety rules are checked; at the end everything heals, and liveness and the history are.

import { inspect } from 'node:util';
import { must } from '../../base/assert.ts';
import { KommanderError } from '../../base/errors.ts';
import { memberCountMax } from '../../cluster/system-state.ts';
import { staticDiscovery } from '../../discovery/static.ts';
import type { KommanderNode } from '../../host/api.ts';
import { type EvidenceBundle, evidenceOf } from '../../host/evidence.ts';
import { checkOptions } from '../../host/options.ts';
import type { StateMachine } from '../../ports/state-machine.ts';
import type { Endpoint, NodeId } from '../../ports/transport.ts';
import type { ReplicaId } from '../../raft/types.ts';
import { memoryNetwork } from '../../transport/memory.ts';
import { memoryWal } from '../../wal/memory.ts';
import { type VirtualClock, virtualClock } from '../virtual-clock.ts';
import { type Clients, newClients, runClient } from './clients.ts';
import { type Coverage, newCoverage } from './coverage.ts';
import { type SimulatedDisk, simulatedDisk } from './disk.ts';
import { eventLog } from './event-log.ts';
import { type PlannedFault, planFaults } from './fault-plan.ts';
import { happen, powerLossBehindSplit } from './faults.ts';
import { healthyLink, type LinkQuality, simulatedNetwork } from './network.ts';
import {
  type AnySimulationOptions,
  oneOf,
  type SimulatedWorkload,
  type SimulationOptions,
  type SimulationSettings,
  settingsOf,
  streamOf,
} from './options.ts';
import {
  checkEqualStates,
  checkHistory,
  checkOutcomes,
  checkRecording,
  checkStoredLog,
  membersOfPartition,
  recover,
} from './outcome-checks.ts';
import { violationReport } from './report.ts';
import { checkSent, newSafety } from './safety.ts';
import { segmentDisk } from './segment-disk.ts';
import { checkTouched } from './step-checks.ts';
import { ViolationError } from './violation.ts';
import { beginLife, type Life, newSeat, openLives, type Seat, type World } from './world.ts';

export interface SimulationResult {
  readonly seed: number;
  /** Callbacks that were run: timers, deliveries, answers of disks. */
  readonly stepCount: number;
  /** Virtual milliseconds from the beginning to the end of the recovery. */
  readonly virtualMs: number;
  readonly operationCount: number;
  /** Faults of the plan, by number. */
  readonly faultCount: number;
  /** The rule that was broken, if one was, and a report for people. */
  readonly violation: ViolationError | undefined;
  readonly report: string | undefined;
  /** What the replicas of the partition concerned did last, for `kommander replay`; empty without a violation. */
  readonly evidence: readonly EvidenceBundle[];
  readonly coverage: Coverage;
  /** Whether the comparison with the model came to an end in its time; undefined without a model or after a violation. */
  readonly isHistoryChecked: boolean | undefined;
  /** Hash of all events of a recorded run. */
  readonly digest: string | undefined;
}

/** Virtual milliseconds of patience with a new write or read at the end. */
const serviceMs = 60_000;

/**
 * Runs one seed. Equal options give equal runs, whatever the machine, the Node.js version or the time of day.
 *
 * @throws INVALID_ARGUMENT an option is not valid. A broken rule is not thrown: it is in the result.
 */
export async function simulate<Input, Output, Machine extends StateMachine>(
  options: SimulationOptions<Input, Output, Machine>,
): Promise<SimulationResult> {
  // What the workload draws goes to the machines and the model of the same call: nobody in between looks inside.
  return simulateAny(options as unknown as AnySimulationOptions);
}

async function simulateAny(options: AnySimulationOptions): Promise<SimulationResult> {
  const settings = settingsOf(options);
  checkNodeSettings(settings);
  checkMachines(options, settings);
  const faults = planFaults(settings, options.onlyFaults);
  const clients = newClients();
  const world = newWorld(settings, options);
  const { workload } = options;
  let isHistoryChecked: boolean | undefined;
  try {
    await trouble(world, clients, { faults, workload });
    await heal(world, clients);
    checkRecording(world);
    const { model } = options;
    const isUnique = workload.isUnique === true;
    checkOutcomes(world, clients, isUnique);
    if (model !== undefined) isHistoryChecked = checkHistory(world, clients, { model, isUnique });
  } catch (error) {
    world.violation ??= asViolation(error);
  }
  const { violation } = world;
  const evidence = violation === undefined ? [] : evidenceFor(world, violation);
  for (const { life } of world.seats.values()) life?.clock.kill();
  return {
    seed: settings.seed,
    stepCount: world.stepCount,
    virtualMs: world.time.monotonicMs(),
    operationCount: clients.acknowledged.length + clients.readCount,
    faultCount: faults.length,
    violation,
    report: violation === undefined ? undefined : violationReport(world, violation),
    evidence,
    coverage: world.coverage,
    isHistoryChecked,
    digest: options.record === undefined ? undefined : world.log.digest(),
  };
}

function evidenceFor(world: World, { partitionId }: ViolationError): EvidenceBundle[] {
  return openLives(world).flatMap(({ host }) => {
    const partition = partitionId === undefined ? undefined : host?.partitions.get(partitionId);
    if (host === undefined || partition === undefined) return [];
    return [evidenceOf(host, partition)];
  });
}

/** Options that no node takes are the caller's mistake, and no fault of the cluster. @throws INVALID_OPTION */
function checkNodeSettings({ nodeSettings, partitions }: SimulationSettings): void {
  const transport = memoryNetwork().transport();
  const discovery = staticDiscovery({ a: '10.0.0.1:8101' });
  const adapters = { wal: memoryWal(), transport, discovery };
  checkOptions({ nodeId: 'a', listen: '10.0.0.1:8101', partitions, ...adapters, ...nodeSettings });
}

/** @throws INVALID_ARGUMENT */
function checkMachines(options: AnySimulationOptions, { machines }: SimulationSettings): void {
  if (machines !== 'onDisk' && machines !== 'mixed') return;
  const machine = options.stateMachine(1);
  if (machine.snapshot !== undefined && machine.restore !== undefined) return;
  throw new KommanderError(
    `the option machines of a simulation is ${machines}; then stateMachine makes machines with snapshot() and restore()`,
    { code: 'INVALID_ARGUMENT', details: { argument: 'machines' } },
  );
}

/** Clients work and faults happen. */
async function trouble(
  world: World,
  clients: Clients,
  parts: {
    readonly faults: readonly PlannedFault[];
    readonly workload: SimulatedWorkload<unknown, unknown>;
  },
): Promise<void> {
  const { time, settings } = world;
  for (const seat of world.seats.values()) beginLife(world, seat);
  for (const fault of parts.faults) {
    time.setTimer(fault.atMs, () => {
      if (!world.isOver) happen(world, fault);
    });
  }
  for (let client = 0; client < settings.clients; client++) {
    runClient(world, clients, parts.workload, client).catch((error: unknown) => {
      world.violation ??= asViolation(error);
    });
  }
  await run(world, settings.durationMs);
}

/** Everything works again: whoever is down comes back, and what is under way comes to its end. */
async function heal(world: World, clients: Clients): Promise<void> {
  world.isOver = true;
  world.log.note('heal');
  // Faults that end later find links as they should be.
  world.baseQuality = healthyLink;
  world.machineTroubles = [];
  world.network.heal(healthyLink);
  for (const seat of world.seats.values()) {
    seat.disk.heal();
    seat.life?.clock.resume();
    if (seat.life !== undefined) world.touched.add(seat.life);
    beginLife(world, seat);
  }
  // Clients give up after a while.
  for (let i = 0; clients.busyCount > 0; i++) {
    if (i > 1_000) throw new ViolationError('Every caller gets an answer', 'a client still waits');
    await run(world, 100);
  }
  await recover(world);
  await checkService(world);
  await recover(world);
  await checkEqualStates(world);
  await checkLogs(world);
}

async function run(world: World, ms: number): Promise<void> {
  await world.time.run(ms);
  if (world.violation !== undefined) throw world.violation;
}

/** Every member of every partition serves: a checkpoint is a write that every state machine understands. */
async function checkService(world: World): Promise<void> {
  for (let partitionId = 0; partitionId <= world.settings.partitions; partitionId++) {
    for (const life of membersOfPartition(world, partitionId)) {
      const calls = {
        'takes new writes': (node: KommanderNode) =>
          node.checkpoint(partitionId, { timeoutMs: serviceMs }),
        'answers linearizable reads': (node: KommanderNode) =>
          node.read(partitionId, { timeoutMs: serviceMs }),
      };
      for (const [what, call] of Object.entries(calls)) {
        const problem = await tried(world, life, call);
        if (problem === undefined) continue;
        throw new ViolationError(
          `Liveness: a healed cluster ${what}, on every member`,
          `${life.seat.nodeId} did not within ${serviceMs} ms: ${problem}`,
          partitionId,
        );
      }
    }
  }
}

/** What every member has stored is read, as a restart would. */
async function checkLogs(world: World): Promise<void> {
  for (let partitionId = 1; partitionId <= world.settings.partitions; partitionId++) {
    for (const life of membersOfPartition(world, partitionId)) {
      let isRead = false;
      life.clock.input(() => {
        checkStoredLog(world, life, partitionId).then(
          () => {
            isRead = true;
          },
          (error: unknown) => {
            world.violation ??= asViolation(error);
          },
        );
      });
      const endMs = world.time.monotonicMs() + serviceMs;
      while (!isRead && world.time.monotonicMs() < endMs) await run(world, 5);
      if (isRead) continue;
      throw new ViolationError(
        'Liveness: a healed node reads its log',
        `${life.seat.nodeId} did not within ${serviceMs} ms`,
        partitionId,
      );
    }
  }
}

/** Calls until it succeeds. @returns why it did not within its time */
async function tried(
  world: World,
  { node, clock }: Life,
  call: (node: KommanderNode) => Promise<unknown>,
): Promise<string | undefined> {
  const endMs = world.time.monotonicMs() + serviceMs;
  let problem = 'no answer';
  while (world.time.monotonicMs() < endMs && node !== undefined) {
    let outcome: { readonly error: unknown } | undefined;
    clock.input(() => {
      call(node).then(
        () => {
          outcome = { error: undefined };
        },
        (error: unknown) => {
          outcome = { error };
        },
      );
    });
    while (outcome === undefined && world.time.monotonicMs() < endMs) await run(world, 5);
    if (outcome === undefined) break;
    if (outcome.error === undefined) return undefined;
    // A snapshot may have taken the place of the entry on a replica that was behind: then it is not known.
    problem = outcome.error instanceof Error ? outcome.error.message : inspect(outcome.error);
    await run(world, 100);
  }
  return problem;
}

/** A cluster may have nodes of several engines. */
function newDisk(seed: number, nodeId: NodeId, time: VirtualClock): SimulatedDisk {
  const random = streamOf(seed, `disk ${nodeId}`);
  const isSegment = streamOf(seed, `engine ${nodeId}`).below(2) === 0;
  if (isSegment) return segmentDisk({ random, name: nodeId });
  return simulatedDisk({ random, nowMs: () => time.monotonicMs(), name: nodeId });
}

function newWorld(settings: SimulationSettings, options: AnySimulationOptions): World {
  const { seed, nodeIds, profile } = settings;
  const coverage = newCoverage();
  const time = virtualClock({ afterStep: () => checkTouched(world) });
  const members: Record<NodeId, Endpoint> = {};
  for (const [place, nodeId] of nodeIds.entries()) members[nodeId] = `10.0.0.${place + 1}:8101`;
  const clockRandom = streamOf(seed, 'clocks');
  const seats = new Map<NodeId, Seat>(
    nodeIds.map((nodeId) => [
      nodeId,
      newSeat({
        nodeId,
        replicaId: nodeIds.indexOf(nodeId) + 1,
        disk: newDisk(seed, nodeId, time),
        wallOffsetMs: settings.hasClockFaults ? clockRandom.below(20_000) - 10_000 : 0,
        rate: settings.hasClockFaults ? 0.98 + clockRandom.unit() * 0.04 : 1,
      }),
    ]),
  );
  const nodeIdOf = (replicaId: ReplicaId): NodeId | undefined =>
    nodeIds[(replicaId - 1) % memberCountMax];
  const safety = newSafety({
    coverage,
    durable: (nodeId) => must(seats.get(nodeId), 'every node has a seat').durable,
    durableOf(replicaId) {
      const seat = seats.get(nodeIdOf(replicaId) ?? '');
      if (seat === undefined) return [];
      const present = seat.replicaId === replicaId ? [seat.durable] : [];
      const before = seat.durableBefore?.replicaId === replicaId ? [seat.durableBefore.view] : [];
      return [...present, ...before];
    },
    nodeIdOf,
  });
  const log = eventLog({
    nowMs: () => time.monotonicMs(),
    isRecording: options.record !== undefined,
    write: options.record?.write,
  });
  const baseQuality = drawQuality(settings, profile.noiseMax);
  const network = simulatedNetwork({
    time,
    random: streamOf(seed, 'network'),
    coverage,
    sending: (from, _to, frame) => {
      try {
        checkSent(safety, from, frame, (partitionId) => {
          const host = seats.get(from)?.life?.host;
          return host?.partitions.get(partitionId)?.raft;
        });
      } catch (error) {
        // The node that sends must not take it for its own failure.
        world.violation ??= asViolation(error);
      }
    },
    arriving: log.isRecording
      ? (from, to, lane, frame) => {
          for (const item of frame.items) {
            const what = item.kind === 'raft' ? item.message.type : item.kind;
            const partition = 'partitionId' in item ? { partitionId: item.partitionId } : {};
            log.note('arrive', { nodeId: to, ...partition }, { from, lane, what });
          }
        }
      : undefined,
  });
  network.heal(baseQuality);
  const disturbance = streamOf(seed, 'disturbance');
  const world: World = {
    settings,
    time,
    log,
    coverage,
    network,
    safety,
    seats,
    members,
    random: streamOf(seed, 'world'),
    makeMachine: options.stateMachine,
    invariant: options.invariant,
    baseQuality,
    wantedVoters: [],
    machineTroubles: [],
    formerMembers: new Set(),
    disturb: (apart) => {
      if (!world.isOver) powerLossBehindSplit(world, disturbance, apart);
    },
    momentListeners: new Set(),
    touched: new Set(),
    nextMoment: 1,
    isOver: false,
    violation: undefined,
    stepCount: 0,
  };
  return world;
}

function drawQuality(settings: SimulationSettings, noiseMax: number): LinkQuality {
  const random = streamOf(settings.seed, 'links');
  const chance = (): number => (random.below(2) === 0 ? 0 : random.below(noiseMax + 1));
  return {
    ...healthyLink,
    loss: chance(),
    copies: chance(),
    overtaking: chance(),
    spikes: Math.floor(chance() / 4),
    spikeMs: 2 * settings.electionMs,
    delayMs: oneOf(random, [0.1, 1, 5]),
    jitterMs: oneOf(random, [0.1, 1, 10]),
  };
}

function asViolation(error: unknown): ViolationError {
  if (error instanceof ViolationError) return error;
  const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return new ViolationError('Nothing throws but what the rules allow', what, undefined, error);
}
