// The short form of the fuzzer: the same inputs at every run. The long one is `npm run fuzz`.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { decoders, notFuzzed } from './decoders.ts';
import { inputOf, tryInput } from './engine.ts';

const seed = 1;
const inputsEach = 400;
const sources = path.join(import.meta.dirname, '../../src');

for (const decoder of decoders) {
  test(`${decoder.name}: every input is decoded or refused with a typed error`, async () => {
    const count = decoder.samples.length + Math.ceil(inputsEach * (decoder.weight ?? 1));
    for (let number = 0; number < count; number++) {
      const { kind, error } = await tryInput(decoder, inputOf(decoder, seed, number));
      const command = `npm run fuzz -- --only ${decoder.name} --seed ${seed} --input ${number}`;
      if (kind === 'finding') assert.fail(new Error(command, { cause: error }));
      if (number < decoder.samples.length) assert.equal(kind, 'accepted', command);
    }
  });
}

test('every exported decoder of the sources is fuzzed, or there is a reason why not', () => {
  const exported = readdirSync(sources, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !/\.test\.ts$|generated/.test(file))
    .flatMap((file) => {
      const text = readFileSync(path.join(sources, file), 'utf8');
      const pattern = /^export (?:async )?function\*? ((?:decode|read|parse)\w*)/gm;
      return [...text.matchAll(pattern)].map(([, name]) => `${file.replaceAll('\\', '/')}#${name}`);
    });
  const covered = [...decoders.flatMap(({ covers }) => covers), ...Object.keys(notFuzzed)];
  const missing = exported.filter((name) => !covered.includes(name));
  assert.deepEqual(missing, [], 'an entry of the table, or a reason in `notFuzzed`');
  const superfluous = covered.filter((name) => !exported.includes(name));
  assert.deepEqual(superfluous, [], 'there is no such decoder any more');
  assert.ok(exported.length > 50, 'the decoders are found at all');
});

test('decoders have names of their own', () => {
  assert.equal(new Set(decoders.map(({ name }) => name)).size, decoders.length);
});
