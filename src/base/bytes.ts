// Reading and writing of binary records: little-endian fixed integers, LEB128 varints (as in Protocol Buffers),
// UTF-8 text. The reader trusts nothing: every read is checked against the end of the buffer.

import { assert } from './assert.ts';

/** Thrown by `ByteReader` when the bytes are not what the format promises. Callers turn it into a typed error. */
export class MalformedBytesError extends Error {
  override readonly name = 'MalformedBytesError';
}

/** Bytes that a varint of `value` takes: 1 … 8. */
export function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes += 1;
  return bytes;
}

/**
 * Writes a varint.
 *
 * @param value 0 … 2^53 - 1
 * @returns the offset behind it
 */
export function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let rest = value;
  let at = offset;
  while (rest >= 0x80) {
    target[at++] = (rest % 0x80) | 0x80;
    rest = rest > 0x7fff_ffff ? Math.floor(rest / 0x80) : rest >>> 7;
  }
  target[at++] = rest;
  return at;
}

// Both are in every JavaScript runtime, but not in the language's own library, which is all that this folder sees.
declare class TextEncoder {
  encode(text: string): Uint8Array;
}
declare class TextDecoder {
  constructor(label: string, options: { readonly fatal: boolean; readonly ignoreBOM: boolean });
  decode(bytes: Uint8Array): string;
}

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function utf8Bytes(text: string): Uint8Array {
  return utf8Encoder.encode(text);
}

/** @throws MalformedBytesError when `bytes` is not valid UTF-8 */
export function utf8Text(bytes: Uint8Array): string {
  try {
    return utf8Decoder.decode(bytes);
  } catch (error) {
    throw new MalformedBytesError(`invalid UTF-8: ${String(error)}`);
  }
}

/** A cursor over `bytes[at, end)`. */
export class ByteReader {
  readonly bytes: Uint8Array;
  readonly end: number;
  at: number;

  constructor(bytes: Uint8Array, start = 0, end: number = bytes.byteLength) {
    assert(start <= end && end <= bytes.byteLength, 'a reader stays inside its buffer');
    this.bytes = bytes;
    this.at = start;
    this.end = end;
  }

  get remaining(): number {
    return this.end - this.at;
  }

  uint8(): number {
    this.#need(1);
    return this.bytes[this.at++] as number;
  }

  uint32(): number {
    this.#need(4);
    const value = readUint32(this.bytes, this.at);
    this.at += 4;
    return value;
  }

  /** A safe integer in 8 bytes. @throws MalformedBytesError beyond 2^53 - 1 */
  uint53(): number {
    const low = this.uint32();
    const high = this.uint32();
    if (high > 0x1f_ffff) throw new MalformedBytesError('integer above 2^53 - 1');
    return high * 0x1_0000_0000 + low;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 8; count++) {
      const byte = this.uint8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) throw new MalformedBytesError('varint above 2^53 - 1');
        return value;
      }
      scale *= 0x80;
    }
    throw new MalformedBytesError('varint longer than 8 bytes');
  }

  /** A view of the next `length` bytes; no copy. */
  view(length: number): Uint8Array {
    this.#need(length);
    const view = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return view;
  }

  /** A varint length and that many bytes of UTF-8. */
  text(): string {
    return utf8Text(this.view(this.varint()));
  }

  skip(length: number): void {
    this.#need(length);
    this.at += length;
  }

  #need(length: number): void {
    if (length > this.end - this.at) {
      throw new MalformedBytesError(
        `needs ${length} bytes at ${this.at}, has ${this.end - this.at}`,
      );
    }
  }
}

/** A growing buffer. `finish` gives its bytes away; the writer is then empty. */
export class ByteWriter {
  #bytes: Uint8Array;
  #at = 0;

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
  }

  get length(): number {
    return this.#at;
  }

  uint8(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#at++] = value;
  }

  uint32(value: number): void {
    this.#reserve(4);
    writeUint32(this.#bytes, this.#at, value);
    this.#at += 4;
  }

  uint53(value: number): void {
    assert(Number.isSafeInteger(value) && value >= 0, 'uint53 is a safe, non-negative integer');
    this.uint32(value % 0x1_0000_0000);
    this.uint32(Math.floor(value / 0x1_0000_0000));
  }

  varint(value: number): void {
    assert(Number.isSafeInteger(value) && value >= 0, 'a varint is a safe, non-negative integer');
    this.#reserve(8);
    this.#at = writeVarint(this.#bytes, this.#at, value);
  }

  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.byteLength);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.byteLength;
  }

  text(value: string): void {
    const bytes = utf8Bytes(value);
    this.varint(bytes.byteLength);
    this.raw(bytes);
  }

  finish(): Uint8Array {
    const bytes = this.#bytes.subarray(0, this.#at);
    this.#bytes = new Uint8Array(0);
    this.#at = 0;
    return bytes;
  }

  #reserve(length: number): void {
    const needed = this.#at + length;
    if (needed <= this.#bytes.byteLength) return;
    const grown = new Uint8Array(Math.max(needed, this.#bytes.byteLength * 2, 64));
    grown.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = grown;
  }
}

export function writeUint32(target: Uint8Array, offset: number, value: number): void {
  target[offset] = value;
  target[offset + 1] = value >>> 8;
  target[offset + 2] = value >>> 16;
  target[offset + 3] = value >>> 24;
}

/** Writes a safe integer in 8 bytes. */
export function writeUint53(target: Uint8Array, offset: number, value: number): void {
  writeUint32(target, offset, value % 0x1_0000_0000);
  writeUint32(target, offset + 4, Math.floor(value / 0x1_0000_0000));
}

/** The safe integer in the 8 bytes at `offset`; whoever calls has checked that they are there. @throws MalformedBytesError */
export function readUint53(bytes: Uint8Array, offset: number): number {
  const value = tryReadUint53(bytes, offset);
  if (value === undefined) throw new MalformedBytesError('integer above 2^53 - 1');
  return value;
}

/** The same; undefined when the integer is above 2^53 - 1. */
export function tryReadUint53(bytes: Uint8Array, offset: number): number | undefined {
  const high = readUint32(bytes, offset + 4);
  return high > 0x1f_ffff ? undefined : high * 0x1_0000_0000 + readUint32(bytes, offset);
}

function readUint32(bytes: Uint8Array, offset: number): number {
  return (
    ((bytes[offset] as number) |
      ((bytes[offset + 1] as number) << 8) |
      ((bytes[offset + 2] as number) << 16) |
      ((bytes[offset + 3] as number) << 24)) >>>
    0
  );
}
