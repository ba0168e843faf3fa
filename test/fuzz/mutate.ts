// Makes inputs of valid samples: by flipping, cutting, repeating, moving and joining bytes, by extreme lengths and numbers,
// and by the structure of the input where its form has one. Everything is drawn from one seeded source.

import type { Random } from '../../src/base/random.ts';
import type { Decoder, InputForm } from './decoder.ts';
import { mutatedJson } from './mutate-json.ts';
import { mutatedMessage } from './mutate-protobuf.ts';

/** Bytes that an input grows to, at most. */
export const inputBytesMax = 262_144;
const mutationsMax = 4;

/** Numbers at the borders of what fields can hold. */
export const extremeNumbers: readonly number[] = [
  ...[0, 1, 2, 127, 128, 255, 256, 16_383, 16_384, 65_535, 65_536, 16_777_216, 67_108_864],
  ...[0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff, 0x1_0000_0000],
  ...[Number.MAX_SAFE_INTEGER - 1, Number.MAX_SAFE_INTEGER],
];

type Step = (random: Random, bytes: Uint8Array, decoder: Decoder) => Uint8Array;

/** One input. */
export function mutatedInput(random: Random, decoder: Decoder): Uint8Array {
  let bytes = sampleOf(random, decoder);
  const count = 1 + random.below(mutationsMax);
  for (let i = 0; i < count; i++) {
    const steps = stepsOf[random.below(4) === 0 ? 'bytes' : decoder.form];
    bytes = pick(random, steps)(random, bytes, decoder).slice(0, inputBytesMax);
  }
  const { reseal } = decoder;
  return reseal !== undefined && random.below(4) > 0 ? reseal(bytes.slice()) : bytes;
}

function sampleOf(random: Random, { samples }: Decoder): Uint8Array {
  return pick(random, samples).slice();
}

export function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[random.below(choices.length)] as T;
}

const byteSteps: readonly Step[] = [
  flipBit,
  flipBit,
  setByte,
  truncate,
  extend,
  insert,
  remove,
  repeat,
  swap,
  splice,
  setUint32,
  setUint53,
  setVarint,
];

const stepsOf: Readonly<Record<InputForm, readonly Step[]>> = {
  bytes: byteSteps,
  protobuf: [mutatedMessage],
  json: [mutatedJson],
  text: [setCharacter, setCharacter, insertText, remove, repeat, swap, splice, truncate],
};

function flipBit(random: Random, bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength === 0) return bytes;
  const at = random.below(bytes.byteLength);
  bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
  return bytes;
}

function setByte(random: Random, bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength === 0) return bytes;
  bytes[random.below(bytes.byteLength)] = pick(random, [0, 1, 2, 3, 7, 8, 0x7f, 0x80, 0xfe, 0xff]);
  return bytes;
}

function truncate(random: Random, bytes: Uint8Array): Uint8Array {
  return bytes.slice(0, random.below(bytes.byteLength + 1));
}

function extend(random: Random, bytes: Uint8Array): Uint8Array {
  return joined(bytes, drawn(random, 1 + random.below(40)));
}

function insert(random: Random, bytes: Uint8Array): Uint8Array {
  const at = random.below(bytes.byteLength + 1);
  return joined(bytes.subarray(0, at), drawn(random, 1 + random.below(9)), bytes.subarray(at));
}

function remove(random: Random, bytes: Uint8Array): Uint8Array {
  const [from, end] = rangeOf(random, bytes);
  return joined(bytes.subarray(0, from), bytes.subarray(end));
}

/** A stretch several times; now and then so often that the input is as long as inputs can be. */
function repeat(random: Random, bytes: Uint8Array): Uint8Array {
  const [from, end] = rangeOf(random, bytes);
  if (from === end) return bytes;
  const most = random.below(64) === 0 ? Math.ceil(inputBytesMax / (end - from)) : 8;
  const times = 1 + random.below(most);
  const part = bytes.subarray(from, end);
  const copies = Array.from({ length: times }, () => part);
  return joined(bytes.subarray(0, from), Buffer.concat(copies), bytes.subarray(from));
}

