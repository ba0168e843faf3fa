// The catalogue of seeded bugs cannot rot: each still fits the sources of today and leaves a program that parses, every
// hazard has one or a reason, and the page says of each what killed it. Nothing is applied here; `npm run mutate` does.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';
import { findingsOf, mutationsPage, notRun } from '../scripts/mutations-page.ts';
import { catalogue, hazardMax, unseeded } from './mutations/catalogue.ts';
import { applyEdit, mutatedFiles } from './mutations/mutation.ts';

const root = path.dirname(import.meta.dirname);
const source = (file: string): string => readFileSync(path.join(root, file), 'utf8');
const page = source('docs/internals/mutations.md');

test('every mutation fits the sources exactly once and leaves a program that parses', () => {
  for (const mutation of catalogue) {
    const mutated = mutatedFiles(mutation, source);
    assert.ok(mutated.size > 0, `${mutation.id} changes something`);
    for (const [file, text] of mutated) {
      assert.match(file, /^src\/.*(?<!\.test)\.ts$/, mutation.id);
      assert.notEqual(text, source(file), mutation.id);
      assert.doesNotThrow(() => stripTypeScriptTypes(text), `${mutation.id} parses`);
    }
  }
});

test('a text that is not there, or twice, is not replaced', () => {
  const edit = { file: 'f', find: 'b', replace: 'x' };
  assert.equal(applyEdit('abc', edit), 'axc');
  assert.throws(() => applyEdit('ac', edit), /f has 0 places/);
  assert.throws(() => applyEdit('abcb', edit), /f has 2 places/);
});

test('every mutation has a name of its own, one sentence, and test files that exist', () => {
  assert.equal(new Set(catalogue.map(({ id }) => id)).size, catalogue.length);
  for (const { id, says, tests } of catalogue) {
    assert.match(id, /^[a-z0-9]+(?:-[a-z0-9]+)*$/);
    assert.match(says, /^[A-Z][^.]*\.$/, id);
    assert.ok(tests.length > 0, id);
    for (const file of tests) {
      assert.match(file, /\.test\.ts$/, id);
      assert.ok(existsSync(path.join(root, file)), `${id}: ${file}`);
    }
  }
});

test('every hazard of the library has a mutation, or a reason why it has none', () => {
  const hazards = catalogue.flatMap((mutation) => mutation.hazards);
  const numbers = Array.from({ length: hazardMax }, (_, at) => at + 1);
  assert.deepEqual(
    hazards.filter((hazard) => !numbers.includes(hazard)),
    [],
  );
  for (const hazard of numbers) {
    assert.notEqual(hazards.includes(hazard), unseeded[hazard] !== undefined, `hazard ${hazard}`);
  }
  assert.ok(catalogue.length >= 45, `${catalogue.length} mutations`);
});

test('the page has every mutation with what the catalogue says of it, and none that survives', () => {
  const findings = findingsOf(page);
  assert.equal(page, mutationsPage(catalogue, unseeded, findings), 'run npm run mutate -- --write');
  for (const { id, equivalent, tests } of catalogue) {
    const found = findings.get(id)?.tests ?? notRun;
    if (equivalent !== undefined) continue;
    const [, killer = ''] = /^.*<br>`(.*)`$/.exec(found) ?? [];
    assert.ok(tests.includes(killer), `${id}: ${found}`);
  }
});

test('what stands in a cell of the page does not break it', () => {
  const [mutation = assert.fail('there are mutations')] = catalogue;
  const found = { tests: '`a \\| b`<br>`c`', simulator: '— nothing' };
  const text = mutationsPage([mutation], {}, new Map([[mutation.id, found]]));
  assert.deepEqual(findingsOf(text), new Map([[mutation.id, found]]));
});
