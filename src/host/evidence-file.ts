// The file that evidence is kept in (docs/internals/evidence.md): lines of JSON. The first says whose evidence it is,
// the second has the state at the beginning, then comes one line for each input, then the state at the end; the last one
// has a checksum of all before it, so that what was cut or changed is told from what was recorded.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { KommanderError } from '../base/errors.ts';
import type { CoreConfig, CoreState } from '../raft/core-state.ts';
import type { RecordedCycle, RecordedStep } from '../raft/recording-reader.ts';
import type { EvidenceBundle } from './evidence.ts';

const format = 'kommander-evidence';
/** Grows when older programs cannot read the file any more. */
const version = 1;

/** Lists and objects within each other in one line; those of a core are a few. */
const levelsMax = 64;

/** Files that are kept in a directory; the oldest ones go. */
const filesMax = 16;
const namePattern = /^evidence-[\dTZ.-]+-.*\.ndjson$/;

type Heading = Omit<EvidenceBundle, 'record'> & {
  readonly format: typeof format;
  readonly version: number;
  readonly config: CoreConfig;
};

/** An input, or several that came in turn, so many times. */
type InputLine = RecordedStep | RecordedCycle;

export function encodeEvidence({ record, ...heading }: EvidenceBundle): string {
  const { config, begin, cycles, end } = record;
  const first: Heading = { format, version, ...heading, config };
  const inputs = cycles.flatMap((cycle): readonly InputLine[] =>
    cycle.times === 1 ? cycle.steps : [cycle],
  );
  const lines = [first, { begin }, ...inputs, { end }].map((line) => `${JSON.stringify(line)}\n`);
  const text = lines.join('');
  return `${text}${JSON.stringify({ lines: lines.length, crc32: crc32(text) })}\n`;
}

/**
 * Reads a file of evidence.
 *
 * @throws EVIDENCE_MALFORMED it is none, it is of another version, or it is not whole
 */
export function parseEvidence(text: string): EvidenceBundle {
  const lines = text.split('\n');
  const heading: Partial<Heading> = parseLine(lines[0]);
  if (heading.format !== format) {
    throw malformed('this is no file of evidence: its first line does not say so');
  }
  if (heading.version !== version) {
    const library = shownFact(heading.libraryVersion) ?? 'of the node that wrote it';
    throw malformed(
      `the file has version ${shownFact(heading.version)} of the format, and this program reads ${version}; use kommander ${library}`,
    );
  }
  checkWhole(text, lines);
  // The checksum says that the library wrote it; what a replay walks through is looked at all the same.
  const { format: _format, version: _version, config, ...bundle } = heading as Heading;
  const { begin } = parseLine(lines[1]) as { readonly begin?: CoreState };
  const { end } = parseLine(lines.at(-3)) as { readonly end?: CoreState };
  const isWhole = [config, begin, end, bundle.replicaIds].every((each) => isObject(each));
  if (!isWhole || begin === undefined || end === undefined) throw malformed(nonsense);
  const cycles = lines.slice(2, -3).map(parseCycle);
  return { ...bundle, record: { config, begin, cycles, end } };
}

const nonsense =
  'the file has the right checksum and says nothing: it was not written by this library';

/** What stands in the heading may be anything. */
function shownFact(value: unknown): string | undefined {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
}

function parseCycle(line: string): RecordedCycle {
  const input = parseLine(line) as InputLine;
  const cycle = 'steps' in input ? input : { times: 1, steps: [input] };
  const { times, steps }: { readonly times: unknown; readonly steps: unknown } = cycle;
  const isCount = Number.isSafeInteger(times) && Number(times) >= 1;
  if (isCount && Array.isArray(steps) && steps.every(isStep)) return cycle;
  throw malformed(nonsense);
}

function isStep(step: unknown): boolean {
  return isObject(step) && 'input' in step && isObject(step.input);
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function checkWhole(text: string, lines: readonly string[]): void {
  const [last = '', afterLast] = lines.slice(-2);
  const seal: { readonly lines?: number; readonly crc32?: number } = parseLine(last);
  if (afterLast !== '' || seal.crc32 === undefined) {
    throw malformed('the file ends early: copy it again');
  }
  const before = text.slice(0, text.length - last.length - 1);
  if (seal.lines === lines.length - 2 && seal.crc32 === crc32(before)) return;
  throw malformed('the file was changed: its checksum does not match; copy it again');
}

/** A line's object; an empty one when it holds none. */
function parseLine(line = ''): object {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) && !isDeep(line) ? value : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

/** Whether valid JSON is deeper than this library writes it: it can be parsed at any depth, but not written or compared. */
function isDeep(line: string): boolean {
  let levels = 0;
  for (const [bracket] of line.matchAll(/"(?:[^"\\]|\\.)*"|[[{\]}]/g)) {
    if (bracket === '[' || bracket === '{') levels += 1;
    else if (bracket === ']' || bracket === '}') levels -= 1;
    if (levels > levelsMax) return true;
  }
  return false;
}

function malformed(message: string): KommanderError {
  return new KommanderError(message, { code: 'EVIDENCE_MALFORMED' });
}

/**
 * Writes a file of evidence into `directory`, which is made if need be, and removes the oldest ones beyond a bound.
 *
 * @returns the path of the file
 * @throws what the file system throws
 */
export function writeEvidence(directory: string, bundle: EvidenceBundle): string {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const { nodeId, partitionId, takenAtMs } = bundle;
  const time = new Date(takenAtMs).toISOString().replaceAll(':', '-');
  const name = `evidence-${time}-${nodeId}-p${partitionId}.ndjson`;
  const path = join(directory, name);
  writeFileSync(path, encodeEvidence(bundle), { mode: 0o600, flag: 'wx' });
  removeOldest(directory, name);
  return path;
}

/** Names begin with the time. After a wall clock has jumped back, the new file stays all the same. */
function removeOldest(directory: string, newName: string): void {
  const names = readdirSync(directory).filter((name) => namePattern.test(name));
  const others = names.filter((name) => name !== newName).sort();
  for (const name of others.slice(0, Math.max(0, others.length + 1 - filesMax))) {
    rmSync(join(directory, name));
  }
}

let knownVersion: string | undefined;

/** The version in package.json, if it is there: a bundled program may have left it out. */
export function libraryVersion(): string | undefined {
  if (knownVersion !== undefined) return knownVersion;
  try {
    const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
    knownVersion = (JSON.parse(text) as { readonly version?: string }).version;
  } catch {
    // Then the evidence does without.
  }
  return knownVersion;
}
