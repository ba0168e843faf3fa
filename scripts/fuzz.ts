// The long form of the fuzzer: many inputs for every decoder, what came of them, the slowest and the largest call.
//
//   npm run fuzz -- [--inputs 1000000] [--seed N] [--only NAME,NAME] [--input NUMBER]
//
// A finding prints the command that repeats its input; the exit code is then 1.

import process from 'node:process';
import { parseArgs } from 'node:util';
import type { Decoder } from '../test/fuzz/decoder.ts';
import { decoders } from '../test/fuzz/decoders.ts';
import { inputOf, type Outcome, tryInput } from '../test/fuzz/engine.ts';

/** Milliseconds above which a call is taken for one that hangs. */
const callMsMax = 2_000;
/** Findings of one decoder that are told apart; the others are counted. */
const toldMax = 10;

const { values } = parseArgs({
  options: {
    inputs: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    only: { type: 'string', default: '' },
    input: { type: 'string' },
  },
});
const seed = wholeNumber('seed', values.seed);
const only = values.only === '' ? [] : values.only.split(',');
const unknown = only.filter((name) => !decoders.some((decoder) => decoder.name === name));
if (unknown.length > 0) {
  const names = decoders.map(({ name }) => name).join(', ');
  fail(`no decoder is called ${unknown.join(', ')}; there are ${names}`);
}
const chosen = decoders.filter(({ name }) => only.length === 0 || only.includes(name));
const isFound =
  values.input === undefined
    ? await fuzzAll(wholeNumber('inputs', values.inputs))
    : await repeat(wholeNumber('input', values.input));
process.exitCode = isFound ? 1 : 0;

async function fuzzAll(inputCount: number): Promise<boolean> {
  print(`seed ${seed}, ${inputCount} inputs for ${chosen.length} decoders`);
  const weights = chosen.reduce((sum, { weight = 1 }) => sum + weight, 0);
  const begunAt = performance.now();
  let doneCount = 0;
  let foundCount = 0;
  for (const decoder of chosen) {
    const count = Math.ceil((inputCount * (decoder.weight ?? 1)) / weights);
    foundCount += await fuzzOne(decoder, Math.max(count, decoder.samples.length));
    doneCount += count;
  }
  const seconds = ((performance.now() - begunAt) / 1_000).toFixed(0);
  print(`${doneCount} inputs in ${seconds} s, ${foundCount} findings`);
  return foundCount > 0;
}

interface Extreme {
  readonly value: number;
  readonly number: number;
  readonly inputBytes: number;
}

async function fuzzOne(decoder: Decoder, count: number): Promise<number> {
  const kinds = new Map<string, number>();
  const told = new Set<string>();
  let slowest: Extreme = { value: 0, number: 0, inputBytes: 0 };
  let largest: Extreme = { value: 0, number: 0, inputBytes: 0 };
  for (let number = 0; number < count; number++) {
    const { outcome, ms } = await timed(decoder, number);
    const inputBytes = outcome.input.byteLength;
    if (ms > slowest.value) slowest = { value: ms, number, inputBytes };
    if (outcome.allocatedBytes > largest.value)
      largest = { value: outcome.allocatedBytes, number, inputBytes };
    kinds.set(outcome.kind, (kinds.get(outcome.kind) ?? 0) + 1);
    const problem = problemOf(outcome, ms);
    if (problem === undefined) continue;
    const summary = problem.split('\n', 2).join(' ').replaceAll(/\d+/g, 'N');
    if (told.size >= toldMax || told.has(summary)) continue;
    told.add(summary);
    print(
      `FOUND npm run fuzz -- --only ${decoder.name} --seed ${seed} --input ${number}\n${problem}`,
    );
  }
  const outcomes = [...kinds]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([kind, times]) => `${kind} ${times}`);
  print(
    `${decoder.name}: ${count} inputs: ${outcomes.join(', ')}; ` +
      `slowest ${slowest.value.toFixed(1)} ms (input ${slowest.number}, ${slowest.inputBytes} bytes), ` +
      `largest ${largest.value} bytes (input ${largest.number}, ${largest.inputBytes} bytes)`,
  );
  return told.size;
}

async function repeat(number: number): Promise<boolean> {
  let isFound = false;
  for (const decoder of chosen) {
    const { outcome, ms } = await timed(decoder, number);
    const { kind, input, allocatedBytes, error } = outcome;
    print(`${decoder.name}: ${input.byteLength} bytes ${Buffer.from(input).toString('hex')}`);
    print(`${kind}, ${ms.toFixed(1)} ms, ${allocatedBytes} bytes allocated`);
    if (error instanceof Error) print(error.stack ?? error.message);
    isFound ||= problemOf(outcome, ms) !== undefined;
  }
  return isFound;
}

async function timed(
  decoder: Decoder,
  number: number,
): Promise<{ readonly outcome: Outcome; readonly ms: number }> {
  let begunAt = 0;
  let ms = 0;
  const outcome = await tryInput(decoder, inputOf(decoder, seed, number), {
    begin: () => {
      begunAt = performance.now();
    },
    end: () => {
      ms = performance.now() - begunAt;
    },
  });
  return { outcome, ms };
}

function problemOf({ kind, error }: Outcome, ms: number): string | undefined {
  if (ms > callMsMax) return `takes ${ms.toFixed(0)} ms`;
  if (kind !== 'finding') return undefined;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function wholeNumber(option: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) fail(`--${option}: "${text}" is no whole number below 1000000000`);
  return Number(text);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function fail(message: string): never {
  process.stderr.write(`fuzz: ${message}\n`);
  process.exit(2);
}
