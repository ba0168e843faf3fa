// The commands of `kommander`: what each is called, takes and explains. What they do is elsewhere. Exit codes: 0 done,
// 1 failed, 2 the command line was wrong.

import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import { KommanderError } from '../base/errors.ts';
import { addBackupCommands } from './backup-commands.ts';
import { addClientCommands } from './client-commands.ts';
import { demoOptionTable, readDemoOptions } from './demo/demo-options.ts';
import { addReplay } from './replay.ts';
import { flagOf, type OptionEntry, readServeOptions, serveOptionTable } from './serve-options.ts';
import { addWalCommands } from './wal-commands.ts';

const exitCodes = { done: 0, failed: 1, usage: 2 } as const;

/**
 * Runs one command line; sets the exit code, or ends the process when a server has stopped.
 *
 * @param argv      as in `process.argv`
 * @param entryFile the script that was started, for commands that start themselves again
 */
export async function runCommandLine(argv: readonly string[], entryFile: string): Promise<void> {
  try {
    await buildProgram(entryFile).parseAsync([...argv]);
  } catch (error) {
    process.exitCode = reportFailure(error);
  }
}

function buildProgram(entryFile: string): Command {
  const program = new Command('kommander')
    .description(
      'Distributed consensus for Node.js: a replicated key-value store, its demo and client.',
    )
    .version(packageVersion())
    .helpCommand(false)
    .exitOverride();
  addServe(program);
  addDemo(program, entryFile);
  addClientCommands(program);
  addBackupCommands(program, addOptions);
  addReplay(program, (exitCode) => {
    process.exitCode = exitCode;
  });
  addWalCommands(program, {
    exit: (exitCode) => {
      process.exitCode = exitCode;
    },
    report: reportFailure,
  });
  for (const command of program.commands.flatMap((each) => [each, ...each.commands])) {
    const flags = command.options.map((option) => option.long).join(', ');
    const group = command.parent === program ? '' : `${command.parent?.name()} `;
    const help = `kommander ${group}${command.name()} --help`;
    command.exitOverride().showHelpAfterError(`valid options: ${flags}; see: ${help}`);
  }
  return program;
}

/** The version in package.json, which is two folders up from here, in the sources and in what is built. */
function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { readonly version: string }).version;
}

function addServe(program: Command): void {
  const command = program
    .command('serve')
    .summary('run one node with a key-value store behind HTTP')
    .description(
      'Runs one node of a cluster with a replicated key-value store behind HTTP. On SIGTERM or SIGINT it answers ' +
        'what is under way, hands leadership over and exits with 0.\n\n' +
        'Every option is also an environment variable (KOMMANDER_NODE_ID) and a key of the JSON file (nodeId). ' +
        'A flag wins over a variable, and a variable over the file.',
    );
  addOptions(command, serveOptionTable);
  command.option('--config <FILE>', 'JSON file with options');
  command.addHelpText(
    'after',
    '\nExample:\n' +
      '  kommander serve --node-id a --http 127.0.0.1:7101 --data ./data/a \\\n' +
      '    --members a=127.0.0.1:8001,b=127.0.0.1:8002,c=127.0.0.1:8003',
  );
  command.action(async (flags: Record<string, string | boolean>) => {
    const options = readServeOptions({ flags, environment: process.env });
    const { runServe } = await import('./serve.ts');
    // What the server listened to (signals, its standard input) must not keep a failed process alive.
    process.exit(await runServe(options).catch(reportFailure));
  });
}

function addDemo(program: Command, entryFile: string): void {
  const command = program
    .command('demo')
    .summary('run a three-node cluster on this machine and watch it')
    .description(
      'Starts three nodes as processes on this machine, writes to all partitions from many clients, reads back, ' +
        'and at the end checks that every acknowledged write is there. Ctrl-C ends it.',
    );
  addOptions(command, demoOptionTable);
  command.action(async (flags: Record<string, unknown>) => {
    const options = readDemoOptions(flags);
    const { runDemo } = await import('./demo/demo.ts');
    process.exitCode = await runDemo(options, entryFile);
  });
}

function addOptions(
  command: Command,
  table: readonly (Omit<OptionEntry, 'name'> & { readonly name: string })[],
): void {
  for (const { name, placeholder, help } of table) {
    const value = placeholder === undefined ? '' : ` <${placeholder}>`;
    command.addOption(new Option(`${flagOf(name)}${value}`, help));
  }
}

/** Tells the user what went wrong and returns the exit code. */
function reportFailure(error: unknown): number {
  if (error instanceof CommanderError)
    return error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
  if (error instanceof KommanderError) {
    process.stderr.write(`kommander: ${error.message} (${error.code})\n${causeLine(error)}`);
    return error.code === 'INVALID_OPTION' ? exitCodes.usage : exitCodes.failed;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`kommander: unexpected error: ${text}\n`);
  return exitCodes.failed;
}

function causeLine(error: KommanderError): string {
  return error.cause instanceof Error ? `  cause: ${error.cause.message}\n` : '';
}
