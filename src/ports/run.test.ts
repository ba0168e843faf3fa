// The format of a run: golden bytes, round trips, zero copy, splitting and slicing, and damage at every bit.
// Checksums are computed here a second way, so that the format does not lean on one library.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MalformedBytesError } from '../base/bytes.ts';
import {
  type Entry,
  EntryKind,
  type LogIndex,
  type ProposedEntry,
  payloadOf,
  proposedEntry,
  type Term,
} from '../raft/types.ts';
import { decodeRun, encodeRuns, layOutRun, readRunHeader, runHeaderBytes } from './run.ts';

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'utf8'));
}

function laidOut(
  payloads: readonly Uint8Array[],
  kindOf: (position: number) => EntryKind = () => EntryKind.normal,
): ProposedEntry[] {
  return layOutRun(
    payloads.map((bytes, i) => ({
      kind: kindOf(i),
      byteLength: bytes.byteLength,
      write: (target, offset) => target.set(bytes, offset),
    })),
  );
}

function numbered(proposed: readonly ProposedEntry[], index: LogIndex, term: Term): Entry[] {
  return proposed.map((entry, i) => ({ ...entry, index: index + i, term }));
}

function texts(entries: readonly Entry[]): string[] {
  return entries.map((entry) => {
    const payload = Buffer.from(payloadOf(entry)).toString('latin1');
    return `${entry.index}/${entry.term}/${entry.kind}/${payload}`;
  });
}

function onlyRun(entries: readonly Entry[]): Uint8Array {
  const runs = encodeRuns(entries);
  assert.equal(runs.length, 1);
  return runs[0] as Uint8Array;
}

function goldenEntries(): Entry[] {
  const payloads = [bytesOf('hello'), new Uint8Array(0), bytesOf('conf')];
  const kindOf = (i: number): EntryKind => (i === 2 ? EntryKind.confChange : EntryKind.normal);
  return numbered(laidOut(payloads, kindOf), 0x1_0000_0002, 7);
}

const goldenHex = [
  '01000000 9d30b5b6', // version, zero, checksum
  '02000000 01000000', // first index 2^32 + 2
  '07000000 00000000', // term 7
  '03000000 0f000000', // 3 entries in 15 bytes
  '0005 68656c6c6f', // normal, 5 bytes, "hello"
  '0000', // normal, 0 bytes
  '0104 636f6e66', // configuration change, 4 bytes, "conf"
]
  .join('')
  .replaceAll(' ', '');

test('the bytes of a run are these', () => {
  assert.equal(Buffer.from(onlyRun(goldenEntries())).toString('hex'), goldenHex);
  const decoded = decodeRun(Uint8Array.from(Buffer.from(goldenHex, 'hex')));
  assert.deepEqual(texts(decoded), texts(goldenEntries()));
});

test('the header says first index, term, count and length', () => {
  assert.deepEqual(readRunHeader(onlyRun(goldenEntries())), {
    firstIndex: 0x1_0000_0002,
    term: 7,
    entryCount: 3,
    totalBytes: 47,
  });
});

test('payloads of every varint length come back', () => {
  const payloads = [0, 1, 127, 128, 16_383, 16_384, 1_048_576].map((length) =>
    new Uint8Array(length).fill(length & 0xff),
  );
  const decoded = decodeRun(onlyRun(numbered(laidOut(payloads), 1, 1)));
  assert.deepEqual(decoded.map(payloadOf), payloads);
});

test('entries that are a whole run are not copied, whether laid out, encoded or decoded', () => {
  const entries = goldenEntries();
  const run = onlyRun(entries);
  assert.equal(run, entries[0]?.bytes);
  assert.equal(onlyRun(entries), run);
  const decoded = decodeRun(run);
  assert.equal(decoded[0]?.bytes, run);
  assert.equal(onlyRun(decoded), run);
});

test('two whole runs that follow each other stay two buffers', () => {
  const first = numbered(laidOut([bytesOf('a'), bytesOf('b')]), 1, 1);
  const second = numbered(laidOut([bytesOf('c')]), 3, 1);
  const runs = encodeRuns([...first, ...second]);
  assert.deepEqual(runs, [first[0]?.bytes, second[0]?.bytes]);
  assert.equal(runs[1], second[0]?.bytes);
});

