// The options of `kommander serve`: one table names them, one schema checks them, and they come from flags, from
// `KOMMANDER_*` environment variables and from a JSON file, in this order of precedence. Nothing unknown is let pass:
// a misspelt option that is ignored is worse than a server that does not start.

import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import { isNodeId, nodeIdRule, parseEndpoint } from '../base/endpoint.ts';
import { KommanderError } from '../base/errors.ts';
import { shownJson } from '../base/shown-json.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';
import {
  discoveryFor,
  discoveryForms,
  isDiscoveryOption,
  isIdList,
  type MemberList,
  withoutPassword,
} from './discovery-option.ts';

/** How an option is called and explained. */
export interface OptionEntry {
  /** In the JSON file; flag and variable follow from it. */
  readonly name: ServeOptionName;
  /** What stands for the value in the help; absent: a switch. */
  readonly placeholder: string | undefined;
  readonly help: string;
}

export type ServeOptionName = keyof ServeOptions;

export const logLevels = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];
export const walNames = ['rocksdb', 'segment', 'sqlite', 'memory'] as const;
export type WalName = (typeof walNames)[number];

const snapshotSources = ['leader', 'followers'] as const;

/** What a server needs to know; checked and complete. */
export interface ServeOptions {
  readonly nodeId: NodeId;
  readonly members: MemberList;
  readonly listen: Endpoint;
  /** Where others reach this node. */
  readonly advertise: Endpoint;
  /** A form of `discovery-option.ts`. */
  readonly discovery: string;
  readonly http: Endpoint;
  readonly data: string | undefined;
  readonly wal: WalName;
  readonly partitions: number;
  readonly tickMs: number;
  readonly electionTicks: number;
  readonly checkpointBytes: number;
  readonly snapshotsFrom: (typeof snapshotSources)[number];
  readonly logLevel: LogLevel;
  readonly stopWithParent: boolean;
}

/** Every option but `--config`, in the order of the help. */
export const serveOptionTable: readonly OptionEntry[] = [
  { name: 'nodeId', placeholder: 'ID', help: `this node, one of the members; ${nodeIdRule}` },
  {
    name: 'members',
    placeholder: 'LIST',
    help: 'all first members, the same on every node: a=127.0.0.1:8001,b=127.0.0.1:8002,… or a,b,… where discovery finds them',
  },
  {
    name: 'listen',
    placeholder: 'HOST:PORT',
    help: 'where this node listens for others (default: what the member list says, otherwise 127.0.0.1:8001)',
  },
  {
    name: 'advertise',
    placeholder: 'HOST:PORT',
    help: 'where others reach this node (default: what the member list says, otherwise --listen)',
  },
  {
    name: 'discovery',
    placeholder: 'HOW',
    help: `how nodes find each other: ${discoveryForms} (default: static, the member list)`,
  },
  {
    name: 'http',
    placeholder: 'HOST:PORT',
    help: 'where the HTTP API listens; port 0 takes a free one (default: 127.0.0.1:7101)',
  },
  {
    name: 'data',
    placeholder: 'DIR',
    help: 'directory of the durable log; required unless --wal memory',
  },
  {
    name: 'wal',
    placeholder: 'ENGINE',
    help: 'rocksdb (default), segment, sqlite: durable; memory: lost with the process',
  },
  {
    name: 'partitions',
    placeholder: 'N',
    help: 'application partitions, 1 to 65535, the same on every node (default: 8)',
  },
  { name: 'tickMs', placeholder: 'MS', help: 'milliseconds of a tick, 5 to 10000 (default: 50)' },
  {
    name: 'electionTicks',
    placeholder: 'N',
    help: 'ticks without a leader before an election, 3 to 10000 (default: 20)',
  },
  {
    name: 'checkpointBytes',
    placeholder: 'BYTES',
    help: 'log of a partition, in bytes, after which it is compacted, 64 KiB to 1 TiB (default: 64 MiB)',
  },
  {
    name: 'snapshotsFrom',
    placeholder: 'WHO',
    help: 'who sends snapshots to replicas that lag: leader (default), or followers, to spare it',
  },
  { name: 'logLevel', placeholder: 'LEVEL', help: `${logLevels.join(', ')} (default: info)` },
  {
    name: 'stopWithParent',
    placeholder: undefined,
    help: 'stop when the standard input ends: with the process that started this one',
  },
];

/** `nodeId` → `--node-id`. */
export function flagOf(name: string): string {
  return `--${kebabCase(name)}`;
}

