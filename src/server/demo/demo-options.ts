// The options of `kommander demo`, checked before anything is started.

import * as v from 'valibot';
import { KommanderError } from '../../base/errors.ts';
import { flagOf, optionOf, type WalName, walNames } from '../serve-options.ts';

export interface DemoOptions {
  /** Seconds of load; undefined: until it is told to stop. */
  readonly seconds: number | undefined;
  /** Seconds between two kills of a leader; undefined: none is killed. */
  readonly killLeaderEvery: number | undefined;
  /** Only the summary on standard output, as one line of JSON. */
  readonly json: boolean;
  readonly wal: WalName;
  readonly partitions: number;
  /** Under it every run makes its own directory. */
  readonly data: string;
  readonly clients: number;
  /** How the nodes find each other. */
  readonly discovery: 'static' | 'multicast';
}

/** Flags, in the order of the help. */
export const demoOptionTable: readonly {
  readonly name: keyof DemoOptions;
  readonly placeholder: string | undefined;
  readonly help: string;
}[] = [
  {
    name: 'seconds',
    placeholder: 'N',
    help: 'seconds of load, 1 to 86400 (default: until Ctrl-C)',
  },
  {
    name: 'killLeaderEvery',
    placeholder: 'S',
    help: 'kill -9 a node that leads a partition every S seconds, 1 to 3600, and restart it',
  },
  { name: 'json', placeholder: undefined, help: 'print only the summary, as one line of JSON' },
  {
    name: 'wal',
    placeholder: 'ENGINE',
    help: 'rocksdb (default), segment, sqlite: durable; memory: without a disk',
  },
  { name: 'partitions', placeholder: 'N', help: 'partitions, 1 to 1024 (default: 8)' },
  { name: 'data', placeholder: 'DIR', help: 'where runs keep their data (default: ./.kommander)' },
  { name: 'clients', placeholder: 'N', help: 'concurrent writers, 1 to 1024 (default: 64)' },
  {
    name: 'discovery',
    placeholder: 'HOW',
    help: 'how the nodes find each other: static (default), or multicast on the loopback interface',
  },
];

function integer(min: number, max: number): v.GenericSchema<unknown, number> {
  const expected = `expected an integer from ${min} to ${max}`;
  return v.pipe(
    v.string(expected),
    v.regex(/^\d{1,6}$/, expected),
    v.transform(Number),
    v.minValue(min, expected),
    v.maxValue(max, expected),
  );
}

const demoSchema = v.strictObject({
  seconds: v.optional(integer(1, 86_400)),
  killLeaderEvery: v.optional(integer(1, 3_600)),
  json: v.optional(v.boolean(), false),
  wal: v.optional(v.picklist(walNames, `expected one of ${walNames.join(', ')}`), 'rocksdb'),
  partitions: v.optional(integer(1, 1_024), '8'),
  data: v.optional(v.pipe(v.string(), v.minLength(1, 'expected a directory')), '.kommander'),
  clients: v.optional(integer(1, 1_024), '64'),
  discovery: v.optional(
    v.picklist(['static', 'multicast'], 'expected static or multicast'),
    'static',
  ),
});

/** @throws INVALID_OPTION the message names every bad option, its value and the valid ones */
export function readDemoOptions(flags: Readonly<Record<string, unknown>>): DemoOptions {
  const parsed = v.safeParse(demoSchema, flags);
  if (!parsed.success) {
    const lines = parsed.issues.map((issue) => {
      const name = optionOf(issue);
      return `${flagOf(name)}: ${JSON.stringify(flags[name])} is not valid: ${issue.message}`;
    });
    throw badOption(lines.join('\n'), optionOf(parsed.issues[0]));
  }
  const { seconds, killLeaderEvery, ...rest } = parsed.output;
  if (killLeaderEvery !== undefined && rest.wal === 'memory') {
    throw badOption(
      '--kill-leader-every cannot be used with --wal memory: a killed node forgets everything that it\n' +
        'acknowledged, its votes too, so that losing data would be the expected result. Use a durable engine.',
      'killLeaderEvery',
    );
  }
  return { seconds, killLeaderEvery, ...rest };
}

function badOption(problem: string, option: string): KommanderError {
  const valid = demoOptionTable.map(({ name }) => flagOf(name)).join(', ');
  return new KommanderError(`${problem}\nvalid options: ${valid}`, {
    code: 'INVALID_OPTION',
    details: { option },
  });
}
