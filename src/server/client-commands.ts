// Small client commands against a running server: status, put, get, delete, transfer, members. They speak the HTTP API and
// print its errors as they are, with what the caller needs to know before trying again.

import type { Command } from 'commander';
import { isErrorCode, isErrorDetails, KommanderError } from '../base/errors.ts';
import type { HttpErrorBody } from './http-errors.ts';
import { alignedLines } from './table.ts';
import { withoutSlashes } from './urls.ts';

const defaultUrl = 'http://127.0.0.1:7101';
/** Milliseconds until a request is given up: longer than any wait inside the server. */
const requestMsMax = 30_000;

export interface Target {
  readonly http: string;
}

/** Adds the commands to the program. */
export function addClientCommands(program: Command): void {
  addCommand(program, 'status', 'show a node and its partitions')
    .option('--json', 'as JSON')
    .action(async (options: Target & { json?: true }) => {
      const status = await request(options, '/v1/status');
      const text = await status.text();
      print(options.json ? text : statusTable(JSON.parse(text) as StatusJson));
    });

  addCommand(program, 'put', 'write a key; without VALUE the value is read from standard input')
    .argument('<KEY>')
    .argument('[VALUE]')
    .option('--if-index <N>', 'only if the key was last written at this index (0: does not exist)')
    .action(async (key: string, value: string | undefined, options: Target & Conditional) => {
      const body = value ?? (await standardInput());
      const init = { method: 'PUT', body };
      print(await (await request(options, keyPath(key, options), init)).text());
    });

  addCommand(program, 'get', 'print the value of a key, byte by byte')
    .argument('<KEY>')
    .option('--consistency <LEVEL>', 'linearizable or local', 'linearizable')
    .action(async (key: string, options: Target & { consistency: string }) => {
      const query = `?consistency=${encodeURIComponent(options.consistency)}`;
      const response = await request(options, `/v1/kv/${encodeURIComponent(key)}${query}`);
      print(new Uint8Array(await response.arrayBuffer()));
    });

  addCommand(program, 'delete', 'delete a key')
    .argument('<KEY>')
    .option('--if-index <N>', 'only if the key was last written at this index')
    .action(async (key: string, options: Target & Conditional) => {
      const init = { method: 'DELETE' };
      print(await (await request(options, keyPath(key, options), init)).text());
    });

  addCommand(program, 'transfer', 'move the leadership of a partition to another node')
    .argument('<PARTITION>')
    .argument('<NODE>')
    .action(async (partition: string, to: string, options: Target) => {
      const path = `/v1/partitions/${encodeURIComponent(partition)}/transfer`;
      const init = { method: 'POST', body: JSON.stringify({ to }) };
      print(await (await request(options, path, init)).text());
    });

  const members = addCommand(
    program,
    'members',
    'show the members and what each is in which partition',
  )
    .option('--json', 'as JSON')
    .action(async (options: Target & { json?: true }) => {
      const text = await (await request(options, '/v1/members')).text();
      print(options.json ? text : membersTable(JSON.parse(text) as MembersJson));
    });
  members
    .command('readmit')
    .description('take a node back whose disk was emptied; it runs with its empty directory')
    .argument('<NODE>')
    .action(async (nodeId: string, _options: object, command: Command) => {
      const options = command.optsWithGlobals<Target>();
      const path = `/v1/members/${encodeURIComponent(nodeId)}/readmit`;
      print(await (await request(options, path, { method: 'POST' })).text());
    });
}

interface Conditional {
  readonly ifIndex?: string;
}

export function addCommand(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--http <URL>', 'any node of the cluster', defaultUrl);
}

function keyPath(key: string, { ifIndex }: Conditional): string {
  const query = ifIndex === undefined ? '' : `?if-index=${encodeURIComponent(ifIndex)}`;
  return `/v1/kv/${encodeURIComponent(key)}${query}`;
}

interface RequestInput {
  readonly method?: string;
  readonly body?: string | Uint8Array<ArrayBuffer>;
  /** Default: gives up after 30 seconds. */
  readonly signal?: AbortSignal;
}