/** `nodeId` → `KOMMANDER_NODE_ID`. */
export function variableOf(name: string): string {
  return `KOMMANDER_${kebabCase(name).replaceAll('-', '_').toUpperCase()}`;
}

const configName = 'config';

/** All flags, for messages. */
const serveFlags: string = [...serveOptionTable.map(({ name }) => name), configName]
  .map(flagOf)
  .join(', ');

export interface OptionSources {
  /** Flags as given, by camelCase name; `config` among them. */
  readonly flags: Readonly<Record<string, string | boolean | undefined>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Reads the config file; default: the file system. */
  readonly readText?: (path: string) => string;
}

/**
 * Gathers and checks the options.
 *
 * @throws INVALID_OPTION the message names every bad option, its value, where it came from, and the valid ones
 */
export function readServeOptions(sources: OptionSources): ServeOptions {
  const { flags, environment, readText = (path: string) => readFileSync(path, 'utf8') } = sources;
  checkVariables(environment);
  const configPath = flags[configName]?.toString() ?? environment[variableOf(configName)];
  const file = configPath === undefined ? {} : readConfig(configPath, readText);

  const given: Record<string, unknown> = { ...file };
  const origins = new Map<string, string>();
  for (const name of Object.keys(file)) origins.set(name, `"${name}" in ${configPath}`);
  for (const { name } of serveOptionTable) {
    const [flag, variable] = [flags[name], environment[variableOf(name)]];
    if (flag !== undefined) origins.set(name, flagOf(name));
    else if (variable !== undefined) origins.set(name, variableOf(name));
    const value = flag ?? variable;
    if (value !== undefined) given[name] = value;
  }
  const parsed = v.safeParse(serveSchema, given);
  if (parsed.success) return completed(parsed.output);
  throw badOptions(
    parsed.issues.map((issue) => {
      const name = optionOf(issue);
      const origin = origins.get(name) ?? flagOf(name);
      if (issue.type === 'strict_object' && issue.expected === 'never') {
        return { name, problem: `${origin}: there is no such option` };
      }
      if (given[name] === undefined) return { name, problem: `${origin} is required` };
      const value = given[name];
      const isUrl = name === 'discovery' && typeof value === 'string';
      const text = shownJson(isUrl ? withoutPassword(value) : value, 200);
      return { name, problem: `${origin}: ${text} is not valid: ${issue.message}` };
    }),
  );
}

/** The option that an issue is about. */
export function optionOf(issue: v.BaseIssue<unknown>): string {
  const key = issue.path?.[0]?.key;
  return typeof key === 'string' ? key : '';
}

function integerOption(min: number, max: number): v.GenericSchema<unknown, number> {
  const expected = `expected an integer from ${min} to ${max}`;
  return v.pipe(
    v.union([v.number(), v.pipe(v.string(), v.digits(), v.transform(Number))], expected),
    v.integer(expected),
    v.minValue(min, expected),
    v.maxValue(max, expected),
  );
}

function choiceOption<const Choices extends readonly string[]>(
  choices: Choices,
): v.GenericSchema<unknown, Choices[number]> {
  return v.picklist(choices, `expected one of ${choices.join(', ')}`);
}

function endpointOption(portMin: 0 | 1): v.GenericSchema<unknown, Endpoint> {
  const expected = `expected host:port or [IPv6]:port${portMin === 0 ? '' : ' with a port above 0'}`;
  return v.pipe(
    v.string(expected),
    v.check((text) => isEndpoint(text, portMin), expected),
  );
}

const membersExpected =
  'expected id=host:port,id=host:port,… with different ids and endpoints (in the file: {"id": "host:port", …}), or id,id,… (in the file: ["id", …])';

const membersOption: v.GenericSchema<unknown, MemberList> = v.pipe(
  v.union(
    [
      v.pipe(v.string(), v.transform(parseMemberList)),
      v.array(v.string()),
      v.record(v.string(), v.string()),
    ],
    membersExpected,
  ),
  v.check((members) => areMembers(members), membersExpected),
);

const discoveryExpected = `expected one of ${discoveryForms}`;

