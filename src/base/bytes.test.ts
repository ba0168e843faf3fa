// Binary records: what was written is read back, the encoded form is golden, and a reader of foreign bytes either reads
// or throws one typed error; it never reads beyond its end.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  ByteReader,
  ByteWriter,
  MalformedBytesError,
  utf8Bytes,
  utf8Text,
  varintBytes,
  writeVarint,
} from './bytes.ts';

const field = fc.oneof(
  fc.record({ kind: fc.constant('uint8' as const), value: fc.integer({ min: 0, max: 0xff }) }),
  fc.record({
    kind: fc.constant('uint32' as const),
    value: fc.integer({ min: 0, max: 0xffff_ffff }),
  }),
  fc.record({ kind: fc.constant('uint53' as const), value: fc.maxSafeNat() }),
  fc.record({ kind: fc.constant('varint' as const), value: fc.maxSafeNat() }),
  fc.record({
    kind: fc.constant('text' as const),
    value: fc.string({ unit: 'binary', maxLength: 40 }),
  }),
  fc.record({ kind: fc.constant('raw' as const), value: fc.uint8Array({ maxLength: 300 }) }),
);
type Field = typeof field extends fc.Arbitrary<infer Value> ? Value : never;

function write(writer: ByteWriter, { kind, value }: Field): void {
  if (kind === 'text') writer.text(value);
  else if (kind === 'raw') {
    writer.varint(value.byteLength);
    writer.raw(value);
  } else writer[kind](value);
}

function read(reader: ByteReader, kind: Field['kind']): string | number | Uint8Array {
  return kind === 'raw' ? reader.view(reader.varint()) : reader[kind]();
}

/** Integers around every place where the encoded length changes. */
const edges = Array.from({ length: 8 }, (_, at) => 2 ** (7 * at)).flatMap((edge) => [
  edge - 1,
  edge,
]);

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function written(fill: (writer: ByteWriter) => void): Uint8Array {
  const writer = new ByteWriter(0);
  fill(writer);
  return writer.finish();
}

describe('a byte writer and its reader', () => {
  it('give back what was written, in the same order, and nothing more', () => {
    fc.assert(
      fc.property(fc.array(field, { maxLength: 20 }), fc.nat(64), (fields, capacity) => {
        const writer = new ByteWriter(capacity);
        for (const each of fields) write(writer, each);
        const { length } = writer;
        const bytes = writer.finish();
        assert.equal(bytes.byteLength, length);
        const reader = new ByteReader(bytes);
        for (const { kind, value } of fields) assert.deepEqual(read(reader, kind), value);
        assert.equal(reader.remaining, 0);
      }),
    );
  });

  it('use little-endian integers and LEB128, byte for byte', () => {
    assert.equal(hex(written((w) => w.uint8(0xab))), 'ab');
    assert.equal(hex(written((w) => w.uint32(0xdead_beef))), 'efbeadde');
    assert.equal(hex(written((w) => w.uint53(Number.MAX_SAFE_INTEGER))), 'ffffffffffff1f00');
    assert.equal(hex(written((w) => w.uint53(0x1_0000_0002))), '0200000001000000');
    assert.equal(hex(written((w) => w.varint(0))), '00');
    assert.equal(hex(written((w) => w.varint(300))), 'ac02');
    assert.equal(hex(written((w) => w.varint(0xffff_ffff))), 'ffffffff0f');
    assert.equal(hex(written((w) => w.varint(Number.MAX_SAFE_INTEGER))), 'ffffffffffffff0f');
    assert.equal(hex(written((w) => w.text('é\0'))), '03c3a900');
  });

  it('take the bytes that they say a varint takes', () => {
    for (const value of [...edges, Number.MAX_SAFE_INTEGER]) {
      const bytes = written((writer) => writer.varint(value));
      assert.equal(bytes.byteLength, varintBytes(value));
      assert.equal(new ByteReader(bytes).varint(), value);
      const target = new Uint8Array(10);
      assert.equal(writeVarint(target, 1, value), 1 + varintBytes(value));
      assert.equal(new ByteReader(target, 1).varint(), value);
    }
  });

  it('refuse to write what is no safe, non-negative integer', () => {
    for (const value of [-1, 0.5, 2 ** 53, Number.NaN]) {
      assert.throws(() => new ByteWriter().varint(value), /safe, non-negative integer/);
      assert.throws(() => new ByteWriter().uint53(value), /safe, non-negative integer/);
    }
  });

  it('give their bytes away: a writer is empty afterwards and does not touch them again', () => {
    const writer = new ByteWriter(4);
    writer.uint32(1);
    const first = writer.finish();
    assert.equal(writer.length, 0);
    writer.uint32(0xffff_ffff);
    assert.equal(hex(first), '01000000');
    assert.equal(hex(writer.finish()), 'ffffffff');
  });
});

