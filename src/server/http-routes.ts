// What each route of the HTTP API does: from a checked request to an answer, as data. The table at the end is the
// contract of docs/reference/http-api.md. Sending, limits and failures are http-api.ts's matter.

import type { IncomingMessage } from 'node:http';
import * as v from 'valibot';
import { must } from '../base/assert.ts';
import { MalformedBytesError, utf8Text } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import type { CommitResult, KommanderNode } from '../index.ts';
import type { NodeId } from '../ports/transport.ts';
import type { PartitionId, Wal } from '../ports/wal.ts';
import { beginBackup } from './backup-stream.ts';
import { badArgument } from './http-errors.ts';
import { type HttpLimits, jsonBytesMax, listedKeysDefault, listedKeysMax } from './http-limits.ts';
import { getLog } from './http-log.ts';
import {
  type BodyBudget,
  parseChoice,
  parseIfIndex,
  parseInteger,
  parseKey,
  parseQuery,
  readBody,
} from './http-request.ts';
import type { KeyValueMachine, KeyValueResult } from './key-value.ts';
import {
  commandEntryType,
  encodeCommand,
  type KeyValueCommand,
  keyValueLimits,
} from './key-value-command.ts';

/** What the API serves: a node and the state machine of each of its partitions 1 … n. */
export interface KeyValueService {
  readonly node: KommanderNode;
  readonly machines: ReadonlyMap<PartitionId, KeyValueMachine>;
  /** The node's log store. */
  readonly log: Pick<Wal, 'read'>;
}

export interface RouteContext {
  readonly request: IncomingMessage;
  /** What the route's pattern captured, still percent-encoded. */
  readonly captured: string;
  readonly query: URLSearchParams | undefined;
  /** Fires when the client goes away. */
  readonly signal: AbortSignal;
  readonly limits: HttpLimits;
  readonly budget: BodyBudget;
}

interface AnswerHead {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string | number>>;
}

export interface WholeAnswer extends AnswerHead {
  /** A string is JSON. */
  readonly body: string | Uint8Array;
}

export interface StreamedAnswer extends AnswerHead {
  readonly stream: AsyncIterable<Uint8Array>;
}

export type Answer = WholeAnswer | StreamedAnswer;

export type Handler = (service: KeyValueService, context: RouteContext) => Answer | Promise<Answer>;

export interface Route {
  readonly pattern: RegExp;
  /** Handlers by method; `HEAD` is answered as `GET` without its body. */
  readonly methods: Readonly<Record<string, Handler>>;
  /** Answered even when the server has too much to do: an operator must see why. */
  readonly isForOperators: boolean;
}

/** The routes, the most frequent first. */
export const routes: readonly Route[] = [
  {
    pattern: /^\/v1\/kv\/(.*)$/,
    methods: { GET: getValue, PUT: putValue, DELETE: deleteValue },
    isForOperators: false,
  },
  { pattern: /^\/v1\/kv$/, methods: { GET: listKeys }, isForOperators: false },
  { pattern: /^\/v1\/status$/, methods: { GET: getStatus }, isForOperators: true },
  {
    pattern: /^\/v1\/partitions\/(\d{1,10})\/transfer$/,
    methods: { POST: transferLeadership },
    isForOperators: true,
  },
  {
    pattern: /^\/v1\/backup$/,
    methods: { POST: takeBackup },
    isForOperators: true,
  },
  {
    pattern: /^\/v1\/partitions\/(\d{1,10})\/log$/,
    methods: { GET: getLog },
    isForOperators: true,
  },
  { pattern: /^\/v1\/members$/, methods: { GET: getMembers }, isForOperators: true },
  {
    pattern: /^\/v1\/members\/([^/]{1,192})\/readmit$/,
    methods: { POST: readmitMember },
    isForOperators: true,
  },
  { pattern: /^\/healthz$/, methods: { GET: getHealth }, isForOperators: true },
  { pattern: /^\/readyz$/, methods: { GET: getReadiness }, isForOperators: true },
];

/** A JSON answer, newline included. `undefined` becomes `null`: a client sees every field. */
export function jsonAnswer(status: number, body: unknown): WholeAnswer {
  const json = JSON.stringify(body, (_, value: unknown) => (value === undefined ? null : value));
  return { status, body: `${json}\n` };
}