const serveSchema = v.strictObject({
  nodeId: v.pipe(v.string(`expected ${nodeIdRule}`), v.check(isNodeId, `expected ${nodeIdRule}`)),
  members: membersOption,
  listen: v.optional(endpointOption(1)),
  advertise: v.optional(endpointOption(1)),
  discovery: v.optional(
    v.pipe(v.string(discoveryExpected), v.check(isDiscoveryOption, discoveryExpected)),
    'static',
  ),
  http: v.optional(endpointOption(0), '127.0.0.1:7101'),
  data: v.optional(v.pipe(v.string(), v.minLength(1, 'expected the path of a directory'))),
  wal: v.optional(choiceOption(walNames), 'rocksdb'),
  partitions: v.optional(integerOption(1, 65_535), 8),
  tickMs: v.optional(integerOption(5, 10_000), 50),
  electionTicks: v.optional(integerOption(3, 10_000), 20),
  checkpointBytes: v.optional(integerOption(65_536, 1_099_511_627_776), 67_108_864),
  snapshotsFrom: v.optional(choiceOption(snapshotSources), 'leader'),
  logLevel: v.optional(choiceOption(logLevels), 'info'),
  stopWithParent: v.optional(
    v.union(
      [
        v.boolean(),
        v.pipe(
          v.picklist(['true', 'false']),
          v.transform((text) => text === 'true'),
        ),
      ],
      'expected true or false',
    ),
    false,
  ),
});

/** What one option cannot know of another. */
function completed(checked: v.InferOutput<typeof serveSchema>): ServeOptions {
  const { nodeId, members, discovery, wal, data } = checked;
  const ids = idsOf(members);
  if (!ids.includes(nodeId)) {
    const problem = `--node-id: "${nodeId}" is not among the members (${ids.join(', ')})`;
    throw badOptions([{ name: 'nodeId', problem }]);
  }
  if (wal !== 'memory' && data === undefined) {
    const problem = `--data is required with --wal ${wal}: the directory of the durable log`;
    throw badOptions([{ name: 'data', problem }]);
  }
  discoveryFor(discovery, members);
  const listed = isIdList(members)
    ? undefined
    : Object.entries(members).find(([id]) => id === nodeId)?.[1];
  const listen = checked.listen ?? listed ?? '127.0.0.1:8001';
  return { ...checked, data, listen, advertise: checked.advertise ?? listed ?? listen };
}

function checkVariables(environment: Readonly<Record<string, string | undefined>>): void {
  const known = [...serveOptionTable.map(({ name }) => name), configName].map(variableOf);
  const unknown = Object.keys(environment).filter(
    (name) => name.startsWith('KOMMANDER_') && !known.includes(name),
  );
  if (unknown.length === 0) return;
  throw new KommanderError(
    `unknown environment variable ${unknown.join(', ')}\nvalid variables: ${known.join(', ')}`,
    { code: 'INVALID_OPTION', details: { option: unknown[0] } },
  );
}

function readConfig(path: string, readText: (path: string) => string): Record<string, unknown> {
  const fail = (problem: string, cause?: unknown): KommanderError =>
    new KommanderError(`--config: ${path} ${problem}`, {
      code: 'INVALID_OPTION',
      details: { option: configName, value: path },
      cause,
    });
  let parsed: unknown;
  try {
    parsed = JSON.parse(readText(path));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof SyntaxError) throw fail(`is no JSON: ${reason}`, error);
    throw fail(`cannot be read: ${reason}`, error);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw fail('must hold one JSON object');
  }
  return { ...parsed };
}

function badOptions(
  problems: readonly { readonly name: string; readonly problem: string }[],
): KommanderError {
  const lines = [...new Set(problems.map(({ problem }) => problem))];
  return new KommanderError(`${lines.join('\n')}\nvalid options: ${serveFlags}`, {
    code: 'INVALID_OPTION',
    details: { option: problems[0]?.name },
  });
}

function parseMemberList(text: string): MemberList {
  if (!text.includes('=')) return text.split(',').map((part) => part.trim());
  const members = new Map<string, string>();
  for (const part of text.split(',')) {
    const [nodeId = '', endpoint = ''] = part.trim().split('=', 2);
    if (members.has(nodeId)) return {};
    members.set(nodeId, endpoint);
  }
  return Object.fromEntries(members);
}

function idsOf(members: MemberList): readonly NodeId[] {
  return isIdList(members) ? members : Object.keys(members);
}

function areMembers(members: MemberList): boolean {
  const ids = idsOf(members);
  const endpoints = isIdList(members) ? [] : Object.values(members);
  return (
    ids.length > 0 &&
    ids.every(isNodeId) &&
    new Set(ids).size === ids.length &&
    endpoints.every((endpoint) => isEndpoint(endpoint, 1)) &&
    new Set(endpoints).size === endpoints.length
  );
}

function isEndpoint(text: string, portMin: 0 | 1): boolean {
  try {
    parseEndpoint(text, { option: 'endpoint', portMin });
    return true;
  } catch (error) {
    if (error instanceof KommanderError) return false;
    throw error;
  }
}

function kebabCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
