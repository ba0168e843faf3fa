// Compares what a core printed with what a data file expects. Lines of the original's text log (DEBUG, INFO, WARN,
// ERROR) count on neither side: this project's core reports structured trace events instead.

const logLine = /^\s*(?:DEBUG|INFO|WARN|ERROR)\b/;

/** One line of a comparison: in both (' '), expected only ('-'), printed only ('+'). */
export interface DiffLine {
  readonly mark: ' ' | '-' | '+';
  readonly text: string;
}

/**
 * The lines that count. The original prints "ok" only when a directive printed nothing at all, so an output that holds
 * nothing but log lines stands for "ok" here.
 */
export function comparableLines(lines: readonly string[]): readonly string[] {
  const kept = lines.filter((line) => !logLine.test(line));
  return kept.length === 0 && lines.length > 0 ? ['ok'] : kept;
}

/** The lines of a printed text; a newline at its end opens no further line. */
export function printedLines(text: string): readonly string[] {
  const lines = text.split('\n');
  return lines.at(-1) === '' ? lines.slice(0, -1) : lines;
}

export function areEqual(expected: readonly string[], actual: readonly string[]): boolean {
  return expected.length === actual.length && expected.every((line, i) => line === actual[i]);
}

/** A shortest edit script from `expected` to `actual`, by the longest common subsequence. */
export function diffLines(expected: readonly string[], actual: readonly string[]): DiffLine[] {
  const width = actual.length + 1;
  // common[i * width + j]: length of the longest common subsequence of expected[i…] and actual[j…]
  const common = new Uint32Array((expected.length + 1) * width);
  const at = (i: number, j: number): number => common[i * width + j] ?? 0;
  for (let i = expected.length - 1; i >= 0; i--) {
    for (let j = actual.length - 1; j >= 0; j--) {
      common[i * width + j] =
        expected[i] === actual[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const diff: DiffLine[] = [];
  let i = 0;
  let j = 0;
  while (i < expected.length || j < actual.length) {
    const wanted = expected[i];
    const got = actual[j];
    if (wanted !== undefined && wanted === got) {
      diff.push({ mark: ' ', text: wanted });
      i += 1;
      j += 1;
    } else if (got === undefined || (wanted !== undefined && at(i + 1, j) >= at(i, j + 1))) {
      diff.push({ mark: '-', text: wanted ?? '' });
      i += 1;
    } else {
      diff.push({ mark: '+', text: got });
      j += 1;
    }
  }
  return diff;
}

/** The changed lines with `contextLines` unchanged ones around them; `…` stands for what is left out. */
export function formatDiff(diff: readonly DiffLine[], contextLines = 3): string {
  const isNear = (at: number): boolean =>
    diff.slice(Math.max(0, at - contextLines), at + contextLines + 1).some((d) => d.mark !== ' ');
  const lines: string[] = [];
  for (const [at, { mark, text }] of diff.entries()) {
    if (isNear(at)) lines.push(`${mark} ${text}`);
    else if (lines.at(-1) !== '  …') lines.push('  …');
  }
  return lines.join('\n');
}