describe('a byte reader', () => {
  it('reads foreign bytes or throws MalformedBytesError, and stays inside its part of the buffer', () => {
    const kinds = fc.constantFrom<Field['kind']>(
      'uint8',
      'uint32',
      'uint53',
      'varint',
      'text',
      'raw',
    );
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 40 }),
        fc.nat(40),
        fc.nat(40),
        fc.array(kinds, { maxLength: 8 }),
        (bytes, a, b, wanted) => {
          const start = Math.min(a, b, bytes.length);
          const end = Math.min(Math.max(a, b), bytes.length);
          const reader = new ByteReader(bytes, start, end);
          for (const kind of wanted) {
            const before = reader.at;
            try {
              const value = read(reader, kind);
              if (typeof value === 'number') assert.ok(Number.isSafeInteger(value) && value >= 0);
            } catch (error) {
              if (!(error instanceof MalformedBytesError)) throw error;
              return;
            } finally {
              assert.ok(reader.at >= before && reader.at <= end);
            }
          }
        },
      ),
    );
  });

  it('throws at every place where a record can be cut short', () => {
    fc.assert(
      fc.property(fc.array(field, { minLength: 1, maxLength: 5 }), (fields) => {
        const bytes = written((writer) => {
          for (const each of fields) write(writer, each);
        });
        for (let end = 0; end < bytes.byteLength; end++) {
          const reader = new ByteReader(bytes, 0, end);
          assert.throws(() => {
            for (const { kind } of fields) read(reader, kind);
          }, MalformedBytesError);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('refuses integers above 2^53 - 1 and varints longer than 8 bytes', () => {
    const of = (text: string): ByteReader => new ByteReader(Buffer.from(text, 'hex'));
    assert.throws(() => of('0000000000002000').uint53(), MalformedBytesError);
    assert.throws(() => of('ffffffffffffff1f').varint(), MalformedBytesError);
    assert.throws(() => of('808080808080808000').varint(), MalformedBytesError);
    assert.equal(of('ffffffffffffff0f').varint(), Number.MAX_SAFE_INTEGER);
  });

  it('gives views of the buffer, not copies', () => {
    const bytes = new Uint8Array([1, 2, 3]);
    const view = new ByteReader(bytes, 1).view(2);
    bytes[2] = 9;
    assert.deepEqual([...view], [2, 9]);
  });

  it('skips, but not beyond its end, and never begins or ends outside of its buffer', () => {
    const reader = new ByteReader(new Uint8Array(3));
    reader.skip(2);
    assert.equal(reader.remaining, 1);
    assert.throws(() => reader.skip(2), MalformedBytesError);
    assert.throws(() => new ByteReader(new Uint8Array(3), 2, 1), /stays inside its buffer/);
    assert.throws(() => new ByteReader(new Uint8Array(3), 0, 4), /stays inside its buffer/);
  });
});

describe('UTF-8 text', () => {
  it('keeps every well-formed text, a byte order mark and zero bytes included', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        assert.equal(utf8Text(utf8Bytes(text)), text);
      }),
    );
    assert.equal(utf8Text(utf8Bytes('\ufeffa\0')), '\ufeffa\0');
  });

  it('refuses bytes that are no UTF-8 instead of replacing them', () => {
    for (const bad of [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0x80]]) {
      assert.throws(() => utf8Text(new Uint8Array(bad)), MalformedBytesError);
    }
  });
});
