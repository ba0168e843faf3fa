// Where the processor's time goes: the samples of a V8 profile, added up per function and per layer of the house. Self
// time only: a function that waits for another one is not counted. Work in native code (RocksDB, sockets, checksums)
// counts for the function that called it.

import { readFileSync } from 'node:fs';

interface ProfileNode {
  readonly id: number;
  readonly callFrame: {
    readonly functionName: string;
    readonly url: string;
    readonly lineNumber: number;
  };
}

interface Profile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  /** Microseconds between samples. */
  readonly timeDeltas: readonly number[];
}

export interface FunctionTime {
  readonly layer: string;
  readonly name: string;
  readonly micros: number;
}

export interface ProfileSummary {
  /** Time in which the thread was not idle. */
  readonly busyMicros: number;
  /** Layers by time, longest first. */
  readonly layers: readonly { readonly layer: string; readonly micros: number }[];
  /** Functions by time, longest first. */
  readonly functions: readonly FunctionTime[];
}

/** First match decides. */
const layers: readonly (readonly [pattern: RegExp, layer: string])[] = [
  [/\/src\/raft\//, 'core'],
  [/\/src\/host\//, 'host'],
  [/\/src\/ports\/run\.ts|\/src\/transport\/(?:frame|wire)|\/src\/base\/bytes\.ts/, 'codec'],
  [/\/src\/transport\//, 'transport'],
  [/\/src\/wal\//, 'wal'],
  [/@nxtedition|abstract-level/, 'rocksdb binding'],
  [/\/src\//, 'other of ours'],
  [/\/benchmarks\//, 'load'],
  [
    /^node:internal\/(?:http2|stream|js_stream)|^node:(?:http2|net|stream)|^node:.*stream/,
    'node sockets',
  ],
  [/^node:/, 'node'],
];

/** Reads and sums up a `.cpuprofile` file. */
export function summarizeProfile(file: string): ProfileSummary {
  const profile = JSON.parse(readFileSync(file, 'utf8')) as Profile;
  const byId = new Map(profile.nodes.map((node) => [node.id, node]));
  const functions = new Map<string, { layer: string; name: string; micros: number }>();
  for (const [at, id] of profile.samples.entries()) {
    const node = byId.get(id);
    if (node === undefined) continue;
    const { layer, name } = placeOf(node);
    const key = `${layer} ${name}`;
    const known = functions.get(key) ?? { layer, name, micros: 0 };
    known.micros += profile.timeDeltas[at] ?? 0;
    functions.set(key, known);
  }
  const sorted = [...functions.values()]
    .filter(({ layer }) => layer !== 'idle')
    .sort((a, b) => b.micros - a.micros);
  const perLayer = new Map<string, number>();
  for (const { layer, micros } of sorted) perLayer.set(layer, (perLayer.get(layer) ?? 0) + micros);
  return {
    busyMicros: sorted.reduce((sum, { micros }) => sum + micros, 0),
    layers: [...perLayer]
      .map(([layer, micros]) => ({ layer, micros }))
      .sort((a, b) => b.micros - a.micros),
    functions: sorted,
  };
}

function placeOf({ callFrame }: ProfileNode): { readonly layer: string; readonly name: string } {
  const { functionName, url, lineNumber } = callFrame;
  if (functionName === '(idle)') return { layer: 'idle', name: functionName };
  if (functionName === '(garbage collector)') return { layer: 'gc', name: functionName };
  if (url === '') return { layer: 'native', name: functionName || '(anonymous)' };
  const layer = layers.find(([pattern]) => pattern.test(url))?.[1] ?? 'other';
  const file = url.slice(url.lastIndexOf('/') + 1);
  return { layer, name: `${functionName || '(anonymous)'} ${file}:${lineNumber + 1}` };
}
