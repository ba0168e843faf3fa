// Reads the scripted scenarios that the conformance runner replays. A scenario is a sequence of directives: a command
// with arguments (`key`, `key=value`, `key=(a, b)`), lines of input, `----`, and the expected output up to an empty
// line. `----` twice opens an output that may itself hold empty lines and ends with `----` twice. `#` is a comment.

export interface Argument {
  readonly key: string;
  /** Empty for a bare key. */
  readonly values: readonly string[];
}

export interface Directive {
  /** Line of the command in its file, counted from 1. */
  readonly line: number;
  readonly command: string;
  readonly args: readonly Argument[];
  /** Lines between the command and `----`, without surrounding white space. */
  readonly input: string;
  /** Absent when the directive has no `----`. */
  readonly expected: readonly string[] | undefined;
  /** Line of the first expected line, counted from 1. */
  readonly expectedLine: number;
}

/** Thrown when a file does not have the format. */
export class DataFileError extends Error {
  override readonly name = 'DataFileError';
}

interface Cursor {
  readonly lines: readonly string[];
  at: number;
}

const separator = '----';

/** @throws DataFileError naming the line */
export function parseDataFile(text: string): Directive[] {
  const cursor: Cursor = { lines: text.replace(/\n$/, '').split(/\r?\n/), at: 0 };
  const directives: Directive[] = [];
  for (;;) {
    const start = cursor.at;
    const head = readCommandLine(cursor);
    if (head === undefined) return directives;
    if (head === '' || head.startsWith('#')) continue;
    directives.push(readDirective(cursor, head, start + 1));
  }
}

function readDirective(cursor: Cursor, head: string, line: number): Directive {
  const { command, args } = parseCommandLine(head, line);
  const inputLines: string[] = [];
  let hasOutput = false;
  for (let next = readLine(cursor); next !== undefined; next = readLine(cursor)) {
    if (next === separator) {
      hasOutput = true;
      break;
    }
    inputLines.push(next);
  }
  const input = inputLines.join('\n').trim();
  const isDoubled = hasOutput && cursor.lines[cursor.at] === separator;
  if (isDoubled) cursor.at += 1;
  const expectedLine = cursor.at + 1;
  if (!hasOutput) return { line, command, args, input, expected: undefined, expectedLine };
  const expected = isDoubled ? readDoubledOutput(cursor, line) : readOutput(cursor);
  return { line, command, args, input, expected, expectedLine };
}

function readOutput(cursor: Cursor): string[] {
  const lines: string[] = [];
  for (let next = readLine(cursor); next !== undefined; next = readLine(cursor)) {
    if (next.trim() === '') break;
    lines.push(next);
  }
  return lines;
}

function readDoubledOutput(cursor: Cursor, line: number): string[] {
  const lines: string[] = [];
  for (let next = readLine(cursor); next !== undefined; next = readLine(cursor)) {
    if (next === separator && cursor.lines[cursor.at] === separator) {
      cursor.at += 1;
      return lines;
    }
    lines.push(next);
  }
  throw new DataFileError(`line ${line}: the output has no closing pair of "${separator}"`);
}

/** A command line, joined with the lines that a trailing backslash continues it on. */
function readCommandLine(cursor: Cursor): string | undefined {
  let joined = readLine(cursor)?.trim();
  while (joined?.endsWith('\\') === true && !joined.startsWith('#')) {
    joined = `${joined.slice(0, -1)} ${(readLine(cursor) ?? '').trim()}`;
  }
  return joined;
}

function readLine(cursor: Cursor): string | undefined {
  const line = cursor.lines[cursor.at];
  if (line !== undefined) cursor.at += 1;
  return line;
}

const argumentPattern = /\s+([^\s=(),]+)(?:=(?:\(([^()]*)\)|([^\s()]*)))?/y;

function parseCommandLine(
  head: string,
  line: number,
): { readonly command: string; readonly args: readonly Argument[] } {
  const command = /^\S+/.exec(head)?.[0] ?? '';
  const args: Argument[] = [];
  argumentPattern.lastIndex = command.length;
  while (argumentPattern.lastIndex < head.length) {
    const start = argumentPattern.lastIndex;
    const match = argumentPattern.exec(head);
    if (match === null) {
      throw new DataFileError(`line ${line}: cannot read the arguments at "${head.slice(start)}"`);
    }
    const [, key = '', list, single] = match;
    args.push({ key, values: list === undefined ? singleValue(single) : listValues(list) });
  }
  return { command, args };
}

function singleValue(value: string | undefined): string[] {
  return value === undefined ? [] : [value];
}

function listValues(list: string): string[] {
  return list.split(/[,\s]+/).filter((value) => value !== '');
}
