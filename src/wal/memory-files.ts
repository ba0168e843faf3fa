// Files in the memory of the process, for the store that has everything there. What was written is there for good.

import type { Files, StoredFile } from './files.ts';

interface MemoryFile {
  /** `bytes[0, byteLength)` is the content. */
  bytes: Uint8Array;
  byteLength: number;
}

/** Makes an empty set of files. */
export function memoryFiles(): Files {
  const files = new Map<string, MemoryFile>();
  return {
    async claim() {},
    async release() {},
    list: async () => [...files].map(([name, { byteLength }]) => ({ name, byteLength })),
    async open(name, { create }) {
      const file = files.get(name);
      if (create !== (file === undefined)) throw nameError(name, create);
      const opened = file ?? { bytes: new Uint8Array(0), byteLength: 0 };
      files.set(name, opened);
      return openedFile(opened);
    },
    async rename(from, to) {
      const file = files.get(from);
      if (file === undefined) throw nameError(from, false);
      files.delete(from);
      files.set(to, file);
    },
    async remove(name) {
      files.delete(name);
    },
    async syncNames() {},
  };
}

/** As the operating system would say it. */
export function nameError(name: string, isThere: boolean): Error {
  const code = isThere ? 'EEXIST' : 'ENOENT';
  return Object.assign(new Error(`${code}: ${name}`), { code });
}

function openedFile(file: MemoryFile): StoredFile {
  return {
    byteLength: file.byteLength,
    async write(parts, position) {
      let at = position;
      for (const part of parts) {
        reserve(file, at + part.byteLength);
        file.bytes.set(part, at);
        at += part.byteLength;
        file.byteLength = Math.max(file.byteLength, at);
      }
    },
    async sync() {},
    read: async ({ position, byteLength }) =>
      file.bytes.slice(position, Math.min(position + byteLength, file.byteLength)),
    async close() {},
  };
}

function reserve(file: MemoryFile, byteLength: number): void {
  if (byteLength <= file.bytes.byteLength) return;
  const grown = new Uint8Array(Math.max(byteLength, 2 * file.bytes.byteLength));
  grown.set(file.bytes.subarray(0, file.byteLength));
  file.bytes = grown;
}
