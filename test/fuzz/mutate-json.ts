// Mutations of JSON by its structure: one value at any depth is replaced by something that JSON can say and nobody expects,
// removed, repeated, or named otherwise. An input of several lines may have JSON in each of them.

import type { Random } from '../../src/base/random.ts';
import { pick } from './mutate.ts';

/** Deeper than any function that calls itself can follow. */
const deepCount = 30_000;
const deepLists = `${'['.repeat(deepCount)}${']'.repeat(deepCount)}`;
const deepObjects = `${'{"a":'.repeat(deepCount)}1${'}'.repeat(deepCount)}`;

/** Values as text: some could not be written by `JSON.stringify`. */
const strangeValues: readonly string[] = [
  ...[
    'null',
    'true',
    'false',
    '0',
    '-1',
    '1.5',
    '1e999',
    '9007199254740993',
    '-0',
    '""',
    '[]',
    '{}',
  ],
  ...['"a"', '"\\u0000"', '"\\ud800"', '"../../x"', '[null]', '[[]]', '{"a":null}', '"toString"'],
  ...['{"toString":1}', '{"__proto__":{"a":1}}', '{"length":1e9}', '{"constructor":1}', '"1e3"'],
];
const strangeNames = ['__proto__', 'constructor', 'toString', '', 'length', 'a'];

/** Stands for a value until the whole is text. */
const mark = '\u{f8ff}here\u{f8ff}';

/** One change somewhere. A text that is no JSON stays as it is. */
export function mutatedJson(random: Random, bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(bytes).toString();
  const whole = changed(random, text);
  if (whole !== undefined) return new Uint8Array(Buffer.from(whole));
  const lines = text.split('\n');
  const at = random.below(lines.length);
  const line = changed(random, lines[at] as string);
  if (line === undefined) return bytes;
  lines[at] = line;
  return new Uint8Array(Buffer.from(lines.join('\n')));
}

type Container = Record<string, unknown>;

function changed(random: Random, text: string): string | undefined {
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch {
    return undefined;
  }
  const holder: Container = { root };
  const places: { readonly container: Container; readonly name: string }[] = [];
  const open: unknown[] = [holder];
  while (open.length > 0 && places.length < 10_000) {
    const container = open.pop();
    if (typeof container !== 'object' || container === null) continue;
    for (const name of Object.keys(container)) {
      places.push({ container: container as Container, name });
      open.push((container as Container)[name]);
    }
  }
  const { container, name } = pick(random, places);
  let value = pick(random, strangeValues);
  switch (random.below(8)) {
    case 0:
      delete container[name];
      break;
    case 1:
      if (Array.isArray(container)) container.push(mark);
      else container[pick(random, strangeNames)] = mark;
      break;
    case 2:
      container[name] = pick(random, places).container[name];
      break;
    case 3:
      container[name] = mark;
      if (random.below(8) === 0) value = pick(random, [deepLists, deepObjects]);
      break;
    default:
      container[name] = mark;
  }
  return plainJson(holder.root)?.replaceAll(JSON.stringify(mark), () => value);
}

/** @returns undefined when the value holds itself, or is too deep */
function plainJson(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined;
  }
}
