// `kommander backup` and `kommander restore`: a copy of a running node in a directory, and the data directories of the
// first members of a new cluster from it. What they mean is decided in src/host/backup*.ts.

import { mkdir, readdir } from 'node:fs/promises';
import type { Command } from 'commander';
import { KommanderError } from '../base/errors.ts';
import { type BackupManifest, formatTimestamp, restoreBackup, saveBackup } from '../index.ts';
import { addCommand, request, type Target } from './client-commands.ts';
import { isIdList } from './discovery-option.ts';
import { type OptionEntry, readServeOptions, serveOptionTable } from './serve-options.ts';

interface BackupFlags extends Target {
  readonly out: string;
}

interface RestoreFlags extends Readonly<Record<string, string | undefined>> {
  readonly from: string;
}

/** What of `serve` says where a member keeps its log, and who the members are. */
const restoreOptions: ReadonlySet<string> = new Set([
  'nodeId',
  'members',
  'discovery',
  'data',
  'wal',
]);

/** Adds the commands; `addOptions` gives a command options of `serve`. */
export function addBackupCommands(
  program: Command,
  addOptions: (command: Command, table: readonly OptionEntry[]) => void,
): void {
  addCommand(program, 'backup', 'copy all partitions of a running node to a new directory')
    .requiredOption('--out <DIR>', 'the directory; it must not be there yet')
    .action(runBackup);

  const restore = program
    .command('restore')
    .summary('fill the data directory of a first member of a new cluster from a backup')
    .description(
      'Fills the empty data directory of one first member of a new cluster from a backup. Do it for every first ' +
        'member, with the same backup and the same members, then start them with `kommander serve`. The new cluster ' +
        'has an id of its own: nodes of the old one cannot join it.',
    )
    .requiredOption('--from <DIR>', 'what `kommander backup` wrote');
  addOptions(
    restore,
    serveOptionTable.filter(({ name }) => restoreOptions.has(name)),
  );
  restore.action(runRestore);
}

async function runBackup({ out, ...target }: BackupFlags): Promise<void> {
  // A large copy takes its time, and an interrupted one leaves nothing behind.
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, interrupt);
  const { signal } = interrupted;
  const response = await request(target, '/v1/backup', { method: 'POST', signal });
  process.stdout.write(summary(out, await saveBackup(received(response, target.http), out)));
}

async function* received(response: Response, url: string): AsyncGenerator<Uint8Array, undefined> {
  try {
    if (response.body !== null) yield* response.body;
  } catch (error) {
    throw new KommanderError(
      `the connection to ${url} was lost before the backup was whole; try again`,
      {
        code: 'TRANSPORT_FAILED',
        cause: error,
      },
    );
  }
}

function summary(
  out: string,
  { partitions, nodeId, clusterId, timestamp }: BackupManifest,
): string {
  const byteLength = partitions.reduce((sum, partition) => sum + partition.byteLength, 0);
  return (
    `backup of node ${nodeId}, cluster ${clusterId}, in ${out}\n` +
    `${partitions.length} partitions, ${byteLength} bytes, everything acknowledged by ${formatTimestamp(timestamp)}\n`
  );
}

async function runRestore({ from, ...flags }: RestoreFlags): Promise<void> {
  const options = readServeOptions({ flags, environment: process.env });
  const { nodeId, members, discovery, data, wal } = options;
  if (data !== undefined) await checkEmpty(data);
  const { openWal } = await import('./serve.ts');
  const restored = await restoreBackup({ directory: from, wal: openWal(options), nodeId, members });
  const memberList = isIdList(members)
    ? members
    : Object.entries(members).map(([id, endpoint]) => `${id}=${endpoint}`);
  process.stdout.write(
    `restored node ${nodeId} of cluster ${restored.clusterId}; when every member is, start it with\n` +
      `  kommander serve --node-id ${nodeId} --data ${data} --wal ${wal} --partitions ${restored.partitions} --members ${memberList.join()} --discovery '${discovery}'\n`,
  );
}

async function checkEmpty(path: string): Promise<void> {
  const bad = (problem: string): KommanderError =>
    new KommanderError(`--data: ${path} ${problem}; restore into a new directory`, {
      code: 'INVALID_OPTION',
      details: { option: 'data', value: path },
    });
  let names: readonly string[];
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    names = await readdir(path);
  } catch (error) {
    throw bad(`cannot be used (${error instanceof Error ? error.message : String(error)})`);
  }
  if (names.length > 0) throw bad('is not empty');
}
