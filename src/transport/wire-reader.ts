// Cursors over Protocol Buffers' wire format: tags, varints, lengths. A reader stays inside its message and throws
// `MalformedBytesError` when the bytes do not; it knows nothing about what the fields mean.

import { MalformedBytesError } from '../base/bytes.ts';
import { wireType } from './wire-fields.ts';

/** A cursor over `bytes[at, end)`. */
export class WireReader {
  bytes: Uint8Array = new Uint8Array(0);
  at = 0;
  end = 0;

  reset(bytes: Uint8Array, start: number, end: number): void {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
  }

  /** @throws MalformedBytesError cut off, or above 2^53 - 1 */
  varint(): number {
    const { bytes, end } = this;
    let at = this.at;
    if (at < end) {
      const byte = bytes[at] as number;
      if (byte < 0x80) {
        this.at = at + 1;
        return byte;
      }
    }
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 10; count++) {
      if (at >= end) throw new MalformedBytesError(`a number is cut off at ${end}`);
      const byte = bytes[at++] as number;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) throw new MalformedBytesError('number above 2^53 - 1');
        this.at = at;
        return value;
      }
      scale *= 0x80;
    }
    throw new MalformedBytesError('number longer than 10 bytes');
  }

  skip(length: number): void {
    if (length > this.end - this.at) {
      throw new MalformedBytesError(
        `needs ${length} bytes at ${this.at}, has ${this.end - this.at}`,
      );
    }
    this.at += length;
  }

  /** Skips the value of a field that is not known. */
  skipField(tag: number): void {
    if (tag < 8) throw new MalformedBytesError('field number 0');
    const type = tag % 8;
    if (type === wireType.varint) this.#skipVarint();
    else if (type === wireType.bytes) this.skip(this.varint());
    else if (type === wireType.fixed64) this.skip(8);
    else if (type === wireType.fixed32) this.skip(4);
    else throw new MalformedBytesError(`wire type ${type}`);
  }

  /** Unknown numbers may be negative, which takes the full ten bytes. */
  #skipVarint(): void {
    for (let count = 0; count < 10; count++) {
      this.skip(1);
      if ((this.bytes[this.at - 1] as number) < 0x80) return;
    }
    throw new MalformedBytesError('number longer than 10 bytes');
  }
}

/** Things that may be as short as the format allows. */
const shortListedMax = 65_536;
/** Nothing that a node sends many of is shorter: not an entry with a type, not an item, not an acceptance. */
const listedBytesMin = 8;

/**
 * Checks how many things so many bytes list. Each becomes an object many times as large as the two bytes that could stand
 * for it: what a peer sends may cost memory in proportion to its bytes, and no more.
 *
 * @throws MalformedBytesError
 */
export function checkListed(count: number, byteLength: number): void {
  if (count > shortListedMax + byteLength / listedBytesMin)
    throw new MalformedBytesError(`${count} things listed in ${byteLength} bytes`);
}

/**
 * Splits one message into its fields and remembers numbers and byte fields by field number; the last value of a
 * field counts. It is reused for message after message, so that reading a message allocates only what it returns.
 */
export class FieldReader {
  readonly #reader: WireReader = new WireReader();
  readonly #fieldMax: number;
  readonly #numbers: Float64Array;
  /** Bit n: the number of field n was there. */
  #presentBits = 0;
  /** Field, start and end of every byte field, in order. */
  readonly #ranges: number[] = [];

  /** @param fieldMax 1 … 30; fields above it are unknown and skipped */
  constructor(fieldMax: number) {
    this.#fieldMax = fieldMax;
    this.#numbers = new Float64Array(fieldMax + 1);
  }

  /** @throws MalformedBytesError */
  read(bytes: Uint8Array, start: number, end: number): void {
    const reader = this.#reader;
    reader.reset(bytes, start, end);
    this.#presentBits = 0;
    this.#ranges.length = 0;
    while (reader.at < end) {
      const tag = reader.varint();
      const field = tag >>> 3;
      const type = tag & 7;
      if (tag > 0xffff || field > this.#fieldMax || field === 0) reader.skipField(tag);
      else if (type === wireType.varint) {
        this.#numbers[field] = reader.varint();
        this.#presentBits |= 1 << field;
      } else if (type === wireType.bytes) {
        const length = reader.varint();
        this.#ranges.push(field, reader.at, reader.at + length);
        reader.skip(length);
        checkListed(this.#ranges.length / 3, end - start);
      } else reader.skipField(tag);
    }
  }

  /** 0 when it is absent. */
  number(field: number): number {
    return (this.#presentBits & (1 << field)) === 0 ? 0 : (this.#numbers[field] as number);
  }

  optional(field: number): number | undefined {
    return (this.#presentBits & (1 << field)) === 0 ? undefined : this.#numbers[field];
  }

  flag(field: number): boolean {
    return this.number(field) !== 0;
  }

  /** A view of the last value. */
  bytes(field: number): Uint8Array | undefined {
    const ranges = this.#ranges;
    for (let i = ranges.length - 3; i >= 0; i -= 3)
      if (ranges[i] === field) return this.#view(ranges[i + 1] as number, ranges[i + 2] as number);
    return undefined;
  }

  /** Views of all values, in order. */
  repeatedBytes(field: number): Uint8Array[] {
    const ranges = this.#ranges;
    const views: Uint8Array[] = [];
    for (let i = 0; i < ranges.length; i += 3)
      if (ranges[i] === field)
        views.push(this.#view(ranges[i + 1] as number, ranges[i + 2] as number));
    return views;
  }

  #view(start: number, end: number): Uint8Array {
    const { bytes } = this.#reader;
    return new Uint8Array(bytes.buffer, bytes.byteOffset + start, end - start);
  }
}