/** @throws KommanderError as the server says, or TRANSPORT_FAILED / OUTCOME_UNKNOWN when there is no answer */
export async function request(
  target: Target,
  path: string,
  init: RequestInput = {},
): Promise<Response> {
  const url = baseUrl(target.http) + path;
  let response: Response;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(requestMsMax), ...init });
  } catch (error) {
    throw noAnswer(target.http, error);
  }
  if (response.ok) return response;
  throw await failureOf(target.http, response);
}

/** What the server says; or that it is no node: then a proxy may have answered after the node had done what was asked. */
async function failureOf(url: string, response: Response): Promise<KommanderError> {
  let body: unknown;
  try {
    body = await response.json();
  } catch (error) {
    if (!(error instanceof SyntaxError)) return noAnswer(url, error);
  }
  const { code, message, details } = (body ?? {}) as {
    readonly [Name in keyof HttpErrorBody]?: unknown;
  };
  if (isErrorCode(code) && typeof message === 'string')
    return new KommanderError(message, { code, details: isErrorDetails(details) ? details : {} });
  return new KommanderError(
    `${url} answers with status ${response.status} and not as a node does: check the address, and what stands before the node`,
    { code: 'OUTCOME_UNKNOWN', details: { status: response.status } },
  );
}

function baseUrl(text: string): string {
  const withScheme = /^https?:\/\//.test(text) ? text : `http://${text}`;
  if (URL.canParse(withScheme)) return withoutSlashes(withScheme);
  throw new KommanderError(`--http: "${text}" is no URL such as ${defaultUrl}`, {
    code: 'INVALID_OPTION',
    details: { option: 'http', value: text },
  });
}

function noAnswer(url: string, error: unknown): KommanderError {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  const isRefused = cause instanceof Error && 'code' in cause && cause.code === 'ECONNREFUSED';
  return isRefused
    ? new KommanderError(`nothing listens at ${url}; is a node running?`, {
        code: 'TRANSPORT_FAILED',
      })
    : new KommanderError(`${url} did not answer`, { code: 'OUTCOME_UNKNOWN', cause });
}

async function standardInput(): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Uint8Array);
  return Uint8Array.from(Buffer.concat(chunks));
}

function print(output: string | Uint8Array): void {
  process.stdout.write(output);
}

interface StatusJson {
  readonly node: string;
  readonly clusterId: string;
  readonly state: string;
  readonly roster: readonly { node: string; endpoint: string | null; reachable: boolean }[];
  readonly partitions: readonly Readonly<Record<string, string | number | null>>[];
}

function statusTable(status: StatusJson): string {
  const columns = [
    'partition',
    'role',
    'term',
    'leader',
    'commitIndex',
    'lastApplied',
    'lastIndex',
  ];
  const rows = status.partitions.map((each) => columns.map((name) => String(each[name] ?? '-')));
  const roster = status.roster.map(
    ({ node, endpoint, reachable }) =>
      `${node}=${endpoint ?? '?'}${reachable ? '' : ' (unreachable)'}`,
  );
  return [
    `node ${status.node} is ${status.state}, cluster ${status.clusterId}`,
    `members: ${roster.join(', ')}`,
    ...alignedLines([columns, ...rows]),
    '',
  ].join('\n');
}

interface MembersJson {
  readonly members: readonly {
    readonly node: string;
    readonly replica: number;
    readonly endpoint: string | null;
    readonly reachable: boolean;
    readonly refused: boolean;
    readonly voterOf: readonly number[];
    readonly learnerOf: readonly number[];
    readonly readmittingIn: readonly number[];
  }[];
}

function membersTable({ members }: MembersJson): string {
  const columns = ['node', 'replica', 'endpoint', 'state', 'voter', 'learner', 'readmitting'];
  const rows = members.map((member) => [
    member.node,
    String(member.replica),
    member.endpoint ?? '?',
    memberState(member),
    idsText(member.voterOf),
    idsText(member.learnerOf),
    idsText(member.readmittingIn),
  ]);
  return [...alignedLines([columns, ...rows]), ''].join('\n');
}

function memberState({ reachable, refused }: MembersJson['members'][number]): string {
  if (!reachable) return 'unreachable';
  return refused ? 'refused' : 'reachable';
}

/** Ascending partition ids, runs of them in short. */
function idsText(ids: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const id of ids) {
    const run = runs.at(-1);
    if (run !== undefined && run[1] === id - 1) run[1] = id;
    else runs.push([id, id]);
  }
  const texts = runs.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`));
  return texts.join(',') || '-';
}
