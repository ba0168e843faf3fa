// Mutations of Protocol Buffers messages by their structure: fields are dropped, repeated, moved, renamed and changed at any
// depth, and the lengths around them fit again, so that the decoder is reached behind its first check.

import type { Random } from '../../src/base/random.ts';
import { extremeNumbers, inputBytesMax, pick, varintOf } from './mutate.ts';

interface Field {
  readonly tag: number;
  /** As it stands behind the tag, without the length of bytes. */
  readonly value: Uint8Array;
}

const depthMax = 6;
const wire = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** One change somewhere in the message. Bytes that are no message stay as they are. */
export function mutatedMessage(random: Random, bytes: Uint8Array): Uint8Array {
  return changed(random, bytes, 0) ?? bytes;
}

function changed(random: Random, bytes: Uint8Array, depth: number): Uint8Array | undefined {
  const fields = fieldsOf(bytes);
  if (fields === undefined || fields.length === 0) return undefined;
  const at = random.below(fields.length);
  const field = fields[at] as Field;
  if (field.tag % 8 === wire.bytes && depth < depthMax && random.below(4) > 0) {
    const inner = changed(random, field.value, depth + 1);
    if (inner !== undefined) {
      fields[at] = { ...field, value: inner };
      return encoded(fields);
    }
  }
  pick(random, changes)(random, fields, at);
  return encoded(fields);
}

type Change = (random: Random, fields: Field[], at: number) => void;

const changes: readonly Change[] = [
  (_, fields, at) => {
    fields.splice(at, 1);
  },
  (random, fields, at) => {
    const field = fields[at] as Field;
    const room = inputBytesMax / (field.value.byteLength + 4);
    const times = 1 + random.below(random.below(64) === 0 ? Math.ceil(room) : 4);
    const behind = fields.splice(at);
    for (let i = 0; i < times; i++) fields.push(field);
    for (const each of behind) fields.push(each);
  },
  (random, fields, at) => {
    const other = random.below(fields.length);
    [fields[at], fields[other]] = [fields[other] as Field, fields[at] as Field];
  },
  (random, fields, at) => {
    fields[at] = { ...(fields[at] as Field), tag: 1 + random.below(200) };
  },
  (random, fields, at) => {
    const type = (fields[at] as Field).tag % 8;
    fields[at] = { tag: 8 * (1 + random.below(20)) + type, value: (fields[at] as Field).value };
  },
  changeValue,
  changeValue,
  changeValue,
];

function changeValue(random: Random, fields: Field[], at: number): void {
  const { tag, value } = fields[at] as Field;
  if (tag % 8 === wire.varint) {
    const longest = Uint8Array.of(...new Array<number>(9).fill(0xff), 1);
    const padded = Uint8Array.of(0x80, 0x80, 0x80, 0);
    const numbers = [...extremeNumbers.map(varintOf), longest, padded];
    fields[at] = { tag, value: pick(random, numbers) };
    return;
  }
  const bytes = value.slice();
  if (bytes.byteLength > 0) bytes[random.below(bytes.byteLength)] = random.below(256);
  fields[at] = { tag, value: pick(random, [bytes, bytes, new Uint8Array(0), value.slice(1)]) };
}

function fieldsOf(bytes: Uint8Array): Field[] | undefined {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; at < bytes.byteLength; scale *= 0x80) {
      const byte = bytes[at++] as number;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    return Number.NaN;
  };
  while (at < bytes.byteLength) {
    const tag = varint();
    const type = tag % 8;
    const start = at;
    let length: number;
    if (type === wire.varint) {
      varint();
      length = at - start;
      at = start;
    } else if (type === wire.bytes) length = varint();
    else if (type === wire.fixed64) length = 8;
    else if (type === wire.fixed32) length = 4;
    else return undefined;
    if (!(tag >= 8 && at + length <= bytes.byteLength)) return undefined;
    fields.push({ tag, value: bytes.subarray(at, at + length) });
    at += length;
  }
  return fields;
}

function encoded(fields: readonly Field[]): Uint8Array {
  return new Uint8Array(
    Buffer.concat(
      fields.flatMap(({ tag, value }) => {
        const length = tag % 8 === wire.bytes ? [varintOf(value.byteLength)] : [];
        return [varintOf(tag), ...length, value];
      }),
    ),
  );
}
