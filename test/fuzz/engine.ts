// The fuzzer: gives a decoder its inputs and says what came of each. Input `number` of a decoder depends on the seed and on
// nothing else, so that one can be repeated alone.

import { getHeapStatistics } from 'node:v8';
import { MalformedBytesError } from '../../src/base/bytes.ts';
import { KommanderError } from '../../src/base/errors.ts';
import { seededRandom } from '../../src/base/random.ts';
import { type AllowedError, type Decoder, fixedBytesMax } from './decoder.ts';
import { mutatedInput } from './mutate.ts';

export interface Outcome {
  readonly input: Uint8Array;
  /** What was thrown, `accepted`, or what must not be. */
  readonly kind: 'accepted' | AllowedError | 'finding';
  /** Of a finding: what was wrong. */
  readonly error: unknown;
  /** Bytes that the call allocated, as far as no garbage was collected meanwhile. */
  readonly allocatedBytes: number;
}

/** What the fuzzer asks of the outside: the script measures time, the test does not. */
export interface Watch {
  /** Called around every decoder call. */
  readonly begin?: () => void;
  readonly end?: () => void;
}

/** The first inputs of a decoder are its samples as they are. */
export function inputOf(decoder: Decoder, seed: number, number: number): Uint8Array {
  const sample = decoder.samples[number];
  if (sample !== undefined) return sample.slice();
  return mutatedInput(
    seededRandom(seed * 0x100_0000 + hashOf(`${decoder.name} ${number}`)),
    decoder,
  );
}

/** What other parts of the process allocate during a call does not come again. */
const measuredTimesMax = 5;

/** Gives `decoder` one input. */
export async function tryInput(
  decoder: Decoder,
  input: Uint8Array,
  watch: Watch = {},
): Promise<Outcome> {
  const allowedBytes = fixedBytesMax + decoder.bytesPerByte * input.byteLength;
  let call = await callOnce(decoder, input, watch);
  for (let times = 1; call.allocatedBytes > allowedBytes && times < measuredTimesMax; times++)
    call = await callOnce(decoder, input, watch);
  const { allocatedBytes } = call;
  if (allocatedBytes > allowedBytes && call.kind !== 'finding') {
    const found = `allocates ${allocatedBytes} bytes for ${input.byteLength}`;
    return { ...call, kind: 'finding', error: new Error(`${found}; ${allowedBytes} are allowed`) };
  }
  return call;
}

async function callOnce(decoder: Decoder, input: Uint8Array, watch: Watch): Promise<Outcome> {
  const given = input.slice();
  const before = heldBytes();
  let kind: Outcome['kind'] = 'accepted';
  let error: unknown;
  let value: unknown;
  watch.begin?.();
  try {
    value = decoder.decode(given);
    if (value instanceof Promise) value = await value;
  } catch (thrown) {
    error = thrown;
    kind = kindOf(decoder, thrown);
  }
  watch.end?.();
  const allocatedBytes = heldBytes() - before;
  if (kind === 'accepted') {
    try {
      await decoder.checkRound(value, input);
    } catch (thrown) {
      error = thrown;
      kind = 'finding';
    }
  }
  return { input, kind, error, allocatedBytes };
}

/** Heap and buffers beside it. */
function heldBytes(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}

function kindOf({ throws }: Decoder, error: unknown): Outcome['kind'] {
  const kind = error instanceof KommanderError ? error.code : nameOf(error);
  return throws.find((allowed) => allowed === kind) ?? 'finding';
}

function nameOf(error: unknown): string {
  return error instanceof MalformedBytesError ? 'MalformedBytesError' : String(error);
}

/** FNV-1a: names and numbers to 24 bits, so that a seed in front of them stays a safe integer. */
function hashOf(text: string): number {
  let hash = 0x811c_9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x0100_0193);
  }
  return (hash ^ (hash >>> 24)) & 0xff_ffff;
}
