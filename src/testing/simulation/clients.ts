// The clients of a simulated run: each one calls some node, one operation after the other, tries again when it was told
// that nothing happened, gives up after a while, and writes down what it saw. What it was told is compared with what
// took effect: an acknowledged write is there, a failed one is not, one of unknown outcome may be.

import { type ErrorCode, isKommanderError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import type { CommitResult, KommanderNode, ProposalInput } from '../../host/api.ts';
import type { StateMachine } from '../../ports/state-machine.ts';
import type { NodeId } from '../../ports/transport.ts';
import type { PartitionId } from '../../ports/wal.ts';
import type { HistoryOperation } from '../linearizability/history.ts';
import { contentOf } from './applied-order.ts';
import { oneOf, type SimulatedOperation, type SimulatedWorkload, streamOf } from './options.ts';
import { partitionRecord } from './safety.ts';
import { callUsers, ViolationError } from './violation.ts';
import { type Life, notTyped, openLives, type World } from './world.ts';

/** What a client saw of one operation. */
export interface SeenOperation extends HistoryOperation<unknown, unknown> {
  readonly partitionId: PartitionId;
}

export interface Clients {
  readonly history: SeenOperation[];
  /** Acknowledged writes. */
  readonly acknowledged: {
    readonly partitionId: PartitionId;
    readonly index: number;
    readonly content: string;
  }[];
  /** Writes that had no effect, as their caller was told; and those whose outcome is not known. */
  readonly failed: {
    readonly partitionId: PartitionId;
    readonly content: string;
    readonly code: string;
  }[];
  readonly unknown: UnknownWrite[];
  /** Operations that are under way. */
  busyCount: number;
  readCount: number;
}

/** A write whose caller was not told what became of it. */
export interface UnknownWrite {
  readonly partitionId: PartitionId;
  readonly content: string;
  readonly client: string | number;
  readonly input: unknown;
  readonly output: (result: unknown) => unknown;
  readonly calledAt: number;
}

export function newClients(): Clients {
  return { history: [], acknowledged: [], failed: [], unknown: [], busyCount: 0, readCount: 0 };
}

type AnyOperation = SimulatedOperation<unknown, unknown, StateMachine>;
type AnyWorkload = SimulatedWorkload<unknown, unknown, StateMachine>;

/** What came of one call. */
type Outcome<Value> =
  | { readonly kind: 'done'; readonly value: Value }
  | { readonly kind: 'noEffect'; readonly code: string; readonly retryable: boolean }
  | { readonly kind: 'unknown' };

const attemptsMax = 4;
/** Milliseconds that a client waits for an answer beyond the time that it gave the node. */
const patienceMs = 200;

/** Works until the run is over or the client has done its part. */
export async function runClient(
  world: World,
  clients: Clients,
  workload: AnyWorkload,
  client: number,
): Promise<void> {
  const random = streamOf(world.settings.seed, `client ${client}`);
  const thinkMs = oneOf(random, [20, 200, 1_000]);
  const home = oneOf(random, world.settings.nodeIds);
  for (let count = 0; count < world.settings.operationsMax && !world.isOver; count++) {
    await pause(world, 1 + random.below(thinkMs));
    if (world.isOver) break;
    const operation = callUsers('workload.next', () => workload.next(random, client));
    checkOperation(world, operation);
    clients.busyCount += 1;
    if (operation.kind === 'read') await read(world, clients, { random, client, home, operation });
    else await write(world, clients, { random, client, home, operation });
    clients.busyCount -= 1;
  }
}

/** @throws ViolationError the operation is none that a node takes */
function checkOperation(world: World, operation: AnyOperation): void {
  const { partitions } = world.settings;
  const partitionId: unknown = operation?.partitionId;
  const isPartition = Number.isInteger(partitionId) && Number(partitionId) >= 1;
  if (isPartition && Number(partitionId) <= partitions) return;
  throw notTaken(
    `partitionId ${String(partitionId)}; a simulation of ${partitions} partitions has 1 to ${partitions}`,
  );
}

function notTaken(what: string): ViolationError {
  return new ViolationError('The workload draws operations that a node can take', what);
}

interface Turn<Operation> {
  readonly random: Random;
  readonly client: number;
  /** The node that it calls most. */
  readonly home: NodeId;
  readonly operation: Operation;
}

async function write(
  world: World,
  clients: Clients,
  turn: Turn<Exclude<AnyOperation, { kind: 'read' }>>,
): Promise<void> {
  const { client, operation } = turn;
  const { partitionId } = operation;
  const writes = operation.kind === 'batch' ? operation.writes : [operation];
  const inputs: ProposalInput[] = writes.map(({ type, data }) => ({ type, data }));
  const calledAt = world.nextMoment++;
  const outcome = await attempt(world, turn, (node, options) =>
    operation.kind === 'batch'
      ? node.replicate(partitionId, inputs, options)
      : node.replicate(partitionId, operation.type, operation.data, options),
  );
  const contents = inputs.map(({ type, data }) => contentOf(type, data));
  if (outcome.kind === 'noEffect') {
    for (const content of contents)
      clients.failed.push({ partitionId, content, code: outcome.code });
    return;
  }
  const rows = writes.map(({ input, output }, place) => ({
    partitionId,
    content: contents[place] ?? '',
    // A batch's writes are called together: each gets a row of its own.
    client: writes.length === 1 ? client : `${client}.${place}`,
    input,
    output,
    calledAt,
  }));
  if (outcome.kind === 'unknown') {
    world.coverage.unknownOutcome += 1;
    clients.unknown.push(...rows);
    return;
  }
  const returnedAt = world.nextMoment++;
  const results = resultsOf(outcome.value, operation.kind);
  const isAnswered = world.settings.machines !== 'none';
  for (const [place, { client: row, input, output }] of isAnswered ? rows.entries() : []) {
    clients.history.push({
      partitionId,
      client: row,
      input,
      output: callUsers('the output of a write', () => output(results[place])),
      calledAt,
      returnedAt,
    });
  }
  const first = outcome.value.index - contents.length + 1;
  for (const [place, content] of contents.entries()) {
    const acknowledged = { partitionId, index: first + place, content };
    clients.acknowledged.push(acknowledged);
    checkAcknowledged(world, acknowledged);
  }
}

function resultsOf(value: CommitResult, kind: 'write' | 'batch'): readonly unknown[] {
  return kind === 'batch' ? ((value.result ?? []) as readonly unknown[]) : [value.result];
}

/** No acknowledged write is lost: it is in the one sequence of applied entries, where its caller was told. */
export function checkAcknowledged(
  world: World,
  write: { readonly partitionId: PartitionId; readonly index: number; readonly content: string },
): void {
  const { partitionId, index, content } = write;
  const found = partitionRecord(world.safety, partitionId).order.entries.get(index);
  if (found?.content === content) return;
  throw new ViolationError(
    'No acknowledged write is lost: it is applied where its caller was told',
    `entry ${index} should be ${JSON.stringify(content)} and is ${JSON.stringify(found?.content)}`,
    partitionId,
  );
}

async function read(
  world: World,
  clients: Clients,
  turn: Turn<Extract<AnyOperation, { kind: 'read' }>>,
): Promise<void> {
  const { client, operation } = turn;
  const { partitionId, consistency = 'linearizable' } = operation;
  const calledAt = world.nextMoment++;
  const outcome = await attempt(world, turn, async (node, options, life) => {
    await node.read(partitionId, { ...options, consistency });
    const watched = life.machines.get(partitionId);
    const isFollower = node.isLeader(partitionId) === false;
    // Without a machine it is the node's word alone.
    if (watched === undefined) return { output: undefined, isFollower };
    const output = callUsers('the output of a read', () => operation.output(watched.inner));
    return { output, isFollower };
  });
  if (outcome.kind !== 'done') return;
  clients.readCount += 1;
  if (consistency !== 'linearizable') return;
  if (outcome.value.isFollower) world.coverage.readByFollower += 1;
  if (world.settings.machines === 'none') return;
  const { output } = outcome.value;
  clients.history.push({
    partitionId,
    client,
    input: operation.input,
    output,
    calledAt,
    returnedAt: world.nextMoment++,
  });
}

interface CallOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** Calls some node, its home more often than not, and perhaps another one when nothing happened. */
async function attempt<Value>(
  world: World,
  { random, home }: Pick<Turn<unknown>, 'random' | 'home'>,
  call: (node: KommanderNode, options: CallOptions, life: Life) => Promise<Value>,
): Promise<Outcome<Value>> {
  let outcome: Outcome<Value> = { kind: 'noEffect', code: 'nobody there', retryable: true };
  for (let count = 0; count < attemptsMax; count++) {
    const lives = openLives(world);
    if (lives.length > 0) {
      const homeLife = random.below(10) < 6 ? world.seats.get(home)?.life : undefined;
      const life = homeLife?.host === undefined ? oneOf(random, lives) : homeLife;
      outcome = await callOnce(world, random, life, call);
      if (outcome.kind !== 'noEffect' || !outcome.retryable) return outcome;
    }
    await pause(world, 1 + random.below(world.settings.electionMs));
    if (world.isOver) break;
  }
  return outcome;
}

function callOnce<Value>(
  world: World,
  random: Random,
  life: Life,
  call: (node: KommanderNode, options: CallOptions, life: Life) => Promise<Value>,
): Promise<Outcome<Value>> {
  const timeoutMs = 1 + random.below(oneOf(random, [100, 1_000, 4_000]));
  const abort = random.below(50) === 0 ? new AbortController() : undefined;
  const abortMs = random.below(timeoutMs);
  const options = abort === undefined ? { timeoutMs } : { timeoutMs, signal: abort.signal };
  return new Promise((resolve, reject) => {
    // The request may lie in the socket of a process that stands still, or die with it.
    const gone: Outcome<Value> = { kind: 'unknown' };
    life.end.then(() => resolve(gone), reject);
    const patience = world.time.setTimer(timeoutMs + patienceMs, () => resolve(gone));
    const answered = (outcome: Outcome<Value>): void => {
      patience.cancel();
      resolve(outcome);
    };
    life.clock.input(() => {
      const { node } = life;
      if (node === undefined) return;
      if (abort !== undefined) life.clock.setTimer(abortMs, () => abort.abort());
      const watch = watchAnswer(world, life, timeoutMs, reject);
      call(node, options, life).then(
        (value) => {
          watch.isAnswered = true;
          answered({ kind: 'done', value });
        },
        (error: unknown) => {
          watch.isAnswered = true;
          if (error instanceof ViolationError) reject(error);
          else if (life.clock.isDead) resolve(gone);
          else if (!isKommanderError(error)) reject(notTyped(error));
          else if (workloadErrors.has(error.code)) reject(notTaken(error.message));
          else if (error.mayHaveCommitted) answered(gone);
          else answered({ kind: 'noEffect', code: error.code, retryable: error.retryable });
        },
      );
    });
  });
}

/** What a node says of a call that no node will ever take. */
const workloadErrors: ReadonlySet<ErrorCode> = new Set([
  'INVALID_ARGUMENT',
  'ENTRY_TOO_LARGE',
  'RESERVED_TYPE',
  'UNKNOWN_PARTITION',
]);

/** Ticks beyond its time after which an answer is looked for, again and again: a process may have stood still. */
const answerTicks = 5;
const answerLooksMax = 4;

/** A process that lives and goes on answers in time, whatever happens around it. */
function watchAnswer(
  world: World,
  life: Life,
  timeoutMs: number,
  broken: (error: ViolationError) => void,
): { isAnswered: boolean } {
  const watch = { isAnswered: false };
  const laterMs = answerTicks * (world.settings.nodeSettings.tickMs ?? 50);
  const look = (looksLeft: number): void => {
    if (watch.isAnswered) return;
    if (looksLeft > 0) {
      life.clock.setTimer(laterMs, () => look(looksLeft - 1));
      return;
    }
    const what = `${life.seat.nodeId} has not, long after ${timeoutMs} ms`;
    broken(new ViolationError('Every caller gets an answer within its time', what));
  };
  life.clock.setTimer(timeoutMs, () => look(answerLooksMax));
  return watch;
}

function pause(world: World, ms: number): Promise<void> {
  return new Promise((resolve) => world.time.setTimer(ms, resolve));
}
