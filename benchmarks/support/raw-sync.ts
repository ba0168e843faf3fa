// What the disk itself costs: a small append and its `fdatasync`, again and again, by one process and without anything
// else. A commit cannot be faster, and other machines' figures can be compared by it.

import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const appendBytes = 512;

/** Median milliseconds of an append and its sync in `directory`, measured for `durationMs`. */
export function measureRawSync(directory: string, durationMs: number): number {
  const path = join(directory, 'raw-sync');
  const file = openSync(path, 'w');
  const bytes = new Uint8Array(appendBytes).fill(7);
  const samples: number[] = [];
  const endMs = performance.now() + durationMs;
  try {
    while (performance.now() < endMs) {
      const startedMs = performance.now();
      writeSync(file, bytes);
      fdatasyncSync(file);
      samples.push(performance.now() - startedMs);
    }
  } finally {
    closeSync(file);
    rmSync(path);
  }
  samples.sort((a, b) => a - b);
  return samples[samples.length >> 1] ?? Number.NaN;
}
