// Replays a folder of scenarios and counts: every directive with an expected output passes or fails. Nothing is
// skipped: an absent or empty folder, an unreadable file and an error thrown by the core are failures.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DirectiveError } from './arguments.ts';
import { areEqual, comparableLines, diffLines, formatDiff, printedLines } from './compare.ts';
import { openConfChangeDriver } from './confchange-driver.ts';
import { DataFileError, type Directive, parseDataFile } from './data-file.ts';
import { openInteractionDriver } from './interaction-driver.ts';
import { openQuorumDriver } from './quorum-driver.ts';

type Driver = (directive: Directive) => string;

export interface Tally {
  readonly passed: number;
  readonly failed: number;
  /** One text a failure: file, line and difference. */
  readonly reports: readonly string[];
}

export interface ReplayOptions {
  /** Whether cores drop their copies of entries as soon as they may, so that they read them from the store. */
  readonly trimsLogs: boolean;
}

/** Replays the scenarios of each kind, which are in a folder of its name. Every file begins with fresh state. */
export function replayFolder(folder: string, options: ReplayOptions = { trimsLogs: true }): Tally {
  return sum([
    replayKind(join(folder, 'quorum'), openQuorumDriver),
    replayKind(join(folder, 'confchange'), openConfChangeDriver),
    replayKind(join(folder, 'interaction'), () => openInteractionDriver(options)),
  ]);
}

/** The last line of a run. */
export function summaryOf({ passed, failed }: Tally): string {
  return `${passed} passed, ${failed} failed`;
}

function replayKind(folder: string, openDriver: () => Driver): Tally {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    return failure(`${folder}: no such folder`);
  }
  const files = listFiles(folder);
  if (files.length === 0) return failure(`${folder}: holds no files`);
  return sum(files.map((file) => replayFile(file, openDriver())));
}

function listFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.startsWith('.'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

function replayFile(file: string, driver: Driver): Tally {
  const directives = readDirectives(file);
  if (directives instanceof DataFileError) return failure(`${file}: ${directives.message}`);
  const tallies = directives.map((directive) => replayDirective(file, driver, directive));
  const tally = sum(tallies);
  if (tally.passed + tally.failed > 0) return tally;
  return failure(`${file}: holds no directive with expected output`);
}

function readDirectives(file: string): Directive[] | DataFileError {
  try {
    return parseDataFile(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof DataFileError) return error;
    throw error;
  }
}

function replayDirective(file: string, driver: Driver, directive: Directive): Tally {
  const actual = comparableLines(printedLines(runDriver(driver, directive)));
  if (directive.expected === undefined) return { passed: 0, failed: 0, reports: [] };
  const expected = comparableLines(directive.expected);
  if (areEqual(expected, actual)) return { passed: 1, failed: 0, reports: [] };
  const difference = formatDiff(diffLines(expected, actual));
  const place = `${file}:${directive.line}: ${directive.command}`;
  return failure(
    `${place}\n--- expected (line ${directive.expectedLine})\n+++ actual\n${difference}`,
  );
}

/** What the driver printed, or the error that it threw: an error of the core is a difference, not the end of the run. */
function runDriver(driver: Driver, directive: Directive): string {
  try {
    return driver(directive);
  } catch (error) {
    if (error instanceof DirectiveError) return `${error.message}\n`;
    if (error instanceof Error) return `thrown: ${error.stack ?? error.message}\n`;
    throw error;
  }
}

function failure(report: string): Tally {
  return { passed: 0, failed: 1, reports: [report] };
}

function sum(tallies: readonly Tally[]): Tally {
  return {
    passed: tallies.reduce((count, tally) => count + tally.passed, 0),
    failed: tallies.reduce((count, tally) => count + tally.failed, 0),
    reports: tallies.flatMap((tally) => tally.reports),
  };
}
