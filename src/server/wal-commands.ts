// `kommander wal`: the commands that look after the store of a stopped node. What they take and explain; what they do is in
// the files beside this one.

import type { Command } from 'commander';
import { KommanderError } from '../base/errors.ts';
import { convertStore } from './wal-convert.ts';
import { type ClosedStore, openClosedStore } from './wal-engines.ts';
import {
  inspectText,
  type Print,
  printEntries,
  reportJson,
  reportOf,
  verifyText,
} from './wal-inspect.ts';
import { parsePeerUrls } from './wal-peers.ts';
import { progressOf } from './wal-progress.ts';
import { repairStore } from './wal-repair.ts';

const verifyExitCodes = { whole: 0, damaged: 1, notChecked: 2 } as const;
const countDefault = 20;
const partitionIdMax = 0x7fff_ffff;

interface InspectOptions {
  readonly partition?: string;
  readonly from?: string;
  readonly count?: string;
  readonly json?: true;
}

/** Adds the commands. `exit` is told the exit code of `verify`, and `report` prints a failure. */
export function addWalCommands(
  program: Command,
  outcome: { readonly exit: (code: number) => void; readonly report: (error: unknown) => void },
): void {
  const wal = program
    .command('wal')
    .summary('look into, check, convert and repair the log of a stopped node')
    .description(
      'Looks after the log store of a stopped node. inspect, verify and convert only read it.',
    )
    .helpCommand(false);

  wal
    .command('inspect')
    .summary('show what a store holds')
    .description(
      'Shows whose store it is and what it holds of each partition, or entries of one. Writes nothing into it.',
    )
    .argument('<DIR>')
    .option('--partition <P>', 'print entries of this partition')
    .option('--from <I>', 'begin with this index (default: the first)')
    .option('--count <N>', `so many entries (default: ${countDefault})`)
    .option('--json', 'as JSON')
    .action(async (path: string, options: InspectOptions) => {
      const range = entryRange(options);
      const isJson = options.json === true;
      await withStore(path, async (store) => {
        if (range !== undefined) return await printEntries(store, range, { isJson, print });
        const report = await reportOf(store, { progress: progressOf('read', say) });
        print(isJson ? reportJson(store, report) : inspectText(store, report));
      });
    });

  wal
    .command('verify')
    .summary('read and check all of a store')
    .description(
      'Reads and checks everything in the store and lists every damaged place. Writes nothing into it. Exits with 0 ' +
        'when it is whole, with 1 when it is damaged, and with 2 when it could not be checked.',
    )
    .argument('<DIR>')
    .option('--json', 'as JSON')
    .action(async (path: string, options: { readonly json?: true }) => {
      try {
        await withStore(path, async (store) => {
          const report = await reportOf(store, { progress: progressOf('read', say) });
          print(options.json ? reportJson(store, report) : verifyText(store, report));
          const { whole, damaged } = verifyExitCodes;
          outcome.exit(report.survey.damageCount === 0 ? whole : damaged);
        });
      } catch (error) {
        outcome.report(error);
        outcome.exit(verifyExitCodes.notChecked);
      }
    });

  wal
    .command('convert')
    .summary('copy a store to another engine')
    .description(
      'Copies the store in FROM into the new directory TO in the format of another engine, reads both again and ' +
        'compares everything. FROM is only read; TO appears when all is done.',
    )
    .argument('<FROM>')
    .argument('<TO>')
    .requiredOption('--engine <NAME>', 'the engine of the new store')
    .action(async (from: string, to: string, options: { readonly engine: string }) => {
      await convertStore({ from, to }, options.engine, say);
    });

  wal
    .command('repair')
    .summary('mend a damaged store with what its peers have committed')
    .description(
      'Replaces damaged entries in the store of a stopped node with those that its running peers have committed. The ' +
        'damaged store is kept as DIR.damaged-1. What cannot be mended safely is refused, and nothing is changed.',
    )
    .argument('<DIR>')
    .requiredOption('--from <URLS>', 'HTTP APIs of running peers: http://10.0.0.2:7101,http://…')
    .action(async (path: string, options: { readonly from: string }) => {
      await repairStore(path, parsePeerUrls(options.from), say);
    });
}

async function withStore(path: string, use: (store: ClosedStore) => Promise<void>): Promise<void> {
  const store = await openClosedStore(path);
  try {
    await use(store);
  } finally {
    await store.close();
  }
}

function entryRange(
  options: InspectOptions,
): { readonly partitionId: number; readonly from: number; readonly count: number } | undefined {
  const partitionId = integerOption('partition', options.partition, {
    min: 0,
    max: partitionIdMax,
  });
  const max = Number.MAX_SAFE_INTEGER;
  const from = integerOption('from', options.from, { min: 1, max });
  const count = integerOption('count', options.count, { min: 1, max });
  if (partitionId !== undefined)
    return { partitionId, from: from ?? 1, count: count ?? countDefault };
  if (from === undefined && count === undefined) return undefined;
  throw badOption('partition', '--from and --count need --partition');
}

function integerOption(
  option: string,
  text: string | undefined,
  { min, max }: { readonly min: number; readonly max: number },
): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw badOption(
    option,
    `--${option}: "${text}" is not valid: expected an integer from ${min} to ${max}`,
  );
}

function badOption(option: string, message: string): KommanderError {
  return new KommanderError(message, { code: 'INVALID_OPTION', details: { option } });
}

const print: Print = (text) => {
  process.stdout.write(text);
};
const say: Print = (text) => {
  process.stderr.write(text);
};
