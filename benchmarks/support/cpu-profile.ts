// Where the processor's time goes: the samples of a V8 profile, added up per function and per layer of the house. Self
// time only: a function that waits for another one is not counted. Native code (RocksDB, sockets, checksums) counts for
// the layer of the function that called it. A call that blocks the thread, as a sync does, counts like work.

import { readFileSync } from 'node:fs';

interface ProfileNode {
  readonly id: number;
  readonly callFrame: {
    readonly functionName: string;
    readonly url: string;
    readonly lineNumber: number;
  };
  readonly children?: readonly number[];
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
  const callers = new Map<number, ProfileNode>();
  for (const node of profile.nodes) {
    for (const child of node.children ?? []) callers.set(child, node);
  }
  const functions = new Map<string, { layer: string; name: string; micros: number }>();
  for (const [at, id] of profile.samples.entries()) {
    const node = byId.get(id);
    if (node === undefined) continue;
    const { layer, name } = placeOf(node, callers.get(id));
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

function placeOf(node: ProfileNode, caller: ProfileNode | undefined): Place {
  const { functionName, url, lineNumber } = node.callFrame;
  const name = functionName || '(anonymous)';
  if (name === '(idle)') return { layer: 'idle', name };
  if (name === '(garbage collector)') return { layer: 'gc', name };
  if (url === '') {
    if (caller === undefined || caller.callFrame.url === '') return { layer: 'native', name };
    const by = placeOf(caller, undefined);
    return { layer: by.layer, name: `native ${name} < ${by.name}` };
  }
  const layer = layers.find(([pattern]) => pattern.test(url))?.[1] ?? 'other';
  const file = url.slice(url.lastIndexOf('/') + 1);
  return { layer, name: `${name} ${file}:${lineNumber + 1}` };
}

interface Place {
  readonly layer: string;
  readonly name: string;
}