test('a run holds one term: entries are split where the term changes', () => {
  const loose = ['a', 'b', 'c', 'd'].map((text) => proposedEntry(EntryKind.normal, bytesOf(text)));
  const entries = [
    ...numbered(loose.slice(0, 2), 5, 3),
    ...numbered(loose.slice(2, 3), 7, 4),
    ...numbered(loose.slice(3), 8, 9),
  ];
  assert.deepEqual(
    encodeRuns(entries).map((run) => texts(decodeRun(run))),
    [['5/3/0/a', '6/3/0/b'], ['7/4/0/c'], ['8/9/0/d']],
  );
});

test('payloads that were laid out together and got two terms become two runs', () => {
  const [a, b] = laidOut([bytesOf('a'), bytesOf('b')]);
  assert.ok(a !== undefined && b !== undefined);
  const runs = encodeRuns([...numbered([a], 1, 1), ...numbered([b], 2, 2)]);
  assert.deepEqual(
    runs.map((run) => texts(decodeRun(run))),
    [['1/1/0/a'], ['2/2/0/b']],
  );
});

test('a slice of a run becomes a run of its own and leaves the first one as it was', () => {
  const entries = goldenEntries();
  const run = onlyRun(entries);
  for (let from = 0; from < 3; from++) {
    for (let end = from + 1; end <= 3; end++) {
      const slice = entries.slice(from, end);
      const bytes = onlyRun(slice);
      assert.equal(bytes === run, slice.length === 3);
      assert.deepEqual(texts(decodeRun(bytes)), texts(slice));
    }
  }
  assert.equal(Buffer.from(run).toString('hex'), goldenHex);
});

test('payloads laid out once and proposed again get a run with the new index and term', () => {
  const proposed = laidOut([bytesOf('a'), bytesOf('b')]);
  const first = onlyRun(numbered(proposed, 1, 1));
  const again = onlyRun(numbered(proposed, 9, 2));
  assert.notEqual(again, first);
  assert.deepEqual(texts(decodeRun(again)), ['9/2/0/a', '10/2/0/b']);
  assert.deepEqual(texts(decodeRun(first)), ['1/1/0/a', '2/1/0/b']);
});

test("a payload in somebody else's buffer is copied and the buffer is left alone", () => {
  const foreign: Uint8Array[] = [
    Uint8Array.from({ length: 40 }, () => 0xff),
    Uint8Array.from({ length: 40 }, (_, i) => (i === 0 ? 1 : 0)),
    Uint8Array.from({ length: 40 }, (_, i) => (i === 33 ? 5 : 0)),
  ];
  for (const bytes of foreign) {
    const before = bytes.slice();
    // As if a record lay behind a run's header: kind at 32, length at 33, payload to the end.
    const entry: Entry = {
      index: 3,
      term: 2,
      kind: EntryKind.normal,
      bytes,
      start: 34,
      end: 40,
    };
    const run = onlyRun([entry]);
    assert.notEqual(run, bytes);
    assert.deepEqual(bytes, before);
    assert.deepEqual(decodeRun(run).map(payloadOf), [before.subarray(34)]);
  }
});

test('a run is damaged at any byte: it is refused', () => {
  const run = onlyRun(goldenEntries());
  fc.assert(
    fc.property(
      fc.nat({ max: run.byteLength - 1 }),
      fc.integer({ min: 1, max: 0xff }),
      (position, flip) => {
        const damaged = run.slice();
        damaged[position] = (damaged[position] as number) ^ flip;
        assert.throws(() => decodeRun(damaged), MalformedBytesError);
      },
    ),
    { numRuns: 2_000 },
  );
});

test('every single flipped bit of a run is noticed', () => {
  const run = onlyRun(goldenEntries());
  for (let bit = 0; bit < run.byteLength * 8; bit++) {
    const damaged = run.slice();
    damaged[bit >>> 3] = (damaged[bit >>> 3] as number) ^ (1 << (bit & 7));
    assert.throws(() => decodeRun(damaged), MalformedBytesError, `bit ${bit}`);
  }
});

test('a run that is cut short or has bytes behind it is refused', () => {
  const run = onlyRun(goldenEntries());
  for (let length = 0; length < run.byteLength; length++)
    assert.throws(() => decodeRun(run.subarray(0, length)), MalformedBytesError);
  const longer = new Uint8Array(run.byteLength + 1);
  longer.set(run);
  assert.throws(() => decodeRun(longer), MalformedBytesError);
});