async function putValue(service: KeyValueService, context: RouteContext): Promise<Answer> {
  const query = parseQuery(context.query, ['if-index', 'forward']);
  const key = parseKey(context.captured);
  const ifIndex = parseIfIndex(query['if-index']);
  const forward = parseForward(query.forward);
  const { limits, budget } = context;
  const bytesMax = keyValueLimits.valueBytesMax;
  const body = await readBody(context.request, { bytesMax, limits, budget });
  try {
    const command: KeyValueCommand = { operation: 'put', key, value: body.bytes, ifIndex };
    return await writeCommand(service, command, { forward, signal: context.signal });
  } finally {
    body.release();
  }
}

async function deleteValue(service: KeyValueService, context: RouteContext): Promise<Answer> {
  const query = parseQuery(context.query, ['if-index', 'forward']);
  const key = parseKey(context.captured);
  const ifIndex = parseIfIndex(query['if-index']);
  const forward = parseForward(query.forward);
  const command: KeyValueCommand = { operation: 'delete', key, ifIndex };
  return await writeCommand(service, command, { forward, signal: context.signal });
}

async function writeCommand(
  service: KeyValueService,
  command: KeyValueCommand,
  options: { readonly forward: boolean; readonly signal: AbortSignal },
): Promise<Answer> {
  const { node } = service;
  const partition = node.partitionOf(command.key);
  const data = encodeCommand(command);
  const commit = await node.replicate(partition, commandEntryType, data, options);
  const result = resultOf(commit);
  if (result.outcome === 'notFound') throw keyNotFound(command.key, partition);
  if (result.outcome === 'conditionFailed') {
    const { presentIndex } = result;
    throw new KommanderError(
      presentIndex === 0
        ? 'the condition failed: there is no such key'
        : `the condition failed: the key's last write has index ${presentIndex}`,
      { code: 'CONDITION_FAILED', details: { partitionId: partition, presentIndex } },
    );
  }
  const { index, term, timestamp } = commit;
  return jsonAnswer(200, { partition, index, term, timestamp });
}

/** What the state machine returned; `replicate` does not know its type. */
function resultOf(commit: CommitResult): KeyValueResult {
  const { result } = commit;
  const isResult = typeof result === 'object' && result !== null && 'outcome' in result;
  return must(
    isResult ? (result as KeyValueResult) : undefined,
    'the key-value machine returns a result for every command',
  );
}

async function getValue(service: KeyValueService, context: RouteContext): Promise<Answer> {
  const query = parseQuery(context.query, ['consistency', 'forward']);
  const key = parseKey(context.captured);
  const consistency =
    parseChoice('consistency', query.consistency, ['linearizable', 'local']) ?? 'linearizable';
  const forward = parseForward(query.forward);
  const { node } = service;
  const partition = node.partitionOf(key);
  await node.read(partition, { consistency, forward, signal: context.signal });
  const stored = machineOf(service, partition).get(key);
  if (stored === undefined) throw keyNotFound(key, partition);
  return {
    status: 200,
    headers: {
      'kommander-partition': partition,
      'kommander-index': stored.index,
      'kommander-term': stored.term,
    },
    body: stored.value,
  };
}

function listKeys(service: KeyValueService, context: RouteContext): Answer {
  const query = parseQuery(context.query, ['prefix', 'after', 'limit']);
  const range = { min: 1, max: listedKeysMax };
  const limit = parseInteger('limit', query.limit, range) ?? listedKeysDefault;
  const { prefix = '', after } = query;
  const listed = [...service.machines].flatMap(([partition, machine]) =>
    machine.list({ prefix, after, limit: limit + 1 }).map((each) => ({ ...each, partition })),
  );
  listed.sort((one, other) => (one.key < other.key ? -1 : 1));
  const keys = listed.slice(0, limit).map(({ key, partition, index, term, valueBytes }) => ({
    key,
    partition,
    index,
    term,
    bytes: valueBytes,
  }));
  return jsonAnswer(200, { keys, truncated: listed.length > limit });
}