function swap(random: Random, bytes: Uint8Array): Uint8Array {
  const [from, end] = rangeOf(random, bytes);
  const middle = from + random.below(end - from + 1);
  return joined(
    bytes.subarray(0, from),
    bytes.subarray(middle, end),
    bytes.subarray(from, middle),
    bytes.subarray(end),
  );
}

/** The beginning of one and the end of another sample. */
function splice(random: Random, bytes: Uint8Array, decoder: Decoder): Uint8Array {
  const other = sampleOf(random, decoder);
  const at = random.below(bytes.byteLength + 1);
  const otherAt = random.below(4) === 0 ? at : random.below(other.byteLength + 1);
  return joined(bytes.subarray(0, at), other.subarray(otherAt));
}

function setUint32(random: Random, bytes: Uint8Array): Uint8Array {
  return written(random, bytes, littleEndian(pick(random, extremeNumbers), 4));
}

function setUint53(random: Random, bytes: Uint8Array): Uint8Array {
  return written(random, bytes, littleEndian(pick(random, extremeNumbers), 8));
}

/** In place of bytes of the same number, or of one byte. */
function setVarint(random: Random, bytes: Uint8Array): Uint8Array {
  const value = varintOf(pick(random, extremeNumbers));
  if (random.below(2) === 0) return written(random, bytes, value);
  const at = random.below(bytes.byteLength + 1);
  return joined(bytes.subarray(0, at), value, bytes.subarray(at + 1));
}

const characters = [
  ...['\0', ' ', '\n', '%', '%00', '%zz', '%ED%A0%80', '&', '=', '/', '?', '#', '+', ',', ':'],
  ...['[', ']', '.', '-', '_', '"', '\\', '0', '9', 'a', 'Z', 'é', '😀', '\u2028', '__proto__'],
  ...['constructor', '9007199254740993', '1e999', '99999999999999999999', '-1', '0x10', '..', '::'],
];

function setCharacter(random: Random, bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength === 0) return bytes;
  const at = random.below(bytes.byteLength);
  return joined(bytes.subarray(0, at), characterOf(random), bytes.subarray(at + 1));
}

function insertText(random: Random, bytes: Uint8Array): Uint8Array {
  const at = random.below(bytes.byteLength + 1);
  return joined(bytes.subarray(0, at), characterOf(random), bytes.subarray(at));
}

function characterOf(random: Random): Uint8Array {
  return Buffer.from(pick(random, characters));
}

/** Somewhere in `bytes`, as far as there is room. */
function written(random: Random, bytes: Uint8Array, value: Uint8Array): Uint8Array {
  if (bytes.byteLength < value.byteLength) return bytes;
  bytes.set(value, random.below(bytes.byteLength - value.byteLength + 1));
  return bytes;
}

function littleEndian(value: number, byteLength: number): Uint8Array {
  const bytes = new Uint8Array(byteLength);
  let rest = value;
  for (let at = 0; at < byteLength; at++) {
    bytes[at] = rest % 0x100;
    rest = Math.floor(rest / 0x100);
  }
  return bytes;
}

/** A varint of Protocol Buffers, of any length. */
export function varintOf(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Uint8Array.of(...bytes, rest);
}

/** A stretch, mostly a short one. */
function rangeOf(random: Random, bytes: Uint8Array): readonly [from: number, end: number] {
  const from = random.below(bytes.byteLength + 1);
  const most =
    random.below(4) === 0 ? bytes.byteLength - from : Math.min(16, bytes.byteLength - from);
  return [from, from + random.below(most + 1)];
}

function drawn(random: Random, byteLength: number): Uint8Array {
  return Uint8Array.from({ length: byteLength }, () => random.below(256));
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