test('a body that does not hold its entries is refused although its checksum is right', () => {
  const sealed = (body: string, entryCount: number): Uint8Array => {
    // Seals any body: one entry whose payload is laid out so that the body is the wanted one.
    const wanted = Buffer.from(body, 'hex');
    const run = onlyRun(numbered(laidOut([new Uint8Array(wanted.byteLength - 2)]), 1, 1)).slice();
    run.set(wanted, runHeaderBytes);
    new DataView(run.buffer).setUint32(24, entryCount, true);
    new DataView(run.buffer).setUint32(4, crcOf(run.subarray(8)), true);
    return run;
  };
  assert.equal(decodeRun(sealed('0001610000', 2)).length, 2);
  const bad: readonly [string, number][] = [
    ['00016100', 1], // bytes behind the last entry
    ['00016100', 3], // more entries than fit
    ['000161ff00', 2], // unknown kind
    ['00016100ff', 2], // length without end
    ['0001610005', 2], // payload beyond the end
    ['00ffffffffffffffffff', 1], // length that is too long
    ['0001610000', 0], // no entry
  ];
  for (const [body, entryCount] of bad)
    assert.throws(() => decodeRun(sealed(body, entryCount)), MalformedBytesError, body);
});

test('a header that claims more entries than its bytes can hold is refused before anything is made', () => {
  const run = onlyRun(goldenEntries());
  new DataView(run.buffer).setUint32(24, 0xffff_ffff, true);
  assert.throws(() => readRunHeader(run), MalformedBytesError);
});

/** Entry lists as they arise: whole runs, slices of runs, loose entries, in one ascending log. */
const entryLists: fc.Arbitrary<Entry[]> = fc
  .record({
    firstIndex: fc.integer({ min: 1, max: 2 ** 40 }),
    firstTerm: fc.integer({ min: 0, max: 2 ** 40 }),
    pieces: fc.array(
      fc.record({
        payloads: fc.array(fc.uint8Array({ maxLength: 200 }), { minLength: 1, maxLength: 6 }),
        kinds: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
        form: fc.constantFrom('laid out', 'decoded', 'loose', 'proposed again'),
        skipped: fc.nat({ max: 2 }),
        dropped: fc.nat({ max: 2 }),
        termStep: fc.constantFrom(0, 0, 1, 5),
      }),
      { maxLength: 8 },
    ),
  })
  .map(({ firstIndex, firstTerm, pieces }) => {
    const log: Entry[] = [];
    let index = firstIndex;
    let term = firstTerm;
    for (const { payloads, kinds, form, skipped, dropped, termStep } of pieces) {
      term += termStep;
      const kindOf = (i: number): EntryKind =>
        kinds[i] === true ? EntryKind.confChange : EntryKind.normal;
      const proposed =
        form === 'loose'
          ? payloads.map((bytes, i) => proposedEntry(kindOf(i), bytes))
          : laidOut(payloads, kindOf);
      if (form === 'proposed again') encodeRuns(numbered(proposed, index + 1, term + 1));
      const whole = numbered(proposed, Math.max(1, index - skipped), term);
      const entries = form === 'decoded' ? decodeRun(onlyRun(whole)) : whole;
      const kept = entries
        .slice(0, entries.length - dropped)
        .filter((entry) => entry.index >= index);
      log.push(...kept);
      index += kept.length;
    }
    return log;
  });

test('runs of any log, decoded, are the log again', () => {
  fc.assert(
    fc.property(entryLists, (log) => {
      const before = texts(log);
      const runs = encodeRuns(log);
      const decoded = runs.flatMap((run) => decodeRun(run));
      assert.deepEqual(texts(decoded), before);
      assert.deepEqual(texts(log), before);
      for (const run of runs) {
        const { firstIndex, entryCount, totalBytes } = readRunHeader(run);
        assert.equal(totalBytes, run.byteLength);
        assert.equal(decodeRun(run).at(-1)?.index, firstIndex + entryCount - 1);
      }
      assert.deepEqual(encodeRuns(decoded), runs);
    }),
    { numRuns: 500 },
  );
});

/** CRC-32 (IEEE 802.3), the slow way, so that the format does not lean on one library. */
function crcOf(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? 0xedb8_8320 : 0);
  }
  return (crc ^ 0xffff_ffff) >>> 0;
}
