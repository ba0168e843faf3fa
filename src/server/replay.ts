// `kommander replay`: reads the evidence that a stopped replica left, does it again on a fresh core, and shows what the
// core decided, input by input. At the end it says whether the failure came again.

import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { KommanderError } from '../base/errors.ts';
import {
  type EvidenceBundle,
  type EvidenceOutcome,
  type EvidenceRound,
  parseEvidence,
  replayEvidence,
} from '../index.ts';

interface ReplayOptions {
  readonly from?: string;
  readonly json?: true;
}

/** Adds the command. `exit` is told the exit code: 0 when the replay went as it was recorded, 1 otherwise. */
export function addReplay(program: Command, exit: (code: number) => void): void {
  program
    .command('replay')
    .summary('do again what a stopped replica did last, and show its decisions')
    .description(
      'Reads the evidence that a replica left when it stopped (a file in the folder "evidence" of its data ' +
        'directory), does the recorded inputs again on a fresh core, and shows for each what the core decided. ' +
        'Exits with 0 when the same failure came again and the core ended in the recorded state, with 1 otherwise.',
    )
    .argument('<FILE>')
    .option('--from <N>', 'show the inputs from this number on; all are done')
    .option('--json', 'as lines of JSON')
    .action((file: string, options: ReplayOptions) => {
      exit(runReplay(file, options) ? 0 : 1);
    });
}

/** @returns whether everything was as it was recorded */
function runReplay(file: string, options: ReplayOptions): boolean {
  const from = firstNumber(options.from);
  const bundle = readBundle(file);
  const print = printer();
  if (!options.json) print(heading(bundle));
  const outcome = replayEvidence(bundle, (round) => {
    if (lastNumber(round) < from) return;
    print(options.json ? jsonLines(round) : textOf(round));
  });
  const isAsRecorded =
    (outcome.kind === 'reproduced' || outcome.kind === 'clean') && outcome.differences.length === 0;
  print(options.json ? jsonOutcome(outcome) : verdict(bundle, outcome));
  return isAsRecorded;
}

function firstNumber(text: string | undefined): number {
  if (text === undefined) return 1;
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw new KommanderError(`--from: "${text}" is no number of an input, such as 120`, {
    code: 'INVALID_OPTION',
    details: { option: 'from', value: text },
  });
}

function readBundle(file: string): EvidenceBundle {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new KommanderError(`the file cannot be read: ${reason}; check the path`, {
      code: 'INVALID_ARGUMENT',
      details: { argument: 'FILE' },
    });
  }
  return parseEvidence(text);
}

/** Writes to standard output, and ends the process when nobody reads any more: `kommander replay FILE | head`. */
function printer(): (text: string) => void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
  return (text) => {
    process.stdout.write(text);
  };
}

function lastNumber({ number, times, steps }: EvidenceRound): number {
  return number + times * steps.length - 1;
}

function heading(bundle: EvidenceBundle): string {
  const { nodeId, partitionId, incarnation, clusterId, libraryVersion, failure, record } = bundle;
  const { begin, config } = record;
  const members = Object.entries(bundle.replicaIds).map(([name, id]) => `${name}=${id}`);
  const lines = [
    `evidence of node ${nodeId}, partition ${partitionId}, taken ${new Date(bundle.takenAtMs).toISOString()}`,
    `kommander ${libraryVersion ?? 'of an unknown version'}, cluster ${clusterId}, start ${incarnation} of the node`,
    `replicas: ${members.join(' ')}; this one is ${config.id}`,
    failure === undefined ? 'nothing had failed' : `stopped: ${failure.name}: ${failure.message}`,
    `begins as ${begin.role} of term ${begin.currentTerm}: lastIndex ${begin.log.lastIndex}, ` +
      `commitIndex ${begin.log.commitIndex}, appliedIndex ${begin.log.appliedIndex}`,
  ];
  return `${lines.join('\n')}\n\n`;
}

function textOf(round: EvidenceRound): string {
  const { number, times, steps } = round;
  const lines = steps.flatMap(({ input, decisions }, position) => [
    `#${number + position} ${input}`,
    ...decisions.map((decision) => `    ${decision}`),
  ]);
  if (times > 1) {
    const what = steps.length === 1 ? 'the input above' : `the ${steps.length} inputs above`;
    const again = times === 2 ? 'once' : `${(times - 1).toLocaleString('en-US')} times`;
    lines.push(`  … ${what} ${again} more, up to #${lastNumber(round)}`);
  }
  return `${lines.join('\n')}\n`;
}

function jsonLines({ number, times, steps }: EvidenceRound): string {
  return steps
    .map(
      ({ data }, position) => `${JSON.stringify({ number: number + position, times, ...data })}\n`,
    )
    .join('');
}

function jsonOutcome({ error, ...outcome }: EvidenceOutcome): string {
  return `${JSON.stringify({ outcome: { ...outcome, error: error?.message } })}\n`;
}

function verdict({ failure }: EvidenceBundle, outcome: EvidenceOutcome): string {
  const { kind, error, inputCount, differences, end } = outcome;
  const facts = Object.entries(end).map(([name, fact]) => `${name} ${fact}`);
  const thrown = `${error?.name}: ${error?.message}`;
  const recorded = failure === undefined ? 'no failure' : `${failure.name}: ${failure.message}`;
  const texts: Readonly<Record<EvidenceOutcome['kind'], string>> = {
    reproduced: `the failure came again at input #${inputCount}: ${thrown}`,
    clean: 'no failure was recorded, and none came',
    notReproduced:
      `the failure did not come again: ${recorded}\n` +
      'it was not in what the core decided: look at its stack in the first line of the file',
    otherFailure: `another failure came at input #${inputCount}: ${thrown}\nrecorded was ${recorded}`,
    diverged:
      `the replay went another way at input #${inputCount}: ${error?.message}\n` +
      'use the version of kommander that wrote the file',
  };
  const state =
    differences.length === 0
      ? 'the core ended in the recorded state'
      : `the core did not end in the recorded state: ${differences.join(', ')}`;
  return `\n${texts[kind]}\n${state}: ${facts.join(', ')}\n`;
}