function getStatus(service: KeyValueService, context: RouteContext): Answer {
  parseQuery(context.query, []);
  const { partitions, endpoint, nodeId, clusterId, incarnation, state, ...rest } =
    service.node.status();
  return jsonAnswer(200, {
    node: nodeId,
    clusterId,
    incarnation,
    state,
    endpoint,
    roster: rest.roster.map((member) => ({
      node: member.nodeId,
      endpoint: member.endpoint,
      reachable: member.reachable,
    })),
    partitions: partitions.map((each) => ({
      partition: each.partitionId,
      role: each.role,
      term: each.term,
      leader: each.leader,
      commitIndex: each.commitIndex,
      lastApplied: each.lastApplied,
      lastIndex: each.lastIndex,
      compactedIndex: each.compactedIndex,
      log: each.log,
      queuedProposals: each.queuedProposals,
      keys: service.machines.get(each.partitionId)?.keyCount,
      stopped: each.stopped,
    })),
    wal: rest.wal,
    diskFull: rest.diskFull,
    timerLatenessMsMax: rest.timerLatenessMsMax,
  });
}

const transferSchema = v.strictObject({ to: v.pipe(v.string(), v.minLength(1), v.maxLength(64)) });

async function transferLeadership(
  service: KeyValueService,
  context: RouteContext,
): Promise<Answer> {
  parseQuery(context.query, []);
  const partition = Number(context.captured);
  const { limits, budget, signal } = context;
  const body = await readBody(context.request, { bytesMax: jsonBytesMax, limits, budget });
  body.release();
  const parsed = v.safeParse(transferSchema, parseJson(body.bytes));
  if (!parsed.success) throw badArgument('body', 'the body must be {"to": "<node id>"}');
  const { to } = parsed.output;
  await service.node.transferLeadership(partition, to, { signal });
  return jsonAnswer(200, { partition, leader: to });
}

/** What fails before the first piece is answered as an error; what fails later is told within the stream. */
async function takeBackup(service: KeyValueService, context: RouteContext): Promise<Answer> {
  parseQuery(context.query, []);
  return { status: 200, stream: await beginBackup(service.node, context.signal) };
}

function getMembers(service: KeyValueService, context: RouteContext): Answer {
  parseQuery(context.query, []);
  const members = service.node.status().roster.map((member) => ({
    node: member.nodeId,
    replica: member.replicaId,
    endpoint: member.endpoint,
    reachable: member.reachable,
    refused: member.refused,
    voterOf: member.voterOf,
    learnerOf: member.learnerOf,
    readmittingIn: member.readmittingIn,
  }));
  return jsonAnswer(200, { members });
}

async function readmitMember(service: KeyValueService, context: RouteContext): Promise<Answer> {
  parseQuery(context.query, []);
  const { signal } = context;
  const { nodeId, replicaId } = await service.node.readmit(parseNodeId(context.captured), {
    signal,
  });
  return jsonAnswer(200, { node: nodeId, replica: replicaId });
}

function parseNodeId(captured: string): NodeId {
  try {
    return decodeURIComponent(captured);
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    throw badArgument('node', 'the node id in the path is not URL-encoded UTF-8');
  }
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8Text(bytes));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}

/** Live: the process answers and its node has not failed. */
function getHealth(service: KeyValueService): Answer {
  const { state } = service.node.status();
  return jsonAnswer(state === 'failed' ? 503 : 200, { status: state });
}

/** Ready: restored, part of a cluster, and every hosted partition has a known leader. */
function getReadiness(service: KeyValueService): Answer {
  const { state, partitions } = service.node.status();
  const reasons = partitions.flatMap(({ partitionId, leader, stopped }) => {
    if (stopped !== undefined) return [`partition ${partitionId} stopped: ${stopped}`];
    return leader === undefined ? [`partition ${partitionId} has no known leader`] : [];
  });
  if (state !== 'running') reasons.unshift(`the node is ${state}`);
  return jsonAnswer(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons });
}

function parseForward(text: string | undefined): boolean {
  return parseChoice('forward', text, ['true', 'false']) !== 'false';
}

function keyNotFound(key: string, partition: PartitionId): KommanderError {
  return new KommanderError('there is no such key', {
    code: 'KEY_NOT_FOUND',
    details: { key, partitionId: partition },
  });
}

function machineOf(service: KeyValueService, partition: PartitionId): KeyValueMachine {
  return must(service.machines.get(partition), 'every application partition has a machine');
}
