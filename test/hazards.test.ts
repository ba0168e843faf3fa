// The page of hazards cannot rot: it has every number once, and every test and every file that it names is there. A name
// with `…` stands for the variants of a test, whose name holds `${…}` in the source.

import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = path.dirname(import.meta.dirname);
const hazardCount = 60;

interface HazardRow {
  readonly number: number;
  readonly files: readonly string[];
  readonly tests: readonly string[];
  /** Everything but the test names of the last cell. */
  readonly note: string;
}

function codeSpans(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text);
}

function hazardRows(markdown: string): HazardRow[] {
  return markdown
    .split('\n')
    .filter((line) => /^\| \d+ \|/.test(line))
    .map((line) => {
      const cells = line.slice(2, -2).split(' | ');
      assert.equal(cells.length, 4, line);
      const [number = '', , where = '', proof = ''] = cells;
      const note = proof.replaceAll(/`[^`]+`/g, '');
      return { number: Number(number), files: codeSpans(where), tests: codeSpans(proof), note };
    });
}

/** Names of all tests and rules of a source, with `…` for what is filled in. */
function testNames(source: string): string[] {
  const call = /\b(?:test|it|rule|define)\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1/g;
  return [...source.matchAll(call)].map(([, , name = '']) =>
    name.replaceAll(/\$\{[^}]*\}/g, '…').replaceAll(/\\(.)/g, '$1'),
  );
}

const rows = hazardRows(readFileSync(path.join(root, 'docs/internals/hazards.md'), 'utf8'));
const known = new Set(
  globSync(['src/**/*.test.ts', 'src/testing/*-contract.ts', 'test/**/*.test.ts'], { cwd: root })
    .map((file) => readFileSync(path.join(root, file), 'utf8'))
    .flatMap(testNames),
);

test('the names of tests are found in every form in which they are written', () => {
  const filled = '$' + '{x.y}';
  const source = `test('a', f); it(\n  \`b ${filled} c\`,\n); rule("d's", f); define('e\\'s', f)`;
  assert.deepEqual(testNames(source), ['a', 'b … c', "d's", "e's"]);
  assert.ok(known.size > 800, `${known.size} tests`);
});

test('the page of hazards has every hazard once, in order', () => {
  assert.deepEqual(
    rows.map(({ number }) => number),
    Array.from({ length: hazardCount }, (_, at) => at + 1),
  );
});

test('every hazard has a test, or says that it comes later', () => {
  const bare = rows.filter(({ tests, note }) => tests.length === 0 && !/\bLater\b/.test(note));
  assert.deepEqual(bare, []);
});

test('every test that the page of hazards names exists', () => {
  assert.ok(rows.flatMap(({ tests }) => tests).length > 120, 'the names are found');
  const missing = rows.flatMap(({ number, tests }) =>
    tests.filter((name) => !known.has(name)).map((name) => `${number}: ${name}`),
  );
  assert.deepEqual(missing, []);
});

test('every file that the page of hazards names exists', () => {
  const missing = rows.flatMap(({ number, files }) =>
    files.filter((file) => !existsSync(path.join(root, file))).map((file) => `${number}: ${file}`),
  );
  assert.deepEqual(missing, []);
});
