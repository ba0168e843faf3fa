// What the fuzzer knows of a decoder: valid samples of its input, how it is called, what it may throw, and how many bytes
// it may allocate. The tables are in the files beside this one, by the folder of the sources.

import { crc32 } from 'node:zlib';
import { writeUint32 } from '../../src/base/bytes.ts';
import type { ErrorCode } from '../../src/base/errors.ts';

/** How inputs are made of samples: byte by byte, field by field, value by value, or character by character. */
export type InputForm = 'bytes' | 'protobuf' | 'json' | 'text';

export type AllowedError = ErrorCode | 'MalformedBytesError';

interface DecoderFacts {
  readonly name: string;
  /** The exported functions that it calls, as `file#function` under `src/`. */
  readonly covers: readonly string[];
  readonly form: InputForm;
  /** Made by the real encoders; every one must be accepted. */
  readonly samples: readonly Uint8Array[];
  /** Everything else that is thrown is a bug. */
  readonly throws: readonly AllowedError[];
  /** Bytes that it may allocate for each byte of input, beside `fixedBytesMax`. */
  readonly bytesPerByte: number;
  /** Puts checksums and the like right, so that inputs reach what is behind them; the bytes are the caller's. */
  readonly reseal?: (bytes: Uint8Array) => Uint8Array;
  /** Share of the inputs: 1 unless a call is slow. */
  readonly weight?: number;
}

export interface DecoderSpec<Value> extends DecoderFacts {
  readonly decode: (bytes: Uint8Array) => Value | Promise<Value>;
  /** What was accepted is encoded, and must then decode to something that is encoded the same. */
  readonly encode?: (value: Value) => Uint8Array;
  /** There is one encoding of a value: no other bytes are accepted. */
  readonly isCanonical?: boolean;
}

export interface Decoder extends DecoderFacts {
  readonly decode: (bytes: Uint8Array) => unknown;
  /** Throws `BrokenRuleError` when an accepted input does not go around. */
  readonly checkRound: (value: unknown, bytes: Uint8Array) => Promise<void>;
}

/** Bytes that any call may allocate: errors with their stacks, buffers of fixed size, and what the engine compiles. */
export const fixedBytesMax = 2_097_152;

/** A decoder has done something else than what its entry of the table says. */
export class BrokenRuleError extends Error {
  override readonly name = 'BrokenRuleError';
}

/** An entry of the table. */
export function decoderOf<Value>(spec: DecoderSpec<Value>): Decoder {
  const { decode, encode, isCanonical = false, ...facts } = spec;
  return {
    ...facts,
    // A `slice` of a Node.js buffer would be a view.
    samples: facts.samples.map((sample) => new Uint8Array(sample)),
    decode,
    async checkRound(value, bytes) {
      if (encode === undefined) return;
      const once = encode(value as Value);
      if (isCanonical && Buffer.compare(once, bytes) !== 0)
        throw new BrokenRuleError('accepts another encoding than the one that is written');
      const twice = encode(await decode(new Uint8Array(once)));
      if (Buffer.compare(once, twice) !== 0)
        throw new BrokenRuleError('what was accepted does not go around');
    },
  };
}

/** A text as the bytes of an input. */
export function textSample(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text));
}

/** Puts the CRC-32 of the bytes from `from` on at `at`, if there are as many. */
export function sealCrc(bytes: Uint8Array, at: number, from: number): Uint8Array {
  if (bytes.byteLength >= from) writeUint32(bytes, at, crc32(bytes.subarray(from)));
  return bytes;
}
